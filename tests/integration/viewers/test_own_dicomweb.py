"""OHIF with this node as its only DICOMweb server, from another origin: the CT with our SEG and SR on it."""

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest
from dicomweb_client.api import DICOMwebClient
from playwright.sync_api import Browser
from pydicom import dcmread

from dicom_node.demo.local_node import LocalNode
from tests.integration.viewers.conftest import ARTEFACTS, unavailable
from tests.integration.viewers.gateway import CONFIGURATION, Gateway, _Handler
from tests.integration.viewers.ohif import ohif_build
from tests.integration.viewers.patient_study import PatientStudy
from tests.integration.viewers.test_viewers import expected_numbers
from tests.integration.viewers.viewer import SCREEN, Viewer

pytestmark = [pytest.mark.real_data, pytest.mark.needs_binary]


class _ViewerAlone(_Handler):
    """The viewer's files, and a configuration that names a DICOMweb server at another address."""

    node_url = ""

    def do_GET(self) -> None:
        if self.path != "/app-config.js":
            super().do_GET()
            return
        text = CONFIGURATION.read_text()
        for root in ("/dicom-web", "/wado"):
            text = text.replace(f"'{root}'", f"'{self.node_url}{root}'")
        self._send(HTTPStatus.OK, "text/javascript", text.encode())


@pytest.fixture(scope="module")
def own_viewer(
    binary: Callable[[str], str],
    browser: Browser,
    square_study: PatientStudy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Viewer]:
    """The study in OHIF, read from a node that lets the viewer's origin in."""
    try:
        build = ohif_build(binary("npm"))
    except RuntimeError as error:
        unavailable(str(error))
    folder = tmp_path_factory.mktemp("own")
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    with Gateway(build, 0) as gateway:
        handler = type("Handler", (_ViewerAlone,), {"viewer": build.resolve(), "archive_port": 0})
        gateway._server.RequestHandlerClass = handler
        node = LocalNode(
            folder / "node", folder / "node.log", quiet_s=3600, web_origins=json.dumps([gateway.url])
        ).start()
        try:
            handler.node_url = node.url
            client = DICOMwebClient(f"{node.url}/dicom-web")
            client.store_instances([*(dcmread(path) for path in square_study.files), *square_study.results.datasets])
            yield Viewer(browser, gateway.url, square_study.study_instance_uid, ARTEFACTS, SCREEN)
        finally:
            node.stop()


def test_ohif_shows_the_ct_with_our_numbers_read_from_the_node_itself(
    own_viewer: Viewer, square_study: PatientStudy
) -> None:
    assert len(own_viewer.series()) == 6
    own_viewer.open("RESEARCH ONLY values")
    _, numbers = next(iter(expected_numbers()))
    name, value, unit = numbers[0]
    own_viewer.wait_for_label(f"{name}: {value:.2f} {unit}")
    own_viewer.keep("own-dicomweb-values")


def test_ohif_shows_our_segmentation_read_from_the_node_itself(own_viewer: Viewer, square_study: PatientStudy) -> None:
    own_viewer.open_segmentation("RESEARCH ONLY bones - segmentation")
    regions = [region for region in square_study.report.regions if not region.key.endswith("_voi")]
    assert own_viewer.segment_names() == [region.name for region in regions]
    own_viewer.go_to_segment("Right femur")
    own_viewer.keep("own-dicomweb-segmentation")
    (femur,) = [region for region in regions if region.key == "femur_right"]
    assert own_viewer.voxel_count("Right femur") == femur.mask.sum()


def test_ohif_shows_the_document_read_from_the_node_itself(own_viewer: Viewer, square_study: PatientStudy) -> None:
    with own_viewer.page.expect_response(lambda one: one.headers.get("content-type") == "application/pdf") as answer:
        own_viewer.open("RESEARCH ONLY PDF")
    assert own_viewer.fetch(answer.value.url).rstrip(b"\0") == square_study.results.pdf_bytes.rstrip(b"\0")
    own_viewer.keep("own-dicomweb-document")
    assert own_viewer.problems == []
