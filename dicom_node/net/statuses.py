"""DIMSE statuses the node answers with, and which error becomes which (PS3.4 B.2.3, PS3.7 annex C)."""

from sqlalchemy.exc import OperationalError

from dicom_node.errors import DiskFull, IntakeError, Unavailable

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
CLASS_NOT_SUPPORTED = 0x0122
INVALID_INSTANCE = 0x0117
UNRECOGNISED_OPERATION = 0x0211
INVALID_ARGUMENT = 0x0115
"""An N-ACTION without the argument it needs (PS3.7 C.5.3)."""

TEXT = {
    SUCCESS: "Success",
    0x0110: "Processing failure",
    0x0111: "Duplicate SOP Instance",
    INVALID_ARGUMENT: "Invalid argument value",
    INVALID_INSTANCE: "Invalid object instance",
    CLASS_NOT_SUPPORTED: "SOP class not supported",
    0x0124: "Not authorized",
    UNRECOGNISED_OPERATION: "Unrecognised operation",
    OUT_OF_RESOURCES: "Refused: out of resources",
    0xA900: "Error: data set does not match SOP class",
    0xB000: "Warning: coercion of data elements",
    0xB006: "Warning: elements discarded",
    0xB007: "Warning: data set does not match SOP class",
    CANNOT_UNDERSTAND: "Error: cannot understand",
}

ERROR_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (DiskFull, OUT_OF_RESOURCES),
    (Unavailable, OUT_OF_RESOURCES),
    (OperationalError, OUT_OF_RESOURCES),
    (IntakeError, CANNOT_UNDERSTAND),
)
"""First match wins; anything else is 0x0110."""


def status_of(error: Exception) -> int:
    """Translate an error of the node into the C-STORE status the sender gets."""
    return next((status for kind, status in ERROR_STATUS if isinstance(error, kind)), 0x0110)


def is_temporary(status: int) -> bool:
    """Tell whether the same object may be accepted later: the peer is out of resources (0xA7xx)."""
    return 0xA700 <= status <= 0xA7FF


def describe(status: int) -> str:
    """Return status and meaning, for people."""
    return f"0x{status:04X} {TEXT.get(status, 'status of the peer')}"
