"""Niu's three networks learn on digital phantoms through the real loop, stop and go on, and measure unseen scans.

Boxes, channels and steps are small, so that two cores suffice; networks, losses and data paths are those of the
published configuration. Thresholds are such that neither an untrained network nor one that always says the mean reaches
them.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.errors import ConfigurationError, SegmenterNotReady
from dicom_node.segmenters.niu import WHITE_HU, Models, measure, read_models
from dicom_node.training.loop import read_model, train
from dicom_node.training.niu.split import LEVELS
from dicom_node.training.task import Plan
from dicom_node.training.tasks import load_task
from inference.calibration import DEFAULT_CALIBRATION
from inference.labels import BY_KEY
from inference.metrics import dice
from inference.quality import forbids_density
from inference.volume import Orientation, Volume, crop
from tests.spine_phantoms import (
    INTERCEPT_MG_PER_CM3,
    SLOPE_MG_PER_CM3_PER_HU,
    Phantom,
    phantom,
    write,
)

CPU = torch.device("cpu")
SPACING_MM = (3.0, 3.0, 3.0)
CASES = 40
SEED = 6
BOX = {"slices": 60, "rows": 40, "columns": 28, "slice_mm": 2.5, "pixel_mm": 4.0}
PLANS = {
    "vertebra-localisation": Plan(
        steps=400,
        learning_rate=5e-3,
        decay="cosine",
        warm_up_steps=20,
        clip_norm=10.0,
        averaging=0.95,
        validate_every=200,
        settings={"pixel_mm": 4.0, "window_mm": 384.0, "width": 8, "batch": 4},
    ),
    "vertebra-core": Plan(
        steps=240,
        learning_rate=8e-3,
        decay="cosine",
        warm_up_steps=5,
        clip_norm=10.0,
        averaging=0.95,
        validate_every=120,
        settings={**BOX, "channels": 6, "batch": 1},
    ),
    "vertebra-density": Plan(
        steps=300,
        learning_rate=3e-3,
        decay="cosine",
        averaging=0.9,
        validate_every=150,
        settings={**BOX, "blocks": "2,2,2", "growth": 8, "first": 8, "batch": 4},
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write(folder, CASES, SEED, SPACING_MM)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the three models are."""
    return tmp_path_factory.mktemp("models")


def train_one(name: str, site: Path, folder: Path) -> Mapping[str, float]:
    """Train, and return the last validation."""
    task, plan = load_task(name), PLANS[name]
    done = train(task, plan, folder / name, task.learner(site, plan, CPU, len), CPU)
    return done.figures[-1][1]


@pytest.fixture(scope="module")
def localisation(site: Path, folder: Path) -> Mapping[str, float]:
    return train_one("vertebra-localisation", site, folder)


@pytest.fixture(scope="module")
def core(site: Path, folder: Path) -> Mapping[str, float]:
    return train_one("vertebra-core", site, folder)


@pytest.fixture(scope="module")
def density(site: Path, folder: Path) -> Mapping[str, float]:
    return train_one("vertebra-density", site, folder)


@pytest.fixture(scope="module")
def models(folder: Path, localisation: object, core: object, density: object) -> Models:
    return read_models(folder)


@pytest.fixture(scope="module")
def unseen() -> list[Phantom]:
    return [phantom(9000 + number, SPACING_MM) for number in range(6)]


def untrained(site: Path, name: str) -> Mapping[str, float]:
    learner = load_task(name).learner(site, PLANS[name], CPU, len)
    learner.network.eval()
    with torch.no_grad():
        return learner.validate()


def test_the_localisation_learns_the_limits_of_t12_to_l2(site: Path, localisation: Mapping[str, float]) -> None:
    assert localisation["recall"] == localisation["precision"] == 1.0
    assert localisation["limit_error_mm"] < 5.0
    assert localisation["one_level_off"] == 0.0
    assert untrained(site, "vertebra-localisation")["recall"] < 0.5


