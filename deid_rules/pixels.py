"""The pixel gate: which images may leave the hospital side at all, by allow-list; and where text is burned in.

Pixels can show a name. Headers do not say so reliably, thus the gate does not look for signs of text but lets
through only what a scanner makes for reading by machine: axial CT images of the original acquisition.
Everything else, above all localizers, screen captures and reformats, is refused with a cause. The gate reads
the original header and does not look at pixels. `rectangles_for` says where a known kind of image carries text;
`blanking.blank_rectangles` erases it, and only an image so treated claims the option Clean Pixel Data.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset

from deid_rules.blanking import blank_rectangles
from deid_rules.elements import opened_items, small_number, text_of
from deid_rules.errors import UnreadableElement
from deid_rules.filters import FilterLabel, Rectangle, matching_base_labels

__all__ = [
    "ALLOWED_IMAGE_TYPES",
    "CT_IMAGE_STORAGE",
    "ENHANCED_CT_IMAGE_STORAGE",
    "REFUSED_WORDS",
    "GateVerdict",
    "ImageTypeRule",
    "Rectangle",
    "blank_rectangles",
    "gate",
    "labels_for",
    "rectangles_for",
]

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"

ImageTypeRule = tuple[str, ...]

ALLOWED_IMAGE_TYPES: frozenset[ImageTypeRule] = frozenset(
    {("ORIGINAL", "PRIMARY", "AXIAL"), ("ORIGINAL", "PRIMARY", "VOLUME")}
)
"""First values of Image Type (PS3.3 C.8.2.1.1.1 and C.8.15.2.1.1)."""

REFUSED_WORDS = frozenset({"LOCALIZER", "SCOUT", "SCREEN SAVE", "SECONDARY", "REPORT", "DOSE", "DOSE_INFO"})
"""Values of Image Type that no site rule can allow: such images carry burned-in text as a rule."""

_ORIENTATION = 0x00200037
_FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)
_PLANE_ORIENTATION = 0x00209116


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Whether an image may pass, and in words why not (empty when it may). The cause quotes no value."""

    allowed: bool
    cause: str = ""


def gate(dataset: Dataset, site_image_types: Iterable[ImageTypeRule] = ()) -> GateVerdict:
    """Decide whether an image may be de-identified and analysed.

    Parameters
    ----------
    dataset
        The original header.
    site_image_types
        First values of Image Type that a site allows beside `ALLOWED_IMAGE_TYPES`, for scanners that write
        thin reconstructions as ``("DERIVED", "PRIMARY", "AXIAL")``.

    Returns
    -------
    GateVerdict
        Allowed, or the first cause of refusal.
    """
    allowed_types = ALLOWED_IMAGE_TYPES | frozenset(site_image_types)
    for is_fault, cause in (
        (_is_other_class, "SOP class is neither CT nor Enhanced CT Image Storage"),
        (_is_burned_in, "Burned In Annotation (0028,0301) does not rule out text in the pixels"),
        (_is_refused_kind, "Image Type (0008,0008) names a localizer, capture or report"),
        (_is_colour, "pixels are not one monochrome sample"),
        (_was_captured, "Conversion Type (0008,0064) says the image was captured or digitized"),
        (_has_no_orientation, "no Image Orientation (Patient) (0020,0037)"),
    ):
        if is_fault(dataset):
            return GateVerdict(False, cause)
    if not any(_image_type(dataset)[: len(rule)] == rule for rule in allowed_types if rule):
        return GateVerdict(False, "Image Type (0008,0008) is not on the list of allowed types")
    return GateVerdict(True)


def _is_other_class(dataset: Dataset) -> bool:
    return text_of(dataset, 0x00080016) not in (CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE)


def _is_burned_in(dataset: Dataset) -> bool:
    return text_of(dataset, 0x00280301) not in ("", "NO")


def _image_type(dataset: Dataset) -> tuple[str, ...]:
    return tuple(value.strip().upper() for value in text_of(dataset, 0x00080008).split("\\"))


def _is_refused_kind(dataset: Dataset) -> bool:
    return not REFUSED_WORDS.isdisjoint(_image_type(dataset))


def _is_colour(dataset: Dataset) -> bool:
    samples = small_number(dataset, 0x00280002)
    return samples not in (None, 1) or text_of(dataset, 0x00280004) not in ("MONOCHROME1", "MONOCHROME2")


def _was_captured(dataset: Dataset) -> bool:
    return bool(text_of(dataset, 0x00080064))


def _has_no_orientation(dataset: Dataset) -> bool:
    if text_of(dataset, 0x00080016) == CT_IMAGE_STORAGE:
        return not _has_six_numbers(dataset)
    return not any(
        _has_six_numbers(plane)
        for groups in _FUNCTIONAL_GROUPS
        for group in _first_item(dataset, groups)
        for plane in _first_item(group, _PLANE_ORIENTATION)
    )


def _has_six_numbers(dataset: Dataset) -> bool:
    parts = text_of(dataset, _ORIENTATION).split("\\")
    return len(parts) == 6 and all(part.strip() for part in parts)


def _first_item(dataset: Dataset, tag: int) -> list[Dataset]:
    """Return the first item of a sequence in a list, or an empty list; a broken sequence has no items."""
    if tag not in dataset:
        return []
    try:
        items = opened_items(dataset, dataset.get_item(tag))
    except UnreadableElement:
        return []
    return list(items[:1])


def labels_for(dataset: Dataset, site_labels: Iterable[FilterLabel] = ()) -> tuple[FilterLabel, ...]:
    """Return the labels an original header fulfils, the site's first, then those of the rule base."""
    ours = (label for label in site_labels if label.matches(dataset))
    return (*ours, *matching_base_labels(dataset))


def rectangles_for(dataset: Dataset, site_labels: Iterable[FilterLabel] = ()) -> tuple[Rectangle, ...]:
    """Say where an image of this kind carries text.

    Parameters
    ----------
    dataset
        The original header: the clean one no longer has the descriptions that the rules read.
    site_labels
        ``SiteRules.labels``.

    Returns
    -------
    tuple of Rectangle
        Of every label that matches; empty where no rule knows the image, which does not mean it has no text.
    """
    return tuple(rectangle for label in labels_for(dataset, site_labels) for rectangle in label.rectangles)
