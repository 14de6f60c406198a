"""The same report for archives that do not take Comprehensive 3D SR: the three older SR classes.

Each class allows fewer value types than the one before (PS3.3 A.35.13, A.35.3, A.35.2, A.35.1). What a class lacks is
said in the nearest thing it has, at the same place of the same tree:

- Comprehensive SR has no SCOORD3D: a point or outline in space becomes a text with its coordinates.
- Enhanced SR has no content by reference either: those items are left out.
- Basic Text SR has neither numbers nor contours: a number becomes a text under its own name, a contour the reference to
  the image it is drawn on. It is no TID 1500 any more, and gets a title that viewers show as text.

A variant is a function of the report alone, UIDs included, so that it can be made again at any time and is the same. It
has a series of its own: an archive that once takes another class never holds two classes in one series.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, BasicTextSRStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from sr_export.coded import code_item
from sr_export.codes import PRINTED_UNITS
from sr_export.context import BANNER
from sr_export.errors import NotExpressible
from sr_export.text import ascii_text
from sr_export.uids import PLACEHOLDER, stamp_uids

TEXT_REPORT_TITLE = Code("18748-4", "LN", "Diagnostic imaging report")
"""OHIF 3.13 draws a report with the title of TID 1500 on images, and one with this title as text."""

BASIC_TYPES = frozenset(
    ("TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "COMPOSITE", "IMAGE", "WAVEFORM", "CONTAINER")
)
"""PS3.3 A.35.1.3.1."""
ENHANCED_TYPES = BASIC_TYPES | {"NUM", "SCOORD", "TCOORD"}
"""PS3.3 A.35.2.3.1; those of Comprehensive SR are the same (A.35.3.3.1), which adds content by reference."""


@dataclass(frozen=True, slots=True)
class ReportClass:
    """One of the four SR classes a destination may take."""

    key: str
    name: str
    sop_class_uid: UID
    value_types: frozenset[str]
    has_references: bool
    kind: str
    """What UIDs and the node's tables call a report of this class."""


REPORT_CLASSES: dict[str, ReportClass] = {
    row.key: row
    for row in (
        ReportClass(
            "comprehensive_3d",
            "Comprehensive 3D SR",
            Comprehensive3DSRStorage,
            ENHANCED_TYPES | {"SCOORD3D", "TABLE"},
            True,
            "sr",
        ),
        ReportClass(
            "comprehensive", "Comprehensive SR", ComprehensiveSRStorage, ENHANCED_TYPES, True, "sr_comprehensive"
        ),
        ReportClass("enhanced", "Enhanced SR", EnhancedSRStorage, ENHANCED_TYPES, False, "sr_enhanced"),
        ReportClass("basic_text", "Basic Text SR", BasicTextSRStorage, BASIC_TYPES, False, "sr_text"),
    )
}
"""In the order in which a destination is offered them: what says most comes first."""

MADE_ANEW = frozenset(
    (
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "ContentSequence",
        "ContentTemplateSequence",
        "ConceptNameCodeSequence",
    )
)
"""Root attributes in which a variant may differ from its report; all others are copied."""


def fall_back(report: Dataset, report_class: ReportClass) -> Dataset:
    """Return the report as an object of an older class, with UIDs of its own made from its content.

    Parameters
    ----------
    report
        A Comprehensive 3D SR of this package, with file meta information; not changed.
    report_class
        A row of ``REPORT_CLASSES`` but the first.

    Raises
    ------
    NotExpressible
        The tree holds a value type that the class lacks and that has no nearest thing in it.
    """
    variant = deepcopy(report)
    variant.SOPClassUID = variant.file_meta.MediaStorageSOPClassUID = report_class.sop_class_uid
    variant.SeriesInstanceUID = variant.SOPInstanceUID = PLACEHOLDER
    variant.file_meta.MediaStorageSOPInstanceUID = PLACEHOLDER
    variant.ContentSequence = [item for child in report.ContentSequence for item in _said(child, report_class)]
    if "NUM" not in report_class.value_types:
        variant.ConceptNameCodeSequence = [code_item(TEXT_REPORT_TITLE)]
        del variant.ContentTemplateSequence
    stamp_uids([variant], str(report.SOPInstanceUID), report_class.kind)
    return variant


def fallback_problems(report: Dataset, variant: Dataset) -> tuple[str, ...]:
    """Compare a finished variant with its report; return what is wrong, as sentences without identifiers.

    Patient, study, flags, evidence and predecessors are the report's; every number is there with its name, unit and
    place in the order; the banner is there; no value type and no image is one that the class or the report lacks.
    """
    row = next((row for row in REPORT_CLASSES.values() if row.sop_class_uid == variant.SOPClassUID), None)
    if row is None:
        return ("The variant is of no SR class.",)
    return (*_root_problems(report, variant), *_tree_problems(report, variant, row))


