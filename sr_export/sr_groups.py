"""Measurement groups of the SR: TID 1411 with drawn contours.

Viewers draw only the first contour of a group and nothing of a referenced segment, so a region is given as a
few polylines on source slices, the middle slice first, and the SEG is cited in the evidence. A mean over
several regions has a contour of each: one group without any makes OHIF 3.13 show nothing of the whole report.
Viewers drop the children of numbers and of finding sites, so side, level, case and statistic stand in every
concept name.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import contourpy
import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from sr_export.codes import (
    ANATOMICAL_STRUCTURE,
    CATEGORIES,
    CATEGORY_QUESTION,
    FAMILIES,
    LATERALITIES,
    QUALITY_FINDING,
    UNSPECIFIED_FAMILY,
    Bound,
    concept,
    concept_code,
    finding_code,
    statement_code,
    structure_code,
    subject_name,
)
from sr_export.errors import ContradictoryReport, UnknownConcept
from sr_export.frames import frame_number
from sr_export.inputs import Algorithm, Finding, Group, Measurement, Region, Report, Statement
from sr_export.seg import tracking_uid
from sr_export.text import ascii_text, long_string

CONTOURED_SLICES = 5
"""Slices of a region that carry a contour; more make the object grow with the CT, not more readable."""
CONTOUR_POINTS = 60
"""Largest number of points of one contour."""
NUMBERS_BESIDE_A_CONTOUR = 5
"""OHIF 3.13 writes the first five numbers of one tracking identifier beside its contour, and no more."""
MEAN_SLICE = 2
"""Which of a region's contoured slices carries a mean over several regions; the region's own come first."""


@dataclass(frozen=True, slots=True)
class Part:
    """As many measurements of a group as viewers write beside one contour.

    ``place`` counts the parts of the report that are drawn on the same bone; each is drawn on another slice, so
    that their numbers are not written over one another. ``tracking_key`` is the region's for the first part about
    a region, which ties it to the segment, and another for each further part, since viewers merge equal ones.
    """

    group: Group
    measurements: tuple[Measurement, ...]
    number: int
    total: int
    place: int
    tracking_key: str


def measurement_groups(headers: Sequence[Dataset], report: Report) -> list[Dataset]:
    """Return the report's groups as content items, in their order; one with many numbers as several items.

    Parameters
    ----------
    headers
        Geometry headers in the order of the masks' slice axis; contours refer to them.

    Raises
    ------
    ContradictoryReport
        A value is not finite, the region's side is not the group's, or no region says where a mean was measured.
    UnknownConcept
        A key is in no table, or a group's algorithm is not one of the report's.
    """
    return [_measurement_group(part, headers, report) for part in _parts(report.groups)]


def _parts(groups: Sequence[Group]) -> Iterator[Part]:
    """Yield the parts of all groups, each with a place and a tracking key of its own."""
    places: Counter[tuple[str, str]] = Counter()
    tracked: set[str] = set()
    for group in groups:
        _refuse_contradiction(group)
        packed = _packed(group.measurements)
        for number, measurements in enumerate(packed, 1):
            bone = (group.structure, group.laterality)
            place = places[bone]
            key = group.region.key if group.region else group.key
            if key in tracked:
                key = f"{group.key}, part {place + 1}"
            tracked.add(key)
            places[bone] += 1
            yield Part(group, measurements, number, len(packed), place, key)


def _packed(measurements: Sequence[Measurement]) -> list[tuple[Measurement, ...]]:
    """Split measurements into runs of few numbers; a value and the ends of its interval stay together."""
    runs: list[list[Measurement]] = [[]]
    room = NUMBERS_BESIDE_A_CONTOUR
    for measurement in measurements:
        size = len(list(_values(measurement)))
        if size > room and runs[-1]:
            runs.append([])
            room = NUMBERS_BESIDE_A_CONTOUR
        runs[-1].append(measurement)
        room -= size
    return [tuple(run) for run in runs]


def _measurement_group(part: Part, headers: Sequence[Dataset], report: Report) -> Dataset:
    """Build TID 1411; category, statements and quality flags of a group stand in its first item."""
    group, is_first = part.group, part.number == 1
    is_calibrated = report.calibration.is_calibrated
    site = structure_code(group.structure)
    side = LATERALITIES[group.laterality] if group.laterality else None
    template = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_regions=_contours(part, headers, report),
        tracking_identifier=_tracking(part, report),
        finding_type=site,
        finding_category=ANATOMICAL_STRUCTURE,
        finding_sites=[hd.sr.FindingSite(site, laterality=side)],
        algorithm_id=algorithm_identification(_algorithm(group.algorithm, report), report),
        measurements=list(_numbers(part, is_calibrated=is_calibrated)),
        qualitative_evaluations=_category(group, is_calibrated=is_calibrated) if is_first else None,
    )
    container = template[0]
    if is_first:
        container.ContentSequence.extend(_statement_item(statement, group) for statement in group.statements)
        for finding in group.findings:
            container.ContentSequence.extend(finding_items(finding))
    return container


def _statement_item(statement: Statement, group: Group) -> Dataset:
    """Return what is said of a group in words, under a name that says of what and which side."""
    return hd.sr.TextContentItem(
        statement_code(statement.concept, group.structure, group.laterality),
        ascii_text(statement.text),
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )


def _tracking(part: Part, report: Report) -> hd.sr.TrackingIdentifier:
    suffix = f", part {part.number} of {part.total}" if part.total > 1 else ""
    return hd.sr.TrackingIdentifier(
        uid=tracking_uid(report, part.tracking_key), identifier=long_string(part.group.name + suffix)
    )


def algorithm_identification(algorithm: Algorithm, report: Report) -> hd.sr.AlgorithmIdentification:
    """Return TID 4019 with the values that Contributing Equipment carries for the same algorithm."""
    return hd.sr.AlgorithmIdentification(
        name=long_string(algorithm.name),
        version=long_string(algorithm.version),
        parameters=[ascii_text(parameter) for parameter in algorithm.parameters] or None,
        family=FAMILIES.get(algorithm.family, UNSPECIFIED_FAMILY),
        manufacturer=long_string(report.equipment.manufacturer),
    )


def finding_items(finding: Finding) -> list[Dataset]:
    """Return a quality flag as a code, and its sentence under the flag's own name."""
    code = finding_code(finding.code)
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    sentence = ascii_text(f"{subject_name(finding.subject)}: {finding.sentence}")
    return [
        hd.sr.CodeContentItem(name=QUALITY_FINDING, value=code, relationship_type=contains),
        hd.sr.TextContentItem(name=code, value=sentence, relationship_type=contains),
    ]


