"""Typed quality flags: what a reader of a result must know, and what forbids a number.

``FLAGS`` is the whole table, and docs/methods/quality-flags.md shows the same rows. A flag is raised by the
module that sees the evidence and travels unchanged into the SR, the PDF, the pages and the JSON. The checks
themselves are in ``inference.volume_checks``, ``inference.structure_checks`` and the segmenters; this module
knows only what a flag means and what follows from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

STUDY = "study"
"""The ``subject`` of a flag that concerns every structure of the series."""


@dataclass(frozen=True, slots=True)
class FlagDefinition:
    """A row of the table: what a flag means, which numbers it forbids, and why.

    Attributes
    ----------
    code
        Stable name of the flag.
    meaning
        What was seen, in a few words.
    forbids_density
        No density is reported for the flag's subject.
    forbids_strength
        No strength is reported for the flag's subject.
    reason
        Why it forbids what it forbids, and nothing else.
    forbids_category
        A density may stand, but no diagnostic category is derived from it.
    """

    code: str
    meaning: str
    forbids_density: bool
    forbids_strength: bool
    reason: str
    forbids_category: bool = False


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """One flag raised on one subject.

    Attributes
    ----------
    code
        A key of ``FLAGS``.
    subject
        ``study`` or the key of a structure in ``inference.labels``.
    sentence
        ASCII sentence for people: what was found, what was expected. Never a patient's identifier.
    evidence
        Pairs of (name with unit, value), for example ``(("metal_volume_mm3", 4100.0),)``.
    """

    code: str
    subject: str
    sentence: str
    evidence: tuple[tuple[str, float | str], ...] = ()

    @property
    def definition(self) -> FlagDefinition:
        """The table's row for this flag."""
        return FLAGS[self.code]

    def concerns(self, structure: str) -> bool:
        """Whether the flag holds for ``structure``: raised on it, or on the whole study."""
        return self.subject in (structure, STUDY)


def forbids_density(flags: Iterable[QualityFlag], structure: str) -> bool:
    """Whether any flag that concerns ``structure`` forbids its density."""
    return any(flag.definition.forbids_density for flag in flags if flag.concerns(structure))


def forbids_strength(flags: Iterable[QualityFlag], structure: str) -> bool:
    """Whether any flag that concerns ``structure`` forbids its strength."""
    return any(flag.definition.forbids_strength for flag in flags if flag.concerns(structure))


def forbids_category(flags: Iterable[QualityFlag], structure: str) -> bool:
    """Whether any flag that concerns ``structure`` forbids a category; what forbids density does."""
    return any(
        flag.definition.forbids_category or flag.definition.forbids_density
        for flag in flags
        if flag.concerns(structure)
    )


def merged_flags(*groups: Iterable[QualityFlag]) -> tuple[QualityFlag, ...]:
    """Join groups of flags; of several with one code and one subject the first stays."""
    flags: dict[tuple[str, str], QualityFlag] = {}
    for group in groups:
        for flag in group:
            flags.setdefault((flag.code, flag.subject), flag)
    return tuple(flags.values())


