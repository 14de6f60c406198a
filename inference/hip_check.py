"""Is what was segmented a proximal femur, whole enough to be measured? Checks, each with its flag.

The module judges masks; it changes none. Limits are anatomical ranges of adults, generous on purpose: they
catch another bone taken for a femur, not an unusual femur.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.hip_separation import SeparatedHip
from inference.quality import QualityFlag

EDGE_MM = 2.0
"""A head may stick out of the scan by this, the error of its sphere. [m] assumption."""
LEAST_OFFSET_RADII = 1.6
"""A femur reaches laterally of its head's centre to its trochanter, 2 to 3 radii; a humerus 1.2. [m]
assumption."""
LEAST_LATERAL_MM3 = 4000.0
"""Bone lateral of the head: neck and trochanters hold ten times as much. [m] assumption."""
LEAST_NECK_MM2 = 150.0
"""Smallest section of the neck; adults 600 mm2 and more, osteoporotic cortex alone 200. [m] assumption."""
LARGEST_SECTION_MM2 = 6000.0
"""Largest axial section of a proximal femur, through head and trochanter: adults up to 4500. [m]
assumption."""
LARGEST_CONTACT_MM2 = 100.0
"""Contact of both bones away from the joint's sphere: more is a bridge of bone or a leak. [m] assumption:
0 mm2 in the sound hips and 47 in the nailed one of docs/methods, 110 through a bony bridge of 16 mm."""
JOINT_SHELL_MM = 7.0
"""Contact within this of the head's sphere is the joint itself. [m] assumption."""
CAP_DEPTH_MM = 15.0
"""Acetabulum is looked for within this of the head's sphere. [m] assumption."""
LEAST_CAP_MM3 = 3000.0
"""Bone of the acetabulum within ``CAP_DEPTH_MM`` of the head; adults have five times as much. [m]
assumption."""
OUTSIDE_HU = -500.0
"""Air or padding; skin and fat keep it away from a femur that is seen whole. [m] assumption."""
LARGEST_CUT_MM2 = 300.0
"""Bone that may touch the side of the field of view or air, noise and bubbles included. [m] assumption."""
LEAST_NECK_RADII = 1.2
"""Femur seen below the head's centre that shows the whole neck, in head radii. [m] assumption."""
SHAFT_START_RADII = 3.5
"""The shaft is straight from here below the head's centre, in radii; as in docs/methods/femur-strength.md. [m]."""
LEAST_SHAFT_MM = 30.0
"""Straight shaft that gives its axis and holds the femur model; as in docs/methods/femur-strength.md. [m]."""
METAL_HU = 2500.0
"""Above cortical bone (up to 2000 HU) and below titanium (3000 HU and more). [m] assumption."""
LEAST_METAL_MM3 = 200.0
"""A single bright voxel of 3 mm is 27 mm3; the smallest hip screw is 1000 mm3. [m] assumption."""
METAL_MARGIN_MM = 6.0
"""Metal so near the bone is in it or on it. [m] assumption."""


def check_femur(hip: SeparatedHip, extent_mm: NDArray[np.float64]) -> tuple[QualityFlag, ...]:
    """Judge one femur on the working grid.

    Parameters
    ----------
    hip
        The femur, its hip bone and its head.
    extent_mm : (3,) array
        (z, y, x) of the CT's last voxel.

    Returns
    -------
    tuple of QualityFlag
        The first flag that forbids the femur's use, or ``short_shaft``, or nothing.
    """
    for problem in (
        _head_outside(hip, extent_mm),
        _not_a_hip(hip),
        _neck_cut(hip),
        _not_separated(hip),
        _cut_sideways(hip, extent_mm),
        _short_shaft(hip),
    ):
        if problem is not None:
            return (problem,)
    return ()


def _head_outside(hip: SeparatedHip, extent_mm: NDArray[np.float64]) -> QualityFlag | None:
    """Flag a head that the scan does not show whole."""
    reach = hip.head.radius_mm - EDGE_MM
    room = float(min((hip.head.centre_mm - reach).min(), (extent_mm - hip.head.centre_mm - reach).min()))
    if room >= 0:
        return None
    name = hip.femur_structure.name
    sentence = f"{name}: the edge of the scan cuts the femoral head; the whole head is needed."
    return _flag("truncated_bone", hip, sentence, (("head_outside_mm", round(-room, 1)),))


def _not_a_hip(hip: SeparatedHip) -> QualityFlag | None:
    """Flag a sphere without a neck and trochanter lateral of it or without an acetabulum around it."""
    frame, voxel_mm3 = hip.frame, hip.grid.step_mm**3
    trochanter = hip.femur & (frame.lateral > 1.2)
    trochanter_mm3 = float(trochanter.sum()) * voxel_mm3
    cap_mm3 = float((hip.hip_bone & (frame.distance_mm < hip.head.radius_mm + CAP_DEPTH_MM)).sum()) * voxel_mm3
    columns = trochanter.any(axis=(0, 1))
    offset = float(frame.lateral[0, 0, columns].max()) if columns.any() else 0.0
    if trochanter_mm3 >= LEAST_LATERAL_MM3 and offset >= LEAST_OFFSET_RADII and cap_mm3 >= LEAST_CAP_MM3:
        return None
    evidence = (("trochanter_mm3", round(trochanter_mm3)), ("acetabulum_mm3", round(cap_mm3)))
    name = hip.femur_structure.name
    if cap_mm3 >= LEAST_CAP_MM3 and hip.head.centre_mm[0] < 2.0 * hip.head.radius_mm:
        sentence = f"{name}: the scan ends at the femoral neck; neck and trochanters are needed."
        return _flag("truncated_bone", hip, sentence, evidence)
    sentence = f"{name}: a round bone was found, but no acetabulum around it or no femoral neck beside it."
    return _flag("not_found", hip, sentence, evidence)


