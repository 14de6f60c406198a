"""What a request may say, and how a wrong one is refused: by field and unit, never with the value."""

import pytest
from pydantic import ValidationError

from dicom_node.pipeline.requests_input import RequestIn, problems_of

GOOD = {
    "reference": "TRIAL-0042",
    "patient_id": "4711-Z",
    "age_years": 74,
    "sex": "F",
    "weight_kg": 61.5,
    "height_m": 1.63,
}


def refusal(**changes: object) -> str:
    with pytest.raises(ValidationError) as caught:
        RequestIn.model_validate({**GOOD, **changes})
    told = problems_of(caught.value.errors(include_input=False, include_url=False, include_context=False))
    return " | ".join(map(str, told))


def test_the_fields_of_the_ct2s_form_are_taken() -> None:
    request = RequestIn.model_validate({**GOOD, "ethnicity": "White British", "project": "default"})
    assert request.columns()["height_m"] == 1.63
    assert request.modality == "CT"
    assert request.priority == "normal"


def test_height_in_centimetres_has_a_field_of_its_own() -> None:
    request = RequestIn.model_validate({**GOOD, "height_m": None, "height_cm": 163})
    assert request.columns()["height_m"] == 1.63
    assert "height_cm" not in request.columns()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height_m": 163}, "height_m is in metres"),
        ({"height_m": None, "height_cm": 1.63}, "height_cm is in centimetres"),
        ({"height_cm": 163}, "not both"),
        ({"height_m": 0.1}, "height is between"),
        ({"weight_kg": 0}, "weight_kg: Input should be greater than or equal to 1"),
        ({"weight_kg": float("nan")}, "weight_kg"),
        ({"age_years": 131}, "age_years"),
        ({"age_years": 74.5}, "age_years"),
        ({"sex": "X"}, "sex"),
        ({"patient_id": "", "accession_number": ""}, "patient_id or accession_number is needed"),
        ({"patient_id": "P" * 65}, "patient_id"),
        ({"accession_number": "A" * 17}, "accession_number"),
        ({"reference": ""}, "reference"),
        ({"reference": "=SUM(A1)"}, "begins with a letter or digit"),
        ({"ethnicity": "born 1951"}, "letters, spaces"),
        ({"study_date_from": "2026-09-15", "study_date_to": "20260914"}, "lies after"),
        ({"study_date_from": "14.9.2026"}, "study_date_from"),
        ({"priority": "now"}, "priority"),
        ({"modality": "ct*"}, "modality"),
        ({"name": "Somebody"}, "not permitted"),
    ],
)
def test_bad_input_gets_a_sentence_that_names_the_field(changes: dict[str, object], words: str) -> None:
    assert words in refusal(**changes)


@pytest.mark.parametrize("number", ["47*", "47?1", "47\\11", "**", "47\x0011", "47\n11"])
def test_wildcards_in_a_patient_id_are_refused_and_not_repeated(number: str) -> None:
    told = refusal(patient_id=number)
    assert "would match other patients" in told
    assert number not in told
    assert "would match other patients" in refusal(patient_id="", accession_number=number)


@pytest.mark.parametrize("number", ["4.71E+10", "4,71e+10", '="00471"'])
def test_numbers_that_a_spreadsheet_spoiled_are_refused(number: str) -> None:
    assert "spreadsheet" in refusal(patient_id=number)


@pytest.mark.parametrize("reference", ["4711-Z", "4711-z", "job 4711-Z"])
def test_a_reference_that_holds_the_patient_id_is_refused(reference: str) -> None:
    assert "must not hold the patient id" in refusal(reference=reference)


def test_no_error_repeats_what_was_typed() -> None:
    with pytest.raises(ValidationError) as caught:
        RequestIn.model_validate({**GOOD, "patient_id": "SECRET*7", "age_years": "SECRET"})
    assert "SECRET" not in str(caught.value)
