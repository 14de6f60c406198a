"""The four UIDs that place an object, read from the first bytes of its encoded dataset."""

import zlib
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicom_node.errors import IntakeError
from dicom_node.storage.syntaxes import DEFLATED, EXPLICIT_BIG, IMPLICIT, is_known
from dicom_node.uids import is_uid

HEADER_TAGS = {
    "sop_class_uid": 0x00080016,
    "sop_instance_uid": 0x00080018,
    "study_instance_uid": 0x0020000D,
    "series_instance_uid": 0x0020000E,
}
"""In ascending order."""
LAST_TAG = 0x0020000E
HEAD_BYTES = 1 << 20
"""The UIDs stand within this much of a dataset; no more is inflated or parsed, whatever a sender sends."""
REQUIRED_UIDS = ("sop_instance_uid", "study_instance_uid", "series_instance_uid")


def read_header(first: bytes, transfer_syntax_uid: str, size_bytes: int | None = None) -> dict[str, str]:
    """Read the four UIDs that place an object.

    Parameters
    ----------
    first
        The first bytes of the dataset, or all of it.
    transfer_syntax_uid
        As negotiated. The dataset of a private one is tried as Explicit and as Implicit VR Little Endian (PS3.5 A.4).
    size_bytes
        Length of the whole dataset; None: ``first`` is all of it.

    Returns
    -------
    dict of str
        ``sop_class_uid`` (may be empty), ``sop_instance_uid``, ``study_instance_uid``, ``series_instance_uid``.

    Raises
    ------
    IntakeError
        When one is missing or the bytes are not a dataset in the transfer syntax.
    """
    size_bytes = len(first) if size_bytes is None else size_bytes
    if is_known(transfer_syntax_uid):
        return _checked(first, transfer_syntax_uid, size_bytes, is_implicit=transfer_syntax_uid in IMPLICIT)
    try:
        return _checked(first, transfer_syntax_uid, size_bytes, is_implicit=False)
    except IntakeError:
        return _checked(first, transfer_syntax_uid, size_bytes, is_implicit=True)


def _checked(first: bytes, transfer_syntax_uid: str, size_bytes: int, *, is_implicit: bool) -> dict[str, str]:
    try:
        dataset, is_past = _read(first, transfer_syntax_uid, is_implicit=is_implicit)
        header = {name: _text(dataset, tag) for name, tag in HEADER_TAGS.items()}
    except Exception as error:  # noqa: BLE001 - hostile bytes fail in any way; the kind is all that may be said
        name = UID(transfer_syntax_uid).name if is_uid(transfer_syntax_uid) else "unknown"
        raise IntakeError(
            f"The object cannot be read as a dataset in transfer syntax {name} ({type(error).__name__})."
        ) from None
    if not is_past and len(first) < size_bytes:
        raise IntakeError(f"The UIDs do not stand within the first {len(first)} bytes.")
    missing = [name for name in REQUIRED_UIDS if not is_uid(header[name])]
    if missing:
        raise IntakeError(f"Missing or invalid: {', '.join(missing)}; an instance needs all of them (PS3.3 C.12.1).")
    if not is_uid(header["sop_class_uid"]):
        header["sop_class_uid"] = ""
    return header


def _text(dataset: Dataset, tag: int) -> str:
    """Return a UID as it is encoded; pydicom's own conversion checks far more, for every image."""
    if tag not in dataset:
        return ""
    value = dataset.get_item(tag).value
    return value.decode("ascii").strip(" \0") if isinstance(value, bytes) else str(value or "")


def _read(first: bytes, transfer_syntax_uid: str, *, is_implicit: bool) -> tuple[Dataset, bool]:
    """Read the header tags of an encoded dataset, and tell whether something was found behind them.

    Where nothing was, the last of them may be cut off. A deflated dataset is inflated first (PS3.5 A.5).
    """
    is_past = False

    def stop(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal is_past
        is_past = tag > LAST_TAG
        return is_past

    if transfer_syntax_uid in DEFLATED:
        first = zlib.decompressobj(-zlib.MAX_WBITS).decompress(first, HEAD_BYTES)
    dataset = read_dataset(
        BytesIO(first),
        is_implicit_VR=is_implicit,
        is_little_endian=transfer_syntax_uid != EXPLICIT_BIG,
        stop_when=stop,
        specific_tags=list(HEADER_TAGS.values()),
    )
    return dataset, is_past
