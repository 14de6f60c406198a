"""One voxel model for several programs: ours, ParOSol, CalculiX and PETSc, each in a process of its own.

Used by the verification (the same displacements) and by the benchmark (time and memory). Every program gets the same
moduli, supports and loads as a file; writing the files is nobody's time.

``python -m tests.fe_peers solve FOLDER`` is our own child process.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fe.voxel.numbering import Numbering, number_voxels
from fe.voxel.operator import stiffness_operator
from fe.voxel.solver import elastic_model, solve

Doubles = NDArray[np.float64]

POISSON_RATIO = 0.3
LEAST_PRESCRIBED_MM = 1e-16
"""ParOSol drops a prescribed displacement of exactly zero."""

ABAQUS_ORDER = [0, 1, 3, 2, 4, 5, 7, 6]
MODULUS_STEPS = 200
"""Distinct moduli of a model: CalculiX needs a material for each."""

PETSC_FOLDERS = "/usr/lib/petscdir/*/*/lib/python3/dist-packages"
SYSTEM_PYTHON = "/usr/bin/python3"
"""PETSc comes from Debian (python3-petsc4py-real), for Debian's Python."""

LAUNCHER = """
import json, os, sys, time
begin = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
taken = {"seconds": time.perf_counter() - begin, "cpu_s": usage.ru_utime + usage.ru_stime}
print(json.dumps({**taken, "peak_mib": usage.ru_maxrss / 1024, "code": os.waitstatus_to_exitcode(status)}))
"""
"""A program's peak memory counts that of the process that starts it, so a small one starts it."""

PETSC_SCRIPT = """
import sys, time, json
import numpy as np
import petsc4py
petsc4py.init(["petsc"])
from petsc4py import PETSc
data = np.load(sys.argv[1])
tolerance = float(sys.argv[2])
n = len(data["indptr"]) - 1
matrix = PETSc.Mat().createAIJ((n, n), bsize=3, csr=(data["indptr"], data["indices"], data["values"]))
matrix.assemble()
matrix.setOption(PETSc.Mat.Option.SPD, True)
points = PETSc.Vec().createWithArray(data["points"].ravel(), bsize=3)
right, x = matrix.createVecRight(), matrix.createVecRight()
right.setArray(data["force"])
begin, cpu = time.perf_counter(), time.process_time()
matrix.setNearNullSpace(PETSc.NullSpace().createRigidBody(points))
ksp = PETSc.KSP().create()
ksp.setOperators(matrix)
ksp.setType("cg")
ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
ksp.getPC().setType("gamg")
ksp.setTolerances(rtol=tolerance, max_it=1000)
ksp.setFromOptions()
ksp.solve(right, x)
seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
if ksp.getConvergedReason() <= 0:
    raise SystemExit("not converged")
np.save(sys.argv[1] + ".solution.npy", x.getArray())
print(json.dumps({"seconds": seconds, "cpu_s": cpu, "iterations": ksp.getIterationNumber()}))
"""


@dataclass(frozen=True)
class VoxelProblem:
    """Cubic bricks with supports and nodal forces, moduli rounded to what every program can hold.

    Attributes
    ----------
    modulus_mpa : (nz, ny, nx) float64 array
        Exact in single precision as GPa, which is what ParOSol stores.
    element_mm
        Edge.
    is_fixed : (3, nodes) bool array
        Held degrees of freedom.
    force_n, prescribed_mm : (3, nodes) arrays
        Loads, and displacements of what is held.
    """

    modulus_mpa: Doubles
    element_mm: float
    is_fixed: NDArray[np.bool_]
    force_n: Doubles
    prescribed_mm: Doubles

    @property
    def numbering(self) -> Numbering:
        """Nodes and elements."""
        return number_voxels(self.modulus_mpa > 0)


@dataclass(frozen=True)
class Answer:
    """What a program needed, and what it found.

    Attributes
    ----------
    name
        Program and version.
    seconds, cpu_s
        Set-up and solution, wall clock and processor; for CalculiX the whole program.
    peak_mib
        Largest resident memory of the process.
    displacement_mm : (3, nodes) array, optional
        Where it was read.
    """

    name: str
    seconds: float
    cpu_s: float
    peak_mib: float
    displacement_mm: Doubles | None = None


class NotHereError(Exception):
    """The program is not installed; the message says which."""


def rounded_moduli(modulus_mpa: Doubles) -> Doubles:
    """Round to ``MODULUS_STEPS`` values, evenly spaced in the logarithm, each exact in single precision as GPa."""
    bone = modulus_mpa > 0
    logs = np.log(modulus_mpa[bone])
    step = max(float(np.ptp(logs)) / MODULUS_STEPS, 1e-12)
    values = np.exp(logs.min() + np.round((logs - logs.min()) / step) * step)
    result = np.zeros(modulus_mpa.shape)
    result[bone] = _as_stored(values)
    return result


def _as_stored(values: Doubles) -> Doubles:
    return (values / 1000).astype(np.float32).astype(np.float64) * 1000


