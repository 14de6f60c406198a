"""De-identification beside `deid`, `dicom-anonymizer` and `dicognito`: CPU time per CT slice, and memory.

Every tool gets the same encoded slice, decoded anew for each run. CPU time of the process, median of the runs; the
tools take turns, so that a busy machine slows them alike. `deid` gets the Basic Profile as a recipe, once whole and
once with only the lines this slice needs, and its cache is cleared after each slice, as it would keep them all.
"""

import resource
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from deid_rules.engine import deidentify
from deid_rules.profile import Profile
from deid_rules.report import Subject
from deid_rules.residual import find_residual, identifiers_of
from deid_rules.rules import resolve
from deid_rules.tables import profile_rows
from deid_rules.uids import UidMapper
from tests.benchmark.table import Row

ROUNDS, SLICES_A_ROUND = 6, 10
MEMORY_SLICES = 5000
PEER_MEMORY_SLICES = 300
DEID_MS, WHOLE_MS = 1.0, 3.0
"""Goals: de-identification, and with reading and writing."""

FLAT_MIB = 8.0
"""[m] assumption: what the allocator may add to the peak without anything being kept."""

SUBJECT, PROFILE = Subject("ON-ABCDEFGH", -700), Profile()
UIDS = UidMapper(bytes(range(32)), "benchmark")

Tool = Callable[[Dataset], object]


def slice_bytes() -> bytes:
    """Encode a 512x512 CT slice of a patient who does not exist, with about 150 elements."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Vandermolen^Zephyrine", "MRN00815042", "19511224"
    _fill_from_table(ds)
    ds.Manufacturer, ds.Modality, ds.ImageType = "SIEMENS", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows = ds.Columns = 512
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 16, 12, 11, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.random.default_rng(1).integers(0, 4096, 512 * 512, dtype=np.uint16).tobytes()
    ds.private_block(0x0019, "MAKER", create=True).add_new(1, "LO", "private text")
    ds.ReferencedImageSequence = [_reference(number) for number in range(3)]
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


_FILLERS = {"LO": "Some text", "SH": "Short", "DA": "20240229", "TM": "101112", "PN": "Doe^John", "CS": "YES"}


def _fill_from_table(ds: Dataset) -> None:
    """Add text attributes of Table E.1-1, so that every tool has something to remove."""
    rows = [row for row in profile_rows() if row.vr in _FILLERS and 0x0008 <= row.tag >> 16 <= 0x0040]
    for row in rows[::3][:110]:
        if row.tag not in ds and not row.keyword.startswith("Other"):
            ds.add_new(row.tag, row.vr, _FILLERS[row.vr])


def _reference(number: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.1.{number}"
    return item


def recipe_lines(tags: frozenset[int] | None = None) -> list[str]:
    """Write the Basic Profile, or the part of it for these tags, as a recipe for `deid`."""
    words = {"X": "REMOVE {}", "Z": "BLANK {}", "D": "BLANK {}", "U": "REPLACE {} func:uid"}
    return [
        ("REMOVE {}" if row.vr == "SQ" else words[resolve(row.basic, None)]).format(row.keyword)
        for row in profile_rows()
        if (tags is None or row.tag in tags) and row.vr in (*_FILLERS, "UI", "SQ", "ST", "LT", "UT", "DT", "DS", "IS")
    ]


def _ours(ds: Dataset) -> Dataset:
    return deidentify(ds, SUBJECT, PROFILE, UIDS)[0]


def _deid(lines: list[str], folder: Path, *, clears_cache: bool = True) -> Tool:
    parser, config = import_module("deid.dicom.parser"), import_module("deid.config")
    inner = import_module("deid.dicom.fields")._get_fields_inner
    path = folder / f"{len(lines)}.deid"
    path.write_text("\n".join(["FORMAT dicom", "", "%header", "", *lines]) + "\n", encoding="utf-8")
    recipe = config.DeidRecipe(str(path))

    def run(ds: Dataset) -> None:
        one = parser.DicomParser(ds, recipe=recipe)
        one.define("uid", lambda **kwargs: UIDS.map(str(kwargs["field"].element.value)))
        one.parse(remove_private=True)
        if clears_cache:
            inner.cache_clear()

    return run


def _dicom_anonymizer() -> Tool:
    anonymize = import_module("dicomanonymizer").anonymize_dataset
    return lambda ds: anonymize(ds, delete_private_tags=True)


def _dicognito() -> Tool:
    anonymizer = import_module("dicognito.anonymizer").Anonymizer(seed="benchmark")
    return lambda ds: anonymizer.anonymize(ds)


def _peers(encoded: bytes, folder: Path) -> tuple[dict[str, Tool], list[str]]:
    """Return the tools that are installed, and a sentence for each that is not."""
    tags = frozenset(int(element.tag) for element in dcmread(BytesIO(encoded)).iterall())
    needed = recipe_lines(tags)
    makers: dict[str, tuple[str, Callable[[], Tool]]] = {
        f"deid {{}}, {len(recipe_lines())} lines": ("deid", lambda: _deid(recipe_lines(), folder)),
        f"deid {{}}, {len(needed)} lines": ("deid", lambda: _deid(needed, folder)),
        "dicom-anonymizer {}": ("dicom-anonymizer", _dicom_anonymizer),
        "dicognito {}": ("dicognito", _dicognito),
    }
    found, missing = {}, []
    for title, (package, make) in makers.items():
        try:
            found[title.format(version(package))] = make()
        except (PackageNotFoundError, ImportError):
            missing.append(f"{package} is not installed (extra: bench)")
    return found, missing


def _cpu_ms(action: Callable[[], object]) -> float:
    begin = time.process_time()
    action()
    return (time.process_time() - begin) * 1e3


def _medians(tools: dict[str, Tool], encoded: bytes) -> dict[str, float]:
    """Let the tools take turns at a few slices each; return each one's median CPU time in ms."""
    spent: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(ROUNDS):
        for name, tool in tools.items():
            for ds in [dcmread(BytesIO(encoded)) for _ in range(SLICES_A_ROUND)]:
                spent[name].append(_cpu_ms(lambda tool=tool, ds=ds: tool(ds)))
    return {name: statistics.median(times) for name, times in spent.items()}


