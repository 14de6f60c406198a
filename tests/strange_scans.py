"""Scans as they should not be: a scan with its true labels, changed, as the DICOM series that a node would get.

The true labels move with the voxels, never with the header, so that a header that lies shows as a wrong label.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

from dicom_node.demo.fake_ct import read_nifti
from dicom_node.errors import JobRejected
from dicom_node.pipeline.analysis import Tools, analyse
from dicom_node.pipeline.deidentification import select_series, single_person
from dicom_node.public_data import fetch
from inference.calibration import DEFAULT_CALIBRATION
from inference.labels import BY_KEY, BY_VALUE

TOTALSEGMENTATOR = {
    25: "sacrum", 27: "L5", 28: "L4", 29: "L3", 30: "L2", 31: "L1", 32: "T12", 33: "T11", 34: "T10",
    75: "femur_left", 76: "femur_right", 77: "hip_left", 78: "hip_right",
}  # fmt: skip
"""Values of the reference labels of both public scans, and what they are."""

OTHER_VERTEBRA = 200
"""Any vertebra above T10 in the true labels."""

AIR_HU = -1000.0

TOOLS = Tools("job", datetime(2026, 3, 1, tzinfo=UTC), "NODE", (DEFAULT_CALIBRATION, ()), 3.0, with_interval=False)


@dataclass(frozen=True, slots=True)
class Strange:
    """A scan on its way to DICOM.

    Attributes
    ----------
    hu : (slice, row, column) float array
    truth : (slice, row, column) uint8 array
        Values of ``inference.labels``, and ``OTHER_VERTEBRA``.
    affine
        What the header says: (slice, row, column) to LPS mm.
    elements
        Header elements that differ from a usual CT's.
    intercept, slope, signed
        How HU are stored.
    change
        Done to every finished dataset, with its number.
    """

    hu: NDArray[Any]
    truth: NDArray[np.uint8]
    affine: NDArray[np.float64]
    elements: dict[str, Any] = field(default_factory=dict)
    intercept: float = -1024.0
    slope: float = 1.0
    signed: bool = False
    change: Callable[[Dataset, int], None] | None = None

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def said(self, **elements: Any) -> "Strange":
        """Say something else in the header."""
        return replace(self, elements={**self.elements, **elements})


def straight(spacing_mm: Sequence[float], origin_mm: Sequence[float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Make the affine of axial slices from the feet up."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = (*spacing_mm, 1.0)
    affine[:3, 3] = origin_mm
    return affine


def public_scan(name: str, ct: str, labels: str) -> Strange:
    """Read one of the public scans with its reference labels."""
    folder = fetch(name)
    scan, reference = read_nifti(folder / ct), read_nifti(folder / labels).array
    truth = np.zeros(reference.shape, dtype=np.uint8)
    for value, key in TOTALSEGMENTATOR.items():
        truth[reference == value] = BY_KEY[key].value
    truth[(reference > 34) & (reference <= 50)] = OTHER_VERTEBRA
    hu = np.maximum(scan.array.astype(np.float32), -1024)
    return Strange(hu, truth, straight(scan.spacing_mm, scan.origin_mm))


def unlabelled(hu: NDArray[Any], spacing_mm: Sequence[float]) -> Strange:
    """Take something in which no bone is."""
    return Strange(hu.astype(np.float32), np.zeros(hu.shape, dtype=np.uint8), straight(spacing_mm))


def series_of(scan: Strange, *, seed: int = 1) -> list[Dataset]:
    """Write the scan as a CT series."""
    stored = np.rint((scan.hu - scan.intercept) / scan.slope)
    kind = "<i2" if scan.signed else "<u2"
    limits = np.iinfo(kind)
    planes = np.clip(stored, limits.min, limits.max).astype(kind)
    datasets = []
    for index, plane in enumerate(planes):
        dataset = _instance(scan, plane, index, seed)
        if scan.change is not None:
            scan.change(dataset, index)
        datasets.append(dataset)
    return datasets


def _instance(scan: Strange, plane: NDArray[Any], index: int, seed: int) -> Dataset:
    spacing_mm, affine = scan.spacing_mm, scan.affine
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPClassUID, dataset.Modality, dataset.ImageType = CTImageStorage, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID = "Strange^Scan", "STRANGE-1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(f"2.25.{seed}1"), UID(f"2.25.{seed}2")
    dataset.FrameOfReferenceUID = UID(f"2.25.{seed}3")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{seed}4.{index + 1}")
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.KVP = "SIEMENS", "Test CT", 120
    dataset.ConvolutionKernel, dataset.PatientPosition = "B30s", "HFS"
    dataset.SliceThickness, dataset.InstanceNumber = float(spacing_mm[0]), index + 1
    dataset.PixelSpacing = [float(spacing_mm[1]), float(spacing_mm[2])]
    dataset.ImagePositionPatient = [round(float(one), 4) for one in (affine @ [index, 0, 0, 1])[:3]]
    directions = [*(affine[:3, 2] / spacing_mm[2]), *(affine[:3, 1] / spacing_mm[1])]
    dataset.ImageOrientationPatient = [round(float(one), 6) for one in directions]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(scan.signed)
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = scan.intercept, scan.slope, "HU"
    dataset.PixelData = plane.tobytes()
    for keyword, value in scan.elements.items():
        setattr(dataset, keyword, value)
    return dataset


def flipped(scan: Strange, *axes: int, lying: bool = False, **elements: Any) -> Strange:
    """Reverse array axes; the header follows, or does not."""
    affine = scan.affine.copy()
    for axis in axes:
        affine[:3, 3] += affine[:3, axis] * (scan.hu.shape[axis] - 1)
        affine[:3, axis] *= -1
    made = replace(
        scan,
        hu=np.flip(scan.hu, axes),
        truth=np.flip(scan.truth, axes),
        affine=scan.affine if lying else affine,
    )
    return made.said(**elements)


def transposed(scan: Strange, *axes: int) -> Strange:
    """Reformat: the array's axes in another order, the header with them."""
    affine = scan.affine.copy()
    affine[:3, :3] = scan.affine[:3, list(axes)]
    return replace(scan, hu=scan.hu.transpose(axes), truth=scan.truth.transpose(axes), affine=affine)


