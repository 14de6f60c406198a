"""Uploaded files on their way to be imported: kept in a folder of their own, imported one upload after another.

An upload is a row and a folder. The row says WAITING once every file is durable; what was running when the process
ended is imported again from the start, where all that was done already counts as a duplicate.
"""

import json
import shutil
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.audit.events import THIS_NODE
from dicom_node.audit.transfers import tell_of_import
from dicom_node.db.dicomweb_tables import Import
from dicom_node.db.imports import abandoned_imports, next_import
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import Unavailable
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log
from dicom_node.settings import Settings
from dicom_node.storage.importing import CALLING_AET, Tally, import_paths
from dicom_node.storage.intake import Intake

LOG = log(__name__)
ABANDONED_AFTER = timedelta(hours=6)
SHOWN_EVERY = timedelta(seconds=1)


def upload_folder(settings: Settings, import_id: str) -> Path:
    """Return where the files of an upload are."""
    return settings.hospital_dir / "uploads" / import_id


class Uploads:
    """Imports what was uploaded; called every half second.

    Parameters
    ----------
    databases
        The node's databases.
    settings
        The node's settings.
    now
        Tells the time.
    """

    def __init__(self, databases: Databases, settings: Settings, now: Callable[[], datetime]) -> None:
        self._databases = databases
        self._settings = settings
        self._now = now
        self._stop = threading.Event()

    def close(self) -> None:
        """Let the running import end before its next file; it goes on after the next start."""
        self._stop.set()

    def __call__(self) -> None:
        """Import the next upload, if one waits, and forget those nobody finished."""
        self._sweep()
        with transaction(self._databases.hospital) as session:
            upload = next_import(session)
            if upload is None:
                return
            upload.state, upload.updated_at = "RUNNING", self._now()
            import_id = upload.id
        try:
            self._import(import_id)
        except (SQLAlchemyError, Unavailable):
            raise  # the next pass goes on
        except Exception as error:  # noqa: BLE001 - the boundary: an import that cannot end must not keep the others back
            LOG.error("upload_failed", import_id=import_id, failure=describe_failure(error))
            self._give_up(import_id)

    def _give_up(self, import_id: str) -> None:
        """End an import that failed unforeseen; what was kept of it is kept."""
        shutil.rmtree(upload_folder(self._settings, import_id), ignore_errors=True)
        with transaction(self._databases.hospital) as session:
            row = session.get_one(Import, import_id)
            row.state, row.updated_at = "FAILED", self._now()
            row.sentence = "The import stopped unforeseen; the log says where. Upload the files again."

    def _import(self, import_id: str) -> None:
        settings, folder = self._settings, upload_folder(self._settings, import_id)
        intake = Intake(
            self._databases.hospital, settings.hospital_dir, settings.reserve_bytes, settings.watermark_percent
        )
        shown_at = began_at = self._now()

        def show(tally: Tally) -> None:
            nonlocal shown_at
            now = self._now()
            if now - shown_at >= SHOWN_EVERY:
                shown_at = now
                self._save(import_id, tally, "RUNNING")

        tally = import_paths(
            [folder],
            lambda arrival: intake.keep(arrival, self._now()),
            settings.instance_limit_bytes,
            show,
            goes_on=lambda: not self._stop.is_set(),
        )
        if self._stop.is_set():
            return
        tell_of_import(self._databases, settings, THIS_NODE, CALLING_AET, began_at)
        shutil.rmtree(folder, ignore_errors=True)
        self._save(import_id, tally, "FAILED" if tally.sentence else "DONE")
        LOG.info("upload_imported", import_id=import_id, counts=dict(tally.counts))

    def _save(self, import_id: str, tally: Tally, state: str) -> None:
        with transaction(self._databases.hospital) as session:
            row = session.get_one(Import, import_id)
            row.state, row.updated_at = state, self._now()
            row.file_count, row.done_count = tally.found, tally.done
            row.counts, row.sentence = json.dumps(tally.counts), tally.sentence[:500]

    def _sweep(self) -> None:
        with transaction(self._databases.hospital) as session:
            for row in abandoned_imports(session, self._now() - ABANDONED_AFTER):
                shutil.rmtree(upload_folder(self._settings, row.id), ignore_errors=True)
                row.state, row.sentence = "FAILED", "The upload was not finished; its files are gone."
                row.updated_at = self._now()
