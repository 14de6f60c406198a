"""What a DICOMweb service lists of a study, page by page, whatever its pages are like."""

from typing import Any

import pytest

from dicom_node.errors import RetrievalRefused
from dicom_node.net.remote import WebServer
from dicom_node.net.web_sources import DicomWebSource

COUNT = 3000
SOURCE = DicomWebSource(WebServer("web", "http://archive.example/dicom-web"), "WEB")


class Service:
    """Lists instances of one series in pages of its own size."""

    def __init__(self, page: int, *, takes_offset: bool = True, is_endless: bool = False) -> None:
        self.page, self.takes_offset, self.is_endless = page, takes_offset, is_endless

    def search_for_instances(self, study_instance_uid: str, limit: int, offset: int) -> list[dict[str, Any]]:
        """Return a page."""
        del study_instance_uid
        first = offset if self.takes_offset else 0
        last = first + min(self.page, limit)
        numbers = range(first, last if self.is_endless else min(last, COUNT))
        return [{"00080018": {"Value": [f"1.2.{n}"]}, "0020000E": {"Value": ["1.2"]}} for n in numbers]


@pytest.mark.parametrize("page", [100, 1000, 10_000])
def test_every_instance_is_listed_however_small_the_pages_are(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr("dicom_node.net.web_sources.dicomweb_client", lambda _: Service(page))
    assert SOURCE.inventory("1.2").instance_count == COUNT


def test_a_service_that_gives_its_first_page_again_and_again_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.net.web_sources.dicomweb_client", lambda _: Service(5000, takes_offset=False))
    assert SOURCE.inventory("1.2").instance_count == COUNT


def test_a_list_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.net.web_sources.dicomweb_client", lambda _: Service(5000, is_endless=True))
    with pytest.raises(RetrievalRefused, match="lists more than"):
        SOURCE.inventory("1.2")
