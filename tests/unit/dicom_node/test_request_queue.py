"""Which request is due next: fair among lanes and batches, within hours and limits, by one process at a time."""

import time
from datetime import timedelta
from threading import Thread

import pytest
from request_fakes import NOON, add_queried_peer, ask

from dicom_node.db.request_queue import barred_peers, renew, settle, take
from dicom_node.db.request_tables import Request
from dicom_node.db.requests import cancel, cancel_batch, count_states, events_of, get_request, list_requests, retry
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, NotFound
from dicom_node.pipeline.requests import LANES, Requests
from dicom_node.pipeline.requests_csv import add_batch
from dicom_node.settings import Settings

LATER = NOON + timedelta(seconds=20)


@pytest.fixture
def pacs(databases: Databases) -> int:
    return add_queried_peer(databases)


def taken(databases: Databases, lanes: tuple[str, ...] = LANES, owner: str = "a", barred: tuple[int, ...] = ()) -> str:
    with transaction(databases.hospital) as session:
        row = take(session, owner, NOON, LATER, lanes, barred)
        return row.reference if row is not None else ""


def batch(databases: Databases, settings: Settings, prefix: str, count: int) -> str:
    text = "reference,patient_id\n" + "".join(f"{prefix}{n},{prefix}-{n}\n" for n in range(count))
    with transaction(databases.hospital) as session:
        return add_batch(session, text.encode(), f"{prefix}.csv", settings, NOON).batch_id


def test_urgent_comes_first_and_off_peak_last(databases: Databases, settings: Settings, pacs: int) -> None:
    for priority in ("offpeak", "normal", "urgent"):
        ask(databases, settings, reference=priority, patient_id=f"P-{priority[:3]}", priority=priority)
    assert [taken(databases) for _ in range(4)] == ["urgent", "normal", "offpeak", ""]


def test_off_peak_requests_wait_for_their_hours(databases: Databases, settings: Settings, pacs: int) -> None:
    ask(databases, settings, reference="T", priority="offpeak")
    assert taken(databases, LANES[:-1]) == ""
    night = Requests(databases, settings.model_copy(update={"offpeak_hours": "00:00-00:00"}))
    assert "offpeak" in night._lanes(NOON)
    local = NOON.astimezone()
    hours = f"{(local + timedelta(hours=1)):%H:%M}-{(local + timedelta(hours=2)):%H:%M}"
    day = Requests(databases, settings.model_copy(update={"offpeak_hours": hours}))
    assert "offpeak" not in day._lanes(NOON)


def test_no_lane_starves(databases: Databases, settings: Settings) -> None:
    passes = Requests(databases, settings.model_copy(update={"offpeak_hours": ""}))
    first = []
    for _ in range(8):
        first.append(passes._lanes(NOON)[0])
        passes._taken += 1
    assert first == ["urgent", "urgent", "urgent", "offpeak"] * 2


def test_one_request_of_a_person_does_not_wait_for_a_batch(databases: Databases, settings: Settings, pacs: int) -> None:
    batch(databases, settings, "B", 50)
    ask(databases, settings, reference="single")
    assert taken(databases) == "single"


def test_two_batches_take_turns(databases: Databases, settings: Settings, pacs: int) -> None:
    batch(databases, settings, "A", 20)
    batch(databases, settings, "B", 20)
    assert sorted(taken(databases) for _ in range(4)) == ["A0", "A1", "B0", "B1"]


def test_rows_that_are_tried_again_and_again_keep_no_other_row_waiting(
    databases: Databases, settings: Settings, pacs: int
) -> None:
    batch(databases, settings, "A", 3)
    for name in ("A0", "A1"):
        with transaction(databases.hospital) as session:
            row = take(session, "a", NOON, LATER, LANES)
            assert row is not None
            assert row.reference == name
            settle(session, row.id, "a", NOON, due_at=NOON, sentence="Not there.")
    assert [taken(databases) for _ in range(3)] == ["A2", "A0", "A1"]


