"""Asking PACSs for their counts, beside the dispatch pass: a thread for each peer, so that a slow one stops no other.

An answer is a row; the pass that wants to know asks, goes on, and finds the answer at a later pass. What is asked about
is the study; what is kept of the answer is numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Protocol

from dicom_node import clock
from dicom_node.db.models import Peer
from dicom_node.db.routing import keep_answer, results_of_study
from dicom_node.db.routing_tables import PacsAnswer
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import StudyArrivals, arrivals, held_instances, these_studies
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log
from dicom_node.net.counts import Catalogue, DicomwebCatalogue, OrthancCatalogue, dimse_catalogue
from dicom_node.net.remote import web_server
from dicom_node.pipeline.addresses import address_of
from dicom_node.settings import Settings

LOG = log(__name__)
CT = "CT"
"""Modality of the series that are compared in scope ``ct`` (PS3.3 C.7.3.1.1.1)."""


@dataclass(frozen=True, slots=True)
class Question:
    """Ask one peer about one study; ``scope`` is ``ct`` or ``all``."""

    study_instance_uid: str
    peer_id: int
    scope: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What a peer holds of a study in scope, and how much of it is here."""

    word: str
    pacs_count: int = 0
    here_count: int = 0


class Asks(Protocol):
    """Takes questions; their answers become rows."""

    def ask(self, questions: Sequence[Question]) -> None:
        """Ask what is not being asked already."""


class PacsCounter:
    """A thread for each peer that is asked, made when it is first needed."""

    def __init__(self, databases: Databases, settings: Settings, now: Callable[[], datetime] = clock.now) -> None:
        self._databases = databases
        self._settings = settings
        self._now = now
        self._queues: dict[int, SimpleQueue[Question]] = {}
        self._waiting: set[Question] = set()
        self._lock = Lock()

    def ask(self, questions: Sequence[Question]) -> None:
        """Ask what is not being asked already; returns at once."""
        with self._lock:
            for question in questions:
                if question not in self._waiting:
                    self._waiting.add(question)
                    self._queue(question.peer_id).put(question)

    def _queue(self, peer_id: int) -> "SimpleQueue[Question]":
        if peer_id not in self._queues:
            self._queues[peer_id] = SimpleQueue()
            Thread(target=self._work, args=(self._queues[peer_id],), name="counts", daemon=True).start()
        return self._queues[peer_id]

    def _work(self, queue: "SimpleQueue[Question]") -> None:
        while True:
            question = queue.get()
            try:
                self.answer(question)
            except Exception as error:  # noqa: BLE001 - the boundary: the study is asked about again
                LOG.error("counts_not_kept", failure=describe_failure(error))
            finally:
                with self._lock:
                    self._waiting.discard(question)

    def answer(self, question: Question) -> None:
        """Ask, and keep the answer."""
        study = question.study_instance_uid
        with transaction(self._databases.hospital) as session:
            peer = session.get(Peer, question.peer_id)
            arrived = next(iter(arrivals(session, these_studies([study]))), None)
            held, results = held_instances(session, study), results_of_study(session, study)
            last = session.get(PacsAnswer, (study, question.peer_id))
        if peer is None or arrived is None:
            return
        counts = self._ask(peer, arrived, held, results, question.scope)
        is_same = last is not None and (last.instance_count, last.scope) == (arrived.instance_count, question.scope)
        row = PacsAnswer(
            study_instance_uid=study,
            peer_id=question.peer_id,
            scope=question.scope,
            word=counts.word,
            pacs_count=counts.pacs_count,
            here_count=counts.here_count,
            instance_count=arrived.instance_count,
            tries=last.tries + 1 if last is not None and is_same else 1,
            asked_at=self._now(),
        )
        with transaction(self._databases.hospital) as session:
            keep_answer(session, row)
        LOG.info("pacs_counted", peer=peer.name, word=counts.word, pacs=counts.pacs_count, here=counts.here_count)

    def _ask(
        self, peer: Peer, study: StudyArrivals, held: dict[str, set[str]], results: set[str], scope: str
    ) -> Counts:
        try:
            with _catalogue(peer, self._settings) as catalogue:
                return compare(catalogue, study, held, results, scope)
        except NodeError as error:
            LOG.warning("pacs_not_asked", peer=peer.name, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the boundary: a hostile answer fails in any way
            LOG.error("pacs_not_asked", peer=peer.name, failure=describe_failure(error))
        return Counts("silent")


def compare(
    catalogue: Catalogue, study: StudyArrivals, held: dict[str, set[str]], results: set[str], scope: str
) -> Counts:
    """Compare what a peer holds of a study with what is here.

    Equal numbers for the study are enough where nothing of ours can be among them. Otherwise the series are compared by
    number, and those in which the peer has more, by SOP Instance UID; results of this node do not count.

    Parameters
    ----------
    catalogue
        Of the peer.
    study
        What has arrived.
    held
        Series -> SOP Instance UIDs that are here, our own objects among them.
    results
        SOP Instance UIDs of every result this node made of the study.
    scope
        ``ct``: CT series only; ``all``: every object.

    Raises
    ------
    PeerUnavailable, RetrievalRefused
        When the peer gives no usable answer.
    """
    uid = study.study_instance_uid
    is_known, total = catalogue.study_count(uid)
    if not is_known:
        return Counts("unknown")
    if total == study.instance_count and study.own_count == 0 and not results:
        return Counts("agrees", total, total)
    everything = results.union(*held.values())
    pacs = here = 0
    for series in catalogue.series_counts(uid):
        if scope == "ct" and series.modality not in (CT, ""):
            continue
        of_series = held.get(series.series_instance_uid, set()) - results
        if series.instance_count is not None and series.instance_count <= len(of_series):
            pacs, here = pacs + series.instance_count, here + series.instance_count
            continue
        listed = catalogue.instances(uid, series.series_instance_uid) - results
        pacs, here = pacs + len(listed), here + len(listed & everything)
    return Counts("agrees" if here >= pacs else "differs", pacs, here)


@contextmanager
def _catalogue(peer: Peer, settings: Settings) -> Iterator[Catalogue]:
    if peer.kind == "dimse":
        with dimse_catalogue(address_of(peer, settings)) as catalogue:
            yield catalogue
    elif peer.kind == "dicomweb":
        yield DicomwebCatalogue(web_server(peer, settings.tls_authority_file))
    elif peer.kind == "orthanc":
        yield OrthancCatalogue(web_server(peer, settings.tls_authority_file))
    else:
        raise ConfigurationError(f"Peer {peer.name} is of a kind that cannot be asked for counts.")
