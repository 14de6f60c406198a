"""Samples of a patient's own tissues, and contrast agent seen in the images.

Where each tissue is looked for follows from the labelled bones, so that an organ of similar CT number is not taken
for muscle. Everything works on the canonical volume (axes to the head, to the back, to the left).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import BY_KEY, FEMURS, VERTEBRAE
from inference.quality import STUDY, QualityFlag
from inference.volume import Box, Volume, boxes_of

Mask = NDArray[np.bool_]

SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian before thresholds: noise of 30 HU falls to a few."""

RANGES_HU = {"air": (-1020.0, -950.0), "adipose": (-140.0, -60.0), "muscle": (20.0, 90.0)}
"""Where a smoothed voxel counts as the tissue [m] assumption; -1024 is padding, -950 the edge of anything."""

DEPTH_MM = {"air": 8.0, "adipose": 3.0, "muscle": 4.0}
"""How deep inside the tissue a voxel must lie: partial volume stays out."""

LEAST_MM3 = {"air": 20000.0, "adipose": 2000.0, "muscle": 2000.0, "cortical_bone": 100.0}
"""Smallest sample [m] assumption; [Michalski2020] took at least 10 mm2 in one slice."""

MUSCLE_BOX_MM = ((12.0, 75.0), (5.0, 90.0))
"""Paraspinal muscle: this far to either side of a vertebral body's middle, and behind its front."""

CORTEX_PERCENTILE = 99.0
"""The densest hundredth of a femur is cortex of its shaft."""

VESSEL_HU = (110.0, 600.0)
"""Enhanced blood after smoothing; without contrast agent blood stays below 70 HU [m] assumption."""

VESSEL_BOX_MM = (45.0, 60.0)
"""Aorta and vena cava: this far to the sides of a body's middle, and in front of its front."""

VESSEL_LENGTH_MM = 40.0
"""An enhanced vessel goes on this far along the body; a calcification or a bowel loop does not [m] assumption."""

VESSEL_AREA_MM2 = (80.0, 1500.0)
"""Cross-section of a vessel of 10 mm diameter up to an aneurysm of 44 mm."""

BONE_MARGIN_MM = 4.0
"""Everything nearer to a labelled bone is not looked at: osteophytes, discs, blurred edges."""


@dataclass(frozen=True, slots=True)
class TissueSample:
    """One tissue in one scan: mean and standard deviation of its CT numbers, HU, and the volume sampled, mm3."""

    hu: float
    hu_sd: float
    volume_mm3: float


def sample_tissues(
    upright: Volume, labels: NDArray[np.uint8], sound_femurs: Collection[str] = FEMURS
) -> dict[str, TissueSample]:
    """Sample air, fat, muscle and cortical bone; blood is not sampled, as no vessel is outlined.

    Parameters
    ----------
    upright
        The CT in canonical order.
    labels : (slice, row, column) uint8 array
        Bones on its grid.
    sound_femurs
        Femurs whose cortex may be sampled: without metal.

    Returns
    -------
    dict of str to TissueSample
        What was found, by the keys of ``inference.attenuation.TISSUES``.
    """
    smooth = ndimage.gaussian_filter(upright.hu, [SMOOTHING_MM / length for length in upright.spacing_mm])
    samples = {}
    for key, bounds in RANGES_HU.items():
        mask = (smooth >= bounds[0]) & (smooth <= bounds[1])
        if key == "muscle":
            mask &= _beside_spine(upright, labels)
        inner = _deep(mask, DEPTH_MM[key], upright.spacing_mm)
        sample = _sample(upright, inner, LEAST_MM3[key])
        if sample is not None:
            samples[key] = sample
    cortex = _cortex(upright, labels, sound_femurs)
    return samples if cortex is None else {**samples, "cortical_bone": cortex}


def check_contrast(upright: Volume, labels: NDArray[np.uint8]) -> QualityFlag | None:
    """Flag an enhanced vessel in front of the spine.

    Parameters
    ----------
    upright
        The CT in canonical order.
    labels : (slice, row, column) uint8 array
        Bones on its grid.

    Returns
    -------
    QualityFlag or None
        ``contrast_seen`` with the vessel's CT number, or None where none shows.
    """
    box = _front(upright, labels)
    found = [] if box is None else list(_vessels(upright, labels, box))
    if not found:
        return None
    hu, length_mm = max(found, key=lambda vessel: vessel[1])
    sentence = (
        f"A vessel in front of the spine reads {hu:.0f} HU over {length_mm:.0f} mm; expected below {VESSEL_HU[0]:g} HU "
        "without contrast agent."
    )
    return QualityFlag("contrast_seen", STUDY, sentence, (("vessel_hu", hu), ("vessel_length_mm", length_mm)))


