"""Label values of generated scenes: those of ``inference.labels``, and values for what the node does not measure."""

from dicom_node.training.shapes.vertebra import SIZES
from inference.labels import STRUCTURES

POSTERIOR_OFFSET = 40
"""A vertebra's posterior elements have its body's value plus this: L1 43, its posterior elements 83."""

_HIGHER = {"T7": 37, "T8": 38, "T9": 39}
_BODIES = {structure.key: structure.value for structure in STRUCTURES} | _HIGHER

SCENE_LABELS: dict[str, int] = (
    _BODIES
    | {f"{level}_posterior": _BODIES[level] + POSTERIOR_OFFSET for level in SIZES}
    | {"rib": 100, "canal": 101, "disc": 102}
)
"""Every value a scene's labels may have, by key."""
