"""``osteonode evaluate``: tables and figures from files, and clear errors for files that cannot be compared."""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dicom_node.cli import main
from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.evaluation.mask_files import pair_files
from dicom_node.evaluation.masks import score_masks
from dicom_node.evaluation.notices import notices
from dicom_node.evaluation.tables import agreement_table, decision_table, to_csv, to_markdown
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
        f"{kind}_{n}.png" for kind in ("agreement", "confusion", "roc") for n in (1, 2, 3)
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
        ("case,measured,reference\na,1,2", "1 measured for 1 reference"),
        ("case,measured,reference\na,nan,2", "line 2: measured is not finite"),
        ("case,measured,reference\na,1.234,5,2,3", "one value for each column"),
        ("case;measured;reference\na;1,5;2.5", "commas and with points"),
        ("case;measured;reference\na;1.234,5;2", "commas and with points"),
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


def test_decimal_commas_are_read_where_semicolons_or_tabs_part_the_columns(tmp_path: Path) -> None:
    for mark in (";", "\t"):
        path = tmp_path / "v.csv"
        path.write_text(f"case{mark}measured{mark}reference\nP.1{mark}101,5{mark}-0,25\n")
        assert read_cases(path) == (Case("P.1", "", 101.5, -0.25),)


def test_values_of_two_files_are_joined_by_case_and_group(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    ours.write_text("case,value,group\na,1,L1\nb,2,L1\na,3,L2\n")
    theirs.write_text("group;case;value\nL2;a;3,5\nL1;b;2,5\nL1;a;1,5\n")
    assert read_cases(ours, theirs) == (Case("a", "L1", 1.0, 1.5), Case("b", "L1", 2.0, 2.5), Case("a", "L2", 3.0, 3.5))


def test_cases_of_one_file_only_are_named_not_left_out(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    ours.write_text("case,value\na,1\nb,2\n")
    theirs.write_text("case,value\na,1\nc,2\n")
    with pytest.raises(ConfigurationError, match=r"2 cases .* first is b, in ours.csv"):
        read_cases(ours, theirs)


def test_a_group_that_cannot_be_compared_says_why_and_the_others_are(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    lines = [f"{n},L1,{n + 0.5},{n}" for n in range(5)] + ["0,L2,1,2", *(f"{n},L3,{n},7" for n in range(4))]
    path.write_text("\n".join(["case,group,measured,reference", *lines]))
    assert main(["evaluate", "values", str(path), "--out", str(tmp_path / "out")]) == 0
    rows = {row["group"]: row for row in csv.DictReader((tmp_path / "out/agreement.csv").read_text().splitlines())}
    assert rows["L1"]["bias, -"].startswith("0.50")
    assert "at least 3" in rows["L2"]["line"]
    assert "the same" in rows["L3"]["line"]
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"agreement_1.png", "agreement_4.png"}


def test_a_measured_value_that_never_changes_has_no_correlation_and_no_crash() -> None:
    (result,) = evaluate([Case(str(n), "", 100.0, 90.0 + n) for n in range(6)])
    found = result.agreement
    assert found is not None
    assert np.isnan(found.r2)
    assert np.isnan(found.spearman.value)
    assert "nan" not in to_csv(agreement_table([result], "N"))


def test_a_reference_without_positives_has_no_sensitivity_and_no_curve(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("case,measured,reference\n" + "\n".join(f"{n},{100 + n},{101 + n}" for n in range(5)))
    assert main(["evaluate", "values", str(path), "--out", str(tmp_path / "out"), "--below", "80"]) == 0
    (row,) = csv.DictReader((tmp_path / "out/decisions.csv").read_text().splitlines())
    assert (row["sensitivity"], row["PPV"], row["AUC"]) == ("-", "-", "-")
    assert row["specificity"] == "1.000 (0.566 to 1.000)"
    assert not (tmp_path / "out/roc_1.png").exists()


def test_cases_are_counted_by_category() -> None:
    values = [(70.0, 70.0), (85.0, 79.9), (80.0, 80.0), (120.0, 120.0), (130.0, 110.0), (121.0, 121.0)]
    cases = [Case(str(n), "", measured, reference) for n, (measured, reference) in enumerate(values)]
    (result,) = evaluate(cases, [Threshold(120.0, is_below=False), Threshold(80.0, is_below=True)])
    assert result.confusion is not None
    assert result.confusion.names == ("below 80", "80 to 120", "above 120")
    assert result.confusion.counts.tolist() == [[1, 1, 0], [0, 2, 1], [0, 0, 1]]


def test_the_best_cut_off_is_the_value_that_parts_the_classes_best() -> None:
    cases = [Case(str(n), "", measured, reference) for n, (measured, reference) in enumerate(
        [(60.0, 70.0), (85.0, 75.0), (90.0, 95.0), (130.0, 120.0), (140.0, 130.0)]
    )]  # fmt: skip
    head, rows = decision_table(evaluate(cases, [Threshold(80.0, is_below=True)]))
    row = dict(zip(head, rows[0], strict=True))
    assert row["sensitivity"].startswith("0.500")
    assert row["best cut-off (Youden): sensitivity, specificity"] == "at most 85: 1.000, 1.000"


def cases_of(groups: dict[str, list[tuple[float, float]]]) -> list[Case]:
    return [Case(str(n), name, *pair) for name, pairs in groups.items() for n, pair in enumerate(pairs)]


def test_mixed_units_are_noticed() -> None:
    good = [(100.0 + n, 101.0 + n) for n in range(8)]
    assert notices(cases_of({"": good})) == ()
    (sentence,) = notices(cases_of({"": [*good, (0.112, 113.0)]}))
    assert "In 1 of 9 cases (the first is 8)" in sentence
    assert "g/cm3 with mg/cm3" in sentence
    (sentence,) = notices(cases_of({"": [*good, (0.112, 0.113)]}))
    assert "from those of the other cases" in sentence
    (sentence,) = notices(cases_of({"": [(one / 1000, other) for one, other in good]}))
    assert "In 8 of 8 cases" in sentence


def test_exchanged_sides_are_noticed_and_sides_that_are_only_alike_are_not() -> None:
    rng = np.random.default_rng(6)
    left, right = rng.normal(120, 20, 10), rng.normal(120, 20, 10)
    noise = rng.normal(0, 3, (2, 10))
    swapped = {
        "left": list(zip(right + noise[0], left, strict=True)),
        "right": list(zip(left + noise[1], right, strict=True)),
    }
    (sentence,) = notices(cases_of(swapped))
    assert "left and right would fit exchanged" in sentence
    fine = {
        "left": list(zip(left + noise[0], left, strict=True)),
        "right": list(zip(right + noise[1], right, strict=True)),
    }
    assert notices(cases_of(fine)) == ()
    alike = {
        "left": list(zip(left + noise[0], left, strict=True)),
        "right": list(zip(left + noise[1], left, strict=True)),
    }
    assert notices(cases_of(alike)) == ()


def test_a_notice_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.csv"
    path.write_text("case,measured,reference\n" + "\n".join(f"{n},{0.1 + n / 1000},{101 + n}" for n in range(5)))
    assert main(["evaluate", "values", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "thousandfold" in (tmp_path / "out/notices.md").read_text()
    assert "units mixed" in " ".join(capsys.readouterr().out.split())


def test_swapped_sides_and_shifted_levels_of_masks_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = labels(), labels()
    ours[ours == 1], theirs[theirs == 43] = 2, 44
    save_labels(tmp_path / "a.nii.gz", ours)
    save_labels(tmp_path / "b.nii.gz", theirs)
    command = ["evaluate", "masks", str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz"), "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "femur_left would fit the reference's femur_right" in said
    assert "L1 would fit the reference's L2" in said
    rows = {row["structure"]: row for row in csv.DictReader((tmp_path / "out/cases.csv").read_text().splitlines())}
    assert (rows["femur_left"]["would fit"], rows["femur_right"]["would fit"]) == ("femur_right", "")


def test_masks_have_the_area_under_the_curve_and_the_hausdorff_distance(folders: tuple[Path, Path]) -> None:
    scores = {(one.case, one.structure): one for one in score_masks(pair_files(*folders), len).scores}
    assert scores["a", "L1"].auc == 1.0
    moved = scores["b", "L1"]
    # 600 voxels of 9000; a voxel of ten is missed and as many are beside.
    assert moved.auc == pytest.approx(0.5 * (0.9 + 1 - 60 / 8400))
    assert moved.hd_mm >= moved.hd95_mm >= moved.surface_mm > 0
    assert scores["b", "femur_right"].hd_mm == float("inf")


def test_a_case_in_two_formats_is_refused(folders: tuple[Path, Path]) -> None:
    save_labels(folders[0] / "a.mha", labels())
    with pytest.raises(ConfigurationError, match="holds a in two formats"):
        pair_files(*folders)


def test_an_empty_map_misses_every_bone(folders: tuple[Path, Path]) -> None:
    save_labels(folders[0] / "a.nii.gz", labels() * 0)
    scores = [one for one in score_masks(pair_files(*folders), len).scores if one.case == "a"]
    assert [(one.dice, one.auc, one.volume_ml) for one in scores] == [(0.0, 0.5, 0.0)] * 2


@pytest.mark.parametrize("word", ["--below", "--above"])
@pytest.mark.parametrize("limit", ["nan", "inf", "-inf"])
def test_a_limit_that_is_not_finite_is_refused(
    word: str, limit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "values", str(write_values(tmp_path / "v.csv")), "--out", str(tmp_path / "out")]
    assert main([*command, f"{word}={limit}"]) != 0
    assert f"{word} {limit} is no finite number" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "out").exists()