def _deep(mask: Mask, depth_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """Voxels at least ``depth_mm`` inside a mask, along every axis."""
    for axis, length_mm in enumerate(spacing_mm):
        size = [1, 1, 1]
        size[axis] = 2 * max(1, round(depth_mm / length_mm)) + 1
        mask = ndimage.minimum_filter(mask, size=size, mode="constant", cval=0)
    return mask


def _sample(upright: Volume, mask: Mask, least_mm3: float) -> TissueSample | None:
    """Take the values of a mask, its tails cut off; None where it is too small."""
    volume_mm3 = int(np.count_nonzero(mask)) * upright.voxel_mm3
    if volume_mm3 < least_mm3:
        return None
    values = upright.hu[mask]
    low, high = np.percentile(values, (5, 95))
    inner = values[(values >= low) & (values <= high)].astype(np.float64)
    return TissueSample(float(inner.mean()), float(values.std()), volume_mm3)


def _bodies(labels: NDArray[np.uint8]) -> list[Box]:
    """Boxes of the labelled vertebral bodies, cranial first."""
    boxes = boxes_of(labels)
    return [boxes[BY_KEY[key].value] for key in VERTEBRAE if BY_KEY[key].value in boxes]


def _beside_spine(upright: Volume, labels: NDArray[np.uint8]) -> Mask:
    """Boxes to both sides of every vertebral body, where the paraspinal muscles and the psoas lie."""
    mask = np.zeros(labels.shape, dtype=np.bool_)
    (inner_mm, outer_mm), (front_mm, back_mm) = MUSCLE_BOX_MM
    _, dy, dx = upright.spacing_mm
    for levels, rows, columns in _bodies(labels):
        middle = (columns.start + columns.stop) / 2
        first, last = round(rows.start + front_mm / dy), round(rows.start + back_mm / dy)
        for side in (-1, 1):
            ends = sorted(max(0, round(middle + side * reach / dx)) for reach in (inner_mm, outer_mm))
            mask[levels, first:last, ends[0] : ends[1]] = True
    near = ndimage.maximum_filter(labels > 0, size=[2 * max(1, round(3.0 / one)) + 1 for one in upright.spacing_mm])
    return mask & ~near


def _cortex(upright: Volume, labels: NDArray[np.uint8], femurs: Collection[str]) -> TissueSample | None:
    """Sample the densest hundredth of the femurs; a vertebra's cortex is too thin for any clinical voxel."""
    boxes = boxes_of(labels)
    values = [
        upright.hu[boxes[value]][labels[boxes[value]] == value]
        for key in femurs
        if (value := BY_KEY[key].value) in boxes
    ]
    if not values:
        return None
    bone = np.concatenate(values)
    dense = bone[bone >= np.percentile(bone, CORTEX_PERCENTILE)].astype(np.float64)
    volume_mm3 = dense.size * upright.voxel_mm3
    if volume_mm3 < LEAST_MM3["cortical_bone"]:
        return None
    return TissueSample(float(dense.mean()), float(dense.std()), volume_mm3)


def _front(upright: Volume, labels: NDArray[np.uint8]) -> Box | None:
    """Box in front of the labelled vertebral bodies, back to the middle of the foremost one; None without bodies."""
    bodies = _bodies(labels)
    if not bodies:
        return None
    _, dy, dx = upright.spacing_mm
    aside, ahead = VESSEL_BOX_MM
    middles = [(columns.start + columns.stop) / 2 for _, _, columns in bodies]
    front = min((rows.start + rows.stop) // 2 for _, rows, _ in bodies)
    first = min(rows.start for _, rows, _ in bodies)
    return (
        slice(min(levels.start for levels, _, _ in bodies), max(levels.stop for levels, _, _ in bodies)),
        slice(max(0, round(first - ahead / dy)), front),
        slice(max(0, round(min(middles) - aside / dx)), round(max(middles) + aside / dx)),
    )


def _vessels(upright: Volume, labels: NDArray[np.uint8], box: Box) -> Iterator[tuple[float, float]]:
    """CT number and length of every enhanced vessel in a box."""
    hu, spacing_mm = upright.hu[box], upright.spacing_mm
    smooth = ndimage.gaussian_filter(hu, [SMOOTHING_MM / length for length in spacing_mm])
    reach = [2 * max(1, round(BONE_MARGIN_MM / length)) + 1 for length in spacing_mm]
    bone = ndimage.maximum_filter(labels[box] > 0, size=reach)
    parts, count = ndimage.label((smooth >= VESSEL_HU[0]) & (smooth <= VESSEL_HU[1]) & ~bone)
    for number, part in enumerate(ndimage.find_objects(parts, count), start=1):
        inside = parts[part] == number
        length_mm = inside.shape[0] * spacing_mm[0]
        areas_mm2 = inside.sum(axis=(1, 2)) * spacing_mm[1] * spacing_mm[2]
        if length_mm >= VESSEL_LENGTH_MM and VESSEL_AREA_MM2[0] <= float(np.median(areas_mm2)) <= VESSEL_AREA_MM2[1]:
            yield float(smooth[part][inside].mean()), length_mm
