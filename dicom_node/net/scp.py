"""The DICOM receiver: C-ECHO, C-STORE and Storage Commitment (PS3.4 annexes A, B and J).

What happens to a received object is the business of the functions it is given; this module knows associations
and statuses only. It never decodes a dataset.
"""

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock, Thread, current_thread

from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from dicom_node import clock
from dicom_node.errors import AssociationLost
from dicom_node.logs import log
from dicom_node.net.acceptor import (
    Conversation,
    Request,
    abort_pdu,
    acceptance,
    data_pdu,
    read_request,
    rejection_pdu,
    release_pdu,
)
from dicom_node.net.admission import NODE_LIMIT, UNDECIDED, WRONG_CALLED_TITLE, Caller, Rejection
from dicom_node.net.commitment import TakeReport
from dicom_node.net.contexts import ACCEPTED, answer_contexts
from dicom_node.net.dimse import C_STORE, Message, response_to
from dicom_node.net.ledger import AssociationRecord, Tally
from dicom_node.net.listeners import Doors, Listener, WaitingRoom, cut
from dicom_node.net.provider import Keep, Order, Provider, Said, Spool
from dicom_node.net.seats import Seat, Seats
from dicom_node.net.seldom import Seldom
from dicom_node.net.statuses import SUCCESS
from dicom_node.net.wire import Wire
from dicom_node.storage.files import new_id

__all__ = ["Limits", "Listener", "Receiver"]

LOG = log(__name__)

Admit = Callable[[Caller, int], Rejection | None]
"""Decides on a caller, given how many associations it has open; asked anew for every request."""

Record = Callable[[AssociationRecord], object]

GONE = frozenset({"aborted_by_peer", "connection_broken", "connection_closed"})
"""Ends of an association after which nobody listens any more."""
QUIET = frozenset({"connection_closed", "connection_broken", "silent_or_too_slow"})
"""What a health check does before it has asked for anything."""
CLOSING_S = 10.0
"""[m assumption] How long ``close`` waits for the threads of connections it has cut."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What peers and strangers may use up.

    Attributes
    ----------
    associations
        Served at the same time; more are rejected as a temporary congestion.
    connections
        That have not asked for an association yet; one more closes the one that has waited longest.
    request_s
        Time a connection has to ask for an association (the ARTIM timer of PS3.8 9.1.5).
    idle_s
        An association without a byte for so long is aborted.
    slowest_bytes_per_s
        A message that comes more slowly uses the idle time up.
    message_bytes
        A message longer than this is taken for one that never ends: the association is aborted.
    """

    associations: int = 25
    connections: int = 100
    request_s: float = 15.0
    idle_s: float = 60.0
    slowest_bytes_per_s: float = 1000.0
    message_bytes: int = 8_000_000_000


