"""The request side at work: requests are searched, retrieved and followed to the end of their jobs.

One pass claims what is due, in threads of its own; a claim runs out by itself when the process dies, and everything a
thread does can be repeated: a search changes nothing, an image that is here is not kept twice. The state of a request
is its row, and docs/requests.md draws it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event, Lock, Thread

from dicom_node import clock
from dicom_node.audit.transfers import audited_retrieval, tell_of_search
from dicom_node.db.models import Peer
from dicom_node.db.peers import all_peers
from dicom_node.db.request_queue import barred_peers, renew, set_received, settle, take
from dicom_node.db.request_tables import Request
from dicom_node.db.requests import begin_retrieval, get_request, held_instances, replace_matches
from dicom_node.db.routing import end_association
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, NodeError, RetrievalRefused, Unavailable
from dicom_node.jobs.failure import describe_failure
from dicom_node.jobs.offpeak import in_window
from dicom_node.logs import log
from dicom_node.net.sources import Source, Stopped
from dicom_node.pipeline.requests_following import follow
from dicom_node.pipeline.requests_retrieval import (
    Gate,
    Wanted,
    check_held,
    outcome_words,
    retrieve_study,
    source_of,
)
from dicom_node.pipeline.requests_search import Found, matches_from, search
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id
from dicom_node.storage.intake import Arrival, Intake

LOG = log(__name__)
CLAIM = timedelta(seconds=20)
"""How long a claim holds without being renewed, so how long a request waits after its process was killed."""
RENEW_EVERY = timedelta(seconds=5)
FOLLOW_EVERY = timedelta(seconds=3)
LONGEST_PAUSES = 30
"""Pauses double from ``request_backoff_s`` to so many times it: from half a minute to a quarter of an hour."""
CLOSING_S = 5.0
LANES = ("urgent", "normal", "batch", "offpeak")
REVERSED_EVERY = 4
"""Every so many times the lanes are served from the other end, so that none waits for ever (as mercure does it)."""

SourceOf = Callable[[Peer, Settings], Source]


class Requests:
    """Passes over the requests; the work itself is done in threads.

    Parameters
    ----------
    databases
        The node's databases.
    settings
        The node's settings.
    source_of
        How a peer is asked.
    """

    def __init__(self, databases: Databases, settings: Settings, source_of: SourceOf = source_of) -> None:
        self._databases = databases
        self._settings = settings
        self._owner = new_id()
        """Names this process in claims; a new one for every start."""
        self._source_of = source_of
        self._intake = Intake(
            databases.hospital, settings.hospital_dir, settings.reserve_bytes, settings.watermark_percent
        )
        self._running: dict[str, tuple[Thread, Event]] = {}
        self._lock = Lock()
        self._taken = 0
        self._renew_due: datetime | None = None
        self._follow_due: datetime | None = None

    def __call__(self, now: datetime) -> int:
        """Make one pass at a timezone-aware time; return how many requests were begun."""
        if _is_due(self._follow_due, FOLLOW_EVERY, now):
            self._follow_due = now + FOLLOW_EVERY
            follow(self._databases, now)
        if _is_due(self._renew_due, RENEW_EVERY, now):
            self._renew_due = now + RENEW_EVERY
            self._renew(now)
        begun = 0
        while len(self._running) < self._settings.parallel_requests and self._begin(now):
            begun += 1
        return begun

    def close(self) -> None:
        """Stop every retrieval; a thread whose peer is silent is left alone. All of it goes on at the next start."""
        with self._lock:
            threads = list(self._running.values())
        for _, stop in threads:
            stop.set()
        for thread, _ in threads:
            thread.join(timeout=CLOSING_S)

    def _renew(self, now: datetime) -> None:
        """Keep the claims of this process; stop what was cancelled."""
        with self._lock:
            running = dict(self._running)
        if not running:
            return
        with transaction(self._databases.hospital) as session:
            lost = renew(session, self._owner, list(running), now + CLAIM)
        for request_id in lost:
            running[request_id][1].set()

    def _begin(self, now: datetime) -> bool:
        """Claim the next request and hand it to a thread; False when there is none.

        One that was cancelled and begun again waits until the thread that had it has ended.
        """
        with self._lock:
            running = list(self._running)
        with transaction(self._databases.hospital) as session:
            row = take(session, self._owner, now, now + CLAIM, self._lanes(now), barred_peers(session, now), running)
        if row is None:
            return False
        self._taken += 1
        stop = Event()
        thread = Thread(target=self._act, args=(row.id, stop), name="request", daemon=True)
        with self._lock:
            self._running[row.id] = (thread, stop)
        thread.start()
        return True

    def _lanes(self, now: datetime) -> tuple[str, ...]:
        """Return the lanes in the order they are served now."""
        lanes = LANES if in_window(now.astimezone(), self._settings.offpeak_hours) else LANES[:-1]
        return lanes[::-1] if self._taken % REVERSED_EVERY == REVERSED_EVERY - 1 else lanes

    def _act(self, request_id: str, stop: Event) -> None:
        """Do what is to be done for a request; whatever goes wrong becomes its state."""
        try:
            self._work(request_id, stop)
        except Stopped:
            self._settle(request_id, due_at=clock.now())
        except (Unavailable, ConfigurationError) as error:
            self._put_off(request_id, str(error))
        except NodeError as error:
            self._fail(request_id, str(error))
        except Exception as error:  # noqa: BLE001 - the boundary: the thread has nobody to tell
            LOG.error("request_broke_off", request_id=request_id, failure=describe_failure(error))
            self._put_off(request_id, f"The node could not go on ({type(error).__name__}); it tries again.")
        finally:
            with self._lock:
                self._running.pop(request_id, None)

    def _work(self, request_id: str, stop: Event) -> None:
        row = self._row(request_id)
        if row.state == "WAITING" and not self._search(row):
            return
        self._retrieve(self._row(request_id), stop)

    def _search(self, row: Request) -> bool:
        """Look for the study; True when exactly one was found and is to be retrieved now."""
        with transaction(self._databases.hospital) as session:
            peers = [peer for peer in all_peers(session) if peer.is_queried and row.source_peer_id in (None, peer.id)]
        if not peers:
            raise ConfigurationError("No peer is queried for studies any more; set is_queried for your PACS.")
        tell_of_search(
            self._databases,
            self._settings,
            peers,
            patient_id=row.patient_id,
            accession_number=row.accession_number,
        )
        found = search(row, [(peer, self._source_of(peer, self._settings)) for peer in peers])
        if not found.matches:
            self._put_off(row.id, found.nothing_sentence)
            return False
        return self._take_matches(row, found)

    def _take_matches(self, row: Request, found: Found) -> bool:
        now = clock.now()
        with transaction(self._databases.hospital) as session:
            replace_matches(session, row.id, matches := matches_from(row.id, found))
            held = get_request(session, row.id, for_change=True)
            if held.claimed_by != self._owner or held.state != "WAITING":
                raise Stopped
            if len(matches) == 1:
                begin_retrieval(session, held, matches[0], now)
                held.wait_until = now + self._wait
                held.attempts = 1
                return True
            sentence = f"{len(matches)} studies match; choose the one that is meant."
            settle(session, row.id, self._owner, now, state="CHOOSE", sentence=sentence)
        LOG.info("request_has_matches", request_id=row.id, match_count=len(matches))
        return False

    def _retrieve(self, row: Request, stop: Event) -> None:
        """Retrieve the study that was found or chosen."""
        with transaction(self._databases.hospital) as session:
            peer = session.get_one(Peer, row.found_peer_id)
            if peer.is_removed or not peer.is_queried:
                raise RetrievalRefused("The peer that has the study is not queried any more; begin the request again.")
        source = self._source_of(peer, self._settings)
        wanted = Wanted(row.study_instance_uid, row.patient_id or row.found_patient_id, row.accession_number)
        gate = Gate(wanted, self._keep, stop.is_set, lambda count: self._tell(row.id, count))
        held_before = sum(map(len, self._held(row.study_instance_uid).values()))
        try:
            with audited_retrieval(self._databases, self._settings, peer, row.study_instance_uid, gate.association_id):
                inventory, tally = retrieve_study(source, wanted, gate, lambda: self._held(row.study_instance_uid))
        finally:
            self._end_arrivals(gate)
        with transaction(self._databases.hospital) as session:
            check_held(session, self._settings.hospital_dir, wanted, gate)
        count = inventory.instance_count
        were = f" {held_before} were here before." if held_before else ""
        sentence = " ".join([f"{count} images of {source.name} are here.{were}", *outcome_words(tally)])
        self._settle(
            row.id, state="RECEIVED", sentence=sentence, expected_count=count, received_count=count, due_at=clock.now()
        )
        LOG.info("request_received", request_id=row.id, instance_count=count, peer=source.name)

    def _keep(self, arrival: Arrival) -> object:
        return self._intake.keep(arrival, clock.now())

    def _end_arrivals(self, gate: Gate) -> None:
        """Say that no more images come this way for now, so that the study is not waited for on their account."""
        with transaction(self._databases.hospital) as session:
            end_association(session, gate.association_id, "released")

    def _put_off(self, request_id: str, sentence: str) -> None:
        """Try again later, until the waiting is over."""
        now = clock.now()
        row = self._row(request_id)
        until = row.wait_until or now + self._wait
        if now >= until:
            hours = self._settings.request_wait_s / 3600
            self._fail(request_id, f"Given up after {hours:g} hours. {sentence}")
            return
        pause_s = self._settings.request_backoff_s * min(2 ** min(row.attempts - 1, 20), LONGEST_PAUSES)
        due_at = min(now + timedelta(seconds=pause_s), until)
        self._settle(request_id, due_at=due_at, wait_until=until, sentence=sentence)

    def _fail(self, request_id: str, sentence: str) -> None:
        if self._settle(request_id, state="FAILED", sentence=sentence):
            LOG.warning("request_failed", request_id=request_id)

    def _settle(self, request_id: str, **values: object) -> bool:
        with transaction(self._databases.hospital) as session:
            return settle(session, request_id, self._owner, clock.now(), **values)

    def _tell(self, request_id: str, count: int) -> None:
        with transaction(self._databases.hospital) as session:
            set_received(session, request_id, self._owner, count)

    def _held(self, study_instance_uid: str) -> dict[str, set[str]]:
        with transaction(self._databases.hospital) as session:
            return held_instances(session, study_instance_uid)

    def _row(self, request_id: str) -> Request:
        with transaction(self._databases.hospital) as session:
            return session.get_one(Request, request_id)

    @property
    def _wait(self) -> timedelta:
        return timedelta(seconds=self._settings.request_wait_s)


def _is_due(due: datetime | None, every: timedelta, now: datetime) -> bool:
    """Tell whether it is time; also when the clock was set back, which would make the pause one of hours."""
    return due is None or not due - every <= now < due
