"""From calcium density to stiffness: the published laws, with their sources and limits.

Densities are mg/cm3 outside this module. The laws are published in g/cm3; ``g_from_mg_per_cm3`` is the one door.

rho_QCT  what a calibration phantom reads (hydroxyapatite or K2HPO4 equivalent)
rho_ash  ash mass over volume
rho_app  apparent (wet) mass over volume
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]

POISSON_RATIO = 0.3
"""Used by CT2S for all bone [Benemerito2021, Altai2019]."""

ASH_OVER_APPARENT = 0.6
"""rho_ash / rho_app, trabecular and cortical alike [Schileo2008; m assumption]."""


@dataclass(frozen=True, slots=True)
class AshLaw:
    """A straight line from rho_QCT to rho_ash.

    Attributes
    ----------
    slope
        Without unit.
    intercept_mg_per_cm3
        rho_ash at rho_QCT = 0.
    source
        Where the line comes from.
    """

    slope: float
    intercept_mg_per_cm3: float
    source: str

    def __call__(self, rho_qct_mg_per_cm3: Floats) -> Doubles:
        """Return rho_ash, mg/cm3."""
        return np.asarray(self.slope * rho_qct_mg_per_cm3 + self.intercept_mg_per_cm3, dtype=np.float64)


ASH_SCHILEO_2008 = AshLaw(0.877, 79.0, "Schileo 2008: rho_ash = 0.877 rho_QCT + 0.079 g/cm3 [m assumption]")

ToAsh = AshLaw | Callable[[Floats], Doubles]


@dataclass(frozen=True, slots=True)
class ModulusLaw:
    """A power law from rho_app in g/cm3 to Young's modulus: ``E = coefficient_mpa * rho_app ** exponent``.

    Attributes
    ----------
    coefficient_mpa
        E at 1 g/cm3.
    exponent
        Without unit.
    minimum_mpa, maximum_mpa
        E is kept between these; how many elements were is reported.
    source
        Where the law comes from.
    """

    coefficient_mpa: float
    exponent: float
    minimum_mpa: float
    maximum_mpa: float
    source: str


MORGAN_2003_FEMORAL_NECK = ModulusLaw(
    coefficient_mpa=6850.0,
    exponent=1.49,
    minimum_mpa=10.0,
    maximum_mpa=25_000.0,
    source=(
        "Morgan 2003, femoral neck, used for the whole bone as in CT2S. Floor 10 MPa (fatty marrow, negative "
        "densities) and ceiling 25 GPa (stiffer than any cortical bone) are [m assumption]s"
    ),
)


def g_from_mg_per_cm3(density_mg_per_cm3: Floats) -> Doubles:
    """Return a density in g/cm3, the unit of the published laws."""
    return np.asarray(density_mg_per_cm3, dtype=np.float64) / 1000.0


def apparent_from_ash(rho_ash: Floats) -> Doubles:
    """Return rho_app from rho_ash, in the unit given."""
    return np.asarray(rho_ash, dtype=np.float64) / ASH_OVER_APPARENT


def youngs_modulus_mpa(
    rho_qct_mg_per_cm3: Floats, to_ash: ToAsh, law: ModulusLaw = MORGAN_2003_FEMORAL_NECK
) -> Doubles:
    """Return Young's modulus from rho_QCT: rho_QCT -> rho_ash -> rho_app -> E.

    Parameters
    ----------
    rho_qct_mg_per_cm3
        Any shape.
    to_ash
        Line or function from rho_QCT to rho_ash, both mg/cm3.
    law
        rho_app in g/cm3 to MPa.

    Returns
    -------
    array of the same shape
        MPa, between ``law.minimum_mpa`` and ``law.maximum_mpa``.
    """
    rho_app = np.maximum(g_from_mg_per_cm3(apparent_from_ash(to_ash(rho_qct_mg_per_cm3))), 0.0)
    modulus = law.coefficient_mpa * rho_app**law.exponent
    return np.clip(modulus, law.minimum_mpa, law.maximum_mpa)
