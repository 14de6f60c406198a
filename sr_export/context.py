"""What the result objects of a job share: the source's patient and study, one time, one equipment list.

The identity comes from the original headers and from nowhere else. It is copied by one list of our own,
``PATIENT_STUDY``, into every object, because libraries copy different parts of it and an object that lacks
the issuer of the patient's ID belongs to another patient in an archive of several issuers.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from sr_export.coded import code_item, scheme_item
from sr_export.codes import ACQUISITION_EQUIPMENT, PROCESSING_EQUIPMENT
from sr_export.errors import SourceMismatch
from sr_export.frames import stand_in_uid
from sr_export.inputs import Algorithm, Equipment, Report
from sr_export.text import long_string, short_text
from sr_export.uids import PLACEHOLDER, uid_of

BANNER = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS - UNVERIFIED"

PATIENT_STUDY: tuple[str, ...] = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "PhysiciansOfRecord",
    "StudyDescription",
    "ProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdditionalPatientHistory",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
)
"""Patient, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2) of a CT header."""

TYPE_2: tuple[str, ...] = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Of these, may be empty but must be present (PS3.3 C.7.1.1, C.7.2.1)."""

PATIENT_SEX: tuple[str, ...] = ("M", "F", "O")
"""Enumerated values of PS3.3 C.7.1.1; anything else becomes empty, which means unknown."""

SAME_IN_EVERY_SLICE: tuple[str, ...] = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
)
REQUIRED: tuple[str, ...] = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)

SERIES_NUMBERS: dict[str, int] = {"seg": 9001, "sr": 9002, "sc": 9003, "pdf": 9004, "ko": 9005}
"""A fixed block, so that a rerun never takes the number of a scanner's series."""
RESEARCH_ONLY = "RESEARCH ONLY"
"""How every series description begins, and one word follows that tells the series apart: lists of series in
viewers show 17 to 20 characters and cut the rest."""
SERIES_DESCRIPTIONS: dict[str, str] = {
    "seg": f"{RESEARCH_ONLY} bones - segmentation",
    "sr": f"{RESEARCH_ONLY} values - bone density and strength",
    "sc": f"{RESEARCH_ONLY} report - bone density and strength",
    "pdf": f"{RESEARCH_ONLY} PDF - bone density and strength",
    "ko": f"{RESEARCH_ONLY} superseded - bone density and strength",
}

IMPLEMENTATION_CLASS_UID = uid_of("implementation class")
IMPLEMENTATION_VERSION_NAME = "OSTEONODE"


@dataclass(frozen=True, slots=True)
class Identity:
    """The line that names the patient on a page; made from the source header, on the hospital side only."""

    name: str = field(default="", repr=False)
    ideographic_name: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)
    age: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    study_description: str = field(default="", repr=False)


def check_source(source: Sequence[Dataset]) -> None:
    """Refuse headers that are not the slices of one series of one patient.

    Raises
    ------
    SourceMismatch
        No headers, a required attribute missing, or a disagreement between slices.
    """
    if not source:
        raise SourceMismatch("No source headers were given; one per slice is needed.")
    for keyword in REQUIRED:
        missing = sum(1 for header in source if not _has_value(header, keyword))
        if missing:
            raise SourceMismatch(f"{keyword} is missing in {missing} of {len(source)} source headers.")
    for keyword in SAME_IN_EVERY_SLICE:
        values = {str(header.get(keyword, "")) for header in source}
        if len(values) > 1:
            raise SourceMismatch(f"{keyword} has {len(values)} different values in one source series.")
    if len({stand_in_uid(header) for header in source}) < len(source):
        raise SourceMismatch("The same SOP Instance UID occurs more than once in the source.")


def finish(dataset: Dataset, source: Dataset, report: Report, kind: str) -> Dataset:
    """Make a new object belong to the source's patient and study, and to this job; return it.

    Parameters
    ----------
    dataset
        A complete object except for what all objects of the job share; changed in place.
    source
        Any of the original headers; not changed.
    kind
        Key of ``SERIES_NUMBERS``.
    """
    for keyword in PATIENT_STUDY:
        if keyword in dataset:
            del dataset[keyword]
        if keyword in source:
            element = source[keyword]
            dataset[element.tag] = deepcopy(element)
    _fill_type_2(dataset)
    _set_times(dataset, report.created)
    _set_equipment(dataset, source, report)
    dataset.SeriesNumber = SERIES_NUMBERS[kind]
    dataset.SeriesDescription = SERIES_DESCRIPTIONS[kind]
    dataset.ContentQualification = "RESEARCH"
    dataset.CodingSchemeIdentificationSequence = [scheme_item(report.equipment.manufacturer)]
    dataset.SeriesInstanceUID = dataset.SOPInstanceUID = PLACEHOLDER
    dataset.preamble = b"\0" * 128
    dataset.file_meta = _file_meta(dataset.SOPClassUID)
    return dataset


