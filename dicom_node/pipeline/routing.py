"""Which rule takes a study, and why every earlier one does not: a pure verdict over plain values.

The first enabled rule that takes a study is the one. A rule takes it when one of its series satisfies every condition
and no series satisfies any of ``unless``. Sentences show the values of the fields of ``SHOWN`` only: descriptions and
other free text may name a patient.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.pipeline.routing_rules import OPERATORS, Condition, Rule

SHOWN = frozenset(
    (
        "modality",
        "calling_aet",
        "body_part",
        "kernel",
        "image_type",
        "manufacturer",
        "model",
        "slice_thickness_mm",
        "kvp",
        "series_instances",
        "series_slices",
        "ct_instances",
    )
)
"""Fields that a machine fills in; what it says of them may stand in a sentence."""
SHOWN_LENGTH = 60


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What rules may ask of one series.

    Attributes
    ----------
    series_instance_uid
        The original one.
    texts
        Field, or ``tag:`` and keyword -> its values; none where the header has none.
    numbers
        Field -> its value.
    """

    series_instance_uid: str
    texts: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, float]

    @property
    def title(self) -> str:
        """The series in a few words, for sentences."""
        modality = (*self.texts.get("modality", ()), "unreadable header")[0]
        count = self.numbers.get("series_instances", 0)
        return f"{modality}, {count:g} instance{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition on one series: whether it holds, and the sentence that says what was found."""

    holds: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class SeriesTrial:
    """One series under every condition of a rule."""

    title: str
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether every condition holds."""
        return all(finding.holds for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Trial:
    """One rule on a study: whether it takes it, why, and the conditions one by one."""

    rule: Rule
    takes: bool
    reason: str
    series: tuple[SeriesTrial, ...]


def first_match(rules: Sequence[Rule], series: Sequence[SeriesFacts]) -> Rule | None:
    """Return the rule that takes a study, None when none does."""
    return next((trial.rule for trial in trials(rules, series) if trial.takes), None)


def trials(rules: Sequence[Rule], series: Sequence[SeriesFacts]) -> Iterator[Trial]:
    """Try every rule in order, up to the first that takes the study."""
    for rule in rules:
        trial = try_rule(rule, series)
        yield trial
        if trial.takes:
            return


def try_rule(rule: Rule, series: Sequence[SeriesFacts]) -> Trial:
    """Try one rule on a study."""
    if not rule.is_enabled:
        return Trial(rule, False, "It is switched off.", ())
    tried = tuple(
        SeriesTrial(f"series {number} ({one.title})", tuple(examine(condition, one) for condition in rule.conditions))
        for number, one in enumerate(series, start=1)
    )
    taken = next((one for one in tried if one.holds), None)
    if taken is None:
        said = "No series satisfies all of its conditions." if series else "No series of the study is here."
        return Trial(rule, False, said, tried)
    for number, one in enumerate(series, start=1):
        for condition in rule.unless:
            if (found := examine(condition, one)).holds:
                said = f"It leaves out a study with such a series: series {number}, {found.sentence}."
                return Trial(rule, False, said, tried)
    return Trial(rule, True, f"{taken.title[0].upper()}{taken.title[1:]} satisfies all of its conditions.", tried)


def lacking_series(rule: Rule, series: Sequence[SeriesFacts]) -> tuple[str, ...]:
    """Return what each required series that is not here would have to be, for rows, reports and pages.

    What a rule compares a free text or the patient with is left out, as are the values that were found.
    """
    return tuple(
        f"{need.name} ({'; '.join(_asked(condition) for condition in need.conditions)})"
        for need in rule.required_series
        if not any(all(examine(condition, one).holds for condition in need.conditions) for one in series)
    )


def _asked(condition: Condition) -> str:
    if condition.field in SHOWN or condition.value is None:
        return condition.words
    return f"{condition.field} {OPERATORS[condition.operator]} ..."


def examine(condition: Condition, series: SeriesFacts) -> Finding:
    """Test one condition on one series."""
    holds = _holds(condition, series)
    return Finding(holds, _sentence(condition, series, holds=holds))


def _holds(condition: Condition, series: SeriesFacts) -> bool:
    if condition.operator in ("present", "absent"):
        is_there = bool(series.texts.get(condition.field)) or condition.field in series.numbers
        return is_there == (condition.operator == "present")
    if condition.is_numeric:
        number = _number(condition.field, series)
        return number is not None and NUMBERS[condition.operator](number, _floats(condition))
    values = tuple(value.strip().casefold() for value in series.texts.get(condition.field, ()))
    return TEXTS[condition.operator](values, _words(condition))


NUMBERS: dict[str, Callable[[float, tuple[float, ...]], bool]] = {
    "is": lambda found, asked: found == asked[0],
    "is_not": lambda found, asked: found != asked[0],
    "at_least": lambda found, asked: found >= asked[0],
    "at_most": lambda found, asked: found <= asked[0],
    "between": lambda found, asked: asked[0] <= found <= asked[1],
}
"""How numbers are compared; a series without the number satisfies none of them."""
TEXTS: dict[str, Callable[[tuple[str, ...], tuple[str, ...]], bool]] = {
    "is": lambda found, asked: asked[0] in found,
    "is_not": lambda found, asked: asked[0] not in found,
    "one_of": lambda found, asked: any(one in asked for one in found),
    "like": lambda found, asked: any(is_like(one, asked[0]) for one in found),
    "not_like": lambda found, asked: not any(is_like(one, asked[0]) for one in found),
}
"""How words are compared, without regard to case; of several values one has to fit."""


def is_like(text: str, pattern: str) -> bool:
    """Tell whether a text fits a pattern of ``*`` (any characters) and ``?`` (one), as in queries (PS3.4 C.2.2.2.4).

    Two positions only move forward, or back to after the last star: time grows with the product of the lengths at most,
    whatever a person writes, which no regular expression could promise.
    """
    here, at, star, retry = 0, 0, -1, 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry, at = at, here, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            here, at = here + 1, at + 1
        elif star >= 0:
            retry, at = retry + 1, star + 1
            here = retry
        else:
            return False
    return not pattern[at:].strip("*")


def _number(field: str, series: SeriesFacts) -> float | None:
    if field in series.numbers:
        return series.numbers[field]
    try:
        return float(series.texts[field][0])
    except (KeyError, IndexError, ValueError):
        return None


def _floats(condition: Condition) -> tuple[float, ...]:
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    return tuple(float(value) for value in values if isinstance(value, float))


def _words(condition: Condition) -> tuple[str, ...]:
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    return tuple(str(value).casefold() for value in values)


def _sentence(condition: Condition, series: SeriesFacts, *, holds: bool) -> str:
    """Say what was asked and what was found; what may name a patient is not repeated."""
    number, texts = series.numbers.get(condition.field), series.texts.get(condition.field, ())
    if number is None and not texts:
        return f"{condition.words}: the header has none"
    if condition.field not in SHOWN:
        return f"{condition.words}: {'it does' if holds else 'it does not'}"
    found = f"{number:g}" if number is not None else "\\".join(texts)[:SHOWN_LENGTH]
    return f"{condition.words}: it is {found}"