def rounded(key: str, value: float) -> float | int:
    """Round a value to the decimals of its concept, as it is stored and printed."""
    decimals = concept(key).decimals
    return round(value, decimals) if decimals > 0 else int(round(value, decimals))


def printed_value(key: str, value: float) -> str:
    """Return a value with the decimals of its concept, and no more than it means."""
    return f"{rounded(key, value):.{max(concept(key).decimals, 0)}f}"


def _numbers(part: Part, *, is_calibrated: bool) -> Iterator[hd.sr.Measurement]:
    """Each value, followed by the ends of its interval as numbers of their own."""
    group = part.group
    for measurement in part.measurements:
        row = concept(measurement.concept)
        for bound, value in _values(measurement):
            number = hd.sr.Measurement(
                name=concept_code(
                    measurement.concept,
                    group.structure,
                    group.laterality,
                    is_calibrated=is_calibrated,
                    bound=bound,
                ),
                value=rounded(measurement.concept, value),
                unit=row.unit,
                derivation=None if bound else row.derivation,
            )
            number[0].MeasuredValueSequence[0].NumericValue = printed_value(measurement.concept, value)
            yield number


def _values(measurement: Measurement) -> Iterator[tuple[Bound, float]]:
    yield "", measurement.value
    if measurement.low is not None:
        yield "lower", measurement.low
    if measurement.high is not None:
        yield "upper", measurement.high


