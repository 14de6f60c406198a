"""Fixtures every test may use: real scans, and free ports."""

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from dicom_node.demo.fake_ct import Scan, read_nifti
from dicom_node.logs import silence_value_warnings
from dicom_node.public_data import fetch
from inference.volume import Acquisition, Volume

silence_value_warnings()


def volume_from_scan(scan: Scan, acquisition: Acquisition | None = None) -> Volume:
    """Return a NIfTI scan as a Volume on its own grid."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = scan.spacing_mm
    affine[:3, 3] = scan.origin_mm
    affine[3, 3] = 1
    return Volume(scan.array.astype(np.float32), affine, acquisition=acquisition or Acquisition(kvp=120))


@pytest.fixture(scope="session")
def patient_ct() -> tuple[Volume, NDArray[Any]]:
    """A real patient's CT of 3 mm (nail in the left femur) and its reference labels (TotalSegmentator's values)."""
    folder = fetch("patient")
    return (
        volume_from_scan(read_nifti(folder / "example_ct.nii.gz")),
        read_nifti(folder / "example_seg_fast_force_split.nii.gz").array,
    )


@pytest.fixture(scope="session")
def patient_bodies() -> NDArray[Any]:
    """Reference mask of the patient's vertebral bodies."""
    return read_nifti(fetch("patient") / "totalseg_vertebrae_body.nii.gz").array


@pytest.fixture(scope="session")
def chest_ct() -> tuple[Volume, NDArray[Any]]:
    """A contrast chest CT (T12 to L3 in view) and its reference labels."""
    folder = fetch("chest")
    return volume_from_scan(read_nifti(folder / "cxr.nii.gz")), read_nifti(folder / "mask.nii.gz").array


@pytest.fixture(scope="session")
def alderson_paths() -> list[Path]:
    """The native DICOM slices of the Alderson phantom's pelvis."""
    return sorted((fetch("alderson") / "mr_alderson").rglob("CT/*.dcm"))


@pytest.fixture(scope="session")
def alderson_heads() -> dict[str, NDArray[np.float64]]:
    """Centroid (x, y, z) LPS mm of each femoral head's outline in the phantom's RTSTRUCT, by side."""
    path = next((fetch("alderson") / "mr_alderson").rglob("RS/*.dcm"))
    structures = dcmread(path)
    numbers = {roi.ROINumber: str(roi.ROIName).lower() for roi in structures.StructureSetROISequence}
    heads = {}
    for contour in structures.ROIContourSequence:
        name = numbers[contour.ReferencedROINumber]
        side = "left" if "left" in name or name.endswith(("_l", " l")) else "right"
        if "fem" in name:
            points = [np.reshape(one.ContourData, (-1, 3)).astype(float) for one in contour.ContourSequence]
            heads[side] = np.concatenate(points).mean(axis=0)
    return heads


@pytest.fixture(scope="session")
def alderson(alderson_paths: list[Path], alderson_heads: dict[str, Any]) -> tuple[Volume, dict[str, Any]]:
    """The Alderson phantom as a volume, with the head centroids by side."""
    from inference.dicom_volume import volume_from_datasets

    return volume_from_datasets([dcmread(path) for path in alderson_paths]), alderson_heads


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a port nobody listens on, on the loopback address."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def binary() -> Callable[[str], str]:
    """Return the path of a native program outside any virtual environment; a missing one fails under CI=true."""

    def find(name: str) -> str:
        path = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
        if path is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed; make system installs it")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


def wait_for(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Return the first true value of ``condition``; fail after ``timeout_s`` saying what was awaited."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    pytest.fail(f"waited {timeout_s:.0f} s for {what}")
