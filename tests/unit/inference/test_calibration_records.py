"""A scan gets the record of its own scanner and day, or the default line with a flag that says why."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from inference.calibration import (
    DEFAULT_CALIBRATION,
    CalibrationRecord,
    choose_calibration,
    rho_ash_mg_per_cm3,
    rho_qct_mg_per_cm3,
)
from inference.calibration_json import FIELDS, records_from_json
from inference.errors import CalibrationError
from inference.volume import Acquisition

SCAN = Acquisition(manufacturer="SIEMENS", model_name="Volume Zoom", kvp=120.0, convolution_kernel="B30s")
DAY = date(2026, 6, 1)


def make_record(**changes: object) -> CalibrationRecord:
    record = CalibrationRecord(
        record_id="zoom-120", manufacturer="Siemens", model_name="volume zoom", kvp=120.0, convolution_kernel="",
        material="K2HPO4", phantom="Mindways 3", slope_mg_per_cm3_per_hu=0.8, intercept_mg_per_cm3=-1.0,
        measured_on=date(2026, 1, 1), valid_until=date(2026, 12, 31),
    )  # fmt: skip
    return replace(record, **changes)  # type: ignore[arg-type]


def test_the_record_of_the_scanner_is_taken_without_a_flag() -> None:
    other = make_record(record_id="other", model_name="Force")
    assert choose_calibration(SCAN, [other, make_record()], DAY) == (make_record(), ())


@pytest.mark.parametrize(
    "changes",
    [
        {"manufacturer": "GE"},
        {"model_name": "Force"},
        {"kvp": 100.0},
        {"convolution_kernel": "B70s"},
        {"manufacturer": ""},
        {"valid_until": date(2026, 5, 31)},
        {"measured_on": date(2026, 6, 2)},
        {"valid_until": None},
    ],
)
def test_a_record_that_does_not_fit_gives_the_default_and_a_flag(changes: dict[str, object]) -> None:
    record, (flag,) = choose_calibration(SCAN, [make_record(**changes)], DAY)
    assert record is DEFAULT_CALIBRATION
    assert (flag.code, flag.subject, flag.definition.forbids_category) == ("uncalibrated", "study", True)
    assert flag.sentence.isascii()


def test_the_flag_says_whether_a_record_expired_or_never_was() -> None:
    def sentence(*records: CalibrationRecord) -> str:
        return choose_calibration(SCAN, records, DAY)[1][0].sentence

    assert "valid on the day" in sentence(make_record(valid_until=date(2026, 2, 1)))
    assert "none of the 1 calibration records is for" in sentence(make_record(kvp=80.0))
    assert "no calibration record is stored" in sentence()
    assert "Volume Zoom at 120 kV kernel B30s" in sentence()


def test_a_scan_of_unknown_voltage_is_not_calibrated() -> None:
    record, flags = choose_calibration(replace(SCAN, kvp=None), [make_record()], DAY)
    assert record.is_default
    assert len(flags) == 1


def test_no_record_is_of_spectral_images() -> None:
    scan = replace(SCAN, image_type=("ORIGINAL", "PRIMARY", "AXIAL", "VMI"))
    record, (flag,) = choose_calibration(scan, [make_record()], DAY)
    assert record.is_default
    assert flag.code == "uncalibrated"


def test_a_scan_of_an_unknown_day_has_no_record() -> None:
    record, (flag,) = choose_calibration(SCAN, [make_record()], None)
    assert record.is_default
    assert "no readable date" in flag.sentence


def test_both_ends_of_the_validity_count() -> None:
    for day in (date(2026, 1, 1), date(2026, 12, 31)):
        assert choose_calibration(SCAN, [make_record()], day)[1] == ()


def test_the_record_that_names_the_kernel_goes_first_then_the_later_one() -> None:
    every, own = make_record(record_id="every", measured_on=date(2026, 5, 1)), make_record(convolution_kernel="b30S")
    assert choose_calibration(SCAN, [every, own], DAY)[0] == own
    assert choose_calibration(SCAN, [make_record(), every], DAY)[0] == every


def test_two_different_lines_of_one_day_are_refused() -> None:
    with pytest.raises(CalibrationError, match="2 different calibration records"):
        choose_calibration(SCAN, [make_record(), make_record(slope_mg_per_cm3_per_hu=0.7)], DAY)


def test_the_line_is_linear_and_in_mg_per_cm3() -> None:
    hu = np.array([[0.0, 100.0], [-100.0, 1000.0]])
    assert rho_qct_mg_per_cm3(hu, make_record()) == pytest.approx(np.array([[-1.0, 79.0], [-81.0, 799.0]]))
    assert rho_qct_mg_per_cm3(0.0, DEFAULT_CALIBRATION) == pytest.approx(17.45)
    assert rho_qct_mg_per_cm3(1000.0, DEFAULT_CALIBRATION) == pytest.approx(702.95)


def test_ash_density_follows_the_material_of_the_phantom() -> None:
    assert rho_ash_mg_per_cm3(100.0, "K2HPO4") == pytest.approx(144.9)
    assert rho_ash_mg_per_cm3(100.0, "HA") == pytest.approx(153.7)


def fields(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "record_id": "zoom-120", "manufacturer": "Siemens", "model_name": "volume zoom", "kvp": 120,
        "convolution_kernel": "", "material": "K2HPO4", "phantom": "Mindways 3", "slope_mg_per_cm3_per_hu": 0.8,
        "intercept_mg_per_cm3": -1, "measured_on": "2026-01-01", "valid_until": "2026-12-31",
    }  # fmt: skip
    return {name: value for name, value in {**values, **changes}.items() if value != "gone"}


def test_records_are_read_from_json() -> None:
    assert records_from_json(json.dumps([fields()])) == (make_record(),)
    assert records_from_json("[]") == ()


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_needed(name: str) -> None:
    with pytest.raises(CalibrationError, match=name):
        records_from_json(json.dumps([fields(**{name: "gone"})]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slope_mg_per_cm3_per_hu": 0.0008}, "Check the unit"),
        ({"slope_mg_per_cm3_per_hu": -0.8}, "slope_mg_per_cm3_per_hu of record 1"),
        ({"slope_mg_per_cm3_per_hu": "0.8"}, "expected a number"),
        ({"slope_mg_per_cm3_per_hu": True}, "expected a number"),
        ({"intercept_mg_per_cm3": 999.6}, "intercept_mg_per_cm3 of record 1"),
        ({"kvp": 120000}, "kV"),
        ({"material": "calcium"}, "expected one of"),
        ({"measured_on": "01.01.2026"}, "YYYY-MM-DD"),
        ({"valid_until": "2025-01-01"}, "valid_until before measured_on"),
        ({"manufacturer": " "}, "manufacturer of record 1"),
        ({"is_default": True}, "unknown"),
    ],
)
def test_a_record_that_is_nearly_right_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        records_from_json(json.dumps([fields(**changes)]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON at line 1"),
        ("{}", "expected a list"),
        ("[1]", "record 1"),
        ("[NaN]", "record 1"),
        (json.dumps([fields(), fields()]), "same record_id in records 1 and 2"),
    ],
)
def test_text_that_is_no_list_of_records_is_refused(text: str, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        records_from_json(text)


def test_a_number_that_is_not_finite_is_refused() -> None:
    text = json.dumps([fields(slope_mg_per_cm3_per_hu=float("nan"))])
    with pytest.raises(CalibrationError, match="slope"):
        records_from_json(text)
