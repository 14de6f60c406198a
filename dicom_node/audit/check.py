"""Checking the chain: the whole of it at once, or a little in each pass beside other work."""

from sqlalchemy.orm import Session

from dicom_node.audit.chain import MAX_FAULTS, Head, end_fault, follow
from dicom_node.db.audit import head, links_after

CHECKED_AT_ONCE = 5000
"""Rows of one pass: 40 microseconds of CPU each, measured on one core, so a fifth of a second."""


class ChainCheck:
    """A check that follows the chain from its start, and goes on with what is written meanwhile.

    Attributes
    ----------
    last
        The last row that was checked.
    faults
        One sentence a fault found so far.
    """

    def __init__(self) -> None:
        self.last = Head()
        self.faults: list[str] = []

    def go_on(self, session: Session, expected_hash: str = "", limit: int | None = CHECKED_AT_ONCE) -> list[str]:
        """Check the next rows; return the faults that are new."""
        before = head(session)
        walk = follow(links_after(session, self.last.number, limit), self.last, expected_hash)
        found = list(walk.faults)
        has_reached_end = limit is None or walk.last.number < self.last.number + limit
        if has_reached_end and (fault := end_fault(walk.last, before, head(session))) is not None:
            found.append(fault)
        if not walk.has_expected:
            found.append("No row has the hash that was expected: the audit was rewritten, or cut off before it.")
        new = [fault for fault in found if fault not in self.faults]
        self.last = walk.last
        self.faults = [*self.faults, *new][:MAX_FAULTS]
        return new


def check_all(session: Session, expected_hash: str = "") -> ChainCheck:
    """Check the whole chain as it is now.

    Parameters
    ----------
    session
        Hospital side.
    expected_hash
        A hash noted earlier, which a row has to have; empty: none.
    """
    check = ChainCheck()
    check.go_on(session, expected_hash, limit=None)
    return check
