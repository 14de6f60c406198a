"""The measurements as a Comprehensive 3D SR of TID 1500 (PS3.16): one object that draws and reads as text.

Rules, each found by looking at real viewers: title 126000; contours instead of referenced segments; concept
names that say everything; every container SEPARATE, or text renderers drop the names; no image library of
every slice, and evidence of only what is referenced; one Summary text with the banner and the headline.
"""

from collections.abc import Sequence

import highdicom as hd
from pydicom.dataset import Dataset

from sr_export.coded import code_item
from sr_export.codes import (
    CALIBRATED,
    CALIBRATION_STATE,
    CALIBRATION_TEXT,
    CT_PROCEDURE,
    IMAGING_MEASUREMENTS,
    LIMIT_TEXT,
    PROCEDURE_REPORTED,
    QUALITATIVE_EVALUATIONS,
    REPLACED_REPORT,
    REPORT_TITLE,
    SUMMARY,
    TECHNICAL_TEXT,
    UNCALIBRATED,
)
from sr_export.context import BANNER, device_uid, finish
from sr_export.corrected import correction_sentence, evidence_of, person_observer, reference_to
from sr_export.inputs import CalibrationStatement, Correction, Report
from sr_export.seg import geometry_header
from sr_export.sr_groups import finding_items, measurement_groups
from sr_export.text import ascii_text, long_string
from sr_export.uids import PLACEHOLDER, stamp_uids

CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS


def build_sr(
    source: Sequence[Dataset],
    segs: Sequence[Dataset],
    report: Report,
    previous: Sequence[Dataset] = (),
    correction: Correction | None = None,
) -> Dataset:
    """Return the structured report; valid also when nothing was measurable.

    Parameters
    ----------
    source
        Original headers in the order of the masks' slice axis.
    segs
        The Segmentation objects of the same job, cited as evidence.
    previous
        Structured reports that this one replaces.
    correction
        The segmentation that a person corrected, where the report rests on one.
    """
    headers = [geometry_header(header) for header in source]
    root = _root(headers, report, correction)
    sr = hd.sr.Comprehensive3DSR(
        evidence=_evidence(root, headers, segs, correction),
        content=root,
        series_instance_uid=PLACEHOLDER,
        series_number=1,
        sop_instance_uid=PLACEHOLDER,
        instance_number=1,
        manufacturer=long_string(report.equipment.manufacturer),
        is_complete=True,
        is_final=False,
        is_verified=False,
        performed_procedure_codes=[CT_PROCEDURE],
    )
    separate(sr)
    if previous:
        sr.PredecessorDocumentsSequence = [_predecessor(document) for document in previous]
    finish(sr, source[0], report, "sr")
    stamp_uids([sr], report.job_reference, "sr")
    return sr


def calibration_sentence(calibration: CalibrationStatement) -> str:
    """Return how HU became density, in one ASCII sentence."""
    slope, intercept = calibration.slope_mg_per_cm3_per_hu, calibration.intercept_mg_per_cm3
    law = f"density = {slope:.4g} x HU {intercept:+.4g} mg/cm3"
    parts = [calibration.method, f"material {calibration.material}" if calibration.material else ""]
    parts += [f"phantom {calibration.phantom}" if calibration.phantom else ""]
    parts += [f"measured {calibration.measured_on.isoformat()}" if calibration.measured_on else ""]
    state = "" if calibration.is_calibrated else "UNCALIBRATED: "
    return ascii_text(f"{state}{'; '.join(part for part in parts if part)}; {law}.")


def summary_text(report: Report, correction: Correction | None = None) -> str:
    """Return the banner, the headline and who corrected the segmentation, which every viewer shows."""
    state = "" if report.calibration.is_calibrated else " Densities and strengths are UNCALIBRATED."
    corrected = f" {correction_sentence(correction)}" if correction is not None else ""
    return ascii_text(f"{BANNER}. {report.headline}{state}{corrected}")


