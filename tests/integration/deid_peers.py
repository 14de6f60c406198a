"""The two peers of the differential test, our engine, and what each made of an element."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom import dcmread
from pydicom.dataset import Dataset

from deid_rules.engine import deidentify
from deid_rules.profile import Profile
from deid_rules.recipe import parse_recipe
from deid_rules.report import Subject
from deid_rules.uids import UidMapper

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "deid"
MAX_BYTES = 1_500_000
SUBJECT = Subject("ON-ABCDEFGH", -700)
UIDS = UidMapper(bytes(range(32)), "differential")

PathInside = tuple[int, ...]
"""Tags and, behind each sequence, the index of an item."""

RECIPE = """FORMAT dicom

%header

REPLACE PatientName var:pseudonym
REPLACE PatientID var:pseudonym
REPLACE Manufacturer Scanner
REPLACE StudyInstanceUID func:mapped_uid
REPLACE SeriesInstanceUID func:mapped_uid
REPLACE SOPInstanceUID func:mapped_uid
REPLACE FrameOfReferenceUID func:mapped_uid
REPLACE ReferencedSOPInstanceUID func:mapped_uid
BLANK PatientBirthDate
BLANK AccessionNumber
BLANK (0008,0090)
REMOVE InstitutionName
REMOVE contains:Comments
REMOVE endswith:Description
REMOVE startswith:Operator
REMOVE select:VR:AE
# option: Retain Modified Dates
JITTER StudyDate var:date_offset_days
# option: Retain Modified Dates
JITTER SeriesDate var:date_offset_days
# option: Retain Modified Dates
JITTER ContentDate var:date_offset_days
# option: Retain Modified Dates
JITTER AcquisitionDateTime var:date_offset_days
KEEP Rows
KEEP Modality
"""
SITE = parse_recipe(RECIPE)


@dataclass(frozen=True, slots=True)
class Difference:
    """One element that two tools treat differently; fates are absent, empty, same, changed, sequence.

    ``gone_above`` says which of the tools has not kept the item it stands in: ours, theirs, or none.
    """

    file: str
    path: PathInside
    keyword: str
    vr: str
    ours: str
    theirs: str
    gone_above: str = "none"

    @property
    def tag(self) -> int:
        """The element's own tag."""
        return self.path[-1]

    @property
    def is_nested(self) -> bool:
        """Whether it stands in an item of a sequence."""
        return len(self.path) > 1


def sample_files() -> list[Path]:
    """Return the public samples, where they are, and the files installed with pydicom."""
    installed = Path(pydicom.__file__).parent / "data" / "test_files"
    found = [*SAMPLES.glob("*/*.dcm"), *installed.glob("*.dcm"), *installed.glob("dicomdirtests/**/*")]
    return sorted(path for path in found if path.is_file() and path.stat().st_size < MAX_BYTES)


def elements_below(dataset: Dataset, path: PathInside = ()) -> Iterator[tuple[PathInside, Any]]:
    """Yield (path, element) at every depth."""
    for element in dataset:
        yield (*path, int(element.tag)), element
        if element.VR == "SQ":
            for index, item in enumerate(element.value):
                yield from elements_below(item, (*path, int(element.tag), index))


def ours(dataset: Dataset, *, with_recipe: bool) -> Dataset:
    """De-identify with our engine."""
    profile = Profile(site_rules=SITE) if with_recipe else Profile()
    return deidentify(dataset, SUBJECT, profile, UIDS)[0]


def deid_with_recipe(folder: Path) -> Callable[[Dataset], Dataset]:
    """Return `deid` with the same recipe; its cache is cleared after each file."""
    parser, config = import_module("deid.dicom.parser"), import_module("deid.config")
    inner = import_module("deid.dicom.fields")._get_fields_inner
    path = folder / "site.deid"
    path.write_text(RECIPE, encoding="utf-8")

    def run(dataset: Dataset) -> Dataset:
        one = parser.DicomParser(dataset, recipe=config.DeidRecipe(str(path)))
        one.define("pseudonym", SUBJECT.pseudonym)
        one.define("date_offset_days", SUBJECT.date_offset_days)
        one.define("mapped_uid", _mapped)
        try:
            one.parse()
        finally:
            inner.cache_clear()
        return one.dicom

    return run


def _mapped(field: Any, **_: object) -> str:
    return UIDS.map(str(field.element.value))


def dicom_anonymizer() -> Callable[[Dataset], Dataset]:
    """Return `dicom-anonymizer` with its own rules, Basic Profile 2026c."""
    anonymize = import_module("dicomanonymizer").anonymize_dataset

    def run(dataset: Dataset) -> Dataset:
        anonymize(dataset, delete_private_tags=True)
        return dataset

    return run


def differences(
    file: str, encoded: bytes, ours_made: Dataset, theirs_made: Dataset, *, exact: bool
) -> list[Difference]:
    """Compare element by element what two tools made of one file.

    Parameters
    ----------
    exact
        Whether changed values must be equal too.
    """
    first, second = dict(elements_below(ours_made)), dict(elements_below(theirs_made))
    found = []
    for path, element in elements_below(dcmread(BytesIO(encoded), force=True)):
        left, right = first.get(path), second.get(path)
        fates = _fate(element, left), _fate(element, right)
        if fates[0] != fates[1] or (exact and fates == ("changed", "changed") and left.value != right.value):
            gone = "ours" if _lost(path, first) else "theirs" if _lost(path, second) else "none"
            found.append(Difference(file, path, element.keyword, element.VR, *fates, gone))
    return found


def _lost(path: PathInside, made: dict[PathInside, Any]) -> bool:
    """Tell whether the item an element stood in is gone."""
    return len(path) > 1 and not any(other[: len(path) - 1] == path[:-1] for other in made)


def _fate(original: Any, made: Any) -> str:
    if made is None:
        return "absent"
    if made.VR == "SQ":
        return "sequence" if made.value else "empty"
    if made.value is None or made.value == "" or (hasattr(made.value, "__len__") and not len(made.value)):
        return "empty"
    return "same" if made.value == original.value else "changed"
