"""Every code the result objects use, in tables; docs/results.md lists the same rows.

What can be measured or said of a bone is tabulated in ``sr_export.concepts``.

Standard codes are used where DICOM tabulates one (SNOMED CT subset, DCM, UCUM: PS3.16). DICOM has no bone
density or bone strength concept, and the LOINC ones name the DXA method, so those live in a private scheme
that each object declares in its Coding Scheme Identification Sequence (PS3.3 C.12.1.1.1).

A concept's printed name carries side or level, case and statistic, because viewers drop the children of a
number. A value that depends on calibration has a second code, whose name ends ", uncalibrated".
"""

from collections.abc import Iterator
from typing import Literal

from pydicom.sr.coding import Code

from sr_export.concepts import (
    CONCEPTS,
    FEMURS,
    PERIPHERAL,
    PERIPHERAL_BONES,
    SIDES,
    STATEMENTS,
    SUBJECT_WORDS,
    VERTEBRAE,
    Concept,
    Words,
)
from sr_export.errors import ContradictoryReport, UnknownConcept
from sr_export.inputs import Laterality

SCHEME = "99OSTEONODE"
SCHEME_NAME = "OsteoNode bone density and strength concepts"
SCHEME_VERSION = "1"

Bound = Literal["", "lower", "upper"]
"""Which end of an interval a value is; empty for the value itself."""

LATERALITIES: dict[Laterality, Code] = {
    "R": Code("24028007", "SCT", "Right"),
    "L": Code("7771000", "SCT", "Left"),
}
"""CID 244 Laterality."""

STRUCTURES: dict[str, Code] = {
    "femur": Code("71341001", "SCT", "Femur"),
    "proximal_femur": Code("310651003", "SCT", "Proximal femur"),
    "femoral_neck": Code("29627003", "SCT", "Neck of femur"),
    "hip_bone": Code("29836001", "SCT", "Hip"),
    "sacrum": Code("54735007", "SCT", "Sacrum"),
    "T10": Code("7610001", "SCT", "T10 vertebra"),
    "T11": Code("12989004", "SCT", "T11 vertebra"),
    "T12": Code("23215003", "SCT", "T12 vertebra"),
    "L1": Code("66794005", "SCT", "L1 vertebra"),
    "L2": Code("14293000", "SCT", "L2 vertebra"),
    "L3": Code("36470004", "SCT", "L3 vertebra"),
    "L4": Code("11994002", "SCT", "L4 vertebra"),
    "L5": Code("49668003", "SCT", "L5 vertebra"),
    "lumbar_spine": Code("122496007", "SCT", "Lumbar spine"),
    "radius": Code("62413002", "SCT", "Radius"),
    "tibia": Code("12611008", "SCT", "Tibia"),
    "ulna": Code("23416004", "SCT", "Ulna"),
    "fibula": Code("87342007", "SCT", "Fibula"),
    "metacarpal_2": Code("36455000", "SCT", "Metacarpal"),
}
"""SNOMED CT subset of PS3.16 (CID 7300s and 4031); ``hip_bone`` carries the region's code, as peers do;
the femoral neck is not in that subset [m]. The second metacarpal has no code of its own there: names say which."""

CATEGORIES: dict[str, Code] = {
    "osteoporosis": Code("64859006", "SCT", "Osteoporosis"),
    "osteopenia": Code("312894000", "SCT", "Osteopenia"),
    "normal": Code("17621005", "SCT", "Normal"),
}
"""QCT category of the L1-L2 mean: below 80, 80 to 120, above 120 mg/cm3 [Niu2023]. Never a WHO T-score."""

ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")

PRINTED_UNITS: dict[str, str] = {
    "mg/cm3": "mg/cm3",
    "g/cm2": "g/cm2",
    "[hnsf'U]": "HU",
    "mm": "mm",
    "mm2": "mm2",
    "mm3": "mm3",
    "/mm": "1/mm",
    "%": "%",
    "N": "N",
    "N/mm": "N/mm",
}
"""How a unit's code is printed for people."""

