"""Reading shape models: exact elements, closed surfaces, and nothing run from a hostile file."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.training.shapes.gias import (
    MAX_BYTES,
    NODE_ROWS,
    lagrange_weights,
    read_components,
    read_topology,
    surface_operator,
)
from tests.unit.dicom_node.shape_files import cube_faces, write_components, write_mesh

ROUNDING = 1e-9


def element_places(kind: str, subdivisions: int) -> np.ndarray:
    """Return where an element's finer points are, counted in steps between nodes, in the order of the reader."""
    rows = NODE_ROWS[kind]
    is_quad = len(set(rows)) == 1
    count = [(rows[0] - 1) * subdivisions, (len(rows) - 1) * subdivisions]
    return (
        np.array(
            [(i, j) for j in range(count[1] + 1) for i in range(count[0] + 1 - (0 if is_quad else j))], dtype=float
        )
        / subdivisions
    )


@pytest.mark.parametrize("kind", sorted(NODE_ROWS))
def test_an_element_reproduces_every_polynomial_of_its_order(kind):
    order = min(NODE_ROWS[kind][0], len(NODE_ROWS[kind])) - 1
    nodes, finer = element_places(kind, 1), element_places(kind, 3)
    weights, _ = lagrange_weights(kind, 3)
    for power in range(order + 1):
        for other in range(order + 1 - power):
            expected = finer[:, 0] ** power * finer[:, 1] ** other
            found = weights @ (nodes[:, 0] ** power * nodes[:, 1] ** other)
            np.testing.assert_allclose(found, expected, atol=ROUNDING * 4**order)


@pytest.mark.parametrize("kind", sorted(NODE_ROWS))
def test_an_elements_triangles_cover_it_once_and_are_turned_one_way(kind):
    _, triangles = lagrange_weights(kind, 2)
    a, b, c = (element_places(kind, 2)[triangles[:, k]] for k in range(3))
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    rows = NODE_ROWS[kind]
    whole = (rows[0] - 1) * (len(rows) - 1) * (1 if len(set(rows)) == 1 else 0.5)
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(whole)


def test_elements_that_share_edges_make_one_closed_surface_of_the_right_volume(tmp_path):
    mesh, ensemble, nodes = write_mesh(tmp_path, cube_faces())
    operator, triangles = surface_operator(read_topology(mesh, ensemble), 2)
    points = operator @ nodes
    corners = points[triangles]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert len(np.unique(np.round(points, 6), axis=0)) == len(points)
    assert volume == pytest.approx(8.0)


def test_a_surface_with_a_hole_is_refused(tmp_path):
    mesh, ensemble, _ = write_mesh(tmp_path, cube_faces()[:-1])
    with pytest.raises(ConfigurationError, match="not closed"):
        surface_operator(read_topology(mesh, ensemble), 1)


def test_a_surface_with_one_element_turned_over_is_refused(tmp_path):
    faces = cube_faces()
    faces[0] = faces[0].reshape(4, 4, 3).transpose(1, 0, 2).reshape(16, 3)
    mesh, ensemble, _ = write_mesh(tmp_path, faces)
    with pytest.raises(ConfigurationError, match="not turned one way"):
        surface_operator(read_topology(mesh, ensemble), 1)


def test_components_are_scaled_to_standard_deviations_and_empty_ones_left_out(tmp_path):
    components = read_components(write_components(tmp_path / "a.pc"))
    np.testing.assert_array_equal(components.mean_mm, [[1, 10, 100], [2, 20, 200]])
    assert components.modes_mm.shape == (1, 2, 3)
    assert components.modes_mm[0, 0, 0] == 2.0


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_a_program_is_refused_before_it_runs(tmp_path):
    path = tmp_path / "trap.pc"
    path.write_bytes(pickle.dumps({"mean": _Trap(tmp_path / "ran"), "modes": 0, "weights": 0}))
    with pytest.raises(ConfigurationError, match="not part of an array"):
        read_components(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": np.zeros(5)},
        {"modes": np.zeros((6, 3))},
        {"weights": np.array([1.0, np.nan])},
        {"weights": "many"},
        {"mean": {"x": 1}},
        {"mean": np.array([None] * 6)},
    ],
)
def test_components_that_do_not_fit_are_refused(tmp_path, changes):
    with pytest.raises(ConfigurationError):
        read_components(write_components(tmp_path / "a.pc", **changes))


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({})])
def test_a_broken_component_file_is_refused(tmp_path, content):
    (tmp_path / "a.pc").write_bytes(content)
    with pytest.raises(ConfigurationError):
        read_components(tmp_path / "a.pc")


def test_a_truncated_component_file_is_refused(tmp_path):
    whole = write_components(tmp_path / "a.pc").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "a.pc").write_bytes(whole[:length])
        with pytest.raises(ConfigurationError):
            read_components(tmp_path / "a.pc")


def test_a_missing_or_huge_component_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError):
        read_components(tmp_path / "none.pc")
    with (tmp_path / "huge.pc").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigurationError, match="bytes"):
        read_components(tmp_path / "huge.pc")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"elements": {"0": "0 hex"}, "connectivity": {}, "number_of_points": 1}']
)
def test_a_broken_mesh_file_is_refused(tmp_path, text):
    mesh, ensemble, _ = write_mesh(tmp_path, cube_faces())
    mesh.write_text(text)
    with pytest.raises(ConfigurationError):
        read_topology(mesh, ensemble)


def test_a_mesh_with_another_number_of_nodes_than_it_says_is_refused(tmp_path):
    mesh, ensemble, _ = write_mesh(tmp_path, cube_faces())
    mesh.write_text(mesh.read_text().replace('"number_of_points": "56"', '"number_of_points": "57"'))
    with pytest.raises(ConfigurationError, match="56 nodes"):
        read_topology(mesh, ensemble)
