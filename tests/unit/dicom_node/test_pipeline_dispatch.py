"""Which studies become jobs, when, and that a crash between the rows is made up for."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from dicom_node import clock
from dicom_node.db.models import SEGMENTATION_CLASS, Instance, Job, Result, StudyVersion
from dicom_node.db.routing_tables import StudyRoute
from dicom_node.db.session import Databases, transaction
from dicom_node.pipeline.dispatch import FULL_PASS_EVERY, LOOK_BACK, Dispatcher
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake

NOW = clock.now()
LATER = NOW + timedelta(seconds=60)


class Engine:
    """Records what it is given."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int]] = []
        self.priorities: list[str] = []

    def submit(self, job_id: str, attempt: int, priority: str) -> None:
        self.submitted.append((job_id, attempt))
        self.priorities.append(priority)


@pytest.fixture
def intake(settings: Settings, databases: Databases) -> Intake:
    return Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def dispatch(databases: Databases, engine: Engine, now: datetime, quiet_s: float) -> int:
    """Make one pass over everything, as the first one after a start."""
    folder = Path(str(databases.hospital.url.database)).parents[1]
    return Dispatcher(databases, engine, Settings(data_dir=folder, quiet_s=quiet_s))(now)


def jobs(databases: Databases) -> list[Job]:
    with transaction(databases.research) as session:
        return list(session.scalars(select(Job)))


