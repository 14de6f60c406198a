"""Files of instances that no row names: a process ended between their renaming and the commit of their rows.

None of them was acknowledged, unless the database was restored from a backup that is older than the file. So they are
taken in once more, as if they had just come, and none is deleted unread. A sender that offers one again finds it kept.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from dicom_node.db.instances import newest_arrival, paths_below
from dicom_node.errors import IntakeError, NotDicom
from dicom_node.logs import log
from dicom_node.storage.dicom_file import read_dicom_file
from dicom_node.storage.intake import Intake

LOG = log(__name__)
LOOK_BACK = timedelta(hours=1)
"""[m assumption] A folder that has not changed since an hour before the newest row holds no strays: clocks are set."""
UNKNOWN_SENDER = ""


def take_in_strays(engine: sa.Engine, folder: Path, intake: Intake, now: datetime) -> int:
    """Take in what lies in the store without a row; return how many files that were.

    To be called before anything is received. Only folders that changed lately are looked at.

    Parameters
    ----------
    engine
        Hospital database.
    folder
        Hospital-side folder; paths of rows start there.
    intake
        Takes them in.
    now
        Timezone-aware time of arrival.

    Raises
    ------
    DiskFull
        When there is no room for a copy of one.
    """
    count = 0
    with engine.connect() as connection:
        newest = newest_arrival(connection)
    since = 0.0 if newest is None else (newest - LOOK_BACK).timestamp()
    for stray in [*_strays(engine, folder, since)]:
        try:
            intake.keep(read_dicom_file(stray.read_bytes(), UNKNOWN_SENDER).arrival, now)
        except NotDicom:
            LOG.error("stray_unreadable", file=stray.name)
            continue
        except IntakeError:
            LOG.warning("stray_quarantined")
        if not _is_named(engine, folder, stray):  # another process may have committed its row meanwhile
            stray.unlink(missing_ok=True)
        count += 1
    return count


def _strays(engine: sa.Engine, folder: Path, since: float) -> Iterator[Path]:
    for place in (folder / "instances").iterdir():
        if place.is_dir() and place.stat().st_mtime >= since:
            with engine.connect() as connection:
                named = paths_below(connection, f"{place.relative_to(folder).as_posix()}/")
            yield from (path for path in place.glob("*.dcm") if path.relative_to(folder).as_posix() not in named)


def _is_named(engine: sa.Engine, folder: Path, path: Path) -> bool:
    with engine.connect() as connection:
        return bool(paths_below(connection, path.relative_to(folder).as_posix()))