def test_anatomy_net_learns_cancellous_bone(site: Path, core: Mapping[str, float]) -> None:
    assert core["dice"] > 0.8
    assert untrained(site, "vertebra-core")["dice"] < 0.3


def test_the_dense_net_learns_density_better_than_the_mean_says_it(site: Path, density: Mapping[str, float]) -> None:
    assert density["determination"] > 0.3  # 0 for the mean: the error is below 0.84 of the spread
    assert untrained(site, "vertebra-density")["determination"] < 0.2
    assert density["line_determination"] > 0.95  # the straight line beside it


def test_the_pipeline_measures_unseen_scans(models: Models, unseen: list[Phantom]) -> None:
    found = [measure(models, one.volume, DEFAULT_CALIBRATION) for one in unseen]
    sure = [(one, made) for one, made in zip(found, unseen, strict=True) if one.bmd_mg_per_cm3 is not None]
    assert len(sure) >= 4  # another place on a projection may look as much like T12 to L2, which holds a scan back
    for one, made in sure:
        for level in LEVELS:
            value = BY_KEY[level].value
            assert dice(one.labels == value, made.labels == value) > 0.7, level
        assert one.mean_hu == pytest.approx(
            (made.bmd_mg_per_cm3 - INTERCEPT_MG_PER_CM3) / SLOPE_MG_PER_CM3_PER_HU, abs=25
        )
        if abs(one.mean_hu - WHITE_HU) > 10:
            assert ("saturated" in {flag.code for flag in one.flags}) == (one.mean_hu > WHITE_HU)
        record = DEFAULT_CALIBRATION
        assert one.line_mg_per_cm3 == pytest.approx(
            record.intercept_mg_per_cm3 + record.slope_mg_per_cm3_per_hu * one.mean_hu
        )
    errors = [one.bmd_mg_per_cm3 - made.bmd_mg_per_cm3 for one, made in sure]
    assert np.sqrt(np.mean(np.square(errors))) < np.std([made.bmd_mg_per_cm3 for made in unseen])


