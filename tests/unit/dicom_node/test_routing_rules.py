"""Rules as documents: what is taken, what is refused and how it is said, and that files hold them whole."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dicom_node.db.routing_tables import STUDY_STATES
from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.routing_rules import (
    DEFAULT_RULES,
    FIELDS,
    MAX_RULES,
    NUMBER_OPERATORS,
    OPERATORS,
    TEXT_OPERATORS,
    Completeness,
    Condition,
    RequiredSeries,
    Rule,
    checked,
    json_from_rules,
    rules_from_json,
    rules_from_toml,
    toml_from_rules,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "routing.md"
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from(sorted(FIELDS)))
    is_number = FIELDS[name][0] == "number"
    operator = draw(st.sampled_from((*(NUMBER_OPERATORS if is_number else TEXT_OPERATORS), "present", "absent")))
    value: object = None
    if operator == "between":
        value = tuple(sorted((draw(NUMBERS), draw(NUMBERS))))
    elif operator == "one_of":
        value = tuple(draw(st.lists(WORDS, min_size=1, max_size=3)))
    elif operator not in ("present", "absent"):
        value = draw(NUMBERS if is_number else WORDS)
    return Condition.model_validate({"field": name, "operator": operator, "value": value})


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    return Rule(
        name=draw(st.from_regex(r"[A-Za-z][A-Za-z0-9_ .,()+-]{0,20}[a-z]", fullmatch=True)),
        is_enabled=draw(st.booleans()),
        conditions=tuple(draw(st.lists(conditions(), max_size=3))),
        unless=tuple(draw(st.lists(conditions(), max_size=2))),
        pipelines=draw(st.sampled_from((("hip",), ("spine",), ("hip", "spine")))),
        priority=draw(st.sampled_from(("urgent", "normal", "offpeak"))),
        required_series=tuple(
            RequiredSeries(name="thin", conditions=(one,)) for one in draw(st.lists(conditions(), max_size=2))
        ),
        destinations=tuple(draw(st.lists(st.sampled_from(("PACS", "VNA 2")), unique=True))),
        completeness=Completeness(
            pacs=draw(st.sampled_from(("ct", "all", "off"))),
            wait_s=draw(st.one_of(st.none(), st.floats(0, 1000))),
            then=draw(st.sampled_from((None, "hold", "proceed"))),
        ),
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(rules(), max_size=3, unique_by=lambda rule: rule.name.lower()))
def test_rules_come_back_from_json_and_toml_as_they_went(found: list[Rule]) -> None:
    assert list(rules_from_json(json_from_rules(found))) == found
    assert list(rules_from_toml(toml_from_rules(found))) == found


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"field": "modality", "operator": "at_least", "value": 3}, "modality takes is, is_not"),
        ({"field": "slice_thickness_mm", "operator": "like", "value": "1*"}, "slice_thickness_mm takes is"),
        ({"field": "slice_thickness_mm", "operator": "at_most", "value": "thin"}, "takes a number"),
        ({"field": "slice_thickness_mm", "operator": "at_most", "value": float("nan")}, "finite"),
        ({"field": "slice_thickness_mm", "operator": "at_most"}, "takes a number"),
        ({"field": "modality", "operator": "is", "value": ["CT"]}, "takes one value"),
        ({"field": "modality", "operator": "one_of", "value": "CT"}, "takes a list"),
        ({"field": "modality", "operator": "one_of", "value": []}, "takes a list"),
        ({"field": "modality", "operator": "is", "value": 3.0}, "takes words"),
        ({"field": "modality", "operator": "present", "value": "CT"}, "takes no value"),
        ({"field": "patient_age_years", "operator": "between", "value": [80, 20]}, "the smaller first"),
        ({"field": "patient_age_years", "operator": "between", "value": [80]}, "the smaller first"),
        ({"field": "PatientName", "operator": "is", "value": "x"}, "is one of modality"),
        ({"field": "tag:NoSuchKeyword", "operator": "is", "value": "x"}, "keyword of an attribute"),
        ({"field": "tag:PixelData", "operator": "present"}, "keyword of an attribute"),
        ({"field": "tag:RequestAttributesSequence", "operator": "present"}, "keyword of an attribute"),
        ({"field": "modality", "operator": "matches", "value": ".*"}, "Input should be"),
        ({"field": "modality", "operator": "is", "value": "CT", "code": "print()"}, "Extra inputs"),
        ({"field": "modality", "operator": "is", "value": "x" * 201}, "200"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused_with_a_sentence(condition: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match="Rule R, conditions") as caught:
        checked([{"name": "R", "conditions": [condition]}])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("3", "valid tuple"),
        ('[{"name": "a/b"}]', "pattern"),
        ('[{"name": "A"}, {"name": "a"}]', "names are unique"),
        ('[{"name": "A", "pipelines": []}]', "hip, spine or both"),
        ('[{"name": "A", "pipelines": ["knee"]}]', "'hip' or 'spine'"),
        ('[{"name": "A", "priority": "now"}]', "'urgent'"),
        ('[{"name": "A", "required_series": [{"name": "thin", "conditions": []}]}]', "at least 1"),
        ('[{"name": "A", "completeness": {"wait_s": -1}}]', "greater than or equal to 0"),
        ('[{"conditions": []}]', "without a name"),
        ('["A"]', "valid dictionary"),
    ],
)
def test_a_broken_file_of_rules_is_refused_with_a_sentence(document: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        rules_from_json(document)
    assert said in str(caught.value)


def test_too_many_rules_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at most"):
        checked([{"name": f"R{number}"} for number in range(MAX_RULES + 1)])


@pytest.mark.parametrize("text", ["[[rule]\n", 'rule = "x"\n', "colour = 1\n"])
def test_a_broken_toml_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        rules_from_toml(text)


def test_a_rule_cannot_be_changed_behind_the_hash_that_a_job_keeps() -> None:
    with pytest.raises(ValidationError):
        DEFAULT_RULES[0].priority = "urgent"  # type: ignore[misc]


def test_the_hash_follows_what_a_rule_says_and_nothing_else() -> None:
    rule = Rule(name="A", conditions=DEFAULT_RULES[0].conditions)
    same = (rule.model_copy(update={"name": "B"}), rule.model_copy(update={"is_enabled": False}))
    others = [
        rule.model_copy(update=change)
        for change in (
            {"priority": "urgent"},
            {"pipelines": ("hip",)},
            {"destinations": ("X",)},
            {"unless": rule.conditions},
        )
    ]
    assert {one.hash for one in same} == {rule.hash}
    assert len({rule.hash, *(one.hash for one in others)}) == 5


def test_every_operator_has_words() -> None:
    assert set(OPERATORS) == {*TEXT_OPERATORS, *NUMBER_OPERATORS, "present", "absent"}


def test_the_document_lists_every_field_and_operator_and_its_example_is_valid() -> None:
    text = DOCUMENT.read_text()
    assert [name for name, (kind, meaning) in FIELDS.items() if f"| `{name}` | {kind} | {meaning} |" not in text] == []
    assert [name for name in OPERATORS if f"`{name}`" not in text] == []
    assert [name for name in STUDY_STATES if f"| `{name}` |" not in text] == []
    (rule,) = rules_from_toml(text.split("```toml\n")[1].split("```")[0])
    assert rule.completeness.then == "hold"
