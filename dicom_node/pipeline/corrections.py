"""A segmentation that a person corrected and sent back: recognised, read onto its series, and handed over.

A DICOM Segmentation that was not made by an OsteoNode, this one or another, counts as a correction when at least one of
its segments is a bone this node measures. It replaces the automatic segmentation as a whole: a bone it does not hold is
not measured. Who corrected it and why stays on the hospital side; the research side gets an array and a checksum.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import JobRejected
from dicom_node.pipeline.reidentification import OWN_MANUFACTURER, OWN_MODEL
from dicom_node.pipeline.segmentation_object import open_segmentation, segment_on_grid
from dicom_node.storage.files import write_durably
from inference.corrected import CorrectedSegmenter
from inference.labels import STRUCTURES, Structure
from sr_export.codes import LATERALITIES
from sr_export.codes import STRUCTURES as STRUCTURE_CODES
from sr_export.errors import ExportError
from sr_export.frames import slice_headers
from sr_export.geometry import Grid, grid_from_headers

ARRAY_FILE, FACTS_FILE = "correction.npy", "correction.json"
MEASURED_REGION = "VOI"
"""Word in the labels of the node's own volumes of interest; they follow from the bones and are not read back."""

SIDES = {code.value: side for side, code in LATERALITIES.items()}
BONES = {code.value: key for key, code in STRUCTURE_CODES.items()}


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment says it is. ``structure`` is None when it is no bone this node measures."""

    number: int
    label: str
    structure: Structure | None


def is_correction(path: Path) -> bool:
    """Tell whether a Segmentation holds a bone this node measures; one that cannot be read does not."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        if (header.get("Manufacturer"), header.get("ManufacturerModelName")) == (OWN_MANUFACTURER, OWN_MODEL):
            return False
        return any(segment.structure is not None for segment in segments_of(header))
    except JobRejected:
        return True  # its job says what is wrong with it
    except Exception:  # noqa: BLE001 - a broken file fails in any way, and is no correction
        return False


def segments_of(seg: Dataset) -> list[Segment]:
    """Read what the segments say they are: by code and laterality, or else by the name people read.

    Raises
    ------
    JobRejected
        When a segment's code and its label name different sides.
    """
    return [
        Segment(int(item.SegmentNumber), str(item.get("SegmentLabel", "")), _structure(item))
        for item in seg.get("SegmentSequence", ())
    ]


def _structure(item: Dataset) -> Structure | None:
    label = str(item.get("SegmentLabel", "")).strip()
    if MEASURED_REGION in label:
        return None
    named = next((one for one in STRUCTURES if _begins_with(label.lower(), (one.name.lower(), one.key.lower()))), None)
    coded = _coded(item)
    if named and coded and named is not coded:
        raise JobRejected(
            f"Segment {int(item.SegmentNumber)} of the corrected segmentation is named {named.name} and coded as "
            f"{coded.name}; correct it and send it again."
        )
    return coded or named


def _begins_with(label: str, names: tuple[str, ...]) -> bool:
    """Tell whether a label is one of the names, or begins with one as a word: ``left femur corrected``."""
    return any(label == name or label.startswith(f"{name} ") for name in names)


def _coded(item: Dataset) -> Structure | None:
    for code in item.get("SegmentedPropertyTypeCodeSequence", ()):
        key = BONES.get(str(code.get("CodeValue", "")), "")
        modifiers = code.get("SegmentedPropertyTypeModifierCodeSequence", ())
        side = next((SIDES[str(one.CodeValue)] for one in modifiers if str(one.get("CodeValue", "")) in SIDES), "")
        for one in STRUCTURES:
            if one.laterality == side and one.key.split("_")[0] == key.split("_")[0]:
                return one
    return None


def read_correction(path: Path, headers: Sequence[Dataset]) -> CorrectedSegmenter:
    """Read a Segmentation onto the grid of the series it corrects.

    Parameters
    ----------
    path
        The Segmentation as it was received.
    headers
        Headers of the series that will be analysed, in any order.

    Raises
    ------
    JobRejected
        When it cannot be read, belongs to another series or frame of reference, is empty, names a bone twice, or two of
        its bones share voxels.
    """
    grid = grid_of(headers)
    content = path.read_bytes()
    seg = open_segmentation(path)
    frame = str(seg.get("FrameOfReferenceUID", ""))
    if grid.frame_of_reference_uid and frame != grid.frame_of_reference_uid:
        raise JobRejected("The corrected segmentation lies in another frame of reference than the series analysed.")
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for segment in segments_of(seg):
        if segment.structure is not None:
            lay(labels, segment.structure, segment_on_grid(seg, segment.number, grid.affine_lps, grid.shape))
    if not labels.any():
        raise JobRejected("The corrected segmentation holds no voxel of a bone this node measures.")
    return CorrectedSegmenter(labels, grid.affine_lps, hashlib.sha256(content).hexdigest())


def lay(labels: NDArray[np.uint8], structure: Structure, mask: NDArray[np.bool_]) -> None:
    """Write a structure's mask into labels.

    Raises
    ------
    JobRejected
        When the structure is there already, or shares voxels with another.
    """
    if (labels == structure.value).any():
        raise JobRejected(f"The segmentation holds {structure.name} twice; one segment a bone is expected.")
    shared = int((labels[mask] > 0).sum())
    if shared:
        raise JobRejected(
            f"In the segmentation {structure.name} shares {shared} voxels with another bone; each voxel belongs to one."
        )
    labels[mask] = structure.value


def grid_of(headers: Sequence[Dataset]) -> Grid:
    """Return the grid of a series, its slices ascending along row x column, as the analysis orders them."""
    try:
        headers = slice_headers(headers)
        rows = np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
        normal = np.cross(rows[0], rows[1])
        return grid_from_headers(sorted(headers, key=lambda one: float(np.dot(one.ImagePositionPatient, normal))))
    except (ExportError, AttributeError, TypeError, ValueError):
        raise JobRejected("The series analysed has no regular grid a corrected segmentation could lie on.") from None


def save_correction(correction: CorrectedSegmenter, folder: Path) -> None:
    """Hand a correction to the research side: labels, place and checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / ARRAY_FILE, correction.labels, allow_pickle=False)
    facts = {"affine_lps": correction.affine_lps.tolist(), "checksum": correction.checksum}
    write_durably(folder / FACTS_FILE, [json.dumps(facts).encode()])


def load_correction(folder: Path) -> CorrectedSegmenter | None:
    """Return the correction handed over with a job, None when there is none."""
    if not (folder / FACTS_FILE).exists():
        return None
    facts = json.loads((folder / FACTS_FILE).read_text())
    labels = np.load(folder / ARRAY_FILE, allow_pickle=False)
    return CorrectedSegmenter(labels, np.array(facts["affine_lps"]), facts["checksum"])
