"""``osteonode evaluate strength``: loads of real models on small synthetic bones, their tables, and a run resumed."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dicom_node.cli import main
from dicom_node.evaluation import strength_of_masks
from dicom_node.evaluation.strength_models import LOAD_MODELS
from dicom_node.evaluation.strength_store import Store
from dicom_node.evaluation.strength_tables import mask_table, missing_sentence, missing_table
from dicom_node.evaluation.strength_values import (
    STEPS,
    WORDS,
    BoneLoads,
    StepLoad,
    agreement_of,
    group_test,
    load_groups,
)
from dicom_node.evaluation.tables import to_markdown
from fe.gallery import synthetic_femur
from fe.sensitivity import Outcome
from inference.labels import BY_KEY
from tests.unit.dicom_node.fe_files import write_image

SPACING_MM = (4.0, 4.0, 4.0)
RIGHT, LEFT, L1 = (BY_KEY[key].value for key in ("femur_right", "femur_left", "L1"))
SECRET = "DOE^JANE"
QUICK = ("--density-mg-per-cm3", "K2HPO4", "--element-mm", "5")


def write_case(folder: Path, name: str, automatic: np.ndarray, reference: np.ndarray, image: np.ndarray) -> None:  # type: ignore[type-arg]
    for part, array in (("images", image.astype(np.float32)), ("masks", automatic), ("references", reference)):
        (folder / part).mkdir(exist_ok=True)
        write_image(folder / part / f"{name}.nii.gz", array, SPACING_MM)


def run(folder: Path, out: Path, *words: str) -> int:
    folders = [word for part in ("images", "masks", "references") for word in (f"--{part}", str(folder / part))]
    return main(["evaluate", "strength", *folders, "--model", "sas", "--out", str(out), *QUICK, *words])


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two femurs: one with the reference itself as mask; one dilated, with a bone only its reference shows."""
    folder = tmp_path_factory.mktemp("study")
    femur = synthetic_femur("R", SPACING_MM, shaft_mm=70.0)
    mask, image = femur.mask.astype(np.uint8) * np.uint8(RIGHT), femur.rho_qct_mg_per_cm3
    write_case(folder, "same", mask, mask, image)
    grown = np.where(ndimage.binary_dilation(femur.mask), np.uint8(RIGHT), np.uint8(0))
    more = mask.copy()
    more[:2, :2, :2] = LEFT
    write_case(folder, SECRET, grown, more, image)
    assert run(folder, folder / "out") == 0
    return folder


def test_the_reference_itself_has_no_difference(study: Path) -> None:
    row = next(one for one in rows(study / "out/loads.csv") if one["case"] == "same")
    assert float(row["automatic, N"]) == float(row["reference, N"]) > 1000
    assert float(row["difference of the automatic, %"]) == 0.0
    assert float(row["Dice of the automatic"]) == 1.0
    assert row["calibrated"] == "yes"


def test_every_mask_is_changed_by_whole_voxels_and_solved_on_the_references_lattice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lattices = []

    def voxels(bone: object, mask: np.ndarray, lattice: object, *_: object) -> Outcome[tuple[float, float, float]]:  # type: ignore[type-arg]
        lattices.append(lattice)
        return Outcome({"strength": float(mask.sum())}, (float(len(lattices)), 0.0, 0.0))

    monkeypatch.setitem(LOAD_MODELS, "sas", replace(LOAD_MODELS["sas"], compute=voxels))
    reference, automatic = np.zeros((2, 30, 30, 30), np.uint8)
    reference[10:20, 10:20, 10:20], automatic[10:20, 10:20, 12:22] = RIGHT, RIGHT
    write_case(tmp_path, "box", automatic, reference, np.zeros((30, 30, 30)))
    assert run(tmp_path, tmp_path / "out") == 0
    (row,) = rows(tmp_path / "out/loads.csv")
    # A cube of ten voxels, through faces: 6^3, 8^3, 10^3, 10^3 + 6 10^2, 10^3 + 12 10^2 + 12 10.
    found = [float(row[f"{WORDS[step]}, N"]) for step in STEPS]
    assert found == [216.0, 512.0, 1000.0, 1600.0, 2320.0]
    assert float(row["Dice of the automatic"]) == pytest.approx(0.8)
    assert lattices == [None, *[(1.0, 0.0, 0.0)] * 5]


