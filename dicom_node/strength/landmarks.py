"""The landmarks of a femur in the patient, for JSON."""

from dataclasses import asdict

from dicom_node.strength.bone import Bone
from fe.femur_frame import FemurFrame

POINTS = ("head_centre_mm", "trochanter_mm")
AXES = ("lateral", "anterior", "proximal", "neck_axis")


def femur_landmarks(frame: FemurFrame, bone: Bone) -> dict[str, object]:
    """Return a femur's frame with points in LPS mm and axes as LPS unit vectors."""
    values = asdict(frame)
    for name in POINTS:
        values[name.replace("_mm", "_lps_mm")] = bone.point_lps_mm(values.pop(name))
    for name in AXES:
        values[f"{name}_lps"] = bone.direction_lps(values.pop(name))
    return values
