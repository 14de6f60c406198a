"""Synthetic CT headers with a complete fake identity, and the tools to read what the engine wrote."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from deid_rules.profile import Profile
from deid_rules.report import Subject
from deid_rules.uids import UidMapper

MakeCt = Callable[..., Dataset]
Encode = Callable[[Dataset], bytes]
Read = Callable[[Dataset], FileDataset]


def _ct(instance_number: int = 1, **attributes: object) -> Dataset:
    """Make one small CT slice of a patient who does not exist; keyword arguments replace attributes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"1.2.276.0.7230010.3.1.4.{instance_number}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240229"
    ds.AcquisitionDateTime = "20240229101112.5+0100"
    ds.StudyTime = "101112.500000"
    ds.AccessionNumber = "ACC4711899"
    ds.Modality = "CT"
    ds.Manufacturer = "SIEMENS"
    ds.ManufacturerModelName = "SOMATOM Force"
    ds.InstitutionName = "Sankt Elsewhere Hospital"
    ds.InstitutionAddress = "Nowhere Street 17, 01234 Lostville"
    ds.ReferringPhysicianName = "Quackenbush^Hippolyte^^Dr."
    ds.StationName = "CTROOM42"
    ds.StudyDescription = "Pelvis for Zephyrine Vandermolen"
    ds.OperatorsName = "Operatorsson^Olga"
    ds.PatientName = "Vandermolen^Zephyrine^Maria"
    ds.PatientID = "MRN00815042"
    ds.PatientBirthDate = "19511224"
    ds.PatientSex = "F"
    ds.PatientAge = "072Y"
    ds.PatientSize = "1.63"
    ds.PatientWeight = "61.5"
    ds.PatientAddress = "Imaginary Lane 5, Lostville"
    ds.ConvolutionKernel = "B70s"
    ds.KVP = "120"
    ds.SliceThickness = "1.5"
    ds.DeviceSerialNumber = "SN998877"
    ds.DateOfLastCalibration = "20240228"
    ds.StudyInstanceUID = "1.2.276.0.7230010.3.1.2.1"
    ds.SeriesInstanceUID = "1.2.276.0.7230010.3.1.3.1"
    ds.FrameOfReferenceUID = "1.2.276.0.7230010.3.1.9.1"
    ds.StudyID = "1"
    ds.SeriesNumber = 3
    ds.InstanceNumber = instance_number
    ds.PositionReferenceIndicator = ""
    ds.ImagePositionPatient = [-100.5, -100.5, 1.5 * instance_number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PatientPosition = "HFS"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 8
    ds.PixelSpacing = [0.7, 0.7]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    ds.PixelData = np.arange(64, dtype="<u2").tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def _with_meta(ds: Dataset) -> Dataset:
    if "file_meta" not in ds.__dict__:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def _encode(ds: Dataset) -> bytes:
    buffer = BytesIO()
    _with_meta(ds).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_ct() -> MakeCt:
    return _ct


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Write a dataset as a file and return its bytes."""
    return _encode


@pytest.fixture(scope="session")
def through_file() -> Read:
    """Write a dataset and read it again, so that its elements are raw as they are after a network or a file."""
    return lambda ds: dcmread(BytesIO(_encode(ds)))


@pytest.fixture(scope="session")
def profile() -> Profile:
    return Profile()


@pytest.fixture(scope="session")
def subject() -> Subject:
    return Subject("ON-ABCDEFGH", -700)


@pytest.fixture(scope="session")
def uids() -> UidMapper:
    return UidMapper(b"0123456789abcdef0123456789abcdef", "tests")
