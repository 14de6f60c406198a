"""What can be measured or said of a bone: one row per kind of number or statement, with unit, decimals and name.

``sr_export.codes`` makes codes of the rows; docs/results.md lists them.
"""

from dataclasses import dataclass

from pydicom.sr.coding import Code

MEAN = Code("373098007", "SCT", "Mean")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")

MG_PER_CM3 = Code("mg/cm3", "UCUM", "mg/cm3")
G_PER_CM2 = Code("g/cm2", "UCUM", "g/cm2")
"""As the areal densities of DXA in HL7's examples; LOINC's concepts for them name the DXA method and are not used."""
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
SQUARE_MM = Code("mm2", "UCUM", "square millimeter")
CUBIC_MM = Code("mm3", "UCUM", "cubic millimeter")
PER_MM = Code("/mm", "UCUM", "per millimeter")
PERCENT = Code("%", "UCUM", "percent")
NEWTON = Code("N", "UCUM", "newton")
NEWTON_PER_MM = Code("N/mm", "UCUM", "newton per millimeter")

VERTEBRAE: tuple[str, ...] = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
SIDES: tuple[str, ...] = ("R", "L")
FEMURS: tuple[str, ...] = ("femur", "proximal_femur", "femoral_neck")
"""Structures that a sided concept may be said of."""

PERIPHERAL_BONES: dict[str, str] = {"radius": "RA", "tibia": "TI", "ulna": "UL", "fibula": "FI", "metacarpal_2": "M2"}
"""Bones that HR-pQCT measures, and how a code value names them."""
PERIPHERAL: tuple[str, ...] = tuple(f"{short}-{side}" for short in PERIPHERAL_BONES.values() for side in SIDES)

SUBJECT_WORDS: dict[str, str] = {"R": "Right", "L": "Left"} | {
    f"{short}-{side}": f"{word} {bone.replace('_', ' ')}"
    for bone, short in PERIPHERAL_BONES.items()
    for side, word in (("R", "Right"), ("L", "Left"))
}
"""Subjects as names print them; a vertebra's is its own word."""


@dataclass(frozen=True, slots=True)
class Concept:
    """What one kind of number is.

    Attributes
    ----------
    key
        What ``Measurement.concept`` holds.
    value
        Code value without suffixes; the private scheme's unless ``standard`` is given.
    name
        Printed name; ``{subject}`` becomes the level ("L1"), the side ("Right") or side and bone ("Right radius").
    unit
        UCUM.
    decimals
        Decimals that are printed and stored; -1 rounds to tens.
    subjects
        Levels, sides (``R``, ``L``) or sided bones it may be said of; empty when it belongs to no single bone.
    needs_calibration
        Whether it has a code of its own for uncalibrated values.
    derivation
        Statistic, as a modifier beside the name.
    standard
        A public code that says exactly this.
    mean_of
        Levels whose regions were averaged, where the number belongs to no single bone.
    """

    key: str
    value: str
    name: str
    unit: Code
    decimals: int
    subjects: tuple[str, ...]
    needs_calibration: bool
    derivation: Code | None = None
    standard: Code | None = None
    mean_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """What one kind of statement is about; the attributes are those of ``Concept``."""

    key: str
    value: str
    name: str
    subjects: tuple[str, ...]


def _lumbar(key: str, value: str, levels: tuple[str, ...], name: str) -> Concept:
    name = f"{name} mean trabecular vBMD"
    return Concept(f"{key}_mean_trabecular_vbmd", value, name, MG_PER_CM3, 0, (), True, MEAN, mean_of=levels)


def _corrected(key: str, value: str, levels: tuple[str, ...], name: str) -> Concept:
    key, name = f"{key}_mean_trabecular_vbmd_contrast_corrected", f"{name} mean trabecular vBMD, less contrast"
    return Concept(key, value, name, MG_PER_CM3, 0, (), True, MEAN, mean_of=levels)


def _hip(key: str, value: str, name: str) -> Concept:
    return Concept(key, value, f"{{subject}} {name} integral vBMD", MG_PER_CM3, 0, SIDES, True, MEAN)


def _areal(key: str, value: str, name: str) -> Concept:
    return Concept(key, value, f"{{subject}} {name} areal BMD (CT)", G_PER_CM2, 3, SIDES, True)


def _strength(kind: str, end: str, value: str, derivation: Code) -> Concept:
    name = f"{{subject}} femur strength, {kind}, {end[:3]} (CT-FE)"
    return Concept(f"femur_strength_{kind}_{end}", value, name, NEWTON, -1, SIDES, True, derivation)


def _peripheral(key: str, value: str, name: str, unit: Code, decimals: int, *, needs_calibration: bool) -> Concept:
    return Concept(key, value, f"{{subject}} {name}", unit, decimals, PERIPHERAL, needs_calibration)


