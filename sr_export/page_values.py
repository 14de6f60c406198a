"""Draws the table of values, and what changed since an earlier examination."""

from collections.abc import Iterator, Sequence

from sr_export.change import LSC_FACTOR, Change, changes
from sr_export.codes import CATEGORIES, concept, concept_code, statement_code
from sr_export.inputs import Group, Measurement, Report
from sr_export.page_grids import Grid, Row, femur_grid, interval, left_over, refused_femurs, spine_grid, unit
from sr_export.page_words import CATEGORY_LIMITS
from sr_export.paper import (
    AMBER,
    AMBER_PALE,
    CONTENT_MM,
    GREY,
    INK,
    MARGIN_MM,
    NAVY,
    PALE,
    RIGHT_MM,
    Paper,
    fitted,
    line_mm,
    text_width_mm,
    wrapped,
)
from sr_export.sr_groups import printed_value

GUTTER_MM = 5.0
ROW_MM = 4.5
HEAD_MM = 13.0
"""Of a grid: title, rule and column names."""
GAP_MM = 2.0
"""Between the columns of a grid."""
MOST_SPARE_MM = 60.0
"""A grid is not drawn farther apart than this."""
VALUE_PT, HEAD_PT, SMALL_PT = 8.2, 7.0, 7.2
VALUE_X_MM, UNIT_X_MM, INTERVAL_X_MM = 124.0, 126.0, 146.0
CHANGE_X_MM = (94.0, 110.0, 126.0, 140.0)
"""Right edges of now, then, difference and LSC."""
CHANGE_UNIT_X_MM, VERDICT_X_MM = 142.0, 157.0


def draw_values(paper: Paper, report: Report) -> None:
    """Draw every number of the report, side by side where both grids fit, with the words that belong to them."""
    calibrated = report.calibration.is_calibrated
    if not report.groups:
        paper.paragraph(MARGIN_MM, "Nothing was measured; the reasons follow.", CONTENT_MM, 9, weight="bold")
        paper.y_mm += 3
    grids = [grid for grid in (spine_grid(report), femur_grid(report)) if grid is not None]
    spare_mm = CONTENT_MM - GUTTER_MM * (len(grids) - 1) - sum(map(_least_width_mm, grids))
    if len(grids) > 1 and spare_mm < 0:
        for grid in grids:
            _draw_beside(paper, [grid], CONTENT_MM - _least_width_mm(grid), is_calibrated=calibrated)
    elif grids:
        _draw_beside(paper, grids, spare_mm, is_calibrated=calibrated)
    for words, is_bold in _notes(report):
        _note(paper, words, is_bold=is_bold)
    for group, numbers in left_over(report, grids):
        _list(paper, group, numbers, is_calibrated=calibrated)
    if report.groups:
        paper.y_mm += 1.5


def _draw_beside(paper: Paper, grids: Sequence[Grid], spare_mm: float, *, is_calibrated: bool) -> None:
    """Draw grids side by side, the spare width shared, and move the cursor below them."""
    height_mm = max(map(_height_mm, grids))
    paper.need(height_mm)
    x_mm = MARGIN_MM
    for grid in grids:
        width_mm = _least_width_mm(grid) + min(spare_mm / len(grids), MOST_SPARE_MM)
        _draw_grid(paper, grid, x_mm, width_mm, is_calibrated=is_calibrated)
        x_mm += width_mm + GUTTER_MM
    paper.y_mm += height_mm


def _height_mm(grid: Grid) -> float:
    return HEAD_MM + ROW_MM * len(grid.rows) + 1.5


def _draw_grid(paper: Paper, grid: Grid, x_mm: float, width_mm: float, *, is_calibrated: bool) -> None:
    """Draw a grid at the cursor and leave the cursor where it is."""
    top_mm = paper.y_mm
    paper.text(x_mm, top_mm, grid.title, 10, weight="bold", colour=NAVY)
    if grid.needs_calibration and not is_calibrated:
        paper.box(x_mm + width_mm - 27, top_mm - 0.1, 27, 4.4, AMBER_PALE, AMBER)
        paper.text(x_mm + width_mm - 13.5, top_mm + 0.7, "UNCALIBRATED", 7, weight="bold", align="center")
    paper.box(x_mm, top_mm + 5.2, width_mm, 0.35, NAVY)
    rights = _right_edges_mm(grid, x_mm, width_mm)
    for (name, of_unit), (value_mm, _), number in zip(grid.columns, rights, range(len(rights)), strict=True):
        head = fitted(name, _value_width_mm(grid, number), HEAD_PT)
        paper.text(value_mm, top_mm + 6.2, head, HEAD_PT, colour=GREY, align="right")
        paper.text(value_mm, top_mm + 9.2, of_unit, HEAD_PT, colour=GREY, align="right")
        if _interval_width_mm(grid, number):
            paper.text(value_mm + 2, top_mm + 9.2, "interval", HEAD_PT, colour=GREY)
    for number, row in enumerate(grid.rows):
        _draw_row(paper, row, x_mm, top_mm + HEAD_MM + number * ROW_MM, width_mm, rights, is_shaded=number % 2 == 0)


