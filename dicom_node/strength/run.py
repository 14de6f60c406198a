"""``osteonode fe``: from files to JSON, mesh and pictures, as one straight function."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.pipeline.tables import stage_bar
from dicom_node.storage.files import write_durably
from dicom_node.strength.bone import Bone, Sources, read_bone, read_scan
from dicom_node.strength.graphics import INSTALL, has_graphics
from dicom_node.strength.mesh_file import write_vtu
from dicom_node.strength.models import MODELS, Model
from dicom_node.strength.outcome import Choices, Outcome, Progress
from dicom_node.strength.result_file import result_json
from fe.errors import FeError
from inference.labels import Laterality
from inference.quality import forbids_strength

SHARES = {"reading": 0.1, "solving": 0.7}
"""Of the bar: reading the files, then the model; the rest is meshes and pictures."""


@dataclass(frozen=True, slots=True)
class Order:
    """Everything named on the command line.

    Attributes
    ----------
    model
        A key of ``MODELS``.
    side, level
        As given, empty where not.
    output, may_overwrite
        Folder for the results, and whether results of the same model in it may be replaced.
    despite_flags
        Whether to compute where a quality flag forbids a strength.
    threads
        Cores to use; None for all.
    """

    model: str
    sources: Sources
    side: Laterality
    level: str
    choices: Choices
    output: Path
    may_overwrite: bool
    despite_flags: bool
    threads: int | None


def compute_strength(order: Order, now: datetime, console: Console) -> None:
    """Read, compute and write; print a table.

    Raises
    ------
    ConfigurationError, NotFound
        When something else has to be named on the command line.
    JobRejected
        When image, mask or bone cannot be computed on; the sentence says why.
    """
    model = MODELS[order.model]
    _check_output(order)
    with stage_bar(console) as bar, limited_cores(order.threads):
        task = bar.add_task("reading the image", total=1.0)

        def progress(done: float, stage: str) -> None:
            bar.update(task, completed=done, description=stage)

        bone = _bone(order, model)
        outcome = _outcome(order, model, bone, progress)
        _clear(order)
        write_durably(order.output / f"{order.model}.json", [result_json(order.model, bone, outcome, now)])
        written = list(_write_graphics(order, bone, outcome, progress)) if has_graphics() else []
        progress(1.0, "done")
    _print(order, bone, outcome, written, console)


def _bone(order: Order, model: Model) -> Bone:
    scan = read_scan(order.sources)
    bone = read_bone(scan, order.sources, model.bone, order.side, order.level)
    if forbids_strength(bone.flags, bone.key) and not order.despite_flags:
        reasons = " ".join(flag.sentence for flag in bone.flags if flag.definition.forbids_strength)
        raise JobRejected(f"No strength is computed. {reasons} To compute it all the same, add --despite-flags.")
    return bone


def _outcome(order: Order, model: Model, bone: Bone, progress: Progress) -> Outcome:
    def say(done: float, stage: str) -> None:
        progress(SHARES["reading"] + SHARES["solving"] * done, stage)

    try:
        return model.run(bone, order.choices, say)
    except FeError as error:
        raise JobRejected(str(error)) from None


def _write_graphics(order: Order, bone: Bone, outcome: Outcome, progress: Progress) -> Iterator[Path]:
    """Write meshes and pictures; yield their paths."""
    progress(sum(SHARES.values()), "writing meshes")
    for ending, field in outcome.fields.items():
        path = order.output / f"{order.model}{f'-{ending}' if ending else ''}.vtu"
        write_vtu(field(), bone, path)
        yield path
    progress(sum(SHARES.values()) + 0.05, "drawing pictures")
    for number, (name, png) in enumerate(outcome.draw(), start=1):
        path = order.output / f"{order.model}-{name}.png"
        write_durably(path, [png])
        progress(1 - (1 - sum(SHARES.values()) - 0.05) / (number + 1), "drawing pictures")
        yield path


def _check_output(order: Order) -> None:
    if order.output.exists() and not order.output.is_dir():
        raise ConfigurationError(f"{order.output} is a file; name a folder for the results.")
    if order.output.exists() and any(order.output.iterdir()) and not order.may_overwrite:
        raise ConfigurationError(
            f"{order.output} is not empty; name a new folder, or add --overwrite to replace its results of this model."
        )


def _clear(order: Order) -> None:
    """Remove the model's earlier results, so that none stays beside new ones."""
    for pattern in (f"{order.model}.json", f"{order.model}*.vtu", f"{order.model}-*.png"):
        for path in order.output.glob(pattern):
            path.unlink()


@contextmanager
def limited_cores(threads: int | None) -> Iterator[None]:
    """Let this process use no more than a number of cores; solvers and libraries count them.

    Raises
    ------
    ConfigurationError
        When the number is impossible, or the system has no such limit.
    """
    if threads is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigurationError("--threads works on Linux only; leave it out to use every core.")
    before = os.sched_getaffinity(0)
    if not 1 <= threads <= len(before):
        raise ConfigurationError(f"--threads {threads} is not possible; this process may use 1 to {len(before)} cores.")
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _print(order: Order, bone: Bone, outcome: Outcome, written: list[Path], console: Console) -> None:
    """Print result, flags and where the files are."""
    console.print(f"\n[bold]{escape(outcome.headline)}[/]", highlight=False)
    table = Table("quantity", "value", "unit", title=f"{bone.name}, {order.model}", title_justify="left")
    for quantity, value, unit in outcome.rows:
        table.add_row(quantity, value, unit)
    console.print(table, highlight=False)
    for further in outcome.tables:
        console.print(further, highlight=False)
    findings = Table("flag", "of", "finding", title="Flags", title_justify="left")
    for flag in bone.flags:
        forbids = flag.definition.forbids_strength and flag.concerns(bone.key)
        findings.add_row(flag.code, "input", escape(flag.sentence), style="red" if forbids else "")
    for one in outcome.flags:
        findings.add_row(one.code, "model", escape(one.sentence))
    if findings.rows:
        console.print(findings, highlight=False)
    facts = outcome.facts
    console.print(
        f"{facts.element_count:,} elements, {facts.dof:,} degrees of freedom, residual {facts.residual:.1e}, "
        f"reaction balance {facts.reaction_balance:.1e}.",
        highlight=False,
    )
    names = [f"{order.model}.json", *(path.name for path in written)]
    console.print(f"{order.output}: {', '.join(names)}", highlight=False, markup=False)
    if not written:
        console.print(f"No mesh and no pictures: PyVista is not installed. Install it with: {INSTALL}", markup=False)
