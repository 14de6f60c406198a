"""The way back: put the patient's identity into a result that was made from clean images.

Hospital side only, and only for objects this node made: whoever calls it holds the identity map, and vouches by
``is_ours`` for the UIDs the node gave. It fails closed: a UID that is neither mapped, nor ours, nor registered
stops the object. PS3.15 E.1.2; nested references are rewritten like the others.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, fields

from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

from deid_rules import dates
from deid_rules.elements import DECODING_ERRORS, ascii_text, opened_items, text_of
from deid_rules.errors import NestedTooDeep, NotDeidentified, UnmappedUid, UnreadableElement
from deid_rules.rules import MARKERS
from deid_rules.texts import decode, encodings_of
from deid_rules.uids import CODING_SCHEMES, is_registered

MAX_DEPTH = 64
_SOP_INSTANCE, _PATIENT_NAME, _PATIENT_ID = 0x00080018, 0x00100010, 0x00100020
_IDENTITY_REMOVED, _DATES_MODIFIED = 0x00120062, 0x00280303
_SHIFTED = {"DA": dates.shift_date, "DT": dates.shift_datetime}
_UNICODE = "ISO_IR 192"

OF_THE_MAKING = frozenset(
    keyword_dict[keyword]
    for keyword in (
        "InstanceCreationDate",
        "SeriesDate",
        "ContentDate",
        "PresentationCreationDate",
        "ContributionDateTime",
        "ObservationDateTime",
    )
)
"""Dates at which an object of the node's own was made: true already, as nothing has shifted them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Attributes of the patient and the study to restore. A repr shows none of them.

    The two without a default must be there. Of the others, None removes what the object has, and the empty text
    writes it empty, as Type 2 attributes need.

    Attributes
    ----------
    patient_id, patient_name
        Patient Module, PS3.3 C.7.1.1; a name with its representations joined by ``=``.
    issuer_of_patient_id, patient_birth_date, patient_birth_time, patient_sex, patient_age
        The same, and Patient Study Module, C.7.2.2.
    study_date, study_time, study_id, accession_number, referring_physician_name, study_description
        General Study Module, PS3.3 C.7.2.1. Dates are the true ones.
    """

    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    issuer_of_patient_id: str | None = field(default=None, repr=False)
    patient_birth_date: str | None = field(default="", repr=False)
    patient_birth_time: str | None = field(default=None, repr=False)
    patient_sex: str | None = field(default="", repr=False)
    patient_age: str | None = field(default=None, repr=False)
    study_date: str | None = field(default="", repr=False)
    study_time: str | None = field(default="", repr=False)
    study_id: str | None = field(default="", repr=False)
    accession_number: str | None = field(default="", repr=False)
    referring_physician_name: str | None = field(default="", repr=False)
    study_description: str | None = field(default=None, repr=False)


_TAGS = {
    one.name: keyword_dict["".join(part.capitalize() for part in one.name.split("_")).replace("Id", "ID")]
    for one in fields(Identity)
}
"""Tag of every attribute of an identity, by its name."""


def identity_of(dataset: Dataset) -> Identity:
    """Read the identity from an original header, or from the PACS's answer to a query.

    Raises
    ------
    UnreadableElement
        The header has no Patient ID.
    """
    if not text_of(dataset, _PATIENT_ID):
        raise UnreadableElement(_PATIENT_ID, "an identity")
    encodings = encodings_of(dataset)
    found: dict[str, str | None] = {}
    for name, tag in _TAGS.items():
        element = dataset.get_item(tag) if tag in dataset else None
        if element is None:
            found[name] = None
        elif isinstance(element.value, bytes):
            found[name] = decode(element.value, encodings).strip("\0 ")
        else:
            found[name] = "" if element.value is None else str(element.value).strip("\0 ")
    return Identity(**{**found, "patient_name": found["patient_name"] or ""})  # type: ignore[arg-type]  # both are text


def reidentify(
    dataset: Dataset,
    identity: Identity,
    original_uid: Callable[[str], str | None],
    is_ours: Callable[[str], bool],
    date_offset_days: int,
) -> Dataset:
    """Restore the identity of a de-identified object.

    Parameters
    ----------
    dataset
        A result made from clean images. It is not changed.
    identity
        Of the patient and the study.
    original_uid
        The original of a clean UID, None where the map has none.
    is_ours
        Whether the node gave this UID to an object of its own.
    date_offset_days
        What the de-identification added to every date of this patient; it is taken off again. Dates at which an
        object of our own was made (`OF_THE_MAKING`) are true already and stay, and so does every date where
        (0028,0303) says UNMODIFIED.

    Returns
    -------
    Dataset
        With ``file_meta`` and an empty preamble, Patient Identity Removed (0012,0062) set to NO, and without the
        attributes of the de-identification's method.

    Raises
    ------
    NotDeidentified
        The dataset does not say that its identity was removed.
    UnmappedUid
        A UID at any depth is neither mapped, ours, nor registered.
    UnreadableElement
        A sequence or a text cannot be decoded.
    """
    if text_of(dataset, _IDENTITY_REMOVED) != "YES":
        raise NotDeidentified
    restored = _decoded(dataset)
    way = _WayBack(
        original_uid,
        is_ours,
        0 if text_of(dataset, _DATES_MODIFIED) == "UNMODIFIED" else -date_offset_days,
        is_ours(text_of(dataset, _SOP_INSTANCE)),
        text_of(dataset, _PATIENT_ID),
    )
    _restore(restored, way, identity, 0)
    _write_identity(restored, identity)
    _drop_markers(restored)
    _renew_meta(restored)
    return restored


@dataclass(frozen=True, slots=True)
class _WayBack:
    """What the walk needs to know."""

    original_uid: Callable[[str], str | None]
    is_ours: Callable[[str], bool]
    days: int
    is_own_object: bool
    pseudonym: str = field(repr=False)

    def uid(self, tag: int, uid: str) -> str:
        """Return the UID to write."""
        if not uid or is_registered(uid) or uid in CODING_SCHEMES:
            return uid
        original = self.original_uid(uid)
        if original is None and not self.is_ours(uid):
            raise UnmappedUid(tag)
        return uid if original is None else original


def _decoded(dataset: Dataset) -> Dataset:
    """Copy a dataset with every text decoded, so that its character set may be changed."""
    copied = deepcopy(dataset)
    try:
        copied.decode()
    except DECODING_ERRORS:
        raise UnreadableElement(0x00080005, "text") from None
    return copied


def _restore(dataset: Dataset, way: _WayBack, identity: Identity, depth: int) -> None:
    """Rewrite UIDs, dates and the pseudonym, here and below."""
    if depth > MAX_DEPTH:
        raise NestedTooDeep(MAX_DEPTH)
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if element.VR == "SQ":
            for item in opened_items(dataset, element):
                _restore(item, way, identity, depth + 1)
        elif element.VR == "UI":
            _rewrite(dataset, element, [way.uid(int(tag), uid) for uid in _values(element)])
        elif element.VR in _SHIFTED and not (way.is_own_object and int(tag) in OF_THE_MAKING):
            shift = _SHIFTED[element.VR]
            _rewrite(dataset, element, [shift(value, way.days) for value in _values(element)])
        elif int(tag) in (_PATIENT_ID, _PATIENT_NAME) and ascii_text(element) == way.pseudonym:
            _rewrite(dataset, element, [identity.patient_id if int(tag) == _PATIENT_ID else identity.patient_name])


def _values(element: DataElement) -> list[str]:
    return [value.strip("\0 ") for value in ascii_text(element).split("\\")]


def _rewrite(dataset: Dataset, element: DataElement, values: list[str]) -> None:
    value = "\\".join(values)
    dataset[element.tag] = DataElement(element.tag, element.VR, value, validation_mode=0)


def _write_identity(dataset: Dataset, identity: Identity) -> None:
    """Write the identity, in Unicode where the object's own character set has not all its letters."""
    texts = {tag: getattr(identity, name) for name, tag in _TAGS.items()}
    if any(text and not text.isascii() for text in texts.values()):
        dataset.SpecificCharacterSet = _UNICODE
    for tag, text in texts.items():
        if text is not None:
            dataset[tag] = DataElement(tag, dictionary_VR(tag), text, validation_mode=0)
        elif tag in dataset:
            del dataset[tag]


def _drop_markers(dataset: Dataset) -> None:
    for keyword in MARKERS:
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.PatientIdentityRemoved = "NO"


def _renew_meta(dataset: Dataset) -> None:
    """Bring file meta information in step with the restored instance."""
    dataset.preamble = bytes(128)
    meta = getattr(dataset, "file_meta", None)
    if meta is not None:
        meta.MediaStorageSOPInstanceUID = UID(text_of(dataset, _SOP_INSTANCE))
