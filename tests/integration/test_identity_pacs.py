"""The question to the PACS before delivery, asked of a native Orthanc."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.demo.pacs import AE_TITLE, Orthanc
from dicom_node.errors import DeliveryRefused
from dicom_node.net.find import StudyIdentity, find_study
from dicom_node.net.scu import Address
from dicom_node.pipeline.reidentification import refuse_changed_identity

pytestmark = pytest.mark.needs_binary

PATIENT = FakePatient(name="Mueller^J\u00f6rg")


def test_orthanc_says_whose_study_it_is_and_a_change_stops_delivery(
    tmp_path: Path, binary: Callable[[str], str]
) -> None:
    scan = Scan(np.zeros((2, 8, 8), np.int16), (3.0, 1.0, 1.0), (0, 0, 0))
    paths = write_series(scan, tmp_path / "ct", PATIENT, seed="pacs")
    study = str(dcmread(paths[0]).StudyInstanceUID)
    orthanc = Orthanc(binary("Orthanc"), tmp_path / "orthanc", Address("OSTEONODE", "127.0.0.1", 104, AE_TITLE))
    try:
        address = Address(AE_TITLE, "127.0.0.1", orthanc.port, "OSTEONODE")
        assert find_study(address, study) == []
        with pytest.raises(DeliveryRefused, match="does not know"):
            refuse_changed_identity(partial(find_study, address), paths, must_know_study=True)
        orthanc.take(paths)
        (found,) = find_study(address, study) or []
        assert found in [
            StudyIdentity(PATIENT.patient_id, issuer, PATIENT.name, PATIENT.birth_date)
            for issuer in (PATIENT.issuer, "")
        ]
        refuse_changed_identity(partial(find_study, address), paths, must_know_study=True)
        for path in paths:
            ds = dcmread(path)
            ds.PatientID = "MERGED-1"
            ds.save_as(path)
        with pytest.raises(DeliveryRefused, match="patient ID"):
            refuse_changed_identity(partial(find_study, address), paths, must_know_study=True)
    finally:
        orthanc.close()
