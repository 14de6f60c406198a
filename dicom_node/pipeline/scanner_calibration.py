"""``osteonode calibrate``: a scan of a phantom becomes a calibration record of its scanner and protocol."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydicom import Dataset, dcmread

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.pipeline.calibration import scan_date
from dicom_node.pipeline.deidentification import read_headers, select_series
from dicom_node.storage.files import write_durably
from inference.calibration import CalibrationRecord
from inference.calibration_json import FIELDS, records_from_json
from inference.dicom_headers import acquisition_from_dataset
from inference.dicom_volume import volume_from_datasets
from inference.errors import InferenceError
from inference.phantom import Phantom, PhantomLine, calibrate_from_phantom
from inference.spectral import spectral_word
from inference.volume import Volume, canonical

WINDOW_HU = (-200.0, 800.0)
LAST_RECORDS = ".before"
"""Ending of the file that keeps the records as they were before the last change."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a scan of a phantom gave: the record to keep, the line behind it, and the scan."""

    record: CalibrationRecord
    line: PhantomLine
    volume: Volume


def calibrate_folder(folder: Path, phantoms: Sequence[Phantom], *, valid_days: int) -> Calibrated:
    """Find a phantom in the CT series of a folder and make the record of its scanner.

    Parameters
    ----------
    folder
        DICOM files, searched in depth.
    phantoms
        Certificates.
    valid_days
        How long the record holds from the day of the scan.

    Raises
    ------
    ConfigurationError
        When the folder is none, no phantom is given, the header does not say which scanner, protocol and day it was, or
        the images are spectral ones.
    JobRejected
        When there is no usable CT, or no phantom in it.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder; name a folder with the CT of a phantom.")
    if not phantoms:
        raise ConfigurationError("No certificate of a phantom; name the file with --phantom.")
    chosen = select_series(
        read_headers([path for path in sorted(folder.rglob("*")) if path.is_file()], skip_foreign=True)
    )
    try:
        instances = [dcmread(path) for path in chosen]
        volume = volume_from_datasets(instances)
        line = calibrate_from_phantom(volume, phantoms)
    except InferenceError as error:
        raise JobRejected(str(error)) from None
    if line is None:
        names = ", ".join(phantom.name for phantom in phantoms)
        raise JobRejected(
            f"No phantom was found whose parts lie on a line; looked for {names}. "
            "Check that the phantom is whole in view, and its certificate's densities and order."
        )
    return Calibrated(_record(line, instances[0], valid_days), line, volume)


def _record(line: PhantomLine, header: Dataset, valid_days: int) -> CalibrationRecord:
    """Fill in which scanner and protocol the line is of; one without a kernel would hold for every kernel."""
    acquisition, measured_on = acquisition_from_dataset(header), scan_date(header)
    named = acquisition.manufacturer and acquisition.model_name and acquisition.kvp is not None
    if not (named and acquisition.convolution_kernel and measured_on):
        raise ConfigurationError(
            "The header does not name manufacturer, model, tube voltage, kernel and day of the scan; a record needs "
            "all five."
        )
    if spectral_word(acquisition.image_type):
        raise ConfigurationError(
            "These are spectral images of one energy or material; a record is of a tube voltage. Send its images."
        )
    name = f"{acquisition.model_name} {acquisition.kvp:g} kV {acquisition.convolution_kernel} {measured_on.isoformat()}"
    return replace(
        line.record(),
        record_id=" ".join(name.split()),
        manufacturer=acquisition.manufacturer,
        model_name=acquisition.model_name,
        kvp=acquisition.kvp,
        convolution_kernel=acquisition.convolution_kernel,
        measured_on=measured_on,
        valid_until=measured_on + timedelta(days=valid_days),
        standard_error_mg_per_cm3=None,
    )


def add_record(path: Path, record: CalibrationRecord) -> int:
    """Add a record to a file of records, made when it is not there; return how many it holds now.

    The file as it was is kept beside it, with the ending ``.before``.

    Raises
    ------
    ConfigurationError
        When the file holds a record of that name already, or is not one of records.
    """
    before = path.read_bytes() if path.exists() else b"[]"
    try:
        records = records_from_json(before.decode())
        if any(known.record_id == record.record_id for known in records):
            raise ConfigurationError(
                f"{path.name} holds a record named {record.record_id} already; remove it there to measure anew."
            )
        values = [*json.loads(before), json.loads(json.dumps(_fields(record), default=date.isoformat))]
        text = json.dumps(values, indent=1, ensure_ascii=False)
        records_from_json(text)
    except (InferenceError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} would not be a file of calibration records: {error}") from None
    if path.exists():
        write_durably(path.with_name(path.name + LAST_RECORDS), [before])
    write_durably(path, [text.encode() + b"\n"])
    return len(values)


def _fields(record: CalibrationRecord) -> dict[str, object]:
    """Return the fields that a file of records holds."""
    return {name: value for name, value in asdict(record).items() if name in FIELDS}


def draw(calibrated: Calibrated) -> bytes:
    """Draw where the phantom's parts were found, and their line; a PNG."""
    mpl.use("agg")
    figure = Figure(figsize=(10.5, 4.6), dpi=110, layout="constrained")
    image, chart = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_slice(image, calibrated)
    _draw_line(chart, calibrated.line)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_slice(axes: Axes, calibrated: Calibrated) -> None:
    upright, _ = canonical(calibrated.volume)
    rods = calibrated.line.rods
    _, dy, dx = upright.spacing_mm
    x0, y0, z0 = upright.affine_lps[:3, 3]
    middle = upright.hu.shape[0] // 2
    centres = np.empty((0, 3))
    if rods is not None:
        centres = rods.centres_lps_mm[len(rods.centres_lps_mm) // 2]
        middle = int(np.clip(round((centres[0, 2] - z0) / upright.spacing_mm[0]), 0, upright.hu.shape[0] - 1))
    rows, columns = upright.hu.shape[1:]
    extent = (x0 - dx / 2, x0 + (columns - 0.5) * dx, y0 + (rows - 0.5) * dy, y0 - dy / 2)
    axes.imshow(upright.hu[middle], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], extent=extent)
    if rods is not None:
        for x, y, _ in centres:
            angle = np.linspace(0, 2 * np.pi, 60)
            axes.plot(x + rods.radius_mm * np.cos(angle), y + rods.radius_mm * np.sin(angle), color="#f5a623", lw=1.5)
    axes.set(xlabel="x, mm (to the patient's left)", ylabel="y, mm (to the back)", title="Where its parts were found")


def _draw_line(axes: Axes, line: PhantomLine) -> None:
    density, hu = np.array(line.phantom.density_mg_per_cm3), np.array(line.equivalent_hu)
    span = np.array([hu.min() - 30, hu.max() + 30])
    axes.plot(span, line.intercept_mg_per_cm3 + line.slope_mg_per_cm3_per_hu * span, color="#0b5cab")
    axes.plot(hu, density, "o", color="#1b2733")
    axes.set(
        xlabel="CT number (of solutions: in pure water), HU",
        ylabel=f"density, mg/cm3 {line.phantom.material}",
        title=f"{line.phantom.name}: rho = {line.intercept_mg_per_cm3:.1f} + {line.slope_mg_per_cm3_per_hu:.4f} HU",
    )
    axes.grid(alpha=0.3)
