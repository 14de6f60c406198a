"""One bone as every model takes it: density and mask in canonical order, from an image, a mask and a calibration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError, JobRejected, NotFound
from dicom_node.pipeline.calibration import load_records
from dicom_node.strength.dicom_files import is_dicom, read_ct_folder, read_segment
from dicom_node.strength.image_files import GridFile, read_grid
from fe.errors import FeError
from fe.vertebral_body import vertebral_body
from inference.calibration import (
    DEFAULT_CALIBRATION,
    CalibrationRecord,
    Material,
    choose_calibration,
    rho_ash_mg_per_cm3,
    rho_qct_mg_per_cm3,
)
from inference.errors import InferenceError
from inference.labels import BY_KEY, Laterality
from inference.quality import STUDY, QualityFlag, merged_flags
from inference.structure_checks import check_structures
from inference.volume import Volume, boxes_of, canonical, crop
from inference.volume_checks import check_volume

MARGIN = 4
"""Voxels kept around the bone: room for a mask dilated by two, and for the tissue around it."""

OFF_GRID = 0.05
"""Voxels by which corners of image and mask may differ: single precision in a header stays far below."""

SHOWN_LABELS = 20

Kind = Literal["femur", "vertebra", "specimen"]


UNCALIBRATED = "uncalibrated"


@dataclass(frozen=True, slots=True)
class Sources:
    """What was named on the command line.

    Attributes
    ----------
    image, mask
        Folder of a CT series or image file; label map or DICOM Segmentation.
    label
        Value in the label map, or number of the segment; None where there is one only.
    calibration_file, record_id
        Calibration records, and the one to use where the image names no scanner.
    density_material
        Given when the image already holds densities in mg/cm3 of this material.
    needs_density
        False where the model uses the mask alone; then nothing is calibrated.
    limit_bytes
        Memory limit.
    """

    image: Path
    mask: Path
    label: int | None
    calibration_file: Path | None
    record_id: str | None
    density_material: Material | None
    needs_density: bool
    limit_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """An image before a bone is taken out of it.

    Attributes
    ----------
    volume
        In HU, or as ``record`` is None in mg/cm3 of ``material``.
    file
        Kind and checksum.
    record, material
        The line from HU to density, and the material of the densities; no material where densities do not matter.
    flags
        Of the calibration.
    """

    volume: Volume
    file: GridFile
    record: CalibrationRecord | None
    material: Material | None
    flags: tuple[QualityFlag, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Bone:
    """What a model is made of.

    Attributes
    ----------
    key
        Of ``inference.labels``, or ``bone`` where the model asks for none.
    rho_qct_mg_per_cm3, labels : (slice, row, column) arrays
        Canonical order, cut out around the bone: density, and the mask's label, 0 outside.
    spacing_mm
        Along (slice, row, column).
    side, level
        ``R``, ``L`` or empty; ``L1`` or empty.
    affine_lps : (4, 4) array
        Index to LPS mm of these arrays.
    scan, mask_file, label
        Where it comes from; no label where all labels of the map count.
    flags
        Of image, mask and calibration.
    """

    key: str
    rho_qct_mg_per_cm3: NDArray[np.float64] = field(repr=False)
    labels: NDArray[np.integer] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    side: Laterality
    level: str
    affine_lps: NDArray[np.float64]
    scan: Scan
    mask_file: GridFile
    label: int | None
    flags: tuple[QualityFlag, ...]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where the bone is, (slice, row, column)."""
        return self.labels != 0

    @property
    def name(self) -> str:
        """Name people read, side first."""
        return BY_KEY[self.key].name if self.key in BY_KEY else "Specimen"

    @property
    def caution(self) -> str:
        """What every picture of this bone says at its foot: its purpose, and the flags that no reader may miss."""
        grave = [flag.code for flag in self.flags if flag.code == UNCALIBRATED or flag.definition.forbids_strength]
        words = ", ".join(code.replace("_", " ") for code in dict.fromkeys(grave))
        return f"Research use only. Not for diagnosis.{f' {words.upper()}.' if words else ''}"

    @property
    def to_ash(self) -> Callable[[NDArray[np.floating]], NDArray[np.float64]]:
        """Function from the calibration's density to ash density, both mg/cm3."""
        material = self.scan.material
        assert material is not None, "a model that needs no density asks for no ash density"
        return lambda rho: rho_ash_mg_per_cm3(rho, material)

    @property
    def volume_mm3(self) -> float:
        """Volume of the mask."""
        return float(self.mask.sum()) * float(np.prod(self.spacing_mm))

    def to_patient(self, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return LPS mm of points (n, 3) given as (x, y, z) mm from the centre of the first voxel."""
        return self.turned(points_mm) + self.affine_lps[:3, 3]

    def point_lps_mm(self, point_mm: Sequence[float]) -> list[float]:
        """Return one such point in the patient, for JSON."""
        return [float(one) for one in self.to_patient(np.array([point_mm]))[0]]

    def direction_lps(self, vector: Sequence[float]) -> list[float]:
        """Return one vector along the array's axes (x, y, z) in the patient, for JSON."""
        return [float(one) for one in self.turned(np.array([vector]))[0]]

    def turned(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the patient's LPS components of vectors (n, 3) along the array's axes (x, y, z)."""
        axes = self.affine_lps[:3, 2::-1] / np.array(self.spacing_mm[::-1])
        return np.asarray(vectors, dtype=np.float64) @ axes.T


def read_scan(sources: Sources) -> Scan:
    """Read the image and decide what makes a density of it.

    Raises
    ------
    NotFound, JobRejected, ConfigurationError
        When the image or the calibration cannot be used.
    """
    if not sources.image.exists():
        raise NotFound(f"There is no file or folder {sources.image}.")
    if sources.image.is_dir():
        volume, sha256, scanned = read_ct_folder(sources.image)
        file = GridFile(volume.hu, volume.affine_lps, "dicom_ct", sha256)
    else:
        file = read_grid(sources.image, sources.limit_bytes)
        scanned = None
        volume = Volume(np.asarray(file.values, dtype=np.float32), file.affine_lps)
    if sources.density_material is not None or not sources.needs_density:
        return Scan(volume, file, None, sources.density_material, ())
    records = load_records(sources.calibration_file)
    if file.kind == "dicom_ct" and sources.record_id is None:
        try:
            record, flags = choose_calibration(volume.acquisition, records, on=scanned)
        except InferenceError as error:
            raise JobRejected(str(error)) from None
    else:
        record, flags = _named_record(records, sources.record_id)
    return Scan(volume, file, record, record.material, flags)


def _named_record(
    records: tuple[CalibrationRecord, ...], record_id: str | None
) -> tuple[CalibrationRecord, tuple[QualityFlag, ...]]:
    """Return the record the user names, or the only one; the default line, flagged, where there is none."""
    named = [record for record in records if record_id in (None, record.record_id)]
    if len(named) == 1:
        return named[0], ()
    if records or record_id is not None:
        listed = ", ".join(record.record_id for record in records) or "none"
        raise ConfigurationError(
            f"The image names no scanner, so one calibration record has to be named with --record; there are: {listed}."
        )
    sentence = (
        "Not calibrated: the image names no scanner and no calibration record was given. The default line was used; "
        "expected a valid record."
    )
    return DEFAULT_CALIBRATION, (QualityFlag("uncalibrated", STUDY, sentence, (("calibration", "default"),)),)


def read_bone(scan: Scan, sources: Sources, kind: Kind, side: Laterality, level: str) -> Bone:
    """Take the bone under the mask out of the scan.

    Parameters
    ----------
    scan
        From ``read_scan``.
    sources
        Names the mask.
    kind
        What the model takes.
    side, level
        As the user says; a DICOM Segmentation may state the side of a femur instead.

    Raises
    ------
    NotFound, JobRejected, ConfigurationError
        When the mask cannot be used, or does not belong to the image.
    """
    labels, stated, file, label = _labels(scan.volume, sources, all_labels=kind == "specimen")
    if side and stated and side != stated:
        raise ConfigurationError(f"--side {side} was given, but the segment says it is of side {stated}.")
    side = side or stated
    if kind == "femur" and not side:
        raise ConfigurationError("Say with --side R or --side L which femur it is; the mask does not.")
    key = {"femur": "femur_right" if side == "R" else "femur_left", "vertebra": level, "specimen": "specimen"}[kind]
    upright, orientation = canonical(scan.volume)
    turned = np.ascontiguousarray(orientation.apply(labels))
    box = boxes_of((turned != 0).astype(np.uint8), MARGIN)[1]
    part = crop(upright, box)
    checked = np.zeros(turned.shape, dtype=bool)
    checked[box] = _measured_part(turned[box] != 0, part.spacing_mm, kind)
    return Bone(
        key=key,
        rho_qct_mg_per_cm3=density_of(part, scan.record),
        labels=turned[box].copy(),
        spacing_mm=part.spacing_mm,
        side=side if kind == "femur" else "",
        level=level,
        affine_lps=part.affine_lps,
        scan=scan,
        mask_file=file,
        label=label,
        flags=merged_flags(_image_flags(scan, upright, checked, key), scan.flags),
    )


def _measured_part(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], kind: Kind) -> NDArray[np.bool_]:
    """Return the part of a mask that the checks of structures are made for: of a vertebra its body."""
    if kind != "vertebra":
        return mask
    try:
        return vertebral_body(mask, spacing_mm).mask
    except FeError:
        return mask  # the model says what is wrong


def density_of(part: Volume, record: CalibrationRecord | None) -> NDArray[np.float64]:
    """Return the density, mg/cm3, of a volume in HU, or of one in mg/cm3 where there is no record."""
    return part.hu.astype(np.float64) if record is None else rho_qct_mg_per_cm3(part.hu, record)


def _labels(
    volume: Volume, sources: Sources, *, all_labels: bool
) -> tuple[NDArray[np.int32], Laterality, GridFile, int | None]:
    """Return the labels that count on the image's own grid, the side the mask states, its file and the label asked."""
    if not sources.mask.is_file():
        raise NotFound(f"There is no file {sources.mask}.")
    if is_dicom(sources.mask):
        segment = read_segment(sources.mask, sources.label, volume)
        if not segment.mask.any():
            raise JobRejected("The segment is empty.")
        return segment.mask.astype(np.int32), segment.side, segment.file, segment.label
    labels, file = read_labels(volume, sources.mask, sources.limit_bytes)
    found = [int(value) for value in np.unique(file.values) if value != 0]
    label = None if all_labels and found and sources.label is None else _label(found, sources.label)
    return (labels if label is None else np.where(labels == label, 1, 0).astype(np.int32)), "", file, label


def read_labels(volume: Volume, path: Path, limit_bytes: int) -> tuple[NDArray[np.int32], GridFile]:
    """Read a label map, voxel on voxel, onto the grid of a volume.

    Raises
    ------
    NotFound, JobRejected
        When it cannot be read, is no label map, or lies on another grid; nothing is resampled.
    """
    file = read_grid(path, limit_bytes)
    _check_whole_numbers(file)
    held, _ = canonical(Volume(np.asarray(file.values, dtype=np.float32), file.affine_lps))
    upright, back = canonical(volume)
    _check_same_grid(held, upright)
    return back.restore(held.hu).astype(np.int32), file


def _check_whole_numbers(file: GridFile) -> None:
    values = file.values
    is_whole = values.dtype.kind != "f" or (np.isfinite(values).all() and (values == np.rint(values)).all())
    if not is_whole or values.min() < 0:
        found = "negative values" if is_whole else "fractions"
        raise JobRejected(f"The mask holds {found}; expected a label map of whole numbers. Name a mask, not an image.")


def _label(labels: list[int], asked: int | None) -> int:
    """Return the label to use.

    Raises
    ------
    JobRejected
        When the map holds no such label, or several and none was asked for.
    """
    if not labels:
        raise JobRejected("The mask is empty: every voxel is 0.")
    if asked is None and len(labels) == 1:
        return labels[0]
    if asked is None or asked not in labels:
        listed = ", ".join(map(str, labels[:SHOWN_LABELS])) + (", ..." if len(labels) > SHOWN_LABELS else "")
        wish = "no --label was given" if asked is None else f"no voxel has --label {asked}"
        raise JobRejected(f"The mask holds the labels {listed} and {wish}.")
    return asked


def _check_same_grid(mask: Volume, image: Volume) -> None:
    """Refuse a mask that does not lie voxel on voxel; nothing is resampled, so nothing is guessed."""
    advice = "The mask was drawn on another image: name that image, or resample the mask to this one on purpose."
    if mask.hu.shape != image.hu.shape:
        found, expected = (" x ".join(map(str, one.hu.shape)) for one in (mask, image))
        raise JobRejected(f"The mask has {found} voxels (slices, rows, columns), the image {expected}. {advice}")
    if not np.allclose(mask.spacing_mm, image.spacing_mm, rtol=OFF_GRID / max(image.hu.shape)):
        found, expected = (" x ".join(f"{mm:.4g}" for mm in one.spacing_mm) for one in (mask, image))
        raise JobRejected(f"The mask's voxels measure {found} mm, the image's {expected} mm. {advice}")
    turned = mask.affine_lps[:3, :3] - image.affine_lps[:3, :3]
    if np.abs(turned).max() * max(image.hu.shape) > OFF_GRID * min(image.spacing_mm):
        one, other = (volume.affine_lps[:3, :3] / volume.spacing_mm for volume in (mask, image))
        degrees = np.degrees(np.arccos(np.clip((one * other).sum(axis=0).min(), -1, 1)))
        raise JobRejected(f"The mask's axes are turned by {degrees:.1f} degrees against the image's. {advice}")
    away_mm = float(np.linalg.norm(mask.affine_lps[:3, 3] - image.affine_lps[:3, 3]))
    if away_mm > OFF_GRID * min(image.spacing_mm):
        raise JobRejected(f"The mask lies {away_mm:.2f} mm away from the image (their first voxels). {advice}")


def _image_flags(scan: Scan, upright: Volume, mask: NDArray[np.bool_], key: str) -> tuple[QualityFlag, ...]:
    """Check a CT and the bone in it; an image of densities has no Hounsfield scale to check."""
    structure = BY_KEY.get(key)
    if scan.record is None or structure is None:
        return ()
    labels = np.where(mask, np.uint8(structure.value), np.uint8(0))
    return merged_flags(check_volume(scan.volume), check_structures(upright, labels))
