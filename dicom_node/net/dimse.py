"""DIMSE messages as a receiver meets them (PS3.7 6.3, 9.3, 10.3): command sets in, command sets out.

A command set is a dozen elements in Implicit VR Little Endian; they are read and written here directly, so that a
message costs microseconds and hostile bytes meet nothing but length checks.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.errors import AssociationLost

C_STORE, C_ECHO, C_CANCEL = 0x0001, 0x0030, 0x0FFF
N_EVENT_REPORT, N_ACTION = 0x0100, 0x0130
"""Command fields of requests (PS3.7 E.1)."""
RESPONSE = 0x8000
"""Bit of a response's command field."""
NO_DATASET = 0x0101

INVALID_PARAMETER = 6
"""Reason of an A-ABORT (PS3.8 9.3.8)."""

_ELEMENT = struct.Struct("<HHL")
_SOP_CLASS, _SOP_CLASS_REQUESTED, _FIELD, _MESSAGE_ID = 0x0002, 0x0003, 0x0100, 0x0110
_RESPONDED, _DATASET_TYPE, _STATUS = 0x0120, 0x0800, 0x0900
_SOP_INSTANCE, _SOP_INSTANCE_REQUESTED, _EVENT_TYPE, _ACTION_TYPE = 0x1000, 0x1001, 0x1002, 0x1008


@dataclass(frozen=True, slots=True)
class Command:
    """The command set of a request.

    Attributes
    ----------
    field
        Command field.
    message_id
        Repeated in the response.
    sop_class_uid, sop_instance_uid
        Affected or requested ones; empty where the command has none.
    has_dataset
        Whether a dataset follows.
    type_id
        Event type or action type; None where the command has none.
    """

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_dataset: bool
    type_id: int | None = None

    @property
    def is_request(self) -> bool:
        """Whether an answer is due: neither a response nor a C-CANCEL."""
        return not self.field & RESPONSE and self.field != C_CANCEL


class Body(Protocol):
    """Takes the dataset of a message as it comes."""

    @property
    def size_bytes(self) -> int:
        """Bytes that have come."""

    def write(self, piece: memoryview) -> object:
        """Take a piece; it is valid during the call only."""

    def discard(self) -> None:
        """Forget it: the message will never be complete, or has been answered."""


@dataclass(frozen=True, slots=True)
class Message:
    """A complete message: the presentation context it came in, its command, and its dataset where it has one."""

    context_id: int
    command: Command
    body: Body | None


def command_from(encoded: bytes) -> Command:
    """Read a command set.

    Raises
    ------
    AssociationLost
        When it is none.
    """
    try:
        elements = _elements(encoded)
        kind = _number(elements, _DATASET_TYPE)
        return Command(
            field=_number(elements, _FIELD) or 0,
            message_id=_number(elements, _MESSAGE_ID) or 0,
            sop_class_uid=_text(elements, _SOP_CLASS, _SOP_CLASS_REQUESTED),
            sop_instance_uid=_text(elements, _SOP_INSTANCE, _SOP_INSTANCE_REQUESTED),
            has_dataset=kind is not None and kind != NO_DATASET,
            type_id=_number(elements, _EVENT_TYPE, _ACTION_TYPE),
        )
    except (struct.error, ValueError):
        raise AssociationLost("command_set_unreadable", INVALID_PARAMETER) from None


def _elements(encoded: bytes) -> dict[int, bytes]:
    """Return the values of group 0000 by element number."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(encoded):
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group != 0 or offset + length > len(encoded):
            raise ValueError("not a command set")
        found[element] = encoded[offset : offset + length]
        offset += length
    if _FIELD not in found:
        raise ValueError("a command set names its command")
    return found


def _number(elements: dict[int, bytes], *candidates: int) -> int | None:
    value = next((elements[one] for one in candidates if one in elements), None)
    return None if value is None else int(struct.unpack("<H", value)[0])


def _text(elements: dict[int, bytes], *candidates: int) -> str:
    value = next((elements[one] for one in candidates if one in elements), b"")
    return value.decode("ascii").strip(" \0")


def response_to(command: Command, status: int) -> bytes:
    """Encode the command set that answers a request (PS3.7 9.3 and 10.3); it carries no dataset."""
    type_element = _ACTION_TYPE if command.field == N_ACTION else _EVENT_TYPE
    elements = [
        _uid(_SOP_CLASS, command.sop_class_uid),
        _short(_FIELD, command.field | RESPONSE),
        _short(_RESPONDED, command.message_id),
        _short(_DATASET_TYPE, NO_DATASET),
        _short(_STATUS, status),
        _uid(_SOP_INSTANCE, command.sop_instance_uid),
        b"" if command.type_id is None else _short(type_element, command.type_id),
    ]
    content = b"".join(elements)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(content)) + content


def _short(element: int, value: int) -> bytes:
    return _ELEMENT.pack(0, element, 2) + struct.pack("<H", value)


def _uid(element: int, value: str) -> bytes:
    if not value:
        return b""
    encoded = value.encode("ascii")
    encoded += b"\0" * (len(encoded) % 2)
    return _ELEMENT.pack(0, element, len(encoded)) + encoded


def dataset_from(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    """Read the dataset of a request for storage commitment; an empty one where it cannot be read."""
    try:
        return read_dataset(
            BytesIO(encoded), is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian, is_little_endian=True
        )
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        return Dataset()
