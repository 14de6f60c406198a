"""Femur strength from a density volume and a mask: the one function the rest of the product calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fe.criterion import Mode, centroid_strains, first_failure, principal_strains, risk
from fe.errors import ModelTooLarge, UnsupportedModel
from fe.femur import (
    DEFAULT_CASES,
    CaseLoads,
    FemurSettings,
    FemurSurface,
    LoadCase,
    case_loads,
    failure_site,
    femur_surface,
    held_distal_nodes,
)
from fe.femur_frame import FemurFrame, Point, Side, find_femur_frame
from fe.flags import ModelFlag, model_flags
from fe.material import (
    ASH_SCHILEO_2008,
    MORGAN_2003_FEMORAL_NECK,
    POISSON_RATIO,
    ModulusLaw,
    ToAsh,
    youngs_modulus_mpa,
)
from fe.voxel.grid import DensityGrid, density_grid
from fe.voxel.numbering import number_voxels
from fe.voxel.solver import TOLERANCE, ElasticModel, elastic_model, solve

Doubles = NDArray[np.float64]
Progress = Callable[[float, str], None]

ELEMENT_MM = 1.5
"""Default element edge: half of the CT2S edge length, because linear bricks need about two for one quadratic
tetrahedron [project's assumption; convergence in docs/methods/femur-strength.md]."""

MEMORY_LIMIT_BYTES = 4 * 2**30

BYTES_PER_ELEMENT = 700
BYTES_PER_BOX_CELL = 60
"""Estimate of the peak need, per element and per cell of the box around the bone: 0.83 GB for a femur of 946 000
elements, where 0.52 GB were measured beyond the interpreter's own 0.25 GB."""


@dataclass(frozen=True, slots=True)
class CaseStrength:
    """The result of one load case.

    Attributes
    ----------
    name
        Key of the case.
    direction
        LPS unit vector of the force on the head.
    failure_load_n
        Head force at which the averaged principal strain first reaches a limit.
    mode
        The limit that is reached.
    failure_site
        Region of the femur in words.
    failure_point_mm
        Centre of the failing surface element, LPS mm relative to the input's first voxel.
    support_force_n
        Ground's force on the trochanter at the failure load, 0 in stance.
    iterations, residual
        Of the linear solver.
    reaction_balance
        Norm of the sum of all forces, reactions included, over the head's force.
    """

    name: str
    direction: Point
    failure_load_n: float
    mode: Mode
    failure_site: str
    failure_point_mm: Point
    support_force_n: float
    iterations: int
    residual: float
    reaction_balance: float


@dataclass(frozen=True, slots=True)
class FemurStrength:
    """Strengths of one femur, and what they rest on.

    Attributes
    ----------
    side
        ``R`` or ``L``.
    cases
        One result per load case, in the order asked for.
    element_count, dof
        Size of the model.
    element_mm
        Edge of the elements.
    youngs_modulus_range_mpa
        Smallest and largest modulus.
    dropped_elements
        Elements of islands that were left out.
    frame
        Landmarks and axes.
    flags
        What limits the result.
    risk
        Case name to (slice, row, column) float32 array on the element grid: fraction of the failure strain that each
        element reaches at the failure load, before averaging; NaN outside the bone.
    affine_mm : (4, 4) array
        Element index (slice, row, column) to LPS mm relative to the input's first voxel.
    """

    side: Side
    cases: tuple[CaseStrength, ...]
    element_count: int
    dof: int
    element_mm: float
    youngs_modulus_range_mpa: tuple[float, float]
    dropped_elements: int
    frame: FemurFrame
    flags: tuple[ModelFlag, ...]
    risk: dict[str, NDArray[np.float32]] = field(repr=False)
    affine_mm: Doubles = field(repr=False)


def femur_strength(
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    side: Side,
    *,
    to_ash: ToAsh = ASH_SCHILEO_2008,
    modulus_law: ModulusLaw = MORGAN_2003_FEMORAL_NECK,
    element_mm: float = ELEMENT_MM,
    cases: Sequence[LoadCase] = DEFAULT_CASES,
    settings: FemurSettings | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> FemurStrength:
    """Compute the strength of a proximal femur by linear finite elements and the principal strain criterion.

    1. Resample density and mask to cubic elements; keep the largest component.
    2. Density to modulus by the material laws.
    3. Find the anatomical frame.
    4. Set up one model with the distal end held.
    5. For every case: solve, take principal strains at the surface, average, and scale to the limits.

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
    modulus_law
        rho_app to Young's modulus.
    element_mm
        Edge of the elements.
    cases
        Load cases; names must differ.
    settings
        Model choices; the defaults when left out.
    tolerance
        Relative residual of the linear solver.
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
    NotConverged
        The linear solver stopped early.
    """
    settings = FemurSettings() if settings is None else settings
    tell = progress if progress is not None else _say_nothing
    if len({case.name for case in cases}) != len(cases) or not cases:
        raise UnsupportedModel("Load cases must be given, each with a name of its own.")
    _check_size(mask, spacing_mm, element_mm, memory_limit_bytes)
    tell(0.0, "Resampling the femur")
    grid = density_grid(rho_qct_mg_per_cm3, mask, spacing_mm, element_mm)
    modulus = np.where(grid.is_bone, youngs_modulus_mpa(grid.rho_qct_mg_per_cm3, to_ash, modulus_law), 0.0)
    tell(0.1, "Finding the anatomical frame")
    frame = find_femur_frame(grid, side)
    tell(0.2, "Setting up the model")
    model = _held_model(grid, modulus, settings)
    surface = femur_surface(grid, frame, model.numbering)
    results, fields = [], {}
    for number, case in enumerate(cases):
        tell(0.3 + 0.7 * number / len(cases), f"Solving {case.name}")
        result, elements = _case_strength(model, grid, surface, case, settings, tolerance)
        results.append(result)
        fields[case.name] = _on_grid(grid, elements)
    tell(1.0, "Strength computed")
    inside = modulus[grid.is_bone]
    return FemurStrength(
        side=side,
        cases=tuple(results),
        element_count=grid.element_count,
        dof=model.dof,
        element_mm=element_mm,
        youngs_modulus_range_mpa=(float(inside.min()), float(inside.max())),
        dropped_elements=grid.dropped_elements,
        frame=frame,
        flags=model_flags(grid, frame, mask, spacing_mm, inside, modulus_law),
        risk=fields,
        affine_mm=grid.affine_mm,
    )


def _say_nothing(fraction: float, text: str) -> None:
    """Progress that nobody asked for."""


def _check_size(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], element_mm: float, limit_bytes: int
) -> None:
    """Refuse a model whose estimated need exceeds the limit, before anything is allocated."""
    if not (mask.ndim == 3 and mask.any() and element_mm > 0):
        return  # density_grid says what is wrong
    scale = float(np.prod(spacing_mm)) / element_mm**3
    occupied = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    cells = float(np.prod([o[-1] - o[0] + 1 for o in occupied])) * scale
    elements = float(mask.sum()) * scale
    needed = int(elements * BYTES_PER_ELEMENT + cells * BYTES_PER_BOX_CELL)
    if needed > limit_bytes:
        raise ModelTooLarge(int(elements), needed, limit_bytes)


def _held_model(grid: DensityGrid, modulus: Doubles, settings: FemurSettings) -> ElasticModel:
    """Set up the elastic model with its distal end held."""
    numbering = number_voxels(grid.is_bone)
    held = held_distal_nodes(grid, numbering, settings)
    is_fixed = np.repeat(held[None], 3, axis=0)
    size_mm = (grid.element_mm,) * 3
    return elastic_model(modulus, size_mm, POISSON_RATIO, is_fixed, numbering)


def _case_strength(
    model: ElasticModel,
    grid: DensityGrid,
    surface: FemurSurface,
    case: LoadCase,
    settings: FemurSettings,
    tolerance: float,
) -> tuple[CaseStrength, Doubles]:
    """Solve one case; return its strength and the risk of every element at the failure load."""
    loads = case_loads(surface, case, settings)
    solution = solve(model, loads.force_n, tolerance=tolerance)
    strains = centroid_strains(model.numbering, solution.displacement_mm, (grid.element_mm,) * 3)
    largest, smallest = principal_strains(strains)
    counting = np.flatnonzero(loads.counts)
    failure = first_failure(
        surface.element_points[counting],
        largest[counting],
        smallest[counting],
        settings.averaging_radius_mm,
        settings.tension_limit,
        settings.compression_limit,
    )
    failing = counting[failure.element]
    point = grid.points_mm(np.argwhere(grid.is_bone)[failing][None])[0]
    direction = surface.frame.vector(*case.components())
    result = CaseStrength(
        name=case.name,
        direction=_point(direction),
        failure_load_n=settings.applied_load_n * failure.load_factor,
        mode=failure.mode,
        failure_site=failure_site(surface.frame, point),
        failure_point_mm=_point(point),
        support_force_n=loads.support_force_n * failure.load_factor,
        iterations=solution.iterations,
        residual=solution.residual,
        reaction_balance=_reaction_balance(model, loads, solution.displacement_mm) / settings.applied_load_n,
    )
    elements = risk(largest, smallest, settings.tension_limit, settings.compression_limit)
    return result, elements * failure.load_factor


def _reaction_balance(model: ElasticModel, loads: CaseLoads, displacement_mm: Doubles) -> float:
    """Return the norm (N) of all applied forces plus the reactions of the held nodes."""
    reactions = np.where(model.is_fixed, model.forces(displacement_mm) - loads.force_n, 0.0)
    return float(np.linalg.norm((loads.force_n + reactions).sum(axis=1)))


def _on_grid(grid: DensityGrid, elements: Doubles) -> NDArray[np.float32]:
    """Return element values on the element grid, NaN outside the bone."""
    dense = np.full(grid.is_bone.shape, np.nan, dtype=np.float32)
    dense[grid.is_bone] = elements
    return dense


def _point(vector: Doubles) -> Point:
    x, y, z = (float(v) for v in vector)
    return (x, y, z)
