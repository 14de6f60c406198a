"""The settings of a plan as the femur tasks read them; the published values stand in ``task_2d`` and ``task_3d``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from dicom_node.errors import ConfigurationError

LIMITS: dict[str, tuple[float, float]] = {
    "spacing_slice_mm": (0.3, 8.0),
    "spacing_in_slice_mm": (0.3, 8.0),
    "batch": (1, 256),
    "width": (4, 128),
    "patch": (32, 256),
    "rotation_deg": (0.0, 45.0),
    "shift_mm": (0.0, 50.0),
    "shear": (0.0, 0.5),
    "scale": (0.0, 0.5),
    "validation_femurs": (1, 1000),
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """How femurs are prepared, augmented and learned.

    Attributes
    ----------
    spacing_slice_mm, spacing_in_slice_mm
        Of the grid on which every femur is laid.
    batch
        Patches or slices in a step.
    width
        Channels of the U-Net's first level; they double with every level down.
    patch
        Edge of the cubes that the 3D network sees, voxels; a multiple of 16. The 2D networks see whole slices.
    rotation_deg, shift_mm, shear, scale
        Largest augmentation, either way: angles, lengths, ratios.
    validation_femurs
        At most so many are judged by at a validation.
    """

    spacing_slice_mm: float
    spacing_in_slice_mm: float
    batch: int
    width: int
    patch: int
    rotation_deg: float
    shift_mm: float
    shear: float
    scale: float
    validation_femurs: int

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along (slice, row, column)."""
        return (self.spacing_slice_mm, self.spacing_in_slice_mm, self.spacing_in_slice_mm)


def configuration_from(settings: Mapping[str, float | int | str | bool]) -> Configuration:
    """Read a plan's settings.

    Raises
    ------
    ConfigurationError
        Naming the setting that is missing, unknown or out of its range.
    """
    names = [field.name for field in fields(Configuration)]
    for name in sorted(set(names) ^ set(settings)):
        raise ConfigurationError(f"The setting {name} is {'missing' if name in names else 'unknown'}.")
    values: dict[str, float] = {}
    for name, value in settings.items():
        low, high = LIMITS[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigurationError(f"The setting {name} is no number.")
        if not low <= value <= high:
            raise ConfigurationError(f"Found {name}={value:g}; expected {low:g} to {high:g}.")
        values[name] = value
    whole = {name: int(values[name]) for name in ("batch", "width", "patch", "validation_femurs")}
    if whole["patch"] % 16:
        raise ConfigurationError(f"Found patch={whole['patch']}; expected a multiple of 16.")
    return Configuration(**{**values, **whole})  # type: ignore[arg-type]  # names and kinds were checked above
