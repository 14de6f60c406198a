"""What the receiver does for a peer: C-ECHO, C-STORE, and both sides of storage commitment (PS3.4 A, B and J).

From message to status; how messages come and answers go is the business of ``scp`` and ``acceptor``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pydicom import Dataset

from dicom_node.logs import log
from dicom_node.net.admission import refusal_of
from dicom_node.net.bodies import Guarded, InMemory, Refused
from dicom_node.net.commitment import CommitmentOrder, TakeReport, order_from, report_from
from dicom_node.net.dimse import C_ECHO, C_STORE, N_ACTION, N_EVENT_REPORT, Body, Command, Message, dataset_from
from dicom_node.net.seldom import Seldom
from dicom_node.net.statuses import (
    CANNOT_UNDERSTAND,
    INVALID_ARGUMENT,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    status_of,
)
from dicom_node.storage.intake import Arrival
from dicom_node.storage.spool import Spooled

LOG = log(__name__)

Keep = Callable[[Arrival], object]
"""Makes an object durable, or raises an error of the node's tree."""

Spool = Callable[[Arrival], Spooled]
"""Begins the file of an announced object; raises when there is no room."""

Order = Callable[[CommitmentOrder], object]
"""Makes a request for storage commitment durable; the report follows on an association of its own."""


@dataclass(frozen=True, slots=True)
class Said:
    """By whom, in which transfer syntax and in which association something is said."""

    calling_aet: str
    transfer_syntax_uid: str
    association_id: str


@dataclass(frozen=True, slots=True)
class Provider:
    """The services of a receiver.

    Attributes
    ----------
    keep
        Called in the association's thread for every object; success is answered when it returns.
    spool
        Where the dataset of an object goes while it comes; None: into memory.
    order
        Takes requests for storage commitment; None: the service is not offered.
    reports
        Takes reports on what the node asked a peer to commit itself to; None: they are refused.
    refused
        SOP classes that are refused with 0x0122; ``private`` stands for all private ones.
    """

    keep: Keep
    spool: Spool | None = None
    order: Order | None = None
    reports: TakeReport | None = None
    refused: tuple[str, ...] = ()
    _told: Seldom = field(default_factory=Seldom, init=False, repr=False)

    @property
    def has_commitment(self) -> bool:
        """Whether storage commitment is negotiated."""
        return self.order is not None or self.reports is not None

    def open_body(self, said: Said, command: Command) -> Body:
        """Decide where the dataset of a message goes, before it comes; this never fails."""
        if command.field in (N_ACTION, N_EVENT_REPORT):
            return Guarded(InMemory())
        if command.field != C_STORE:
            return Refused(UNRECOGNISED_OPERATION)
        refusal = refusal_of(command.sop_class_uid, command.sop_instance_uid, self.refused)
        if refusal is not None:
            return Refused(refusal)
        if self.spool is None:
            return Guarded(InMemory(limit_bytes=None))
        try:
            return Guarded(self.spool(_announced(said, command)))
        except Exception as error:  # noqa: BLE001 - the boundary
            return Refused(self._status(error, "instance_refused", said))

    def answer(self, said: Said, message: Message) -> int:
        """Do what a message asks and return the status; this never fails.

        Returns
        -------
        int
            C-ECHO: 0x0000. C-STORE, N-ACTION and N-EVENT-REPORT: as their functions say. Else 0x0211.
        """
        services: dict[int, Callable[[Said, Message], int]] = {
            C_ECHO: lambda _said, _message: SUCCESS,
            C_STORE: self._store,
            N_ACTION: self._action,
            N_EVENT_REPORT: self._event_report,
        }
        service = services.get(message.command.field)
        try:
            return UNRECOGNISED_OPERATION if service is None else service(said, message)
        finally:
            if message.body is not None:
                message.body.discard()

    def _store(self, said: Said, message: Message) -> int:
        """Keep one object.

        Returns
        -------
        int
            0x0000 when it is durable; 0xA700 out of resources; 0xC000 not a usable instance; what the rule says where
            it is refused by one; 0x0110 otherwise.
        """
        if isinstance(message.body, Refused):
            return message.body.status
        if not isinstance(message.body, Guarded):
            return CANNOT_UNDERSTAND
        body = message.body
        return self._attempt(lambda: self.keep(_arrived(said, message.command, body)), "instance_refused", said)

    def _action(self, said: Said, message: Message) -> int:
        """Take a request for storage commitment (PS3.4 J.3.2).

        Returns
        -------
        int
            0x0000 when the request is durable; 0x0115 when it names no transaction or no instance; 0xA700 (out of
            resources) or 0x0110 otherwise.
        """
        order = order_from(message.command.type_id, _dataset_of(said, message), said.calling_aet)
        if order is None or self.order is None:
            return INVALID_ARGUMENT
        keep_order = self.order
        return self._attempt(lambda: keep_order(order), "commitment_refused", said)

    def _event_report(self, said: Said, message: Message) -> int:
        """Take a peer's report on what it was asked to commit itself to (PS3.4 J.3.3).

        Returns
        -------
        int
            What the taker says; 0x0115 when the report names no transaction; 0xA700 or 0x0110 when it fails.
        """
        report = report_from(_dataset_of(said, message), said.calling_aet)
        if report is None or self.reports is None:
            return INVALID_ARGUMENT
        try:
            return self.reports(report)
        except Exception as error:  # noqa: BLE001 - the boundary
            return self._status(error, "commitment_report_refused", said)

    def _attempt(self, action: Callable[[], object], refused: str, said: Said) -> int:
        """Do what was asked; every error becomes a status."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the boundary
            return self._status(error, refused, said)
        return SUCCESS

    def _status(self, error: Exception, event: str, said: Said) -> int:
        """Turn an error into its status; a thousand images refused alike are one line in the log."""
        status, kind = status_of(error), type(error).__name__
        others = self._told.since_last((event, kind, said.calling_aet))
        if others is not None:
            LOG.error(event, error=kind, status=f"0x{status:04X}", calling_aet=said.calling_aet, others_since=others)
        return status


def _announced(said: Said, command: Command) -> Arrival:
    return Arrival(
        dataset=b"",
        sop_class_uid=command.sop_class_uid,
        sop_instance_uid=command.sop_instance_uid,
        transfer_syntax_uid=said.transfer_syntax_uid,
        calling_aet=said.calling_aet,
        association_id=said.association_id,
    )


def _arrived(said: Said, command: Command, body: Guarded) -> Arrival:
    body.check()
    arrival = _announced(said, command)
    if isinstance(body.inner, Spooled):
        return replace(arrival, spooled=body.inner)
    assert isinstance(body.inner, InMemory)
    return replace(arrival, dataset=body.inner.content)


def _dataset_of(said: Said, message: Message) -> Dataset:
    """Return the dataset of a message; an empty one where there is none that can be read."""
    body = message.body
    if not isinstance(body, Guarded) or body.error is not None or not isinstance(body.inner, InMemory):
        return Dataset()
    return dataset_from(body.inner.content, said.transfer_syntax_uid)
