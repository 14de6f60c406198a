"""What people see: the results of a real CT in OHIF, drawn by Chromium beside Orthanc, and in DCMTK's renderers.

Screens are kept in build/viewers/.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor
from result_factory import make_report, make_source

from sr_export.build import build_results
from sr_export.context import BANNER
from sr_export.paper import RED
from sr_export.seg import COLOURS_RGB
from tests.conftest import wait_for
from tests.integration.viewers.patient_study import (
    HU_MEAN,
    INTEGRAL_MG_PER_CM3,
    LEVELS,
    STRENGTHS_N,
    VBMD_MG_PER_CM3,
    WEAKEST_FALL_SITE,
    PatientStudy,
    write_results,
)
from tests.integration.viewers.viewer import LOAD_LIMIT_S, SMALL_SCREEN, Box, Viewer

pytestmark = [pytest.mark.real_data, pytest.mark.needs_binary]

SIDES = {"R": "Right", "L": "Left"}
PIXEL_TOLERANCE = 1.01
"""A contour runs along pixel edges, half a pixel outside the centres; drawing rounds to a screen pixel."""
BANNER_PIXELS = 5000
"""The banner of a page that fills the screen has four times as many."""
PAGE_CORRELATION = 0.9
"""Of a page with its own picture scaled by another program; a shift by one line of text gives 0.4."""

Label = tuple[str, float, str]
LookAt = Callable[[PatientStudy, tuple[int, int]], Viewer]


def expected_numbers() -> Iterator[tuple[str, list[Label]]]:
    """Yield the region's key, then every number of one text on the image: name, value, unit."""
    yield "L1_voi", [("L1-L2 mean trabecular vBMD", 107.0, "mg/cm3")]
    for level in LEVELS:
        vbmd = VBMD_MG_PER_CM3[level]
        yield (
            f"{level}_voi",
            [
                (f"{level} trabecular vBMD", vbmd, "mg/cm3"),
                (f"{level} trabecular vBMD, lower", vbmd - 6, "mg/cm3"),
                (f"{level} trabecular vBMD, upper", vbmd + 7, "mg/cm3"),
                (f"{level} mean CT number", HU_MEAN[level], "[hnsf'U]"),
            ],
        )
    for side, word in SIDES.items():
        yield from expected_of_a_femur(side, f"{word} femur strength", f"femur_{word.lower()}")


def expected_of_a_femur(side: str, name: str, key: str) -> Iterator[tuple[str, list[Label]]]:
    """Yield what the two groups of one femur say, in three texts of at most five numbers."""
    strengths = STRENGTHS_N[side]
    stance, fall = (
        [
            (f"{name}, {case}, min (CT-FE)", strengths[f"{case}_minimum"], "N"),
            (f"{name}, {case}, min (CT-FE), lower", strengths[f"{case}_minimum"] - 200, "N"),
            (f"{name}, {case}, min (CT-FE), upper", strengths[f"{case}_minimum"] + 210, "N"),
        ]
        for case in ("stance", "fall")
    )
    yield key, stance
    maxima = [(f"{name}, {case}, max (CT-FE)", strengths[f"{case}_maximum"], "N") for case in ("stance", "fall")]
    yield key, [*fall, *maxima]
    density = f"{SIDES[side]} proximal femur integral vBMD"
    yield key, [(density, INTEGRAL_MG_PER_CM3[side], "mg/cm3")]


def is_around(box: Box, mask: NDArray[np.bool_]) -> bool:
    """Whether a box is that of a (row, column) mask."""
    columns_and_rows = np.argwhere(mask)[:, ::-1]
    low, high = columns_and_rows.min(axis=0), columns_and_rows.max(axis=0)
    off = max(np.abs(box.low - low).max(), np.abs(box.high - high).max())
    return bool(off <= PIXEL_TOLERANCE)


def shape_of(study: PatientStudy) -> tuple[int, int]:
    return int(study.headers[0].Rows), int(study.headers[0].Columns)


def test_ohif_lists_every_series_with_its_warning(viewer: Viewer, square_study: PatientStudy) -> None:
    listed = [one for one in viewer.series() if one != "Axial soft tissue"]
    assert len(listed) == len({str(one.SeriesInstanceUID) for one in square_study.results.datasets}) == 5
    assert all(one.startswith("RESEARCH ONLY") for one in listed)


