"""Masks of a case in files, paired by name and read on one grid, whoever made them, as labels of ``inference.labels``.

A mask is one label map, whose values are those of a vocabulary, or one or more DICOM Segmentations, which say what
their segments are: the node divides its bones among several objects. Nothing is resampled.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.pipeline.corrections import MEASURED_REGION, Segment, lay, segments_of
from dicom_node.pipeline.segmentation_object import open_segmentation, segment_on_grid
from dicom_node.segmenters.foreign_labels import VOCABULARIES
from dicom_node.strength.dicom_files import is_dicom
from dicom_node.strength.image_files import FORMATS, GridFile, format_of, read_grid
from inference.labels import BY_KEY, STRUCTURES, VERTEBRAE
from sr_export.geometry import Grid

SAME_PLACE_MM = 0.01
"""Grids agree when no corner differs by more: a rounding of headers."""

LIMIT_BYTES = 4 * 2**30
OWN = "osteonode"
"""The vocabulary of the node's own label values."""

ENDINGS = (*FORMATS, ".dcm")

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """The mask of one case.

    Attributes
    ----------
    case
        Name of the file without its ending, or of the folder.
    files
        One label map, or one or more DICOM Segmentations.
    is_dicom
        Whether they are Segmentations.
    """

    case: str
    files: tuple[Path, ...]
    is_dicom: bool


@dataclass(frozen=True, slots=True, eq=False)
class BoneMap:
    """A mask that was read.

    Attributes
    ----------
    labels : (slice, row, column) uint8 array
        Values of ``inference.labels``.
    affine_lps : (4, 4) array
        Index to LPS mm.
    strangers
        Label values, or numbers of segments, that are no bone this node measures; a label may name anybody.
    may_be_whole
        Whether its vertebrae may be whole instead of bodies.
    """

    labels: Labels = field(repr=False)
    affine_lps: NDArray[np.float64]
    strangers: frozenset[str]
    may_be_whole: bool

    @property
    def has_vertebrae(self) -> bool:
        """Whether it shows one."""
        return bool(np.isin(self.labels, [BY_KEY[key].value for key in VERTEBRAE]).any())


def pair_files(masks: Path, references: Path) -> tuple[tuple[MaskFiles, MaskFiles], ...]:
    """Pair the cases of two folders by name, or take two files, or a folder of Segmentations and a file, for one case.

    Raises
    ------
    ConfigurationError
        When a folder is missing or empty, holds a case twice, or a mask has no reference of its name or the reverse.
    """
    if (masks.is_file() or references.is_file()) and masks.exists() and references.exists():
        return ((_single(masks, references), _single(references, masks)),)
    found = {}
    for folder in (masks, references):
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is not a folder; name two folders, or two files, of masks.")
        found[folder] = _by_name(folder)
    ours, theirs = found[masks], found[references]
    alone = sorted(set(ours) ^ set(theirs))
    if alone:
        raise ConfigurationError(
            f"{len(alone)} cases have no counterpart of the same name, the first is {alone[0]}; "
            "leave such cases out by moving them, so that none is left out unseen."
        )
    if not ours:
        raise ConfigurationError(
            f"{masks} holds no mask; expected files ending in {', '.join(FORMATS)}, or DICOM Segmentations."
        )
    return tuple((ours[name], theirs[name]) for name in ours)


def _single(path: Path, other: Path) -> MaskFiles:
    """Take a file, or a folder of Segmentations, which is named as the other one: its own name is mostly ``dicom``."""
    if path.is_file():
        return MaskFiles(case_name(path), (path,), format_of(path) is None and is_dicom(path))
    segs = _segmentations_below(path)
    if not segs:
        raise ConfigurationError(f"{path} holds no DICOM Segmentation; beside a file, a folder of them is expected.")
    return MaskFiles(case_name(other), segs, is_dicom=True)


def _by_name(folder: Path) -> dict[str, MaskFiles]:
    found: dict[str, MaskFiles] = {}
    for one in _cases_in(folder):
        if one.case in found:
            raise ConfigurationError(f"{folder} holds {one.case} in two formats; leave one of them.")
        found[one.case] = one
    return found