_ROWS: tuple[FlagDefinition, ...] = (
    FlagDefinition(
        "metal",
        "Metal or cement inside or beside the bone",
        forbids_density=True,
        forbids_strength=True,
        reason="Streaks and blooming change HU by more than bones differ; stiffness would be meaningless.",
    ),
    FlagDefinition(
        "not_found",
        "A structure that was asked for is not in the scan, or was not recognised",
        forbids_density=True,
        forbids_strength=True,
        reason="What was not found cannot be measured.",
    ),
    FlagDefinition(
        "bone_not_separated",
        "The mask may hold part of a neighbouring bone, or lack part of its own",
        forbids_density=True,
        forbids_strength=True,
        reason="Two bones taken for one have neither the density nor the load path of either.",
    ),
    FlagDefinition(
        "level_uncertain",
        "The vertebral level may be wrong by one or more",
        forbids_density=True,
        forbids_strength=True,
        reason="A right number under the wrong vertebra's name is a wrong number.",
    ),
    FlagDefinition(
        "no_strength",
        "The finite-element model of the bone could not be built or solved",
        forbids_density=False,
        forbids_strength=True,
        reason="There is no number to report; the sentence says where the model stopped.",
    ),
    FlagDefinition(
        "short_shaft",
        "The scan ends so high that the femur model has little or no shaft to be held by",
        forbids_density=False,
        forbids_strength=False,
        reason="The neck is whole, so its failure is seen, but the fixed end is near: the strength compares "
        "only with femurs cut alike. A cut through the head is truncated_bone.",
    ),
    FlagDefinition(
        "truncated_bone",
        "The edge of the scan cuts the bone where it should be whole",
        forbids_density=True,
        forbids_strength=True,
        reason="A part of the region that the number is defined on is missing.",
    ),
    FlagDefinition(
        "deformed_vertebra",
        "The vertebral body's heights differ more than a normal body's: fracture or deformity",
        forbids_density=True,
        forbids_strength=False,
        reason="A compressed body is denser because it is compressed, not because it is strong.",
    ),
    FlagDefinition(
        "voi_too_small",
        "The trabecular volume of interest holds too few voxels or too little volume",
        forbids_density=True,
        forbids_strength=False,
        reason="The mean of a few voxels beside the cortex is neither precise nor trabecular.",
    ),
    FlagDefinition(
        "uneven_core",
        "The trabecular core holds dense bone: endplate, Schmorl's node or sclerosis",
        forbids_density=False,
        forbids_strength=False,
        reason="The mean is a little too high; the interval and the picture show by how much and where.",
    ),
    FlagDefinition(
        "saturated",
        "Most of the bone is brighter than the density network tells apart",
        forbids_density=False,
        forbids_strength=False,
        reason="The network's density is too low there; the straight line beside it is not.",
        forbids_category=True,
    ),
    FlagDefinition(
        "neck_not_whole",
        "The femoral neck is cut by the scan or was not recognised; the proximal femur was measured instead",
        forbids_density=False,
        forbids_strength=False,
        reason="The number is right for the bone in the scan, but depends on where the scan ends.",
    ),
    FlagDefinition(
        "air_gaps",
        "Planes of air cut through the body: a phantom built of slabs, or damaged slices",
        forbids_density=True,
        forbids_strength=True,
        reason="Bone across a gap carries no load, and air inside the mask lowers its density.",
    ),
    FlagDefinition(
        "implausible_hu",
        "The CT numbers are not on the Hounsfield scale",
        forbids_density=True,
        forbids_strength=True,
        reason="Every density is a function of HU; a shifted or scaled HU shifts all of them.",
    ),
    FlagDefinition(
        "thick_slices",
        "Slices thicker than 3 mm",
        forbids_density=False,
        forbids_strength=True,
        reason="Partial volume moves the cortex and the joint space by more than the model tolerates.",
        forbids_category=True,
    ),
    FlagDefinition(
        "voxels_too_coarse",
        "Voxels longer than 5 mm along some axis",
        forbids_density=True,
        forbids_strength=True,
        reason="No voxel of a vertebral body would be free of endplate or cortex.",
    ),
    FlagDefinition(
        "coarse_voxels",
        "Pixels larger than 1.5 mm within the slice",
        forbids_density=False,
        forbids_strength=False,
        reason="Thin cortex is blurred: the surface and its strains are less certain, cancellous means hold.",
    ),
    FlagDefinition(
        "sharp_kernel",
        "Reconstructed with an edge-enhancing kernel",
        forbids_density=False,
        forbids_strength=False,
        reason="Overshoot at cortex and noise raise the spread of HU; means of large cores change little.",
    ),
    FlagDefinition(
        "unknown_kernel",
        "The header does not say which kernel the images were reconstructed with",
        forbids_density=False,
        forbids_strength=False,
        reason="The reader must know that edge enhancement could not be ruled out.",
    ),
    FlagDefinition(
        "contrast_given",
        "The header states a contrast agent",
        forbids_density=False,
        forbids_strength=False,
        reason="Perfused marrow reads denser than it is, so a category would be too good.",
        forbids_category=True,
    ),
    FlagDefinition(
        "contrast_seen",
        "A vessel in front of the spine is as bright as contrast agent makes it",
        forbids_density=False,
        forbids_strength=False,
        reason="Perfused marrow reads denser than it is, so a category would be too good.",
        forbids_category=True,
    ),
    FlagDefinition(
        "internal_calibration",
        "Calibrated by the patient's own tissues, for want of a phantom or a record",
        forbids_density=False,
        forbids_strength=False,
        reason="The standard error is a fifth of the range between the limits of a category.",
        forbids_category=True,
    ),
    FlagDefinition(
        "uncalibrated",
        "No valid calibration of this scanner and protocol; the default line was used",
        forbids_density=False,
        forbids_strength=False,
        reason="The same bone reads differently on two scanners, so limits of a category do not apply.",
        forbids_category=True,
    ),
    FlagDefinition(
        "noisy",
        "The image noise is high",
        forbids_density=False,
        forbids_strength=False,
        reason="Noise widens the interval of a number; it does not shift a mean.",
    ),
    FlagDefinition(
        "wrong_position",
        "The patient did not lie head first and supine",
        forbids_density=False,
        forbids_strength=False,
        reason="Sides and levels come from patient coordinates and hold; posture and gravity differ.",
    ),
    FlagDefinition(
        "oblique_volume",
        "The slices are turned by more than 20 degrees against the patient's axes",
        forbids_density=True,
        forbids_strength=True,
        reason="The segmenters were never shown such volumes; what they find there is not known to be right.",
    ),
    FlagDefinition(
        "metal_elsewhere",
        "Metal, or undiluted contrast, somewhere in the scan",
        forbids_density=False,
        forbids_strength=False,
        reason="Streaks of distant metal change HU little; the reader should look for them.",
    ),
    FlagDefinition(
        "derived_images",
        "The images were computed from other images, not from the scanner's raw data",
        forbids_density=False,
        forbids_strength=False,
        reason="Reformatting and resampling smooth bone; HU still mean what they mean.",
    ),
    FlagDefinition(
        "spectral_images",
        "Images of a spectral CT at one energy, or of one material, not of a tube voltage",
        forbids_density=True,
        forbids_strength=True,
        reason="The same bone reads up to twice as dense, or is taken out; no calibration of a tube voltage holds.",
    ),
    FlagDefinition(
        "turned_patient",
        "The bones lie otherwise than the header says: front and back, or the sides, are exchanged",
        forbids_density=True,
        forbids_strength=True,
        reason="A right number under the name of the other side is a wrong number.",
    ),
    FlagDefinition(
        "unusual_neck",
        "The angle found between the neck and the shaft of the femur is none of a femur's",
        forbids_density=False,
        forbids_strength=False,
        reason="The neck's slab does not depend on the shaft; trochanter, total hip and areal density do: left out.",
    ),
    FlagDefinition(
        "hip_not_whole",
        "The scan does not show every region of the hip whole; only whole regions were measured",
        forbids_density=False,
        forbids_strength=False,
        reason="What is measured is whole; the sentence says what is missing and why.",
    ),
    FlagDefinition(
        "pose_assumed",
        "The shaft is too short in the scan to give its axis; the patient's long axis was taken",
        forbids_density=False,
        forbids_strength=False,
        reason="Region borders and the direction of projection turn by a few degrees; areal density changes little.",
    ),
    FlagDefinition(
        "contrast_corrected",
        "A contrast-corrected density of the spine stands beside the measured one",
        forbids_density=False,
        forbids_strength=False,
        reason="The correction is the mean rise of other patients; this patient's may be far from it.",
        forbids_category=True,
    ),
    FlagDefinition(
        "no_contrast_correction",
        "The site asks for densities corrected for contrast, and none could be given",
        forbids_density=False,
        forbids_strength=False,
        reason="Without a measured enhancement the phase is not known, and nothing can be taken off.",
        forbids_category=True,
    ),
    FlagDefinition(
        "broken_stack",
        "Neighbouring slices do not continue one another: another body, or slices left out, repeated or out of order",
        forbids_density=True,
        forbids_strength=True,
        reason="Bones of two bodies under one name, or bones with a piece missing, have no density and no strength.",
    ),
    FlagDefinition(
        "scale_by_tissue",
        "The field lies inside the body, so the scale was checked on fat and muscle, not on air",
        forbids_density=False,
        forbids_strength=False,
        reason="Fat and muscle differ between people by more than air does: a shift of 20 HU would not be seen.",
        forbids_category=True,
    ),
    FlagDefinition(
        "named_otherwise",
        "A second segmenter gives the bone the name of another level or side",
        forbids_density=True,
        forbids_strength=True,
        reason="One of the two names is wrong, and a right number under the wrong name is a wrong number.",
    ),
    FlagDefinition(
        "segmenters_differ",
        "Two segmenters agree on the bone's name but not on its extent",
        forbids_density=False,
        forbids_strength=False,
        reason="The number is that of the first; the reader should look at its outline.",
        forbids_category=True,
    ),
    FlagDefinition(
        "no_second_opinion",
        "The second segmenter, which checks levels and sides, failed",
        forbids_density=False,
        forbids_strength=False,
        reason="The first segmenter has its own checks; only the comparison is missing.",
    ),
)

FLAGS: dict[str, FlagDefinition] = {definition.code: definition for definition in _ROWS}
"""Every flag, by code."""
