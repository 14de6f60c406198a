"""From what was found to what is reported: the one translator between the measuring packages and sr_export."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from dicom_node import __version__
from dicom_node.pipeline.density_groups import (
    DENSITOMETRY,
    femur_groups,
    lumbar_group,
    vertebra_group,
    voi_region,
)
from dicom_node.pipeline.pictures import pictures_of
from fe.load_cases import Kind
from fe.sensitivity import Sensitivity
from fe.strength import CaseStrength, FemurStrength
from inference.areal_density import ArealResult
from inference.calibration import CalibrationRecord
from inference.contrast_correction import ContrastCorrection
from inference.densitometry import Density, LumbarMean
from inference.labels import BY_KEY, FEMURS, STRUCTURES, VERTEBRAE
from inference.quality import STUDY, QualityFlag
from inference.segmentation import Segmentation
from inference.volume import Volume
from sr_export.inputs import (
    Algorithm,
    CalibrationStatement,
    Equipment,
    Finding,
    Group,
    Measurement,
    Region,
    Report,
    Statement,
)

if TYPE_CHECKING:
    from dicom_node.pipeline.analysis import Tools

KINDS: tuple[Kind, ...] = ("stance", "fall")
DIRECTION_WORDS: dict[Kind, tuple[tuple[str, str], tuple[str, str]]] = {
    "stance": (("from medial to lateral", "from lateral to medial"), ("from front to back", "from back to front")),
    "fall": (("adduction", "abduction"), ("internal rotation", "external rotation")),
}
"""What a positive and a negative angle of a load case mean, frontal first; see ``fe.load_cases.LoadCase``."""
SEGMENTATION, STRENGTH = "segmentation", "femur_strength"
DENSITOMETRY_VERSION = "2"
STRENGTH_VERSION = "2"

LIMITS = (
    "Research use only; not verified by a physician; not for diagnosis or treatment.",
    "Volumetric density from CT is not the areal density of DXA; WHO T-scores do not apply (ISCD).",
    "Strength is a linear finite-element estimate over tables of stances and falls; other loads are not covered.",
    "The interval of a strength is that of the bone's outline moved by one voxel in or out; it holds no other error.",
)


AREAL_LIMIT = (
    "Areal density is the CT's density projected front to back: it is not DXA, was not compared with DXA, and has no "
    "T-score."
)


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything one analysis found, in the measuring packages' own values."""

    volume: Volume
    segmentation: Segmentation
    record: CalibrationRecord
    densities: tuple[Density, ...]
    lumbar: LumbarMean | None
    strengths: dict[str, FemurStrength]
    sensitivities: dict[str, Sensitivity]
    flags: tuple[QualityFlag, ...]
    areal: ArealResult = field(default_factory=ArealResult)
    contrast: ContrastCorrection = field(default_factory=ContrastCorrection)


def report_from(findings: Findings, tools: "Tools") -> tuple[Report, dict[str, Any]]:
    """Return the report, and figures of the computation that join its JSON."""
    report = Report(
        job_reference=tools.job_reference,
        created=tools.created,
        headline=headline(findings),
        regions=tuple(_regions(findings)),
        groups=tuple(_groups(findings)),
        findings=(*_findings(findings), *_incomplete(tools)),
        calibration=_calibration(findings.record),
        algorithms=tuple(_algorithms(findings, tools)),
        equipment=Equipment("OsteoNode", "osteonode", __version__, tools.serial_number),
        technical=tuple(_technical(findings.volume)),
        limits=(*LIMITS, *_areal_limit(findings), *_no_category(findings.lumbar), *_only_some(tools)),
        pictures=tuple(pictures_of(findings)),
    )
    areal = [asdict(one) for one in findings.areal.densities]
    grid = {"affine_lps": findings.volume.affine_lps.tolist(), "shape": list(findings.volume.hu.shape)}
    return report, {"grid": grid, "computation": _computation(findings), "areal_density": areal}


def headline(findings: Findings) -> str:
    """Say the result in one ASCII sentence a line: spine, then each femur, then what was refused."""
    said = []
    uncalibrated = ", uncalibrated" if findings.record.is_default else ""
    if findings.lumbar is not None:
        levels = " and ".join(findings.lumbar.levels)
        category = f", {findings.lumbar.category}" if findings.lumbar.category else ""
        said.append(
            f"Mean trabecular vBMD of {levels}: {findings.lumbar.vbmd_mg_per_cm3:.0f} mg/cm3{uncalibrated}{category}."
        )
    else:
        singles = [
            f"{one.structure} {one.vbmd_mg_per_cm3:.0f}" for one in findings.densities if one.structure in VERTEBRAE
        ]
        if singles:
            said.append(f"Trabecular vBMD: {', '.join(singles)} mg/cm3{uncalibrated}; no L1-L2 mean.")
    for key, strength in findings.strengths.items():
        loads = ", ".join(range_of(strength, kind) for kind in KINDS if strength.of_kind(kind))
        short = ", tending high: little shaft in view" if any(f.code == "short_shaft" for f in strength.flags) else ""
        said.append(f"{BY_KEY[key].name} strength: {loads}{uncalibrated}{short}.")
    said.extend(_without_strength(findings))
    if not findings.densities and not findings.strengths:
        general = [flag for flag in findings.flags if flag.subject == STUDY]
        said = [f"No density and no strength is reported. {forbidding_sentences(general)}".strip()]
    return " ".join(said)


