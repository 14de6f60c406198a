"""The accepting side of the upper layer (PS3.8 9.2): one association from its request to its end, in one thread.

pynetdicom encodes and decodes the PDUs of the negotiation. What comes after is read here, straight from the socket:
its own acceptor holds every message in memory several times over, believes any length a peer announces, and polls
with two threads for each connection, so that a hundred silent callers would take the node's processor
(docs/adr/0005-own-acceptor.md has the measurements).
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from dicom_node.errors import AssociationLost
from dicom_node.net.admission import Rejection
from dicom_node.net.contexts import ACCEPTED
from dicom_node.net.dimse import INVALID_PARAMETER, Body, Command, Message, command_from
from dicom_node.net.wire import Wire
from dicom_node.storage.part10 import IMPLEMENTATION_UID, VERSION_NAME

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
"""Types of PDU (PS3.8 9.3.1)."""
UNRECOGNISED_PDU, UNEXPECTED_PDU = 1, 2
"""Reasons of an A-ABORT (PS3.8 9.3.8)."""
SERVICE_PROVIDER = 2

REQUEST_BYTES = 1 << 20
"""[m assumption] 128 contexts of 50 transfer syntaxes each are 450 kB; a longer request is none."""
COMMAND_BYTES = 1 << 14
"""[m assumption] The longest command set has a dozen elements of at most 64 bytes."""
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


@dataclass(frozen=True, slots=True)
class Request:
    """A request for an association.

    Attributes
    ----------
    calling_aet, called_aet
        Who calls whom.
    contexts
        Presentation contexts proposed.
    roles
        SOP class to the roles (SCU, SCP) the peer proposes for itself.
    """

    calling_aet: str
    called_aet: str
    contexts: tuple[PresentationContext, ...]
    roles: Mapping[str, tuple[bool, bool]]


def read_request(wire: Wire) -> Request:
    """Read an A-ASSOCIATE-RQ.

    Raises
    ------
    AssociationLost
        When something else comes, or the peer's time is up.
    """
    kind, length = wire.read_head()
    if kind != ASSOCIATE_RQ:
        raise AssociationLost("no_association_requested", UNEXPECTED_PDU if kind in range(1, 8) else UNRECOGNISED_PDU)
    if length > REQUEST_BYTES:
        raise AssociationLost("association_request_too_long", INVALID_PARAMETER)
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(struct.pack(">BxL", kind, length) + wire.read(length))
        primitive = pdu.to_primitive()
        return Request(
            calling_aet=str(primitive.calling_ae_title or "").strip(),
            called_aet=str(primitive.called_ae_title or "").strip(),
            contexts=tuple(primitive.presentation_context_definition_list),
            roles=_roles(primitive),
        )
    except AssociationLost:
        raise
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        raise AssociationLost("association_request_unreadable", INVALID_PARAMETER) from None


def _roles(primitive: A_ASSOCIATE) -> dict[str, tuple[bool, bool]]:
    return {
        str(item.sop_class_uid): (bool(item.scu_role), bool(item.scp_role))
        for item in primitive.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    }


def acceptance(request: Request, answers: list[PresentationContext], both_roles: frozenset[str]) -> bytes:
    """Encode an A-ASSOCIATE-AC.

    Parameters
    ----------
    request
        What is answered.
    answers
        Presentation contexts with their results.
    both_roles
        SOP classes of which the peer may also be the provider (it reports what it committed); of others it is the
        user only.
    """
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title, primitive.called_ae_title = request.calling_aet, request.called_aet
    primitive.result, primitive.result_source = 0, 1
    primitive.presentation_context_definition_results_list = answers
    longest, implementation, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    longest.maximum_length_received = 0
    implementation.implementation_class_uid = UID(IMPLEMENTATION_UID)
    version.implementation_version_name = VERSION_NAME
    accepted = {str(one.abstract_syntax) for one in answers if one.result == ACCEPTED}
    roles = [_role(uid, scu, scp and uid in both_roles) for uid, (scu, scp) in request.roles.items() if uid in accepted]
    primitive.user_information = [longest, implementation, version, *roles]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def _role(uid: str, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    item = SCP_SCU_RoleSelectionNegotiation()
    item.sop_class_uid, item.scu_role, item.scp_role = UID(uid), scu, scp
    return item


def rejection_pdu(rejection: Rejection) -> bytes:
    """Encode an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return struct.pack(">BxLxBBB", ASSOCIATE_RJ, 4, rejection.result, rejection.source, rejection.diagnostic)


def abort_pdu(reason: int) -> bytes:
    """Encode an A-ABORT of the service provider (PS3.8 9.3.8)."""
    return struct.pack(">BxLxxBB", ABORT, 4, SERVICE_PROVIDER, reason)


