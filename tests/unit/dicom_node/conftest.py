"""Factories for the node's unit tests."""

import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dicom_node.db.session import Databases, open_databases, prepare_databases
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a node in a temporary folder, with a short quiet time."""
    return Settings(data_dir=tmp_path / "data", quiet_s=1.0, reserve_bytes=0)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the three databases as the migrations make them."""
    folder = tmp_path_factory.mktemp("migrated") / "data"
    prepare_databases(Settings(data_dir=folder)).dispose()
    return folder


@pytest.fixture
def databases(settings: Settings, migrated: Path) -> Iterator[Databases]:
    """The three databases, made by the migrations."""
    shutil.copytree(migrated, settings.data_dir, dirs_exist_ok=True)
    opened = open_databases(settings)
    yield opened
    opened.dispose()


@pytest.fixture
def make_arrival() -> Callable[..., Arrival]:
    """Return a factory of minimal CT instances as they come over the network."""

    def make(**changes: object) -> Arrival:
        ds = Dataset()
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID = generate_uid()
        ds.SeriesInstanceUID = generate_uid()
        ds.PatientID = "P1"
        for keyword, value in changes.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)
        return Arrival(
            dataset=encode(ds),
            sop_class_uid=str(ds.SOPClassUID),
            sop_instance_uid=str(ds.get("SOPInstanceUID", "1.2.3")),
            transfer_syntax_uid=str(ExplicitVRLittleEndian),
            calling_aet="SENDER",
        )

    return make


def encode(ds: Dataset) -> bytes:
    """Encode a dataset in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return BytesIO(buffer.getvalue()).getvalue()