def _without_strength(findings: Findings) -> Iterator[str]:
    """Name the femurs that were found and have no strength: those with a density, then those with nothing."""
    labels, measured = findings.segmentation.labels, {one.structure for one in findings.densities}
    without = [key for key in FEMURS if key not in findings.strengths and (labels == BY_KEY[key].value).any()]
    for words, has_density in (("No strength", True), ("Not analysed", False)):
        names = [BY_KEY[key].name for key in without if (key in measured) == has_density]
        if names:
            yield f"{words}: {', '.join(names)}; see findings."


def range_of(strength: FemurStrength, kind: Kind) -> str:
    """Say the weakest and the strongest direction of a kind: ``fall 2660 to 4270 N in 28 directions``."""
    weakest, strongest = (round(one, -1) for one in extremes_n(strength, kind))
    loads = f"{weakest:.0f} N" if weakest == strongest else f"{weakest:.0f} to {strongest:.0f} N"
    count = len(strength.of_kind(kind))
    return f"{kind} {loads}" + (f" in {count} directions" if count > 1 else "")


def extremes_n(strength: FemurStrength, kind: Kind) -> tuple[float, float]:
    """Return the smallest and the largest strength over the directions of a kind, N."""
    loads = [case.failure_load_n for case in strength.of_kind(kind)]
    return min(loads), max(loads)


def forbidding_sentences(flags: Sequence[QualityFlag]) -> str:
    """Return what the flags that forbid a number say."""
    forbidding = [flag for flag in flags if flag.definition.forbids_density or flag.definition.forbids_strength]
    return " ".join(flag.sentence for flag in forbidding)


def _areal_limit(findings: Findings) -> tuple[str, ...]:
    """Say what an areal density by CT is not."""
    return (AREAL_LIMIT,) if findings.areal.densities else ()


def _no_category(lumbar: LumbarMean | None) -> tuple[str, ...]:
    """Say why a lumbar mean has no category."""
    return (lumbar.no_category_because,) if lumbar and lumbar.no_category_because else ()


def _only_some(tools: "Tools") -> tuple[str, ...]:
    """Say that not every bone was asked for."""
    if len(tools.pipelines) > 1:
        return ()
    return (f"Only the {tools.pipelines[0]} was asked for; other bones were not measured.",)


def _incomplete(tools: "Tools") -> tuple[Finding, ...]:
    """Say that the study was analysed although it was known to lack images."""
    if not tools.incomplete:
        return ()
    return (Finding("incomplete_study", STUDY, f"The study was analysed although images lack. {tools.incomplete}"),)


def _regions(findings: Findings) -> Iterator[Region]:
    """Bones that were found, then the volumes of interest."""
    for structure in STRUCTURES:
        region = _bone(findings, structure.key)
        if region.mask.any():
            yield region
    for density in findings.densities:
        if density.structure in VERTEBRAE:
            yield voi_region(density)


def _bone(findings: Findings, key: str) -> Region:
    structure = BY_KEY[key]
    mask = findings.segmentation.labels == structure.value
    return Region(key, structure.name, anatomy_of(key), structure.laterality, mask)


def anatomy_of(key: str) -> str:
    """Return the anatomical structure of a label's key: without its side."""
    for prefix, anatomy in (("femur", "femur"), ("hip", "hip_bone")):
        if key.startswith(prefix):
            return anatomy
    return key


def _groups(findings: Findings) -> Iterator[Group]:
    if findings.lumbar is not None:
        yield lumbar_group(findings.lumbar, findings.contrast.lumbar)
    for density in findings.densities:
        if density.structure in VERTEBRAE:
            yield vertebra_group(density, findings.contrast.of_core(density.structure))
    for key in FEMURS:
        region = _bone(findings, key)
        if key in findings.strengths:
            yield _strength_group(region, findings.strengths[key], findings.sensitivities.get(key))
        yield from femur_groups(region, findings.densities, findings.areal.densities)


def _strength_group(region: Region, strength: FemurStrength, sensitivity: Sensitivity | None) -> Group:
    flags = (*strength.flags, *(sensitivity.flags if sensitivity is not None else ()))
    return Group(
        key=region.key,
        name=f"{region.name} strength",
        structure="femur",
        laterality=region.laterality,
        algorithm=STRENGTH,
        measurements=tuple(
            Measurement(f"femur_strength_{kind}_{end}", load_n, *_interval_n(sensitivity, f"{kind}_{end}"))
            for kind in KINDS
            if strength.of_kind(kind)
            for end, load_n in zip(("minimum", "maximum"), extremes_n(strength, kind), strict=True)
        ),
        region=region,
        findings=tuple(Finding(flag.code, region.key, flag.sentence) for flag in flags),
        statements=tuple(_weakest(strength)),
    )


