"""Masks one and two voxels thinner and thicker, for the directions that govern a femur's strength."""

from functools import partial

import pytest

from fe.femur import FemurSettings, held_distal_nodes
from fe.femur_body import Scan
from fe.femur_bricks import brick_femur
from fe.femur_sensitivity import femur_sensitivity, governing_cases
from fe.gallery import synthetic_femur
from fe.load_cases import SIDEWAYS_FALL, STANCE, LoadCase
from fe.material import ASH_SCHILEO_2008, MORGAN_2003_FEMORAL_NECK, youngs_modulus_mpa
from fe.strength import FemurStrength, femur_strength
from fe.voxel.grid import density_grid
from fe.voxel.numbering import number_voxels

VOXEL_MM = (3.0, 3.0, 3.0)
SECOND_FALL = LoadCase("flat", "fall", 0.0, 0.0, "a second direction")
FEMUR = synthetic_femur("R", VOXEL_MM, shaft_mm=35.0)
"""So short that the held end comes near the trochanter."""


@pytest.fixture(scope="module")
def strength() -> FemurStrength:
    cases = (STANCE, SIDEWAYS_FALL, SECOND_FALL)
    return femur_strength(FEMUR.rho_qct_mg_per_cm3, FEMUR.mask, VOXEL_MM, "R", element_mm=3.0, cases=cases)


def test_the_weakest_and_the_strongest_direction_of_each_kind_govern(strength: FemurStrength) -> None:
    governing = governing_cases(strength)
    assert list(governing) == ["stance_minimum", "stance_maximum", "fall_minimum", "fall_maximum"]
    assert governing["stance_minimum"] is governing["stance_maximum"]
    assert governing["fall_minimum"].failure_load_n < governing["fall_maximum"].failure_load_n


def test_a_thinner_bone_is_weaker_and_the_given_mask_keeps_its_strength(strength: FemurStrength) -> None:
    found = femur_sensitivity(strength, FEMUR.rho_qct_mg_per_cm3, FEMUR.mask, VOXEL_MM)
    by_step = {step.step_voxels: step.strengths_n for step in found.steps}
    assert by_step[0] == {name: case.failure_load_n for name, case in governing_cases(strength).items()}
    assert by_step[-1]["stance_minimum"] < by_step[0]["stance_minimum"]
    assert set(by_step[2]) == set(by_step[0]), "thicker by two voxels, the trochanter reaches the held end"


def test_changed_masks_keep_the_lattice_of_the_given_one(strength: FemurStrength) -> None:
    same = femur_strength(
        FEMUR.rho_qct_mg_per_cm3,
        FEMUR.mask,
        VOXEL_MM,
        "R",
        element_mm=3.0,
        lattice_mm=tuple(strength.affine_mm[:3, 3]),
        cases=(STANCE,),
    )
    assert same.cases[0].failure_load_n == pytest.approx(strength.cases[0].failure_load_n, rel=1e-3)
    assert same.facts.element_count == strength.facts.element_count


def test_what_is_held_is_no_surface_that_could_be_loaded() -> None:
    grid = density_grid(FEMUR.rho_qct_mg_per_cm3, FEMUR.mask, VOXEL_MM, 3.0)
    law = partial(youngs_modulus_mpa, to_ash=ASH_SCHILEO_2008, law=MORGAN_2003_FEMORAL_NECK)
    body = brick_femur(Scan(FEMUR.rho_qct_mg_per_cm3, FEMUR.mask, VOXEL_MM), grid, law, FemurSettings())
    held = held_distal_nodes(grid, number_voxels(grid.is_bone), FemurSettings())
    assert held.any()
    assert not held[body.surface_nodes].any()
