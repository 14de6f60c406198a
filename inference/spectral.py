"""Images of a spectral (multi-energy) CT whose values are not CT numbers of a tube voltage.

A monoenergetic image of 40 keV shows the same bone twice as bright as a scan at 120 kV, and both are HU; a virtual
non-contrast or calcium image has bone taken out. No calibration of a tube voltage holds for either. They are known by
Image Type only: by the terms of DICOM's multi-energy images (PS3.3 C.8.2.1.1.1, Supplement 188) and by the words that
vendors wrote there before. [m] assumption: neither list could be compared with images of every vendor.
"""

import re
from collections.abc import Iterable

STANDARD_TERMS = frozenset(
    {
        "VMI",
        "MAT_SPECIFIC",
        "MAT_REMOVED",
        "MAT_FRACTIONAL",
        "MAT_MODIFIED",
        "MAT_VALUE_BASED",
        "EFF_ATOMIC_NUM",
        "ELECTRON_DENSITY",
    }
)
"""Image Type value 4 of everything but images weighted by energy, which read as those of a tube voltage do."""

VENDORS_WORD = re.compile(
    r"MONO(E|ENERGETIC|CHROMATIC)?|MONO\d*|\d*KEV|VMI|VNC|VNCA|VUE|VIRTUAL\w*|IODINE|CALCIUM|WATER|URIC\w*|RHO|ZEFF"
)
"""Whole words of an Image Type value."""


def spectral_word(image_type: Iterable[str]) -> str:
    """Return the word of an Image Type that says spectral image; empty where none does.

    Parameters
    ----------
    image_type
        Values of Image Type (0008,0008), any case. The first two, of every image alike, count as well: a word there
        says the same.
    """
    for value in (one.upper().strip() for one in image_type):
        if value in STANDARD_TERMS:
            return value
        for word in re.split(r"[^A-Z0-9]+", value):
            if word and VENDORS_WORD.fullmatch(word):
                return word
    return ""
