"""Measurement groups of the SR: TID 1411 with drawn contours for one region, TID 1501 for several bones.

Viewers draw only the first contour of a group and nothing of a referenced segment, so a region is given as a
few polylines on source slices, the middle slice first, and the SEG is cited in the evidence. Viewers drop the
children of numbers and of finding sites, so side, level, case and statistic stand in every concept name.
"""

import math
from collections.abc import Iterator, Sequence

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
    structure_code,
    subject_name,
)
from sr_export.errors import ContradictoryReport, UnknownConcept
from sr_export.inputs import Algorithm, Finding, Group, Measurement, Region, Report
from sr_export.seg import tracking_uid
from sr_export.text import ascii_text, long_string

CONTOURED_SLICES = 5
"""Slices of a region that carry a contour; more make the object grow with the CT, not more readable."""
CONTOUR_POINTS = 60
"""Largest number of points of one contour."""


def measurement_group(group: Group, headers: Sequence[Dataset], report: Report) -> Dataset:
    """Return one group as a content item.

    Parameters
    ----------
    group
        With or without region.
    headers
        Geometry headers in the order of the masks' slice axis; contours refer to them.

    Raises
    ------
    ContradictoryReport
        A value is not finite, or the region's structure or side is not the group's.
    UnknownConcept
        A key is in no table, or the group's algorithm is not one of the report's.
    """
    _refuse_contradiction(group)
    site = structure_code(group.structure)
    side = LATERALITIES[group.laterality] if group.laterality else None
    common = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=tracking_uid(report, group.region.key if group.region else group.key),
            identifier=long_string(group.name),
        ),
        "finding_type": site,
        "finding_category": ANATOMICAL_STRUCTURE,
        "finding_sites": [hd.sr.FindingSite(site, laterality=side)],
        "algorithm_id": algorithm_identification(_algorithm(group.algorithm, report), report),
        "measurements": list(_numbers(group, is_calibrated=report.calibration.is_calibrated)),
        "qualitative_evaluations": _category(group, is_calibrated=report.calibration.is_calibrated),
    }
    if group.region is None:
        template = hd.sr.MeasurementsAndQualitativeEvaluations(**common)
    else:
        template = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_regions=_contours(group.region, headers), **common
        )
    container = template[0]
    for finding in group.findings:
        container.ContentSequence.extend(finding_items(finding))
    return container


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


def _numbers(group: Group, *, is_calibrated: bool) -> Iterator[hd.sr.Measurement]:
    """Each value, followed by the ends of its interval as numbers of their own."""
    for measurement in group.measurements:
        row = concept(measurement.concept)
        for bound, value in _values(measurement):
            yield hd.sr.Measurement(
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


def _contours(region: Region, headers: Sequence[Dataset]) -> list[hd.sr.ImageRegion]:
    """Outlines of a mask on a few slices, the middle one first."""
    slices = np.flatnonzero(region.mask.any(axis=(1, 2)))
    middle = int(slices[len(slices) // 2])
    spread = np.linspace(0, len(slices) - 1, CONTOURED_SLICES).round().astype(int)
    others = [int(index) for index in slices[np.unique(spread)] if index != middle]
    return [
        hd.sr.ImageRegion(
            hd.sr.GraphicTypeValues.POLYLINE,
            outline(region.mask[index]),
            hd.sr.SourceImageForRegion.from_source_image(headers[index]),
        )
        for index in (middle, *others)
    ]


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
