"""X-ray attenuation of tissues and calibration materials, for calibration without a phantom.

Mass attenuation coefficients mu/rho in cm2/g at photon energies of 40 to 110 keV, computed from elemental
coefficients ([Elam2002]) and the compositions of [ICRU44] (adult adipose tissue no 3). They agree with the tables of
[Hubbell2004] to the fourth digit where those list the material. K2HPO4 and hydroxyapatite are pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def _row(text: str) -> NDArray[np.float64]:
    """Read the coefficients of one material, cm2/g, one for each energy."""
    return np.array([float(word) for word in text.split()])


ENERGIES_KEV = np.arange(40.0, 110.1, 5.0)

_TABLE = {
    "air": _row(
        "0.2485 0.2243 0.2080 0.1963 0.1875 0.1806 0.1750 0.1703 0.1662 0.1627 0.1596 0.1567 0.1541 0.1517 0.1495"
    ),
    "adipose": _row(
        "0.2396 0.2235 0.2123 0.2039 0.1974 0.1920 0.1875 0.1835 0.1800 0.1769 0.1740 0.1713 0.1688 0.1665 0.1643"
    ),
    "muscle": _row(
        "0.2685 0.2433 0.2263 0.2140 0.2048 0.1975 0.1916 0.1866 0.1823 0.1785 0.1751 0.1721 0.1693 0.1667 0.1643"
    ),
    "blood": _row(
        "0.2715 0.2454 0.2278 0.2152 0.2057 0.1982 0.1921 0.1871 0.1827 0.1788 0.1754 0.1723 0.1695 0.1669 0.1645"
    ),
    "cortical_bone": _row(
        "0.6655 0.5189 0.4242 0.3601 0.3148 0.2818 0.2570 0.2379 0.2229 0.2108 0.2008 0.1925 0.1855 0.1795 0.1743"
    ),
    "water": _row(
        "0.2683 0.2436 0.2269 0.2149 0.2059 0.1987 0.1929 0.1879 0.1837 0.1799 0.1766 0.1735 0.1707 0.1681 0.1657"
    ),
    "K2HPO4": _row(
        "0.9326 0.7043 0.5574 0.4584 0.3890 0.3389 0.3015 0.2730 0.2508 0.2331 0.2188 0.2070 0.1971 0.1888 0.1817"
    ),
    "HA": _row(
        "0.9876 0.7437 0.5867 0.4808 0.4067 0.3531 0.3131 0.2827 0.2589 0.2401 0.2248 0.2123 0.2019 0.1931 0.1856"
    ),
}


@dataclass(frozen=True, slots=True)
class Tissue:
    """A tissue as a reference of the CT scale.

    Attributes
    ----------
    key
        Of the tissue.
    density_g_per_cm3
        Of [ICRU44].
    spread
        Standard deviation of the tissue's attenuation between people, as a part of it [m] assumption.
    share
        Part of the densest voxels that is the tissue; the rest is water. Below 1 for cortical bone, whose pores and
        edges no clinical voxel is free of [m] assumption.
    """

    key: str
    density_g_per_cm3: float
    spread: float
    share: float = 1.0


TISSUES = {
    tissue.key: tissue
    for tissue in (
        Tissue("air", 0.0012, 0.003),
        Tissue("adipose", 0.93, 0.010),
        Tissue("muscle", 1.05, 0.008),
        Tissue("blood", 1.06, 0.006),
        Tissue("cortical_bone", 1.92, 0.20, share=0.65),
    )
}
"""What is sampled in every patient; spreads of soft tissues are 6 to 10 HU [m] assumption, that of air is scatter."""


def mass_attenuation_cm2_per_g(material: str, energy_kev: float) -> float:
    """Interpolate mu/rho between the energies of the table, log against log.

    Raises
    ------
    ValueError
        Outside 40 to 110 keV.
    KeyError
        For an unknown material.
    """
    if not ENERGIES_KEV[0] <= energy_kev <= ENERGIES_KEV[-1]:
        raise ValueError(f"{energy_kev:g} keV; the table holds 40 to 110 keV")
    value = np.interp(np.log(energy_kev), np.log(ENERGIES_KEV), np.log(_TABLE[material]))
    return float(np.exp(value))


def hu_of(tissue: Tissue, energy_kev: float) -> float:
    """CT number of a tissue at one energy: 1000 (mu / mu of water - 1), HU."""
    water = mass_attenuation_cm2_per_g("water", energy_kev)
    own = tissue.density_g_per_cm3 * mass_attenuation_cm2_per_g(tissue.key, energy_kev)
    return 1000.0 * (tissue.share * own + (1 - tissue.share) * water - water) / water


def tissue_hu(tissues: tuple[Tissue, ...], energy_kev: float) -> NDArray[np.float64]:
    """CT numbers of several tissues at one energy, (tissue,) HU."""
    return np.array([hu_of(tissue, energy_kev) for tissue in tissues])
