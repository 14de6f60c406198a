"""A source that holds what a test gives it, and requests in a database."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from pydicom.filereader import read_dataset

from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer
from dicom_node.db.session import Databases, transaction
from dicom_node.net.sources import Inventory, Keep, StudyMatch, StudyQuery, Tally, Watch, answering
from dicom_node.pipeline.requests_adding import add_request
from dicom_node.pipeline.requests_input import RequestIn
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass
class FakeSource:
    """Holds studies as arrivals, and can lose, withhold or break."""

    studies: dict[str, list[Arrival]] = field(default_factory=dict)
    matches: list[StudyMatch] = field(default_factory=list)
    name: str = "FAKE"
    is_direct: bool = True
    withheld: set[str] = field(default_factory=set)
    error: Exception | None = None
    whole_study_error: Exception | None = None
    asked: list[str] = field(default_factory=list)
    before_each: Callable[[int], object] = lambda number: None

    def find(self, query: StudyQuery) -> list[StudyMatch]:
        """Return the matches it was given."""
        if self.error is not None:
            raise self.error
        return answering(query, self.matches)

    def inventory(self, study_instance_uid: str) -> Inventory:
        """List what it holds, also what it withholds."""
        series: dict[str, set[str]] = {}
        for arrival in self.studies.get(study_instance_uid, []):
            series.setdefault(series_of(arrival), set()).add(arrival.sop_instance_uid)
        return Inventory(
            {uid: frozenset(members) for uid, members in series.items()},
            {uid: len(members) for uid, members in series.items()},
        )

    def retrieve(self, study_instance_uid: str, series: str, inventory: Inventory, keep: Keep, watch: Watch) -> Tally:
        """Give what it does not withhold."""
        del inventory
        self.asked.append(series)
        if not series and self.whole_study_error is not None:
            raise self.whole_study_error
        sent = 0
        for arrival in self.studies[study_instance_uid]:
            self.before_each(sent)
            watch(sent)
            if series in ("", series_of(arrival)) and arrival.sop_instance_uid not in self.withheld:
                keep(arrival)
                sent += 1
        return Tally(completed=sent)


def series_of(arrival: Arrival) -> str:
    """Return the series an arrival says it is of."""
    head = read_dataset(BytesIO(arrival.dataset), is_implicit_VR=False, is_little_endian=True)
    return str(head.SeriesInstanceUID)


def match(study: str, patient_id: str = "P1", **values: Any) -> StudyMatch:
    """Make a match of a CT study."""
    return StudyMatch(
        study,
        patient_id,
        values.pop("accession_number", ""),
        values.pop("study_date", "20260914"),
        "",
        ("CT",),
        **values,
    )


def add_queried_peer(databases: Databases, name: str = "PACS", **values: Any) -> int:
    """Add a peer that is queried."""
    columns = {"host": "pacs.example", "port": 104, "may_send": True, "receives_results": False, "is_queried": True}
    with transaction(databases.hospital) as session:
        return add_peer(session, Peer(name=name, ae_title=name.upper()[:16], **{**columns, **values})).id


def ask(databases: Databases, settings: Settings, now: datetime = NOON, **fields: Any) -> str:
    """Add a request."""
    asked = RequestIn.model_validate({"patient_id": "P1", **fields})
    with transaction(databases.hospital) as session:
        return add_request(session, asked, settings, now)


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Return what a condition becomes."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come true in time")