def our_answer(problem: VoxelProblem, folder: Path, tolerance: float = 1e-6) -> Answer:
    """Solve in a child process that has compiled its loops before the clock starts."""
    _save(folder / "ours.npz", problem)
    command = [sys.executable, "-m", "tests.fe_peers", "solve", str(folder / "ours.npz"), str(tolerance)]
    measured = _run(command, Path(__file__).parents[1])
    return Answer("OsteoNode", **_times(measured))


def parosol_answer(problem: VoxelProblem, folder: Path, tolerance: float = 1e-6, level: int = 6) -> Answer:
    """Solve with ParOSol (parosol-py); its own clock, without reading and writing.

    Raises
    ------
    NotHereError
        The package is not installed.
    """
    try:
        inputs, runner = import_module("parosol_py.hdf5_io"), import_module("parosol_py.runner")
        name = f"ParOSol (parosol-py {version('parosol-py')})"
    except (ImportError, PackageNotFoundError) as error:
        raise NotHereError("parosol-py is not installed") from error
    places = problem.numbering.node_places[:, ::-1]
    components, nodes = np.nonzero(problem.is_fixed)
    prescribed = problem.prescribed_mm[components, nodes]
    pulled = np.nonzero(np.where(problem.is_fixed, 0, problem.force_n))
    path = folder / "parosol.h5"
    inputs.write_parosol_input(
        path,
        stiffness_gpa_xyz=np.swapaxes(problem.modulus_mpa / 1000, 0, 2),
        fixed_displacement_coordinates=np.column_stack((places[nodes], components)),
        fixed_displacement_values=np.where(prescribed == 0, LEAST_PRESCRIBED_MM, prescribed),
        voxel_size_mm=problem.element_mm,
        poisson_ratio=POISSON_RATIO,
        loaded_node_coordinates=np.column_stack((places[pulled[1]], pulled[0])),
        loaded_node_values=problem.force_n[pulled],
    )
    command = [str(runner.packaged_executable()), "--tol", f"{tolerance:g}", "--level", str(level), str(path)]
    measured = _run(command)
    seconds = runner.parse_run_summary(measured["output"]).overall_time_seconds
    return Answer(name, seconds, measured["cpu_s"], measured["peak_mib"], _parosol_displacement(problem, path))


def _parosol_displacement(problem: VoxelProblem, path: Path) -> Doubles:
    """Read the displacements, which ParOSol leaves in an order of its own."""
    with import_module("h5py").File(path) as file:
        places = np.rint(file["Mesh/Coordinates"][:] / problem.element_mm).astype(int)
        found = file["Solution/disp"][:]
    displacement = np.empty((3, len(found)))
    displacement[:, problem.numbering.node_numbers[tuple(places[:, ::-1].T)]] = found.T
    return displacement


def calculix_answer(problem: VoxelProblem, folder: Path, solver: str = "ITERATIVE CHOLESKY") -> Answer:
    """Solve with CalculiX; the whole program, which also reads its deck.

    Raises
    ------
    NotHereError
        ccx is not installed.
    """
    program = which("ccx")
    if program is None:
        raise NotHereError("CalculiX (ccx) is not installed")
    _write_deck(problem, folder / "model.inp", solver)
    measured = _run([program, "model"], folder)
    if "Job finished" not in measured["output"]:
        raise RuntimeError("CalculiX answers 0 even when it failed")
    return Answer(f"CalculiX {solver.lower()}", measured["seconds"], measured["cpu_s"], measured["peak_mib"])