def _draw_row(
    paper: Paper,
    row: Row,
    x_mm: float,
    y_mm: float,
    width_mm: float,
    rights: Sequence[tuple[float, float]],
    *,
    is_shaded: bool,
) -> None:
    if is_shaded:
        paper.box(x_mm, y_mm - 0.5, width_mm, ROW_MM, PALE)
    name = f"{row.name}, {row.unit}" if row.unit else row.name
    paper.text(x_mm + 1, y_mm, name, VALUE_PT, weight="bold" if row.is_mean or not row.unit else "normal")
    if row.missing:
        left_mm = x_mm + 1 + text_width_mm(name, VALUE_PT, "bold") + 3
        words = fitted(row.missing, x_mm + width_mm - left_mm, SMALL_PT)
        paper.text(left_mm, y_mm + 0.3, words, SMALL_PT, colour=GREY)
        return
    for cell, (value_mm, _) in zip(row.cells, rights, strict=True):
        if cell is None:
            paper.text(value_mm, y_mm, "" if row.is_mean else "-", VALUE_PT, colour=GREY, align="right")
            continue
        words = printed_value(cell.concept, cell.value)
        paper.text(value_mm, y_mm, words, VALUE_PT, weight="bold", align="right")
        paper.text(value_mm + 2, y_mm + 0.3, interval(cell), SMALL_PT)


def _right_edges_mm(grid: Grid, x_mm: float, width_mm: float) -> list[tuple[float, float]]:
    """Return where each column's values end and its intervals end; spare width goes between the columns."""
    if not grid.columns:
        return []  # nothing was measured: every row says why
    count = len(grid.columns)
    spare_mm = (width_mm - _least_width_mm(grid)) / count
    edges, at_mm = [], x_mm + 1 + _name_width_mm(grid)
    for number in range(count):
        at_mm += GAP_MM + spare_mm + _value_width_mm(grid, number)
        beside_mm = _interval_width_mm(grid, number)
        edges.append((at_mm, at_mm + beside_mm))
        at_mm += beside_mm
    return edges


def _least_width_mm(grid: Grid) -> float:
    columns = range(len(grid.columns))
    return (
        _name_width_mm(grid) + 2 + sum(GAP_MM + _value_width_mm(grid, n) + _interval_width_mm(grid, n) for n in columns)
    )


def _name_width_mm(grid: Grid) -> float:
    names = [(f"{row.name}, {row.unit}", "normal") if row.unit else (row.name, "bold") for row in grid.rows]
    return max(text_width_mm(name, VALUE_PT, weight) for name, weight in names)


def _cells(grid: Grid, number: int) -> Iterator[Measurement]:
    yield from (row.cells[number] for row in grid.rows if row.cells[number] is not None)  # type: ignore[misc]


def _value_width_mm(grid: Grid, number: int) -> float:
    name, of_unit = grid.columns[number]
    heads = [text_width_mm(words, HEAD_PT) for words in (name, of_unit)]
    values = [text_width_mm(printed_value(c.concept, c.value), VALUE_PT, "bold") for c in _cells(grid, number)]
    return max((*heads, *values))


def _interval_width_mm(grid: Grid, number: int) -> float:
    widest = max((text_width_mm(interval(cell), SMALL_PT) for cell in _cells(grid, number)), default=0.0)
    return max(widest, text_width_mm("interval", HEAD_PT)) + 2 if widest else 0.0


def _notes(report: Report) -> Iterator[tuple[str, bool]]:
    """Yield the words under the grids and whether they are bold: category, refusals, what was said of groups."""
    for group in report.groups:
        if group.category is not None and report.calibration.is_calibrated:
            yield f"{group.name}: {CATEGORIES[group.category].meaning} by QCT limits ({CATEGORY_LIMITS}).", True
    for sentence in refused_femurs(report):
        yield sentence, True
    for group in report.groups:
        said: dict[str, list[str]] = {}
        for one in group.statements:
            name, _, what = statement_code(one.concept, group.structure, group.laterality).meaning.partition(": ")
            said.setdefault(name, []).append(f"{what} {one.text}".strip())
        for name, parts in said.items():
            yield f"{name}: {'; '.join(parts)}.", False


