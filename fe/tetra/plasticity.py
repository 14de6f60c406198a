"""The elastic, perfectly plastic law of von Mises at the integration points of tetrahedra.

Small strains. The stress is elastic until the equivalent stress q = sqrt(3/2 s:s) of its deviator s reaches the yield
stress; from there on the deviator stays on the yield surface and plastic strain flows along it (associated flow). An
increment is integrated by the radial return, which is backward Euler's rule and exact for a load that does not turn:

    s_trial = 2 G dev(strain - plastic strain),   s = theta s_trial,   theta = min(1, yield stress / q_trial)

Its consistent tangent is K 1 (x) 1 + 2 G theta (I_dev - n (x) n), n = s / |s|, without the last term where nothing
flows; it makes Newton's method converge quadratically [Simo1998].

Strains are engineering strains in the order xx, yy, zz, xy, yz, xz. The compiled loops run over parts of the elements
that never change with the number of threads, so neither does a result.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fe.tetra.element import gradients_per_mm, quadrature
from fe.tetra.mesh import TetMesh
from fe.voxel.workers import Workers

Doubles = NDArray[np.float64]

PARTS = 4
"""Parts of the elements whose forces are added up separately, then in order; more serve no machine that solves one
vertebra."""

DEGREE = 2
"""Degree of the quadrature: 4 points. Exact for the elastic stiffness of straight elements, and few enough not to lock
when plastic flow keeps the volume constant, as fully integrated low-order elements do. The source's SOLID187 has the
same 4 points [m]."""


@dataclass(frozen=True, slots=True)
class PlasticBody:
    """Elements, their integration points and their material.

    Attributes
    ----------
    elements : (elements, 10) int array
        Node numbers.
    node_count
        Nodes of the mesh.
    gradients : (elements, points, 10, 3) array
        Of the shape functions, 1/mm.
    volume_mm3 : (elements, points) array
        Volume that each integration point stands for.
    bulk_mpa, shear_mpa, yield_mpa : (elements,) arrays
        Bulk modulus K, shear modulus G, yield stress in uniaxial tension.
    """

    elements: NDArray[np.int32]
    node_count: int
    gradients: Doubles = field(repr=False)
    volume_mm3: Doubles = field(repr=False)
    bulk_mpa: Doubles = field(repr=False)
    shear_mpa: Doubles = field(repr=False)
    yield_mpa: Doubles = field(repr=False)

    @property
    def point_count(self) -> int:
        """Integration points of an element."""
        return int(self.volume_mm3.shape[1])

    def no_plastic_strain(self) -> Doubles:
        """Return the state of a body that never yielded, (elements, points, 6)."""
        return np.zeros((*self.volume_mm3.shape, 6))


@dataclass(frozen=True, slots=True)
class Response:
    """What a body answers to a displacement.

    Attributes
    ----------
    force_n : (nodes, 3) array
        Forces of the elements on the nodes, the external forces that hold the displacement.
    stress_mpa : (elements, points, 6) array
        xx, yy, zz, xy, yz, xz.
    plastic_strain : (elements, points, 6) array
        At the end of the increment.
    deviatoric_mpa : (elements, points) array
        2 G theta of the tangent.
    flow : (elements, points, 6) array
        sqrt(2 G theta) n where the point flows, 0 elsewhere.
    """

    force_n: Doubles
    stress_mpa: Doubles
    plastic_strain: Doubles
    deviatoric_mpa: Doubles
    flow: Doubles


def plastic_body(mesh: TetMesh, youngs_modulus_mpa: Doubles, poisson_ratio: float, yield_strain: float) -> PlasticBody:
    """Return the body of a mesh with one modulus per element, which yields at one strain everywhere.

    Parameters
    ----------
    mesh
        Quadratic tetrahedra.
    youngs_modulus_mpa : (elements,) array
        E.
    poisson_ratio
        nu.
    yield_strain
        Uniaxial strain at yield: the yield stress of an element is ``yield_strain * E``.

    Raises
    ------
    BadMesh
        An element is flat or inside out at an integration point.
    """
    rule = quadrature(DEGREE)
    gradients, volume = gradients_per_mm(mesh.nodes_mm[mesh.elements], rule.places)
    modulus = np.asarray(youngs_modulus_mpa, dtype=np.float64)
    return PlasticBody(
        elements=np.ascontiguousarray(mesh.elements, dtype=np.int32),
        node_count=mesh.node_count,
        gradients=np.ascontiguousarray(gradients),
        volume_mm3=np.ascontiguousarray(volume * rule.weights),
        bulk_mpa=modulus / (3 * (1 - 2 * poisson_ratio)),
        shear_mpa=modulus / (2 * (1 + poisson_ratio)),
        yield_mpa=yield_strain * modulus,
    )


def respond(body: PlasticBody, displacement_mm: Doubles, plastic_strain: Doubles, workers: Workers) -> Response:
    """Return forces, stresses and tangent after the increment that leads to a displacement.

    Parameters
    ----------
    body
        Elements and material.
    displacement_mm : (nodes, 3) array
        At the end of the increment.
    plastic_strain : (elements, points, 6) array
        At its start.
    workers
        Threads.
    """
    points = body.volume_mm3.shape
    stress, plastic, flow = (np.empty((*points, 6)) for _ in range(3))
    deviatoric = np.empty(points)
    forces = np.zeros((PARTS, body.node_count, 3))
    displacement_mm = np.ascontiguousarray(displacement_mm)

    def work(begin: int, end: int) -> None:
        for part in range(begin, end):
            _respond(
                *_bounds(part, len(body.elements)),
                body.elements, body.gradients, body.volume_mm3, body.bulk_mpa, body.shear_mpa, body.yield_mpa,
                displacement_mm, plastic_strain, stress, plastic, deviatoric, flow, forces[part],
            )  # fmt: skip

    workers.run(PARTS, 1, work)
    return Response(forces.sum(axis=0), stress, plastic, deviatoric, flow)


def tangent_product(body: PlasticBody, response: Response, vector: Doubles, workers: Workers) -> Doubles:
    """Return the consistent tangent of a response times a vector (nodes, 3)."""
    forces = np.zeros((PARTS, body.node_count, 3))

    def work(begin: int, end: int) -> None:
        for part in range(begin, end):
            _tangent(
                *_bounds(part, len(body.elements)),
                body.elements, body.gradients, body.volume_mm3, body.bulk_mpa,
                response.deviatoric_mpa, response.flow, vector, forces[part],
            )  # fmt: skip

    workers.run(PARTS, 1, work)
    return np.asarray(forces.sum(axis=0))


def equivalent_stress(stress_mpa: Doubles) -> Doubles:
    """Return von Mises' equivalent stress of stresses (..., 6)."""
    normal = stress_mpa[..., :3] - stress_mpa[..., :3].mean(axis=-1, keepdims=True)
    return np.asarray(np.sqrt(1.5 * ((normal**2).sum(axis=-1) + 2 * (stress_mpa[..., 3:] ** 2).sum(axis=-1))))


