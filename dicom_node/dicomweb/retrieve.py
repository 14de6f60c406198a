"""WADO-RS: studies, series and instances as DICOM files, metadata, frames and bulk data (PS3.18 10.4, 10.5 resources).

Everything is given in pieces: one instance, or one frame of it, is the most that is held in memory.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.db.dicomweb import Held
from dicom_node.dicomweb.accept import ANY_SYNTAX, RELATED, Choice, choices, refusal
from dicom_node.dicomweb.archive import Archive
from dicom_node.dicomweb.attributes import UID_TAGS
from dicom_node.dicomweb.bulk import OCTETS, bulk_value, frame_type
from dicom_node.dicomweb.dicom_json import MEDIA_TYPE, JsonDataset, dumps, json_of
from dicom_node.dicomweb.place import Place, base_url, read_place
from dicom_node.dicomweb.search import require_json
from dicom_node.dicomweb.stored_file import (
    INFLATED_LIMIT_BYTES,
    PixelLayout,
    file_chunks,
    pixel_chunks,
    pixel_layout,
    read_header,
    read_whole,
    stored_frame,
    transfer_syntax,
)
from dicom_node.errors import InstanceUnreadable
from dicom_node.logs import log
from dicom_node.storage.part10 import file_head
from dicom_node.storage.syntaxes import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE

LOG = log(__name__)
DICOM = "application/dicom"
ELE = str(ExplicitVRLittleEndian)
FRAMES_LIMIT = 10_000
"""Frames of one request."""


class Body(NamedTuple):
    """One part of an answer: its type with parameters, its address, its content in pieces."""

    content_type: str
    url: str
    pieces: Iterator[bytes]


def retrieve_routes(archive: Archive) -> APIRouter:
    """Make the routes of files and metadata."""
    router = APIRouter()

    @router.get("/studies/{study}")
    @router.get("/studies/{study}/series/{series}")
    @router.get("/studies/{study}/series/{series}/instances/{instance}")
    def files(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        """Retrieve a study, series or instance as DICOM files."""
        return _files(archive, request, read_place(study, series, instance))

    @router.get("/studies/{study}/metadata")
    @router.get("/studies/{study}/series/{series}/metadata")
    @router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
    def metadata(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        """Retrieve the headers of a study, series or instance."""
        require_json(request)
        found = archive.find(read_place(study, series, instance))
        return StreamingResponse(_metadata(archive, found, base_url(request)), media_type=MEDIA_TYPE)

    @router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{numbers}")
    def frames(request: Request, study: str, series: str, instance: str, numbers: str) -> Response:
        """Retrieve frames of an instance; the list of numbers begins with 1."""
        place = read_place(study, series, instance)
        layout, wanted = find_frames(archive, place, numbers)
        return _frames(request, place, layout, wanted)

    @router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tags:path}")
    def bulkdata(request: Request, study: str, series: str, instance: str, tags: str) -> Response:
        """Retrieve one large value of an instance, by its place in the dataset."""
        place = read_place(study, series, instance)
        (held,) = archive.find(place)[:1]
        return _bulkdata(request, archive, held, place, tags)

    return router


def find_frames(archive: Archive, place: Place, numbers: str) -> tuple[PixelLayout, list[int]]:
    """Return the pixels of an instance, and the frames a list of numbers names.

    Raises
    ------
    HTTPException
        400 when the list is none, 404 when the instance does not have such a frame.
    """
    parts = numbers.split(",")
    if len(parts) > FRAMES_LIMIT or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise HTTPException(400, "Frames are named by whole numbers with commas between them.")
    layout = pixel_layout(archive.path(archive.find(place)[0]))
    wanted = [int(part) for part in parts]
    if layout is None:
        raise HTTPException(404, "The instance has no frames.")
    if not all(1 <= number <= layout.frame_count for number in wanted):
        raise HTTPException(404, f"The instance has the frames 1 to {layout.frame_count}.")
    return layout, wanted


def related(bodies: Iterator[Body], kind: str) -> Response:
    """Answer with several parts, streamed."""
    boundary = uuid4().hex

    def pieces() -> Iterator[bytes]:
        waiting = b""  # heads go with the content that follows: every piece costs a change of threads
        for body in bodies:
            head = f"--{boundary}\r\nContent-Type: {body.content_type}\r\nContent-Location: {body.url}\r\n\r\n"
            waiting += head.encode("ascii")
            for piece in body.pieces:
                yield waiting + piece
                waiting = b""
            waiting += b"\r\n"
        yield waiting + f"--{boundary}--\r\n".encode("ascii")

    return StreamingResponse(pieces(), headers={"Content-Type": f'{RELATED}; type="{kind}"; boundary={boundary}'})


def _files(archive: Archive, request: Request, place: Place) -> Response:
    """Answer with files: in the transfer syntax that is named, else decompressed where that can be done."""
    found = archive.find(place)
    base, is_only = base_url(request), len(found) == 1
    for choice in choices(request):
        wanted = choice.transfer_syntax_uid
        if not choice.takes(DICOM) or not _can_be(archive, found, wanted):
            continue
        bodies: Iterator[Body] = (_file(archive, held, wanted, base, is_only=is_only) for held in found)
        if is_only:
            bodies = iter([*bodies])  # an error is an answer only before the first piece
        if choice.is_multipart:
            return related(bodies, DICOM)
        if is_only:
            (body,) = bodies
            return StreamingResponse(body.pieces, headers={"Content-Type": body.content_type})
    raise refusal(f"{RELATED} of {DICOM}, as stored or in {ELE}")


def _can_be(archive: Archive, found: list[Held], wanted: str) -> bool:
    """Tell whether all of these can be given in the transfer syntax that is named."""
    if wanted in ("", ANY_SYNTAX):
        return True
    stored = {transfer_syntax(archive.path(held)) for held in found}
    return all(one == wanted or (wanted == ELE and _is_decodable(one)) for one in stored)


def _is_decodable(syntax: str) -> bool:
    """Tell whether a transfer syntax is little endian, and there is a decoder for it or it needs none."""
    if syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE) or syntax in DEFLATED:
        return True
    try:
        return bool(get_decoder(UID(syntax)).is_available)
    except NotImplementedError:
        return False


def _file(archive: Archive, held: Held, wanted: str, base: str, *, is_only: bool) -> Body:
    """Return one file; of several, one whose pixels are broken is given as stored, and says so."""
    path = archive.path(held)
    stored = transfer_syntax(path)
    url = Place(held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid).url(base)
    if wanted not in (ANY_SYNTAX, stored) and _is_decodable(stored) and stored != ELE:
        try:
            return Body(f"{DICOM}; transfer-syntax={ELE}", url, iter(_transcoded(archive, held)))
        except InstanceUnreadable as error:
            if is_only and wanted:
                raise refusal(f"this instance in {stored}") from error
            LOG.error("instance_not_decompressed", transfer_syntax_uid=stored)
    return Body(f"{DICOM}; transfer-syntax={stored}", url, file_chunks(path))


def _transcoded(archive: Archive, held: Held) -> tuple[bytes, bytes]:
    """Return an instance in Explicit VR Little Endian: the head of the file, and the dataset."""
    path = archive.path(held)
    layout = pixel_layout(path)
    if layout is not None and layout.frame_bits * layout.frame_count > INFLATED_LIMIT_BYTES * 8:
        raise InstanceUnreadable("The instance is larger than this node decompresses.")
    dataset = read_whole(path)
    try:
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            dataset.decompress(generate_instance_uid=False)
        buffer = BytesIO()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=False)
    except Exception as error:  # noqa: BLE001 - hostile pixels fail in any way
        raise InstanceUnreadable(f"The instance cannot be decompressed ({type(error).__name__}).") from None
    return file_head(held.sop_class_uid, held.sop_instance_uid, ELE), buffer.getvalue()


def _metadata(archive: Archive, found: list[Held], base: str) -> Iterator[bytes]:
    """Yield a JSON array, one instance a piece; one that cannot be read is given with its UIDs alone."""
    start = b"["
    for held in found:
        place = Place(held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)
        yield start + dumps(_header_of(archive, held, place, base))
        start = b","
    yield b"]"


def _header_of(archive: Archive, held: Held, place: Place, base: str) -> JsonDataset:
    try:
        header = read_header(archive.path(held))
    except (InstanceUnreadable, OSError) as error:
        LOG.error("kept_instance_unreadable", error=type(error).__name__)
        uids = (
            ("00080016", held.sop_class_uid),
            *zip(UID_TAGS, (place.study, place.series, place.instance), strict=True),
        )
        return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids}
    element = json_of(header.dataset, place.bulk_address(base))
    if header.pixel_tag:
        tag = f"{header.pixel_tag:08X}"
        vr = {"7FE00008": "OF", "7FE00009": "OD"}.get(tag, "OW")
        element[tag] = {"vr": vr, "BulkDataURI": place.bulk_address(base)(tag)}
    return element


def _frames(request: Request, place: Place, layout: PixelLayout, wanted: list[int]) -> Response:
    """Answer with frames as they are stored, or decompressed where that is what is asked for."""
    stored = frame_type(layout.syntax) if layout.is_encapsulated else OCTETS
    for choice in choices(request):
        as_stored = _takes_stored(choice, layout, stored)
        if not as_stored and not (choice.takes(OCTETS) and choice.transfer_syntax_uid in ("", ANY_SYNTAX, ELE)):
            continue
        if not choice.is_multipart and len(wanted) > 1:
            continue
        syntax = str(layout.syntax) if as_stored and layout.is_encapsulated else ELE
        kind = stored if as_stored else OCTETS
        read = stored_frame if as_stored else _decompressed
        first = read(layout, wanted[0])  # an error is an answer only before the first piece
        url = f"{place.url(base_url(request))}/frames"
        content_type = f"{kind}; transfer-syntax={syntax}"
        if not choice.is_multipart:
            return Response(first, headers={"Content-Type": content_type})
        bodies = (
            Body(content_type, f"{url}/{number}", iter([first if number == wanted[0] else read(layout, number)]))
            for number in wanted
        )
        return related(bodies, kind)
    raise refusal(f"{RELATED} of {stored} with transfer-syntax={layout.syntax}, or of {OCTETS}")


def _takes_stored(choice: Choice, layout: PixelLayout, stored: str) -> bool:
    """Tell whether frames as they are stored are what is taken.

    Compressed ones are for an asker that names their type, or leaves type and transfer syntax open.
    """
    if not layout.is_encapsulated:
        return choice.takes(OCTETS) and choice.transfer_syntax_uid in ("", ANY_SYNTAX, ELE)
    is_named = choice.takes(stored) and choice.name != "*/*"
    is_open = choice.takes(OCTETS) and choice.transfer_syntax_uid == ANY_SYNTAX
    return (is_named or is_open or choice.name == "*/*") and choice.transfer_syntax_uid in (
        "",
        ANY_SYNTAX,
        str(layout.syntax),
    )


def _decompressed(layout: PixelLayout, number: int) -> bytes:
    """Return one frame decompressed, little endian, colours as RGB."""
    if layout.frame_bits > INFLATED_LIMIT_BYTES * 8:
        raise InstanceUnreadable("The frame is larger than this node decompresses.")
    try:
        return bytes(pixel_array(str(layout.path), index=number - 1).tobytes())
    except Exception as error:  # noqa: BLE001 - hostile pixels fail in any way
        raise InstanceUnreadable(f"The frame cannot be decompressed ({type(error).__name__}).") from None


def _bulkdata(request: Request, archive: Archive, held: Held, place: Place, tags: str) -> Response:
    path = archive.path(held)
    layout = pixel_layout(path)
    if layout is not None and tags.upper() == f"{layout.tag:08X}":
        kind = frame_type(UID(layout.syntax)) if layout.is_encapsulated else OCTETS
        syntax = str(layout.syntax) if layout.is_encapsulated else ELE
        pieces = pixel_chunks(layout)
        is_one = not layout.is_encapsulated or layout.frame_count == 1
    else:
        value, kind = bulk_value(path, tags)
        syntax, pieces, is_one = ELE, iter([value]), True
    url = f"{place.url(base_url(request))}/bulkdata/{tags}"
    for choice in choices(request):
        if not (choice.takes(kind) or choice.takes(OCTETS)):
            continue
        shown = kind if choice.takes(kind) else OCTETS
        if choice.is_multipart:
            content_type = f"{shown}; transfer-syntax={syntax}"
            bodies = (Body(content_type, url, iter([piece])) for piece in pieces)
            return related(iter([Body(content_type, url, pieces)]) if is_one else bodies, shown)
        if is_one:
            return StreamingResponse(pieces, headers={"Content-Type": shown})
    raise refusal(f"{RELATED} of {kind}")
