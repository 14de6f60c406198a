"""Factories of small made CT volumes and DICOM instances; every value that matters is an argument."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from inference.volume import Acquisition, Volume

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SECRET = "Doe^Jane"


def make_slice(
    stored: NDArray[np.integer],
    position_mm: Sequence[float],
    orientation: Sequence[float] = AXIAL,
    spacing_mm: tuple[float, float] = (0.8, 0.7),
    slope: float = 1.0,
    intercept: float = -1024.0,
    signed: bool = False,
    bits_stored: int = 16,
    number: int = 1,
    **elements: object,
) -> Dataset:
    """Make one uncompressed single-frame CT instance; ``elements`` overwrite or, when None, remove."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _fill_identity(dataset, number)
    _fill_pixels(dataset, stored, signed, bits_stored)
    dataset.SOPClassUID = UID(CT_IMAGE)
    dataset.ImagePositionPatient = [float(one) for one in position_mm]
    dataset.ImageOrientationPatient = [float(one) for one in orientation]
    dataset.PixelSpacing = list(spacing_mm)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.KVP, dataset.ConvolutionKernel, dataset.SliceThickness = 120, "B30s", 2.0
    dataset.PatientPosition, dataset.ImageType = "HFS", ["ORIGINAL", "PRIMARY", "AXIAL"]
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def _fill_identity(dataset: Dataset, number: int) -> None:
    dataset.PatientName, dataset.PatientID, dataset.Modality = SECRET, "ID-" + SECRET, "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.2"
    dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = "2.25.3", f"2.25.4.{number}"
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.InstanceNumber = "SIEMENS", "Test CT", number


def _fill_pixels(dataset: Dataset, stored: NDArray[np.integer], signed: bool, bits_stored: int) -> None:
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()


def make_series(
    hu: NDArray[np.floating], first_z_mm: float = 0.0, step_mm: float = 3.0, **options: object
) -> list[Dataset]:
    """Make an axial series of (slice, row, column) ``hu``; slice i lies at first_z_mm + i step_mm."""
    return [
        make_slice(
            (image + 1024).astype(np.uint16),
            (-50.0, -60.0, first_z_mm + place * step_mm),
            number=place + 1,
            **options,
        )  # type: ignore[arg-type]
        for place, image in enumerate(hu)
    ]


def make_enhanced(
    hu: NDArray[np.floating], z_mm: Sequence[float], spacing_mm: tuple[float, float] = (0.8, 0.7)
) -> Dataset:
    """Make one Enhanced CT instance whose frames lie at ``z_mm``, in that order."""
    dataset = make_slice((hu + 1024).astype(np.uint16), (0, 0, 0))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "KVP"):
        delattr(dataset, keyword)
    for keyword in ("RescaleIntercept", "ConvolutionKernel", "SliceThickness"):
        delattr(dataset, keyword)
    dataset.SOPClassUID, dataset.NumberOfFrames = UID(ENHANCED_CT_IMAGE), len(hu)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=list(AXIAL))
    shared.PixelMeasuresSequence = _item(PixelSpacing=list(spacing_mm), SliceThickness=2.0)
    shared.PixelValueTransformationSequence = _item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    shared.CTXRayDetailsSequence = _item(KVP=100)
    shared.CTReconstructionSequence = _item(ConvolutionKernel="Br40")
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items([_frame_item(z) for z in z_mm])
    return dataset


def _frame_item(z_mm: float) -> Dataset:
    frame = Dataset()
    frame.PlanePositionSequence = _item(ImagePositionPatient=[-50.0, -60.0, z_mm])
    return frame


def _item(**elements: object) -> Items:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return Items([item])


def make_volume(
    hu: NDArray[np.floating], spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0), **acquisition: object
) -> Volume:
    """Make a volume in canonical order with its first voxel at the origin."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = (*spacing_mm, 1.0)
    return Volume(np.asarray(hu, dtype=np.float32), affine, acquisition=Acquisition(**acquisition))  # type: ignore[arg-type]


def make_body(shape: tuple[int, int, int] = (40, 80, 80), seed: int = 1, noise_hu: float = 10.0) -> NDArray[np.float32]:
    """Make a trunk: air, and a cylinder of soft tissue with noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    inside = (rows / shape[1] - 0.5) ** 2 + (columns / shape[2] - 0.5) ** 2 < 0.42**2
    hu = np.where(inside, 40.0, -1000.0)[None] + random.normal(0, noise_hu, shape)
    return np.asarray(hu, dtype=np.float32)


def anatomy(slices: int = 10, rows: int = 24, columns: int = 30) -> NDArray[np.float32]:
    """Make HU that differ at every voxel, so that any flip or shift shows."""
    return np.arange(slices * rows * columns, dtype=np.float32).reshape(slices, rows, columns) / 4 // 1 - 900
