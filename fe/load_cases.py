"""The directions from which a femur is loaded: two tables of angles and two named cases.

The fall table is that of CT2S: 28 directions of the hip force, 7 anteroposterior by 4 mediolateral angles. The stance
table spans the cone of directions of daily life. Both are configuration: any sequence of ``LoadCase`` will do.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["stance", "fall"]

FALL_ANTEROPOSTERIOR_DEG = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0)
FALL_MEDIOLATERAL_DEG = (0.0, 10.0, 20.0, 30.0)
"""Directions of a fall [Benemerito2021 for their number; m assumption for the angles]."""

STANCE_FRONTAL_DEG = (3.0, 10.0, 17.0, 24.0)
STANCE_SAGITTAL_DEG = (-3.0, 4.0, 11.0, 18.0)
"""Directions of the hip force in daily life: 3 to 24 degrees in the frontal plane, 3 degrees forwards to 18 degrees
backwards in the sagittal plane [Cristofolini2007; m assumption]. The directions that CT2S takes are not known here."""


@dataclass(frozen=True, slots=True)
class LoadCase:
    """One direction of the force on the femoral head, by angles in the anatomical frame.

    Attributes
    ----------
    name
        Key of the case, for example ``stance``.
    kind
        ``stance``: the angles turn the force away from straight down the shaft. ``fall``: away from straight lateral.
    frontal_deg
        Stance: towards lateral. Fall: towards proximal, the adduction of the thigh on the ground.
    second_deg
        Towards posterior. Stance: in the sagittal plane. Fall: in the transverse plane, the internal rotation.
    source
        Where the angles come from; ``[m assumption]`` where not verified.
    """

    name: str
    kind: Kind
    frontal_deg: float
    second_deg: float
    source: str

    def components(self) -> tuple[float, float, float]:
        """Return the (lateral, anterior, proximal) components of the unit direction."""
        frontal, second = np.tan(np.radians((self.frontal_deg, self.second_deg)))
        raw = {"stance": (frontal, -second, -1.0), "fall": (1.0, -second, frontal)}[self.kind]
        lateral, anterior, proximal = np.array(raw) / np.linalg.norm(raw)
        return (float(lateral), float(anterior), float(proximal))


STANCE = LoadCase(
    "stance",
    "stance",
    frontal_deg=13.0,
    second_deg=8.0,
    source="Peak of normal walking measured with instrumented implants: about 13 degrees from medial to lateral and 8 "
    "degrees from front to back [Bergmann2001; m assumption]",
)
SIDEWAYS_FALL = LoadCase(
    "sideways_fall",
    "fall",
    frontal_deg=10.0,
    second_deg=15.0,
    source="The usual laboratory fall: 10 degrees of adduction, 15 degrees of internal rotation [Courtney1994, "
    "Pinilla1996; m assumption]",
)
SINGLE_CASES: tuple[LoadCase, ...] = (STANCE, SIDEWAYS_FALL)
"""One stance and one fall, where a quick number is enough."""

STANCE_CASES: tuple[LoadCase, ...] = tuple(
    LoadCase(
        f"stance_frontal{frontal:+.0f}_sagittal{sagittal:+.0f}",
        "stance",
        frontal,
        sagittal,
        source="Cone of directions of daily life [Cristofolini2007; m assumption]",
    )
    for frontal in STANCE_FRONTAL_DEG
    for sagittal in STANCE_SAGITTAL_DEG
)
FALL_CASES: tuple[LoadCase, ...] = tuple(
    LoadCase(
        f"fall_ml{mediolateral:+.0f}_ap{anteroposterior:+.0f}",
        "fall",
        mediolateral,
        anteroposterior,
        source="28 falls of CT2S [Benemerito2021; m assumption for the angles and their signs]",
    )
    for mediolateral in FALL_MEDIOLATERAL_DEG
    for anteroposterior in FALL_ANTEROPOSTERIOR_DEG
)
DEFAULT_CASES: tuple[LoadCase, ...] = (*STANCE_CASES, *FALL_CASES)
