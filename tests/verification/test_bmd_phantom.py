"""Density of a digital phantom over every kernel, noise, slice thickness and density: bias under 1, limits under +-5.

The whole chain but the finding of bones: rods found in the scan, their line, the trabecular core of the true outline,
its mean. ``pytest -s`` prints the table of docs/methods/vbmd.md.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from inference.agreement import Agreement, agree
from inference.calibration import DEFAULT_CALIBRATION, rho_qct_mg_per_cm3
from inference.densitometry import measure_density
from inference.labels import BY_KEY
from inference.scan_calibration import calibrate_scan
from inference.spine import LUMBAR, segment_spine
from tests.density_phantom import DENSITIES_MG_PER_CM3, KERNELS, LEVELS, RODS, Scene, scan
from tests.unit.inference.spine_phantom import CORE_HU, SPACING_MM, Trunk, draw

BIAS_MG_PER_CM3, LIMITS_MG_PER_CM3 = 1.0, 5.0
"""The goals; [Niu2023] reports 2.21 and +-12 in patients."""

NOISES_HU, SLICES_MM = (10.0, 30.0, 50.0), (1.0, 2.0, 3.0)
TRUTH = dict(zip(LEVELS, DENSITIES_MG_PER_CM3, strict=True))
DOCUMENT = Path(__file__).parents[2] / "docs" / "methods" / "vbmd.md"
ROUNDING_MG_PER_CM3 = 0.06
"""The document's figures have one decimal; other processors round transforms otherwise."""


@dataclass(frozen=True, slots=True)
class Row:
    """One density of one scan."""

    scene: Scene
    truth_mg_per_cm3: float
    measured_mg_per_cm3: float


def measured(scene: Scene, seed: int, mask: str = "true") -> list[Row]:
    """Measure all levels of one scan."""
    volume, labels = scan(scene, seed)
    labels = OUTLINES[mask](labels)
    record, _ = calibrate_scan(volume, labels, DEFAULT_CALIBRATION, (), (RODS,))
    assert record.record_id == "phantom in the scan", "the rods were not found"
    densities, flags = measure_density(volume, labels, record)
    assert {flag.code for flag in flags} <= {"uneven_core"}, "noise lifts voxels of a dense core above 400 HU"
    assert [one.structure for one in densities] == list(reversed(LEVELS))
    return [Row(scene, TRUTH[one.structure], one.vbmd_mg_per_cm3) for one in densities]


def changed(labels: NDArray[np.uint8], *, grow: bool) -> NDArray[np.uint8]:
    """Move the outline of every body by one voxel."""
    made = np.zeros_like(labels)
    for level in LEVELS:
        value = BY_KEY[level].value
        move = ndimage.binary_dilation if grow else ndimage.binary_erosion
        made[move(labels == value)] = value
    return made


OUTLINES = {
    "true": lambda labels: labels,
    "one voxel larger": lambda labels: changed(labels, grow=True),
    "one voxel smaller": lambda labels: changed(labels, grow=False),
}


@cache
def factorial() -> tuple[Row, ...]:
    """Measure every combination once; noise differs in each."""
    rows: list[Row] = []
    for seed, (kernel, noise_hu, slice_mm) in enumerate(product(KERNELS, NOISES_HU, SLICES_MM), start=1):
        rows += measured(Scene(kernel, noise_hu, slice_mm), seed)
    return tuple(rows)


def agreement_of(rows: tuple[Row, ...]) -> Agreement:
    return agree([row.measured_mg_per_cm3 for row in rows], [row.truth_mg_per_cm3 for row in rows])


def table() -> str:
    """Return the full factorial: bias and limits over the densities in each cell, and Bland-Altman over all."""
    lines = [
        "| kernel | noise, HU | slices of 1 mm | 2 mm | 3 mm | all thicknesses |",
        "|---|---|---|---|---|---|",
    ]
    for kernel, noise_hu in product(KERNELS, NOISES_HU):
        some = tuple(row for row in factorial() if (row.scene.kernel, row.scene.noise_hu) == (kernel, noise_hu))
        parts = [tuple(row for row in some if row.scene.slice_mm == slice_mm) for slice_mm in SLICES_MM]
        cells = " | ".join(_cell(part) for part in (*parts, some))
        lines.append(f"| {kernel} | {noise_hu:g} | {cells} |")
    parts = [tuple(row for row in factorial() if row.scene.slice_mm == slice_mm) for slice_mm in SLICES_MM]
    return "\n".join([*lines, f"| all | all | {' | '.join(_cell(part) for part in (*parts, factorial()))} |"])