SUMMARY = Code("121111", "DCM", "Summary")
QUALITY_FINDING = Code("111052", "DCM", "Quality Finding")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
"""CID 100 Quantitative Diagnostic Imaging Procedures."""
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
REPLACED_REPORT = Code("121360", "DCM", "Replaced report")
"""CID 7009: why a predecessor document is cited."""
ASSISTING = Code("121099", "DCM", "Assisting")
"""CID 7453 Performing Roles, which has no closer word for a person who corrected a step of the node."""
REJECTED = Code("113001", "DCM", "Rejected for Quality Reasons")
"""CID 7010: title of a rejection note."""

CATEGORY_QUESTION = Code("ON2001", SCHEME, "QCT bone density category")
CALIBRATION_STATE = Code("ON2002", SCHEME, "Density calibration")
CALIBRATED = Code("ON2003", SCHEME, "Calibrated")
UNCALIBRATED = Code("ON2004", SCHEME, "Uncalibrated")
CALIBRATION_TEXT = Code("ON2005", SCHEME, "Density calibration method")
TECHNICAL_TEXT = Code("ON2006", SCHEME, "Technical adequacy")
LIMIT_TEXT = Code("ON2007", SCHEME, "Limit of the result")
UNSPECIFIED_FAMILY = Code("ON2010", SCHEME, "Image analysis")
FINITE_ELEMENTS = Code("ON2011", SCHEME, "Finite element analysis")
CORRECTED_SEGMENTATION = Code("ON2012", SCHEME, "Segmentation corrected by a person")

FAMILIES: dict[str, Code] = {
    "": UNSPECIFIED_FAMILY,
    "finite_elements": FINITE_ELEMENTS,
    "histogram": Code("123105", "DCM", "Histogram Analysis"),
    "learned": Code("123110", "DCM", "Artificial Intelligence"),
    "manual": Code("123109", "DCM", "Manual Processing"),
    "morphological": Code("123104", "DCM", "Morphological Operations"),
}
"""CID 7162 Surface Processing Algorithm Family, with two of our own."""


