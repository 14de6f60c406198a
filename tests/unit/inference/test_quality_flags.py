"""The table of flags is complete, ASCII, and the same in the code and in its document."""

import ast
from pathlib import Path

import pytest

import inference
from inference.quality import (
    FLAGS,
    STUDY,
    QualityFlag,
    forbids_category,
    forbids_density,
    forbids_strength,
    merged_flags,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "methods" / "quality-flags.md"


def documented_rows() -> list[tuple[str, ...]]:
    """Return the cells of the document's first table, without heading."""
    table = DOCUMENT.read_text().split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def test_the_document_holds_the_codes_table_row_by_row() -> None:
    rows = [
        (
            f"`{row.code}`",
            row.meaning,
            "yes" if row.forbids_density else "no",
            "yes" if row.forbids_strength else "no",
            "yes" if row.forbids_category or row.forbids_density else "no",
            row.reason,
        )
        for row in FLAGS.values()
    ]
    assert documented_rows() == rows


def raised_codes() -> set[str]:
    """Return every code that a module of the package gives to a flag as a literal."""
    calls = (
        node
        for module in Path(str(inference.__file__)).parent.glob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "QualityFlag"
    )
    return {call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)}


def test_every_code_that_is_raised_has_a_row() -> None:
    assert "metal" in raised_codes()
    assert raised_codes() <= set(FLAGS)


@pytest.mark.parametrize("code", FLAGS)
def test_every_row_is_whole_and_ascii(code: str) -> None:
    row = FLAGS[code]
    assert row.code == code
    assert row.meaning.isascii()
    assert row.reason.isascii()
    assert row.reason.endswith(".")
    assert not row.meaning.endswith(".")


@pytest.mark.parametrize(
    "code",
    ["metal", "not_found", "bone_not_separated", "level_uncertain", "truncated_bone", "implausible_hu", "air_gaps"],
)
def test_what_makes_a_number_wrong_forbids_every_number(code: str) -> None:
    assert FLAGS[code].forbids_density
    assert FLAGS[code].forbids_strength


def test_a_flag_on_one_femur_leaves_the_other_alone() -> None:
    flags = [QualityFlag("metal", "femur_left", "")]
    assert forbids_density(flags, "femur_left")
    assert forbids_strength(flags, "femur_left")
    assert not forbids_density(flags, "femur_right")
    assert not forbids_strength(flags, "femur_right")


def test_a_flag_on_the_study_concerns_every_structure() -> None:
    assert forbids_strength([QualityFlag("implausible_hu", STUDY, "")], "L1")


def test_uncalibrated_forbids_the_category_alone() -> None:
    flags = [QualityFlag("uncalibrated", STUDY, "")]
    assert forbids_category(flags, "L1")
    assert not forbids_density(flags, "L1")
    assert not forbids_strength(flags, "L1")


def test_what_forbids_density_forbids_the_category() -> None:
    assert forbids_category([QualityFlag("metal", "L1", "")], "L1")


def test_joined_flags_keep_the_first_of_a_kind_for_every_subject() -> None:
    first, second = QualityFlag("metal", "L1", "one"), QualityFlag("metal", "L1", "two")
    other = QualityFlag("metal", "L2", "three")
    assert merged_flags([first], [second, other]) == (first, other)


def test_an_unknown_code_has_no_definition() -> None:
    with pytest.raises(KeyError):
        _ = QualityFlag("no_such_flag", "L1", "").definition