def _whole_path(encoded: bytes, *, scans: bool) -> None:
    """Read, de-identify and write; with the residual scan, as the node does it."""
    original = dcmread(BytesIO(encoded))
    clean = _ours(original)
    buffer = BytesIO()
    clean.save_as(buffer, enforce_file_format=True)
    if scans and find_residual(buffer.getvalue(), identifiers_of(original)):
        raise AssertionError("the benchmark's own slice is not clean")


def _peak_growth_mib(action: Callable[[], object], count: int, warm_up: int) -> float:
    """Return by how much the peak of memory rises while an action is repeated."""
    for _ in range(warm_up):
        action()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        action()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def run() -> list[Row]:
    """Measure, and return the lines."""
    encoded = slice_bytes()
    with TemporaryDirectory() as folder:
        peers, missing = _peers(encoded, Path(folder))
        for sentence in missing:
            print(sentence)
        medians = _medians({"ours": _ours, **peers}, encoded)
        rows = [Row("de-identify a slice", medians["ours"], medians[name], name, "ms CPU", DEID_MS) for name in peers]
        rows = rows or [Row("de-identify a slice", medians["ours"], None, "no peer is installed", "ms CPU", DEID_MS)]
        for name, scans in (("read, de-identify, write", False), ("the same and the residual scan", True)):
            spent = statistics.median(
                _cpu_ms(lambda scans=scans: _whole_path(encoded, scans=scans)) for _ in range(ROUNDS * SLICES_A_ROUND)
            )
            rows.append(Row(name, spent, None, "-", "ms CPU", WHOLE_MS))
        return [*rows, *_memory(encoded, Path(folder))]


def _memory(encoded: bytes, folder: Path) -> list[Row]:
    grown = _peak_growth_mib(lambda: _whole_path(encoded, scans=True), MEMORY_SLICES, 200)
    try:
        peer = _deid(recipe_lines()[:36], folder, clears_cache=False)
    except ImportError:
        return [Row(f"memory over {MEMORY_SLICES} slices", grown, None, "deid is not installed", "MiB", FLAT_MIB)]
    theirs = _peak_growth_mib(lambda: peer(dcmread(BytesIO(encoded))), PEER_MEMORY_SLICES, 5)
    title = f"deid {version('deid')}, {PEER_MEMORY_SLICES} slices, cache not cleared"
    return [Row(f"memory over {MEMORY_SLICES} slices", grown, theirs, title, "MiB", FLAT_MIB)]
