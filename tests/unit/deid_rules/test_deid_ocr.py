"""Text recognition: an optional extra. With it, burned-in names are found; without it, the error says so."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from deid_rules import ocr
from deid_rules.blanking import blank_rectangles
from deid_rules.errors import OcrUnavailable, UnreadableElement


def _ct_with(make_ct, text, frames=1):
    """Make a CT slice of noise in a disc with a text burned in as the scanner's brightest value."""
    rows, columns = np.mgrid[:256, :256]
    noise = np.random.default_rng(1).normal(1064, 25, (256, 256))
    pixels = np.where((rows - 128) ** 2 + (columns - 128) ** 2 < 110**2, noise, 0)
    canvas = Image.new("L", (256, 256))
    ImageDraw.Draw(canvas).text((6, 4), text, fill=255, font=ImageFont.load_default(14))
    pixels[np.asarray(canvas) > 128] = 4095
    value = pixels.astype("<u2").tobytes() * frames
    ds = make_ct(Rows=256, Columns=256, PixelData=value)
    if frames > 1:
        ds.NumberOfFrames = frames
    return ds


@pytest.fixture(scope="module")
def has_ocr():
    pytest.importorskip("rapidocr_onnxruntime")


def test_burned_in_text_is_found_and_can_be_erased(has_ocr, make_ct, through_file):
    ds = through_file(_ct_with(make_ct, "VANDERMOLEN 19511224"))
    boxes = ocr.find_text(ds)
    assert "VANDERMOLEN" in "".join(box.text for box in boxes)
    assert "VANDERMOLEN" not in repr(boxes)
    assert all(box.rectangle.top < 30 for box in boxes)
    assert ocr.find_text(blank_rectangles(ds, [box.rectangle for box in boxes])) == ()


def test_an_image_without_text_has_none(has_ocr, make_ct, through_file):
    assert ocr.find_text(through_file(_ct_with(make_ct, ""))) == ()


def test_frames_are_read_too(has_ocr, make_ct, through_file):
    assert len(ocr.find_text(through_file(_ct_with(make_ct, "VANDERMOLEN", frames=2)))) >= 2


def test_pixels_that_cannot_be_decoded_are_refused(has_ocr, make_ct, through_file):
    with pytest.raises(UnreadableElement):
        ocr.find_text(through_file(make_ct(PixelData=b"\0\0")))


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    with pytest.raises(OcrUnavailable, match="extra: ocr"):
        ocr.RapidOcrFinder()
