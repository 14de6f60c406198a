"""Which error of a step is repeated, how many times, and after which pause: one table.

The first row that an error is an instance of counts; what no row names is final and shown to a person. A job that
waits for its next try holds no worker. The deliveries have their own numbers, in the settings.
"""

from dataclasses import dataclass
from datetime import timedelta

from dicom_node.errors import DiskFull, InputGone, NodeError, StepCrashed, Unavailable


@dataclass(frozen=True, slots=True)
class Retry:
    """One row: the error, how often a step is repeated because of it, and the pauses before."""

    error: type[NodeError]
    repeats: int
    first_pause_s: float
    longest_pause_s: float
    why: str

    def pause(self, tries: int) -> timedelta:
        """Return the pause before the next try, doubled after each of the ``tries`` so far."""
        return timedelta(seconds=min(self.first_pause_s * 2.0 ** min(tries, 60), self.longest_pause_s))


RETRIES = (
    Retry(DiskFull, 100, 60, 3600, "somebody has to free space; the job waits about four days for it"),
    Retry(Unavailable, 10, 5, 900, "a database, disk or peer is away, or the node was told to stop"),
    Retry(StepCrashed, 1, 60, 60, "the system ended the step's process, as when memory is short: once more, later"),
    Retry(
        InputGone, 3, 0, 0, "what an earlier step left is gone: that step is done again first; counted in an attempt"
    ),
)
LOSSES = 3
"""Times the process that runs a step may be lost in it; one more, and the job has failed: it may be the cause."""


def retry_of(error: type[NodeError]) -> Retry | None:
    """Return the row for an error; None where it is final."""
    return next((row for row in RETRIES if issubclass(error, row.error)), None)


def markdown() -> str:
    """Return the table as docs/jobs.md has it."""
    head = "| error | repeated | first pause | longest pause | why |\n|---|---|---|---|---|\n"
    rows = [
        f"| `{row.error.__name__}` | {row.repeats} times | {row.first_pause_s:g} s | {row.longest_pause_s:g} s "
        f"| {row.why} |"
        for row in RETRIES
    ]
    lost = f"| process lost in the step | {LOSSES} times | - | - | another process, or the next start, repeats it |"
    return head + "\n".join([*rows, lost, "| any other | never | - | - | final; a person reads the sentence |"]) + "\n"
