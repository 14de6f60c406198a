"""``osteonode evaluate``: tables and figures of masks, strengths, or values, against references."""

import argparse
import math
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as ConsoleTable

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.evaluation.figures import agreement_figure, confusion_figure, dice_figure, roc_figure
from dicom_node.evaluation.mask_files import pair_files
from dicom_node.evaluation.masks import score_masks
from dicom_node.evaluation.notices import notices
from dicom_node.evaluation.strength_figures import load_figure
from dicom_node.evaluation.strength_models import LOAD_MODELS, Limits
from dicom_node.evaluation.strength_of_masks import (
    BONES,
    StrengthOrder,
    compute_loads,
    find_tasks,
    masks_to_compute,
)
from dicom_node.evaluation.strength_store import FOLDER, Store
from dicom_node.evaluation.strength_tables import caution, load_table, mask_table, missing_sentence, missing_table
from dicom_node.evaluation.strength_values import BoneLoads, agreement_of, load_groups
from dicom_node.evaluation.tables import (
    Table,
    agreement_table,
    case_table,
    confusion_table,
    decision_table,
    notice_table,
    structure_table,
    to_csv,
    to_markdown,
)
from dicom_node.evaluation.values import Threshold, evaluate, read_cases
from dicom_node.settings import Settings
from dicom_node.storage.files import write_durably
from dicom_node.strength.run import limited_cores

BYTES_PER_GB = 2**30
SPEED_OVER_S = 3600.0


