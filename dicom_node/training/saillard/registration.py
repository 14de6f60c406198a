"""Affine registration of a femur to the reference femur [Saillard2024].

The paper names affine transforms and no more; the rest is [m]: the reference's proximal end is looked for by normalised
correlation on a coarse grid, the best places are refined by a rigid transform, the best of those by an affine one, all
by the correlation inside a band around the reference femur. Nothing is drawn at random and the sums run in one thread,
so the same scan gives the same pose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import match_template, peak_local_max

from dicom_node.training.saillard.frame import Array, Frame, Mask, Matrix, axis_aligned, resampled
from dicom_node.training.saillard.halves import Half

STEP_MM = 4.0
"""Of the grid for registration, or the frame's own where that is coarser [m] assumption."""
PROXIMAL_MM = 110.0
"""Head, neck and trochanters from the top of a femur: what is looked for [m] assumption."""
BAND_MM = 10.0
"""Around the reference femur, where correlation counts: its surface and the joint [m] assumption."""
HU_WINDOW = (-150.0, 700.0)
"""Bone against soft tissue; metal and air count no more than that [m] assumption."""
PLACES = 4
"""Best places of the search that are refined [m] assumption."""
PLACES_APART_MM = 16.0
STRETCHED = 2
"""Best rigid poses that go on to the affine transform [m] assumption."""
LEAST_SIMILARITY = 0.6
"""Correlation in the band below which no femur was found [m] assumption: docs/training.md says what was measured."""
NOT_SEEN = -1.0
"""In place of a similarity."""
STRETCH = (0.6, 1.6)
"""Singular values of a credible affine map between two femurs of adults; else the rigid one stays [m] assumption."""
LEAST_SEEN = 0.6
"""Share of the reference's proximal band that must lie inside the scan [m] assumption."""


@dataclass(frozen=True, slots=True)
class Pose:
    """How a femur lies to the reference.

    Attributes
    ----------
    matrix : (4, 4) array
        Frame mm to mm of the half.
    similarity
        Correlation in the band, -1 to 1.
    reason
        Empty, or why this is no femur.
    """

    matrix: Matrix = field(repr=False)
    similarity: float
    reason: str = ""


def register(half: Half, frame: Frame) -> Pose:
    """Find the affine map from the reference femur to the one in a half.

    Returns
    -------
    Pose
        With a ``reason`` where none was found.
    """
    step = max(STEP_MM, *frame.spacing_mm)
    fixed = _Grid.of_frame(frame, step)
    moving = _Grid.of_half(half, step)
    rigid = _ranked(fixed, moving, [_rigid(fixed, shift) for shift in _places(fixed, moving)])
    affine = _ranked(fixed, moving, [_affine(fixed, pose) for pose in rigid[:STRETCHED]])
    credible = rigid + [pose for pose in affine if _is_credible(pose)]
    best = max(credible, key=lambda pose: _similarity(fixed, moving, pose), default=None)
    if best is None:
        return Pose(np.eye(4), NOT_SEEN, "no bone like a femur was found")
    similarity = _similarity(fixed, moving, best)
    if similarity < LEAST_SIMILARITY:
        reason = f"no bone like a femur was found (similarity {similarity:.2f}, expected {LEAST_SIMILARITY:g})"
        return Pose(best, similarity, reason)
    return Pose(best, similarity)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """A scan on an axis-aligned cubic grid, windowed; ``band`` is where it counts."""

    hu: Array
    affine: Matrix
    step_mm: float
    band: Mask | None = None
    proximal: Mask | None = None

    @classmethod
    def of_half(cls, half: Half, step: float) -> "_Grid":
        corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in half.volume.hu.shape], indexing="ij")).reshape(3, -1)
        points = half.affine[:3, :3] @ corners + half.affine[:3, 3:]
        low, high = points.min(axis=1)[::-1], points.max(axis=1)[::-1]
        shape = [max(2, int((b - a) / step) + 1) for a, b in zip(low, high, strict=True)]
        affine = axis_aligned(low, (step, step, step))
        hu = resampled(half.volume.hu, half.affine, affine, (shape[0], shape[1], shape[2]), HU_WINDOW[0])
        return cls(np.clip(hu, *HU_WINDOW), affine, step)

    @classmethod
    def of_frame(cls, frame: Frame, step: float) -> "_Grid":
        shape = [max(2, int(n * own / step)) for n, own in zip(frame.shape, frame.spacing_mm, strict=True)]
        size = (shape[0], shape[1], shape[2])
        affine = axis_aligned(frame.affine[:3, 3][::-1], (step, step, step))
        hu = resampled(frame.hu.astype(np.float32), frame.affine, affine, size, HU_WINDOW[0])
        mask = resampled(frame.mask.astype(np.float32), frame.affine, affine, size, 0.0) >= 0.5
        band = ndimage.distance_transform_edt(~mask) * step <= BAND_MM
        top = int(np.flatnonzero(mask.any(axis=(1, 2)))[-1])
        proximal = band.copy()
        proximal[: max(0, top - int(PROXIMAL_MM / step))] = False
        return cls(np.clip(hu, *HU_WINDOW), affine, step, band, proximal)

    def image(self) -> sitk.Image:
        return self._as_image(self.hu)

    def band_image(self) -> sitk.Image:
        assert self.band is not None
        return self._as_image(self.band.astype(np.uint8))

    def _as_image(self, values: NDArray[np.generic]) -> sitk.Image:
        image = sitk.GetImageFromArray(values)
        image.SetSpacing([self.step_mm] * 3)
        image.SetOrigin(self.affine[:3, 3].tolist())
        return image

    def centre_mm(self) -> NDArray[np.float64]:
        """Middle of the proximal band, (x, y, z)."""
        assert self.proximal is not None
        return self.affine[:3, :3] @ np.argwhere(self.proximal).mean(axis=0) + self.affine[:3, 3]


