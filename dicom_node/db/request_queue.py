"""The queue of requests: which one is due next, and who holds it.

Whoever acts on a request holds a claim on it that runs out by itself, so that a process that died never keeps it; and
every change by the holder is made only while the claim is still its own and the request was not cancelled.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import Peer
from dicom_node.db.request_tables import WORKED_STATES, Request
from dicom_node.db.requests import change, get_request

RATE_WINDOW = timedelta(minutes=1)


def take(
    session: Session,
    owner: str,
    now: datetime,
    until: datetime,
    order: Sequence[str],
    barred: Iterable[int] = (),
    running: Collection[str] = (),
) -> Request | None:
    """Claim the request that is due first; None when there is none.

    Parameters
    ----------
    session
        Of the hospital database.
    owner
        Who claims it.
    now, until
        Timezone-aware times: which are due, and when the claim runs out.
    order
        Lanes in the order they are served: ``urgent``, ``normal``, ``batch`` (of normal priority), ``offpeak``. A lane
        that is not named is not served.
    barred
        Peers that must not be asked now.
    running
        Requests that must not be taken: a thread of this process has not let go of them yet.

    Notes
    -----
    In a lane those that were never tried come first, in the order of their lines, so that batches take turns; then
    those tried, the longest due first. So a file full of studies that are not there keeps no other row waiting.
    """
    was_tried = case((Request.attempts > 0, 1), else_=0)
    untried_line = case((Request.attempts > 0, 0), else_=Request.batch_line)
    for lane in order:
        wanted = (
            select(Request.id)
            .where(Request.state.in_(WORKED_STATES), Request.due_at <= now, _is_free(now), _lane(lane), _spares(barred))
            .where(Request.id.not_in(running))
            .order_by(was_tried, untried_line, Request.due_at, Request.batch_line)
            .limit(1)
        )
        request_id = session.scalar(wanted)
        if request_id is not None and _claim(session, request_id, owner, now, until):
            return session.get_one(Request, request_id, populate_existing=True)
    return None


def _claim(session: Session, request_id: str, owner: str, now: datetime, until: datetime) -> bool:
    """Claim a request unless another process was faster."""
    changed = session.execute(
        update(Request)
        .where(Request.id == request_id, Request.state.in_(WORKED_STATES), _is_free(now))
        .values(claimed_by=owner, claimed_until=until, taken_at=now, attempts=Request.attempts + 1)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def _is_free(now: datetime) -> ColumnElement[bool]:
    return or_(Request.claimed_until.is_(None), Request.claimed_until <= now)


def _lane(name: str) -> ColumnElement[bool]:
    if name == "batch":
        return and_(Request.priority == "normal", Request.batch_id.is_not(None))
    if name == "normal":
        return and_(Request.priority == "normal", Request.batch_id.is_(None))
    return Request.priority == name


def _spares(barred: Iterable[int]) -> ColumnElement[bool]:
    """Tell which requests ask none of some peers: those that name or found another one."""
    numbers = list(barred)
    asked = func.coalesce(Request.found_peer_id, Request.source_peer_id, 0)
    return asked.not_in([*numbers, 0]) if numbers else Request.id.is_not(None)


def barred_peers(session: Session, now: datetime) -> list[int]:
    """Return the peers whose limit of requests per minute is used up."""
    limits = session.execute(select(Peer.id, Peer.requests_per_minute).where(Peer.requests_per_minute.is_not(None)))
    return [peer_id for peer_id, limit in limits.all() if _asked_lately(session, peer_id, now) >= (limit or 0)]


def _asked_lately(session: Session, peer_id: int, now: datetime) -> int:
    """Count the requests for which a peer was asked in the last minute; one that names none asks every peer."""
    asked = func.coalesce(Request.found_peer_id, Request.source_peer_id, peer_id)
    wanted = select(func.count()).where(Request.taken_at > now - RATE_WINDOW, asked == peer_id)
    return session.scalar(wanted) or 0


def renew(session: Session, owner: str, request_ids: Collection[str], until: datetime) -> set[str]:
    """Lengthen claims; return those that are no longer the owner's, or were cancelled."""
    held = select(Request.id).where(
        Request.id.in_(request_ids), Request.claimed_by == owner, Request.state.in_(WORKED_STATES)
    )
    still = set(session.scalars(held))
    session.execute(update(Request).where(Request.id.in_(still)).values(claimed_until=until))
    return set(request_ids) - still


def settle(session: Session, request_id: str, owner: str, now: datetime, **values: Any) -> bool:
    """Change a request that one holds and give it back; False when it is no longer one's own, and nothing changed."""
    row = get_request(session, request_id, for_change=True)
    if row.claimed_by != owner or row.state not in WORKED_STATES:
        return False
    change(session, row, now, claimed_by="", claimed_until=None, **values)
    return True


def set_received(session: Session, request_id: str, owner: str, count: int) -> None:
    """Note how many images have come so far, without a change of state."""
    session.execute(
        update(Request).where(Request.id == request_id, Request.claimed_by == owner).values(received_count=count)
    )
