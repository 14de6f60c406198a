"""A mesh with its values as a VTK file (.vtu) for ParaView: LPS mm of the patient, units in the names."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dicom_node.storage.files import write_durably
from dicom_node.strength.bone import Bone
from dicom_node.strength.graphics import pyvista
from fe.outcome import CellType, MeshField

VTK_CELLS: dict[CellType, tuple[int, int]] = {"hexahedron": (12, 8), "quadratic_tetra": (24, 10)}
"""VTK's number of a cell type, and its nodes (vtkCellType.h)."""

CHUNK_BYTES = 1 << 20


def unstructured_grid(field: MeshField, bone: Bone | None = None) -> Any:
    """Return a field as a ``pyvista.UnstructuredGrid``.

    Parameters
    ----------
    field
        Mesh and values.
    bone
        Given, points and vectors are turned into the patient's LPS mm; without, they stay as the model has them.
    """
    number, nodes = VTK_CELLS[field.cell_type]
    cells = np.empty((len(field.cells), nodes + 1), dtype=np.int64)
    cells[:, 0], cells[:, 1:] = nodes, field.cells
    points = field.points_mm if bone is None else bone.to_patient(field.points_mm)
    grid = pyvista().UnstructuredGrid(cells.ravel(), np.full(len(cells), number, dtype=np.uint8), points)
    for name, values in field.cell_values.items():
        grid.cell_data[name] = values
    for name, values in field.point_values.items():
        grid.point_data[name] = bone.turned(values) if bone is not None and values.ndim == 2 else values
    return grid


def write_vtu(field: MeshField, bone: Bone, path: Path) -> None:
    """Write a field durably: binary, compressed."""
    with TemporaryDirectory(prefix="osteonode-") as folder:
        written = Path(folder) / path.name
        unstructured_grid(field, bone).save(written, binary=True)
        with written.open("rb") as file:
            write_durably(path, iter(lambda: file.read(CHUNK_BYTES), b""))
