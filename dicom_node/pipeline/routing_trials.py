"""Trying rules on a study, received or in a folder: for the page and for ``osteonode rule test``."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.db.models import CT_CLASSES
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import SeriesArrivals, series_arrivals
from dicom_node.errors import ConfigurationError, NotFound
from dicom_node.pipeline.routing import SeriesFacts, Trial, trials
from dicom_node.pipeline.routing_headers import facts_of
from dicom_node.pipeline.routing_rules import Rule
from dicom_node.pipeline.routing_store import rules_in_force

HEADERS_READ = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def try_study(
    databases: Databases, folder: Path, study_instance_uid: str
) -> tuple[list[Trial], tuple[SeriesFacts, ...]]:
    """Try the rules in force on a study that is here, up to the first that takes it.

    Raises
    ------
    NotFound
        When no image of the study is here.
    """
    with transaction(databases.hospital) as session:
        rules = rules_in_force(session).rules
        series = series_arrivals(session, study_instance_uid)
    if not series:
        raise NotFound("No image of such a study is here.")
    facts = facts_of(series, folder, rules)
    return list(trials(rules, facts)), facts


def try_folder(rules: Sequence[Rule], folder: Path, calling_aet: str) -> tuple[list[Trial], tuple[SeriesFacts, ...]]:
    """Try rules on the DICOM files of one study in a folder, as if they had been sent.

    Raises
    ------
    ConfigurationError
        When the folder holds no DICOM file, or files of several studies.
    """
    facts = facts_of(_series_of(folder, calling_aet), folder, rules)
    return list(trials(rules, facts)), facts


def _series_of(folder: Path, calling_aet: str) -> list[SeriesArrivals]:
    counts: Counter[str] = Counter()
    cts: Counter[str] = Counter()
    first: dict[str, str] = {}
    studies = set()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADERS_READ))
            series = str(header.SeriesInstanceUID)
            studies.add(str(header.StudyInstanceUID))
        except (InvalidDicomError, AttributeError, OSError):
            continue
        counts[series] += 1
        cts[series] += str(header.get("SOPClassUID", "")) in CT_CLASSES
        first.setdefault(series, str(path.relative_to(folder)))
    if len(studies) != 1:
        raise ConfigurationError(f"The folder holds DICOM files of {len(studies)} studies; one is expected.")
    return [SeriesArrivals(one, counts[one], cts[one], first[one], (calling_aet,)) for one in sorted(counts)]
