"""Density of a made vertebra is the density it was made with, in mg/cm3, or there is none."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from bone_phantoms import make_spine, make_vertebra
from volume_factories import make_volume

from inference.calibration import DEFAULT_CALIBRATION, CalibrationRecord
from inference.densitometry import category, lumbar_mean, measure_density
from inference.labels import BY_KEY
from inference.quality import FLAGS, STUDY, QualityFlag
from inference.regions import trabecular_core
from inference.volume import Volume

BIAS_MG_PER_CM3 = 1.0
"""The goal for bias on digital phantoms."""

RECORD = CalibrationRecord(
    record_id="made", manufacturer="SIEMENS", model_name="Test CT", kvp=120.0, convolution_kernel="",
    material="K2HPO4", phantom="made", slope_mg_per_cm3_per_hu=0.8, intercept_mg_per_cm3=2.0,
    measured_on=date(2026, 1, 1), valid_until=date(2027, 1, 1),
)  # fmt: skip


def labelled(mask: np.ndarray, key: str = "L1") -> np.ndarray:
    return (mask * BY_KEY[key].value).astype(np.uint8)


@pytest.mark.parametrize("core_hu", [60.0, 120.0, 220.0])
@pytest.mark.parametrize(
    ("spacing_mm", "blur_mm", "noise_hu"),
    [
        ((1.0, 1.0, 1.0), 0.4, 0.0),
        ((1.0, 1.0, 1.0), 1.2, 30.0),
        ((3.0, 1.0, 1.0), 0.8, 15.0),
        ((3.0, 3.0, 3.0), 0.8, 15.0),
    ],
)
def test_the_density_of_a_made_body_is_found_at_every_blur_noise_and_voxel_size(
    core_hu: float, spacing_mm: tuple[float, float, float], blur_mm: float, noise_hu: float
) -> None:
    volume, mask = make_vertebra(core_hu, spacing_mm, blur_mm, noise_hu)
    (density,), flags = measure_density(volume, labelled(mask), RECORD)
    noise_mg = 3 * density.standard_error_mg_per_cm3
    assert density.vbmd_mg_per_cm3 == pytest.approx(2.0 + 0.8 * core_hu, abs=BIAS_MG_PER_CM3 + noise_mg)
    assert density.low_mg_per_cm3 <= density.vbmd_mg_per_cm3 <= density.high_mg_per_cm3
    assert flags == ()


def test_density_is_in_mg_per_cm3_and_not_in_g() -> None:
    volume, mask = make_vertebra(150.0)
    (density,), _ = measure_density(volume, labelled(mask), DEFAULT_CALIBRATION)
    # The default line is published as 0.01745 + 0.0006855 HU g/cm3.
    assert density.vbmd_mg_per_cm3 == pytest.approx(1000 * (0.01745 + 0.0006855 * 150.0), rel=0.01)


def test_a_mask_one_voxel_too_large_changes_the_density_little() -> None:
    volume, mask = make_vertebra(120.0)
    larger = np.pad(mask, 1)
    larger = larger[2:, 1:-1, 1:-1] | larger[:-2, 1:-1, 1:-1] | larger[1:-1, 2:, 1:-1] | larger[1:-1, 1:-1, :-2] | mask
    (density,), _ = measure_density(volume, labelled(larger), RECORD)
    assert density.vbmd_mg_per_cm3 == pytest.approx(2.0 + 0.8 * 120.0, abs=BIAS_MG_PER_CM3)


def test_the_core_lies_five_mm_inside_and_in_the_front_two_thirds() -> None:
    _, mask = make_vertebra()
    core = trabecular_core(mask, (1.0, 1.0, 1.0))
    body_rows, core_rows = (np.flatnonzero(array.any(axis=(0, 2))) for array in (mask, core))
    body_slices, core_slices = (np.flatnonzero(array.any(axis=(1, 2))) for array in (mask, core))
    assert core_rows[0] - body_rows[0] >= 5
    assert core_rows[-1] < body_rows[0] + 2 / 3 * len(body_rows)
    assert core_slices[0] - body_slices[0] >= 5
    assert body_slices[-1] - core_slices[-1] >= 5


def test_the_voi_comes_back_on_the_grid_of_a_flipped_volume() -> None:
    volume, mask = make_vertebra()
    affine = volume.affine_lps.copy()
    affine[:3, 3] = affine[:3, :3] @ (np.array(volume.hu.shape) - 1)
    affine[:3, :3] *= -1
    turned = Volume(volume.hu[::-1, ::-1, ::-1], affine)
    (straight,), _ = measure_density(volume, labelled(mask), RECORD)
    (flipped,), _ = measure_density(turned, labelled(mask)[::-1, ::-1, ::-1], RECORD)
    assert np.array_equal(flipped.voi_mask, straight.voi_mask[::-1, ::-1, ::-1])
    assert flipped.vbmd_mg_per_cm3 == pytest.approx(straight.vbmd_mg_per_cm3)


def test_a_body_too_small_for_a_core_gives_a_flag_and_no_number() -> None:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[4:16, 4:16, 4:16] = True
    densities, (flag,) = measure_density(make_volume(np.zeros(mask.shape), (1, 1, 1)), labelled(mask), RECORD)
    assert densities == ()
    assert (flag.code, flag.subject) == ("voi_too_small", "L1")
    assert flag.definition.forbids_density


def test_dense_bone_in_the_core_is_flagged() -> None:
    volume, mask = make_vertebra()
    core = np.argwhere(trabecular_core(mask, volume.spacing_mm))
    volume.hu[tuple(core[: len(core) // 20].T)] = 900.0
    _, (flag,) = measure_density(volume, labelled(mask), RECORD)
    assert (flag.code, flag.subject) == ("uneven_core", "L1")


@pytest.mark.parametrize("code", [code for code, row in FLAGS.items() if row.forbids_density])
@pytest.mark.parametrize("subject", ["L1", STUDY])
def test_a_flag_that_forbids_density_leaves_no_number(code: str, subject: str) -> None:
    volume, labels = make_spine({"L1": 120.0, "L2": 100.0}, spacing_mm=(2.0, 2.0, 2.0))
    densities, _ = measure_density(volume, labels, RECORD, [QualityFlag(code, subject, "")])
    assert [one.structure for one in densities] == (["L2"] if subject == "L1" else [])


def test_every_level_keeps_its_own_density() -> None:
    volume, labels = make_spine({"T12": 80.0, "L1": 120.0, "L2": 160.0}, spacing_mm=(2.0, 2.0, 2.0))
    densities, _ = measure_density(volume, labels, RECORD)
    found = {one.structure: round(one.hu_mean) for one in densities}
    assert found == {"T12": 80, "L1": 120, "L2": 160}


def spine_mean(levels: dict[str, float], record: CalibrationRecord = RECORD, flags: tuple[QualityFlag, ...] = ()):  # type: ignore[no-untyped-def]
    volume, labels = make_spine(levels, spacing_mm=(2.0, 2.0, 2.0))
    densities, _ = measure_density(volume, labels, record, flags)
    return lumbar_mean(densities, record, flags)


def test_the_lumbar_mean_is_of_l1_and_l2() -> None:
    mean = spine_mean({"T12": 300.0, "L1": 120.0, "L2": 80.0, "L3": 300.0})
    assert mean.levels == ("L1", "L2")
    assert mean.vbmd_mg_per_cm3 == pytest.approx(2.0 + 0.8 * 100.0, abs=BIAS_MG_PER_CM3)


@pytest.mark.parametrize("lost", ["L1", "L2"])
def test_t12_stands_in_for_a_level_that_cannot_be_measured(lost: str) -> None:
    flags = (QualityFlag("deformed_vertebra", lost, ""),)
    mean = spine_mean({"T12": 160.0, "L1": 100.0, "L2": 100.0, "L3": 300.0}, flags=flags)
    assert mean.levels == ("T12", "L2" if lost == "L1" else "L1")
    assert mean.vbmd_mg_per_cm3 == pytest.approx(2.0 + 0.8 * 130.0, abs=BIAS_MG_PER_CM3)
    assert mean.category == "osteopenia"


def test_one_level_alone_gives_no_mean() -> None:
    assert spine_mean({"L2": 100.0, "L3": 100.0}) is None


@pytest.mark.parametrize(
    ("value", "name"),
    [(79.99, "osteoporosis"), (80.0, "osteopenia"), (120.0, "osteopenia"), (120.01, "normal")],
)
def test_categories_change_at_80_and_120(value: float, name: str) -> None:
    assert category(value) == name


def test_the_default_line_gives_no_category() -> None:
    mean = spine_mean({"L1": 200.0, "L2": 200.0}, DEFAULT_CALIBRATION)
    assert mean.category is None
    assert "not calibrated" in mean.no_category_because


def test_hydroxyapatite_equivalents_give_no_category() -> None:
    mean = spine_mean({"L1": 200.0, "L2": 200.0}, replace(RECORD, material="HA"))
    assert mean.category is None
    assert "K2HPO4" in mean.no_category_because


def test_contrast_forbids_the_category_and_not_the_density() -> None:
    mean = spine_mean({"L1": 200.0, "L2": 200.0}, flags=(QualityFlag("contrast_given", STUDY, ""),))
    assert mean.vbmd_mg_per_cm3 > 100.0
    assert mean.category is None
    assert "contrast agent" in mean.no_category_because
