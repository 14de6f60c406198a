"""A running node: every part made from the settings, started in order and stopped in reverse."""

import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import uvicorn

from dicom_node import clock
from dicom_node.db.models import AssociationRow
from dicom_node.db.peers import senders
from dicom_node.db.session import Databases, prepare_databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.keys import load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.jobs.engine import JobEngine
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log
from dicom_node.net.admission import Caller, Rejection, Sender, admit
from dicom_node.net.ledger import AssociationRecord
from dicom_node.net.scp import Listener, Receiver
from dicom_node.net.tls import server_context
from dicom_node.pipeline.addresses import tls_files
from dicom_node.pipeline.calibration import load_records
from dicom_node.pipeline.commitments import keep_order, report_due
from dicom_node.pipeline.dispatch import Dispatcher
from dicom_node.pipeline.site_profile import load_profile
from dicom_node.pipeline.steps import JobSteps
from dicom_node.settings import Settings
from dicom_node.storage.files import sweep_temporaries
from dicom_node.storage.intake import Intake
from dicom_node.web.app import create_app

LOG = log(__name__)
DISPATCH_EVERY_S = 0.5


def serve(settings: Settings) -> None:
    """Run the node until it is told to stop.

    Raises
    ------
    ConfigurationError
        When another process uses the data folder, or a key or calibration file is wrong.
    """
    with ExitStack() as stack:
        stack.enter_context(_sole_user(settings.data_dir))
        load_records(settings.calibration_file)
        databases = prepare_databases(settings)
        stack.callback(databases.dispose)
        swept = sum(sweep_temporaries(side) for side in (settings.hospital_dir, settings.research_dir))
        engine = _start_engine(settings, databases)
        stack.callback(engine.stop)
        dispatcher = Dispatcher(databases, engine, settings)
        stack.enter_context(_repeat(lambda: dispatcher(clock.now())))
        receiver = _start_receiver(settings, databases)
        stack.callback(receiver.close)
        stack.enter_context(_repeat(lambda: report_due(databases, settings, clock.now()), "commitment"))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn raises it again after its shutdown; the stack must unwind
        LOG.info("node_started", ae_title=settings.ae_title, dicom_ports=receiver.ports, temporaries_swept=swept)
        app = create_app(databases, settings, receiver.port)
        uvicorn.Server(
            uvicorn.Config(app, host=settings.web_host, port=settings.web_port, log_config=None, access_log=False)
        ).run()
    LOG.info("node_stopped")


def _start_engine(settings: Settings, databases: Databases) -> JobEngine:
    keys = load_keys(settings.keys)
    identities = IdentityMap(databases.identity, keys, settings.project)
    engine = JobEngine(
        settings.engine_url,
        JobSteps(settings, databases, identities, keys, load_profile(settings.recipe_file)).steps(),
        parallel_jobs=settings.parallel_jobs,
        delivery_attempts=settings.delivery_attempts,
        delivery_backoff_s=settings.delivery_backoff_s,
    )
    engine.start()
    return engine


def _start_receiver(settings: Settings, databases: Databases) -> Receiver:
    intake = Intake(databases.hospital, settings.hospital_dir, settings.reserve_bytes)

    def decide(caller: Caller, active: int) -> Rejection | None:
        with transaction(databases.hospital) as session:
            known = [
                Sender(peer.ae_title, tuple(filter(None, peer.allowed_hosts.split(","))), peer.max_associations)
                for peer in senders(session)
            ]
        return admit(caller, known, active)

    def record(ended: AssociationRecord) -> None:
        with transaction(databases.hospital) as session:
            session.add(AssociationRow(**asdict(ended)))

    listeners = list(_listeners(settings))
    try:
        return Receiver(
            settings.ae_title,
            listeners,
            lambda arrival: intake.keep(arrival, clock.now()),
            admit=None if settings.accept_unknown_peers else decide,
            order=lambda order: keep_order(databases, order, clock.now()),
            record=record,
            max_associations=settings.max_associations,
            idle_timeout_s=settings.idle_timeout_s,
        )
    except OSError as error:
        places = " and ".join(f"{one.host}:{one.port}" for one in listeners)
        raise ConfigurationError(
            f"The DICOM service cannot listen on {places} ({error.strerror}); is another program using the port?"
        ) from None


def _listeners(settings: Settings) -> Iterator[Listener]:
    files = tls_files(settings)
    if settings.dicom_plain:
        yield Listener(settings.dicom_host, settings.dicom_port)
    if settings.dicom_tls_port is not None and files is not None:
        yield Listener(settings.dicom_host, settings.dicom_tls_port, server_context(files))


@contextmanager
def _sole_user(data_dir: Path) -> Iterator[None]:
    """Hold the data folder: two nodes on one set of SQLite files would corrupt each other's work."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "node.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another osteonode process uses the data folder {data_dir}; stop it first."
            ) from None
        yield


@contextmanager
def _repeat(action: Callable[[], object], name: str = "dispatch") -> Iterator[None]:
    """Call ``action`` every half second in a thread of its own; an error is logged and the next call made."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(DISPATCH_EVERY_S):
            try:
                action()
            except Exception as error:  # noqa: BLE001 - the boundary: one bad pass must not end the node
                LOG.error("pass_failed", loop=name, failure=describe_failure(error))

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)
