"""Step 2: the analysis itself, as one straight function. It sees clean instances, numbers and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import JobRejected
from dicom_node.pipeline.calibration import Choice, load_choice
from dicom_node.pipeline.corrections import load_correction
from dicom_node.pipeline.report_files import save_report
from dicom_node.pipeline.results import Findings, forbidding_sentences, report_from
from dicom_node.storage.files import write_durably
from fe.errors import FeError
from fe.femur_sensitivity import femur_sensitivity
from fe.sensitivity import Sensitivity
from fe.strength import FemurStrength, femur_strength
from inference.calibration import rho_ash_mg_per_cm3, rho_qct_mg_per_cm3
from inference.densitometry import lumbar_mean, measure_density
from inference.dicom_volume import volume_from_datasets
from inference.errors import InferenceError
from inference.labels import BY_KEY, FEMURS
from inference.quality import QualityFlag, forbids_strength, merged_flags
from inference.segmentation import ClassicalSegmenter, Segmenter
from inference.structure_checks import check_structures
from inference.volume import Volume, canonical
from inference.volume_checks import check_volume

Progress = Callable[[float, str], None]
SLICES_FILE = "slices.txt"
"""Clean SOP Instance UIDs of the analysed slices, in the order of the masks."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an analysis needs besides images.

    ``created`` is the job's time, carried by every result; ``serial_number`` names this node in them.
    """

    job_reference: str
    created: datetime
    serial_number: str
    calibration: Choice
    element_mm: float
    with_interval: bool = True
    segmenter: Segmenter = field(default_factory=ClassicalSegmenter)


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
    save_report(report, output, figures)
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
        segmentation = tools.segmenter.segment(volume, lambda done, doing: progress(0.05 + 0.4 * done, doing))
        flags = merged_flags(flags, segmentation.flags, check_structures(volume, segmentation.labels))
        if not segmentation.labels.any():
            raise JobRejected(f"Found neither a hip nor a lumbar vertebra in this CT. {forbidding_sentences(flags)}")
        progress(0.45, "measuring density")
        densities, density_flags = measure_density(volume, segmentation.labels, record, flags)
        flags = merged_flags(flags, density_flags)
    except InferenceError as error:
        raise JobRejected(str(error)) from None
    strengths, sensitivities, strength_flags = _strengths(volume, segmentation.labels, flags, tools, progress)
    flags = merged_flags(flags, strength_flags)
    progress(0.9, "pictures")
    return Findings(
        volume=volume,
        segmentation=segmentation,
        record=record,
        densities=densities,
        lumbar=lumbar_mean(densities, record, flags),
        strengths=strengths,
        sensitivities=sensitivities,
        flags=flags,
    )


def _strengths(
    volume: Volume, labels: NDArray[np.uint8], flags: Sequence[QualityFlag], tools: Tools, progress: Progress
) -> tuple[dict[str, FemurStrength], dict[str, Sensitivity], tuple[QualityFlag, ...]]:
    """Compute the strength of every femur that may be computed; a femur without a model gets a flag."""
    upright, orientation = canonical(volume)
    turned = orientation.apply(labels)
    record, _ = tools.calibration
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


def load_tools(task: dict[str, str], folder: Path) -> Tools:
    """Make the tools of a task given to a child process."""
    return Tools(
        job_reference=task["job_reference"],
        created=datetime.fromisoformat(task["created"]),
        serial_number=task["serial_number"],
        calibration=load_choice(folder / "calibration.json"),
        element_mm=float(task["element_mm"]),
        with_interval=bool(task["with_interval"]),
        segmenter=load_correction(folder) or ClassicalSegmenter(),
    )