def masks(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Compare masks with reference masks of the same names."""
    del settings
    pairs = pair_files(options.masks, options.references)
    _check_output(options.out)
    with Progress(console=console) as bar:
        task = bar.add_task("comparing", total=len(pairs))
        vocabularies = (options.mask_labels, options.reference_labels)
        found = score_masks(pairs, lambda case: bar.advance(task), vocabularies)  # noqa: ARG005 - one tick a case
    scores = found.scores
    if not scores:
        raise ConfigurationError(
            "Neither the masks nor the references show a bone this node measures. Label values were read as "
            f"{options.mask_labels}'s and {options.reference_labels}'s; name others with --mask-labels or "
            "--reference-labels."
        )
    summary = structure_table(scores)
    _write(options.out, {"cases": case_table(scores), "structures": summary}, {"dice": dice_figure(scores)})
    for sentence in found.notes:
        console.print(sentence, style="yellow", highlight=False, markup=False)
    for one in scores:
        if one.fits_better:
            sentence = (
                f"{one.case}: {one.structure} would fit the reference's {one.fits_better}. Sides or levels swapped?"
            )
            console.print(sentence, style="yellow", highlight=False, markup=False)
    _print(summary, options.out, console)


def values(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Compare measured with reference values of a CSV."""
    del settings
    thresholds = _thresholds(options)
    cases = read_cases(options.file, options.references)
    _check_output(options.out)
    results = evaluate(cases, thresholds)
    summary = agreement_table(results, options.unit)
    tables: dict[str, Table] = {"agreement": summary}
    figures: dict[str, bytes] = {}
    if thresholds:
        tables |= {"decisions": decision_table(results), "confusion": confusion_table(results)}
    quantity = f"{options.quantity}, {options.unit}" if options.unit != "-" else options.quantity
    for number, result in enumerate(results, start=1):
        drawn = {"roc": roc_figure(result), "confusion": confusion_figure(result, quantity)}
        if result.agreement is not None:
            drawn["agreement"] = agreement_figure(result, quantity)
        figures |= {f"{name}_{number}": picture for name, picture in drawn.items() if picture is not None}
    if sentences := notices(cases):
        tables["notices"] = notice_table(sentences)
        console.print(*sentences, sep="\n", style="yellow", highlight=False, markup=False)
    _write(options.out, tables, figures)
    _print(summary, options.out, console)


def _thresholds(options: argparse.Namespace) -> list[Threshold]:
    """Return the limits.

    Raises
    ------
    ConfigurationError
        When one is not finite: no value, or every value, would be positive.
    """
    found = []
    for word in ("below", "above"):
        for limit in getattr(options, word) or []:
            if not math.isfinite(limit):
                raise ConfigurationError(f"--{word} {limit:g} is no finite number; name a limit between the values.")
            found.append(Threshold(limit, is_below=word == "below"))
    return found


def strength(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Compare failure loads from automatic masks with those from reference masks."""
    del settings
    order = _strength_order(options)
    _check_resumable(options.out)
    store = Store(options.out)
    with _timed_bar(console) as bar, limited_cores(options.threads):
        line = bar.add_task("reading the masks", total=None)
        tasks = find_tasks(order, lambda case: bar.update(line, description=f"{case}: reading the masks"))
        bar.update(line, total=max(masks_to_compute(order, tasks, store), 1))
        bones = compute_loads(
            order, tasks, store, lambda done, doing: bar.update(line, completed=done, description=doing)
        )
        bar.update(line, completed=bar.tasks[line].total)
    _write_strength(options.out, bones)
    if not load_groups(bones):
        raise JobRejected(f"No load could be computed. {missing_sentence(bones)} It is in {options.out}.")
    _print_strength(options.out, bones, console)


def _strength_order(options: argparse.Namespace) -> StrengthOrder:
    """Return what was asked for.

    Raises
    ------
    ConfigurationError
        When two options do not go together, or a number is impossible.
    """
    bones = {LOAD_MODELS[model].bone for model in options.model}
    wrong = [key for key in options.structures or [] if not any(key in BONES[bone] for bone in bones)]
    if wrong:
        raise ConfigurationError(f"{', '.join(wrong)} is no bone for the model {', '.join(options.model)}.")
    if options.density_mg_per_cm3 and (options.calibration or options.record):
        raise ConfigurationError("Images of densities need no calibration: leave out --calibration and --record.")
    for name in ("element_mm", "memory_limit_gb"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigurationError(f"--{name.replace('_', '-')} {value:g} is no positive number.")
    return StrengthOrder(
        images=options.images,
        masks=options.masks,
        references=options.references,
        mask_labels=options.mask_labels,
        reference_labels=options.reference_labels,
        models=tuple(dict.fromkeys(options.model)),
        structures=tuple(options.structures or ()),
        calibration_file=options.calibration,
        record_id=options.record,
        density_material=options.density_mg_per_cm3,
        limits=Limits(options.element_mm, int(options.memory_limit_gb * BYTES_PER_GB)),
    )


def _write_strength(folder: Path, bones: tuple[BoneLoads, ...]) -> None:
    """Write tables and figures, in place of those of an earlier run; what was computed stays."""
    groups = load_groups(bones)
    tables = {"table3": mask_table(groups), "loads": load_table(groups), "missing": missing_table(bones)}
    figures = {f"loads_{number}": load_figure(one, caution(bones)) for number, one in enumerate(groups, start=1)}
    agreements = [found for one in groups if (found := agreement_of(one)) is not None]
    if agreements:
        tables["agreement"] = agreement_table(agreements, "N")
    for number, found in enumerate(agreements, start=1):
        figures[f"agreement_{number}"] = agreement_figure(found, "failure load, N")
    for pattern in ("table3.*", "loads*.*", "missing.*", "agreement*.*"):
        for path in folder.glob(pattern):
            path.unlink()
    _write(folder, tables, figures)


def _print_strength(folder: Path, bones: tuple[BoneLoads, ...], console: Console) -> None:
    for sentence in (caution(bones), missing_sentence(bones)):
        if sentence:
            console.print(sentence, highlight=False, markup=False)
    _print(mask_table(load_groups(bones)), folder, console)


def _timed_bar(console: Console) -> Progress:
    """Return a progress bar with the time left, from the speed of the last hour: one bone can take minutes."""
    columns = (
        TextColumn("{task.description:<52}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, speed_estimate_period=SPEED_OVER_S)


def _check_resumable(folder: Path) -> None:
    """Accept a new folder, an empty one, and one that this command began: what is finished there is kept."""
    if not (folder / FOLDER).is_dir():
        _check_output(folder)


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
