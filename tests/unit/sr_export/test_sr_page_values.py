"""The page's table, pictures and words: every number once and right, under its own side, and nothing over another."""

import shutil
import subprocess
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations

import numpy as np
import pytest
from result_factory import make_report, make_source

from sr_export import paper
from sr_export.change import LSC_FACTOR, SPINE_PRECISION, change, changes
from sr_export.codes import PRINTED_UNITS, concept
from sr_export.context import identity_of
from sr_export.inputs import Finding, Group, Measurement, Picture, PriorValue, Statement
from sr_export.page import draw_pages
from sr_export.page_grids import femur_grid, interval, left_over, spine_grid
from sr_export.page_pictures import BELOW_ROW_MM, fitting_rows, rows_of
from sr_export.page_words import interpretation
from sr_export.sr_groups import printed_value

LINE_TOLERANCE_MM = 0.35
"""Rows of the tables are 4.5 mm apart and their letters 3 mm high; lines may come this near."""


@dataclass(frozen=True)
class Word:
    """One line on a page, in mm."""

    page: int
    words: str
    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: "Word") -> bool:
        """Whether two lines lie over one another."""
        return (
            self.page == other.page
            and min(self.right, other.right) - max(self.left, other.left) > LINE_TOLERANCE_MM
            and min(self.bottom, other.bottom) - max(self.top, other.top) > LINE_TOLERANCE_MM
        )


