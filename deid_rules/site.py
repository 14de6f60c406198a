"""A site's recipe once it is parsed: rules for tags, values to add, rectangles to blank.

`recipe` reads the text; this module is what it reads it into, and `compile_rules` lays it over the profile.
"""

from dataclasses import dataclass, field

from deid_rules.filters import FilterLabel
from deid_rules.options import Option
from deid_rules.rules import Rule

PrivateElement = tuple[int, str, int]
"""Group, creator, low byte of the element."""


@dataclass(frozen=True, slots=True)
class SiteRules:
    """The rules of one recipe. Two are equal when their texts are, which also makes hashing cheap.

    Attributes
    ----------
    text
        The recipe.
    rules
        Tag and rule, for the dataset and for the items of its sequences.
    additions
        Tag and rule of what is written at the top level, whether it was there or not.
    options
        Options of PS3.15 that lines name to weaken the profile.
    private_kept, private_removed
        Private elements.
    labels
        Rules for burned-in text.
    image_types
        First values of Image Type that pass the pixel gate beside the built-in ones.
    """

    text: str = field(default="", repr=False)
    rules: tuple[tuple[int, Rule], ...] = field(default=(), compare=False, repr=False)
    additions: tuple[tuple[int, Rule], ...] = field(default=(), compare=False, repr=False)
    options: frozenset[Option] = field(default=frozenset(), compare=False)
    private_kept: frozenset[PrivateElement] = field(default=frozenset(), compare=False)
    private_removed: frozenset[PrivateElement] = field(default=frozenset(), compare=False)
    labels: tuple[FilterLabel, ...] = field(default=(), compare=False, repr=False)
    image_types: frozenset[tuple[str, ...]] = field(default=frozenset(), compare=False)


NO_SITE_RULES = SiteRules()
