"""The table of retries, and the document that prints it."""

import inspect
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node import errors
from dicom_node.errors import (
    ConfigurationError,
    DiskFull,
    JobFailed,
    JobRejected,
    NodeError,
    PeerUnavailable,
    StepCrashed,
)
from dicom_node.jobs.retries import RETRIES, markdown, retry_of

DOCS = Path(__file__).parents[3] / "docs" / "jobs.md"


def test_the_document_has_the_table_of_the_code() -> None:
    assert markdown() in DOCS.read_text()


@pytest.mark.parametrize(
    ("error", "row"),
    [
        (DiskFull, "DiskFull"),
        (PeerUnavailable, "Unavailable"),
        (StepCrashed, "StepCrashed"),
        (JobFailed, None),
        (JobRejected, None),
        (ConfigurationError, None),
    ],
)
def test_the_first_row_that_an_error_is_an_instance_of_counts(error: type[NodeError], row: str | None) -> None:
    found = retry_of(error)
    assert (found.error.__name__ if found is not None else None) == row


def test_no_row_hides_a_later_one() -> None:
    for number, row in enumerate(RETRIES):
        assert not any(issubclass(later.error, row.error) for later in RETRIES[number + 1 :]), row


def test_every_error_of_the_tree_has_a_verdict() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, NodeError):
            retry_of(kind)


def test_pauses_double_up_to_the_longest_and_never_overflow() -> None:
    row = retry_of(DiskFull)
    assert row is not None
    pauses = [row.pause(tries) for tries in (0, 1, 2, 10, 10**6)]
    assert pauses == [timedelta(seconds=s) for s in (60, 120, 240, 3600, 3600)]
