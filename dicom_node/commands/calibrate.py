"""``osteonode calibrate``."""

import argparse

from rich.console import Console
from rich.table import Table

from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.calibration import load_phantoms
from dicom_node.pipeline.scanner_calibration import Calibrated, add_record, calibrate_folder, draw
from dicom_node.settings import Settings
from dicom_node.storage.files import write_durably


def calibrate(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Measure a phantom, print what it reads, and add the record of its scanner to the records."""
    records = options.records or settings.calibration_file
    if records is None and not options.dry_run:
        raise ConfigurationError("Name the file of records with --records, or set OSTEONODE_CALIBRATION_FILE.")
    if options.picture is not None and options.picture.exists():
        raise ConfigurationError(f"{options.picture} exists already; name a new file.")
    phantoms = load_phantoms(options.phantom or settings.phantom_file)
    with console.status("Looking for the phantom"):
        found = calibrate_folder(options.folder, phantoms, valid_days=options.valid_days)
    _print(found, console)
    if options.picture is not None:
        write_durably(options.picture, [draw(found)])
        console.print(f"Picture: {options.picture}", highlight=False)
    if options.dry_run or records is None:
        console.print("No record was written.")
        return
    count = add_record(records, found.record)
    console.print(f"Added to {records}, which holds {count} records now.", highlight=False)


def _print(found: Calibrated, console: Console) -> None:
    line, record = found.line, found.record
    table = Table("part", f"density, mg/cm3 {line.phantom.material}", "reads, HU", "spread, HU", "off the line, mg/cm3")
    parts = zip(line.phantom.density_mg_per_cm3, line.hu, line.hu_sd, line.equivalent_hu, strict=True)
    for number, (density, hu, spread, equivalent) in enumerate(parts, start=1):
        off = record.intercept_mg_per_cm3 + record.slope_mg_per_cm3_per_hu * equivalent - density
        table.add_row(str(number), f"{density:g}", f"{hu:.1f}", f"{spread:.1f}", f"{off:+.1f}")
    console.print(table)
    console.print(
        f"{record.record_id}: rho = {record.intercept_mg_per_cm3:.2f} + {record.slope_mg_per_cm3_per_hu:.4f} HU, "
        f"largest residual {line.residual_hu:.1f} HU; holds from {record.measured_on} to {record.valid_until}.",
        highlight=False,
    )
