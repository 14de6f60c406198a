"""Why a study or an instance is kept aside: one class a cause, its word in the ``cause`` attribute.

::

    JobRejected
    `-- Quarantined
        |-- MissingPatientId         missing_patient_id
        |-- StudyUnderTwoPatients    study_under_two_patients
        |-- IssuerChanged            issuer_changed
        |-- ConflictingArrival       conflicting_arrival
        |-- Unreadable               unreadable
        |-- PixelGateRefused         pixel_gate
        |-- NotDeidentifiable        not_deidentifiable
        |-- ResidualIdentifier       residual_identifier
        `-- NotReidentifiable        not_reidentifiable

The word goes into the quarantine table and into reports. docs/identity-map.md explains every one (tested).
"""

from dicom_node.errors import JobRejected


class Quarantined(JobRejected):
    """Base: kept aside for a person to look at.

    Parameters
    ----------
    sentence
        For people; the class's own sentence by default. Never holds a value of a dataset.
    """

    cause = "quarantined"
    sentence = "Kept aside."

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence or self.sentence)


class MissingPatientId(Quarantined):
    """Patient ID (0010,0020) is absent or empty: an empty one would merge all such patients."""

    cause = "missing_patient_id"
    sentence = "The study has no patient ID (0010,0020); it cannot be given a pseudonym. Correct it and resend."


class StudyUnderTwoPatients(Quarantined):
    """The instances of one study name several patients, or the map knows the study under another patient."""

    cause = "study_under_two_patients"
    sentence = "The map knows this study under another patient. Correct the patient in the PACS, or the map."


class IssuerChanged(Quarantined):
    """One patient number with two issuers, and nothing shows that they are two people."""

    cause = "issuer_changed"
    sentence = (
        "The patient's number is known in this project with another issuer (0010,0021), and no birth date shows that "
        "they are two people. Correct the issuer and resend."
    )


class ConflictingArrival(Quarantined):
    """What came contradicts what came before: another birth date, another patient, another content."""

    cause = "conflicting_arrival"
    sentence = (
        "The patient is known in this project with another birth date (0010,0030): two people under one number, or a "
        "correction. Correct the header and resend, or correct the map."
    )


class Unreadable(Quarantined):
    """Not a DICOM file, or a broken one."""

    cause = "unreadable"
    sentence = "It is not a readable DICOM file."


class PixelGateRefused(Quarantined):
    """The pixel gate does not let this kind of image pass."""

    cause = "pixel_gate"
    sentence = "It did not pass the pixel gate."


class NotDeidentifiable(Quarantined):
    """The engine refused the dataset, or could not write it."""

    cause = "not_deidentifiable"
    sentence = "It cannot be de-identified."


class ResidualIdentifier(Quarantined):
    """The written file still held an identifier of the patient."""

    cause = "residual_identifier"
    sentence = "It still held an identifier of the patient after de-identification."


class NotReidentifiable(Quarantined):
    """An object from the research side that is not ours, or refers to something the map does not know."""

    cause = "not_reidentifiable"
    sentence = "The object cannot be re-identified."


CAUSES: tuple[type[Quarantined], ...] = (
    MissingPatientId,
    StudyUnderTwoPatients,
    IssuerChanged,
    ConflictingArrival,
    Unreadable,
    PixelGateRefused,
    NotDeidentifiable,
    ResidualIdentifier,
    NotReidentifiable,
)
