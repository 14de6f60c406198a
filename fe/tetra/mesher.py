"""Filling a closed surface with quadratic tetrahedra by TetGen [Si2015].

TetGen makes linear tetrahedra; the mid-edge nodes are added here, so that their order is the project's by construction
and is held against the geometry all the same (``fe.tetra.mesh``). Edges are straight. TetGen is licensed AGPL-3 and
optional: ``pip install 'osteonode[fe]'`` (docs/adr/0004).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadMesh, BadSpacing, MissingTool, ModelTooLarge
from fe.tetra.mesh import TetMesh, quadratic_mesh
from fe.tetra.quality import check_shapes
from fe.tetra.surface import BoneSurface
from fe.tetra.triangles import enclosed_mm3, is_closed, repaired

Doubles = NDArray[np.float64]

MIN_DIHEDRAL_DEG = 5.0
MAX_RADIUS_EDGE = 1.4
"""TetGen's limits for the smallest dihedral angle and for the circumsphere's radius over the shortest edge [Si2015].
Stricter ones add elements, not quality; nearly flat elements at the surface remain either way [measured]."""

MAX_DIHEDRAL_DEG = 165.0
"""TetGen improves elements with a larger dihedral angle; its default of 177 leaves ten times as many nearly flat ones
[measured]."""

REGULAR_VOLUME = 1 / (6 * 2**0.5)
"""Volume of a regular tetrahedron over the cube of its edge."""

MAX_VOLUME = 1.5
"""Largest volume of an element in volumes of a regular tetrahedron with the edge asked for: the mean edge of the
mesh is then the edge asked for within a few percent [measured]."""

MEAN_VOLUME = 0.53
"""Mean over largest volume of the elements [measured]; for the estimate of the model's size."""

MODEL_BYTES, FACTOR_BYTES = 15_000, 1_000
"""Peak memory of a model of n elements: MODEL_BYTES n, and FACTOR_BYTES n^(4/3) for the factor, whose entries grow like
that in nested dissection [George1973]; fitted to femurs of 11 000 to 44 000 elements [measured]."""

MEMORY_LIMIT_BYTES = 8 * 2**30


def fill_surface(
    surface: BoneSurface, interior_edge_mm: float | None = None, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
) -> TetMesh:
    """Return quadratic tetrahedra inside a surface, whose triangles they keep.

    Parameters
    ----------
    surface
        From ``fe.tetra.surface.bone_surface``.
    interior_edge_mm
        Edge of the elements inside, larger than the surface's to save elements where strains do not count; the
        surface's own when left out.
    memory_limit_bytes
        Refuse meshes whose model would need more.

    Raises
    ------
    BadMesh
        TetGen failed on the surface, and again on what MeshFix made of it; or an element is nearly flat.
    MissingTool
        TetGen is not installed.
    ModelTooLarge
        The model would exceed the memory limit.
    BadSpacing
        The edge is not a positive length.
    """
    edge_mm = surface.edge_mm if interior_edge_mm is None else interior_edge_mm
    if not (np.isfinite(edge_mm) and edge_mm > 0):
        raise BadSpacing(f"The edge of {edge_mm} mm must be a positive length.")
    expected = round(surface.volume_mm3 / (MEAN_VOLUME * _largest_mm3(edge_mm)))
    needed = round(MODEL_BYTES * expected + FACTOR_BYTES * expected ** (4 / 3))
    if needed > memory_limit_bytes:
        raise ModelTooLarge(expected, needed, memory_limit_bytes)
    return fill_triangles(surface.points_mm, surface.triangles, edge_mm)


def fill_triangles(points_mm: Doubles, triangles: NDArray[np.integer], edge_mm: float) -> TetMesh:
    """Return quadratic tetrahedra inside closed triangles; see ``fill_surface``."""
    if not is_closed(triangles) or enclosed_mm3(points_mm, triangles) <= 0:
        raise BadMesh("The surface is not closed, or its triangles turn the wrong way round.")
    try:
        nodes, corners = _tetgen(points_mm, triangles, edge_mm)
    except RuntimeError:
        points_mm, triangles = repaired(points_mm, triangles)
        try:
            nodes, corners = _tetgen(points_mm, triangles, edge_mm)
        except RuntimeError as error:
            raise BadMesh(
                "TetGen cannot fill the surface: it intersects itself, and MeshFix could not mend it."
            ) from error
    mesh = quadratic_mesh(nodes, corners)
    check_shapes(mesh)
    return mesh


def _tetgen(points_mm: Doubles, triangles: NDArray[np.integer], edge_mm: float) -> tuple[Doubles, NDArray[np.int32]]:
    try:
        from tetgen import TetGen
    except ImportError as error:
        raise MissingTool("Tetrahedra need TetGen: pip install 'osteonode[fe]'.") from error
    tool: Any = TetGen(np.ascontiguousarray(points_mm), np.ascontiguousarray(triangles, dtype=np.int32))
    nodes, corners, *_ = tool.tetrahedralize(
        order=1,
        nobisect=True,
        mindihedral=MIN_DIHEDRAL_DEG,
        minratio=MAX_RADIUS_EDGE,
        optmaxdihedral=MAX_DIHEDRAL_DEG,
        fixedvolume=True,
        maxvolume=_largest_mm3(edge_mm),
    )
    return np.asarray(nodes, dtype=np.float64), np.asarray(corners, dtype=np.int32)


def _largest_mm3(edge_mm: float) -> float:
    return MAX_VOLUME * REGULAR_VOLUME * edge_mm**3
