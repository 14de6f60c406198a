"""The import page's REST interface: each file is the body of a request, and goes to disk as it comes."""

import asyncio
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, field_validator

from dicom_node import clock
from dicom_node.db.dicomweb_tables import Import
from dicom_node.db.imports import receiving, recent_imports
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, DiskFull
from dicom_node.pipeline.uploads import upload_folder
from dicom_node.settings import Settings
from dicom_node.storage.files import make_folder, new_id, sync_folder
from dicom_node.storage.importing import CAUSES, FAILURES
from dicom_node.storage.room import Marks, Room

WRITE_BYTES = 1 << 20


class CauseOut(BaseModel):
    """How many files became what."""

    files: int
    words: str
    is_failure: bool


class ImportOut(BaseModel):
    """One import, and how far it has come."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    state: str
    received_bytes: int
    file_count: int
    done_count: int
    counts: list[CauseOut]
    sentence: str
    created_at: datetime
    updated_at: datetime

    @field_validator("counts", mode="before")
    @classmethod
    def _in_words(cls, value: object) -> object:
        counts: dict[str, int] = json.loads(value) if isinstance(value, str) else {}
        return [
            CauseOut(files=counts[cause], words=words, is_failure=cause in FAILURES)
            for cause, words in CAUSES.items()
            if counts.get(cause)
        ]


def import_routes(databases: Databases, settings: Settings) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/api/imports", tags=["import"])

    @router.get("")
    def imports() -> list[ImportOut]:
        """List the newest imports."""
        with transaction(databases.hospital) as session:
            return [ImportOut.model_validate(row) for row in recent_imports(session)]

    @router.post("", status_code=201)
    def begin() -> ImportOut:
        """Begin an import, to which files are then added."""
        row = Import(id=new_id(), state="RECEIVING", counts="{}", sentence="", **_zeros())
        make_folder(upload_folder(settings, row.id))
        with transaction(databases.hospital) as session:
            session.add(row)
            session.flush()
            return ImportOut.model_validate(row)

    @router.post("/{import_id}/files", status_code=204)
    async def add(import_id: str, request: Request) -> None:
        """Add a file, ZIP or DICOM, as the body; its name is not asked for."""
        await _receive(databases, settings, import_id, request)

    @router.post("/{import_id}/start", status_code=202)
    def start(import_id: str) -> ImportOut:
        """Have the files imported; they are durable once this answers."""
        with transaction(databases.hospital) as session:
            row = receiving(session, import_id)
            _sync(upload_folder(settings, row.id))
            row.state, row.updated_at = "WAITING", clock.now()
            return ImportOut.model_validate(row)

    return router


def _zeros() -> dict[str, Any]:
    now = clock.now()
    return {"received_bytes": 0, "file_count": 0, "done_count": 0, "created_at": now, "updated_at": now}


async def _receive(databases: Databases, settings: Settings, import_id: str, request: Request) -> None:
    """Write a body to disk and count it.

    Raises
    ------
    HTTPException
        413 when the upload becomes larger than it may; 507 when the disk is full; 408 when the body stops arriving.
    """
    received = await run_sync(_received_bytes, databases, import_id)
    room = Room(settings.hospital_dir, Marks(settings.reserve_bytes, settings.watermark_percent))
    folder = upload_folder(settings, import_id)
    path = folder / f".{new_id()}.part"
    size = 0
    try:
        with path.open("wb", buffering=WRITE_BYTES) as file:
            stream = request.stream()
            while piece := await _next(stream, settings.idle_timeout_s):
                if size // WRITE_BYTES != (size + len(piece)) // WRITE_BYTES or not size:
                    await run_sync(room.require)
                size += len(piece)
                if received + size > settings.upload_limit_bytes:
                    raise HTTPException(413, "The upload is larger than the setting upload_limit_bytes allows.")
                file.write(piece)
        path.rename(folder / f"{new_id()}.bin")
    except (DiskFull, OSError) as error:
        sentence = str(error) if isinstance(error, DiskFull) else "The file could not be written; free some space."
        raise HTTPException(507, sentence) from None
    finally:
        path.unlink(missing_ok=True)
    await run_sync(_count, databases, import_id, size)


async def _next(stream: Any, idle_timeout_s: float) -> bytes:
    """Return the next piece of a body; empty at its end."""
    try:
        piece = b""
        async with asyncio.timeout(idle_timeout_s):
            while not piece:
                piece = await anext(stream)
    except StopAsyncIteration:
        return b""
    except TimeoutError:
        raise HTTPException(408, "The file stopped arriving.") from None
    return bytes(piece)


def _received_bytes(databases: Databases, import_id: str) -> int:
    with transaction(databases.hospital) as session:
        return receiving(session, import_id).received_bytes


def _count(databases: Databases, import_id: str, size: int) -> None:
    with transaction(databases.hospital) as session:
        row = receiving(session, import_id)
        row.received_bytes, row.file_count = Import.received_bytes + size, Import.file_count + 1
        row.updated_at = clock.now()


def _sync(folder: Path) -> None:
    """Make the files of an upload durable.

    Raises
    ------
    ConfigurationError
        When there is none.
    """
    files = sorted(folder.glob("*.bin"))
    if not files:
        raise ConfigurationError("No file was added to this import.")
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)
