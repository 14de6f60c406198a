"""The steps of a job as the engine calls them: each reads its state from the databases and can be repeated.

This is the shell around the pure flow: ``deidentify`` -> ``analyse`` (child process) -> ``package`` (child process)
-> one delivery per peer.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from sqlalchemy.exc import OperationalError

from deid_rules.profile import Profile
from deid_rules.uids import UidMapper
from dicom_node import clock
from dicom_node.db.deliveries import delivered_reports, open_deliveries, replace_results, results_of
from dicom_node.db.instances import study_instances
from dicom_node.db.jobs import get_job, update_job
from dicom_node.db.models import Instance, Job, Result
from dicom_node.db.peers import destinations
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import version_of_job
from dicom_node.errors import JobDiscarded, JobFailed
from dicom_node.identity.causes import Quarantined
from dicom_node.identity.keys import Keys
from dicom_node.identity.map import IdentityMap
from dicom_node.jobs.child import run_child
from dicom_node.jobs.engine import Steps
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
from dicom_node.settings import Settings

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
            run=(("deidentify", self.deidentify), ("analyse", self.analyse), ("package", self.package)),
            fail=self.fail,
            finish=self.finish,
            deliver=outbox.deliver,
            give_up=outbox.give_up,
        )

    def deidentify(self, job_id: str) -> None:
        """Choose the series and hand its clean instances to the research side."""
        if self._job(job_id).state == "discarded":
            raise JobDiscarded("A newer version of the study replaces this job.")
        self._update(job_id, state="processing", stage="de-identification", progress=0.0, sentence="")
        instances = self._instances(job_id)
        try:
            self._deidentify(job_id, instances)
        except Quarantined as cause:
            shutil.rmtree(self._research(job_id), ignore_errors=True)
            with transaction(self.databases.hospital) as session:
                quarantine_study(session, job_id, instances[0], cause, clock.now())
            raise

    def _deidentify(self, job_id: str, instances: list[Instance]) -> None:
        headers = read_headers([self.settings.hospital_dir / row.path for row in instances])
        person = single_person(headers)
        chosen = select_series(headers)
        study = str(headers[0][1].get("StudyInstanceUID", ""))
        subject = self.identities.subject(person, clock.now(), study)
        folder = self._research(job_id)
        shutil.rmtree(folder, ignore_errors=True)
        uids = UidMapper(self.keys.uid, self.settings.project)
        clean = clean_series(chosen, folder / "clean", subject, self.profile, uids)
        self.identities.record_uids(subject.pseudonym, clean.uid_pairs)
        self._hand_over_correction(job_id, [header for path, header in headers if path in set(chosen)])
        header = next(header for path, header in headers if path == chosen[0])
        save_choice(
            calibration_of(header, load_records(self.settings.calibration_file), clock.now().date()),
            folder / "calibration.json",
        )
        self._update(job_id, pseudonym=subject.pseudonym, progress=0.05)
        LOG.info("series_deidentified", job_id=job_id, instance_count=clean.instance_count)

    def _hand_over_correction(self, job_id: str, headers: list[Dataset]) -> None:
        """Give the research side the segmentation a person corrected, where this version has one."""
        path = self._correction(job_id)
        if path is not None:
            save_correction(read_correction(path, headers), self._research(job_id))
            LOG.info("correction_handed_over", job_id=job_id)

    def _correction(self, job_id: str) -> Path | None:
        """Return the file of the corrected segmentation that this job's version analyses."""
        with transaction(self.databases.hospital) as session:
            number = version_of_job(session, job_id).correction_id
            return None if number is None else self.settings.hospital_dir / session.get_one(Instance, number).path

    def analyse(self, job_id: str) -> None:
        """Analyse the clean series in a child process."""
        job = self._job(job_id)
        self._child(
            job_id,
            {
                "action": "analyse",
                "folder": str(self._research(job_id)),
                "job_reference": job_id,
                "created": job.created_at.isoformat(),
                "serial_number": self.settings.ae_title,
                "element_mm": self.settings.element_mm,
                "with_interval": self.settings.strength_interval,
            },
            span=(0.05, 0.9),
        )

    def package(self, job_id: str) -> None:
        """Build the result objects under the original headers, in a child process."""
        self._update(job_id, stage="result objects", progress=0.9)
        job = self._job(job_id)
        attempt = job.attempts
        output = f"results/{job_id}/{attempt}"
        prior = prior_report(self.databases, self.settings, job_id, job.pseudonym)
        correction = self._correction(job_id)
        answer = self._child(
            job_id,
            {
                "action": "package",
                "sources": [str(path) for path in self._sources(job_id)],
                "report": str(self._research(job_id) / "report"),
                "previous": [str(path) for path in self._previous(job_id, attempt)],
                "correction": str(correction) if correction is not None else "",
                "reject_superseded": self.settings.reject_superseded,
                "prior": str(prior.folder) if prior is not None else "",
                "prior_date": prior.study_date.isoformat() if prior is not None else "",
                "output": str(self.settings.hospital_dir / output),
            },
            span=(0.9, 1.0),
        )
        results = [
            Result(
                sop_instance_uid=one["sop_instance_uid"],
                sop_class_uid=one["sop_class_uid"],
                job_id=job_id,
                attempt=attempt,
                kind=one["kind"],
                path=f"{output}/{one['file']}",
            )
            for one in answer["objects"]
        ]
        with transaction(self.databases.hospital) as session:
            replace_results(session, job_id, attempt, results)

    def finish(self, job_id: str) -> list[int]:
        """Mark the job as done and return its deliveries."""
        attempt = self._job(job_id).attempts
        with transaction(self.databases.hospital) as session:
            version = version_of_job(session, job_id)
            senders = {row.calling_aet for row in study_instances(session, version.study_instance_uid)}
            count = len(results_of(session, job_id, attempt))
            ids = open_deliveries(session, job_id, attempt, destinations(session, senders), clock.now())
        sentence = "" if ids else "The results were sent nowhere: no peer receives results. Add one and run again."
        self._update(job_id, state="done", stage="done", progress=1.0, sentence=sentence)
        LOG.info("job_done", job_id=job_id, result_count=count, delivery_count=len(ids))
        return ids

    def fail(self, job_id: str, sentence: str) -> None:
        """Mark the job as failed with the sentence people read; one that was discarded stays so."""
        if self._job(job_id).state == "discarded":
            return
        self._update(job_id, state="failed", stage="failed", sentence=sentence[:1000])
        LOG.warning("job_failed", job_id=job_id, sentence=sentence)

    def _child(self, job_id: str, task: dict[str, Any], span: tuple[float, float]) -> dict[str, Any]:
        """Run a child process; its progress 0..1 becomes the job's ``span``."""
        last = 0.0

        def progress(done: float, stage: str) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_PAUSE_S:
                last = time.monotonic()
                try:
                    self._update(job_id, stage=stage, progress=span[0] + done * (span[1] - span[0]))
                except OperationalError:
                    LOG.warning("progress_not_written", job_id=job_id)

        return run_child(
            CHILD,
            {**task, "log_level": self.settings.log_level, "log_format": self.settings.log_format},
            time_limit_s=self.settings.job_time_limit_s,
            memory_limit_bytes=self.settings.job_memory_limit_bytes,
            progress=progress,
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

    def _update(self, job_id: str, **values: object) -> None:
        with transaction(self.databases.research) as session:
            update_job(session, job_id, clock.now(), **values)

    def _research(self, job_id: str) -> Path:
        return self.settings.research_dir / "jobs" / job_id
