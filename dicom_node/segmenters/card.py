"""``osteonode.json``: what a site says of a model that its own files do not say, beside those files.

Everything may be left out, but for the orientation where the model's own files are silent: guessing it could swap left
and right.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dicom_node.errors import ConfigurationError
from dicom_node.segmenters.orientation import is_orientation
from dicom_node.segmenters.weights import read_json

NAME_LENGTH = 64
"""Of DICOM's long strings (PS3.5 6.2), in which results name the segmenter."""

CARD_FILE = "osteonode.json"
Word = Annotated[str, Field(max_length=64)]


class Card(BaseModel):
    """What a site says of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Word = ""
    """As results name it; default: what the model's files say."""
    version: Word = ""
    orientation: Word | None = None
    """Of the training images, as NIfTI programs say it: where their axes grow to, as RAS or LPS."""
    labels: dict[Word, Word] = {}
    """The model's label names to this node's (``femur_left``, ``L1``); an empty one leaves the label out."""
    folds: tuple[int | Literal["all"], ...] | None = None
    """nnU-Net: the folds to average; default: every one that is there."""
    step: float = Field(0.5, gt=0, le=1)
    """nnU-Net: step of the sliding window, as a part of the patch."""
    mirror: bool = True
    """nnU-Net: whether to average over mirrored images, where the training allows it."""

    @field_validator("orientation")
    @classmethod
    def _is_one(cls, value: str | None) -> str | None:
        if value is not None and not is_orientation(value):
            raise ValueError("takes three letters, one of R and L, one of A and P, one of S and I, as RAS or LPS")
        return value


def read_card(folder: Path) -> Card:
    """Read the card of a model; an empty one where there is none.

    Raises
    ------
    ConfigurationError
        When it is not valid; the sentence says where and why.
    """
    path = folder / CARD_FILE
    if not path.exists():
        return Card()
    return card_from(read_json(path), str(path))


def card_from(document: dict[str, object], name: str) -> Card:
    """Validate a card.

    Raises
    ------
    ConfigurationError
        When it is not valid; the sentence says where and why.
    """
    try:
        return Card.model_validate(document)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise ConfigurationError(f"{name}: {place} {problem['msg'].removeprefix('Value error, ')}.") from None
