"""Hooks around transfers that the node makes itself: sending results, retrieving a study, importing files, jobs.

Each is one line where it happens; what moved is read from the rows that the transfer leaves, so that the audit counts
what is durable.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from pydicom import Dataset

from dicom_node.audit.events import (
    THIS_NODE,
    Event,
    Party,
    StudyInstances,
    application_entity,
    imported,
    instances_accessed,
    instances_received,
    instances_sent,
    query_sent,
    transfer_begun,
)
from dicom_node.audit.message import ParticipantObject
from dicom_node.audit.queries import dicom_query, web_query
from dicom_node.audit.recorder import record
from dicom_node.db.associations import arrived_instances, brought_instances
from dicom_node.db.audit import study_of_job
from dicom_node.db.deliveries import receipted_uids, results_of, unreceipted
from dicom_node.db.models import SR_KINDS, Delivery, Peer, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import DeliveryRefused
from dicom_node.logs import log
from dicom_node.settings import Settings

LOG = log(__name__)
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND."""


def peer_party(peer: Peer) -> Party:
    """Return a configured peer as a party: by AE title, or by the address of its web service."""
    return application_entity(peer.ae_title, peer.host) if peer.kind == "dimse" else Party(peer.name, address=peer.host)


def _tell(databases: Databases, settings: Settings, events: Callable[[], Iterable[Event]]) -> None:
    """Record events; what cannot even be read for them is logged, and what they tell of goes on."""
    try:
        found = list(events())
    except Exception as error:  # noqa: BLE001 - whatever happens to the audit, the transfer must go on
        LOG.error("audit_not_written", error=type(error).__name__)
        return
    record(databases, settings, *found)


@contextmanager
def audited_sending(databases: Databases, settings: Settings, delivery_id: int, peer: Peer) -> Iterator[None]:
    """Tell what is to be sent, then what the peer accepted, and what it refused for good.

    Tries after the first one that fail because the peer is away are not told of: a peer that is away for a week would
    fill the audit.
    """
    sending = _Sending(databases, delivery_id, peer)
    _tell(databases, settings, lambda: sending.begun(is_asked=settings.verify_identity))
    failures: list[str] = []
    try:
        yield
    except Exception as error:
        if sending.is_first or isinstance(error, DeliveryRefused):
            failures.append(str(error))
        raise
    finally:
        _tell(databases, settings, lambda: sending.ended(failures))


class _Sending:
    """One try of a delivery, as its rows say before and after."""

    def __init__(self, databases: Databases, delivery_id: int, peer: Peer) -> None:
        self._databases = databases
        self._delivery_id = delivery_id
        self._peer = peer
        self._destination = peer_party(peer)
        self._study = ""
        self._before: set[str] = set()
        self.is_first = True

    def begun(self, *, is_asked: bool) -> Iterator[Event]:
        """Yield what is told before; ``is_asked``: the peer is asked whose the study is."""
        with transaction(self._databases.hospital) as session:
            delivery = session.get_one(Delivery, self._delivery_id)
            self._study = study_of_job(session, delivery.job_id)
            self._before = receipted_uids(session, self._delivery_id)
            self.is_first = delivery.attempts <= 1
            waiting = _classes(unreceipted(session, delivery, self._peer))
        if self.is_first:
            if is_asked:
                yield query_sent(self._destination, _identity_query(self._peer, self._study))
            yield transfer_begun(THIS_NODE, self._destination, StudyInstances(self._study, waiting))

    def ended(self, failures: list[str]) -> Iterator[Event]:
        """Yield what is told after."""
        with transaction(self._databases.hospital) as session:
            delivery = session.get_one(Delivery, self._delivery_id)
            taken = receipted_uids(session, self._delivery_id)
            results = results_of(session, delivery.job_id, delivery.attempt)
            open_rows = unreceipted(session, delivery, self._peer)
        has_report = any(row.kind in SR_KINDS and row.sop_instance_uid in taken for row in results)
        sent = _classes([row for row in results if row.sop_instance_uid in taken - self._before])
        missing = _classes(
            [row for row in open_rows if row.sop_instance_uid not in taken and not (has_report and row.kind == "sr")]
        )
        if sent:
            yield instances_sent(self._destination, StudyInstances(self._study, sent))
        if failures:
            yield instances_sent(self._destination, StudyInstances(self._study, missing), failures[0])


def _classes(results: list[Result]) -> dict[str, int]:
    return dict(Counter(row.sop_class_uid for row in results))


def _identity_query(peer: Peer, study: str) -> ParticipantObject:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study
    query.PatientID = ""
    return _query(peer, query)


def _query(peer: Peer, query: Dataset) -> ParticipantObject:
    if peer.kind == "dimse":
        return dicom_query(FIND, query)
    return web_query("/studies", "&".join(f"{element.keyword}={element.value}" for element in query))


def tell_of_search(
    databases: Databases, settings: Settings, peers: list[Peer], *, patient_id: str, accession_number: str
) -> None:
    """Tell that peers are asked for a patient's studies; which keys had a value is told, not the values."""
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.PatientID, query.AccessionNumber, query.StudyInstanceUID = patient_id, accession_number, ""
    record(databases, settings, *(query_sent(peer_party(peer), _query(peer, query)) for peer in peers))


@contextmanager
def audited_retrieval(
    databases: Databases, settings: Settings, peer: Peer, study_instance_uid: str, association_id: str
) -> Iterator[None]:
    """Tell that a study is retrieved, then what came; what comes by C-MOVE the receiver tells of."""
    source = peer_party(peer)
    record(databases, settings, transfer_begun(source, THIS_NODE, StudyInstances(study_instance_uid)))

    def came() -> Iterator[Event]:
        with transaction(databases.hospital) as session:
            brought = brought_instances(session, association_id)
        for study, counts in brought.items():
            yield instances_received(source, StudyInstances(study, counts))

    try:
        yield
    finally:
        _tell(databases, settings, came)


def tell_of_import(databases: Databases, settings: Settings, by: Party, calling_aet: str, since: datetime) -> None:
    """Tell what an import brought, study by study; ``calling_aet`` stands in the rows of imported instances.

    Names of files are not told: they may be names of patients.
    """

    def brought() -> Iterator[Event]:
        with transaction(databases.hospital) as session:
            found = arrived_instances(session, calling_aet, since)
        for study, counts in found.items():
            yield imported(by, "files or an archive", StudyInstances(study, counts))

    _tell(databases, settings, brought)


def tell_of_job(databases: Databases, settings: Settings, job_id: str, action: Literal["C", "R"]) -> None:
    """Tell that a job used its study (R), or made results in it (C)."""

    def used() -> Iterator[Event]:
        with transaction(databases.hospital) as session:
            study = study_of_job(session, job_id)
        sentence = f"Job {job_id} {'used' if action == 'R' else 'made results in'} the study."
        yield instances_accessed(action, sentence, StudyInstances(study))

    _tell(databases, settings, used)
