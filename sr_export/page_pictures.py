"""Sets the pictures into what is left of a page: as large as fits, all of one height, titles and captions around."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sr_export.inputs import Picture
from sr_export.paper import BOTTOM_MM, CONTENT_MM, GREY, MARGIN_MM, NAVY, Paper, line_mm, wrapped

LARGEST_MM, LEAST_MM, STEP_MM = 62.0, 28.0, 1.0
"""Heights that are tried; below the least the words in a picture cannot be read."""
MOST_BESIDE_MM = 28.0
"""Words of a picture may be so much wider than it, where the row has room."""
FRESH_PAGE_MM = 130.0
"""How much of a new page pictures may take, so that the findings stand on it as well."""
GAP_MM = 4.0
TITLE_PT, CAPTION_PT = 8.0, 7.0
BELOW_ROW_MM = 2.0


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture in its row: its width, its cell's width, and its words broken to the cell."""

    picture: Picture
    width_mm: float
    cell_mm: float
    title: tuple[str, ...]
    caption: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PictureRow:
    """Pictures of one height, side by side."""

    height_mm: float
    placed: tuple[Placed, ...]

    @property
    def above_mm(self) -> float:
        """Room of the titles."""
        return max(len(one.title) for one in self.placed) * line_mm(TITLE_PT) + 0.8

    @property
    def total_mm(self) -> float:
        """Height with titles, captions and the gap below."""
        below_mm = max(len(one.caption) for one in self.placed) * line_mm(CAPTION_PT) + 1.0
        return self.above_mm + self.height_mm + below_mm + BELOW_ROW_MM


def draw_pictures(paper: Paper, pictures: Sequence[Picture]) -> None:
    """Draw all pictures as large as the rest of the page allows; on the next page where they would be too small."""
    if not pictures:
        return
    rows = fitting_rows(pictures, BOTTOM_MM - paper.y_mm)
    if rows is None:
        paper.turn()
        rows = fitting_rows(pictures, FRESH_PAGE_MM) or tuple(rows_of(pictures, LEAST_MM))
    for row in rows:
        paper.need(row.total_mm - BELOW_ROW_MM)
        _draw_row(paper, row)


def fitting_rows(pictures: Sequence[Picture], free_mm: float) -> tuple[PictureRow, ...] | None:
    """Return the rows with the largest pictures that fit into a height; None where only unreadable ones would."""
    height_mm = LARGEST_MM
    while height_mm >= LEAST_MM:
        rows = tuple(rows_of(pictures, height_mm))
        if sum(row.total_mm for row in rows) - BELOW_ROW_MM <= free_mm:
            return rows
        height_mm -= STEP_MM
    return None


def rows_of(pictures: Sequence[Picture], height_mm: float) -> Iterator[PictureRow]:
    """Break pictures of one height into as few rows as fit the page, none much wider than the others."""
    best = _packed(pictures, height_mm, CONTENT_MM)
    while True:
        widest_mm = max(_width_mm(row, height_mm) for row in best)
        narrower = _packed(pictures, height_mm, widest_mm - STEP_MM)
        if len(narrower) > len(best) or max(_width_mm(row, height_mm) for row in narrower) >= widest_mm:
            break
        best = narrower
    yield from (_row(row, height_mm) for row in best)


def _packed(pictures: Sequence[Picture], height_mm: float, limit_mm: float) -> list[list[Picture]]:
    """Fill rows up to a width; a picture that is wider has a row of its own."""
    rows: list[list[Picture]] = [[]]
    for picture in pictures:
        if rows[-1] and _width_mm([*rows[-1], picture], height_mm) > limit_mm:
            rows.append([])
        rows[-1].append(picture)
    return rows


def _width_mm(pictures: Sequence[Picture], height_mm: float) -> float:
    return sum(map(_shape, pictures)) * height_mm + GAP_MM * (len(pictures) - 1)


def _row(pictures: Sequence[Picture], height_mm: float) -> PictureRow:
    free_mm = CONTENT_MM - GAP_MM * (len(pictures) - 1)
    height_mm = min(height_mm, free_mm / sum(map(_shape, pictures)))
    beside_mm = min((free_mm - sum(map(_shape, pictures)) * height_mm) / len(pictures), MOST_BESIDE_MM)
    return PictureRow(
        height_mm, tuple(_placed(picture, height_mm * _shape(picture), beside_mm) for picture in pictures)
    )


def _placed(picture: Picture, width_mm: float, beside_mm: float) -> Placed:
    cell_mm = width_mm + beside_mm
    title = tuple(wrapped(picture.title, cell_mm, TITLE_PT, "bold"))
    return Placed(picture, width_mm, cell_mm, title, tuple(wrapped(picture.caption, cell_mm, CAPTION_PT)))


def _shape(picture: Picture) -> float:
    """Width over height."""
    return float(picture.rgb.shape[1] / picture.rgb.shape[0])


def _draw_row(paper: Paper, row: PictureRow) -> None:
    """Draw a row in the middle of the page, titles standing on the pictures."""
    used_mm = sum(one.cell_mm for one in row.placed) + GAP_MM * (len(row.placed) - 1)
    x_mm = MARGIN_MM + (CONTENT_MM - used_mm) / 2
    top_mm = paper.y_mm + row.above_mm
    for one in row.placed:
        first_mm = top_mm - 0.8 - len(one.title) * line_mm(TITLE_PT)
        for number, line in enumerate(one.title):
            paper.text(x_mm, first_mm + number * line_mm(TITLE_PT), line, TITLE_PT, weight="bold", colour=NAVY)
        paper.image(x_mm, top_mm, one.width_mm, row.height_mm, one.picture.rgb)
        for number, line in enumerate(one.caption):
            below_mm = top_mm + row.height_mm + 1.0 + number * line_mm(CAPTION_PT)
            paper.text(x_mm, below_mm, line, CAPTION_PT, colour=GREY)
        x_mm += one.cell_mm + GAP_MM
    paper.y_mm += row.total_mm
