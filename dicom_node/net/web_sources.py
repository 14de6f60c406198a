"""Finding and retrieving at peers on the web: DICOMweb (QIDO-RS and WADO-RS, PS3.18) and Orthanc's own interface.

Instances are taken as they are held: nothing is decoded, and a server is asked for the stored transfer syntax.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import requests

from dicom_node.dicomweb.multipart import BadMultipartError, MultipartReader, media_type
from dicom_node.errors import NotFound, PeerUnavailable, RetrievalRefused
from dicom_node.net.remote import WebServer, asking, dicomweb_client, orthanc_client
from dicom_node.net.retrieve import said
from dicom_node.net.sources import (
    MAX_MATCHES,
    Inventory,
    Keep,
    Stopped,
    StudyMatch,
    StudyQuery,
    Tally,
    Watch,
    answering,
)
from dicom_node.storage.dicom_file import read_dicom_file

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Instances in the transfer syntax they are held in (PS3.18 8.7.3.5.2)."""
CHUNK_BYTES = 1 << 20
PAGE = 5000
"""Instances asked for at a time; QIDO-RS servers limit answers (PS3.18 8.3.4)."""
MAX_LISTED = 100_000
"""Instances read of one study [m assumption]; a longer list is no study's."""
MAX_PART_BYTES = 2 << 30
"""No instance is larger [m assumption]; a larger part is read to its end and dropped."""


@dataclass(frozen=True, slots=True)
class DicomWebSource:
    """A DICOMweb service; ``calling_aet`` stands for the sender in the intake."""

    server: WebServer
    calling_aet: str

    @property
    def name(self) -> str:
        """What people call the peer."""
        return self.server.name

    @property
    def is_direct(self) -> bool:
        """The images come to the caller."""
        return True

    def find(self, query: StudyQuery) -> list[StudyMatch]:
        """Return the studies that answer a query, by QIDO-RS.

        Raises
        ------
        PeerUnavailable, ConfigurationError
            As `remote.asking`.
        RetrievalRefused
            When there are too many.
        """
        filters = (
            {"AccessionNumber": query.accession_number} if query.accession_number else {"PatientID": query.patient_id}
        )
        if query.date_range:
            filters["StudyDate"] = query.date_range
        with asking(self.server):
            client = dicomweb_client(self.server)
            found = client.search_for_studies(
                search_filters=filters,
                fields=["StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"],
                limit=10 * MAX_MATCHES,
            )
            narrowed = answering(query, [_study_from_json(one) for one in found])
            known = [one if one.modalities else self._with_modalities(client, one) for one in narrowed]
        return answering(query, known)

    def inventory(self, study_instance_uid: str) -> Inventory:
        """Return what the service lists of a study, by QIDO-RS.

        Raises
        ------
        PeerUnavailable, ConfigurationError
            As `remote.asking`.
        RetrievalRefused
            When the list does not end.
        """
        listed: dict[str, tuple[str, str, str]] = {}
        with asking(self.server):
            client = dicomweb_client(self.server)
            offset = 0
            while offset <= MAX_LISTED:
                page = client.search_for_instances(study_instance_uid=study_instance_uid, limit=PAGE, offset=offset)
                before, offset = len(listed), offset + len(page)
                for one in page:
                    uid = _json_value(one, "00080018")
                    listed[uid] = (_json_value(one, "0020000E"), uid, _json_value(one, "00080016"))
                if len(listed) == before:
                    return _inventory(listed.values())
        raise RetrievalRefused(f"{self.name} lists more than {MAX_LISTED} instances of one study.")

    def retrieve(self, study_instance_uid: str, series: str, inventory: Inventory, keep: Keep, watch: Watch) -> Tally:
        """Retrieve one series, or the whole study where ``series`` is empty, by WADO-RS; as `DimseSource.retrieve`."""
        del inventory, watch
        path = ["studies", study_instance_uid, *(["series", series] if series else [])]
        with (
            asking(self.server),
            self.server.session() as session,
            session.get(self.server.address(*path), headers={"Accept": AS_STORED}, stream=True) as answer,
        ):
            answer.raise_for_status()
            kind = media_type(answer.headers.get("Content-Type", ""))
            if kind.name != "multipart/related":
                raise RetrievalRefused(f"{self.name} did not answer WADO-RS with multipart/related.")
            reader = MultipartReader(kind.parameters.get("boundary", ""), MAX_PART_BYTES)
            return _keep_all(_parts(answer, reader, self.name), self.calling_aet, keep)

    def _with_modalities(self, client: Any, match: StudyMatch) -> StudyMatch:
        series = client.search_for_series(study_instance_uid=match.study_instance_uid)
        modalities = tuple(dict.fromkeys(filter(None, (_json_value(one, "00080060") for one in series))))
        return replace(match, modalities=modalities)


