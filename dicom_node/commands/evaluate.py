"""``osteonode evaluate``: tables and figures of masks, or values, against references."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table as ConsoleTable

from dicom_node.errors import ConfigurationError
from dicom_node.evaluation.figures import agreement_figure, dice_figure, roc_figure
from dicom_node.evaluation.masks import pair_files, score_masks
from dicom_node.evaluation.tables import (
    Table,
    agreement_table,
    case_table,
    decision_table,
    structure_table,
    to_csv,
    to_markdown,
)
from dicom_node.evaluation.values import Threshold, evaluate, read_cases
from dicom_node.settings import Settings
from dicom_node.storage.files import write_durably


def masks(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Compare label maps with reference label maps of the same names."""
    del settings
    pairs = pair_files(options.masks, options.references)
    _check_output(options.out)
    with Progress(console=console) as bar:
        task = bar.add_task("comparing", total=len(pairs))
        scores = score_masks(pairs, lambda case: bar.advance(task))  # noqa: ARG005 - one tick a case
    if not scores:
        raise ConfigurationError("Neither the masks nor the references hold a label.")
    summary = structure_table(scores)
    _write(options.out, {"cases": case_table(scores), "structures": summary}, {"dice": dice_figure(scores)})
    _print(summary, options.out, console)


def values(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Compare measured with reference values of a CSV."""
    del settings
    cases = read_cases(options.file)
    _check_output(options.out)
    thresholds = [Threshold(limit, is_below=True) for limit in options.below or []]
    thresholds += [Threshold(limit, is_below=False) for limit in options.above or []]
    results = evaluate(cases, thresholds)
    summary = agreement_table(results, options.unit)
    tables, figures = {"agreement": summary}, {}
    if thresholds:
        tables["decisions"] = decision_table(results)
    for number, result in enumerate(results, start=1):
        figures[f"agreement_{number}"] = agreement_figure(result, f"{options.quantity}, {options.unit}")
        curve = roc_figure(result)
        if curve is not None:
            figures[f"roc_{number}"] = curve
    _write(options.out, tables, figures)
    _print(summary, options.out, console)


def _check_output(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not empty; name a new folder, so that no result is mixed with another.")


def _write(folder: Path, tables: dict[str, Table], figures: dict[str, bytes]) -> None:
    for name, table in tables.items():
        write_durably(folder / f"{name}.csv", [to_csv(table).encode()])
        write_durably(folder / f"{name}.md", [to_markdown(table).encode()])
    for name, picture in figures.items():
        write_durably(folder / f"{name}.png", [picture])


def _print(table: Table, folder: Path, console: Console) -> None:
    shown = ConsoleTable(*table[0])
    for row in table[1]:
        shown.add_row(*row)
    console.print(shown)
    console.print(f"Tables and figures: {folder}", highlight=False)