class Receiver:
    """A running storage SCP.

    Parameters
    ----------
    ae_title
        Called AE title; an association to another title is rejected.
    listeners
        The sockets to listen on.
    keep
        Called in the association's thread for every object; success is answered when it returns.
    spool
        Where the dataset of an object goes while it comes; None: into memory.
    admit
        Who may call; None accepts any.
    order
        Takes requests for storage commitment; None: the service is not offered.
    reports
        Takes reports on what the node asked a peer to commit itself to; None: they are refused.
    record
        Called with every association that ended and did something.
    refused
        SOP classes that are refused with 0x0122; ``private`` stands for all private ones.
    limits
        What callers may use up.
    seats
        Counts associations, of all processes that share it; None: of this receiver alone.

    Raises
    ------
    OSError
        When it cannot listen.
    """

    def __init__(
        self,
        ae_title: str,
        listeners: Sequence[Listener],
        keep: Keep,
        *,
        spool: Spool | None = None,
        admit: Admit | None = None,
        order: Order | None = None,
        reports: TakeReport | None = None,
        record: Record | None = None,
        refused: Sequence[str] = (),
        limits: Limits = Limits(),
        seats: Seats | None = None,
    ) -> None:
        self._ae_title = ae_title.strip()
        self._provider = Provider(keep, spool, order, reports, tuple(refused))
        self._admit, self._record = admit, record
        self._limits = limits
        self._seats = seats or Seats(limits.associations)
        self._waiting = WaitingRoom(limits.connections)
        self._told = Seldom()
        self._lock = Lock()
        self._connections: dict[Thread, socket.socket] = {}
        self._is_closed = False
        self._doors = Doors(listeners, self._serve)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports the receiver listens on, in the order of the listeners."""
        return self._doors.ports

    @property
    def port(self) -> int:
        """The first of the ports."""
        return self.ports[0]

    def close(self) -> None:
        """Stop listening and end the running associations."""
        self._doors.close()
        with self._lock:
            self._is_closed = True
            running = dict(self._connections)
        for connection in running.values():
            cut(connection)
        for thread in running:
            thread.join(CLOSING_S)

    def _serve(self, connection: socket.socket, address: str, listener: Listener) -> None:
        """Serve one connection from its beginning to its end, in a thread of its own."""
        try:
            if listener.tls is not None:
                connection = listener.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._connections[current_thread()] = connection
                if self._is_closed:
                    return
            self._converse(connection, address)
        except OSError as error:  # the caller has gone, or no handshake could be agreed upon
            self._tell_of_stranger(address, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a thread must end with a line in the log, whatever happened
            LOG.error("connection_failed", address=address, error=type(error).__name__)
        finally:
            with self._lock:
                self._connections.pop(current_thread(), None)
            connection.close()

    def _converse(self, connection: socket.socket, address: str) -> None:
        wire = Wire(connection, self._limits.slowest_bytes_per_s)
        try:
            request = self._await_request(connection, wire)
        except AssociationLost as lost:
            self._tell_of_stranger(address, lost.reason)
            _abort(wire, lost)
            return
        tally = Tally(
            new_id(),
            request.calling_aet,
            request.called_aet,
            address,
            clock.now(),
            is_tls=isinstance(connection, ssl.SSLSocket),
        )
        rejection, seat = self._admission(request, address)
        if rejection is not None:
            self._end(tally, rejection.reason)
            wire.send(rejection_pdu(rejection))
            wire.hang_up()
            return
        assert seat is not None
        outcome = "aborted"
        try:
            outcome = self._associate(wire, request, tally)
        finally:
            self._seats.give_back(seat)
            self._end(tally, outcome)
        if outcome == "released":
            wire.hang_up()

    def _await_request(self, connection: socket.socket, wire: Wire) -> Request:
        """Give a stranger its time to shake hands and ask."""
        self._waiting.enter(connection)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits 40 ms [DCMTK FAQ]
            connection.settimeout(self._limits.request_s)
            shake_hands = getattr(connection, "do_handshake", None)
            if shake_hands is not None:
                shake_hands()
            wire.allow(self._limits.request_s, gains=False)
            return read_request(wire)
        finally:
            self._waiting.leave(connection)

    def _admission(self, request: Request, address: str) -> tuple[Rejection | None, Seat | None]:
        """Decide who may call, before anything is negotiated; who is let in has a seat."""
        if request.called_aet != self._ae_title:
            return WRONG_CALLED_TITLE, None
        seat = self._seats.take(request.calling_aet)
        if seat is None:
            return NODE_LIMIT, None
        rejection = self._decide(Caller(request.calling_aet, address, _only_reports(request)), seat.earlier)
        if rejection is not None:
            self._seats.give_back(seat)
        return rejection, seat

    def _decide(self, caller: Caller, active: int) -> Rejection | None:
        if self._admit is None:
            return None
        try:
            return self._admit(caller, active)
        except Exception as error:  # noqa: BLE001 - fail closed
            LOG.error("senders_unknown", error=type(error).__name__)
            return UNDECIDED

    def _associate(self, wire: Wire, request: Request, tally: Tally) -> str:
        """Accept, serve every message, and say how it ended."""
        answers = answer_contexts(request.contexts, with_commitment=self._provider.has_commitment)
        both = frozenset({str(StorageCommitmentPushModel)} if self._provider.reports is not None else ())
        syntaxes = {int(one.context_id): str(one.transfer_syntax[0]) for one in answers if one.result == ACCEPTED}
        wire.widen()
        conversation = Conversation(wire, frozenset(syntaxes), self._limits.idle_s, self._limits.message_bytes)

        def said(context_id: int) -> Said:
            return Said(request.calling_aet, syntaxes[context_id], tally.association_id)

        try:
            wire.send(acceptance(request, answers, both))
            while (
                message := conversation.next_message(
                    lambda context_id, command: self._provider.open_body(said(context_id), command)
                )
            ) is not None:
                self._answer(wire, said(message.context_id), message, tally)
            wire.send(release_pdu())
        except AssociationLost as lost:
            LOG.warning(
                "association_aborted", calling_aet=request.calling_aet, address=tally.address, reason=lost.reason
            )
            _abort(wire, lost)
            return "aborted"
        return "released"

    def _answer(self, wire: Wire, said: Said, message: Message, tally: Tally) -> None:
        """Do what a message asks, and answer it; a response or a C-CANCEL gets no answer."""
        if not message.command.is_request:
            return
        size_bytes = 0 if message.body is None else message.body.size_bytes
        status = self._provider.answer(said, message)
        if message.command.field == C_STORE:
            tally.count(size_bytes, is_accepted=status == SUCCESS, status=status)
        wire.send(data_pdu(message.context_id, response_to(message.command, status)))

    def _tell_of_stranger(self, address: str, reason: str) -> None:
        """Say that a connection never became an association, unless it did what a health check does."""
        if reason in QUIET:
            return
        others = self._told.since_last((address, reason))
        if others is not None:
            LOG.warning("stranger_turned_away", address=address, reason=reason, others_since=others)
            if reason.startswith("SSL"):
                self._end(Tally(new_id(), "", self._ae_title, address, clock.now(), is_tls=True), "tls_not_agreed")

    def _end(self, tally: Tally, outcome: str) -> None:
        """Put an association on record, if it was more than a sign of life."""
        record = tally.end(clock.now(), outcome)
        if record is None or not record.is_notable:
            return
        if outcome not in ("released", "aborted"):
            LOG.warning(
                "association_rejected",
                calling_aet=record.calling_aet,
                called_aet=record.called_aet,
                address=record.address,
                reason=outcome,
            )
        if self._record is not None:
            try:
                self._record(record)
            except Exception as error:  # noqa: BLE001 - the ledger must never end an association's thread
                LOG.error("ledger_not_written", error=type(error).__name__)


def _only_reports(request: Request) -> bool:
    return {str(one.abstract_syntax) for one in request.contexts} <= {StorageCommitmentPushModel, Verification}


def _abort(wire: Wire, lost: AssociationLost) -> None:
    """Tell a peer that did not keep the protocol; one that has gone needs no telling."""
    if lost.abort_reason is None and lost.reason in GONE:
        return
    try:
        wire.send(abort_pdu(lost.abort_reason or 0))
    except AssociationLost:
        return
    wire.hang_up()
