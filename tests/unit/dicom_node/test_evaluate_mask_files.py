"""``osteonode evaluate`` on what is really there: label values of another program, and DICOM Segmentations."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.cli import main
from dicom_node.evaluation import strength_of_masks
from dicom_node.evaluation.strength_models import LOAD_MODELS
from dicom_node.pipeline.reidentification import OWN_MANUFACTURER, OWN_MODEL
from dicom_node.segmenters.foreign_labels import VOCABULARIES
from fe.sensitivity import Outcome
from inference.labels import BY_KEY
from sr_export.geometry import grid_from_headers
from sr_export.inputs import Equipment
from sr_export.seg import build_segs
from tests.result_factory import make_report, make_source, regions
from tests.unit.dicom_node.fe_files import write_image

OWN = Equipment(OWN_MANUFACTURER, OWN_MODEL, "0.1.0", "NODE-0001")
HEAD_FIRST_FROM_ABOVE = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)


def write_segs(folder: Path, source: list[Dataset] | None = None, shift: int = 0, l1: str = "") -> Path:
    """Write the node's objects of the factory's bones, the VOI in one of its own; moved by rows, L1 with a name."""
    folder.mkdir(parents=True)
    source = source or make_source()
    moved = tuple(
        replace(one, mask=np.roll(one.mask, shift, axis=1), name=l1 if l1 and one.key == "L1" else one.name)
        for one in regions()
    )
    report = make_report(regions=moved, groups=(), equipment=OWN)
    for number, seg in enumerate(build_segs(source, grid_from_headers(source), report), 1):
        seg.save_as(folder / f"{number}-seg.dcm", enforce_file_format=True)
    return folder


def own_labels() -> NDArray[np.uint8]:
    labels = np.zeros(regions()[0].mask.shape, np.uint8)
    for region in regions()[:3]:
        labels[region.mask] = BY_KEY[region.key].value
    return labels


def write_map(path: Path, labels: NDArray[np.generic], origin_mm: tuple[float, ...] = (-55.0, -80.0, -400.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_image(path, labels, (3.0, 1.5, 2.0), origin_mm)


def compare(ours: Path, theirs: Path, out: Path, *words: str) -> dict[tuple[str, str], dict[str, str]]:
    assert main(["evaluate", "masks", str(ours), str(theirs), "--out", str(out), *words]) == 0
    return {
        (row["case"], row["structure"]): row for row in csv.DictReader((out / "cases.csv").read_text().splitlines())
    }


def said(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    return " ".join((found.out + found.err).split())


def foreign_labels() -> NDArray[np.uint8]:
    """Label values of TotalSegmentator's task total, with a spleen (1), a liver (5) and a rib (92)."""
    own, labels = own_labels(), np.zeros(own_labels().shape, np.uint8)
    for key, value in (("femur_right", 76), ("femur_left", 75), ("L1", 31)):
        labels[own == BY_KEY[key].value] = value
    labels[0, 0, :3], labels[0, 1, :3], labels[0, 2, :3] = 1, 5, 92
    return labels


def test_label_values_of_another_program_are_its_own_bones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = write_map(tmp_path / "ours/p.nii.gz", own_labels()).parent
    theirs = write_map(tmp_path / "theirs/p.nii.gz", foreign_labels()).parent
    found = compare(ours, theirs, tmp_path / "out", "--reference-labels", "totalsegmentator")
    assert {key[1]: float(row["Dice"]) for key, row in found.items()} == {"femur_right": 1, "femur_left": 1, "L1": 1}
    sentences = said(capsys)
    assert (
        "3 labels of the references (read as totalsegmentator's) are no bone this node measures: 1, 5, 92." in sentences
    )
    assert "whole vertebrae" in sentences