def _neck_cut(hip: SeparatedHip) -> QualityFlag | None:
    """Flag a femur that the scan ends above the lower border of its neck."""
    length_mm = _length_mm(hip)
    if length_mm >= LEAST_NECK_RADII * hip.head.radius_mm:
        return None
    sentence = (
        f"{hip.femur_structure.name}: the scan ends {length_mm:.0f} mm below the centre of the femoral head; "
        f"the whole neck is needed, {LEAST_NECK_RADII * hip.head.radius_mm:.0f} mm."
    )
    return _flag("truncated_bone", hip, sentence, (("below_head_mm", round(length_mm)),))


def _not_separated(hip: SeparatedHip) -> QualityFlag | None:
    """Flag a femur that is too thick, hangs on a thread, or touches the hip bone beside the joint."""
    voxel_mm2 = hip.grid.step_mm**2
    beyond = hip.frame.distance_mm - hip.head.radius_mm
    contact = ndimage.binary_dilation(hip.hip_bone) & hip.femur & (beyond > JOINT_SHELL_MM)
    neck = hip.femur & (beyond > 4.0) & (beyond <= 4.0 + hip.grid.step_mm)
    contact_mm2 = float(contact.sum()) * voxel_mm2
    neck_mm2 = float(neck.sum()) * voxel_mm2
    section_mm2 = float(hip.femur.sum(axis=(1, 2)).max()) * voxel_mm2
    if contact_mm2 <= LARGEST_CONTACT_MM2 and neck_mm2 >= LEAST_NECK_MM2 and section_mm2 <= LARGEST_SECTION_MM2:
        return None
    return _flag(
        "bone_not_separated",
        hip,
        f"{hip.femur_structure.name}: the femur could not be separated from the bones around it.",
        (
            ("contact_mm2", round(contact_mm2)),
            ("neck_mm2", round(neck_mm2)),
            ("largest_section_mm2", round(section_mm2)),
        ),
    )


def _cut_sideways(hip: SeparatedHip, extent_mm: NDArray[np.float64]) -> QualityFlag | None:
    """Flag a femur that the side of the scan or its circle cuts; streaks of metal also read as air."""
    hu, step = hip.grid.hu, hip.grid.step_mm
    _, y, x = hip.grid.axes_mm()
    rim = (y < step) | (y > extent_mm[1] - step) | (x < step) | (x > extent_mm[2] - step)
    streaked = (hu > METAL_HU).any(axis=(1, 2), keepdims=True)
    bare = ndimage.binary_dilation(hip.femur, iterations=2) & (hu < OUTSIDE_HU) & ~streaked
    cut_mm2 = float((hip.femur & rim).sum() + bare.sum()) * step**2
    if cut_mm2 <= LARGEST_CUT_MM2:
        return None
    name = hip.femur_structure.name
    sentence = f"{name}: the side of the field of view cuts the bone; the whole proximal femur is needed."
    return _flag("truncated_bone", hip, sentence, (("cut_mm2", round(cut_mm2)),))


def _short_shaft(hip: SeparatedHip) -> QualityFlag | None:
    """Flag a femur with too little shaft below its head."""
    length_mm = _length_mm(hip)
    needed_mm = SHAFT_START_RADII * hip.head.radius_mm + LEAST_SHAFT_MM
    if length_mm >= needed_mm:
        return None
    sentence = (
        f"{hip.femur_structure.name}: {length_mm:.0f} mm of the femur are seen below the centre of its head; "
        f"the femur model needs {needed_mm:.0f} mm."
    )
    return _flag("short_shaft", hip, sentence, (("below_head_mm", round(length_mm)),))


def _length_mm(hip: SeparatedHip) -> float:
    """Return how far the femur is seen below the centre of its head."""
    lowest = int(np.flatnonzero(hip.femur.any(axis=(1, 2)))[0])
    return float(hip.head.centre_mm[0] - hip.grid.position_mm(np.array([lowest, 0, 0]))[0])


def _flag(code: str, hip: SeparatedHip, sentence: str, evidence: tuple[tuple[str, float], ...]) -> QualityFlag:
    """Return a flag on the hip's femur."""
    return QualityFlag(code, hip.femur_structure.key, sentence, evidence)


def metal_flags(hip: SeparatedHip) -> tuple[QualityFlag, ...]:
    """Flag metal in a femur or within ``METAL_MARGIN_MM`` of it, whether or not the femur can be used."""
    reach = int(np.ceil(METAL_MARGIN_MM / hip.grid.step_mm))
    near = ndimage.maximum_filter(hip.femur, size=2 * reach + 1) & (hip.grid.hu > METAL_HU)
    metal_mm3 = float(near.sum()) * hip.grid.step_mm**3
    if metal_mm3 < LEAST_METAL_MM3:
        return ()
    sentence = f"{hip.femur_structure.name}: {metal_mm3:.0f} mm3 of metal in the bone or beside it."
    return (_flag("metal", hip, sentence, (("metal_volume_mm3", round(metal_mm3)),)),)