def turned_aside(scan: Strange, *, lying: bool, **elements: Any) -> Strange:
    """Turn the patient by 90 degrees within the slice."""
    made = transposed(scan, 0, 2, 1)
    made = flipped(made, 2)
    return replace(made, affine=scan.affine if lying else made.affine).said(**elements)


def cut(scan: Strange, *spans: slice) -> Strange:
    """Keep a box."""
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [float(span.indices(n)[0]) for span, n in zip(spans, scan.hu.shape, strict=False)]
    return replace(scan, hu=scan.hu[spans], truth=scan.truth[spans], affine=affine)


def binned(scan: Strange, axis: int, count: int) -> Strange:
    """Average neighbours along an axis: thicker slices, or pixels that are not square."""
    length = scan.hu.shape[axis] // count * count
    first = [slice(None)] * 3
    parts, marks = [], []
    for place in range(count):
        first[axis] = slice(place, length, count)
        parts.append(scan.hu[tuple(first)])
        marks.append(scan.truth[tuple(first)])
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (count - 1) / 2
    affine[:3, axis] *= count
    return replace(scan, hu=np.mean(parts, axis=0), truth=marks[count // 2], affine=affine)


def resampled(scan: Strange, spacing_mm: Sequence[float], turn: NDArray[np.float64] | None = None) -> Strange:
    """Resample to another spacing, and about the middle onto axes turned by a rotation of LPS; the header follows."""
    turn = np.eye(3) if turn is None else turn
    size_mm = np.asarray(scan.hu.shape) * scan.spacing_mm
    shape = tuple(int(n) for n in np.maximum(np.round(size_mm / spacing_mm), 1))
    affine = np.eye(4)
    affine[:3, :3] = turn @ straight(spacing_mm)[:3, :3]
    middle = scan.affine @ [*((np.asarray(scan.hu.shape) - 1) / 2), 1.0]
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    to_old = np.linalg.inv(scan.affine) @ affine
    options = {"matrix": to_old[:3, :3], "offset": to_old[:3, 3], "output_shape": shape}
    hu = ndimage.affine_transform(scan.hu.astype(np.float32), **options, order=1, cval=AIR_HU)
    truth = ndimage.affine_transform(scan.truth, **options, order=0)
    return replace(scan, hu=hu, truth=truth, affine=affine)


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    """Rotate about the patient's x, y or z."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    turn[one, one] = turn[other, other] = cosine
    turn[one, other], turn[other, one] = -sine, sine
    return turn


def stacked(lower: Strange, upper: Strange) -> Strange:
    """Put one body above another under one header, the upper on the lower's grid, cut or padded to its size."""
    ratio = lower.spacing_mm / upper.spacing_mm
    shape = tuple(int(n) for n in np.asarray(upper.hu.shape) / ratio)
    onto = {"matrix": np.diag(ratio), "output_shape": shape}
    hu = ndimage.affine_transform(upper.hu.astype(np.float32), **onto, order=1, cval=AIR_HU)
    truth = ndimage.affine_transform(upper.truth, **onto, order=0)
    height, width = (max(own, other) for own, other in zip(lower.hu.shape[1:], shape[1:], strict=True))

    def fitted(array: NDArray[Any], fill: float) -> NDArray[Any]:
        rows, columns = height - array.shape[1], width - array.shape[2]
        margin = ((0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
        return np.pad(array, margin, constant_values=fill)

    return replace(
        lower,
        hu=np.concatenate([fitted(lower.hu, AIR_HU), fitted(hu, AIR_HU)]),
        truth=np.concatenate([fitted(lower.truth, 0), fitted(truth, 0)]),
    )


def with_circle(scan: Strange, fill_hu: float, share: float = 1.0) -> Strange:
    """Fill what lies outside of the reconstruction circle, of ``share`` of the shorter side."""
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in scan.hu.shape[1:])
    radius = share * min(scan.hu.shape[1:]) / 2
    outside = np.hypot(rows[:, None], columns[None]) > radius
    hu, truth = scan.hu.copy(), scan.truth.copy()
    hu[:, outside], truth[:, outside] = fill_hu, 0
    return replace(scan, hu=hu, truth=truth)


def swaying(scan: Strange, amplitude_mm: float, wave_mm: float) -> Strange:
    """Shift slices to the side along a sine: scoliosis of a trunk."""
    hu, truth = np.empty_like(scan.hu), np.empty_like(scan.truth)
    for index in range(len(hu)):
        shift = amplitude_mm * np.sin(2 * np.pi * index * scan.spacing_mm[0] / wave_mm) / scan.spacing_mm[2]
        hu[index] = ndimage.shift(scan.hu[index], (0, shift), order=1, cval=AIR_HU)
        truth[index] = ndimage.shift(scan.truth[index], (0, shift), order=0)
    return replace(scan, hu=hu, truth=truth)


def sharpened(scan: Strange, amount: float, sigma_mm: float, noise_hu: float) -> Strange:
    """Reconstruct sharper within the slice: unsharp masking and the noise that comes with it."""
    sigma = (0.0, sigma_mm / scan.spacing_mm[1], sigma_mm / scan.spacing_mm[2])
    noise = np.random.default_rng(7).normal(0, noise_hu, scan.hu.shape).astype(np.float32)
    hu = scan.hu + amount * (scan.hu - ndimage.gaussian_filter(scan.hu, sigma)) + noise
    return replace(scan, hu=np.maximum(hu, -1024))


def with_arms(scan: Strange) -> Strange:
    """Lay both arms beside the trunk: muscle around a humerus of cortex and marrow."""
    width = round(90 / scan.spacing_mm[2])
    margin = ((0, 0), (0, 0), (width, width))
    hu = np.pad(scan.hu, margin, constant_values=AIR_HU)
    truth = np.pad(scan.truth, margin)
    rows, columns = (np.arange(n) * mm for n, mm in zip(hu.shape[1:], scan.spacing_mm[1:], strict=True))
    for left_mm in (45.0, columns[-1] - 45.0):
        away_mm = np.hypot(rows[:, None] - rows.mean(), columns[None] - left_mm)
        for radius_mm, value in ((40.0, 50.0), (12.0, 900.0), (8.0, -30.0)):
            hu[:, away_mm < radius_mm] = value
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, 2] * width
    return replace(scan, hu=hu, truth=truth, affine=affine)


def with_prosthesis(scan: Strange, key: str) -> Strange:
    """Replace a femur's head by a metal ball, with dark and bright streaks through its slices."""
    where = np.argwhere(scan.truth == BY_KEY[key].value) * scan.spacing_mm
    centre = np.median(where[where[:, 0] > where[:, 0].max() - 40], axis=0)
    lengths = zip(scan.hu.shape, scan.spacing_mm, strict=True)
    axes = np.meshgrid(*(np.arange(n) * step_mm for n, step_mm in lengths), indexing="ij")
    up, back, left = (axis - middle for axis, middle in zip(axes, centre, strict=True))
    ball = up**2 + back**2 + left**2 < 22**2
    stem = (up < 0) & (np.hypot(back, left) < 8)
    near = (np.abs(up) < 24) & (scan.hu > -300)
    streak = 250 * np.cos(8 * np.arctan2(back, left)) * np.exp(-np.hypot(back, left) / 60)
    hu = np.where(near, scan.hu + streak, scan.hu)
    return replace(scan, hu=np.where(ball | stem, 8000.0, hu).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the node made of a scan.

    Attributes
    ----------
    rejected
        The sentence with which the whole scan was refused, or empty.
    named
        Every structure that was labelled, and the one that is truly there, ``nothing`` where no bone is.
    hu_means
        Mean HU of every structure that a density was given for.
    flags
        Pairs (code, subject).
    """

    rejected: str
    named: dict[str, str]
    hu_means: dict[str, float]
    flags: tuple[tuple[str, str], ...] = ()

    @property
    def wrong(self) -> dict[str, str]:
        """Labels under a wrong name that a density was given for."""
        return {key: true for key, true in self.named.items() if true != key and key in self.hu_means}

    @property
    def mislabelled(self) -> dict[str, str]:
        """Labels under a wrong name, whether or not a flag forbids a number."""
        return {key: true for key, true in self.named.items() if true != key}


def outcome_of(scan: Strange, *, seed: int = 1) -> Outcome:
    """Send a scan through the choice of series, segmentation and density."""
    return outcome_of_series(series_of(scan, seed=seed), scan.truth)


def outcome_of_series(datasets: list[Dataset], truth: NDArray[np.uint8]) -> Outcome:
    """As ``outcome_of``, of datasets; ``truth`` belongs to them slice by slice."""
    headers = [(Path(str(place)), dataset) for place, dataset in enumerate(datasets)]
    try:
        single_person(headers)
        chosen = [datasets[int(str(path))] for path in select_series(headers)]
        findings = analyse(chosen, TOOLS, lambda done, doing: None)
    except JobRejected as error:
        return Outcome(str(error), {}, {})
    place = {str(dataset.SOPInstanceUID): number for number, dataset in enumerate(datasets)}
    true = truth[[place[uid] for uid in findings.volume.instance_uids]]
    named = {}
    for value in np.unique(findings.segmentation.labels[findings.segmentation.labels > 0]):
        named[BY_VALUE[int(value)].key] = _truly(true[findings.segmentation.labels == value])
    return Outcome(
        "",
        named,
        {one.structure: one.hu_mean for one in findings.densities},
        tuple((flag.code, flag.subject) for flag in findings.flags),
    )


def _truly(values: NDArray[np.uint8]) -> str:
    """Name the bone of the reference that most of a label's voxels lie in."""
    counts = np.bincount(values, minlength=256)
    best = int(counts.argmax())
    return BY_VALUE[best].key if best in BY_VALUE else ("nothing" if best == 0 else "another vertebra")