def _write_deck(problem: VoxelProblem, path: Path, solver: str) -> None:
    numbering = problem.numbering
    points = (numbering.node_places * problem.element_mm)[:, ::-1]
    lines = ["*NODE, NSET=ALL", *(f"{n}, {x:.9g}, {y:.9g}, {z:.9g}" for n, (x, y, z) in enumerate(points, 1))]
    nodes = numbering.connectivity()[:, ABAQUS_ORDER] + 1
    moduli, materials = np.unique(problem.modulus_mpa[numbering.is_bone], return_inverse=True)
    for material, modulus in enumerate(moduli):
        lines.append(f"*ELEMENT, TYPE=C3D8, ELSET=E{material}")
        lines += [f"{e + 1}, " + ", ".join(map(str, nodes[e])) for e in np.flatnonzero(materials == material)]
        lines += [f"*MATERIAL, NAME=M{material}", "*ELASTIC", f"{modulus:.12g}, {POISSON_RATIO}"]
        lines.append(f"*SOLID SECTION, ELSET=E{material}, MATERIAL=M{material}")
    held = np.argwhere(problem.is_fixed)
    lines += ["*BOUNDARY", *(f"{n + 1}, {c + 1}, {c + 1}, {problem.prescribed_mm[c, n]:.12g}" for c, n in held)]
    lines += ["*STEP", f"*STATIC, SOLVER={solver}", "*CLOAD"]
    lines += [f"{n + 1}, {c + 1}, {problem.force_n[c, n]:.12g}" for c, n in np.argwhere(problem.force_n)]
    lines += ["*NODE FILE", "U", "*END STEP"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def petsc_answer(problem: VoxelProblem, folder: Path, tolerance: float = 1e-6) -> Answer:
    """Solve with PETSc: conjugate gradients and GAMG with the rigid motions as near null space, matrix given.

    Raises
    ------
    NotHereError
        Debian's petsc4py is not installed.
    """
    packages = sorted(Path("/").glob(PETSC_FOLDERS.lstrip("/")))
    if not packages or not Path(SYSTEM_PYTHON).exists():
        raise NotHereError("PETSc (python3-petsc4py-real) is not installed")
    numbering = problem.numbering
    size_mm = (problem.element_mm,) * 3
    matrix = stiffness_operator(numbering, problem.modulus_mpa, size_mm, POISSON_RATIO).matrix()
    free = (~problem.is_fixed).T.ravel()
    load = problem.force_n.T.ravel() - matrix @ problem.prescribed_mm.T.ravel()
    keep = _diagonal(free.astype(float))
    held = (keep @ matrix @ keep + _diagonal((~free).astype(float) * matrix.diagonal().mean())).tocsr()
    np.savez(
        folder / "petsc.npz",
        indptr=held.indptr.astype(np.int32),
        indices=held.indices.astype(np.int32),
        values=held.data,
        force=np.where(free, load, 0.0),
        points=(numbering.node_places * problem.element_mm)[:, ::-1].astype(float),
    )
    (folder / "petsc.py").write_text(PETSC_SCRIPT, encoding="utf-8")
    command = [SYSTEM_PYTHON, str(folder / "petsc.py"), str(folder / "petsc.npz"), f"{tolerance:g}"]
    measured = _run(command, environment={"PYTHONPATH": str(packages[0]), "OMP_NUM_THREADS": "1"})
    return Answer("PETSc 3 GAMG-CG", **_times(measured))


def _diagonal(values: Doubles) -> Any:
    return import_module("scipy.sparse").diags_array(values)


def _times(measured: dict[str, Any]) -> dict[str, float]:
    """Return the child's own clock, and the memory its process needed."""
    own = json.loads(measured["output"].strip().splitlines()[-1])
    return {"seconds": own["seconds"], "cpu_s": own["cpu_s"], "peak_mib": measured["peak_mib"]}


def _run(
    command: Sequence[str], folder: Path | None = None, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a program; return its output and what the operating system says it took."""
    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *command],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    output, _, taken = process.stdout.strip().rpartition("\n")
    measured = {**json.loads(taken), "output": output}
    if measured["code"] != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with {measured['code']}: {output[-500:]}")
    return measured


def _save(path: Path, problem: VoxelProblem) -> None:
    """Write the model small: our child must not need more memory for reading it than for solving it."""
    np.savez(
        path,
        modulus=problem.modulus_mpa.astype(np.float32),
        element_mm=problem.element_mm,
        held=np.flatnonzero(problem.is_fixed),
        prescribed=problem.prescribed_mm[problem.is_fixed],
        loaded=np.flatnonzero(problem.force_n),
        force=problem.force_n[problem.force_n != 0],
    )


def _solve(path: str, tolerance: str) -> None:
    """Solve a saved model and print what it took."""
    warm_up = np.ones((20, 20, 20), np.float32)
    held = np.add.outer(21**3 * np.arange(3), np.arange(21**2)).ravel()
    _timed_solve(warm_up, 1.0, held, np.zeros(len(held)), np.array([9000]), np.ones(1), 1e-6)
    with np.load(path) as data:
        arrays = [data[name] for name in ("modulus", "element_mm", "held", "prescribed", "loaded", "force")]
    _timed_solve(arrays[0], float(arrays[1]), *arrays[2:], float(tolerance))


def _timed_solve(
    modulus: NDArray[np.float32],
    element_mm: float,
    held: NDArray[np.int64],
    prescribed: Doubles,
    loaded: NDArray[np.int64],
    force: Doubles,
    tolerance: float,
) -> None:
    begin, cpu = time.perf_counter(), time.process_time()
    numbering = number_voxels(modulus > 0)
    is_fixed = np.zeros((3, numbering.node_count), dtype=bool)
    is_fixed.ravel()[held] = True
    force_n = np.zeros(is_fixed.shape)
    force_n.ravel()[loaded] = force
    prescribed_mm = None
    if prescribed.any():
        prescribed_mm = np.zeros(is_fixed.shape)
        prescribed_mm.ravel()[held] = prescribed
    model = elastic_model(modulus, (element_mm,) * 3, POISSON_RATIO, is_fixed, numbering)
    solution = solve(model, force_n, prescribed_mm=prescribed_mm, tolerance=tolerance)
    taken = {"seconds": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu}
    print(json.dumps({**taken, "iterations": solution.iterations, "residual": solution.residual}))


if __name__ == "__main__":
    _solve(*sys.argv[2:])