@pytest.mark.parametrize(("name", "is_said"), [("L1 vertebral body", False), ("L1", True)])
def test_a_vertebra_that_may_be_whole_is_said_where_the_other_is_a_body(
    name: str, is_said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_segs(tmp_path / "ours/p", l1=name)
    write_map(tmp_path / "theirs/p.nii.gz", own_labels())
    compare(tmp_path / "ours", tmp_path / "theirs", tmp_path / "out")
    assert ("In 1 cases (the first is p) one of the two may show whole vertebrae" in said(capsys)) is is_said


def test_values_that_are_no_bone_of_ours_are_counted_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = write_map(tmp_path / "ours/p.nii.gz", foreign_labels()).parent
    theirs = write_map(tmp_path / "theirs/p.nii.gz", own_labels()).parent
    found = compare(theirs, ours, tmp_path / "out")
    assert not [key for key in found if key[1].startswith("label")]
    assert "4 labels of the references (read as osteonode's) are no bone this node measures: 31, 75, 76, 92." in said(
        capsys
    )


def test_maps_without_a_bone_of_the_vocabulary_are_a_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    map_ = write_map(tmp_path / "p.nii.gz", np.where(foreign_labels() == 76, 76, 0).astype(np.uint8))
    assert main(["evaluate", "masks", str(map_), str(map_), "--out", str(tmp_path / "out")]) != 0
    assert "--mask-labels" in said(capsys)


def test_the_nodes_segmentations_are_masks_on_the_grid_of_the_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_segs(tmp_path / "ours/p/dicom")
    write_map(tmp_path / "theirs/p.nii.gz", own_labels())
    found = compare(tmp_path / "ours", tmp_path / "theirs", tmp_path / "out")
    assert {key: float(row["Dice"]) for key, row in found.items()} == {
        ("p", key): 1.0 for key in ("femur_right", "femur_left", "L1")
    }
    assert float(found["p", "L1"]["volume, ml"]) == pytest.approx(9 * 14 * 14 * 9.0 / 1000, abs=0.005)
    assert "left out" not in said(capsys)


def test_one_segmentation_file_is_a_mask_and_a_map_may_be_of_another_orientation(tmp_path: Path) -> None:
    seg = write_segs(tmp_path / "objects") / "1-seg.dcm"
    labels = own_labels()[::-1, ::-1]
    place = (-55.0, -80.0 + 63 * 1.5, -400.0 + 23 * 3.0)
    turned = write_image(tmp_path / "p.nii.gz", labels.copy(), (3.0, 1.5, 2.0), place, HEAD_FIRST_FROM_ABOVE)
    assert np.linalg.det(np.array(sitk.ReadImage(str(turned)).GetDirection()).reshape(3, 3)) == pytest.approx(1.0)
    for number, pair in enumerate(((seg, turned), (turned, seg))):
        found = compare(*pair, tmp_path / f"out{number}")
        assert {row["Dice"] for row in found.values()} == {"1.0000"}
        assert len(found) == 3


def test_files_of_segmentations_in_a_folder_are_paired_by_name(tmp_path: Path) -> None:
    seg = write_segs(tmp_path / "objects") / "1-seg.dcm"
    (tmp_path / "ours").mkdir()
    seg.rename(tmp_path / "ours/p.1.dcm")
    write_map(tmp_path / "theirs/p.1.nii.gz", own_labels())
    assert len(compare(tmp_path / "ours", tmp_path / "theirs", tmp_path / "out")) == 3


def test_two_segmentations_of_one_scan_are_compared_with_each_other(tmp_path: Path) -> None:
    write_segs(tmp_path / "ours/p/dicom")
    write_segs(tmp_path / "theirs/p/dicom", shift=1)
    found = compare(tmp_path / "ours", tmp_path / "theirs", tmp_path / "out")
    assert float(found["p", "L1"]["Dice"]) == pytest.approx(13 / 14, abs=1e-4)
    assert float(found["p", "L1"]["HD95, mm"]) == pytest.approx(1.5)


@pytest.mark.parametrize("is_exchanged", [True, False])
def test_segmentations_that_show_different_slices_are_compared_over_all_of_them(
    is_exchanged: bool, tmp_path: Path
) -> None:
    grid, femur = grid_from_headers(make_source()), regions()[0]
    names = ("b", "a") if is_exchanged else ("a", "b")
    for name, slices in zip(names, (slice(2, 9), slice(4, 11)), strict=True):
        mask = np.zeros_like(femur.mask)
        mask[slices] = femur.mask[slices]
        report = make_report(regions=(replace(femur, mask=mask),), groups=(), equipment=OWN)
        (seg,) = build_segs(make_source(), grid, report)
        seg.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    found = compare(tmp_path / "a.dcm", tmp_path / "b.dcm", tmp_path / "out")
    # Five of seven slices of each are shared; the other end is two slices of 3 mm away.
    assert float(found["a", "femur_right"]["Dice"]) == pytest.approx(5 / 7, abs=1e-4)
    assert float(found["a", "femur_right"]["HD, mm"]) == pytest.approx(6.0)


def test_what_people_wrote_into_a_segment_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_segs(tmp_path / "ours/p", l1="L1 of Quistgaard")
    write_map(tmp_path / "theirs/p.nii.gz", own_labels())
    compare(tmp_path / "ours", tmp_path / "theirs", tmp_path / "out")
    sentences = said(capsys)
    assert "are no bone this node measures: segment" in sentences
    assert "Quistgaard" not in sentences


@pytest.mark.parametrize("theirs_is_seg", [True, False])
def test_a_segmentation_of_another_scan_is_refused_with_its_case(
    theirs_is_seg: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_segs(tmp_path / "ours/p")
    if theirs_is_seg:
        write_segs(tmp_path / "theirs/p", make_source(FrameOfReferenceUID="2.25.9"))
    else:
        write_map(tmp_path / "theirs/p.nii.gz", own_labels(), origin_mm=(-55.0, -80.0, -401.0))
    assert main(["evaluate", "masks", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--out", str(tmp_path / "out")])
    sentences = said(capsys)
    assert "different frames of reference" in sentences if theirs_is_seg else "was drawn on another one" in sentences
    assert "p:" in sentences
    assert not (tmp_path / "out").exists()


def test_segmentations_of_two_scans_are_no_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_segs(tmp_path / "ours/p/one")
    write_segs(tmp_path / "ours/p/two", make_source(FrameOfReferenceUID="2.25.9"))
    write_map(tmp_path / "theirs/p.nii.gz", own_labels())
    assert main(["evaluate", "masks", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--out", str(tmp_path / "out")])
    assert "p: The Segmentations lie in different frames of reference" in said(capsys)


def test_a_bone_in_two_objects_of_one_case_is_put_together_and_a_second_copy_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, grid = make_source(), grid_from_headers(make_source())
    femur = regions()[0]
    upper = np.zeros_like(femur.mask)
    upper[6:] = True
    (tmp_path / "ours/p").mkdir(parents=True)
    for name, mask in (("upper", femur.mask & upper), ("lower", femur.mask & ~upper)):
        report = make_report(regions=(replace(femur, mask=mask),), groups=(), equipment=OWN)
        (seg,) = build_segs(source, grid, report)
        seg.save_as(tmp_path / f"ours/p/{name}.dcm", enforce_file_format=True)
    write_map(tmp_path / "theirs/p.nii.gz", np.where(own_labels() == 1, 1, 0).astype(np.uint8))
    found = compare(tmp_path / "ours", tmp_path / "theirs", tmp_path / "out")
    assert found["p", "femur_right"]["Dice"] == "1.0000"
    write_segs(tmp_path / "ours/p/again")
    assert main(["evaluate", "masks", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--out", str(tmp_path / "o")])
    assert "holds Right femur twice" in said(capsys)


def test_a_folder_of_one_patients_results_is_no_folder_of_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = write_segs(tmp_path / "ours")
    other = make_source()[0]
    other.file_meta = Dataset()  # type: ignore[assignment]
    other.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    other.save_as(ours / "9-sr.dcm", enforce_file_format=True)
    (tmp_path / "theirs").mkdir()
    assert main(["evaluate", "masks", str(ours), str(tmp_path / "theirs"), "--out", str(tmp_path / "out")])
    assert "9-sr.dcm is DICOM but no Segmentation" in said(capsys)
    theirs = write_map(tmp_path / "p.nii.gz", own_labels())
    found = compare(ours, theirs, tmp_path / "out")
    assert sorted(found) == [("p", "L1"), ("p", "femur_left"), ("p", "femur_right")]


def test_a_file_of_an_unknown_kind_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("no mask")
    assert main(["evaluate", "masks", *[str(tmp_path / "p.txt")] * 2, "--out", str(tmp_path / "out")]) != 0
    assert "of no known kind" in said(capsys)


def run_strength(folder: Path, *words: str) -> list[dict[str, str]]:
    folders = [word for part in ("images", "masks", "references") for word in (f"--{part}", str(folder / part))]
    command = ["evaluate", "strength", *folders, "--model", "sas", "--density-mg-per-cm3", "K2HPO4", *words]
    assert main([*command, "--out", str(folder / "out")]) == 0
    return list(csv.DictReader((folder / "out/loads.csv").read_text().splitlines()))


def test_strengths_are_computed_from_the_nodes_segmentations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def voxels(bone: object, mask: np.ndarray, *_: object) -> Outcome[tuple[float, float, float]]:  # type: ignore[type-arg]
        return Outcome({"strength": float(mask.sum())}, (0.0, 0.0, 0.0))

    monkeypatch.setitem(LOAD_MODELS, "sas", replace(LOAD_MODELS["sas"], compute=voxels))
    write_map(tmp_path / "images/p.nii.gz", np.zeros(own_labels().shape, np.float32))
    write_segs(tmp_path / "masks/p")
    write_map(tmp_path / "references/p.nii.gz", own_labels())
    found = {row["structure"]: row for row in run_strength(tmp_path)}
    assert {key: float(row["Dice of the automatic"]) for key, row in found.items()} == {
        "femur_right": 1.0,
        "femur_left": 1.0,
    }
    assert float(found["femur_right"]["reference, N"]) == float(found["femur_right"]["automatic, N"]) == 9 * 12 * 9
    monkeypatch.setattr(strength_of_masks, "read_scan", None)
    assert len(run_strength(tmp_path)) == 2


@pytest.mark.parametrize(("name", "cuts"), [("L1 vertebral body", 0), ("L1", 1)])
def test_vertebrae_of_segmentations_that_do_not_call_them_bodies_are_cut(
    name: str, cuts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(strength_of_masks, "cut_bodies", lambda volume, labels: (labels, calls.append(volume)))
    monkeypatch.setitem(
        LOAD_MODELS, "sas", replace(LOAD_MODELS["sas"], compute=lambda *_: Outcome({"strength": 1.0}, (0.0, 0.0, 0.0)))
    )
    write_map(tmp_path / "images/p.nii.gz", np.zeros(own_labels().shape, np.float32))
    write_segs(tmp_path / "masks/p", l1=name)
    write_map(tmp_path / "references/p.nii.gz", own_labels())
    run_strength(tmp_path)
    assert len(calls) == cuts


def test_the_document_lists_the_label_values() -> None:
    text = (Path(__file__).parents[3] / "docs/evaluation.md").read_text()
    keys = ["femur_right", "femur_left", "hip_right", "hip_left", "sacrum", "T10", "T11", "T12"]
    keys += [f"L{number}" for number in range(1, 6)]
    for vocabulary, names in VOCABULARIES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{vocabulary}` |"))
        spans = [re.findall(r"(\d+)(?: to (\d+))?", cell) for cell in row.split("|")[2:]]
        said = [value for cell in spans for one, last in cell for value in range(int(one), int(last or one) + 1)]
        assert dict(zip(said, keys, strict=True)) == dict(names)
