"""What a step leaves behind: nothing of an older version, an older attempt or a lost execution is sent or kept."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node import clock
from dicom_node.db.deliveries import deliveries_of, replace_results, results_of
from dicom_node.db.job_queue import Claim
from dicom_node.db.models import Job, Peer, Result, StudyVersion
from dicom_node.db.node_tables import JobEvent
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ClaimLost, InputGone, JobRejected
from dicom_node.pipeline.steps import JobSteps, _put, sweep_drafts
from dicom_node.settings import Settings

NOW = clock.now()
OLD, NEW = "a" * 32, "b" * 32


@pytest.fixture
def steps(databases: Databases, settings: Settings) -> JobSteps:
    return JobSteps(settings, databases, None, None, None)  # type: ignore[arg-type]  # what is delivered needs no key


@pytest.fixture
def add(databases: Databases, settings: Settings) -> Callable[..., Claim]:
    """Return a factory of jobs of versions of one study in the step that delivers, with results on disk."""

    def make(
        job_id: str, version: int, *, state: str = "processing", attempt: int = 1, destinations: str = ""
    ) -> Claim:
        row = Result(
            sop_instance_uid=f"1.2.{version}", sop_class_uid="1", job_id=job_id, attempt=1, kind="sr",
            path=f"results/{job_id}/1/1-sr.dcm",
        )  # fmt: skip
        path = settings.hospital_dir / row.path
        path.parent.mkdir(parents=True)
        path.touch()
        with transaction(databases.research) as session:
            session.add(
                Job(
                    id=job_id, pipeline="bone", state=state, stage="", progress=0.9, sentence="", attempts=attempt,
                    created_at=NOW, updated_at=NOW, token="t", next_step="deliver",
                )
            )  # fmt: skip
        with transaction(databases.hospital) as session:
            session.add(
                StudyVersion(
                    study_instance_uid="1.2", version=version, instance_count=1, ct_count=1, job_id=job_id,
                    created_at=NOW, destinations=destinations,
                )
            )  # fmt: skip
            replace_results(session, job_id, 1, [row])
            if version == 1:
                session.add(Peer(name="PACS", ae_title="PACS", host="h", port=1, may_send=False, receives_results=True))
        return Claim(job_id, attempt, "deliver", "t")

    return make


def opened(databases: Databases, job_id: str) -> int:
    with transaction(databases.hospital) as session:
        return len(deliveries_of(session, job_id))


def test_an_older_version_sends_nothing_once_the_newer_one_is_done(
    steps: JobSteps, add: Callable[..., Claim], databases: Databases
) -> None:
    claim = add(OLD, 1)
    add(NEW, 2, state="processing")
    assert steps.deliver(claim) == ""
    with transaction(databases.research) as session:
        session.get_one(Job, NEW).state = "done"
    with pytest.raises(JobRejected, match="newer version"):
        steps.deliver(claim)
    assert opened(databases, OLD) == 1, "what was sent before stays"


def test_results_older_than_the_report_are_made_again_and_not_sent(
    steps: JobSteps, add: Callable[..., Claim], databases: Databases
) -> None:
    claim = add(OLD, 1, attempt=3)
    with transaction(databases.research) as session:
        session.add(JobEvent(job_id=OLD, attempt=2, at=NOW, kind="ended", step="analyse"))
    with pytest.raises(InputGone, match="older than the report") as gone:
        steps.deliver(claim)
    assert gone.value.step == "package"
    assert opened(databases, OLD) == 0


def test_a_rule_that_names_a_peer_which_is_gone_is_told_in_the_job(
    steps: JobSteps, add: Callable[..., Claim], databases: Databases
) -> None:
    claim = add(OLD, 1, destinations="PACS\nArchive")
    assert steps.deliver(claim) == "The rule names peers that receive no results now: Archive. They got nothing."
    assert opened(databases, OLD) == 1


def test_results_packaged_twice_in_one_attempt_are_not_sent_twice(
    add: Callable[..., Claim], databases: Databases
) -> None:
    add(OLD, 1)
    again = Result(sop_instance_uid="1.9", sop_class_uid="1", job_id=OLD, attempt=1, kind="sr", path="p")
    with transaction(databases.hospital) as session:
        replace_results(session, OLD, 1, [again])
        assert [one.sop_instance_uid for one in results_of(session, OLD, 1)] == ["1.9"]


def test_an_execution_that_lost_the_job_deletes_nobodys_draft(
    steps: JobSteps, add: Callable[..., Claim], tmp_path: Path
) -> None:
    add(OLD, 1)
    living = tmp_path / ".report.living.draft"
    living.mkdir()
    with pytest.raises(ClaimLost), steps._draft(tmp_path / "report", Claim(OLD, 1, "analyse", "lost")):
        pytest.fail("it must not begin")
    assert living.exists()
    with steps._draft(tmp_path / "report", Claim(OLD, 1, "analyse", "t")):
        assert not living.exists()


def test_a_folder_is_replaced_although_somebody_still_writes_into_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting the old one fails as it does when a file appears meanwhile."""
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    final, draft = tmp_path / "job", tmp_path / ".job.t.draft"
    for folder, name in ((final, "old"), (draft, "new")):
        folder.mkdir()
        (folder / name).touch()
    _put(draft, final)
    assert [one.name for one in final.iterdir()] == ["new"]


def test_what_dead_processes_left_half_made_is_swept_at_the_start(settings: Settings) -> None:
    left = [
        settings.research_dir / "jobs" / f".{OLD}.t.draft",
        settings.research_dir / "jobs" / OLD / ".report.t.draft",
        settings.hospital_dir / "results" / OLD / ".1.t.draft",
    ]
    kept = settings.research_dir / "jobs" / OLD / "report"
    for folder in (*left, kept):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    assert sweep_drafts(settings) == 3
    assert not [folder for folder in left if folder.exists()]
    assert (kept / "file").exists()
