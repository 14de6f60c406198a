"""STOW-RS: instances arrive and are durable before the answer (PS3.18 10.5).

A request is read in pieces. A few instances are being kept while the next one arrives; together they hold no more
memory than ``IN_FLIGHT_BYTES``, or than one instance if that is larger.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from dicom_node import clock
from dicom_node.audit.events import Event, StudyInstances, instances_received, web_client
from dicom_node.dicomweb.accept import RELATED
from dicom_node.dicomweb.archive import Archive
from dicom_node.dicomweb.dicom_json import MEDIA_TYPE, dumps
from dicom_node.dicomweb.multipart import BadMultipartError, MultipartReader, Part, media_type
from dicom_node.dicomweb.place import Place, base_url, read_uid
from dicom_node.dicomweb.search import require_json
from dicom_node.errors import NotDicom
from dicom_node.logs import log
from dicom_node.net.statuses import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, status_of
from dicom_node.storage.dicom_file import read_dicom_file
from dicom_node.uids import is_uid

LOG = log(__name__)
CALLING_AET = "STOW-RS"
"""What stands in the place of a calling AE title for instances that came this way."""
DICOM = "application/dicom"
WRONG_STUDY = 0xC409
"""Failure reason of an instance of another study than the address names: cannot understand (PS3.18 table I.2-2)."""
REQUESTS_AT_ONCE = 4
AT_ONCE = 8
IN_FLIGHT_BYTES = 64_000_000
PARTS_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one part; ``failure`` is 0 where it is durable."""

    failure: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    is_too_large: bool = False


@dataclass(slots=True)
class _Window:
    """Parts on their way to the disk: few, and few bytes together."""

    archive: Archive
    study: str
    outcomes: list[Outcome | None] = field(default_factory=list)
    waiting: set[asyncio.Task[None]] = field(default_factory=set)
    held_bytes: int = 0
    limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(AT_ONCE))

    async def add(self, part: Part) -> None:
        """Have a part kept; return when there is room for another."""
        size = len(part.content or b"")
        number = len(self.outcomes)
        self.outcomes.append(None)
        self.held_bytes += size
        task = asyncio.create_task(self._keep(number, part, size))
        self.waiting.add(task)
        while self.waiting and (len(self.waiting) >= AT_ONCE or self.held_bytes > IN_FLIGHT_BYTES):
            await self._wait_for_one()

    async def end(self) -> list[Outcome]:
        """Wait for all of them."""
        while self.waiting:
            await self._wait_for_one()
        return [outcome for outcome in self.outcomes if outcome is not None]

    async def _wait_for_one(self) -> None:
        done, self.waiting = await asyncio.wait(self.waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _keep(self, number: int, part: Part, size: int) -> None:
        try:
            self.outcomes[number] = await run_sync(keep_part, self.archive, self.study, part, limiter=self.limiter)
        finally:
            self.held_bytes -= size


def store_routes(archive: Archive) -> APIRouter:
    """Make the routes that store."""
    router = APIRouter()
    gate = asyncio.Semaphore(REQUESTS_AT_ONCE)

    @router.post("/studies")
    async def store(request: Request) -> Response:
        """Store instances of any study."""
        async with gate:
            return await _store(archive, request, "")

    @router.post("/studies/{study}")
    async def store_study(request: Request, study: str) -> Response:
        """Store instances of one study; others fail."""
        async with gate:
            return await _store(archive, request, read_uid(study))

    return router


async def _store(archive: Archive, request: Request, study: str) -> Response:
    require_json(request)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "The body has to come as it is, without a content encoding.")
    window = _Window(archive, study)
    problem = ""
    try:
        async for part in _parts(request, archive):
            if len(window.outcomes) >= PARTS_LIMIT:
                problem = f"More than {PARTS_LIMIT} parts."
                break
            await window.add(part)
    except BadMultipartError as error:
        problem = str(error)
    finally:
        outcomes = await window.end()
        await run_sync(lambda: archive.tell(*_events(request, outcomes)))  # also when the client has gone meanwhile
    if problem and not outcomes:
        raise HTTPException(400, problem)
    if not outcomes:
        raise HTTPException(400, "The body holds no instance.")
    return _answer(outcomes, base_url(request), is_cut=bool(problem))


async def _parts(request: Request, archive: Archive) -> AsyncIterator[Part]:
    """Yield the parts of a body as they end.

    Raises
    ------
    HTTPException
        415 when it is of another kind; 408 when it stops arriving.
    BadMultipartError
        When it is not what its Content-Type says.
    """
    kind = media_type(request.headers.get("content-type", ""))
    if kind.name == RELATED and kind.root in ("", DICOM):
        reader = MultipartReader(kind.parameters.get("boundary", ""), archive.instance_limit_bytes)
        async for piece in _pieces(request, archive.idle_timeout_s):
            for part in reader.feed(piece):
                yield part
        cut_off = reader.finish()
        if cut_off is not None:
            yield cut_off
    elif kind.name == DICOM:
        yield await _single(request, archive)
    else:
        raise HTTPException(415, f"{RELATED} of {DICOM}, or {DICOM}, is stored; nothing else is.")


