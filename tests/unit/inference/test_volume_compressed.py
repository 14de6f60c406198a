"""Compressed CT slices, lossless as scanners send them, read as the same CT numbers."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless, RLELossless
from volume_factories import make_slice

from inference.dicom_volume import volume_from_datasets

gdcm = pytest.importorskip("gdcm")
RNG = np.random.default_rng(2718)


def slices() -> list[Dataset]:
    stored = RNG.integers(0, 4000, (4, 16, 20), dtype=np.uint16)
    return [
        make_slice(plane, (0, 0, 10.0 * n), bits_stored=12, SliceThickness=10.0, number=n + 1)
        for n, plane in enumerate(stored)
    ]


def jpeg_lossless(dataset: Dataset, folder: Path) -> Dataset:
    """Compress with GDCM to JPEG Lossless SV1, which most scanners and archives use."""
    source, target = folder / "in.dcm", folder / "out.dcm"
    dataset.save_as(source, enforce_file_format=True)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return dcmread(target)


def test_jpeg_lossless_slices_read_as_the_same_ct_numbers(tmp_path: Path) -> None:
    expected = volume_from_datasets(slices_once := slices()).hu
    compressed = [jpeg_lossless(one, tmp_path) for one in slices_once]
    assert compressed[0].file_meta.TransferSyntaxUID.name.startswith("JPEG Lossless")
    assert np.array_equal(volume_from_datasets(compressed).hu, expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_other_lossless_slices_read_as_the_same_ct_numbers(syntax: str) -> None:
    plain = slices()
    expected = volume_from_datasets(plain).hu
    for one in plain:
        one.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(volume_from_datasets(plain).hu, expected)
