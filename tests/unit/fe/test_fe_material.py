"""Density laws against their published numbers."""

import numpy as np
import pytest

from fe.material import (
    ASH_SCHILEO_2008,
    MORGAN_2003_FEMORAL_NECK,
    ModulusLaw,
    apparent_from_ash,
    g_from_mg_per_cm3,
    youngs_modulus_mpa,
)


def test_one_gram_of_apparent_density_has_the_published_modulus():
    rho_qct = (600.0 - 79.0) / 0.877  # rho_ash 0.6 g/cm3, so rho_app 1 g/cm3
    assert youngs_modulus_mpa(np.array([rho_qct]), ASH_SCHILEO_2008)[0] == pytest.approx(6850.0, rel=1e-12)


def test_the_modulus_grows_with_the_published_exponent():
    rho_qct = np.array([400.0, 800.0])
    rho_ash = 0.877 * rho_qct + 79.0
    modulus = youngs_modulus_mpa(rho_qct, ASH_SCHILEO_2008)
    slope = np.log(modulus[1] / modulus[0]) / np.log(rho_ash[1] / rho_ash[0])
    assert slope == pytest.approx(1.49, rel=1e-12)


def test_densities_below_zero_get_the_floor_and_huge_ones_the_ceiling():
    law = MORGAN_2003_FEMORAL_NECK
    modulus = youngs_modulus_mpa(np.array([-800.0, 9000.0]), ASH_SCHILEO_2008)
    np.testing.assert_array_equal(modulus, (law.minimum_mpa, law.maximum_mpa))


def test_the_door_between_units_divides_by_a_thousand_and_ash_is_six_tenths_of_apparent():
    assert g_from_mg_per_cm3(np.array([250.0]))[0] == pytest.approx(0.25)
    assert apparent_from_ash(np.array([0.3]))[0] == pytest.approx(0.5)


def test_any_function_may_replace_the_ash_line():
    law = ModulusLaw(1000.0, 1.0, 1.0, 1e6, "test")
    assert youngs_modulus_mpa(np.array([500.0]), lambda rho: rho * 1.2, law)[0] == pytest.approx(1000.0)
