"""What every density model refuses, fills and flags inside a mask."""

import numpy as np
import pytest

from fe.bone_scan import LEAST_METAL_VOXELS, metal_flags, without_cavities
from fe.box import box_around
from fe.errors import BadDensity, NotConverged, NotInBalance
from fe.gallery import synthetic_femur
from fe.load_cases import STANCE
from fe.outcome import BALANCE_LIMIT, balanced
from fe.sas import sas_strength
from fe.sas_model import SasSettings
from fe.sas_path import Steps
from fe.strength import femur_strength
from fe.vertebra import VertebraSettings, vertebra_strength
from fe.vertebra_specimen import synthetic_vertebra

VOXEL_MM = (3.0, 3.0, 3.0)


def ct2s(rho, mask):
    return femur_strength(rho, mask, VOXEL_MM, "R", element_mm=3.0, cases=(STANCE,))


def sas(rho, mask):
    quick = SasSettings(steps=Steps(increment_mm=0.1, tolerance=1e-4))
    return sas_strength(rho, mask, VOXEL_MM, "R", element_mm=4.0, settings=quick)


def vertebra(rho, mask):
    return vertebra_strength(rho, mask, VOXEL_MM, "L2", element_mm=8.0, settings=VertebraSettings(steps=2))


@pytest.fixture(scope="module")
def bones():
    femur, body = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0), synthetic_vertebra(VOXEL_MM)
    return {ct2s: femur, sas: femur, vertebra: body}


def inner_block(mask):
    """Return 8 voxels around the deepest one: in the middle of a bone, away from its surface."""
    middle = np.argwhere(mask)[mask.sum() // 2]
    block = np.zeros_like(mask)
    block[tuple(slice(place - 1, place + 1) for place in middle)] = True
    assert (block & mask).sum() == 8
    return block


@pytest.mark.parametrize("factor", [0.0, 1e-3])
@pytest.mark.parametrize("model", [ct2s, sas, vertebra])
def test_a_density_of_nothing_or_in_g_per_cm3_is_refused_with_its_unit(bones, model, factor):
    bone = bones[model]
    with pytest.raises(BadDensity, match="mg/cm3"):
        model(bone.rho_qct_mg_per_cm3 * factor, bone.mask)


@pytest.mark.parametrize("model", [ct2s, sas, vertebra])
def test_metal_and_cavities_inside_the_mask_are_flagged_with_their_size(bones, model):
    bone = bones[model]
    block = inner_block(bone.mask)
    result = model(np.where(block, 4000.0, bone.rho_qct_mg_per_cm3), bone.mask & ~block)
    found = {flag.code: flag for flag in result.flags}
    assert dict(found["metal"].evidence) == {"metal_mm3": 8 * 27.0, "pieces": 1.0}
    assert "the strength has no meaning" in found["metal"].sentence
    assert dict(found["cavities_filled"].evidence) == {"voxels": 8.0}
    plain = model(bone.rho_qct_mg_per_cm3, bone.mask)
    assert not {"metal", "cavities_filled"} & {flag.code for flag in plain.flags}


@pytest.mark.parametrize("model", [sas, vertebra])
def test_a_filled_cavity_leaves_the_strength_of_the_whole_bone(bones, model):
    bone = bones[model]
    pierced = bone.mask & ~inner_block(bone.mask)
    whole, filled = (model(bone.rho_qct_mg_per_cm3, mask).failure_load_n for mask in (bone.mask, pierced))
    assert filled == pytest.approx(whole, rel=1e-9)


def test_dense_cortex_noise_and_metal_outside_the_mask_are_no_metal():
    rho, mask = np.full((9, 9, 9), 1500.0), np.zeros((9, 9, 9), dtype=bool)
    mask[:6] = True
    rho[7:] = 5000.0
    rho[2, 2, 2 : 2 + LEAST_METAL_VOXELS - 1] = 5000.0
    assert not list(metal_flags(rho, mask, VOXEL_MM))
    rho[2, 2, 2 : 2 + LEAST_METAL_VOXELS] = 5000.0
    assert len(list(metal_flags(rho, mask, VOXEL_MM))) == 1


def test_a_cavity_is_closed_on_all_sides():
    mask = np.ones((5, 5, 5), dtype=bool)
    mask[2, 2, 2] = False
    assert without_cavities(mask).all()
    mask[2, 2, :] = False
    assert (without_cavities(mask) == mask).all()


@pytest.mark.parametrize("balance", [1.01 * BALANCE_LIMIT, np.nan])
def test_forces_that_do_not_add_up_to_nothing_are_no_solution(balance):
    assert balanced(BALANCE_LIMIT) == BALANCE_LIMIT
    with pytest.raises(NotInBalance, match="of the load instead of nothing") as caught:
        balanced(balance)
    assert isinstance(caught.value, NotConverged)


@pytest.mark.parametrize("model", [ct2s, sas, vertebra])
def test_every_model_holds_its_forces_against_the_limit(bones, model, monkeypatch):
    def refuse(balance, limit=BALANCE_LIMIT):
        raise NotInBalance(balance, limit)

    for place in ("fe.femur_failure", "fe.sas", "fe.vertebra"):
        monkeypatch.setattr(f"{place}.balanced", refuse)
    with pytest.raises(NotInBalance):
        model(bones[model].rho_qct_mg_per_cm3, bones[model].mask)


def test_a_box_holds_the_bone_and_its_margin_as_far_as_the_scan_goes() -> None:
    mask = np.zeros((9, 8, 7), dtype=bool)
    mask[2, 1, 3] = mask[4, 7, 3] = True
    assert box_around(mask) == (slice(2, 5), slice(1, 8), slice(3, 4))
    wide = mask[box_around(mask, 2)]
    assert wide.shape == (7, 8, 5)
    assert wide.sum() == 2
    assert mask[box_around(np.zeros_like(mask), 2)].size == 0
