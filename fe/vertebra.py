"""Strength of a vertebral body: the elastic, perfectly plastic tetrahedral model of the Lyon group.

The lower endplate is held, the upper one is pushed towards it by 1.9 % of the distance between them, and the strength
is the force that it takes [Saillard2024, MekAnOs]. Endplates are found in ``fe/endplates.py``, an arch is cut off in
``fe/vertebral_body.py``, the material is in ``fe/tetra/plasticity.py``. Method page: docs/methods/vertebra-strength.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fe.bone_scan import metal_flags, without_cavities
from fe.endplates import Endplates, Point, find_endplates
from fe.errors import BadDensity, BadInput, BadLoad, BadMask, BadSpacing, EmptyMask, EndplatesNotFound, ModelTooLarge
from fe.flags import ModelFlag, cavity_flags
from fe.material import POISSON_RATIO, g_from_mg_per_cm3
from fe.outcome import MeshField, ModelFacts, balanced, say_nothing
from fe.tetra.mesh import TetMesh, boundary_faces
from fe.tetra.mesher import MEMORY_LIMIT_BYTES, fill_surface
from fe.tetra.moduli import bone_volume, element_moduli
from fe.tetra.plastic_solver import PlasticProblem, PlasticSolution, load
from fe.tetra.plasticity import equivalent_plastic_strain, equivalent_stress, plastic_body
from fe.tetra.surface import bone_surface
from fe.tetra.two_level import two_level
from fe.vertebra_flags import vertebra_flags
from fe.vertebral_body import vertebral_body
from fe.voxel.grid import DENSITY_RANGE_MG_PER_CM3
from fe.voxel.workers import Workers

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Progress = Callable[[float, str], None]

ELEMENT_MM = 2.0
"""Default edge: a regular tetrahedron of 1 mm3, the source's, has an edge of 2.04 mm [Saillard2024]."""

BYTES_PER_ELEMENT = 12_000
"""Estimate of the peak need per element; 6 kB beyond the interpreter's own memory were measured with 55 000."""

MOST_FLOORED = 0.5
"""A vertebra of which more than this fraction has no stiffness by the modulus law is refused: densities below 11 mg/cm3
are fatty marrow without bone, or another unit [m assumption]."""


@dataclass(frozen=True, slots=True)
class LinearModulusLaw:
    """A straight line from rho_QCT in g/cm3 to Young's modulus: ``E = slope_mpa * rho + intercept_mpa``.

    Attributes
    ----------
    slope_mpa, intercept_mpa
        Of the line.
    minimum_mpa, maximum_mpa
        E is kept between these; how many elements were is reported.
    source
        Where the law comes from.
    """

    slope_mpa: float
    intercept_mpa: float
    minimum_mpa: float
    maximum_mpa: float
    source: str

    def __call__(self, rho_qct_mg_per_cm3: NDArray[np.floating]) -> Doubles:
        """Return Young's modulus, MPa."""
        modulus = self.slope_mpa * g_from_mg_per_cm3(rho_qct_mg_per_cm3) + self.intercept_mpa
        return np.clip(modulus, self.minimum_mpa, self.maximum_mpa)


KOPPERDAHL_2002 = LinearModulusLaw(
    slope_mpa=3230.0,
    intercept_mpa=-34.7,
    minimum_mpa=1.0,
    maximum_mpa=4810.0,
    source=(
        "E = 3230 rho_QCT - 34.7 MPa [Saillard2024, eq. 2; Kopperdahl2002]; floor 1 MPa, one of two in the authors' "
        "code [MekAnOs]; ceiling at 1.5 g/cm3, denser than any cortical bone [m assumption]"
    ),
)


