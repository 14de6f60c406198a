"""The same voxel model in ParOSol, an independent micro-FE program."""

import numpy as np
import pytest
from scipy import ndimage

from fe.voxel.solver import elastic_model, solve
from tests.fe_peers import POISSON_RATIO, VoxelProblem, parosol_answer, rounded_moduli

pytest.importorskip("parosol_py", reason="parosol-py is not installed (extra: bench)")

AGREEMENT = 1e-6
"""Of the largest displacement; both iterate to a residual of 1e-10."""


def problem(seed, shape, porosity):
    """A connected piece of random moduli, held at its lowest layer; loads are the test's."""
    rng = np.random.default_rng(seed)
    modulus = np.where(rng.random(shape) > porosity, 10 ** rng.uniform(2, 4, shape), 0.0)
    modulus[[0, -1]] = 3000.0
    labels, _ = ndimage.label(modulus > 0)
    modulus = rounded_moduli(np.where(labels == labels[0, 0, 0], modulus, 0.0))
    empty = VoxelProblem(modulus, 0.75, np.zeros(()), np.zeros(()), np.zeros(()))
    numbering = empty.numbering
    held = np.repeat((numbering.node_places[:, 0] == 0)[None], 3, axis=0)
    return VoxelProblem(modulus, 0.75, held, np.zeros(held.shape), np.zeros(held.shape)), numbering


def largest_difference(one, folder):
    theirs = parosol_answer(one, folder, tolerance=1e-10, level=2).displacement_mm
    model = elastic_model(one.modulus_mpa, (one.element_mm,) * 3, POISSON_RATIO, one.is_fixed)
    ours = solve(model, one.force_n, prescribed_mm=one.prescribed_mm, tolerance=1e-10).displacement_mm
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("porosity", [0.0, 0.35])
def test_displacements_under_forces_agree_with_parosol(tmp_path, porosity):
    one, numbering = problem(1, (14, 11, 9), porosity)
    one.force_n[:, numbering.node_places[:, 0] == 14] = np.array([[3.0], [-2.0], [-8.0]])
    assert largest_difference(one, tmp_path) < AGREEMENT


def test_displacements_between_moving_plates_agree_with_parosol(tmp_path):
    one, numbering = problem(2, (12, 10, 11), 0.4)
    top = numbering.node_places[:, 0] == 12
    one.is_fixed[:, top] = True
    one.prescribed_mm[2, top] = np.float32(-0.09)
    assert largest_difference(one, tmp_path) < AGREEMENT
