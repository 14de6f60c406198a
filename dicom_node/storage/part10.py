"""The head of a DICOM file: preamble and file meta information (PS3.10 7.1)."""

import struct

from dicom_node import __version__

IMPLEMENTATION_UID = "2.25.195207642503645904635853781910262995624"
"""Implementation Class UID of this product (PS3.7 D.3.3.2): a UUID of its own."""
VERSION_NAME = f"OSTEONODE_{__version__}"[:16]
"""Implementation Version Name (PS3.7 D.3.3.2), of at most 16 characters."""

_PREAMBLE = bytes(128) + b"DICM"
_VERSION = struct.pack("<HH2sxxL2s", 0x0002, 0x0001, b"OB", 2, b"\x00\x01")


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return the bytes that turn an encoded dataset into a DICOM file when put before it."""
    elements = b"".join(
        (
            _VERSION,
            _uid(0x0002, sop_class_uid),
            _uid(0x0003, sop_instance_uid),
            _uid(0x0010, transfer_syntax_uid),
            _uid(0x0012, IMPLEMENTATION_UID),
        )
    )
    return _PREAMBLE + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _uid(element: int, value: str) -> bytes:
    encoded = value.encode("ascii")
    encoded += b"\0" * (len(encoded) % 2)
    return struct.pack("<HH2sH", 0x0002, element, b"UI", len(encoded)) + encoded
