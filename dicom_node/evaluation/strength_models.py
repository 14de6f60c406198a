"""The strength models that an evaluation of masks can run, as one table: what each takes, and the loads it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fe.femur_frame import Point, Side
from fe.femur_sensitivity import governing_cases
from fe.material import ToAsh
from fe.sas import ELEMENT_MM as SAS_ELEMENT_MM
from fe.sas import SENSITIVITY_TOLERANCE, sas_strength
from fe.sas_model import SasSettings
from fe.sensitivity import Outcome
from fe.strength import femur_strength
from fe.vertebra import ELEMENT_MM as VERTEBRA_ELEMENT_MM
from fe.vertebra import VertebraSettings, vertebra_strength
from fe.vertebra_sensitivity import LOAD_STEPS

SAS_SETTINGS = replace(SasSettings(), steps=replace(SasSettings().steps, tolerance=SENSITIVITY_TOLERANCE))
VERTEBRA_SETTINGS = replace(VertebraSettings(), steps=LOAD_STEPS)
"""As the models' own sensitivity has them, here for every mask: half of the cost, and a load within 0.1 % of that of
``osteonode fe`` (docs/methods/sensitivity.md)."""

Mask = NDArray[np.bool_]
Tell = Callable[[float, str], None]
Lattice = Point
"""LPS place of some element's centre."""

NO_LATTICE: Lattice = (0.0, 0.0, 0.0)
"""Of a model that meshes the surface of every mask anew."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskPair:
    """One bone in one scan, by two masks.

    Attributes
    ----------
    rho_qct_mg_per_cm3, reference, automatic : (slice, row, column) arrays
        Canonical order, cut out around both masks.
    spacing_mm
        Along (slice, row, column).
    side, level
        Of a femur; of a vertebra.
    to_ash
        Calibrated to ash density, both mg/cm3.
    """

    rho_qct_mg_per_cm3: NDArray[np.float64] = field(repr=False)
    reference: Mask = field(repr=False)
    automatic: Mask = field(repr=False)
    spacing_mm: tuple[float, float, float]
    side: Side
    level: str
    to_ash: ToAsh


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user chose: edge of the elements (None: the model's own), and the memory a model may take."""

    element_mm: float | None
    memory_limit_bytes: int


Compute = Callable[[MaskPair, Mask, Lattice | None, Limits, Tell], Outcome[Lattice]]
"""A bone, one mask of it, the lattice of the elements (None: the mask's own), to loads and the lattice used."""


@dataclass(frozen=True, slots=True)
class LoadModel:
    """A model.

    Attributes
    ----------
    bone
        What it takes.
    loads
        Key of each load in the outcome -> title of its rows in the table.
    compute
        Runs it.
    """

    bone: Literal["femur", "vertebra"]
    loads: Mapping[str, str]
    compute: Compute


def _sas(bone: MaskPair, mask: Mask, lattice_mm: Lattice | None, limits: Limits, tell: Tell) -> Outcome[Lattice]:
    found = sas_strength(
        bone.rho_qct_mg_per_cm3,
        mask,
        bone.spacing_mm,
        bone.side,
        to_ash=bone.to_ash,
        element_mm=limits.element_mm or SAS_ELEMENT_MM,
        settings=SAS_SETTINGS,
        lattice_mm=lattice_mm,
        progress=tell,
        memory_limit_bytes=limits.memory_limit_bytes,
    )
    return Outcome({"strength": found.failure_load_n}, found.lattice_mm)


def _ct2s(bone: MaskPair, mask: Mask, lattice_mm: Lattice | None, limits: Limits, tell: Tell) -> Outcome[Lattice]:
    found = femur_strength(
        bone.rho_qct_mg_per_cm3,
        mask,
        bone.spacing_mm,
        bone.side,
        to_ash=bone.to_ash,
        element_mm=limits.element_mm,
        lattice_mm=lattice_mm,
        progress=tell,
        memory_limit_bytes=limits.memory_limit_bytes,
    )
    x, y, z = (float(place) for place in found.affine_mm[:3, 3])
    return Outcome({name: case.failure_load_n for name, case in governing_cases(found).items()}, (x, y, z))


def _vertebra(bone: MaskPair, mask: Mask, lattice_mm: Lattice | None, limits: Limits, tell: Tell) -> Outcome[Lattice]:
    del lattice_mm
    found = vertebra_strength(
        bone.rho_qct_mg_per_cm3,
        mask,
        bone.spacing_mm,
        bone.level,
        element_mm=limits.element_mm or VERTEBRA_ELEMENT_MM,
        settings=VERTEBRA_SETTINGS,
        progress=tell,
        memory_limit_bytes=limits.memory_limit_bytes,
    )
    return Outcome({"strength": found.failure_load_n}, NO_LATTICE)


LOAD_MODELS: dict[str, LoadModel] = {
    "sas": LoadModel("femur", {"strength": "Femurs"}, _sas),
    "ct2s": LoadModel(
        "femur",
        {"stance_minimum": "Femurs, weakest stance", "fall_minimum": "Femurs, weakest fall"},
        _ct2s,
    ),
    "vertebra": LoadModel("vertebra", {"strength": "Vertebrae"}, _vertebra),
}
"""By the name on the command line; every mask of a bone is solved with the same settings and, where the model has one,
on the same lattice, so that loads differ by the masks only (docs/methods/sensitivity.md)."""
