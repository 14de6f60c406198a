"""Where the femoral heads are: a radial symmetry transform, a robust sphere, and the acetabulum as witness.

The femoral cortex, the joint space and the acetabulum are concentric spheres, so the normals of all of them
meet in the head's centre even where 3 mm voxels hide the joint space. Following Loy and Zelinsky 2003 (fast
radial symmetry), every edge votes along its gradient in both directions. The module segments nothing.
Coordinates are those of ``inference.morphology``: (z, y, x) mm, growing to head, back and left.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import Laterality
from inference.morphology import FloatArray, WorkGrid

RADII_MM = (20.0, 22.0, 24.0, 26.0, 28.0, 30.0)
"""Radii that vote: femoral heads (diameter 38 to 58 mm, [m] assumption) and the acetabulum around them."""
RADIUS_LIMITS_MM = (17.0, 31.0)
"""Accepted radius of a femoral head. [m] assumption: adult range 19 to 29 mm and 2 mm of fitting error."""
VOTING_HU = (0.0, 500.0)
"""CT numbers are clipped here before gradients, so that neither fat nor metal outvotes bone. [m]
assumption."""
EDGE_HU_PER_MM = 12.0
"""Weakest voting edge: cartilage to cancellous bone over the blur of 3 mm voxels is 20 to 60. [m]
assumption."""
FULL_EDGE_HU_PER_MM = 40.0
"""Edges from here on vote with full weight. [m] assumption."""
VOTE_BLUR_MM = 5.0
"""Heads are not exact spheres: votes within this scale count together. [m] assumption."""
MOST_CANDIDATES = 16
"""Peaks of the votes that are examined. In the scans of docs/methods the heads are among the first five."""
FEWEST_VOTES = 0.010
"""Peaks below this height are noise. [m] assumption: heads in the scans of docs/methods reach 0.037 to
0.052."""
FIT_REACH_MM = 8.0
"""A sphere fitted farther than this from the peak of the votes belongs to something else. [m] assumption."""
FEWEST_FIT_DIRECTIONS = 100
"""A sphere needs edges in at least this many of the 400 sampled directions. [m] assumption: a quarter."""
CANCELLOUS_HU = 80.0
"""Lowest median inside a head; osteoporotic heads read above 100 HU. [m] assumption."""
CUP_HU = 170.0
"""Bone of the acetabulum outside the head. [m] assumption."""
CUP_RISE_HU = 120.0
"""Rise of HU over 3 mm from the joint space into the acetabulum. [m] assumption."""
CUP_BEHIND_HU = 130.0
"""Mean HU behind a rise that belongs to the acetabulum rather than to the head's own cortex. [m]
assumption."""
JOINT_SPACE_MM = 3.0
"""From the head's surface to the acetabulum where the gap between them cannot be seen; adults 3 to 5 mm.
[m]."""
CUP_DEPTH_MM = (1.5, 12.0)
"""Shell outside the head in which the acetabulum is looked for. [m] assumption."""
LEAST_CUP_COVER = 0.5
"""Part of the upper medial directions with acetabulum; a glenoid covers about a third. [m] assumption."""
LEAST_CUP_ASYMMETRY = 0.15
"""How much more the medial than the lateral side must be covered to tell the side of a single hip. [m]
assumption."""
HEAD_DISTANCE_MM = (110.0, 235.0)
"""Distance of the two head centres; adults 150 to 200 mm, humeral heads 250 to 350 mm. [m] assumption."""
HEAD_SHIFT_MM = 45.0
"""Largest difference of height and of depth between both heads. [m] assumption."""
MIDDLE_SHIFT_MM = 40.0
"""Largest distance of the heads' middle from the body's, arms or not. [m] assumption."""
BODY_HU = -300.0
"""Skin and fat are denser, clothes and foam are not. [m] assumption."""
BODY_DEPTH_MM = 60.0
"""Tissue this deep from front to back is body, not table. [m] assumption."""
BODY_SLAB_MM = 20.0
"""Half the height of the slab in which the body's sides are looked for. [m] assumption."""

DIRECTION_COUNT = 400
PROFILE_MM = np.arange(2.0, 46.0)
"""Distances from the centre at which profiles are sampled."""


