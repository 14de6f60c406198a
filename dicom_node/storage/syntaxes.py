"""Transfer syntaxes the node keeps, and how the dataset around the pixels is encoded in each (PS3.5 annex A).

Pixels are kept as they come; decoding them is the analysis's business.
"""

from collections.abc import Sequence

from pydicom.uid import UID, UID_dictionary

from dicom_node.uids import is_uid

ARC = "1.2.840.10008.1.2"
"""Arc of the standard's transfer syntaxes; its root is Implicit VR Little Endian itself."""
IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG = ARC, f"{ARC}.1", f"{ARC}.2"

DEFLATED = frozenset({f"{ARC}.1.99", f"{ARC}.4.95", f"{ARC}.4.205"})
"""Deflated Explicit VR Little Endian, and the two JPIP syntaxes whose whole dataset is deflated (PS3.5 A.5)."""
IMPLICIT = frozenset({IMPLICIT_LITTLE, "1.2.840.10008.1.20", "1.2.840.113619.5.2"})
"""Implicit VR Little Endian, Papyrus 3, and GE's private syntax with big-endian pixels [m]."""
NO_OBJECTS = (f"{ARC}.6.", f"{ARC}.7.")
"""MIME and XML encodings, and live video (SMPTE ST 2110): none of them is an object that can be stored."""
JPEG_XL = (f"{ARC}.4.110", f"{ARC}.4.111", f"{ARC}.4.112")
NEWER = {f"{ARC}.8.1": "Deflated Image Frame Compression"}
"""Syntaxes, with their names, that pydicom's dictionary lacks until another library adds them."""


def is_known(uid: str) -> bool:
    """Tell whether datasets in a transfer syntax can be kept and their header read.

    Whatever the standard adds to its arc is Explicit VR Little Endian around the pixels (PS3.5 A.4).
    """
    is_standard = uid == ARC or uid.startswith(f"{ARC}.")
    return uid in IMPLICIT or (is_standard and not uid.startswith(NO_OBJECTS))


KEPT_SYNTAXES = tuple(
    sorted(
        {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax" and is_known(uid)}
        | {*JPEG_XL, *NEWER}
    )
)
"""The syntaxes of PS3.6 annex A that are accepted; one that it gets later is accepted too, and private ones."""


def chosen_syntax(proposed: Sequence[str]) -> str | None:
    """Choose among the transfer syntaxes a peer proposes for one presentation context; None: none can be kept.

    The first one that is known, as the peer's order is its preference; but Explicit rather than Implicit VR, which
    says nothing about private elements. A private syntax is taken when there is no other.
    """
    known = [uid for uid in proposed if is_known(uid)]
    if known and known[0] == IMPLICIT_LITTLE and EXPLICIT_LITTLE in known:
        return EXPLICIT_LITTLE
    private = [uid for uid in proposed if is_uid(uid) and UID(uid).is_private]
    return next(iter(known + private), None)
