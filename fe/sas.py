"""Nonlinear femur strength from a density volume and a mask: the voxel model of Sas 2020 as Saillard 2024 uses it.

The head is pushed step by step until the bone gives way; the strength is the largest force on the way [Sas2020]. The
law is in ``fe/sas_law.py``, the loading in ``fe/sas_path.py``, cup and supports in ``fe/sas_model.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.bone_scan import check_femur_density, metal_flags, without_cavities
from fe.errors import ModelTooLarge
from fe.femur import failure_site
from fe.femur_frame import FemurFrame, Point, Side, find_femur_frame, point_of
from fe.flags import ModelFlag, cavity_flags, model_flags
from fe.material import ASH_SCHILEO_2008, ModulusLaw, ToAsh
from fe.outcome import BALANCE_LIMIT, VTK_HEXAHEDRON, MeshField, ModelFacts, balanced, say_nothing
from fe.sas_law import ASH_RANGE_MG_PER_CM3, MODULUS_EXPONENT, MODULUS_MPA, PLATEAU, SOFTENING
from fe.sas_model import BONE, SasModel, SasSettings, sas_model
from fe.sas_path import LoadingPath, load_to_failure
from fe.sensitivity import STEPS, Outcome, Sensitivity, sensitivity
from fe.voxel.grid import density_grid

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Progress = Callable[[float, str], None]

ELEMENT_MM = 3.0
"""The law was tried on femurs with elements of this size [Sas2020, Saillard2024]."""

MEMORY_LIMIT_BYTES = 4 * 2**30

BYTES_PER_ELEMENT = 6500
"""Estimate of the peak need per element: 0.47 GB were measured with 36 740, 0.25 GB of it the interpreter's."""

SENSITIVITY_TOLERANCE = 1e-4
"""Relative residual for changed masks. The load comes from the energy, so that it is exact to 5e-4 nevertheless (see
``docs/methods/sensitivity.md``), at half of the cost of 1e-6."""

BALANCE_PER_TOLERANCE = 5000.0
"""Imbalance allowed to a rough solution, over its tolerance: 100 to 250 were measured in femurs of usual density, 2600
with an eighth of it, where the load differed by 1 % between tolerances of 1e-4 and 1e-6. The load comes from the energy
and not from the sum of forces."""

SAS_MODULUS = ModulusLaw(
    coefficient_mpa=MODULUS_MPA,
    exponent=MODULUS_EXPONENT,
    minimum_mpa=MODULUS_MPA * (ASH_RANGE_MG_PER_CM3[0] / 1000) ** MODULUS_EXPONENT,
    maximum_mpa=MODULUS_MPA * (ASH_RANGE_MG_PER_CM3[1] / 1000) ** MODULUS_EXPONENT,
    source="Of ash density, not of apparent density [Saillard2024, SasCode]; its limits are those of the density",
)
"""For the flag that tells how many elements lie outside of the law."""


@dataclass(frozen=True, slots=True)
class SasStrength:
    """Strength of one femur by the softening voxel model, and what it rests on.

    Attributes
    ----------
    side
        ``R`` or ``L``.
    failure_load_n
        Largest load along the displacement.
    failure_displacement_mm
        Displacement of the cup at the largest load.
    stiffness_n_per_mm
        Elastic stiffness: slope of the first increment.
    displacement_mm, load_n, softened_elements : (increments,) arrays
        The load-displacement curve, and how many elements soften or have softened.
    direction
        LPS unit vector of the displacement.
    failure_site, failure_point_mm
        Region in words, and LPS place, of the middle of the largest connected group of softened elements at the
        largest load; of yielded elements where none has softened, else of the most strained one.
    failing_elements
        Elements of that group.
    first_softened_mm
        LPS place of the element that softened first; None when none had at the largest load.
    frame
        Landmarks and axes.
    facts
        Size and trustworthiness.
    flags
        What limits the result.
    at_failure
        The mesh at the largest load, cup included, for files and pictures. Values of the cells: ``part`` (0 bone, 1
        cup, 2 influence region, 3 embedded end), ``phase`` (0 elastic, 1 plateau, 2 softening, 3 residual stress),
        ``strain_over_yield_strain``, ``rho_ash_mg_per_cm3`` (0 in the cup), ``youngs_modulus_mpa``.
    lattice_mm
        LPS place of some element's centre, for a similar mask that shall have the same elements.
    """

    side: Side
    failure_load_n: float
    failure_displacement_mm: float
    stiffness_n_per_mm: float
    displacement_mm: Doubles
    load_n: Doubles
    softened_elements: NDArray[np.int64]
    direction: Point
    failure_site: str
    failure_point_mm: Point
    failing_elements: int
    first_softened_mm: Point | None
    frame: FemurFrame
    facts: ModelFacts
    flags: tuple[ModelFlag, ...]
    at_failure: MeshField = field(repr=False)
    lattice_mm: Point = field(repr=False)

    def field(self) -> MeshField:
        """Return the mesh at the largest load."""
        return self.at_failure


