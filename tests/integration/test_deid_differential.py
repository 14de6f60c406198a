"""Our engine beside `deid` with the same recipe and `dicom-anonymizer`: no difference without a reason.

Every file of the public samples and of pydicom's installed test data goes through both; the fate of every element is
compared. The reasons are the lines of the tables in docs/deid-differences.md.
"""

import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from deid.dicom.pixels.detect import has_burned_pixels
from deid_peers import SAMPLES, SITE, Difference, deid_with_recipe, dicom_anonymizer, differences, ours, sample_files
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from deid_rules.errors import RefusedDataset
from deid_rules.pixels import rectangles_for
from deid_rules.rules import MARKERS
from deid_rules.tables import profile_rows

DOCUMENT = Path(__file__).parents[2] / "docs" / "deid-differences.md"
ROWS = {row.tag: row for row in profile_rows()}
NAMED_IN_RECIPE = {tag for tag, _ in SITE.rules} | {0x00280010, 0x00080060}

Reason = Callable[[Difference], bool]


def _letters(d: Difference) -> str:
    return ROWS[d.tag].options if d.tag in ROWS else ""


def _basic(d: Difference) -> str:
    return ROWS[d.tag].basic if d.tag in ROWS else ""


WITH_DEID: dict[str, Reason] = {
    "A sequence above it is removed": lambda d: d.gone_above == "ours",
    "A date and time in another form": lambda d: d.vr == "DT" and (d.ours, d.theirs) == ("changed", "changed"),
}

WITH_DICOM_ANONYMIZER: dict[str, Reason] = {
    "A sequence above it is removed": lambda d: d.gone_above == "ours",
    "Overlays and group lengths": lambda d: d.tag >> 16 & 0xFF00 == 0x6000 or not d.tag & 0xFFFF,
    "Markers": lambda d: d.keyword in MARKERS or 0x00120064 in d.path,
    "Pseudonym and study code": lambda d: d.keyword in ("PatientName", "PatientID", "StudyID"),
    "Dates and times": lambda d: "M" in _letters(d),
    "Patient characteristics": lambda d: "P" in _letters(d) and d.ours in ("same", "empty"),
    "Contrast agent": lambda d: d.keyword == "ContrastBolusAgent",
    "Inside sequences that stay": lambda d: d.is_nested and (d.theirs == "same" or d.ours == "absent"),
    "Inside sequences that are replaced": lambda d: d.is_nested and (d.ours == "same" or d.vr == "UI"),
    "Empty rather than a dummy": lambda d: _basic(d) in ("Z", "Z/D") and (d.ours, d.theirs) == ("empty", "changed"),
    "Type of the attribute": lambda d: "/" in _basic(d) and d.ours in ("absent", "empty"),
    "Not in Table E.1-1": lambda d: d.tag not in ROWS and d.theirs == "same",
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence the peers: their warnings quote values."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def _read(encoded: bytes) -> Dataset:
    return dcmread(BytesIO(encoded), force=True)


def _compare(
    peer: Callable[[Dataset], Dataset], *, with_recipe: bool, wants: Callable[[Difference], bool]
) -> tuple[list[Difference], Counter[str]]:
    """Take every file through both; return the differences and what became of the files."""
    found: list[Difference] = []
    outcomes: Counter[str] = Counter()
    for path in sample_files():
        encoded = path.read_bytes()
        try:
            left = ours(_read(encoded), with_recipe=with_recipe)
        except RefusedDataset as refused:
            outcomes[type(refused).__name__] += 1
            continue
        right = peer(_read(encoded))
        outcomes["compared"] += 1
        found += [d for d in differences(path.name, encoded, left, right, exact=with_recipe) if wants(d)]
    return found, outcomes


def _explained(found: list[Difference], reasons: dict[str, Reason]) -> tuple[Counter[str], list[Difference]]:
    """Count the reasons, the first that fits for each difference, and return what has none."""
    counts: Counter[str] = Counter()
    rest = []
    for difference in found:
        name = next((name for name, fits in reasons.items() if fits(difference)), None)
        if name is None:
            rest.append(difference)
        else:
            counts[name] += 1
    return counts, rest


def _documented(heading: str) -> list[str]:
    """Return the first column of the table below a heading of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [cell for cell in re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE) if cell not in ("reason", "---")]


def _kinds(rest: list[Difference]) -> set[tuple[str, str, str, str]]:
    return {(d.keyword, d.vr, d.ours, d.theirs) for d in rest}


def test_deid_with_the_same_recipe_differs_only_for_the_documented_reasons(tmp_path):
    found, outcomes = _compare(deid_with_recipe(tmp_path), with_recipe=True, wants=lambda d: d.tag in NAMED_IN_RECIPE)
    counts, rest = _explained(found, WITH_DEID)
    assert _kinds(rest) == set()
    assert set(counts) == set(WITH_DEID)
    assert outcomes["compared"] > 60
    assert set(outcomes) <= {"compared", "MissingPatientId", "UnsupportedObject"}


def test_dicom_anonymizer_differs_only_for_the_documented_reasons():
    pytest.importorskip("dicomanonymizer", reason="dicom-anonymizer is not installed (extra: bench)")
    found, outcomes = _compare(dicom_anonymizer(), with_recipe=False, wants=lambda d: True)
    counts, rest = _explained(found, WITH_DICOM_ANONYMIZER)
    assert _kinds(rest) == set()
    assert set(counts) == set(WITH_DICOM_ANONYMIZER) or not SAMPLES.is_dir()
    assert outcomes["compared"] > 60


@pytest.mark.parametrize(
    ("heading", "reasons"),
    [("Beside deid 0.4.13", WITH_DEID), ("Beside dicom-anonymizer 2.1.0", WITH_DICOM_ANONYMIZER)],
)
def test_the_document_lists_the_reasons_the_test_knows(heading, reasons):
    assert _documented(heading) == list(reasons)


def _header(**attributes: object) -> Dataset:
    """Make the part of an image's header that the rule base reads."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Modality, ds.ImageType, ds.Rows, ds.Columns = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 8, 8
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def test_labels_agree_with_the_package_they_come_from(tmp_path):
    headers = [
        _header(Manufacturer="GE MEDICAL SYSTEMS", SeriesDescription="Dose Report", BurnedInAnnotation="YES"),
        _header(ManufacturerModelName="SOMATOM Definition AS+", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        _header(
            Manufacturer="TOSHIBA",
            ManufacturerModelName="Aquilion ONE",
            ImageType=["DERIVED", "SECONDARY"],
            Rows=512,
            Columns=512,
            WindowWidth="1",
        ),
        _header(Modality="US", Manufacturer="Philips", ManufacturerModelName="EPIQ 7G", Rows=768),
        _header(ManufacturerModelName="LightSpeed VCT", ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
        _header(Modality="US", Manufacturer="SIEMENS", ManufacturerModelName="Antares", Rows=768, Columns=1024),
    ]
    for number, ds in enumerate(headers):
        path = tmp_path / f"{number}.dcm"
        ds.save_as(path)
        theirs = has_burned_pixels(str(path))["results"]
        expected = [coordinate for result in theirs for _, coordinate in result["coordinates"]]
        ours = [f"{r.left},{r.top},{r.right},{r.bottom}" for r in rectangles_for(ds)]
        assert ours == [coordinate.replace(" ", "") for coordinate in expected]
        assert ours
