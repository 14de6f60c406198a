"""Rejection of superseded results: a Key Object Selection document (PS3.3 A.35.4, TID 2010), a rejection note.

An archive that follows IHE's Imaging Object Change Management hides what the note refers to; one that does not shows
a list of references. The title is Rejected for Quality Reasons, the one under which an archive may still show the
objects to those who ask; nothing here asks for deletion.
"""

from collections.abc import Sequence

import highdicom as hd
from pydicom.dataset import Dataset

from sr_export.codes import REJECTED
from sr_export.context import finish
from sr_export.errors import ContradictoryReport
from sr_export.inputs import Report
from sr_export.seg import NO_IDENTITY
from sr_export.sr import node_observer, separate
from sr_export.text import long_string, short_text
from sr_export.uids import PLACEHOLDER, stamp_uids

IS_IMAGE: tuple[str, ...] = ("Rows", "Columns")
"""What tells an image from another object, which decides the kind of the reference."""
REFERENCES: tuple[str, ...] = ("IMAGE", "COMPOSITE")
"""Items that TID 2010 (rows 8 to 10) forbids to have a concept name; highdicom gives them one."""
UIDS: tuple[str, ...] = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def build_kos(source: Dataset, superseded: Sequence[Dataset], report: Report) -> Dataset:
    """Return the note that rejects result objects of earlier runs.

    Parameters
    ----------
    source
        Any original header of the series.
    superseded
        The objects, of any kind, in the source's study; at least one.
    report
        The report that takes their place.

    Raises
    ------
    ContradictoryReport
        There is nothing to reject, or an object lies in another study.
    """
    others = sum(str(one.StudyInstanceUID) != str(source.StudyInstanceUID) for one in superseded)
    if others or not superseded:
        raise ContradictoryReport(
            f"{others} of {len(superseded)} superseded objects lie in another study; one or more of this expected."
        )
    evidence = [_reference(one) for one in superseded]
    content = hd.ko.KeyObjectSelection(
        document_title=REJECTED,
        referenced_objects=evidence,
        observer_device_context=node_observer(report),
        description=short_text(f"Superseded by the results of job {report.job_reference} of the same software."),
    )
    kos = hd.ko.KeyObjectSelectionDocument(
        evidence=evidence,
        content=content,
        series_instance_uid=PLACEHOLDER,
        series_number=1,
        sop_instance_uid=PLACEHOLDER,
        instance_number=1,
        manufacturer=long_string(report.equipment.manufacturer),
    )
    separate(kos)
    for item in kos.ContentSequence:
        if item.ValueType in REFERENCES:
            del item.ConceptNameCodeSequence
    finish(kos, source, report, "ko")
    stamp_uids([kos], report.job_reference, "ko")
    return kos


def _reference(superseded: Dataset) -> Dataset:
    """Return the part of an object that a reference needs; it never sees the patient."""
    reduced = Dataset()
    for keyword in (*UIDS, *IS_IMAGE):
        if keyword in superseded:
            element = superseded[keyword]
            reduced[element.tag] = element
    for element in NO_IDENTITY:
        reduced[element.tag] = element
    return reduced