def equivalent_plastic_strain(plastic_strain: Doubles) -> Doubles:
    """Return sqrt(2/3 e:e) of plastic engineering strains (..., 6): the path's length where the flow does not turn."""
    squares = (plastic_strain[..., :3] ** 2).sum(axis=-1) + (plastic_strain[..., 3:] ** 2).sum(axis=-1) / 2
    return np.asarray(np.sqrt(2 / 3 * squares))


def _bounds(part: int, count: int) -> tuple[int, int]:
    return part * count // PARTS, (part + 1) * count // PARTS


@njit(nogil=True, error_model="numpy", cache=True)
def _strain(e, p, elements, gradients, displacement, strain):  # type: ignore[no-untyped-def]
    """Write the engineering strain of one integration point."""
    strain[:] = 0.0
    for n in range(elements.shape[1]):
        node = elements[e, n]
        ux, uy, uz = displacement[node, 0], displacement[node, 1], displacement[node, 2]
        gx, gy, gz = gradients[e, p, n, 0], gradients[e, p, n, 1], gradients[e, p, n, 2]
        strain[0] += ux * gx
        strain[1] += uy * gy
        strain[2] += uz * gz
        strain[3] += ux * gy + uy * gx
        strain[4] += uy * gz + uz * gy
        strain[5] += ux * gz + uz * gx