def _cases_in(folder: Path) -> Iterator[MaskFiles]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if segs := _segmentations_below(path):
                yield MaskFiles(path.name, segs, is_dicom=True)
        elif format_of(path) is not None:
            yield MaskFiles(case_name(path), (path,), is_dicom=False)
        elif path.is_file() and is_dicom(path):
            if not _is_segmentation(path):
                raise ConfigurationError(
                    f"{path} is DICOM but no Segmentation. Where {folder} holds the results of one case, name the "
                    "folder above it, with a folder for each case."
                )
            yield MaskFiles(case_name(path), (path,), is_dicom=True)


def _segmentations_below(folder: Path) -> tuple[Path, ...]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and format_of(path) is None)
    return tuple(path for path in files if is_dicom(path) and _is_segmentation(path))


def _is_segmentation(path: Path) -> bool:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except (InvalidDicomError, OSError):
        return False
    return bool(header.get("SOPClassUID") == SegmentationStorage)


def case_name(path: Path) -> str:
    """Return the name of a file without its ending, which is what cases are paired by."""
    endings = sorted(ENDINGS, key=len, reverse=True)
    ending = next((one for one in endings if path.name.lower().endswith(one)), "")
    return path.name[: len(path.name) - len(ending)]


def read_pair(mask: MaskFiles, reference: MaskFiles, vocabularies: tuple[str, str]) -> tuple[BoneMap, BoneMap]:
    """Read mask and reference on one grid: that of a label map, or else the slices that the Segmentations show.

    Raises
    ------
    JobRejected
        When a file cannot be read, or the two do not lie voxel on voxel.
    """
    if not mask.is_dicom and not reference.is_dicom:
        one, other = (_from_map(files, words) for files, words in zip((mask, reference), vocabularies, strict=True))
        if one.labels.shape != other.labels.shape or not _same_place(one, other):
            raise JobRejected(f"The two label maps of {mask.case} lie on different grids; resample one to the other.")
        return one, other
    if mask.is_dicom and reference.is_dicom:
        with _of_case(mask):
            ours, theirs = _opened(mask), _opened(reference)
            grid = _grid_around([*ours, *theirs])
        return _laid(mask, ours, grid), _laid(reference, theirs, grid)
    if mask.is_dicom:
        other = _from_map(reference, vocabularies[1])
        return segments_on(mask, _grid_of(other)), other
    one = _from_map(mask, vocabularies[0])
    return one, segments_on(reference, _grid_of(one))


def translated(values: NDArray[np.generic], vocabulary: str) -> Labels:
    """Return values of ``inference.labels`` for those of a vocabulary; 0 for all others."""
    labels = np.zeros(values.shape, dtype=np.uint8)
    for value, key in VOCABULARIES[vocabulary].items():
        labels[values == value] = BY_KEY[key].value
    return labels


def keys_in(mask: MaskFiles, vocabulary: str) -> set[str]:
    """Return the bones that a mask shows, or that its segments are said to be.

    Raises
    ------
    JobRejected
        When it is no label map and no Segmentation.
    """
    if mask.is_dicom:
        found = [segments_of(seg) for seg in _opened(mask)]
        return {one.structure.key for segments in found for one in segments if one.structure is not None}
    names = VOCABULARIES[vocabulary]
    return {names[value] for value in label_values(read_grid(mask.files[0], LIMIT_BYTES), mask.case) if value in names}


def label_values(file: GridFile, case: str) -> list[int]:
    """Return the labels of a map, ascending, without 0.

    Raises
    ------
    JobRejected
        When it is no label map.
    """
    values = np.unique(file.values)
    if values.size > 256 or not np.array_equal(values, np.round(values)) or values.min() < 0:
        raise JobRejected(f"A file of {case} is no label map: expected at most 255 whole labels above 0.")
    return [int(value) for value in values if value != 0]


def _from_map(mask: MaskFiles, vocabulary: str) -> BoneMap:
    file = read_grid(mask.files[0], LIMIT_BYTES)
    strangers = [str(value) for value in label_values(file, mask.case) if value not in VOCABULARIES[vocabulary]]
    return BoneMap(
        translated(file.values, vocabulary), file.affine_lps, frozenset(strangers), may_be_whole=vocabulary != OWN
    )


