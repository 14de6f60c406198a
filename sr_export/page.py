"""The report page: what a radiologist reads when the viewer shows pictures only.

One layout; ``sr_export.sc`` carries it as an image and ``sr_export.pdf`` as a document. Blocks follow one
another down the page and on to the next. No WHO T-score is ever printed: one by QCT is not one by DXA.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sr_export.codes import finding_code, subject_name
from sr_export.context import BANNER, Identity
from sr_export.fonts import is_drawable
from sr_export.inputs import Finding, Report
from sr_export.page_pictures import draw_pictures
from sr_export.page_values import draw_changes, draw_values
from sr_export.page_words import interpretation
from sr_export.paper import (
    AMBER,
    AMBER_PALE,
    CONTENT_MM,
    GREY,
    HEIGHT_MM,
    INK,
    MARGIN_MM,
    NAVY,
    PALE,
    RED,
    RIGHT_MM,
    RULE,
    Paper,
    fitted,
    line_mm,
    pdf_of,
    rgb_of,
    text_width_mm,
    wrapped,
)
from sr_export.sr import calibration_sentence

TITLE = "CT bone density and strength"
HEADLINE_SIZES_PT = (11.0, 10.0)
"""The second for a headline of more lines than this:"""
HEADLINE_LINES = 3
UNCALIBRATED_WORDS = (
    "No calibration of this scanner is on file. Densities and strengths come from a nominal scale: they may be far "
    "off, carry no category and must not be compared with reference values."
)
IDENTITY_SIZES_PT = (9.5, 8.5, 7.5, 6.5)
HALF_MM = (CONTENT_MM - 8.0) / 2


@dataclass(frozen=True, slots=True)
class Pages:
    """The drawn report: a PDF, and every page as a (row, column, 3) uint8 image."""

    pdf_bytes: bytes
    page_rgb: tuple[NDArray[np.uint8], ...]


def draw_pages(report: Report, identity: Identity) -> Pages:
    """Draw the report.

    Parameters
    ----------
    report
        What is said.
    identity
        Whose it is; made by ``sr_export.context.identity_of`` on the hospital side.
    """
    paper = Paper(lambda paper: _head(paper, report, identity))
    _identity_block(paper, identity)
    _headline(paper, report)
    _calibration(paper, report)
    draw_values(paper, report)
    draw_changes(paper, report)
    draw_pictures(paper, report.pictures)
    _findings(paper, report)
    _technical(paper, report)
    _limits(paper, report)
    _versions(paper, report)
    _footers(paper)
    return Pages(
        pdf_bytes=pdf_of(paper.figures, report.created, TITLE),
        page_rgb=tuple(rgb_of(figure) for figure in paper.figures),
    )


def _head(paper: Paper, report: Report, identity: Identity) -> None:
    """Banner and title; on later pages the patient again, so that no loose page is anonymous."""
    paper.box(MARGIN_MM, 9, CONTENT_MM, 8, RED)
    paper.text(105, 11.1, BANNER, 10.5, weight="bold", colour="white", align="center")
    paper.text(MARGIN_MM, 21, TITLE, 17, weight="bold", colour=NAVY)
    made = report.created.strftime("%Y-%m-%d %H:%M %Z").strip()
    paper.text(RIGHT_MM, 21.4, fitted(f"Job {report.job_reference}", 60, 8), 8, colour=GREY, align="right")
    paper.text(RIGHT_MM, 25.2, made, 8, colour=GREY, align="right")
    paper.y_mm = 32.0
    if len(paper.figures) > 1:
        born, studied = f"born {identity.birth_date}", f"study {identity.study_date}"
        line = "   ".join((_name(identity), f"ID {identity.patient_id}", born, studied))
        paper.text(MARGIN_MM, paper.y_mm - 1, fitted(line, CONTENT_MM, 8.5, "bold"), 8.5, weight="bold")
        paper.rule(paper.y_mm + 4.5)
        paper.y_mm += 8


def _name(identity: Identity) -> str:
    """Name as the fonts can show it; the ideographic form only where every sign can be drawn."""
    if identity.ideographic_name and is_drawable(identity.ideographic_name):
        return f"{identity.name} ({identity.ideographic_name})"
    return identity.name


def _identity_block(paper: Paper, identity: Identity) -> None:
    patient_id = f"{identity.patient_id} ({identity.issuer})" if identity.issuer else identity.patient_id
    rows = (
        (
            ("Patient", _name(identity), 66),
            ("Patient ID", patient_id, 65),
            ("Accession", identity.accession, 43),
        ),
        (
            ("Study", identity.study_description, 66),
            ("Born / sex / age", " / ".join((identity.birth_date, identity.sex, identity.age)), 65),
            ("Study date", identity.study_date, 43),
        ),
    )
    paper.box(MARGIN_MM, paper.y_mm, CONTENT_MM, 21, PALE)
    for row, cells in enumerate(rows):
        x_mm = MARGIN_MM + 3
        for label, value, width_mm in cells:
            top_mm = paper.y_mm + 2 + row * 9.5
            paper.text(x_mm, top_mm, label, 6.8, colour=GREY)
            size_pt = _identity_size_pt(value, width_mm - 3)
            paper.text(x_mm, top_mm + 3.3, fitted(value or "-", width_mm - 3, size_pt, "bold"), size_pt, weight="bold")
            x_mm += width_mm
    paper.y_mm += 24


def _identity_size_pt(value: str, width_mm: float) -> float:
    """Return the largest size at which a part of the identity is not cut, or the smallest there is."""
    fitting = (size_pt for size_pt in IDENTITY_SIZES_PT if text_width_mm(value, size_pt, "bold") <= width_mm)
    return next(fitting, IDENTITY_SIZES_PT[-1])


def _headline(paper: Paper, report: Report) -> None:
    """Write the result in one sentence, then what it means in plain words."""
    width_mm, top_mm = CONTENT_MM - 5, paper.y_mm
    is_long = len(wrapped(report.headline, width_mm, HEADLINE_SIZES_PT[0], "bold")) > HEADLINE_LINES
    paper.paragraph(MARGIN_MM + 5, report.headline, width_mm, HEADLINE_SIZES_PT[is_long], weight="bold", colour=NAVY)
    paper.y_mm += 1.2
    if words := interpretation(report):
        paper.paragraph(MARGIN_MM + 5, words, width_mm, 8.5)
    paper.box(MARGIN_MM, top_mm, 1.4, paper.y_mm - top_mm, NAVY)
    paper.y_mm += 3


def _calibration(paper: Paper, report: Report) -> None:
    """Say how HU became density; in an amber box where this scanner has no calibration."""
    is_calibrated = report.calibration.is_calibrated
    words = calibration_sentence(report.calibration) if is_calibrated else UNCALIBRATED_WORDS
    left_mm, width_mm = (30.0, CONTENT_MM - 32) if is_calibrated else (38.0, CONTENT_MM - 40)
    height_mm = len(wrapped(words, width_mm, 8)) * line_mm(8) + 3
    colours = (PALE, "none") if is_calibrated else (AMBER_PALE, AMBER)
    paper.box(MARGIN_MM, paper.y_mm, CONTENT_MM, height_mm, *colours)
    head = "Calibrated" if is_calibrated else "UNCALIBRATED"
    paper.text(MARGIN_MM + 3, paper.y_mm + height_mm / 2 - 2.2, head, 9.5, weight="bold", colour=INK)
    top_mm = paper.y_mm
    paper.y_mm += 1.5
    paper.paragraph(MARGIN_MM + left_mm, words, width_mm, 8)
    paper.y_mm = top_mm + height_mm + 3.5


def _section(paper: Paper, title: str, first_block_mm: float = 12.0) -> None:
    """Write a section title with room for what follows it."""
    paper.need(8 + first_block_mm)
    paper.text(MARGIN_MM, paper.y_mm, title, 10, weight="bold", colour=NAVY)
    paper.rule(paper.y_mm + 5.2, NAVY, 0.9)
    paper.y_mm += 7


def all_findings(report: Report) -> tuple[Finding, ...]:
    """Return every flag of the study and of its groups once, those that forbid a number first.

    A flag that both state on one subject is taken as the study states it.
    """
    unique: dict[tuple[str, str, str], Finding] = {}
    for finding in (*report.findings, *(finding for group in report.groups for finding in group.findings)):
        unique.setdefault((finding.code, finding.subject, finding.sentence), finding)
    return tuple(sorted(unique.values(), key=lambda finding: not finding.forbids))


def _findings(paper: Paper, report: Report) -> None:
    findings = all_findings(report)
    if not findings:
        return
    _section(paper, "Quality findings: what limits the numbers, and what was not measured")
    text_x_mm = MARGIN_MM + 29
    for finding in findings:
        head = f"{subject_name(finding.subject)}: {finding_code(finding.code).meaning}"
        lines = wrapped(finding.sentence, RIGHT_MM - text_x_mm, 8)
        paper.need(5 + len(lines) * line_mm(8))
        _tag(paper, "NOT MEASURED" if finding.forbids else "NOTE", RED if finding.forbids else GREY)
        paper.text(text_x_mm, paper.y_mm, fitted(head, RIGHT_MM - text_x_mm, 8.5, "bold"), 8.5, weight="bold")
        paper.y_mm += 4
        paper.paragraph(text_x_mm, finding.sentence, RIGHT_MM - text_x_mm, 8)
        paper.y_mm += 1.4
    paper.y_mm += 2


def _tag(paper: Paper, words: str, colour: str) -> None:
    paper.box(MARGIN_MM, paper.y_mm + 0.1, 26, 4.1, "white", colour)
    paper.text(MARGIN_MM + 13, paper.y_mm + 0.7, words, 7, weight="bold", colour=colour, align="center")


def _technical(paper: Paper, report: Report) -> None:
    """Technical adequacy on the left, calibration on the right."""
    sentence = calibration_sentence(report.calibration)
    lines = wrapped(sentence, HALF_MM, 8)
    height_mm = max(len(report.technical) * 4.2, len(lines) * line_mm(8))
    _section(paper, "Technical adequacy", height_mm)
    right_x_mm = MARGIN_MM + HALF_MM + 8
    paper.text(right_x_mm, paper.y_mm - 7, "Density calibration", 10, weight="bold", colour=NAVY)
    top_mm = paper.y_mm
    for name, value in report.technical:
        paper.text(MARGIN_MM, paper.y_mm, fitted(name, 36, 8), 8, colour=GREY)
        paper.text(MARGIN_MM + 38, paper.y_mm, fitted(value, HALF_MM - 38, 8), 8)
        paper.y_mm += 4.2
    paper.y_mm = top_mm
    paper.paragraph(right_x_mm, sentence, HALF_MM, 8)
    paper.y_mm = top_mm + height_mm + 3.5


def _limits(paper: Paper, report: Report) -> None:
    if not report.limits:
        return
    _section(paper, "Limits")
    for limit in report.limits:
        lines = wrapped(limit, CONTENT_MM - 5, 8)
        paper.need(len(lines) * line_mm(8))
        paper.text(MARGIN_MM + 1, paper.y_mm, "-", 8)
        paper.paragraph(MARGIN_MM + 4, limit, CONTENT_MM - 5, 8)
        paper.y_mm += 0.6
    paper.y_mm += 2.5


def _versions(paper: Paper, report: Report) -> None:
    node = report.equipment
    _section(paper, "Methods and versions", 8)
    entries = [f"{node.model_name} {node.software_version} ({node.manufacturer})"]
    entries += [f"{a.name} {a.version}: {a.purpose}" for a in report.algorithms]
    for entry in entries:
        lines = wrapped(entry, CONTENT_MM, 7.5)
        paper.need(len(lines) * line_mm(7.5))
        paper.paragraph(MARGIN_MM, entry, CONTENT_MM, 7.5, colour=GREY)


def _footers(paper: Paper) -> None:
    """Write page numbers, once their count is known."""
    total = len(paper.figures)
    pages = list(paper.figures)
    for number, figure in enumerate(pages, 1):
        paper.figures.append(figure)
        paper.rule(HEIGHT_MM - 14, RULE)
        words = "Made by software, not verified by a physician. The structured report has the same values."
        paper.text(MARGIN_MM, HEIGHT_MM - 12.3, words, 7, colour=GREY)
        paper.text(RIGHT_MM, HEIGHT_MM - 12.3, f"Page {number} of {total}", 7, colour=GREY, align="right")
        paper.figures.pop()
