"""How a drawn skeleton lies in the scanner: femurs turned in their sockets, the whole tilted and scaled.

The head stays in the acetabulum: its centre is moved to the socket's centre, the femur is scaled until the
wanted joint space is left, and what of the hip bone would still be nearer to the head is pushed outwards.
Angles in radians, seen on the right side and mirrored for the left: flexion brings the knee forward, abduction
brings it outward, internal rotation turns the toes inward.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dicom_node.training.shapes.model import Person, Sphere, Surface

FLEXION_DEG = (-15.0, 30.0)
ABDUCTION_DEG = (-8.0, 20.0)
INTERNAL_ROTATION_DEG = (-30.0, 30.0)
JOINT_SPACE_MM = (2.0, 5.0)
TILT_DEG = (-27.0, 13.0)
OBLIQUITY_SD_DEG = 4.0
TURN_SD_DEG = 5.0
SCALE = (0.85, 1.15)
"""Ranges of poses: wider than patients on a table lie, so that a network meets more than it will see [m
assumption]. The mean person's pelvis leans 7 degrees forward, hence the range of its tilt."""

FEMUR_SCALE = (0.9, 1.1)
"""How far a femur may be scaled to leave the joint space."""


@dataclass(frozen=True, slots=True)
class HipPose:
    """One femur's rotation in its socket, and the joint space."""

    flexion_rad: float = 0.0
    abduction_rad: float = 0.0
    internal_rotation_rad: float = 0.0
    joint_space_mm: float = 3.0

    def lessened(self, factor: float) -> "HipPose":
        """Return the pose with its angles multiplied."""
        angles = (self.flexion_rad * factor, self.abduction_rad * factor, self.internal_rotation_rad * factor)
        return HipPose(*angles, self.joint_space_mm)


@dataclass(frozen=True, slots=True)
class Pose:
    """A whole pose: each hip by the femur's key, the pelvis's rotation (x, y, z axes) and the scale."""

    hips: dict[str, HipPose]
    pelvis_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def with_hip(self, femur: str, hip: HipPose) -> "Pose":
        """Return the pose with one hip's pose exchanged."""
        return replace(self, hips=self.hips | {femur: hip})


def draw_pose(generator: np.random.Generator) -> Pose:
    """Draw a pose from the ranges of this module."""
    flexion, abduction = generator.uniform(*FLEXION_DEG), generator.uniform(*ABDUCTION_DEG)
    rotation = generator.uniform(*INTERNAL_ROTATION_DEG)
    hips = {}
    for femur in ("femur_right", "femur_left"):
        spread = generator.normal(0.0, (3.0, 4.0, 6.0))
        hips[femur] = HipPose(
            flexion_rad=float(np.deg2rad(flexion + spread[0])),
            abduction_rad=float(np.deg2rad(abduction + spread[1])),
            internal_rotation_rad=float(np.deg2rad(rotation + spread[2])),
            joint_space_mm=float(generator.uniform(*JOINT_SPACE_MM)),
        )
    tilt = np.deg2rad(generator.uniform(*TILT_DEG))
    obliquity, turn = np.deg2rad(generator.normal(0.0, (OBLIQUITY_SD_DEG, TURN_SD_DEG)))
    return Pose(hips, (float(tilt), float(obliquity), float(turn)), float(generator.uniform(*SCALE)))


def posed(person: Person, pose: Pose) -> tuple[dict[str, Surface], dict[str, Sphere]]:
    """Return the skeleton in its pose.

    Returns
    -------
    bones
        The five bones in the frame of the hip joints, turned and scaled.
    heads
        The ball of each femur's head.
    """
    turn = Rotation.from_euler("xyz", pose.pelvis_rad).as_matrix().T * pose.scale
    bones = {key: bone for key, bone in person.bones.items() if not key.startswith("femur")}
    heads = {}
    for femur, socket in person.sockets.items():
        hip, angles = femur.replace("femur", "hip"), pose.hips[femur]
        gap_mm = angles.joint_space_mm / pose.scale
        scale = float(np.clip((socket.radius_mm - gap_mm) / person.heads_mm[femur], *FEMUR_SCALE))
        radius_mm = person.heads_mm[femur] * scale
        turned = person.bones[femur].points_mm @ _femur_rotation(femur, angles).T
        bones[femur] = person.bones[femur].moved((turned * scale + socket.centre_mm) @ turn)
        bones[hip] = bones[hip].moved(_pushed_out(bones[hip].points_mm, socket.centre_mm, radius_mm + gap_mm))
        heads[femur] = Sphere(socket.centre_mm @ turn, radius_mm * pose.scale)
    moved = {key: bone.moved(bone.points_mm @ turn) for key, bone in bones.items() if not key.startswith("femur")}
    return bones | moved, heads


def _femur_rotation(femur: str, pose: HipPose) -> NDArray[np.float64]:
    """Return the turn about the head's centre: internal rotation first, then abduction, then flexion."""
    mirror = 1.0 if femur == "femur_right" else -1.0
    angles = (mirror * pose.internal_rotation_rad, mirror * pose.abduction_rad, -pose.flexion_rad)
    return Rotation.from_euler("zyx", angles).as_matrix()


def _pushed_out(
    points_mm: NDArray[np.float64], centre_mm: NDArray[np.float64], radius_mm: float
) -> NDArray[np.float64]:
    """Move points that lie within a ball radially onto it."""
    offset = points_mm - centre_mm
    distance = np.linalg.norm(offset, axis=1, keepdims=True)
    return centre_mm + offset * np.maximum(1.0, radius_mm / np.maximum(distance, 1e-6))
