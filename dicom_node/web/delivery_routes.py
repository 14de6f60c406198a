"""REST routes of deliveries: where results are, object by object, and what people ask of them."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from dicom_node import clock
from dicom_node.db.delivery_orders import (
    Item,
    count_by_state,
    count_receipts,
    find_delivery,
    give_up,
    items_of,
    list_deliveries,
    retry,
    retry_all,
    send_again,
    undo,
)
from dicom_node.db.models import DELIVERY_STATES, Delivery, Peer
from dicom_node.db.session import Databases, transaction
from dicom_node.net.outcomes import commitment_in_words, in_words

State = Literal["", "PENDING", "SENT", "COMMITTED", "CONFIRMED", "FAILED"]
KIND_WORDS = {
    "sr": "report (SR)",
    "sr_comprehensive": "report (Comprehensive SR)",
    "sr_enhanced": "report (Enhanced SR)",
    "sr_text": "report (Basic Text SR)",
    "seg": "segmentation",
    "page": "page (SC)",
    "pdf": "report (PDF)",
    "kos": "rejection note",
}


class DeliveryRow(BaseModel):
    """One delivery; ``next_try_at`` is None when nothing is left to do."""

    id: int
    job_id: str
    peer: str
    kind: str
    state: str
    attempt: int
    attempts: int
    accepted: int
    sentence: str
    updated_at: datetime
    next_try_at: datetime | None
    can_undo: bool


class DeliveryPage(BaseModel):
    """Deliveries, and how many there are in each state."""

    counts: dict[str, int]
    deliveries: list[DeliveryRow]


class DeliveryItem(BaseModel):
    """One object on its way: what the peer answered, promised, and lists."""

    sop_instance_uid: str
    sop_class_uid: str
    kind: str
    status: str
    is_warning: bool
    accepted_at: datetime | None
    sendings: int
    committed_at: datetime | None
    commitment_failure: str
    found_at: datetime | None
    sentence: str


class DeliveryDetail(DeliveryRow):
    """One delivery with its objects."""

    items: list[DeliveryItem]


class PeerName(BaseModel):
    """Which peer."""

    model_config = ConfigDict(extra="forbid")

    peer: str


class Count(BaseModel):
    """How many deliveries an order concerned."""

    count: int


def delivery_routes(databases: Databases) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/api/deliveries")

    @router.get("")
    def deliveries(state: State = "", peer: str = "") -> DeliveryPage:
        """List the deliveries that changed last, and count all by state."""
        with transaction(databases.hospital) as session:
            rows = list_deliveries(session, state, peer)
            accepted = count_receipts(session, [row.id for row, _ in rows])
            counts = count_by_state(session)
            return DeliveryPage(
                counts={name: counts[name] for name in DELIVERY_STATES},
                deliveries=[_row(row, to, accepted[row.id]) for row, to in rows],
            )

    @router.get("/{delivery_id}")
    def delivery(delivery_id: int) -> DeliveryDetail:
        """Return one delivery with its objects."""
        with transaction(databases.hospital) as session:
            return _detail(session, find_delivery(session, delivery_id))

    @router.post("/retry")
    def retry_peer(to: PeerName) -> Count:
        """Try every delivery to a peer that failed or waits now; not what a person gave up."""
        with transaction(databases.hospital) as session:
            return Count(count=retry_all(session, to.peer, clock.now()))

    @router.post("/{delivery_id}/retry", status_code=202)
    def try_now(delivery_id: int) -> DeliveryDetail:
        """Try a delivery that waits or failed now."""
        with transaction(databases.hospital) as session:
            return _detail(session, retry(session, delivery_id, clock.now()))

    @router.post("/{delivery_id}/give-up")
    def end(delivery_id: int) -> DeliveryDetail:
        """Give a delivery up."""
        with transaction(databases.hospital) as session:
            return _detail(session, give_up(session, delivery_id, clock.now()))

    @router.post("/{delivery_id}/undo", status_code=202)
    def take_back(delivery_id: int) -> DeliveryDetail:
        """Take back that a delivery was given up."""
        with transaction(databases.hospital) as session:
            return _detail(session, undo(session, delivery_id, clock.now()))

    @router.post("/{delivery_id}/send", status_code=202)
    def send(delivery_id: int, to: PeerName) -> DeliveryDetail:
        """Send everything once more, to the same peer or to another; the delivery to that peer is returned."""
        with transaction(databases.hospital) as session:
            return _detail(session, send_again(session, delivery_id, to.peer, clock.now()))

    return router


def _row(delivery: Delivery, peer: Peer, accepted: int) -> DeliveryRow:
    return DeliveryRow(
        id=delivery.id,
        job_id=delivery.job_id,
        peer=peer.name,
        kind=peer.kind,
        state=delivery.state,
        attempt=delivery.attempt,
        attempts=delivery.attempts,
        accepted=accepted,
        sentence=delivery.sentence,
        updated_at=delivery.updated_at,
        next_try_at=delivery.next_try_at,
        can_undo=bool(delivery.given_up_from),
    )


def _detail(session: Session, delivery: Delivery) -> DeliveryDetail:
    peer = session.get_one(Peer, delivery.peer_id)
    row = _row(delivery, peer, count_receipts(session, [delivery.id])[delivery.id])
    return DeliveryDetail(**row.model_dump(), items=[described(one) for one in items_of(session, delivery)])


def described(item: Item) -> DeliveryItem:
    """Put what a peer said of an object in words."""
    result, receipt, refusal = item.result, item.receipt, item.refusal
    status, sentence = _status(item)
    failure = receipt.commitment_status if receipt else None
    return DeliveryItem(
        sop_instance_uid=result.sop_instance_uid,
        sop_class_uid=result.sop_class_uid,
        kind=KIND_WORDS.get(result.kind, result.kind),
        status=status,
        is_warning=refusal is not None or bool(receipt and receipt.status),
        accepted_at=receipt.received_at if receipt else None,
        sendings=receipt.sendings if receipt else 0,
        committed_at=receipt.committed_at if receipt else None,
        commitment_failure="" if failure is None else commitment_in_words(failure),
        found_at=receipt.found_at if receipt else None,
        sentence=sentence,
    )


def _status(item: Item) -> tuple[str, str]:
    """Return an object's status in hexadecimal and words, and a sentence where more is to be said."""
    if item.refusal is not None:
        code = item.refusal.status
        return "not offered" if code is None else in_words(code), item.refusal.sentence
    if item.receipt is None:
        return "not sent yet", ""
    return in_words(item.receipt.status), "It is sent again." if item.receipt.is_lost else ""
