"""Every segmenter this node knows, by the name under which settings and routing rules choose it.

Modules and packages are imported when a segmenter is made, so that this table costs nothing. ``make_segmenter`` never
downloads; what is missing is said in a sentence.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

from dicom_node.errors import ConfigurationError, SegmenterNotReady
from dicom_node.segmenters.weights import BROKEN, MISSING
from dicom_node.settings import SegmenterName
from inference.errors import InferenceError
from inference.second_opinion import SecondOpinion
from inference.segmentation import ClassicalSegmenter, Segmenter, SegmenterIdentity

READY, NOT_BUILT = "ready", "not in this build"
CPU, GPU = "cpu", "cuda"


class Site(Protocol):
    """What of the settings decides how a segmenter is made; the settings themselves, or ``SegmenterSite``."""

    @property
    def segmenters_dir(self) -> Path:
        """Folder that holds one folder of weights for each segmenter, by its name."""
        ...

    @property
    def job_memory_limit_bytes(self) -> int:
        """Memory of one job; 0: no limit."""
        ...

    @property
    def gpu_jobs(self) -> int:
        """Steps on the GPU at the same time; 0: it is not used."""
        ...


@dataclass(frozen=True, slots=True)
class SegmenterSite:
    """``Site`` in a child process, which has no settings."""

    segmenters_dir: Path
    job_memory_limit_bytes: int
    gpu_jobs: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the table.

    Attributes
    ----------
    finds
        What it labels, for people.
    make
        Makes it from a site's folders.
    """

    finds: str
    make: Callable[[Site], Segmenter]


@dataclass(frozen=True, slots=True)
class State:
    """How a segmenter stands on this machine: a word, its identity when it is ready, or what to do."""

    name: str
    word: str
    identity: SegmenterIdentity | None
    sentence: str


def device_of(site: Site) -> str:
    """Return ``cuda`` where the site uses a GPU and there is one, else ``cpu``."""
    if not site.gpu_jobs:
        return CPU
    import torch

    return GPU if torch.cuda.is_available() else CPU


def _classical(site: Site) -> Segmenter:
    del site
    return ClassicalSegmenter()


def _network(site: Site) -> Segmenter:
    module = "inference.networks.segmenter"
    try:
        _built(module, "weights_content")()
    except InferenceError as error:
        raise SegmenterNotReady(str(error), NOT_BUILT) from None
    made: Segmenter = _built(module, "NetworkSegmenter")(device_of(site))
    return made


def _checked(site: Site) -> Segmenter:
    return SecondOpinion(ClassicalSegmenter(), _network(site))


def _nnunet(site: Site) -> Segmenter:
    from dicom_node.segmenters.nnunet import NnunetSegmenter

    return NnunetSegmenter(site.segmenters_dir / "nnunet", device_of(site), site.job_memory_limit_bytes)


def _totalsegmentator(site: Site) -> Segmenter:
    from dicom_node.segmenters.totalsegmentator import TotalSegmentatorSegmenter

    own = site.segmenters_dir / "totalsegmentator"
    return TotalSegmentatorSegmenter(own if own.is_dir() else None, device_of(site), site.job_memory_limit_bytes)


def _monai(site: Site) -> Segmenter:
    from dicom_node.segmenters.monai_bundle import MonaiSegmenter

    return MonaiSegmenter(site.segmenters_dir / "monai", device_of(site), site.job_memory_limit_bytes)


def _trained_here(name: str) -> Callable[[Site], Segmenter]:
    def make(site: Site) -> Segmenter:
        segmenter = _built("dicom_node.segmenters.saillard", "SaillardSegmenter")
        folder = site.segmenters_dir / name
        if not folder.is_dir():
            raise SegmenterNotReady(
                f"There is no folder {folder}; osteonode train {name} --data DIR makes what belongs there.",
                MISSING,
            )
        made: Segmenter = segmenter(folder, device_of(site))
        return made

    return make


def _built(module: str, name: str) -> Callable[..., Segmenter]:
    """Import a class that this build may lack.

    Raises
    ------
    SegmenterNotReady
        When it does.
    """
    try:
        found: Callable[..., Segmenter] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise SegmenterNotReady("This segmenter is not in this build; choose another one.", NOT_BUILT) from None
    return found


SEGMENTERS: Mapping[str, Entry] = {
    "classical": Entry("hips and vertebral bodies, by geometry; no weights", _classical),
    "network": Entry("hips and vertebrae, by the network that comes with the node", _network),
    "checked": Entry("as classical; no number where the network names a bone otherwise", _checked),
    "totalsegmentator": Entry("hips and vertebrae, by TotalSegmentator's task total", _totalsegmentator),
    "nnunet": Entry("what a folder trained by nnU-Net v2 labels", _nnunet),
    "monai": Entry("what a MONAI bundle labels", _monai),
    "femur-3d": Entry("femurs, by the 3D U-Net trained on this site's data", _trained_here("femur-3d")),
    "femur-2d": Entry("femurs, by the 2D U-Nets trained on this site's data", _trained_here("femur-2d")),
}
assert tuple(SEGMENTERS) == get_args(SegmenterName)


def make_segmenter(name: str, site: Site) -> Segmenter:
    """Make a segmenter by its name.

    Parameters
    ----------
    name
        A key of ``SEGMENTERS``.
    site
        The settings, or what of them counts here.

    Raises
    ------
    ConfigurationError
        When there is none of that name, or what it needs cannot be used.
    SegmenterNotReady
        When its weights or packages are missing.
    """
    return entry_of(name).make(site)


def entry_of(name: str) -> Entry:
    """Return a row of the table.

    Raises
    ------
    ConfigurationError
        When there is none of that name.
    """
    if name not in SEGMENTERS:
        raise ConfigurationError(f"There is no segmenter {name[:40]}; there are {', '.join(SEGMENTERS)}.")
    return SEGMENTERS[name]


def states(site: Site) -> tuple[State, ...]:
    """Tell how every segmenter stands on this machine, in the order of the table."""
    return tuple(_state(name, site) for name in SEGMENTERS)


def _state(name: str, site: Site) -> State:
    try:
        return State(name, READY, make_segmenter(name, site).identity, "")
    except SegmenterNotReady as error:
        return State(name, error.state, None, str(error))
    except (ConfigurationError, InferenceError) as error:
        return State(name, BROKEN, None, str(error))
    except OSError as error:
        return State(name, BROKEN, None, f"Its files cannot be read ({type(error).__name__}).")
