"""Small shape-model files in the GIAS formats: a cube of curved elements, written for tests."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

Curve = Callable[[np.ndarray], np.ndarray]


def cube_faces() -> list[np.ndarray]:
    """Return the 16 nodes of each face of the cube from -1 to 1, turned outwards."""
    steps = np.linspace(-1, 1, 4)
    faces = []
    for axis in range(3):
        for side in (-1.0, 1.0):
            nodes = np.zeros((16, 3))
            first, second = (axis + 1) % 3, (axis + 2) % 3
            along, across = (first, second) if side > 0 else (second, first)
            nodes[:, axis] = side
            nodes[:, along] = np.tile(steps, 4)
            nodes[:, across] = np.repeat(steps, 4)
            faces.append(nodes)
    return faces


def write_mesh(folder: Path, faces: list[np.ndarray], kind: str = "quad44") -> tuple[Path, Path, np.ndarray]:
    """Write .mesh and .ens, and return them with the nodes in the order that the format gives them."""
    seen: dict[tuple[float, ...], list[str]] = {}
    nodes: list[np.ndarray] = []
    for element, points in enumerate(faces):
        for local, point in enumerate(points):
            place = tuple(np.round(point, 6))
            if place not in seen:
                nodes.append(point)
            seen.setdefault(place, []).append(f"{element}_{local}")
    connectivity = {
        name: " ".join(other for other in group if other != name) for group in seen.values() for name in group
    }
    mesh, ensemble = folder / "cube.mesh", folder / "cube.ens"
    mesh.write_text(
        json.dumps(
            {
                "connectivity": dict(sorted(connectivity.items())),
                "elements": {str(k): f"0 {kind}" for k in range(len(faces))},
                "number_of_points": str(len(nodes)),
            }
        )
    )
    ensemble.write_text(
        json.dumps({"basis": {kind: "quad_L3_L3"}, "custom_map": {str(k): k for k in range(len(nodes))}})
    )
    return mesh, ensemble, np.array(nodes)


def write_components(path: Path, **changes: object) -> Path:
    """Write a .pc file of two nodes and two components, its entries exchanged by ``changes``."""
    content: dict[str, object] = {
        "mean": np.array([1.0, 2.0, 10.0, 20.0, 100.0, 200.0]),
        "modes": np.eye(6)[:, :2],
        "weights": np.array([4.0, 0.0]),
        "sizes": None,
    }
    path.write_bytes(pickle.dumps(content | changes))
    return path
