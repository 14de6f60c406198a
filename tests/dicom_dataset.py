"""CT slices as encoded datasets of a patient who does not exist, each an instance of its own."""

from io import BytesIO

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid


def ct_dataset(
    pixel_bytes: int = 2048, transfer_syntax_uid: str = ExplicitVRLittleEndian, **values: object
) -> tuple[str, bytes]:
    """Return SOP Instance UID and dataset of a new CT slice.

    Parameters
    ----------
    pixel_bytes
        Length of its pixel data.
    transfer_syntax_uid
        How the dataset around the pixels is encoded; deflated ones are not deflated here.
    values
        Further attributes by keyword.
    """
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID = "Nobody^Nowhere", "MRN-0000000"
    ds.Modality = "CT"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.PixelData = bytes(pixel_bytes)
    ds["PixelData"].VR = "OW"
    return str(ds.SOPInstanceUID), encoded(ds, transfer_syntax_uid)


def encoded(ds: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """Encode a dataset."""
    syntax = UID(transfer_syntax_uid)
    is_known = syntax.is_transfer_syntax and not syntax.is_private
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = is_known and syntax.is_implicit_VR
    buffer.is_little_endian = not is_known or syntax.is_little_endian
    write_dataset(buffer, ds)
    return BytesIO(buffer.getvalue()).getvalue()
