"""A report on disk keeps the earlier values it is compared with."""

import json
from datetime import date
from pathlib import Path

from result_factory import make_report

from dicom_node.pipeline.report_files import load_report, save_report
from sr_export.inputs import PriorValue

PRIOR = (PriorValue("trabecular_vbmd", "L1", "", 98.5, date(2024, 5, 6), True),)


def test_earlier_values_survive_the_file(tmp_path: Path) -> None:
    save_report(make_report(prior=PRIOR, pictures=()), tmp_path, {})
    assert load_report(tmp_path).prior == PRIOR


def test_a_report_written_before_there_were_earlier_values_is_read(tmp_path: Path) -> None:
    save_report(make_report(pictures=()), tmp_path, {})
    path = tmp_path / "report.json"
    values = json.loads(path.read_text())
    del values["prior"]
    path.write_text(json.dumps(values))
    assert load_report(tmp_path).prior == ()
