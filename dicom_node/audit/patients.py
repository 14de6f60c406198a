"""Whose study it is, as the audit says it: a keyed index of patient number and issuer, never the number itself.

Whoever has the node's keys and a patient's number finds every event of the patient; nobody else can tell whose they
are. The index differs from the identity map's and from the pseudonym, so that an audit message, which names the
original study, gives no way from a pseudonym to a study (docs/audit.md).
"""

from pathlib import Path

from pydicom import dcmread

from dicom_node.identity.cipher import identity_index
from dicom_node.identity.keys import Keys
from dicom_node.identity.person import person_from_header

UNKNOWN = "unknown"
"""Written where no header, or one without a number, tells whose a study is."""
SPACE = "\x00audit"
"""In place of a project's name, which cannot hold a NUL: the index is in no project."""
PERSON_TAGS = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")


def patient_index(keys: Keys, patient_id: str, issuer: str) -> str:
    """Return the index that new events of a patient get."""
    return identity_index(keys.index, patient_id, issuer, SPACE) if patient_id else UNKNOWN


def patient_indexes(keys: Keys, patient_id: str, issuer: str) -> list[str]:
    """Return every index events of a patient may have: one for each version of the keys."""
    return [identity_index(one.index, patient_id, issuer, SPACE) for one in keys.versions]


def index_of_file(keys: Keys, path: Path) -> str:
    """Return the index of the patient an instance belongs to; `UNKNOWN` where its header does not say."""
    try:
        person = person_from_header(dcmread(path, stop_before_pixels=True, specific_tags=list(PERSON_TAGS)))
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way, and the event has to be written all the same
        return UNKNOWN
    return patient_index(keys, person.patient_id, person.issuer)