FINDINGS: dict[str, Code] = {
    key: Code(value, SCHEME, meaning)
    for key, value, meaning in (
        ("metal", "ON3001", "Metal or cement inside or beside the bone"),
        ("air_gaps", "ON3002", "Air gaps inside the body or bone"),
        ("uncalibrated", "ON3003", "No density calibration for this scanner"),
        ("not_found", "ON3004", "Structure not found in the images"),
        ("level_uncertain", "ON3005", "Vertebral level uncertain"),
        ("bone_not_separated", "ON3006", "Bone not separated from its neighbour"),
        ("truncated_bone", "ON3007", "Bone cut off by the edge of the images"),
        ("short_shaft", "ON3008", "Femoral shaft short, strength tends high"),
        ("thick_slices", "ON3009", "Slices too thick"),
        ("coarse_voxels", "ON3010", "Voxels too coarse"),
        ("sharp_kernel", "ON3011", "Edge-enhancing reconstruction kernel"),
        ("contrast_given", "ON3012", "Contrast medium given"),
        ("implausible_hu", "ON3013", "CT numbers implausible for this tissue"),
        ("deformed_vertebra", "ON3014", "Deformed or fractured vertebra"),
        ("voi_too_small", "ON3015", "Region of measurement too small"),
        ("neck_not_whole", "ON3016", "Femoral neck not whole in the images"),
        ("voxels_too_coarse", "ON3017", "Voxels far too coarse"),
        ("unknown_kernel", "ON3018", "Reconstruction kernel unknown"),
        ("noisy", "ON3019", "High image noise"),
        ("wrong_position", "ON3020", "Patient not head first supine"),
        ("oblique_volume", "ON3021", "Slices strongly oblique to the patient"),
        ("metal_elsewhere", "ON3022", "Metal away from the bone"),
        ("derived_images", "ON3023", "Images computed from other images"),
        ("uneven_core", "ON3025", "Trabecular core uneven"),
        ("no_strength", "ON3026", "Strength not computed"),
        ("not_converged", "ON3024", "Finite element solution not reached"),
        ("truncated", "ON3027", "Femur cut by an edge of the images"),
        ("coarse_elements", "ON3028", "Finite elements too coarse"),
        ("islands_dropped", "ON3029", "Loose parts of the bone left out"),
        ("modulus_limited", "ON3030", "Densities outside the modulus law"),
        ("unusual_neck", "ON3031", "Unusual angle of the femoral neck"),
        ("ragged_end_face", "ON3032", "Ragged end face of the specimen"),
        ("unusual_endplates", "ON3033", "Unusual vertebral endplates"),
        ("arch_cut", "ON3034", "Vertebral body cut from its arch"),
        ("sensitivity_incomplete", "ON3035", "Sensitivity to the mask incomplete"),
        ("cavities_filled", "ON3036", "Cavities of the bone's outline filled"),
        ("contrast_seen", "ON3037", "Contrast medium seen in a vessel"),
        ("internal_calibration", "ON3038", "Calibrated by the patient's own tissues"),
        ("incomplete_study", "ON3039", "Study analysed although images lack"),
        ("turned_patient", "ON3040", "Patient lay otherwise than the header says"),
        ("broken_stack", "ON3048", "Slices do not continue one another"),
        ("hip_not_whole", "ON3041", "Regions of the hip not whole in the images"),
        ("pose_assumed", "ON3042", "Femoral shaft too short to give its axis"),
        ("contrast_corrected", "ON3043", "Contrast-corrected density beside the measured one"),
        ("no_contrast_correction", "ON3044", "Density not corrected for contrast medium"),
        ("scale_by_tissue", "ON3049", "Scale checked on fat and muscle only"),
        ("named_otherwise", "ON3045", "A second segmenter names the bone otherwise"),
        ("segmenters_differ", "ON3046", "Two segmenters differ in the bone's extent"),
        ("no_second_opinion", "ON3047", "No second segmenter's opinion"),
        ("saturated", "ON3050", "Bone brighter than the network tells apart"),
        ("spectral_images", "ON3051", "Spectral images of one energy or material"),
    )
}
OTHER_FINDING = Code("ON3000", SCHEME, "Other quality finding")

SUBJECT_NAMES: dict[str, str] = {
    "study": "Study",
    "femur_right": "Right femur",
    "femur_left": "Left femur",
    "hip_right": "Right hip bone",
    "hip_left": "Left hip bone",
    "sacrum": "Sacrum",
    "lumbar_spine": "Lumbar spine",
} | {level: level for level in VERTEBRAE}
"""Subjects of findings as people read them."""


def concept(key: str) -> Concept:
    """Return the row of ``CONCEPTS``.

    Raises
    ------
    UnknownConcept
        No row has this key.
    """
    try:
        return CONCEPTS[key]
    except KeyError:
        raise UnknownConcept(f"Measurement concept {key!r} is not in sr_export.codes.CONCEPTS.") from None


def concept_code(key: str, structure: str, laterality: Laterality, *, is_calibrated: bool, bound: Bound = "") -> Code:
    """Return the code whose name says the number in full.

    Parameters
    ----------
    key
        Of ``CONCEPTS``.
    structure, laterality
        Of the group the number belongs to.
    is_calibrated
        False gives the uncalibrated code where the concept depends on calibration.
    bound
        ``lower`` or ``upper`` for an end of the value's interval.

    Raises
    ------
    UnknownConcept
        No row has this key.
    ContradictoryReport
        The concept cannot be said of this structure or side.
    """
    row = concept(key)
    subject = _subject(key, row.subjects, structure, laterality)
    return _coded(row, subject, is_calibrated=is_calibrated, bound=bound)


