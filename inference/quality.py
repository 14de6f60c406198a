"""Typed quality flags: what a reader of a result must know, and what forbids a number.

``FLAGS`` is the whole table. A flag is raised by the module that sees the evidence and travels unchanged
into the SR, the PDF, the pages and the JSON.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlagDefinition:
    """A row of the table: what a flag means, whether it forbids numbers, and why."""

    code: str
    meaning: str
    forbids_density: bool
    forbids_strength: bool
    reason: str


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """One flag raised on one subject.

    Attributes
    ----------
    code
        A key of ``FLAGS``.
    subject
        ``study`` or the key of a structure in ``inference.labels``.
    sentence
        ASCII sentence for people: what was found, what was expected. Never a patient's identifier.
    evidence
        Pairs of (name with unit, value), for example ``(("metal_volume_mm3", 4100.0),)``.
    """

    code: str
    subject: str
    sentence: str
    evidence: tuple[tuple[str, float | str], ...] = ()

    @property
    def definition(self) -> FlagDefinition:
        """The table's row for this flag."""
        return FLAGS[self.code]


FLAGS: dict[str, FlagDefinition] = {
    definition.code: definition
    for definition in (
        FlagDefinition(
            "metal",
            "Metal or cement inside or beside the bone",
            True,
            True,
            "Streaks and blooming change HU by more than any bone differs; stiffness would be meaningless.",
        ),
    )
}
