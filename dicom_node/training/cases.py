"""Labelled scans of a site: ``DIR/images/NAME.nii.gz`` with ``DIR/labels/NAME.nii.gz`` (or .nii, .mha, .nrrd).

Label values are those of ``inference.labels``; a ``DIR/labels.json`` such as ``{"femur_right": 76, "femur_left": 75}``
says otherwise, and every value it does not name is background. An optional ``DIR/cases.csv`` with the columns
``case``, ``patient`` and ``split`` (``train``, ``validation``, ``test``) says which scans are of one patient and where
they belong; without it every case is its own patient, and a quarter of the patients, drawn by the seed, is kept for
validation. Everything is checked before training; voxels are read when they are asked for.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError, JobRejected, NotFound
from dicom_node.strength.image_files import FORMATS, GridFile, format_of, read_grid
from inference.labels import BY_KEY
from inference.volume import Volume, canonical

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

LAYOUT = (
    "It holds images/NAME.nii.gz and labels/NAME.nii.gz (or .nii, .mha, .nrrd) on one grid, "
    "and optionally labels.json and cases.csv."
)
"""For help and errors."""

LIMIT_BYTES = 2 * 2**30
"""Of one file: a CT of 2000 slices of 512 x 512 in 16 bits has half of it."""

SAME_GRID_MM = 0.01
"""Largest distance between corners of image and labels; headers round [m assumption]."""

VALIDATION_SHARE = 0.25
"""Of the patients: [Saillard2024] kept 4 of 16 femurs."""


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled scan; voxels are read from disk on every access.

    Attributes
    ----------
    name
        Of the files, without suffix.
    patient
        Of ``cases.csv``, else the name. Not for messages.
    split
        Where it belongs.
    sha256
        Of both files.
    """

    name: str
    patient: str = field(repr=False)
    split: Split
    sha256: str
    image: Path = field(repr=False)
    mask: Path = field(repr=False)
    values: tuple[tuple[int, int], ...] = field(repr=False)

    @property
    def volume(self) -> Volume:
        """The scan in canonical order, HU.

        Raises
        ------
        ConfigurationError
            When the file cannot be read any more.
        """
        return canonical(_volume(_read(self.image)))[0]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The labels on the grid of ``volume``: values of ``inference.labels``, only of the structures asked for.

        Raises
        ------
        ConfigurationError
            When the file cannot be read any more.
        """
        found = _read(self.mask)
        _, orientation = canonical(Volume(np.zeros((1, 1, 1), np.float32), found.affine_lps))
        return np.ascontiguousarray(orientation.apply(_translated(found.values, dict(self.values))))


def read_cases(folder: Path, structures: Sequence[str], seed: int = 0) -> tuple[Case, ...]:
    """Find and check the labelled scans of a folder.

    Parameters
    ----------
    folder
        As the module says.
    structures
        Keys of ``inference.labels`` to learn; every case must show at least one of them.
    seed
        Of the split, where ``cases.csv`` names none.

    Returns
    -------
    tuple of Case
        By name; at least one each for training and validation.

    Raises
    ------
    ConfigurationError
        Naming the case and what is wrong with it.
    """
    pairs = _pairs(folder)
    values, is_closed = _values(folder, structures)
    patients, splits = _table(folder, sorted(pairs))
    splits = splits or _drawn(patients, seed)
    if not {"train", "validation"} <= set(splits.values()):
        raise ConfigurationError(
            f"{folder.name} holds {len(set(patients.values()))} patient(s) for training and validation; expected at "
            "least one for each."
        )
    wanted = tuple((value, BY_KEY[key].value) for key, value in values.items() if key in structures)
    cases = []
    for name, (image, mask) in sorted(pairs.items()):
        sha256 = _check(name, image, mask, dict(wanted), set(values.values()) if is_closed else None)
        cases.append(Case(name, patients[name], splits[name], sha256, image, mask, wanted))
    return tuple(cases)


def data_checksum(cases: Sequence[Case]) -> str:
    """Return one SHA-256 over all files and where each case belongs, hexadecimal."""
    text = "\n".join(f"{case.name} {case.split} {case.sha256}" for case in sorted(cases, key=lambda case: case.name))
    return hashlib.sha256(text.encode()).hexdigest()


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Pair images and labels by name."""
    images, masks = _named(folder / "images"), _named(folder / "labels")
    for name in sorted(images.keys() ^ masks.keys()):
        has, lacks = ("images", "labels") if name in images else ("labels", "images")
        raise ConfigurationError(f"{has} holds {name} and {lacks} does not; every image needs labels of the same name.")
    return {name: (images[name], masks[name]) for name in images}


