"""Quality of a whole CT volume: what forbids or limits every number drawn from it.

The checks read the header's technical attributes and the voxels; they look for no bone. Each returns flags
with their evidence; what a flag forbids is the table in ``inference.quality``.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.kernels import kernel_sharpness
from inference.quality import STUDY, QualityFlag
from inference.slice_continuity import air_gaps, broken_stack
from inference.spectral import spectral_word
from inference.volume import Volume, canonical

THICK_SLICE_MM = 3.0
"""Thickest slice for geometry: issue of partial volume; also the largest voxel of Saillard 2024's femur
model [P]."""

COARSE_VOXEL_MM = 5.0
"""Longest voxel for any number: two voxels and a margin must fit in a 25 mm body's core [m] assumption."""

COARSE_PIXEL_MM = 1.5
"""Largest ordinary pixel: a 768 mm field in 512 pixels; scanners stop near 700 mm [m] assumption."""

ROUNDING_MM = 0.05
"""Stated and measured lengths agree within this."""

HEAD_FIRST_SUPINE = "HFS"
"""Patient Position (0018,5100) of a usual CT, PS3.3 C.7.3.1.1.2."""

OBLIQUE_DEG = 20.0
"""Largest turn of the array against the patient's axes that the segmenters are made for [m] assumption."""

AIR_RANGE_HU = (-1024.0, -850.0)
"""Where air may lie, open at -1024, which is padding; ACR's accreditation phantom asks -1005 to -970 [m]."""

AIR_TOLERANCE_HU = 40.0
"""Allowed distance of the air peak from -1000 HU [m] assumption: the ACR's limits and half a bin of 20 HU. Measured:
-1003 HU in two patients."""

SOFT_RANGE_HU = (-160.0, 120.0)
"""Where the peak of soft tissue (fat to enhanced muscle) lies [m] assumption."""

SOFT_LOWEST_HU = -300.0
"""Everything denser than lung and its edge; its commonest value must be soft tissue [m] assumption."""

MIN_AIR_FRACTION = 0.0005
MIN_SOFT_FRACTION = 0.05
"""Least part of the voxels that must be air, and soft tissue, for the scale to be checkable [m]
assumption."""

FAT_PEAK_HU, LEAN_PEAK_HU = (-120.0, -75.0), (15.0, 85.0)
"""Where the peaks of fat and of muscle and organs lie when the scale is right [m] assumption. Measured in fields of
120 to 220 mm inside two patients: -102 to -87 and 27 to 67 HU; a shift of 40 HU leaves the ranges."""

MIN_BORDER_TISSUE = 0.5
"""Measured: 0.53 to 0.99 in fields of 120 to 220 mm around the spine, lung being the rest. [m] assumption."""

FAT_SEARCH_HU, LEAN_SEARCH_HU = (-160.0, -30.0), (-10.0, 160.0)

MOST_VALLEY = 0.85
"""Between two true peaks the histogram falls to this part of the lower one, or less; measured 0.3 to 0.72."""

NOISY_HU = 60.0
"""Noise above which a mean still holds but a single voxel says little [m] assumption; 10 to 30 HU is
usual."""


def check_volume(volume: Volume) -> tuple[QualityFlag, ...]:
    """Run every check of a whole volume.

    Parameters
    ----------
    volume
        Any volume; canonical order is not needed.

    Returns
    -------
    tuple of QualityFlag
        All with subject ``study``, in the order of the checks.
    """
    flags = (check(volume) for check in CHECKS)
    return tuple(flag for flag in flags if flag is not None)


def thick_slices(volume: Volume) -> QualityFlag | None:
    """Flag slices, or slice distances, above 3 mm."""
    stated_mm = volume.acquisition.slice_thickness_mm or 0.0
    thickness_mm = max(stated_mm, volume.spacing_mm[0])
    if thickness_mm <= THICK_SLICE_MM + ROUNDING_MM:
        return None
    return QualityFlag(
        "thick_slices",
        STUDY,
        f"Slices are {thickness_mm:.2f} mm thick or apart; expected at most {THICK_SLICE_MM:g} mm.",
        (("slice_thickness_mm", stated_mm), ("slice_spacing_mm", volume.spacing_mm[0])),
    )


def voxels_too_coarse(volume: Volume) -> QualityFlag | None:
    """Flag voxels longer than 5 mm along any axis."""
    longest_mm = max(*volume.spacing_mm, volume.acquisition.slice_thickness_mm or 0.0)
    if longest_mm <= COARSE_VOXEL_MM + ROUNDING_MM:
        return None
    return QualityFlag(
        "voxels_too_coarse",
        STUDY,
        f"Voxels are up to {longest_mm:.2f} mm long; expected at most {COARSE_VOXEL_MM:g} mm.",
        (("longest_voxel_mm", longest_mm),),
    )


