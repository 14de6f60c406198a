"""Rectangles of burned-in text: found by the rules, erased in every layout of pixels, claimed in the file."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from deid_rules.blanking import blank_rectangles
from deid_rules.engine import deidentify
from deid_rules.errors import UnreadableElement
from deid_rules.filters import EDGE, base_labels
from deid_rules.pixels import Rectangle, labels_for, rectangles_for
from deid_rules.recipe import parse_recipe


def _image(shape, bits, *, frames=1, samples=1, planar=0, syntax=ExplicitVRLittleEndian) -> Dataset:
    """Make an image of ones: [frame, row, column, sample]."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.Rows, ds.Columns = shape
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = bits - 1, 0, samples
    ds.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        ds.PlanarConfiguration = planar
    if frames > 1:
        ds.NumberOfFrames = frames
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds.PixelData = np.ones(frames * shape[0] * shape[1] * samples, dtype=f"{order}u{bits // 8}").tobytes()
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    return ds


def _read(ds: Dataset) -> np.ndarray:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue())).pixel_array


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize(("samples", "planar"), [(1, 0), (3, 0), (3, 1)])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_rectangle_is_erased_in_every_frame_and_sample(bits, frames, samples, planar, syntax):
    ds = _image((6, 8), bits, frames=frames, samples=samples, planar=planar, syntax=syntax)
    pixels = _read(blank_rectangles(ds, [Rectangle(1, 2, 5, 4)]))
    cells = pixels.reshape(frames, 6, 8, samples)
    assert not cells[:, 2:4, 1:5].any()
    assert cells.sum() == frames * samples * (6 * 8 - 8)


def test_a_compressed_image_is_erased_and_written_native():
    ds = _image((6, 8), 16, frames=2)
    ds.compress(RLELossless, generate_instance_uid=False)
    clean = blank_rectangles(ds, [Rectangle(0, 0, EDGE, 3)])
    assert clean.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.file_meta.TransferSyntaxUID == RLELossless
    assert clean.SOPInstanceUID == ds.SOPInstanceUID
    assert _read(clean).sum() == 2 * 3 * 8


def test_the_source_keeps_its_pixels():
    ds = _image((6, 8), 8)
    before = ds.PixelData
    blank_rectangles(ds, [Rectangle(0, 0, EDGE, EDGE)])
    assert ds.PixelData == before


def test_a_kept_rectangle_gives_back_what_earlier_ones_erase():
    ds = _image((6, 8), 8)
    pixels = _read(blank_rectangles(ds, [Rectangle(0, 0, EDGE, EDGE), Rectangle(2, 2, 4, 4, is_kept=True)]))
    assert pixels.sum() == 4
    assert pixels[2:4, 2:4].all()


def test_a_rectangle_outside_changes_nothing_and_none_returns_the_dataset():
    ds = _image((6, 8), 8)
    assert _read(blank_rectangles(ds, [Rectangle(100, 100, 110, 110)])).all()
    assert blank_rectangles(ds, []) is ds


@pytest.mark.parametrize(
    "change",
    [
        {"Rows": None},
        {"BitsAllocated": 1},
        {"PixelData": b"\0\0"},
        {"NumberOfFrames": "9"},
        {"PhotometricInterpretation": "YBR_FULL_422"},
    ],
    ids=str,
)
def test_pixels_of_another_layout_are_refused(change):
    ds = _image((6, 8), 8)
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    with pytest.raises(UnreadableElement, match="pixels"):
        blank_rectangles(ds, [Rectangle(0, 0, 1, 1)])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_compressed_pixels_are_refused():
    ds = _image((6, 8), 8)
    ds.file_meta.TransferSyntaxUID = RLELossless
    with pytest.raises(UnreadableElement):
        blank_rectangles(ds, [Rectangle(0, 0, 1, 1)])


def test_only_a_deidentified_image_claims_the_option_and_only_once(make_ct, through_file, subject, profile, uids):
    original = through_file(make_ct())
    assert "DeidentificationMethodCodeSequence" not in blank_rectangles(original, [Rectangle(0, 0, 4, 4)])
    clean, _ = deidentify(original, subject, profile, uids)
    blanked = blank_rectangles(blank_rectangles(clean, [Rectangle(0, 0, 4, 4)]), [Rectangle(0, 0, 2, 2)])
    codes = [item.CodeValue for item in blanked.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108", "113101"]
    assert [item.CodeValue for item in clean.DeidentificationMethodCodeSequence] == codes[:3]
    assert not _read(blanked)[:4, :4].any()


def test_the_rule_base_knows_a_dose_report(make_ct, through_file):
    ds = make_ct(Manufacturer="GE MEDICAL SYSTEMS", SeriesDescription="Dose Report")
    for header in (ds, through_file(ds)):
        assert rectangles_for(header) == (Rectangle(0, 0, 512, 110),)
    assert rectangles_for(make_ct()) == ()


def test_the_rule_base_is_read_whole():
    assert len(base_labels()) == 118
    assert sum(len(label.rectangles) for label in base_labels()) == 117


SITE = r"""FORMAT dicom
%filter burned-in
LABEL ours # (the hospital)
  contains Modality CT
  + equals Rows 8|9 || equals Rows 8
  + notcontains ImageType LOCALIZER
  + present KVP
  coordinates 0,0,3,2
  ctpcoordinates 1, 1, 2, 2
  ctpkeepcoordinates 0,0,1,1
LABEL either
  missing Modality
  || empty PositionReferenceIndicator + notequals Rows 9
  keepcoordinates all
%header
REMOVE PatientWeight
"""


def test_a_sites_labels_come_first_and_are_read_in_full(make_ct):
    labels = parse_recipe(SITE).labels
    assert [label.name for label in labels_for(make_ct(), labels)] == ["ours", "either"]
    assert rectangles_for(make_ct(), labels) == (
        Rectangle(0, 0, 3, 2),
        Rectangle(1, 1, 3, 3),
        Rectangle(0, 0, 1, 1, is_kept=True),
        Rectangle(0, 0, EDGE, EDGE, is_kept=True),
    )
    assert [label.name for label in labels_for(make_ct(Rows=9), labels)] == []