CENTRAL: tuple[Concept, ...] = (
    Concept("trabecular_vbmd", "ON1001", "{subject} trabecular vBMD", MG_PER_CM3, 0, VERTEBRAE, True, MEAN),
    Concept(
        "trabecular_vbmd_contrast_corrected",
        "ON1005",
        "{subject} trabecular vBMD, less contrast",
        MG_PER_CM3,
        0,
        VERTEBRAE,
        True,
        MEAN,
    ),
    Concept("mean_hu", "ON1002", "{subject} mean CT number", HOUNSFIELD, 0, VERTEBRAE, False, MEAN),
    Concept("femur_mean_hu", "ON1004", "{subject} femur mean CT number", HOUNSFIELD, 0, SIDES, False, MEAN),
    Concept("voi_volume", "ON1003", "Volume", CUBIC_MM, 0, (), False, None, Code("118565006", "SCT", "Volume")),
    _lumbar("l1_l2", "ON1010", ("L1", "L2"), "L1-L2"),
    _lumbar("t12_l1", "ON1011", ("T12", "L1"), "T12-L1"),
    _lumbar("t12_l2", "ON1012", ("T12", "L2"), "T12, L2"),
    _corrected("l1_l2", "ON1013", ("L1", "L2"), "L1-L2"),
    _corrected("t12_l1", "ON1014", ("T12", "L1"), "T12-L1"),
    _corrected("t12_l2", "ON1015", ("T12", "L2"), "T12, L2"),
    Concept("integral_vbmd", "ON1020", "{subject} proximal femur integral vBMD", MG_PER_CM3, 0, SIDES, True, MEAN),
    _hip("neck_integral_vbmd", "ON1021", "femoral neck"),
    _hip("trochanter_integral_vbmd", "ON1022", "trochanter"),
    _hip("total_hip_integral_vbmd", "ON1023", "total hip"),
    _areal("neck_areal_bmd", "ON1024", "femoral neck"),
    _areal("trochanter_areal_bmd", "ON1025", "trochanter"),
    _areal("total_hip_areal_bmd", "ON1026", "total hip"),
    _strength("stance", "minimum", "ON1032", MINIMUM),
    _strength("stance", "maximum", "ON1033", MAXIMUM),
    _strength("fall", "minimum", "ON1034", MINIMUM),
    _strength("fall", "maximum", "ON1035", MAXIMUM),
    Concept("vertebral_strength", "ON1040", "{subject} compressive strength (CT-FE)", NEWTON, -1, VERTEBRAE, True),
)
"""Spine and hip. ON1030 and ON1031 were strengths of one direction; the values stay retired."""

HR_PQCT: tuple[Concept, ...] = (
    _peripheral("total_area", "ON1101", "total area (Tt.Ar)", SQUARE_MM, 1, needs_calibration=False),
    _peripheral("trabecular_area", "ON1102", "trabecular area (Tb.Ar)", SQUARE_MM, 1, needs_calibration=False),
    _peripheral("cortical_area", "ON1103", "cortical area (Ct.Ar)", SQUARE_MM, 1, needs_calibration=False),
    _peripheral("cortical_perimeter", "ON1104", "cortical perimeter (Ct.Pm)", MILLIMETRE, 1, needs_calibration=False),
    _peripheral("peripheral_total_vbmd", "ON1105", "total vBMD", MG_PER_CM3, 0, needs_calibration=True),
    _peripheral("peripheral_trabecular_vbmd", "ON1106", "trabecular vBMD", MG_PER_CM3, 0, needs_calibration=True),
    _peripheral("peripheral_cortical_vbmd", "ON1107", "cortical vBMD", MG_PER_CM3, 0, needs_calibration=True),
    _peripheral("bone_volume_percent", "ON1108", "bone volume fraction (BV/TV)", PERCENT, 1, needs_calibration=False),
    _peripheral("trabecular_number_per_mm", "ON1109", "trabecular number (Tb.N)", PER_MM, 2, needs_calibration=False),
    _peripheral(
        "trabecular_thickness", "ON1110", "trabecular thickness (Tb.Th)", MILLIMETRE, 3, needs_calibration=False
    ),
    _peripheral(
        "trabecular_spacing", "ON1111", "trabecular separation (Tb.Sp)", MILLIMETRE, 3, needs_calibration=False
    ),
    _peripheral("cortical_thickness", "ON1112", "cortical thickness (Ct.Th)", MILLIMETRE, 3, needs_calibration=False),
    _peripheral(
        "cortical_porosity_percent", "ON1113", "cortical porosity (Ct.Po)", PERCENT, 1, needs_calibration=False
    ),
    _peripheral("peripheral_stiffness", "ON1120", "stiffness (micro-FE)", NEWTON_PER_MM, -1, needs_calibration=True),
    _peripheral("peripheral_failure_load", "ON1121", "failure load (micro-FE)", NEWTON, -1, needs_calibration=True),
)
"""The 13 indices of a HR-pQCT report [Whittier2020] and the numbers of micro-FE, of one bone."""

CONCEPTS: dict[str, Concept] = {concept.key: concept for concept in (*CENTRAL, *HR_PQCT)}

STATEMENTS: dict[str, Words] = {
    words.key: words
    for words in (
        Words("weakest_stance_site", "ON1050", "{subject} femur, weakest stance: failure site", SIDES),
        Words("weakest_stance_direction", "ON1051", "{subject} femur, weakest stance: load direction", SIDES),
        Words("weakest_fall_site", "ON1052", "{subject} femur, weakest fall: failure site", SIDES),
        Words("weakest_fall_direction", "ON1053", "{subject} femur, weakest fall: load direction", SIDES),
    )
}
"""What is said in words beside the numbers: where the femur fails first, and under which load."""