def coarse_voxels(volume: Volume) -> QualityFlag | None:
    """Flag pixels above 1.5 mm within the slice."""
    pixel_mm = max(volume.spacing_mm[1:])
    if pixel_mm <= COARSE_PIXEL_MM:
        return None
    return QualityFlag(
        "coarse_voxels",
        STUDY,
        f"Pixels are {pixel_mm:.2f} mm wide; expected at most {COARSE_PIXEL_MM:g} mm.",
        (("pixel_spacing_mm", pixel_mm),),
    )


def oblique_volume(volume: Volume) -> QualityFlag | None:
    """Flag an array turned far against the patient's axes."""
    directions = np.abs(volume.affine_lps[:3, :3]) / np.asarray(volume.spacing_mm)
    turn_deg = float(np.degrees(np.arccos(np.clip(directions.max(axis=0).min(), 0.0, 1.0))))
    if turn_deg <= OBLIQUE_DEG:
        return None
    return QualityFlag(
        "oblique_volume",
        STUDY,
        f"Slices are turned by {turn_deg:.0f} degrees against the patient's axes; expected at most "
        f"{OBLIQUE_DEG:g} degrees.",
        (("turn_deg", turn_deg),),
    )


def kernel(volume: Volume) -> QualityFlag | None:
    """Flag an edge-enhancing kernel, and one that is not known."""
    acquisition = volume.acquisition
    sharpness = kernel_sharpness(acquisition.manufacturer, acquisition.convolution_kernel)
    name = ascii_text(acquisition.convolution_kernel) or "none stated"
    evidence = (("convolution_kernel", name),)
    if sharpness == "sharp":
        sentence = f"The reconstruction kernel is edge-enhancing ({name}); expected a soft-tissue kernel."
        return QualityFlag("sharp_kernel", STUDY, sentence, evidence)
    if sharpness == "unknown":
        sentence = f"The sharpness of the reconstruction kernel is unknown ({name}); expected a soft-tissue kernel."
        return QualityFlag("unknown_kernel", STUDY, sentence, evidence)
    return None


def contrast_given(volume: Volume) -> QualityFlag | None:
    """Flag a contrast agent that the header states."""
    if not volume.acquisition.contrast_agent:
        return None
    return QualityFlag(
        "contrast_given",
        STUDY,
        "The header states that a contrast agent was given; expected a scan without contrast.",
    )


def wrong_position(volume: Volume) -> QualityFlag | None:
    """Flag a patient who did not lie head first and supine."""
    position = volume.acquisition.patient_position
    if position in ("", HEAD_FIRST_SUPINE):
        return None
    return QualityFlag(
        "wrong_position",
        STUDY,
        ascii_text(f"The patient position is {position[:16]}; expected head first, supine (HFS)."),
        (("patient_position", position[:16]),),
    )


def derived_images(volume: Volume) -> QualityFlag | None:
    """Flag images computed from other images (Image Type value 1, PS3.3 C.7.6.1.1.2)."""
    if "DERIVED" not in volume.acquisition.image_type[:1]:
        return None
    return QualityFlag("derived_images", STUDY, "The images are derived from other images; expected original slices.")


def spectral_images(volume: Volume) -> QualityFlag | None:
    """Flag images of a spectral CT whose values are not CT numbers of a tube voltage."""
    word = spectral_word(volume.acquisition.image_type)
    if not word:
        return None
    sentence = (
        f"The Image Type says {ascii_text(word)[:16]}: images of a spectral scan at one energy or of one material; "
        "expected images that read as those of a tube voltage do."
    )
    return QualityFlag("spectral_images", STUDY, sentence, (("image_type", word[:16]),))


def implausible_hu(volume: Volume) -> QualityFlag | None:
    """Flag CT numbers whose air or soft tissue is not where the Hounsfield scale puts it."""
    values = _sampled(volume.hu)
    air, soft = _within(values, AIR_RANGE_HU), _within(values, SOFT_RANGE_HU)
    tissue = values[values > SOFT_LOWEST_HU]
    air_hu = _peak_hu(air) if air.size else float("nan")
    soft_hu = _peak_hu(tissue) if tissue.size else float("nan")
    evidence = (("air_peak_hu", air_hu), ("soft_tissue_peak_hu", soft_hu))
    if not _scale_seen_on(volume, values):
        sentence = "Neither air near -1000 HU nor fat and muscle were found, so the Hounsfield scale cannot be trusted."
        return QualityFlag("implausible_hu", STUDY, sentence, evidence)
    if soft.size / values.size < MIN_SOFT_FRACTION or not SOFT_RANGE_HU[0] <= soft_hu <= SOFT_RANGE_HU[1]:
        sentence = "No soft tissue was found between -160 and 120 HU, so the Hounsfield scale cannot be trusted."
        return QualityFlag("implausible_hu", STUDY, sentence, evidence)
    return None


def scale_by_tissue(volume: Volume) -> QualityFlag | None:
    """Flag a field inside the body, whose scale can be checked on fat and muscle only, not on air."""
    if _scale_seen_on(volume, _sampled(volume.hu)) != "tissue":
        return None
    sentence = "The field lies inside the body: without air, the Hounsfield scale was checked on fat and muscle only."
    return QualityFlag("scale_by_tissue", STUDY, sentence)


