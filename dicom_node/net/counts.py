"""Asking a PACS how many instances it holds of a study, and which.

By C-FIND, Study Root (PS3.4 C.6.2), where Number of Study Related Instances (0020,1208) and Number of Series Related
Instances (0020,1209) are optional keys; by QIDO-RS (PS3.18 10.6); or by an Orthanc's own REST interface. What a peer
does not count is counted here, from its list of instances.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_node.errors import PeerUnavailable, RetrievalRefused
from dicom_node.net.find import PENDING, text_of
from dicom_node.net.remote import WebServer, asking, dicomweb_client, orthanc_client
from dicom_node.net.scu import Address, associate
from dicom_node.net.statuses import is_temporary
from dicom_node.uids import is_uid

MAX_MATCHES = 100_000
"""More series or instances than any study has: a peer that answers with more is not believed."""
PAGE = 1000
"""Answers of QIDO-RS asked for at a time."""


@dataclass(frozen=True, slots=True)
class SeriesCount:
    """What a peer says of one series; ``instance_count`` is None where it does not count."""

    series_instance_uid: str
    modality: str
    instance_count: int | None


class Catalogue(Protocol):
    """A peer's lists of what it holds; each method raises PeerUnavailable, or RetrievalRefused."""

    def study_count(self, study: str) -> tuple[bool, int | None]:
        """Tell whether the peer holds a study, and how many instances of it; None where it does not count."""
        ...

    def series_counts(self, study: str) -> list[SeriesCount]:
        """List the series of a study."""
        ...

    def instances(self, study: str, series: str) -> set[str]:
        """List the SOP Instance UIDs of a series."""
        ...


@contextmanager
def dimse_catalogue(address: Address) -> Iterator[Catalogue]:
    """Open an association for queries.

    Raises
    ------
    PeerUnavailable
        When the peer cannot be reached.
    RetrievalRefused
        When it does not offer C-FIND.
    """
    model = StudyRootQueryRetrieveInformationModelFind
    with associate(address, [build_context(Verification), build_context(model)]) as assoc:
        if not any(context.abstract_syntax == model for context in assoc.accepted_contexts):
            raise RetrievalRefused(f"{address.ae_title} does not offer C-FIND.")
        yield _Dimse(assoc, address.ae_title)


class _Dimse:
    def __init__(self, assoc: Association, name: str) -> None:
        self._assoc = assoc
        self._name = name

    def study_count(self, study: str) -> tuple[bool, int | None]:
        keys = {"StudyInstanceUID": study, "NumberOfStudyRelatedInstances": None}
        matches = [one for one in self._find("STUDY", keys) if _text(one, "StudyInstanceUID") == study]
        return bool(matches), _whole(matches[0], "NumberOfStudyRelatedInstances") if matches else None

    def series_counts(self, study: str) -> list[SeriesCount]:
        keys = {
            "StudyInstanceUID": study,
            "SeriesInstanceUID": "",
            "Modality": "",
            "NumberOfSeriesRelatedInstances": None,
        }
        return _unique(
            SeriesCount(
                _text(one, "SeriesInstanceUID"), _text(one, "Modality"), _whole(one, "NumberOfSeriesRelatedInstances")
            )
            for one in self._find("SERIES", keys)
        )

    def instances(self, study: str, series: str) -> set[str]:
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        found = (one for one in self._find("IMAGE", keys) if _text(one, "SeriesInstanceUID") in ("", series))
        return {uid for one in found if (uid := _text(one, "SOPInstanceUID"))}

    def _find(self, level: str, keys: dict[str, Any]) -> Iterator[Dataset]:
        query = Dataset()
        query.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(query, keyword, value)
        count = 0
        try:
            answers = self._assoc.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
        except RuntimeError:
            raise PeerUnavailable(f"{self._name} ended the association.") from None
        for status, identifier in answers:
            if "Status" not in status:
                raise PeerUnavailable(f"{self._name} broke off a C-FIND.")
            code = int(status.Status)
            if code in PENDING:
                count += 1
                if identifier is None or count > MAX_MATCHES:
                    self._assoc.abort()
                    raise PeerUnavailable(f"{self._name} answered C-FIND with matches that cannot be used.")
                yield identifier
            elif is_temporary(code):
                raise PeerUnavailable(f"{self._name} answered C-FIND with 0x{code:04X}, out of resources.")
            elif code != 0:
                raise RetrievalRefused(f"{self._name} answered C-FIND with 0x{code:04X}.")


