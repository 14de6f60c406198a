"""A real scan from a NIfTI file as a DICOM CT series of a patient who does not exist.

The header is as full of identity as a hospital's: names, ids, addresses, nested sequences, private
elements, free text. De-identification has to find all of it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid


@dataclass(frozen=True, slots=True)
class FakePatient:
    """A person who does not exist, with everything a header knows of one.

    Every value is in ``identifiers``: none of them may appear on the research side.
    """

    name: str = "Quistgaard^Wilhelmine^Augusta"
    patient_id: str = "MRN-7730518"
    issuer: str = "NORDSTRAND-HOSPITAL"
    birth_date: str = "19511103"
    sex: str = "F"
    age: str = "074Y"
    accession_number: str = "ACC4471902"
    study_id: str = "STU88213"
    physician: str = "Hallvardsson^Ingrid"
    operator: str = "Brekkestad^Tor"
    institution: str = "Nordstrand Sanatorium"
    address: str = "Fjordgata 17, 7010 Vestvik"
    telephone: str = "+47 73 55 18 20"
    study_date: str = "20260914"
    study_time: str = "101532"
    comment: str = "Seen with daughter Ragnhild Quistgaard, insurance no. 5588-221"

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Strings that identify the patient, the people around, or the stay."""
        words = [part for name in (self.name, self.physician, self.operator) for part in name.split("^")]
        return (
            *words,
            self.patient_id,
            self.issuer,
            self.birth_date,
            self.accession_number,
            self.study_id,
            self.institution,
            "Fjordgata",
            "Vestvik",
            self.telephone,
            self.study_date,
            "Ragnhild",
            "5588-221",
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """A NIfTI scan in the patient frame: [slice, row, column], feet to head, front to back, right to left."""

    array: NDArray[np.generic]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    """LPS position of voxel (0, 0, 0)."""


def read_nifti(path: Path) -> Scan:
    """Read a NIfTI image; RAS stops at this door."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    x, y, z = image.GetSpacing()
    return Scan(sitk.GetArrayFromImage(image), (z, y, x), image.GetOrigin())


def write_series(scan: Scan, folder: Path, patient: FakePatient, *, seed: str, contrast: bool = False) -> list[Path]:
    """Write a scan as a DICOM CT series, one file a slice.

    Parameters
    ----------
    scan
        HU values on an axis-aligned grid.
    folder
        Where the files go.
    patient
        The identity of the header.
    seed
        Study, series and instance UIDs are derived from it, so that the same scan is the same study.
    contrast
        Whether the header says that a contrast agent was given.

    Returns
    -------
    list of Path
        The files, feet to head.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.clip(np.rint(scan.array.astype(np.float64)), -1024, 32767).astype("<i2")
    template = _template(scan, patient, seed)
    if contrast:
        template.ContrastBolusAgent = "Iodinated contrast"
    paths = []
    for index, plane in enumerate(stored):
        instance = _instance(template, scan, plane, index, seed)
        paths.append(folder / f"CT{index:04d}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    return paths


def uid_from(seed: str, *parts: object) -> UID:
    """Return a UID that depends on the seed and the parts only."""
    return generate_uid(entropy_srcs=[seed, *map(str, parts)])


def _template(scan: Scan, patient: FakePatient, seed: str) -> Dataset:
    ds = Dataset()
    _identify(ds, patient)
    _describe_study(ds, patient, seed)
    _describe_acquisition(ds, scan)
    _add_nested_identity(ds, patient, seed)
    return ds


def _identify(ds: Dataset, patient: FakePatient) -> None:
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = patient.name
    ds.PatientID = patient.patient_id
    ds.IssuerOfPatientID = patient.issuer
    ds.PatientBirthDate = patient.birth_date
    ds.PatientSex = patient.sex
    ds.PatientAge = patient.age
    ds.PatientSize = 1.63
    ds.PatientWeight = 61.5
    ds.PatientAddress = patient.address
    ds.PatientTelephoneNumbers = patient.telephone
    ds.PatientComments = patient.comment
    ds.AdditionalPatientHistory = f"Fall at home on {patient.study_date}; {patient.comment}"
    ds.OtherPatientIDs = f"{patient.patient_id}-OLD"
    ds.EthnicGroup = ""


def _describe_study(ds: Dataset, patient: FakePatient, seed: str) -> None:
    ds.StudyInstanceUID = uid_from(seed, "study")
    ds.SeriesInstanceUID = uid_from(seed, "series")
    ds.FrameOfReferenceUID = uid_from(seed, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.StudyID = patient.study_id
    ds.AccessionNumber = patient.accession_number
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = patient.study_date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = patient.study_time
    ds.StudyDescription = f"CT pelvis and spine, {patient.name.split('^')[0]}"
    ds.SeriesDescription = "Axial soft tissue"
    ds.ProtocolName = f"Pelvis {patient.accession_number}"
    ds.ReferringPhysicianName = patient.physician
    ds.PerformingPhysicianName = patient.physician
    ds.OperatorsName = patient.operator
    ds.InstitutionName = patient.institution
    ds.InstitutionAddress = patient.address
    ds.StationName = "NSCT01"
    ds.SeriesNumber = 3


def _describe_acquisition(ds: Dataset, scan: Scan) -> None:
    ds.SOPClassUID = CTImageStorage
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer = "Demonstration"
    ds.ManufacturerModelName = "Public scan"
    ds.DeviceSerialNumber = "SN-991-204"
    ds.KVP = 120
    ds.ConvolutionKernel = "STANDARD"
    ds.PatientPosition = "HFS"
    ds.BodyPartExamined = "PELVIS"
    ds.SliceThickness = scan.spacing_mm[0]
    ds.PixelSpacing = [scan.spacing_mm[1], scan.spacing_mm[2]]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = scan.array.shape[1:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = 300, 1500
    ds.AcquisitionNumber = 1


def _add_nested_identity(ds: Dataset, patient: FakePatient, seed: str) -> None:
    """Identity where a careless de-identifier does not look: sequences in sequences, and private elements."""
    original = Dataset()
    original.PatientName = patient.name
    original.PatientID = patient.patient_id
    attributes = Dataset()
    attributes.ModifiedAttributesSequence = [original]
    attributes.AttributeModificationDateTime = f"{patient.study_date}{patient.study_time}"
    attributes.ModifyingSystem = "NORDSTRAND-PACS"
    attributes.SourceOfPreviousValues = patient.institution
    attributes.ReasonForTheAttributeModification = "COERCE"
    ds.OriginalAttributesSequence = [attributes]
    request = Dataset()
    request.AccessionNumber = patient.accession_number
    request.RequestedProcedureDescription = f"CT for {patient.name.replace('^', ' ')}"
    request.RequestedProcedureID = patient.study_id
    request.ReferencedStudySequence = [Dataset()]
    request.ReferencedStudySequence[0].ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    request.ReferencedStudySequence[0].ReferencedSOPInstanceUID = uid_from(seed, "study")
    ds.RequestAttributesSequence = [request]
    block = ds.private_block(0x0009, "OSTEODEMO SITE", create=True)
    block.add_new(0x01, "LO", patient.name.replace("^", " "))
    block.add_new(
        0x02, "UN", f"{patient.patient_id} ".encode()[: len(patient.patient_id) + len(patient.patient_id) % 2]
    )
    nested = Dataset()
    nested.PatientComments = patient.comment
    block.add_new(0x03, "SQ", [nested])


def _instance(template: Dataset, scan: Scan, plane: NDArray[np.int16], index: int, seed: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid_from(seed, "instance", index)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = "NSCT01"
    instance = FileDataset(None, {}, file_meta=meta, preamble=b"\x00" * 128)
    instance.update(template)
    x, y, z = scan.origin_mm
    instance.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    instance.InstanceNumber = index + 1
    instance.ImagePositionPatient = [round(x, 4), round(y, 4), round(z + index * scan.spacing_mm[0], 4)]
    instance.SliceLocation = instance.ImagePositionPatient[2]
    instance.PixelData = plane.tobytes()
    return instance
