"""Which loads a bone is used to, read from its structure.

Bone adapts until its tissue is loaded evenly. So the loads that it carries in daily life are those whose strain
energies together come out as even as possible [Christen2012, Christen2013]: every unit case gives an energy density
U_i, and non-negative factors s_i make ``sum s_i U_i`` as near as possible to one target in every voxel. An energy grows
with the square of its load, so the load of case i is ``sqrt(s_i)`` times the unit case's. Energies do not know the
sign of a load; nor do the results.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from fe.errors import BadLoad
from fe.flags import ModelFlag
from fe.microfe import (
    MAX_ITERATIONS,
    MEMORY_LIMIT_BYTES,
    TOLERANCE,
    PlatedSpecimen,
    Progress,
    counting_elements,
    model_facts,
    plated_specimen,
)
from fe.microfe_field import SolvedSpecimen, solved_specimen
from fe.microfe_model import Axis, plate_motion_mm
from fe.outcome import ModelFacts
from fe.tissue import Labels, Tissue
from fe.voxel.solver import Solution, solve_many

Doubles = NDArray[np.float64]
Vector3 = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class UnitCase:
    """One motion of the upper plate.

    Attributes
    ----------
    name
        Of the case; x and y are the model's axes across the compressed one z.
    strain
        Shift of the plate along (x, y, z) over the specimen's height.
    turn_deg
        Rotation about (x, y, z) through the centroid of the end face.
    """

    name: str
    strain: Vector3 = (0.0, 0.0, 0.0)
    turn_deg: Vector3 = (0.0, 0.0, 0.0)


UNIT_CASES: tuple[UnitCase, ...] = (
    UnitCase("compression", strain=(0.0, 0.0, -0.01)),
    UnitCase("shear_x", strain=(0.01, 0.0, 0.0)),
    UnitCase("shear_y", strain=(0.0, 0.01, 0.0)),
    UnitCase("bending_x", turn_deg=(1.0, 0.0, 0.0)),
    UnitCase("bending_y", turn_deg=(0.0, 1.0, 0.0)),
    UnitCase("torsion", turn_deg=(0.0, 0.0, 1.0)),
)
"""Six motions, 1 % or 1 degree [ParOSolPy]; their size changes no load found."""

TARGET_MPA = 0.02
"""Energy density of evenly loaded tissue [Christen2013, ParOSolPy]."""

CAP_PERCENTILE = 95.0
"""Energies above this percentile of a case are set to it: corners and held ends concentrate energy [ParOSolPy]."""


@dataclass(frozen=True, slots=True)
class HistoryLoad:
    """How much of one unit case the bone is used to.

    Attributes
    ----------
    name
        The unit case.
    factor
        s: its part of the energy.
    force_n, moment_nmm
        Magnitudes of force and moment on the moved plate, about the centroid of its face.
    """

    name: str
    factor: float
    force_n: float
    moment_nmm: float


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """Loads found from the structure.

    Attributes
    ----------
    loads
        One row for every unit case.
    target_mpa
        Energy density aimed at.
    mean_mpa, spread_mpa
        Mean and standard deviation of the energy density of the sum, over the tissues that count.
    misfit
        Root mean square distance from the target over the target, with capped energies: 0 is perfectly even, 1 means
        that no load explains the structure.
    energy_mpa : (elements,) array
        Energy density of the sum, capped.
    solved
        The first unit case, for its mesh and images.
    facts, flags
        What the numbers rest on.
    """

    loads: tuple[HistoryLoad, ...]
    target_mpa: float
    mean_mpa: float
    spread_mpa: float
    misfit: float
    facts: ModelFacts
    flags: tuple[ModelFlag, ...]
    energy_mpa: Doubles = field(repr=False)
    solved: SolvedSpecimen = field(repr=False)

    def energy_image_mpa(self) -> NDArray[np.float32]:
        """Return the energy density of the sum on the image's grid (slice, row, column), NaN outside."""
        return self.solved.specimen.on_image(self.energy_mpa)


