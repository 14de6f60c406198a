"""A solved specimen: energies, forces through its layers, and the mesh for files and pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.criterion import centroid_strains
from fe.material import POISSON_RATIO
from fe.microfe_model import Specimen, arms_mm, end_nodes
from fe.outcome import VTK_HEXAHEDRON, MeshField
from fe.pistoia import effective_strains, energy_density_mpa
from fe.voxel.element import elasticity_matrix
from fe.voxel.numbering import Numbering
from fe.voxel.solver import ElasticModel, Solution

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class SolvedSpecimen:
    """A specimen under one motion of its plates, in the model's axes (x, y, z), z compressed.

    Attributes
    ----------
    specimen, numbering
        Voxels and nodes.
    modulus_mpa : (elements,) array
        Young's modulus.
    strains : (elements, 6) array
        Engineering strains at the elements' centres, xx, yy, zz, xy, yz, xz.
    energy_mpa : (elements,) array
        Strain energy density at the elements' centres, MPa = N mm / mm3.
    displacement_mm : (3, nodes) array
        Along (x, y, z).
    plate_force_n, plate_moment_nmm
        Force on the moved plate, and its moment about the centroid of the end face, along (x, y, z).
    rest_force_n
        Force on the resting plate.
    work_nmm
        Displacement times nodal force, summed: twice the strain energy.
    """

    specimen: Specimen
    numbering: Numbering
    modulus_mpa: Doubles
    strains: Doubles
    energy_mpa: Doubles
    displacement_mm: Doubles
    plate_force_n: Doubles
    plate_moment_nmm: Doubles
    rest_force_n: Doubles
    work_nmm: float

    @property
    def labels(self) -> NDArray[np.integer]:
        """Return the tissue of every element."""
        return self.specimen.labels[self.numbering.is_bone]

    def energy_image_mpa(self) -> NDArray[np.float32]:
        """Return the strain energy density on the image's grid (slice, row, column), NaN outside of the specimen."""
        return self.specimen.on_image(self.energy_mpa)

    def axial_forces_n(self) -> Doubles:
        """Return every element's share (elements,) of the axial force through its layer.

        The mean stress of a rectangular brick is the one at its centre, so the shares of a layer add up to the
        plate's force, in every layer.
        """
        stress = self.modulus_mpa * (self.strains @ elasticity_matrix(POISSON_RATIO)[2])
        return np.asarray(stress * (self.specimen.size_mm[1] * self.specimen.size_mm[2]))

    def field(self, *, surface_only: bool = True, window: Window | None = None) -> MeshField:
        """Return the mesh with its values, for files and pictures.

        Parameters
        ----------
        surface_only
            Leave out voxels with six neighbours: in solid bone most of them.
        window
            Pairs (start, stop) of image indices along (slice, row, column); everything when left out.
        """
        shown = _shown(self.specimen, surface_only, window)[self.numbering.is_bone]
        nodes = self.numbering.connectivity()[shown][:, VTK_HEXAHEDRON]
        used, cells = np.unique(nodes, return_inverse=True)
        effective = effective_strains(self.energy_mpa[shown], self.modulus_mpa[shown])
        displacement = self.specimen.vectors_xyz(self.displacement_mm[:, used])
        return MeshField(
            points_mm=self.specimen.node_points_mm(self.numbering.node_places[used]),
            cells=cells.reshape(nodes.shape).astype(np.int32),
            cell_type="hexahedron",
            cell_values={
                "strain_energy_density_mpa": self.energy_mpa[shown].astype(np.float32),
                "effective_strain": effective.astype(np.float32),
                "youngs_modulus_mpa": self.modulus_mpa[shown].astype(np.float32),
                "label": self.labels[shown].astype(np.float32),
            },
            point_values={"displacement_mm": np.ascontiguousarray(displacement.T)},
        )


def solved_specimen(specimen: Specimen, model: ElasticModel, solution: Solution) -> SolvedSpecimen:
    """Evaluate a solution: strains and energies at the elements' centres, forces and moments of the plates."""
    numbering = model.numbering
    strains = centroid_strains(numbering, solution.displacement_mm, specimen.size_mm)
    modulus = np.asarray(model.operator.modulus_mpa, dtype=np.float64)
    forces = model.forces(solution.displacement_mm)
    low, high = end_nodes(numbering)
    moments = np.cross(arms_mm(specimen, numbering)[high], forces[:, high].T)
    return SolvedSpecimen(
        specimen=specimen,
        numbering=numbering,
        modulus_mpa=modulus,
        strains=strains,
        energy_mpa=energy_density_mpa(strains, modulus, POISSON_RATIO),
        displacement_mm=solution.displacement_mm,
        plate_force_n=forces[:, high].sum(axis=1),
        plate_moment_nmm=moments.sum(axis=0),
        rest_force_n=forces[:, low].sum(axis=1),
        work_nmm=float(np.einsum("ij,ij->", forces, solution.displacement_mm)),
    )


def _shown(specimen: Specimen, surface_only: bool, window: Window | None) -> Bools:
    """Return the voxels (nz, ny, nx) of the model that a picture shows."""
    shown = np.asarray(specimen.labels != 0)
    if surface_only:
        padded = np.pad(shown, 1)
        inner = shown.copy()
        for axis in range(3):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis=axis)[1:-1, 1:-1, 1:-1]
        shown = shown & ~inner
    if window is not None:
        image = np.zeros(specimen.image_shape, dtype=bool)
        image[tuple(slice(start, stop) for start, stop in window)] = True
        shown = shown & specimen.turned(image)
    return shown
