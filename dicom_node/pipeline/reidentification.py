"""Back to the patient: objects from the research side, and the last look at the PACS before anything is delivered.

Hospital side only. An object crosses back when this node made it, when every UID it holds is the hospital's, ours or
the standard's, and when the PACS says today what the map says. Anything else is refused with a cause.
"""

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from deid_rules.errors import DeidError
from deid_rules.reidentify import identity_of, reidentify
from dicom_node.errors import DeliveryRefused
from dicom_node.identity.causes import NotReidentifiable
from dicom_node.identity.map import IdentityMap
from dicom_node.identity.person import Person, person_from_header
from dicom_node.jobs.failure import describe_failure
from dicom_node.net.find import StudyIdentity, identity_of_header

OWN_MANUFACTURER = "OsteoNode"
OWN_MODEL = "osteonode"
"""The Enhanced General Equipment of every object this node makes (sr_export)."""

Find = Callable[[str], list[StudyIdentity] | None]
"""Study Instance UID -> the matches of a study-level C-FIND; None when the peer does not answer C-FIND."""


def reidentify_object(
    clean: Dataset, header: Dataset, identities: IdentityMap, is_ours: Callable[[str], bool]
) -> Dataset:
    """Give an object this node made of clean images back to its patient.

    Parameters
    ----------
    clean
        The object, in the UIDs, dates and pseudonym of the research side.
    header
        Any original instance of the study, as the hospital side keeps it; it says what the map does not hold, such as
        the accession number.
    identities
        The identity map.
    is_ours
        Whether this node gave out a UID: those of its own series, instances and devices.

    Returns
    -------
    Dataset
        A new object under the original patient and study.

    Raises
    ------
    NotReidentifiable
        When the node did not make it; when patient or study are not the map's, or not the header's; when it holds a UID
        that nobody knows, or one of another patient.
    """
    _require_own(clean, is_ours)
    pseudonym = str(clean.get("PatientID", ""))
    person, subject = identities.person(pseudonym), identities.known_subject(pseudonym)
    if person is None or subject is None:
        raise NotReidentifiable("The object's patient is no pseudonym of the identity map.")

    def original_uid(clean_uid: str) -> str | None:
        return identities.original_uid(clean_uid, pseudonym)

    study = original_uid(str(clean.get("StudyInstanceUID", "")))
    if study is None:
        raise NotReidentifiable("The object's study is not one of its patient in the identity map.")
    _require_same(header, person, study)
    try:
        return reidentify(clean, identity_of(header), original_uid, is_ours, subject.date_offset_days)
    except DeidError as error:
        raise NotReidentifiable(f"The object cannot be re-identified: {error}.") from None
    except Exception as error:  # noqa: BLE001 - fail closed: what cannot be restored is not sent
        raise NotReidentifiable(f"The object cannot be re-identified ({describe_failure(error)}).") from None


def _require_own(clean: Dataset, is_ours: Callable[[str], bool]) -> None:
    """Refuse an object of other equipment, or whose instance UID this node did not give out."""
    equipment = (str(clean.get("Manufacturer", "")), str(clean.get("ManufacturerModelName", "")))
    if equipment != (OWN_MANUFACTURER, OWN_MODEL) or not is_ours(str(clean.get("SOPInstanceUID", ""))):
        raise NotReidentifiable("The object was not made by this node.")


def _require_same(header: Dataset, person: Person, study_instance_uid: str) -> None:
    """Refuse an original header of another patient or study than the map says."""
    if str(header.get("StudyInstanceUID", "")) != study_instance_uid:
        raise NotReidentifiable("The original header is of another study than the object.")
    found = person_from_header(header)
    same_number = _text(found.patient_id) == _text(person.patient_id) and _text(found.issuer) == _text(person.issuer)
    if not same_number:
        raise NotReidentifiable("The original header is of another patient than the identity map says.")


def check_identity_with_pacs(
    find: Find, expected: StudyIdentity, study_instance_uid: str, *, must_know_study: bool = True
) -> bool:
    """Compare an identity with what the PACS says of the study now.

    Parameters
    ----------
    find
        Asks the PACS.
    expected
        The identity the objects carry.
    study_instance_uid
        The original study.
    must_know_study
        Whether a peer that does not know the study stops delivery: true for the archive the study came from.

    Returns
    -------
    bool
        Whether the peer confirmed the identity; False when it does not answer C-FIND or need not know the study.

    Raises
    ------
    DeliveryRefused
        When patient ID, issuer, name or birth date differ, or the study is unknown. The sentence names the attribute,
        never a value. Issuer and birth date, which a peer need not return (PS3.4 table C.6-5), are compared where it
        does.
    """
    matches = find(study_instance_uid)
    if matches is None:
        return False
    if not matches:
        if must_know_study:
            raise DeliveryRefused(
                "The peer does not know the study any more; nothing was sent. Find out where it went, then try again."
            )
        return False
    for match in matches:
        differing = differences(expected, match)
        if differing:
            raise DeliveryRefused(
                f"The study has another {' and another '.join(differing)} in the PACS than when it was analysed; "
                "nothing was sent. Send the corrected study to the node again."
            )
    return True


def differences(expected: StudyIdentity, found: StudyIdentity) -> list[str]:
    """Return the attributes that differ, in words."""
    checks = (
        ("patient ID (0010,0020)", _text(expected.patient_id) != _text(found.patient_id)),
        ("issuer (0010,0021)", bool(found.issuer) and _text(expected.issuer) != _text(found.issuer)),
        ("patient's name (0010,0010)", not _is_same_name(expected.name, found.name)),
        ("birth date (0010,0030)", bool(found.birth_date) and expected.birth_date != found.birth_date),
    )
    return [words for words, differs in checks if differs]


def _text(value: str) -> str:
    return unicodedata.normalize("NFKC", value).strip().casefold()


def _is_same_name(expected: str, found: str) -> bool:
    """Compare the representations that both names have; one without any is another name than one with."""
    pairs = list(zip(_representations(expected), _representations(found), strict=False))
    shared = [(one, other) for one, other in pairs if one and other]
    if not shared:
        return not any(_representations(expected)) and not any(_representations(found))
    return all(one == other for one, other in shared)


def _representations(name: str) -> list[str]:
    """Return alphabetic, ideographic and phonetic representation, without the separators of empty components."""
    return ["^".join(part.strip() for part in _text(group).split("^")).rstrip("^") for group in name.split("=")]


def refuse_changed_identity(find: Find, paths: Sequence[Path], *, must_know_study: bool) -> bool:
    """Ask a peer about every study of the files before they are sent to it.

    Parameters
    ----------
    find
        Asks the peer.
    paths
        DICOM files under original headers.
    must_know_study
        As for `check_identity_with_pacs`.

    Returns
    -------
    bool
        Whether the peer confirmed every study.

    Raises
    ------
    PeerUnavailable
        When the peer cannot be asked now: try again later.
    DeliveryRefused
        As `check_identity_with_pacs`, or when the files of one study disagree.
    """
    expected: dict[str, StudyIdentity] = {}
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        identity = identity_of_header(header)
        if expected.setdefault(str(header.StudyInstanceUID), identity) != identity:
            raise DeliveryRefused("The result objects name several identities for one study; nothing was sent.")
    confirmed = [
        check_identity_with_pacs(find, identity, study_instance_uid, must_know_study=must_know_study)
        for study_instance_uid, identity in expected.items()
    ]
    return all(confirmed)
