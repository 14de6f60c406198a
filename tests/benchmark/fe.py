"""Finite elements beside CalculiX, PETSc and ParOSol, in one run: time, peak memory, and how both grow.

Every program, ours included, solves the same model (tests/fe_peers.py) to a relative residual of 1e-6 in a process of
its own, one after the other on the same cores. Seconds are wall clock for set-up and solution; for CalculiX they are
the whole program, which also reads its deck. The femur is synthetic; the tibia is the public XtremeCT II one where
../shared/data is present, a synthetic one of about its size elsewhere.

``OSTEONODE_BENCH_QUICK=1`` takes models of a tenth of the elements: for trying it out, not for reporting.
"""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.gallery import SyntheticFemur, synthetic_femur
from fe.load_cases import FALL_CASES
from fe.microfe import micro_fe
from fe.sas import sas_strength
from fe.specimens import synthetic_tibia
from fe.strength import femur_strength
from fe.voxel.numbering import number_voxels
from tests.benchmark.table import Row
from tests.fe_peers import (
    Answer,
    NotHereError,
    VoxelProblem,
    calculix_answer,
    our_answer,
    parosol_answer,
    petsc_answer,
    rounded_moduli,
)

QUICK = os.environ.get("OSTEONODE_BENCH_QUICK") == "1"

FEMUR_MM, FINE_MM, FINEST_MM = (2.9, 1.3, 0.6) if QUICK else (1.3, 0.59, 0.275)
"""Element edges that give the synthetic femur 97 000, 1.04 and 10.2 million elements."""

SLOPE_MM = (3.6, 2.4, 1.3) if QUICK else (1.64, 1.3, 0.9, 0.59, 0.275)
"""49 000, 97 000, 290 000, 1.04 and 10.2 million elements."""

CALCULIX_TIMES, GAMG_TIMES, PAROSOL_TIMES, TIBIA_TIMES = 80.0, 30.0, 10.0, 7.0
"""Goals: how many times faster."""

FINE_MIB, FINEST_S, FINEST_MIB = 1200.0, 60.0, 4096.0
SLOPE = 1.05
"""[project's assumption] Largest exponent of the time over the elements that still counts as linear."""

CONTACT_S, CONTACT_MIB, SAS_S = 30.0, 3072.0, 10.0
CONTACT_MM, SAS_MM = 1.7, 3.0
"""Elements of 1.7 mm make 43 000 of the synthetic femur."""

HEAD_N = 1000.0
CAP_MM = 6.0
"""The force acts on the upper surface of the head down to this depth."""

TIBIA_MM = 0.0607
TIBIA_MPA = 8748.0
TIBIA_STRAIN = -0.01
REAL_TIBIA = Path(__file__).parents[2].parent / "shared" / "data" / "fe" / "xtremect2_tibia" / "labels.npz"


