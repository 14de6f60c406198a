"""The report page: one layout as image and as PDF, in any script, and nothing of it lost."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font, LoadFlags
from result_factory import make_report, make_source

from sr_export import paper
from sr_export.context import BANNER, Identity, identity_of
from sr_export.fonts import drawable
from sr_export.inputs import Finding, Picture
from sr_export.page import all_findings, draw_pages
from sr_export.pdf import build_pdf
from sr_export.sc import build_pages
from sr_export.sr_groups import printed_value


@pytest.fixture
def words(monkeypatch):
    """Collect every line that is written on a page."""
    written: list[str] = []
    write = paper.Paper.text

    def collect(self, x_mm, y_mm, line, *args, **kwargs):
        written.append(line)
        write(self, x_mm, y_mm, line, *args, **kwargs)

    monkeypatch.setattr(paper.Paper, "text", collect)
    without_drawing(monkeypatch)
    return written


def without_drawing(monkeypatch):
    """Lay out and do not draw."""
    monkeypatch.setattr("sr_export.page.rgb_of", lambda figure: np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr("sr_export.page.pdf_of", lambda figures, created, title: b"%PDF")


def identity(**values) -> Identity:
    return identity_of(make_source(slices=1, **values)[0])


def test_the_page_says_who_what_how_and_what_not(words):
    draw_pages(make_report(), identity())
    text = "\n".join(words)
    for expected in (
        BANNER,
        "Example Erika",
        "PACS-000123 (HOSPITAL)",
        "1952-03-14 / F / 74 y",
        "ACC20261118",
        "Strength, fall, min, N",
        "2660",
        "5010 to 5620",
        "Osteopenia by QCT limits (80 and 120 mg/cm3)",
        "NOT MEASURED",
        "Left femur: Metal or cement inside or beside the bone",
        "Opportunistic CT, not DXA: no WHO T-score can be derived.",
        "CT-FE strength 0.2.0: Computes strength",
        "B40f",
    ):
        assert expected in text, expected


def test_an_uncalibrated_page_says_so_in_plain_sight_and_names_no_category(words):
    draw_pages(make_report(is_calibrated=False), identity())
    text = "\n".join(words)
    assert "UNCALIBRATED" in words
    assert words.count("UNCALIBRATED") == 3, "once in the box, once at each grid"
    assert "steopenia" not in text


def test_the_banner_and_the_patient_stand_on_every_page(words):
    findings = tuple(Finding("noisy", "study", f"Noise {n} " + "was high, " * 30) for n in range(30))
    pages = draw_pages(make_report(findings=findings), identity())
    assert len(pages.page_rgb) > 2
    assert words.count(BANNER) == len(pages.page_rgb)
    assert sum("PACS-000123" in line for line in words) == len(pages.page_rgb)
    assert f"Page {len(pages.page_rgb)} of {len(pages.page_rgb)}" in words


def test_no_line_leaves_the_paper(monkeypatch):
    without_drawing(monkeypatch)
    write = paper.Paper.text

    def measure(self, x_mm, y_mm, line, size_pt=8.5, *, weight="normal", align="left", **kwargs):
        width_mm = paper.text_width_mm(line, size_pt, weight)
        left_mm = x_mm - {"left": 0, "center": 0.5, "right": 1}[align] * width_mm
        assert left_mm > paper.MARGIN_MM - 1, line
        assert left_mm + width_mm < paper.RIGHT_MM + 1, line
        assert y_mm < paper.HEIGHT_MM - 8, line
        write(self, x_mm, y_mm, line, size_pt, weight=weight, align=align, **kwargs)

    monkeypatch.setattr(paper.Paper, "text", measure)
    long = "Averyverylongwordwithoutanyspace" * 9
    report = make_report(
        headline=f"{long} and words " * 2,
        limits=(long,),
        findings=(Finding("metal", "femur_left", long, True), Finding("x" * 90, "y" * 90, long)),
        technical=((long, long),),
        job_reference=long,
    )
    draw_pages(report, identity(PatientName=long[:64], StudyDescription=long[:64], PatientID=long[:64]))


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_a_line_of_the_document_is_as_wide_as_its_letters_in_the_font(weight):
    line = "from front to back, weakest of six, oxox xexe; femoral neck"
    size_pt = 7.2
    face = FT2Font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
    face.set_size(1000, 72)
    advances = [face.load_char(ord(letter), flags=LoadFlags.NO_HINTING).linearHoriAdvance for letter in line]
    truth_mm = sum(advances) / 65536 / 1000 * size_pt / 72 * 25.4
    assert paper._document_mm(line, size_pt, weight) == pytest.approx(truth_mm, rel=0.002)
    assert paper.text_width_mm(line, size_pt, weight) > 0.998 * truth_mm


def test_a_report_of_nothing_says_that_nothing_was_measured(words):
    draw_pages(make_report(groups=(), regions=(), pictures=()), identity())
    assert "Nothing was measured; the reasons follow." in words


@pytest.mark.parametrize(
    "name",
    ["Wałęsa^Łucja", "Παπαδοπούλου^Μαρία", "Иванова^Анна", "Yamada^Tarou=山田^太郎", "$x_2$^{Odd}", "\U0001f9b4^Bone"],
)
def test_a_name_in_any_script_is_drawn(name, monkeypatch):
    monkeypatch.setattr("sr_export.page.rgb_of", lambda figure: np.zeros((2, 2, 3), np.uint8))
    report = make_report(groups=(), pictures=(), findings=(), limits=(), technical=(), algorithms=())
    pages = draw_pages(report, identity(PatientName=name))
    assert pages.pdf_bytes.startswith(b"%PDF")


def test_a_character_without_glyph_becomes_a_question_mark():
    assert drawable("A\U000e0001B") == "A?B"


def test_the_same_report_gives_the_same_bytes():
    report, who = make_report(), identity()
    first, second = draw_pages(report, who), draw_pages(report, who)
    assert first.pdf_bytes == second.pdf_bytes
    np.testing.assert_array_equal(first.page_rgb[0], second.page_rgb[0])


def test_printed_values_have_the_decimals_of_their_concept():
    assert printed_value("femur_strength_fall_minimum", 2657.0) == "2660"
    assert printed_value("trabecular_vbmd", 104.4) == "104"


def test_what_forbids_a_number_comes_first_and_nothing_twice():
    report = make_report()
    repeated = replace(report.groups[2], findings=(replace(report.findings[0], forbids=False),))
    doubled = replace(report, findings=(*report.findings, *report.findings), groups=(*report.groups, repeated))
    found = all_findings(doubled)
    assert found[0].code == "metal"
    assert len(found) == len(set(found)) == 3


def test_a_page_image_has_no_orientation_and_carries_its_pixels():
    rgb = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    page = build_pages(make_source(slices=1), (rgb, rgb), make_report())[0]
    assert page.PatientOrientation == page.Laterality == ""
    assert page.BurnedInAnnotation == "YES"
    assert len(page.PixelData) % 2 == 0
    np.testing.assert_array_equal(page.pixel_array, rgb)


def test_the_encapsulated_document_is_the_document():
    document = b"%PDF-1.4 odd length."
    pdf = build_pdf(make_source(slices=1), document + b"!", (), make_report())
    assert pdf.EncapsulatedDocument[: pdf.EncapsulatedDocumentLength] == document + b"!"
    assert pdf.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_pictures_of_odd_shapes_find_a_place(words):
    shapes = ((10, 300, 3), (300, 10, 3), (50, 50, 3), (60, 40, 3), (40, 60, 3))
    pictures = tuple(
        Picture(f"p{n}", f"Picture {n}", "A caption", np.zeros(shape, np.uint8)) for n, shape in enumerate(shapes)
    )
    draw_pages(make_report(pictures=pictures), identity())
    assert any("Picture 4" in line for line in words)
