"""The table of models: one row is all that the command knows of one."""

from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.strength.bone import Bone, Kind
from dicom_node.strength.ct2s import run_ct2s
from dicom_node.strength.microfe import run_microfe
from dicom_node.strength.outcome import Choices, Outcome, Progress
from dicom_node.strength.sas import run_sas
from dicom_node.strength.vertebra import run_vertebra


@dataclass(frozen=True, slots=True)
class Model:
    """A strength model.

    Attributes
    ----------
    bone
        ``femur`` needs a side, ``vertebra`` a level, ``specimen`` neither.
    run
        Computes it.
    """

    bone: Kind
    run: Callable[[Bone, Choices, Progress], Outcome]


MODELS: dict[str, Model] = {
    "ct2s": Model("femur", run_ct2s),
    "sas": Model("femur", run_sas),
    "vertebra": Model("vertebra", run_vertebra),
    "microfe": Model("specimen", run_microfe),
}
"""By the name on the command line."""
