"""What rules may ask of a study, read from one header of each of its series. Hospital side.

The header of one file stands for the series; how many instances are here comes from the database. A header that
cannot be read leaves a series with its counts alone.
"""

import errno
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items

from dicom_node.db.studies import SeriesArrivals
from dicom_node.errors import Unavailable
from dicom_node.logs import log
from dicom_node.pipeline.routing import SeriesFacts
from dicom_node.pipeline.routing_rules import TAG, Rule

LOG = log(__name__)
TEXTS = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "protocol_name": "ProtocolName",
    "kernel": "ConvolutionKernel",
    "image_type": "ImageType",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "station": "StationName",
    "patient_sex": "PatientSex",
}
NUMBERS = {"slice_thickness_mm": "SliceThickness", "kvp": "KVP"}
OTHERS = ("PatientAge", "PatientBirthDate", "StudyDate", "NumberOfFrames")
FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""Where an enhanced image has what older ones have at the top (PS3.3 C.7.6.16)."""
AGE_UNITS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
"""Units of an Age String in a year (PS3.5 6.2)."""
DAYS_OF_A_YEAR = 365.25
REMEMBERED = 2048
MAX_VALUES, MAX_LENGTH = 64, 1024
"""More values, and longer ones, than any rule compares are cut off."""
AGE_LENGTH = 4
HOSTILE = (None, errno.EINVAL)
"""Errors of the system that the bytes of a file can cause, as by a length that leads before its start."""


def facts_of(series: Sequence[SeriesArrivals], folder: Path, rules: Sequence[Rule]) -> tuple[SeriesFacts, ...]:
    """Read what the rules may ask of a study's series, in the order given.

    Parameters
    ----------
    series
        What has arrived of each.
    folder
        The hospital-side folder the paths are below.
    rules
        Their ``tag:`` fields say which attributes to read beside the named ones.

    Raises
    ------
    Unavailable
        When the system refuses to read a file that is there.
    """
    tags = tuple(sorted(frozenset().union(*(rule.tags for rule in rules))))
    return tuple(_facts(one, _values(folder / one.path, tags)) for one in series)


Values = tuple[dict[str, tuple[str, ...]], dict[str, float]]


def _facts(series: SeriesArrivals, values: Values) -> SeriesFacts:
    texts, numbers = values
    counts = {
        "series_instances": float(series.instance_count),
        "series_slices": series.instance_count * numbers.get("frames", 1.0),
        "ct_instances": float(series.ct_count),
    }
    named = {name: value for name, value in numbers.items() if name != "frames"}
    return SeriesFacts(series.series_instance_uid, {**texts, "calling_aet": series.calling_aets}, {**named, **counts})


def _values(path: Path, tags: tuple[str, ...]) -> Values:
    """Read one header; a file that is gone leaves the counts, a disk that is away leaves nothing to decide on."""
    try:
        return _read(path, tags)
    except FileNotFoundError:
        LOG.warning("series_header_gone")
        return {}, {}
    except OSError as error:
        raise Unavailable(f"The header of a series could not be read ({error.strerror}); it is tried again.") from None


@lru_cache(maxsize=REMEMBERED)
def _read(path: Path, tags: tuple[str, ...]) -> Values:
    """Read one header once: what is kept on disk never changes. What the system refused is not remembered."""
    try:
        wanted = [*TEXTS.values(), *NUMBERS.values(), *OTHERS, *FRAME_GROUPS, *tags]
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(dict.fromkeys(wanted)))
        texts = {name: _texts(header, keyword) for name, keyword in TEXTS.items()}
        texts |= {f"{TAG}{keyword}": _texts(header, keyword) for keyword in tags}
        return {name: value for name, value in texts.items() if value}, dict(_numbers(header))
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in HOSTILE:
            raise
        LOG.warning("series_header_unreadable", error=type(error).__name__)
        return {}, {}


def _numbers(header: Dataset) -> Iterator[tuple[str, float]]:
    for name, keyword in NUMBERS.items():
        if (number := _number(header, keyword)) is not None:
            yield name, number
    if (age := _age_years(header)) is not None:
        yield "patient_age_years", age
    frames = _number(header, "NumberOfFrames")
    yield "frames", frames if frames is not None and frames >= 1 else 1.0


def _texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """Return an attribute's values as words; none where it is missing, empty or unreadable."""
    try:
        value = _find(header, keyword)
        values = value if isinstance(value, (MultiValue, list, tuple)) else (value,)
        words = [str(one).strip()[:MAX_LENGTH] for one in values[:MAX_VALUES] if one is not None]
    except Exception:  # noqa: BLE001 - a value that cannot be read is none
        return ()
    return tuple(one for one in words if one)


def _number(header: Dataset, keyword: str) -> float | None:
    words = _texts(header, keyword)
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None


def _find(header: Dataset, keyword: str) -> object:
    """Return an attribute of the image, or of the first frame of an enhanced one."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        return None
    if tag in header:
        return header[tag].value
    for name in FRAME_GROUPS:
        for groups in list(header.get(name) or ())[:1]:
            for element in groups:
                items = element.value
                if isinstance(items, Items) and items and tag in items[0]:
                    return items[0][tag].value
    return None


def _age_years(header: Dataset) -> float | None:
    """Return the age from the Age String, or else from the dates of birth and study."""
    words = _texts(header, "PatientAge")
    if words and len(words[0]) == AGE_LENGTH and words[0][:3].isdecimal() and words[0][3].upper() in AGE_UNITS:
        return int(words[0][:3]) / AGE_UNITS[words[0][3].upper()]
    try:
        born, seen = (
            datetime.strptime(_texts(header, keyword)[0][:8], "%Y%m%d")  # noqa: DTZ007 - DICOM dates have no zone
            for keyword in ("PatientBirthDate", "StudyDate")
        )
    except (IndexError, ValueError):
        return None
    return (seen - born).days / DAYS_OF_A_YEAR if seen >= born else None
