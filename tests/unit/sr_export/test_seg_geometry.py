"""Segmentations: the right bone, on the right side, at the right place, whatever way the source runs."""

from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from result_factory import COLUMN_MM, ROW_MM, SLICE_MM, make_report, make_source, regions

from sr_export import seg
from sr_export.check import read_segments
from sr_export.errors import ContradictoryReport, IrregularGeometry
from sr_export.geometry import grid_from_headers
from sr_export.inputs import Region
from sr_export.seg import build_segs, tracking_uid

TURNED = (0.9848, 0.1736, 0.0, -0.1736, 0.9848, 0.0)
OBLIQUE = (1.0, 0.0, 0.0, 0.0, 0.9397, -0.3420)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def built(source, report):
    return build_segs(source, grid_from_headers(source), report)


def voxel_centre(source, index):
    """Centre of a voxel by PS3.3 equation C.7.6.2.1-1, from the slice's own header."""
    header = source[index[0]]
    cosines = np.array([float(value) for value in header.ImageOrientationPatient])
    position = np.array([float(value) for value in header.ImagePositionPatient])
    row_mm, column_mm = (float(value) for value in header.PixelSpacing)
    return position + cosines[:3] * column_mm * index[2] + cosines[3:] * row_mm * index[1]


@pytest.mark.parametrize(
    ("cosines", "is_reversed"),
    [((1, 0, 0, 0, 1, 0), False), ((1, 0, 0, 0, 1, 0), True), (TURNED, True), (OBLIQUE, False), (SAGITTAL, True)],
)
def test_every_segment_lies_where_its_mask_lies(cosines, is_reversed):
    source = make_source(cosines=cosines)
    if is_reversed:
        source.reverse()
    report = make_report()
    read = {s.tracking_uid: s for one in built(source, report) for s in read_segments(one)}
    for region in report.regions:
        indices = np.argwhere(region.mask)
        expected = np.mean([voxel_centre(source, index) for index in indices], axis=0)
        segment = read[tracking_uid(report, region.key)]
        np.testing.assert_allclose(segment.centre_lps, expected, atol=0.01)
        assert segment.volume_mm3 == pytest.approx(len(indices) * ROW_MM * COLUMN_MM * SLICE_MM, rel=1e-4)


def test_a_single_odd_voxel_lands_on_its_own_source_slice():
    """A mask of one voxel cannot be right by symmetry."""
    source = make_source()
    mask = np.zeros(regions()[0].mask.shape, bool)
    mask[21, 5, 50] = True
    one = built(source, make_report(regions=(Region("L1", "L1", "L1", "", mask),), groups=()))[0]
    frame = one.PerFrameFunctionalGroupsSequence[0]
    derived = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert derived.ReferencedSOPInstanceUID == source[21].SOPInstanceUID
    np.testing.assert_allclose(read_segments(one)[0].centre_lps, voxel_centre(source, (21, 5, 50)), atol=1e-6)


def test_right_is_right_and_left_is_left_in_label_modifier_and_place():
    report = make_report()
    segments = {}
    for one in built(make_source(), report):
        for item, read in zip(one.SegmentSequence, read_segments(one), strict=True):
            segments[item.SegmentLabel] = read
    assert segments["Right femur"].laterality == "R"
    assert segments["Left femur"].laterality == "L"
    assert segments["L1 vertebral body"].laterality == ""
    assert segments["Right femur"].centre_lps[0] < segments["Left femur"].centre_lps[0]


def test_highdicom_reads_the_masks_back():
    source, report = make_source(), make_report()
    stored = hd.seg.Segmentation.from_dataset(built(source, report)[0])
    volume = stored.get_volume(segment_numbers=[1], combine_segments=True)
    assert int((volume.array > 0).sum()) == int(report.regions[0].mask.sum())


def test_overlapping_regions_go_into_objects_and_series_of_their_own():
    segs = built(make_source(), make_report())
    assert len(segs) == 2
    assert {one.SegmentsOverlap for one in segs} == {"NO"}
    assert len({one.SeriesInstanceUID for one in segs}) == 2
    assert [int(one.SeriesNumber) for one in segs] == [9001, 9011]
    assert len({one.SeriesDescription for one in segs}) == 2


def test_no_object_has_more_frames_than_viewers_draw(monkeypatch):
    monkeypatch.setattr(seg, "MAXIMUM_FRAMES", 20)
    source = make_source()
    mask = np.zeros_like(regions()[0].mask)
    mask[:, 3:6, 4:9] = True
    segs = built(source, make_report(regions=(Region("femur_right", "Right femur", "femur", "R", mask),), groups=()))
    assert [int(one.NumberOfFrames) for one in segs] == [20, 4]
    assert segs[1].SegmentSequence[0].SegmentLabel == "Right femur, part 2 of 2"
    assert sum(read_segments(one)[0].voxels for one in segs) == int(mask.sum())


def test_a_matrix_whose_frames_would_begin_inside_a_byte_is_written_with_a_byte_a_pixel():
    """OHIF 3.13 cuts frames of bits at bytes and draws such bones sheared."""
    columns = 51
    source = make_source(Columns=columns, Rows=63)
    region = Region("femur_left", "Left femur", "femur", "L", regions()[1].mask[:, :63, :columns])
    one = built(source, make_report(regions=(region,), groups=()))[0]
    assert (one.SegmentationType, one.BitsAllocated) == ("FRACTIONAL", 8)
    (segment,) = read_segments(one)
    assert segment.voxels == int(region.mask.sum())
    expected = np.mean([voxel_centre(source, index) for index in np.argwhere(region.mask)], axis=0)
    np.testing.assert_allclose(segment.centre_lps, expected, atol=0.01)


def test_a_usual_matrix_is_written_with_a_bit_a_pixel():
    one = built(make_source(), make_report())[0]
    assert (one.SegmentationType, one.BitsAllocated) == ("BINARY", 1)


def test_only_slices_with_bone_are_referenced():
    segs = built(make_source(), make_report())
    referenced = {i.ReferencedSOPInstanceUID for i in segs[0].ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert len(referenced) < len(make_source())


def test_a_report_without_regions_has_no_segmentation():
    assert built(make_source(), make_report(regions=(), groups=())) == ()


def test_a_mask_of_another_shape_is_refused():
    region = replace(regions()[0], mask=np.ones((3, 4, 5), bool))
    with pytest.raises(ContradictoryReport, match="shape"):
        built(make_source(), make_report(regions=(region,)))


def test_an_empty_mask_is_refused():
    region = replace(regions()[0], mask=np.zeros_like(regions()[0].mask))
    with pytest.raises(ContradictoryReport, match="empty"):
        built(make_source(), make_report(regions=(region,)))


def test_a_missing_slice_is_refused():
    source = make_source()
    del source[7]
    with pytest.raises(IrregularGeometry, match="missing or unevenly spaced"):
        grid_from_headers(source)


def test_a_repeated_slice_is_refused():
    source = make_source()
    source[8].ImagePositionPatient = source[7].ImagePositionPatient
    with pytest.raises(IrregularGeometry, match="same position"):
        grid_from_headers(source)


def test_a_tilted_gantry_is_refused():
    source = make_source()
    for index, header in enumerate(source):
        x_mm, y_mm, z_mm = header.ImagePositionPatient
        header.ImagePositionPatient = [x_mm, float(y_mm) + 0.5 * index, z_mm]
    with pytest.raises(IrregularGeometry, match="tilted gantry"):
        grid_from_headers(source)
