"""Failure loads from automatic and from reference masks of the same bones, as in table 3 of [Saillard2024].

The automatic mask is used as it is, eroded and dilated by one and two voxels; everything else stays the same: the
scan, its calibration, the model with all its settings and, where it has one, the lattice of its elements. What cannot
be computed is a row with its reason. A bone that is finished is kept in the output folder and not computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.evaluation.mask_files import (
    LIMIT_BYTES,
    OWN,
    Labels,
    MaskFiles,
    keys_in,
    pair_files,
    segments_on,
    translated,
)
from dicom_node.evaluation.strength_models import LOAD_MODELS, Lattice, Limits, MaskPair
from dicom_node.evaluation.strength_store import Store
from dicom_node.evaluation.strength_values import STEPS, WORDS, BoneLoads, StepLoad
from dicom_node.strength.bone import MARGIN, UNCALIBRATED, Scan, Sources, density_of, read_labels, read_scan
from fe.errors import FeError
from fe.sensitivity import Outcome, answer_of, stepped_mask
from inference.calibration import Material, rho_ash_mg_per_cm3
from inference.labels import BY_KEY, FEMURS, VERTEBRAE
from inference.metrics import dice
from inference.quality import QualityFlag, merged_flags
from inference.structure_checks import check_structures
from inference.vertebra_cut import cut_bodies
from inference.volume import Orientation, Volume, boxes_of, canonical, crop
from inference.volume_checks import check_volume
from sr_export.geometry import Grid

Advance = Callable[[float, str], None]
"""Told how many masks are done, fractions counting, and what is being computed."""

BONES = {"femur": FEMURS, "vertebra": VERTEBRAE}
MASKS_A_BONE = 1 + len(STEPS)


@dataclass(frozen=True, slots=True)
class StrengthOrder:
    """What was named on the command line.

    Attributes
    ----------
    images, masks, references
        Three folders with cases of the same names, or three files.
    mask_labels, reference_labels
        Keys of ``VOCABULARIES``, for label maps; vertebrae of another vocabulary than our own, or of Segmentations
        that do not call them bodies, may be whole, and are cut to bodies.
    models, structures
        Keys of ``LOAD_MODELS``; keys of ``inference.labels``, none for all.
    calibration_file, record_id, density_material
        As ``osteonode fe`` takes them.
    """

    images: Path
    masks: Path
    references: Path
    mask_labels: str
    reference_labels: str
    models: tuple[str, ...]
    structures: tuple[str, ...]
    calibration_file: Path | None
    record_id: str | None
    density_material: Material | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class Task:
    """One bone of one case by one model; ``only_in`` names the map where one of the two does not show it."""

    case: str
    image: Path
    mask: MaskFiles
    reference: MaskFiles
    structure: str
    model: str
    only_in: str


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A case in memory: canonical scan, both label maps on it, and what the node would say of it."""

    scan: Scan
    upright: Volume
    automatic: Labels = field(repr=False)
    reference: Labels = field(repr=False)
    flags: tuple[QualityFlag, ...]


def find_tasks(order: StrengthOrder, on_case: Callable[[str], object]) -> tuple[Task, ...]:
    """Return every bone that the maps show and a model takes.

    Raises
    ------
    ConfigurationError
        When a file has no counterpart, or no map shows a bone that was asked for.
    JobRejected
        When a file is no mask.
    """
    images = {one.case: one.files[0] for one, _ in pair_files(order.images, order.masks)}
    tasks: list[Task] = []
    for mask, reference in pair_files(order.masks, order.references):
        on_case(mask.case)
        ours, theirs = keys_in(mask, order.mask_labels), keys_in(reference, order.reference_labels)
        image = images.get(mask.case, order.images)
        for model, key in _wanted(order):
            if key in ours or key in theirs:
                only_in = "" if key in ours and key in theirs else "mask" if key in ours else "reference"
                tasks.append(Task(mask.case, image, mask, reference, key, model, only_in))
    if not tasks:
        raise ConfigurationError(
            f"No mask shows a bone for {', '.join(order.models)}. Label values are read as {order.mask_labels}'s and "
            f"{order.reference_labels}'s; name another vocabulary with --mask-labels or --reference-labels."
        )
    return tuple(tasks)


def compute_loads(order: StrengthOrder, tasks: Sequence[Task], store: Store, advance: Advance) -> tuple[BoneLoads, ...]:
    """Return the loads of every task, from the store where they are there, and keep what is computed.

    A case whose files do not belong together has no loads, and says why; it is not kept.

    Raises
    ------
    NotFound, ConfigurationError
        When the calibration cannot be used.
    """
    found: dict[Task, BoneLoads] = {}
    for task in tasks:
        where = "mask" if task.only_in == "reference" else "reference"
        kept = (
            _without_loads(task, f"The {where} does not show the bone.")
            if task.only_in
            else store.read(task.case, _key_of(order, task, store))
        )
        if kept is not None:
            found[task] = kept
    done = 0.0
    for case, missing in _by_case(task for task in tasks if task not in found):
        advance(done, f"{case}: reading")
        try:
            held = _read_case(order, missing[0])
        except JobRejected as error:
            found |= {task: _without_loads(task, str(error)) for task in missing}
            done += MASKS_A_BONE * len(missing)
            continue
        for task in missing:

            def tell(part: float, doing: str, task: Task = task, done: float = done) -> None:
                advance(done + part, f"{task.case}, {BY_KEY[task.structure].name}: {doing}")

            found[task] = _bone_loads(task, held, order.limits, tell)
            store.write(_key_of(order, task, store), found[task])
            done += MASKS_A_BONE
    advance(done, "done")
    return tuple(found[task] for task in tasks)


