"""Which cases train, validate and test: six to two to two, four times over, as [Niu2023] divided 500 people.

A fifth of the patients is kept for testing; the others make four parts, one of which validates while three train.
``fold`` names the part. A ``cases.csv`` with a column ``split`` decides instead. Patients, never scans, are divided.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import LAYOUT, Case, Split, data_checksum, read_cases

LEVELS = ("T12", "L1", "L2")
"""Cranial to caudal; all three are needed."""

PARTS = 5
"""One to test with, four to train and validate with in turn."""

LABELS = f"{LAYOUT} The labels are T12, L1 and L2, each whole."


@dataclass(frozen=True, slots=True)
class Site:
    """The cases of a site, divided."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]

    @property
    def sha256(self) -> str:
        """Of all files and of the division."""
        return data_checksum((*self.train, *self.validation, *self.test))


def read_site(folder: Path | None, seed: int, fold: int) -> Site:
    """Read and divide the cases of a folder.

    Parameters
    ----------
    folder
        As ``dicom_node.training.cases`` says.
    seed
        Of the division.
    fold
        0 to 3: the part that validates.

    Raises
    ------
    ConfigurationError
        When a case is not usable, a patient is in two splits, or there are too few patients.
    """
    if folder is None:
        raise ConfigurationError(f"Name the data with --data DIR. {LABELS}")
    if not 0 <= fold < PARTS - 1:
        raise ConfigurationError(f"The fold is {fold}; expected 0 to {PARTS - 2}.")
    cases = read_cases(folder, LEVELS, seed)
    if not names_splits(folder):
        splits = divided(sorted({case.patient for case in cases}), seed, fold)
        cases = tuple(replace(case, split=splits[case.patient]) for case in cases)
    return site_of(cases)


def site_of(cases: Sequence[Case]) -> Site:
    """Group cases by their splits.

    Raises
    ------
    ConfigurationError
        When a patient is in two splits, or nothing trains or validates.
    """
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.patient, case)
        if other.split != case.split:
            raise ConfigurationError(
                f"{case.name} and {other.name} are of one patient and in two splits; then validation proves nothing."
            )
    groups = {split: tuple(case for case in cases if case.split == split) for split in ("train", "validation", "test")}
    if not groups["train"] or not groups["validation"]:
        raise ConfigurationError(
            f"{len(groups['train'])} cases train and {len(groups['validation'])} validate; expected at least one each."
        )
    return Site(groups["train"], groups["validation"], groups["test"])


def divided(patients: Sequence[str], seed: int, fold: int) -> dict[str, Split]:
    """Divide patients; who tests does not depend on the fold.

    Raises
    ------
    ConfigurationError
        When there are fewer patients than parts.
    """
    if len(patients) < PARTS:
        raise ConfigurationError(
            f"There are {len(patients)} patients; a split of 6:2:2 needs at least {PARTS}, or name it in cases.csv."
        )
    order = sorted(patients, key=lambda one: hashlib.sha256(f"{seed} {one}".encode()).digest())
    splits: dict[str, Split] = {}
    for place, patient in enumerate(order):
        part = place % PARTS
        splits[patient] = "test" if part == PARTS - 1 else "validation" if part == fold else "train"
    return splits


def names_splits(folder: Path) -> bool:
    """Whether ``cases.csv`` says where the cases belong."""
    path = folder / "cases.csv"
    if not path.is_file():
        return False
    rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    return any((row.get("split") or "").strip() for row in rows)


def picks(seed: int, step: int, batch: int, cases: int) -> list[int]:
    """Return which cases a step shows: every one once before any comes again, in an order of its own every time."""
    chosen = []
    for number in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(number, cases)
        chosen.append(int(np.random.default_rng((seed, 1, epoch)).permutation(cases)[place]))
    return chosen
