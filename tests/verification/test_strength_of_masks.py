"""Loads of ``osteonode evaluate strength`` against ``osteonode fe`` on the same files, and against known strengths."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dicom_node.cli import main
from fe.gallery import synthetic_femur
from fe.vertebra_specimen import synthetic_vertebra
from inference.labels import BY_KEY
from tests.unit.dicom_node.fe_files import write_image

SAME_SOLVER = 2e-3
"""Fewer load steps and a larger residual move a load by 0.1 % at most (docs/methods/sensitivity.md); twice that."""


def evaluated(folder: Path, image: np.ndarray, labels: np.ndarray, spacing_mm: float, *words: str) -> dict[str, float]:  # type: ignore[type-arg]
    """Return the loads of a mask that is its own reference, by version."""
    for part, array in (("images", image.astype(np.float32)), ("masks", labels), ("references", labels)):
        (folder / part).mkdir()
        write_image(folder / part / "case.nii.gz", array, (spacing_mm,) * 3)
    folders = [word for part in ("images", "masks", "references") for word in (f"--{part}", str(folder / part))]
    command = ["evaluate", "strength", *folders, "--density-mg-per-cm3", "K2HPO4", "--out", str(folder / "out"), *words]
    assert main(command) == 0
    (row,) = csv.DictReader((folder / "out/loads.csv").read_text().splitlines())
    return {name.removesuffix(", N"): float(one) for name, one in row.items() if name.endswith(", N") and one != "-"}


def strength_of(folder: Path, label: int, *words: str) -> float:
    """Return the strength that ``osteonode fe`` finds for the same files."""
    image, mask = str(folder / "images/case.nii.gz"), str(folder / "masks/case.nii.gz")
    command = ["fe", image, "--mask", mask, "--label", str(label), "--no-sensitivity", "--out", str(folder / "fe")]
    assert main([*command, "--density-mg-per-cm3", "K2HPO4", *words]) == 0
    (file,) = (folder / "fe").glob("*.json")
    return float(json.loads(file.read_text())["strength"]["failure_load_n"])


def test_a_femurs_load_is_that_of_the_command_for_one_bone(tmp_path: Path) -> None:
    femur, label = synthetic_femur("L", (4.0,) * 3, shaft_mm=70.0), BY_KEY["femur_left"].value
    model = ("--model", "sas", "--element-mm", "5")
    loads = evaluated(tmp_path, femur.rho_qct_mg_per_cm3, femur.mask.astype(np.uint8) * np.uint8(label), 4.0, *model)
    assert loads["automatic"] == loads["reference"]
    assert loads["reference"] == pytest.approx(strength_of(tmp_path, label, *model, "--side", "L"), rel=SAME_SOLVER)


def test_a_vertebras_load_is_that_of_the_command_and_falls_with_its_cortex(tmp_path: Path) -> None:
    pytest.importorskip("tetgen", reason="vertebrae need the extra fe")
    bone, label = synthetic_vertebra((2.0,) * 3), BY_KEY["L1"].value
    model = ("--model", "vertebra", "--element-mm", "4")
    loads = evaluated(tmp_path, bone.rho_qct_mg_per_cm3, bone.mask.astype(np.uint8) * np.uint8(label), 2.0, *model)
    assert loads["automatic"] == loads["reference"]
    assert loads["reference"] == pytest.approx(strength_of(tmp_path, label, *model, "--level", "L1"), rel=SAME_SOLVER)
    # A voxel of 2 mm is the whole dense shell of 1.5 mm; what stays is smaller, too.
    assert loads["automatic, eroded by 2 voxels"] < loads["automatic, eroded by 1 voxel"] < 0.8 * loads["automatic"]
