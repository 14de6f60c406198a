"""The steps of a job as the engine calls them: each reads its state from the databases and can be repeated.

This is the shell around the pure flow: ``deidentify`` -> ``analyse`` (child process) -> ``package`` (child process)
-> ``deliver``, which opens one delivery per peer. A step makes what it makes under a name of its own and gives it its
place while it holds the job: an execution that was declared dead and wakes up changes nothing.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from deid_rules.profile import Profile
from deid_rules.uids import UidMapper
from dicom_node import clock
from dicom_node.audit.transfers import tell_of_job
from dicom_node.db.deliveries import delivered_reports, open_deliveries, replace_results
from dicom_node.db.instances import study_instances
from dicom_node.db.job_queue import Claim, holding, is_held_by, limit_silence, write_held
from dicom_node.db.jobs import any_is_done, get_job, newest_attempt_that_ended
from dicom_node.db.models import Instance, Job, Result
from dicom_node.db.results import carry_over, newest_attempt_with_results
from dicom_node.db.routing import chosen_destinations
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import version_of_job, versions_of
from dicom_node.errors import ClaimLost, InputGone, JobFailed, JobHeld, JobRejected
from dicom_node.identity.causes import Quarantined
from dicom_node.identity.keys import Keys
from dicom_node.identity.map import IdentityMap
from dicom_node.jobs.child import run_child
from dicom_node.jobs.engine import Steps
from dicom_node.jobs.execution import Step
from dicom_node.logs import log
from dicom_node.pipeline.calibration import calibration_of, load_records, save_choice
from dicom_node.pipeline.corrections import read_correction, save_correction
from dicom_node.pipeline.deidentification import (
    clean_series,
    quarantine_study,
    read_headers,
    select_series,
    single_person,
)
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.prior import prior_report
from dicom_node.pipeline.requests_handover import hand_over_request
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id, sync_folder

LOG = log(__name__)
CHILD = "dicom_node.pipeline.child"
PROGRESS_PAUSE_S = 0.3
"""Progress is written at most this often."""


@dataclass(frozen=True, slots=True)
class JobSteps:
    """Everything the steps need; made once in ``cli``."""

    settings: Settings
    databases: Databases
    identities: IdentityMap
    keys: Keys
    profile: Profile

    def steps(self) -> Steps:
        """Return the steps in order, for the engine."""
        outbox = Outbox(self.databases, self.settings)
        return Steps(
            run=(
                Step("deidentify", self.deidentify),
                Step("analyse", self.analyse, can_use_gpu=True),
                Step("package", self.package),
                Step("deliver", self.deliver),
            ),
            deliver=outbox.deliver,
            put_off=outbox.put_off,
        )

    def deidentify(self, claim: Claim) -> str:
        """Choose the series and hand its clean instances to the research side."""
        self._update(claim, stage="de-identification", progress=0.0, sentence="")
        instances = self._instances(claim.job_id)
        with self._draft(self._research(claim.job_id), claim) as draft:
            try:
                pseudonym = self._deidentify(claim.job_id, instances, draft)
            except Quarantined as cause:
                with self._holding(claim) as hospital:
                    shutil.rmtree(self._research(claim.job_id), ignore_errors=True)
                    quarantine_study(hospital, claim.job_id, instances[0], cause, clock.now())
                raise
            with holding(self.databases.research, claim, clock.now()) as session:
                write_held(session, claim, clock.now(), pseudonym=pseudonym, progress=0.05)
                _put(draft, self._research(claim.job_id))
        return ""

    def _deidentify(self, job_id: str, instances: list[Instance], folder: Path) -> str:
        headers = read_headers([self.settings.hospital_dir / row.path for row in instances])
        tell_of_job(self.databases, self.settings, job_id, "R")
        person = single_person(headers)
        chosen = select_series(headers)
        study = str(headers[0][1].get("StudyInstanceUID", ""))
        subject = self.identities.subject(person, clock.now(), study)
        uids = UidMapper(self.keys.uid, self.settings.project)
        clean = clean_series(chosen, folder / "clean", subject, self.profile, uids)
        self.identities.record_uids(subject.pseudonym, clean.uid_pairs)
        self._hand_over_correction(job_id, folder, [header for path, header in headers if path in set(chosen)])
        header = next(header for path, header in headers if path == chosen[0])
        save_choice(
            calibration_of(header, load_records(self.settings.calibration_file)),
            folder / "calibration.json",
        )
        with transaction(self.databases.hospital) as session:
            hand_over_request(session, header, folder, self.profile.age_cap_years, clock.now())
        LOG.info("series_deidentified", job_id=job_id, instance_count=clean.instance_count)
        return subject.pseudonym

    def _hand_over_correction(self, job_id: str, folder: Path, headers: list[Dataset]) -> None:
        """Give the research side the segmentation a person corrected, where this version has one."""
        path = self._correction(job_id)
        if path is not None:
            save_correction(read_correction(path, headers), folder)
            LOG.info("correction_handed_over", job_id=job_id)

    def _correction(self, job_id: str) -> Path | None:
        """Return the file of the corrected segmentation that this job's version analyses."""
        with transaction(self.databases.hospital) as session:
            number = version_of_job(session, job_id).correction_id
            return None if number is None else self.settings.hospital_dir / session.get_one(Instance, number).path

    def _routing(self, job_id: str) -> dict[str, str]:
        """Return what the study's rule asks of the analysis, else the settings; and what the study lacked."""
        with transaction(self.databases.hospital) as session:
            version = version_of_job(session, job_id)
        return {
            "pipelines": version.pipelines,
            "incomplete": version.incomplete,
            "segmenter": version.segmenter or self.settings.segmenter,
        }

    def analyse(self, claim: Claim) -> str:
        """Analyse the clean series in a child process."""
        folder = self._research(claim.job_id)
        if not any((folder / "clean").glob("*")) or not (folder / "calibration.json").exists():
            raise InputGone("The de-identified series is not there any more; it is made again.", "deidentify")
        job = self._job(claim.job_id)
        with self._draft(folder / "report", claim) as draft:
            self._child(
                claim,
                {
                    "action": "analyse",
                    "folder": str(folder),
                    "output": str(draft),
                    "job_reference": claim.job_id,
                    "created": job.created_at.isoformat(),
                    "serial_number": self.settings.ae_title,
                    "element_mm": self.settings.element_mm,
                    "with_interval": self.settings.strength_interval,
                    "phantom_file": str(self.settings.phantom_file or ""),
                    "may_use_tissues": self.settings.internal_calibration,
                    "corrects_contrast": self.settings.contrast_correction,
                    "segmenters_dir": str(self.settings.segmenters_dir),
                    "job_memory_limit_bytes": self.settings.job_memory_limit_bytes,
                    "gpu_jobs": self.settings.gpu_jobs,
                    **self._routing(claim.job_id),
                },
                span=(0.05, 0.9),
            )
            with holding(self.databases.research, claim, clock.now()):
                _put(draft, folder / "report")
        return ""

    def package(self, claim: Claim) -> str:
        """Build the result objects under the original headers, in a child process."""
        job_id, report = claim.job_id, self._research(claim.job_id) / "report"
        if not (report / "report.json").exists() or not (report / "slices.txt").exists():
            raise InputGone("The report of the analysis is not there any more; it is made again.", "analyse")
        self._update(claim, stage="result objects", progress=0.9)
        job = self._job(job_id)
        output = f"results/{job_id}/{claim.attempt}"
        prior = prior_report(self.databases, self.settings, job_id, job.pseudonym)
        correction = self._correction(job_id)
        with self._draft(self.settings.hospital_dir / output, claim) as draft:
            answer = self._child(
                claim,
                {
                    "action": "package",
                    "sources": [str(path) for path in self._sources(claim.job_id)],
                    "report": str(report),
                    "previous": [str(path) for path in self._previous(claim.job_id, claim.attempt)],
                    "correction": str(correction) if correction is not None else "",
                    "reject_superseded": self.settings.reject_superseded,
                    "prior": str(prior.folder) if prior is not None else "",
                    "prior_date": prior.study_date.isoformat() if prior is not None else "",
                    "output": str(draft / "objects"),
                },
                span=(0.9, 1.0),
            )
            results = [
                Result(
                    sop_instance_uid=one["sop_instance_uid"],
                    sop_class_uid=one["sop_class_uid"],
                    job_id=job_id,
                    attempt=claim.attempt,
                    kind=one["kind"],
                    path=f"{output}/{one['file']}",
                )
                for one in answer["objects"]
            ]
            with self._holding(claim) as hospital:
                _put(draft / "objects", self.settings.hospital_dir / output)
                replace_results(hospital, job_id, claim.attempt, results)
        tell_of_job(self.databases, self.settings, job_id, "C")
        return ""

    def deliver(self, claim: Claim) -> str:
        """Open one delivery for each peer that gets the results; where none may be sent, wait for an operator."""
        self._update(claim, stage="delivery")
        self._require_newest(claim.job_id)
        if self.settings.hold_without_numbers and not claim.is_released and not self._has_numbers(claim.job_id):
            raise JobHeld("The flags forbid every number. Look at the pictures, then release or discard the job.")
        with transaction(self.databases.research) as session:
            analysed = newest_attempt_that_ended(session, claim.job_id, "analyse")
        with self._holding(claim) as hospital:
            if 0 < newest_attempt_with_results(hospital, claim.job_id) < analysed:
                raise InputGone("The result objects are older than the report; they are made again.", "package")
            results = carry_over(hospital, claim.job_id, claim.attempt)
            if not results or not all((self.settings.hospital_dir / row.path).exists() for row in results):
                raise InputGone("The result objects are not there any more; they are made again.", "package")
            version = version_of_job(hospital, claim.job_id)
            senders = {row.calling_aet for row in study_instances(hospital, version.study_instance_uid)}
            peers = chosen_destinations(hospital, version, senders)
            ids = open_deliveries(hospital, claim.job_id, claim.attempt, peers, clock.now())
        LOG.info("job_done", job_id=claim.job_id, result_count=len(results), delivery_count=len(ids))
        if not ids:
            return "The results were sent nowhere: no peer receives results. Add one and run again."
        missing = [name for name in version.destinations.splitlines() if name not in {peer.name for peer in peers}]
        if missing:
            return f"The rule names peers that receive no results now: {', '.join(missing)}. They got nothing."
        return ""

    def _require_newest(self, job_id: str) -> None:
        """Send nothing that a newer version of the study has replaced.

        Raises
        ------
        JobRejected
            When the job of a newer version is done.
        """
        with transaction(self.databases.hospital) as session:
            version = version_of_job(session, job_id)
            study = versions_of(session, [version.study_instance_uid])[version.study_instance_uid]
            newer = [one.job_id for one in study if one.version > version.version]
        with transaction(self.databases.research) as session:
            if any_is_done(session, newer):
                raise JobRejected("The results of a newer version of the study are done; these were not sent.")

    def _has_numbers(self, job_id: str) -> bool:
        """Tell whether the report holds a measurement; one that is not there any more is not held against the job."""
        path = self._research(job_id) / "report" / "report.json"
        return not path.exists() or bool(json.loads(path.read_text())["groups"])

    @contextmanager
    def _holding(self, claim: Claim) -> Iterator[Session]:
        """Hold the job, and open a transaction on the hospital side that ends before the job is let go."""
        with (
            holding(self.databases.research, claim, clock.now()),
            transaction(self.databases.hospital) as session,
        ):
            limit_silence(session)
            yield session

    @contextmanager
    def _draft(self, final: Path, claim: Claim) -> Iterator[Path]:
        """Give the name under which an execution makes what will be ``final``; what is left of it is deleted after.

        Drafts of executions that died are deleted before, while the job is held: who lost it deletes none.
        """
        with holding(self.databases.research, claim, clock.now()):
            for left in final.parent.glob(f".{final.name}.*.draft"):
                shutil.rmtree(left, ignore_errors=True)
        draft = final.with_name(f".{final.name}.{claim.token}.draft")
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _child(self, claim: Claim, task: dict[str, Any], span: tuple[float, float]) -> dict[str, Any]:
        """Run a child process; its progress 0..1 becomes the job's ``span``."""
        last = 0.0

        def progress(done: float, stage: str) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_PAUSE_S:
                last = time.monotonic()
                try:
                    self._update(claim, stage=stage, progress=span[0] + done * (span[1] - span[0]))
                except ClaimLost:
                    return  # the watch ends the child
                except OperationalError:
                    LOG.warning("progress_not_written", job_id=claim.job_id)

        return run_child(
            CHILD,
            {**task, "log_level": self.settings.log_level, "log_format": self.settings.log_format},
            time_limit_s=self.settings.job_time_limit_s,
            memory_limit_bytes=self.settings.job_memory_limit_bytes,
            progress=progress,
            is_wanted=lambda: self._is_held(claim),
        )

    def _previous(self, job_id: str, attempt: int) -> list[Path]:
        """Return the delivered reports that this attempt's report replaces."""
        with transaction(self.databases.hospital) as session:
            rows = delivered_reports(session, version_of_job(session, job_id))
        return [self.settings.hospital_dir / row.path for row in rows if (row.job_id, row.attempt) != (job_id, attempt)]

    def _sources(self, job_id: str) -> list[Path]:
        """Return the original files of the analysed slices, in the order of the report's masks."""
        uids = (self._research(job_id) / "report" / "slices.txt").read_text().split()
        paths = {row.sop_instance_uid: self.settings.hospital_dir / row.path for row in self._instances(job_id)}
        originals = [self.identities.original_uid(uid) for uid in uids]
        missing = sum(uid not in paths for uid in originals)
        if missing:
            raise JobFailed(f"{missing} of {len(uids)} analysed slices have no original instance; nothing was sent.")
        return [paths[uid] for uid in originals if uid is not None]

    def _instances(self, job_id: str) -> list[Instance]:
        with transaction(self.databases.hospital) as session:
            return study_instances(session, version_of_job(session, job_id).study_instance_uid)

    def _job(self, job_id: str) -> Job:
        with transaction(self.databases.research) as session:
            job = get_job(session, job_id)
        if job is None:
            raise JobFailed(f"Job {job_id} is not in the research database.")
        return job

    def _update(self, claim: Claim, **values: object) -> None:
        with transaction(self.databases.research) as session:
            write_held(session, claim, clock.now(), **values)

    def _is_held(self, claim: Claim) -> bool:
        with transaction(self.databases.research) as session:
            return is_held_by(session, claim)

    def _research(self, job_id: str) -> Path:
        return self.settings.research_dir / "jobs" / job_id


def _put(draft: Path, final: Path) -> None:
    """Put a folder in its place, for whoever holds the job.

    What was there is moved away as a whole: somebody who lost the job may still be writing into it.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = final.with_name(f".{final.name}.{new_id()}.draft")
    if final.exists():
        final.rename(aside)
    draft.rename(final)
    sync_folder(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sweep_drafts(settings: Settings) -> int:
    """Delete what steps of processes that died left half-made, before any step runs; return how many folders."""
    jobs, results = settings.research_dir / "jobs", settings.hospital_dir / "results"
    left = [*jobs.glob(".*.draft"), *jobs.glob("*/.*.draft"), *results.glob("*/.*.draft")]
    for draft in left:
        shutil.rmtree(draft, ignore_errors=True)
    return len(left)
