"""Who a patient is, as the source's header says, and as the map stores it."""

import json
from dataclasses import asdict, dataclass

from pydicom import Dataset

from dicom_node.identity.causes import MissingPatientId


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    """Who a patient is, as the source's header says."""

    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str

    @property
    def is_number_only(self) -> bool:
        """Whether nothing but number and issuer is known, as after an import."""
        return not (self.name or self.birth_date or self.sex)


def person_from_header(header: Dataset) -> Person:
    """Read the identity of an instance.

    Raises
    ------
    MissingPatientId
        When there is no patient ID: an empty one would merge all such patients.
    """
    person = Person(
        patient_id=_text(header, "PatientID"),
        issuer=_text(header, "IssuerOfPatientID"),
        name=_text(header, "PatientName"),
        birth_date=_text(header, "PatientBirthDate"),
        sex=_text(header, "PatientSex"),
    )
    if not person.patient_id:
        raise MissingPatientId
    return person


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).replace("\x00", "").strip()


def text_from_person(person: Person) -> str:
    """Write a person for the encrypted column."""
    return json.dumps(asdict(person))


def person_from_text(text: str) -> Person:
    """Read a person from the decrypted column."""
    return Person(**json.loads(text))