def masks_to_compute(order: StrengthOrder, tasks: Sequence[Task], store: Store) -> int:
    """Return how many masks are not in the store yet."""
    missing = [task for task in tasks if not task.only_in and not store.has(_key_of(order, task, store))]
    return MASKS_A_BONE * len(missing)


def _wanted(order: StrengthOrder) -> Iterator[tuple[str, str]]:
    for model in order.models:
        for key in BONES[LOAD_MODELS[model].bone]:
            if not order.structures or key in order.structures:
                yield model, key


def _key_of(order: StrengthOrder, task: Task, store: Store) -> str:
    parts = ([task.image], task.mask.files, task.reference.files, [order.calibration_file])
    files = [path for part in parts for path in part if path is not None]
    words = (
        len(task.mask.files), task.model, task.structure, order.mask_labels, order.reference_labels,
        order.record_id or "", order.density_material or "", order.limits.element_mm or 0,
    )  # fmt: skip
    return store.key(files, [str(word) for word in words])


def _without_loads(task: Task, reason: str) -> BoneLoads:
    return BoneLoads(task.case, task.structure, task.model, {}, reason, (), (), is_calibrated=True)


def _by_case(tasks: Iterator[Task]) -> Iterator[tuple[str, list[Task]]]:
    cases: dict[str, list[Task]] = {}
    for task in tasks:
        cases.setdefault(task.case, []).append(task)
    yield from cases.items()


def _read_case(order: StrengthOrder, task: Task) -> _Case:
    sources = Sources(
        image=task.image,
        mask=task.mask.files[0],
        label=None,
        calibration_file=order.calibration_file,
        record_id=order.record_id,
        density_material=order.density_material,
        needs_density=True,
        limit_bytes=LIMIT_BYTES,
    )
    scan = read_scan(sources)
    upright, orientation = canonical(scan.volume)
    automatic = _labels(scan.volume, orientation, task.mask, order.mask_labels)
    flags = () if scan.record is None else merged_flags(check_volume(scan.volume), check_structures(upright, automatic))
    reference = _labels(scan.volume, orientation, task.reference, order.reference_labels)
    return _Case(scan, upright, automatic, reference, merged_flags(flags, scan.flags))


def _labels(volume: Volume, orientation: Orientation, mask: MaskFiles, vocabulary: str) -> Labels:
    """Read a mask with our label values, vertebrae cut to bodies, in canonical order."""
    if mask.is_dicom:
        slices, rows, columns = volume.hu.shape
        held = segments_on(mask, Grid(volume.affine_lps, (slices, rows, columns), volume.frame_of_reference_uid))
        labels, may_be_whole = held.labels, held.may_be_whole
    else:
        values, _ = read_labels(volume, mask.files[0], LIMIT_BYTES)
        labels, may_be_whole = translated(values, vocabulary), vocabulary != OWN
    if may_be_whole:
        labels, _ = cut_bodies(volume, labels)
    return np.ascontiguousarray(orientation.apply(labels))


def _bone_loads(task: Task, case: _Case, limits: Limits, tell: Advance) -> BoneLoads:
    """Compute the reference, then the automatic mask and its changes on the reference's lattice."""
    model = LOAD_MODELS[task.model]
    flags = [flag for flag in case.flags if flag.concerns(task.structure)]
    nothing = BoneLoads(
        case=task.case,
        structure=task.structure,
        model=task.model,
        reference_n={},
        reason="",
        steps=(),
        withheld=tuple(dict.fromkeys(flag.code for flag in flags if flag.definition.forbids_strength)),
        is_calibrated=all(flag.code != UNCALIBRATED for flag in flags),
    )
    bone = _pair(task.structure, case)
    if isinstance(bone, str):
        return replace(nothing, reason=bone)
    try:
        reference = model.compute(bone, bone.reference, None, limits, lambda part, _: tell(part, "reference"))
    except FeError as error:
        return replace(nothing, reason=f"Reference: {error}")
    steps = []
    for number, step in enumerate(STEPS, start=1):

        def evaluate(
            mask: NDArray[np.bool_], lattice: Lattice | None, at: int = number, words: str = WORDS[step]
        ) -> Outcome[Lattice]:
            return model.compute(bone, mask, lattice, limits, lambda part, _: tell(at + part, words))

        mask = stepped_mask(bone.automatic, step)
        answer = answer_of(mask, bone.automatic, evaluate, reference.start)
        loads, reason = (dict(answer.strengths_n), "") if isinstance(answer, Outcome) else ({}, answer[1])
        steps.append(StepLoad(step, dice(mask, bone.reference), loads, reason))
    return replace(nothing, reference_n=dict(reference.strengths_n), steps=tuple(steps))


def _pair(key: str, case: _Case) -> MaskPair | str:
    """Cut one bone out; a sentence where its arch could not be cut off."""
    structure = BY_KEY[key]
    automatic, reference = case.automatic == structure.value, case.reference == structure.value
    if not automatic.any() or not reference.any():
        where = "mask" if not automatic.any() else "reference"
        return f"The vertebra of the {where} could not be cut in front of the spinal canal."
    box = boxes_of((automatic | reference).astype(np.uint8), MARGIN)[1]
    part, material = crop(case.upright, box), case.scan.material
    assert material is not None, "a scan that was read for its density has a material"
    return MaskPair(
        rho_qct_mg_per_cm3=density_of(part, case.scan.record),
        reference=reference[box].copy(),
        automatic=automatic[box].copy(),
        spacing_mm=part.spacing_mm,
        side="L" if structure.laterality == "L" else "R",
        level=key,
        to_ash=lambda rho: rho_ash_mg_per_cm3(rho, material),
    )
