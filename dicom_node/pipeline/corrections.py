"""A segmentation that a person corrected and sent back: recognised, read onto its series, and handed over.

A DICOM Segmentation that was not made by an OsteoNode, this one or another, counts as a correction when at least one of
its segments is a bone this node measures, and a person made it or the node did before (viewers may keep what the node
wrote of a segment they change). What another program made by itself is kept and changes nothing. A correction replaces
the automatic segmentation as a whole: a bone it does not hold is not measured. Who corrected it and why stays on the
hospital side; the research side gets an array and a checksum.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from dicom_node.errors import JobRejected
from dicom_node.pipeline.reidentification import OWN_MANUFACTURER, OWN_MODEL
from dicom_node.pipeline.segmentation_object import open_segmentation, segment_on_grid
from dicom_node.segmenters.foreign_labels import SIDES
from dicom_node.storage.files import write_durably
from inference.corrected import CorrectedSegmenter
from inference.labels import STRUCTURES, VERTEBRAE, Structure
from sr_export.codes import LATERALITIES
from sr_export.codes import STRUCTURES as STRUCTURE_CODES
from sr_export.errors import ExportError
from sr_export.frames import slice_headers
from sr_export.geometry import Grid, grid_from_headers

ARRAY_FILE, FACTS_FILE = "correction.npy", "correction.json"
MEASURED_REGION = "VOI"
"""Word in the labels of the node's own volumes of interest; they follow from the bones and are not read back."""

BY_PERSON = frozenset({"MANUAL", "SEMIAUTOMATIC"})
"""Segment Algorithm Types (PS3.3 C.8.20.4) of what a person made or changed."""

PAIRED = {"femur": "femur", "hip": "hip_bone"}
CODES = {one.key: STRUCTURE_CODES[PAIRED.get(one.key.split("_")[0], one.key)] for one in STRUCTURES}
"""Property type of every structure; SRT codes of older programs equal their SCT ones (``pydicom.sr.coding``)."""

GENERIC = (
    Code("85756007", "SCT", "Tissue"),
    Code("123037004", "SCT", "Anatomical Structure"),
    Code("113343008", "SCT", "Organ"),
    Code("272673000", "SCT", "Bone"),
)
"""Property types that leave it to the label what a segment is: OHIF writes Tissue, as T-D0050 of SRT, for every one."""

WORD, NUMBER = r"(?:bone|copy|corrected|correction|edited|final|manual|v[0-9]{1,3})", r"[0-9]{1,2}"
VERTEBRA_WORD = f"(?:body|vertebra|vertebral|{WORD})"
PARTS = rf"(?:, part {NUMBER} of {NUMBER})?"
"""How the node names the pieces of a bone of too many slices for one object."""


def _beside(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[ ,_]+(?:{word}|\((?:{word}|{NUMBER})\))| +{NUMBER})*{PARTS}")


BESIDE_NAME, BESIDE_VERTEBRA = _beside(WORD), _beside(VERTEBRA_WORD)
"""What may follow a bone's name; after any other word (nail, metastasis, rib) a segment is something at the bone."""

SIDE_WORDS = {word: side[0].upper() for word, side in SIDES.items()}


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment says it is. ``structure`` is None when it is no bone this node measures."""

    number: int
    label: str
    structure: Structure | None

    @property
    def may_be_whole(self) -> bool:
        """Whether it is a vertebra whose label does not say that it is its body alone."""
        return self.structure is not None and self.structure.key in VERTEBRAE and "body" not in _words(self.label)


def is_correction(path: Path) -> bool:
    """Tell whether a person corrected a bone this node measures in a Segmentation; one that cannot be read does not."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        if (header.get("Manufacturer"), header.get("ManufacturerModelName")) == (OWN_MANUFACTURER, OWN_MODEL):
            return False
        return any(_structure(item) for item in header.get("SegmentSequence", ()) if _is_corrected(item))
    except JobRejected:
        return True  # its job says what is wrong with it
    except Exception:  # noqa: BLE001 - a broken file fails in any way, and is no correction
        return False


