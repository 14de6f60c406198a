"""The spine's density less what contrast agent adds: beside the measured value, with its evidence, or not at all."""

import numpy as np
import pytest
from test_densitometry_vertebra import RECORD

from inference.contrast_correction import ARTERIAL, PORTAL_VENOUS, correct_contrast
from inference.densitometry import Density, LumbarMean, lumbar_mean
from inference.quality import STUDY, QualityFlag, forbids_category

WHOLE = (slice(0, 1), slice(0, 1), slice(0, 1))
GIVEN = QualityFlag("contrast_given", STUDY, "Made.")


def seen(vessel_hu: float) -> QualityFlag:
    return QualityFlag("contrast_seen", STUDY, "Made.", (("vessel_hu", vessel_hu), ("vessel_length_mm", 90.0)))


def core(level: str, vbmd: float) -> Density:
    voi = np.ones((1, 1, 1), dtype=np.bool_)
    return Density(level, "trabecular_core", vbmd, vbmd, vbmd, 1.0, 0.0, 1.0, 5000.0, voi, WHOLE, (1, 1, 1))


CORES = (core("L1", 130.0), core("L2", 110.0))
MEAN = LumbarMean(120.0, ("L1", "L2"), None)


@pytest.mark.parametrize(("vessel_hu", "phase"), [(150.0, PORTAL_VENOUS), (199.0, PORTAL_VENOUS), (320.0, ARTERIAL)])
def test_the_mean_rise_of_the_phase_is_taken_off_by_the_scans_own_slope(vessel_hu: float, phase: object) -> None:
    corrected = correct_contrast(CORES, MEAN, RECORD, (seen(vessel_hu),))
    assert corrected.phase is phase
    rise = {PORTAL_VENOUS: 18.2, ARTERIAL: 13.5}[corrected.phase] * RECORD.slope_mg_per_cm3_per_hu  # [Pompe2015]
    for level, measured in (("L1", 130.0), ("L2", 110.0)):
        value = corrected.of_core(level)
        assert value is not None
        assert value.vbmd_mg_per_cm3 == pytest.approx(measured - rise)
        assert value.low_mg_per_cm3 <= value.vbmd_mg_per_cm3 <= value.high_mg_per_cm3 < measured
    assert corrected.lumbar is not None
    assert corrected.lumbar.vbmd_mg_per_cm3 == pytest.approx(120.0 - rise)


def test_the_flag_names_source_and_enhancement_and_forbids_a_category() -> None:
    (flag,) = correct_contrast(CORES, MEAN, RECORD, (seen(150.0), GIVEN)).flags
    assert flag.code == "contrast_corrected"
    assert "Pompe 2015" in flag.sentence
    assert "150 HU" in flag.sentence
    assert dict(flag.evidence) | {"vessel_hu": 150.0, "phase": "portal venous"} == dict(flag.evidence)
    assert forbids_category((flag,), "L1")


def test_contrast_that_no_vessel_shows_is_not_corrected_and_said() -> None:
    corrected = correct_contrast(CORES, MEAN, RECORD, (GIVEN,))
    assert (corrected.cores, corrected.lumbar) == ((), None)
    assert [flag.code for flag in corrected.flags] == ["no_contrast_correction"]


@pytest.mark.parametrize("flags", [(), (QualityFlag("noisy", STUDY, "Made."),)])
def test_without_contrast_nothing_is_corrected_and_nothing_said(flags: tuple[QualityFlag, ...]) -> None:
    corrected = correct_contrast(CORES, MEAN, RECORD, flags)
    assert (corrected.cores, corrected.lumbar, corrected.flags) == ((), None, ())


def test_the_measured_mean_and_its_missing_category_stay_as_they_are() -> None:
    flags = (seen(300.0),)
    before = lumbar_mean(CORES, RECORD, flags)
    after = lumbar_mean(CORES, RECORD, (*flags, *correct_contrast(CORES, before, RECORD, flags).flags))
    assert before is not None
    assert after is not None
    assert (before.vbmd_mg_per_cm3, before.category) == (after.vbmd_mg_per_cm3, after.category) == (120.0, None)
