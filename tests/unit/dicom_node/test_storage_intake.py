"""Acknowledged means durable, and nothing received is lost."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_node import clock
from dicom_node.db.models import Instance, Quarantined, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import DiskFull, IntakeError
from dicom_node.settings import Settings
from dicom_node.storage import files
from dicom_node.storage.intake import Arrival, Intake

MakeArrival = Callable[..., Arrival]


@pytest.fixture
def intake(settings: Settings, databases: Databases) -> Intake:
    return Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)


def rows(databases: Databases, table: type) -> list:
    with transaction(databases.hospital) as session:
        return list(session.scalars(select(table)))


def test_a_kept_instance_is_a_readable_file_with_the_bytes_that_came(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, settings: Settings
) -> None:
    arrival = make_arrival()
    assert intake.keep(arrival, clock.now())
    (row,) = rows(databases, Instance)
    path = settings.hospital_dir / row.path
    assert path.read_bytes().endswith(arrival.dataset)
    assert dcmread(path).SOPInstanceUID == arrival.sop_instance_uid


def test_the_file_is_on_disk_before_the_row_is_committed(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (synced.append(len(rows(databases, Instance))), real(descriptor))
    )
    intake.keep(make_arrival(), clock.now())
    assert set(synced) == {0}, "file and folders are synced while there is no row"
    assert len(synced) >= 2
    assert len(rows(databases, Instance)) == 1


def test_the_identical_instance_is_kept_once(intake: Intake, make_arrival: MakeArrival, databases: Databases) -> None:
    arrival = make_arrival()
    assert intake.keep(arrival, clock.now())
    assert not intake.keep(arrival, clock.now())
    assert len(rows(databases, Instance)) == 1


def test_the_same_uid_with_another_content_is_kept_beside_the_first(
    intake: Intake, make_arrival: MakeArrival, databases: Databases
) -> None:
    first = make_arrival()
    second = make_arrival(SOPInstanceUID=first.sop_instance_uid, PatientID="P2")
    intake.keep(first, clock.now())
    assert intake.keep(second, clock.now())
    assert len(rows(databases, Instance)) == 2


def test_a_full_disk_is_refused_before_anything_is_written(
    settings: Settings, databases: Databases, make_arrival: MakeArrival
) -> None:
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=10**18)
    with pytest.raises(DiskFull, match="reserve"):
        intake.keep(make_arrival(), clock.now())
    assert not list(settings.hospital_dir.rglob("*.dcm"))


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_an_object_without_its_uids_is_refused_and_kept_in_quarantine(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, settings: Settings, missing: str
) -> None:
    arrival = make_arrival(**{missing: None})
    with pytest.raises(IntakeError):
        intake.keep(arrival, clock.now())
    (kept,) = rows(databases, Quarantined)
    assert (settings.hospital_dir / kept.path).read_bytes().endswith(arrival.dataset)


@pytest.mark.parametrize("uid", ["1.2.3\n", "1.2.3\r\n", "1.2.3\t", "1.2 .3"])
def test_a_uid_with_a_line_end_behind_it_is_none(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, uid: str
) -> None:
    arrival = make_arrival()
    encoded = b"\x20\x00\x0d\x00UI" + (len(uid) + len(uid) % 2).to_bytes(2, "little")
    start = arrival.dataset.index(b"\x20\x00\x0d\x00UI")
    end = start + 8 + int.from_bytes(arrival.dataset[start + 6 : start + 8], "little")
    dataset = arrival.dataset[:start] + encoded + uid.encode().ljust(len(uid) + len(uid) % 2) + arrival.dataset[end:]
    with pytest.raises(IntakeError):
        intake.keep(replace(arrival, dataset=dataset), clock.now())
    assert rows(databases, Instance) == []


@pytest.mark.parametrize("rubbish", [b"", b"\x00" * 64, os.urandom(500), b"\xff" * 3000])
def test_bytes_that_are_no_dataset_are_refused_and_kept_in_quarantine(
    intake: Intake, make_arrival: MakeArrival, databases: Databases, rubbish: bytes
) -> None:
    with pytest.raises(IntakeError):
        intake.keep(replace(make_arrival(), dataset=rubbish), clock.now())
    assert len(rows(databases, Quarantined)) == 1


def test_our_own_result_that_comes_back_is_marked_as_ours(
    intake: Intake, make_arrival: MakeArrival, databases: Databases
) -> None:
    arrival = make_arrival()
    with transaction(databases.hospital) as session:
        session.add(
            Result(
                sop_instance_uid=arrival.sop_instance_uid,
                sop_class_uid="1.2",
                job_id="j",
                attempt=1,
                kind="sr",
                path="results/x.dcm",
            )
        )
    intake.keep(arrival, clock.now())
    assert rows(databases, Instance)[0].is_own


def test_no_path_holds_an_identifier(intake: Intake, make_arrival: MakeArrival, settings: Settings) -> None:
    arrival = make_arrival(PatientID="SECRET77")
    intake.keep(arrival, clock.now())
    names = " ".join(str(path) for path in settings.hospital_dir.rglob("*"))
    assert "SECRET77" not in names
    assert arrival.sop_instance_uid not in names


def test_a_writer_that_dies_leaves_only_what_the_sweep_removes(tmp_path: Path) -> None:
    def dying() -> object:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_durably(tmp_path / "a.dcm", dying())  # type: ignore[arg-type]
    assert not (tmp_path / "a.dcm").exists()
    assert files.sweep_temporaries(tmp_path) == 1
    assert not list(tmp_path.iterdir())
