"""Niu's pipeline without training: units, patients, levels, sides and the geometry between scan and networks."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize

from dicom_node.errors import ConfigurationError
from dicom_node.segmenters.niu import levels_are_clear, parts_of
from dicom_node.training.niu.anatomy_net import AnatomyNet
from dicom_node.training.niu.configuration import plain, settings_of
from dicom_node.training.niu.core import TASK as CORE
from dicom_node.training.niu.core import Core, box_of, cores_of
from dicom_node.training.niu.density import TASK as DENSITY
from dicom_node.training.niu.density import Density, figures_of, line_through
from dicom_node.training.niu.detector import candidates, detection_loss
from dicom_node.training.niu.localisation import TASK as LOCALISATION
from dicom_node.training.niu.localisation import Detection, Localisation, LocalisationLearner
from dicom_node.training.niu.localisation import figures_of as localisation_figures
from dicom_node.training.niu.projection import Place, overlap, place_of, project
from dicom_node.training.niu.soft_focal import ALPHA, GAMMA, share_of, soft_focal
from dicom_node.training.niu.split import LEVELS, divided, picks, read_site, site_of
from dicom_node.training.niu.values import read_values
from dicom_node.training.niu.window import PIXEL_MM, PUBLISHED, Frame, back, grey_in, hu_in, lay, mask_in
from dicom_node.training.task import Plan
from inference.labels import BY_KEY
from inference.volume import Volume
from tests.spine_phantoms import Phantom, phantom, write

CPU = torch.device("cpu")
SMALL = {"slices": 50, "rows": 52, "columns": 36, "slice_mm": 3.0, "pixel_mm": 3.0}


@dataclass(frozen=True)
class Scan:
    """A case in memory."""

    name: str
    patient: str
    split: str
    volume: Volume
    labels: NDArray[np.uint8]


@pytest.fixture(scope="module")
def trunk() -> Phantom:
    return phantom(5, (3.0, 3.0, 3.0))


def scan(made: Phantom, name: str = "a", patient: str = "one", split: str = "train") -> Scan:
    return Scan(name, patient, split, made.volume, made.labels)


def cubes(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Volume:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    return Volume(np.full(shape, -1000.0, np.float32), affine)


def written(folder: Path, rows: str) -> Path:
    (folder / "values.csv").write_text(rows)
    return folder


# units and the table of densities


def test_densities_are_read_in_mg_per_cm3(tmp_path: Path) -> None:
    assert read_values(written(tmp_path, "case,bmd_mg_per_cm3\na,112.5\nb,80\n"), ["a", "b"]) == {"a": 112.5, "b": 80.0}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("case,bmd_mg_per_cm3\na,0.112\nb,0.08\n", "g/cm3"),
        ("case,bmd_mg_per_cm3\na,112\nb,0.95\n", "g/cm2"),
        ("case,bmd_mg_per_cm3\na,112\nb,-5\n", "expected 2 to 600"),
        ("case,bmd_mg_per_cm3\na,112\nb,1200\n", "expected 2 to 600"),
        ("case,bmd_mg_per_cm3\na,112\nb,nan\n", "expected a number"),
        ("case,bmd_mg_per_cm3\na,112\nb,inf\n", "expected a number"),
        ("case,bmd_mg_per_cm3\na,112\nb,\n", "no number"),
        ("case,bmd_mg_per_cm3\na,112\nb,112;5\n", "no number"),
        ("case,bmd_mg_per_cm3\na,112\n", "no value for 1 cases, b"),
        ("case,bmd_mg_per_cm3\na,112\nb,90\nc,90\n", "not in images"),
        ("case,bmd_mg_per_cm3\na,112\nb,90\nb,91\n", "b twice"),
        ("case,bmd\na,112\nb,90\n", "columns"),
        ("", "columns"),
        ("case,bmd_mg_per_cm3\na\nb,90\n", "no number"),
    ],
)
def test_a_table_of_densities_that_is_wrong_is_refused(tmp_path: Path, rows: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read_values(written(tmp_path, rows), ["a", "b"])


def test_a_missing_or_foreign_table_is_refused_and_no_stranger_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no file .*values\.csv"):
        read_values(tmp_path, ["a"])
    (tmp_path / "values.csv").write_bytes(b"\xff\xfe\x00case")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_values(tmp_path, ["a"])
    written(tmp_path, "case,bmd_mg_per_cm3\nQuistgaard^Wilhelmine,100\n")
    with pytest.raises(ConfigurationError) as caught:
        read_values(tmp_path, ["a"])
    assert "Quistgaard" not in str(caught.value)


# patients


def test_patients_are_divided_six_to_two_to_two_and_validate_once_each() -> None:
    patients = [f"p{number}" for number in range(50)]
    folds = [divided(patients, 3, fold) for fold in range(4)]
    for splits in folds:
        assert [list(splits.values()).count(one) for one in ("train", "validation", "test")] == [30, 10, 10]
    tests = [{one for one in patients if splits[one] == "test"} for splits in folds]
    assert all(one == tests[0] for one in tests)
    validating = [one for splits in folds for one in patients if splits[one] == "validation"]
    assert len(validating) == len(set(validating)) == 40


def test_a_patient_in_two_splits_is_refused_without_being_named(trunk: Phantom) -> None:
    cases = [
        scan(trunk, "a", "Quistgaard", "train"),
        scan(trunk, "b", "Quistgaard", "validation"),
        scan(trunk, "c", "other", "validation"),
    ]
    with pytest.raises(ConfigurationError, match="b and a are of one patient") as caught:
        site_of(cases)  # type: ignore[arg-type]  # cases in memory
    assert "Quistgaard" not in str(caught.value)


def test_scans_of_one_patient_stay_together_when_read_from_a_folder(tmp_path: Path) -> None:
    write(tmp_path, 10, 4, (8.0, 9.0, 9.0))
    rows = "".join(f"case{number:03d},p{number // 2}\n" for number in range(10))
    (tmp_path / "cases.csv").write_text("case,patient\n" + rows)
    site = read_site(tmp_path, 0, 1)
    groups = [{case.patient for case in group} for group in (site.train, site.validation, site.test)]
    assert [len(group) for group in groups] == [3, 1, 1]
    assert len(set.union(*groups)) == 5
    with pytest.raises(ConfigurationError, match="fold is 4"):
        read_site(tmp_path, 0, 4)
    with pytest.raises(ConfigurationError, match="--data"):
        read_site(None, 0, 0)


def test_every_case_comes_once_before_any_comes_again() -> None:
    shown = [one for step in range(5) for one in picks(9, step, 2, 5)]
    assert sorted(shown[:5]) == sorted(shown[5:]) == [0, 1, 2, 3, 4]
    assert picks(9, 3, 2, 5) == shown[6:8]


# levels


def test_labels_whose_levels_are_swapped_are_refused(trunk: Phantom) -> None:
    swapped = trunk.labels.copy()
    swapped[trunk.labels == BY_KEY["T12"].value] = BY_KEY["L2"].value
    swapped[trunk.labels == BY_KEY["L2"].value] = BY_KEY["T12"].value
    with pytest.raises(ConfigurationError, match="order T12, L1, L2"):
        cores_of("a", trunk.volume, swapped, False)
    case = replace(scan(trunk), labels=swapped)
    with pytest.raises(ConfigurationError, match="order T12, L1, L2"):
        LocalisationLearner([case], [case], LOCALISATION.plan, CPU)  # type: ignore[list-item]


def test_a_window_that_the_detector_cannot_halve_is_refused(trunk: Phantom) -> None:
    plan = replace(LOCALISATION.plan, settings={**LOCALISATION.plan.settings, "pixel_mm": 4.0})
    with pytest.raises(ConfigurationError, match="112 x 112 pixels; expected a multiple of 32"):
        LocalisationLearner([scan(trunk)], [scan(trunk)], plan, CPU)  # type: ignore[list-item]


def test_a_case_without_a_level_cannot_be_segmented_and_has_no_object_to_locate(trunk: Phantom) -> None:
    labels = np.where(trunk.labels == BY_KEY["L1"].value, 0, trunk.labels).astype(np.uint8)
    with pytest.raises(ConfigurationError, match="do not show L1"):
        cores_of("a", trunk.volume, labels, False)
    case = replace(scan(trunk), labels=labels)
    with pytest.raises(ConfigurationError, match="nothing to learn"):
        LocalisationLearner([case], [case], LOCALISATION.plan, CPU)  # type: ignore[list-item]


def test_three_pieces_a_vertebra_apart_are_levels_and_anything_else_is_not(trunk: Phantom) -> None:
    settings = Core(**SMALL)
    core = box_of(scan(trunk), settings).core  # type: ignore[arg-type]
    parts = parts_of(core, settings)
    assert len(parts) == 3
    assert levels_are_clear(parts, settings)
    heights = [np.argwhere(part)[:, 0].mean() for part in parts]
    assert heights == sorted(heights, reverse=True)
    assert not levels_are_clear(parts[:2], settings)
    assert not levels_are_clear([*parts, parts[0]], settings)
    assert not levels_are_clear([parts[0], parts[2], np.roll(parts[2], 1, axis=0)], settings)
    specked = core.copy()
    specked[2, 2, 2] = True
    assert len(parts_of(specked, settings)) == 3


def test_a_detection_one_vertebra_off_is_counted() -> None:
    place = Place(100.0, 205.0, 80.0, 130.0)
    off = Place(134.0, 239.0, 80.0, 130.0)
    figures = localisation_figures([place, place, None], [Detection(place, 0.9, 0), Detection(off, 0.9, 0), None])
    assert figures["one_level_off"] == 0.5
    assert figures["recall"] == figures["precision"] == 1.0
    assert figures["limit_error_mm"] == pytest.approx(17.0)
    assert overlap(place, off) == pytest.approx(71 / 139)
    none = localisation_figures([place, None], [None, Detection(off, 0.9, 0)])
    assert (none["overlap"], none["recall"], none["precision"]) == (0, 0, 0)


# geometry


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.6, 2.0, 3.1)])
def test_a_projection_keeps_heights_and_sides_in_millimetres(spacing_mm: tuple[float, float, float]) -> None:
    shape = tuple(round(length / step) for length, step in zip((200.0, 90.0, 160.0), spacing_mm, strict=True))
    volume = cubes(shape, spacing_mm)  # type: ignore[arg-type]
    mask = np.zeros(shape, bool)
    low, high, left = round(120 / spacing_mm[0]), round(160 / spacing_mm[0]), round(100 / spacing_mm[2])
    mask[low:high, 3:9, left:] = True
    volume.hu[mask] = 1200.0
    image = project(volume, 2.0)
    place = place_of(mask, spacing_mm, 0.0)
    assert place is not None
    seen = np.argwhere(image > 0.5)
    for end, value in zip((place.low_mm, place.first_mm), seen.min(axis=0) * 2.0, strict=True):
        assert value == pytest.approx(end, abs=2.0)
    assert (seen.max(axis=0)[0] + 1) * 2.0 == pytest.approx(place.high_mm, abs=2.0)
    assert image.max() <= 1.0
    assert place_of(np.zeros(shape, bool), spacing_mm, 1.0) is None


def test_the_published_box_is_rows_200_to_420_and_columns_180_to_330_of_512() -> None:
    window = lay(cubes((200, 512, 512), (1.25, PIXEL_MM, PIXEL_MM)), 100.0, 200.0, PUBLISHED)
    assert PUBLISHED.shape == (120, 220, 150)
    np.testing.assert_allclose(window.step, 1.0)
    np.testing.assert_allclose(window.start, [60.0, 200.0, 180.0], atol=1e-9)
    assert window.shown.sum() == 100 / 1.25 + 2 * 5


def test_grey_is_linear_from_minus_200_to_200_hu_and_zero_beyond_the_limits() -> None:
    volume = cubes((120, 60, 60), (1.25, 2.8, 2.8))
    for hu, grey in ((-300.0, 0.0), (-200.0, 0.0), (0.0, 0.5), (100.0, 0.75), (200.0, 1.0), (900.0, 1.0)):
        volume.hu[:] = hu
        window = lay(volume, 50.0, 100.0, Frame(60, 40, 30, 2.5, 2.8))
        found = grey_in(volume, window)
        assert found[30, 20, 15] == pytest.approx(grey, abs=1e-6)
        assert not found[~window.shown].any()
    assert window.shown.sum() == pytest.approx((50 + 2 * 6.25) / 2.5, abs=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_voxel_of_the_box_shows_the_place_it_stands_for(axis: int) -> None:
    volume = cubes((100, 90, 80), (2.0, 3.0, 4.0))
    lengths_mm = np.array(volume.hu.shape) * np.array(volume.spacing_mm)
    centres_mm = (np.arange(volume.hu.shape[axis]) + 0.5) * volume.spacing_mm[axis]
    volume.hu[:] = np.moveaxis(np.broadcast_to(centres_mm, np.moveaxis(volume.hu, axis, 2).shape), 2, axis)
    frame = Frame(20, 12, 10, 5.0, 6.0)
    hu = hu_in(volume, lay(volume, 90.0, 110.0, frame))
    middle_mm = (100.0, lengths_mm[1] / 2 + 54 * 0.7, lengths_mm[2] / 2 - 0.7)[axis]
    place_mm = middle_mm + (np.arange(frame.shape[axis]) + 0.5 - frame.shape[axis] / 2) * frame.spacing_mm[axis]
    line = np.moveaxis(hu, axis, 2)[5, 5]  # shown, whatever the other axes
    inside = (place_mm > 15) & (place_mm < lengths_mm[axis] - 15)  # smoothing reaches no edge there
    np.testing.assert_allclose(line[inside], place_mm[inside], atol=0.01)


def test_a_mask_comes_back_from_the_box_to_where_it_was(trunk: Phantom) -> None:
    mask = trunk.labels == BY_KEY["L1"].value
    for spacing in ((1.5, 1.5), (3.0, 3.0)):
        frame = Frame(round(150 / spacing[0]), round(154 / spacing[1]), round(105 / spacing[1]), *spacing)
        window = lay(trunk.volume, 60.0, 200.0, frame)
        again = back(mask_in(mask, window).astype(np.float32), window, mask.shape) >= 0.5
        where = [np.argwhere(one).mean(axis=0) for one in (mask, again)]
        np.testing.assert_allclose(where[0], where[1], atol=0.2)
        assert 2 * (mask & again).sum() / (mask.sum() + again.sum()) > 0.9


def test_a_box_beside_the_scan_is_empty_and_comes_back_empty(trunk: Phantom) -> None:
    window = lay(trunk.volume, 5000.0, 5100.0, Frame(**SMALL))
    assert not grey_in(trunk.volume, window).any()
    assert not mask_in(trunk.labels > 0, window).any()
    assert not back(np.ones(window.frame.shape, np.float32), window, trunk.volume.hu.shape).any()


def test_a_field_of_view_that_is_not_about_the_patient_is_refused(trunk: Phantom) -> None:
    aside = replace(
        trunk.volume, hu=np.pad(trunk.volume.hu, ((0, 0), (0, 0), (60, 0)), constant_values=-1000).astype(np.float32)
    )
    case = replace(scan(trunk), volume=aside, labels=np.pad(trunk.labels, ((0, 0), (0, 0), (60, 0))))
    with pytest.raises(ConfigurationError, match="does not hold T12 to L2"):
        box_of(case, Core(**SMALL))  # type: ignore[arg-type]


def test_whole_bodies_are_cut_to_their_cores_where_the_plan_says_so(trunk: Phantom) -> None:
    cores = cores_of("a", trunk.volume, trunk.bodies, True)
    bodies = np.isin(trunk.bodies, [BY_KEY[level].value for level in LEVELS])
    assert 0.02 < cores.sum() / bodies.sum() < 0.6
    assert not (cores & ~bodies).any()


# networks and losses


def test_anatomy_net_halves_its_picture_once_and_gives_it_back_whole() -> None:
    network = AnatomyNet().eval()
    sizes: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 8, 12, 10)).shape == (1, 1, 8, 12, 10)
    assert set(sizes) == {(4, 6, 5), (8, 12, 10)}
    strides = [m.stride for m in network.modules() if isinstance(m, torch.nn.Conv3d) and max(m.stride) > 1]
    assert strides == [(2, 2, 2)]


def test_published_configurations_are_the_defaults() -> None:
    core, density = settings_of(Core, CORE.plan), settings_of(Density, DENSITY.plan)
    assert core.frame.shape == density.core.frame.shape == (120, 220, 150)
    assert (density.loss, density.blocks, density.growth) == ("focal", "6,12,24,16", 32)
    assert (ALPHA, GAMMA, DENSITY.plan.learning_rate) == (0.6, 2.0, 3e-5)
    assert core.channels == 28


@pytest.mark.parametrize("share", [0.02, 0.25, 0.4, 0.6, 0.97])
def test_the_share_read_from_a_probability_is_the_one_whose_loss_it_minimises(share: float) -> None:
    def loss(logit: float) -> float:
        return float(soft_focal(torch.tensor([[0.0, logit]], dtype=torch.float64), torch.tensor([share])))

    best = optimize.minimize_scalar(loss, bounds=(-12.0, 12.0), method="bounded", options={"xatol": 1e-5}).x
    assert loss(best) < min(loss(best - 0.1), loss(best + 0.1))
    assert float(share_of(torch.tensor([[0.0, float(best)]]))) == pytest.approx(share, abs=1e-3)


def test_the_share_grows_with_the_probability_from_nothing_to_all() -> None:
    logits = torch.stack([torch.zeros(400), torch.linspace(-6, 6, 400)], dim=1)
    shares = share_of(logits)
    assert (shares.diff() > 0).all()
    assert float(shares[0]) < 1e-3
    assert float(shares[-1]) > 1 - 1e-3


def test_for_whole_classes_the_soft_focal_loss_is_the_published_one() -> None:
    logits = torch.tensor([[0.3, -0.4]])
    p = float(torch.softmax(logits, 1)[0, 1])
    assert float(soft_focal(logits, torch.tensor([1.0]))) == pytest.approx(-0.6 * (1 - p) ** 2 * math.log(p))
    assert float(soft_focal(logits, torch.tensor([0.0]))) == pytest.approx(-0.4 * p**2 * math.log(1 - p))


def test_perfect_maps_of_a_box_lose_nothing_and_give_the_box_back() -> None:
    box = torch.tensor([[4.0, 6.5, 20.0, 15.0]])
    rows, columns = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    sides = torch.stack([rows - 4.0, columns - 6.5, 20.0 - rows, 15.0 - columns])
    inside = (sides > 0).all(dim=0)
    maps = torch.cat([torch.where(inside, 30.0, -30.0)[None], sides * 4.0 / 50.0])[None]
    assert float(detection_loss(maps, box, torch.tensor([True]), 4.0)) < 1e-2
    [(score, found)] = candidates(maps[0].numpy(), 4.0, 0.5)
    assert score > 0.99
    np.testing.assert_allclose(found, box[0], atol=1e-4)
    empty = torch.full_like(box, float("nan"))
    assert math.isfinite(float(detection_loss(maps, empty, torch.tensor([False]), 4.0)))


def test_density_figures_are_those_of_the_paper_and_zero_for_whoever_says_the_mean() -> None:
    truth = np.array([60.0, 90.0, 120.0, 150.0])
    assert figures_of([105.0] * 4, truth)["determination"] == pytest.approx(0.0)
    shifted = figures_of(truth + 3.0, truth)
    assert (shifted["bias_mg_per_cm3"], shifted["r2"]) == (pytest.approx(3.0), pytest.approx(1.0))
    assert (shifted["low_limit_mg_per_cm3"], shifted["high_limit_mg_per_cm3"]) == (
        pytest.approx(3.0),
        pytest.approx(3.0),
    )
    assert set(figures_of([100.0], truth[:1])) == {"determination", "error_mg_per_cm3"}
    assert line_through([10.0, 20.0, 30.0], [5.0, 7.0, 9.0]) == (pytest.approx(0.2), pytest.approx(3.0))
    assert line_through([10.0, 10.0], [5.0, 7.0]) == (0.0, 6.0)


def test_a_setting_that_does_not_exist_or_is_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no setting slice"):
        settings_of(Core, Plan(steps=1, settings={"slice": 3}))
    with pytest.raises(ConfigurationError, match="setting slices is 'x'"):
        settings_of(Core, Plan(steps=1, settings={"slices": "x"}))
    with pytest.raises(ConfigurationError, match="bodies"):
        settings_of(Core, Plan(steps=1, settings={"bodies": 1}))
    for kind, name in ((Core, "batch"), (Density, "full_scale_mg_per_cm3"), (Localisation, "pixel_mm")):
        for value in (0, -1):
            with pytest.raises(ConfigurationError, match=f"setting {name} is {value}; expected a positive number"):
                settings_of(kind, Plan(steps=1, settings={name: value}))
    with pytest.raises(ConfigurationError, match="margin_mm"):
        settings_of(Core, Plan(steps=1, settings={"margin_mm": float("nan")}))
    assert settings_of(Core, Plan(steps=1, settings={"shift_mm": 0.0})).shift_mm == 0.0
    assert settings_of(Localisation, Plan(steps=1, settings={"pixel_mm": 2})).pixel_mm == 2
    assert plain(Localisation())["fold"] == 0