def run() -> list[Row]:
    """Measure, and return the lines."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *_contact_rows(),  # first: it measures this process, before large models were made in it
            *_femur_rows(folder),
            *_fine_rows(folder),
            *_finest_rows(folder),
            *_tibia_rows(folder),
            _slope_row(folder),
            _sas_row(),
            _microfe_row(),
        ]


def _femur_rows(folder: Path) -> list[Row]:
    problem = femur_problem(FEMUR_MM)
    name = f"linear femur, {_count(problem)} elements"
    ours = our_answer(problem, folder)
    peers: list[tuple[Callable[[], Answer], float]] = [
        (lambda: calculix_answer(problem, folder), CALCULIX_TIMES),
        (lambda: petsc_answer(problem, folder), GAMG_TIMES),
        (lambda: parosol_answer(problem, folder), PAROSOL_TIMES),
    ]
    return [row for peer, times in peers for row in _beside(name, ours, peer, times)]


def _fine_rows(folder: Path) -> list[Row]:
    problem = femur_problem(FINE_MM)
    name = f"linear femur, {_count(problem)} elements"
    ours = our_answer(problem, folder)
    rows = _beside(name, ours, lambda: parosol_answer(problem, folder), PAROSOL_TIMES)
    return [rows[0], Row(f"{name}, memory", ours.peak_mib, rows[1].peer, rows[1].peer_name, "MiB", FINE_MIB)]


def _finest_rows(folder: Path) -> list[Row]:
    problem = femur_problem(FINEST_MM, finer=2)
    ours = our_answer(problem, folder)
    name = f"linear femur, {_count(problem)} elements"
    return [
        Row(name, ours.seconds, None, "-", "s", FINEST_S),
        Row(f"{name}, memory", ours.peak_mib, None, "-", "MiB", FINEST_MIB),
    ]


def _tibia_rows(folder: Path) -> list[Row]:
    problem = tibia_problem()
    ours = our_answer(problem, folder)
    kind = "XtremeCT II" if REAL_TIBIA.exists() and not QUICK else "synthetic"
    name = f"{kind} tibia, {_count(problem)} elements"
    return _beside(name, ours, lambda: parosol_answer(problem, folder), TIBIA_TIMES)


def _slope_row(folder: Path) -> Row:
    """Fit time = c elements^slope over the sizes."""
    elements, seconds = [], []
    for element_mm in SLOPE_MM:
        problem = femur_problem(element_mm, finer=2 if element_mm < FINE_MM else 1)
        elements.append(_count(problem))
        seconds.append(our_answer(problem, folder).cpu_s)
    slope = float(np.polyfit(np.log(elements), np.log(seconds), 1)[0])
    each = ", ".join(f"{count / 1000:.0f}k {taken:.2f}" for count, taken in zip(elements, seconds, strict=True))
    return Row("exponent of CPU time over elements", slope, None, f"CPU s: {each}", "-", SLOPE)


def _contact_rows() -> list[Row]:
    femur = synthetic_femur("R", (CONTACT_MM,) * 3)
    seconds, peak_mib = _measured(
        lambda: femur_strength(
            femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, "R", element_mm=CONTACT_MM, cases=FALL_CASES
        )
    )
    name = f"{len(FALL_CASES)} falls with contact, {int(femur.mask.sum())} elements"
    return [
        Row(name, seconds, None, "-", "s", CONTACT_S),
        Row(f"{name}, memory", peak_mib, None, "-", "MiB", CONTACT_MIB),
    ]


def _sas_row() -> Row:
    femur = synthetic_femur("R", (1.5,) * 3)
    seconds, _ = _measured(
        lambda: sas_strength(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, "R", element_mm=SAS_MM)
    )
    return Row(f"nonlinear femur (Sas), {SAS_MM:g} mm, to failure", seconds, None, "-", "s", SAS_S)


def _microfe_row() -> Row:
    labels = _tibia_labels()
    seconds, _ = _measured(lambda: micro_fe(labels, (TIBIA_MM,) * 3))
    return Row(f"micro-FE with Pistoia's load, {int((labels > 0).sum())} voxels", seconds, None, "-", "s", None)


def _beside(name: str, ours: Answer, peer: Callable[[], Answer], times: float) -> list[Row]:
    """Return the rows of time and memory beside one peer, which may be missing."""
    try:
        theirs = peer()
    except NotHereError as missing:
        return [
            Row(name, ours.seconds, None, f"not here: {missing}", "s", None),
            Row(f"{name}, memory", ours.peak_mib, None, f"not here: {missing}", "MiB", None),
        ]
    return [
        Row(name, ours.seconds, theirs.seconds, theirs.name, "s", theirs.seconds / times),
        Row(f"{name}, memory", ours.peak_mib, theirs.peak_mib, theirs.name, "MiB", None),
    ]


def _count(problem: VoxelProblem) -> int:
    return int((problem.modulus_mpa > 0).sum())


def _measured(action: Callable[[], object]) -> tuple[float, float]:
    """Return wall seconds of the second of two calls, the first one compiles, and the peak memory so far in MiB."""
    action()
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def femur_problem(element_mm: float, finer: int = 1) -> VoxelProblem:
    """Make a femur held at its lowest layer, with ``HEAD_N`` on its head.

    Parameters
    ----------
    element_mm
        Edge of the elements.
    finer
        Build it with elements this many times larger, then cut each into ``finer`` along every edge.
    """
    femur = synthetic_femur("R", (element_mm * finer,) * 3)
    coarse = rounded_moduli(_moduli(femur))
    modulus = coarse
    for axis in range(3):
        modulus = np.repeat(modulus, finer, axis=axis)
    numbering = number_voxels(modulus > 0)
    layers = modulus.shape[0]
    cap = numbering.node_numbers[layers - round(CAP_MM / element_mm) : layers + 1]
    loaded = cap.max(axis=0)[cap.max(axis=0) >= 0]  # the uppermost node of every column has the largest number
    force = np.zeros((3, numbering.node_count))
    force[0, loaded], force[2, loaded] = 0.3 * HEAD_N / len(loaded), -HEAD_N / len(loaded)
    held = np.zeros(force.shape, dtype=bool)
    held[:, : numbering.slab_nodes[0, 1]] = True
    return VoxelProblem(modulus, element_mm, held, force, np.broadcast_to(0.0, force.shape))


def _moduli(femur: SyntheticFemur) -> NDArray[np.float64]:
    """Return 14900 rho_ash^1.86 MPa, rho_ash in g/cm3, as in the measurements the goals were taken from."""
    rho_ash = 0.877e-3 * femur.rho_qct_mg_per_cm3 + 0.079
    return np.where(femur.mask, 14_900 * rho_ash**1.86, 0.0)


def tibia_problem() -> VoxelProblem:
    """Make a tibia between two plates that hold its ends, pressed together by ``TIBIA_STRAIN``."""
    modulus = rounded_moduli(np.where(_tibia_labels() > 0, TIBIA_MPA, 0.0))
    numbering = number_voxels(modulus > 0)
    layer = numbering.node_places[:, 0]
    held = np.repeat(((layer == 0) | (layer == len(modulus)))[None], 3, axis=0)
    prescribed = np.zeros(held.shape)
    prescribed[2, layer == len(modulus)] = np.float32(TIBIA_STRAIN * len(modulus) * TIBIA_MM)
    return VoxelProblem(modulus, TIBIA_MM, held, np.zeros(held.shape), prescribed)


def _tibia_labels() -> NDArray[np.uint8]:
    """Return the largest piece of the real tibia, or a synthetic one of about its size."""
    if QUICK or not REAL_TIBIA.exists():
        return synthetic_tibia(2.4 if QUICK else 4.9, (TIBIA_MM,) * 3, seed=1, radii_mm=(2.35, 2.65)).labels
    with np.load(REAL_TIBIA) as data:
        labels = data[data.files[0]]
    pieces, _ = ndimage.label(labels > 0)
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return np.where(pieces == largest, labels, 0)
