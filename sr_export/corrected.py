"""What the result objects say of a segmentation that a person corrected: who, why, and which object it was.

The person's name and words come from an object whose character set may be another than the source's, so they are
written in ASCII like all text of ours.
"""

from dataclasses import replace

import highdicom as hd
from pydicom.dataset import Dataset

from sr_export.codes import ASSISTING, CORRECTED_SEGMENTATION
from sr_export.inputs import Correction, Report
from sr_export.text import ascii_text, short_text

PN_LENGTH = 64
"""Characters of one component group of a Person Name (PS3.5 table 6.2-1)."""
PN_COMPONENTS = 5


def with_correction(report: Report, correction: Correction | None) -> Report:
    """Return the report with the correction among its limits, which the page and the SR print."""
    if correction is None:
        return report
    return replace(report, limits=(*report.limits, correction_sentence(correction)))


def correction_sentence(correction: Correction) -> str:
    """Say who corrected the segmentation and why, in one ASCII sentence."""
    unnamed = "a person whose name has no Latin letters" if correction.operator else "a person who is not named"
    who = person_name(correction.operator).replace("^", " ").strip() or unnamed
    reason = short_text(correction.reason).rstrip(".") or "no reason given"
    return f"Segmentation corrected by {who}: {reason}."


def person_name(name: str) -> str:
    """Return the alphabetic group of a Person Name in ASCII; empty when no letter of it has an ASCII form."""
    plain = ascii_text(name.split("=")[0]).replace("\\", " ")
    kept = "^".join(plain.split("^")[:PN_COMPONENTS])[:PN_LENGTH].strip("^ ")
    return kept if any(character.isalpha() for character in kept) else ""


def person_observer(correction: Correction | None) -> hd.sr.ObserverContext | None:
    """Return TID 1003 for the person who corrected; None where there is no name to write."""
    name = person_name(correction.operator) if correction is not None else ""
    if not name:
        return None
    return hd.sr.ObserverContext(
        hd.sr.CodedConcept("121006", "DCM", "Person"),
        hd.sr.PersonObserverIdentifyingAttributes(
            name=name if "^" in name else f"{name}^", role_in_procedure=ASSISTING
        ),
    )


def reference_to(correction: Correction) -> Dataset:
    """Return the content item that names the corrected Segmentation, all its segments."""
    return hd.sr.ImageContentItem(
        CORRECTED_SEGMENTATION,
        referenced_sop_class_uid=correction.sop_class_uid,
        referenced_sop_instance_uid=correction.sop_instance_uid,
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )


def evidence_of(correction: Correction, study_instance_uid: str) -> Dataset:
    """Return what the evidence sequence needs of the corrected Segmentation."""
    evidence = Dataset()
    evidence.SOPClassUID = correction.sop_class_uid
    evidence.SOPInstanceUID = correction.sop_instance_uid
    evidence.SeriesInstanceUID = correction.series_instance_uid
    evidence.StudyInstanceUID = study_instance_uid
    return evidence