def _category(group: Group, *, is_calibrated: bool) -> list[hd.sr.QualitativeEvaluation] | None:
    """Return the category, which an uncalibrated density never has."""
    if group.category is None or not is_calibrated:
        return None
    return [hd.sr.QualitativeEvaluation(CATEGORY_QUESTION, category_code(group.category))]


def category_code(key: str) -> Code:
    """Return the code of a category; ``UnknownConcept`` when no row has this key."""
    try:
        return CATEGORIES[key]
    except KeyError:
        raise UnknownConcept(f"Category {key!r} is not in sr_export.codes.CATEGORIES.") from None


def _contours(part: Part, headers: Sequence[Dataset], report: Report) -> list[hd.sr.ImageRegion]:
    """Outlines of a group's region on a few slices, the one to draw first, or of every averaged region on one."""
    region = part.group.region
    if region is None:
        placed = [(one, contoured_slices(one)) for one in _averaged(part.group, report)]
        return [_contour(one, slices[min(MEAN_SLICE, len(slices) - 1)], headers) for one, slices in placed]
    slices = contoured_slices(region)
    drawn = slices.pop(part.place % len(slices))
    return [_contour(region, index, headers) for index in (drawn, *slices)]


def _averaged(group: Group, report: Report) -> list[Region]:
    """Regions that a group without one of its own was averaged over, in the order of the report's groups."""
    levels = {level for measurement in group.measurements for level in concept(measurement.concept).mean_of}
    regions: dict[str, Region] = {}
    for other in report.groups:
        if other.region is not None and other.structure in levels:
            regions.setdefault(other.structure, other.region)
    if not regions:
        raise ContradictoryReport(
            f"Group {group.key} has no region, and no group with one says where it was measured; "
            "viewers would draw nothing of the report."
        )
    return list(regions.values())


def contoured_slices(region: Region) -> list[int]:
    """Return the slices that carry a contour of a region, from its middle slice outwards."""
    slices = np.flatnonzero(region.mask.any(axis=(1, 2)))
    spread = np.linspace(0, len(slices) - 1, CONTOURED_SLICES).astype(int)
    spread[CONTOURED_SLICES // 2] = len(slices) // 2
    middle = int(slices[len(slices) // 2])
    return sorted(set(map(int, slices[spread])), key=lambda index: abs(index - middle))


def _contour(region: Region, index: int, headers: Sequence[Dataset]) -> hd.sr.ImageRegion:
    number = frame_number(headers[index])
    source = hd.sr.SourceImageForRegion(
        headers[index].SOPClassUID, headers[index].SOPInstanceUID, None if number is None else [number]
    )
    return hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, outline(region.mask[index]), source)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the longest closed outline of a (row, column) mask.

    Returns
    -------
    outline : (point, 2) float64 array
        (column, row) in DICOM image coordinates, where the first pixel's centre is (0.5, 0.5)
        (PS3.3 C.18.6.1.2); the last point repeats the first.
    """
    lines = contourpy.contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    longest = max((np.asarray(line) for line in lines), key=len)[:-1]
    kept = longest[:: math.ceil(len(longest) / CONTOUR_POINTS)] - 0.5
    return np.vstack([kept, kept[:1]])


def _algorithm(key: str, report: Report) -> Algorithm:
    for algorithm in report.algorithms:
        if algorithm.key == key:
            return algorithm
    raise UnknownConcept(f"Algorithm {key!r} of a group is not among the report's algorithms.")


def _refuse_contradiction(group: Group) -> None:
    for measurement in group.measurements:
        for bound, value in _values(measurement):
            if not math.isfinite(value):
                raise ContradictoryReport(f"{measurement.concept} {bound} of {group.key} is {value}, not a number.")
    region = group.region
    if region is not None and region.laterality != group.laterality:
        raise ContradictoryReport(
            f"Group {group.key} has side {group.laterality!r}, its region has {region.laterality!r}."
        )
