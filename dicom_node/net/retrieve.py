"""Retrieving from a DIMSE peer: C-GET on the same association, or C-MOVE to this node (PS3.4 annex C.4.2, C.4.3).

With C-GET the node is the storage SCP of the association it opened (PS3.7 D.3.3.4), within the 128 contexts that one
can have. With C-MOVE the images come to the node's own receiver, as the PACS's other images do.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydicom import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.errors import PeerUnavailable, RetrievalRefused
from dicom_node.net.contexts import UNCOMPRESSED
from dicom_node.net.find import PENDING, find_studies, list_study
from dicom_node.net.scu import MAX_CONTEXTS, Address, associate
from dicom_node.net.sources import Inventory, Keep, Stopped, StudyMatch, StudyQuery, Tally, Watch
from dicom_node.net.statuses import SUCCESS, describe, is_temporary, status_of
from dicom_node.storage.intake import Arrival

SILENCE_S = 300.0
"""A PACS that fetches from tape is silent for minutes; longer is taken for gone [m assumption]."""
AFTERWARDS_S = 0.1
WARNING = 0xB000
"""Sub-operations complete, one or more failures or warnings (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
CANCELLED = 0xFE00
NO_DESTINATION = 0xA801
"""Move destination unknown (PS3.4 C.4.2.1.5)."""
UNABLE = (0xA701, 0xA702)
"""Out of resources: unable to count matches, or to perform sub-operations."""
SYNTAXES = (
    *UNCOMPRESSED,
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 Lossless
)
"""Proposed for C-GET: how archives keep CT and what lies beside it (PS3.5 annex A). Another one the peer transcodes,
or its sub-operation fails and is counted."""
COMMON_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.88.67",  # X-Ray Radiation Dose SR
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
)
"""Proposed where the peer does not list the SOP classes of a study: what lies beside a CT."""


@dataclass(frozen=True, slots=True)
class DimseSource:
    """A PACS spoken to by DIMSE.

    Attributes
    ----------
    address
        The peer.
    by_move
        C-MOVE to ``address.calling_aet`` instead of C-GET; the peer has to know that AE title.
    """

    address: Address
    by_move: bool

    @property
    def name(self) -> str:
        """Its AE title, for sentences."""
        return self.address.ae_title

    @property
    def is_direct(self) -> bool:
        """C-GET brings the images to the caller, C-MOVE to the node's receiver."""
        return not self.by_move

    def find(self, query: StudyQuery) -> list[StudyMatch]:
        """Return the studies that answer a query, by C-FIND."""
        return find_studies(self.address, query)

    def inventory(self, study_instance_uid: str) -> Inventory:
        """Return what the peer lists of a study, by C-FIND."""
        return list_study(self.address, study_instance_uid)

    def retrieve(self, study_instance_uid: str, series: str, inventory: Inventory, keep: Keep, watch: Watch) -> Tally:
        """Retrieve one series, or the whole study where ``series`` is empty.

        Raises
        ------
        PeerUnavailable
            When the peer cannot be reached, breaks off, or is out of resources: try again later.
        RetrievalRefused
            When it does not offer the service, does not know this node, or refuses.
        Stopped
            When ``keep`` or ``watch`` raised it; any other error of ``keep`` is answered as a status, and its
            sentence is in the tally.
        """
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "SERIES" if series else "STUDY"
        identifier.StudyInstanceUID = study_instance_uid
        if series:
            identifier.SeriesInstanceUID = series
        if self.by_move:
            return _move(self.address, identifier, watch)
        return _get(self.address, identifier, inventory.sop_classes, keep)


def get_contexts(sop_classes: Iterable[str]) -> list[PresentationContext]:
    """Return the contexts for C-GET: the service, and each storage class to be received.

    Each transfer syntax gets a context of its own, so that the peer can send what it holds as it is; where that makes
    more than an association can have, compressed syntaxes share one context for each class, and of more classes than
    fit the last ones are left out.
    """
    classes = sorted(set(sop_classes)) or list(COMMON_CLASSES)
    apart = [build_context(uid, [syntax]) for uid in classes for syntax in SYNTAXES]
    compressed = [syntax for syntax in SYNTAXES if syntax not in UNCOMPRESSED]
    shared = [build_context(uid, list(one)) for uid in classes for one in (UNCOMPRESSED, compressed)]
    model = build_context(StudyRootQueryRetrieveInformationModelGet)
    return [model, *(apart if len(apart) < MAX_CONTEXTS else shared[: MAX_CONTEXTS - 1])]


