"""How much a vertebra's strength depends on its mask."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fe.sensitivity import STEPS, Outcome, Sensitivity, sensitivity
from fe.vertebra import VertebraSettings, VertebraStrength, vertebra_strength

LOAD_STEPS = 5
"""For changed masks: half of the default's cost, for a strength within 0.1 % of it (docs/methods/vertebra-strength.md).
Another mask has another mesh, so displacements cannot be handed on."""


def vertebra_sensitivity(
    strength: VertebraStrength,
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    *,
    settings: VertebraSettings | None = None,
    memory_limit_bytes: int,
    steps: tuple[int, ...] = STEPS,
    progress: Callable[[float, str], None] | None = None,
) -> Sensitivity:
    """Evaluate a vertebra's strength, named ``strength``, on its mask eroded and dilated by whole voxels.

    Parameters
    ----------
    strength
        Of the mask as given, from the same density and settings; its elements' size is used again.
    rho_qct_mg_per_cm3, mask, spacing_mm, settings, memory_limit_bytes
        As given to ``fe.vertebra.vertebra_strength``.
    steps
        Voxels: negative erodes, positive dilates.
    progress
        Called with a fraction 0..1 and a short text.

    Raises
    ------
    BadMask, EmptyMask, BadSpacing
        The mask or the spacing cannot be used.
    """
    fewer = replace(settings if settings is not None else VertebraSettings(), steps=LOAD_STEPS)

    def evaluate(changed: NDArray[np.bool_], start: None) -> Outcome[None]:
        result = vertebra_strength(
            rho_qct_mg_per_cm3,
            changed,
            spacing_mm,
            strength.level,
            element_mm=strength.facts.element_mm,
            settings=fewer,
            memory_limit_bytes=memory_limit_bytes,
        )
        return Outcome({"strength": result.failure_load_n}, start)

    given: Outcome[None] = Outcome({"strength": strength.failure_load_n}, None)
    return sensitivity(mask, spacing_mm, evaluate, steps=steps, base=given, progress=progress)
