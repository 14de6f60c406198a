"""An Orthanc as a destination, by its own REST interface (Orthanc Book, "REST API of Orthanc")."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orthanc_api_client import OrthancApiClient
from orthanc_api_client import exceptions as orthanc_errors
from pydicom.filereader import read_file_meta_info

from dicom_node.errors import PeerUnavailable
from dicom_node.net.find import StudyIdentity
from dicom_node.net.outcomes import in_words, outcome_of
from dicom_node.net.presence import InstanceKey
from dicom_node.net.remote import TEMPORARY, UNAUTHORISED, WebServer, asking, orthanc_client
from dicom_node.net.scu import Echo, Offer, Refusal

UPLOAD_STATUS = {"Success": 0x0000, "AlreadyStored": 0x0111, "FilteredOut": 0x0124, "Failure": 0x0110}
"""What ``POST /instances`` says of an object, as a DIMSE status. The client's own ``upload_file`` does not look at it:
an object that a filter of the Orthanc threw away would pass for stored."""
BAD_FILE, BEING_STORED = 0xC000, 0x0210


def offer_to_orthanc(
    server: WebServer, paths: Sequence[Path], on_sent: Callable[[Path, int], None], ask_for: Sequence[str] = ()
) -> Offer:
    """Upload DICOM files to an Orthanc, one after the other; parameters and errors as `offer_by_stow`."""
    refusals = []
    for path in paths:
        sop_class = str(read_file_meta_info(path).MediaStorageSOPClassUID)
        with asking(server):
            status = _upload(orthanc_client(server), path)
        outcome = outcome_of(status)
        if outcome == "later":
            raise PeerUnavailable(f"{server.name} answered {in_words(status)}.")
        if outcome == "accepted":
            on_sent(path, status)
        else:
            sentence = f"{server.name} answered {in_words(status)} for SOP class {sop_class}."
            refusals.append(Refusal(path, sop_class, sentence, outcome, status))
    return Offer(frozenset(ask_for), tuple(refusals))


def _upload(client: OrthancApiClient, path: Path) -> int:
    try:
        said = client.post("instances", data=path.read_bytes()).json()
    except orthanc_errors.HttpError as error:
        return _status_of(error)
    return UPLOAD_STATUS.get(str(said["Status"]), 0x0110)


def _status_of(error: orthanc_errors.HttpError) -> int:
    """Return the status of an object that HTTP refused; what concerns the server and not the object goes on.

    Raises
    ------
    HttpError
        The error itself.
    """
    code = int(error.http_status_code or 0)
    if isinstance(error, orthanc_errors.Conflict):
        return BEING_STORED
    if code in UNAUTHORISED or code in TEMPORARY or not 400 <= code < 500:
        raise error
    return BAD_FILE


def held_by_orthanc(server: WebServer, keys: Sequence[InstanceKey]) -> set[str]:
    """Return which of these instances an Orthanc says it holds: their SOP Instance UIDs.

    Raises
    ------
    PeerUnavailable, ConfigurationError
        As `remote.asking`.
    """
    with asking(server):
        client = orthanc_client(server)
        return {key.sop_instance_uid for key in keys if client.post("tools/find", json=_query(key)).json()}


def _query(key: InstanceKey) -> dict[str, object]:
    return {
        "Level": "Instance",
        "Query": {
            "StudyInstanceUID": key.study_instance_uid,
            "SeriesInstanceUID": key.series_instance_uid,
            "SOPInstanceUID": key.sop_instance_uid,
        },
        "Limit": 1,
    }


def find_study_in_orthanc(server: WebServer, study_instance_uid: str) -> list[StudyIdentity]:
    """Ask an Orthanc for the identity of a study; none where it does not know it.

    The issuer of the patient ID is not among its main tags, so that it says nothing of it.

    Raises
    ------
    PeerUnavailable, ConfigurationError
        As `remote.asking`.
    """
    query = {"Level": "Study", "Query": {"StudyInstanceUID": study_instance_uid}, "Expand": True, "Limit": 2}
    with asking(server):
        found = orthanc_client(server).post("tools/find", json=query).json()
        tags = [one["PatientMainDicomTags"] for one in found]
        return [
            StudyIdentity(
                patient_id=str(one.get("PatientID", "")).strip(),
                name=str(one.get("PatientName", "")).strip(),
                birth_date=str(one.get("PatientBirthDate", "")).strip(),
            )
            for one in tags
        ]


def echo_orthanc(server: WebServer) -> Echo:
    """Verify an Orthanc by asking for its version.

    Raises
    ------
    PeerUnavailable, ConfigurationError
        As `remote.asking`.
    """
    began = time.monotonic()
    with asking(server):
        version = str(orthanc_client(server).get_json("system")["Version"])[:32]
    return Echo(time.monotonic() - began, (f"Orthanc {version}",))
