"""A PACS with a patient's study and the results about it, and a browser that looks at both through OHIF."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from dicom_node.demo.pacs import AE_TITLE, Orthanc
from dicom_node.net.scu import Address
from tests.integration.viewers.gateway import Gateway
from tests.integration.viewers.ohif import ohif_build
from tests.integration.viewers.patient_study import PatientStudy, make_patient_study, write_results
from tests.integration.viewers.viewer import SCREEN, Viewer

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ARTEFACTS = Path(__file__).parents[3] / "build" / "viewers"
BROWSER_OPTIONS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--ignore-gpu-blocklist",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
"""A browser of an unprivileged container that draws with the processor."""


def unavailable(reason: str) -> None:
    """Fail where every counterpart must be there, skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def square_study(tmp_path_factory: pytest.TempPathFactory) -> PatientStudy:
    """The patient's CT on a square matrix, as scanners make it."""
    return make_patient_study(tmp_path_factory.mktemp("square"), seed="square", matrix=128)


@pytest.fixture(scope="session")
def odd_study(tmp_path_factory: pytest.TempPathFactory) -> PatientStudy:
    """The same CT as it is: 101 rows of 122 columns, no multiple of 8 pixels."""
    return make_patient_study(tmp_path_factory.mktemp("odd"), seed="odd", matrix=None)


@pytest.fixture(scope="session")
def viewer_url(
    binary: Callable[[str], str],
    square_study: PatientStudy,
    odd_study: PatientStudy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """OHIF beside an Orthanc that holds both studies."""
    program, npm = binary("Orthanc"), binary("npm")
    if not DICOMWEB_PLUGIN.is_file():
        unavailable("Orthanc's DICOMweb plugin is not installed; make system installs it")
    try:
        build = ohif_build(npm)
    except RuntimeError as error:
        unavailable(str(error))
    folder = tmp_path_factory.mktemp("pacs")
    orthanc = Orthanc(program, folder / "orthanc", Address("NODE", "127.0.0.1", 104, AE_TITLE), [str(DICOMWEB_PLUGIN)])
    try:
        for name, study in (("square", square_study), ("odd", odd_study)):
            orthanc.take([*study.files, *write_results(study.results, folder / name)])
        with Gateway(build, orthanc.http_port) as gateway:
            yield gateway.url
    finally:
        orthanc.close()


@pytest.fixture(scope="session")
def browser(binary: Callable[[str], str]) -> Iterator[Browser]:
    """Debian's Chromium without a screen."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=binary("chromium"), headless=True, args=list(BROWSER_OPTIONS)
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def look_at(browser: Browser, viewer_url: str) -> Callable[[PatientStudy, tuple[int, int]], Viewer]:
    """Return a function that opens a study on a page of its own, on a screen of (width, height) pixels."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return lambda study, screen: Viewer(browser, viewer_url, study.study_instance_uid, ARTEFACTS, screen)


@pytest.fixture(scope="session")
def viewer(look_at: Callable[[PatientStudy, tuple[int, int]], Viewer], square_study: PatientStudy) -> Viewer:
    """One page with the study, for tests that only put another series into it: a page takes long to start."""
    return look_at(square_study, SCREEN)
