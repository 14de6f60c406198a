"""Femur strength from a density volume and a mask: the one function the rest of the product calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fe.bone_scan import check_femur_density, metal_flags, without_cavities
from fe.box import box_around
from fe.criterion import Mode
from fe.errors import ModelTooLarge, UnsupportedModel
from fe.femur import FemurSettings, failure_site
from fe.femur_body import FemurBody, Scan
from fe.femur_bricks import brick_femur
from fe.femur_failure import (
    CheckedCase,
    FailedCase,
    LoadedFemur,
    check_case,
    find_failures,
    loaded_femur,
    weakest_cases,
)
from fe.femur_frame import FemurFrame, Point, Side, find_femur_frame, point_of
from fe.femur_tetra import tetra_femur
from fe.flags import ModelFlag, cavity_flags, model_flags
from fe.load_cases import DEFAULT_CASES, Kind, LoadCase
from fe.material import ASH_SCHILEO_2008, MORGAN_2003_FEMORAL_NECK, ModulusLaw, ToAsh, youngs_modulus_mpa
from fe.outcome import MeshField, ModelFacts, say_nothing
from fe.voxel.grid import DensityGrid, density_grid

Doubles = NDArray[np.float64]
Progress = Callable[[float, str], None]
Discretisation = Literal["voxel", "tetra"]

ELEMENT_MM = 1.5
"""Default element edge: half of the CT2S edge length, because linear bricks need about two for one quadratic
tetrahedron [project's assumption; convergence in docs/methods/femur-strength.md]."""

TETRA_EDGE_MM = 3.0
"""Default edge of tetrahedra, that of CT2S [Benemerito2021]."""

MEMORY_LIMIT_BYTES = 4 * 2**30

BYTES_PER_ELEMENT = 700
BYTES_PER_BOX_CELL = 60
"""Estimate of the peak need, per element and per cell of the box around the bone: 0.83 GB for a femur of 946 000
elements, where 0.52 GB were measured beyond the interpreter's own 0.25 GB."""

COLUMN_TOLERANCE = 1e-3
"""Default relative residual of the unit responses: strengths then differ by less than 1e-4 from those with 1e-8
(measured; docs/methods/femur-strength.md)."""

EDGES_MM: dict[Discretisation, float] = {"voxel": ELEMENT_MM, "tetra": TETRA_EDGE_MM}


@dataclass(frozen=True, slots=True)
class CaseStrength:
    """The result of one load case.

    Attributes
    ----------
    name, kind, frontal_deg, second_deg
        The case and its angles, see ``fe.load_cases.LoadCase``.
    direction
        LPS unit vector of the force on the head.
    failure_load_n
        Head force at which the averaged principal strain first reaches a limit.
    mode
        The limit that is reached.
    failure_site
        Region of the femur in words.
    failure_point_mm
        Place of the failure, LPS mm relative to the input's first voxel.
    support_force_n
        Ground's force on the trochanter at the failure load, 0 in stance.
    active_contact_nodes
        Nodes that the ground's force acts on, 0 in stance.
    iterations
        Active sets tried in the last contact problem, 0 in stance.
    load_steps
        Forces tried.
    is_checked
        Whether the whole model was solved again under this case's forces.
    residual
        Norm of the residual over that of the forces: of the whole model where checked, else an upper bound from the
        columns.
    reaction_balance
        Norm of the sum of all forces, reactions included, over the head's force; None where not checked.
    """

    name: str
    kind: Kind
    frontal_deg: float
    second_deg: float
    direction: Point
    failure_load_n: float
    mode: Mode
    failure_site: str
    failure_point_mm: Point
    support_force_n: float
    active_contact_nodes: int
    iterations: int
    load_steps: int
    is_checked: bool
    residual: float
    reaction_balance: float | None


@dataclass(frozen=True, slots=True)
class FemurStrength:
    """Strengths of one femur, and what they rest on.

    Attributes
    ----------
    side
        ``R`` or ``L``.
    cases
        One result per load case, in the order asked for.
    facts
        Size and trustworthiness of the model.
    discretisation
        ``voxel`` or ``tetra``.
    column_count
        Unit responses behind all cases.
    frame
        Landmarks and axes.
    flags
        What limits the result.
    risk
        Name of the weakest case of each kind to (slice, row, column) float32 array on the element grid: fraction of the
        failure strain that each element reaches at the failure load, before averaging; NaN outside the bone.
    affine_mm : (4, 4) array
        Element index (slice, row, column) to LPS mm relative to the input's first voxel.
    field
        Mesh with the modulus, and risk and displacement of the same cases.
    """

    side: Side
    cases: tuple[CaseStrength, ...]
    facts: ModelFacts
    discretisation: Discretisation
    column_count: int
    frame: FemurFrame
    flags: tuple[ModelFlag, ...]
    risk: dict[str, NDArray[np.float32]] = field(repr=False)
    affine_mm: Doubles = field(repr=False)
    field: MeshField = field(repr=False)

    def of_kind(self, kind: Kind) -> tuple[CaseStrength, ...]:
        """Return the stances or the falls."""
        return tuple(case for case in self.cases if case.kind == kind)

    def weakest(self, kind: Kind) -> CaseStrength | None:
        """Return the stance or fall with the smallest strength; None where there was none."""
        return min(self.of_kind(kind), key=_load, default=None)

    def strongest(self, kind: Kind) -> CaseStrength | None:
        """Return the stance or fall with the largest strength; None where there was none."""
        return max(self.of_kind(kind), key=_load, default=None)

    def polar(self, kind: Kind) -> Doubles:
        """Return the (cases, 3) table of ``frontal_deg``, ``second_deg`` and strength in N."""
        return np.array([(c.frontal_deg, c.second_deg, c.failure_load_n) for c in self.of_kind(kind)]).reshape(-1, 3)


def _load(case: CaseStrength) -> float:
    return case.failure_load_n


def femur_strength(
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    side: Side,
    *,
    to_ash: ToAsh = ASH_SCHILEO_2008,
    modulus_law: ModulusLaw = MORGAN_2003_FEMORAL_NECK,
    discretisation: Discretisation = "voxel",
    element_mm: float | None = None,
    lattice_mm: Point | None = None,
    cases: Sequence[LoadCase] = DEFAULT_CASES,
    settings: FemurSettings | None = None,
    tolerance: float = COLUMN_TOLERANCE,
    progress: Progress | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> FemurStrength:
    """Compute the strength of a proximal femur by linear finite elements and the principal strain criterion.

    1. Fill closed cavities of the mask; resample density and mask to cubic elements; keep the largest component.
    2. Find the anatomical frame on them.
    3. Make the body of these bricks, or of tetrahedra; density to modulus by the material laws.
    4. Set up one model with the distal end held, and condense it to its answers to unit forces.
    5. For every case find the force at which the averaged strain at the surface reaches a limit.
    6. Solve the whole model again under the forces of the weakest stance and the weakest fall, and compare.

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
    discretisation
        ``voxel``: bricks on a grid. ``tetra``: quadratic tetrahedra in a smooth surface, moduli integrated over each
        element; needs the extra ``fe``.
    element_mm
        Edge of the elements; ``ELEMENT_MM`` or ``TETRA_EDGE_MM`` when left out.
    lattice_mm
        LPS place of some brick's centre, so that two masks differ by bricks at their surface only; they are centred on
        the mask when left out.
    cases
        Load cases; names must differ.
    settings
        Model choices; the defaults when left out.
    tolerance
        Relative residual of the unit responses.
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
        The linear solver or the search for a failure load stopped early, or the whole model does not confirm it or is
        not in balance.
    ContactNotFound
        The femur finds no balance on the ground.
    UnsupportedModel
        The cases have no names of their own, or no surface is left where failure counts.
    """
    settings = FemurSettings() if settings is None else settings
    tell = progress if progress is not None else say_nothing
    if len({case.name for case in cases}) != len(cases) or not cases:
        raise UnsupportedModel("Load cases must be given, each with a name of its own.")
    edge_mm = element_mm if element_mm is not None else EDGES_MM[discretisation]
    brick_mm = edge_mm if discretisation == "voxel" else min(edge_mm / 2, ELEMENT_MM)
    _check_size(mask, spacing_mm, brick_mm, memory_limit_bytes)
    tell(0.0, "Resampling the femur")
    whole = without_cavities(mask)
    grid = density_grid(rho_qct_mg_per_cm3, whole, spacing_mm, brick_mm, lattice_mm)
    check_femur_density(grid)
    tell(0.05, "Finding the anatomical frame")
    frame = find_femur_frame(grid, side)
    tell(0.1, "Setting up the model")
    scan = Scan(rho_qct_mg_per_cm3, whole, spacing_mm)
    law = partial(youngs_modulus_mpa, to_ash=to_ash, law=modulus_law)
    if discretisation == "voxel":
        body = brick_femur(scan, grid, law, settings)
    else:
        body = tetra_femur(scan, grid, law, settings, edge_mm, memory_limit_bytes)
    tell(0.15, "Solving for unit loads")
    femur = loaded_femur(body, frame, settings, cases, tolerance)
    failed = find_failures(femur, cases, lambda done: tell(0.2 + 0.7 * done, "Loading the femur from all directions"))
    tell(0.9, "Checking the weakest cases")
    checks = {one.loaded.case.name: check_case(femur, one) for one in weakest_cases(failed)}
    results = tuple(_result(femur, one, checks.get(one.loaded.case.name)) for one in failed)
    tell(1.0, "Strength computed")
    return FemurStrength(
        side=side,
        cases=results,
        facts=_facts(femur, edge_mm, grid.dropped_elements, results, checks),
        discretisation=discretisation,
        column_count=femur.condensed.column_count,
        frame=frame,
        flags=(
            *model_flags(grid, frame, mask, spacing_mm, body.modulus_mpa, modulus_law),
            *cavity_flags(mask, whole),
            *metal_flags(rho_qct_mg_per_cm3, whole, spacing_mm),
        ),
        risk={name: _on_grid(grid, body, check.risk) for name, check in checks.items()},
        affine_mm=grid.affine_mm,
        field=_mesh_field(body, checks),
    )


def _check_size(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], element_mm: float, limit_bytes: int
) -> None:
    """Refuse a model whose estimated need exceeds the limit, before anything is allocated."""
    lengths = np.array([*spacing_mm, element_mm], dtype=float)
    if not (mask.ndim == len(spacing_mm) and mask.any() and np.isfinite(lengths).all() and (lengths > 0).all()):
        return  # density_grid says what is wrong
    scale = float(np.prod(spacing_mm)) / element_mm**3
    cells = float(np.prod([span.stop - span.start for span in box_around(mask)])) * scale
    elements = float(mask.sum()) * scale
    needed = int(elements * BYTES_PER_ELEMENT + cells * BYTES_PER_BOX_CELL)
    if needed > limit_bytes:
        raise ModelTooLarge(int(elements), needed, limit_bytes)


def _result(femur: LoadedFemur, one: FailedCase, check: CheckedCase | None) -> CaseStrength:
    case, condensed = one.loaded.case, femur.condensed
    point = femur.body.places_mm[femur.places[one.failure.place]]
    force_n = one.contact.force_n if one.contact is not None else np.zeros(0)
    touching = condensed.patches[np.flatnonzero(force_n > 0)].indices if force_n.any() else np.zeros(0)
    return CaseStrength(
        name=case.name,
        kind=case.kind,
        frontal_deg=case.frontal_deg,
        second_deg=case.second_deg,
        direction=point_of(one.loaded.direction),
        failure_load_n=one.load_n,
        mode=one.failure.mode,
        failure_site=failure_site(femur.frame, point),
        failure_point_mm=point_of(point),
        support_force_n=float(force_n.sum()),
        active_contact_nodes=len(np.unique(touching)),
        iterations=one.contact.steps if one.contact is not None else 0,
        load_steps=one.load_steps,
        is_checked=check is not None,
        residual=check.residual if check is not None else condensed.residual_bound(one.factors),
        reaction_balance=check.reaction_balance if check is not None else None,
    )


def _facts(
    femur: LoadedFemur, edge_mm: float, dropped: int, results: Sequence[CaseStrength], checks: dict[str, CheckedCase]
) -> ModelFacts:
    body = femur.body
    return ModelFacts(
        element_count=body.element_count,
        dof=body.dof,
        element_mm=edge_mm,
        youngs_modulus_range_mpa=(float(body.modulus_mpa.min()), float(body.modulus_mpa.max())),
        dropped_elements=dropped,
        iterations=femur.condensed.iterations + sum(check.iterations for check in checks.values()),
        residual=max(case.residual for case in results),
        reaction_balance=max(check.reaction_balance for check in checks.values()),
        active_contact_nodes=max(case.active_contact_nodes for case in results if case.is_checked),
    )


def _mesh_field(body: FemurBody, checks: dict[str, CheckedCase]) -> MeshField:
    """Return the mesh with modulus, and risk and displacement of the checked cases."""
    field = MeshField(body.node_points_mm, body.cells, body.cell_type, {"youngs_modulus_mpa": body.modulus_mpa})
    for name, check in checks.items():
        field.cell_values[f"risk_{name}"] = check.risk
        field.point_values[f"displacement_{name}_mm"] = np.ascontiguousarray(check.displacement_mm.T)
    return field


def _on_grid(grid: DensityGrid, body: FemurBody, elements: Doubles) -> NDArray[np.float32]:
    """Return the values of the nearest elements on the grid of bricks, NaN outside the bone."""
    dense = np.full(grid.is_bone.shape, np.nan, dtype=np.float32)
    _, nearest = cKDTree(body.centres_mm).query(grid.points_mm(np.argwhere(grid.is_bone)))
    dense[grid.is_bone] = elements[nearest]
    return dense
