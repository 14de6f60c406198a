"""Asking a peer by C-FIND: who a study belongs to, which studies a patient has, what is in a study.

Study Root (PS3.4 annex C.4.1). Keys are sent as they are, so callers refuse wildcards (`sources.StudyQuery`); what a
peer answers is read as text and compared, never believed.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_node.errors import DeliveryRefused, PeerUnavailable, RetrievalRefused
from dicom_node.net.scu import Address, associate
from dicom_node.net.sources import MAX_MATCHES, Inventory, StudyMatch, StudyQuery, answering
from dicom_node.net.statuses import is_temporary
from dicom_node.uids import is_uid

PENDING = (0xFF00, 0xFF01)
"""A match follows; 0xFF01: some optional keys were not supported (PS3.4 C.4.1.1.4)."""
IDENTITY_KEYS = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
STUDY_KEYS = (
    "PatientID",
    "AccessionNumber",
    "StudyDate",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
MAX_ANSWERS = 20_000
"""Answers read to one query: more than the images of any study [m assumption]; a peer that never ends is left."""


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """Whom a study belongs to, as a header or a peer says; empty where it says nothing."""

    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)


class NoFind(RetrievalRefused):
    """A peer does not offer C-FIND."""


def find_study(address: Address, study_instance_uid: str) -> list[StudyIdentity] | None:
    """Ask a peer for the identity of a study.

    Parameters
    ----------
    address
        The peer.
    study_instance_uid
        The original study.

    Returns
    -------
    list of StudyIdentity or None
        One per match, so usually one, and none where the peer does not know the study. None when the peer does not
        offer C-FIND.

    Raises
    ------
    PeerUnavailable
        When the peer cannot be reached, breaks off, or is out of resources: try again later.
    DeliveryRefused
        When it answers with a failure.
    """
    query = _query("STUDY", IDENTITY_KEYS, StudyInstanceUID=study_instance_uid)
    try:
        with _finding(address) as assoc:
            found = list(_answers(assoc, address, query))
    except NoFind:
        return None
    except RetrievalRefused as error:
        raise DeliveryRefused(f"{error} Nothing was sent.") from None
    mine = [match for match in found if text_of(match, "StudyInstanceUID") == study_instance_uid]
    try:
        return [identity_of_header(match) for match in mine]
    except Exception as error:  # noqa: BLE001 - hostile bytes fail in any way; the kind is all that may be said
        raise DeliveryRefused(
            f"{address.ae_title} answered C-FIND with values that cannot be read ({type(error).__name__})."
        ) from None


def find_studies(address: Address, query: StudyQuery) -> list[StudyMatch]:
    """Ask a peer for the studies of a patient, or with an accession number.

    Modality and dates are compared here: peers differ in what they match by. Where the peer does not say what
    modalities a study has, its series are asked for.

    Raises
    ------
    PeerUnavailable
        When the peer cannot be reached, breaks off, or is out of resources: try again later.
    RetrievalRefused
        When it offers no C-FIND, answers with a failure, or with too many studies.
    """
    sought = {"AccessionNumber": query.accession_number} if query.accession_number else {"PatientID": query.patient_id}
    keys = _query("STUDY", STUDY_KEYS, StudyInstanceUID="", StudyDate=query.date_range, **sought)
    with _finding(address) as assoc:
        studies = []
        for answer in _answers(assoc, address, keys):
            studies.append(_study(answer))
            if len(studies) > 10 * MAX_MATCHES:
                raise RetrievalRefused(f"{address.ae_title} answered with too many studies; it may ignore the keys.")
        narrowed = answering(query, studies)
        known = [one if one.modalities else _with_modalities(assoc, address, one) for one in narrowed]
    return answering(query, known)


def list_study(address: Address, study_instance_uid: str) -> Inventory:
    """Ask a peer what a study consists of: its series, and the instances of each.

    Raises
    ------
    PeerUnavailable, RetrievalRefused
        As `find_studies`.
    """
    series: dict[str, frozenset[str]] = {}
    counts: dict[str, int] = {}
    classes: set[str] = set()
    with _finding(address) as assoc:
        for answer in _series(assoc, address, study_instance_uid):
            uid = text_of(answer, "SeriesInstanceUID")
            keys = _query(
                "IMAGE",
                ("SOPClassUID",),
                StudyInstanceUID=study_instance_uid,
                SeriesInstanceUID=uid,
                SOPInstanceUID="",
            )
            images = list(_answers(assoc, address, keys))
            series[uid] = frozenset(filter(None, (text_of(image, "SOPInstanceUID") for image in images)))
            classes |= {text_of(image, "SOPClassUID") for image in images} - {""}
            counts[uid] = len(series[uid]) or _number(answer, "NumberOfSeriesRelatedInstances") or 0
    return Inventory(series, counts, frozenset(classes))


def identity_of_header(header: Dataset) -> StudyIdentity:
    """Read the four attributes that are compared."""
    return StudyIdentity(*(str(header.get(keyword) or "").replace("\x00", "").strip() for keyword in IDENTITY_KEYS))


def text_of(answer: Dataset, keyword: str) -> str:
    """Return a value as text without padding; empty where there is none, or none that can be read."""
    try:
        return str(answer.get(keyword) or "").replace("\x00", "").strip()
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way; what cannot be read is as good as not said
        return ""


@contextmanager
def _finding(address: Address) -> Iterator[Association]:
    """Open an association on which C-FIND can be asked."""
    model = StudyRootQueryRetrieveInformationModelFind
    with associate(address, [build_context(Verification), build_context(model)]) as assoc:
        if not any(context.abstract_syntax == model for context in assoc.accepted_contexts):
            raise NoFind(f"{address.ae_title} does not offer C-FIND (Study Root).")
        yield assoc


def _query(level: str, wanted: Iterable[str], **keys: str) -> Dataset:
    """Make an identifier: universal matching for what is wanted, and the given keys."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    if not all(value.isascii() for value in keys.values()):
        query.SpecificCharacterSet = "ISO_IR 192"
    for keyword in wanted:
        setattr(query, keyword, "")
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _answers(assoc: Association, address: Address, query: Dataset) -> Iterator[Dataset]:
    """Give what a peer answers to one query, on the caller's association."""
    number = 0
    try:
        responses = assoc.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
    except RuntimeError:
        raise PeerUnavailable(f"{address.ae_title} ended the association.") from None
    for status, identifier in responses:
        if "Status" not in status:
            raise PeerUnavailable(f"{address.ae_title} broke off a C-FIND.")
        code = int(status.Status)
        if code in PENDING:
            number += 1
            if identifier is None:
                raise PeerUnavailable(f"{address.ae_title} answered C-FIND with a match that cannot be read.")
            if number > MAX_ANSWERS:
                assoc.abort()
                raise RetrievalRefused(f"{address.ae_title} answered C-FIND with more than {MAX_ANSWERS} matches.")
            yield identifier
        elif is_temporary(code):
            raise PeerUnavailable(f"{address.ae_title} answered C-FIND with 0x{code:04X}, out of resources.")
        elif code != 0:
            raise RetrievalRefused(f"{address.ae_title} answered C-FIND with 0x{code:04X}.")