def segments_on(mask: MaskFiles, grid: Grid) -> BoneMap:
    """Lay the bones of a case's Segmentations onto a grid, in whatever order or orientation their frames are.

    Raises
    ------
    JobRejected
        When one cannot be read, they are of another grid or of several frames of reference, a bone is there twice, or
        two bones share voxels.
    """
    with _of_case(mask):
        segs = _opened(mask)
    return _laid(mask, segs, grid)


@contextmanager
def _of_case(mask: MaskFiles) -> Iterator[None]:
    """Say of which case a refusal is."""
    try:
        yield
    except JobRejected as error:
        raise JobRejected(f"{mask.case}: {error}") from None


def _opened(mask: MaskFiles) -> list[Any]:
    return [open_segmentation(path) for path in mask.files]


def _laid(mask: MaskFiles, segs: Sequence[Any], grid: Grid) -> BoneMap:
    with _of_case(mask):
        return _bones_of(segs, grid)


def _bones_of(segs: Sequence[Any], grid: Grid) -> BoneMap:
    _frame_of(segs, grid.frame_of_reference_uid)
    held = [(seg, segment) for seg in segs for segment in segments_of(seg)]
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for structure in STRUCTURES:
        parts = [(seg, segment) for seg, segment in held if segment.structure is structure]
        if parts:
            lay(labels, structure, _together(parts, grid))
    strangers = {
        f"segment {one.number}" for _, one in held if one.structure is None and MEASURED_REGION not in one.label
    }
    may_be_whole = any(segment.may_be_whole for _, segment in held)
    return BoneMap(labels, grid.affine_lps, frozenset(strangers), may_be_whole)


def _together(parts: Sequence[tuple[Any, Segment]], grid: Grid) -> NDArray[np.bool_]:
    """Put one bone together that was divided by slices (``sr_export.seg.MAXIMUM_FRAMES``)."""
    whole = np.zeros(grid.shape, dtype=np.bool_)
    for seg, segment in parts:
        part = segment_on_grid(seg, segment.number, grid.affine_lps, grid.shape)
        if segment.structure is not None and bool((whole & part).any()):
            raise JobRejected(
                f"The case holds {segment.structure.name} twice; leave the Segmentations of one result in its folder."
            )
        whole |= part
    return whole


def _grid_of(one: BoneMap) -> Grid:
    slices, rows, columns = one.labels.shape
    return Grid(one.affine_lps, (slices, rows, columns), "")


def _frame_of(segs: Sequence[Any], expected: str = "") -> str:
    """Return the frame of reference that all share.

    Raises
    ------
    JobRejected
        When there are several.
    """
    frames = {str(seg.get("FrameOfReferenceUID", "")) for seg in segs} | ({expected} if expected else set())
    if len(frames) > 1:
        raise JobRejected("The Segmentations lie in different frames of reference: they are of different scans.")
    return frames.pop()


def _grid_around(segs: Sequence[Any]) -> Grid:
    """Return the first Segmentation's grid, as long and wide as all of them need."""
    frame = _frame_of(segs)
    places = [seg.get_volume_geometry() for seg in segs]
    if any(one is None for one in places):
        raise JobRejected("A Segmentation is no regular stack of slices.")
    affine = np.array(places[0].affine, dtype=np.float64)
    corners = np.concatenate(
        [_corners(np.linalg.inv(affine) @ np.asarray(one.affine), one.spatial_shape) for one in places]
    )
    first, last = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
    slices, rows, columns = (int(extent) for extent in last - first + 1)
    if slices * rows * columns > LIMIT_BYTES:
        raise JobRejected("The Segmentations lie too far apart to be of one scan.")
    affine[:3, 3] += affine[:3, :3] @ first
    return Grid(affine, (slices, rows, columns), frame)


def _corners(matrix: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """Return where the centres of an array's corner voxels go, (8, 3)."""
    ends = np.array([*product(*[(0.0, extent - 1.0) for extent in shape])])
    return np.asarray(ends @ matrix[:3, :3].T + matrix[:3, 3])


def _same_place(one: BoneMap, other: BoneMap) -> bool:
    corners = np.array([[0.0, 0.0, 0.0, 1.0], [*one.labels.shape, 1.0]]).T
    return bool(np.allclose(one.affine_lps @ corners, other.affine_lps @ corners, rtol=0.0, atol=SAME_PLACE_MM))
