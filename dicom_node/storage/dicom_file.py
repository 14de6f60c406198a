"""From the bytes of a DICOM file (PS3.10 7.1) to an arrival, whatever the file left out.

Read are the file meta information and the UIDs; the dataset stays as it is encoded. Files without a preamble, and bare
datasets as old programs wrote them, are taken; whatever is no DICOM is told from them and never reaches the intake.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import IntakeError, NotDicom
from dicom_node.storage.header import HEAD_BYTES, read_header
from dicom_node.storage.intake import Arrival
from dicom_node.uids import is_uid

PREAMBLE_BYTES = 128
PREFIX = b"DICM"
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: a DICOMDIR, which is a list of files and no instance of a study."""
META_GROUP = 0x0002
META_UIDS = {0x00020002: "sop_class_uid", 0x00020003: "sop_instance_uid", 0x00020010: "transfer_syntax_uid"}
LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"UC", b"UR", b"SQ", b"SV", b"UV")
"""VRs with a length of 32 bits after two reserved bytes (PS3.5 7.1.2)."""


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file as an arrival, with the study and series it names; empty where it names none."""

    arrival: Arrival
    study_instance_uid: str
    series_instance_uid: str

    @property
    def is_directory(self) -> bool:
        """Whether it is a DICOMDIR."""
        return self.arrival.sop_class_uid == DIRECTORY_CLASS


def may_be_dicom(head: bytes | bytearray) -> bool:
    """Tell from 132 bytes whether a file may be DICOM: it has the prefix, or begins with group 0002 or 0008."""
    has_prefix = head[PREAMBLE_BYTES : PREAMBLE_BYTES + len(PREFIX)] == PREFIX
    return has_prefix or (len(head) > 8 and bytes(head[:2]) in (b"\x02\x00", b"\x08\x00"))


def read_dicom_file(content: bytes | bytearray, calling_aet: str) -> DicomFile:
    """Take a file apart.

    Parameters
    ----------
    content
        The whole file.
    calling_aet
        What stands for the sender in the intake.

    Raises
    ------
    NotDicom
        When the bytes are neither a DICOM file nor a bare dataset with the UIDs of an instance.
    """
    has_prefix = content[PREAMBLE_BYTES : PREAMBLE_BYTES + len(PREFIX)] == PREFIX
    start = PREAMBLE_BYTES + len(PREFIX) if has_prefix else 0
    meta, dataset_start = read_meta(content, start)
    if not may_be_dicom(content):
        raise NotDicom("The bytes are no DICOM file.")
    dataset = bytes(memoryview(content)[dataset_start:])
    syntax = meta.get("transfer_syntax_uid") or _guess_syntax(dataset)
    uids = _read_uids(dataset, syntax)
    if not has_prefix and not uids.get("sop_class_uid"):
        raise NotDicom("The bytes are no DICOM file: they have neither a preamble nor the UIDs of an instance.")
    arrival = Arrival(
        dataset=dataset,
        sop_class_uid=uids.get("sop_class_uid") or meta.get("sop_class_uid", ""),
        sop_instance_uid=uids.get("sop_instance_uid") or meta.get("sop_instance_uid", ""),
        transfer_syntax_uid=syntax,
        calling_aet=calling_aet,
    )
    return DicomFile(arrival, uids.get("study_instance_uid", ""), uids.get("series_instance_uid", ""))


def read_meta(content: bytes | bytearray, start: int) -> tuple[dict[str, str], int]:
    """Return the UIDs of the file meta information that begins at ``start``, and where the dataset begins."""
    meta: dict[str, str] = {}
    end = start
    for tag, value_start, value_end in _meta_elements(content, start):
        if tag in META_UIDS:
            value = bytes(content[value_start:value_end]).rstrip(b"\x00 ").decode("ascii", "replace")
            if is_uid(value):
                meta[META_UIDS[tag]] = value
        end = value_end
    return meta, end


def _meta_elements(content: bytes | bytearray, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, start and end of each value of group 0002, always in Explicit VR Little Endian (PS3.10 7.1)."""
    position = start
    while position + 8 <= len(content) and int.from_bytes(content[position : position + 2], "little") == META_GROUP:
        element = int.from_bytes(content[position + 2 : position + 4], "little")
        is_long = bytes(content[position + 4 : position + 6]) in LONG_VRS
        value_start = position + (12 if is_long else 8)
        length = int.from_bytes(content[value_start - (4 if is_long else 2) : value_start], "little")
        if value_start + length > len(content):
            return
        yield (META_GROUP << 16) | element, value_start, value_start + length
        position = value_start + length


def _guess_syntax(dataset: bytes) -> str:
    """Return the little endian transfer syntax that the first element's VR, or its absence, speaks for."""
    is_explicit = dataset[4:6].isalpha() and dataset[4:6].isupper()
    return str(ExplicitVRLittleEndian if is_explicit else ImplicitVRLittleEndian)


def _read_uids(dataset: bytes, transfer_syntax_uid: str) -> dict[str, str]:
    """Return the UIDs; none where the bytes cannot be read, which the intake will say."""
    try:
        return read_header(dataset[:HEAD_BYTES], transfer_syntax_uid)
    except IntakeError:
        return {}
