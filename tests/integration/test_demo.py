"""The demonstration on a machine without Orthanc: the stand-in PACS, and what people find at the end."""

from io import StringIO
from pathlib import Path

import pytest
from pydicom import dcmread
from rich.console import Console

from dicom_node.demo import pacs
from dicom_node.demo.run import run_demo

pytestmark = pytest.mark.real_data


def test_the_demo_runs_without_orthanc_and_ends_with_results_and_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs, "BINARY_PATH", str(tmp_path))
    said = StringIO()
    run_demo(tmp_path / "demo", Console(file=said, width=140))
    text = said.getvalue()
    assert "stand-in PACS" in text
    assert "Right femur strength" in text
    assert "Not analysed: Left femur" in text
    assert "Dice" in text
    for name in ("page-1.png", "report.pdf", "pictures", "returned"):
        path = tmp_path / "demo" / name
        assert path.exists(), name
        assert str(path) in text.replace("\n", ""), name
    modalities = [dcmread(path, stop_before_pixels=True).Modality for path in (tmp_path / "demo/returned").iterdir()]
    assert set(modalities) == {"SEG", "SR", "OT", "DOC"}
