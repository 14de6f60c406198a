"""Whole analyses without packaging of a hip and a spine study of 512 x 512 pixels: time, processor time, peak memory.

Nothing else does the same work here, so the column of the peer tells the published times. Each study runs in a process
of its own with the node's defaults, from DICOM files to the report. The hips are digital; the spine is the public
enhanced chest, interpolated to 300 slices.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import ndimage

from dicom_node.demo.fake_ct import FakePatient, Scan, read_nifti, write_series
from dicom_node.pipeline.analysis import Tools, analyse_folder
from dicom_node.public_data import fetch
from dicom_node.segmenters.table import make_segmenter
from dicom_node.settings import Settings
from inference.calibration import DEFAULT_CALIBRATION
from tests.benchmark.table import Row
from tests.digital_femora import AIR_HU, scan_of

PIXELS, PIXEL_MM = 512, 0.8
CHEST_SLICES = 300
TABLE_ROWS, TABLE_HU = slice(450, 460), -400.0
"""A table below the digital patient."""


@dataclass(frozen=True, slots=True)
class Study:
    """One study: how it is made, what is asked of it, and the goals."""

    make: Callable[[], Scan]
    contrast: bool
    published: str
    seconds: float
    memory_gb: float


def digital_hips() -> Scan:
    """Return two whole digital femurs to 10 cm below their heads: 203 slices of 1 mm."""
    volume, _ = scan_of(3, step_mm=1.0)
    hu = ndimage.zoom(volume.hu, (1, 1 / PIXEL_MM, 1 / PIXEL_MM), order=1, mode="nearest")
    before = [(PIXELS - length) // 2 for length in hu.shape[1:]]
    pads = [(0, 0), *((first, PIXELS - length - first) for first, length in zip(before, hu.shape[1:], strict=True))]
    hu = np.pad(hu, pads, constant_values=AIR_HU)
    hu[:, TABLE_ROWS] = TABLE_HU
    return Scan(np.rint(hu).astype(np.int16), (1.0, PIXEL_MM, PIXEL_MM), (0.0, 0.0, 0.0))


def chest() -> Scan:
    """Return the public chest in 300 slices."""
    scan = read_nifti(fetch("chest") / "cxr.nii.gz")
    finer = CHEST_SLICES / scan.array.shape[0]
    hu = ndimage.zoom(scan.array.astype(np.float32), (finer, 1, 1), order=1)
    along, row, column = scan.spacing_mm
    return Scan(np.rint(hu).astype(np.int16), (along / finer, row, column), scan.origin_mm)


STUDIES: dict[str, Study] = {
    "hip": Study(digital_hips, False, "[Saillard2024]: 3 to 30 min on a P100", 45.0, 4.0),
    "spine": Study(chest, True, "[Niu2023]: 8.46 s on a P100", 30.0, 4.0),
}


def run() -> list[Row]:
    """Measure both."""
    rows = []
    for name, study in STUDIES.items():
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            files = write_series(study.make(), folder / "clean", FakePatient(), seed=name, contrast=study.contrast)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                seconds, cpu_s, peak_gb = alone.submit(analysed, folder / "clean", folder / "report").result()
        what = f"{name} study, {len(files)} slices"
        rows.append(Row(f"{what}, wall clock", seconds, None, study.published, "s", study.seconds))
        rows.append(Row(f"{what}, processor", cpu_s, None, "-", "s", None))
        rows.append(Row(f"{what}, peak memory", peak_gb, None, "-", "GB", study.memory_gb))
    return rows


def analysed(clean: Path, report: Path) -> tuple[float, float, float]:
    """Analyse a folder; return wall clock, processor time (s) and this process's peak memory (GB)."""
    settings = Settings(data_dir=clean.parent / "data")
    tools = Tools(
        job_reference="bench",
        created=datetime.now(UTC),
        serial_number="BENCH",
        calibration=(DEFAULT_CALIBRATION, ()),
        element_mm=settings.element_mm,
        with_interval=settings.strength_interval,
        segmenter=make_segmenter(settings.segmenter, settings),
    )
    wall, cpu = time.perf_counter(), time.process_time()
    analyse_folder(clean, report, tools, lambda _done, _doing: None)
    return time.perf_counter() - wall, time.process_time() - cpu, _peak_gb()


def _peak_gb() -> float:
    """Return the largest resident memory since this program began; ``getrusage`` counts its parent's too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e9