def _series(assoc: Association, address: Address, study_instance_uid: str) -> list[Dataset]:
    keys = _query(
        "SERIES",
        ("Modality", "NumberOfSeriesRelatedInstances"),
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID="",
    )
    return [one for one in _answers(assoc, address, keys) if is_uid(text_of(one, "SeriesInstanceUID"))]


def _study(answer: Dataset) -> StudyMatch:
    return StudyMatch(
        study_instance_uid=text_of(answer, "StudyInstanceUID"),
        patient_id=text_of(answer, "PatientID"),
        accession_number=text_of(answer, "AccessionNumber"),
        study_date=text_of(answer, "StudyDate"),
        description=text_of(answer, "StudyDescription"),
        modalities=_values(answer, "ModalitiesInStudy"),
        instance_count=_number(answer, "NumberOfStudyRelatedInstances"),
    )


def _with_modalities(assoc: Association, address: Address, match: StudyMatch) -> StudyMatch:
    """Ask the series of a study for what the study's answer did not say."""
    series = _series(assoc, address, match.study_instance_uid)
    numbers = [_number(one, "NumberOfSeriesRelatedInstances") for one in series]
    known = sum(number for number in numbers if number is not None) or None
    modalities = tuple(dict.fromkeys(filter(None, (text_of(one, "Modality") for one in series))))
    return replace(match, modalities=modalities, instance_count=match.instance_count or known)


def _values(answer: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a code string; peers write several as one text too."""
    try:
        value = answer.get(keyword)
        several = [value] if isinstance(value, str) else list(value or ())
        return tuple(part.strip() for one in several for part in str(one).split("\\") if part.strip())
    except Exception:  # noqa: BLE001 - as `text_of`
        return ()


def _number(answer: Dataset, keyword: str) -> int | None:
    text = text_of(answer, keyword)
    return int(text) if text.isascii() and text.isdecimal() else None