def load_history(
    labels: Labels,
    spacing_mm: tuple[float, float, float],
    *,
    tissues: Mapping[int, Tissue] | None = None,
    density_mg_per_cm3: NDArray[np.floating] | None = None,
    axis: Axis = "slice",
    cases: tuple[UnitCase, ...] = UNIT_CASES,
    target_mpa: float = TARGET_MPA,
    cap_percentile: float = CAP_PERCENTILE,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> LoadHistory:
    """Find the loads that strain a specimen most evenly.

    1. Hold both end faces in plates; solve every unit case on the same model.
    2. Cap every case's energy density at a percentile.
    3. Non-negative least squares of their sum to the target.

    Parameters
    ----------
    labels, spacing_mm, tissues, density_mg_per_cm3, axis, tolerance, progress, memory_limit_bytes
        As for ``fe.microfe.micro_fe``.
    cases
        Unit cases; names must differ.
    target_mpa
        Energy density aimed at.
    cap_percentile
        100 for none.

    Raises
    ------
    BadInput
        As ``micro_fe``; and a target, percentile or set of cases that cannot be used.
    ModelTooLarge, NotConverged
        As ``micro_fe``.
    """
    if len({case.name for case in cases}) != len(cases) or not cases:
        raise BadLoad("Unit cases must be given, each with a name of its own.")
    if not (np.isfinite(target_mpa) and target_mpa > 0 and 0 < cap_percentile <= 100):
        raise BadLoad(f"Target {target_mpa} MPa or percentile {cap_percentile} is out of range.")
    plated = plated_specimen(
        labels, spacing_mm, tissues, density_mg_per_cm3, None, axis, "held", memory_limit_bytes, len(cases)
    )
    if progress is not None:
        progress(0.1, f"Solving {len(cases)} unit cases")
    solutions = _solve_cases(plated, cases, tolerance)
    solved = [solved_specimen(plated.specimen, plated.model, solution) for solution in solutions]
    counting = counting_elements(solved[0], plated.table)
    energies = np.stack([_capped(case.energy_mpa, counting, cap_percentile) for case in solved], axis=1)
    factors = even_energy_factors(energies[counting], target_mpa)
    total = energies @ factors
    inside = total[counting]
    return LoadHistory(
        loads=tuple(_load(*row) for row in zip(cases, factors, solved, strict=True)),
        target_mpa=target_mpa,
        mean_mpa=float(inside.mean()),
        spread_mpa=float(inside.std()),
        misfit=float(np.sqrt(np.mean((inside / target_mpa - 1) ** 2))),
        facts=model_facts(plated.model, solved, solutions),
        flags=plated.flags,
        energy_mpa=total,
        solved=solved[0],
    )


def even_energy_factors(energies_mpa: Doubles, target_mpa: float) -> Doubles:
    """Return the non-negative factors (cases,) that bring ``energies_mpa`` (n, cases) nearest to the target.

    The rows are first reduced by an orthogonal factorisation, which changes no residual but for a constant, so that
    no voxel has to be left out.
    """
    scale = energies_mpa.max(axis=0)
    q, r = np.linalg.qr(energies_mpa / scale)
    factors, _ = nnls(r, q.sum(axis=0) * target_mpa)
    return np.asarray(factors / scale)


def _solve_cases(plated: PlatedSpecimen, cases: tuple[UnitCase, ...], tolerance: float) -> tuple[Solution, ...]:
    height = plated.specimen.height_mm
    motions = [
        plate_motion_mm(
            plated.specimen,
            plated.model.numbering,
            (case.strain[0] * height, case.strain[1] * height, case.strain[2] * height),
            tuple(np.radians(case.turn_deg)),
        )
        for case in cases
    ]
    forces = np.stack([-plated.model.forces(motion) for motion in motions])
    solutions = solve_many(plated.model, forces, tolerance=tolerance, max_iterations=MAX_ITERATIONS)
    return tuple(
        replace(solution, displacement_mm=motion + solution.displacement_mm)
        for motion, solution in zip(motions, solutions, strict=True)
    )


def _capped(energy_mpa: Doubles, counting: NDArray[np.bool_], percentile: float) -> Doubles:
    return np.minimum(energy_mpa, np.percentile(energy_mpa[counting], percentile))


def _load(case: UnitCase, factor: float, solved: SolvedSpecimen) -> HistoryLoad:
    amplitude = float(np.sqrt(factor))
    return HistoryLoad(
        name=case.name,
        factor=float(factor),
        force_n=amplitude * float(np.linalg.norm(solved.plate_force_n)),
        moment_nmm=amplitude * float(np.linalg.norm(solved.plate_moment_nmm)),
    )