def test_a_grown_mask_eroded_by_a_voxel_is_the_reference_again(study: Path) -> None:
    row = next(one for one in rows(study / "out/loads.csv") if one["case"] == SECRET)
    found, reference = float(row["automatic, eroded by 1 voxel, N"]), float(row["reference, N"])
    # Closing by one voxel changes a smooth bone in its concave corners only; the lattice is the same.
    assert found == pytest.approx(reference, rel=0.1)
    assert abs(float(row["automatic, N"]) / reference - 1) > 0.1 * abs(found / reference - 1)


def test_what_cannot_be_computed_is_named_with_its_reason_and_counted(study: Path) -> None:
    missing = rows(study / "out/missing.csv")
    (alone,) = [one for one in missing if one["structure"] == "femur_left"]
    assert alone["case"] == SECRET
    assert alone["reason"] == "The mask does not show the bone."
    table = {row["figure"]: row for row in rows(study / "out/table3.csv")}
    lost = [one for one in missing if one["mask"] == "automatic, eroded by 2 voxels" and one["reason"]]
    assert table["bones with a load"]["automatic, eroded by 2 voxels"] == f"{2 - len(lost)} of 2"
    assert all(one["reason"].endswith(".") for one in missing)


def test_the_table_has_the_rows_of_the_paper_and_says_what_was_not_tested(study: Path) -> None:
    table = rows(study / "out/table3.csv")
    assert [row["figure"] for row in table][:3] == [
        "Dice",
        "absolute difference of the load, N",
        "absolute difference of the load, %",
    ]
    assert {row["bones"] for row in table} == {"Femurs"}
    assert "too few bones to test" in table[-1]["figure"]
    assert Image.open(study / "out/loads_1.png").size[0] > 600


def test_no_name_of_a_case_is_kept_with_what_was_computed(study: Path) -> None:
    kept = list((study / "out/computed").iterdir())
    assert len(kept) == 2
    assert not [one for one in kept if SECRET in one.name or SECRET in one.read_text() or "same" in one.read_text()]


def test_a_repeated_command_computes_nothing_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("computed again")

    before = (study / "out/table3.md").read_text()
    monkeypatch.setitem(LOAD_MODELS, "sas", replace(LOAD_MODELS["sas"], compute=never))
    monkeypatch.setattr(strength_of_masks, "read_scan", never)
    assert run(study, study / "out") == 0
    assert (study / "out/table3.md").read_text() == before


def test_another_setting_or_another_file_is_another_result(study: Path, tmp_path: Path) -> None:
    store, file = Store(tmp_path), study / "masks/same.nii.gz"
    keys = {
        store.key([file], ["a"]),
        store.key([file], ["b"]),
        store.key([study / "masks" / f"{SECRET}.nii.gz"], ["a"]),
    }
    assert len(keys) == 3
    assert Store(tmp_path).key([file], ["a"]) in keys


def test_a_damaged_result_is_none(tmp_path: Path) -> None:
    store, bone = Store(tmp_path), bone_of(1000.0, [900.0] * 5)
    store.write("k", bone)
    assert store.read("case", "k") == bone
    for broken in ("", "{}", "[]", (tmp_path / "computed/k.json").read_text().replace("-2", "-3")):
        (tmp_path / "computed/k.json").write_text(broken)
        assert store.read("case", "k") is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--structures", "L1"), "is no bone for the model"),
        (("--element-mm", "-1"), "no positive number"),
        (("--record", "r"), "need no calibration"),
        (("--mask-labels", "totalsegmentator", "--structures", "femur_left"), "No load could be computed"),
    ],
)
def test_what_does_not_go_together_is_refused(
    study: Path, tmp_path: Path, words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(study, tmp_path / "out", *words)
    assert code != 0
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_a_foreign_folder_is_not_written_to(study: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert run(study, tmp_path) != 0
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]


def test_a_case_whose_files_do_not_belong_together_is_named_with_its_reason(tmp_path: Path) -> None:
    femur = synthetic_femur("R", SPACING_MM, shaft_mm=70.0)
    labels = femur.mask.astype(np.uint8)
    write_case(tmp_path, "case", labels, labels, femur.rho_qct_mg_per_cm3)
    write_image(tmp_path / "masks/case.nii.gz", labels, SPACING_MM, origin_mm=(0.0, 0.0, 0.0))
    assert run(tmp_path, tmp_path / "out") != 0
    (row,) = rows(tmp_path / "out/missing.csv")
    assert (row["case"], row["structure"]) == ("case", "femur_right")
    assert "mm away from the image" in row["reason"]


def test_maps_without_a_bone_for_the_model_are_a_clear_error(tmp_path: Path) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4] = L1
    write_case(tmp_path, "case", labels, labels, np.zeros((6, 6, 6)))
    assert run(tmp_path, tmp_path / "out") != 0
    assert not (tmp_path / "out").exists()


