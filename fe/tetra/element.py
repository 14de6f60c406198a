"""The tetrahedron with 4 or 10 nodes: shape functions, gradients, strain matrices, quadrature.

A place in an element is given by its four barycentric coordinates L, which add up to 1. Node orders are those of
``fe.tetra.mesh``. With 10 nodes the functions are ``L_i (2 L_i - 1)`` at the corners and ``4 L_i L_j`` on the edges
[Zienkiewicz2013]. Edges may be curved: gradients come from the Jacobian at the place itself.

Strains are engineering strains in the order xx, yy, zz, xy, yz, xz; degree of freedom ``3 n + c`` of an element is
component c of its node n.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_jacobi

from fe.errors import BadMesh
from fe.tetra.mesh import EDGES

Doubles = NDArray[np.float64]

NODE_PLACES: Doubles = np.vstack((np.eye(4), [(np.eye(4)[a] + np.eye(4)[b]) / 2 for a, b in EDGES]))
"""Barycentric coordinates (10, 4) of the nodes."""


@dataclass(frozen=True, slots=True)
class Quadrature:
    """Places and weights that integrate polynomials over a tetrahedron.

    Attributes
    ----------
    places : (points, 4) array
        Barycentric coordinates.
    weights : (points,) array
        Fractions of the volume; they add up to 1.
    degree
        Polynomials up to this degree are integrated exactly.
    source
        Where the rule comes from.
    """

    places: Doubles
    weights: Doubles
    degree: int
    source: str


def _orbit(*groups: tuple[float, tuple[float, float, float, float]]) -> tuple[Doubles, Doubles]:
    """Return places and weights of a symmetric rule from one place and weight per group."""
    places: list[tuple[float, ...]] = []
    weights: list[float] = []
    for weight, place in groups:
        rows = _arrangements(place)
        places += rows
        weights += [weight] * len(rows)
    return np.array(places), np.array(weights)


def _arrangements(place: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Return the distinct orders of four numbers."""
    if len(place) == 1:
        return [place]
    rows = []
    for n, value in enumerate(place):
        if value not in place[:n]:
            rows += [(value, *rest) for rest in _arrangements(place[:n] + place[n + 1 :])]
    return rows


_ROOT_5 = 5**0.5
_A4 = (5 - _ROOT_5) / 20
_A14, _B14, _C14 = 0.31088591926330060980, 0.092735250310891226402, 0.045503704125649649492

_TABLE = (
    Quadrature(*_orbit((1.0, (0.25,) * 4)), degree=1, source="centroid"),
    Quadrature(*_orbit((0.25, (_A4, _A4, _A4, 1 - 3 * _A4))), degree=2, source="Hammer and Stroud [Hammer1956]"),
    Quadrature(
        *_orbit(
            (0.11268792571801585080, (_A14, _A14, _A14, 1 - 3 * _A14)),
            (0.073493043116361949544, (_B14, _B14, _B14, 1 - 3 * _B14)),
            (0.042546020777081466438, (_C14, _C14, 0.5 - _C14, 0.5 - _C14)),
        ),
        degree=5,
        source="Walkington, 14 points [Walkington2000]",
    ),
)


