"""From a received object to a durable instance: the promise behind status 0x0000.

Order of events: room checked, bytes spooled, header read, file synced, renamed, folder synced, row committed; renaming
and all after it is done once for whatever arrives at the same time. Whatever lacks the UIDs of an instance is kept in
quarantine and not acknowledged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom_node.db.instances import add_instances, kept_contents, known_instances
from dicom_node.db.models import Quarantined
from dicom_node.db.routing import open_association
from dicom_node.db.session import transaction
from dicom_node.errors import DiskFull, IntakeError
from dicom_node.storage.files import make_folder, new_id, sync_folder
from dicom_node.storage.group_commit import GroupCommit
from dicom_node.storage.header import HEAD_BYTES as HEAD_BYTES
from dicom_node.storage.header import read_header
from dicom_node.storage.part10 import file_head
from dicom_node.storage.room import Marks, Room
from dicom_node.storage.spool import SPOOL_FOLDER, Spooled

FIRST_BYTES = 1 << 14
"""[m assumption] A CT slice has its UIDs within the first kilobyte, few objects have them behind 16."""
ASSOCIATIONS_REMEMBERED = 1000
FILES_A_FOLDER = 1000
"""A folder is synced as a whole, so those that arrive together lie together; a folder that is full is left."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A received object, and what the network said about it.

    Attributes
    ----------
    dataset
        Encoded; empty when it is ``spooled``.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid, calling_aet
        As announced.
    spooled
        The dataset, where it was written to disk as it came.
    association_id
        The association that brought it; None: it came another way.
    """

    dataset: bytes
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_aet: str
    spooled: Spooled | None = None
    association_id: str | None = None

    @property
    def size_bytes(self) -> int:
        """Length of the dataset."""
        return len(self.dataset) if self.spooled is None else self.spooled.size_bytes


@dataclass(slots=True)
class _Entry:
    """An instance on its way into the database, and whether it turned out to be new."""

    spooled: Spooled
    arrival: Arrival
    now: datetime
    row: dict[str, object]
    is_new: bool = False


class Intake:
    """Keeps instances under one folder and their rows in the hospital database.

    Parameters
    ----------
    engine
        The hospital database.
    folder
        The hospital-side folder; instances, quarantine and spool lie below it.
    reserve_bytes
        Free space below which nothing more is accepted.
    watermark_percent
        Part of the file system in use above which nothing more is accepted.
    """

    def __init__(self, engine: sa.Engine, folder: Path, reserve_bytes: int, watermark_percent: float = 100.0) -> None:
        self._engine = engine
        self._folder = folder
        self._commit = GroupCommit(self._commit_batch)
        self._current = Path()
        self._left_in_current = 0
        self._noted: set[str] = set()
        for name in ("instances", "quarantine", SPOOL_FOLDER):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._room = Room(folder, Marks(reserve_bytes, watermark_percent))

    def spool(self, arrival: Arrival) -> Spooled:
        """Begin the file of an announced object, whose dataset is then written to it.

        Raises
        ------
        DiskFull
            When there is no room for it.
        """
        self._room.require()
        head = file_head(arrival.sop_class_uid, arrival.sop_instance_uid, arrival.transfer_syntax_uid)
        return Spooled(self._folder / SPOOL_FOLDER, head, self._room.require)

    def keep(self, arrival: Arrival, now: datetime) -> bool:
        """Make one object durable.

        Parameters
        ----------
        arrival
            The object.
        now
            Timezone-aware time of arrival.

        Returns
        -------
        bool
            True when the instance is new, False when the identical one was there.

        Raises
        ------
        DiskFull
            Before the reserve of free space is used up.
        IntakeError
            When the object is no instance of a study; it is in quarantine then.
        """
        spooled = self._spooled(arrival)
        try:
            header = self._header(arrival, spooled, now)
            row: dict[str, object] = {
                "id": new_id(),
                "sha256": spooled.sha256,
                "size_bytes": spooled.size_bytes,
                "calling_aet": arrival.calling_aet,
                "association_id": arrival.association_id,
                "received_at": now,
                **header,
            }
            spooled.sync()
            entry = _Entry(spooled, arrival, now, row)
            self._commit(entry)
        finally:
            spooled.discard()
        return entry.is_new

    def quarantine(self, arrival: Arrival, cause: str, sentence: str, now: datetime) -> None:
        """Keep an object aside with its cause."""
        spooled = self._spooled(arrival)
        kept = new_id()
        path = Path("quarantine") / f"{kept}.dcm"
        try:
            spooled.sync()
            spooled.place(self._folder / path)
        finally:
            spooled.discard()
        sync_folder(self._folder / path.parent)
        with transaction(self._engine) as session:
            session.add(
                Quarantined(
                    id=kept,
                    cause=cause,
                    sentence=sentence[:500],
                    path=path.as_posix(),
                    calling_aet=arrival.calling_aet,
                    received_at=now,
                )
            )

    def _spooled(self, arrival: Arrival) -> Spooled:
        if arrival.spooled is not None:
            return arrival.spooled
        spooled = self.spool(arrival)
        spooled.write(memoryview(arrival.dataset))
        return spooled

    def _header(self, arrival: Arrival, spooled: Spooled, now: datetime) -> dict[str, str]:
        try:
            header = _read_header(spooled, arrival.transfer_syntax_uid)
            if header["sop_instance_uid"] != arrival.sop_instance_uid:
                raise IntakeError("The SOP Instance UID of the dataset differs from the one announced in the command.")
        except IntakeError as error:
            self.quarantine(arrival, "unreadable_header", str(error), now)
            raise
        return {**header, "sop_class_uid": header["sop_class_uid"] or arrival.sop_class_uid}

    def _commit_batch(self, entries: Sequence[_Entry]) -> list[Exception | None]:
        """Give the new ones their names, make the names durable, and commit the rows in one transaction."""
        new = self._new_ones(entries)
        if not new:
            return [None] * len(entries)
        self._place(new)
        failed = self._insert(new)
        return [failed.get(id(entry)) for entry in entries]

    def _new_ones(self, entries: Sequence[_Entry]) -> list[_Entry]:
        """Leave out what is there already, in the database or earlier in the batch; say what is our own."""
        uids = [str(entry.row["sop_instance_uid"]) for entry in entries]
        with self._engine.connect() as connection:
            seen, own = known_instances(connection, uids)
        new = []
        for entry in entries:
            content = (str(entry.row["sop_instance_uid"]), str(entry.row["sha256"]))
            if content not in seen:
                seen.add(content)
                entry.row["is_own"] = content[0] in own
                new.append(entry)
        return new

    def _folder_for(self, count: int) -> Path:
        """Return the folder for the next files; it has room for them all, and its own name is durable."""
        if self._left_in_current < count:
            self._current = Path("instances") / new_id()[:8]
            make_folder(self._folder / self._current)
            self._left_in_current = max(FILES_A_FOLDER, count)
        self._left_in_current -= count
        return self._current

    def _place(self, new: Sequence[_Entry]) -> None:
        """Give files their names and make those durable; when that fails, none is left."""
        placed: list[Path] = []
        try:
            folder = self._folder_for(len(new))
            for entry in new:
                path = folder / f"{entry.row['id']}.dcm"
                entry.spooled.place(self._folder / path)
                placed.append(self._folder / path)
                entry.row["path"] = path.as_posix()
            sync_folder(self._folder / folder)
        except (OSError, DiskFull) as error:
            self._left_in_current = 0
            _remove(placed)
            raise DiskFull(
                f"Received objects could not be given their names ({type(error).__name__}); free some space."
            ) from None

    def _insert(self, new: Sequence[_Entry]) -> dict[int, Exception]:
        """Commit rows; return the error of each entry that got none, by its ``id()``.

        Of two processes that bring the same instance at once the first row wins; the other's file goes. A file whose
        row the database has refused goes too; where the connection broke during the commit nobody knows, and it stays.
        """
        try:
            with self._engine.begin() as connection:
                noted = self._note_associations(connection, new)
                add_instances(connection, [entry.row for entry in new])
        except (sa.exc.IntegrityError, sa.exc.DataError) as error:
            if len(new) > 1:
                return {key: one for entry in new for key, one in self._insert([entry]).items()}
            _remove([self._folder / str(new[0].row["path"])])
            return {} if self._is_kept(new[0]) else {id(new[0]): error}
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                _remove([self._folder / str(entry.row["path"]) for entry in new])
            raise
        self._noted = noted if len(self._noted) >= ASSOCIATIONS_REMEMBERED else self._noted | noted
        for entry in new:
            entry.is_new = True
        return {}

    def _note_associations(self, connection: sa.Connection, new: Sequence[_Entry]) -> set[str]:
        """Put associations on record with the first instances they bring, in their transaction; return which."""
        first = {entry.arrival.association_id: entry for entry in new}
        unnoted = {key: entry for key, entry in first.items() if key is not None and key not in self._noted}
        if unnoted:
            with Session(connection) as session:
                for association_id, entry in unnoted.items():
                    open_association(session, association_id, entry.arrival.calling_aet, entry.now)
                session.flush()
        return set(unnoted)

    def _is_kept(self, entry: _Entry) -> bool:
        with self._engine.connect() as connection:
            kept = kept_contents(connection, [str(entry.row["sop_instance_uid"])])
        return (str(entry.row["sop_instance_uid"]), str(entry.row["sha256"])) in kept


def _read_header(spooled: Spooled, transfer_syntax_uid: str) -> dict[str, str]:
    """Read the UIDs from the first bytes, which mostly hold them, or from as many as are ever looked at."""
    try:
        return read_header(spooled.first(FIRST_BYTES), transfer_syntax_uid, spooled.size_bytes)
    except IntakeError:
        if spooled.size_bytes <= FIRST_BYTES:
            raise
        return read_header(spooled.first(HEAD_BYTES), transfer_syntax_uid, spooled.size_bytes)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
