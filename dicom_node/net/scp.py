"""The DICOM receiver: C-ECHO and C-STORE on one listening socket (PS3.4 annexes A and B).

What happens to a received object is the business of the function it is given; this module knows associations
and statuses only. It never decodes a dataset.
"""

import socket
from collections.abc import Callable

from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.logs import log
from dicom_node.net.contexts import receiver_contexts
from dicom_node.net.statuses import SUCCESS, status_of
from dicom_node.storage.files import new_id
from dicom_node.storage.intake import Arrival

LOG = log(__name__)


Keep = Callable[[Arrival], object]
"""Makes an object durable, or raises an error of the node's tree."""


class Receiver:
    """A running storage SCP.

    Parameters
    ----------
    ae_title
        Called AE title; an association to another title is rejected.
    address
        Host and port to listen on; port 0 picks a free one.
    keep
        Called in the association's thread for every object; success is answered when it returns.
    max_associations
        Associations served at the same time; more are rejected as a temporary congestion.
    senders
        AE titles that may call, asked anew for every association; None accepts any.
    """

    def __init__(
        self,
        ae_title: str,
        address: tuple[str, int],
        keep: Keep,
        *,
        max_associations: int = 25,
        senders: Callable[[], list[str]] | None = None,
    ) -> None:
        self._keep = keep
        self._senders = senders
        self._ae = AE(ae_title=ae_title)
        self._ae.supported_contexts = receiver_contexts()
        self._ae.maximum_associations = max_associations
        self._ae.maximum_pdu_size = 0
        self._ae.require_called_aet = True
        self._server: ThreadedAssociationServer = self._ae.start_server(
            address,
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._opened),
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_REJECTED, self._rejected),
                (evt.EVT_C_ECHO, self._echo),
                (evt.EVT_C_STORE, self._store),
            ],
        )

    @property
    def port(self) -> int:
        """The port the receiver listens on."""
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening and end the running associations."""
        self._server.shutdown()

    def _opened(self, event: evt.Event) -> None:
        """Send small answers at once: with Nagle's algorithm on, a sender waits 40 ms for each."""
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _requested(self, event: evt.Event) -> None:
        """Ask anew who may call; pynetdicom rejects everybody else with result 1, source 1, reason 3 (PS3.8 9.3.4).

        An empty list would mean "anybody" to pynetdicom, so a title nobody can know stands for "nobody".
        """
        del event
        if self._senders is None:
            return
        try:
            known = [title.strip() for title in self._senders() if title.strip()]
        except Exception as error:  # noqa: BLE001 - fail closed: pynetdicom would go on and accept
            LOG.error("senders_unknown", error=type(error).__name__)
            known = []
        self._ae.require_calling_aet = known or [new_id()[:16]]

    def _rejected(self, event: evt.Event) -> None:
        LOG.warning(
            "association_rejected",
            calling_aet=str(event.assoc.requestor.ae_title).strip(),
            called_aet=str(event.assoc.requestor.primitive.called_ae_title).strip(),
        )

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
        try:
            self._keep(arrival)
        except Exception as error:  # noqa: BLE001 - the boundary: every error becomes a status
            status = status_of(error)
            LOG.error(
                "instance_refused",
                error=type(error).__name__,
                status=f"0x{status:04X}",
                calling_aet=arrival.calling_aet,
            )
            return status
        return SUCCESS
