"""Frictionless unilateral contact of an elastic body with a rigid plane, condensed to the points that may touch.

Pure linear algebra: the caller knows how far every contact point is from the plane under the load alone, and how far a
unit force on one point moves all others. Within small deformations this is exact: it is block elimination of all that
does not touch. Not covered: friction, sliding over large distances, a deformable plane.

    gap = g + C f + R q >= 0,   f >= 0,   gap . f = 0,   R^T f + m = 0

with the forces f, the gaps g without them, the compliance C, and free rigid motions q (a hinge turns): R is what a unit
of each motion adds to the gaps, m the work of the load on it. Solved by the primal-dual active set method
[Hintermueller2003].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.errors import ContactNotFound, UnsupportedModel

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_STEPS = 200
"""Active sets tried. A fall needs 2 to 8; a set that comes back ends the search earlier."""

SINGLE_STEPS = 40
"""From this step on one point changes at a time: slower, but it does not cycle where whole sets do [Murty1974]."""

SLACK = 1e-9
"""Gaps and forces this far below zero, over the largest of their kind, are rounding."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Who touches, and how hard.

    Attributes
    ----------
    force_n : (points,) array
        Force of the plane on every point along the plane's normal; 0 where nothing touches.
    gap_mm : (points,) array
        Distance from the plane; 0 where something touches.
    motion : (motions,) array
        Free rigid motions q.
    steps
        Active sets tried.
    """

    force_n: Doubles
    gap_mm: Doubles
    motion: Doubles
    steps: int

    @property
    def active(self) -> int:
        """Points that touch."""
        return int((self.force_n > 0).sum())


def solve_contact(
    compliance: Doubles,
    gap_mm: Doubles,
    motions: Doubles | None = None,
    load_work: Doubles | None = None,
) -> Contact:
    """Find the forces of the plane.

    1. Active are the points that would penetrate; with a free motion and none of them, the point nearest to the plane.
    2. Solve for forces and motions with the gaps of the active points closed.
    3. Active are then the points that push, and those that penetrate; repeat from 2 until none changes.

    Parameters
    ----------
    compliance : (points, points) array
        C, mm/N, symmetric positive definite.
    gap_mm : (points,) array
        g, the gaps under the load without any force of the plane.
    motions : (points, motions) array, optional
        R: what a unit of each free rigid motion adds to the gaps.
    load_work : (motions,) array, optional
        m: generalised force of the load on the motions.

    Raises
    ------
    ContactNotFound
        No set of points is in balance, or the search went in circles.
    UnsupportedModel
        Arrays do not fit or are not finite.
    """
    motions = np.zeros((len(gap_mm), 0)) if motions is None else motions
    load_work = np.zeros(motions.shape[1]) if load_work is None else load_work
    _check(compliance, gap_mm, motions, load_work)
    active = gap_mm < 0
    if motions.shape[1] and not active.any():
        active[np.argmin(gap_mm)] = True
    seen: set[bytes] = set()
    for step in range(1, MAX_STEPS + 1):
        force, gap, motion = _closed(compliance, gap_mm, motions, load_work, active)
        wrong = _wrong(active, force, gap)
        if not wrong.any():
            return Contact(np.maximum(force, 0.0), np.where(active, 0.0, np.maximum(gap, 0.0)), motion, step)
        if step <= SINGLE_STEPS and active.tobytes() not in seen:
            seen.add(active.tobytes())
            active = active ^ wrong
        else:
            active[np.flatnonzero(wrong)[-1]] ^= True
        if motions.shape[1] and not active.any():
            active[np.argmin(gap)] = True
    raise ContactNotFound(f"No set of contact points was found in balance in {MAX_STEPS} steps.")


def _closed(
    compliance: Doubles, gap_mm: Doubles, motions: Doubles, load_work: Doubles, active: Bools
) -> tuple[Doubles, Doubles, Doubles]:
    """Return forces, gaps and motions when exactly the active points touch."""
    points = np.flatnonzero(active)
    size, free = len(points), motions.shape[1]
    system = np.zeros((size + free, size + free))
    system[:size, :size] = compliance[np.ix_(points, points)]
    system[:size, size:] = motions[points]
    system[size:, :size] = motions[points].T
    try:
        solution = np.linalg.solve(system, -np.concatenate((gap_mm[points], load_work)))
    except np.linalg.LinAlgError as error:
        raise ContactNotFound(
            "The points that touch cannot hold the body: its free motion does not reach them."
        ) from error
    force = np.zeros(len(gap_mm))
    force[points] = solution[:size]
    motion: Doubles = solution[size:].astype(np.float64)
    return force, gap_mm + compliance @ force + motions @ motion, motion


def _wrong(active: Bools, force: Doubles, gap: Doubles) -> Bools:
    """Return the active points that pull and the others that penetrate."""
    force_slack = SLACK * float(np.abs(force).max(initial=0.0))
    gap_slack = SLACK * float(np.abs(gap).max(initial=0.0))
    return np.asarray(np.where(active, force < -force_slack, gap < -gap_slack))


def _check(compliance: Doubles, gap_mm: Doubles, motions: Doubles, load_work: Doubles) -> None:
    count = len(gap_mm)
    if count == 0 or compliance.shape != (count, count) or motions.shape != (count, len(load_work)):
        raise UnsupportedModel(
            f"{count} gaps do not fit a compliance of shape {compliance.shape} and motions of shape {motions.shape}."
        )
    if not all(np.isfinite(part).all() for part in (compliance, gap_mm, motions, load_work)):
        raise UnsupportedModel("Gaps, compliance or motions hold values that are not finite.")
