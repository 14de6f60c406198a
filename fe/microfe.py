"""Micro-finite elements: stiffness and strength of a bone specimen from its HR-pQCT or micro-CT image.

The specimen is pressed together between two plates. The model is linear; failure is Pistoia's. Compression is
negative: strains, displacements and forces along the compressed axis; ``failure_load_n`` is a magnitude, like every
strength of this package.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadDensity, BadInput, BadLoad, BadModulus, UnsupportedModel
from fe.flags import ModelFlag
from fe.material import POISSON_RATIO
from fe.microfe_field import SolvedSpecimen, solved_specimen
from fe.microfe_model import (
    Axis,
    Ends,
    Specimen,
    check_memory,
    find_specimen,
    plate_motion_mm,
    plated_model,
    specimen_flags,
)
from fe.outcome import ModelFacts, say_nothing
from fe.pistoia import (
    CRITICAL_FRACTION,
    CRITICAL_STRAIN,
    PistoiaFailure,
    check_limits,
    effective_strains,
    pistoia_failure,
)
from fe.tissue import Labels, Tissue, tissue_modulus_mpa, tissue_table
from fe.voxel.solver import ElasticModel, Solution, solve

Doubles = NDArray[np.float64]
Progress = Callable[[float, str], None]

STRAIN = -0.01
"""Apparent strain of the usual test, 1 % compression [ParOSolPy]. The failure load does not depend on it."""

LARGEST_STRAIN = 0.1
"""Beyond, a percentage was given for a fraction [project's assumption]."""

TOLERANCE = 1e-5
"""Residual over the imbalance of the evenly strained specimen. Measured on porous blocks and the public tibia: the
reaction is then exact to 1e-7, the failure load to 1e-4 or better."""

MAX_ITERATIONS = 2000
"""Thin struts need ten times the iterations of solid bone."""

MEMORY_LIMIT_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class TissueShare:
    """What one tissue contributes.

    Attributes
    ----------
    label, name
        The tissue.
    volume_mm3
        Its volume.
    youngs_modulus_range_mpa
        Smallest and largest modulus.
    volume_share, energy_share
        Part of the specimen's volume and of its strain energy (centre values).
    load_share_first, load_share_last
        Part of the axial force that it carries in the first and in the last layer.
    """

    label: int
    name: str
    volume_mm3: float
    youngs_modulus_range_mpa: tuple[float, float]
    volume_share: float
    energy_share: float
    load_share_first: float
    load_share_last: float


@dataclass(frozen=True, slots=True)
class MicroFe:
    """Stiffness and strength of a specimen.

    Attributes
    ----------
    axis, ends
        The compressed axis, and how the plates hold the end faces.
    strain
        Apparent strain applied, negative in compression.
    height_mm, section_mm2, bone_volume_mm3
        Distance of the plates, area behind the apparent modulus, volume of all voxels.
    reaction_force_n
        Force along the axis on the moved plate, negative in compression.
    stiffness_n_per_mm
        Force over displacement.
    apparent_modulus_mpa
        Stiffness times height over section.
    failure
        Pistoia's criterion in detail.
    failure_load_n
        Magnitude of the force at failure.
    end_faces_mm2
        Bone on the first and on the last layer.
    shares
        One row per tissue.
    facts, flags
        What the numbers rest on, and what limits them.
    solved
        The solved model: energies, displacements, mesh.
    """

    axis: Axis
    ends: Ends
    strain: float
    height_mm: float
    section_mm2: float
    bone_volume_mm3: float
    reaction_force_n: float
    stiffness_n_per_mm: float
    apparent_modulus_mpa: float
    failure: PistoiaFailure
    failure_load_n: float
    end_faces_mm2: tuple[float, float]
    shares: tuple[TissueShare, ...]
    facts: ModelFacts
    flags: tuple[ModelFlag, ...]
    solved: SolvedSpecimen = field(repr=False)

    def strain_image(self) -> NDArray[np.float32]:
        """Return the effective strain at the failure load on the image's grid (slice, row, column), NaN outside."""
        strains = effective_strains(self.solved.energy_mpa, self.solved.modulus_mpa)
        return self.solved.specimen.on_image(strains * self.failure.load_factor)


def micro_fe(
    labels: Labels,
    spacing_mm: tuple[float, float, float],
    *,
    tissues: Mapping[int, Tissue] | None = None,
    density_mg_per_cm3: NDArray[np.floating] | None = None,
    modulus_mpa: NDArray[np.floating] | None = None,
    axis: Axis = "slice",
    strain: float = STRAIN,
    ends: Ends = "held",
    critical_strain: float = CRITICAL_STRAIN,
    critical_fraction: float = CRITICAL_FRACTION,
    section_mm2: float | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> MicroFe:
    """Compress a specimen and find its stiffness and its failure load.

    1. Keep the largest face-connected piece; give every voxel its tissue's modulus.
    2. Hold both end faces between plates; move the last one by strain times height.
    3. Solve; the reaction is the work of all nodal forces over the plate's shift. With free nodes in balance it is the
       sum of the forces on the plate; but its error is the square of the solver's, and the sum's is the solver's.
    4. Strain energy density at the elements' centres; Pistoia's criterion over the tissues that count.

    Parameters
    ----------
    labels : (slice, row, column) int or bool array
        Tissue of every voxel, 0 outside; from a density with ``fe.tissue.bone_labels``.
    spacing_mm
        Voxel spacing along (slice, row, column).
    tissues
        Label to tissue; when left out, labels 1, 100 and 127 are bone of the scanner that has such voxels.
    density_mg_per_cm3 : array of the same shape, optional
        For tissues whose modulus follows the density.
    modulus_mpa : array of the same shape, optional
        Moduli that replace the tissues' inside the labels.
    axis
        The compressed axis of the array.
    strain
        Apparent strain, negative in compression.
    ends
        ``held``: the plates stick to the bone; ``sliding``: without friction.
    critical_strain, critical_fraction
        Pistoia's limits.
    section_mm2
        Area behind the apparent modulus; the box around the specimen when left out, right for a cube or a crop.
    tolerance
        Residual of the linear solver over the imbalance of the evenly strained specimen.
    progress
        Called with a fraction 0..1 and a short text.
    memory_limit_bytes
        Refuse models that would need more.

    Raises
    ------
    BadInput
        Labels, spacing, tissues, density, modulus, strain or limits cannot be used, or nothing connects the end faces
        (see ``fe.errors``).
    ModelTooLarge
        The estimate exceeds the memory limit.
    NotConverged
        The linear solver stopped early.
    UnsupportedModel
        No tissue counts, or the ends are unknown.
    """
    tell = progress if progress is not None else say_nothing
    _check_load(strain, section_mm2)
    check_limits(critical_strain, critical_fraction)
    tell(0.0, "Setting up the model")
    plated = plated_specimen(
        labels, spacing_mm, tissues, density_mg_per_cm3, modulus_mpa, axis, ends, memory_limit_bytes
    )
    specimen, model, table = plated.specimen, plated.model, plated.table
    tell(0.15, "Compressing the specimen")
    shift_mm = strain * specimen.height_mm
    motion = plate_motion_mm(specimen, model.numbering, (0.0, 0.0, shift_mm))
    solution = solve_plates(model, motion, tolerance)
    tell(0.95, "Evaluating the strains")
    solved = solved_specimen(specimen, model, solution)
    failure = _failure(solved, table, critical_strain, critical_fraction)
    reaction_n = solved.work_nmm / shift_mm
    stiffness = reaction_n / shift_mm
    section = specimen.box_mm2 if section_mm2 is None else section_mm2
    tell(1.0, "Strength computed")
    return MicroFe(
        axis=axis,
        ends=ends,
        strain=strain,
        height_mm=specimen.height_mm,
        section_mm2=section,
        bone_volume_mm3=model.numbering.element_count * specimen.voxel_mm3,
        reaction_force_n=reaction_n,
        stiffness_n_per_mm=stiffness,
        apparent_modulus_mpa=stiffness * specimen.height_mm / section,
        failure=failure,
        failure_load_n=abs(reaction_n) * failure.load_factor,
        end_faces_mm2=specimen.end_faces_mm2(),
        shares=_shares(solved, table),
        facts=model_facts(model, (solved,), (solution,)),
        flags=plated.flags,
        solved=solved,
    )


@dataclass(frozen=True, slots=True)
class PlatedSpecimen:
    """A specimen between plates, ready to be moved.

    Attributes
    ----------
    specimen, model
        Voxels, and the elastic model.
    table
        Label to tissue.
    flags
        What limits its results.
    """

    specimen: Specimen
    model: ElasticModel
    table: dict[int, Tissue]
    flags: tuple[ModelFlag, ...]


def plated_specimen(
    labels: Labels,
    spacing_mm: tuple[float, float, float],
    tissues: Mapping[int, Tissue] | None,
    density_mg_per_cm3: NDArray[np.floating] | None,
    modulus_mpa: NDArray[np.floating] | None,
    axis: Axis,
    ends: Ends,
    memory_limit_bytes: int,
    cases: int = 1,
) -> PlatedSpecimen:
    """Find the specimen, its moduli and its model for a number of cases. Else as ``micro_fe``, errors too."""
    table = tissue_table(labels, spacing_mm, tissues)
    specimen = find_specimen(labels, spacing_mm, axis)
    if not np.isin(specimen.labels, [label for label, tissue in table.items() if tissue.counts]).any():
        raise UnsupportedModel("No tissue of the specimen counts for failure: it is all embedding.")
    check_memory(specimen, cases, memory_limit_bytes)
    modulus, limited = tissue_modulus_mpa(
        specimen.labels,
        table,
        _turned(specimen, density_mg_per_cm3, BadDensity),
        _turned(specimen, modulus_mpa, BadModulus),
    )
    model = plated_model(specimen, modulus, POISSON_RATIO, ends)
    return PlatedSpecimen(specimen, model, table, tuple(specimen_flags(specimen, limited)))


def counting_elements(solved: SolvedSpecimen, table: Mapping[int, Tissue]) -> NDArray[np.bool_]:
    """Return the elements (elements,) of the tissues that count."""
    return np.isin(solved.labels, [label for label, tissue in table.items() if tissue.counts])


def solve_plates(model: ElasticModel, motion_mm: Doubles, tolerance: float) -> Solution:
    """Solve for plates that move as ``motion_mm`` (3, nodes) says on the end faces and guesses in between.

    What is solved for is the difference from the guess, so that the residual is measured against the imbalance of
    the evenly strained specimen: the jump of a plate into a resting one is many times larger, and a tolerance on it
    would mean less the taller the specimen is.
    """
    solution = solve(model, -model.forces(motion_mm), tolerance=tolerance, max_iterations=MAX_ITERATIONS)
    return replace(solution, displacement_mm=motion_mm + solution.displacement_mm)


def _check_load(strain: float, section_mm2: float | None) -> None:
    if not (np.isfinite(strain) and 0 < abs(strain) < LARGEST_STRAIN):
        raise BadLoad(f"The apparent strain is a fraction, not 0 and below {LARGEST_STRAIN}; found {strain}.")
    if section_mm2 is not None and not (np.isfinite(section_mm2) and section_mm2 > 0):
        raise BadLoad(f"The section must be a positive area, not {section_mm2} mm2.")


def _turned(
    specimen: Specimen, image: NDArray[np.floating] | None, error: type[BadInput]
) -> NDArray[np.floating] | None:
    """Return the specimen's box of an optional image in the model's axes."""
    if image is None:
        return None
    if image.shape != specimen.image_shape:
        raise error(f"An image of shape {image.shape} does not lie on the labels' grid {specimen.image_shape}.")
    return specimen.turned(image)


def _failure(
    solved: SolvedSpecimen, table: Mapping[int, Tissue], critical_strain: float, critical_fraction: float
) -> PistoiaFailure:
    """Apply Pistoia's criterion to the tissues that count."""
    counting = counting_elements(solved, table)
    strains = effective_strains(solved.energy_mpa[counting], solved.modulus_mpa[counting])
    return pistoia_failure(strains, critical_strain, critical_fraction)


def _shares(solved: SolvedSpecimen, table: Mapping[int, Tissue]) -> tuple[TissueShare, ...]:
    """Return one row for every tissue of the specimen."""
    labels, forces = solved.labels, solved.axial_forces_n()
    layer = np.nonzero(solved.numbering.is_bone)[0]
    first, last = layer == 0, layer == layer[-1]
    energy = solved.energy_mpa.sum()
    rows = []
    for label, tissue in table.items():
        of = labels == label
        if not of.any():
            continue
        moduli = solved.modulus_mpa[of]
        rows.append(
            TissueShare(
                label=label,
                name=tissue.name,
                volume_mm3=float(of.sum()) * solved.specimen.voxel_mm3,
                youngs_modulus_range_mpa=(float(moduli.min()), float(moduli.max())),
                volume_share=float(of.mean()),
                energy_share=float(solved.energy_mpa[of].sum() / energy),
                load_share_first=float(forces[of & first].sum() / forces[first].sum()),
                load_share_last=float(forces[of & last].sum() / forces[last].sum()),
            )
        )
    return tuple(rows)


def model_facts(model: ElasticModel, solved: Sequence[SolvedSpecimen], solutions: Sequence[Solution]) -> ModelFacts:
    """Return the facts of one or several solutions of one model."""
    size = [np.linalg.norm(case.plate_force_n) for case in solved]
    sums = [np.linalg.norm(case.plate_force_n + case.rest_force_n) for case in solved]
    moduli = solved[0].modulus_mpa
    return ModelFacts(
        element_count=model.numbering.element_count,
        dof=model.dof,
        element_mm=max(solved[0].specimen.size_mm),
        youngs_modulus_range_mpa=(float(moduli.min()), float(moduli.max())),
        dropped_elements=solved[0].specimen.dropped_voxels,
        iterations=sum(solution.iterations for solution in solutions),
        residual=max(solution.residual for solution in solutions),
        reaction_balance=float(max(sums) / max(size)),
    )
