"""A running node: every part made from the settings, started in order and stopped in reverse."""

import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn

from dicom_node import clock
from dicom_node.audit.rejections import Rejections
from dicom_node.audit.upkeep import recording
from dicom_node.db.associations import note_lost_associations
from dicom_node.db.executors import living
from dicom_node.db.routing import end_all_associations
from dicom_node.db.session import Databases, prepare_databases, transaction
from dicom_node.errors import ConfigurationError, DiskFull
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log
from dicom_node.pipeline.calibration import load_phantoms, load_records
from dicom_node.pipeline.commitments import report_due
from dicom_node.pipeline.delivery_queue import submit_due
from dicom_node.pipeline.dispatch import Dispatcher
from dicom_node.pipeline.requests import Requests
from dicom_node.pipeline.routing_counts import PacsCounter
from dicom_node.pipeline.steps import sweep_drafts
from dicom_node.pipeline.uploads import Uploads
from dicom_node.receiving import Receiving
from dicom_node.settings import Settings
from dicom_node.storage.files import sweep_temporaries
from dicom_node.storage.intake import Intake
from dicom_node.storage.strays import take_in_strays
from dicom_node.web.app import create_app
from dicom_node.worker import start_engine

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
        load_phantoms(settings.phantom_file)
        databases = prepare_databases(settings)
        stack.callback(databases.dispose)
        upkeep = stack.enter_context(recording(databases, settings, Rejections()))
        swept = _sweep(settings, databases)
        strays = _take_in_strays(settings, databases)
        engine = start_engine(settings, databases)
        stack.callback(engine.stop)
        with transaction(databases.hospital) as session:
            note_lost_associations(session, clock.now())
            end_all_associations(session)
        stack.enter_context(_repeat(lambda: upkeep(clock.now()), "audit"))
        dispatcher = Dispatcher(databases, engine, settings, PacsCounter(databases, settings))
        stack.enter_context(_repeat(lambda: dispatcher(clock.now())))
        stack.enter_context(_repeat(lambda: submit_due(databases, engine, clock.now()), "delivery"))
        receiving = Receiving(settings, databases)
        stack.callback(receiving.close)
        stack.enter_context(_repeat(lambda: report_due(databases, settings, clock.now()), "commitment"))
        requests = Requests(databases, settings)
        stack.callback(requests.close)
        stack.enter_context(_repeat(lambda: requests(clock.now()), "requests"))
        uploads = Uploads(databases, settings, clock.now)
        stack.enter_context(_repeat(uploads, "uploads"))
        stack.callback(uploads.close)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn raises it again after its shutdown; the stack must unwind
        LOG.info(
            "node_started",
            ae_title=settings.ae_title,
            dicom_ports=receiving.ports,
            temporaries_swept=swept,
            strays_taken_in=strays,
        )
        app = create_app(databases, settings, receiving.ports[0])
        uvicorn.Server(
            uvicorn.Config(app, host=settings.web_host, port=settings.web_port, log_config=None, access_log=False)
        ).run()
    LOG.info("node_stopped")


def _sweep(settings: Settings, databases: Databases) -> int:
    """Delete what writers that died left half-written; nothing while a worker beside this process may be writing."""
    with transaction(databases.research) as session:
        if databases.research.dialect.name != "sqlite" and living(session, settings.stale_s):
            return 0
    swept = sum(sweep_temporaries(side) for side in (settings.hospital_dir, settings.research_dir))
    return swept + sweep_drafts(settings)


def _take_in_strays(settings: Settings, databases: Databases) -> int:
    """Give rows to received files that have none; a full disk is no reason not to start."""
    intake = Intake(databases.hospital, settings.hospital_dir, settings.reserve_bytes, settings.watermark_percent)
    try:
        return take_in_strays(databases.hospital, settings.hospital_dir, intake, clock.now())
    except DiskFull:
        LOG.warning("strays_left", reason="no room")
        return 0


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
