"""What the headers of CT images say about geometry, scale and technique, one ``Frame`` per slice.

Single-frame CT and multi-frame (Enhanced, Legacy Converted Enhanced) CT become the same frames, so everything
after this module has one path. No pixel is touched here: header-only datasets will do.
Sources: PS3.3 C.7.6.2 (Image Plane), C.7.6.16 (Multi-frame Functional Groups), C.8.2.1 (CT Image),
C.8.15.3 (Enhanced CT functional groups).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from inference.errors import Localizer, MissingGeometry, NotCt, UnsupportedPixels
from inference.volume import Acquisition

CT_SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.2"
"""CT Image Storage, PS3.6 Annex A."""

CT_MULTI_FRAME = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""Enhanced CT Image Storage and Legacy Converted Enhanced CT Image Storage, PS3.6 Annex A."""

UNIT_TOLERANCE = 1e-3
"""Allowed error of length and of perpendicularity of direction cosines; as highdicom.spatial 0.28 allows."""

HOUNSFIELD_TYPES = ("HU", "HU_MOD", "US")
"""Rescale Type values that are Hounsfield units (PS3.3 C.11.1.1.2); US is written by some converters [m]."""

NO_CONTRAST = ("NONE", "NO", "NO CONTRAST", "WITHOUT")
"""Values of Contrast/Bolus Agent (0018,0010) by which technologists say that none was given [m] assumption."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One slice as its header describes it.

    Attributes
    ----------
    dataset
        The instance that holds the slice.
    index
        The slice's frame within the instance, from 0.
    sop_instance_uid
        UID of the instance.
    position_mm : (3,) float64 array
        Centre of the first pixel sent, LPS.
    row_direction, column_direction : (3,) float64 array
        Unit vectors along a row (column index grows) and along a column (row index grows), LPS.
    spacing_mm
        Distance between rows and between columns, mm.
    slope, intercept
        HU = slope * stored value + intercept.
    """

    dataset: Dataset = field(repr=False)
    index: int
    sop_instance_uid: str = field(repr=False)
    position_mm: NDArray[np.float64]
    row_direction: NDArray[np.float64]
    column_direction: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    slope: float
    intercept: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector out of the slice: row direction x column direction, LPS."""
        return np.cross(self.row_direction, self.column_direction)


def is_multi_frame(dataset: Dataset) -> bool:
    """Whether the dataset is one of the multi-frame CT classes."""
    return str(dataset.get("SOPClassUID", "")) in CT_MULTI_FRAME


def is_ct(dataset: Dataset) -> bool:
    """Whether the dataset is a CT image of a class that this package reads."""
    return str(dataset.get("SOPClassUID", "")) in (CT_SINGLE_FRAME, *CT_MULTI_FRAME)


def image_type(dataset: Dataset) -> tuple[str, ...]:
    """Image Type (0008,0008) in upper case; empty where absent."""
    return tuple(value.upper() for value in strings(dataset.get("ImageType")))


def strings(value: object) -> tuple[str, ...]:
    """Values of a text element, one or many, as strings without surrounding blanks."""
    if value is None or value == "":
        return ()
    several = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    return tuple(str(one).strip() for one in several if str(one).strip())


def frames_from_datasets(datasets: Sequence[Dataset]) -> tuple[Frame, ...]:
    """Describe every slice of every dataset, in the order given.

    Parameters
    ----------
    datasets
        CT instances; pixel data may be absent.

    Returns
    -------
    tuple of Frame
        One for every single-frame instance, and one for every frame of a multi-frame instance.

    Raises
    ------
    NotCt, Localizer, MissingGeometry, UnsupportedPixels
        See ``inference.errors``.
    """
    _check_kind(datasets)
    frames: list[Frame] = []
    for place, dataset in enumerate(datasets, start=1):
        where = f"image {place} of {len(datasets)}"
        frames.extend(_frame(dataset, index, where) for index in range(number_of_frames(dataset)))
    return tuple(frames)


def number_of_frames(dataset: Dataset) -> int:
    """Count the slices that one instance holds."""
    return int(dataset.get("NumberOfFrames", 1) or 1) if is_multi_frame(dataset) else 1


def functional_group(dataset: Dataset, index: int, keyword: str) -> Dataset | None:
    """Item of a functional group macro for frame ``index``: per-frame first, then shared (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for holder in (per_frame[index] if index < len(per_frame) else None, shared[0] if len(shared) else None):
        items = holder.get(keyword) if holder is not None else None
        if items:
            return items[0]
    return None


def acquisition_from_dataset(dataset: Dataset) -> Acquisition:
    """Read the technical attributes of a series from one of its instances.

    Parameters
    ----------
    dataset
        A CT instance, single- or multi-frame.

    Returns
    -------
    Acquisition
        Empty or None where the header is silent.
    """
    details = _technique(dataset, "CTXRayDetailsSequence")
    reconstruction = _technique(dataset, "CTReconstructionSequence")
    kernel = strings(reconstruction.get("ConvolutionKernel")) if reconstruction is not None else ()
    return Acquisition(
        manufacturer=str(dataset.get("Manufacturer", "") or "").strip(),
        model_name=str(dataset.get("ManufacturerModelName", "") or "").strip(),
        kvp=number(details, "KVP"),
        convolution_kernel="\\".join(kernel),
        slice_thickness_mm=number(_technique(dataset, "PixelMeasuresSequence"), "SliceThickness"),
        contrast_agent=_contrast_agent(dataset),
        image_type=image_type(dataset),
        patient_position=str(dataset.get("PatientPosition", "") or "").strip().upper(),
    )


def number(holder: Dataset | None, keyword: str) -> float | None:
    """Read one finite number of a dataset; None where it is absent or is no number."""
    try:
        value = float(holder.get(keyword)) if holder is not None else float("nan")
    except (TypeError, ValueError, OverflowError):
        return None
    return value if np.isfinite(value) else None


def _technique(dataset: Dataset, group: str) -> Dataset | None:
    """Holder of technical attributes: the dataset itself, or frame 0's functional group."""
    return functional_group(dataset, 0, group) if is_multi_frame(dataset) else dataset


def _contrast_agent(dataset: Dataset) -> str:
    """Name of the contrast agent, ``given`` where only a sequence tells of one, empty where there was none."""
    agent = str(dataset.get("ContrastBolusAgent") or "").strip()
    if agent.upper() in NO_CONTRAST:
        return ""
    return agent or ("given" if dataset.get("ContrastBolusAgentSequence") else "")


def _check_kind(datasets: Sequence[Dataset]) -> None:
    """Refuse what is not a CT slice, with counts."""
    others = sum(1 for dataset in datasets if not is_ct(dataset))
    if others:
        raise NotCt(
            f"Found {others} of {len(datasets)} objects that are not CT images; expected CT or Enhanced CT "
            "Image Storage only. Send the CT series alone."
        )
    scouts = sum(1 for dataset in datasets if "LOCALIZER" in image_type(dataset))
    if scouts:
        raise Localizer(
            f"Found {scouts} localizer images among {len(datasets)}; expected axial slices only. "
            "Choose the axial series."
        )


def _frame(dataset: Dataset, index: int, where: str) -> Frame:
    """Describe one slice; ``where`` names it in messages without a UID."""
    plane, turn, measures, scale = _macros(dataset, index)
    orientation = _vector(turn, "ImageOrientationPatient", 6, where)
    row, column = _unit_directions(orientation, where)
    spacing = _vector(measures, "PixelSpacing", 2, where)
    if not (spacing > 0).all():
        raise MissingGeometry(
            f"Found a pixel spacing that is not positive in {where}; expected two lengths in mm. "
            "Export the series again."
        )
    slope, intercept = _rescale(scale, where)
    return Frame(
        dataset=dataset,
        index=index,
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        position_mm=_vector(plane, "ImagePositionPatient", 3, where),
        row_direction=row,
        column_direction=column,
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        slope=slope,
        intercept=intercept,
    )


def _macros(dataset: Dataset, index: int) -> tuple[Dataset | None, ...]:
    """Holders of position, orientation, pixel measures and rescale: the dataset itself, or its macros."""
    if not is_multi_frame(dataset):
        return (dataset, dataset, dataset, dataset)
    keywords = (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    )
    return tuple(functional_group(dataset, index, keyword) for keyword in keywords)


def _vector(holder: Dataset | None, keyword: str, count: int, where: str) -> NDArray[np.float64]:
    """``count`` finite numbers of one element, or MissingGeometry."""
    try:
        value = holder.get(keyword) if holder is not None else None
        numbers = np.asarray([float(one) for one in value], dtype=np.float64)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise MissingGeometry(
            f"Found no usable {keyword} in {where}; expected {count} numbers. Without them sides and "
            "levels are unknown: export the series again with its geometry."
        )
    return numbers


def _unit_directions(orientation: NDArray[np.float64], where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column directions as unit vectors, checked to be perpendicular."""
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1.0, atol=UNIT_TOLERANCE) or abs(row @ column) > UNIT_TOLERANCE:
        raise MissingGeometry(
            f"Found direction cosines in {where} that are not two perpendicular unit vectors. "
            "Export the series again with its geometry."
        )
    return row / lengths[0], column / lengths[1]


def _rescale(holder: Dataset | None, where: str) -> tuple[float, float]:
    """Slope and intercept to HU; both are Type 1 in CT (PS3.3 C.8.2.1)."""
    slope = number(holder, "RescaleSlope")
    intercept = number(holder, "RescaleIntercept")
    kind = strings(holder.get("RescaleType")) if holder is not None else ()
    if slope is None or intercept is None or slope <= 0:
        raise UnsupportedPixels(
            f"Found no usable rescale slope and intercept in {where}; expected both, so that values are HU. "
            "Send the scanner's own images."
        )
    if kind and kind[0].upper() not in HOUNSFIELD_TYPES:
        raise UnsupportedPixels(
            f"Found rescale type {kind[0][:16]} in {where}; expected HU. Material maps of a dual-energy "
            "scan are not CT numbers: send the mixed images."
        )
    return slope, intercept
