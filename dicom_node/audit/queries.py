"""The query of an audit message (PS3.15 A.5.3.10) without whom it asked for.

A query for a patient's number or name would put both into the audit. Values of the keys below are kept; of every other
key it stays visible that it was asked for, and that a value was taken out.
"""

import re
from io import BytesIO
from urllib.parse import parse_qsl, urlencode

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.filewriter import dcmwrite
from pydicom.multival import MultiValue
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.audit import codes
from dicom_node.audit.message import ParticipantObject

UIDS = re.compile(r"[0-9.*?,\\]*")
WORDS = re.compile(r"[A-Z*?,\\]{0,9}")
"""Modalities and levels; SERIES and INSTANCE are the longest, and there is room for little else."""
KEPT_KEYS = {
    "QueryRetrieveLevel": WORDS,
    "StudyInstanceUID": UIDS,
    "SeriesInstanceUID": UIDS,
    "SOPInstanceUID": UIDS,
    "SOPClassUID": UIDS,
    "SOPClassesInStudy": UIDS,
    "Modality": WORDS,
    "ModalitiesInStudy": WORDS,
    "limit": UIDS,
    "offset": UIDS,
}
"""Keyword, or parameter of QIDO-RS (PS3.18 8.3.4), and what its value must look like to be kept."""
TAG = re.compile(r"[0-9A-Fa-f]{8}")
TAKEN_OUT = "taken out"


def dicom_query(sop_class_uid: str, query: Dataset) -> ParticipantObject:
    """Return a C-FIND's identifier as the object of a message, in Implicit VR Little Endian."""
    kept = Dataset()
    withheld = []
    for element in query:
        is_kept = _is_kept(element.keyword, _text(element.value))
        if is_kept or element.VR != "SQ":
            kept.add_new(element.tag, element.VR, element.value if is_kept else None)
        if not is_kept and not element.is_empty:
            withheld.append(element.keyword or str(element.tag))
    stream = BytesIO()
    dcmwrite(stream, kept, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return _query(
        codes.SOP_CLASS_UID,
        sop_class_uid,
        stream.getvalue(),
        (("TransferSyntax", str(ImplicitVRLittleEndian).encode()), *_withheld(withheld)),
    )


def web_query(path: str, query_string: str) -> ParticipantObject:
    """Return a QIDO-RS query as the object of a message; ``path`` is the resource without host."""
    pairs, withheld = [], []
    for name, value in parse_qsl(query_string, keep_blank_values=True):
        if _is_kept(_keyword(name), value):
            pairs.append((name, value))
        else:
            known = _keyword(name)
            pairs.append((known, TAKEN_OUT))
            withheld.append(known)
    text = f"{path}?{urlencode(pairs)}" if pairs else path
    return _query(codes.SEARCH_CRITERIA, path, text.encode(), _withheld(withheld))


def _is_kept(keyword: str, value: str) -> bool:
    pattern = KEPT_KEYS.get(keyword)
    return pattern is not None and pattern.fullmatch(value) is not None


def _text(value: object) -> str:
    return "\\".join(map(str, value)) if isinstance(value, list | MultiValue) else str(value or "")


def _keyword(name: str) -> str:
    """Return a parameter as it may be written: a keyword of the dictionary; anything else may be anything."""
    if name in KEPT_KEYS:
        return name
    parts = [keyword_for_tag(int(part, 16)) if TAG.fullmatch(part) else part for part in name.split(".")]
    return ".".join(parts) if all(tag_for_keyword(part) for part in parts) else "other"


def _withheld(keys: list[str]) -> tuple[tuple[str, bytes], ...]:
    return (("Values taken out", ",".join(keys).encode()),) if keys else ()


def _query(
    id_type: codes.Code, object_id: str, query: bytes, details: tuple[tuple[str, bytes], ...]
) -> ParticipantObject:
    return ParticipantObject(
        id_type, object_id, codes.SYSTEM_OBJECT, codes.REPORT_ROLE, name="", query=query, details=details
    )
