"""``osteonode evaluate``: tables and figures from files, and clear errors for files that cannot be compared."""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dicom_node.cli import main
from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.evaluation.masks import pair_files, score_masks
from dicom_node.evaluation.tables import to_csv, to_markdown
from dicom_node.evaluation.values import Case, Threshold, evaluate, read_cases


def save_labels(path: Path, labels: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> None:  # type: ignore[type-arg]
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def labels(shift: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    grid = np.zeros((10, 30, 30))
    grid[2:8, 5:15, 5 + shift : 15 + shift] = 43
    grid[2:8, 18:26, 5:15] = 1
    return grid


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases: one the same, one with L1 moved by a voxel and the right femur missing."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        save_labels(theirs / name, labels())
    save_labels(ours / "a.nii.gz", labels())
    moved = labels(1)
    moved[moved == 1] = 0
    save_labels(ours / "b.nii.gz", moved)
    return ours, theirs


def test_masks_are_scored_by_structure(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(["evaluate", "masks", *map(str, folders), "--out", str(tmp_path / "out")]) == 0
    rows = {
        (row["case"], row["structure"]): row
        for row in csv.DictReader((tmp_path / "out/cases.csv").read_text().splitlines())
    }
    assert float(rows["a", "L1"]["Dice"]) == 1.0
    assert float(rows["b", "L1"]["Dice"]) == pytest.approx(0.9)
    assert float(rows["b", "L1"]["HD95, mm"]) == pytest.approx(1.0)
    assert float(rows["b", "femur_right"]["Dice"]) == 0.0
    assert float(rows["a", "L1"]["volume, ml"]) == pytest.approx(1.2)
    summary = (tmp_path / "out/structures.md").read_text()
    assert "| femur_right | 2 | 0.500 +- 0.707 |" in summary
    assert Image.open(tmp_path / "out/dice.png").size[0] > 400


def test_a_case_without_its_reference_is_named_not_left_out(folders: tuple[Path, Path]) -> None:
    (folders[1] / "b.nii.gz").unlink()
    with pytest.raises(ConfigurationError, match="the first is b"):
        pair_files(*folders)


def test_maps_on_other_grids_are_refused(folders: tuple[Path, Path]) -> None:
    save_labels(folders[0] / "a.nii.gz", labels(), spacing=(1.0, 1.0, 3.0))
    with pytest.raises(JobRejected, match="different grids"):
        score_masks(pair_files(*folders), print)


def test_an_image_is_no_label_map(folders: tuple[Path, Path]) -> None:
    noise = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 100, (10, 30, 30)).astype(np.float32))
    noise.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(noise, str(folders[0] / "a.nii.gz"))
    with pytest.raises(JobRejected, match="no label map"):
        score_masks(pair_files(*folders), print)


def write_values(path: Path, count: int = 40, bias: float = 2.0) -> Path:
    rng = np.random.default_rng(4)
    lines = ["case,group,measured,reference"]
    for group in ("L1", "L2"):
        for number in range(count):
            reference = rng.uniform(50, 180)
            lines.append(f"{number},{group},{reference + rng.normal(bias, 5):.3f},{reference:.3f}")
    path.write_text("\n".join(lines))
    return path


def test_values_give_the_papers_tables_and_figures(tmp_path: Path) -> None:
    words = ["--quantity", "vBMD", "--unit", "mg/cm3", "--below", "80", "--above", "120"]
    file, out = write_values(tmp_path / "v.csv"), tmp_path / "out"
    assert main(["evaluate", "values", str(file), "--out", str(out), *words]) == 0
    groups = [row["group"] for row in csv.DictReader((out / "agreement.csv").read_text().splitlines())]
    assert groups == ["L1", "L2", "all"]
    decisions = list(csv.DictReader((out / "decisions.csv").read_text().splitlines()))
    assert {row["positive"] for row in decisions} == {"below 80", "above 120"}
    assert all(
        sum(int(row[key]) for key in ("TP", "FP", "FN", "TN")) == (80 if row["group"] == "all" else 40)
        for row in decisions
    )
    assert {path.name for path in out.glob("*.png")} == {
        f"{kind}_{n}.png" for kind in ("agreement", "roc") for n in (1, 2, 3)
    }


def test_the_bias_has_the_sign_of_measured_less_reference(tmp_path: Path) -> None:
    (first, *_) = evaluate(read_cases(write_values(tmp_path / "v.csv", bias=10.0)))
    assert first.agreement.bias.value == pytest.approx(10.0, abs=3.0)


def test_below_a_limit_is_positive(tmp_path: Path) -> None:
    cases = [Case(str(n), "", value, value) for n, value in enumerate((70.0, 75.0, 90.0, 130.0))]
    (result,) = evaluate(cases, [Threshold(80.0, is_below=True)])
    _, decision, curve = result.decisions[0]
    assert (decision.true_positive, decision.true_negative) == (2, 2)
    assert curve is not None
    assert curve.auc.value == 1.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: expected the columns"),
        ("case,measured\na,1", "line 1: expected the columns"),
        ("case,measured,reference\na,1,x", "line 2: reference is no number"),
        ("case,measured,reference\na,1,inf", "line 2: reference is not finite"),
        ("case,measured,reference\na,1,2\na,1,2", "stands twice"),
        ("case,measured,reference\na,1,2,3", "one value for each column"),
        ("case,measured,reference\n,1,2", "expected a name"),
        ("case,measured,reference\na,1,2\nb,2,3", "at least 3"),
        ("case,measured,reference\na,1,2\nb,2,2\nc,3,2", "the same"),
        ("case,measured,reference", "no case"),
    ],
)
def test_a_wrong_file_of_values_is_a_clear_error(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        evaluate(read_cases(path))


def test_semicolons_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes("\ufeffCase;Measured;Reference\na;1;2\n".encode())
    assert read_cases(path) == (Case("a", "", 1.0, 2.0),)


def test_binary_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_cases(path)


def test_an_output_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.csv").write_text("kept")
    assert main(["evaluate", "values", str(write_values(tmp_path / "v.csv")), "--out", str(tmp_path / "out")]) != 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old.csv"]


def test_a_name_is_no_formula_and_no_column() -> None:
    table = (("a", "b"), [("=cmd()", "-1.5"), ("x|y", "z")])
    assert "'=cmd()" in to_csv(table)
    assert "-1.5" in to_csv(table)
    assert "x\\|y" in to_markdown(table)