def bone_of(reference: float, loads: list[float], case: str = "case", dice: float = 0.9) -> BoneLoads:
    steps = tuple(
        StepLoad(step, dice, {} if np.isnan(load) else {"strength": load}, "No head." if np.isnan(load) else "")
        for step, load in zip(STEPS, loads, strict=True)
    )
    return BoneLoads(case, "femur_right", "sas", {"strength": reference}, "", steps, (), is_calibrated=True)


def test_differences_are_those_written_out_by_hand() -> None:
    bones = [bone_of(1000.0, [500, 900, 990, 1010, 1100]), bone_of(2000.0, [1000, 1900, 2060, 2040, 2000])]
    (group,) = load_groups(bones)
    table = {row[1]: row[2:] for row in mask_table([group])[1]}
    # 10 and 60 N: mean 35, standard deviation 50 / sqrt 2; 1 % and 3 %.
    assert table["absolute difference of the load, N"][2] == "35 +- 35"
    assert table["absolute difference of the load, %"][2] == "2.00 +- 1.41"
    assert table["difference of the load, %"][2] == "1.00 +- 2.83"
    assert table["absolute difference of the load, %"][0] == "50.00 +- 0.00"
    assert "| Femurs | Dice | 0.900 +- 0.000 |" in to_markdown(mask_table([group]))


def many(count: int, spoiled: float) -> list[BoneLoads]:
    rng = np.random.default_rng(7)
    references = rng.uniform(4000, 8000, count)
    return [
        bone_of(one, [one * spoiled, *(one * (1 + rng.normal(0, 0.01, 4)))], f"c{number}")
        for number, one in enumerate(references)
    ]


def test_only_the_mask_that_changes_the_load_is_significant() -> None:
    (group,) = load_groups(many(12, spoiled=0.6))
    found = group_test(group)
    assert found.p_value(-2) is not None
    assert found.p_value(-2) < 0.05  # type: ignore[operator]
    assert all(found.p_value(step) > 0.05 for step in STEPS[1:])  # type: ignore[operator]
    agreement = agreement_of(group)
    assert agreement is not None
    assert agreement.agreement is not None
    assert agreement.agreement.pearson.value > 0.99


def test_without_an_overall_difference_no_pair_is_compared() -> None:
    (group,) = load_groups(many(6, spoiled=1.001))
    assert group_test(group).p_value(-2) is None


def test_a_mask_that_mostly_fails_takes_no_part_in_the_test_and_empties_no_other_column() -> None:
    bones = [
        replace(one, steps=(replace(one.steps[0], loads_n={}, reason="Torn."), *one.steps[1:])) for one in many(8, 1)
    ]
    (group,) = load_groups(bones)
    found = group_test(group)
    assert found.steps == (-1, 0, 1, 2)
    assert found.test is not None
    assert (found.test.cases, found.test.methods) == (8, 5)
    table = {row[1]: row[2:] for row in mask_table([group])[1]}
    assert table["absolute difference of the load, N"][0] == "-"
    assert table["bones with a load"] == ("0 of 8", "8 of 8", "8 of 8", "8 of 8", "8 of 8")
    assert missing_sentence(bones).startswith("Of 8 bones, 0 have no load and 8 lack some")
    assert len(missing_table(bones)[1]) == 8


def test_a_bone_without_a_reference_load_is_in_no_group() -> None:
    bone = replace(bone_of(1.0, [1.0] * 5), reference_n={}, reason="Reference: No head.", steps=())
    assert load_groups([bone]) == ()
    assert missing_table([bone])[1] == [("case", "femur_right", "sas", "all", "all", "Reference: No head.")]
    assert "1 have no load" in missing_sentence([bone])