def _said(item: Dataset, row: ReportClass) -> list[Dataset]:
    """Return an item with its children as the class can say it: as it is, as another type, or not at all."""
    if "ReferencedContentItemIdentifier" in item:
        return [deepcopy(item)] if row.has_references else []
    kind = str(item.ValueType)
    if kind == "SCOORD" and kind not in row.value_types:
        return [_moved(image, item, row) for image in item.get("ContentSequence", []) if image.ValueType == "IMAGE"]
    if kind in row.value_types:
        said = _without_children(item)
    elif kind in ("NUM", "SCOORD3D"):
        said = _text_item(item, number_text(item) if kind == "NUM" else space_text(item))
    else:
        raise NotExpressible(f"{row.name} has no {kind}, and the report has one; {row.name} cannot be made of it.")
    if "NUM" not in row.value_types and "ContentTemplateSequence" in said:
        del said.ContentTemplateSequence
    children = [part for child in item.get("ContentSequence", []) for part in _said(child, row)]
    if children:
        said.ContentSequence = children
    return [said]


def _moved(image: Dataset, contour: Dataset, row: ReportClass) -> Dataset:
    """Return the image a contour is drawn on, in the contour's place."""
    (said,) = _said(image, row)
    said.RelationshipType = contour.RelationshipType
    return said


def _without_children(item: Dataset) -> Dataset:
    copied = Dataset()
    for element in item:
        if element.keyword != "ContentSequence":
            copied[element.tag] = deepcopy(element)
    return copied


def _text_item(item: Dataset, text: str) -> Dataset:
    """Return a text in the place and under the name of an item; viewers print name and text in one line."""
    said = Dataset()
    said.RelationshipType = item.RelationshipType
    said.ValueType = "TEXT"
    said.ConceptNameCodeSequence = deepcopy(item.ConceptNameCodeSequence)
    said.TextValue = ascii_text(text)
    return said


def number_text(item: Dataset) -> str:
    """Return value and unit of a number; why there is none where it has no value (PS3.3 C.18.1)."""
    if not item.get("MeasuredValueSequence"):
        reasons = item.get("NumericValueQualifierCodeSequence", [])
        return str(reasons[0].CodeMeaning) if reasons else "no value"
    measured = item.MeasuredValueSequence[0]
    unit = measured.MeasurementUnitsCodeSequence[0]
    return f"{measured.NumericValue} {PRINTED_UNITS.get(str(unit.CodeValue), str(unit.CodeMeaning))}".strip()


def space_text(item: Dataset) -> str:
    """Return kind and points of a SCOORD3D, LPS in mm (PS3.3 C.18.9)."""
    values = [float(value) for value in item.GraphicData]
    points = [values[start : start + 3] for start in range(0, len(values), 3)]
    places = " ".join("(" + ", ".join(f"{value:.1f}" for value in point) + ")" for point in points)
    return f"{item.GraphicType} at {places} mm (x, y, z; LPS)"


def _root_problems(report: Dataset, variant: Dataset) -> Iterator[str]:
    for keyword in sorted({element.keyword for ds in (report, variant) for element in ds} - MADE_ANEW):
        if report.get(keyword) != variant.get(keyword):
            yield f"{keyword} is not the report's."
    if variant.SOPInstanceUID in (report.SOPInstanceUID, PLACEHOLDER):
        yield "The variant has no SOP Instance UID of its own."
    if variant.SeriesInstanceUID in (report.SeriesInstanceUID, PLACEHOLDER):
        yield "The variant has no series of its own."
    meta = variant.file_meta
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (variant.SOPClassUID, variant.SOPInstanceUID):
        yield "The file's SOP class or instance UID is not the dataset's."


def _tree_problems(report: Dataset, variant: Dataset, row: ReportClass) -> Iterator[str]:
    items = list(content_items(variant))
    for kind in sorted({str(item.ValueType) for item in items if "ValueType" in item} - row.value_types):
        yield f"{row.name} has no {kind}."
    if not row.has_references and any("ReferencedContentItemIdentifier" in item for item in items):
        yield f"{row.name} has no content by reference."
    if not any(BANNER in str(item.get("TextValue", "")) for item in items):
        yield "The banner is missing."
    if any(item.get("ContinuityOfContent", "SEPARATE") != "SEPARATE" for item in items):
        yield "A container is not SEPARATE."
    if any(not str(item.get("TextValue", "")).isascii() for item in items):
        yield "A text holds a character outside ASCII."
    wanted = [(_code(item), number_text(item)) for item in content_items(report) if item.get("ValueType") == "NUM"]
    codes = {code for code, _ in wanted}
    if [(_code(item), _printed(item)) for item in items if _code(item) in codes] != wanted:
        yield "The numbers are not the report's."
    if _images(items) - _images(list(content_items(report))):
        yield "An image is referred to that the report does not refer to."


def content_items(item: Dataset) -> Iterator[Dataset]:
    """Yield every content item below one, in the order in which they are read."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from content_items(child)


def _code(item: Dataset) -> tuple[str, str]:
    names = item.get("ConceptNameCodeSequence", [])
    return (str(names[0].CodeValue), str(names[0].CodingSchemeDesignator)) if names else ("", "")


def _printed(item: Dataset) -> str:
    return number_text(item) if item.ValueType == "NUM" else str(item.get("TextValue", ""))


def _images(items: Sequence[Dataset]) -> set[str]:
    return {str(one.ReferencedSOPInstanceUID) for item in items for one in item.get("ReferencedSOPSequence", [])}
