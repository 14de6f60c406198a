"""A chain of hashes: every row holds the SHA-256 of itself and of the row before (pure).

Rows are numbered from 1 without a gap. Beside them stands the head: how many there are and the last hash. So a
changed, missing or added row shows, unless whoever did it rewrote the chain from there to its end and the head too;
a hash noted elsewhere shows that as well.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_FAULTS = 100
START = ""
"""What stands in the first row for the hash of the row before it."""


@dataclass(frozen=True, slots=True)
class Link:
    """A row as the chain sees it.

    Attributes
    ----------
    number
        Position, from 1.
    previous_hash, row_hash
        What the row says the hash of the row before is, and its own.
    computed_hash
        What its own hash has to be, computed anew from its values.
    """

    number: int
    previous_hash: str
    row_hash: str
    computed_hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: number and hash of the last row."""

    number: int = 0
    row_hash: str = START


def row_hash(values: list[str | int]) -> str:
    """Return the hash of a row's values in their order, the hash of the row before among them.

    The values are written as JSON with every character beyond ASCII escaped, which is one text for one list.
    """
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Walk:
    """What following a chain found.

    Attributes
    ----------
    last
        The last row.
    faults
        One sentence a fault, the first ``MAX_FAULTS``.
    has_expected
        Whether a row had the hash that was expected.
    """

    last: Head
    faults: tuple[str, ...]
    has_expected: bool


def follow(links: Iterable[Link], after: Head, expected_hash: str = "") -> Walk:
    """Check rows in the order of their numbers.

    Parameters
    ----------
    links
        The rows that follow ``after``; they are read one by one.
    after
        The last row that was checked before; ``Head()`` at the start of the chain.
    expected_hash
        A hash noted earlier, which one of the rows, or ``after``, has to have; empty: none.
    """
    last, faults = after, list[str]()
    has_expected = expected_hash in ("", after.row_hash)
    for link in links:
        if len(faults) < MAX_FAULTS:
            faults += _faults(link, last)
        has_expected = has_expected or link.row_hash == expected_hash
        last = Head(link.number, link.row_hash)
    return Walk(last, tuple(faults[:MAX_FAULTS]), has_expected)


def _faults(link: Link, last: Head) -> Iterator[str]:
    if link.number != last.number + 1:
        yield f"Between row {last.number} and row {link.number} rows are missing."
    elif link.previous_hash != last.row_hash:
        yield f"Row {link.number} does not follow row {last.number}: one of them was changed."
    if link.row_hash != link.computed_hash:
        yield f"Row {link.number} was changed."


def end_fault(last: Head, before: Head, after: Head) -> str | None:
    """Compare the last row with the head as it was read before the rows, and after them; None when they agree.

    Writers may be at work meanwhile: rows may be newer than the one head and older than the other.
    """
    if last.number < before.number:
        return f"The audit ends with row {last.number}; {before.number} rows were written: the last ones are missing."
    if last.number > after.number:
        return f"The audit goes on to row {last.number}, and its head says {after.number}: one of them was changed."
    if last.number == before.number and last.row_hash != before.row_hash:
        return f"Row {last.number}, the last one, has another hash than the head of the audit: one of them was changed."
    return None
