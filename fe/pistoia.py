"""Pistoia's criterion: a bone fails when a small part of its tissue is strained beyond a limit [Pistoia2002].

The strain of an element is one number, its effective strain ``sqrt(2 U / E)``: U is the strain energy density at the
element's CENTRE and E its Young's modulus. The centre matters: the mean energy over an element is larger (about one
percent in trabecular bone), and the limits were found with the centre's.

The model is linear, so the load at failure is the applied load times limit over critical strain, where the critical
strain is the one that exactly the critical fraction of the elements reaches or exceeds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadLoad, UnsupportedModel
from fe.voxel.element import elasticity_matrix

Doubles = NDArray[np.float64]

CRITICAL_STRAIN = 0.007
CRITICAL_FRACTION = 0.02
"""Failure when 2 % of the tissue is strained beyond 0.7 % [Pistoia2002]."""

COUNT_SLACK = 1e-6
"""Elements: rounding of ``count * (1 - fraction)`` must not move the order statistic by one."""


@dataclass(frozen=True, slots=True)
class PistoiaFailure:
    """Failure of a linear model by Pistoia's criterion.

    Attributes
    ----------
    load_factor
        Failure load over applied load.
    effective_strain
        Effective strain under the applied load that the critical fraction of the tissue reaches.
    critical_strain, critical_fraction
        The limits used.
    counted_elements
        Elements that took part.
    """

    load_factor: float
    effective_strain: float
    critical_strain: float
    critical_fraction: float
    counted_elements: int


def energy_density_mpa(strains: Doubles, modulus_mpa: Doubles, poisson_ratio: float) -> Doubles:
    """Return the strain energy density (n,), MPa (N mm / mm3), of engineering strains (n, 6) of isotropic elements."""
    stress = strains @ elasticity_matrix(poisson_ratio)
    return np.asarray(0.5 * modulus_mpa * np.einsum("ij,ij->i", strains, stress))


def effective_strains(energy_mpa: Doubles, modulus_mpa: Doubles) -> Doubles:
    """Return ``sqrt(2 U / E)``: the uniaxial strain that stores the same energy [Pistoia2002]."""
    return np.sqrt(2 * energy_mpa / modulus_mpa)


def check_limits(critical_strain: float, critical_fraction: float) -> None:
    """Refuse limits that are no fractions.

    Raises
    ------
    BadLoad
        A limit lies outside of 0..1.
    """
    if not (0 < critical_strain < 1 and 0 < critical_fraction < 1):
        raise BadLoad(f"Limits must lie between 0 and 1: strain {critical_strain}, fraction {critical_fraction}.")


def pistoia_failure(
    effective_strain: Doubles,
    critical_strain: float = CRITICAL_STRAIN,
    critical_fraction: float = CRITICAL_FRACTION,
) -> PistoiaFailure:
    """Scale an applied load to failure.

    1. Sort the effective strains upwards.
    2. Take the element with number ``floor(n (1 - critical_fraction))``, counted from 0: an order statistic, without
       interpolation, as in the reference programs.
    3. The load factor is ``critical_strain`` over its strain.

    Parameters
    ----------
    effective_strain : (n,) array
        Of the elements that count, under the applied load.
    critical_strain, critical_fraction
        Limits, both between 0 and 1.

    Raises
    ------
    BadLoad
        A limit lies outside of 0..1.
    UnsupportedModel
        No element counts, or the critical one is not strained at all.
    """
    check_limits(critical_strain, critical_fraction)
    count = len(effective_strain)
    if count == 0:
        raise UnsupportedModel("No element counts for failure.")
    number = int(np.floor(count * (1 - critical_fraction) + COUNT_SLACK))
    critical = float(np.partition(effective_strain, number)[number])
    if not critical > 0:
        raise UnsupportedModel(f"Less than {critical_fraction:.1%} of the tissue is strained: the load has no failure.")
    return PistoiaFailure(critical_strain / critical, critical, critical_strain, critical_fraction, count)