def _places(fixed: _Grid, moving: _Grid) -> list[NDArray[np.float64]]:
    """Return shifts (x, y, z) in mm that bring the reference's proximal end onto what looks like it, best first."""
    assert fixed.proximal is not None
    box = ndimage.find_objects(fixed.proximal.astype(np.uint8))[0]
    template = fixed.hu[box]
    pads = [(n, n) for n in (np.array(template.shape) // 2 + 1)]
    scan = np.pad(moving.hu, pads, constant_values=HU_WINDOW[0])
    match = match_template(scan, template, pad_input=True)
    apart = max(1, round(PLACES_APART_MM / moving.step_mm))
    peaks = peak_local_max(match, min_distance=apart, num_peaks=PLACES, exclude_border=False)
    middle = np.array([(span.start + span.stop - 1) / 2 for span in box])
    # match_template's peak lies on the template's voxel n // 2.
    offset = np.array([(n - 1) / 2 - n // 2 for n in template.shape])
    places = [peak + offset - [pad for pad, _ in pads] for peak in peaks]
    return [
        (moving.affine[:3, :3] @ place + moving.affine[:3, 3]) - (fixed.affine[:3, :3] @ middle + fixed.affine[:3, 3])
        for place in places
    ]


def _ranked(fixed: _Grid, moving: _Grid, starts: Sequence[sitk.Transform]) -> list[Matrix]:
    """Refine every start that shows enough of the femur; return those that still do, the most similar first."""
    seen = [start for start in starts if _similarity(fixed, moving, _matrix(start)) > NOT_SEEN]
    found = [pose for start in seen if (pose := _refined(fixed, moving, start)) is not None]
    alike = [(_similarity(fixed, moving, pose), place) for place, pose in enumerate(found)]
    return [found[place] for similarity, place in sorted(alike, key=lambda one: -one[0]) if similarity > NOT_SEEN]


def _rigid(fixed: _Grid, shift: NDArray[np.float64]) -> sitk.Transform:
    transform = sitk.Euler3DTransform()
    transform.SetCenter(fixed.centre_mm().tolist())
    transform.SetTranslation(shift.tolist())
    return transform


def _affine(fixed: _Grid, start: Matrix) -> sitk.Transform:
    transform = sitk.AffineTransform(3)
    centre = fixed.centre_mm()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation((start[:3, :3] @ centre + start[:3, 3] - centre).tolist())
    return transform


def _refined(fixed: _Grid, moving: _Grid, start: sitk.Transform) -> Matrix | None:
    """Climb the correlation; None where the two do not overlap."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(fixed.band_image())
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.02, numberOfIterations=80, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([fixed.step_mm, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed.image(), moving.image())
    except RuntimeError:
        return None
    return _matrix(start)


def _matrix(transform: sitk.Transform) -> Matrix:
    """Return an affine transform as a matrix."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([np.subtract(transform.TransformPoint(axis), origin) for axis in np.eye(3).tolist()]).T
    matrix[:3, 3] = origin
    return matrix


def _seen(fixed: _Grid, moving: _Grid, pose: Matrix) -> tuple[Array, Mask]:
    """Return the moved scan on the fixed grid, and where it is inside the scan."""
    shape = fixed.hu.shape
    size = (shape[0], shape[1], shape[2])
    hu = resampled(moving.hu, moving.affine, pose @ fixed.affine, size, np.nan)
    return hu, np.isfinite(hu)


def _similarity(fixed: _Grid, moving: _Grid, pose: Matrix) -> float:
    """Correlation in the band, as far as the scan reaches; ``NOT_SEEN`` where it shows too little of it."""
    assert fixed.band is not None
    assert fixed.proximal is not None
    hu, inside = _seen(fixed, moving, pose)
    band = fixed.band & inside
    if (fixed.proximal & inside).sum() < LEAST_SEEN * fixed.proximal.sum() or band.sum() < 8:
        return NOT_SEEN
    one, other = fixed.hu[band], hu[band]
    if one.std() == 0 or other.std() == 0:
        return NOT_SEEN
    return float(np.corrcoef(one, other)[0, 1])


def _is_credible(pose: Matrix) -> bool:
    """Whether one femur of an adult may be stretched so to become another."""
    stretch = np.linalg.svd(pose[:3, :3], compute_uv=False)
    return bool(stretch.min() >= STRETCH[0] and stretch.max() <= STRETCH[1])
