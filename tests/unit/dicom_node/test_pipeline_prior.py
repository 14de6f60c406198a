"""The last earlier examination of the same patient: found by pseudonym, dated by the original headers."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from test_pipeline_results import RECORD, TOOLS, findings, strength

from dicom_node import clock
from dicom_node.db.models import Job, StudyVersion
from dicom_node.db.session import Databases, transaction
from dicom_node.pipeline.prior import PriorReport, prior_report, prior_values
from dicom_node.pipeline.report_files import save_report
from dicom_node.pipeline.results import report_from
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake

NOW = clock.now()
Examine = Callable[..., str]


@pytest.fixture(autouse=True)
def _without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.pipeline.results._summary", lambda one: {"element_count": one.facts.element_count})


@pytest.fixture
def examine(databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> Examine:
    """Return a factory of analysed studies; returns the job's id."""
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)
    made: list[str] = []

    def make(
        study: str, day: str, pseudonym: str = "P1", state: str = "done", version: int = 1, patient: str = "P1"
    ) -> str:
        job_id = f"job{len(made)}"
        made.append(job_id)
        intake.keep(make_arrival(StudyInstanceUID=study, StudyDate=day, PatientID=patient), NOW)
        at = NOW + timedelta(seconds=len(made))
        with transaction(databases.hospital) as session:
            session.add(
                StudyVersion(
                    study_instance_uid=study, version=version, instance_count=1, ct_count=1, job_id=job_id,
                    created_at=at,
                )
            )  # fmt: skip
        with transaction(databases.research) as session:
            session.add(
                Job(
                    id=job_id, pipeline="bone", pseudonym=pseudonym, state=state, stage="", progress=1.0, sentence="",
                    attempts=1, created_at=at, updated_at=at,
                )
            )  # fmt: skip
        report, figures = report_from(findings(RECORD, strengths={"femur_right": strength("R", 5.0, 4.0)}), TOOLS)
        save_report(report, settings.research_dir / "jobs" / job_id / "report", figures)
        return job_id

    return make


def found(databases: Databases, settings: Settings, job_id: str, pseudonym: str | None = "P1") -> PriorReport | None:
    return prior_report(databases, settings, job_id, pseudonym)


def test_the_last_study_before_this_one_counts(databases: Databases, settings: Settings, examine: Examine) -> None:
    examine("1.1", "20240101")
    last = examine("1.2", "20250601")
    examine("1.3", "20270101")
    now = examine("1.4", "20260101", state="processing")
    prior = found(databases, settings, now)
    assert prior is not None
    assert (prior.folder.parent.name, prior.study_date) == (last, date(2025, 6, 1))


def test_of_a_study_analysed_twice_the_newer_analysis_counts(
    databases: Databases, settings: Settings, examine: Examine
) -> None:
    examine("1.1", "20240101")
    again = examine("1.1", "20240101", version=2)
    prior = found(databases, settings, examine("1.2", "20260101"))
    assert prior is not None
    assert prior.folder.parent.name == again


@pytest.mark.parametrize(
    "earlier",
    [
        {"pseudonym": "P2"},
        {"state": "failed"},
        {"day": ""},
        {"day": "20260101"},
        {"study": "1.9"},
        {"patient": "P-OTHER"},
    ],
)
def test_another_patient_an_unfinished_job_an_undated_or_the_same_study_is_no_prior(
    databases: Databases, settings: Settings, examine: Examine, earlier: dict[str, str]
) -> None:
    examine(**{"study": "1.1", "day": "20240101", **earlier})
    assert found(databases, settings, examine("1.9", "20260101", version=2)) is None


def test_a_job_without_a_pseudonym_has_no_prior(databases: Databases, settings: Settings, examine: Examine) -> None:
    examine("1.1", "20240101")
    assert found(databases, settings, examine("1.2", "20260101"), None) is None


def test_every_number_keeps_its_structure_side_and_calibration(
    databases: Databases, settings: Settings, examine: Examine
) -> None:
    examine("1.1", "20240101")
    prior = found(databases, settings, examine("1.2", "20260101"))
    assert prior is not None
    values = {(one.structure, one.laterality, one.concept): one for one in prior_values(prior)}
    fall = values["femur", "R", "femur_strength_fall_minimum"]
    assert (fall.value, fall.study_date, fall.is_calibrated) == (4.0, date(2024, 1, 1), True)
    assert values["L1", "", "trabecular_vbmd"].value == 70.0
