"""The instants at which a node is killed, in the order in which they come.

An instant is a call seen from outside (a file created, synced, renamed; rows committed; a message sent; a named
function) and a place before or after it. ``site/sitecustomize.py`` watches for it inside the node.
"""

from dataclasses import asdict, dataclass

OBSERVED = (
    "dicom_node.storage.files:sweep_temporaries",
    "dicom_node.pipeline.validators:validate",
    "dicom_node.pipeline.report_files:save_report",
    "dicom_node.pipeline.steps:JobSteps.deidentify",
    "dicom_node.pipeline.steps:JobSteps.analyse",
    "dicom_node.pipeline.delivery:Outbox.deliver",
    "dicom_node.jobs.engine:JobEngine.submit",
    "inference.segmentation:ClassicalSegmenter.segment",
)
"""Functions and methods of the node that instants name; one that is gone stops the harness with a sentence."""

KEPT_PART = r"hospital/incoming/.*part$"
KEPT_NAME = r"-> .*hospital/instances/.*\.dcm$"


@dataclass(frozen=True, slots=True)
class Instant:
    """One instant, and what happens there.

    Attributes
    ----------
    name
        What an administrator would call it.
    point
        Kind of call: create, fsync, rename, unlink (of files), execute (of a statement that changes something), commit,
        send (of a DIMSE message) or call.
    match
        Regular expression that the call's description fits: a path, the statements committed, a message, a function.
    when
        ``before`` or ``after`` the call.
    number
        Which of the fitting calls.
    stage
        What has to be done for it to come: ``send`` a study, ask for ``commitment``, or only ``start`` on a ``fresh``
        data folder.
    action
        ``kill`` ends the node and its children as ``kill -9`` does; ``kill process`` the one process; ``stop`` halts
        all (SIGSTOP); ``terminate`` asks for an orderly end; ``full`` says that the disk is full.
    """

    name: str
    point: str
    match: str
    when: str = "before"
    number: int = 1
    stage: str = "send"
    action: str = "kill"

    def task(self) -> dict[str, object]:
        """Return it as ``armed.json`` holds it."""
        return asdict(self)


def _around(name: str, point: str, match: str, number: int = 1, stage: str = "send") -> tuple[Instant, Instant]:
    return (
        Instant(f"before {name}", point, match, "before", number, stage),
        Instant(f"after {name}", point, match, "after", number, stage),
    )


def _ends(step: str, number: int, following: str) -> tuple[Instant, ...]:
    """Return the instants at the end of a step: the engine's checkpoint of its work, and the job's row."""
    return (
        *_around(f"the engine's checkpoint of step {step}", "commit", r"operation_outputs.*'work'", number),
        *_around(f"the record of step {step}", "commit", rf"UPDATE jobs SET state.*'{following}'.*job_events"),
    )


