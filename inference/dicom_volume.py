"""DICOM CT instances to one ``Volume``: the only way slices become an array.

It refuses what is not one regular, unsheared stack of one patient's CT; it does not repair or interpolate.
The order of the datasets does not matter: the array grows along the slice normal.
Header reading is in ``dicom_headers``, the stack in ``slice_stack``, decoding in ``dicom_pixels``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from inference.dicom_headers import (
    Frame,
    acquisition_from_dataset,
    frames_from_datasets,
    is_multi_frame,
    number,
)
from inference.dicom_pixels import check_pixels, hu_from_frame
from inference.errors import GantryTilt, MixedGeometry, MixedPatients, MixedSeries, TooFewSlices
from inference.slice_stack import SliceStack, stack_slices
from inference.volume import Volume

DIRECTION_TOLERANCE = 1e-3
"""Allowed difference of direction cosines between slices: 0.06 degrees, 0.5 mm across a 512 mm field."""

PIXEL_SPACING_TOLERANCE_MM = 1e-3
"""Allowed difference of pixel spacing between slices: half a pixel across 512 of them."""

HEADER_TILT_TOLERANCE_DEG = 0.5
"""Tilt that a header may state while its direction cosines state none: rounding of the display [m]
assumption."""


def volume_from_datasets(datasets: Sequence[Dataset]) -> Volume:
    """Read one CT series into a volume of HU.

    Parameters
    ----------
    datasets
        All instances of one series, in any order, with pixel data: CT Image, Enhanced CT or Legacy Converted
        Enhanced CT.

    Returns
    -------
    Volume
        Slices in ascending order along the normal (row direction x column direction). Padding is -1024 HU.

    Raises
    ------
    VolumeError
        One of its subclasses: see ``inference.errors``.
    """
    if not datasets:
        raise TooFewSlices("Found no images; expected a CT series. Send the series again.")
    frames = frames_from_datasets(datasets)
    _check_one_origin(datasets)
    _check_one_grid(frames)
    _check_header_tilt(frames)
    stack = stack_slices(np.stack([frame.position_mm for frame in frames]), frames[0].normal)
    for place, dataset in enumerate(datasets, start=1):
        check_pixels(dataset, f"image {place} of {len(datasets)}")
    ordered = tuple(frames[place] for place in stack.order)
    multi = any(is_multi_frame(dataset) for dataset in datasets)
    return Volume(
        hu=_hu(ordered),
        affine_lps=_affine(ordered[0], stack),
        instance_uids=tuple(frame.sop_instance_uid for frame in ordered),
        frame_of_reference_uid=str(datasets[0].get("FrameOfReferenceUID", "") or ""),
        acquisition=acquisition_from_dataset(datasets[0]),
        frame_numbers=tuple(frame.index + 1 for frame in ordered) if multi else (),
    )


def _hu(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """Decode all slices into one array, one slice at a time."""
    first = frames[0].dataset
    hu = np.empty((len(frames), int(first.Rows), int(first.Columns)), dtype=np.float32)
    for place, frame in enumerate(frames):
        hu[place] = hu_from_frame(frame, f"slice {place + 1} of {len(frames)}")
    return hu


def _affine(first: Frame, stack: SliceStack) -> NDArray[np.float64]:
    """Map indices (slice, row, column) to LPS mm (PS3.3 C.7.6.2.1.1); PixelSpacing is (rows, columns)."""
    affine = np.eye(4)
    affine[:3, 0] = stack.step_mm
    affine[:3, 1] = first.column_direction * first.spacing_mm[0]
    affine[:3, 2] = first.row_direction * first.spacing_mm[1]
    affine[:3, 3] = first.position_mm
    return affine


def _check_one_origin(datasets: Sequence[Dataset]) -> None:
    """Refuse images of two patients, studies, series, frames of reference or protocols."""
    patients = {(str(dataset.get("PatientID", "")), str(dataset.get("IssuerOfPatientID", ""))) for dataset in datasets}
    if len(patients) > 1:
        raise MixedPatients(
            f"Found images of {len(patients)} different patients in one series; expected one. Nothing was "
            "computed: have the series corrected at its source."
        )
    for name, values in _origins(datasets).items():
        if len(values) > 1:
            raise MixedSeries(
                f"Found images of {len(values)} different {name}; expected one. "
                "Send one reconstruction of one acquisition."
            )


def _origins(datasets: Sequence[Dataset]) -> dict[str, set[str]]:
    """Everything that one series has in common, by the name people know it by."""
    protocols = [acquisition_from_dataset(dataset) for dataset in datasets]
    return {
        "studies": {str(dataset.get("StudyInstanceUID", "")) for dataset in datasets},
        "series": {str(dataset.get("SeriesInstanceUID", "")) for dataset in datasets},
        "frames of reference": {str(dataset.get("FrameOfReferenceUID", "") or "") for dataset in datasets},
        "patient positions": {protocol.patient_position for protocol in protocols},
        "tube voltages": {str(protocol.kvp) for protocol in protocols},
        "reconstruction kernels": {protocol.convolution_kernel for protocol in protocols},
    }


def _check_one_grid(frames: Sequence[Frame]) -> None:
    """Refuse slices of different size, pixel spacing or orientation."""
    sizes = {(int(frame.dataset.get("Rows", 0)), int(frame.dataset.get("Columns", 0))) for frame in frames}
    if len(sizes) > 1:
        found = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes))
        raise MixedGeometry(f"Found slices of {found} pixels; expected one size. Send one reconstruction.")
    first = frames[0]
    spacings = np.stack([frame.spacing_mm for frame in frames])
    if np.ptp(spacings, axis=0).max() > PIXEL_SPACING_TOLERANCE_MM:
        raise MixedGeometry(
            f"Found pixel spacings from {spacings.min():.4f} to {spacings.max():.4f} mm; expected one. "
            "Send one reconstruction."
        )
    turned = sum(1 for frame in frames if _is_turned(frame, first))
    if turned:
        raise MixedGeometry(
            f"Found {turned} of {len(frames)} slices turned against the first; expected one orientation. "
            "Send one reconstruction."
        )


def _is_turned(frame: Frame, first: Frame) -> bool:
    """Whether a slice's direction cosines differ from the first slice's."""
    rows = np.abs(frame.row_direction - first.row_direction).max()
    columns = np.abs(frame.column_direction - first.column_direction).max()
    return bool(max(rows, columns) > DIRECTION_TOLERANCE)


def _check_header_tilt(frames: Sequence[Frame]) -> None:
    """Refuse a stated gantry tilt that the direction cosines do not show: one of the two must be wrong."""
    for frame in frames:
        stated_deg = abs(number(frame.dataset, "GantryDetectorTilt") or 0.0)
        shown_deg = float(np.degrees(np.arccos(min(1.0, abs(frame.normal[2])))))
        if stated_deg > HEADER_TILT_TOLERANCE_DEG and shown_deg < HEADER_TILT_TOLERANCE_DEG:
            raise GantryTilt(
                f"Found a gantry tilt of {stated_deg:.1f} degrees in the header of slices that say they "
                "are not tilted; expected no tilt. Send a reconstruction without tilt."
            )
