"""DICOM slices become one volume with right sides, levels and HU, or a sentence that says why not."""

import random

import numpy as np
import pytest
from pydicom.dataset import Dataset
from volume_factories import SECRET, anatomy, make_enhanced, make_series, make_slice

from inference import errors
from inference.dicom_volume import volume_from_datasets
from inference.volume import Volume, canonical

EXACT_MM = 1e-9


def hu_at(volume: Volume, point_mm: tuple[float, float, float]) -> float:
    """Return the HU of the voxel whose centre lies at an LPS point."""
    index = np.linalg.solve(volume.affine_lps, [*point_mm, 1.0])[:3]
    assert np.allclose(index, np.rint(index), atol=1e-6)
    return float(volume.hu[tuple(np.rint(index).astype(int))])


def test_a_voxel_lies_where_the_header_puts_it() -> None:
    hu = anatomy()
    volume = volume_from_datasets(make_series(hu, first_z_mm=100.0))
    # Pixel spacing is (between rows, between columns): 0.8 along y, 0.7 along x.
    assert hu_at(volume, (-50 + 5 * 0.7, -60 + 7 * 0.8, 100 + 3 * 3.0)) == hu[3, 7, 5]
    assert volume.spacing_mm == pytest.approx((3.0, 0.8, 0.7))


def test_the_order_in_which_slices_arrive_does_not_matter() -> None:
    series = make_series(anatomy())
    shuffled = series.copy()
    random.Random(3).shuffle(shuffled)
    first, second = volume_from_datasets(series), volume_from_datasets(shuffled)
    assert np.array_equal(first.hu, second.hu)
    assert np.array_equal(first.affine_lps, second.affine_lps)
    assert first.instance_uids == second.instance_uids == tuple(f"2.25.4.{n}" for n in range(1, 11))


def test_falling_instance_numbers_do_not_turn_the_patient_upside_down() -> None:
    hu = anatomy()
    rising = volume_from_datasets(make_series(hu, step_mm=3.0))
    falling = volume_from_datasets(make_series(hu[::-1], first_z_mm=27.0, step_mm=-3.0))
    assert np.array_equal(rising.hu, falling.hu)
    assert np.allclose(rising.affine_lps, falling.affine_lps, atol=EXACT_MM)


