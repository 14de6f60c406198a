"""What a kill leaves between a file's renaming and its row's commit is taken in at the next start."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import clock
from dicom_node.db.instances import count_instances, quarantined
from dicom_node.db.models import Instance
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake
from dicom_node.storage.strays import LOOK_BACK, take_in_strays

NOW = clock.now()


@pytest.fixture
def intake(settings: Settings, databases: Databases) -> Intake:
    return Intake(databases.hospital, settings.hospital_dir, 0)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "instances").rglob("*.dcm"))


def forget(databases: Databases, path: str = "%") -> None:
    """Take rows away, as if the process had ended before their commit."""
    with transaction(databases.hospital) as session:
        session.execute(sa.delete(Instance).where(Instance.path.like(path)))


def strays(databases: Databases, settings: Settings, intake: Intake) -> int:
    return take_in_strays(databases.hospital, settings.hospital_dir, intake, NOW)


def test_a_file_without_a_row_is_taken_in_and_the_file_with_its_row_stays(
    settings: Settings, databases: Databases, intake: Intake, make_arrival: Callable[..., Arrival]
) -> None:
    intake.keep(make_arrival(), NOW)
    lost = make_arrival()
    (kept,) = files(settings.hospital_dir)
    intake.keep(lost, NOW)
    forget(databases, f"%{next(path for path in files(settings.hospital_dir) if path != kept).name}")
    assert strays(databases, settings, intake) == 1
    assert strays(databases, settings, intake) == 0
    with transaction(databases.hospital) as session:
        rows = {row.sop_instance_uid: settings.hospital_dir / row.path for row in session.query(Instance)}
    assert len(rows) == 2
    assert sorted(rows.values()) == files(settings.hospital_dir)
    assert rows[lost.sop_instance_uid].read_bytes().endswith(lost.dataset)


def test_a_sender_that_offers_a_stray_again_finds_it_kept(
    settings: Settings, databases: Databases, intake: Intake, make_arrival: Callable[..., Arrival]
) -> None:
    arrival = make_arrival()
    intake.keep(arrival, NOW)
    forget(databases)
    assert strays(databases, settings, intake) == 1
    assert not intake.keep(arrival, NOW), "it is there already"
    with transaction(databases.hospital) as session:
        assert count_instances(session) == len(files(settings.hospital_dir)) == 1


def test_after_a_database_was_restored_from_a_backup_everything_later_comes_back(
    settings: Settings, databases: Databases, intake: Intake, make_arrival: Callable[..., Arrival]
) -> None:
    for _ in range(3):
        intake.keep(make_arrival(), NOW)
    forget(databases)
    assert strays(databases, settings, intake) == 3
    with transaction(databases.hospital) as session:
        assert count_instances(session) == 3


def test_folders_that_have_long_been_quiet_are_not_read(
    settings: Settings, databases: Databases, intake: Intake, make_arrival: Callable[..., Arrival]
) -> None:
    intake.keep(make_arrival(), NOW)
    old = settings.hospital_dir / "instances" / "old"
    old.mkdir()
    (old / "stray.dcm").write_bytes(files(settings.hospital_dir)[0].read_bytes())
    before = (NOW - 2 * LOOK_BACK).timestamp()
    os.utime(old, (before, before))
    assert strays(databases, settings, intake) == 0
    now = (NOW + timedelta(seconds=1)).timestamp()
    os.utime(old, (now, now))
    assert strays(databases, settings, intake) == 1


def test_what_is_no_dicom_stays_where_it_is(settings: Settings, databases: Databases, intake: Intake) -> None:
    folder = settings.hospital_dir / "instances" / "ab"
    folder.mkdir()
    (folder / "note.dcm").write_bytes(b"a note somebody put there")
    assert strays(databases, settings, intake) == 0
    assert (folder / "note.dcm").exists()


def test_a_stray_that_is_no_instance_of_a_study_goes_to_quarantine(
    settings: Settings, databases: Databases, intake: Intake, make_arrival: Callable[..., Arrival]
) -> None:
    arrival = make_arrival()
    intake.keep(arrival, NOW)
    forget(databases)
    (path,) = files(settings.hospital_dir)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x20\x00\x0d\x00UI")])
    assert strays(databases, settings, intake) == 1
    with transaction(databases.hospital) as session:
        assert [row.cause for row in quarantined(session)] == ["unreadable_header"]
    assert files(settings.hospital_dir) == []
