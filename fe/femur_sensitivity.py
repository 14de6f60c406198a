"""How much a femur's strength depends on its mask, for the directions that govern it.

Only the weakest and the strongest direction of each kind are loaded again: the interval of a minimum is that of its
direction, which costs a fraction of all directions. A changed mask could make another direction the weakest; the
strengths of neighbouring directions differ little, so the interval stays what it is for.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fe.femur import FemurSettings
from fe.femur_frame import Point
from fe.load_cases import Kind, LoadCase
from fe.material import ASH_SCHILEO_2008, MORGAN_2003_FEMORAL_NECK, ModulusLaw, ToAsh
from fe.sensitivity import STEPS, Outcome, Sensitivity, sensitivity
from fe.strength import MEMORY_LIMIT_BYTES, CaseStrength, FemurStrength, femur_strength

Progress = Callable[[float, str], None]

KINDS: tuple[Kind, ...] = ("stance", "fall")


def femur_sensitivity(
    strength: FemurStrength,
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    *,
    to_ash: ToAsh = ASH_SCHILEO_2008,
    modulus_law: ModulusLaw = MORGAN_2003_FEMORAL_NECK,
    settings: FemurSettings | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    steps: tuple[int, ...] = STEPS,
    progress: Progress | None = None,
) -> Sensitivity:
    """Evaluate the governing directions of a femur on its mask eroded and dilated by whole voxels.

    Parameters
    ----------
    strength
        Of the mask as given, from the same density, laws and settings; its kind of elements, their size and lattice are
        used again.
    rho_qct_mg_per_cm3, mask, spacing_mm, to_ash, modulus_law, settings, memory_limit_bytes
        As given to ``fe.strength.femur_strength``.
    steps
        Voxels: negative erodes, positive dilates.
    progress
        Called with a fraction 0..1 and a short text.

    Returns
    -------
    Sensitivity
        Names are ``stance_minimum``, ``stance_maximum``, ``fall_minimum``, ``fall_maximum``: those of kinds that were
        loaded.

    Raises
    ------
    BadMask, EmptyMask, BadSpacing
        The mask or the spacing cannot be used.
    """
    governing = governing_cases(strength)
    cases = tuple({case.name: _load_case(case) for case in governing.values()}.values())

    def evaluate(changed: NDArray[np.bool_], lattice_mm: Point | None) -> Outcome[Point]:
        result = femur_strength(
            rho_qct_mg_per_cm3,
            changed,
            spacing_mm,
            strength.side,
            to_ash=to_ash,
            modulus_law=modulus_law,
            discretisation=strength.discretisation,
            element_mm=strength.facts.element_mm,
            lattice_mm=lattice_mm,
            cases=cases,
            settings=settings,
            memory_limit_bytes=memory_limit_bytes,
        )
        loads = {case.name: case.failure_load_n for case in result.cases}
        return Outcome({name: loads[case.name] for name, case in governing.items()}, lattice)

    x, y, z = (float(place) for place in strength.affine_mm[:3, 3])
    lattice = (x, y, z)
    given = Outcome({name: case.failure_load_n for name, case in governing.items()}, lattice)
    return sensitivity(mask, spacing_mm, evaluate, steps=steps, base=given, progress=progress)


def governing_cases(strength: FemurStrength) -> dict[str, CaseStrength]:
    """Return the weakest and the strongest case of each kind, by name of the result."""
    found: dict[str, CaseStrength] = {}
    for kind in KINDS:
        weakest, strongest = strength.weakest(kind), strength.strongest(kind)
        if weakest is not None and strongest is not None:
            found[f"{kind}_minimum"], found[f"{kind}_maximum"] = weakest, strongest
    return found


def _load_case(case: CaseStrength) -> LoadCase:
    return LoadCase(case.name, case.kind, case.frontal_deg, case.second_deg, source="governs the strength")
