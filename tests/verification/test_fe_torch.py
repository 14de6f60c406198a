"""The solver on PyTorch tensors against the compiled one."""

import numpy as np
import pytest
import torch

from fe.errors import MissingTool, NotConverged, UnsupportedModel
from fe.voxel.numbering import number_voxels
from fe.voxel.solver import elastic_model, solve
from fe.voxel.torch_solver import solve_on_torch

SIZE_MM = (1.5, 0.8, 1.1)
NU = 0.3
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
    ),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def held_block(seed=0, shape=(44, 16, 18)):
    """A block of random moduli with a hole, held at the bottom and pulled everywhere."""
    rng = np.random.default_rng(seed)
    modulus = 10 ** rng.uniform(3, 4, shape)
    modulus[10:30, 5:10, 5:12] = 0
    numbering = number_voxels(modulus > 0)
    held = np.repeat((numbering.node_places[:, 0] == 0)[None], 3, axis=0)
    return elastic_model(modulus, SIZE_MM, NU, held), rng.standard_normal(held.shape)


@pytest.mark.parametrize("device", DEVICES)
def test_both_solvers_find_the_same_displacements_in_the_same_iterations(device):
    model, force = held_block()
    assert len(model.multigrid.levels) == 3, "interpolation twice"
    compiled = solve(model, force, tolerance=1e-8)
    found = solve_on_torch(model, force, device=device, tolerance=1e-8)
    scale = np.abs(compiled.displacement_mm).max()
    np.testing.assert_allclose(found.displacement_mm, compiled.displacement_mm, atol=1e-7 * scale)
    assert abs(found.iterations - compiled.iterations) <= 1
    assert found.residual <= 2e-8


@pytest.mark.parametrize("device", DEVICES)
def test_prescribed_displacements_and_a_start_mean_the_same(device):
    model, force = held_block(1)
    prescribed = np.where(model.is_fixed, 0.01, 0.0)
    compiled = solve(model, force, prescribed_mm=prescribed, tolerance=1e-9)
    warm = solve_on_torch(
        model, force, device=device, prescribed_mm=prescribed, start_mm=compiled.displacement_mm, tolerance=1e-8
    )
    assert warm.iterations == 0
    np.testing.assert_array_equal(warm.displacement_mm, compiled.displacement_mm)


def test_errors_are_the_same():
    model, force = held_block(2)
    with pytest.raises(UnsupportedModel):
        solve_on_torch(model, np.zeros_like(force))
    with pytest.raises(NotConverged) as caught:
        solve_on_torch(model, force, max_iterations=2)
    assert caught.value.iterations == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_graphics_card_is_named():
    model, force = held_block(3)
    with pytest.raises(MissingTool, match="CUDA"):
        solve_on_torch(model, force, device="cuda")