@dataclass(frozen=True, slots=True)
class OrthancSource:
    """An Orthanc, by its own REST interface; ``calling_aet`` stands for the sender in the intake."""

    server: WebServer
    calling_aet: str

    @property
    def name(self) -> str:
        """What people call the peer."""
        return self.server.name

    @property
    def is_direct(self) -> bool:
        """The images come to the caller."""
        return True

    def find(self, query: StudyQuery) -> list[StudyMatch]:
        """Return the studies that answer a query, by ``/tools/find``; raises as `DicomWebSource.find`."""
        keys = (
            {"AccessionNumber": query.accession_number} if query.accession_number else {"PatientID": query.patient_id}
        )
        if query.date_range:
            keys["StudyDate"] = query.date_range
        sought = {
            "Level": "Study",
            "Query": keys,
            "Expand": True,
            "CaseSensitive": True,
            "Limit": 10 * MAX_MATCHES,
        }
        with asking(self.server):
            client = orthanc_client(self.server)
            found = client.post("tools/find", json=sought).json()
            narrowed = answering(query, [_study_from_orthanc(one) for one in found])
            ids = {one["MainDicomTags"].get("StudyInstanceUID", ""): str(one["ID"]) for one in found}
            known = [_with_series(client, ids[one.study_instance_uid], one) for one in narrowed]
        return answering(query, known)

    def inventory(self, study_instance_uid: str) -> Inventory:
        """Return what the Orthanc lists of a study; raises as `DicomWebSource.inventory`."""
        with asking(self.server):
            client = orthanc_client(self.server)
            return _inventory(
                (series, one["MainDicomTags"]["SOPInstanceUID"], "")
                for series, one in self._instances(client, study_instance_uid)
            )

    def retrieve(self, study_instance_uid: str, series: str, inventory: Inventory, keep: Keep, watch: Watch) -> Tally:
        """Download one series, or the whole study where ``series`` is empty, file by file."""
        del inventory, watch
        with asking(self.server):
            client = orthanc_client(self.server)
            wanted = [
                str(one["ID"])
                for its_series, one in self._instances(client, study_instance_uid)
                if series in ("", its_series)
            ]
            return _keep_all((client.instances.get_file(one) for one in wanted), self.calling_aet, keep)

    def _instances(self, client: Any, study_instance_uid: str) -> list[tuple[str, dict[str, Any]]]:
        """Return Series Instance UID and Orthanc's description of each instance of a study."""
        found = client.studies.lookup(study_instance_uid)
        if found is None:
            raise NotFound(f"{self.name} no longer holds the study.")
        names = {
            str(one["ID"]): str(one["MainDicomTags"].get("SeriesInstanceUID", ""))
            for one in client.get_json(f"studies/{found}/series")
        }
        listed = client.get_json(f"studies/{found}/instances")
        return [(names[str(one["ParentSeries"])], one) for one in listed]


def _keep_all(files: Iterable[bytes | bytearray], calling_aet: str, keep: Keep) -> Tally:
    """Keep file after file; one that is refused does not keep the others back."""
    completed, failed = 0, 0
    sentences: tuple[str, ...] = ()
    for content in files:
        try:
            keep(read_dicom_file(content, calling_aet).arrival)
            completed += 1
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: as the storage SCP, which answers a status
            failed += 1
            sentences = tuple(dict.fromkeys((*sentences, said(error))))[:5]
    return Tally(completed, failed, 0, sentences)


def _parts(answer: requests.Response, reader: MultipartReader, name: str) -> Iterator[bytearray]:
    """Give every part that came whole; a connection that breaks must never make half an image look whole."""
    try:
        for chunk in answer.iter_content(CHUNK_BYTES):
            for part in reader.feed(chunk):
                if part.content is not None:
                    yield part.content
    except (requests.RequestException, BadMultipartError):
        raise PeerUnavailable(f"{name} broke off an answer.") from None
    if not reader.has_ended:
        raise PeerUnavailable(f"{name} broke off an answer before its end; what was incomplete was not kept.")


def _inventory(listed: Iterable[tuple[str, str, str]]) -> Inventory:
    """Make an inventory of (series, instance, SOP class) rows."""
    series: dict[str, set[str]] = {}
    classes: set[str] = set()
    for its_series, instance, sop_class in listed:
        series.setdefault(its_series, set()).add(instance)
        classes.add(sop_class)
    return Inventory(
        {uid: frozenset(members) for uid, members in series.items()},
        {uid: len(members) for uid, members in series.items()},
        frozenset(classes - {""}),
    )


def _study_from_json(study: dict[str, Any]) -> StudyMatch:
    """Read a study of the DICOM JSON model (PS3.18 annex F)."""
    number = _json_value(study, "00201208")
    return StudyMatch(
        study_instance_uid=_json_value(study, "0020000D"),
        patient_id=_json_value(study, "00100020"),
        accession_number=_json_value(study, "00080050"),
        study_date=_json_value(study, "00080020"),
        description=_json_value(study, "00081030"),
        modalities=tuple(str(one).strip() for one in _json_values(study, "00080061") if one),
        instance_count=int(number) if number.isascii() and number.isdecimal() else None,
    )


def _json_values(item: dict[str, Any], tag: str) -> list[Any]:
    return list(item.get(tag, {}).get("Value") or ())


def _json_value(item: dict[str, Any], tag: str) -> str:
    values = _json_values(item, tag)
    return str(values[0]).replace("\x00", "").strip() if values and values[0] is not None else ""


def _study_from_orthanc(study: dict[str, Any]) -> StudyMatch:
    tags, patient = study["MainDicomTags"], study.get("PatientMainDicomTags", {})
    return StudyMatch(
        study_instance_uid=str(tags.get("StudyInstanceUID", "")).strip(),
        patient_id=str(patient.get("PatientID", "")).strip(),
        accession_number=str(tags.get("AccessionNumber", "")).strip(),
        study_date=str(tags.get("StudyDate", "")).strip(),
        description=str(tags.get("StudyDescription", "")).strip(),
    )


def _with_series(client: Any, study: str, match: StudyMatch) -> StudyMatch:
    """Ask an Orthanc for the series of a study: every version says their modality and instances."""
    series = client.get_json(f"studies/{study}/series")
    modalities = dict.fromkeys(filter(None, (str(one["MainDicomTags"].get("Modality", "")) for one in series)))
    return replace(match, modalities=tuple(modalities), instance_count=sum(len(one["Instances"]) for one in series))