def test_a_study_waits_until_arrivals_are_quiet(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    intake.keep(make_arrival(), NOW)
    assert dispatch(databases, engine, NOW + timedelta(seconds=29), 30) == 0
    assert dispatch(databases, engine, NOW + timedelta(seconds=30), 30) == 1
    (job,) = jobs(databases)
    assert engine.submitted == [(job.id, 1)]
    assert job.state == "pending"


def test_a_study_becomes_one_job_however_often_one_looks(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    arrival = make_arrival()
    intake.keep(arrival, NOW)
    for _ in range(3):
        dispatch(databases, engine, LATER, 1)
    intake.keep(arrival, LATER)
    dispatch(databases, engine, LATER + timedelta(seconds=60), 1)
    assert len(jobs(databases)) == len(engine.submitted) == 1


def test_a_late_image_makes_a_new_version(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    first = make_arrival(StudyInstanceUID="1.2.3")
    intake.keep(first, NOW)
    dispatch(databases, engine, LATER, 1)
    intake.keep(make_arrival(StudyInstanceUID="1.2.3"), NOW)
    dispatch(databases, engine, LATER, 1)
    with transaction(databases.hospital) as session:
        found = [(row.version, row.instance_count) for row in session.scalars(select(StudyVersion))]
    assert found == [(1, 1), (2, 2)]


def test_our_own_results_coming_back_start_nothing(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    intake.keep(make_arrival(StudyInstanceUID="1.2.3"), NOW)
    dispatch(databases, engine, LATER, 1)
    result = make_arrival(StudyInstanceUID="1.2.3")
    with transaction(databases.hospital) as session:
        session.add(
            Result(
                sop_instance_uid=result.sop_instance_uid, sop_class_uid="1", job_id="j", attempt=1, kind="sr", path="p"
            )
        )
    intake.keep(result, NOW)
    assert dispatch(databases, engine, LATER, 1) == 0


def test_a_version_whose_job_row_a_crash_left_out_gets_its_job(databases: Databases, engine: Engine) -> None:
    with transaction(databases.hospital) as session:
        session.add(
            StudyVersion(
                study_instance_uid="1.2",
                version=1,
                instance_count=1,
                ct_count=1,
                job_id="abc",
                created_at=NOW,
            )
        )
    dispatch(databases, engine, LATER, 1)
    assert engine.submitted == [("abc", 1)]


def test_a_job_whose_submission_a_crash_left_out_is_submitted(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    intake.keep(make_arrival(), NOW)

    class Crashing(Engine):
        def submit(self, job_id: str, attempt: int, priority: str) -> None:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        dispatch(databases, Crashing(), LATER, 1)
    dispatch(databases, engine, LATER, 1)
    assert len(engine.submitted) == 1
    assert jobs(databases)[0].state == "pending"


def test_a_report_that_another_system_adds_starts_no_new_analysis(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    intake.keep(make_arrival(StudyInstanceUID="1.2.3"), NOW)
    dispatch(databases, engine, LATER, 1)
    report = make_arrival(StudyInstanceUID="1.2.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34")
    intake.keep(report, NOW)
    assert dispatch(databases, engine, LATER, 1) == 0


def test_a_study_without_ct_is_kept_and_says_that_no_rule_takes_it(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    intake.keep(make_arrival(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34"), NOW)
    assert [dispatch(databases, engine, LATER, 1) for _ in range(2)] == [0, 0]
    with transaction(databases.hospital) as session:
        (route,) = session.scalars(select(StudyRoute))
    assert route.state == "no_rule"
    assert "images are kept" in route.sentence


def test_a_job_that_has_not_begun_is_discarded_for_the_newer_version(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine
) -> None:
    for _ in range(2):
        intake.keep(make_arrival(StudyInstanceUID="1.2.3"), NOW)
        dispatch(databases, engine, LATER, 1)
    assert sorted(job.state for job in jobs(databases)) == ["discarded", "pending"]


def test_passes_that_look_at_young_studies_only_miss_none(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine, settings: Settings
) -> None:
    dispatcher = Dispatcher(databases, engine, settings.model_copy(update={"quiet_s": 30}))
    assert dispatcher(NOW) == 0
    intake.keep(make_arrival(), NOW)
    assert [dispatcher(NOW + timedelta(seconds=s)) for s in (10, 29, 31, 40)] == [0, 0, 1, 0]


def test_a_row_older_than_the_look_back_is_found_by_the_next_full_pass(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine, settings: Settings
) -> None:
    dispatcher = Dispatcher(databases, engine, settings.model_copy(update={"quiet_s": 30}))
    dispatcher(NOW)
    intake.keep(make_arrival(), NOW - LOOK_BACK - timedelta(seconds=60))
    assert dispatcher(NOW + timedelta(seconds=1)) == 0
    assert dispatcher(NOW + FULL_PASS_EVERY) == 1
    assert Dispatcher(databases, engine, settings.model_copy(update={"quiet_s": 30}))(NOW + FULL_PASS_EVERY) == 0


def keep_segmentation(
    intake: Intake, make_arrival: Callable[..., Arrival], study: str, label: str, at: datetime
) -> None:
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = 1, label, "MANUAL"
    changes = {"SOPClassUID": SEGMENTATION_CLASS, "StudyInstanceUID": study, "SegmentSequence": [segment]}
    intake.keep(make_arrival(**changes), at)


def test_a_corrected_segmentation_starts_one_new_version_and_a_foreign_one_none(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine, settings: Settings
) -> None:
    dispatcher = Dispatcher(databases, engine, settings.model_copy(update={"quiet_s": 1}))
    study = str(generate_uid())
    intake.keep(make_arrival(StudyInstanceUID=study), NOW)
    assert dispatcher(LATER) == 1
    keep_segmentation(intake, make_arrival, study, "Liver", LATER)
    assert dispatcher(LATER + timedelta(seconds=5)) == 0
    keep_segmentation(intake, make_arrival, study, "Left femur", LATER)
    keep_segmentation(intake, make_arrival, study, "Right femur", LATER + timedelta(seconds=1))
    assert [dispatcher(LATER + timedelta(seconds=s)) for s in (10, 20, 30)] == [1, 0, 0]
    with transaction(databases.hospital) as session:
        first, second = session.scalars(select(StudyVersion).order_by(StudyVersion.version))
        newest = session.get_one(Instance, second.correction_id)
        assert first.correction_id is None
        assert newest.received_at == LATER + timedelta(seconds=1)


def test_an_image_that_comes_after_a_correction_makes_a_version_that_keeps_it(
    intake: Intake, make_arrival: Callable[..., Arrival], databases: Databases, engine: Engine, settings: Settings
) -> None:
    dispatcher = Dispatcher(databases, engine, settings.model_copy(update={"quiet_s": 1}))
    study = str(generate_uid())
    intake.keep(make_arrival(StudyInstanceUID=study), NOW)
    keep_segmentation(intake, make_arrival, study, "Left femur", NOW)
    assert dispatcher(LATER) == 1
    intake.keep(make_arrival(StudyInstanceUID=study), LATER)
    assert [dispatcher(LATER + timedelta(seconds=s)) for s in (10, 20)] == [1, 0]
    with transaction(databases.hospital) as session:
        first, second = session.scalars(select(StudyVersion).order_by(StudyVersion.version))
        assert first.correction_id == second.correction_id is not None
