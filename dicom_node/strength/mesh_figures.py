"""Shapes of a result's tetrahedra, for the JSON."""

from dataclasses import asdict

import numpy as np

from fe.outcome import MeshField
from fe.tetra.mesh import TetMesh
from fe.tetra.quality import mesh_quality


def mesh_figures(field: MeshField) -> dict[str, dict[str, float]]:
    """Return ``mesh_quality`` with the figures of ``fe.tetra.quality``; nothing for bricks, which are all alike.

    Parameters
    ----------
    field
        The model's mesh.
    """
    if field.cell_type != "quadratic_tetra":
        return {}
    mesh = TetMesh(field.points_mm, np.asarray(field.cells, dtype=np.int32))
    return {"mesh_quality": asdict(mesh_quality(mesh))}
