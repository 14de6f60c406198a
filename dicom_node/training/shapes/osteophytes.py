"""Bony outgrowths around arthritic hips: bumps on the rim of the head and of the acetabulum."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.training.shapes.model import Person, Surface, vertex_normals

SHARE = 0.2
"""Share of people who have some [m assumption]."""

COUNT = (1, 6)
HEIGHT_MM = (2.0, 6.0)
WIDTH_MM = (3.5, 8.0)

RIM_MM = (1.0, 9.0)
"""Where they grow: so much farther from the joint's centre than its surface is."""


def with_osteophytes(person: Person, generator: np.random.Generator) -> Person:
    """Return the person, with outgrowths at a hip in some people.

    Parameters
    ----------
    person
        A drawn person.
    generator
        The source of all randomness.
    """
    if generator.random() >= SHARE:
        return person
    femur = str(generator.choice(list(person.sockets)))
    hip, socket = femur.replace("femur", "hip"), person.sockets[femur]
    origin = np.zeros(3)
    grown = {
        femur: _grown(person.bones[femur], origin, person.heads_mm[femur], generator),
        hip: _grown(person.bones[hip], socket.centre_mm, socket.radius_mm, generator),
    }
    return replace(person, bones=person.bones | grown)


def _grown(bone: Surface, centre_mm: NDArray[np.float64], radius_mm: float, generator: np.random.Generator) -> Surface:
    """Raise some bumps on a ring of a bone around its joint."""
    beyond = np.linalg.norm(bone.points_mm - centre_mm, axis=1) - radius_mm
    ring = np.flatnonzero((beyond > RIM_MM[0]) & (beyond < RIM_MM[1]))
    normals = vertex_normals(bone)
    points = bone.points_mm.copy()
    for place in generator.choice(ring, int(generator.integers(*COUNT))):
        away = np.linalg.norm(bone.points_mm - bone.points_mm[place], axis=1)
        height_mm, width_mm = generator.uniform(*HEIGHT_MM), generator.uniform(*WIDTH_MM)
        points += (height_mm * np.exp(-((away / width_mm) ** 2)))[:, None] * normals
    return bone.moved(points)
