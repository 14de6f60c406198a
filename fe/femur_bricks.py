"""A femur of bricks, and the smooth surface that its staircase stands for."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from fe.condensed import Responses
from fe.criterion import centroid_strains
from fe.femur import FemurSettings, held_distal_nodes
from fe.femur_body import FemurBody, Law, Scan
from fe.material import POISSON_RATIO
from fe.outcome import VTK_HEXAHEDRON
from fe.voxel.element import strain_matrix
from fe.voxel.grid import DensityGrid
from fe.voxel.numbering import Numbering, number_voxels
from fe.voxel.solver import elastic_model, solve_many

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FACE_NEIGHBOURS = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))

SURELY_INSIDE = 1e-6
"""Blurred masks are kept this far from 0 and 1, where their distance from the surface would be infinite."""


def brick_femur(scan: Scan, grid: DensityGrid, law: Law, settings: FemurSettings) -> FemurBody:
    """Make a femur of bricks, its surface smoothed over the coarser of voxel and element.

    Parameters
    ----------
    scan
        The input.
    grid
        Its elements.
    law
        Density to modulus.
    settings
        Where the distal end is held.
    """
    numbering = number_voxels(grid.is_bone)
    held = held_distal_nodes(grid, numbering, settings)
    modulus = np.where(grid.is_bone, law(grid.rho_qct_mg_per_cm3), 0.0)
    return brick_body(grid, modulus, held, numbering, POISSON_RATIO, max(grid.element_mm, *scan.spacing_mm))


def brick_body(
    grid: DensityGrid,
    modulus_mpa: Doubles,
    held: Bools,
    numbering: Numbering,
    poisson_ratio: float,
    smoothing_mm: float,
) -> FemurBody:
    """Make a femur of bricks.

    Parameters
    ----------
    grid
        Its elements.
    modulus_mpa : (nz, ny, nx) array
        Young's modulus, 0 where there is no element.
    held : (nodes,) bool array
        Nodes of the distal end.
    numbering
        Numbers of nodes and elements.
    poisson_ratio
        nu.
    smoothing_mm
        Standard deviation of the blur that turns the staircase into a smooth surface.
    """
    size_mm = (grid.element_mm,) * 3
    model = elastic_model(modulus_mpa, size_mm, poisson_ratio, np.repeat(held[None], 3, axis=0), numbering)
    surface_nodes, depth_mm, normals = _smooth_surface(grid, numbering, smoothing_mm)
    is_free = ~held[surface_nodes]
    surface_nodes, depth_mm, normals = surface_nodes[is_free], depth_mm[is_free], normals[is_free]
    points = grid.node_points_mm(numbering.node_places)
    nodes = numbering.connectivity()
    places = _surface_elements(grid)
    centres = grid.points_mm(np.argwhere(grid.is_bone))
    matrix = strain_matrix(size_mm)

    def solve(forces_n: Doubles, tolerance: float) -> Responses:
        answers = solve_many(model, forces_n, tolerance=tolerance)
        return Responses(
            np.array([answer.displacement_mm for answer in answers]),
            np.array([answer.residual for answer in answers]),
            sum(answer.iterations for answer in answers),
        )

    def reactions(displacement_mm: Doubles, force_n: Doubles) -> Doubles:
        return np.where(model.is_fixed, model.forces(displacement_mm) - force_n, 0.0).sum(axis=1)

    def strains(displacement_mm: Doubles, chosen: Ints) -> Doubles:
        corners = displacement_mm[:, nodes[places[chosen]]]
        return np.asarray(np.moveaxis(corners, 0, 2).reshape(-1, 24) @ matrix.T)

    return FemurBody(
        node_points_mm=points,
        node_distance_mm=grid.element_mm,
        surface_nodes=surface_nodes,
        smooth_mm=points[surface_nodes] + depth_mm[:, None] * normals,
        normals=normals,
        places_mm=centres[places],
        dof=model.dof,
        cells=nodes[:, VTK_HEXAHEDRON],
        cell_type="hexahedron",
        modulus_mpa=modulus_mpa[grid.is_bone],
        solve=solve,
        reactions=reactions,
        strains=strains,
        element_strains=lambda displacement_mm: centroid_strains(numbering, displacement_mm, size_mm),
        centres_mm=centres,
    )


def _surface_elements(grid: DensityGrid) -> Ints:
    """Return the numbers of the elements with a face that looks outside."""
    padded = np.pad(grid.is_bone, 1).astype(np.int8)
    k, j, i = (index + 1 for index in np.nonzero(grid.is_bone))
    neighbours = sum(padded[k + dk, j + dj, i + di] for dk, dj, di in FACE_NEIGHBOURS)
    return np.flatnonzero(np.asarray(neighbours) < len(FACE_NEIGHBOURS))


def _smooth_surface(grid: DensityGrid, numbering: Numbering, smoothing_mm: float) -> tuple[Ints, Doubles, Doubles]:
    """Return the surface nodes, their depth below the smooth surface (mm), and the outward normals there.

    The staircase blurred by a Gaussian of standard deviation s has, at a node x mm below a plane surface, the value
    Phi(x / s), the normal distribution function; its inverse is the depth. On a ball it is shifted by about s^2 over
    the radius, nearly the same everywhere in a patch. The mean over the eight elements of a node adds a quarter of an
    element squared to the variance.
    """
    sigma = smoothing_mm / grid.element_mm
    pad = int(np.ceil(4 * sigma)) + 1
    blurred = ndimage.gaussian_filter(np.pad(grid.is_bone, pad).astype(np.float64), sigma)
    touching = np.pad(grid.is_bone, 1)
    z, y, x = numbering.node_places.T
    corners = np.empty((2, 2, 2, len(z)))
    filled = np.zeros(len(z), dtype=np.int8)
    for dz, dy, dx in np.ndindex(2, 2, 2):
        corners[dz, dy, dx] = blurred[z + pad - 1 + dz, y + pad - 1 + dy, x + pad - 1 + dx]
        filled += touching[z + dz, y + dy, x + dx]
    nodes = np.flatnonzero(filled < 8)
    corners = corners[..., nodes]
    inward = np.stack([np.diff(corners.mean(axis=others), axis=0)[0] for others in ((0, 1), (0, 2), (1, 2))], axis=1)
    lengths = np.linalg.norm(inward, axis=1, keepdims=True)
    normals = -inward / np.where(lengths > 0, lengths, 1.0)
    value = np.clip(corners.mean(axis=(0, 1, 2)), SURELY_INSIDE, 1 - SURELY_INSIDE)
    depth_mm = grid.element_mm * np.sqrt(sigma**2 + 0.25) * ndtri(value)
    return nodes, depth_mm, normals
