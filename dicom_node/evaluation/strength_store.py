"""Finished bones in the output folder, by what went into them: a changed file, setting or program is another key.

No name of a case is kept inside: files are often named after patients.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from dicom_node import __version__
from dicom_node.evaluation.strength_values import STEPS, BoneLoads, StepLoad
from dicom_node.storage.files import write_durably
from dicom_node.strength.image_files import checksum

SCHEMA = "osteonode-mask-loads-1"
FOLDER = "computed"
OWN_SOURCES = ("strength_models.py", "strength_of_masks.py", "mask_files.py")


class Store:
    """The folder ``computed`` below the output folder."""

    def __init__(self, output: Path) -> None:
        self._folder = output / FOLDER
        self._sums: dict[Path, str] = {}

    def key(self, files: Sequence[Path], words: Sequence[str]) -> str:
        """Return the name of a result: SHA-256 of files, settings and program, the first 128 bits in hexadecimal."""
        for path in files:
            if path not in self._sums:
                self._sums[path] = checksum(path)
        content = [SCHEMA, __version__, _program(), *(self._sums[path] for path in files), *words]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    def has(self, key: str) -> bool:
        """Whether a result is kept."""
        return self._path(key).is_file()

    def read(self, case: str, key: str) -> BoneLoads | None:
        """Return a kept result for a case; None where there is none that can be read."""
        try:
            return _bone(case, json.loads(self._path(key).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, key: str, bone: BoneLoads) -> None:
        """Keep a result.

        Raises
        ------
        DiskFull
            When the disk is full.
        """
        content = {"schema": SCHEMA, **{name: value for name, value in asdict(bone).items() if name != "case"}}
        write_durably(self._path(key), [json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"])

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _bone(case: str, content: dict[str, Any]) -> BoneLoads:
    steps = tuple(StepLoad(**one) for one in content["steps"])
    if content["schema"] != SCHEMA or tuple(one.step_voxels for one in steps) not in ((), STEPS):
        raise ValueError("a result of another kind")
    return BoneLoads(
        case=case,
        structure=content["structure"],
        model=content["model"],
        reference_n=content["reference_n"],
        reason=content["reason"],
        steps=steps,
        withheld=tuple(content["withheld"]),
        is_calibrated=content["is_calibrated"],
    )


@cache
def _program() -> str:
    """Return a checksum of the source of the strength models and of how they are used here."""
    digest = hashlib.sha256()
    for file in [
        *_sources(resources.files("fe")),
        *(resources.files(__package__).joinpath(one) for one in OWN_SOURCES),
    ]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _sources(folder: Traversable) -> list[Traversable]:
    found: list[Traversable] = []
    for one in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if one.is_dir():
            found += _sources(one)
        elif one.name.endswith(".py"):
            found.append(one)
    return found