@dataclass(frozen=True, slots=True)
class VertebraSettings:
    """Model choices.

    Attributes
    ----------
    law
        rho_QCT to Young's modulus.
    poisson_ratio
        nu [MekAnOs].
    yield_strain
        Uniaxial strain at yield; the yield stress is this times E [Saillard2024, RinconKohli2009].
    shortening
        Displacement of the upper endplate over the distance of the endplates [Saillard2024, Wang2012].
    steps
        Points of the load-displacement curve. The strength does not depend on them [measured, method page].
    tolerance
        Norm of the forces left on free nodes over the norm of the reactions. At 1e-3 the strength is within 1e-5 of its
        value at 1e-6 [measured, method page].
    """

    law: LinearModulusLaw = KOPPERDAHL_2002
    poisson_ratio: float = POISSON_RATIO
    yield_strain: float = 0.015
    shortening: float = 0.019
    steps: int = 10
    tolerance: float = 1e-3


@dataclass(frozen=True, slots=True)
class VertebraStrength:
    """Strength of one vertebral body, and what it rests on.

    Attributes
    ----------
    level
        As given.
    failure_load_n
        Norm of the reaction at the lower endplate when the upper one has moved by ``shortening``.
    shear_fraction
        Part of that reaction across the axis between the endplates.
    stiffness_n_per_mm
        Slope of the elastic beginning of the curve.
    displacement_mm, load_n : (steps + 1,) arrays
        The load-displacement curve, from zero.
    yielded_fraction : (steps + 1,) array
        Fraction of the volume with plastic strain, along the curve.
    endplates
        Where they are.
    body_volume_mm3
        Of the mesh.
    arch_fraction
        Part of the mask that was cut off as the vertebra's arch.
    facts
        Size and trustworthiness.
    flags
        What limits the result.
    at_end
        The mesh at the last step, for files and pictures. Values of the cells: ``youngs_modulus_mpa``,
        ``plastic_strain`` (equivalent), ``stress_over_yield_stress``; of the nodes: ``displacement_mm``, ``endplate``
        (1 upper, -1 lower, 0 neither).
    """

    level: str
    failure_load_n: float
    shear_fraction: float
    stiffness_n_per_mm: float
    displacement_mm: Doubles
    load_n: Doubles
    yielded_fraction: Doubles
    endplates: Endplates
    body_volume_mm3: float
    arch_fraction: float
    facts: ModelFacts
    flags: tuple[ModelFlag, ...]
    at_end: MeshField = field(repr=False)

    def field(self) -> MeshField:
        """Return the mesh at the last step."""
        return self.at_end


