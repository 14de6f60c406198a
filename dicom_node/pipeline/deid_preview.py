"""``osteonode deid --what-if``: what would be done to the files of a folder, by element and rule, never by value."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from deid_rules.errors import DeidError
from deid_rules.pixels import gate, rectangles_for
from deid_rules.profile import Profile
from deid_rules.whatif import what_would_happen
from dicom_node.identity.causes import NotDeidentifiable, PixelGateRefused, Quarantined, Unreadable
from dicom_node.identity.person import person_from_header
from dicom_node.jobs.failure import describe_failure
from dicom_node.pipeline.deidentification import BLANKED

_ITEM_NUMBER = re.compile(r"\[\d+\]")
_LAST_TAG = re.compile(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)$")


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be done.

    Attributes
    ----------
    planned
        (path of tags, name of the last one, rule) and in how many files, by path.
    refusals
        (cause, sentence) and how many files.
    """

    planned: tuple[tuple[tuple[str, str, str], int], ...]
    refusals: tuple[tuple[tuple[str, str], int], ...]


def preview(paths: Sequence[Path], profile: Profile, on_file: Callable[[], object]) -> Preview:
    """Look at every file and write none."""
    planned: Counter[tuple[str, str]] = Counter()
    refusals: Counter[tuple[str, str]] = Counter()
    for path in paths:
        try:
            planned.update(_plan(path, profile))
        except Quarantined as refusal:
            refusals[refusal.cause, str(refusal)] += 1
        on_file()
    rows = sorted(((tags, _name(tags), rule), number) for (tags, rule), number in planned.items())
    return Preview(tuple(rows), tuple(sorted(refusals.items())))


def _plan(path: Path, profile: Profile) -> set[tuple[str, str]]:
    """Return (path of tags without item numbers, rule) of one file."""
    original = _read(path)
    person_from_header(original)
    try:
        verdict = gate(original, profile.site_rules.image_types)
        if not verdict.allowed:
            raise PixelGateRefused(verdict.cause)
        found = {(_ITEM_NUMBER.sub("", one.path), one.rule) for one in what_would_happen(original, profile)}
        rectangles = rectangles_for(original, profile.site_rules.labels)
        return found | ({("(7FE0,0010)", BLANKED)} if rectangles else set())
    except Quarantined:
        raise
    except DeidError as error:
        raise NotDeidentifiable(f"It cannot be de-identified: {error}.") from None
    except Exception as error:  # noqa: BLE001 - a broken file fails in any way; its kind is all that may be said
        raise NotDeidentifiable(f"It cannot be de-identified ({describe_failure(error)}).") from None


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except Exception as error:  # noqa: BLE001 - as above
        raise Unreadable(f"It is not a readable DICOM file ({describe_failure(error)}).") from None


def _name(tags: str) -> str:
    match = _LAST_TAG.search(tags)
    return "" if match is None else keyword_for_tag(int(match[1] + match[2], 16))
