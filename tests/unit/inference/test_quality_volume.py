"""A volume that is not what the numbers need is flagged, with evidence; one that is, is not."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from volume_factories import make_body, make_volume

from inference.quality import STUDY, forbids_category, forbids_density, forbids_strength
from inference.slice_continuity import gap_planes
from inference.volume import Volume
from inference.volume_checks import check_volume, implausible_hu, noise_of, scale_by_tissue

PLAIN = {"manufacturer": "SIEMENS", "convolution_kernel": "B30s", "patient_position": "HFS", "slice_thickness_mm": 2.0}


def codes(volume: Volume) -> list[str]:
    flags = check_volume(volume)
    assert all(flag.subject == STUDY and flag.sentence.isascii() and flag.sentence.endswith(".") for flag in flags)
    return [flag.code for flag in flags]


def test_a_plain_scan_has_no_flag() -> None:
    assert codes(make_volume(make_body(), **PLAIN)) == []


@pytest.mark.parametrize(
    ("spacing_mm", "thickness_mm", "expected"),
    [
        ((3.0, 1.0, 1.0), 3.0, []),
        ((2.0, 1.0, 1.0), 5.0, ["thick_slices"]),
        ((4.0, 1.0, 1.0), None, ["thick_slices"]),
        ((6.0, 1.0, 1.0), 6.0, ["thick_slices", "voxels_too_coarse"]),
        ((3.0, 3.0, 3.0), 3.0, ["coarse_voxels"]),
    ],
)
def test_coarse_voxels_are_flagged_by_what_they_forbid(
    spacing_mm: tuple[float, float, float], thickness_mm: float | None, expected: list[str]
) -> None:
    volume = make_volume(make_body(), spacing_mm, **{**PLAIN, "slice_thickness_mm": thickness_mm})
    assert codes(volume) == expected


@pytest.mark.parametrize(
    ("manufacturer", "kernel", "expected"),
    [
        ("SIEMENS", "B30s", []),
        ("SIEMENS", "Br40d\\3", []),
        ("Siemens Healthineers", "Hr60f", ["sharp_kernel"]),
        ("GE MEDICAL SYSTEMS", "STANDARD", []),
        ("GE MEDICAL SYSTEMS", "BONEPLUS", ["sharp_kernel"]),
        ("TOSHIBA", "FC08", []),
        ("Canon Medical", "FC52", ["sharp_kernel"]),
        ("Philips", "B", []),
        ("Philips", "YC", ["sharp_kernel"]),
        ("Unheard of", "B", ["unknown_kernel"]),
        ("SIEMENS", "", ["unknown_kernel"]),
    ],
)
def test_kernels_are_told_apart_and_never_guessed(manufacturer: str, kernel: str, expected: list[str]) -> None:
    volume = make_volume(make_body(), **{**PLAIN, "manufacturer": manufacturer, "convolution_kernel": kernel})
    assert codes(volume) == expected


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"contrast_agent": "Iodine"}, "contrast_given"),
        ({"patient_position": "HFP"}, "wrong_position"),
        ({"patient_position": "FFS"}, "wrong_position"),
        ({"image_type": ("DERIVED", "SECONDARY")}, "derived_images"),
    ],
)
def test_the_header_is_heard(attributes: dict[str, object], code: str) -> None:
    assert codes(make_volume(make_body(), **{**PLAIN, **attributes})) == [code]


@pytest.mark.parametrize(
    "image_type",
    [
        ("ORIGINAL", "PRIMARY", "AXIAL", "VMI"),
        ("ORIGINAL", "PRIMARY", "VOLUME", "MAT_REMOVED"),
        ("ORIGINAL", "PRIMARY", "AXIAL", "MONO_40_KEV"),
        ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI", "MONOENERGETIC"),
        ("ORIGINAL", "PRIMARY", "AXIAL", "GSI MONO"),
        ("ORIGINAL", "PRIMARY", "AXIAL", "VNC"),
        ("original", "primary", "virtual non-calcium"),
    ],
)
def test_spectral_images_get_no_number(image_type: tuple[str, ...]) -> None:
    flags = check_volume(make_volume(make_body(), **{**PLAIN, "image_type": image_type}))
    assert [flag.code for flag in flags] == ["spectral_images"]
    assert forbids_density(flags, "L1")
    assert forbids_strength(flags, "femur_left")
    assert forbids_category(flags, "L1")


@pytest.mark.parametrize(
    "image_type",
    [
        (),
        ("ORIGINAL", "PRIMARY", "AXIAL"),
        ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"),
        ("ORIGINAL", "PRIMARY", "AXIAL", "HELIX"),
        ("ORIGINAL", "PRIMARY", "VOLUME", "ENERGY_PROP_WT"),
        ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI DUAL"),
    ],
)
def test_images_of_a_tube_voltage_are_not_taken_for_spectral_ones(image_type: tuple[str, ...]) -> None:
    assert codes(make_volume(make_body(), **{**PLAIN, "image_type": image_type})) == []


def test_header_text_that_is_not_ascii_does_not_reach_a_sentence() -> None:
    assert codes(make_volume(make_body(), **{**PLAIN, "convolution_kernel": "K\u00f6rnig"})) == ["unknown_kernel"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda hu: hu + 1024,
        lambda hu: hu - 200,
        lambda hu: hu * 0.5,
        lambda hu: hu * 0.9,
        lambda hu: np.maximum(hu, -200),
        lambda hu: np.full_like(hu, -1024),
        lambda hu: np.where(hu > -500, 1500, hu),
    ],
    ids=["no intercept", "shifted", "half slope", "nine tenths", "no air", "nothing at all", "only metal"],
)
def test_values_off_the_hounsfield_scale_are_flagged(spoil) -> None:  # type: ignore[no-untyped-def]
    assert "implausible_hu" in codes(make_volume(spoil(make_body()), **PLAIN))


def inside_a_body(lung_share: float = 0.0) -> NDArray[np.float32]:
    """A field of fat and muscle without any air around it; a part of it is lung."""
    generator = np.random.default_rng(3)
    hu = np.where(generator.random((40, 60, 60)) < 0.3, -100.0, 45.0) + generator.normal(0, 15, (40, 60, 60))
    hu[:, : int(60 * lung_share)] = -900 + generator.normal(0, 40, (40, int(60 * lung_share), 60))
    return hu.astype(np.float32)


@pytest.mark.parametrize("lung_share", [0.0, 0.2])
def test_a_field_inside_the_body_is_checked_on_fat_and_muscle(lung_share: float) -> None:
    found = [check(make_volume(inside_a_body(lung_share), **PLAIN)) for check in (implausible_hu, scale_by_tissue)]
    assert found[0] is None
    assert found[1] is not None
    assert found[1].definition.forbids_category
    assert not found[1].definition.forbids_density


@pytest.mark.parametrize(
    "spoil",
    [lambda hu: hu + 40, lambda hu: hu - 40, lambda hu: hu + 1024, lambda hu: hu * 1.5, lambda hu: np.maximum(hu, 0)],
)
def test_a_field_inside_the_body_with_another_scale_is_refused(spoil) -> None:  # type: ignore[no-untyped-def]
    found = implausible_hu(make_volume(spoil(inside_a_body()), **PLAIN))
    assert found is not None
    assert scale_by_tissue(make_volume(spoil(inside_a_body()), **PLAIN)) is None


def test_air_around_the_body_must_be_right_even_where_fat_and_muscle_are() -> None:
    hu = np.full((40, 100, 100), -1000.0, np.float32)
    hu[:, 20:80, 20:80] = inside_a_body()
    assert implausible_hu(make_volume(hu, **PLAIN)) is None
    assert implausible_hu(make_volume(hu * np.float32(0.93), **PLAIN)) is not None


def test_padding_is_not_taken_for_air() -> None:
    hu = make_body()
    hu[hu < -500] = -1024
    assert codes(make_volume(hu, **PLAIN)) == ["implausible_hu"]


def test_noise_is_estimated_and_flagged() -> None:
    quiet, loud = (make_volume(make_body(noise_hu=noise), **PLAIN) for noise in (20.0, 40.0))
    assert noise_of(quiet) == pytest.approx(20.0, rel=0.05)
    assert noise_of(loud) == pytest.approx(40.0, rel=0.15)
    assert codes(make_volume(make_body(noise_hu=120.0, shape=(40, 120, 120)), **PLAIN)) == ["noisy"]


def test_a_volume_turned_far_from_the_axes_is_flagged() -> None:
    turn = np.radians(30.0)
    volume = make_volume(make_body(), (1.0, 1.0, 1.0), **PLAIN)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert codes(replace(volume, affine_lps=rotation @ volume.affine_lps)) == ["oblique_volume"]


@pytest.mark.parametrize("tilt_slices", [0, 3])
@pytest.mark.parametrize("depth_hu", [300.0, 900.0])
def test_slab_gaps_are_counted_even_when_they_are_tilted(tilt_slices: int, depth_hu: float) -> None:
    hu = make_body((64, 80, 80))
    for gap in (13, 26, 39, 52):
        for row in range(80):
            hu[gap + round(tilt_slices * row / 80), row] -= depth_hu
    assert gap_planes(make_volume(np.maximum(hu, -1000), **PLAIN))[0] == 4
    flags = check_volume(make_volume(np.maximum(hu, -1000) + make_body((64, 80, 80), 5) * 0.01, **PLAIN))
    assert [flag.code for flag in flags] == ["air_gaps", "broken_stack"]
    assert flags[0].definition.forbids_density
    assert flags[0].definition.forbids_strength


def test_bowel_gas_is_no_slab_gap() -> None:
    hu = make_body((64, 80, 80))
    for place in range(8, 60, 10):
        hu[place : place + 4, 30:50, 20:60] = -950
    assert gap_planes(make_volume(hu, **PLAIN))[0] == 0
