"""A DICOMweb service as a destination: STOW-RS (PS3.18 10.5), and QIDO-RS (10.6) to find out what it holds.

One object goes in one request: its answer then is that object's alone, whatever the service says of several.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info

from dicom_node.errors import NodeError, PeerUnavailable
from dicom_node.net.find import IDENTITY_KEYS, StudyIdentity, identity_of_header
from dicom_node.net.outcomes import in_words, outcome_of
from dicom_node.net.presence import InstanceKey
from dicom_node.net.remote import TEMPORARY, UNAUTHORISED, WebServer, asking, dicomweb_client, error_of
from dicom_node.net.scu import Echo, Offer, Refusal

JSON = "application/dicom+json"
FAILED, REFERENCED, OTHER_FAILURES = "00081198", "00081199", "0008119A"
FAILURE_REASON, WARNING_REASON = "00081197", "00081196"
MAX_ANSWER_BYTES = 1_000_000
DUPLICATE = 0x0111
STORED, PARTLY, CONFLICT = 200, 202, 409
"""STOW-RS: all stored; stored with warnings, or not all; none stored (PS3.18 table 10.5.3-1)."""


def offer_by_stow(
    server: WebServer, paths: Sequence[Path], on_sent: Callable[[Path, int], None], ask_for: Sequence[str] = ()
) -> Offer:
    """Offer DICOM files to a DICOMweb service, one after the other.

    Parameters
    ----------
    server
        The service.
    paths
        DICOM files with file meta information.
    on_sent
        Called after each stored object with its path and the warning reason, 0 without one.
    ask_for
        SOP classes that may be offered next; a web service negotiates none, so all of them are.

    Raises
    ------
    PeerUnavailable
        When it cannot be reached, or says to come again.
    ConfigurationError
        When it does not accept the credentials or the certificate.
    """
    refusals = []
    with server.session() as session:
        for path in paths:
            meta = read_file_meta_info(path)
            with asking(server):
                code, reason = _store(server, session, path, meta)
            outcome = outcome_of(reason)
            words = f"{server.name} answered HTTP {code} with {in_words(reason)}"
            if outcome == "later":
                raise PeerUnavailable(f"{words}.")
            if outcome == "accepted":
                on_sent(path, reason)
            else:
                sop_class = str(meta.MediaStorageSOPClassUID)
                refusals.append(Refusal(path, sop_class, f"{words} for SOP class {sop_class}.", outcome, reason))
    return Offer(frozenset(ask_for), tuple(refusals))


def _store(server: WebServer, session: requests.Session, path: Path, meta: FileMetaDataset) -> tuple[int, int]:
    """Store one object; return the HTTP status and what it means for the object.

    The part's media type has no transfer-syntax parameter: the file says it itself, and Orthanc's plug-in (1.7) takes
    no part with one.
    """
    boundary = uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n"
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}', "Accept": JSON}
    body = b"".join([head.encode(), path.read_bytes(), f"\r\n--{boundary}--\r\n".encode()])
    with session.post(server.address("studies"), data=body, headers=headers, stream=True) as answer:
        code, said = answer.status_code, _read(answer)
    if code in TEMPORARY or code in UNAUTHORISED:
        raise error_of(server, code)
    reason = judge(code, said)
    is_open = code in (STORED, PARTLY, CONFLICT) and outcome_of(reason) not in ("accepted", "class_refused")
    return code, DUPLICATE if is_open and _finds(server, str(meta.MediaStorageSOPInstanceUID)) else reason


def judge(code: int, said: dict[str, Any] | None) -> int:
    """Return the status of the one object of a request.

    Parameters
    ----------
    code
        HTTP status.
    said
        The answer's dataset in the DICOM JSON model; None when it is none.

    Returns
    -------
    int
        A status of ``outcomes.STATUSES``: the failure or warning reason that the answer names; success where it names
        a stored object without one. Where it names none: 0x0110 for 200, 202 and 409, 0xC000 for any other.

    Notes
    -----
    A 200 alone is no receipt: Orthanc's plug-in (1.7) answers so with an empty Referenced SOP Sequence when it stored
    nothing because a part has a Content-Type it does not know, and a log-in page in front of an archive is a 200 too.
    Whoever answers so has the object only where a search finds it.
    """
    answer = said or {}
    for key in (FAILED, OTHER_FAILURES):
        for item in _items(answer, key):
            return _number(item, FAILURE_REASON, 0x0110)
    for item in _items(answer, REFERENCED):
        if code in (STORED, PARTLY):
            return _number(item, WARNING_REASON, 0)
    return 0x0110 if code in (STORED, PARTLY, CONFLICT) else 0xC000


def held_by_qido(server: WebServer, keys: Sequence[InstanceKey]) -> set[str]:
    """Return which of these instances a service says it holds: their SOP Instance UIDs.

    Raises
    ------
    PeerUnavailable, ConfigurationError
        As `remote.asking`.
    """
    with asking(server):
        client = dicomweb_client(server)
        return {
            key.sop_instance_uid
            for key in keys
            if any(
                _text(one, "00080018") == key.sop_instance_uid
                for one in client.search_for_instances(
                    key.study_instance_uid,
                    key.series_instance_uid,
                    search_filters={"SOPInstanceUID": key.sop_instance_uid},
                    limit=2,
                )
            )
        }


def find_study_by_qido(server: WebServer, study_instance_uid: str) -> list[StudyIdentity]:
    """Ask a service for the identity of a study; one per match, so usually one, and none where it does not know it.

    Raises
    ------
    PeerUnavailable, ConfigurationError
        As `remote.asking`.
    """
    with asking(server):
        found = dicomweb_client(server).search_for_studies(
            search_filters={"StudyInstanceUID": study_instance_uid}, fields=list(IDENTITY_KEYS), limit=2
        )
        mine = [one for one in found if _text(one, "0020000D") == study_instance_uid]
        return [identity_of_header(Dataset.from_json(one)) for one in mine]


def echo_by_qido(server: WebServer) -> Echo:
    """Verify a service with a QIDO-RS search that matches nothing.

    Raises
    ------
    PeerUnavailable, ConfigurationError
        As `remote.asking`.
    """
    began = time.monotonic()
    with asking(server):
        dicomweb_client(server).search_for_studies(search_filters={"StudyInstanceUID": "2.25.0"}, limit=1)
    return Echo(time.monotonic() - began, ("QIDO-RS",))


def _finds(server: WebServer, sop_instance_uid: str) -> bool:
    """Tell whether a service that called an object a conflict holds it, by a search over everything."""
    try:
        with asking(server):
            found = dicomweb_client(server).search_for_instances(
                search_filters={"SOPInstanceUID": sop_instance_uid}, limit=2
            )
            return any(_text(one, "00080018") == sop_instance_uid for one in found)
    except NodeError:
        return False


def _read(answer: requests.Response) -> dict[str, Any] | None:
    """Read an answer in the DICOM JSON model, of some servers as a list of one; anything else is None."""
    content = b""
    for part in answer.iter_content(65_536):
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            return None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    first = found[0] if isinstance(found, list) and len(found) == 1 else found
    return first if isinstance(first, dict) else None


def _items(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    values = _values(answer, key)
    return [one for one in values if isinstance(one, dict)]


def _values(item: dict[str, Any], key: str) -> list[Any]:
    element = item.get(key)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _number(item: dict[str, Any], key: str, default: int) -> int:
    values = _values(item, key)
    is_code = bool(values) and isinstance(values[0], int) and 0 <= values[0] <= 0xFFFF
    return int(values[0]) if is_code else default


def _text(item: dict[str, Any], key: str) -> str:
    values = _values(item, key)
    return str(values[0]).strip() if values else ""
