"""The DIMSE services the node speaks beside storage, for the conformance statement; a test compares it with ``net``."""

from typing import NamedTuple

from pydicom.uid import UID
from pynetdicom import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_node.net.contexts import UNCOMPRESSED


class Service(NamedTuple):
    """A SOP class, whether the node is its user and its provider, and what it proposes as a user."""

    sop_class_uid: UID
    is_user: bool
    is_provider: bool
    syntaxes: str


_EXPLICIT = ", ".join(UID(uid).name for uid in UNCOMPRESSED)
_TOOLKIT = ", ".join(UID(uid).name for uid in DEFAULT_TRANSFER_SYNTAXES)

SERVICES = (
    Service(Verification, True, True, _TOOLKIT),
    Service(StorageCommitmentPushModel, True, True, _EXPLICIT),
    Service(StudyRootQueryRetrieveInformationModelFind, True, False, _TOOLKIT),
    Service(StudyRootQueryRetrieveInformationModelGet, True, False, _TOOLKIT),
    Service(StudyRootQueryRetrieveInformationModelMove, True, False, _TOOLKIT),
)
"""Every one but storage."""
