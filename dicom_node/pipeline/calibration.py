"""The scanner calibration of one series: chosen on the hospital side, where the true scan date is known.

The research side gets the chosen record and the flags in a file; the scan's date stays behind.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from pydicom import Dataset

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.storage.files import write_durably
from inference.calibration import CalibrationRecord, choose_calibration
from inference.calibration_json import records_from_json
from inference.dicom_headers import acquisition_from_dataset
from inference.errors import InferenceError
from inference.phantom import Phantom, phantoms_from_json
from inference.quality import QualityFlag

Choice = tuple[CalibrationRecord, tuple[QualityFlag, ...]]


def load_records(path: Path | None) -> tuple[CalibrationRecord, ...]:
    """Read the site's calibration records; none without a file.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or a record is wrong.
    """
    if path is None:
        return ()
    try:
        return records_from_json(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"The calibration file cannot be read: {error.strerror}.") from None
    except InferenceError as error:
        raise ConfigurationError(f"The calibration file {path.name} is not usable: {error}") from None


def load_phantoms(path: Path | None) -> tuple[Phantom, ...]:
    """Read the certificates of the phantoms that may lie in the site's scans; none without a file.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or a certificate is wrong.
    """
    if path is None:
        return ()
    try:
        return phantoms_from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The phantom file cannot be read ({type(error).__name__}).") from None
    except InferenceError as error:
        raise ConfigurationError(f"The phantom file {path.name} is not usable: {error}") from None


def calibration_of(header: Dataset, records: Sequence[CalibrationRecord]) -> Choice:
    """Choose the record that fits a series' scanner, protocol and date; without a date none does.

    Parameters
    ----------
    header
        An original instance of the series.
    records
        The site's records.

    Raises
    ------
    JobRejected
        When two records fit equally well and differ.
    """
    try:
        return choose_calibration(acquisition_from_dataset(header), records, on=scan_date(header))
    except InferenceError as error:
        raise JobRejected(f"The calibration of this scan is not decided. {error}") from None


def scan_date(header: Dataset) -> date | None:
    """Return the date of acquisition, series or study, whichever is given first."""
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        text = str(header.get(keyword) or "")
        if len(text) == 8 and text.isdigit():
            try:
                return date.fromisoformat(text)
            except ValueError:
                continue
    return None


def save_choice(choice: Choice, path: Path) -> None:
    """Write a choice for the research side."""
    record, flags = choice
    values = {"record": asdict(record), "flags": [asdict(flag) for flag in flags]}
    write_durably(path, [json.dumps(values, indent=1, default=date.isoformat).encode()])


def load_choice(path: Path) -> Choice:
    """Read what ``save_choice`` wrote."""
    values = json.loads(path.read_text())
    record: dict[str, Any] = values["record"]
    for name in ("measured_on", "valid_until"):
        record[name] = date.fromisoformat(record[name]) if record[name] else None
    flags = tuple(
        QualityFlag(flag["code"], flag["subject"], flag["sentence"], tuple((n, v) for n, v in flag["evidence"]))
        for flag in values["flags"]
    )
    return CalibrationRecord(**record), flags
