"""The chain: what was changed, removed, added or cut off shows; writers cannot fork it; a failure loses nothing."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError
from structlog.testing import capture_logs

from dicom_node import clock
from dicom_node.audit import recorder
from dicom_node.audit.check import ChainCheck, check_all
from dicom_node.audit.events import Party, application_entity, application_started, association_rejected, audit_read
from dicom_node.audit.recorder import WAITING_FILE, record, take_up, waiting
from dicom_node.audit.rejections import MAX_CALLERS, WINDOW, Rejections
from dicom_node.audit.upkeep import Upkeep, problems, recording
from dicom_node.db.audit import append, cursor, hash_of, head, messages_after, page_of_messages
from dicom_node.db.audit_tables import AuditHead, AuditMessage
from dicom_node.db.models import AssociationRow
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings

COLUMNS = ["event_id", "at", "kind", "outcome", "who", "study_instance_uid", "patient", "sentence", "message"]


@pytest.fixture
def audited(databases: Databases, settings: Settings) -> Databases:
    for _ in range(5):
        record(databases, settings, application_started())
    return databases


def faults(databases: Databases, expected: str = "") -> list[str]:
    with transaction(databases.hospital) as session:
        return check_all(session, expected).faults


def change(databases: Databases, number: int, **values: object) -> None:
    with transaction(databases.hospital) as session:
        session.execute(sa.update(AuditMessage).where(AuditMessage.number == number).values(**values))


def remove(databases: Databases, *numbers: int) -> None:
    with transaction(databases.hospital) as session:
        session.execute(sa.delete(AuditMessage).where(AuditMessage.number.in_(numbers)))


def rows(databases: Databases) -> list[AuditMessage]:
    with transaction(databases.hospital) as session:
        return list(messages_after(session, 0))


def test_an_untouched_chain_is_whole_and_remembered_hashes_are_found(audited: Databases) -> None:
    written = rows(audited)
    assert [row.number for row in written] == [1, 2, 3, 4, 5]
    assert faults(audited) == []
    assert faults(audited, written[1].row_hash) == []
    assert faults(audited, "f" * 64) == [
        "No row has the hash that was expected: the audit was rewritten, or cut off before it."
    ]


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize("column", [*COLUMNS, "previous_hash", "row_hash"])
def test_a_changed_value_of_any_column_shows_and_the_first_row_is_named(
    audited: Databases, column: str, number: int
) -> None:
    value = {"at": clock.now(), "outcome": 12}.get(column, "changed")
    change(audited, number, **{column: value})
    found = faults(audited)
    assert found
    assert f"ow {number}" in found[0]


@pytest.mark.parametrize("removed", [(1,), (3,), (2, 3)])
def test_removed_rows_show(audited: Databases, removed: tuple[int, ...]) -> None:
    remove(audited, *removed)
    assert faults(audited)[0] == f"Between row {removed[0] - 1} and row {removed[-1] + 1} rows are missing."


@pytest.mark.parametrize("removed", [(5,), (4, 5), (1, 2, 3, 4, 5)])
def test_a_removed_tail_shows(audited: Databases, removed: tuple[int, ...]) -> None:
    remove(audited, *removed)
    assert faults(audited) == [
        f"The audit ends with row {removed[0] - 1}; 5 rows were written: the last ones are missing."
    ]


def test_a_tail_removed_together_with_its_head_shows_against_a_hash_noted_elsewhere(audited: Databases) -> None:
    noted = rows(audited)[-1].row_hash
    remove(audited, 4, 5)
    with transaction(audited.hospital) as session:
        last = session.get_one(AuditMessage, 3)
        session.execute(sa.update(AuditHead).values(rows=3, row_hash=last.row_hash))
    assert faults(audited) == []
    assert faults(audited, noted)


def test_a_row_changed_together_with_its_own_hash_shows_in_the_next(audited: Databases) -> None:
    with transaction(audited.hospital) as session:
        row = session.get_one(AuditMessage, 2)
        row.sentence = "Nothing happened."
        row.row_hash = hash_of(row)
    assert faults(audited) == ["Row 3 does not follow row 2: one of them was changed."]


def test_a_row_added_behind_the_head_s_back_shows(audited: Databases) -> None:
    with transaction(audited.hospital) as session:
        last = session.get_one(AuditMessage, 5)
        values = {name: getattr(last, name) for name in COLUMNS}
        added = AuditMessage(**{**values, "event_id": "x"}, number=6, previous_hash=last.row_hash)
        added.row_hash = hash_of(added)
        session.add(added)
    assert faults(audited) == ["The audit goes on to row 6, and its head says 5: one of them was changed."]


def test_the_database_itself_refuses_a_second_row_after_the_same_one(audited: Databases) -> None:
    with transaction(audited.hospital) as session:
        row = session.get_one(AuditMessage, 3)
        values = {name: getattr(row, name) for name in COLUMNS}
    with pytest.raises(IntegrityError), transaction(audited.hospital) as session:
        session.add(
            AuditMessage(**{**values, "event_id": "y"}, number=6, previous_hash=row.previous_hash, row_hash="z")
        )


def test_a_check_in_small_steps_finds_what_one_of_the_whole_finds(audited: Databases) -> None:
    change(audited, 2, sentence="changed")
    remove(audited, 4, 5)
    check = ChainCheck()
    with transaction(audited.hospital) as session:
        for _ in range(5):
            check.go_on(session, limit=2)
        assert check.faults == check_all(session).faults
    assert len(check.faults) == 2


def test_rows_written_while_a_check_runs_are_no_fault(audited: Databases, settings: Settings) -> None:
    check = ChainCheck()
    for _ in range(4):
        with transaction(audited.hospital) as session:
            assert check.go_on(session, limit=3) == []
        record(audited, settings, application_started())
    assert check.last.number > 5


def test_threads_cannot_fork_the_chain(databases: Databases, settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(record, databases, settings, application_started()) for _ in range(40)]:
            done.result()
    assert [row.number for row in rows(databases)] == list(range(1, 41))
    assert faults(databases) == []


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The database cannot be written, until the function is called."""

    def fail(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(recorder, "append", fail)
    return lambda: monkeypatch.setattr(recorder, "append", append)


def test_an_event_that_cannot_be_written_waits_is_told_and_is_written_later(
    databases: Databases, settings: Settings, broken: Callable[[], None]
) -> None:
    with capture_logs() as logs:
        record(databases, settings, audit_read(Party("admin"), "all"), application_started())
    assert [line["event"] for line in logs] == ["audit_not_written"]
    assert waiting(settings) == 2
    assert problems(databases, settings, clock.now()) == ["2 audit events wait to be written; the log says why."]
    assert (settings.hospital_dir / WAITING_FILE).stat().st_mode & 0o077 == 0
    broken()
    assert take_up(databases, settings) == 2
    assert [row.kind for row in rows(databases)] == ["audit_read", "application_started"]
    assert waiting(settings) == 0
    assert problems(databases, settings, clock.now()) == []
    assert faults(databases) == []


def test_events_taken_up_twice_after_a_crash_are_in_the_chain_once(
    databases: Databases, settings: Settings, broken: Callable[[], None]
) -> None:
    record(databases, settings, application_started(), application_started())
    broken()
    before = (settings.hospital_dir / WAITING_FILE).read_bytes()
    take_up(databases, settings)
    (settings.hospital_dir / WAITING_FILE).write_bytes(before)
    take_up(databases, settings)
    assert len(rows(databases)) == 2
    assert faults(databases) == []


def test_a_line_a_crash_cut_off_does_not_take_the_next_one_with_it(
    databases: Databases, settings: Settings, broken: Callable[[], None]
) -> None:
    path = settings.hospital_dir / WAITING_FILE
    path.write_text(json.dumps({"event_id": "x"})[:-4])
    record(databases, settings, application_started())
    broken()
    take_up(databases, settings)
    assert len(rows(databases)) == 1


def test_nothing_can_be_written_anywhere_and_the_caller_goes_on(
    databases: Databases, settings: Settings, broken: Callable[[], None]
) -> None:
    (settings.hospital_dir / WAITING_FILE).mkdir()
    with capture_logs() as logs:
        record(databases, settings, application_started())
    assert [line["event"] for line in logs] == ["audit_not_written", "audit_event_lost"]


def test_a_node_s_life_is_told_with_the_state_of_the_chain(databases: Databases, settings: Settings) -> None:
    with recording(databases, settings, Rejections()) as upkeep:
        upkeep(clock.now())
    written = rows(databases)
    assert [row.kind for row in written] == [
        "recording_started",
        "application_started",
        "application_stopped",
        "recording_stopped",
    ]
    assert written[2].row_hash in written[3].sentence


def test_upkeep_finds_a_broken_chain_says_so_once_and_health_keeps_saying_it(
    audited: Databases, settings: Settings
) -> None:
    change(audited, 3, who="nobody")
    upkeep = Upkeep(audited, settings, Rejections())
    with capture_logs() as logs:
        for _ in range(3):
            upkeep(clock.now())
    assert [line["event"] for line in logs] == ["audit_chain_broken"]
    assert problems(audited, settings, clock.now()) == ["The audit is not whole. Row 3 was changed."]
    with transaction(audited.hospital) as session:
        assert cursor(session, "check").number == 5  # type: ignore[union-attr]


def test_upkeep_looks_at_old_rows_again_after_a_day(audited: Databases, settings: Settings) -> None:
    upkeep = Upkeep(audited, settings, Rejections())
    upkeep(clock.now())
    change(audited, 1, sentence="changed")
    upkeep(clock.now() + timedelta(hours=23))
    assert problems(audited, settings, clock.now()) == []
    upkeep(clock.now() + timedelta(hours=25))
    assert problems(audited, settings, clock.now()) == ["The audit is not whole. Row 1 was changed."]


def test_old_rows_of_the_ledger_go_and_the_audit_stays(databases: Databases, settings: Settings) -> None:
    now = clock.now()
    with transaction(databases.hospital) as session:
        for days in (1, 364, 366, 4000):
            ended = now - timedelta(days=days)
            session.add(
                AssociationRow(
                    calling_aet=str(days), called_aet="N", address="::1", started_at=ended, ended_at=ended,
                    accepted=0, refused=0, received_bytes=0, outcome="aborted",
                )
            )  # fmt: skip
    record(databases, settings, application_started())
    Upkeep(databases, settings, Rejections())(now + timedelta(seconds=1))
    with transaction(databases.hospital) as session:
        assert set(session.scalars(sa.select(AssociationRow.calling_aet))) == {"1", "364"}
    assert len(rows(databases)) == 1


def test_a_page_is_filtered_and_goes_backwards(audited: Databases, settings: Settings) -> None:
    record(audited, settings, association_rejected(application_entity("SCAN"), "host_not_allowed"))
    with transaction(audited.hospital) as session:
        assert [row.number for row in page_of_messages(session, 2)] == [6, 5]
        assert [row.number for row in page_of_messages(session, 2, before=5)] == [4, 3]
        assert [row.number for row in page_of_messages(session, 9, kinds=["association_rejected"])] == [6]
        assert page_of_messages(session, 9, study_instance_uid="1.2") == []
        assert head(session).number == 6


def test_a_scan_of_the_port_is_one_message_a_minute_with_its_number() -> None:
    now, rejections = clock.now(), Rejections()
    first = rejections.add("SCAN", "10.0.0.1", "calling_ae_title_unknown", now)
    assert [event.sentence for event in first] == ["An association was rejected: calling AE title unknown."]
    for _ in range(400):
        assert rejections.add("SCAN", "10.0.0.1", "calling_ae_title_unknown", now) == []
    assert rejections.due(now + WINDOW / 2) == []
    (told,) = rejections.due(now + WINDOW)
    assert told.sentence == "400 associations were rejected: calling AE title unknown."
    assert rejections.due(now + 2 * WINDOW) == []
    assert rejections.add("SCAN", "10.0.0.1", "calling_ae_title_unknown", now + 3 * WINDOW)


def test_callers_with_ever_new_names_fill_neither_memory_nor_audit() -> None:
    now, rejections = clock.now(), Rejections()
    written = sum(len(rejections.add(f"A{number}", "10.0.0.1", "host_not_allowed", now)) for number in range(5000))
    assert written == MAX_CALLERS + 1
    (told,) = rejections.due(now, at_end=True)
    assert told.sentence.startswith(f"{5000 - MAX_CALLERS - 1} associations")


def test_a_limit_that_was_reached_is_no_alert() -> None:
    assert Rejections().add("PACS", "10.0.0.1", "node_limit_reached", clock.now()) == []


def test_rejections_are_counted_from_many_threads() -> None:
    now, rejections = clock.now(), Rejections()
    threads = [
        threading.Thread(target=lambda: [rejections.add("A", "b", "host_not_allowed", now) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (told,) = rejections.due(now, at_end=True)
    assert told.sentence.startswith("799 ")


def test_nothing_in_the_code_changes_or_deletes_a_message() -> None:
    root = Path(recorder.__file__).parents[1]
    texts = {path.name: path.read_text() for path in root.rglob("*.py")}
    assert not [name for name, text in texts.items() if "update(AuditMessage" in text or "delete(AuditMessage" in text]
