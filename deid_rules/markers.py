"""What a de-identified object says about itself: the method attributes and new file meta information.

PS3.15 E.1.1 steps 6 and 7: the identity is marked as removed with the codes of the options in force, and
preamble and file meta information are not taken over but written anew.
"""

from functools import lru_cache
from typing import Literal

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from deid_rules.elements import made
from deid_rules.profile import BASIC_PROFILE_CODE, METHOD_MEANINGS, Option, Profile
from deid_rules.uids import is_registered

_METHOD = b"OsteoNode: DICOM PS3.15 Annex E, 2026c"


@lru_cache(maxsize=64)
def markers(profile: Profile, is_implicit: bool, is_little: bool) -> tuple[RawDataElement, ...]:
    """Return (0012,0062), (0012,0063), (0012,0064) and (0028,0303), encoded once per profile and encoding."""
    codes = [BASIC_PROFILE_CODE, *sorted(option.value for option in profile.options_in_force)]
    value = _encoded_codes(codes, is_implicit, is_little)
    return (
        made(0x00120062, "CS", b"YES"),
        made(0x00120063, "LO", _METHOD),
        RawDataElement(BaseTag(0x00120064), "SQ", len(value), value, 0, is_implicit, is_little),
        made(0x00280303, "CS", _longitudinal(profile)),
    )


def _longitudinal(profile: Profile) -> bytes:
    if Option.RETAIN_FULL_DATES in profile.options_in_force:
        return b"UNMODIFIED"
    return b"MODIFIED" if Option.RETAIN_MODIFIED_DATES in profile.options_in_force else b"REMOVED"


def _encoded_codes(codes: list[str], is_implicit: bool, is_little: bool) -> bytes:
    """Encode the items of a code sequence (PS3.5 7.5)."""
    order: Literal["little", "big"] = "little" if is_little else "big"
    encoded = b""
    for code in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", METHOD_MEANINGS[code]
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = is_implicit, is_little
        write_dataset(buffer, item)
        content = buffer.getvalue()
        head = (0xFFFE).to_bytes(2, order) + (0xE000).to_bytes(2, order) + len(content).to_bytes(4, order)
        encoded += head + content
    return encoded


def new_file_meta(dataset: Dataset, profile: Profile, sop_class_uid: str, clean_uid: str) -> FileMetaDataset:
    """Write file meta information anew; nothing of the source's is kept but the transfer syntax.

    A deflated source becomes plain explicit little endian, so that what is written can be searched.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(clean_uid)
    meta.TransferSyntaxUID = transfer_syntax_of(dataset)
    meta.ImplementationClassUID = UID(profile.implementation_class_uid)
    meta.ImplementationVersionName = profile.implementation_version_name
    return meta


def transfer_syntax_of(dataset: Dataset) -> UID:
    """Return the transfer syntax the clean dataset is written in."""
    meta = getattr(dataset, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    if syntax == DeflatedExplicitVRLittleEndian:
        return ExplicitVRLittleEndian
    if syntax and is_registered(str(syntax)):
        return UID(str(syntax))
    return ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
