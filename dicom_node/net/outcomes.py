"""What becomes of an object when a peer has answered: one table of statuses, for C-STORE and for STOW-RS.

STOW-RS names the same codes as Failure Reason (0008,1197) and Warning Reason (0008,1196) (PS3.18 I.2.2).
docs/delivery.md prints this table (tested).
"""

from typing import Literal, NamedTuple

Outcome = Literal["accepted", "later", "limited", "refused", "class_refused"]

OUTCOME_WORDS: dict[Outcome, str] = {
    "accepted": "the peer has it; a warning stays in the receipt",
    "later": "tried again with growing pauses",
    "limited": "tried again, three times in all",
    "refused": "final; every other object is sent",
    "class_refused": "final for this SOP class; the report is offered in an older one",
}
LIMITED_TRIES = 3


class Row(NamedTuple):
    """Statuses from ``first`` to ``last``, what they mean, and what becomes of the object."""

    first: int
    last: int
    meaning: str
    outcome: Outcome


STATUSES: tuple[Row, ...] = (
    Row(0x0000, 0x0000, "Success", "accepted"),
    Row(0x0001, 0x0001, "Warning: requested optional attributes are not supported", "accepted"),
    Row(0x0105, 0x0105, "Refused: no such attribute", "refused"),
    Row(0x0106, 0x0106, "Refused: invalid attribute value", "refused"),
    Row(0x0107, 0x0107, "Warning: attribute list error", "accepted"),
    Row(0x0110, 0x0110, "Processing failure", "limited"),
    Row(0x0111, 0x0111, "Duplicate SOP Instance: the peer has had it already", "accepted"),
    Row(0x0112, 0x0112, "Refused: no such SOP Instance", "refused"),
    Row(0x0115, 0x0115, "Refused: invalid argument value", "refused"),
    Row(0x0116, 0x0116, "Warning: attribute value out of range", "accepted"),
    Row(0x0117, 0x0117, "Refused: invalid object instance", "refused"),
    Row(0x0118, 0x0118, "Refused: no such SOP class", "class_refused"),
    Row(0x0119, 0x0119, "Refused: class and instance conflict", "refused"),
    Row(0x0120, 0x0121, "Refused: missing attribute or attribute value", "refused"),
    Row(0x0122, 0x0122, "Refused: SOP class not supported", "class_refused"),
    Row(0x0124, 0x0124, "Refused: not authorised", "limited"),
    Row(0x0131, 0x0132, "Refused: a reference is not known", "refused"),
    Row(0x0210, 0x0210, "Duplicate invocation", "later"),
    Row(0x0211, 0x0212, "Refused: operation or argument not recognised", "refused"),
    Row(0x0213, 0x0213, "Resource limitation", "later"),
    Row(0xA700, 0xA7FF, "Refused: out of resources", "later"),
    Row(0xA800, 0xA8FF, "Refused: SOP class not supported", "class_refused"),
    Row(0xA900, 0xA9FF, "Error: data set does not match SOP class", "refused"),
    Row(0xB000, 0xB000, "Warning: coercion of data elements", "accepted"),
    Row(0xB006, 0xB006, "Warning: elements discarded", "accepted"),
    Row(0xB007, 0xB007, "Warning: data set does not match SOP class", "accepted"),
    Row(0xB000, 0xBFFF, "Warning of the peer's own", "accepted"),
    Row(0xC122, 0xC122, "Refused: transfer syntax not supported", "refused"),
    Row(0xC000, 0xCFFF, "Error: cannot understand", "refused"),
    Row(0xFE00, 0xFE00, "Cancelled", "later"),
)
"""First match wins (PS3.4 B.2.3, PS3.7 annex C, PS3.18 table I.2-2). 0x0124 is tried again because an administrator of
the peer may let the node in; 0xA8xx is of editions of PS3.4 before 1998 [m]."""
UNKNOWN = Row(0x0000, 0xFFFF, "Status of the peer's own", "refused")


def row_of(status: int) -> Row:
    """Return the table's row for a status; one it does not know is a refusal."""
    return next((row for row in STATUSES if row.first <= status <= row.last), UNKNOWN)


def outcome_of(status: int) -> Outcome:
    """Return what becomes of an object after a status."""
    return row_of(status).outcome


def in_words(status: int) -> str:
    """Return a status with its meaning: ``0xB000 Warning: coercion of data elements``."""
    return f"0x{status:04X} {row_of(status).meaning}"


COMMITMENT_FAILURES: dict[int, str] = {
    0x0110: "Processing failure",
    0x0112: "No such object instance",
    0x0119: "Class and instance conflict",
    0x0122: "Referenced SOP class not supported",
    0x0131: "Duplicate transaction UID",
    0x0213: "Resource limitation",
}
"""Failure reasons of storage commitment (PS3.3 C.14.1.1)."""


def commitment_in_words(reason: int) -> str:
    """Return a failure reason of storage commitment with its meaning."""
    return f"0x{reason:04X} {COMMITMENT_FAILURES.get(reason, 'Reason of the peer')}"
