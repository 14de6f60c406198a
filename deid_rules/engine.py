"""De-identify one dataset in one recursive pass: look every element up once, touch only what changes.

PS3.15 Annex E. The input is never changed; the output shares the bytes of kept elements with it. Elements
that are kept stay encoded as they came, which is what makes the pass fast and leaves foreign character
sets whole.
"""

from functools import lru_cache
from types import MappingProxyType

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian
from pydicom.valuerep import VR

from deid_rules import dates
from deid_rules.actions import HANDLERS, Handler, Pass
from deid_rules.elements import Element, elements_of, made, opened_items, own_copy, small_number, text_of
from deid_rules.errors import (
    MissingIdentifier,
    MissingPatientId,
    NestedTooDeep,
    UnsupportedObject,
)
from deid_rules.markers import markers, new_file_meta, transfer_syntax_of
from deid_rules.profile import Action, Profile, Rule, compile_rules
from deid_rules.report import DeidReport, Level, Subject, UidPair
from deid_rules.residual import echo_patterns, identifiers_of
from deid_rules.rules import VERBATIM
from deid_rules.site import PrivateElement
from deid_rules.uids import UidMapper

MAX_DEPTH = 64
"""Real objects nest fewer than ten levels; a hostile one could exhaust the stack."""

SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_FRAME_OF_REFERENCE, _PATIENT_ID, _AGE = 0x00200052, 0x00100020, 0x00101010
_DICOMDIR = "1.2.840.10008.1.3.10"
_DIRECTORY_RECORDS = 0x00041220
_LEVELS: tuple[tuple[int, Level], ...] = (
    (_STUDY, "study"),
    (_SERIES, "series"),
    (_FRAME_OF_REFERENCE, "frame_of_reference"),
    (_SOP_INSTANCE, "instance"),
)
KEPT_PRIVATE = "kept private element"
_Step = tuple[Handler | None, Rule, frozenset[str | None], str]
_Program = dict[int, _Step]


def deidentify(dataset: Dataset, subject: Subject, profile: Profile, uids: UidMapper) -> tuple[Dataset, DeidReport]:
    """De-identify one DICOM object.

    Parameters
    ----------
    dataset
        A pydicom dataset, read from a file or made in memory. It is not changed.
    subject
        Pseudonym and date offset of the patient it belongs to.
    profile
        Options in force.
    uids
        Keyed mapping of the project.

    Returns
    -------
    clean : Dataset
        With ``file_meta`` and an empty preamble, ready for ``save_as(path, enforce_file_format=True)``.
    report : DeidReport
        Counts and the pairs of UIDs. Belongs to the hospital side.

    Raises
    ------
    MissingPatientId
        Nobody to assign the object to.
    MissingIdentifier
        SOP class, SOP instance, study or series UID is missing.
    UnreadableElement
        A sequence cannot be decoded.
    UnsupportedObject
        A DICOMDIR.
    NestedTooDeep
        More than `MAX_DEPTH` levels.
    """
    originals = check_identifiers(dataset)
    run = _start(dataset, subject, profile, uids)
    top, nested = _programs(profile, originals[SOP_CLASS])
    clean = _clean_dataset(run, dataset, top, nested, 0)
    _mark(clean, run, keeps_age=top[_AGE][1].action is Action.AGE)
    clean.file_meta = new_file_meta(dataset, profile, text_of(clean, SOP_CLASS), text_of(clean, _SOP_INSTANCE))
    clean.preamble = bytes(128)
    pairs = tuple(UidPair(originals[tag], text_of(clean, tag), level) for tag, level in _LEVELS if originals.get(tag))
    return clean, DeidReport(MappingProxyType(run.counts), pairs)


def check_identifiers(dataset: Dataset) -> dict[int, str]:
    """Return the identifiers of the source by tag, checked to be there."""
    if _DIRECTORY_RECORDS in dataset or text_of(dataset, SOP_CLASS) == _DICOMDIR:
        raise UnsupportedObject("DICOMDIR")
    if not text_of(dataset, _PATIENT_ID):
        raise MissingPatientId
    found = {tag: text_of(dataset, tag) for tag in (SOP_CLASS, *(tag for tag, _ in _LEVELS))}
    for tag, uid in found.items():
        if not uid and tag != _FRAME_OF_REFERENCE:
            raise MissingIdentifier(tag)
    return found


def _start(dataset: Dataset, subject: Subject, profile: Profile, uids: UidMapper) -> Pass:
    syntax = transfer_syntax_of(dataset)
    little = dataset.original_encoding[1]
    return Pass(
        dataset=dataset,
        subject=subject,
        profile=profile,
        uids=uids,
        little_endian=syntax != ExplicitVRBigEndian if little is None else little,
        native_pixels=not syntax.is_compressed,
        known=echo_patterns(identifiers_of(dataset)),
        safe_private=profile.safe_private,
    )


@lru_cache(maxsize=32)
def _programs(profile: Profile, sop_class_uid: str) -> tuple[_Program, _Program]:
    """Bind every rule to its function once."""
    top, nested = compile_rules(profile, sop_class_uid)
    return _program(top), _program(nested)


def _program(rules: dict[int, Rule]) -> _Program:
    return {tag: _step(rule) for tag, rule in rules.items()}


@lru_cache(maxsize=1024)
def _step(rule: Rule) -> _Step:
    """Return what the engine needs of a rule; the thousands of tags share a few hundred."""
    return _handler(rule), rule, _accepted_vrs(rule), rule.label