def test_ohif_writes_every_number_beside_its_bone_on_a_slice_of_it(viewer: Viewer, square_study: PatientStudy) -> None:
    masks = {region.key: region.mask for region in square_study.report.regions}
    seen: set[str] = set()
    viewer.open("RESEARCH ONLY values")
    for key, numbers in expected_numbers():
        lines = [f"{name}: {value:.2f} {unit}" for name, value, unit in numbers]
        found = viewer.wait_for_label(lines[0])
        assert found[: len(lines)] == lines
        index = viewer.slice_number() - 1
        slices = np.flatnonzero(masks[key].any(axis=(1, 2)))
        assert index in slices, key
        if "mean trabecular" not in lines[0] and key not in seen:
            assert index == slices[len(slices) // 2], f"{key}: not on its middle slice"
            seen.add(key)
        boxes = viewer.outline_boxes(shape_of(square_study))
        assert any(is_around(box, masks[key][index]) for box in boxes), f"{key}: the contour is not around the bone"
        assert viewer.are_labels_inside()
        if lines[0].startswith(("L1 trab", "Left femur strength, stance")):
            viewer.keep(f"sr-{key}")
        viewer.next_measurement()
    assert viewer.problems == []


@pytest.mark.parametrize("matrix", ["square", "odd"])
def test_ohif_colours_the_right_bone_on_the_right_side(
    look_at: LookAt, request: pytest.FixtureRequest, matrix: str
) -> None:
    study: PatientStudy = request.getfixturevalue(f"{matrix}_study")
    viewer = look_at(study, SMALL_SCREEN)
    viewer.open_segmentation("RESEARCH ONLY bones - segmentation")
    masks = {region.key: region.mask for region in study.report.regions}
    assert viewer.segment_names() == [one.name for one in study.report.regions if not one.key.endswith("_voi")]
    viewer.go_to_segment("Right femur")
    middle = (shape_of(study)[1] - 1) / 2
    right = coloured(viewer, study, "R", masks["femur_right"])
    left = coloured(viewer, study, "L", masks["femur_left"])
    assert viewer.left_marker() == "R", "the patient's right is the viewer's left"
    assert right.high[0] < middle < left.low[0]
    viewer.keep(f"seg-{matrix}")
    assert viewer.voxel_count("Right femur") == masks["femur_right"].sum()
    assert viewer.problems == []
    viewer.page.close()


def coloured(viewer: Viewer, study: PatientStudy, side: str, mask: NDArray[np.bool_]) -> Box:
    """Wait until a femur's colour is where the femur is on the slice shown; return its box."""

    def drawn() -> Box | None:
        box = viewer.coloured_box(COLOURS_RGB[f"femur-{side}"], shape_of(study))
        plane = mask[viewer.slice_number() - 1]
        return box if box and plane.any() and is_around(box, plane) else None

    return wait_for(drawn, LOAD_LIMIT_S, f"the {SIDES[side].lower()} femur in its colour and place")


def test_ohif_shows_the_report_pages_as_they_were_drawn(viewer: Viewer, square_study: PatientStudy) -> None:
    viewer.open("RESEARCH ONLY report")
    page = square_study.results.page_rgb[0]
    wait_for(lambda: correlation(viewer.picture(), page) > PAGE_CORRELATION, LOAD_LIMIT_S, "the first page")
    viewer.keep("page")


def correlation(screen: NDArray[np.uint8], page: NDArray[np.uint8]) -> float:
    """Correlation of a page with the middle of the screen, which it fills from top to bottom."""
    height, width = screen.shape[:2]
    page_width = round(height * page.shape[1] / page.shape[0])
    left = (width - page_width) // 2
    scaled = np.asarray(Image.fromarray(page).convert("L").resize((page_width, height)), float)
    shown = np.asarray(Image.fromarray(screen[:, left : left + page_width]).convert("L"), float)
    return float(np.corrcoef(scaled.ravel(), shown.ravel())[0, 1])


def test_ohif_shows_the_document(viewer: Viewer, square_study: PatientStudy) -> None:
    with viewer.page.expect_response(lambda answer: answer.headers["content-type"] == "application/pdf") as answer:
        viewer.open("RESEARCH ONLY PDF")
    assert viewer.fetch(answer.value.url).rstrip(b"\0") == square_study.results.pdf_bytes.rstrip(b"\0")
    red = np.array(ImageColor.getrgb(RED))
    wait_for(
        lambda: (np.abs(viewer.screen().astype(int) - red).max(axis=2) < 8).sum() > BANNER_PIXELS,
        LOAD_LIMIT_S,
        "the banner of the document",
    )
    viewer.keep("document")


@pytest.mark.parametrize(
    ("charset", "name", "printed"),
    [
        ("ISO_IR 100", "Mäkinen^Åsa", "Mäkinen Åsa"),
        ("ISO_IR 192", "Παπαδοπούλου^Μαρία", "Παπαδοπούλου Μαρία"),
        ("ISO_IR 144", "Иванова^Анна", "Иванова Анна"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou"),
    ],
)
def test_the_documents_text_holds_the_name_in_its_own_letters(
    binary: Callable[[str], str], tmp_path: Path, charset: str | list[str], name: str, printed: str
) -> None:
    source = make_source(slices=3, charset=charset, PatientName=name)
    results = build_results(source, make_report(groups=(), regions=(), pictures=()))
    document = tmp_path / "report.pdf"
    document.write_bytes(results.pdf_bytes)
    text = subprocess.run([binary("pdftotext"), "-enc", "UTF-8", document, "-"], check=True, capture_output=True).stdout
    assert printed in text.decode("utf-8")


def test_dcmtk_prints_every_number_with_side_level_and_unit(
    square_study: PatientStudy, binary: Callable[[str], str], tmp_path: Path
) -> None:
    path = next(one for one in write_results(square_study.results, tmp_path / "objects") if "SR" in one.name)
    html = tmp_path / "sr.html"
    subprocess.run([binary("dsr2html"), "+U8", path, html], check=True, capture_output=True)
    dumped = subprocess.run([binary("dsrdump"), "+Pl", path], check=True, capture_output=True, text=True).stdout
    rendered = re.findall(
        r"<b>([^<]+):</b><br>\s*<span class=\"under\">([^<]+)</span>", unescape(html.read_text("utf-8"))
    )
    for _, numbers in expected_numbers():
        for name, value, unit in numbers:
            assert (name, f"{value:.0f} {unit}") in rendered
            assert f'NUM:(,,"{name}")="{value:.0f}" ({unit},UCUM' in dumped
    for side in SIDES.values():
        assert f'TEXT:(,,"{side} femur, weakest fall: failure site")="{WEAKEST_FALL_SITE}"' in dumped
    assert BANNER in dumped
    assert 'QCT bone density category")=(312894000,SCT,"Osteopenia")' in dumped
