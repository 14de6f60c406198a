"""Step 2: the analysis itself, as one straight function. It sees clean instances, numbers and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import JobRejected
from dicom_node.pipeline.calibration import Choice, load_choice, load_phantoms
from dicom_node.pipeline.corrections import load_correction
from dicom_node.pipeline.report_files import save_report
from dicom_node.pipeline.requests_subject import load_request, subject_of
from dicom_node.pipeline.results import Findings, forbidding_sentences, report_from
from dicom_node.segmenters.table import SegmenterSite, make_segmenter
from dicom_node.storage.files import write_durably
from fe.errors import FeError
from fe.femur_sensitivity import femur_sensitivity
from fe.sensitivity import Sensitivity
from fe.strength import FemurStrength, femur_strength
from inference.areal_density import measure_areal
from inference.calibration import CalibrationRecord, rho_ash_mg_per_cm3, rho_qct_mg_per_cm3
from inference.contrast_correction import ContrastCorrection, correct_contrast
from inference.densitometry import lumbar_mean, measure_density
from inference.dicom_volume import volume_from_datasets
from inference.errors import InferenceError
from inference.labels import BY_KEY, FEMURS, VERTEBRAE
from inference.phantom import Phantom
from inference.quality import QualityFlag, forbids_strength, merged_flags
from inference.scan_calibration import calibrate_scan
from inference.segmentation import ClassicalSegmenter, Segmentation, Segmenter
from inference.structure_checks import check_structures
from inference.volume import Volume, canonical
from inference.volume_checks import check_volume

Progress = Callable[[float, str], None]
PIPELINE_BONES: dict[str, tuple[str, ...]] = {
    "hip": ("femur_right", "femur_left", "hip_right", "hip_left"),
    "spine": (*VERTEBRAE, "sacrum"),
}
"""What a routing rule may ask for, and the structures that are kept for it; all are looked for, as levels need both."""
PIPELINE_NAMES = {"hip": "hip", "spine": "lumbar vertebra"}
SLICES_FILE = "slices.txt"
"""Clean SOP Instance UIDs of the analysed slices, in the order of the masks."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an analysis needs besides images.

    ``created`` is the job's time, carried by every result; ``serial_number`` names this node in them. ``pipelines``
    says which bones were asked for; ``incomplete`` what the study lacked when it was taken all the same.
    """

    job_reference: str
    created: datetime
    serial_number: str
    calibration: Choice
    element_mm: float
    with_interval: bool = True
    phantoms: tuple[Phantom, ...] = ()
    may_use_tissues: bool = False
    segmenter: Segmenter = field(default_factory=ClassicalSegmenter)
    pipelines: tuple[str, ...] = tuple(PIPELINE_BONES)
    incomplete: str = ""
    corrects_contrast: bool = False


def analyse_folder(clean: Path, output: Path, tools: Tools, progress: Progress) -> str:
    """Analyse a folder of clean instances and write the report; return its headline.

    Raises
    ------
    JobRejected
        When the series is no usable CT, or shows no bone this node measures.
    """
    findings = analyse([dcmread(path) for path in sorted(clean.glob("*.dcm"))], tools, progress)
    report, figures = report_from(findings, tools)
    write_durably(output / SLICES_FILE, ["\n".join(findings.volume.instance_uids).encode()])
    subject = subject_of(dcmread(min(clean.glob("*.dcm")), stop_before_pixels=True), load_request(clean.parent))
    save_report(report, output, {**figures, "subject": subject})
    progress(1.0, "report")
    return report.headline


def analyse(instances: Sequence[Dataset], tools: Tools, progress: Progress) -> Findings:
    """Find the bones, measure their density and compute their strength.

    Raises
    ------
    JobRejected
        When there is no bone at all; a bone that must not be measured is a report that says so.
    """
    progress(0.0, "reading the volume")
    record, calibration_flags = tools.calibration
    try:
        volume = volume_from_datasets(instances)
        flags = merged_flags(check_volume(volume), calibration_flags)
        found = tools.segmenter.segment(volume, lambda done, doing: progress(0.05 + 0.4 * done, doing))
        segmentation = asked_for(found, tools.pipelines)
        flags = merged_flags(flags, segmentation.flags, check_structures(volume, segmentation.labels))
        if not segmentation.labels.any():
            raise JobRejected(f"{_nothing_found(tools.pipelines)} {forbidding_sentences(flags)}")
        progress(0.45, "measuring density")
        record, flags = calibrate_scan(
            volume, segmentation.labels, record, flags, tools.phantoms, may_use_tissues=tools.may_use_tissues
        )
        densities, density_flags = measure_density(volume, segmentation.labels, record, flags)
        areal = measure_areal(volume, segmentation.labels, record, flags)
        flags = merged_flags(flags, density_flags, areal.flags)
    except InferenceError as error:
        raise JobRejected(str(error)) from None
    strengths, sensitivities, strength_flags = _strengths(volume, segmentation.labels, flags, record, tools, progress)
    flags = merged_flags(flags, strength_flags)
    lumbar = lumbar_mean(densities, record, flags)
    contrast = correct_contrast(densities, lumbar, record, flags) if tools.corrects_contrast else ContrastCorrection()
    flags = merged_flags(flags, contrast.flags)
    progress(0.9, "pictures")
    return Findings(
        volume=volume,
        segmentation=segmentation,
        record=record,
        densities=densities,
        lumbar=lumbar,
        strengths=strengths,
        sensitivities=sensitivities,
        flags=flags,
        areal=areal,
        contrast=contrast,
    )


def asked_for(found: Segmentation, pipelines: Sequence[str]) -> Segmentation:
    """Keep the structures of the pipelines that were asked for, and the flags that concern them."""
    kept = {key for name in pipelines for key in PIPELINE_BONES[name]}
    if kept.issuperset(BY_KEY):
        return found
    values = [BY_KEY[key].value for key in kept]
    labels = np.where(np.isin(found.labels, values), found.labels, 0).astype(np.uint8)
    flags = tuple(flag for flag in found.flags if flag.subject not in BY_KEY or flag.subject in kept)
    return replace(found, labels=labels, flags=flags)


def _nothing_found(pipelines: Sequence[str]) -> str:
    names = [PIPELINE_NAMES[name] for name in PIPELINE_BONES if name in pipelines]
    found = f"neither a {' nor a '.join(names)}" if len(names) > 1 else f"no {names[0]}"
    return f"Found {found} in this CT."


def _strengths(
    volume: Volume,
    labels: NDArray[np.uint8],
    flags: Sequence[QualityFlag],
    record: CalibrationRecord,
    tools: Tools,
    progress: Progress,
) -> tuple[dict[str, FemurStrength], dict[str, Sensitivity], tuple[QualityFlag, ...]]:
    """Compute the strength of every femur that may be computed; a femur without a model gets a flag."""
    upright, orientation = canonical(volume)
    turned = orientation.apply(labels)
    wanted = [key for key in FEMURS if (turned == BY_KEY[key].value).any() and not forbids_strength(flags, key)]
    if not wanted:
        return {}, {}, ()
    rho = rho_qct_mg_per_cm3(upright.hu, record)

    def to_ash(rho_qct: NDArray[np.floating]) -> NDArray[np.float64]:
        return rho_ash_mg_per_cm3(rho_qct, record.material)

    strengths, sensitivities, raised = {}, {}, []
    for number, key in enumerate(wanted):
        start, share = 0.5 + 0.4 * number / len(wanted), 0.4 / len(wanted)
        name = BY_KEY[key].name.lower()
        try:
            mask = turned == BY_KEY[key].value
            strengths[key] = femur_strength(
                rho,
                mask,
                upright.spacing_mm,
                "R" if BY_KEY[key].laterality == "R" else "L",
                to_ash=to_ash,
                element_mm=tools.element_mm,
                progress=lambda done, doing: progress(start + share * done / 2, f"{name}: {doing}"),  # noqa: B023 - called within this turn
            )
            if tools.with_interval:
                sensitivities[key] = femur_sensitivity(
                    strengths[key],
                    rho,
                    mask,
                    upright.spacing_mm,
                    to_ash=to_ash,
                    progress=lambda done, doing: progress(start + share * (1 + done) / 2, f"{name}: {doing}"),  # noqa: B023 - as above
                )
        except FeError as error:
            raised.append(QualityFlag("no_strength", key, f"{BY_KEY[key].name}: no strength. {error}"))
    return strengths, sensitivities, tuple(raised)


def load_tools(task: dict[str, Any], folder: Path) -> Tools:
    """Make the tools of a task given to a child process."""
    return Tools(
        job_reference=task["job_reference"],
        created=datetime.fromisoformat(task["created"]),
        serial_number=task["serial_number"],
        calibration=load_choice(folder / "calibration.json"),
        element_mm=float(task["element_mm"]),
        with_interval=bool(task["with_interval"]),
        phantoms=load_phantoms(Path(task["phantom_file"]) if task["phantom_file"] else None),
        may_use_tissues=bool(task["may_use_tissues"]),
        segmenter=load_correction(folder) or make_segmenter(task["segmenter"], _site(task)),
        pipelines=tuple(task.get("pipelines", ",".join(PIPELINE_BONES)).split(",")),
        incomplete=task.get("incomplete", ""),
        corrects_contrast=bool(task["corrects_contrast"]),
    )


def _site(task: dict[str, Any]) -> SegmenterSite:
    return SegmenterSite(
        segmenters_dir=Path(task["segmenters_dir"]),
        job_memory_limit_bytes=int(task["job_memory_limit_bytes"]),
        gpu_jobs=int(task["gpu_jobs"]),
    )
