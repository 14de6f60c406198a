"""A process that only runs jobs: ``osteonode worker``, beside ``osteonode serve`` on this host or another one.

All processes of one installation share the databases, on PostgreSQL, and the data folder. SQLite is refused: a process
that is stopped while it writes would stop all others.
"""

import signal
import subprocess
import sys
import threading

from dicom_node.db.revision_check import require_newest_schema
from dicom_node.db.session import Databases, database_urls, open_databases
from dicom_node.errors import ConfigurationError
from dicom_node.identity.keys import load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.jobs.engine import Capacity, JobEngine
from dicom_node.logs import log
from dicom_node.pipeline.calibration import load_records
from dicom_node.pipeline.site_profile import load_profile
from dicom_node.pipeline.steps import JobSteps
from dicom_node.settings import Settings

LOG = log(__name__)
CUDA_QUESTION = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"
CUDA_TIME_LIMIT_S = 120


def work(settings: Settings) -> None:
    """Run jobs until the process is told to stop.

    Raises
    ------
    ConfigurationError
        When a database is SQLite or has an older schema, or a key or calibration file is wrong.
    """
    refuse_sqlite(settings)
    load_records(settings.calibration_file)
    require_newest_schema(settings)
    databases = open_databases(settings)
    engine = start_engine(settings, databases)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    LOG.info("worker_started", executor_id=engine.executor_id)
    stop.wait()
    engine.stop()
    databases.dispose()
    LOG.info("worker_stopped")


def refuse_sqlite(settings: Settings) -> None:
    """Refuse to be one of several processes on a database that is for one.

    Raises
    ------
    ConfigurationError
        With the settings to change.
    """
    urls = {**database_urls(settings), "engine": settings.engine_url}
    names = [f"{name}_database_url" for name, url in urls.items() if url.startswith("sqlite")]
    if names:
        raise ConfigurationError(
            f"A worker is a second process, and SQLite is for one. Set {', '.join(names)} to PostgreSQL databases, for "
            f"the node and for its workers alike; or run the node alone."
        )


def start_engine(settings: Settings, databases: Databases) -> JobEngine:
    """Start the engine of this process.

    Raises
    ------
    ConfigurationError
        When a key file is wrong.
    """
    keys = load_keys(settings.keys)
    identities = IdentityMap(databases.identity, keys, settings.project)
    engine = JobEngine(
        settings.engine_url,
        databases.research,
        JobSteps(settings, databases, identities, keys, load_profile(settings.recipe_file)).steps(),
        Capacity(
            cpu_slots=settings.parallel_jobs,
            gpu_slots=_gpu_slots(settings.gpu_jobs),
            heartbeat_s=settings.heartbeat_s,
            stale_s=settings.stale_s,
            offpeak_hours=settings.offpeak_hours,
        ),
    )
    engine.start()
    return engine


def _gpu_slots(wanted: int) -> int:
    """Return how many steps may use the GPU: none where PyTorch finds no CUDA device.

    A process of its own asks: this one would keep PyTorch's memory, and a context on the GPU, for nothing.
    """
    if not wanted:
        return 0
    asked = subprocess.run(  # noqa: S603 - our own interpreter and words
        [sys.executable, "-c", CUDA_QUESTION], check=False, capture_output=True, timeout=CUDA_TIME_LIMIT_S
    )
    if asked.returncode != 0:
        LOG.warning("no_gpu_found", gpu_jobs=wanted)
        return 0
    return wanted
