"""What the report means in plain words, made from its values and flags alone: never a diagnosis, never a T-score.

No words are said about how strong a femur ought to be: no limit of strength is verified for this model.
"""

from collections.abc import Iterator

from sr_export.change import changes
from sr_export.codes import CATEGORIES, finding_code, subject_name
from sr_export.concepts import FEMURS, SUBJECT_WORDS, VERTEBRAE
from sr_export.inputs import Finding, Group, Report
from sr_export.sr_groups import printed_value

CATEGORY_LIMITS = "80 and 120 mg/cm3"
"""Of the QCT category, see ``sr_export.codes.CATEGORIES`` [Niu2023]."""

WEAKEST = (
    ("femur_strength_fall_minimum", "weakest_fall_site", "weakest simulated fall"),
    ("femur_strength_fall", "weakest_fall_site", "simulated fall"),
    ("femur_strength_stance_minimum", "weakest_stance_site", "weakest simulated stance"),
    ("femur_strength_stance", "weakest_stance_site", "simulated stance"),
)
"""Concept of a strength, statement that says where it fails, and how people call the load."""

SUBJECT_FEMURS = {"femur_right": "R", "femur_left": "L"}


def interpretation(report: Report) -> str:
    """Return the meaning of the report in a few sentences; empty where there is nothing to say."""
    return " ".join(
        (*_categories(report), *_strengths(report), *_changes(report), *_uncalibrated(report), *_missing(report))
    )


def _categories(report: Report) -> Iterator[str]:
    if not report.calibration.is_calibrated:
        return
    for group in report.groups:
        if group.category is not None and group.measurements:
            number = group.measurements[0]
            density = printed_value(number.concept, number.value)
            range_words = CATEGORIES[group.category].meaning.lower()
            yield (
                f"{group.name}: trabecular vBMD of {density} mg/cm3 is in the range of {range_words} "
                f"by the QCT limits of the ACR ({CATEGORY_LIMITS})."
            )


def _strengths(report: Report) -> Iterator[str]:
    found = [(group, parts) for group in report.groups if (parts := list(_broken(group)))]
    sides = (
        f"the {SUBJECT_WORDS[group.laterality].lower()} femur breaks {' and '.join(parts)}" for group, parts in found
    )
    if found:
        yield f"In the model {'; '.join(sides)}."


def _broken(group: Group) -> Iterator[str]:
    """Yield the weakest load of each kind: ``at 1720 N in the weakest simulated fall (femoral neck)``."""
    if group.structure not in FEMURS or not group.laterality:
        return
    said = {statement.concept: statement.text for statement in group.statements}
    numbers = {measurement.concept: measurement.value for measurement in group.measurements}
    for concept, place, words in WEAKEST:
        if concept in numbers:
            site = f" ({said[place]})" if place in said else ""
            yield f"at {printed_value(concept, numbers[concept])} N in the {words}{site}"


def _changes(report: Report) -> Iterator[str]:
    verdicts = [one.verdict for one in changes(report)]
    if verdicts:
        real = verdicts.count("significant")
        yield f"Against the earlier examination {real} of {len(verdicts)} numbers changed significantly."


def _uncalibrated(report: Report) -> Iterator[str]:
    if report.groups and not report.calibration.is_calibrated:
        yield "The numbers are not calibrated: do not compare them with limits, reference values or other examinations."


def _missing(report: Report) -> Iterator[str]:
    parts = [f"{_in_sentence(one.subject)} ({finding_code(one.code).meaning.lower()})" for one in forbidding(report)]
    if parts:
        yield f"Not measured, or only in part: {', '.join(parts)}."


def _in_sentence(subject: str) -> str:
    name = subject_name(subject)
    return name if subject in VERTEBRAE else name[:1].lower() + name[1:]


def forbidding(report: Report) -> tuple[Finding, ...]:
    """Return the first flag of every subject that forbids a number of it, bones in reading order."""
    first: dict[str, Finding] = {}
    for finding in report.findings:
        if finding.forbids:
            first.setdefault(finding.subject, finding)
    order = (*VERTEBRAE, *SUBJECT_FEMURS)
    return tuple(sorted(first.values(), key=lambda one: order.index(one.subject) if one.subject in order else -1))
