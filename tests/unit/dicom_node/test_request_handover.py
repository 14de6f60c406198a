"""What a request says of the patient reaches the research side, without the patient."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from request_fakes import NOON, add_queried_peer, ask

from dicom_node.db.requests import cancel, events_of, get_request, list_requests
from dicom_node.db.session import Databases, transaction
from dicom_node.pipeline.requests_handover import hand_over_request
from dicom_node.pipeline.requests_subject import header_values, load_request, subject_of
from dicom_node.settings import Settings

SAID = {"age_years": 94, "sex": "F", "weight_kg": 61.5, "height_m": 1.63, "ethnicity": "White"}


def header(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in {"StudyInstanceUID": "1.2.3", "PatientID": "P1", "PatientName": "Roe^Jane", **values}.items():
        setattr(ds, keyword, value)
    return ds


@pytest.fixture
def hand_over(databases: Databases, settings: Settings, tmp_path: Path) -> Callable[..., dict]:
    add_queried_peer(databases)

    def run(ds: Dataset, **fields: object) -> dict:
        request_id = ask(databases, settings, **{"reference": "TRIAL-1", **SAID, **fields})
        with transaction(databases.hospital) as session:
            row = get_request(session, request_id)
            row.state, row.study_instance_uid = "RECEIVED", "1.2.3"
        with transaction(databases.hospital) as session:
            hand_over_request(session, ds, tmp_path, 90, NOON)
            events = " ".join(event.sentence for event in events_of(session, request_id))
        return {**load_request(tmp_path), "events": events}

    return run


def test_values_of_the_request_are_handed_over_and_a_high_age_is_capped(hand_over: Callable[..., dict]) -> None:
    told = hand_over(header())
    assert {name: told[name] for name in ("reference", "age_years", "weight_kg", "height_m")} == {
        "reference": "TRIAL-1", "age_years": 90, "weight_kg": 61.5, "height_m": 1.63
    }  # fmt: skip
    assert "P1" not in json.dumps(told)


def test_a_request_for_another_patient_is_not_handed_over(hand_over: Callable[..., dict]) -> None:
    assert hand_over(header(PatientID="P2")) == {"events": ""}


def test_a_study_nobody_asked_for_has_nothing(databases: Databases, tmp_path: Path) -> None:
    with transaction(databases.hospital) as session:
        assert hand_over_request(session, header(), tmp_path, 90, NOON) is None
    assert load_request(tmp_path) == {}


@pytest.mark.parametrize("fields", [{"reference": "Roe 7"}, {"ethnicity": "Jane says white"}])
def test_a_text_with_the_patients_name_stays_behind(hand_over: Callable[..., dict], fields: dict[str, str]) -> None:
    told = hand_over(header(), **fields)
    assert next(iter(fields)) not in told
    assert "holds something that identifies" in told["events"]
    assert "Roe" not in told["events"]


def test_the_header_has_the_first_word_and_the_source_is_told() -> None:
    clean = header(PatientAge="074Y", PatientSex="F", PatientWeight="0", PatientSize=None)
    subject = subject_of(clean, {**SAID, "reference": "TRIAL-1"})
    assert subject == {
        "age_years": {"value": 74, "source": "header"},
        "sex": {"value": "F", "source": "header"},
        "weight_kg": {"value": 61.5, "source": "request"},
        "height_m": {"value": 1.63, "source": "request"},
        "ethnicity": {"value": "White", "source": "request"},
        "reference": "TRIAL-1",
    }
    assert subject_of(header(), {}) == {}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientWeight", "6150"), ("PatientSize", "163"), ("PatientAge", "074M"), ("PatientSex", "X")],
)
def test_a_value_no_patient_can_have_is_none(keyword: str, value: str) -> None:
    assert header_values(header(**{keyword: value})) == {}


def test_a_different_sex_or_weight_is_told(hand_over: Callable[..., dict]) -> None:
    told = hand_over(header(PatientSex="M", PatientWeight="80"))
    assert "different sex: check that the patient is the one that was meant" in told["events"]
    assert "different weight; the images' is used" in told["events"]


def test_of_a_request_that_tells_another_sex_nothing_is_used(hand_over: Callable[..., dict]) -> None:
    told = hand_over(header(PatientSex="M"))
    assert [name for name in told if name != "events"] == ["reference"], "it may be another patient's weight"


def test_what_a_cancelled_request_said_is_not_used_when_the_job_is_run_again(
    hand_over: Callable[..., dict], databases: Databases, tmp_path: Path
) -> None:
    assert hand_over(header())["weight_kg"] == 61.5
    with transaction(databases.hospital) as session:
        cancel(session, list_requests(session)[0].id, NOON)
    with transaction(databases.hospital) as session:
        assert hand_over_request(session, header(), tmp_path, 90, NOON) is None
    assert load_request(tmp_path) == {}


def test_a_request_that_failed_with_its_job_is_used_when_the_job_is_run_again(
    hand_over: Callable[..., dict], databases: Databases, tmp_path: Path
) -> None:
    hand_over(header())
    with transaction(databases.hospital) as session:
        row = list_requests(session)[0]
        row.state = "FAILED"
        assert hand_over_request(session, header(), tmp_path, 90, NOON) == row.id
