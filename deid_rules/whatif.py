"""What the engine would do to a dataset, element by element, without doing it.

The answer speaks of tags and rules, never of values: it can be shown, mailed and kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from deid_rules.elements import elements_of, opened_items
from deid_rules.engine import MAX_DEPTH, SOP_CLASS, check_identifiers, unknown_label
from deid_rules.errors import NestedTooDeep, tag_text
from deid_rules.profile import Profile, compile_rules
from deid_rules.rules import Action, RuleTable


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """What would happen to one element.

    Attributes
    ----------
    path
        Tags from the top, with the item's number (from 1) behind each sequence: ``(0008,1140)[2](0008,1155)``.
    rule
        What the rule does and where it comes from, in words.
    """

    path: str
    rule: str


def what_would_happen(dataset: Dataset, profile: Profile) -> tuple[PlannedAction, ...]:
    """List what the engine would do, in the order of the elements.

    What depends on a value is not foreseen: a malformed value is left out whatever its rule says, and a text that
    repeats the patient's name is emptied.

    Parameters
    ----------
    dataset
        The original; it is not changed.
    profile
        Options in force and the site's recipe.

    Raises
    ------
    RefusedDataset
        Where `deidentify` would refuse the dataset.
    """
    originals = check_identifiers(dataset)
    top, nested = compile_rules(profile, originals[SOP_CLASS])
    planned = list(_planned(dataset, profile, top, nested, "", 0))
    planned += [PlannedAction(tag_text(tag), f"added ({rule.basis})") for tag, rule in profile.site_rules.additions]
    return tuple(planned)


def _planned(
    dataset: Dataset, profile: Profile, rules: RuleTable, nested: RuleTable, path: str, depth: int
) -> Iterator[PlannedAction]:
    if depth > MAX_DEPTH:
        raise NestedTooDeep(MAX_DEPTH)
    for tag, element in elements_of(dataset):
        here = path + tag_text(tag)
        rule = rules.get(tag)
        if rule is None:
            yield PlannedAction(here, unknown_label(profile.safe_private, dataset, tag))
            continue
        yield PlannedAction(here, rule.label)
        if rule.action is Action.SEQUENCE and element.VR in (None, "SQ", "UN"):
            for number, item in enumerate(opened_items(dataset, element), start=1):
                yield from _planned(item, profile, nested, nested, f"{here}[{number}]", depth + 1)
