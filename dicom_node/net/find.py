"""Asking a peer who a study belongs to now: study-level C-FIND (PS3.4 annex C.4.1, Study Root)."""

from dataclasses import dataclass, field

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_node.errors import DeliveryRefused, PeerUnavailable
from dicom_node.net.scu import Address, associate
from dicom_node.net.statuses import is_temporary

PENDING = (0xFF00, 0xFF01)
"""A match follows; 0xFF01: some optional keys were not supported (PS3.4 C.4.1.1.4)."""
IDENTITY_KEYS = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """Whom a study belongs to, as a header or a peer says; empty where it says nothing."""

    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)


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
    model = StudyRootQueryRetrieveInformationModelFind
    with associate(address, [build_context(Verification), build_context(model)]) as assoc:
        if not any(context.abstract_syntax == model for context in assoc.accepted_contexts):
            return None
        return _matches(assoc, address, _query(study_instance_uid))


def _query(study_instance_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_instance_uid
    for keyword in IDENTITY_KEYS:
        setattr(query, keyword, "")
    return query


def _matches(assoc: Association, address: Address, query: Dataset) -> list[StudyIdentity]:
    matches = []
    for status, identifier in assoc.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
        if "Status" not in status:
            raise PeerUnavailable(f"{address.ae_title} broke off a C-FIND.")
        code = int(status.Status)
        if code in PENDING:
            matches.append(_identity(identifier, address, str(query.StudyInstanceUID)))
        elif is_temporary(code):
            raise PeerUnavailable(f"{address.ae_title} answered C-FIND with 0x{code:04X}, out of resources.")
        elif code != 0:
            raise DeliveryRefused(f"{address.ae_title} answered C-FIND with 0x{code:04X}; nothing was sent.")
    return [match for match in matches if match is not None]


def _identity(identifier: Dataset | None, address: Address, study_instance_uid: str) -> StudyIdentity | None:
    """Read a match; one for another study, as a peer that ignores the key gives, is none."""
    if identifier is None:
        raise PeerUnavailable(f"{address.ae_title} answered C-FIND with a match that cannot be read.")
    try:
        if str(identifier.get("StudyInstanceUID", "")) != study_instance_uid:
            return None
        return identity_of_header(identifier)
    except Exception as error:  # noqa: BLE001 - hostile bytes fail in any way; the kind is all that may be said
        raise DeliveryRefused(
            f"{address.ae_title} answered C-FIND with values that cannot be read ({type(error).__name__})."
        ) from None


def identity_of_header(header: Dataset) -> StudyIdentity:
    """Read the four attributes that are compared."""
    return StudyIdentity(*(str(header.get(keyword) or "").replace("\x00", "").strip() for keyword in IDENTITY_KEYS))
