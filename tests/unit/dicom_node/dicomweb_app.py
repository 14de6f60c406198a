"""A client of DICOMweb alone, and instances as files: what the tests of it work with."""

from email import message_from_bytes
from io import BytesIO
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dicom_node.db.session import Databases
from dicom_node.dicomweb.access import DicomwebGuard, parse_networks, parse_origins
from dicom_node.dicomweb.routes import dicomweb_routes
from dicom_node.settings import Settings

URL = "http://127.0.0.1:8080/dicom-web"


def make_client(databases: Databases, settings: Settings, caller: str = "127.0.0.1") -> TestClient:
    """Return a client that calls from an address; its addresses begin with /dicom-web."""
    app = FastAPI()
    app.include_router(dicomweb_routes(databases, settings))
    networks, origins = parse_networks(settings.dicomweb_clients), parse_origins(settings.web_origins)
    app.add_middleware(DicomwebGuard, networks=networks, origins=origins)
    return TestClient(app, base_url="http://127.0.0.1:8080", client=(caller, 50000), raise_server_exceptions=False)


def make_ct(syntax: str = ExplicitVRLittleEndian, **changes: Any) -> Dataset:
    """Return a small CT instance; None drops an element."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Änne", "MRN-1", "19400102", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260914", "101532.5", "ACC-1", "S1"
    ds.StudyDescription, ds.ReferringPhysicianName = "CT pelvis", "Brekke^Tor"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = "CT", 3, 1, "Axial"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 4, 6, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = np.arange(24, dtype="<i2").tobytes()
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def file_of(ds: Dataset) -> bytes:
    """Return an instance as a DICOM file."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def multipart(*files: bytes, boundary: str = "xYzZY", kind: str = "application/dicom") -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a request that stores files."""
    parts = b"".join(f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + one + b"\r\n" for one in files)
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'}
    return headers, parts + f"--{boundary}--\r\n".encode()


def store(client: TestClient, *instances: Dataset, study: str = "") -> Any:
    """Store instances; return the answer."""
    headers, body = multipart(*(file_of(one) for one in instances))
    return client.post(f"/dicom-web/studies{'/' + study if study else ''}", headers=headers, content=body)


def place(ds: Dataset) -> str:
    """Return the path of an instance."""
    uids = f"{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    return f"/dicom-web/studies/{uids}"


def parts_of(answer: Any) -> list[tuple[str, bytes]]:
    """Return the content type and the content of each part of an answer, read by the standard library."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + answer.content).get_payload()
    return [(part["Content-Type"], part.get_payload(decode=True)) for part in parts]