def _cell(rows: tuple[Row, ...]) -> str:
    found = agreement_of(rows)
    return f"{found.bias.value:+.1f} ({found.limits[0]:+.1f} to {found.limits[1]:+.1f})"


def test_bias_and_limits_hold_over_the_whole_factorial() -> None:
    print(f"\n{table()}")
    found = agreement_of(factorial())
    assert found.count == len(KERNELS) * len(NOISES_HU) * len(SLICES_MM) * len(LEVELS)
    assert abs(found.bias.value) < BIAS_MG_PER_CM3
    assert max(map(abs, found.limits)) < LIMITS_MG_PER_CM3
    assert found.slope == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("slice_mm", SLICES_MM)
def test_bias_and_limits_hold_for_each_kernel_and_slice_thickness(kernel: str, slice_mm: float) -> None:
    found = agreement_of(tuple(r for r in factorial() if (r.scene.kernel, r.scene.slice_mm) == (kernel, slice_mm)))
    assert abs(found.bias.value) < BIAS_MG_PER_CM3
    assert max(map(abs, found.limits)) < LIMITS_MG_PER_CM3


def test_the_document_shows_this_table() -> None:
    first_cells = tuple(f"| {name} |" for name in (*KERNELS, "all"))
    written = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(first_cells)]
    made = table().splitlines()[2:]
    assert [line.split("|")[1:3] for line in written] == [line.split("|")[1:3] for line in made]
    for was, now in zip(written, made, strict=True):
        assert _numbers(was) == pytest.approx(_numbers(now), abs=0.1 + ROUNDING_MG_PER_CM3)


def _numbers(line: str) -> list[float]:
    return [float(one) for one in re.findall(r"[+-]\d+\.\d", line)]


@pytest.mark.parametrize("mask", ["one voxel larger", "one voxel smaller"])
@pytest.mark.parametrize("slice_mm", [1.0, 3.0])
def test_an_outline_that_is_one_voxel_off_changes_no_density(mask: str, slice_mm: float) -> None:
    found = agreement_of(tuple(measured(Scene("lung", 30.0, slice_mm), 101, mask)))
    assert abs(found.bias.value) < BIAS_MG_PER_CM3
    assert max(map(abs, found.limits)) < LIMITS_MG_PER_CM3


@pytest.mark.parametrize("slice_mm", [1.0, 3.0])
@pytest.mark.parametrize("kernel", ["soft", "lung"])
def test_texture_and_the_basivertebral_vein_leave_the_density_within_the_limits(kernel: str, slice_mm: float) -> None:
    found = agreement_of(tuple(measured(Scene(kernel, 30.0, slice_mm, texture_share=0.35, has_plexus=True), 102)))
    assert abs(found.bias.value) < BIAS_MG_PER_CM3
    assert max(map(abs, found.limits)) < LIMITS_MG_PER_CM3


def test_a_thick_shell_stays_outside_of_the_core() -> None:
    found = agreement_of(tuple(measured(Scene("soft", 10.0, 3.0, cortex_mm=3.0), 103)))
    assert abs(found.bias.value) < BIAS_MG_PER_CM3


@pytest.mark.parametrize("noise_hu", NOISES_HU)
def test_bodies_found_by_the_classical_segmenter_have_the_density_they_were_drawn_with(noise_hu: float) -> None:
    volume, _ = draw(Trunk())
    noise = np.random.default_rng(5).normal(0, noise_hu, volume.hu.shape)
    hu = ndimage.gaussian_filter(volume.hu, 0.8 / SPACING_MM) + noise
    noisy = replace(volume, hu=hu.astype(np.float32))
    labels, _ = segment_spine(noisy)
    densities, _ = measure_density(noisy, labels, DEFAULT_CALIBRATION)
    truth = float(rho_qct_mg_per_cm3(CORE_HU, DEFAULT_CALIBRATION))
    errors = np.array([one.vbmd_mg_per_cm3 - truth for one in densities if one.structure in LUMBAR])
    assert len(errors) == len(LUMBAR)
    errors_of_mean = [one.standard_error_mg_per_cm3 for one in densities if one.structure in LUMBAR]
    assert abs(errors.mean()) < BIAS_MG_PER_CM3 + 3 * float(np.linalg.norm(errors_of_mean)) / len(LUMBAR)
    assert np.abs(errors).max() < LIMITS_MG_PER_CM3