def _named(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigurationError(f"There is no folder {folder}. {LAYOUT}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if format_of(path) is None:
            raise ConfigurationError(f"{folder.name}/{path.name} is no image; expected {', '.join(FORMATS)}.")
        suffix = max((one for one in FORMATS if path.name.lower().endswith(one)), key=len)
        name = path.name[: -len(suffix)]
        if name in found:
            raise ConfigurationError(f"{folder.name} holds {name} twice; remove one of the files.")
        found[name] = path
    if not found:
        raise ConfigurationError(f"{folder} is empty. {LAYOUT}")
    return found


def _values(folder: Path, structures: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Return the label value of every structure, and whether no other value may occur."""
    path = folder / "labels.json"
    if not path.is_file():
        return {key: structure.value for key, structure in BY_KEY.items()}, True
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigurationError("labels.json cannot be read; expected JSON in UTF-8.") from None
    if not isinstance(table, dict) or not all(_is_label(value) for value in table.values()):
        raise ConfigurationError('labels.json: expected names with values 1 to 255, as {"femur_right": 76}.')
    unknown = sorted(set(table) - set(BY_KEY))
    if unknown:
        raise ConfigurationError(f"labels.json names {', '.join(unknown)}; known are {', '.join(BY_KEY)}.")
    if len(set(table.values())) < len(table):
        raise ConfigurationError("labels.json gives one value to two structures.")
    if not set(table) & set(structures):
        raise ConfigurationError(f"labels.json names none of {', '.join(structures)}.")
    return table, False


def _is_label(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255


def _table(folder: Path, names: Sequence[str]) -> tuple[dict[str, str], dict[str, Split]]:
    """Read patients and, where named, splits from ``cases.csv``."""
    path = folder / "cases.csv"
    if not path.is_file():
        return {name: name for name in names}, {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise ConfigurationError("cases.csv cannot be read; expected comma-separated text in UTF-8.") from None
    if not rows or not {"case", "patient"} <= set(rows[0]):
        raise ConfigurationError("cases.csv: expected a row a case, with the columns case, patient and perhaps split.")
    patients = {(row["case"] or "").strip(): (row["patient"] or "").strip() for row in rows}
    splits = {(row["case"] or "").strip(): (row.get("split") or "").strip().lower() for row in rows}
    if len(patients) < len(rows):
        raise ConfigurationError("cases.csv names a case twice.")
    for name in names:
        if not patients.get(name):
            raise ConfigurationError(f"cases.csv names no patient for {name}; a row for every case is needed.")
    extra = sorted(set(patients) - set(names))
    if extra:
        raise ConfigurationError(f"cases.csv names {extra[0]}, which is not in images.")
    return patients, _named_splits(patients, splits)


def _named_splits(patients: Mapping[str, str], splits: Mapping[str, str]) -> dict[str, Split]:
    """Check the column ``split``; empty where it says nothing."""
    known: dict[str, Split] = {split: split for split in SPLITS}
    if not any(splits.values()):
        return {}
    for name, split in splits.items():
        if split not in known:
            raise ConfigurationError(
                f"cases.csv: found another split of {name}; expected {', '.join(SPLITS)} in each row."
            )
    for name, other in ((a, b) for a in patients for b in patients if patients[a] == patients[b]):
        if splits[name] != splits[other]:
            raise ConfigurationError(
                f"cases.csv puts {name} and {other}, of one patient, into two splits; then validation proves nothing."
            )
    return {name: known[split] for name, split in splits.items()}


def _drawn(patients: Mapping[str, str], seed: int) -> dict[str, Split]:
    """Draw patients for validation; the order of files or machines does not matter."""
    order = sorted(set(patients.values()), key=lambda one: hashlib.sha256(f"{seed} {one}".encode()).digest())
    kept = order[: math.ceil(VALIDATION_SHARE * len(order))] if len(order) > 1 else []
    return {name: "validation" if patient in kept else "train" for name, patient in patients.items()}


def _check(name: str, image: Path, mask: Path, wanted: Mapping[int, int], allowed: set[int] | None) -> str:
    """Refuse a pair that cannot be learned from; return its checksum."""
    scan, labels = _read(image), _read(mask)
    if scan.values.shape != labels.values.shape or not _is_same_grid(scan, labels):
        raise ConfigurationError(
            f"Image and labels of {name} lie on different grids; resample the labels on the image."
        )
    if not np.isfinite(scan.values).all():
        raise ConfigurationError(f"The image of {name} holds values that are no numbers.")
    present = _present(name, labels.values)
    if allowed is not None and present - allowed:
        raise ConfigurationError(
            f"The labels of {name} hold {sorted(present - allowed)}; expected {sorted(allowed)}, "
            "or a labels.json that says what is what."
        )
    if not present & set(wanted):
        raise ConfigurationError(
            f"The labels of {name} show nothing to learn; expected at least one of {sorted(wanted)}."
        )
    return hashlib.sha256(f"{scan.sha256} {labels.sha256}".encode()).hexdigest()


def _present(name: str, values: NDArray[np.generic]) -> set[int]:
    """Return the labels that occur, without 0."""
    is_whole = np.issubdtype(values.dtype, np.integer) or np.array_equal(values, np.floor(values))
    if not is_whole or values.min() < 0 or values.max() > 255:
        raise ConfigurationError(f"The labels of {name} are no label map: expected whole numbers from 0 to 255.")
    return set(np.flatnonzero(np.bincount(values.astype(np.uint8).ravel(), minlength=256)).tolist()) - {0}


def _is_same_grid(scan: GridFile, labels: GridFile) -> bool:
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in scan.values.shape], indexing="ij")).reshape(3, -1)
    apart = (scan.affine_lps - labels.affine_lps)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.linalg.norm(apart, axis=0).max() <= SAME_GRID_MM)


def _read(path: Path) -> GridFile:
    try:
        return read_grid(path, LIMIT_BYTES)
    except (JobRejected, NotFound) as error:
        raise ConfigurationError(f"{path.parent.name}: {error}") from None


def _volume(found: GridFile) -> Volume:
    return Volume(found.values.astype(np.float32), found.affine_lps)


def _translated(values: NDArray[np.generic], table: Mapping[int, int]) -> NDArray[np.uint8]:
    """Bring label values to those of ``inference.labels``; what is not in the table becomes 0."""
    lookup = np.zeros(256, dtype=np.uint8)
    for value, own in table.items():
        lookup[value] = own
    return lookup[values.astype(np.uint8)]