def _get(address: Address, identifier: Dataset, sop_classes: Iterable[str], keep: Keep) -> Tally:
    """Retrieve by C-GET; every object is durable before it is answered."""
    contexts = get_contexts(sop_classes)
    roles = [build_role(uid, scp_role=True) for uid in dict.fromkeys(str(one.abstract_syntax) for one in contexts[1:])]
    model = StudyRootQueryRetrieveInformationModelGet
    with associate(address, contexts, roles) as assoc:
        accepted = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
        if model not in accepted:
            raise RetrievalRefused(f"{address.ae_title} does not offer C-GET; set it to be retrieved from by C-MOVE.")
        if not any(context.as_scp for context in assoc.accepted_contexts):
            raise RetrievalRefused(f"{address.ae_title} lets this node receive nothing by C-GET; use C-MOVE for it.")
        receiving = _Receiving(assoc, address.ae_title, keep)
        assoc.bind(evt.EVT_C_STORE, receiving.store)
        assoc.dimse_timeout = assoc.network_timeout = SILENCE_S
        return receiving.outcome(lambda: _follow(assoc.send_c_get(identifier, model), address, "C-GET"))


class _Receiving:
    """The storage SCP of one C-GET."""

    def __init__(self, assoc: Association, name: str, keep: Keep) -> None:
        self._assoc = assoc
        self._name = name
        self._keep = keep
        self._stopped: Exception | None = None
        self._sentences: tuple[str, ...] = ()

    def store(self, event: evt.Event) -> int:
        """Keep one object.

        Returns
        -------
        int
            0x0000 when it is durable; otherwise the status of the error, see ``net.statuses``.
        """
        request = event.request
        arrival = Arrival(
            dataset=request.DataSet.getvalue(),
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_aet=self._name,
        )
        try:
            self._keep(arrival)
        except Stopped as stopped:
            self._stopped = stopped
            self._assoc.dimse_timeout = AFTERWARDS_S  # nothing comes any more, and pynetdicom would wait for it
            self._assoc.abort()
            return CANCELLED
        except Exception as error:  # noqa: BLE001 - the boundary: pynetdicom's thread takes a status only
            self._sentences = tuple(dict.fromkeys((*self._sentences, said(error))))[:5]
            return status_of(error)
        return SUCCESS

    def outcome(self, get: Callable[[], Tally]) -> Tally:
        """Run the retrieval; what stopped it comes out as it was raised."""
        try:
            tally = get()
        except PeerUnavailable:
            if self._stopped is not None:
                raise self._stopped from None
            raise
        if self._stopped is not None:
            raise self._stopped
        return tally + Tally(sentences=self._sentences)


def said(error: Exception) -> str:
    """Return an error of the node's own as it is, and only the kind of any other: it may quote a value."""
    return (
        str(error)
        if type(error).__module__.startswith("dicom_node.")
        else f"An image was refused ({type(error).__name__})."
    )


def _move(address: Address, identifier: Dataset, watch: Watch) -> Tally:
    """Retrieve by C-MOVE to this node."""
    model = StudyRootQueryRetrieveInformationModelMove
    with associate(address, [build_context(model)]) as assoc:
        assoc.dimse_timeout = assoc.network_timeout = SILENCE_S
        try:
            return _follow(assoc.send_c_move(identifier, address.calling_aet, model), address, "C-MOVE", watch)
        except Stopped:
            assoc.abort()
            raise


def _follow(
    responses: Iterator[tuple[Dataset, Dataset | None]],
    address: Address,
    service: str,
    watch: Watch = lambda _: None,
) -> Tally:
    """Read the responses of a C-GET or C-MOVE to the end."""
    tally = Tally()
    for status, _ in responses:
        if "Status" not in status:
            raise PeerUnavailable(f"{address.ae_title} broke off a {service}.")
        tally = _tally_of(status)
        code = int(status.Status)
        if code in PENDING:
            watch(tally.completed)
            continue
        if code in (SUCCESS, WARNING):
            break
        if code == NO_DESTINATION:
            raise RetrievalRefused(
                f"{address.ae_title} does not know {address.calling_aet} as a move destination; add it there."
            )
        if is_temporary(code) and not tally.completed:
            raise PeerUnavailable(f"{address.ae_title} answered {service} with 0x{code:04X}, out of resources.")
        if not tally.completed:
            raise RetrievalRefused(f"{address.ae_title} answered {service} with {describe(code)}.")
        return Tally(tally.completed, tally.failed, tally.warned, (f"{service} ended with {describe(code)}.",))
    return tally


def _tally_of(status: Dataset) -> Tally:
    completed, failed, warned = (
        int(status.get(f"NumberOf{kind}Suboperations") or 0) for kind in ("Completed", "Failed", "Warning")
    )
    return Tally(completed, failed, warned)
