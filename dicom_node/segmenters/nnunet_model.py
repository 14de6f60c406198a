"""A folder that nnU-Net v2 trained, read and checked, without the package: its files, its labels, its checksum.

The folder is the one that holds ``dataset.json``, ``plans.json`` and ``fold_X/checkpoint_final.pth`` [Isensee2021].
"""

import pydoc
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from dicom_node.errors import ConfigurationError, SegmenterNotReady
from dicom_node.segmenters.weights import MISSING, checked_files, checksum_of, read_json

DATASET_FILE, PLANS_FILE, CHECKPOINT = "dataset.json", "plans.json", "checkpoint_final.pth"
FOLD = re.compile(r"fold_(\d+|all)")
REORIENTING = frozenset({"NibabelIOWithReorient", "SimpleITKIOWithReorient"})
"""nnU-Net's readers that turn every image to RAS; with the others images stay as their files hold them."""
CT_CHANNELS = frozenset({"ct", "nonorm", "zscore", "rescale_to_0_1"})
"""Names of a channel that may be CT: nnU-Net's own word, and its words for normalisations that do not say."""
MODULES = ("dynamic_network_architectures.", "torch.nn.")
"""Where a plan's network and its parts may come from; nnU-Net would import any name that stands there."""
LARGEST_LABEL = 255
Fold = int | Literal["all"]


@dataclass(frozen=True)
class NnunetModel:
    """A trained folder.

    Attributes
    ----------
    folder
        Where it lies.
    dataset, plans
        As nnU-Net wrote them.
    folds
        Whose predictions are averaged.
    """

    folder: Path
    dataset: Mapping[str, Any] = field(repr=False)
    plans: Mapping[str, Any] = field(repr=False)
    folds: tuple[Fold, ...]

    @property
    def names(self) -> dict[int, str]:
        """Label value to name, without the background."""
        return {int(value): str(name) for name, value in self.dataset["labels"].items() if value != 0}

    @property
    def name(self) -> str:
        """As nnU-Net calls the data it was trained on."""
        return str(self.plans.get("dataset_name") or self.dataset.get("name") or self.folder.name)

    @property
    def is_reoriented(self) -> bool:
        """Whether its training images were turned to RAS."""
        return str(self.plans.get("image_reader_writer", "")) in REORIENTING

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """Files of weights, one a fold."""
        return tuple(self.folder / f"fold_{fold}" / CHECKPOINT for fold in self.folds)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the description and the weights that are used."""
        return checksum_of(self.folder, [self.folder / DATASET_FILE, self.folder / PLANS_FILE, *self.checkpoints])


def read_model(folder: Path, folds: tuple[Fold, ...] | None = None) -> NnunetModel:
    """Read and check a trained folder.

    Parameters
    ----------
    folder
        Of the trained model.
    folds
        To use; default: every numbered one that is there, or ``all`` where it is the only one.

    Raises
    ------
    SegmenterNotReady
        When the folder, a description or a fold is missing.
    ConfigurationError
        When it was trained for something else than bones on one CT, or may be written by everybody.
    """
    if not folder.is_dir():
        raise SegmenterNotReady(f"There is no folder {folder}; put the trained nnU-Net folder there.", MISSING)
    if not (folder / DATASET_FILE).is_file() or not (folder / PLANS_FILE).is_file():
        raise SegmenterNotReady(
            f"{folder} is no folder that nnU-Net trained: it lacks {DATASET_FILE} or {PLANS_FILE}. Name the folder "
            "<Trainer>__<Plans>__<configuration> below nnUNet_results.",
            MISSING,
        )
    model = NnunetModel(
        folder, read_json(folder / DATASET_FILE), read_json(folder / PLANS_FILE), folds or _folds_in(folder)
    )
    checked_files(folder, [folder / DATASET_FILE, folder / PLANS_FILE, *model.checkpoints])
    _check_dataset(model)
    return model


def _folds_in(folder: Path) -> tuple[Fold, ...]:
    found = [hit.group(1) for path in folder.iterdir() if (hit := FOLD.fullmatch(path.name))]
    trained = [fold for fold in found if (folder / f"fold_{fold}" / CHECKPOINT).is_file()]
    numbered = tuple(sorted(int(fold) for fold in trained if fold != "all"))
    if not trained:
        raise SegmenterNotReady(f"{folder} holds no fold with {CHECKPOINT}; copy the trained folds there.", MISSING)
    return numbered or ("all",)


def _check_dataset(model: NnunetModel) -> None:
    channels = model.dataset.get("channel_names", model.dataset.get("modality"))
    labels = model.dataset.get("labels")
    if not isinstance(channels, dict) or not isinstance(labels, dict):
        raise ConfigurationError(f"{model.folder / DATASET_FILE} names no channels or no labels.")
    names = [str(name) for name in channels.values()]
    if len(names) != 1 or names[0].lower() not in CT_CHANNELS:
        raise ConfigurationError(
            f"The nnU-Net in {model.folder} takes {', '.join(names)}; expected one channel named CT. This node gives "
            "it one CT image and nothing else."
        )
    if any(not isinstance(value, int) or isinstance(value, bool) for value in labels.values()):
        raise ConfigurationError(
            f"The nnU-Net in {model.folder} was trained on regions that overlap; expected one whole number a label."
        )
    if not all(0 <= value <= LARGEST_LABEL for value in labels.values()):
        raise ConfigurationError(f"The nnU-Net in {model.folder} has label values beyond 0 to {LARGEST_LABEL}.")


def checked_architecture(configuration: Mapping[str, Any], name: str) -> None:
    """Refuse a plan that names program code outside nnU-Net's own networks.

    Parameters
    ----------
    configuration
        Of the plan; one of an older nnU-Net names its network by a word that nnU-Net looks up itself.
    name
        Of the configuration.

    Raises
    ------
    ConfigurationError
        Naming what is refused.
    """
    architecture = configuration.get("architecture")
    if architecture is None:
        return
    given = architecture.get("arch_kwargs", {})
    named = [architecture.get("network_class_name"), *(given.get(key) for key in architecture["_kw_requires_import"])]
    for one in named:
        if one is not None and not _is_network_part(one):
            raise ConfigurationError(
                f"The plan of configuration {name} names {str(one)[:80]}; only networks of nnU-Net itself are loaded."
            )


def _is_network_part(name: object) -> bool:
    """Whether a name is that of a network's class, found where nnU-Net would find it.

    The name's beginning alone says little, for modules import others: ``torch.nn.parallel.distributed.os.system``.
    """
    if not isinstance(name, str) or not name.startswith(MODULES):
        return False
    from torch.nn import Module

    found = pydoc.locate(name)
    return isinstance(found, type) and issubclass(found, Module) and found.__module__.startswith(MODULES)