def _scale_seen_on(volume: Volume, values: NDArray[np.float32]) -> Literal["air", "tissue", ""]:
    """Say on what the scale was found right: on air; in a field inside the body on fat and lean tissue; on nothing."""
    air = _within(values, AIR_RANGE_HU)
    if air.size / values.size >= MIN_AIR_FRACTION and abs(_peak_hu(air) + 1000.0) <= AIR_TOLERANCE_HU:
        return "air"
    if _lies_inside(volume) and _has_fat_and_lean(values[values > SOFT_LOWEST_HU]):
        return "tissue"
    return ""


def _lies_inside(volume: Volume) -> bool:
    """Whether most of the border of the slices is tissue: with air around the body, air is what must be right."""
    slices = canonical(volume)[0].hu
    border = np.concatenate([slices[:, 0], slices[:, -1], slices[:, :, 0], slices[:, :, -1]], axis=1)
    seen = border[border > AIR_RANGE_HU[0]]
    return bool(seen.size > border.size / 4 and (seen > SOFT_LOWEST_HU).mean() >= MIN_BORDER_TISSUE)


def _has_fat_and_lean(tissue: NDArray[np.float32]) -> bool:
    """Whether fat and lean tissue are two peaks with a valley between them, each where it belongs."""
    counts, edges = np.histogram(tissue, bins=np.arange(FAT_SEARCH_HU[0], LEAN_SEARCH_HU[1] + 5, 5))
    smooth = np.convolve(counts, np.ones(5) / 5, "same")
    middles = (edges[:-1] + edges[1:]) / 2
    places = []
    for low, high in (FAT_SEARCH_HU, LEAN_SEARCH_HU):
        inside = np.flatnonzero((middles > low) & (middles < high))
        places.append(int(inside[np.argmax(smooth[inside])]))
    fat, lean = places
    lower = min(smooth[fat], smooth[lean])
    is_split = lower > 0 and smooth[fat : lean + 1].min() <= MOST_VALLEY * lower
    is_soft = tissue.size > 0 and counts.sum() >= tissue.size / 2
    in_place = FAT_PEAK_HU[0] <= middles[fat] <= FAT_PEAK_HU[1] and LEAN_PEAK_HU[0] <= middles[lean] <= LEAN_PEAK_HU[1]
    return bool(is_split and is_soft and in_place)


def noisy(volume: Volume) -> QualityFlag | None:
    """Flag noise above 60 HU in soft tissue."""
    noise_hu = noise_of(volume)
    if noise_hu <= NOISY_HU:
        return None
    return QualityFlag(
        "noisy",
        STUDY,
        f"The noise is {noise_hu:.0f} HU in soft tissue; expected at most {NOISY_HU:g} HU.",
        (("noise_hu", noise_hu),),
    )


def noise_of(volume: Volume) -> float:
    """Estimate noise in soft tissue from differences of neighbours along a row.

    Parameters
    ----------
    volume
        Any volume.

    Returns
    -------
    float
        Standard deviation, HU: the median absolute difference / (0.6745 sqrt 2), exact for independent normal
        noise and an underestimate for the correlated noise of a soft kernel. 0 without soft tissue.
    """
    hu = volume.hu[:: max(1, volume.hu.shape[0] // 32)]
    left, right = hu[:, :, :-1], hu[:, :, 1:]
    low, high = SOFT_RANGE_HU
    middle = (left + right) / 2
    difference = np.abs(left - right)[(middle > low) & (middle < high)]
    return float(np.median(difference) / (0.6745 * np.sqrt(2.0))) if difference.size else 0.0


def _sampled(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every few voxels, at most about a million."""
    step = max(1, round((hu.size / 1e6) ** (1 / 3)))
    return hu[::step, ::step, ::step].ravel()


def _within(values: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """Values strictly between two bounds."""
    return values[(values > bounds[0]) & (values < bounds[1])]


def _peak_hu(values: NDArray[np.float32]) -> float:
    """Commonest value in bins of 20 HU."""
    counts, edges = np.histogram(values, bins=np.arange(values.min() - 10, values.max() + 30, 20))
    place = int(np.argmax(counts))
    return float((edges[place] + edges[place + 1]) / 2)


def ascii_text(text: str) -> str:
    """Replace what is not ASCII: header text may hold anything, sentences may not."""
    return text.encode("ascii", "replace").decode("ascii")


CHECKS: tuple[Callable[[Volume], QualityFlag | None], ...] = (
    thick_slices,
    voxels_too_coarse,
    coarse_voxels,
    oblique_volume,
    kernel,
    contrast_given,
    wrong_position,
    derived_images,
    spectral_images,
    implausible_hu,
    scale_by_tissue,
    noisy,
    air_gaps,
    broken_stack,
)
"""Every check, in the order in which its flag is shown."""
