"""Asking a peer by C-FIND which instances of a series it holds (IMAGE level, Study Root; PS3.4 C.6.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_node.errors import DeliveryRefused, PeerUnavailable
from dicom_node.net.outcomes import outcome_of
from dicom_node.net.scu import Address, associate

PENDING = (0xFF00, 0xFF01)
MAX_MATCHES = 10_000
"""In a series of ours there are a few; a peer that never ends its answer is left."""


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """Where an instance stands: the unique keys of the three levels (PS3.4 C.6.2.1)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def held_by(address: Address, keys: Sequence[InstanceKey]) -> set[str]:
    """Return which of these instances a peer says it holds; one query a series.

    Returns
    -------
    set of str
        SOP Instance UIDs.

    Raises
    ------
    PeerUnavailable
        When the peer cannot be reached, breaks off, or is out of resources: ask again later.
    DeliveryRefused
        When it offers no C-FIND, or answers with a failure.
    """
    model = StudyRootQueryRetrieveInformationModelFind
    series = sorted({(key.study_instance_uid, key.series_instance_uid) for key in keys})
    found: set[str] = set()
    with associate(address, [build_context(Verification), build_context(model)]) as assoc:
        if not any(context.abstract_syntax == model for context in assoc.accepted_contexts):
            raise DeliveryRefused(
                f"{address.ae_title} offers no C-FIND, so that nobody can check what it holds. Switch the check off."
            )
        for study_instance_uid, series_instance_uid in series:
            found |= _instances(assoc, address, study_instance_uid, series_instance_uid)
    return found & {key.sop_instance_uid for key in keys}


def _instances(assoc: Association, address: Address, study_instance_uid: str, series_instance_uid: str) -> set[str]:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = series_instance_uid
    query.SOPInstanceUID = ""
    try:
        answers = assoc.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
    except RuntimeError:
        raise PeerUnavailable(f"{address.ae_title} ended the association.") from None
    found: set[str] = set()
    answer_count = 0
    for status, identifier in answers:
        if "Status" not in status:
            raise PeerUnavailable(f"{address.ae_title} broke off a C-FIND.")
        code = int(status.Status)
        if code in PENDING:
            found.add(_uid(identifier))
            answer_count += 1
            if answer_count > MAX_MATCHES:
                assoc.abort()
                raise DeliveryRefused(f"{address.ae_title} answered C-FIND with more than {MAX_MATCHES} matches.")
        elif outcome_of(code) == "later":
            raise PeerUnavailable(f"{address.ae_title} answered C-FIND with 0x{code:04X}, out of resources.")
        elif code != 0:
            raise DeliveryRefused(f"{address.ae_title} answered C-FIND with 0x{code:04X}.")
    return found


def _uid(identifier: Dataset | None) -> str:
    """Read a match; hostile bytes are as good as no match."""
    try:
        return "" if identifier is None else str(identifier.get("SOPInstanceUID", "")).strip("\x00 ")
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        return ""