async def _single(request: Request, archive: Archive) -> Part:
    content: bytearray | None = bytearray()
    async for piece in _pieces(request, archive.idle_timeout_s):
        if content is not None:
            content += piece
            if len(content) > archive.instance_limit_bytes:
                content = None
    return Part(media_type(DICOM), content, is_whole=True)


async def _pieces(request: Request, idle_timeout_s: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_timeout_s):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, "The body stopped arriving.") from None
        yield piece


def keep_part(archive: Archive, study: str, part: Part) -> Outcome:
    """Make one part durable, or say why not; runs in a thread."""
    if part.content is None:
        return Outcome(OUT_OF_RESOURCES if part.is_whole else CANNOT_UNDERSTAND, is_too_large=part.is_whole)
    if part.content_type.name not in ("", DICOM):
        return Outcome(CANNOT_UNDERSTAND)
    try:
        file = read_dicom_file(part.content, CALLING_AET)
    except NotDicom:
        return Outcome(CANNOT_UNDERSTAND)
    arrival = file.arrival
    failure = 0
    if study and file.study_instance_uid not in (study, ""):
        failure = WRONG_STUDY
    else:
        try:
            archive.intake.keep(arrival, clock.now())
        except Exception as error:  # noqa: BLE001 - the boundary: every error becomes a failure reason
            failure = status_of(error)
            LOG.error(
                "instance_refused", error=type(error).__name__, status=f"0x{failure:04X}", calling_aet=CALLING_AET
            )
    return Outcome(
        failure, arrival.sop_class_uid, arrival.sop_instance_uid, file.study_instance_uid, file.series_instance_uid
    )


def _events(request: Request, outcomes: list[Outcome]) -> list[Event]:
    """Return what the audit is told: one event a study, and one for what was refused."""
    client = web_client(request.client.host if request.client else "this machine")
    kept: dict[str, Counter[str]] = {}
    for one in outcomes:
        if not one.failure:
            kept.setdefault(one.study_instance_uid, Counter())[one.sop_class_uid] += 1
    events = [instances_received(client, StudyInstances(study, counts)) for study, counts in kept.items()]
    reasons = Counter(one.failure for one in outcomes if one.failure)
    if reasons:
        words = ", ".join(f"0x{status:04X} {count}" for status, count in sorted(reasons.items()))
        events.append(instances_received(client, StudyInstances("", {"": reasons.total()}), refused=words))
    return events


def _answer(outcomes: list[Outcome], base: str, *, is_cut: bool) -> Response:
    """Return the Store Instances Response Module (PS3.18 table I.1-1) with the status that sums it up."""
    kept = [one for one in outcomes if not one.failure]
    named = [one for one in outcomes if one.failure and _is_named(one)]
    others = Counter(one.failure for one in outcomes if one.failure and not _is_named(one))
    body: dict[str, Any] = {}
    studies = {one.study_instance_uid for one in kept}
    if len(studies) == 1:
        body["00081190"] = {"vr": "UR", "Value": [Place(*studies).url(base)]}
    if named:
        body["00081198"] = _sequence([_reference(one) | {"00081197": _failure(one.failure)} for one in named])
    if kept:
        body["00081199"] = _sequence([_reference(one) | {"00081190": _address(one, base)} for one in kept])
    if others:
        body["0008119A"] = _sequence([{"00081197": _failure(one)} for one in others.elements()])
    return Response(dumps(body), _status(outcomes, kept, is_cut=is_cut), media_type=MEDIA_TYPE)


def _status(outcomes: list[Outcome], kept: list[Outcome], *, is_cut: bool) -> int:
    if kept:
        return 200 if len(kept) == len(outcomes) and not is_cut else 202
    if all(one.is_too_large for one in outcomes):
        return 413
    return 507 if all(one.failure == OUT_OF_RESOURCES for one in outcomes) else 409


def _is_named(one: Outcome) -> bool:
    return is_uid(one.sop_class_uid) and is_uid(one.sop_instance_uid)


def _reference(one: Outcome) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [one.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [one.sop_instance_uid]},
    }


def _address(one: Outcome, base: str) -> dict[str, Any]:
    place = Place(one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
    return {"vr": "UR", "Value": [place.url(base)]}


def _failure(reason: int) -> dict[str, Any]:
    return {"vr": "US", "Value": [reason]}


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}
