"""The profile: which options of PS3.15 Annex E are in force, compiled into one rule for every tag.

A `Profile` is what a site chooses. `compile_rules` turns it, together with the object's SOP class, into two
tables (top level and inside sequences) that the engine looks up once per element. What they do not name is
removed: private elements, unknown tags, repeating groups, free text. The site's own lines come last and win.
"""

from dataclasses import dataclass
from functools import lru_cache

from pydicom.datadict import DicomDictionary

from deid_rules.errors import InvalidProfile
from deid_rules.options import BASIC_PROFILE_CODE, DEFAULT_OPTIONS, METHOD_MEANINGS, Option
from deid_rules.rules import Action, Rule, RuleTable, listed_rule, resolve, unlisted_rule
from deid_rules.site import NO_SITE_RULES, SiteRules
from deid_rules.tables import attribute_types, profile_rows

__all__ = [
    "BASIC_PROFILE_CODE",
    "DEFAULT_OPTIONS",
    "METHOD_MEANINGS",
    "Action",
    "Option",
    "Profile",
    "Rule",
    "RuleTable",
    "compile_rules",
    "resolve",
]


@dataclass(frozen=True, slots=True)
class Profile:
    """A site's choice, immutable and hashable.

    Attributes
    ----------
    options
        Enabled options beside the basic profile.
    private_elements
        Private elements to keep under Retain Safe Private: (group, creator, low byte of the element).
    age_cap_years
        Ages above are written as this one, None keeps them. 90: 45 CFR 164.514(b)(2)(i)(C).
    implementation_class_uid, implementation_version_name
        Written into the file meta information (PS3.10 7.1).
    site_rules
        The site's own recipe, which wins over the profile.

    Raises
    ------
    InvalidProfile
        Full and modified dates together, be it in the options or in the recipe; private elements without
        Retain Safe Private; an even group.
    """

    options: frozenset[Option] = DEFAULT_OPTIONS
    private_elements: frozenset[tuple[int, str, int]] = frozenset()
    age_cap_years: int | None = 90
    implementation_class_uid: str = "2.25.308885869134936699302955066951878939275"
    implementation_version_name: str = "OSTEONODE_DEID_1"
    site_rules: SiteRules = NO_SITE_RULES

    def __post_init__(self) -> None:
        if {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} <= self.options_in_force:
            raise InvalidProfile("dates are either retained in full or modified, not both")
        if self.private_elements and Option.RETAIN_SAFE_PRIVATE not in self.options:
            raise InvalidProfile("private elements are listed but Retain Safe Private is not enabled")
        if any(group % 2 == 0 or not 0 <= element <= 0xFF for group, _, element in self.private_elements):
            raise InvalidProfile("a private element has an odd group and an element of one byte")

    @property
    def options_in_force(self) -> frozenset[Option]:
        """The options with those the site's recipe names: what the written file claims."""
        return self.options | self.site_rules.options

    @property
    def safe_private(self) -> frozenset[tuple[int, str, int]]:
        """Private elements that are kept: the profile's and the recipe's, without what the recipe removes."""
        return (self.private_elements | self.site_rules.private_kept) - self.site_rules.private_removed


@lru_cache(maxsize=32)
def compile_rules(profile: Profile, sop_class_uid: str) -> tuple[RuleTable, RuleTable]:
    """Compile a profile for one kind of object.

    Parameters
    ----------
    profile
        The site's choice.
    sop_class_uid
        Decides the Type of attributes; an unknown class resolves compounds to their last letter.

    Returns
    -------
    top, nested : dict of tag to rule
        Rules for the dataset itself and for the items of its sequences. A tag in neither is removed.
    """
    top, nested = (dict(rules) for rules in _standard_rules(profile.options, _known(sop_class_uid)))
    for rules in (top, nested):
        rules.update(profile.site_rules.rules)
    top.update((tag, Rule(Action.REMOVE, rule.vr, rule.basis)) for tag, rule in profile.site_rules.additions)
    return top, {tag: _for_items(rule) for tag, rule in nested.items()}


def _known(sop_class_uid: str) -> str:
    """Return one name for all objects whose Types are not packaged."""
    return sop_class_uid if sop_class_uid in attribute_types() else ""


@lru_cache(maxsize=32)
def _standard_rules(options: frozenset[Option], sop_class_uid: str) -> tuple[RuleTable, RuleTable]:
    """Compile the profile without the site's recipe."""
    types = attribute_types().get(sop_class_uid, {})
    nested = {tag: unlisted_rule(options, tag) for tag in DicomDictionary}
    nested.update((row.tag, listed_rule(options, row, None)) for row in profile_rows())
    for tag in [tag for tag in nested if tag >> 16 in (0x0000, 0x0002, 0x0004) or not tag & 0xFFFF]:
        nested[tag] = Rule(Action.REMOVE, nested[tag].vr, "command, file meta, directory or group length")
    compound = [row for row in profile_rows() if "/" in row.basic and row.tag >> 16 > 0x0004]
    typed = {row.tag: listed_rule(options, row, types.get(row.keyword)) for row in compound}
    return nested | typed, nested


def _for_items(rule: Rule) -> Rule:
    """Inside a sequence the patient may be another one, and pixels are icons or presentation."""
    if rule.action is Action.PSEUDONYM:
        return Rule(Action.EMPTY, rule.vr, rule.basis)
    if rule.action is Action.PIXELS:
        return Rule(Action.REMOVE, rule.vr, "pixels inside a sequence")
    return rule
