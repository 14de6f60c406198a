"""A site's labelled scans: what is read, and what is refused with which sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import data_checksum, read_cases
from inference.labels import BY_KEY

FEMURS = ("femur_right", "femur_left")
SHAPE = (4, 5, 6)


def _write(
    folder: Path,
    kind: str,
    name: str,
    values: np.ndarray,
    spacing: tuple[float, ...] = (1.0, 2.0, 3.0),
    flip: bool = False,
) -> None:
    (folder / kind).mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    if flip:
        image.SetDirection((-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
        image.SetOrigin((spacing[0] * (values.shape[2] - 1), 0.0, 0.0))
    sitk.WriteImage(image, str(folder / kind / name))


def _labels(value: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:3, 1:3, 0:2] = value
    return labels


def _site(folder: Path, count: int = 4, value: int = 1) -> Path:
    for place in range(count):
        hu = np.full(SHAPE, place, dtype=np.int16)
        _write(folder, "images", f"c{place}.nii.gz", hu)
        _write(folder, "labels", f"c{place}.nii.gz", _labels(value))
    return folder


def test_a_case_gives_volume_and_labels_on_one_canonical_grid(tmp_path: Path) -> None:
    hu = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    for name, flip in (("a.nrrd", False), ("b.mha", True)):
        _write(tmp_path, "images", name, hu[:, :, ::-1].copy() if flip else hu, flip=flip)
        _write(tmp_path, "labels", name, _labels()[:, :, ::-1].copy() if flip else _labels(), flip=flip)
    one, other = read_cases(tmp_path, FEMURS)
    assert one.volume.spacing_mm == (3.0, 2.0, 1.0)
    assert np.array_equal(one.volume.hu, other.volume.hu)
    assert np.array_equal(one.labels, _labels())
    assert np.array_equal(other.labels, _labels())
    assert np.allclose(one.volume.affine_lps, other.volume.affine_lps)


def test_labels_json_translates_and_leaves_the_rest_as_background(tmp_path: Path) -> None:
    site = _site(tmp_path, 2, value=76)
    labels = _labels(76)
    labels[0, 0, 0] = 5
    _write(site, "labels", "c0.nii.gz", labels)
    (site / "labels.json").write_text(json.dumps({"femur_right": 76, "femur_left": 75}))
    case = read_cases(site, FEMURS)[0]
    assert set(np.unique(case.labels)) == {0, BY_KEY["femur_right"].value}
    assert case.labels[0, 0, 0] == 0


def test_structures_that_were_not_asked_for_are_left_out(tmp_path: Path) -> None:
    site = _site(tmp_path, 2)
    labels = _labels()
    labels[0, 0, 0] = BY_KEY["sacrum"].value
    _write(site, "labels", "c0.nii.gz", labels)
    assert set(np.unique(read_cases(site, FEMURS)[0].labels)) == {0, 1}


def test_the_split_keeps_patients_together_and_depends_on_the_seed_only(tmp_path: Path) -> None:
    site = _site(tmp_path, 8)
    rows = "\n".join(f"c{place},p{place // 2}" for place in range(8))
    (site / "cases.csv").write_text(f"case,patient\n{rows}\n")
    splits = {case.name: case.split for case in read_cases(site, FEMURS, seed=3)}
    assert splits == {case.name: case.split for case in read_cases(site, FEMURS, seed=3)}
    assert all(splits[f"c{2 * pair}"] == splits[f"c{2 * pair + 1}"] for pair in range(4))
    assert list(splits.values()).count("validation") == 2
    seen = {tuple(case.split for case in read_cases(site, FEMURS, seed=seed)) for seed in range(6)}
    assert len(seen) > 1


def test_cases_csv_decides_the_split(tmp_path: Path) -> None:
    site = _site(tmp_path, 3)
    (site / "cases.csv").write_text("case,patient,split\nc0,p,train\nc1,q,validation\nc2,r,test\n")
    assert [case.split for case in read_cases(site, FEMURS)] == ["train", "validation", "test"]


def test_the_checksum_follows_every_voxel_and_every_split(tmp_path: Path) -> None:
    site = _site(tmp_path, 4)
    before = data_checksum(read_cases(site, FEMURS))
    assert before == data_checksum(read_cases(site, FEMURS))
    labels = _labels()
    labels[3, 4, 5] = 1
    _write(site, "labels", "c2.nii.gz", labels)
    changed = data_checksum(read_cases(site, FEMURS))
    assert changed != before
    splits = "case,patient,split\nc0,a,train\nc1,b,train\nc2,c,validation\nc3,d,{}\n"
    (site / "cases.csv").write_text(splits.format("train"))
    one = data_checksum(read_cases(site, FEMURS))
    (site / "cases.csv").write_text(splits.format("validation"))
    assert data_checksum(read_cases(site, FEMURS)) != one


def test_no_patient_stands_in_the_words_of_a_case(tmp_path: Path) -> None:
    site = _site(tmp_path, 2)
    (site / "cases.csv").write_text("case,patient\nc0,MRN-4471\nc1,MRN-5582\n")
    assert "MRN" not in repr(read_cases(site, FEMURS))
    (site / "cases.csv").write_text("case,patient,split\nc0,MRN-4471,train\nc1,MRN-4471,validation\n")
    with pytest.raises(ConfigurationError, match="one patient") as error:
        read_cases(site, FEMURS)
    assert "MRN" not in str(error.value)


def _no_labels(site: Path) -> None:
    (site / "labels" / "c1.nii.gz").unlink()


def _no_image(site: Path) -> None:
    (site / "images" / "c1.nii.gz").unlink()


def _other_grid(site: Path) -> None:
    _write(site, "labels", "c1.nii.gz", _labels(), spacing=(1.0, 2.0, 3.1))


def _other_shape(site: Path) -> None:
    _write(site, "labels", "c1.nii.gz", np.ones((4, 5, 5), np.uint8))


def _empty_label(site: Path) -> None:
    _write(site, "labels", "c1.nii.gz", np.zeros(SHAPE, np.uint8))


def _only_others(site: Path) -> None:
    _write(site, "labels", "c1.nii.gz", _labels(BY_KEY["sacrum"].value))


def _wrong_values(site: Path) -> None:
    _write(site, "labels", "c1.nii.gz", _labels(76))


def _fractions(site: Path) -> None:
    _write(site, "labels", "c1.nii.gz", _labels().astype(np.float32) * 0.5)


def _no_numbers(site: Path) -> None:
    (site / "labels" / "c1.nii.gz").unlink()  # the reader of NIfTI turns them into 0
    _write(site, "labels", "c1.nrrd", _labels().astype(np.float32) * np.float32(np.nan))


def _damaged(site: Path) -> None:
    path = site / "images" / "c1.nii.gz"
    path.write_bytes(path.read_bytes()[:40])


def _nan_image(site: Path) -> None:
    hu = np.zeros(SHAPE, np.float32)
    hu[0, 0, 0] = np.nan
    (site / "images" / "c1.nii.gz").unlink()
    _write(site, "images", "c1.nrrd", hu)


def _twice(site: Path) -> None:
    _write(site, "images", "c1.nrrd", np.zeros(SHAPE, np.int16))


def _foreign_file(site: Path) -> None:
    (site / "images" / "notes.txt").write_text("x")


def _no_folder(site: Path) -> None:
    (site / "labels").rename(site / "masks")


def _bad_json(site: Path) -> None:
    (site / "labels.json").write_text("{")


def _unknown_json(site: Path) -> None:
    (site / "labels.json").write_text('{"tibia": 3}')


def _same_json(site: Path) -> None:
    (site / "labels.json").write_text('{"femur_right": 3, "femur_left": 3}')


def _zero_json(site: Path) -> None:
    (site / "labels.json").write_text('{"femur_right": 0}')


def _other_json(site: Path) -> None:
    (site / "labels.json").write_text('{"L1": 3}')


def _short_csv(site: Path) -> None:
    (site / "cases.csv").write_text("case,patient\nc0,p\n")


def _long_csv(site: Path) -> None:
    (site / "cases.csv").write_text("case,patient\n" + "".join(f"c{place},p{place}\n" for place in range(5)))


def _double_csv(site: Path) -> None:
    (site / "cases.csv").write_text("case,patient\nc0,a\nc0,b\nc1,c\nc2,d\nc3,e\n")


def _headless_csv(site: Path) -> None:
    (site / "cases.csv").write_text("c0;a\n")


def _odd_split(site: Path) -> None:
    rows = "".join(f"c{place},p{place},train\n" for place in range(3))
    (site / "cases.csv").write_text(f"case,patient,split\n{rows}c3,p3,later\n")


def _no_validation(site: Path) -> None:
    rows = "".join(f"c{place},p{place},train\n" for place in range(4))
    (site / "cases.csv").write_text(f"case,patient,split\n{rows}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_labels, "images holds c1 and labels does not"),
        (_no_image, "labels holds c1 and images does not"),
        (_other_grid, "c1 lie on different grids"),
        (_other_shape, "c1 lie on different grids"),
        (_empty_label, "c1 show nothing to learn"),
        (_only_others, "c1 show nothing to learn"),
        (_wrong_values, r"c1 hold \[76\]"),
        (_fractions, "c1 are no label map"),
        (_no_numbers, "c1 are no label map"),
        (_damaged, "c1.nii.gz cannot be read|c1.nii.gz is"),
        (_nan_image, "image of c1 holds values that are no numbers"),
        (_twice, "holds c1 twice"),
        (_foreign_file, "images/notes.txt is no image"),
        (_no_folder, "There is no folder"),
        (_bad_json, "labels.json cannot be read"),
        (_unknown_json, "labels.json names tibia"),
        (_same_json, "one value to two"),
        (_zero_json, "values 1 to 255"),
        (_other_json, "names none of femur_right, femur_left"),
        (_short_csv, "names no patient for c1"),
        (_long_csv, "names c4"),
        (_double_csv, "a case twice"),
        (_headless_csv, "columns case, patient"),
        (_odd_split, "another split of c3"),
        (_no_validation, "at least one for each"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_its_name(tmp_path: Path, spoil: object, words: str) -> None:
    site = _site(tmp_path / "site")
    assert callable(spoil)
    spoil(site)
    with pytest.raises(ConfigurationError, match=words):
        read_cases(site, FEMURS)


def test_one_case_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="1 patient"):
        read_cases(_site(tmp_path, 1), FEMURS)