def _is_corrected(item: Dataset) -> bool:
    """Tell whether a person made a segment, or the node did before somebody sent it back in an object of its own.

    Some viewers keep an edited segment's AUTOMATIC, and the name of the algorithm with it.
    """
    if str(item.get("SegmentAlgorithmType", "")).strip().upper() in BY_PERSON:
        return True
    makers = [
        str(one.get("AlgorithmSource", "")) for one in item.get("SegmentationAlgorithmIdentificationSequence", ())
    ]
    name = str(item.get("SegmentAlgorithmName", ""))
    return OWN_MANUFACTURER in makers or name.split(" ")[0] == OWN_MANUFACTURER


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
    named = next((one for one in STRUCTURES if _rest(label, one) is not None), None)
    if MEASURED_REGION in label or (named is not None and not _is_whole(label, named)):
        return None
    code = _property_type(item)
    coded = [one for one in STRUCTURES if code is None or code == CODES[one.key]]
    if not coded:
        return None
    sides = _sides_coded(item)
    meant = [one for one in coded if not sides or sides == {one.laterality}]
    found = named or (meant[0] if len(meant) == 1 else None)
    if found is not None and (found not in meant or not _says_side(label, found)):
        raise _contradiction(item, named, meant)
    return found


def _rest(label: str, structure: Structure) -> str | None:
    """Return what follows a structure's name in a label, None where the label does not begin with it."""
    said = label.lower()
    for name in (structure.name.lower(), structure.key.lower()):
        if said.startswith(name) and not said[len(name) : len(name) + 1].isalnum():
            return said[len(name) :]
    return None


def _is_whole(label: str, structure: Structure) -> bool:
    """Tell whether a label that begins with a structure's name means the structure, not something in or at it."""
    beside = BESIDE_VERTEBRA if structure.key in VERTEBRAE else BESIDE_NAME
    return beside.fullmatch(_rest(label, structure) or "") is not None


def _words(label: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", label.lower()))


def _says_side(label: str, structure: Structure) -> bool:
    """Tell whether a label names no other side than that of a structure that has one."""
    said = {SIDE_WORDS[word] for word in _words(label) if word in SIDE_WORDS}
    return not structure.laterality or said <= {structure.laterality}


def _property_type(item: Dataset) -> Code | None:
    """Return what kind of thing a segment says it is, None where that is left to its label."""
    code = next((_code_of(one) for one in item.get("SegmentedPropertyTypeCodeSequence", ())), None)
    return None if code is None or any(code == one for one in GENERIC) else code


def _sides_coded(item: Dataset) -> set[str]:
    modifiers = [
        _code_of(modifier)
        for code in item.get("SegmentedPropertyTypeCodeSequence", ())
        for modifier in code.get("SegmentedPropertyTypeModifierCodeSequence", ())
    ]
    return {side for side, code in LATERALITIES.items() if any(code == one for one in modifiers)}


def _code_of(item: Dataset) -> Code:
    return Code(str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", "")), "")


def _contradiction(item: Dataset, named: Structure | None, meant: Sequence[Structure]) -> JobRejected:
    name = "for the other side" if named is None else named.name
    coded = " or ".join(one.name for one in meant) or "another side"
    return JobRejected(
        f"Segment {int(item.SegmentNumber)} of the corrected segmentation is named {name} and coded as {coded}; "
        "correct it and send it again."
    )


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
    segments = segments_of(seg)
    for segment in segments:
        if segment.structure is not None:
            lay(labels, segment.structure, segment_on_grid(seg, segment.number, grid.affine_lps, grid.shape))
    if not labels.any():
        raise JobRejected("The corrected segmentation holds no voxel of a bone this node measures.")
    is_whole = any(segment.may_be_whole for segment in segments)
    return CorrectedSegmenter(labels, grid.affine_lps, hashlib.sha256(content).hexdigest(), cuts_vertebrae=is_whole)


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
    facts = {
        "affine_lps": correction.affine_lps.tolist(),
        "checksum": correction.checksum,
        "cuts_vertebrae": correction.cuts_vertebrae,
    }
    write_durably(folder / FACTS_FILE, [json.dumps(facts).encode()])


def load_correction(folder: Path) -> CorrectedSegmenter | None:
    """Return the correction handed over with a job, None when there is none."""
    if not (folder / FACTS_FILE).exists():
        return None
    facts = json.loads((folder / FACTS_FILE).read_text())
    labels = np.load(folder / ARRAY_FILE, allow_pickle=False)
    return CorrectedSegmenter(
        labels, np.array(facts["affine_lps"]), facts["checksum"], cuts_vertebrae=facts.get("cuts_vertebrae", False)
    )
