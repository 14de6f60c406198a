"""Keys can be changed, at any moment and under a kill, without losing a row."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from deid_rules.report import Subject, UidPair
from deid_rules.uids import UidMapper
from dicom_node import clock
from dicom_node.db import models
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.cipher import seal, unseal
from dicom_node.identity.keys import Keys, add_version, load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.identity.person import Person
from dicom_node.identity.rotation import rewrite_rows, rows_behind
from dicom_node.settings import Settings

PEOPLE = [Person(f"MRN-{n}", "A", f"Name^{n}", "19500101", "F") for n in range(30)]


def fill(engine: sa.Engine, keys: Keys) -> list[Subject]:
    identities = IdentityMap(engine, keys, "p")
    subjects = [identities.subject(person, clock.now()) for person in PEOPLE]
    mapper = UidMapper(keys.uid, "p")
    for n, subject in enumerate(subjects):
        uids = [f"1.2.{n}.{k}" for k in range(10)]
        identities.record_uids(subject.pseudonym, [UidPair(uid, mapper.map(uid), "instance") for uid in uids])
    return subjects


def require_everything_readable(engine: sa.Engine, keys: Keys, subjects: list[Subject], uid_key: bytes) -> None:
    identities = IdentityMap(engine, keys, "p")
    mapper = UidMapper(uid_key, "p")
    for n, (person, subject) in enumerate(zip(PEOPLE, subjects, strict=True)):
        assert identities.subject(person, clock.now()) == subject
        assert identities.person(subject.pseudonym) == person
        assert identities.original_uid(mapper.map(f"1.2.{n}.9")) == f"1.2.{n}.9"
    with transaction(engine) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(models.Subject)) == len(PEOPLE)


def test_after_a_rotation_everything_is_found_under_the_new_key_alone(databases: Databases, tmp_path: Path) -> None:
    old = load_keys(tmp_path / "keys")
    subjects = fill(databases.identity, old)
    keys = add_version(tmp_path / "keys")
    assert rewrite_rows(databases.identity, keys, lambda rows: None) == 330
    assert rows_behind(databases.identity, keys) == 0
    for kind in ("column", "index"):
        (tmp_path / "keys" / f"{kind}-1.key").unlink()
    require_everything_readable(databases.identity, load_keys(tmp_path / "keys"), subjects, old.uid)


def test_between_new_keys_and_rewriting_everything_is_found(databases: Databases, tmp_path: Path) -> None:
    old = load_keys(tmp_path / "keys")
    subjects = fill(databases.identity, old)
    require_everything_readable(databases.identity, add_version(tmp_path / "keys"), subjects, old.uid)


def test_a_kill_in_the_middle_leaves_every_row_readable_and_can_be_finished(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    old = load_keys(tmp_path / "keys")
    subjects = fill(databases.identity, old)
    add_version(tmp_path / "keys")
    program = (
        "import sys; from pathlib import Path; from dicom_node.db.session import open_engine;"
        "from dicom_node.identity import rotation; from dicom_node.identity.keys import load_keys;"
        "rotation.BATCH_ROWS = 7;"
        "rotation.rewrite_rows(open_engine(sys.argv[1]), load_keys(Path(sys.argv[2])), lambda n: print(n, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, settings.identity_url, str(tmp_path / "keys")], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
    assert child.returncode == -signal.SIGKILL
    keys = load_keys(tmp_path / "keys")
    behind = rows_behind(databases.identity, keys)
    assert 0 < behind < 330
    require_everything_readable(databases.identity, keys, subjects, old.uid)
    assert rewrite_rows(databases.identity, keys, lambda rows: None) == behind
    require_everything_readable(databases.identity, keys, subjects, old.uid)


def test_a_new_uid_key_keeps_old_uids_resolving_and_studies_recognised(databases: Databases, tmp_path: Path) -> None:
    old = load_keys(tmp_path / "keys")
    subjects = fill(databases.identity, old)
    clean = UidMapper(old.uid, "p").map("1.2.0.0")
    study = UidPair("1.2.99", UidMapper(old.uid, "p").map("1.2.99"), "study")
    IdentityMap(databases.identity, old, "p").record_uids(subjects[0].pseudonym, [study])
    keys = add_version(tmp_path / "keys", new_uid_key=True)
    identities = IdentityMap(databases.identity, keys, "p")
    assert keys.uid != old.uid
    assert identities.original_uid(clean) == "1.2.0.0"
    with pytest.raises(Exception, match="another patient"):
        identities.subject(PEOPLE[1], clock.now(), "1.2.99")


def test_a_process_with_the_old_keys_stops_instead_of_making_second_pseudonyms(
    databases: Databases, tmp_path: Path
) -> None:
    old = load_keys(tmp_path / "keys")
    fill(databases.identity, old)
    rewrite_rows(databases.identity, add_version(tmp_path / "keys"), lambda rows: None)
    with pytest.raises(ConfigurationError, match="Restart"):
        IdentityMap(databases.identity, old, "p").subject(PEOPLE[0], clock.now())


def test_lost_and_newly_made_keys_are_refused(databases: Databases, tmp_path: Path) -> None:
    fill(databases.identity, load_keys(tmp_path / "keys"))
    with pytest.raises(ConfigurationError, match="Put the right key files back"):
        IdentityMap(databases.identity, load_keys(tmp_path / "other"), "p").subject(PEOPLE[0], clock.now())


def test_rows_from_before_the_register_are_checked_and_indexed(databases: Databases, tmp_path: Path) -> None:
    keys = load_keys(tmp_path / "keys")
    fill(databases.identity, keys)
    with transaction(databases.identity) as session:
        session.execute(sa.delete(models.KeySet))
        session.execute(sa.update(models.Subject).values(id_index=None))
    with pytest.raises(ConfigurationError, match="does not decrypt"):
        IdentityMap(databases.identity, load_keys(tmp_path / "other"), "p").subject(PEOPLE[0], clock.now())
    IdentityMap(databases.identity, keys, "p").subject(PEOPLE[0], clock.now())
    with transaction(databases.identity) as session:
        assert not session.scalars(sa.select(models.Subject).where(models.Subject.id_index.is_(None))).all()


def test_ciphertext_moved_to_another_row_column_or_key_version_does_not_decrypt(tmp_path: Path) -> None:
    load_keys(tmp_path)
    keys = add_version(tmp_path)
    value = seal(keys, "secret", "subjects.identity", "a")
    assert unseal(keys, value, "subjects.identity", "a", "2") == "secret"
    for column, row, key_id in (
        ("subjects.identity", "b", "2"),
        ("subjects.date_offset", "a", "2"),
        ("subjects.identity", "a", "1"),
    ):
        with pytest.raises(ConfigurationError, match="does not decrypt"):
            unseal(keys, value, column, row, key_id)


def test_identities_swapped_between_two_rows_of_the_database_do_not_decrypt(
    databases: Databases, tmp_path: Path
) -> None:
    keys = load_keys(tmp_path / "keys")
    identities = IdentityMap(databases.identity, keys, "p")
    first, second = (identities.subject(person, clock.now()).pseudonym for person in PEOPLE[:2])
    with transaction(databases.identity) as session:
        one, other = session.scalars(sa.select(models.Subject)).all()
        one.identity, other.identity = other.identity, one.identity
    for pseudonym in (first, second):
        with pytest.raises(ConfigurationError, match="does not decrypt") as error:
            identities.person(pseudonym)
        assert "MRN" not in str(error.value)


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\x00" * 40])
def test_damaged_ciphertext_is_a_sentence(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(ConfigurationError, match="does not decrypt"):
        unseal(load_keys(tmp_path), damage, "subjects.identity", "a", "1")


def test_a_missing_key_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="version 7"):
        load_keys(tmp_path).of("7")


def test_a_half_made_version_is_not_used_and_is_completed_later(tmp_path: Path) -> None:
    load_keys(tmp_path)
    (tmp_path / "column-2.key").write_bytes(b"c" * 32)
    (tmp_path / "column-2.key").chmod(0o600)
    assert load_keys(tmp_path).key_id == "1"
    keys = add_version(tmp_path)
    assert (keys.key_id, keys.column) == ("2", b"c" * 32)


def test_two_threads_that_meet_one_new_patient_agree(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = IdentityMap(databases.identity, load_keys(tmp_path / "keys"), "p")
    identities.subject(PEOPLE[1], clock.now())
    find, both_looked, seen = IdentityMap._find, threading.Barrier(2), threading.local()

    def find_and_wait(self: IdentityMap, *arguments: object) -> object:
        row = find(self, *arguments)  # type: ignore[arg-type]
        if not hasattr(seen, "once"):
            seen.once = both_looked.wait(10)
        return row

    monkeypatch.setattr(IdentityMap, "_find", find_and_wait)
    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(lambda _: identities.subject(PEOPLE[0], clock.now()).pseudonym, range(2)))
    assert len(found) == 1