@dataclass(frozen=True, slots=True)
class FemoralHead:
    """A femoral head found in a CT.

    Attributes
    ----------
    side
        ``R`` or ``L``, the patient's.
    centre_mm : (3,) float64 array
        (z, y, x).
    radius_mm
        Of the subchondral surface.
    votes
        Height of the vote peak; comparable within one CT only.
    """

    side: Laterality
    centre_mm: NDArray[np.float64]
    radius_mm: float
    votes: float

    @property
    def lateral(self) -> int:
        """Sign of x towards the outside of the body: +1 for the left hip."""
        return 1 if self.side == "L" else -1


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A sphere that may be a femoral head, and how the bone around it is spread."""

    centre_mm: NDArray[np.float64]
    radius_mm: float
    votes: float
    cover_left: float
    cover_right: float
    cover_up: float
    core_hu: float

    @property
    def side(self) -> Laterality:
        """Side on which the acetabulum lies medially."""
        return "L" if self.cover_right > self.cover_left else "R"

    @property
    def asymmetry(self) -> float:
        return abs(self.cover_right - self.cover_left)


def find_femoral_heads(grid: WorkGrid) -> tuple[FemoralHead, ...]:
    """Find up to two femoral heads, the right one first.

    Parameters
    ----------
    grid
        The CT on cubic voxels of about 2 mm.

    Returns
    -------
    tuple of FemoralHead
        Empty where nothing looks like a hip joint.
    """
    candidates = [fit for peak in _vote_peaks(grid) if (fit := _examine(grid, *peak)) is not None]
    pairs = [pair for pair in combinations(candidates, 2) if _is_pair(grid, *pair)]
    if pairs:
        best = max(pairs, key=lambda pair: pair[0].votes + pair[1].votes)
        right, left = sorted(best, key=lambda found: found.centre_mm[2])
        return (_head(right, "R"), _head(left, "L"))
    single = [found for found in candidates if _is_single(grid, found)]
    if not single:
        return ()
    best_single = max(single, key=lambda found: found.votes)
    return (_head(best_single, best_single.side),)


def _head(found: _Candidate, side: Laterality) -> FemoralHead:
    return FemoralHead(side, found.centre_mm, found.radius_mm, found.votes)


def _is_pair(grid: WorkGrid, one: _Candidate, other: _Candidate) -> bool:
    """Whether two spheres lie like the two heads of one pelvis, evenly about the middle of the body."""
    dz, dy, dx = np.abs(one.centre_mm - other.centre_mm)
    low, high = HEAD_DISTANCE_MM
    if not low <= dx <= high or max(dz, dy) > HEAD_SHIFT_MM:
        return False
    middle = (one.centre_mm + other.centre_mm) / 2
    body = body_middle_mm(grid, middle[0])
    return body is None or abs(body - float(middle[2])) <= MIDDLE_SHIFT_MM


def _is_single(grid: WorkGrid, found: _Candidate) -> bool:
    """Whether one sphere is capped from the middle of the body and lies as far from it as a hip does."""
    if found.asymmetry < LEAST_CUP_ASYMMETRY:
        return False
    body = body_middle_mm(grid, found.centre_mm[0])
    if body is None:
        return True
    offset = (float(found.centre_mm[2]) - body) * (1 if found.side == "L" else -1)
    low, high = HEAD_DISTANCE_MM
    return low / 2 - MIDDLE_SHIFT_MM / 2 <= offset <= high / 2 + MIDDLE_SHIFT_MM / 2


def body_middle_mm(grid: WorkGrid, height_mm: float) -> float | None:
    """Return x of the middle of the body around a height, or None where the scan cuts the body's side.

    Body is where tissue is at least ``BODY_DEPTH_MM`` deep, which no table is.
    """
    middle = int(np.clip(grid.index(np.array([height_mm, 0.0, 0.0]))[0], 0, grid.hu.shape[0] - 1))
    reach = int(BODY_SLAB_MM / grid.step_mm)
    slab = grid.hu[max(0, middle - reach) : middle + reach + 1] > BODY_HU
    deep = np.flatnonzero(slab.sum(axis=1).mean(axis=0) * grid.step_mm >= BODY_DEPTH_MM)
    if len(deep) == 0 or deep[0] < 2 or deep[-1] > grid.hu.shape[2] - 3:
        return None
    return float(grid.origin_mm[2] + grid.step_mm * (deep[0] + deep[-1]) / 2)


def _vote_peaks(grid: WorkGrid) -> list[tuple[NDArray[np.float64], float]]:
    """Return the highest peaks of the radial symmetry votes as (position, height), highest first."""
    if min(grid.hu.shape) < 3:
        return []
    step = grid.step_mm
    smooth = ndimage.gaussian_filter(np.clip(grid.hu, *VOTING_HU), 1.5 / step)
    gradient = np.stack(np.gradient(smooth, step))
    size = np.sqrt(np.einsum("i...,i...->...", gradient, gradient))
    edges = size > EDGE_HU_PER_MM
    index = np.argwhere(edges).astype(np.float32)
    direction = (gradient[:, edges] / size[edges]).T
    weight = np.minimum(size[edges], FULL_EDGE_HU_PER_MM) / FULL_EDGE_HU_PER_MM
    votes = np.zeros(grid.hu.size)
    shape = np.array(grid.hu.shape)
    for radius in (*RADII_MM, *(-radius for radius in RADII_MM)):
        target = np.rint(index + direction * (radius / step)).astype(np.int64)
        inside = ((target >= 0) & (target < shape)).all(axis=1)
        flat = np.ravel_multi_index(tuple(target[inside].T), grid.hu.shape)
        votes += np.bincount(flat, weight[inside] / radius**2, minlength=votes.size)
    field = ndimage.gaussian_filter(votes.reshape(grid.hu.shape).astype(np.float32), VOTE_BLUR_MM / step)
    peaks = np.argwhere((field == ndimage.maximum_filter(field, 9)) & (field > FEWEST_VOTES))
    heights = field[tuple(peaks.T)]
    order = np.argsort(-heights, kind="stable")[:MOST_CANDIDATES]
    return [(grid.position_mm(peaks[number]), float(heights[number])) for number in order]


def sphere_directions(count: int = DIRECTION_COUNT) -> NDArray[np.float64]:
    """Return ``(count, 3)`` unit vectors (z, y, x) spread evenly over the sphere on a Fibonacci spiral."""
    step = np.arange(count) + 0.5
    cosine = 1.0 - 2.0 * step / count
    sine = np.sqrt(1.0 - cosine**2)
    turn = np.pi * (1.0 + np.sqrt(5.0)) * step
    return np.stack([cosine, sine * np.sin(turn), sine * np.cos(turn)], axis=1)


def fit_sphere(
    points_mm: NDArray[np.float64], weights: NDArray[np.float64] | None = None, scale_mm: float = 1.5
) -> tuple[NDArray[np.float64], float]:
    """Fit a sphere by least squares, reweighted so that outliers beyond ``scale_mm`` lose their say.

    Parameters
    ----------
    points_mm : (n, 3) array
        At least four points that are not in one plane.
    weights : (n,) array, optional
        Trust in every point.
    scale_mm
        Residual at which the (Cauchy) weight is one half.

    Returns
    -------
    centre_mm : (3,) float64 array
    radius_mm : float
    """
    trust = np.ones(len(points_mm)) if weights is None else weights
    offset = points_mm.mean(axis=0)
    local = points_mm - offset
    matrix = np.column_stack([2.0 * local, np.ones(len(local))])
    target = (local**2).sum(axis=1)
    robust = np.ones(len(local))
    centre, radius = np.zeros(3), 0.0
    for _ in range(8):
        root = np.sqrt(trust * robust)
        solution = np.linalg.lstsq(matrix * root[:, None], target * root, rcond=None)[0]
        centre = solution[:3]
        radius = float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))
        residual = np.linalg.norm(local - centre, axis=1) - radius
        robust = 1.0 / (1.0 + (residual / scale_mm) ** 2)
    return centre + offset, radius


def radial_profiles(grid: WorkGrid, centre_mm: NDArray[np.float64]) -> FloatArray:
    """Sample CT numbers outwards from a point: ``(direction, distance)``, distances ``PROFILE_MM``."""
    points = centre_mm[:, None, None] + sphere_directions().T[:, :, None] * PROFILE_MM
    index = (points - grid.origin_mm[:, None, None]) / grid.step_mm
    sampled: FloatArray = ndimage.map_coordinates(grid.hu, index, order=1, mode="nearest", output=np.float32)
    return sampled


def _examine(grid: WorkGrid, peak_mm: NDArray[np.float64], votes: float) -> _Candidate | None:
    """Fit a sphere near a vote peak and keep it if it is filled with bone and capped by an acetabulum."""
    fit = refine_head(grid, peak_mm, 24.0)
    if fit is None:
        return None
    centre, radius = fit
    profiles = radial_profiles(grid, centre)
    beyond = PROFILE_MM - radius
    core = float(np.median(profiles[:, beyond <= -radius / 4]))
    shell = (beyond > CUP_DEPTH_MM[0]) & (beyond < CUP_DEPTH_MM[1])
    cup = profiles[:, shell].max(axis=1) > CUP_HU
    up, _, left = sphere_directions().T
    found = _Candidate(
        centre, radius, votes, cup[left > 0.6].mean(), cup[left < -0.6].mean(), cup[up > 0.6].mean(), core
    )
    covered = found.cover_up >= LEAST_CUP_COVER and max(found.cover_left, found.cover_right) >= LEAST_CUP_COVER
    return found if covered and core >= CANCELLOUS_HU else None


def refine_head(
    grid: WorkGrid, start_mm: NDArray[np.float64], radius_mm: float
) -> tuple[NDArray[np.float64], float] | None:
    """Fit the sphere of the head's outer surface: the steepest fall of HU along every direction.

    Parameters
    ----------
    grid
        The CT on cubic voxels.
    start_mm : (3,) array
        First guess of the centre, within ``FIT_REACH_MM``.
    radius_mm
        First guess of the radius.

    Returns
    -------
    tuple of ((3,) array, float) or None
        Centre and radius, or None where no sphere of a head's size fits.
    """
    directions = sphere_directions()
    centre, radius = start_mm, radius_mm
    for reach_mm in (6.0, 5.0, 4.0, 3.0, 3.0, 3.0):
        edge_mm, trust = _head_edges(radial_profiles(grid, centre), radius, reach_mm)
        if (trust > 0).sum() < FEWEST_FIT_DIRECTIONS:
            return None
        used = trust > 0
        centre, radius = fit_sphere(centre + directions[used] * edge_mm[used, None], trust[used])
        low, high = RADIUS_LIMITS_MM
        if np.linalg.norm(centre - start_mm) > FIT_REACH_MM or not low <= radius <= high:
            return None
    return centre, radius


def _head_edges(
    profiles: FloatArray, radius_mm: float, reach_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for every direction the distance of the head's surface and how far to trust it (0: not at all).

    Where the acetabulum follows outside (a rise of HU with a dark gap before it or with bone behind it), the
    surface is the fall before that rise, or a joint space inside it where none is seen. Elsewhere it is the
    steepest fall to soft tissue.
    """
    clipped = np.clip(profiles, -200.0, 800.0)
    span = 3
    rise = clipped[:, span:] - clipped[:, :-span]
    middle = PROFILE_MM[:-span] + span / 2
    far = np.abs(middle - radius_mm)
    rise_mm, rise_hu = _strongest(rise, np.broadcast_to(far <= reach_mm + 2.0, rise.shape), middle, 4.0 * far)
    core = np.median(clipped[:, PROFILE_MM - radius_mm <= -radius_mm / 4])
    after_rise = PROFILE_MM[None] - rise_mm[:, None]
    valley = np.where((after_rise >= -5) & (after_rise <= 0), clipped, np.inf).min(axis=1)
    beyond = np.where((after_rise >= 4) & (after_rise <= 12), clipped, np.nan)
    behind = np.nanmean(beyond, axis=1)
    cup = (rise_hu > CUP_RISE_HU) & ((valley < core - 60.0) | (behind > CUP_BEHIND_HU))
    before = middle[None] - rise_mm[:, None]
    joint_mm, joint_hu = _strongest(-rise, (before >= -6.0) & (before < -1.0), middle, 0.0)
    free_mm, free_hu = _strongest(-rise, np.broadcast_to(far <= reach_mm, rise.shape), middle, 6.0 * far)
    cup_mm = np.where(joint_hu > 60.0, joint_mm, rise_mm - JOINT_SPACE_MM)
    edge_mm = np.where(cup, cup_mm, free_mm)
    trust = np.where(cup, rise_hu, free_hu)
    trust = np.where((trust > 50.0) & (np.abs(edge_mm - radius_mm) <= reach_mm + 2.0), np.minimum(trust, 150.0), 0.0)
    return edge_mm, trust


def _strongest(
    step_hu: FloatArray,
    allowed: NDArray[np.bool_],
    middle_mm: NDArray[np.float64],
    penalty: NDArray[np.float64] | float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return place and height of the largest step of every profile among those allowed; height 0 for none."""
    rated = np.where(allowed, step_hu - penalty, -np.inf)
    best = rated.argmax(axis=1)
    rows = np.arange(len(step_hu))
    return middle_mm[best], np.where(allowed[rows, best], step_hu[rows, best], 0.0).astype(np.float64)
