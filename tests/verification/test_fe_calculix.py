"""The same voxel model in CalculiX, an independent program."""

import shutil
import subprocess

import numpy as np
import pytest

from fe.voxel.numbering import number_voxels
from fe.voxel.solver import elastic_model, solve

CALCULIX = shutil.which("ccx")
pytestmark = [
    pytest.mark.needs_binary,
    pytest.mark.skipif(CALCULIX is None, reason="CalculiX (ccx) is not installed"),
]

SIZE_MM = (1.0, 1.5, 2.0)
NU = 0.3
ABAQUS_ORDER = [0, 1, 3, 2, 4, 5, 7, 6]
PRINTED_DIGITS = 1e-5


def deck(numbering, modulus, force):
    """Write the model as a CalculiX deck with one material per element."""
    lines = ["*NODE, NSET=ALL"]
    points = (numbering.node_places * np.array(SIZE_MM))[:, ::-1]
    lines += [f"{n + 1}, {x:.12g}, {y:.12g}, {z:.12g}" for n, (x, y, z) in enumerate(points)]
    connectivity = numbering.connectivity()[:, ABAQUS_ORDER] + 1
    for e, (nodes, value) in enumerate(zip(connectivity, modulus[numbering.is_bone], strict=True), 1):
        lines += [f"*ELEMENT, TYPE=C3D8, ELSET=E{e}", f"{e}, " + ", ".join(map(str, nodes))]
        lines += [f"*MATERIAL, NAME=M{e}", "*ELASTIC", f"{value:.12g}, {NU}"]
        lines += [f"*SOLID SECTION, ELSET=E{e}, MATERIAL=M{e}"]
    lines += ["*BOUNDARY"]
    lines += [f"{n + 1}, 1, 3, 0." for n in np.flatnonzero(numbering.node_places[:, 0] == 0)]
    lines += ["*STEP", "*STATIC", "*CLOAD"]
    lines += [f"{n + 1}, {c + 1}, {force[c, n]:.12g}" for c, n in np.argwhere(force)]
    lines += ["*NODE PRINT, NSET=ALL", "U", "*END STEP"]
    return "\n".join(lines) + "\n"


def test_displacements_agree_with_calculix(tmp_path):
    rng = np.random.default_rng(12)
    modulus = 10 ** rng.uniform(2, 4, (6, 5, 4))
    modulus[4:, :2, :2] = 0
    numbering = number_voxels(modulus > 0)
    force = np.zeros((3, numbering.node_count))
    force[:, numbering.node_places[:, 0] == 6] = np.array([[10.0], [-5.0], [-30.0]])
    (tmp_path / "model.inp").write_text(deck(numbering, modulus, force))
    subprocess.run([CALCULIX, "model"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    rows = [line.split() for line in (tmp_path / "model.dat").read_text().splitlines()]
    printed = np.array([[float(v) for v in row[1:]] for row in rows if len(row) == 4 and row[0].isdigit()])
    assert len(printed) == numbering.node_count, "CalculiX answers 0 even when it failed"
    held = np.repeat((numbering.node_places[:, 0] == 0)[None], 3, axis=0)
    ours = solve(elastic_model(modulus, SIZE_MM, NU, held), force, tolerance=1e-10).displacement_mm
    np.testing.assert_allclose(printed.T, ours, atol=PRINTED_DIGITS * np.abs(ours).max())