@pytest.mark.parametrize(("flip_rows", "flip_columns"), [(True, False), (False, True), (True, True)])
def test_flipped_images_keep_left_left_and_front_in_front(flip_rows: bool, flip_columns: bool) -> None:
    hu = anatomy()
    rows, columns = hu.shape[1:]
    orientation = (-1 if flip_columns else 1, 0, 0, 0, -1 if flip_rows else 1, 0)
    corner = (-50 + (columns - 1) * 0.7 * flip_columns, -60 + (rows - 1) * 0.8 * flip_rows)
    turned = hu[:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    flipped = [
        make_slice((image + 1024).astype(np.uint16), (*corner, 3.0 * place), orientation, number=place)
        for place, image in enumerate(turned)
    ]
    straight, _ = canonical(volume_from_datasets(make_series(hu)))
    result, _ = canonical(volume_from_datasets(flipped))
    assert np.array_equal(result.hu, straight.hu)
    assert np.allclose(result.affine_lps, straight.affine_lps, atol=1e-6)


def test_sagittal_slices_become_the_same_canonical_volume_as_axial_ones() -> None:
    hu = anatomy(slices=16, rows=20, columns=14)
    sagittal = [
        make_slice((hu[:, :, column] + 1024).astype(np.uint16)[::-1], (2.0 * column, 0, 45.0), (0, 1, 0, 0, 0, -1),
                   spacing_mm=(3.0, 1.0), number=column)
        for column in range(14)
    ]  # fmt: skip
    result, orientation = canonical(volume_from_datasets(sagittal))
    assert np.array_equal(result.hu, hu)
    assert np.allclose(result.affine_lps[:3, 3], (0, 0, 0))
    assert result.spacing_mm == pytest.approx((3.0, 1.0, 2.0))
    assert np.array_equal(orientation.restore(result.hu), volume_from_datasets(sagittal).hu)


def test_enhanced_multi_frame_ct_becomes_the_same_volume_as_single_frames() -> None:
    hu = anatomy()
    order = [3, 1, 0, 2, 4, 9, 8, 7, 6, 5]
    enhanced = volume_from_datasets([make_enhanced(hu[order], [3.0 * place for place in order])])
    single = volume_from_datasets(make_series(hu))
    assert np.array_equal(enhanced.hu, single.hu)
    assert np.allclose(enhanced.affine_lps, single.affine_lps)
    assert enhanced.frame_numbers == tuple(order.index(place) + 1 for place in range(10))
    assert set(enhanced.instance_uids) == {"2.25.4.1"}
    assert enhanced.acquisition.kvp == 100.0
    assert enhanced.acquisition.convolution_kernel == "Br40"


@pytest.mark.parametrize(
    ("stored", "signed", "bits", "slope", "intercept", "hu"),
    [
        (1064, False, 12, 1.0, -1024.0, 40.0),
        (-984, True, 16, 1.0, 1024.0, 40.0),
        (8232, False, 16, 1.0, -8192.0, 40.0),
        (2128, False, 16, 0.5, -1024.0, 40.0),
        (0xF000 | 1064, False, 12, 1.0, -1024.0, 40.0),  # bits above Bits Stored carry no meaning
    ],
)
def test_stored_values_become_hu(
    stored: int, signed: bool, bits: int, slope: float, intercept: float, hu: float
) -> None:
    pixels = np.full((4, 4), stored)
    series = [
        make_slice(pixels, (0, 0, 3.0 * place), signed=signed, bits_stored=bits, slope=slope, intercept=intercept)
        for place in range(10)
    ]
    assert np.unique(volume_from_datasets(series).hu) == pytest.approx([hu])


def test_padding_is_air_and_nothing_lies_below_air() -> None:
    pixels = np.full((4, 4), -800)
    pixels[0, 0], pixels[0, 1] = -2000, -1500
    series = [
        make_slice(pixels, (0, 0, 3.0 * place), signed=True, intercept=0.0, PixelPaddingValue=-2000)
        for place in range(10)
    ]
    hu = volume_from_datasets(series).hu
    assert (hu[:, 0, 0] == -1024).all()
    assert (hu[:, 0, 1] == -1024).all()
    assert (hu[:, 1:, 1:] == -800).all()


def test_padding_inside_the_range_of_tissue_is_air_too() -> None:
    series = make_series(np.full((10, 4, 4), 40.0))
    for dataset in series:
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 1060, 1070
    assert (volume_from_datasets(series).hu == -1024).all()


def test_compressed_slices_give_the_same_volume() -> None:
    hu = anatomy()
    series = make_series(hu)
    for dataset in series:
        dataset.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    assert np.array_equal(volume_from_datasets(series).hu, hu)


def refused(error: type[errors.VolumeError], series: list[Dataset], *words: str) -> None:
    """Assert that a series is refused with a sentence that holds the words and no identity."""
    with pytest.raises(error) as caught:
        volume_from_datasets(series)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert SECRET not in message
    assert "2.25" not in message
    assert message.isascii()


def test_missing_slices_are_counted_and_located() -> None:
    series = make_series(anatomy(slices=20), first_z_mm=-100.0)
    del series[12], series[5:7]
    refused(errors.MissingSlices, series, "3 slices missing", "-88.0", "-67.0", "20 in all")


def test_irregular_spacing_is_refused() -> None:
    series = make_series(anatomy())
    series[4].ImagePositionPatient = [-50, -60, 12.9]
    refused(errors.IrregularSpacing, series, "3.000", "after 9.0, 12.9 mm")


def test_positions_rounded_to_hundredths_are_regular() -> None:
    series = make_series(anatomy(slices=40), step_mm=0.625)
    for dataset in series:
        dataset.ImagePositionPatient = [-50, -60, round(float(dataset.ImagePositionPatient[2]), 2)]
    assert volume_from_datasets(series).spacing_mm[0] == pytest.approx(0.625, abs=0.001)


def test_a_gantry_tilt_is_refused_with_its_angle() -> None:
    tilt = np.radians(12.0)
    orientation = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    image = np.full((8, 8), 1064)
    series = [make_slice(image, (0, 0, 3.0 * place), orientation, number=place) for place in range(10)]
    refused(errors.GantryTilt, series, "12.00 degrees")


def test_a_tilt_that_only_the_header_states_is_refused() -> None:
    series = make_series(anatomy())
    for dataset in series:
        dataset.GantryDetectorTilt = 15.0
    refused(errors.GantryTilt, series, "15.0 degrees in the header")


def test_two_slices_at_one_position_are_refused() -> None:
    series = [*make_series(anatomy()), *make_series(anatomy())[2:4]]
    refused(errors.DuplicateSlices, series, "2 slices", "6.0, 9.0 mm")


def test_one_slice_is_too_few() -> None:
    refused(errors.TooFewSlices, make_series(anatomy())[:1], "Found 1 slices")


def test_a_short_stack_is_too_few() -> None:
    refused(errors.TooFewSlices, make_series(anatomy(), step_mm=1.0), "9.0 mm")


def test_no_image_is_too_few() -> None:
    refused(errors.TooFewSlices, [], "no images")


def test_two_patients_stacked_are_refused_without_naming_them() -> None:
    series = make_series(anatomy())
    series[7].PatientID = "ID-2-" + SECRET
    refused(errors.MixedPatients, series, "2 different patients")


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("SeriesInstanceUID", "2.25.99", "2 different series"),
        ("StudyInstanceUID", "2.25.99", "2 different studies"),
        ("FrameOfReferenceUID", "2.25.99", "2 different frames of reference"),
        ("ConvolutionKernel", "B70s", "2 different reconstruction kernels"),
        ("KVP", 80, "2 different tube voltages"),
        ("PatientPosition", "FFS", "2 different patient positions"),
    ],
)
def test_a_mixture_is_refused_by_name(keyword: str, value: object, words: str) -> None:
    series = make_series(anatomy())
    setattr(series[3], keyword, value)
    refused(errors.MixedSeries, series, words)


