"""Calibration by the patient's own tissues: right within what it states, and off where it is not sure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rod_phantom import RODS, Scene, scan

from inference.attenuation import TISSUES, hu_of, mass_attenuation_cm2_per_g
from inference.calibration import DEFAULT_CALIBRATION, CalibrationRecord, rho_qct_mg_per_cm3
from inference.internal_calibration import InternalLine, internal_line
from inference.quality import STUDY, QualityFlag
from inference.scan_calibration import calibrate_scan
from inference.segmentation import ClassicalSegmenter
from inference.tissues import check_contrast, sample_tissues
from inference.volume import Acquisition, Volume, canonical

# NIST's tables list these at 60 keV, cm2/g [Hubbell2004]: an independent check of the table's making.
NIST_60_KEV = {"water": 0.2059, "air": 0.1875, "muscle": 0.2048, "blood": 0.2057, "cortical_bone": 0.3148}

UNCALIBRATED = QualityFlag("uncalibrated", STUDY, "Not calibrated.")


@pytest.mark.parametrize(("material", "expected"), NIST_60_KEV.items())
def test_coefficients_agree_with_nist_tables(material: str, expected: float) -> None:
    assert mass_attenuation_cm2_per_g(material, 60.0) == pytest.approx(expected, abs=1e-4)


def ideal(energy_kev: float) -> dict[str, float]:
    return {key: hu_of(tissue, energy_kev) for key, tissue in TISSUES.items()}


def density_at(line: InternalLine, hu: float) -> float:
    return line.intercept_mg_per_cm3 + line.slope_mg_per_cm3_per_hu * hu


def test_ideal_tissues_at_the_usual_energy_give_the_line_of_a_solution() -> None:
    # sigma = (mu/rho of K2HPO4) / (mu/rho of water) - 0.2174, offset -0.4 HU, at 66 keV.
    line = internal_line(ideal(66.0), 120.0)
    assert line is not None
    sigma = mass_attenuation_cm2_per_g("K2HPO4", 66.0) / mass_attenuation_cm2_per_g("water", 66.0) - 0.2174
    assert density_at(line, 150.0) == pytest.approx(150.4 / sigma, abs=0.1)
    assert line.energy_kev == pytest.approx(66.0, abs=0.1)


@pytest.mark.parametrize("energy_kev", [62.0, 66.0, 70.0])
def test_the_error_over_many_patients_is_what_the_standard_error_says(energy_kev: float) -> None:
    rng = np.random.default_rng(3)
    truth = mass_attenuation_cm2_per_g("K2HPO4", energy_kev) / mass_attenuation_cm2_per_g("water", energy_kev) - 0.2174
    errors, stated = [], []
    for _ in range(60):
        hu = {
            key: (value + 1000) * (1 + rng.normal(0, TISSUES[key].spread)) - 1000
            for key, value in ideal(energy_kev).items()
        }
        line = internal_line(hu, 120.0)
        assert line is not None
        errors.append(density_at(line, 150.0) - 150.4 / truth)
        stated.append(line.standard_error_mg_per_cm3)
    assert np.sqrt(np.mean(np.square(errors))) < 1.2 * np.mean(stated)
    assert 5.0 < np.mean(stated) < 12.0


def test_a_shifted_scale_is_undone() -> None:
    shifted = {key: value + 10.0 for key, value in ideal(66.0).items()}
    line, straight = internal_line(shifted, 120.0), internal_line(ideal(66.0), 120.0)
    assert line is not None
    assert straight is not None
    # Soft tissues are trusted to 10 HU and the scanner's offset to 5 HU, so most, not all, of the shift is undone.
    assert density_at(line, 160.0) - density_at(straight, 150.0) == pytest.approx(0.0, abs=4.0)


def test_a_tissue_that_is_none_is_noticed() -> None:
    line = internal_line({**ideal(66.0), "muscle": 140.0}, 120.0)
    assert line is not None
    assert not line.is_plausible


@pytest.mark.parametrize("kvp", [None, 40.0, 300.0])
def test_without_a_usual_voltage_there_is_no_line(kvp: float | None) -> None:
    assert internal_line(ideal(66.0), kvp) is None


@pytest.mark.parametrize("missing", ["air", "adipose", "muscle"])
def test_without_a_needed_tissue_there_is_no_line(missing: str) -> None:
    assert internal_line({key: value for key, value in ideal(66.0).items() if key != missing}, 120.0) is None


@pytest.fixture(scope="module")
def labelled(patient_ct: tuple[Volume, Any]) -> tuple[Volume, NDArray[np.uint8]]:
    """The public patient, upright, with the bones found."""
    upright, _ = canonical(patient_ct[0])
    return upright, ClassicalSegmenter().segment(upright).labels


def test_a_real_patients_tissues_are_where_people_have_them(labelled: tuple[Volume, NDArray[np.uint8]]) -> None:
    samples = sample_tissues(*labelled, ["femur_right"])
    line = internal_line({key: sample.hu for key, sample in samples.items()}, 120.0)
    assert set(samples) == {"air", "adipose", "muscle", "cortical_bone"}
    assert line is not None
    assert line.is_plausible
    assert 60.0 < line.energy_kev < 72.0
    assert samples["muscle"].hu == pytest.approx(46.0, abs=12.0)


def test_a_nail_is_not_cortex(labelled: tuple[Volume, NDArray[np.uint8]]) -> None:
    assert sample_tissues(*labelled, ["femur_right"])["cortical_bone"].hu < 1500.0
    assert sample_tissues(*labelled, ["femur_left"])["cortical_bone"].hu > 2000.0


def test_an_unenhanced_patient_shows_no_contrast_and_an_enhanced_chest_does(
    labelled: tuple[Volume, NDArray[np.uint8]], chest_ct: tuple[Volume, Any]
) -> None:
    assert check_contrast(*labelled) is None
    chest, _ = canonical(chest_ct[0])
    flag = check_contrast(chest, ClassicalSegmenter().segment(chest).labels)
    assert flag is not None
    assert flag.code == "contrast_seen"
    assert flag.definition.forbids_category


def calibrated(volume: Volume, labels: NDArray[np.uint8], **choice: Any) -> tuple[CalibrationRecord, Mapping[str, Any]]:
    given = {"record": DEFAULT_CALIBRATION, "flags": (UNCALIBRATED,), "may_use_tissues": True} | choice
    record, flags = calibrate_scan(volume, labels, **given)
    return record, {flag.code: flag for flag in flags}


def test_tissues_are_used_only_where_the_site_allows_it(labelled: tuple[Volume, NDArray[np.uint8]]) -> None:
    nail = QualityFlag("metal", "femur_left", "Metal.")
    record, flags = calibrated(*labelled, flags=(UNCALIBRATED, nail))
    assert not record.is_default
    assert set(flags) == {"internal_calibration", "metal"}
    record, flags = calibrated(*labelled, flags=(UNCALIBRATED, nail), may_use_tissues=False)
    assert record is DEFAULT_CALIBRATION
    assert set(flags) == {"uncalibrated", "metal"}


def test_tissues_that_do_not_fit_together_are_not_used(labelled: tuple[Volume, NDArray[np.uint8]]) -> None:
    # The nail taken for cortex: 3100 HU are no bone at any energy.
    record, flags = calibrated(*labelled)
    assert record is DEFAULT_CALIBRATION
    assert set(flags) == {"uncalibrated"}


def test_with_contrast_agent_the_tissues_are_no_reference(labelled: tuple[Volume, NDArray[np.uint8]]) -> None:
    contrast = QualityFlag("contrast_seen", STUDY, "A vessel is bright.")
    record, flags = calibrated(*labelled, flags=(UNCALIBRATED, contrast))
    assert record is DEFAULT_CALIBRATION
    assert "uncalibrated" in flags


def test_a_record_goes_before_the_tissues(labelled: tuple[Volume, NDArray[np.uint8]]) -> None:
    known = replace(DEFAULT_CALIBRATION, record_id="scanner 1", is_default=False)
    record, flags = calibrated(*labelled, record=known, flags=())
    assert record is known
    assert not flags


def test_a_phantom_in_the_scan_goes_before_a_record() -> None:
    volume = scan(Scene())
    known = replace(DEFAULT_CALIBRATION, record_id="scanner 1", is_default=False)
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    record, flags = calibrated(volume, labels, record=known, flags=(), phantoms=[RODS])
    assert record.phantom == RODS.name
    assert float(rho_qct_mg_per_cm3(134.0, record)) == pytest.approx(100.0, abs=1.0)
    assert not flags


def test_an_empty_volume_keeps_the_default() -> None:
    volume = Volume(
        np.full((4, 20, 20), -1000.0, dtype=np.float32),
        np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]],
        acquisition=Acquisition(kvp=120.0),
    )
    record, flags = calibrated(volume, np.zeros(volume.hu.shape, dtype=np.uint8))
    assert record is DEFAULT_CALIBRATION
    assert set(flags) == {"uncalibrated"}
