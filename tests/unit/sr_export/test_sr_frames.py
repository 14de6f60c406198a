"""A multi-frame CT gives the same results as its slices one by one, with references to frames."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage
from result_factory import build_without_drawing, make_enhanced, make_report, make_source

from sr_export.check import check_results, read_segments
from sr_export.errors import IrregularGeometry, SourceMismatch
from sr_export.frames import slice_headers
from sr_export.geometry import grid_from_headers

REVERSED = tuple(reversed(range(24)))


@pytest.mark.parametrize("order", [range(24), REVERSED], ids=["ascending", "descending"])
def test_a_multi_frame_source_has_the_grid_of_its_slices(order):
    grid = grid_from_headers(slice_headers([make_enhanced(order)]))
    expected = grid_from_headers(make_source())
    np.testing.assert_allclose(grid.affine_lps, expected.affine_lps)
    assert grid.shape == expected.shape


@pytest.mark.parametrize("order", [range(24), REVERSED], ids=["ascending", "descending"])
def test_results_of_a_multi_frame_source_lie_where_those_of_its_slices_lie(order):
    report = make_report()
    enhanced = make_enhanced(order)
    results = build_without_drawing(slice_headers([enhanced]), report)
    single = build_without_drawing(make_source(), report)
    assert check_results([enhanced], results, report) == ()
    for one, other in zip(results.segs, single.segs, strict=True):
        for segment, expected in zip(read_segments(one), read_segments(other), strict=True):
            np.testing.assert_allclose(segment.centre_lps, expected.centre_lps, atol=1e-6)


def test_every_reference_to_an_image_names_the_frame_it_lies_on():
    enhanced = make_enhanced(REVERSED)
    report = make_report()
    results = build_without_drawing(slice_headers([enhanced]), report)
    frame = results.segs[0].PerFrameFunctionalGroupsSequence[0]
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
    assert source.ReferencedSOPClassUID == EnhancedCTImageStorage
    groups = enhanced.PerFrameFunctionalGroupsSequence[int(source.ReferencedFrameNumber) - 1]
    position = frame.PlanePositionSequence[0].ImagePositionPatient
    np.testing.assert_allclose(position, groups.PlanePositionSequence[0].ImagePositionPatient)

    references = list(image_references(results.sr))
    assert {one.ReferencedSOPInstanceUID for one in references} == {enhanced.SOPInstanceUID}
    drawn = {int(one.ReferencedFrameNumber) for one in references}
    assert 24 - 18 in drawn, "the middle slice of L1's region is the 19th from the feet, frame 6 from the head"


def image_references(item: Dataset):
    for child in item.get("ContentSequence", []):
        if child.ValueType == "IMAGE":
            yield child.ReferencedSOPSequence[0]
        yield from image_references(child)


def test_a_list_of_instances_names_a_multi_frame_instance_once():
    results = build_without_drawing(slice_headers([make_enhanced()]), make_report())
    for seg in results.segs:
        listed = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert [one.ReferencedSOPInstanceUID for one in listed] == ["2.25.77"]
        assert "ReferencedFrameNumber" not in listed[0]
    evidence = results.sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = [one.ReferencedSOPInstanceUID for series in evidence for one in series.ReferencedSOPSequence]
    assert sorted(named) == sorted({"2.25.77", *(str(seg.SOPInstanceUID) for seg in results.segs)})


def test_the_same_instance_given_once_for_every_slice_counts_once():
    enhanced = make_enhanced()
    assert len(slice_headers([enhanced] * 24)) == 24


def test_a_multi_frame_instance_without_functional_groups_is_refused_with_a_sentence():
    with pytest.raises(SourceMismatch, match="multi-frame instance of 40 frames"):
        slice_headers(make_source(slices=1, NumberOfFrames=40))


def test_frames_of_two_phases_at_one_place_are_refused():
    enhanced = make_enhanced([0, 0, 1, 1, 2, 2, *range(3, 21)])
    with pytest.raises(IrregularGeometry, match="same position"):
        grid_from_headers(slice_headers([enhanced]))


def test_single_frames_come_back_in_the_order_given():
    source = make_source()[::-1]
    assert slice_headers(source) == source