def _weakest(strength: FemurStrength) -> Iterator[Statement]:
    """Say where the femur fails first in its weakest stance and fall, and under which load."""
    for kind in KINDS:
        case = strength.weakest(kind)
        if case is not None:
            yield Statement(f"weakest_{kind}_site", f"{case.failure_site}, in {case.mode}")
            yield Statement(f"weakest_{kind}_direction", direction_of(case))


def direction_of(case: CaseStrength) -> str:
    """Say a load case's angles as people do: ``10 degrees adduction, 15 degrees internal rotation``."""
    frontal, second = (
        f"{abs(angle):.0f} degrees {words[angle < 0]}"
        for angle, words in zip((case.frontal_deg, case.second_deg), DIRECTION_WORDS[case.kind], strict=True)
    )
    return f"{frontal}, {second}"


def _interval_n(sensitivity: Sensitivity | None, name: str) -> tuple[float, float] | tuple[None, None]:
    """Return the smallest and largest strength with the outline moved by one voxel; none where one has no answer."""
    if sensitivity is None:
        return None, None
    near = [step.strengths_n.get(name) for step in sensitivity.steps if abs(step.step_voxels) <= 1]
    known = [load for load in near if load is not None]
    return (min(known), max(known)) if len(known) == len(near) else (None, None)


def _findings(findings: Findings) -> Iterator[Finding]:
    """Yield every quality flag, but not those the strength's model says again and better."""
    said = {(flag.code, key) for key, strength in findings.strengths.items() for flag in strength.flags}
    for flag in findings.flags:
        if (flag.code, flag.subject) not in said:
            row = flag.definition
            yield Finding(flag.code, flag.subject, flag.sentence, row.forbids_density or row.forbids_strength)


def _calibration(record: CalibrationRecord) -> CalibrationStatement:
    return CalibrationStatement(
        is_calibrated=not record.is_default,
        method=_calibration_method(record),
        material=record.material,
        phantom=record.phantom,
        measured_on=record.measured_on,
        slope_mg_per_cm3_per_hu=record.slope_mg_per_cm3_per_hu,
        intercept_mg_per_cm3=record.intercept_mg_per_cm3,
    )


def _calibration_method(record: CalibrationRecord) -> str:
    """Say how HU became density, with its standard error where that is known."""
    if record.is_default:
        return "default line, not of this scanner"
    if record.standard_error_mg_per_cm3 is None:
        return f"asynchronous, record {record.record_id}"
    return f"{record.record_id}, standard error {record.standard_error_mg_per_cm3:.1f} mg/cm3"


def _algorithms(findings: Findings, tools: "Tools") -> Iterator[Algorithm]:
    identity = findings.segmentation.identity
    yield Algorithm(
        SEGMENTATION,
        identity.name,
        identity.version,
        "bone segmentation",
        (f"checksum={identity.checksum[:16]}",),
        "morphological",
    )
    calibration = f"calibration={findings.record.record_id}"
    yield Algorithm(
        DENSITOMETRY,
        "OsteoNode densitometry",
        DENSITOMETRY_VERSION,
        "bone mineral density",
        (calibration,),
        "histogram",
    )
    if findings.strengths:
        parameters = (f"element_mm={tools.element_mm:g}", calibration)
        yield Algorithm(STRENGTH, "OsteoNode CT-FE", STRENGTH_VERSION, "femur strength", parameters, "finite_elements")


def _technical(volume: Volume) -> Iterator[tuple[str, str]]:
    acquisition = volume.acquisition
    slice_mm, row_mm, column_mm = volume.spacing_mm
    yield "Scanner", f"{acquisition.manufacturer} {acquisition.model_name}".strip() or "not given"
    yield "Tube voltage", f"{acquisition.kvp:g} kV" if acquisition.kvp else "not given"
    yield "Kernel", acquisition.convolution_kernel or "not given"
    yield "Voxel", f"{row_mm:.2f} x {column_mm:.2f} x {slice_mm:.2f} mm"
    yield "Slices", str(volume.hu.shape[0])
    yield "Contrast agent", acquisition.contrast_agent or "none in the header"


def _computation(findings: Findings) -> dict[str, Any]:
    """Figures a scientist asks for: elements, residuals, reactions, modulus range."""
    found: dict[str, Any] = {}
    for key, strength in findings.strengths.items():
        found[key] = _summary(strength)
        if key in findings.sensitivities:
            found[key]["sensitivity"] = [asdict(step) for step in findings.sensitivities[key].steps]
    return found


def _summary(strength: FemurStrength) -> dict[str, Any]:
    return {
        **asdict(strength.facts),
        "discretisation": strength.discretisation,
        "unit_responses": strength.column_count,
        "frame": asdict(strength.frame),
        "cases": [asdict(case) for case in strength.cases],
    }
