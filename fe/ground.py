"""The ground under a falling femur: which patches of the trochanter may touch it, and how far away they are.

A fall's ground is a rigid plane without friction, normal to the hip force. The distal end of the femur is a rigid block
on a hinge at the knee, free to turn about the axis normal to the plane of force and shaft; the ground is where the
lowest point of the trochanter is, and a turn of the hinge takes up the rest.

Contact is a condition on patches, not on nodes: overlapping hats, ``pitch_mm`` apart as seen from the side, each the
weighted mean of the nodes under it. That is a mortar method with lumped multipliers: force and gap are weighted alike.
Bricks make a staircase whose edges would carry the force alone; therefore gaps are measured to the smooth surface that
the staircase stands for, and a hat is wider than a step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fe.errors import TrochanterNotFound
from fe.femur_body import FemurBody
from fe.femur_frame import FemurFrame

Doubles = NDArray[np.float64]

TROCHANTER_REACH_MM = 30.0
"""The ground is met within this distance of the trochanter's landmark."""

FACES_LATERAL = 0.35
"""Cosine of the largest angle between lateral and the outward normal of a surface that can meet the ground. The most
oblique fall of the table is 39 degrees from lateral; 70 degrees leave room for the patch around its lowest point."""

LEAST_NODES = 1.0
"""A hat at the rim of the trochanter with less than one whole node under it is left out."""


@dataclass(frozen=True, slots=True)
class ContactPatches:
    """Hats on the lateral surface of the trochanter.

    Attributes
    ----------
    weights : (patches, nodes) sparse array
        Share of every node, rows add up to 1.
    smooth_mm : (patches, 3) array
        Mean place of each patch on the smooth surface, LPS mm.
    """

    weights: sparse.csr_array
    smooth_mm: Doubles


@dataclass(frozen=True, slots=True)
class Ground:
    """The ground of one fall.

    Attributes
    ----------
    normal : (3,) array
        LPS unit vector from the ground into the bone.
    gap_mm : (patches,) array
        Distance of every patch from the ground before any load.
    turn_mm : (patches, 1) array
        What a unit turn of the hinge adds to the gaps, mm per rad.
    load_turn_mm : (1,) array
        Moment about the hinge of a unit force on the head, mm.
    """

    normal: Doubles
    gap_mm: Doubles
    turn_mm: Doubles
    load_turn_mm: Doubles


def contact_patches(body: FemurBody, frame: FemurFrame, pitch_mm: float) -> ContactPatches:
    """Cover the lateral surface of the trochanter with hats.

    1. Nodes of the surface near the landmark whose outward normal points to the side.
    2. Bilinear hats on a lattice in the sagittal plane, anchored at the landmark.
    3. Each hat's weights, scaled to add up to 1; rim hats with less than one node are left out.

    Raises
    ------
    TrochanterNotFound
        No such surface.
    """
    landmark = np.array(frame.trochanter_mm)
    near = np.linalg.norm(body.smooth_mm - landmark, axis=1) < TROCHANTER_REACH_MM
    chosen = np.flatnonzero(near & (body.normals @ np.array(frame.lateral) > FACES_LATERAL))
    if not len(chosen):
        raise TrochanterNotFound("No surface lies near the greater trochanter's landmark.")
    across = (body.smooth_mm[chosen] - landmark) @ np.array([frame.anterior, frame.proximal]).T / pitch_mm
    cell = np.floor(across).astype(int)
    share = across - cell
    low = cell.min(axis=0)
    wide = cell[:, 1].max() - low[1] + 2
    rows, nodes, weights = [], [], []
    for a, b in np.ndindex(2, 2):
        rows.append((cell[:, 0] + a - low[0]) * wide + cell[:, 1] + b - low[1])
        nodes.append(chosen)
        weights.append(np.abs(1 - a - share[:, 0]) * np.abs(1 - b - share[:, 1]))
    lattice = int((cell[:, 0].max() - low[0] + 2) * wide)
    on_surface = sparse.coo_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(nodes))), shape=(lattice, len(body.smooth_mm))
    ).tocsr()
    total = np.asarray(on_surface.sum(axis=1)).ravel()
    kept = np.flatnonzero(total >= LEAST_NODES)
    if not len(kept):
        raise TrochanterNotFound("The elements are too large to see the greater trochanter's surface.")
    scaled = sparse.csr_array(sparse.diags_array(1 / total[kept]) @ on_surface[kept])
    return ContactPatches(_on_nodes(scaled, body), np.asarray(scaled @ body.smooth_mm))


def _on_nodes(on_surface: sparse.csr_array, body: FemurBody) -> sparse.csr_array:
    """Renumber the columns from surface nodes to nodes."""
    part = on_surface.tocoo()
    columns = body.surface_nodes[part.col]
    return sparse.coo_array((part.data, (part.row, columns)), shape=(part.shape[0], body.node_count)).tocsr()


def ground_of(patches: ContactPatches, frame: FemurFrame, direction: Doubles, knee_distance_mm: float) -> Ground:
    """Return the ground of a fall.

    Parameters
    ----------
    patches
        What may touch.
    frame
        Landmarks and axes.
    direction : (3,) array
        LPS unit vector of the hip force.
    knee_distance_mm
        From the head's centre down the shaft to the hinge.

    Raises
    ------
    TrochanterNotFound
        The ground would have to pull at the trochanter to hold the moment of the hip force.
    """
    normal = -direction
    height = patches.smooth_mm @ normal
    proximal = np.array(frame.proximal)
    axis = np.cross(direction, proximal)
    axis /= np.linalg.norm(axis)
    head = np.array(frame.head_centre_mm)
    knee = head - knee_distance_mm * proximal
    turn = np.cross(axis, patches.smooth_mm - knee) @ normal
    load_turn = float(np.cross(axis, head - knee) @ direction)
    if not (load_turn * turn < 0).all():
        raise TrochanterNotFound("The ground would have to pull at the trochanter: the landmarks are wrong.")
    return Ground(normal, height - height.min(), turn[:, None], np.array([load_turn]))
