"""The tables of ``sr_export.codes`` as Markdown, so that docs/results.md can be compared with them."""

from collections.abc import Sequence

from sr_export.codes import FINDINGS, OTHER_FINDING, PRINTED_UNITS, STRUCTURES
from sr_export.concepts import CONCEPTS, PERIPHERAL, SIDES, STATEMENTS, SUBJECT_WORDS, VERTEBRAE, Concept


def concept_table() -> str:
    """Return one row per kind of number."""
    head = ("key", "said of", "printed name", "unit", "code", "code when uncalibrated")
    return _table(head, [_concept_row(row) for row in CONCEPTS.values()])


def statement_table() -> str:
    """Return one row per kind of statement."""
    rows = [
        (f"`{row.key}`", row.name.format(subject=SUBJECT_WORDS[row.subjects[0]]), f"{row.value}-{row.subjects[0]}")
        for row in STATEMENTS.values()
    ]
    return _table(("key", "printed name", "code"), rows)


def finding_table() -> str:
    """Return one row per quality flag."""
    rows = [(f"`{key}`", code.value, code.meaning) for key, code in FINDINGS.items()]
    return _table(("flag", "code", "meaning"), [*rows, ("any other", OTHER_FINDING.value, OTHER_FINDING.meaning)])


def structure_table() -> str:
    """Return one row per anatomical structure."""
    rows = [(f"`{key}`", f"{code.value} {code.scheme_designator}", code.meaning) for key, code in STRUCTURES.items()]
    return _table(("key", "code", "meaning"), rows)


def _concept_row(row: Concept) -> tuple[str, ...]:
    said, subject, suffix = {
        VERTEBRAE: ("a vertebra", "L1", "-L1"),
        SIDES: ("a femur", "Right", "-R"),
        PERIPHERAL: ("a bone of wrist or ankle", "Right radius", "-RA-R"),
    }.get(row.subjects, ("any region" if row.standard else "the spine", "", ""))
    code = f"{row.standard.value} {row.standard.scheme_designator}" if row.standard else row.value + suffix
    uncalibrated = f"{row.value}{suffix}-U" if row.needs_calibration else "-"
    name = row.name.format(subject=subject)
    return (f"`{row.key}`", said, name, PRINTED_UNITS[row.unit.value], code, uncalibrated)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
