"""A femur of quadratic tetrahedra: its surface is smooth already, and one factorisation serves all unit loads."""

import numpy as np
from numpy.typing import NDArray

from fe.condensed import Responses
from fe.femur import FemurSettings, held_end_mm
from fe.femur_body import FemurBody, Law, Scan
from fe.material import POISSON_RATIO
from fe.tetra.element import gradients_per_mm, strain_matrices
from fe.tetra.mesh import TetMesh, boundary_faces
from fe.tetra.mesher import fill_surface
from fe.tetra.model import reactions_n, solve_many, tetra_model
from fe.tetra.moduli import bone_volume, element_moduli
from fe.tetra.surface import bone_surface
from fe.voxel.grid import DensityGrid

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

INTERIOR_RATIO = 1.5
"""Edges inside the bone over those at its surface, where strains count: a quarter of the time and less than half of the
memory, strengths within 3 % (measured; docs/methods/femur-strength.md)."""

CENTRE = np.full((1, 4), 0.25)
"""Barycentric coordinates of an element's centre."""


def tetra_femur(
    scan: Scan, grid: DensityGrid, law: Law, settings: FemurSettings, edge_mm: float, memory_limit_bytes: int
) -> FemurBody:
    """Make a femur of tetrahedra; held are the nodes up to half an edge above the end that bricks would be held at.

    Parameters
    ----------
    scan
        The input.
    grid
        The same bone on bricks, for the height of the distal end.
    law
        Density to modulus; integrated over each element.
    settings
        Where the distal end is held.
    edge_mm
        Edge of the elements.
    memory_limit_bytes
        Meshes whose model would need more are refused.

    Raises
    ------
    BadMesh, MissingTool, ModelTooLarge, TooThin, OutsideVolume
        See ``fe.tetra``.
    """
    surface = bone_surface(scan.mask, scan.spacing_mm, edge_mm)
    mesh = fill_surface(surface, INTERIOR_RATIO * edge_mm, memory_limit_bytes=memory_limit_bytes)
    volume = bone_volume(scan.rho_qct_mg_per_cm3, scan.mask, scan.spacing_mm)
    held = mesh.nodes_mm[:, 2] <= held_end_mm(grid, settings) + edge_mm / 2
    return tetra_body(mesh, element_moduli(mesh, volume, law).modulus_mpa, held, POISSON_RATIO, edge_mm)


def tetra_body(mesh: TetMesh, modulus_mpa: Doubles, held: Bools, poisson_ratio: float, edge_mm: float) -> FemurBody:
    """Make a femur of tetrahedra.

    Parameters
    ----------
    mesh
        Nodes and elements.
    modulus_mpa : (elements,) array
        Young's modulus.
    held : (nodes,) bool array
        Nodes of the distal end.
    poisson_ratio
        nu.
    edge_mm
        Edge of the elements.

    Raises
    ------
    UnsupportedModel, FactorisationFailed
        See ``fe.tetra.model.tetra_model``.
    """
    model = tetra_model(mesh, modulus_mpa, poisson_ratio, np.repeat(held[None], 3, axis=0))
    faces, behind = boundary_faces(mesh)
    surface_nodes = np.unique(faces).astype(np.int64)
    surface_nodes = surface_nodes[~held[surface_nodes]]
    at_faces = _face_strain_matrices(mesh, faces, behind)
    at_centres = strain_matrices(gradients_per_mm(mesh.nodes_mm[mesh.elements], CENTRE)[0])[:, 0]

    def solve(forces_n: Doubles, tolerance: float) -> Responses:
        del tolerance  # a direct solution is exact to rounding
        answers = solve_many(model, forces_n)
        return Responses(answers.displacement_mm, answers.residual, 0)

    def strains(displacement_mm: Doubles, chosen: Ints) -> Doubles:
        return _strains(at_faces[chosen], mesh.elements[behind[chosen]], displacement_mm)

    return FemurBody(
        node_points_mm=mesh.nodes_mm,
        node_distance_mm=edge_mm / 2,
        surface_nodes=surface_nodes,
        smooth_mm=mesh.nodes_mm[surface_nodes],
        normals=_normals(mesh, faces)[surface_nodes],
        places_mm=mesh.nodes_mm[faces[:, :3]].mean(axis=1),
        dof=model.dof,
        cells=mesh.elements,
        cell_type="quadratic_tetra",
        modulus_mpa=modulus_mpa,
        solve=solve,
        reactions=lambda displacement_mm, force_n: reactions_n(model, force_n, displacement_mm).sum(axis=1),
        strains=strains,
        element_strains=lambda displacement_mm: _strains(at_centres, mesh.elements, displacement_mm),
        centres_mm=mesh.centres_mm(),
    )


def _strains(matrices: Doubles, elements: NDArray[np.integer], displacement_mm: Doubles) -> Doubles:
    """Return the strains (n, 6) of n elements from their matrices (n, 6, 30)."""
    nodal = displacement_mm.T[elements].reshape(len(elements), -1)
    return np.asarray(np.einsum("nsd,nd->ns", matrices, nodal))


def _face_strain_matrices(mesh: TetMesh, faces: NDArray[np.integer], behind: NDArray[np.integer]) -> Doubles:
    """Return the strain matrices (faces, 6, 30) of the elements behind the faces, at the faces' centres."""
    corners = mesh.elements[behind, :4]
    opposite = np.argmin((corners[:, :, None] == faces[:, None, :3]).any(axis=2), axis=1)
    matrices = np.empty((len(faces), 6, 3 * mesh.elements.shape[1]))
    for corner in range(4):
        chosen = opposite == corner
        place = np.where(np.arange(4) == corner, 0.0, 1 / 3)[None]
        gradients, _ = gradients_per_mm(mesh.nodes_mm[mesh.elements[behind[chosen]]], place)
        matrices[chosen] = strain_matrices(gradients)[:, 0]
    return matrices


def _normals(mesh: TetMesh, faces: NDArray[np.integer]) -> Doubles:
    """Return the outward unit normals (nodes, 3), mean over the faces by their area; 0 inside."""
    a, b, c = (mesh.nodes_mm[faces[:, n]] for n in range(3))
    area = np.cross(b - a, c - a)
    total = np.zeros_like(mesh.nodes_mm)
    for column in range(faces.shape[1]):
        np.add.at(total, faces[:, column], area)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.where(length > 0, length, 1.0))
