"""What a request says of the patient, handed to the research side with the clean series; the hospital side of it.

Identity stays behind: the texts a person typed are searched for what is known of the patient before they are written.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset
from sqlalchemy.orm import Session

from deid_rules.residual import find_residual, identifiers_of
from dicom_node.db.request_tables import Request
from dicom_node.db.requests import note, requests_for_study
from dicom_node.pipeline.requests_subject import FILE, header_values, text_of
from dicom_node.storage.files import write_durably

FREE_TEXTS = ("reference", "ethnicity")
"""Fields in which a person may have written a name all the same."""
SAME = {"age_years": 1.0, "weight_kg": 5.0, "height_m": 0.05}
"""Header and request agree within this; more is worth a look [m assumption]."""


def hand_over_request(
    session: Session, header: Dataset, folder: Path, age_cap_years: int | None, now: datetime
) -> str | None:
    """Write what the study's request says into a job's folder on the research side.

    Parameters
    ----------
    session
        Of the hospital database.
    header
        An original header of the study.
    folder
        The job's folder.
    age_cap_years
        The de-identification profile's; a higher age is written as this one.
    now
        Timezone-aware time of the notes in the request's history.

    Returns
    -------
    str or None
        The request's id; None where nobody asked for this study of this patient. What an earlier request said is
        removed then.
    """
    request = _request_for(session, header)
    if request is None:
        (folder / FILE).unlink(missing_ok=True)
        return None
    age = request.age_years
    if age is not None and age_cap_years is not None:
        age = min(age, age_cap_years)
    values: dict[str, Any] = {
        "reference": request.reference,
        "age_years": age,
        "sex": request.sex,
        "weight_kg": request.weight_kg,
        "height_m": request.height_m,
        "ethnicity": request.ethnicity,
    }
    if _tells_another_sex(header, request):
        values = {"reference": request.reference}
    kept = _without_identity(values, header)
    if len(kept) < len(values):
        note(session, request.id, now, "Its reference or ethnicity holds something that identifies; it stays here.")
    for difference in differences(header, request):
        note(session, request.id, now, difference)
    write_durably(folder / FILE, [json.dumps(kept).encode()])
    return request.id


def differences(header: Dataset, request: Request) -> list[str]:
    """Say what the request and the header tell differently: it may be another patient's request."""
    values = header_values(header)
    said = []
    if _tells_another_sex(header, request):
        said.append(
            "The request and the images tell a different sex: check that the patient is the one that was meant. "
            "Nothing that the request says of the patient is used."
        )
    for name, words in (("age_years", "age"), ("weight_kg", "weight"), ("height_m", "height")):
        asked, found = getattr(request, name), values.get(name)
        if asked is not None and isinstance(found, float | int) and abs(asked - found) > SAME[name]:
            said.append(f"The request and the images tell a different {words}; the images' is used.")
    return said


def _tells_another_sex(header: Dataset, request: Request) -> bool:
    return bool(request.sex) and header_values(header).get("sex", request.sex) != request.sex


def _request_for(session: Session, header: Dataset) -> Request | None:
    """Return the newest request for the study that names its patient, or its accession number where it names none."""
    patient, accession = text_of(header, "PatientID"), text_of(header, "AccessionNumber")
    for request in requests_for_study(session, text_of(header, "StudyInstanceUID")):
        named = request.patient_id or request.found_patient_id
        if named == patient if named else request.accession_number == accession:
            return request
    return None


def _without_identity(values: dict[str, Any], header: Dataset) -> dict[str, Any]:
    """Leave out free texts in which something known of the patient, or of the stay, stands."""
    known = identifiers_of(header)
    return {
        name: value
        for name, value in values.items()
        if name not in FREE_TEXTS or not find_residual(f" {value} ".encode(), known)
    }
