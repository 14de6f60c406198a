"""Compiled loops of ``inference.refinement``: sampling at points, shares of labels in cells, the nearest surface.

Compiled by numba on first use and cached on disk. Positions are (z, y, x) in mm from the centre of the array's
first voxel, along the array's axes. The module knows nothing of bones.
"""

import math

import numpy as np
from numba import njit

NEAR_PEAK_MM = (2.5, 1.0)
"""The cortex's brightest sample lies so far inside or outside of the fall that was chosen. [m] assumption."""
PLATEAU_MM = (4.0, 3.0)
"""So far inward and outward the levels beside the cortex are looked for. [m] assumption."""
ROUNDS = 10
"""Gauss-Newton steps: from 1 mm away the edge is then within 0.01 mm of its place (test)."""
LARGEST_STEP_MM, FARTHEST_MM = 0.7, 2.0
"""Of one round, and of all."""
THICKNESS_RANGE_MM = (0.15, 8.0)
"""Of a cortex."""
DAMPING = 1.05
"""Factor on the diagonal: Levenberg's, mild."""


@njit(cache=True, error_model="numpy")
def sample_rays(image, spacing, points, directions, offsets, low, high, out):  # type: ignore[no-untyped-def]
    """Interpolate ``image``, clipped to ``low`` and ``high``, linearly on rays; beyond the array its edge goes on.

    ``points`` and ``directions`` are (ray, 3), ``offsets`` (sample,) in mm; ``out`` (ray, sample) is filled.
    """
    nz, ny, nx = image.shape
    for ray in range(points.shape[0]):
        for k in range(offsets.shape[0]):
            z = min(max((points[ray, 0] + offsets[k] * directions[ray, 0]) / spacing[0], 0.0), nz - 1.0)
            y = min(max((points[ray, 1] + offsets[k] * directions[ray, 1]) / spacing[1], 0.0), ny - 1.0)
            x = min(max((points[ray, 2] + offsets[k] * directions[ray, 2]) / spacing[2], 0.0), nx - 1.0)
            z0, y0, x0 = min(int(z), max(nz - 2, 0)), min(int(y), max(ny - 2, 0)), min(int(x), max(nx - 2, 0))
            fz, fy, fx = z - z0, y - y0, x - x0
            value = 0.0
            for i in range(2):
                for j in range(2):
                    for m in range(2):
                        weight = (fz if i else 1.0 - fz) * (fy if j else 1.0 - fy) * (fx if m else 1.0 - fx)
                        if weight > 0.0:
                            value += weight * min(max(image[z0 + i, y0 + j, x0 + m], low), high)
            out[ray, k] = value


