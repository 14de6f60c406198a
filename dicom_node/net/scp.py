"""The DICOM receiver: C-ECHO, C-STORE and Storage Commitment (PS3.4 annexes A, B and J).

What happens to a received object is the business of the functions it is given; this module knows associations
and statuses only. It never decodes a dataset.
"""

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node import clock
from dicom_node.logs import log
from dicom_node.net.admission import UNDECIDED, Caller, Rejection
from dicom_node.net.commitment import CommitmentOrder, order_from
from dicom_node.net.contexts import receiver_contexts
from dicom_node.net.ledger import AssociationRecord, Tally
from dicom_node.net.statuses import INVALID_ARGUMENT, SUCCESS, status_of
from dicom_node.storage.intake import Arrival

LOG = log(__name__)

Keep = Callable[[Arrival], object]
"""Makes an object durable, or raises an error of the node's tree."""

Admit = Callable[[Caller, int], Rejection | None]
"""Decides on a caller, given how many associations it has open; asked anew for every request."""

Order = Callable[[CommitmentOrder], object]
"""Makes a request for storage commitment durable; the report follows on an association of its own."""

Record = Callable[[AssociationRecord], object]


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket: host, port (0 picks a free one), and TLS where it is set."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


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
    admit
        Who may call; None accepts any.
    order
        Takes requests for storage commitment; None: the service is not offered.
    record
        Called with every association that ended and did something.
    max_associations
        Associations served at the same time; more are rejected as a temporary congestion.
    idle_timeout_s
        An association without a message for so long is aborted.
    """

    def __init__(
        self,
        ae_title: str,
        listeners: Sequence[Listener],
        keep: Keep,
        *,
        admit: Admit | None = None,
        order: Order | None = None,
        record: Record | None = None,
        max_associations: int = 25,
        idle_timeout_s: float = 60.0,
    ) -> None:
        self._keep = keep
        self._admit = admit
        self._order = order
        self._record = record
        self._tallies: dict[Association, Tally] = {}
        self._admitting = Lock()
        self._ae = AE(ae_title=ae_title)
        self._ae.supported_contexts = receiver_contexts(with_commitment=order is not None)
        self._ae.maximum_associations = max_associations
        self._ae.maximum_pdu_size = 0
        self._ae.network_timeout = idle_timeout_s
        self._ae.require_called_aet = True
        self._servers: list[ThreadedAssociationServer] = []
        try:
            for listener in listeners:
                self._servers.append(self._listen(listener))
        except OSError:
            self.close()
            raise

    def _listen(self, listener: Listener) -> ThreadedAssociationServer:
        return self._ae.start_server(
            (listener.host, listener.port),
            block=False,
            ssl_context=listener.tls,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._opened),
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_REJECTED, self._rejected),
                (evt.EVT_RELEASED, self._ended, ["released"]),
                (evt.EVT_ABORTED, self._ended, ["aborted"]),
                (evt.EVT_C_ECHO, self._echo),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_N_ACTION, self._action),
            ],
        )

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports the receiver listens on, in the order of the listeners."""
        return tuple(int(server.socket.getsockname()[1]) for server in self._servers)

    @property
    def port(self) -> int:
        """The first of the ports."""
        return self.ports[0]

    def close(self) -> None:
        """Stop listening and end the running associations."""
        for server in self._servers:
            server.shutdown()

    def _opened(self, event: evt.Event) -> None:
        """Send small answers at once: with Nagle's algorithm on, a sender waits 40 ms for each."""
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _requested(self, event: evt.Event) -> None:
        """Decide who may call, before anything is negotiated."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        caller = Caller(str(request.calling_ae_title).strip(), str(assoc.requestor.address))
        tally = Tally(caller.calling_aet, str(request.called_ae_title).strip(), caller.address, clock.now())
        with self._admitting:
            self._tallies[assoc] = tally
            rejection = self._decide(caller, assoc)
        if rejection is not None:
            assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            self._end(assoc, rejection.reason)
            assoc.kill()

    def _decide(self, caller: Caller, asking: Association) -> Rejection | None:
        if self._admit is None:
            return None
        try:
            others = [tally for other, tally in list(self._tallies.items()) if other is not asking]
            return self._admit(caller, sum(tally.calling_aet == caller.calling_aet for tally in others))
        except Exception as error:  # noqa: BLE001 - fail closed: pynetdicom would go on and accept
            LOG.error("senders_unknown", error=type(error).__name__)
            return UNDECIDED

    def _rejected(self, event: evt.Event) -> None:
        """End what pynetdicom rejects by itself: a wrong called AE title, too many associations."""
        wrong_title = self._tallies.get(event.assoc)
        is_wrong = wrong_title is not None and wrong_title.called_aet != self._ae.ae_title.strip()
        self._end(event.assoc, "called_ae_title_unknown" if is_wrong else "node_limit_reached")

    def _ended(self, event: evt.Event, outcome: str) -> None:
        self._end(event.assoc, outcome)

    def _end(self, assoc: Association, outcome: str) -> None:
        tally = self._tallies.pop(assoc, None)
        record = tally.end(clock.now(), outcome) if tally is not None else None
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

    def _echo(self, event: evt.Event) -> int:
        """Answer 0x0000."""
        del event
        return SUCCESS

    def _store(self, event: evt.Event) -> int:
        """Keep one object.

        Returns
        -------
        int
            0x0000 when it is durable; 0xA700 out of resources; 0xC000 not a usable instance; 0x0110 otherwise.
        """
        request = event.request
        arrival = Arrival(
            dataset=request.DataSet.getvalue(),
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_aet=str(event.assoc.requestor.ae_title).strip(),
        )
        status = self._answer(lambda: self._keep(arrival), "instance_refused", arrival.calling_aet)
        tally = self._tallies.get(event.assoc)
        if tally is not None:
            tally.count(len(arrival.dataset), is_accepted=status == SUCCESS)
        return status

    def _action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Take a request for storage commitment (PS3.4 J.3.2).

        Returns
        -------
        int
            0x0000 when the request is durable; 0x0115 when it names no transaction or no instance; 0xA700 (out of
            resources) or 0x0110 otherwise.
        """
        calling_aet = str(event.assoc.requestor.ae_title).strip()
        order = order_from(event, calling_aet)
        if order is None or self._order is None:
            return INVALID_ARGUMENT, None
        keep_order = self._order
        return self._answer(lambda: keep_order(order), "commitment_refused", calling_aet), None

    def _answer(self, action: Callable[[], object], refused: str, calling_aet: str) -> int:
        """Do what was asked; every error becomes a status."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the boundary
            status = status_of(error)
            LOG.error(refused, error=type(error).__name__, status=f"0x{status:04X}", calling_aet=calling_aet)
            return status
        return SUCCESS
