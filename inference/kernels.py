"""How sharp a reconstruction kernel is, from its name.

The standard has no code for sharpness: vendors' names are all there is. Every rule below is an assumption [m]
from vendors' public protocol sheets; a name that no rule knows is ``unknown``, never guessed.
"""

import re
from typing import Literal

Sharpness = Literal["soft", "sharp", "unknown"]

SIEMENS_SHARP_FROM = 50
"""Siemens: the two digits grow with sharpness; B50 and Br50 upwards enhance edges [m] assumption."""

CANON_SOFT_RANGE = (1, 29)
"""Canon and Toshiba: FC01 to FC19 body, FC20 to FC29 head; FC30 upwards bone, lung, inner ear [m]
assumption."""

GE_SOFT = ("STANDARD", "SOFT", "STND", "DETAIL", "SMOOTH", "STANDARD+", "ASIR STANDARD")
GE_SHARP = (
    "BONE",
    "BONEPLUS",
    "BONE PLUS",
    "LUNG",
    "EDGE",
    "ULTRA",
    "HD BONE",
    "HD BONEPLUS",
    "HD LUNG",
    "CHEST",
)
"""GE's names [m] assumption."""

PHILIPS_SOFT = ("A", "B", "C", "UA", "UB", "XCA", "SB")
PHILIPS_SHARP = ("D", "E", "F", "L", "Y", "YA", "YB", "YC", "YD", "YE", "EC", "ED")
"""Philips' filters [m] assumption; names of one letter are read only when Philips is the manufacturer."""

_SIEMENS = re.compile(r"^(?:[BHTUCAVJIDQ][A-Z]?|HP|BV)(\d{2})[A-Z]{0,2}$")
_CANON = re.compile(r"^FC(\d{2})$")


def kernel_sharpness(manufacturer: str, convolution_kernel: str) -> Sharpness:
    r"""Classify a Convolution Kernel (0018,1210).

    Parameters
    ----------
    manufacturer
        Manufacturer (0008,0070), any case; decides which vendor's one-letter names are meant.
    convolution_kernel
        The kernel's name; of several values joined by ``\`` the first counts.

    Returns
    -------
    str
        ``soft``, ``sharp`` or ``unknown``.
    """
    name = convolution_kernel.split("\\")[0].strip().upper()
    if match := _CANON.match(name):
        low, high = CANON_SOFT_RANGE
        return "soft" if low <= int(match.group(1)) <= high else "sharp"
    if match := _SIEMENS.match(name):
        return "sharp" if int(match.group(1)) >= SIEMENS_SHARP_FROM else "soft"
    if name in GE_SOFT or name in GE_SHARP:
        return "soft" if name in GE_SOFT else "sharp"
    if "PHILIPS" in manufacturer.upper() and (name in PHILIPS_SOFT or name in PHILIPS_SHARP):
        return "soft" if name in PHILIPS_SOFT else "sharp"
    return "unknown"