def _handler(rule: Rule) -> Handler | None:
    return None if rule.action is Action.SEQUENCE else HANDLERS[rule.action]


def _accepted_vrs(rule: Rule) -> frozenset[str | None]:
    """Return the VRs an element may come with; empty where any will do, as its value is not passed on."""
    if rule.action is Action.SEQUENCE:
        return frozenset({None, "SQ", "UN"})
    if rule.action not in VERBATIM:
        return frozenset()
    return frozenset({None, rule.vr, *rule.vr.split(" or "), VR(rule.vr)})


def _clean_dataset(run: Pass, dataset: Dataset, program: _Program, nested: _Program, depth: int) -> Dataset:
    """Clean one dataset or item and everything below it."""
    if depth > MAX_DEPTH:
        raise NestedTooDeep(MAX_DEPTH)
    counts = run.counts
    explicit = dataset.original_encoding[0] is False
    kept: dict[int, Element] = {}
    for tag, element in elements_of(dataset):
        step = program.get(tag)
        if step is None:
            label = unknown_label(run.safe_private, dataset, tag)
            result, vr = (element if label is KEPT_PRIVATE else None), "UN"
        else:
            handler, rule, accepted, label = step
            vr = rule.vr
            if accepted and element.VR not in accepted:
                result = _with_dictionary_vr(run, rule, element, handler)
            elif handler is None:
                result = _sequence(run, dataset, element, nested, depth)
            else:
                result = handler(run, rule, element)
        counts[label] = counts.get(label, 0) + 1
        if result is not None:
            result = result if result is not element or element.is_raw else own_copy(element)
            kept[element.tag] = _with_vr(result, run.dataset, vr) if explicit and result.VR is None else result
    return _dataset_like(dataset, kept)


def _dataset_like(source: Dataset, elements: dict[int, Element]) -> Dataset:
    """Return a dataset of these elements that pydicom may write without decoding them."""
    clean = Dataset(elements, parent_encoding=source.original_character_set)
    implicit, little = source.original_encoding
    clean.set_original_encoding(implicit, little, source.original_character_set)
    return clean


def _sequence(run: Pass, dataset: Dataset, element: Element, nested: _Program, depth: int) -> Element:
    """Clean every item of a sequence."""
    items = opened_items(dataset, element)
    clean = [_clean_dataset(run, item, nested, nested, depth + 1) for item in items]
    return DataElement(element.tag, "SQ", Sequence(clean))


def _with_dictionary_vr(run: Pass, rule: Rule, element: Element, handler: Handler | None) -> Element | None:
    """Keep an element of VR UN under the VR of the dictionary; any other wrong VR is a fault."""
    is_encoded = element.value is None or isinstance(element.value, bytes)
    if element.VR != "UN" or handler is None or not is_encoded or not run.little_endian:
        return run.fault(element)
    return handler(run, rule, made(int(element.tag), _one_vr(run.dataset, rule.vr), element.value or b""))


def _with_vr(element: Element, dataset: Dataset, vr: str) -> Element:
    """Give an element read without VR the dictionary's one, as explicit transfer syntaxes write it."""
    return element._replace(VR=_one_vr(dataset, vr))


def _one_vr(dataset: Dataset, vr: str) -> str:
    """Choose between two VRs as PS3.5 Annex A does for little endian: by the sign of pixels, else OW."""
    if vr == "US or SS":
        return "SS" if small_number(dataset, 0x00280103) == 1 else "US"
    return vr[-2:]


def unknown_label(safe_private: frozenset[PrivateElement], dataset: Dataset, tag: int) -> str:
    """Say what becomes of a tag without a rule: all are removed but private ones on the site's list."""
    group = tag >> 16
    if not tag & 0xFFFF:
        return "removed (group length)"
    if group % 2:
        return KEPT_PRIVATE if safe_private and _is_safe_private(safe_private, dataset, tag) else "removed (private)"
    for low, name in ((0x5000, "curve"), (0x6000, "overlay")):
        if low <= group <= low + 0xFF:
            return f"removed ({name})"
    return "removed (unknown tag)"


def _is_safe_private(listed: frozenset[PrivateElement], dataset: Dataset, tag: int) -> bool:
    """Tell whether a private element, or the creator that reserves its block, is on the site's list."""
    group, low = tag >> 16, tag & 0xFFFF
    if 0x10 <= low <= 0xFF:
        creator = text_of(dataset, tag)
        return any((group, creator) == (g, c) for g, c, _ in listed)
    creator = text_of(dataset, group << 16 | low >> 8)
    return (group, creator, low & 0xFF) in listed


def _mark(clean: Dataset, run: Pass, *, keeps_age: bool) -> None:
    """Write the method attributes, and the age where the source has only a birth date."""
    implicit, little = run.dataset.original_encoding
    for element in markers(run.profile, bool(implicit), little is not False):
        clean[element.tag] = element
    for tag, rule in run.profile.site_rules.additions:
        clean[tag] = HANDLERS[rule.action](run, rule, made(tag, rule.vr, b""))
        run.count(rule.label)
    if keeps_age and not text_of(clean, _AGE):
        born, studied = (text_of(run.dataset, tag) for tag in (0x00100030, 0x00080020))
        years = dates.age_in_years(born, studied)
        if years is not None:
            cap = run.profile.age_cap_years
            years = years if cap is None else min(years, cap)
            clean[_AGE] = made(_AGE, "AS", f"{min(years, 999):03d}Y".encode("ascii"))
            run.count("age computed from birth date")