@njit(nogil=True, error_model="numpy", cache=True)
def _add_force(e, p, elements, gradients, volume, stress, force):  # type: ignore[no-untyped-def]
    """Add the nodal forces of one integration point's stress."""
    for n in range(elements.shape[1]):
        node = elements[e, n]
        gx, gy, gz = volume * gradients[e, p, n, 0], volume * gradients[e, p, n, 1], volume * gradients[e, p, n, 2]
        force[node, 0] += stress[0] * gx + stress[3] * gy + stress[5] * gz
        force[node, 1] += stress[3] * gx + stress[1] * gy + stress[4] * gz
        force[node, 2] += stress[5] * gx + stress[4] * gy + stress[2] * gz


@njit(nogil=True, error_model="numpy", cache=True)
def _return(strain, plastic, bulk, shear, limit, stress, new_plastic, flow):  # type: ignore[no-untyped-def]
    """Radial return of one point: write stress, plastic strain and flow; return 2 G theta."""
    mean = 0.0
    for i in range(6):
        stress[i] = strain[i] - plastic[i]
        new_plastic[i] = plastic[i]
        flow[i] = 0.0
    mean = (stress[0] + stress[1] + stress[2]) / 3
    for i in range(3):
        stress[i] = 2 * shear * (stress[i] - mean)
        stress[i + 3] *= shear
    squares = stress[0] ** 2 + stress[1] ** 2 + stress[2] ** 2
    squares += 2 * (stress[3] ** 2 + stress[4] ** 2 + stress[5] ** 2)
    trial = np.sqrt(1.5 * squares)
    deviatoric = 2 * shear
    if trial > limit:
        theta = limit / trial
        deviatoric *= theta
        for i in range(6):
            flow[i] = stress[i] * np.sqrt(deviatoric / squares)
            new_plastic[i] += (1 - theta) * stress[i] / (2 * shear if i < 3 else shear)
            stress[i] *= theta
    for i in range(3):
        stress[i] += 3 * bulk * mean
    return deviatoric


@njit(nogil=True, error_model="numpy", cache=True)
def _respond(  # type: ignore[no-untyped-def]
    begin, end, elements, gradients, volume, bulk, shear, limit, displacement, plastic, stress, new_plastic, deviatoric,
    flow, force,
):  # fmt: skip
    """Do ``respond`` for the elements ``begin .. end - 1``."""
    strain = np.empty(6)
    for e in range(begin, end):
        for p in range(volume.shape[1]):
            _strain(e, p, elements, gradients, displacement, strain)
            deviatoric[e, p] = _return(
                strain, plastic[e, p], bulk[e], shear[e], limit[e], stress[e, p], new_plastic[e, p], flow[e, p]
            )
            _add_force(e, p, elements, gradients, volume[e, p], stress[e, p], force)


@njit(nogil=True, error_model="numpy", cache=True)
def _tangent(  # type: ignore[no-untyped-def]
    begin, end, elements, gradients, volume, bulk, deviatoric, flow, vector, force
):
    """Do ``tangent_product`` for the elements ``begin .. end - 1``."""
    strain = np.empty(6)
    for e in range(begin, end):
        for p in range(volume.shape[1]):
            _strain(e, p, elements, gradients, vector, strain)
            mean = (strain[0] + strain[1] + strain[2]) / 3
            along = 0.0
            for i in range(6):
                along += flow[e, p, i] * strain[i]
            for i in range(3):
                strain[i] = deviatoric[e, p] * (strain[i] - mean) + 3 * bulk[e] * mean
                strain[i + 3] *= deviatoric[e, p] / 2
            for i in range(6):
                strain[i] -= along * flow[e, p, i]
            _add_force(e, p, elements, gradients, volume[e, p], strain, force)