def release_pdu() -> bytes:
    """Encode an A-RELEASE-RP (PS3.8 9.3.7)."""
    return struct.pack(">BxL4x", RELEASE_RP, 4)


def data_pdu(context_id: int, command_set: bytes) -> bytes:
    """Encode a command set without dataset as one P-DATA-TF (PS3.8 9.3.5, annex E)."""
    fragment = len(command_set) + 2
    return struct.pack(">BxLLBB", P_DATA, fragment + 4, fragment, context_id, 3) + command_set


@dataclass(frozen=True, slots=True)
class _Fragment:
    """The head of a presentation data value; its bytes are still on the wire."""

    context_id: int
    is_command: bool
    is_last: bool
    length: int


class Conversation:
    """What a peer says over an accepted association.

    Parameters
    ----------
    wire
        The connection.
    context_ids
        Presentation contexts that were accepted.
    idle_s
        Time without a byte, at most.
    message_bytes
        A message may be so long, at most; a longer one is taken for one that never ends.
    """

    def __init__(self, wire: Wire, context_ids: frozenset[int], idle_s: float, message_bytes: int) -> None:
        self._wire = wire
        self._context_ids = context_ids
        self._idle_s = idle_s
        self._message_bytes = message_bytes
        self._pdu_left = 0
        self._message_left = 0

    def next_message(self, open_body: Callable[[int, Command], Body]) -> Message | None:
        """Return the next message, or None when the peer asks for the association's release.

        Parameters
        ----------
        open_body
            Takes context and command of a message with a dataset, and returns where that goes.

        Raises
        ------
        AssociationLost
            When the connection breaks, the protocol is not kept, or the peer aborts.
        """
        self._wire.allow(self._idle_s)
        self._message_left = self._message_bytes
        first = self._fragment()
        if first is None:
            return None
        command = command_from(self._command_set(first))
        if not command.has_dataset:
            return Message(first.context_id, command, None)
        body = open_body(first.context_id, command)
        try:
            self._dataset(first.context_id, body)
        except BaseException:
            body.discard()
            raise
        return Message(first.context_id, command, body)

    def _command_set(self, first: _Fragment) -> bytes:
        content = b""
        fragment = first
        while True:
            if len(content) + fragment.length > COMMAND_BYTES:
                raise AssociationLost("command_set_too_long", INVALID_PARAMETER)
            content += self._wire.read(fragment.length)
            if fragment.is_last:
                return content
            fragment = self._following(first.context_id, is_command=True)

    def _dataset(self, context_id: int, body: Body) -> None:
        is_last = False
        while not is_last:
            fragment = self._following(context_id, is_command=False)
            for piece in self._wire.pieces(fragment.length):
                body.write(piece)
            is_last = fragment.is_last

    def _following(self, context_id: int, *, is_command: bool) -> _Fragment:
        """Return the next fragment of a message that has begun."""
        fragment = self._fragment(is_within=True)
        if fragment is None or fragment.is_command != is_command or fragment.context_id != context_id:
            raise AssociationLost("message_broken_off", UNEXPECTED_PDU)
        return fragment

    def _fragment(self, *, is_within: bool = False) -> _Fragment | None:
        """Read heads up to the next fragment; None: release requested."""
        while not self._pdu_left:
            kind, length = self._wire.read_head()
            if kind != P_DATA:
                self._expect_release(kind, length)
                return None
            self._pdu_left = length
            self._count(6)
        if self._pdu_left < 6:
            raise AssociationLost("fragment_too_short", INVALID_PARAMETER)
        length, context_id, flags = struct.unpack(">LBB", self._wire.read(6))
        if length < 2 or length + 4 > self._pdu_left:
            raise AssociationLost("fragment_longer_than_its_pdu", INVALID_PARAMETER)
        if context_id not in self._context_ids:
            raise AssociationLost("context_not_accepted", INVALID_PARAMETER)
        if not is_within and not flags & 1:
            raise AssociationLost("dataset_without_command", UNEXPECTED_PDU)
        self._pdu_left -= length + 4
        self._count(length + 4)
        return _Fragment(context_id, bool(flags & 1), bool(flags & 2), length - 2)

    def _expect_release(self, kind: int, length: int) -> None:
        """Read what is no data: it asks for the release, or the association is lost."""
        if kind == ABORT:
            raise AssociationLost("aborted_by_peer")
        if kind != RELEASE_RQ or length != 4:
            raise AssociationLost("pdu_out_of_place", UNEXPECTED_PDU if kind in range(1, 8) else UNRECOGNISED_PDU)
        self._wire.read(length)

    def _count(self, bytes_on_wire: int) -> None:
        self._message_left -= bytes_on_wire
        if self._message_left < 0:
            raise AssociationLost("message_too_long", INVALID_PARAMETER)
