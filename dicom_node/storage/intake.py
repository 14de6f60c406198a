"""From a received object to a durable instance: the promise behind status 0x0000.

Order of events: disk space checked, header read, file written and fsynced, row committed. Whatever
lacks the UIDs of an instance is kept in quarantine and not acknowledged.
"""

import hashlib
import zlib
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from threading import Lock

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicom_node.db.instances import find_instance, is_own_result
from dicom_node.db.models import Instance, Quarantined
from dicom_node.db.session import transaction
from dicom_node.errors import IntakeError
from dicom_node.storage.files import new_id, require_room, write_durably
from dicom_node.storage.part10 import file_head

HEADER_TAGS = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
"""SOP Class, SOP Instance, Study Instance and Series Instance UID, ascending."""
HEAD_BYTES = 1 << 20
"""The UIDs stand within this much of a dataset; no more is inflated or parsed, whatever a sender sends."""
REQUIRED_UIDS = ("sop_instance_uid", "study_instance_uid", "series_instance_uid")


@dataclass(frozen=True, slots=True)
class Arrival:
    """An encoded dataset, and what the network said about it."""

    dataset: bytes
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_aet: str


class Intake:
    """Keeps instances under one folder and their rows in the hospital database.

    Parameters
    ----------
    engine
        The hospital database.
    folder
        The hospital-side folder; instances, quarantine and temporary files lie below it.
    reserve_bytes
        Free space below which nothing more is accepted.
    """

    def __init__(self, engine: sa.Engine, folder: Path, reserve_bytes: int) -> None:
        self._engine = engine
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._commit = Lock()
        for name in ("instances", "quarantine"):
            (folder / name).mkdir(parents=True, exist_ok=True)

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
        require_room(self._folder, self._reserve_bytes)
        try:
            header = read_header(arrival)
        except IntakeError as error:
            self.quarantine(arrival, "unreadable_header", str(error), now)
            raise
        sha256 = hashlib.sha256(arrival.dataset).hexdigest()
        with transaction(self._engine) as session:
            if find_instance(session, header["sop_instance_uid"], sha256) is not None:
                return False
            own = is_own_result(session, header["sop_instance_uid"])
        instance_id = new_id()
        path = Path("instances") / instance_id[:2] / f"{instance_id}.dcm"
        write_durably(self._folder / path, self._file_content(arrival))
        row = Instance(
            id=instance_id,
            sha256=sha256,
            size_bytes=len(arrival.dataset),
            path=path.as_posix(),
            calling_aet=arrival.calling_aet,
            is_own=own,
            received_at=now,
            **header,
        )
        return self._commit_row(row)

    def quarantine(self, arrival: Arrival, cause: str, sentence: str, now: datetime) -> None:
        """Keep an object aside with its cause."""
        kept = new_id()
        path = Path("quarantine") / f"{kept}.dcm"
        write_durably(self._folder / path, self._file_content(arrival))
        with self._commit, transaction(self._engine) as session:
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

    def _commit_row(self, row: Instance) -> bool:
        """Commit; of two associations that bring the same instance at once, the first row wins."""
        try:
            with self._commit, transaction(self._engine) as session:
                session.add(row)
        except sa.exc.IntegrityError:
            (self._folder / row.path).unlink(missing_ok=True)
            return False
        return True

    def _file_content(self, arrival: Arrival) -> tuple[bytes, bytes]:
        """Return the file's head, and the dataset as it came."""
        head = file_head(arrival.sop_class_uid, arrival.sop_instance_uid, arrival.transfer_syntax_uid)
        return head, arrival.dataset


def read_header(arrival: Arrival) -> dict[str, str]:
    """Read the four UIDs that place an object.

    Raises
    ------
    IntakeError
        When one is missing or the bytes are not a dataset in the negotiated transfer syntax.
    """
    syntax = UID(arrival.transfer_syntax_uid)
    try:
        dataset = _read(arrival.dataset, syntax)
        header = {
            "sop_class_uid": str(dataset.get("SOPClassUID", arrival.sop_class_uid)),
            "sop_instance_uid": str(dataset.get("SOPInstanceUID", "")),
            "study_instance_uid": str(dataset.get("StudyInstanceUID", "")),
            "series_instance_uid": str(dataset.get("SeriesInstanceUID", "")),
        }
    except Exception as error:  # noqa: BLE001 - hostile bytes fail in any way; the kind is all that may be said
        raise IntakeError(
            f"The object cannot be read as a dataset in transfer syntax {syntax.name} ({type(error).__name__})."
        ) from None
    missing = [name for name in REQUIRED_UIDS if not UID(header[name]).is_valid]
    if missing:
        raise IntakeError(f"Missing or invalid: {', '.join(missing)}; an instance needs all of them (PS3.3 C.12.1).")
    if header["sop_instance_uid"] != arrival.sop_instance_uid:
        raise IntakeError("The SOP Instance UID of the dataset differs from the one announced in the command.")
    return header


def _read(encoded: bytes, syntax: UID) -> Dataset:
    """Read the header tags of an encoded dataset; deflated ones are inflated first (PS3.5 A.5)."""
    if syntax.is_deflated:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, HEAD_BYTES)
    else:
        content = encoded[:HEAD_BYTES]
    return read_dataset(
        BytesIO(content),
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag > HEADER_TAGS[-1],  # noqa: ARG005 - pydicom's signature
        specific_tags=list(HEADER_TAGS),
    )