@njit(cache=True, error_model="numpy")
def label_shares(labels, spacing, wanted, origin, step, fine, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the share of every cell of a cubic grid that lies in voxels of the wanted labels.

    ``wanted`` (256,) bool by label value; ``origin`` of the cell (0, 0, 0), mm; ``step`` its edge; ``fine`` points per
    axis look up their nearest voxel, beyond the array the one at its edge.
    """
    cells = out.shape
    inside = np.empty((3, max(cells) * fine), dtype=np.int64)
    for axis in range(3):
        for k in range(cells[axis] * fine):
            place = origin[axis] + step * ((k + 0.5) / fine - 0.5)
            inside[axis, k] = min(max(int(np.floor(place / spacing[axis] + 0.5)), 0), labels.shape[axis] - 1)
    for z in range(cells[0]):
        for y in range(cells[1]):
            for x in range(cells[2]):
                count = 0
                for i in range(fine):
                    for j in range(fine):
                        for m in range(fine):
                            value = labels[inside[0, z * fine + i], inside[1, y * fine + j], inside[2, x * fine + m]]
                            count += wanted[value]
                out[z, y, x] = count / fine**3


@njit(cache=True, error_model="numpy")
def claim_voxels(depth, origin, step, spacing, start, bone, best, owner):  # type: ignore[no-untyped-def]
    """Give ``bone`` the voxels in which its signed distance is negative and the smallest so far.

    ``depth`` is the signed distance on a cubic grid; ``best`` and ``owner`` are the part of the CT's grid that begins
    at voxel ``start``, and are changed. Voxels beyond the cubic grid are left alone.
    """
    count = best.shape
    for i in range(count[0]):
        z = ((start[0] + i) * spacing[0] - origin[0]) / step
        z0 = int(np.floor(z))
        if z0 < 0 or z0 + 1 >= depth.shape[0]:
            continue
        fz = z - z0
        for j in range(count[1]):
            y = ((start[1] + j) * spacing[1] - origin[1]) / step
            y0 = int(np.floor(y))
            if y0 < 0 or y0 + 1 >= depth.shape[1]:
                continue
            fy = y - y0
            for m in range(count[2]):
                x = ((start[2] + m) * spacing[2] - origin[2]) / step
                x0 = int(np.floor(x))
                if x0 < 0 or x0 + 1 >= depth.shape[2]:
                    continue
                fx = x - x0
                near = (1 - fy) * ((1 - fx) * depth[z0, y0, x0] + fx * depth[z0, y0, x0 + 1]) + fy * (
                    (1 - fx) * depth[z0, y0 + 1, x0] + fx * depth[z0, y0 + 1, x0 + 1]
                )
                far = (1 - fy) * ((1 - fx) * depth[z0 + 1, y0, x0] + fx * depth[z0 + 1, y0, x0 + 1]) + fy * (
                    (1 - fx) * depth[z0 + 1, y0 + 1, x0] + fx * depth[z0 + 1, y0 + 1, x0 + 1]
                )
                value = (1 - fz) * near + fz * far
                if value < 0 and value < best[i, j, m]:
                    best[i, j, m] = value
                    owner[i, j, m] = bone


@njit(cache=True, error_model="numpy")
def _solve(matrix, right):  # type: ignore[no-untyped-def]
    """Solve a small positive definite system in place by elimination; the solution is left in ``right``."""
    size = right.shape[0]
    for k in range(size):
        for i in range(k + 1, size):
            factor = matrix[i, k] / matrix[k, k]
            for j in range(k, size):
                matrix[i, j] -= factor * matrix[k, j]
            right[i] -= factor * right[k]
    for k in range(size - 1, -1, -1):
        for j in range(k + 1, size):
            right[k] -= matrix[k, j] * right[j]
        right[k] /= matrix[k, k]


@njit(cache=True, error_model="numpy")
def _window(profile, centre, step):  # type: ignore[no-untyped-def]
    """Brightest sample near ``centre``, and the darkest ones before and behind it, as indices."""
    last = profile.shape[0] - 1
    peak = centre
    for k in range(max(centre - int(NEAR_PEAK_MM[0] / step), 0), min(centre + int(NEAR_PEAK_MM[1] / step), last) + 1):
        if profile[k] > profile[peak]:
            peak = k
    low = peak
    for k in range(max(peak - int(PLATEAU_MM[0] / step), 0), peak):
        if profile[k] < profile[low]:
            low = k
    high = peak
    for k in range(peak, min(centre + int(PLATEAU_MM[1] / step), last) + 1):
        if profile[k] < profile[high]:
            high = k
    return peak, low, high


@njit(cache=True, error_model="numpy")
def _normal_equations(profile, offsets, low, high, sigma, unknowns, matrix, right):  # type: ignore[no-untyped-def]
    """Fill the normal equations of the samples ``low`` to ``high`` about the model with the given unknowns."""
    edge, thickness, outer, inner, top = unknowns
    slope = np.empty(5)
    matrix[:] = 0.0
    right[:] = 0.0
    for k in range(low, high + 1):
        out, within = (offsets[k] - edge) / sigma, (offsets[k] - edge + thickness) / sigma
        past_outer, past_inner = 0.5 * math.erfc(-out * math.sqrt(0.5)), 0.5 * math.erfc(-within * math.sqrt(0.5))
        density = 1.0 / (math.sqrt(2.0 * math.pi) * sigma)
        steep_outer, steep_inner = density * math.exp(-0.5 * out * out), density * math.exp(-0.5 * within * within)
        rest = profile[k] - (inner + (top - inner) * past_inner + (outer - top) * past_outer)
        slope[0] = (inner - top) * steep_inner + (top - outer) * steep_outer
        slope[1] = (top - inner) * steep_inner
        slope[2] = past_outer
        slope[3] = 1.0 - past_inner
        slope[4] = past_inner - past_outer
        for i in range(5):
            right[i] += slope[i] * rest
            for j in range(5):
                matrix[i, j] += slope[i] * slope[j]


@njit(cache=True, error_model="numpy")
def fit_cortices(profiles, offsets, start, sigma, expected, spread, least, found, falls):  # type: ignore[no-untyped-def]
    """Fit a blurred cortex between two plateaus to every profile [Treece2010]; ``found`` is its outer edge.

    The unknowns are the outer edge, the thickness, the outer and the inner level, and the cortex's own level; each
    edge is an error function of width ``sigma`` (profile,). Where blur hides the cortex its thickness and level cannot
    be told apart: ``expected`` (thickness, level) and ``spread`` (of the edge about ``start``, of the thickness, of the
    level, of the samples about the model) then decide. Gauss-Newton, maximum a posteriori. ``falls`` is the fall from
    the cortex to the outside; where it is below ``least`` nothing is fitted, ``found`` is ``start`` and ``falls`` 0.
    Lengths in mm.
    """
    step = offsets[1] - offsets[0]
    last = offsets.shape[0] - 1
    unknowns, matrix, right = np.empty(5), np.empty((5, 5)), np.empty(5)
    for ray in range(profiles.shape[0]):
        profile = profiles[ray]
        centre = min(max(round((start[ray] - offsets[0]) / step), 1), last - 1)
        peak, low, high = _window(profile, centre, step)
        found[ray] = start[ray]
        falls[ray] = profile[peak] - profile[high]
        if falls[ray] < least:
            falls[ray] = 0.0
            continue
        level = max(expected[1], profile[peak])
        unknowns[0], unknowns[1] = start[ray], expected[0]
        unknowns[2], unknowns[3], unknowns[4] = profile[high], profile[low], level
        low, high = max(min(low, peak - 2) - 1, 0), min(high + 1, last)
        for _ in range(ROUNDS):
            _normal_equations(profile, offsets, low, high, sigma[ray], unknowns, matrix, right)
            for i, wanted, deviation in (
                (0, start[ray], spread[0]),
                (1, expected[0], spread[1]),
                (4, level, spread[2]),
            ):
                hold = (spread[3] / deviation) ** 2
                matrix[i, i] += hold
                right[i] -= hold * (unknowns[i] - wanted)
            for i in range(5):
                matrix[i, i] = DAMPING * matrix[i, i] + 1e-2
            _solve(matrix, right)
            for i in range(2):
                right[i] = min(max(right[i], -LARGEST_STEP_MM), LARGEST_STEP_MM)
            unknowns += right
            unknowns[0] = min(max(unknowns[0], start[ray] - FARTHEST_MM), start[ray] + FARTHEST_MM)
            unknowns[1] = min(max(unknowns[1], THICKNESS_RANGE_MM[0]), THICKNESS_RANGE_MM[1])
            unknowns[4] = max(unknowns[4], 0.9 * profile[peak])
        found[ray] = unknowns[0]