@pytest.fixture
def written(monkeypatch) -> list[Word]:
    """Collect every line that is written, with its place; draw nothing."""
    lines: list[Word] = []
    write = paper.Paper.text

    def collect(self, x_mm, y_mm, line, size_pt=8.5, *, weight="normal", align="left", **kwargs):
        width_mm = paper.text_width_mm(line, size_pt, weight)
        left_mm = x_mm - {"left": 0.0, "center": 0.5, "right": 1.0}[align] * width_mm
        if line:
            height_mm = size_pt * paper.MM_PER_POINT
            page = next(n for n, figure in enumerate(self.figures, 1) if figure is self.figure)
            lines.append(Word(page, line, left_mm, y_mm, left_mm + width_mm, y_mm + height_mm))
        write(self, x_mm, y_mm, line, size_pt, weight=weight, align=align, **kwargs)

    monkeypatch.setattr(paper.Paper, "text", collect)
    monkeypatch.setattr("sr_export.page.rgb_of", lambda figure: np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr("sr_export.page.pdf_of", lambda figures, created, title: b"%PDF")
    return lines


def identity():
    return identity_of(make_source(slices=1)[0])


def femur(laterality, *numbers, **values) -> Group:
    return Group(f"femur_{laterality}", f"Femur {laterality}", "femur", laterality, "strength", numbers, **values)


def vertebra(level, *numbers) -> Group:
    return Group(level, f"{level} trabecular", level, "", "density", numbers)


def strengths(start_n: float) -> tuple[Measurement, ...]:
    """Four strengths with intervals, every printed number different."""
    keys = ("stance_minimum", "stance_maximum", "fall_minimum", "fall_maximum")
    loads = [start_n + 110.0 * number for number in range(4)]
    return tuple(
        Measurement(f"femur_strength_{key}", load, load - 50, load + 40) for key, load in zip(keys, loads, strict=True)
    )


def densities(start: float) -> tuple[Measurement, ...]:
    return (
        Measurement("trabecular_vbmd", start, start - 3, start + 2),
        Measurement("mean_hu", start + 200),
        Measurement("voi_volume", start + 9000),
    )


def picture(key: str, shape=(40, 40)) -> Picture:
    return Picture(
        key, f"Right femur: {key}", "Fails in compression at the femoral neck.", np.zeros((*shape, 3), np.uint8)
    )


def full_report(**values):
    """Return everything a report can hold: five levels and their mean, both femurs, a prior, nine pictures."""
    mean = Group(
        "lumbar_mean",
        "Mean of L1 and L2",
        "lumbar_spine",
        "",
        "density",
        (Measurement("l1_l2_mean_trabecular_vbmd", 111.0),),
        category="osteopenia",
    )
    said = (
        Statement("weakest_fall_site", "femoral neck, in compression"),
        Statement("weakest_fall_direction", "20 degrees adduction, 30 degrees internal rotation"),
    )
    groups = (
        mean,
        *(vertebra(level, *densities(101.0 + 7 * n)) for n, level in enumerate(("L1", "L2", "L3", "L4", "L5"))),
        femur("R", *strengths(3010.0), Measurement("integral_vbmd", 262.0), statements=said),
        femur("L", *strengths(4020.0), Measurement("integral_vbmd", 271.0)),
    )
    prior = (
        PriorValue("l1_l2_mean_trabecular_vbmd", "lumbar_spine", "", 122.0, date(2024, 5, 6), True),
        PriorValue("femur_strength_fall_minimum", "femur", "L", 4000.0, date(2024, 5, 6), True),
    )
    pictures = tuple(
        picture(key, (40, width))
        for key, width in (("a", 43), ("b", 19), ("c", 78), ("d", 78), ("e", 30), ("f", 30), ("g", 30), ("h", 30))
    )
    defaults = {"groups": groups, "prior": prior, "pictures": pictures, "findings": ()}
    return make_report(**{**defaults, **values})


def numbers_of(report):
    return [(group, number) for group in report.groups for number in group.measurements]


def test_every_number_with_its_interval_is_on_the_first_page(written):
    report = full_report()
    draw_pages(report, identity())
    first = [line.words for line in written if line.page == 1]
    for _, number in numbers_of(report):
        assert printed_value(number.concept, number.value) in first, number
        if number.low is not None:
            assert interval(number) in first, number


def test_a_femurs_numbers_stand_under_its_own_side_in_their_own_row(written):
    report = full_report()
    draw_pages(report, identity())
    rights = {side: next(line for line in written if line.words == side).right for side in ("Right", "Left")}
    for group, number in numbers_of(report):
        if group.structure != "femur":
            continue
        value = next(line for line in written if line.words == printed_value(number.concept, number.value))
        assert value.right == pytest.approx(rights["Right" if group.laterality == "R" else "Left"])
        row = [line.words for line in written if line.top == value.top and line.right < value.left]
        assert any(line.endswith(f", {PRINTED_UNITS[concept(number.concept).unit.value]}") for line in row)


def test_a_vertebras_numbers_stand_in_its_row_under_their_own_unit(written):
    report = full_report()
    draw_pages(report, identity())
    for group, number in numbers_of(report):
        if len(group.structure) > 2:
            continue
        level = next(line for line in written if line.words == group.structure)
        value = next(line for line in written if line.words == printed_value(number.concept, number.value))
        assert value.top == level.top
        unit = PRINTED_UNITS[concept(number.concept).unit.value]
        assert any(line.words == unit and line.right == pytest.approx(value.right) for line in written)


LONG = "A rather long sentence about one bone that fills more than a line of the page and then some " * 3


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"pictures": ()},
        {"findings": tuple(Finding("noisy", "femur_left", LONG, n % 2 == 0) for n in range(25))},
        {"headline": LONG, "limits": (LONG,) * 4},
        {"pictures": tuple(picture(f"{n} with a very long title", (40, 13 + 9 * n)) for n in range(14))},
    ],
    ids=["full", "no pictures", "many findings", "long words", "many pictures"],
)
@pytest.mark.parametrize("is_calibrated", [True, False])
def test_no_words_lie_over_others_or_leave_the_page(written, values, is_calibrated):
    draw_pages(full_report(is_calibrated=is_calibrated, **values), identity())
    for first, second in combinations(written, 2):
        assert not first.covers(second), (first, second)
    for line in written:
        assert line.left > paper.MARGIN_MM - 0.1, line
        assert line.right < paper.RIGHT_MM + 0.1, line
        assert line.bottom < paper.HEIGHT_MM - 8, line


def test_a_sentence_ends_where_it_was_measured_to_end_in_the_image_too():
    report = make_report(groups=(), pictures=(), headline="Il1 will fill minimal illicit still hills, " * 12)
    page = draw_pages(report, identity()).page_rgb[0]
    dots_per_mm = paper.RASTER_DPI / paper.MM_PER_INCH
    beyond = page[int(55 * dots_per_mm) : int(120 * dots_per_mm), int((paper.RIGHT_MM + 0.6) * dots_per_mm) :]
    assert beyond.min() == 255