def vertebra_strength(
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: Bools,
    spacing_mm: tuple[float, float, float],
    level: str,
    *,
    element_mm: float = ELEMENT_MM,
    settings: VertebraSettings | None = None,
    progress: Progress | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> VertebraStrength:
    """Compute the force that shortens a vertebral body by 1.9 %.

    1. Fill closed cavities of the mask; cut the arch off where the mask holds one.
    2. Smooth surface, quadratic tetrahedra, endplates on the mesh's boundary.
    3. Modulus of every element: the mean of E(rho) over it.
    4. Move the upper endplate along the line between the endplates' centres, step by step.

    Parameters
    ----------
    rho_qct_mg_per_cm3 : (slice, row, column) array
        Calibrated density, mg/cm3, canonical order (growing to the head, to the back, to the patient's left).
    mask : (slice, row, column) bool array
        One vertebra, with or without its arch.
    spacing_mm
        Voxel spacing along (slice, row, column).
    level
        Name of the vertebra, for example ``L1``; carried through, never guessed.
    element_mm
        Edge of the elements.
    settings
        Model choices; the defaults when left out.
    progress
        Called with a fraction 0..1 and a short text.
    memory_limit_bytes
        Refuse models that would need more.

    Raises
    ------
    BadInput
        Mask, density, spacing or level cannot be used (see ``fe.errors``).
    EndplatesNotFound
        The mask is not one upright vertebra.
    BadMesh, TooThin, OutsideVolume
        The mask cannot be meshed.
    ModelTooLarge
        The estimate exceeds the memory limit.
    MissingTool
        The libraries of the extra ``fe`` are not installed.
    FactorisationFailed, NotConverged
        The model could not be solved.
    """
    settings = VertebraSettings() if settings is None else settings
    tell = progress if progress is not None else say_nothing
    whole = without_cavities(mask)
    _check(rho_qct_mg_per_cm3, whole, spacing_mm, level, settings)
    tell(0.0, "Separating the vertebral body")
    body = vertebral_body(whole, spacing_mm)
    tell(0.05, "Meshing the body")
    surface = bone_surface(body.mask, spacing_mm, element_mm)
    mesh = fill_surface(surface, element_mm)
    if mesh.element_count * BYTES_PER_ELEMENT > memory_limit_bytes:
        raise ModelTooLarge(mesh.element_count, mesh.element_count * BYTES_PER_ELEMENT, memory_limit_bytes)
    plates, end = _ends(mesh)
    tell(0.15, "Assigning the material")
    volume = bone_volume(rho_qct_mg_per_cm3, body.mask, spacing_mm)
    modulus = element_moduli(mesh, volume, settings.law).modulus_mpa
    problem = _problem(mesh, modulus, plates, end, settings)
    tell(0.3, "Loading the body")
    fractions = tuple((step + 1) / settings.steps for step in range(settings.steps))
    solution = load(problem, fractions, lambda done: tell(0.3 + 0.7 * done, "Loading the body"))
    limits = (settings.law.minimum_mpa, settings.law.maximum_mpa)
    pushed_mm = settings.shortening * plates.height_mm
    load_n = np.array([0.0, *(float(np.linalg.norm(point.reaction_n)) for point in solution.path)])
    displacement = np.array([0.0, *(pushed_mm * point.fraction for point in solution.path)])
    return VertebraStrength(
        level=level,
        failure_load_n=float(load_n[-1]),
        shear_fraction=_across(solution.path[-1].reaction_n, plates.axis),
        stiffness_n_per_mm=float(load_n[1] / displacement[1]),
        displacement_mm=displacement,
        load_n=load_n,
        yielded_fraction=np.array([0.0, *(point.yielded_fraction for point in solution.path)]),
        endplates=plates,
        body_volume_mm3=float(problem.body.volume_mm3.sum()),
        arch_fraction=body.arch_fraction,
        facts=_facts(problem, solution, modulus, element_mm, int(whole.sum()) - body.input_voxels),
        flags=(
            *vertebra_flags(whole, body, spacing_mm, element_mm, surface, plates, modulus, limits),
            *cavity_flags(mask, whole),
            *metal_flags(rho_qct_mg_per_cm3, body.mask, spacing_mm),
        ),
        at_end=_field(problem, solution, mesh, modulus, end, settings),
    )


def _check(
    rho: NDArray[np.floating],
    mask: Bools,
    spacing_mm: tuple[float, float, float],
    level: str,
    settings: VertebraSettings,
) -> None:
    """Refuse input that cannot describe a vertebra."""
    if mask.dtype != np.bool_ or mask.ndim != 3 or rho.shape != mask.shape:
        raise BadMask(
            f"Mask and density must be volumes of one shape, the mask boolean; they are {mask.dtype} {mask.shape} and "
            f"{rho.shape}."
        )
    if not mask.any():
        raise EmptyMask("The mask holds no voxel.")
    if len(spacing_mm) != 3 or not all(np.isfinite(step) and step > 0 for step in spacing_mm):
        raise BadSpacing(f"Spacing {tuple(spacing_mm)} mm must be three positive lengths.")
    if not level.strip():
        raise BadInput("The level of the vertebra must be named; it is never guessed.")
    inside = rho[mask]
    low, high = DENSITY_RANGE_MG_PER_CM3
    if not (np.isfinite(inside).all() and inside.min() >= low and inside.max() <= high):
        raise BadDensity(f"The density inside the mask must be finite and between {low:.0f} and {high:.0f} mg/cm3.")
    floored = float(np.mean(settings.law(inside) <= settings.law.minimum_mpa))
    if floored > MOST_FLOORED:
        raise BadDensity(
            f"{floored:.0%} of the vertebra is so light that the modulus law gives no stiffness (mean density "
            f"{inside.mean():.0f} mg/cm3): this is not calibrated density, or not bone."
        )
    if settings.steps < 1 or not (settings.shortening > 0 and settings.yield_strain > 0 and settings.tolerance > 0):
        raise BadLoad("Steps, shortening, yield strain and tolerance must be positive.")


def _ends(mesh: TetMesh) -> tuple[Endplates, NDArray[np.int8]]:
    """Find the endplates of a mesh; return them, and 1 for nodes of the upper, -1 for nodes of the lower one."""
    faces, _ = boundary_faces(mesh)
    plates = find_endplates(mesh.nodes_mm, faces[:, :3])
    upper, lower = (np.unique(faces[plate.faces]) for plate in (plates.superior, plates.inferior))
    if np.intersect1d(upper, lower).size:
        raise EndplatesNotFound("The endplates touch each other: the mask is not a whole vertebral body.")
    end = np.zeros(mesh.node_count, dtype=np.int8)
    end[upper], end[lower] = 1, -1
    return plates, end


def _problem(
    mesh: TetMesh, modulus: Doubles, plates: Endplates, end: NDArray[np.int8], settings: VertebraSettings
) -> PlasticProblem:
    """Hold the nodes of both endplates in all directions; move the upper ones towards the lower ones."""
    body = plastic_body(mesh, modulus, settings.poisson_ratio, settings.yield_strain)
    is_prescribed = np.repeat((end != 0)[:, None], 3, axis=1)
    workers = Workers()
    push_mm = -settings.shortening * plates.height_mm * np.array(plates.axis)
    return PlasticProblem(
        body=body,
        is_prescribed=is_prescribed,
        prescribed_mm=np.where((end == 1)[:, None], push_mm, 0.0),
        precondition=two_level(mesh, body, modulus, settings.poisson_ratio, is_prescribed, workers),
        tolerance=settings.tolerance,
        workers=workers,
    )


def _across(force: Point, axis: Point) -> float:
    """Return the part of a force across an axis."""
    size = float(np.linalg.norm(force))
    return float(np.linalg.norm(np.cross(force, axis))) / size


def _facts(
    problem: PlasticProblem, solution: PlasticSolution, modulus: Doubles, element_mm: float, dropped: int
) -> ModelFacts:
    force = solution.response.force_n
    held = problem.is_prescribed.all(axis=1)
    reaction = float(np.linalg.norm(solution.path[-1].reaction_n))
    return ModelFacts(
        element_count=len(problem.body.elements),
        dof=problem.dof,
        element_mm=element_mm,
        youngs_modulus_range_mpa=(float(modulus.min()), float(modulus.max())),
        dropped_elements=dropped,
        iterations=solution.elastic_iterations + sum(point.linear_iterations for point in solution.path),
        residual=max(point.residual for point in solution.path),
        reaction_balance=balanced(float(np.linalg.norm(force[held].sum(axis=0))) / reaction),
    )


def _field(
    problem: PlasticProblem,
    solution: PlasticSolution,
    mesh: TetMesh,
    modulus: Doubles,
    end: NDArray[np.int8],
    settings: VertebraSettings,
) -> MeshField:
    share = problem.body.volume_mm3 / problem.body.volume_mm3.sum(axis=1, keepdims=True)

    def mean(values: Doubles) -> Doubles:
        return np.asarray((share * values).sum(axis=1))

    return MeshField(
        mesh.nodes_mm,
        mesh.elements,
        "quadratic_tetra",
        {
            "youngs_modulus_mpa": modulus,
            "plastic_strain": mean(equivalent_plastic_strain(solution.response.plastic_strain)),
            "stress_over_yield_stress": mean(equivalent_stress(solution.response.stress_mpa))
            / (settings.yield_strain * modulus),
        },
        {"displacement_mm": solution.displacement_mm, "endplate": end.astype(np.float64)},
    )