def statement_code(key: str, structure: str, laterality: Laterality) -> Code:
    """Return the code whose name says what a statement is about, side included.

    Raises
    ------
    UnknownConcept
        No row of ``STATEMENTS`` has this key.
    ContradictoryReport
        It cannot be said of this structure or side.
    """
    if key not in STATEMENTS:
        raise UnknownConcept(f"Statement {key!r} is not in sr_export.concepts.STATEMENTS.")
    row = STATEMENTS[key]
    return _worded(row, _subject(key, row.subjects, structure, laterality))


def _subject(key: str, subjects: tuple[str, ...], structure: str, laterality: Laterality) -> str:
    """Return which of a row's subjects a group is about; empty for a row that belongs to no single bone."""
    if not subjects:
        return ""
    subject, expected = {
        SIDES: (laterality if structure in FEMURS else "", "a right or left femur"),
        PERIPHERAL: (f"{PERIPHERAL_BONES.get(structure, '')}-{laterality}", "a right or left bone of wrist or ankle"),
    }.get(subjects, (structure, f"one of {', '.join(subjects)}"))
    if subject not in subjects:
        raise ContradictoryReport(
            f"{key} was reported of structure {structure!r}, side {laterality!r}; expected {expected}."
        )
    return subject


def structure_code(key: str) -> Code:
    """Return the code of an anatomical structure; ``UnknownConcept`` when no row has this key."""
    try:
        return STRUCTURES[key]
    except KeyError:
        raise UnknownConcept(f"Structure {key!r} is not in sr_export.codes.STRUCTURES.") from None


def finding_code(key: str) -> Code:
    """Return the code of a quality flag; a flag this table does not know yet is ``OTHER_FINDING``."""
    return FINDINGS.get(key, OTHER_FINDING)


def subject_name(key: str) -> str:
    """Return how people read the subject of a finding."""
    return SUBJECT_NAMES.get(key, key.replace("_", " "))


def private_codes() -> Iterator[Code]:
    """Yield every code of the private scheme that any object can hold."""
    bounds: tuple[Bound, ...] = ("", "lower", "upper")
    for row in CONCEPTS.values():
        for subject in row.subjects or ("",):
            for is_calibrated in (True, False):
                if not is_calibrated and not row.needs_calibration:
                    continue
                for bound in bounds:
                    code = _coded(row, subject, is_calibrated=is_calibrated, bound=bound)
                    if code.scheme_designator == SCHEME:
                        yield code
    yield from (_worded(row, subject) for row in STATEMENTS.values() for subject in row.subjects)
    yield from (CATEGORY_QUESTION, CALIBRATION_STATE, CALIBRATED, UNCALIBRATED, CALIBRATION_TEXT)
    yield from (TECHNICAL_TEXT, LIMIT_TEXT, UNSPECIFIED_FAMILY, FINITE_ELEMENTS, OTHER_FINDING)
    yield CORRECTED_SEGMENTATION
    yield from FINDINGS.values()


def _coded(row: Concept, subject: str, *, is_calibrated: bool, bound: Bound) -> Code:
    """Put suffixes on a row's value and name: subject, bound, calibration."""
    if row.standard is not None and not bound:
        return row.standard
    plain = _worded(row, subject)
    value, name = plain.value, plain.meaning
    if bound:
        value, name = f"{value}-{bound[0].upper()}B", f"{name}, {bound}"
    if row.needs_calibration and not is_calibrated:
        value, name = f"{value}-U", f"{name}, uncalibrated"
    return Code(value, SCHEME, name)


def _worded(row: Concept | Words, subject: str) -> Code:
    """Put a subject into a row's value and name."""
    value = f"{row.value}-{subject}" if subject else row.value
    return Code(value, SCHEME, row.name.format(subject=SUBJECT_WORDS.get(subject, subject)))