def test_a_full_report_of_a_patient_takes_two_pages(written):
    draw_pages(full_report(), identity())
    assert max(line.page for line in written) == 2


def test_levels_stand_from_the_head_down_and_a_refused_one_says_why():
    refused = (
        Finding("deformed_vertebra", "L2", "Heights differ.", True),
        Finding("metal", "femur_left", "Metal.", True),
    )
    report = make_report(groups=(vertebra("L3", *densities(90.0)), vertebra("L1", *densities(80.0))), findings=refused)
    grid = spine_grid(report)
    assert [row.name for row in grid.rows] == ["L1", "L2", "L3"]
    assert grid.rows[1].missing == "not measured: Deformed or fractured vertebra"
    assert femur_grid(report) is None


def test_a_femur_that_was_refused_has_an_empty_column_and_a_reason(written):
    refused = (Finding("metal", "femur_left", "Metal.", True),)
    report = make_report(groups=(femur("R", *strengths(3000.0)),), findings=refused)
    grid = femur_grid(report)
    assert [name for name, _ in grid.columns] == ["Right", "Left"]
    assert all(row.cells[1] is None for row in grid.rows)
    draw_pages(report, identity())
    assert "Left femur not measured: Metal or cement inside or beside the bone." in [line.words for line in written]


def test_what_no_grid_holds_is_listed_in_full_words(written):
    other = Group("mean2", "Another mean", "lumbar_spine", "", "density", (Measurement("voi_volume", 4321.0),))
    report = full_report(groups=(*full_report().groups, other))
    grids = [spine_grid(report), femur_grid(report)]
    assert left_over(report, grids) == ((other, other.measurements),)
    draw_pages(report, identity())
    assert {"Another mean", "4321", "Volume"} <= {line.words for line in written}


def test_what_is_said_of_the_weakest_case_stands_under_the_numbers(written):
    draw_pages(full_report(), identity())
    text = " ".join(line.words for line in written)
    assert "Right femur, weakest fall: failure site femoral neck, in compression; load direction 20 degrees" in text


def prior_of(number: Measurement, value: float, *, is_calibrated: bool = True) -> PriorValue:
    return PriorValue(number.concept, "L1", "", value, date(2025, 1, 2), is_calibrated)


@pytest.mark.parametrize("before", [60.0, 120.0])
@pytest.mark.parametrize(("factor", "verdict"), [(1.2, "significant"), (0.8, "significant"), (0.6, "not significant")])
def test_a_change_is_significant_from_the_least_significant_change_on(before, factor, verdict):
    lsc = LSC_FACTOR * SPINE_PRECISION.relative_error * before
    sign = 1 if factor > 1 else -1
    step = sign * (np.ceil(lsc) if verdict == "significant" else np.floor(lsc))
    number = Measurement("trabecular_vbmd", before + step)
    found = change(vertebra("L1", number), number, prior_of(number, before), is_calibrated=True)
    assert found.lsc == pytest.approx(lsc)
    assert found.difference == step
    assert found.verdict == verdict


@pytest.mark.parametrize(("now", "then"), [(True, False), (False, True), (False, False)])
def test_an_uncalibrated_number_is_not_compared(now, then):
    number = Measurement("trabecular_vbmd", 200.0)
    found = change(vertebra("L1", number), number, prior_of(number, 100.0, is_calibrated=then), is_calibrated=now)
    assert found.verdict == "not comparable"


def test_a_number_of_unknown_precision_never_changes_significantly():
    number = Measurement("femur_strength_fall_minimum", 9000.0)
    prior = PriorValue(number.concept, "femur", "R", 900.0, date(2025, 1, 2), True)
    found = change(femur("R", number), number, prior, is_calibrated=True)
    assert (found.lsc, found.verdict) == (None, "LSC not known")


def test_a_number_is_compared_with_the_latest_earlier_one_of_its_own_bone():
    right, left = (femur(side, Measurement("femur_strength_fall_minimum", 3000.0)) for side in "RL")
    old, new = (
        PriorValue("femur_strength_fall_minimum", "femur", "R", 2000.0 + year, date(year, 1, 1), True)
        for year in (2019, 2022)
    )
    found = changes(make_report(groups=(right, left), prior=(new, old)))
    assert [(one.group.laterality, one.prior) for one in found] == [("R", new)]