def quadrature(degree: int) -> Quadrature:
    """Return the smallest rule at hand that is exact for polynomials up to ``degree``; all weights are positive.

    1, 4 or 14 points up to degree 1, 2 or 5; beyond, the conical product of Gauss-Jacobi rules with n^3 points, exact
    up to degree 2 n - 1 [Stroud1971].
    """
    for rule in _TABLE:
        if rule.degree >= degree:
            return rule
    return conical_rule(degree // 2 + 1)


def conical_rule(n: int) -> Quadrature:
    """Return the conical product rule of n^3 points [Stroud1971].

    The tetrahedron is a cube collapsed twice: x = r, y = (1 - r) s, z = (1 - r) (1 - s) t with the weight
    (1 - r)^2 (1 - s), which the Gauss-Jacobi rules of each variable contain.
    """
    (r, wr), (s, ws), (t, wt) = ((_unit_gauss_jacobi(n, power)) for power in (2, 1, 0))
    R, S, T = np.meshgrid(r, s, t, indexing="ij")
    x, y, z = R.ravel(), ((1 - R) * S).ravel(), ((1 - R) * (1 - S) * T).ravel()
    weights = np.einsum("i,j,k->ijk", wr, ws, wt).ravel()
    return Quadrature(np.column_stack((1 - x - y - z, x, y, z)), weights / weights.sum(), 2 * n - 1, "[Stroud1971]")


def _unit_gauss_jacobi(n: int, power: int) -> tuple[Doubles, Doubles]:
    """Return places and weights on 0..1 for the weight function (1 - x)^power."""
    place, weight = roots_jacobi(n, power, 0)
    return (place + 1) / 2, weight


def shape_functions(places: Doubles, node_count: int = 10) -> Doubles:
    """Return the shape functions (points, nodes) at barycentric places (points, 4)."""
    if node_count == 4:
        return np.array(places)
    corners = places * (2 * places - 1)
    return np.hstack((corners, np.column_stack([4 * places[:, a] * places[:, b] for a, b in EDGES])))


def shape_slopes(places: Doubles, node_count: int = 10) -> Doubles:
    """Return the derivatives (points, nodes, 4) of the shape functions by the four barycentric coordinates."""
    if node_count == 4:
        return np.broadcast_to(np.eye(4), (len(places), 4, 4)).copy()
    slopes = np.zeros((len(places), 10, 4))
    for n in range(4):
        slopes[:, n, n] = 4 * places[:, n] - 1
    for n, (a, b) in enumerate(EDGES, 4):
        slopes[:, n, a] = 4 * places[:, b]
        slopes[:, n, b] = 4 * places[:, a]
    return slopes


def natural_slopes(places: Doubles, node_count: int = 10) -> Doubles:
    """Return the derivatives (points, nodes, 3) by L_1, L_2, L_3, where L_0 = 1 - L_1 - L_2 - L_3."""
    slopes = shape_slopes(places, node_count)
    return np.asarray(slopes[:, :, 1:] - slopes[:, :, :1])


def gradients_per_mm(node_points_mm: Doubles, places: Doubles) -> tuple[Doubles, Doubles]:
    """Return the gradients of the shape functions at places of many elements.

    Parameters
    ----------
    node_points_mm : (elements, 4 or 10, 3) array
        Points of every element's nodes.
    places : (points, 4) array
        Barycentric coordinates, the same in all elements.

    Returns
    -------
    gradients : (elements, points, nodes, 3) array
        d N_n / d (x, y, z), 1/mm.
    volume_mm3 : (elements, points) array
        Volume of the element were the Jacobian everywhere that of the point: ``weights @ volume`` integrates 1.

    Raises
    ------
    BadMesh
        An element is flat or inside out at a place.
    """
    slopes = natural_slopes(places, node_points_mm.shape[1])
    jacobian = np.einsum("pnj,eni->epij", slopes, node_points_mm, optimize=True)
    determinant = np.linalg.det(jacobian)
    if not (determinant > 0).all():
        bad = int((~(determinant > 0)).any(axis=1).sum())
        raise BadMesh(f"{bad} of {len(node_points_mm)} elements are flat or inside out at an integration point.")
    gradients = slopes @ np.linalg.inv(jacobian)
    return gradients, determinant / 6


def strain_matrices(gradients_per_mm: Doubles) -> Doubles:
    """Return the strain-displacement matrices B (..., 6, 3 nodes), 1/mm, from gradients (..., nodes, 3)."""
    x, y, z = np.moveaxis(gradients_per_mm, -1, 0)
    matrix = np.zeros((*x.shape[:-1], 6, 3 * x.shape[-1]))
    matrix[..., 0, 0::3] = matrix[..., 3, 1::3] = matrix[..., 5, 2::3] = x
    matrix[..., 1, 1::3] = matrix[..., 3, 0::3] = matrix[..., 4, 2::3] = y
    matrix[..., 2, 2::3] = matrix[..., 4, 1::3] = matrix[..., 5, 0::3] = z
    return matrix


def stiffness_matrices(node_points_mm: Doubles, elasticity_mpa: Doubles, rule: Quadrature) -> Doubles:
    """Return the stiffness matrices of elements by quadrature: sum of w V B^T C B.

    Parameters
    ----------
    node_points_mm : (elements, 4 or 10, 3) array
        Points of every element's nodes.
    elasticity_mpa : (6, 6), (elements, 6, 6) or (elements, points, 6, 6) array
        Stress from engineering strain.
    rule
        Degree 2 is exact for 10 nodes, straight edges and one elasticity per element.

    Returns
    -------
    (elements, 3 nodes, 3 nodes) array
        N/mm.

    Raises
    ------
    BadMesh
        An element is flat or inside out at an integration point.
    """
    gradients, volume = gradients_per_mm(node_points_mm, rule.places)
    if elasticity_mpa.ndim == 3:
        elasticity_mpa = elasticity_mpa[:, None]
    b = strain_matrices(gradients)
    weighted = (elasticity_mpa @ b) * (rule.weights * volume)[..., None, None]
    return np.asarray(np.einsum("epki,epkj->eij", b, weighted, optimize=True))