def turned(volume: Volume, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> tuple[Volume, Orientation]:
    """Store a canonical volume in another order of axes and directions."""
    orientation = Orientation(axes, flips)
    affine = np.eye(4)
    corner = np.zeros(3)
    for target, axis in enumerate(axes):
        step = volume.affine_lps[:3, target]
        if flips[target]:
            corner += step * (volume.hu.shape[target] - 1)
            step = -step
        affine[:3, axis] = step
    affine[:3, 3] = volume.affine_lps[:3, 3] + corner
    return Volume(np.ascontiguousarray(orientation.restore(volume.hu)), affine), orientation


@pytest.mark.parametrize(
    ("axes", "flips"),
    [
        ((0, 1, 2), (True, False, False)),  # slices from the head down
        ((0, 1, 2), (True, False, True)),  # feet first, supine
        ((0, 1, 2), (False, True, True)),  # prone
        ((2, 0, 1), (False, True, False)),  # stored by sagittal or coronal slices
    ],
)
def test_no_order_of_storage_changes_level_side_or_density(
    models: Models, unseen: list[Phantom], axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    found = ((made, measure(models, made.volume)) for made in unseen)
    made, straight = next((made, one) for made, one in found if one.bmd_mg_per_cm3 is not None)
    other, orientation = turned(made.volume, axes, flips)
    again = measure(models, other)
    np.testing.assert_array_equal(orientation.apply(again.labels), straight.labels)
    if forbids_density(again.flags, "L1"):  # stored by sagittal slices, checks of the stack look at other pairs
        assert again.bmd_mg_per_cm3 is None
        assert axes != (0, 1, 2)
    else:
        assert again.bmd_mg_per_cm3 == pytest.approx(straight.bmd_mg_per_cm3)


def part(made: Phantom, below_mm: float, above_mm: float) -> Volume:
    """Keep what lies between two heights above the lower face."""
    first, last = (round(height / SPACING_MM[0]) for height in (below_mm, above_mm))
    rows, columns = made.volume.hu.shape[1:]
    return crop(made.volume, (slice(first, last), slice(0, rows), slice(0, columns)))


def test_a_scan_without_all_three_vertebrae_gets_no_density_and_a_sentence(
    models: Models, unseen: list[Phantom]
) -> None:
    for made in unseen[:3]:
        slices = {level: np.flatnonzero((made.labels == BY_KEY[level].value).any(axis=(1, 2))) for level in LEVELS}
        middle_mm = float(slices["L1"].mean()) * SPACING_MM[0]
        for low_mm, high_mm in ((middle_mm, 1e3), (0.0, middle_mm)):
            found = measure(models, part(made, low_mm, min(high_mm, made.volume.hu.shape[0] * SPACING_MM[0])))
            assert found.bmd_mg_per_cm3 is None
            assert all(forbids_density(found.flags, level) for level in LEVELS)
            assert not found.labels.any()


def test_no_spine_no_bone_and_no_scan_get_no_density(models: Models, unseen: list[Phantom]) -> None:
    made = unseen[0]
    soft = replace(made.volume, hu=np.minimum(made.volume.hu, 60.0))
    air = replace(made.volume, hu=np.full_like(made.volume.hu, -1000.0))
    thin = crop(made.volume, (slice(0, 1), slice(0, 8), slice(0, 8)))
    noise = replace(made.volume, hu=np.random.default_rng(0).normal(0, 200, made.volume.hu.shape).astype(np.float32))
    for volume in (soft, air, thin, noise):
        found = measure(models, volume)
        assert found.bmd_mg_per_cm3 is None
        assert found.labels.shape == volume.hu.shape
        assert forbids_density(found.flags, "L1")


def test_a_training_that_is_stopped_goes_on_as_if_it_had_not_been(site: Path, tmp_path: Path) -> None:
    task = load_task("vertebra-core")
    plan = replace(PLANS["vertebra-core"], steps=4, validate_every=2)
    train(task, plan, tmp_path / "whole", task.learner(site, plan, CPU, len), CPU)
    stopped = train(task, plan, tmp_path / "parts", task.learner(site, plan, CPU, len), CPU, minutes=0.0)
    assert stopped.step == 1
    train(task, plan, tmp_path / "parts", task.learner(site, plan, CPU, len), CPU)
    whole, parts = (read_model(tmp_path / name / "model.pt")[0] for name in ("whole", "parts"))
    for name, weights in whole.items():
        torch.testing.assert_close(parts[name], weights, rtol=0, atol=0)


def test_a_card_says_what_was_trained_and_that_nobody_else_has_seen_it(folder: Path, models: Models) -> None:
    for name in PLANS:
        card = (folder / name / "model_card.md").read_text()
        assert "| " in card
        assert "No diagnosis" in card
        assert "{figures}" not in card
        assert (folder / name / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_models_that_are_missing_swapped_or_damaged_are_refused(folder: Path, models: Models, tmp_path: Path) -> None:
    with pytest.raises(SegmenterNotReady, match="missing"):
        read_models(tmp_path)
    for name in PLANS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt").write_bytes((folder / name / "model.pt").read_bytes())
    read_models(tmp_path)
    core = tmp_path / "vertebra-core" / "model.pt"
    core.write_bytes((tmp_path / "vertebra-density" / "model.pt").read_bytes())
    with pytest.raises(ConfigurationError, match="is a model of vertebra-density"):
        read_models(tmp_path)
    content = torch.load(folder / "vertebra-core" / "model.pt", weights_only=True)
    about = json.loads(content["about"])
    about["plan"]["settings"]["rows"] = 54
    torch.save({**content, "about": json.dumps(about)}, core)
    with pytest.raises(ConfigurationError, match="different boxes"):
        read_models(tmp_path)
    core.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_models(tmp_path)
