"""Plain frozen values that describe one report; the only input of the builders besides source headers.

Nothing here is DICOM and nothing here names a patient: identity comes from the source instances' headers at
the moment the objects are built, on the hospital side.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Laterality = Literal["R", "L", ""]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm that contributed (TID 4019; Contributing Equipment 109102 DCM carries the same values).

    Its Device UID is made from manufacturer, key and version, so it changes with every version. The algorithm
    whose key is ``segmentation`` is named in the SEG. ``family`` is a key of ``sr_export.codes.FAMILIES``.
    """

    key: str
    name: str
    version: str
    purpose: str
    parameters: tuple[str, ...] = ()
    family: str = ""


@dataclass(frozen=True, slots=True)
class Equipment:
    """The node itself, as General and Contributing Equipment."""

    manufacturer: str
    model_name: str
    software_version: str
    serial_number: str


@dataclass(frozen=True, slots=True)
class Region:
    """One segmented region in the source series.

    Attributes
    ----------
    key
        Stable key, for example ``femur_right`` or ``L1_voi``.
    name
        Segment label people read, side or level first: ``Right femur``, ``L1 trabecular VOI``.
    structure
        Key of ``sr_export.codes.STRUCTURES``: ``femur``, ``hip_bone``, ``sacrum``, ``T12``, ``L1`` ...
    laterality
        ``R``, ``L`` or empty.
    mask : (slice, row, column) bool array
        On the source series' own grid, slices in the order of the ``source`` datasets given to the builders.
    """

    key: str
    name: str
    structure: str
    laterality: Laterality
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number. ``concept`` is a key of ``sr_export.codes.CONCEPTS``, which fixes its unit.

    ``low`` and ``high`` bound the interval where one is known.
    """

    concept: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A quality flag or statement about one subject. ``code`` is a key of ``sr_export.codes.FINDINGS``."""

    code: str
    subject: str
    sentence: str
    forbids: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """Something said in words beside a group's numbers. ``concept`` is a key of ``sr_export.concepts.STATEMENTS``."""

    concept: str
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Measurements of one region, or a mean over the regions of several groups when ``region`` is None (TID 1411).

    ``structure`` and ``laterality`` repeat the region's, and stand alone for a group without region.
    ``category`` is a key of ``sr_export.codes.CATEGORIES`` or None. ``statements`` are printed after the numbers.
    """

    key: str
    name: str
    structure: str
    laterality: Laterality
    algorithm: str
    measurements: tuple[Measurement, ...]
    region: Region | None = None
    category: str | None = None
    findings: tuple[Finding, ...] = ()
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture for the page. ``rgb`` is a (row, column, 3) uint8 array without any identifier in it."""

    key: str
    title: str
    caption: str
    rgb: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CalibrationStatement:
    """How HU became density. ``is_calibrated`` False puts ``uncalibrated`` beside densities and strengths."""

    is_calibrated: bool
    method: str
    material: str
    phantom: str
    measured_on: date | None
    slope_mg_per_cm3_per_hu: float
    intercept_mg_per_cm3: float


@dataclass(frozen=True, slots=True)
class PriorValue:
    """One number of an earlier examination of the same patient, to compare with.

    It comes from an earlier study; an earlier report on the same study is replaced and no prior. ``concept``,
    ``structure`` and ``laterality`` are those of the number it is compared with; ``value`` is in the concept's unit.
    """

    concept: str
    structure: str
    laterality: Laterality
    value: float
    study_date: date
    is_calibrated: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the result objects say.

    Attributes
    ----------
    job_reference
        The job's reference; not derived from the patient.
    created
        Timezone-aware time of the job; every object of the job carries this one time.
    headline
        One ASCII sentence with the result, or why there is none.
    regions
        What the SEG shows, in segment order.
    groups
        The measurements, in reading order.
    findings
        Quality flags of the whole study and of structures.
    technical
        (name, value) pairs of technical adequacy: kVp, kernel, slice thickness, ...
    limits
        Sentences that limit the result.
    prior
        Numbers of earlier studies of the same patient, where any are known; the page says what changed.
    """

    job_reference: str
    created: datetime
    headline: str
    regions: tuple[Region, ...]
    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]
    calibration: CalibrationStatement
    algorithms: tuple[Algorithm, ...]
    equipment: Equipment
    technical: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]
    pictures: tuple[Picture, ...]
    prior: tuple[PriorValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Correction:
    """The segmentation that a person corrected and this report rests on; known on the hospital side only.

    Attributes
    ----------
    operator
        Person Name of who corrected it, in DICOM's form; empty when the object names nobody.
    reason
        What the object says of itself; may be empty.
    sop_class_uid, sop_instance_uid, series_instance_uid
        Of the corrected Segmentation, which lies in the same study as the source.
    """

    operator: str = field(repr=False)
    reason: str = field(repr=False)
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