def _note(paper: Paper, words: str, *, is_bold: bool) -> None:
    weight = "bold" if is_bold else "normal"
    paper.need(len(wrapped(words, CONTENT_MM - 1, SMALL_PT, weight)) * line_mm(SMALL_PT))
    paper.paragraph(MARGIN_MM + 1, words, CONTENT_MM - 1, SMALL_PT, weight=weight)
    paper.y_mm += 0.5


def _list(paper: Paper, group: Group, numbers: Sequence[Measurement], *, is_calibrated: bool) -> None:
    """Write the numbers of a group that is neither vertebra nor femur, one a line."""
    paper.need(5.2 * (1 + len(numbers)))
    paper.box(MARGIN_MM, paper.y_mm, CONTENT_MM, 4.9, PALE)
    name = fitted(group.name, CONTENT_MM - 3, VALUE_PT, "bold")
    paper.text(MARGIN_MM + 1.5, paper.y_mm + 0.6, name, VALUE_PT, weight="bold")
    paper.y_mm += 5.6
    for number in numbers:
        code = concept_code(number.concept, group.structure, group.laterality, is_calibrated=is_calibrated)
        value = printed_value(number.concept, number.value)
        paper.text(MARGIN_MM + 1.5, paper.y_mm, fitted(code.meaning, 92, VALUE_PT), VALUE_PT)
        paper.text(VALUE_X_MM, paper.y_mm, value, 9, weight="bold", align="right")
        paper.text(UNIT_X_MM, paper.y_mm, unit(number.concept), VALUE_PT)
        paper.text(INTERVAL_X_MM, paper.y_mm, interval(number), VALUE_PT)
        paper.y_mm += 4.6
    paper.y_mm += 1.2


def draw_changes(paper: Paper, report: Report) -> None:
    """Draw every number that has an earlier value beside it, with its least significant change; nothing without."""
    found = changes(report)
    if not found:
        return
    dates = sorted({one.prior.study_date.isoformat() for one in found})
    paper.need(12 + ROW_MM * min(len(found), 8))
    title = f"Change since {dates[0]}" if len(dates) == 1 else f"Change since {dates[0]} or later"
    paper.text(MARGIN_MM, paper.y_mm, title, 10, weight="bold", colour=NAVY)
    for words, right_mm in zip(("now", "before", "change", "LSC"), CHANGE_X_MM, strict=True):
        paper.text(right_mm, paper.y_mm + 1, words, HEAD_PT, colour=GREY, align="right")
    paper.rule(paper.y_mm + 5.2, NAVY, 0.9)
    paper.y_mm += 6.5
    for one in found:
        paper.need(ROW_MM)
        _draw_change(paper, one, is_calibrated=report.calibration.is_calibrated, has_date=len(dates) > 1)
    words = f"LSC: least significant change, {LSC_FACTOR} x a published precision error, not one of this site."
    paper.text(MARGIN_MM + 1, paper.y_mm + 0.4, words, HEAD_PT, colour=GREY)
    paper.y_mm += 5


def _draw_change(paper: Paper, one: Change, *, is_calibrated: bool, has_date: bool) -> None:
    key, group = one.measurement.concept, one.group
    name = concept_code(key, group.structure, group.laterality, is_calibrated=is_calibrated).meaning
    lsc = f"{one.lsc:.1f}" if one.lsc is not None else "-"
    cells = (printed_value(key, one.measurement.value), printed_value(key, one.prior.value), signed(one), lsc)
    paper.text(MARGIN_MM + 1, paper.y_mm, fitted(name, 66, SMALL_PT), SMALL_PT)
    for words, right_mm in zip(cells, CHANGE_X_MM, strict=True):
        paper.text(right_mm, paper.y_mm, words, SMALL_PT, align="right")
    paper.text(CHANGE_UNIT_X_MM, paper.y_mm, unit(key), SMALL_PT)
    words = f"{one.verdict}, {one.prior.study_date.isoformat()}" if has_date else one.verdict
    weight, colour = ("bold", INK) if one.verdict == "significant" else ("normal", GREY)
    words = fitted(words, RIGHT_MM - VERDICT_X_MM, HEAD_PT, weight)
    paper.text(VERDICT_X_MM, paper.y_mm, words, HEAD_PT, weight=weight, colour=colour)
    paper.y_mm += ROW_MM


def signed(one: Change) -> str:
    """Return a difference with its sign and the decimals of its concept."""
    decimals = max(concept(one.measurement.concept).decimals, 0)
    return f"{one.difference:+.{decimals}f}"
