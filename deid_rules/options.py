"""The options of PS3.15 Annex E beside the basic profile, with their codes and names (PS3.16 CID 7050)."""

from enum import StrEnum


class Option(StrEnum):
    """Options of the Basic Application Level Confidentiality Profile; the value is its code in CID 7050."""

    CLEAN_GRAPHICS = "113103"
    CLEAN_STRUCTURED_CONTENT = "113104"
    CLEAN_DESCRIPTORS = "113105"
    RETAIN_FULL_DATES = "113106"
    RETAIN_MODIFIED_DATES = "113107"
    RETAIN_PATIENT_CHARACTERISTICS = "113108"
    RETAIN_DEVICE_IDENTITY = "113109"
    RETAIN_UIDS = "113110"
    RETAIN_SAFE_PRIVATE = "113111"
    RETAIN_INSTITUTION_IDENTITY = "113112"


BASIC_PROFILE_CODE = "113100"

CLEAN_PIXEL_DATA_CODE = "113101"
"""Claimed by `blank_rectangles` for the image it has cleaned; no profile can promise it for all images."""

METHOD_MEANINGS = {
    BASIC_PROFILE_CODE: "Basic Application Confidentiality Profile",
    CLEAN_PIXEL_DATA_CODE: "Clean Pixel Data Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
"""Code meanings of CID 7050 De-identification Method."""

DEFAULT_OPTIONS = frozenset({Option.RETAIN_PATIENT_CHARACTERISTICS, Option.RETAIN_MODIFIED_DATES})
