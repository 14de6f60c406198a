"""``osteonode fe`` as its user runs it: files in, JSON, mesh and pictures out, on a machine without a screen."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fe.vertebra_specimen import synthetic_vertebra
from tests.unit.dicom_node.fe_files import write_femur, write_image

pytest.importorskip("pyvista", reason="meshes and pictures are the extra fe")
pytest.importorskip("tetgen", reason="tetrahedra are the extra fe")

PROGRAM = Path(sys.executable).with_name("osteonode")
WIDEST_GREY = 0.98
"""A picture with less than this fraction of white holds a bone or a curve."""


@dataclass(frozen=True)
class Example:
    """A model's command line, the pictures it makes and the range its strength lies in."""

    words: tuple[str, ...]
    pictures: tuple[str, ...]
    strength: str
    range_n: tuple[float, float]


EXAMPLES = {
    "ct2s": Example(
        ("--side", "R", "--element-mm", "5", "--no-sensitivity", "--density-mg-per-cm3", "HA"),
        ("stance", "fall", "directions"),
        "fall_minimum_n",
        (1000, 15_000),
    ),
    "sas": Example(
        ("--side", "R", "--element-mm", "5", "--no-sensitivity", "--density-mg-per-cm3", "HA"),
        ("failure",),
        "failure_load_n",
        (3000, 30_000),
    ),
    "vertebra": Example(
        ("--level", "L2", "--element-mm", "7", "--density-mg-per-cm3", "HA", "--threads", "1"),
        ("failure", "sensitivity"),
        "failure_load_n",
        (2000, 20_000),
    ),
    "microfe": Example((), ("energy",), "failure_load_n", (1, 1000)),
}


def files_of(model: str, folder: Path) -> tuple[Path, Path]:
    """Make image and mask of a model's bone."""
    if model in ("ct2s", "sas"):
        return write_femur(folder, spacing_mm=3.0, shaft_mm=90.0)
    if model == "vertebra":
        bone = synthetic_vertebra((2.5, 2.5, 2.5))
        arrays, voxel_mm = (bone.rho_qct_mg_per_cm3.astype(np.float32), bone.mask.astype(np.uint8)), 2.5
    else:
        struts = np.zeros((16, 16, 16), np.uint8)
        struts[:, 2:6, 2:6] = struts[:, 9:13, 9:13] = 1
        struts[:3], struts[-3:] = 1, 1
        arrays, voxel_mm = (struts.astype(np.float32), struts), 0.0607
    return (
        write_image(folder / "image.nii.gz", arrays[0], (voxel_mm,) * 3),
        write_image(folder / "mask.nii.gz", arrays[1], (voxel_mm,) * 3),
    )


def run(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [str(PROGRAM), "fe", *map(str, words)], capture_output=True, text=True, env=environment, timeout=300
    )


@pytest.mark.parametrize("model", EXAMPLES)
def test_every_model_writes_numbers_mesh_and_pictures_without_a_screen(model: str, tmp_path: Path) -> None:
    import pyvista

    example = EXAMPLES[model]
    image, mask = files_of(model, tmp_path)
    out = tmp_path / "out"
    done = run(image, "--mask", mask, "--model", model, "--out", out, *example.words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    result: dict[str, Any] = json.loads((out / f"{model}.json").read_text())
    low, high = example.range_n
    assert low < result["strength"][example.strength] < high
    assert result["headline"] in " ".join(done.stdout.split())
    assert result["facts"]["residual"] < 1e-2
    grid = pyvista.read(out / f"{model}.vtu")
    assert grid.n_cells == result["facts"]["element_count"]
    np.testing.assert_array_less(np.array(result["input"]["model_origin_lps_mm"]) - 60, grid.points.min(axis=0))
    for name in example.pictures:
        picture = np.asarray(Image.open(out / f"{model}-{name}.png").convert("L"))
        assert 0 < (picture > 250).mean() < WIDEST_GREY, name
    assert {path.name for path in out.iterdir()} == {
        f"{model}.json",
        f"{model}.vtu",
        *(f"{model}-{name}.png" for name in example.pictures),
    }


def test_a_damaged_file_is_one_sentence_for_its_user(tmp_path: Path) -> None:
    image, mask = files_of("microfe", tmp_path)
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    done = run(image, "--mask", mask, "--model", "microfe", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stdout
    assert "cut off" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()