def test_a_change_is_printed_with_its_limit_and_a_page_without_prior_says_nothing(written):
    draw_pages(full_report(), identity())
    words = [line.words for line in written]
    row = [line.words for line in written if line.top == next(one.top for one in written if one.words == "-11")]
    assert row == ["L1-L2 mean trabecular vBMD", "111", "122", "-11", "10.1", "mg/cm3", "significant"]
    assert {"Change since 2024-05-06", "LSC not known"} <= set(words)
    written.clear()
    draw_pages(full_report(prior=()), identity())
    assert not any("LSC" in line.words or "since" in line.words for line in written)


def test_the_words_say_range_weakest_load_and_what_is_missing():
    words = interpretation(full_report(findings=(Finding("metal", "femur_left", "Metal.", True),)))
    assert "Mean of L1 and L2: trabecular vBMD of 111 mg/cm3 is in the range of osteopenia" in words
    assert "the right femur breaks at 3230 N in the weakest simulated fall (femoral neck, in compression)" in words
    assert "the left femur breaks at 4240 N in the weakest simulated fall" in words
    assert "left femur (metal or cement inside or beside the bone)" in words
    assert "1 of 2 numbers changed significantly" in words


def test_uncalibrated_words_name_no_range_and_forbid_comparison():
    words = interpretation(full_report(is_calibrated=False))
    assert "osteop" not in words
    assert "not calibrated: do not compare" in words
    assert "0 of 2" in words


@pytest.mark.parametrize("is_calibrated", [True, False])
def test_no_t_score_and_no_verdict_on_a_strength_is_ever_worded(is_calibrated):
    words = interpretation(full_report(is_calibrated=is_calibrated)).lower()
    for forbidden in ("t-score", "fragile", "high risk", "patient has", "diagnos"):
        assert forbidden not in words


def test_nothing_measured_gives_no_words():
    assert interpretation(make_report(groups=(), findings=())) == ""


def test_pictures_fill_what_is_left_and_none_is_lost():
    pictures = full_report().pictures
    for free_mm in (100.0, 130.0, 200.0):
        rows = fitting_rows(pictures, free_mm)
        assert [one.picture.key for row in rows for one in row.placed] == [one.key for one in pictures]
        assert sum(row.total_mm for row in rows) - BELOW_ROW_MM <= free_mm
        assert all(sum(one.width_mm for one in row.placed) <= paper.CONTENT_MM for row in rows)
    assert fitting_rows(pictures, 30.0) is None


def test_rows_of_pictures_are_no_more_than_needed_and_balanced():
    rows = tuple(rows_of([picture(str(n)) for n in range(6)], 40.0))
    assert [len(row.placed) for row in rows] == [3, 3]
    assert all(row.total_mm > row.height_mm + BELOW_ROW_MM for row in rows)


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler-utils is not installed")
def test_the_document_holds_the_same_text(tmp_path):
    report = full_report(pictures=())
    path = tmp_path / "report.pdf"
    path.write_bytes(draw_pages(report, identity()).pdf_bytes)
    text = subprocess.run(["pdftotext", "-layout", path, "-"], check=True, capture_output=True, text=True).stdout
    for _, number in numbers_of(report):
        assert printed_value(number.concept, number.value) in text
        assert interval(number) in text
    assert " ".join(interpretation(report).split()[:8]) in text


def test_a_long_group_name_is_cut_and_not_written_over_others(written):
    other = Group("x", "Name " * 60, "lumbar_spine", "", "density", (Measurement("voi_volume", 1.0),))
    draw_pages(make_report(groups=(replace(other),)), identity())
    assert all(line.right < paper.RIGHT_MM + 0.1 for line in written)


def test_a_report_in_which_every_level_was_refused_still_has_its_page(written):
    refused = tuple(Finding("air_gaps", level, "Planes of air.", forbids=True) for level in ("L3", "L4", "L5"))
    report = make_report(groups=(), pictures=(), findings=refused)
    draw_pages(report, identity())
    said = " ".join(word.words for word in written)
    for level in ("L3", "L4", "L5"):
        assert level in said