def sas_strength(
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    side: Side,
    *,
    to_ash: ToAsh = ASH_SCHILEO_2008,
    element_mm: float = ELEMENT_MM,
    settings: SasSettings | None = None,
    lattice_mm: Point | None = None,
    progress: Progress | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> SasStrength:
    """Compute the load at which a femur fails when its head is pushed along the shaft.

    1. Fill closed cavities of the mask; resample density and mask to cubic elements; keep the largest component.
    2. Find the anatomical frame.
    3. Set up cup, supports and the law of every element.
    4. Load to failure; the strength is the largest load.
    5. Name the place: the largest connected group of elements that have softened by then.

    Parameters
    ----------
    rho_qct_mg_per_cm3 : (slice, row, column) array
        Calibrated density, mg/cm3, canonical order (growing to the head, to the back, to the patient's left).
    mask : (slice, row, column) bool array
        The femur.
    spacing_mm
        Voxel spacing along (slice, row, column).
    side
        ``R`` or ``L``.
    to_ash
        rho_QCT to rho_ash, both mg/cm3; depends on the calibration's material.
    element_mm
        Edge of the elements, at most 5 mm.
    settings
        Model choices; the defaults when left out.
    lattice_mm
        LPS place of some element's centre: two masks with the same lattice differ by elements at their surface, not by
        where all elements lie. The elements are centred on the mask when left out.
    progress
        Called with a fraction 0..1 and a short text.
    memory_limit_bytes
        Refuse models that would need more.

    Raises
    ------
    BadInput
        Mask, density, spacing or side cannot be used (see ``fe.errors``).
    LandmarkNotFound
        No head or no trochanter.
    ModelTooLarge
        The estimate exceeds the memory limit.
    NoFailure
        The load still rises at the largest displacement.
    NotConverged
        The linear solver stopped early, or the forces are not in balance.
    UnsupportedModel
        There is no bone between the held end and the cup.
    """
    settings = SasSettings() if settings is None else settings
    tell = progress if progress is not None else say_nothing
    _check_size(mask, spacing_mm, element_mm, memory_limit_bytes)
    tell(0.0, "Resampling the femur")
    whole = without_cavities(mask)
    grid = density_grid(rho_qct_mg_per_cm3, whole, spacing_mm, element_mm, lattice_mm)
    check_femur_density(grid)
    frame = find_femur_frame(grid, side)
    tell(0.05, "Setting up the model")
    model = sas_model(grid, frame, to_ash, settings)
    tell(0.1, "Loading the head")
    path = load_to_failure(model.loaded, settings.steps, lambda done: tell(0.1 + 0.9 * done, "Loading the head"))
    tell(1.0, "Strength computed")
    modulus = model.loaded.law.youngs_modulus_mpa[model.part == BONE]
    flags = (
        *model_flags(grid, frame, mask, spacing_mm, modulus, SAS_MODULUS),
        *cavity_flags(mask, whole),
        *metal_flags(rho_qct_mg_per_cm3, whole, spacing_mm),
    )
    points = model.element_points_mm()
    group = _failing_group(model, path)
    middle = points[group].mean(axis=0)
    point = points[group][np.argmin(np.linalg.norm(points[group] - middle, axis=1))]
    return SasStrength(
        side=side,
        failure_load_n=path.peak_load_n,
        failure_displacement_mm=float(path.displacement_mm[path.peak]),
        stiffness_n_per_mm=path.stiffness_n_per_mm,
        displacement_mm=path.displacement_mm,
        load_n=path.load_n,
        softened_elements=path.softened,
        direction=point_of(model.direction),
        failure_site=failure_site(frame, point),
        failure_point_mm=point_of(point),
        failing_elements=int(group.sum()),
        first_softened_mm=None if path.first_softened is None else point_of(points[path.first_softened]),
        frame=frame,
        facts=_facts(model, path, modulus, grid.dropped_elements, settings.steps.tolerance),
        flags=tuple(flag for flag in flags if flag.code != "coarse_elements"),
        at_failure=_mesh(model, path),
        lattice_mm=point_of(grid.affine_mm[:3, 3]),
    )


def sas_sensitivity(
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    base: SasStrength,
    *,
    to_ash: ToAsh = ASH_SCHILEO_2008,
    settings: SasSettings | None = None,
    steps: Sequence[int] = STEPS,
    progress: Progress | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Sensitivity:
    """Compute the strength of the mask eroded and dilated by whole voxels; its name in the table is ``axial``.

    Changed masks share the lattice of the given one, and are solved to ``SENSITIVITY_TOLERANCE`` only.

    Parameters
    ----------
    rho_qct_mg_per_cm3, mask, spacing_mm, to_ash, settings
        As they were given to ``sas_strength``.
    base
        What it returned.
    steps
        Voxels, negative to erode.
    progress
        Called with a fraction 0..1 and a short text.
    memory_limit_bytes
        Of every model.

    Raises
    ------
    BadInput
        The arguments are not those of ``base``.
    """
    settings = SasSettings() if settings is None else settings
    rough = replace(settings, steps=replace(settings.steps, tolerance=SENSITIVITY_TOLERANCE))

    def evaluate(changed: NDArray[np.bool_], lattice_mm: Point | None) -> Outcome[Point]:
        strength = sas_strength(
            rho_qct_mg_per_cm3,
            changed,
            spacing_mm,
            base.side,
            to_ash=to_ash,
            element_mm=base.facts.element_mm,
            settings=rough,
            lattice_mm=lattice_mm,
            memory_limit_bytes=memory_limit_bytes,
        )
        return _outcome(strength)

    return sensitivity(mask, spacing_mm, evaluate, steps=steps, base=_outcome(base), progress=progress)


def _outcome(strength: SasStrength) -> Outcome[Point]:
    return Outcome({"axial": strength.failure_load_n}, strength.lattice_mm)


def _check_size(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], element_mm: float, limit_bytes: int
) -> None:
    """Refuse a model whose estimated need exceeds the limit, before anything is allocated."""
    if not element_mm > 0:
        return  # density_grid says what is wrong
    elements = float(mask.sum()) * float(np.prod(spacing_mm)) / element_mm**3
    if elements * BYTES_PER_ELEMENT > limit_bytes:
        raise ModelTooLarge(int(elements), int(elements * BYTES_PER_ELEMENT), limit_bytes)


def _failing_group(model: SasModel, path: LoadingPath) -> Bools:
    """Return the elements (elements,) of the largest face-connected group in the last phase that any bone reached."""
    law, is_bone = model.loaded.law, model.part == BONE
    phase = np.where(is_bone, law.phase(path.peak_strain), -1)
    reached = np.asarray(phase >= min(int(phase.max()), SOFTENING))
    if phase.max() < PLATEAU:
        risk = np.where(is_bone, path.peak_strain / law.yield_strain, 0.0)
        reached = risk == risk.max()
    dense = np.zeros(model.grid.is_bone.shape, dtype=bool)
    where = model.loaded.numbering.is_bone
    dense[where] = reached
    labels = ndimage.label(dense)[0][where]
    return np.asarray(labels == 1 + np.argmax(np.bincount(labels)[1:]))


def _facts(model: SasModel, path: LoadingPath, modulus_mpa: Doubles, dropped: int, tolerance: float) -> ModelFacts:
    return ModelFacts(
        element_count=model.loaded.numbering.element_count,
        dof=int((~model.loaded.is_fixed).sum()),
        element_mm=model.loaded.element_mm,
        youngs_modulus_range_mpa=(float(modulus_mpa.min()), float(modulus_mpa.max())),
        dropped_elements=dropped,
        iterations=path.iterations,
        residual=path.residual,
        reaction_balance=balanced(path.reaction_balance, max(BALANCE_LIMIT, BALANCE_PER_TOLERANCE * tolerance)),
    )


def _mesh(model: SasModel, path: LoadingPath) -> MeshField:
    loaded = model.loaded
    values: dict[str, NDArray[np.generic]] = {
        "part": model.part,
        "phase": loaded.law.phase(path.peak_strain),
        "strain_over_yield_strain": path.peak_strain / loaded.law.yield_strain,
        "rho_ash_mg_per_cm3": model.rho_ash_mg_per_cm3,
        "youngs_modulus_mpa": loaded.law.youngs_modulus_mpa,
    }
    return MeshField(
        points_mm=model.grid.node_points_mm(loaded.numbering.node_places),
        cells=loaded.numbering.connectivity()[:, VTK_HEXAHEDRON],
        cell_type="hexahedron",
        cell_values={name: field.astype(np.float32) for name, field in values.items()},
        point_values={"displacement_mm": np.ascontiguousarray(path.peak_displacement_mm.T, dtype=np.float32)},
    )
