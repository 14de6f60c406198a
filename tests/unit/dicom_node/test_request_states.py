"""From waiting to received: what a request does when its study comes, comes in part, or is another patient's."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydicom.uid import generate_uid
from request_fakes import NOON, FakeSource, add_queried_peer, ask, match, until

from dicom_node import clock
from dicom_node.db.models import Job, StudyVersion
from dicom_node.db.request_tables import Request
from dicom_node.db.requests import cancel, events_of, get_request, held_instances, matches_of, retry
from dicom_node.db.routing_tables import StudyRoute
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import PeerUnavailable, RetrievalRefused
from dicom_node.pipeline.requests import Requests
from dicom_node.pipeline.requests_following import BEFORE, follow
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake

STUDY = generate_uid()


@pytest.fixture
def images(make_arrival: Callable[..., Arrival]) -> list[Arrival]:
    series = [generate_uid(), generate_uid()]
    return [make_arrival(StudyInstanceUID=STUDY, SeriesInstanceUID=series[n % 2]) for n in range(6)]


@pytest.fixture
def source(images: list[Arrival]) -> FakeSource:
    return FakeSource({str(STUDY): images}, [match(str(STUDY))])


@pytest.fixture
def work(databases: Databases, settings: Settings, source: FakeSource):
    add_queried_peer(databases)
    quick = settings.model_copy(update={"request_backoff_s": 0.01})
    passes = Requests(databases, quick, lambda peer, settings: source)

    def run(request_id: str, states: tuple[str, ...] = ("RECEIVED", "FAILED", "CHOOSE"), said: str = "") -> Request:
        def comes() -> Any:
            passes(clock.now())
            with transaction(databases.hospital) as session:
                row = get_request(session, request_id)
                done = not passes._running
            return row if row.state in states and said in row.sentence and done else None

        return until(comes)

    run.passes = passes
    yield run
    passes.close()


def history(databases: Databases, request_id: str) -> str:
    with transaction(databases.hospital) as session:
        return " | ".join(f"{event.state} {event.sentence}" for event in events_of(session, request_id))


def test_a_study_is_retrieved_at_once_and_every_image_is_held(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource, images: list[Arrival]
) -> None:
    row = work(ask(databases, settings, reference="T"))
    assert (row.state, row.received_count, source.asked) == ("RECEIVED", 6, [""])
    with transaction(databases.hospital) as session:
        held = set().union(*held_instances(session, str(STUDY)).values())
    assert held == {image.sop_instance_uid for image in images}


def test_what_a_peer_keeps_back_is_asked_for_series_by_series_and_then_again(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource, images: list[Arrival]
) -> None:
    source.withheld = {images[3].sop_instance_uid}
    asked = ask(databases, settings, reference="T")
    row = work(asked, ("RETRIEVING",), "1 of 6 images did not come from FAKE.")
    assert source.asked[:2] == ["", source.asked[1]]
    assert source.asked[1] != ""
    source.withheld = set()
    row = work(asked)
    assert row.state == "RECEIVED"
    assert "1 of 6 images" in history(databases, asked)


def test_a_whole_study_that_fails_comes_series_by_series(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.whole_study_error = RetrievalRefused("FAKE answered C-GET with 0xC000.")
    row = work(ask(databases, settings, reference="T"))
    assert (row.state, len(source.asked)) == ("RECEIVED", 3)


def test_a_retrieval_that_never_gets_whole_fails_with_the_counts(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource, images: list[Arrival]
) -> None:
    source.withheld = {images[0].sop_instance_uid}
    asked = ask(databases, settings, reference="T")
    work(asked, ("RETRIEVING",), "1 of 6")
    with transaction(databases.hospital) as session:
        get_request(session, asked).wait_until = clock.now() - timedelta(seconds=1)
    row = work(asked)
    assert row.state == "FAILED"
    assert row.sentence == "Given up after 24 hours. 1 of 6 images did not come from FAKE."


def test_an_image_of_another_patient_stops_the_retrieval_before_it_is_kept(
    databases: Databases,
    settings: Settings,
    work: Callable[..., Request],
    source: FakeSource,
    images: list[Arrival],
    make_arrival: Callable[..., Arrival],
) -> None:
    images.insert(0, make_arrival(StudyInstanceUID=STUDY, PatientID="OTHER-9"))
    row = work(ask(databases, settings, reference="T"))
    assert row.state == "FAILED"
    assert "another patient id" in row.sentence
    assert "OTHER-9" not in row.sentence
    with transaction(databases.hospital) as session:
        assert held_instances(session, str(STUDY)) == {}


@pytest.mark.parametrize("changes", [{"PatientID": ""}, {"PatientID": None}, {"StudyInstanceUID": "1.2.3"}])
def test_an_image_that_does_not_say_whose_it_is_is_refused(
    changes: dict[str, Any],
    databases: Databases,
    settings: Settings,
    work: Callable[..., Request],
    images: list[Arrival],
    make_arrival: Callable[..., Arrival],
) -> None:
    images.append(make_arrival(**{"StudyInstanceUID": STUDY, "SeriesInstanceUID": generate_uid(), **changes}))
    assert work(ask(databases, settings, reference="T")).state == "FAILED"


def test_what_was_here_before_is_checked_too(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource, images: list[Arrival]
) -> None:
    first = work(ask(databases, settings, reference="T"))
    assert first.state == "RECEIVED"
    source.matches = [match(str(STUDY), patient_id="", accession_number="A-1")]
    row = work(ask(databases, settings, reference="U", patient_id="P2", accession_number="A-1"))
    assert row.state == "FAILED", "the peer did not say whose it is; its images, here already, are P1's"


def test_an_accession_number_of_another_patient_is_refused_and_nothing_is_retrieved(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.matches = [match(str(STUDY), patient_id="OTHER-9", accession_number="A-1")]
    row = work(ask(databases, settings, reference="T", accession_number="A-1"))
    assert (row.state, source.asked) == ("FAILED", [])
    assert "belongs to another patient id" in row.sentence
    assert "OTHER-9" not in row.sentence


def test_a_study_that_a_peer_gives_without_the_accession_number_is_not_taken_for_the_one_asked_for(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.matches = [match(str(STUDY), accession_number="")]
    row = work(ask(databases, settings, reference="T", patient_id="", accession_number="A-1"), ("WAITING",), "no such")
    assert (row.study_instance_uid, source.asked) == ("", [])


def test_an_image_whose_header_cannot_be_compared_as_it_comes_is_compared_once_it_is_kept(
    databases: Databases,
    settings: Settings,
    work: Callable[..., Request],
    images: list[Arrival],
    make_arrival: Callable[..., Arrival],
) -> None:
    other = make_arrival(StudyInstanceUID=STUDY, SeriesInstanceUID=generate_uid(), PatientID="OTHER-9")
    images.append(replace(other, transfer_syntax_uid="1.2.752.99.1"))
    row = work(ask(databases, settings, reference="T"))
    assert (row.state, "another patient id" in row.sentence) == ("FAILED", True)


def test_another_patients_image_that_was_here_under_the_uid_of_one_that_comes_is_found(
    databases: Databases,
    settings: Settings,
    work: Callable[..., Request],
    source: FakeSource,
    images: list[Arrival],
    make_arrival: Callable[..., Arrival],
) -> None:
    uid = images[0].sop_instance_uid
    Intake(databases.hospital, settings.hospital_dir, 0).keep(
        make_arrival(StudyInstanceUID=STUDY, SeriesInstanceUID=generate_uid(), SOPInstanceUID=uid, PatientID="OTHER-9"),
        clock.now(),
    )
    row = work(ask(databases, settings, reference="T"))
    assert (row.state, "another patient id" in row.sentence) == ("FAILED", True)


def test_a_request_begun_again_waits_for_the_thread_that_still_has_it(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    asked = ask(databases, settings, reference="T")
    began: list[int] = []

    def interfere(number: int) -> None:
        if number == 2 and not began:
            with transaction(databases.hospital) as session:
                cancel(session, asked, clock.now())
                retry(session, asked, clock.now())
            began.append(work.passes._begin(clock.now()))

    source.before_each = interfere
    row = work(asked)
    assert began == [False]
    assert (row.state, row.study_instance_uid, row.received_count) == ("RECEIVED", str(STUDY), 6)


def test_a_cancelled_retrieval_stops_between_two_images(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    asked = ask(databases, settings, reference="T")

    def interfere(number: int) -> None:
        if number == 2:
            with transaction(databases.hospital) as session:
                cancel(session, asked, clock.now())
            work.passes._renew(clock.now())

    source.before_each = interfere
    row = work(asked, ("CANCELLED",))
    with transaction(databases.hospital) as session:
        assert len(set().union(*held_instances(session, str(STUDY)).values())) == 2
    assert row.claimed_by == ""


def test_a_node_that_stops_gives_its_requests_back_and_the_next_one_goes_on(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    asked = ask(databases, settings, reference="T")
    source.before_each = lambda number: number == 2 and work.passes._running[asked][1].set()
    assert work.passes(clock.now()) == 1
    until(lambda: not work.passes._running)
    with transaction(databases.hospital) as session:
        row = get_request(session, asked)
    assert (row.state, row.claimed_by, row.due_at <= clock.now()) == ("RETRIEVING", "", True)
    source.before_each = lambda number: None
    assert work(asked).state == "RECEIVED"
    assert len(source.asked) == 3, "the study at first, then the rest of its two series"


def test_nothing_found_is_waited_for_with_growing_pauses(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.matches, found = [], source.matches
    asked = ask(databases, settings, reference="T")
    row = work(asked, ("WAITING",), "PACS holds no such study.")
    pause = row.due_at - row.updated_at
    assert pause <= timedelta(seconds=0.02 * 2**row.attempts)
    assert history(databases, asked).count("holds no such study") == 1, "the same sentence is not repeated"
    source.matches = found
    assert work(asked).state == "RECEIVED"


def test_a_peer_that_is_away_is_told_and_tried_again(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.error = PeerUnavailable("FAKE does not answer.")
    asked = ask(databases, settings, reference="T")
    work(asked, ("WAITING",), "FAKE does not answer.")
    source.error = None
    assert work(asked).state == "RECEIVED"


def test_an_error_nobody_thought_of_keeps_the_request_and_tells_only_its_kind(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.error = ZeroDivisionError("patient P1")
    asked = ask(databases, settings, reference="T")
    row = work(asked, ("WAITING",), "ZeroDivisionError")
    assert "P1" not in row.sentence
    source.error = None
    assert work(asked).state == "RECEIVED"


def test_a_peer_that_counts_more_instances_than_there_can_be_keeps_nobody_waiting(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.matches = [match(str(STUDY), instance_count=10**30)]
    assert work(ask(databases, settings, reference="T")).state == "RECEIVED"


def test_claims_are_renewed_though_the_clock_was_set_back(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    asked = ask(databases, settings, reference="T")

    def interfere(number: int) -> None:
        if number == 2:
            with transaction(databases.hospital) as session:
                cancel(session, asked, clock.now())
            work.passes._renew_due = clock.now() + timedelta(hours=1)
            work.passes(clock.now())

    source.before_each = interfere
    work(asked, ("CANCELLED",))
    with transaction(databases.hospital) as session:
        assert len(set().union(*held_instances(session, str(STUDY)).values())) == 2


def test_two_studies_are_shown_and_nothing_is_retrieved(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.matches += [match(str(generate_uid()), study_date="20200101"), match("no uid"), match(generate_uid(), "P10")]
    asked = ask(databases, settings, reference="T")
    assert work(asked).state == "CHOOSE"
    with transaction(databases.hospital) as session:
        assert [one.study_date for one in matches_of(session, [asked])[asked]] == ["20260914", "20200101"]
    assert source.asked == []


def test_too_many_studies_are_no_answer(
    databases: Databases, settings: Settings, work: Callable[..., Request], source: FakeSource
) -> None:
    source.matches = [match(str(generate_uid())) for _ in range(150)]
    row = work(ask(databases, settings, reference="T"), ("WAITING",), "More than 100 studies match")
    assert row.study_instance_uid == ""


@pytest.mark.parametrize(
    ("state", "becomes"),
    [("done", "DONE"), ("failed", "FAILED"), ("discarded", "FAILED"), ("processing", "RECEIVED"), ("open", "RECEIVED")],
)
def test_a_request_follows_the_job_of_its_study(
    state: str, becomes: str, databases: Databases, settings: Settings, work: Callable[..., Request]
) -> None:
    row = work(ask(databases, settings, clock.now() - timedelta(days=1), reference="T"))
    add_version(databases, ct_count=6, job_id="a" * 32)
    follow(databases, clock.now())
    with transaction(databases.research) as session:
        session.add(job("a" * 32, state))
    follow(databases, clock.now())
    with transaction(databases.hospital) as session:
        after = get_request(session, row.id)
    assert (after.state, after.job_id) == (becomes, "a" * 32)


def test_a_version_that_lacks_images_is_not_the_requests(
    databases: Databases, settings: Settings, work: Callable[..., Request]
) -> None:
    row = work(ask(databases, settings, reference="T"))
    add_version(databases, ct_count=5, job_id="a" * 32)
    assert follow(databases, clock.now()) == 0
    with transaction(databases.hospital) as session:
        assert get_request(session, row.id).job_id == ""


def test_a_result_from_before_the_request_says_so(
    databases: Databases, settings: Settings, work: Callable[..., Request]
) -> None:
    row = work(ask(databases, settings, clock.now() + timedelta(seconds=5), reference="T"), ("RECEIVED", "WAITING"))
    with transaction(databases.hospital) as session:
        get_request(session, row.id).due_at = clock.now()
    row = work(row.id)
    add_version(databases, ct_count=6, job_id="a" * 32)
    with transaction(databases.research) as session:
        session.add(job("a" * 32, "done"))
    follow(databases, clock.now())
    with transaction(databases.hospital) as session:
        assert BEFORE in get_request(session, row.id).sentence


def test_a_study_no_rule_takes_ends_its_request_with_the_reason(
    databases: Databases, settings: Settings, work: Callable[..., Request]
) -> None:
    row = work(ask(databases, settings, reference="T"))
    with transaction(databases.hospital) as session:
        session.add(
            StudyRoute(
                study_instance_uid=str(STUDY), state="no_rule", sentence="No rule takes this study.", rule_name="",
                instance_count=6, last_arrival=NOON, due_at=None, since=NOON,
            )
        )  # fmt: skip
    follow(databases, clock.now())
    with transaction(databases.hospital) as session:
        after = get_request(session, row.id)
    assert (after.state, "No rule takes this study." in after.sentence) == ("FAILED", True)


def add_version(databases: Databases, ct_count: int, job_id: str) -> None:
    with transaction(databases.hospital) as session:
        session.add(
            StudyVersion(
                study_instance_uid=str(STUDY), version=1, instance_count=6, ct_count=ct_count, correction_id=None,
                job_id=job_id, created_at=clock.now(),
            )
        )  # fmt: skip


def job(job_id: str, state: str) -> Job:
    return Job(
        id=job_id, pipeline="bone", pseudonym="ON-X", state=state, stage="s", progress=0.5, sentence="",
        attempts=1, created_at=clock.now(), updated_at=clock.now(),
    )  # fmt: skip
