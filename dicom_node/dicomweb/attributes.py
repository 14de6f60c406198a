"""Which attributes belong to which level, which are searched and how (PS3.4 C.6, PS3.18 10.6.3.3)."""

from typing import Literal, NamedTuple

from pydicom.datadict import tag_for_keyword

from dicom_node.db.dicomweb import Level

Kind = Literal["uid", "text", "code", "name", "date", "time", "number"]
"""How values match: lists of UIDs; text with * and ?; lists of codes; text whatever the case; ranges; a number."""


class Key(NamedTuple):
    """A searched attribute: its level, its column in the catalogue, and how it matches."""

    level: Level
    column: str
    kind: Kind


KEYS: dict[str, Key] = {
    "StudyInstanceUID": Key("study", "study_instance_uid", "uid"),
    "StudyDate": Key("study", "study_date", "date"),
    "StudyTime": Key("study", "study_time", "time"),
    "AccessionNumber": Key("study", "accession_number", "text"),
    "StudyID": Key("study", "study_id", "text"),
    "StudyDescription": Key("study", "study_description", "text"),
    "ReferringPhysicianName": Key("study", "referring_physician_name", "name"),
    "PatientID": Key("study", "patient_id", "text"),
    "PatientName": Key("study", "patient_name", "name"),
    "PatientBirthDate": Key("study", "patient_birth_date", "date"),
    "PatientSex": Key("study", "patient_sex", "code"),
    "ModalitiesInStudy": Key("series", "modality", "code"),
    "Modality": Key("series", "modality", "code"),
    "SeriesInstanceUID": Key("series", "series_instance_uid", "uid"),
    "SeriesNumber": Key("series", "series_number", "number"),
    "SeriesDescription": Key("series", "series_description", "text"),
    "BodyPartExamined": Key("series", "body_part_examined", "code"),
    "PerformedProcedureStepStartDate": Key("series", "performed_procedure_step_start_date", "date"),
    "PerformedProcedureStepStartTime": Key("series", "performed_procedure_step_start_time", "time"),
    "SOPInstanceUID": Key("instance", "sop_instance_uid", "uid"),
    "SOPClassUID": Key("instance", "sop_class_uid", "uid"),
    "InstanceNumber": Key("instance", "instance_number", "number"),
}
"""Keyword of each attribute that a search can name."""

RETURNED: dict[Level, tuple[str, ...]] = {
    "study": (
        "SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
        "TimezoneOffsetFromUTC", "StudyDescription", "PatientName", "PatientID", "IssuerOfPatientID",
        "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
    ),
    "series": (
        "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SeriesDate", "SeriesTime",
        "BodyPartExamined", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
        "RequestAttributesSequence",
    ),
    "instance": (
        "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
    ),
}  # fmt: skip
"""What every answer holds of each level, where the headers do."""

FURTHER: dict[Level, tuple[str, ...]] = {
    "study": (
        "PatientAge", "PatientSize", "PatientWeight", "PatientComments", "OtherPatientIDs", "EthnicGroup",
        "PatientBirthTime", "AdditionalPatientHistory", "NameOfPhysiciansReadingStudy",
        "AdmittingDiagnosesDescription", "ProcedureCodeSequence", "InstitutionName",
    ),
    "series": (
        "Manufacturer", "ManufacturerModelName", "StationName", "Laterality", "ProtocolName", "PatientPosition",
        "FrameOfReferenceUID", "PerformedProcedureStepDescription", "SeriesDescriptionCodeSequence",
        "InstitutionalDepartmentName",
    ),
    "instance": (),
}  # fmt: skip
"""What is kept besides and given when it is asked for; of an instance the file is read."""


def tag_of(keyword: str) -> str:
    """Return the tag of a keyword as DICOM JSON writes it; empty where the dictionary does not have it."""
    number = tag_for_keyword(keyword)
    return "" if number is None else f"{number:08X}"


def tags_of(keywords: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags of several keywords."""
    return tuple(tag_of(keyword) for keyword in keywords)


UID_TAGS = ("0020000D", "0020000E", "00080018")
"""Study, Series and SOP Instance UID."""
RETURNED_TAGS = {level: frozenset(tags_of(keywords)) for level, keywords in RETURNED.items()}
KEPT_TAGS = {level: tags_of((*RETURNED[level], *FURTHER[level])) for level in RETURNED}