START = (
    Instant("between two tables of a migration", "execute", "CREATE TABLE results", "before", stage="fresh"),
    Instant("while a migration makes a table anew", "execute", "DROP TABLE peers", "before", stage="fresh"),
    *_around("the migration of the hospital database", "commit", "CREATE TABLE instances", stage="fresh"),
    *_around("the migration of the identity map", "commit", "CREATE TABLE subjects", stage="fresh"),
    *_around("the migration of the research database", "commit", "CREATE TABLE jobs", stage="fresh"),
    Instant("before the second key has its name", "rename", r"-> .*keys/", "before", 2, stage="fresh"),
    Instant("after the second key has its name", "rename", r"-> .*keys/", "after", 1, stage="fresh"),
    Instant("before the engine's tables are committed", "commit", "dbos_migrations", "before", stage="fresh"),
    *_around("the sweep at start", "call", "sweep_temporaries", stage="start"),
    Instant("within the sweep at start", "unlink", r"left-over\.part$", "after", stage="start"),
)
INTAKE = (
    Instant("when a received file is created", "create", KEPT_PART, "after", 2),
    *_around("a received file's fsync", "fsync", KEPT_PART, 3),
    *_around("a received file's renaming", "rename", KEPT_NAME, 4),
    Instant("after the folder's fsync", "fsync", r"hospital/instances/[0-9a-f]+$", "after", 5),
    *_around("the commit of a received instance", "commit", "INSERT INTO instances", 6),
    *_around("the first commit of a received instance", "commit", "INSERT INTO instances", 1),
    *_around("the C-STORE answer", "send", "C_STORE response 0x0000", 7),
    Instant("before the last C-STORE answer", "send", "C_STORE response 0x0000", "before", 26),
    *_around("the ledger of a released association", "commit", "INSERT INTO associations"),
)
DISPATCH = (
    *_around("the commit of a study version", "commit", "INSERT INTO study_versions"),
    *_around("the commit of a job", "commit", "INSERT INTO jobs"),
    *_around("submitting to the engine", "call", "JobEngine.submit"),
    *_around("the commit of a job's ticket", "commit", r"UPDATE jobs SET.*ticket=\?.*'pending'"),
    *_around("the commit of the workflow", "commit", r"INSERT INTO \S*workflow_status.*'ENQUEUED', 'step'"),
    *_around("a step's claim of its job", "commit", "UPDATE jobs SET state.*'processing', 'deidentify'"),
)
WORK = (
    *_around("step deidentify", "call", "JobSteps.deidentify"),
    *_around("a clean slice's name", "rename", r"-> .*clean/\d+\.dcm$", 9),
    *_around("the commit of clean UIDs", "commit", "INSERT INTO uid_rows"),
    *_around("the renaming of the clean series", "rename", r"draft -> .*research/jobs/[0-9a-f]{32}$"),
    *_ends("deidentify", 1, "analyse"),
    *_around("the segmentation, in the child process", "call", "ClassicalSegmenter.segment"),
    *_around("saving the report, in the child process", "call", "save_report"),
    *_around("step analyse", "call", "JobSteps.analyse"),
    *_ends("analyse", 2, "package"),
    Instant("within writing the result objects", "rename", r"-> .*draft/3-page\.dcm$", "after"),
    *_around("the validators' gate", "call", "validators:validate"),
    *_around("the renaming of the results' folder", "rename", r"-> .*results/[0-9a-f]+/\d+$"),
    *_around("the commit of the results", "commit", "INSERT INTO results"),
    *_ends("package", 3, "deliver"),
)
DELIVERY = (
    *_around("the commit of the deliveries", "commit", "INSERT INTO deliveries"),
    *_ends("deliver", 4, "done"),
    *_around("the commit of the delivery's workflow", "commit", r"INSERT INTO \S*workflow_status.*'delivery'"),
    *_around("the commit of a delivery that was submitted", "commit", "UPDATE deliveries SET submitted"),
    *_around("step deliver", "call", "Outbox.deliver"),
    *_around("the first C-STORE to the PACS", "send", "C_STORE request"),
    *_around("the first receipt's commit", "commit", "INSERT INTO receipts"),
    *_around("a C-STORE to the PACS between two others", "send", "C_STORE request", 3),
    *_around("a middle receipt's commit", "commit", "INSERT INTO receipts", 3),
    *_around("the last receipt's commit", "commit", "INSERT INTO receipts", 5),
    *_around("the commit of a delivery that was sent", "commit", "UPDATE deliveries SET state.*'SENT'"),
    *_around("the commit of asking for commitment", "commit", "INSERT INTO asked_commitments"),
    *_around("asking the PACS for commitment", "send", "N_ACTION request"),
    *_around("the answer to the PACS's report of commitment", "send", "N_EVENT_REPORT response"),
    *_around("the commit of the PACS's promise", "commit", "UPDATE asked_commitments SET state"),
    *_around("the commit of a delivery that was committed", "commit", "UPDATE deliveries SET state.*'COMMITTED'"),
    *_around("the commit of a delivery that was found", "commit", "UPDATE deliveries SET state.*'CONFIRMED'"),
    *_around("the engine's checkpoint of a delivery's try", "commit", "operation_outputs.*'deliver'"),
)
COMMITMENT = (
    *_around("the commit of a request for commitment", "commit", "INSERT INTO commitments", stage="commitment"),
    *_around("the answer to a request for commitment", "send", "N_ACTION response", stage="commitment"),
    *_around("the report of commitment", "send", "N_EVENT_REPORT request", stage="commitment"),
    *_around("the commit of a report of commitment", "commit", "UPDATE commitments.*'REPORTED'", stage="commitment"),
)
INSTANTS: tuple[Instant, ...] = (*START, *INTAKE, *DISPATCH, *WORK, *DELIVERY, *COMMITMENT)


def named(name: str) -> Instant:
    """Return an instant of the table by its name."""
    return next(one for one in INSTANTS if one.name == name)


RECEIVING = tuple(
    named(name)
    for name in (
        "while a migration makes a table anew",
        "within the sweep at start",
        "after a received file's renaming",
        "before the C-STORE answer",
        "after the commit of a study version",
        "after the commit of a job",
        "after the commit of the workflow",
        "before the answer to a request for commitment",
        "after the report of commitment",
    )
)
WORKING = tuple(
    named(name)
    for name in (
        "after a clean slice's name",
        "before the segmentation, in the child process",
        "before the record of step analyse",
        "after the renaming of the results' folder",
        "after the commit of the deliveries",
        "after the first C-STORE to the PACS",
        "before a middle receipt's commit",
        "after the commit of asking for commitment",
    )
)
"""The most telling ones, for the short version: each tuple is gone through in the life of one study."""
CHAINS = (RECEIVING, WORKING)
