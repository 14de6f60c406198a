"""Node order, boundary, quality: what a mesh promises, and what is refused."""

import numpy as np
import pytest

from fe.errors import BadMesh
from fe.tetra.blocks import ball_octant_mesh, block_corners, block_mesh
from fe.tetra.mesh import TetMesh, boundary_faces, check_order, corner_volumes_mm3, quadratic_mesh, tet_mesh
from fe.tetra.quality import dihedral_angles_deg, mesh_quality, radius_ratios

SIZE_MM = (3.0, 2.0, 5.0)
REGULAR = np.array([(1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, 1)], dtype=float)
TETGEN_ORDER = [0, 1, 2, 3, 6, 7, 9, 5, 8, 4]
"""Mid-edge nodes as TetGen writes them (its -o2 output)."""


@pytest.fixture
def block():
    return block_mesh((2, 3, 2), lambda p: p * SIZE_MM)


def test_neighbours_share_their_mid_edge_nodes_and_fill_the_block(block):
    counts = np.array((2, 3, 2))
    edges = np.prod(2 * counts + 1)  # corners, edges, face and body diagonals of Kuhn's cut: a grid twice as fine
    assert block.node_count == edges
    assert corner_volumes_mm3(block.nodes_mm, block.elements).sum() == pytest.approx(np.prod(SIZE_MM))


def test_elements_given_inside_out_are_turned():
    points, corners = block_corners((1, 1, 1))
    assert (corner_volumes_mm3(points, corners) < 0).any()
    mesh = quadratic_mesh(points, corners)
    assert (corner_volumes_mm3(mesh.nodes_mm, mesh.elements) > 0).all()


def test_another_order_of_the_mid_edge_nodes_is_recognised(block):
    np.testing.assert_array_equal(tet_mesh(block.nodes_mm, block.elements[:, TETGEN_ORDER]).elements, block.elements)


def test_a_wrong_order_in_one_element_is_refused(block):
    elements = block.elements.copy()
    elements[5] = elements[5, TETGEN_ORDER]
    with pytest.raises(BadMesh, match="order"):
        tet_mesh(block.nodes_mm, elements)
    with pytest.raises(BadMesh, match="order"):
        check_order(TetMesh(block.nodes_mm, elements))


def test_nodes_that_no_element_uses_are_dropped(block):
    mesh = tet_mesh(np.vstack((block.nodes_mm, (9.0, 9.0, 9.0))), block.elements)
    assert mesh.node_count == block.node_count


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda nodes, elements: (nodes, elements[:, :9]), "shape"),
        (lambda nodes, elements: (nodes, elements + 5), "there are"),
        (lambda nodes, elements: (nodes, elements[:0]), "shape"),
        (lambda nodes, elements: (nodes * (1, 1, np.nan), elements), "finite"),
        (lambda nodes, elements: (nodes * (1, 1, -1), elements), "inside out"),
        (lambda nodes, elements: (nodes * (1, 1, 0), elements), "flat"),
    ],
)
def test_arrays_that_make_no_mesh_are_refused(block, change, words):
    with pytest.raises(BadMesh, match=words):
        tet_mesh(*change(block.nodes_mm, block.elements))


def test_boundary_faces_are_closed_and_look_outside(block):
    faces, behind = boundary_faces(block)
    a, b, c = (block.nodes_mm[faces[:, n]] for n in range(3))
    normal = np.cross(b - a, c - a)
    assert np.linalg.norm(normal, axis=1).sum() / 2 == pytest.approx(2 * (3 * 2 + 2 * 5 + 3 * 5))
    np.testing.assert_allclose(normal.sum(axis=0), 0, atol=1e-12)
    outward = a - block.centres_mm()[behind]
    assert (np.einsum("ij,ij->i", normal, outward) > 0).all()
    for n in range(3):
        np.testing.assert_allclose(
            block.nodes_mm[faces[:, 3 + n]], block.nodes_mm[faces[:, [n, (n + 1) % 3]]].mean(axis=1)
        )


def test_a_regular_tetrahedron_has_the_best_figures():
    quality = mesh_quality(quadratic_mesh(REGULAR, np.array([[0, 1, 2, 3]])))
    assert quality.min_dihedral_deg == pytest.approx(np.degrees(np.arccos(1 / 3)))
    assert quality.max_dihedral_deg == pytest.approx(quality.min_dihedral_deg)
    assert quality.min_radius_ratio == pytest.approx(1)
    assert quality.min_scaled_jacobian == pytest.approx(1)
    assert quality.volume_mm3 == pytest.approx(8 / 3)
    assert quality.mean_edge_mm == pytest.approx(8**0.5)


def test_radius_ratio_and_dihedral_angles_of_a_cube_corner_are_known():
    mesh = quadratic_mesh(np.vstack((np.zeros(3), np.eye(3))), np.array([[0, 1, 2, 3]]))
    inscribed, circumscribed = 1 / (3 + 3**0.5), 3**0.5 / 2
    assert radius_ratios(mesh)[0] == pytest.approx(3 * inscribed / circumscribed)
    angles = np.sort(dihedral_angles_deg(mesh)[0])
    np.testing.assert_allclose(angles, [np.degrees(np.arccos(1 / 3**0.5))] * 3 + [90] * 3)


def test_a_nearly_flat_element_is_named():
    flat = REGULAR * (1, 1, 0.005) + (0, 0, 1)
    with pytest.raises(BadMesh, match="nearly flat"):
        mesh_quality(quadratic_mesh(flat, np.array([[0, 1, 2, 3]])))


def test_an_edge_bent_until_the_element_folds_is_named():
    mesh = quadratic_mesh(REGULAR * (1, 1, 0.2), np.array([[0, 1, 2, 3]]))
    nodes = mesh.nodes_mm.copy()
    nodes[4] -= (0, 0, 0.24 * np.linalg.norm(nodes[0] - nodes[1]))
    folded = tet_mesh(nodes, mesh.elements)
    with pytest.raises(BadMesh, match="inside out"):
        mesh_quality(folded)


def test_curved_edges_fill_a_ball_better_and_better():
    exact = np.pi / 6 * 2.0**3
    errors = [abs(mesh_quality(ball_octant_mesh(n, 2.0)).volume_mm3 / exact - 1) for n in (4, 8)]
    assert errors[1] < errors[0] / 12  # the arcs' error falls with the fourth power of the edge
