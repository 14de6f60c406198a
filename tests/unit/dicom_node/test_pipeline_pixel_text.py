"""Images that only a site's own rule lets pass are searched for text where the OCR extra is installed."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from deid_rules import ocr
from deid_rules.errors import OcrUnavailable
from deid_rules.filters import Rectangle
from deid_rules.profile import Profile
from deid_rules.recipe import parse_recipe
from deid_rules.report import Subject
from deid_rules.uids import UidMapper
from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.identity.causes import PixelGateRefused
from dicom_node.pipeline.deidentification import clean_instance

SITE = "FORMAT dicom\n%filter image-types\nLABEL thin reconstructions\n  equals ImageType DERIVED\\PRIMARY\\AXIAL\n"


@pytest.fixture
def derived(tmp_path: Path) -> Path:
    scan = Scan(np.zeros((1, 32, 32), np.int16), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    (path,) = write_series(scan, tmp_path / "ct", FakePatient(), seed="derived")
    ds = dcmread(path)
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    ds.save_as(path, enforce_file_format=True)
    return path


def clean(path: Path, target: Path, profile: Profile) -> None:
    clean_instance(path, target, Subject("ON-TEST", -364), profile, UidMapper(b"k" * 32, "p"))


def no_extra(dataset: object) -> tuple[ocr.TextBox, ...]:
    raise OcrUnavailable("not installed")


def some_text(dataset: object) -> tuple[ocr.TextBox, ...]:
    return (ocr.TextBox(Rectangle(0, 0, 8, 8), 0.9, "Muster"),)


def test_a_type_no_rule_allows_is_refused(derived: Path, tmp_path: Path) -> None:
    with pytest.raises(PixelGateRefused, match="not on the list"):
        clean(derived, tmp_path / "clean.dcm", Profile())


def test_a_type_the_site_allows_passes_where_no_text_is_found(
    derived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocr, "find_text", lambda dataset: ())
    clean(derived, tmp_path / "clean.dcm", Profile(site_rules=parse_recipe(SITE)))
    assert (tmp_path / "clean.dcm").exists()


def test_a_type_the_site_allows_is_refused_when_its_pixels_hold_text(
    derived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocr, "find_text", some_text)
    with pytest.raises(PixelGateRefused, match="1 pieces of text") as caught:
        clean(derived, tmp_path / "clean.dcm", Profile(site_rules=parse_recipe(SITE)))
    assert "Muster" not in str(caught.value)
    assert not (tmp_path / "clean.dcm").exists()


def test_without_the_extra_the_sites_rule_stands(
    derived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocr, "find_text", no_extra)
    clean(derived, tmp_path / "clean.dcm", Profile(site_rules=parse_recipe(SITE)))


def test_a_type_the_product_allows_is_not_searched(
    derived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = dcmread(derived)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.save_as(derived, enforce_file_format=True)
    monkeypatch.setattr(ocr, "find_text", some_text)
    clean(derived, tmp_path / "clean.dcm", Profile())