def _evidence(
    root: Dataset, headers: Sequence[Dataset], segs: Sequence[Dataset], correction: Correction | None
) -> list[Dataset]:
    """Return the slices the tree refers to, or else the middle one, the job's SEGs and the corrected one."""
    referenced = _referenced_uids(root)
    slices = {header.SOPInstanceUID: header for header in headers if header.SOPInstanceUID in referenced}
    corrected = [evidence_of(correction, headers[0].StudyInstanceUID)] if correction is not None else []
    return [*(slices.values() or [headers[len(headers) // 2]]), *segs, *corrected]


def _root(headers: Sequence[Dataset], report: Report, correction: Correction | None) -> Dataset:
    """Assemble TID 1500."""
    root = hd.sr.ContainerContentItem(name=REPORT_TITLE, template_id="1500")
    english = hd.sr.CodedConcept("en-US", "RFC5646", "English (United States)")
    items = [
        *hd.sr.LanguageOfContentItemAndDescendants(english),
        *hd.sr.ObservationContext(person_observer(correction), node_observer(report)),
        hd.sr.CodeContentItem(
            PROCEDURE_REPORTED, CT_PROCEDURE, relationship_type=hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD
        ),
        hd.sr.TextContentItem(SUMMARY, summary_text(report, correction), relationship_type=CONTAINS),
    ]
    if report.groups:
        items.append(_container(IMAGING_MEASUREMENTS, measurement_groups(headers, report)))
    corrected = [reference_to(correction)] if correction is not None else []
    items.append(_container(QUALITATIVE_EVALUATIONS, [*_evaluations(report), *corrected]))
    root.ContentSequence = hd.sr.ContentSequence(items)
    return root


def node_observer(report: Report) -> hd.sr.ObserverContext:
    """Return TID 1004: the node, with the same Device UID as in Contributing Equipment."""
    node = report.equipment
    return hd.sr.ObserverContext(
        hd.sr.CodedConcept("121007", "DCM", "Device"),
        hd.sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(node),
            name=long_string(node.model_name),
            manufacturer_name=long_string(node.manufacturer),
            model_name=long_string(node.model_name),
            serial_number=long_string(node.serial_number),
        ),
    )


def _evaluations(report: Report) -> list[Dataset]:
    """Calibration, quality flags, technical adequacy and limits of the whole study."""
    state = CALIBRATED if report.calibration.is_calibrated else UNCALIBRATED
    technical = "; ".join(f"{name} {value}" for name, value in report.technical)
    return [
        hd.sr.CodeContentItem(CALIBRATION_STATE, state, relationship_type=CONTAINS),
        _text(CALIBRATION_TEXT, calibration_sentence(report.calibration)),
        *(item for finding in report.findings for item in finding_items(finding)),
        *([_text(TECHNICAL_TEXT, technical)] if technical else []),
        *(_text(LIMIT_TEXT, limit) for limit in report.limits),
    ]


def _text(name: hd.sr.CodedConcept, value: str) -> Dataset:
    return hd.sr.TextContentItem(name, ascii_text(value), relationship_type=CONTAINS)


def _container(name: hd.sr.CodedConcept, items: Sequence[Dataset]) -> Dataset:
    container = hd.sr.ContainerContentItem(name=name, relationship_type=CONTAINS)
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def separate(item: Dataset) -> None:
    """Set every container SEPARATE; with CONTINUOUS, text renderers print values without names."""
    if item.get("ValueType") == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        separate(child)


def _referenced_uids(item: Dataset) -> set[str]:
    """SOP Instance UIDs of the images a tree refers to."""
    uids = {reference.ReferencedSOPInstanceUID for reference in item.get("ReferencedSOPSequence", [])}
    return uids.union(*(_referenced_uids(child) for child in item.get("ContentSequence", [])))


def _predecessor(document: Dataset) -> Dataset:
    """Cite a replaced report (PS3.3 C.17.2.3)."""
    instance = Dataset()
    instance.ReferencedSOPClassUID = document.SOPClassUID
    instance.ReferencedSOPInstanceUID = document.SOPInstanceUID
    instance.PurposeOfReferenceCodeSequence = [code_item(REPLACED_REPORT)]
    series = Dataset()
    series.SeriesInstanceUID = document.SeriesInstanceUID
    series.ReferencedSOPSequence = [instance]
    study = Dataset()
    study.StudyInstanceUID = document.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
