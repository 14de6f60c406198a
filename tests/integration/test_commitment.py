"""A native Orthanc asks the node for storage commitment, as a modality does after an examination."""

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, NODE_NAME, Orthanc
from dicom_node.net.scu import Address, send_files
from tests.conftest import wait_for

pytestmark = pytest.mark.needs_binary


def test_orthanc_gets_the_promise_for_what_is_kept_and_none_for_what_is_not(
    tmp_path: Path, make_node: Callable[..., LocalNode], make_orthanc: Callable[[LocalNode], Orthanc]
) -> None:
    scan = Scan(np.zeros((3, 8, 8), np.int16), (3.0, 1.0, 1.0), (0, 0, 0))
    paths = write_series(scan, tmp_path / "ct", FakePatient(), seed="commitment")
    node = make_node(quiet_s=600)
    orthanc = make_orthanc(node)
    send_files(Address(node.ae_title, "127.0.0.1", node.dicom_port, AE_TITLE), paths)
    kept = [dcmread(path, stop_before_pixels=True) for path in paths]
    asked = [[str(ds.SOPClassUID), str(ds.SOPInstanceUID)] for ds in kept]
    for references, status in ((asked, "Success"), ([*asked, [asked[0][0], str(generate_uid())]], "Failure")):
        answer = httpx.post(
            f"{orthanc.url}/modalities/{NODE_NAME}/storage-commitment", json={"DicomInstances": references}, timeout=30
        )
        path = answer.json()["Path"]
        report = wait_for(lambda path=path: reported(orthanc, path), 30, "the report")
        assert report["Status"] == status
        assert len(report["Success"]) == len(asked)
    wait_for(lambda: node.get("/api/commitments")[0]["state"] == "REPORTED", 30, "the row of the last report")
    (row, _) = node.get("/api/commitments")
    assert row["calling_aet"] == AE_TITLE
    (association,) = [one for one in node.get("/api/associations") if one["accepted"]]
    assert association["accepted"] == len(paths)


def reported(orthanc: Orthanc, path: str) -> dict[str, object] | None:
    report = httpx.get(f"{orthanc.url}{path}", timeout=30).json()
    return None if report["Status"] == "Pending" else report
