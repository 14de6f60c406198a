"""What every model gives back to ``osteonode fe``: sentences, numbers for JSON, meshes, pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.table import Table

from fe.flags import ModelFlag
from fe.outcome import MeshField, ModelFacts

Progress = Callable[[float, str], None]
Drawing = tuple[str, bytes]
"""Name of a picture's file, and the PNG."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user chose about a model; None is the model's own default.

    Attributes
    ----------
    element_mm
        Edge of the elements.
    discretisation
        Bricks or tetrahedra, where a model has both.
    with_sensitivity
        Whether to repeat the model with the mask eroded and dilated.
    memory_limit_bytes
        Models that would need more are refused.
    tissue_modulus_mpa, threshold_mg_per_cm3
        Of micro-FE: modulus of all tissue, and the density from which a voxel inside the mask is bone.
    """

    element_mm: float | None
    discretisation: Literal["voxel", "tetra"]
    with_sensitivity: bool
    memory_limit_bytes: int
    tissue_modulus_mpa: float | None = None
    threshold_mg_per_cm3: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A computed model.

    Attributes
    ----------
    headline
        The result in one sentence.
    rows
        (quantity, value, unit) for the table on the terminal.
    values
        Parts of the JSON that are the model's own: ``strength``, ``settings``, ``materials``, and where it has them
        ``cases``, ``curve``, ``sensitivity``, ``landmarks``.
    facts, flags
        Of the model.
    fields
        End of a file's name (empty for the only one) -> mesh with values.
    draw
        Makes the pictures, one after the other.
    tables
        Further tables for the terminal.
    """

    headline: str
    rows: tuple[tuple[str, str, str], ...]
    values: dict[str, Any]
    facts: ModelFacts
    flags: tuple[ModelFlag, ...]
    fields: dict[str, Callable[[], MeshField]] = field(repr=False)
    draw: Callable[[], Iterator[Drawing]] = field(repr=False)
    tables: tuple[Table, ...] = ()