def test_a_localizer_among_slices_is_refused() -> None:
    series = make_series(anatomy())
    series[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    refused(errors.Localizer, series, "1 localizer")


def test_what_is_not_ct_is_refused() -> None:
    series = make_series(anatomy())
    series[0].SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    refused(errors.NotCt, series, "1 of 10 objects")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Rows": 12, "Columns": 60}, "12x60, 24x30"),
        ({"PixelSpacing": [0.9, 0.7]}, "pixel spacings"),
        ({"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}, "turned against the first"),
    ],
)
def test_slices_of_another_grid_are_refused(changes: dict[str, object], words: str) -> None:
    series = make_series(anatomy())
    for keyword, value in changes.items():
        setattr(series[3], keyword, value)
    refused(errors.MixedGeometry, series, words)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_without_geometry_is_refused(keyword: str) -> None:
    series = make_series(anatomy())
    delattr(series[3], keyword)
    refused(errors.MissingGeometry, series, keyword, "image 4 of 10")


def test_cut_off_pixel_data_are_refused_with_both_lengths() -> None:
    series = make_series(anatomy())
    series[2].PixelData = series[2].PixelData[:-2]
    refused(errors.TruncatedPixelData, series, "1438 bytes", "expected 1440", "image 3 of 10")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RescaleSlope": None}, "rescale slope"),
        ({"RescaleType": "MGML"}, "rescale type MGML"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "3 samples"),
        ({"HighBit": 11}, "high bit 11"),
        ({"BitsStored": 0, "HighBit": 0}, "0 stored"),
        ({"PixelRepresentation": None}, "expected one sample"),
    ],
)
def test_pixels_that_are_no_hu_are_refused(changes: dict[str, object], words: str) -> None:
    refused(errors.UnsupportedPixels, make_series(anatomy(), **changes), words)


def test_a_compression_without_decoder_is_refused_by_name() -> None:
    series = make_series(anatomy())
    for dataset in series:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    refused(errors.UnsupportedPixels, series, "High-Throughput JPEG 2000", "uncompressed")


def test_a_corrupt_compressed_slice_is_refused() -> None:
    series = make_series(anatomy())
    for dataset in series:
        dataset.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    series[4].PixelData = series[4].PixelData[:40] + b"\0" * 20
    refused(errors.UnsupportedPixels, series, "could not be decoded")


def test_technical_attributes_are_read() -> None:
    acquisition = volume_from_datasets(make_series(anatomy(), ContrastBolusAgent="Iodine")).acquisition
    assert (acquisition.manufacturer, acquisition.model_name, acquisition.kvp) == (
        "SIEMENS",
        "Test CT",
        120.0,
    )
    assert (acquisition.convolution_kernel, acquisition.slice_thickness_mm) == ("B30s", 2.0)
    assert (acquisition.contrast_agent, acquisition.patient_position) == ("Iodine", "HFS")


def test_datasets_without_file_meta_are_read_as_little_endian() -> None:
    hu = anatomy()
    series = make_series(hu)
    for dataset in series:
        del dataset.file_meta
    assert np.array_equal(volume_from_datasets(series).hu, hu)


@pytest.mark.parametrize("value", ["NONE", "", None])
def test_an_agent_that_was_not_given_is_no_contrast(value: str | None) -> None:
    series = make_series(anatomy(), ContrastBolusAgent="x")
    for dataset in series:
        dataset.ContrastBolusAgent = value
    assert volume_from_datasets(series).acquisition.contrast_agent == ""


def test_a_volume_does_not_show_its_uids_when_printed() -> None:
    assert "2.25" not in repr(volume_from_datasets(make_series(anatomy())))


def test_water_is_not_air_where_the_header_calls_its_value_padding() -> None:
    hu = np.full((10, 9, 9), 40.0)
    hu[:, 4, 4] = 0.0
    hu[:, :2, :2] = 0.0
    series = make_series(hu, intercept=0.0, signed=True, PixelPaddingValue=0)
    for dataset, image in zip(series, hu, strict=True):
        dataset.PixelData = image.astype("<i2").tobytes()
    found = volume_from_datasets(series).hu
    assert (found[:, 4, 4] == 0.0).all()
    assert (found[:, :2, :2] == -1024.0).all()
    assert (found[:, 8, 8] == 40.0).all()
