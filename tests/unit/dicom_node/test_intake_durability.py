"""Group commit, spool and room: what is acknowledged is durable, what is not leaves nothing behind."""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_node import clock
from dicom_node.db.models import Instance
from dicom_node.db.routing_tables import ReceivingAssociation
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import DiskFull, IntakeError
from dicom_node.net.seats import Seats
from dicom_node.settings import Settings
from dicom_node.storage import intake as intake_module
from dicom_node.storage import room as room_module
from dicom_node.storage.group_commit import GroupCommit
from dicom_node.storage.header import HEAD_BYTES, read_header
from dicom_node.storage.intake import Arrival, Intake
from dicom_node.storage.room import Marks, Room, Usage, accepts
from dicom_node.storage.spool import Spooled, sweep_spool
from tests.dicom_dataset import ct_dataset

MakeArrival = Callable[..., Arrival]
GB = 10**9


@pytest.fixture
def intake(settings: Settings, databases: Databases) -> Intake:
    return Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)


def rows(databases: Databases) -> list[Instance]:
    with transaction(databases.hospital) as session:
        return list(session.scalars(select(Instance)))


def files(settings: Settings) -> list[Path]:
    return [path for path in settings.hospital_dir.rglob("*") if path.suffix in (".dcm", ".part")]


def together(entries: Sequence[object], commit: GroupCommit[object]) -> list[Exception | None]:
    """Commit entries from threads of their own; return what each was told."""
    told: dict[int, Exception | None] = {}

    def one(number: int) -> None:
        try:
            commit(entries[number])
            told[number] = None
        except (ValueError, DiskFull) as error:
            told[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(entries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [told[number] for number in range(len(entries))]


def test_whatever_comes_during_a_commit_is_committed_together_by_the_next() -> None:
    batches: list[list[object]] = []
    begun, go_on = threading.Event(), threading.Event()

    def commit(batch: Sequence[object]) -> list[Exception | None]:
        batches.append(list(batch))
        begun.set()
        go_on.wait(10)
        return [None] * len(batch)

    group: GroupCommit[object] = GroupCommit(commit)
    first = threading.Thread(target=group, args=(0,))
    first.start()
    begun.wait(10)
    others = [threading.Thread(target=group, args=(number,)) for number in range(1, 6)]
    for thread in others:
        thread.start()
    while len(group._queue) < 5:
        threading.Event().wait(0.01)
    go_on.set()
    for thread in (first, *others):
        thread.join(10)
    assert batches[0] == [0]
    assert sorted(map(int, batches[1])) == [1, 2, 3, 4, 5]


def test_an_error_of_one_entry_meets_nobody_else_and_an_error_of_the_commit_meets_all() -> None:
    group: GroupCommit[object] = GroupCommit(lambda batch: [ValueError("x") if entry == 2 else None for entry in batch])
    told = together(range(5), group)
    assert [isinstance(one, ValueError) for one in told] == [False, False, True, False, False]

    def fail(batch: Sequence[object]) -> list[Exception | None]:
        raise DiskFull("full")

    assert all(isinstance(one, DiskFull) for one in together(range(3), GroupCommit(fail)))


def keep_together(intake: Intake, arrivals: Sequence[Arrival]) -> list[object]:
    told: list[object] = [None] * len(arrivals)

    def one(number: int) -> None:
        try:
            told[number] = intake.keep(arrivals[number], clock.now())
        except sa.exc.SQLAlchemyError as error:
            told[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(arrivals))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return told


def test_of_the_same_instance_from_many_associations_at_once_one_is_kept(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, settings: Settings
) -> None:
    arrival = make_arrival()
    told = keep_together(intake, [arrival] * 12)
    assert sorted(told, key=str) == [False] * 11 + [True]
    assert len(rows(databases)) == len(files(settings)) == 1


def test_two_processes_that_bring_the_same_instance_keep_it_once(
    databases: Databases, settings: Settings, make_arrival: MakeArrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process commits after this one has looked."""
    intake, arrival = Intake(databases.hospital, settings.hospital_dir, 0), make_arrival()
    others = make_arrival()
    assert intake.keep(arrival, clock.now())
    monkeypatch.setattr(intake_module, "known_instances", lambda connection, uids: (set(), set()))
    assert keep_together(intake, [arrival, others]).count(True) == 1
    assert not intake.keep(arrival, clock.now())
    assert {row.sop_instance_uid for row in rows(databases)} == {arrival.sop_instance_uid, others.sop_instance_uid}
    assert len(files(settings)) == 2


def test_a_row_the_database_refuses_leaves_no_file(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(connection: sa.Connection, new: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(intake_module, "add_instances", full)
    with pytest.raises(sa.exc.OperationalError):
        intake.keep(make_arrival(), clock.now())
    assert not files(settings)
    monkeypatch.undo()
    assert intake.keep(make_arrival(), clock.now()), "and the next one is kept"


def test_a_file_whose_row_may_have_been_committed_stays(
    intake: Intake, make_arrival: MakeArrival, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: sa.Connection, new: object) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)

    monkeypatch.setattr(intake_module, "add_instances", broken)
    with pytest.raises(sa.exc.OperationalError):
        intake.keep(make_arrival(), clock.now())
    assert len(files(settings)) == 1


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "mkdir"])
def test_a_disk_that_fills_up_in_the_middle_leaves_no_file_and_no_row(
    intake: Intake,
    make_arrival: MakeArrival,
    databases: Databases,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFull):
        intake.keep(make_arrival(), clock.now())
    monkeypatch.undo()
    assert not files(settings)
    assert not rows(databases)
    assert intake.keep(make_arrival(), clock.now())


def test_files_that_arrive_together_share_a_folder_that_is_synced_once(
    intake: Intake, make_arrival: MakeArrival, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.keep(make_arrival(), clock.now())
    synced: list[Path] = []
    real = intake_module.sync_folder
    monkeypatch.setattr(intake_module, "sync_folder", lambda folder: (synced.append(folder), real(folder)))
    entries = []
    for _ in range(4):
        arrival = make_arrival()
        spooled = intake.spool(arrival)
        spooled.write(memoryview(arrival.dataset))
        row = {"id": os.urandom(16).hex(), "sha256": spooled.sha256, "size_bytes": 1, "calling_aet": "X"}
        uids = dict.fromkeys(("sop_instance_uid", "study_instance_uid", "sop_class_uid"), arrival.sop_instance_uid)
        row |= {"received_at": clock.now(), "series_instance_uid": "1.2", "association_id": None, **uids}
        entries.append(intake_module._Entry(spooled, arrival, clock.now(), row))
    intake._commit_batch(entries)
    assert len(synced) == 1
    assert len({path.parent for path in files(settings)}) == 1


def test_an_association_is_on_record_with_the_first_instance_it_brings(
    intake: Intake, make_arrival: MakeArrival, databases: Databases
) -> None:
    for _ in range(2):
        intake.keep(replace(make_arrival(), association_id="a" * 32), clock.now())
    with transaction(databases.hospital) as session:
        (association,) = session.scalars(select(ReceivingAssociation))
    assert (association.id, association.calling_aet, association.outcome) == ("a" * 32, "SENDER", None)
    assert {row.association_id for row in rows(databases)} == {"a" * 32}


def test_a_spooled_object_that_is_discarded_leaves_nothing(intake: Intake, settings: Settings) -> None:
    spooled = intake.spool(Arrival(b"", "1.2", "1.2.3", "1.2.840.10008.1.2.1", "SENDER"))
    spooled.write(memoryview(bytes(1000)))
    assert len(files(settings)) == 1
    spooled.discard()
    spooled.discard()
    assert not files(settings)


def test_what_a_dead_process_left_half_written_is_swept_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    mine = Spooled(tmp_path, b"head")
    for name in ("4711-a.part", "4711-b.part", "47110-c.part"):
        (tmp_path / name).write_bytes(b"half")
    assert sweep_spool(tmp_path, 4711) == 2
    assert sweep_spool(tmp_path) == 2
    mine.discard()


def test_a_long_object_is_stopped_when_room_runs_out(tmp_path: Path) -> None:
    asked: list[int] = []

    def require() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise DiskFull("no room")

    spooled = Spooled(tmp_path, b"", require)
    piece = memoryview(bytes(1 << 22))

    def write_all() -> None:
        for _ in range(40):
            spooled.write(piece)

    with pytest.raises(DiskFull):
        write_all()
    assert len(asked) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("free_gb", "used_percent", "was_accepting", "expected"),
    [
        (50, 80, True, True),
        (1.9, 80, True, False),
        (2.1, 80, False, False),
        (2.3, 80, False, True),
        (50, 90.5, True, False),
        (50, 89.5, True, True),
        (50, 89.5, False, False),
        (50, 88.9, False, True),
    ],
)
def test_reserve_and_watermark_each_stop_the_intake_and_room_must_be_clear_to_resume(
    free_gb: float, used_percent: float, was_accepting: bool, expected: bool
) -> None:
    usage, marks = Usage(int(free_gb * GB), used_percent), Marks(2 * GB, 90)
    assert accepts(usage, marks, was_accepting=was_accepting) is expected


def test_without_marks_a_full_disk_alone_stops_nothing() -> None:
    assert all(accepts(Usage(0, 100.0), Marks(0), was_accepting=was) for was in (True, False))


def test_every_process_sees_the_state_and_the_change_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = Usage(50 * GB, 50)
    monkeypatch.setattr(room_module, "usage_of", lambda folder: usage)
    one, other = Room(tmp_path, Marks(2 * GB, 90)), Room(tmp_path, Marks(2 * GB, 90))
    with capture_logs() as logs:
        assert one.look()
        assert other.look()
        usage = Usage(GB, 98)
        for _ in range(5):
            assert not one.look()
            assert not other.look()
            with pytest.raises(DiskFull, match=r"1\.0 GB are free and 98\.0 % are used"):
                other.require()
        usage = Usage(50 * GB, 89.5)
        assert not one.look(), "below the watermark, but not clearly"
        assert not other.look()
        assert not Room(tmp_path, Marks(2 * GB, 90)).look(), "the state outlives the process"
        usage = Usage(50 * GB, 50)
        assert other.look()
        assert one.look()
    assert [entry["event"] for entry in logs] == ["intake_stopped", "intake_resumed"]


def test_uids_behind_a_megabyte_of_header_are_found_and_behind_more_are_not() -> None:
    for length, is_found in ((100_000, True), (HEAD_BYTES, False)):
        uid, dataset = ct_dataset(RetrieveURL="x" * length)
        if is_found:
            assert read_header(dataset[:HEAD_BYTES], "1.2.840.10008.1.2.1", len(dataset))["sop_instance_uid"] == uid
        else:
            with pytest.raises(IntakeError, match="first"):
                read_header(dataset[:HEAD_BYTES], "1.2.840.10008.1.2.1", len(dataset))


def test_a_uid_that_is_cut_off_by_the_first_bytes_is_never_taken_for_whole(
    intake: Intake, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid, dataset = ct_dataset()
    series = dataset.index(b"\x20\x00\x0e\x00UI")
    for first_bytes in range(series, series + 80):
        try:
            header = read_header(dataset[:first_bytes], "1.2.840.10008.1.2.1", len(dataset))
        except IntakeError:
            continue
        assert header == read_header(dataset, "1.2.840.10008.1.2.1")
    monkeypatch.setattr(intake_module, "FIRST_BYTES", series + 20)
    assert intake.keep(Arrival(dataset, "1.2", uid, "1.2.840.10008.1.2.1", "SENDER"), clock.now())
    assert rows(databases)[0].series_instance_uid == read_header(dataset, "1.2.840.10008.1.2.1")["series_instance_uid"]


def test_seats_are_counted_across_processes_by_title_and_in_all(tmp_path: Path) -> None:
    one, other = Seats(3, tmp_path / "seats"), Seats(3, tmp_path / "seats")
    first, second = one.take("CT1"), other.take("CT1")
    assert first is not None
    assert second is not None
    assert (first.earlier, second.earlier) == (0, 1)
    third = one.take("MR1")
    assert third is not None
    assert third.earlier == 0
    assert other.take("CT1") is None
    assert one.taken == other.taken == 3
    other.give_back(second)
    assert one.taken == 2
    assert other.give_back_all_of(os.getpid()) == 2
    assert other.give_back_all_of(1) == 0
    assert one.taken == 0
    one.close()
    other.close()


def test_seats_are_never_given_twice() -> None:
    seats, taken = Seats(40), []

    def take() -> None:
        taken.extend(seats.take("CT1") for _ in range(20))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [seat for seat in taken if seat is not None]
    assert sorted(seat.number for seat in given) == list(range(40))
    assert sorted(seat.earlier for seat in given) == list(range(40))


def test_content_is_synced_then_named_then_its_name_synced_then_its_row_committed(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.keep(make_arrival(), clock.now())
    events: list[str] = []
    fsync, rename, add = os.fsync, os.rename, intake_module.add_instances

    def observed_fsync(descriptor: int) -> None:
        events.append(
            "sync " + ("content" if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".part" else "name")
        )
        fsync(descriptor)

    def observed_rename(source: Path, target: Path) -> None:
        events.append("name")
        rename(source, target)

    def observed_add(connection: sa.Connection, new: Sequence[dict[str, object]]) -> None:
        events.append("row")
        add(connection, new)

    monkeypatch.setattr(os, "fsync", observed_fsync)
    monkeypatch.setattr(os, "rename", observed_rename)
    monkeypatch.setattr(intake_module, "add_instances", observed_add)
    intake.keep(make_arrival(), clock.now())
    assert events == ["sync content", "name", "sync name", "row"]


def test_of_two_processes_that_notice_a_change_at_once_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "usage_of", lambda folder: Usage(0, 100.0))
    rooms = [Room(tmp_path, Marks(2 * GB, 90)) for _ in range(2)]
    (tmp_path / room_module.STATE_FILE).write_bytes(room_module.OPEN)
    monkeypatch.setattr(Room, "_read", lambda self: room_module.OPEN)
    with capture_logs() as logs:
        assert not any(room.look() for room in rooms)
    assert [entry["event"] for entry in logs] == ["intake_stopped"]
