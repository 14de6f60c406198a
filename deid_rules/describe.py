"""The profile in words, for the data-protection officer; docs/deidentification.md holds the same text.

Made from the tables the engine runs on, so that the document cannot say anything else than the program does.
"""

from collections import defaultdict

from pydicom.datadict import keyword_for_tag

from deid_rules.pixels import CT_IMAGE_STORAGE
from deid_rules.profile import (
    BASIC_PROFILE_CODE,
    METHOD_MEANINGS,
    Action,
    Option,
    Profile,
    RuleTable,
    compile_rules,
)
from deid_rules.tables import profile_edition, profile_rows

_NAMED_AT_MOST = 24
"""A row lists its attributes up to this number and counts them above."""

_FIXED_ROWS = (
    ("Private elements (odd group)", "removed, except those a site lists under Retain Safe Private"),
    ("Overlays (60xx), curves (50xx)", "removed; unused high bits of native pixels cleared"),
    ("Tags the dictionary does not know, group lengths", "removed"),
    ("File meta information and preamble", "written anew; only the transfer syntax is kept"),
    ("Pixels inside sequences (icons)", "removed"),
    ("Patient's name and ID inside sequences", "emptied"),
    (
        "(0012,0062), (0012,0063), (0012,0064), (0028,0303)",
        "written: identity removed, method, codes of the options, what became of the dates",
    ),
)


def describe(profile: Profile, sop_class_uid: str = CT_IMAGE_STORAGE) -> str:
    """Describe a profile as Markdown: the options in force, then a table of what happens to what.

    Parameters
    ----------
    profile
        The site's choice.
    sop_class_uid
        The kind of object; it decides compound actions. Default CT Image Storage.
    """
    top, _ = compile_rules(profile, sop_class_uid)
    lines = [f"Table: {profile_edition()}.", "", "Options in force:", ""]
    lines += [f"- {METHOD_MEANINGS[code]} ({code} DCM)" for code in _codes(profile)]
    lines += ["", "Options not in force:", ""]
    absent = [option for option in Option if option not in profile.options_in_force]
    lines += [f"- {METHOD_MEANINGS[option]} ({option.value} DCM)" for option in absent]
    lines += ["", *_age_line(profile), *_site_lines(profile), "| elements | what happens |", "|---|---|"]
    lines += [f"| {elements} | {what} |" for elements, what in (*_rows(top), *_FIXED_ROWS)]
    return "\n".join(lines) + "\n"


def _codes(profile: Profile) -> list[str]:
    return [BASIC_PROFILE_CODE, *sorted(option.value for option in profile.options_in_force)]


def _age_line(profile: Profile) -> list[str]:
    if Option.RETAIN_PATIENT_CHARACTERISTICS not in profile.options:
        return []
    cap = profile.age_cap_years
    above = "kept at any height" if cap is None else f"written as {cap} where it is above"
    return [f"The age is kept, computed from the birth date where it is missing, and {above}.", ""]


def _site_lines(profile: Profile) -> list[str]:
    """Say how much of the table comes from the site's recipe; nothing where it has no rules."""
    site = profile.site_rules
    counts = (
        (len(site.rules), "attributes it decides about"),
        (len(site.additions), "attributes it adds at the top level"),
        (len(site.private_kept), "private elements it keeps"),
        (len(site.private_removed), "private elements it removes"),
        (len(site.labels), "kinds of image with burned-in text"),
        (len(site.image_types), "image types that pass the pixel gate"),
    )
    named = [f"- {what}: {count}" for count, what in counts if count]
    return ["The site's recipe has:", "", *named, ""] if named else []


def _rows(rules: RuleTable) -> list[tuple[str, str]]:
    """Return one row per action, listed attributes of Table E.1-1 apart from the others."""
    listed = {row.tag for row in profile_rows()}
    groups: dict[tuple[bool, Action], list[int]] = defaultdict(list)
    for tag, rule in sorted(rules.items()):
        if tag >> 16 > 0x0004 and tag & 0xFFFF:
            groups[tag not in listed, rule.action].append(tag)
    order = list(Action)
    keys = sorted(groups, key=lambda key: (key[0], order.index(key[1])))
    return [(_names(groups[key], is_unlisted=key[0]), key[1].value) for key in keys]


def _names(tags: list[int], *, is_unlisted: bool) -> str:
    where = "not in Table E.1-1" if is_unlisted else "of Table E.1-1"
    names = [keyword_for_tag(tag) for tag in tags]
    if len(names) > _NAMED_AT_MOST or not all(names):
        return f"{len(tags)} attributes {where}"
    return f"{where}: {', '.join(names)}"
