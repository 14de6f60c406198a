"""Settings of a plan as a frozen dataclass, so that a wrong name or kind is found before training."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from dicom_node.errors import ConfigurationError
from dicom_node.training.task import Plan

Settings = TypeVar("Settings")
MAY_BE_NOTHING = frozenset({"fold", "margin_mm", "shift_mm", "bodies"})
"""Settings that may be 0; the others are sizes and shares, which nothing can be made of."""

Plain = float | int | str | bool


def plain(settings: Any) -> Mapping[str, Plain]:
    """Return a dataclass of plain values as the settings of a plan."""
    return dict(asdict(settings))


def settings_of(kind: Callable[..., Settings], plan: Plan) -> Settings:
    """Read the settings of a plan.

    Parameters
    ----------
    kind
        A frozen dataclass whose fields are the settings, all with defaults.
    plan
        May name some of them.

    Raises
    ------
    ConfigurationError
        When the plan names a setting there is not, or gives one a value of another kind, or one that is no size.
    """
    known = asdict(kind())  # type: ignore[call-overload]  # every kind is a dataclass; a protocol for that is longer
    for name, value in plan.settings.items():
        if name not in known:
            raise ConfigurationError(f"There is no setting {name}; known are {', '.join(known)}.")
        if not _fits(value, known[name]):
            raise ConfigurationError(f"The setting {name} is {value!r}; expected a value like {known[name]!r}.")
        if isinstance(value, float | int) and not _is_size(name, value):
            raise ConfigurationError(f"The setting {name} is {value!r}; expected a positive number.")
    return kind(**plan.settings)


def _is_size(name: str, value: float) -> bool:
    return math.isfinite(value) and (value >= 0 if name in MAY_BE_NOTHING else value > 0)


def _fits(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, float | int) and not isinstance(value, bool)
    return type(value) is type(default)