def new_object(sop_class_uid: str, modality: str, instance_number: int) -> Dataset:
    """Return the start of a result object that no library builds."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class_uid
    dataset.Modality = modality
    dataset.InstanceNumber = instance_number
    return dataset


def device_uid(equipment: Equipment, algorithm: Algorithm | None = None) -> str:
    """Return the Device UID of the node, or of one version of one algorithm (IHE AIR 6.5.3.1)."""
    if algorithm is None:
        return str(uid_of("device", equipment.manufacturer, equipment.model_name, equipment.serial_number))
    return str(uid_of("algorithm", equipment.manufacturer, algorithm.key, algorithm.version))


def identity_of(source: Dataset) -> Identity:
    """Read what the page prints of patient and study."""
    name = source.get("PatientName", "")
    alphabetic, ideographic = getattr(name, "alphabetic", str(name)), getattr(name, "ideographic", "")
    return Identity(
        name=str(alphabetic).replace("^", " ").strip(),
        ideographic_name=str(ideographic).replace("^", " ").strip(),
        patient_id=str(source.get("PatientID") or ""),
        issuer=str(source.get("IssuerOfPatientID") or ""),
        birth_date=_printed_date(str(source.get("PatientBirthDate") or "")),
        sex=str(source.get("PatientSex") or ""),
        age=_printed_age(source),
        accession=str(source.get("AccessionNumber") or ""),
        study_date=_printed_date(str(source.get("StudyDate") or "")),
        study_description=str(source.get("StudyDescription") or ""),
    )


def _has_value(header: Dataset, keyword: str) -> bool:
    return header.get(keyword) not in (None, "")


def _fill_type_2(dataset: Dataset) -> None:
    for keyword in TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if dataset.PatientSex not in PATIENT_SEX:
        dataset.PatientSex = ""


def _set_times(dataset: Dataset, created: datetime) -> None:
    """Give the object the job's one time, in the study's time zone where the header states one."""
    local = created.astimezone(_zone(str(dataset.get("TimezoneOffsetFromUTC", "")), created))
    day, clock = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    for prefix in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{prefix}Date", day)
        setattr(dataset, f"{prefix}Time", clock)


def _zone(offset: str, created: datetime) -> timezone:
    """Zone of a Timezone Offset From UTC such as ``+0200``, else the zone ``created`` has."""
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    return timezone(created.utcoffset() or timedelta())


def _set_equipment(dataset: Dataset, source: Dataset, report: Report) -> None:
    """General Equipment is the node; Contributing Equipment the scanner, the node and every algorithm."""
    node = report.equipment
    dataset.Manufacturer = long_string(node.manufacturer)
    dataset.ManufacturerModelName = long_string(node.model_name)
    dataset.SoftwareVersions = long_string(node.software_version)
    dataset.DeviceSerialNumber = long_string(node.serial_number)
    items = [_node_item(report), *(_algorithm_item(report, algorithm) for algorithm in report.algorithms)]
    if _has_value(source, "Manufacturer"):
        items.insert(0, _scanner_item(source))
    dataset.ContributingEquipmentSequence = items


def _scanner_item(source: Dataset) -> Dataset:
    item = Dataset()
    for keyword in (
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
        "StationName",
    ):
        if _has_value(source, keyword):
            element: DataElement = source[keyword]
            item[element.tag] = deepcopy(element)
    item.ContributionDescription = "Acquisition of the source images"
    item.PurposeOfReferenceCodeSequence = [code_item(ACQUISITION_EQUIPMENT)]
    return item


def _node_item(report: Report) -> Dataset:
    node = report.equipment
    item = _processing_item(report, node.model_name, node.software_version, "Packaging of the results")
    item.DeviceSerialNumber = long_string(node.serial_number)
    item.DeviceUID = device_uid(node)
    return item


def _algorithm_item(report: Report, algorithm: Algorithm) -> Dataset:
    item = _processing_item(report, algorithm.name, algorithm.version, algorithm.purpose)
    item.DeviceUID = device_uid(report.equipment, algorithm)
    return item


def _processing_item(report: Report, name: str, version: str, purpose: str) -> Dataset:
    """One item of Contributing Equipment (PS3.3 C.12.1.1.5) in the words of TID 4019."""
    item = Dataset()
    item.Manufacturer = long_string(report.equipment.manufacturer)
    item.ManufacturerModelName = long_string(name)
    item.SoftwareVersions = long_string(version)
    item.ContributionDescription = short_text(purpose)
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    item.ContributionDateTime = report.created.strftime("%Y%m%d%H%M%S%z")
    return item


def _file_meta(sop_class_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = PLACEHOLDER
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _printed_date(value: str) -> str:
    """``19520314`` as ``1952-03-14``; anything that is no date as it is."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdigit() else value


def _printed_age(source: Dataset) -> str:
    """Age from the header, or from birth date and study date."""
    stated = str(source.get("PatientAge") or "")
    if stated[:3].isdigit() and stated.endswith("Y"):
        return f"{int(stated[:3])} y"
    born, studied = str(source.get("PatientBirthDate") or ""), str(source.get("StudyDate") or "")
    try:
        birthday, day = date.fromisoformat(_printed_date(born)), date.fromisoformat(_printed_date(studied))
    except ValueError:
        return ""
    return f"{day.year - birthday.year - ((day.month, day.day) < (birthday.month, birthday.day))} y"