class DicomwebCatalogue:
    """Lists of a DICOMweb service."""

    def __init__(self, server: WebServer) -> None:
        self._server = server

    def study_count(self, study: str) -> tuple[bool, int | None]:
        """Search for the study (QIDO-RS)."""
        with asking(self._server):
            found = dicomweb_client(self._server).search_for_studies(
                search_filters={"StudyInstanceUID": study}, fields=["NumberOfStudyRelatedInstances"], limit=2
            )
            matches = [one for one in map(Dataset.from_json, found) if _text(one, "StudyInstanceUID") == study]
        return bool(matches), _whole(matches[0], "NumberOfStudyRelatedInstances") if matches else None

    def series_counts(self, study: str) -> list[SeriesCount]:
        """Search for its series."""
        with asking(self._server):
            client = dicomweb_client(self._server)
            return _unique(
                SeriesCount(
                    _text(one, "SeriesInstanceUID"),
                    _text(one, "Modality"),
                    _whole(one, "NumberOfSeriesRelatedInstances"),
                )
                for one in _paged(
                    lambda offset: client.search_for_series(
                        study, fields=["NumberOfSeriesRelatedInstances"], limit=PAGE, offset=offset
                    )
                )
            )

    def instances(self, study: str, series: str) -> set[str]:
        """Search for the instances of a series."""
        with asking(self._server):
            client = dicomweb_client(self._server)
            found = _paged(lambda offset: client.search_for_instances(study, series, limit=PAGE, offset=offset))
            return {uid for one in found if (uid := _text(one, "SOPInstanceUID"))}


class OrthancCatalogue:
    """Lists of an Orthanc's REST interface."""

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self._client = orthanc_client(server)

    def study_count(self, study: str) -> tuple[bool, int | None]:
        """Look the study up."""
        with asking(self._server):
            number = self._client.studies.lookup(study)
            if number is None:
                return False, None
            return True, int(self._client.get_json(f"studies/{number}/statistics")["CountInstances"])

    def series_counts(self, study: str) -> list[SeriesCount]:
        """Read its series."""
        with asking(self._server):
            number = self._client.studies.lookup(study)
            rows = self._client.get_json(f"studies/{number}/series") if number is not None else []
            return _unique(
                SeriesCount(
                    str(one["MainDicomTags"]["SeriesInstanceUID"]),
                    str(one["MainDicomTags"].get("Modality", "")),
                    len(one["Instances"]),
                )
                for one in rows
            )

    def instances(self, study: str, series: str) -> set[str]:
        """Read the instances of a series."""
        del study
        with asking(self._server):
            number = self._client.series.lookup(series)
            rows = self._client.get_json(f"series/{number}/instances") if number is not None else []
            return {str(one["MainDicomTags"]["SOPInstanceUID"]) for one in rows}


def _paged(search: Any) -> Iterator[Dataset]:
    """Yield the answers page by page; a service that ignores the offset ends it by repeating itself."""
    seen: set[str] = set()
    offset = 0
    while offset <= MAX_MATCHES:
        page = [Dataset.from_json(one) for one in search(offset)]
        keys = [_text(one, "SOPInstanceUID") or _text(one, "SeriesInstanceUID") for one in page]
        fresh = [one for one, key in zip(page, keys, strict=True) if key not in seen]
        yield from fresh
        seen.update(keys)
        offset += len(page)
        if not fresh:
            return


def _unique(found: Iterator[SeriesCount]) -> list[SeriesCount]:
    """Return each series once; one without a UID is none."""
    return list({one.series_instance_uid: one for one in found if one.series_instance_uid}.values())


def _text(match: Dataset, keyword: str) -> str:
    """Return a UID or a code string of a match, "" for anything unusable."""
    value = text_of(match, keyword)
    return value if not keyword.endswith("UID") or is_uid(value) else ""


def _whole(match: Dataset, keyword: str) -> int | None:
    """Return a count of a match, None where there is none."""
    text = text_of(match, keyword)
    return int(text) if text.isascii() and text.isdecimal() else None
