"""What must hold after every fault, read from the node's databases and folders and from the PACS, and counted."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.settings import Settings
from tests.faults.hospital import Hospital
from tests.faults.studies import Study

GOING_ON = ("submitted", "pending", "processing", "open")
PROVEN = "CONFIRMED"
"""What a delivery to the Orthanc ends as: it is asked for commitment and by C-FIND."""
LEFTOVERS = ("*.part", "*.draft")
"""Names that half-written files and folders have."""


NEVER = ("lost", "processed_twice", "not_processed", "results_missing", "receipts_missing", "duplicated")
"""Of one study, what has to be 0."""


@dataclass
class Counts:
    """What a run of the harness found; everything from ``lost`` to ``left_over`` has to be 0."""

    tried: int = 0
    reached: int = 0
    acknowledged: int = 0
    studies: int = 0
    versions: int = 0
    results: int = 0
    sent_again: int = 0
    lost: int = 0
    processed_twice: int = 0
    not_processed: int = 0
    results_missing: int = 0
    receipts_missing: int = 0
    duplicated: int = 0
    commitments_missing: int = 0
    left_over: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every instant was reached and nothing was lost, doubled or left."""
        bad = [getattr(self, name) for name in (*NEVER, "commitments_missing", "left_over")]
        return not any(bad) and not self.failures and self.reached == self.tried

    def add(self, other: "Counts") -> None:
        """Add what another part of the run found."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class Ledger:
    """The node's books, read beside the running node."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        node = hospital.node
        urls = {name: value for name, value in node._settings.items() if name.endswith("_url")}
        settings = Settings(data_dir=node.data_dir, **urls)
        self._folder = settings.hospital_dir
        self._data = settings.data_dir
        self._hospital_db, self._research_db = (
            sa.create_engine(url, poolclass=sa.NullPool) for url in (settings.hospital_url, settings.research_url)
        )

    def rows(self, query: str, engine: sa.Engine | None = None, **values: object) -> list[Any]:
        """Return the rows of a query; of the hospital side where no database is named."""
        with (engine or self._hospital_db).connect() as connection:
            return list(connection.execute(sa.text(query), values))

    def unsettled(self, study: Study) -> str:
        """Say what is still to come of a study; empty when it has been processed and delivered."""
        if study.owed:
            return f"{len(study.owed)} instances were not acknowledged"
        versions = self.versions(study)
        kept = len(self.rows("SELECT id FROM instances WHERE study_instance_uid = :uid AND NOT is_own", uid=study.uid))
        if not versions or versions[-1].ct_count != kept:
            return f"the last study version covers {versions[-1].ct_count if versions else 0} of {kept} instances"
        for version in versions:
            job = self.job(version.job_id)
            if job is None or job.state in GOING_ON:
                return f"the job of version {version.version} is {job.state if job else 'not there'}"
            if job.state == "done":
                deliveries = self._deliveries(version.job_id)
                if not deliveries or any(one.state not in (PROVEN, "FAILED") for one in deliveries):
                    return f"the deliveries of version {version.version} are {[one.state for one in deliveries]}"
        return ""

    def check(self, study: Study) -> Counts:
        """Judge one study that is settled, or should be."""
        counts = Counts(studies=1, acknowledged=len(study.acknowledged))
        self.check_kept(study, counts)
        self._check_processed(study, counts)
        self._check_results(study, counts)
        for name in NEVER:
            if getattr(counts, name):
                counts.failures.append(f"{study.name}: {name} {getattr(counts, name)}; {self.unsettled(study)}")
        return counts

    def left_over(self) -> list[str]:
        """Half-written files, and files in the store of instances or in quarantine that no row names."""
        found = [path for pattern in LEFTOVERS for path in self._data.rglob(pattern)]
        named = {row.path for row in self.rows("SELECT path FROM instances UNION SELECT path FROM quarantine")}
        for folder in ("instances", "quarantine"):
            files = [path for path in (self._folder / folder).rglob("*") if path.is_file()]
            found += [path for path in files if path.relative_to(self._folder).as_posix() not in named]
        return sorted({str(path.relative_to(self._data)) for path in found})

    def check_kept(self, study: Study, counts: Counts) -> None:
        """Count what was acknowledged and is not there, row and whole file."""
        kept = self.rows(
            "SELECT sop_instance_uid, sha256, size_bytes, path FROM instances WHERE study_instance_uid = :uid",
            uid=study.uid,
        )
        rows = {(row.sop_instance_uid, row.sha256): row for row in kept}
        for uid in study.acknowledged:
            row = rows.get((uid, study.digests[uid]))
            counts.lost += row is None or not _is_whole(self._folder / row.path, row.size_bytes, row.sha256)

    def _check_processed(self, study: Study, counts: Counts) -> None:
        versions = self.versions(study)
        counts.versions = len(versions)
        covered = [version.ct_count for version in versions]
        counts.processed_twice += len(covered) - len(set(covered))
        for version in versions:
            job = self.job(version.job_id)
            is_last = version is versions[-1]
            if job is None or (is_last and job.state != "done") or job.state in GOING_ON:
                counts.not_processed += 1
            elif job.attempts > 1 + study.retries or self._repeated(version.job_id):
                counts.processed_twice += 1
        if study.acknowledged and not versions:
            counts.not_processed += 1

    def _repeated(self, job_id: str) -> int:
        """Count the steps that ended more than once."""
        ended = self.rows(
            "SELECT step FROM job_events WHERE job_id = :job AND kind = 'ended'", self._research_db, job=job_id
        )
        return sum(times > 1 for times in Counter(row.step for row in ended).values())

    def _check_results(self, study: Study, counts: Counts) -> None:
        expected: set[str] = set()
        for version in self.versions(study):
            job = self.job(version.job_id)
            if job is None or job.state != "done":
                continue
            rows = self.rows(
                "SELECT sop_instance_uid, kind FROM results WHERE job_id = :job AND attempt = :attempt",
                job=version.job_id,
                attempt=job.attempts,
            )
            kinds = Counter(row.kind for row in rows)
            counts.duplicated += max(kinds["sr"] - 1, 0) + max(len(self._deliveries(version.job_id)) - 1, 0)
            counts.results_missing += kinds["sr"] == 0
            made_here = {row.sop_instance_uid for row in rows}
            expected |= made_here
            counts.receipts_missing += len(made_here - self._receipted(version.job_id))
        held = self._hospital.pacs.holds(study.uid)
        made = held - set(study.files)
        counts.results = len(made)
        counts.results_missing += len(expected - made)
        counts.duplicated += len(made - expected)
        arrivals = self._hospital.pacs.arrivals()
        counts.sent_again = sum(arrivals[uid] - 1 for uid in made)

    def versions(self, study: Study) -> list[Any]:
        """Return the rows of a study's versions."""
        return self.rows("SELECT * FROM study_versions WHERE study_instance_uid = :uid ORDER BY version", uid=study.uid)

    def jobs_of(self, study: Study) -> list[Any]:
        """Return the rows of the jobs of a study."""
        jobs = [self.job(version.job_id) for version in self.versions(study)]
        return [job._mapping for job in jobs if job is not None]

    def job(self, job_id: str) -> Any:
        """Return a job's row."""
        found = self.rows("SELECT * FROM jobs WHERE id = :job", self._research_db, job=job_id)
        return found[0] if found else None

    def _receipted(self, job_id: str) -> set[str]:
        """Return what the Orthanc has given a receipt for, of all attempts of a job."""
        query = (
            "SELECT r.sop_instance_uid FROM receipts r JOIN deliveries d ON d.id = r.delivery_id "
            "JOIN peers p ON p.id = d.peer_id WHERE d.job_id = :job AND p.name = 'PACS'"
        )
        return {row.sop_instance_uid for row in self.rows(query, job=job_id)}

    def _deliveries(self, job_id: str) -> list[Any]:
        return self.rows("SELECT * FROM deliveries WHERE job_id = :job", job=job_id)


def _is_whole(path: Path, size_bytes: int, sha256: str) -> bool:
    """Tell whether a kept file ends with the dataset that was received."""
    if not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()[-size_bytes:]).hexdigest() == sha256
