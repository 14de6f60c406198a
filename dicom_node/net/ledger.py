"""The association ledger: who sent how much, from where, and how it ended. It holds nothing of a patient."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock


@dataclass(frozen=True, slots=True)
class AssociationRecord:
    """One association that has ended.

    Attributes
    ----------
    association_id
        Random; the instances it brought name it.
    calling_aet, called_aet, address
        Who called whom from where.
    started_at, ended_at
        Timezone-aware times.
    accepted, refused
        Objects answered with success, and with a failure.
    received_bytes
        Encoded datasets received.
    outcome
        ``released``, ``aborted``, or the reason of a rejection.
    is_tls
        Whether it came over TLS.
    errors
        Statuses other than success with their numbers: ``0xA700 3, 0xC000 1``.
    """

    association_id: str
    calling_aet: str
    called_aet: str
    address: str
    started_at: datetime
    ended_at: datetime
    accepted: int
    refused: int
    received_bytes: int
    outcome: str
    is_tls: bool = False
    errors: str = ""

    @property
    def is_notable(self) -> bool:
        """Whether it is worth a row: a peer that only verifies the node every few seconds is not."""
        return self.accepted + self.refused > 0 or self.outcome != "released"


@dataclass(slots=True)
class Tally:
    """What one running association has done so far; its thread and the one that ends it may differ."""

    association_id: str
    calling_aet: str
    called_aet: str
    address: str
    started_at: datetime
    accepted: int = 0
    refused: int = 0
    received_bytes: int = 0
    is_tls: bool = False
    _statuses: Counter[int] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)
    _has_ended: bool = False

    def count(self, size_bytes: int, *, is_accepted: bool, status: int = 0) -> None:
        """Count one object, and the status it was answered with."""
        with self._lock:
            self._statuses[status] += 1
            self.received_bytes += size_bytes
            self.accepted += is_accepted
            self.refused += not is_accepted

    def end(self, now: datetime, outcome: str) -> AssociationRecord | None:
        """Return the record the first time, None afterwards."""
        with self._lock:
            if self._has_ended:
                return None
            self._has_ended = True
            return AssociationRecord(
                association_id=self.association_id,
                calling_aet=self.calling_aet,
                called_aet=self.called_aet,
                address=self.address,
                started_at=self.started_at,
                ended_at=now,
                accepted=self.accepted,
                refused=self.refused,
                received_bytes=self.received_bytes,
                outcome=outcome,
                is_tls=self.is_tls,
                errors=_errors(self._statuses),
            )


def _errors(statuses: Mapping[int, int]) -> str:
    words = [f"0x{status:04X} {count}" for status, count in sorted(statuses.items()) if status]
    return ", ".join(words)[:200]