def test_a_request_is_held_by_one_process_until_its_claim_runs_out(
    databases: Databases, settings: Settings, pacs: int
) -> None:
    request_id = ask(databases, settings, reference="T")
    assert taken(databases, owner="a") == "T"
    assert taken(databases, owner="b") == ""
    with transaction(databases.hospital) as session:
        assert renew(session, "a", [request_id], LATER + timedelta(seconds=20)) == set()
        assert take(session, "b", LATER, LATER, LANES) is None
        assert take(session, "b", LATER + timedelta(seconds=21), LATER, LANES) is not None
        assert renew(session, "a", [request_id], LATER) == {request_id}, "it is b's now"
        assert not settle(session, request_id, "a", LATER, state="RECEIVED")
        assert settle(session, request_id, "b", LATER, state="RECEIVED")


def test_a_cancelled_request_is_taken_from_its_holder(databases: Databases, settings: Settings, pacs: int) -> None:
    request_id = ask(databases, settings, reference="T")
    taken(databases)
    with transaction(databases.hospital) as session:
        cancel(session, request_id, NOON)
        assert renew(session, "a", [request_id], LATER) == {request_id}
        assert not settle(session, request_id, "a", NOON, state="RECEIVED")
        assert get_request(session, request_id).state == "CANCELLED"
        with pytest.raises(ConfigurationError, match="only one that has not ended"):
            cancel(session, request_id, NOON)
        retry(session, request_id, NOON)
        assert [event.state for event in events_of(session, request_id)] == ["CANCELLED", "WAITING"]
        with pytest.raises(ConfigurationError, match="only one that failed or was cancelled"):
            retry(session, request_id, NOON)
        with pytest.raises(NotFound):
            retry(session, "nobody", NOON)


def test_two_who_change_a_request_at_once_do_so_one_after_the_other(
    databases: Databases, settings: Settings, pacs: int
) -> None:
    request_id = ask(databases, settings, reference="T")
    taken(databases)

    def cancel_it() -> None:
        with transaction(databases.hospital) as session:
            cancel(session, request_id, NOON)

    person = Thread(target=cancel_it)
    with transaction(databases.hospital) as session:
        row = get_request(session, request_id, for_change=True)
        person.start()
        person.join(0.3)
        assert person.is_alive(), "the person waits for what is being written"
        row.state = "RECEIVED"
    person.join(10)
    with transaction(databases.hospital) as session:
        assert "Its images and its job stay" in get_request(session, request_id).sentence


def test_a_peer_is_asked_so_often_in_a_minute_and_no_more(databases: Databases, settings: Settings) -> None:
    slow, fast = add_queried_peer(databases, "slow", requests_per_minute=2), add_queried_peer(databases, "fast")
    for n in range(4):
        ask(databases, settings, reference=f"S{n}", patient_id=f"P{n}", source="slow")
    ask(databases, settings, reference="F", patient_id="P9", source="fast")
    asked = []
    for _ in range(5):
        with transaction(databases.hospital) as session:
            barred = tuple(barred_peers(session, NOON))
        asked.append(taken(databases, barred=barred))
    assert (barred, asked) == ((slow,), ["S0", "S1", "F", "", ""])
    assert fast not in barred
    with transaction(databases.hospital) as session:
        assert barred_peers(session, NOON + timedelta(seconds=61)) == []


def test_a_batch_is_cancelled_but_for_what_was_received(databases: Databases, settings: Settings, pacs: int) -> None:
    batch_id = batch(databases, settings, "B", 5)
    taken(databases)
    with transaction(databases.hospital) as session:
        settle(session, list_requests(session)[0].id, "a", NOON, state="RECEIVED")
    with transaction(databases.hospital) as session:
        assert cancel_batch(session, batch_id, NOON) == 4
        assert dict(count_states(session, [batch_id])[batch_id]) == {"CANCELLED": 4, "RECEIVED": 1}


def test_a_pass_over_five_thousand_waiting_rows_is_short(databases: Databases, settings: Settings, pacs: int) -> None:
    batch(databases, settings, "B", 5000)
    with transaction(databases.hospital) as session:
        began = time.process_time()
        for _ in range(20):
            barred_peers(session, NOON)
            assert take(session, "a", NOON, LATER, LANES) is not None
        assert time.process_time() - began < 2.0, "a hundred milliseconds each would load the node"
        row: Request = list_requests(session)[0]
        assert row.batch_line == 2
