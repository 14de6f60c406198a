"""A phantom in the scan: found wherever it lies, read within its error, and never seen where there is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rod_phantom import RODS, Scene, scan
from scipy import ndimage

from inference.calibration import rho_qct_mg_per_cm3
from inference.errors import CalibrationError
from inference.phantom import Phantom, calibrate_from_phantom, phantoms_from_json
from inference.volume import Orientation, Volume
from tests.density_phantom import RODS as DENSITY_RODS
from tests.density_phantom import Scene as DensityScene
from tests.density_phantom import hu_of
from tests.density_phantom import scan as density_scan

TRUE_SLOPE = 1 / 1.4
TRUE_INTERCEPT = 6.0 / 1.4
LIMIT_MG_PER_CM3 = 1.0
"""Goal of the bias on a digital phantom."""

SCENES = {
    "usual": Scene(),
    "low dose": Scene(noise_hu=50.0),
    "soft kernel, thick slices": Scene(blur_mm=1.5, slice_mm=5.0),
    "tilted the other way, thicker rods": Scene(tilt_deg=-4.0, radius_mm=10.0, spacing_mm=42.0),
    "turned round on the table": Scene(is_reversed=True),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_line_of_a_phantom_is_found_within_a_milligram(name: str) -> None:
    found = calibrate_from_phantom(scan(SCENES[name]), [RODS])
    assert found is not None
    assert found.is_reversed == SCENES[name].is_reversed
    record = found.record()
    for hu in (0.0, 100.0, 250.0):
        expected = TRUE_INTERCEPT + TRUE_SLOPE * hu
        assert float(rho_qct_mg_per_cm3(hu, record)) == pytest.approx(expected, abs=LIMIT_MG_PER_CM3)
    assert record.material == "HA"
    assert not record.is_default


def test_a_flipped_array_gives_the_same_line() -> None:
    volume = scan(Scene())
    orientation = Orientation((0, 1, 2), (True, True, True))
    affine = volume.affine_lps @ np.diag([-1.0, -1.0, -1.0, 1.0])
    affine[:3, 3] += volume.affine_lps[:3, :3] @ (np.array(volume.hu.shape) - 1)
    turned = replace(volume, hu=np.ascontiguousarray(orientation.apply(volume.hu)), affine_lps=affine)
    one, other = (calibrate_from_phantom(each, [RODS]) for each in (volume, turned))
    assert one is not None
    assert other is not None
    assert other.hu == pytest.approx(one.hu)


def test_no_phantom_in_view_is_none() -> None:
    assert calibrate_from_phantom(scan(Scene(has_phantom=False)), [RODS]) is None


def test_a_phantom_with_another_certificate_is_not_taken_for_this_one() -> None:
    other = Phantom("Another", "HA", (0.0, 400.0, 50.0, 200.0, 100.0))
    assert calibrate_from_phantom(scan(Scene()), [other]) is None


def test_rods_that_fit_two_certificates_of_different_density_are_refused() -> None:
    double = Phantom("Twice as dense", "HA", tuple(2 * one for one in RODS.density_mg_per_cm3))
    with pytest.raises(CalibrationError, match="keep only the phantom"):
        calibrate_from_phantom(scan(Scene(sensitivity_hu=1.6)), [RODS, double])


def test_a_solution_of_k2hpo4_is_corrected_for_the_water_it_displaces() -> None:
    # One solution of 200 mg/cm3 displaces 0.2174 cm3/g of water: its CT number rises by (sigma_ref - 0.2174) a mg.
    phantom = Phantom("Mindways", "K2HPO4", (-50.0, 0.0, 60.0, 160.0, 370.0), (1012.0, 1000.0, 1050.0, 1100.0, 920.0))
    sigma_ref, beta_ref = 1.6, -1003.0
    hu = tuple(
        w + sigma_ref * d + beta_ref for d, w in zip(phantom.density_mg_per_cm3, phantom.water_mg_per_cm3, strict=True)
    )
    seen = Phantom("As HU", "K2HPO4", tuple((one + 6.0) / 1.4 for one in hu))
    found = calibrate_from_phantom(scan(Scene(), seen), [phantom])
    assert found is not None
    sigma, beta = sigma_ref - 0.2174, beta_ref + 999.6
    assert float(rho_qct_mg_per_cm3(150.0, found.record())) == pytest.approx((150.0 - beta) / sigma, abs=2.0)
    fitted = [float(rho_qct_mg_per_cm3(one, found.record())) for one in found.equivalent_hu]
    assert fitted == pytest.approx(phantom.density_mg_per_cm3, abs=2.0)


GOOD = {"name": "QCT 1", "material": "HA", "rods": [{"density_mg_per_cm3": one} for one in (0, 100, 200)]}


def test_a_certificate_is_read() -> None:
    assert phantoms_from_json(json.dumps([GOOD])) == (Phantom("QCT 1", "HA", (0.0, 100.0, 200.0)),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not JSON"),
        ("{}", "expected a list"),
        (json.dumps([{**GOOD, "kvp": 120}]), "other fields"),
        (json.dumps([{**GOOD, "name": " "}]), "no name"),
        (json.dumps([{**GOOD, "material": "water"}]), "unknown material"),
        (json.dumps([{**GOOD, "rods": GOOD["rods"][:2]}]), "3 to 8 rods"),  # type: ignore[index]
        (json.dumps([{**GOOD, "rods": [{"density_mg_per_cm3": one} for one in (0, 0.1, 0.2)]}]), "Check the unit"),
        (json.dumps([{**GOOD, "rods": [{"density_mg_per_cm3": one} for one in (0, 100, 9000)]}]), "outside -200"),
        (
            json.dumps([{**GOOD, "rods": [*GOOD["rods"], {"density_mg_per_cm3": 5, "water_mg_per_cm3": 1000}]}]),
            "different fields",
        ),  # type: ignore[misc]
    ],
)
def test_a_wrong_certificate_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(CalibrationError, match=sentence):
        phantoms_from_json(text)


SPINE = Phantom("European Spine Phantom", "HA", (50.0, 100.0, 200.0), shape="spine")


def spine_scan(noise_hu: float = 15.0, sensitivity_hu: float = 1.4, slice_mm: float = 2.0) -> Volume:
    """Three vertebrae with shells and a spinal canal in a cylinder of plastic, along the table."""
    z, y, x = np.mgrid[: int(100 / slice_mm), :180, :180].astype(float)
    z *= slice_mm
    image = np.full(z.shape, -1000.0)
    image[np.hypot((x - 90) / 80, (y - 90) / 70) < 1] = 0.0
    for number, density in enumerate((100.0, 200.0, 50.0)):
        level = abs(z - 18 - 32 * number) < 13
        body, canal = np.hypot(x - 90, y - 75), np.hypot(x - 90, y - 105)
        image[level & ((body < 20) | (canal < 14))] = 560.0
        image[level & (canal < 10)] = 0.0
        image[(abs(z - 18 - 32 * number) < 10) & (body < 17)] = 5.0 + sensitivity_hu * density
    image = ndimage.gaussian_filter(image, [0.6 / slice_mm, 0.6, 0.6])
    hu = (image + np.random.default_rng(1).normal(0, noise_hu, image.shape)).astype(np.float32)
    affine = np.array([[0, 0, 1.0, -90], [0, 1.0, 0, -90], [slice_mm, 0, 0, 0], [0, 0, 0, 1]])
    return Volume(hu, affine)


@pytest.mark.parametrize("slice_mm", [1.0, 2.0, 3.0])
def test_a_spine_phantom_is_read_within_a_milligram(slice_mm: float) -> None:
    found = calibrate_from_phantom(spine_scan(slice_mm=slice_mm), [SPINE])
    assert found is not None
    for density in (0.0, 80.0, 120.0, 200.0):
        hu = 5.0 + 1.4 * density
        assert float(rho_qct_mg_per_cm3(hu, found.record())) == pytest.approx(density, abs=LIMIT_MG_PER_CM3)


def test_a_patients_spine_is_no_spine_phantom(patient_ct: tuple[Volume, object]) -> None:
    assert calibrate_from_phantom(patient_ct[0], [SPINE]) is None


def test_the_certificates_order_of_the_vertebrae_does_not_matter() -> None:
    turned = Phantom("European Spine Phantom", "HA", (200.0, 50.0, 100.0), shape="spine")
    one, other = (calibrate_from_phantom(spine_scan(), [phantom]) for phantom in (SPINE, turned))
    assert one is not None
    assert other is not None
    assert other.slope_mg_per_cm3_per_hu == pytest.approx(one.slope_mg_per_cm3_per_hu)
    assert sorted(other.hu) == pytest.approx(sorted(one.hu))


def test_rods_are_found_though_a_row_of_circles_fits_into_the_air_below_the_pad() -> None:
    volume, _ = density_scan(DensityScene(slice_mm=3.0))
    found = calibrate_from_phantom(volume, [DENSITY_RODS])
    assert found is not None
    assert found.hu == pytest.approx([hu_of(one) for one in DENSITY_RODS.density_mg_per_cm3], abs=2.0)
