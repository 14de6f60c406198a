"""Image files: what is read as it is, and what is refused with a sentence."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_node.errors import JobRejected, NotFound
from dicom_node.strength.image_files import read_grid
from tests.unit.dicom_node.fe_files import patched, write_image

LIMIT = 2**30
ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nii", "nifti"), ("a.nii.gz", "nifti"), ("a.mha", "metaimage"), ("A.NRRD", "nrrd")]
)
def test_every_format_gives_the_same_array_at_the_same_place(tmp_path: Path, name: str, kind: str) -> None:
    turned = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    grid = read_grid(write_image(tmp_path / name, ARRAY, (3.0, 2.0, 1.5), (1.0, 2.0, 3.0), turned), LIMIT)
    np.testing.assert_array_equal(grid.values, ARRAY)
    assert grid.kind == kind
    assert len(grid.sha256) == 64
    np.testing.assert_allclose(grid.affine_lps @ [0, 0, 0, 1], [1, 2, 3, 1], atol=1e-5)
    # ITK's columns are the directions of (column, row, slice): a step along a row goes to -x here, a column to y.
    np.testing.assert_allclose(grid.affine_lps @ [0, 0, 1, 1], [1, 2 - 1.5, 3, 1], atol=1e-5)
    np.testing.assert_allclose(grid.affine_lps @ [0, 1, 0, 1], [1 + 2, 2, 3, 1], atol=1e-5)
    np.testing.assert_allclose(grid.affine_lps @ [1, 0, 0, 1], [1, 2, 3 + 3, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.98])
def test_a_file_that_was_cut_off_is_refused_and_never_filled_with_zeros(tmp_path: Path, name: str, part: float) -> None:
    whole = write_image(tmp_path / name, np.random.default_rng(1).integers(0, 999, (20, 20, 20)).astype(np.int16))
    content = whole.read_bytes()
    whole.write_bytes(content[: int(part * len(content))])
    with pytest.raises(JobRejected):
        read_grid(whole, LIMIT)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
def test_a_foreign_file_under_a_known_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no image at all " * 200)
    with pytest.raises(JobRejected, match=name):
        read_grid(path, LIMIT)


def test_a_name_of_no_known_kind_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(JobRejected, match=r"\.nii\.gz"):
        read_grid(tmp_path / "a.jpg", LIMIT)
    with pytest.raises(NotFound):
        read_grid(tmp_path / "b.nii", LIMIT)


def test_a_header_that_asks_for_more_than_the_memory_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    small = write_image(tmp_path / "a.nii", ARRAY)
    huge = patched(small, tmp_path / "b.nii", "<8h", 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    with pytest.raises(JobRejected, match="memory limit"):
        read_grid(huge, LIMIT)


def test_a_compressed_file_that_grows_without_end_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    small = write_image(tmp_path / "a.nii", ARRAY)
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(small.read_bytes() + bytes(50_000_000)))
    np.testing.assert_array_equal(read_grid(path, LIMIT).values, ARRAY)


@pytest.mark.parametrize("size", [float("nan"), 0.0, float("inf"), -1.0])
def test_voxels_without_a_size_are_refused(tmp_path: Path, size: float) -> None:
    path = patched(write_image(tmp_path / "a.nii", ARRAY), tmp_path / "b.nii", "<f", 80, size)
    with pytest.raises(JobRejected, match="size of its voxels"):
        read_grid(path, LIMIT)


def test_an_image_that_does_not_say_how_the_patient_lies_is_refused(tmp_path: Path) -> None:
    path = patched(write_image(tmp_path / "a.nii", ARRAY), tmp_path / "b.nii", "<2h", 252, 0, 0)
    with pytest.raises(JobRejected, match="right and left"):
        read_grid(path, LIMIT)


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 4, 5)])
def test_images_that_are_not_three_dimensional_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.float32), isVector=False), str(tmp_path / "a.nii"))
    with pytest.raises(JobRejected, match="three-dimensional"):
        read_grid(tmp_path / "a.nii", LIMIT)


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_vectors_and_complex_numbers_are_refused(tmp_path: Path, kind: type) -> None:
    is_vector = kind is np.float32
    array = np.zeros((3, 4, 5, 2) if is_vector else (3, 4, 5), kind)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=is_vector), str(tmp_path / "a.mha"))
    with pytest.raises(JobRejected, match="one number a voxel"):
        read_grid(tmp_path / "a.mha", LIMIT)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.mha",
            b"ObjectType = Image\nNDims = 3\nDimSize = 4 5 6\nElementType = MET_SHORT\nElementDataFile = b.raw\n",
        ),
        ("a.nrrd", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 5 6\nencoding: raw\ndata file: b.raw\n\n"),
    ],
)
def test_a_header_that_points_to_another_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "b.raw").write_bytes(bytes(240))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JobRejected, match="in one file"):
        read_grid(tmp_path / name, LIMIT)
