"""The softening law of bone in the voxel model of the femur: stress from strain, element by element.

One curve per element, from its ash density and phase (trabecular or cortical): a line to the strength S, a plateau, a
falling line, and a residual stress for ever. Stress and strain are equivalents after von Mises, so that tension and
compression, in every direction, share it. The constants are those of the authors' program [SasCode], which names
[Keyak2005] as their source; densities are g/cm3 inside the formulas.

Plateau and fall were measured on specimens of a gauge length g (15 mm trabecular, 5 mm cortical). An element of edge
h < g is the part of the specimen that fails while the rest of it unloads elastically: its plateau is g / h times as
long, and its falling slope E' follows from ``g / E0' = h / E' + (g - h) / E``, with E0' the slope of the specimen and
E Young's modulus. A bar of length g, one element of which is a little weaker, then has the measured curve again,
whatever its elements measure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadDensity, BadSpacing
from fe.material import g_from_mg_per_cm3
from fe.voxel.element import elasticity_matrix

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

MODULUS_MPA, MODULUS_EXPONENT = 14_900.0, 1.86
"""E = 14900 rho^1.86 MPa [Saillard2024, SasCode]."""

STRENGTH_MPA, STRENGTH_EXPONENT = 102.0, 1.80
"""S = 102 rho^1.80 MPa [SasCode]."""

RESIDUAL_MPA, RESIDUAL_EXPONENT = 43.1, 1.81
"""Residual stress 43.1 rho^1.81 MPa [SasCode]."""

TRABECULAR_GAUGE_MM, CORTICAL_GAUGE_MM = 15.0, 5.0
"""Gauge lengths of the specimens [SasCode]."""

ASH_RANGE_MG_PER_CM3 = (10.0, 1400.0)
"""Ash densities are kept between these, and the share of elements that needed it is flagged. Marrow fat or a lytic
hole would have no stiffness (10 mg/cm3 have 2.8 MPa); nothing in a femur but metal is denser than 1400 mg/cm3, which
has 27.9 GPa [m assumption]."""

ELASTIC, PLATEAU, SOFTENING, RESIDUAL = 0, 1, 2, 3
"""Phases of an element, in the order in which it passes through them."""


@dataclass(frozen=True, slots=True)
class SofteningLaw:
    """The curve of every element. All attributes are (elements,) arrays.

    Attributes
    ----------
    youngs_modulus_mpa
        Slope of the first line.
    strength_mpa
        Stress of the plateau; infinite where an element stays elastic.
    plateau_end
        Strain at which the fall begins; infinite where an element never softens.
    softening_mpa
        Slope of the fall, negative.
    residual_mpa
        Stress that is left.
    """

    youngs_modulus_mpa: Doubles
    strength_mpa: Doubles
    plateau_end: Doubles
    softening_mpa: Doubles
    residual_mpa: Doubles

    @property
    def yield_strain(self) -> Doubles:
        """Strain at which the plateau begins."""
        return self.strength_mpa / self.youngs_modulus_mpa

    @property
    def softening_end(self) -> Doubles:
        """Strain from which on only the residual stress is left."""
        return self.plateau_end + (self.residual_mpa - self.strength_mpa) / self.softening_mpa

    def stress_mpa(self, strain: Doubles) -> Doubles:
        """Return the stress at a strain that was never exceeded before."""
        falling = self.strength_mpa + self.softening_mpa * np.maximum(strain - self.plateau_end, 0.0)
        return np.minimum(self.youngs_modulus_mpa * strain, np.maximum(falling, self.residual_mpa))

    def secant_mpa(self, largest_strain: Doubles) -> Doubles:
        """Return stress over strain at the largest strain so far; it never rises with that strain."""
        strain = np.maximum(largest_strain, self.yield_strain)
        elastic = ~(largest_strain > self.yield_strain)
        strain[elastic] = 1.0
        return np.where(elastic, self.youngs_modulus_mpa, self.stress_mpa(strain) / strain)

    def phase(self, largest_strain: Doubles) -> NDArray[np.int8]:
        """Return the phase of every element from its largest strain so far."""
        bounds = np.stack((self.yield_strain, self.plateau_end, self.softening_end))
        return np.asarray((largest_strain > bounds).sum(axis=0), dtype=np.int8)

    def with_support(self, which: Bools, youngs_modulus_mpa: float, strength_mpa: float = np.inf) -> "SofteningLaw":
        """Return the law with some elements elastic, or perfectly plastic at a strength, instead of softening."""
        return SofteningLaw(
            np.where(which, youngs_modulus_mpa, self.youngs_modulus_mpa),
            np.where(which, strength_mpa, self.strength_mpa),
            np.where(which, np.inf, self.plateau_end),
            np.where(which, -1.0, self.softening_mpa),
            np.where(which, 0.0, self.residual_mpa),
        )


def softening_law(rho_ash_mg_per_cm3: Doubles, is_cortical: Bools, element_mm: float) -> SofteningLaw:
    """Return the law of elements of bone.

    1. E, S and residual stress from the density, for both phases alike.
    2. Plateau strain and falling slope of the specimen: trabecular 0.00189 + 0.0241 rho and -2080 rho^1.45 MPa,
       cortical 0.0184 - 0.0100 rho and -1000 MPa.
    3. Both scaled from the gauge length to the element.

    Parameters
    ----------
    rho_ash_mg_per_cm3 : (elements,) array
        Ash density; kept within ``ASH_RANGE_MG_PER_CM3``.
    is_cortical : (elements,) bool array
        Phase.
    element_mm
        Edge of the elements, at most the cortical gauge length.

    Raises
    ------
    BadDensity
        A density is not finite.
    BadSpacing
        An element would be longer than the cortical specimen, where the scaling has no meaning.
    """
    if not np.isfinite(rho_ash_mg_per_cm3).all():
        raise BadDensity("The ash density of an element is not finite.")
    if not 0 < element_mm <= CORTICAL_GAUGE_MM:
        raise BadSpacing(f"The law holds for elements of up to {CORTICAL_GAUGE_MM:.0f} mm, not of {element_mm} mm.")
    rho = g_from_mg_per_cm3(np.clip(rho_ash_mg_per_cm3, *ASH_RANGE_MG_PER_CM3))
    modulus = MODULUS_MPA * rho**MODULUS_EXPONENT
    strength = STRENGTH_MPA * rho**STRENGTH_EXPONENT
    gauge_mm = np.where(is_cortical, CORTICAL_GAUGE_MM, TRABECULAR_GAUGE_MM)
    plateau = np.where(is_cortical, 0.0184 - 0.0100 * rho, 0.00189 + 0.0241 * rho)
    slope = np.where(is_cortical, -1000.0, -2080.0 * rho**1.45)
    return SofteningLaw(
        youngs_modulus_mpa=modulus,
        strength_mpa=strength,
        plateau_end=strength / modulus + plateau * gauge_mm / element_mm,
        softening_mpa=element_mm / (gauge_mm / slope - (gauge_mm - element_mm) / modulus),
        residual_mpa=RESIDUAL_MPA * rho**RESIDUAL_EXPONENT,
    )


def equivalent_strain(strains: Doubles, poisson_ratio: float) -> Doubles:
    """Return von Mises' stress over Young's modulus (n,) from engineering strains (n, 6): xx, yy, zz, xy, yz, xz.

    It is the strain along the axis under uniaxial stress, and does not depend on the modulus.
    """
    x, y, z, xy, yz, xz = np.einsum("ts,es->te", elasticity_matrix(poisson_ratio), strains)
    normal = (x - y) ** 2 + (y - z) ** 2 + (z - x) ** 2
    return np.asarray(np.sqrt(normal / 2 + 3 * (xy**2 + yz**2 + xz**2)))
