"""Rejected callers: the first one is told at once, its repetitions once a minute with their number.

A health check with a wrong title, or a scan of ports, would otherwise fill the audit, which is never emptied.
"""

from datetime import datetime, timedelta
from threading import Lock

from dicom_node.audit.events import Event, application_entity, association_rejected

WINDOW = timedelta(minutes=1)
MAX_CALLERS = 1000
"""Callers remembered at a time; beyond it the remaining ones count as one."""
SECURITY_REASONS = frozenset(
    {"calling_ae_title_unknown", "host_not_allowed", "called_ae_title_unknown", "tls_not_agreed"}
)
"""The ledger's reasons that mean that somebody was not let in; a limit reached is congestion, not an alert."""
OTHERS = ("many others", "", "several_reasons")


class Rejections:
    """Counts rejections by caller, address and reason; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._told_at: dict[tuple[str, str, str], datetime] = {}
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, ae_title: str, address: str, reason: str, now: datetime) -> list[Event]:
        """Count a rejection; return the event to write, if it is the first of its kind in a while."""
        if reason not in SECURITY_REASONS:
            return []
        key = (ae_title, address, reason)
        with self._lock:
            if key not in self._told_at and len(self._told_at) >= MAX_CALLERS:
                key = OTHERS
            if key in self._told_at:
                self._counts[key] = self._counts.get(key, 0) + 1
                return []
            self._told_at[key] = now
        return [_event(key, 1)]

    def due(self, now: datetime, *, at_end: bool = False) -> list[Event]:
        """Return what was counted, of callers whose minute is over; of all ``at_end``."""
        with self._lock:
            over = [key for key, told_at in self._told_at.items() if at_end or now - told_at >= WINDOW]
            events = []
            for key in over:
                count = self._counts.pop(key, 0)
                if count:
                    self._told_at[key] = now
                    events.append(_event(key, count))
                else:
                    del self._told_at[key]
        return events


def _event(key: tuple[str, str, str], count: int) -> Event:
    ae_title, address, reason = key
    return association_rejected(application_entity(ae_title, address), reason, count)
