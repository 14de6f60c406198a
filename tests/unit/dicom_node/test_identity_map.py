"""Pseudonyms that do not tell, a map that is ciphertext, and keys only their owner reads."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import Dataset

from deid_rules.report import UidPair
from dicom_node import clock
from dicom_node.db.session import Databases
from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.identity.cipher import blind_index, decrypt, encrypt
from dicom_node.identity.keys import Keys, load_keys
from dicom_node.identity.map import IdentityMap, Person, person_from_header

PERSON = Person("MRN-1", "HOSPITAL-A", "Muster^Erika", "19500102", "F")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return load_keys(tmp_path / "keys")


@pytest.fixture
def identities(databases: Databases, keys: Keys) -> IdentityMap:
    return IdentityMap(databases.identity, keys, "study-1")


def test_the_same_patient_keeps_pseudonym_and_date_shift(identities: IdentityMap) -> None:
    assert identities.subject(PERSON, clock.now()) == identities.subject(PERSON, clock.now())


def test_the_shift_is_whole_weeks_into_the_past(identities: IdentityMap) -> None:
    offset = identities.subject(PERSON, clock.now()).date_offset_days
    assert offset % 7 == 0
    assert -520 * 7 <= offset <= -52 * 7


def test_the_same_number_from_another_issuer_is_another_patient(identities: IdentityMap) -> None:
    other = Person("MRN-1", "HOSPITAL-B", "Musterfrau^Eva", "19610203", "F")
    assert identities.subject(PERSON, clock.now()).pseudonym != identities.subject(other, clock.now()).pseudonym


def test_two_projects_cannot_be_linked(databases: Databases, keys: Keys) -> None:
    first, second = (IdentityMap(databases.identity, keys, name).subject(PERSON, clock.now()) for name in ("a", "b"))
    assert first.pseudonym != second.pseudonym


def test_the_way_back_is_there(identities: IdentityMap) -> None:
    pseudonym = identities.subject(PERSON, clock.now()).pseudonym
    identities.record_uids(pseudonym, [UidPair("1.2.3", "2.25.9", "study")] * 2)
    identities.record_uids(pseudonym, [UidPair("1.2.3", "2.25.9", "study")])
    assert identities.original_uid("2.25.9") == "1.2.3"
    assert identities.original_uid("2.25.1") is None
    assert identities.person(pseudonym) == PERSON


def test_the_database_holds_no_identity_in_clear(
    identities: IdentityMap, databases: Databases, settings: object, tmp_path: Path
) -> None:
    pseudonym = identities.subject(PERSON, clock.now()).pseudonym
    identities.record_uids(pseudonym, [UidPair("1.2.840.77.1234567", "2.25.9", "study")])
    databases.dispose()
    content = b"".join(path.read_bytes() for path in (tmp_path / "data/hospital").glob("identity.db*"))
    assert pseudonym.encode() in content
    for secret in (b"MRN-1", b"Muster", b"Erika", b"19500102", b"HOSPITAL-A", b"1.2.840.77.1234567"):
        assert secret not in content


def test_a_value_moved_to_another_row_does_not_decrypt(keys: Keys) -> None:
    value = encrypt(keys.column, "secret", "subjects.identity|1|1")
    assert decrypt(keys.column, value, "subjects.identity|1|1") == "secret"
    with pytest.raises(ConfigurationError):
        decrypt(keys.column, value, "subjects.identity|2|1")


def test_parts_of_a_blind_index_do_not_run_together(keys: Keys) -> None:
    assert blind_index(keys.index, "ab", "c") != blind_index(keys.index, "a", "bc")


@pytest.mark.parametrize("patient_id", ["", "   ", None])
def test_a_study_without_patient_id_is_rejected(patient_id: str | None) -> None:
    header = Dataset()
    header.PatientName = "Muster^Erika"
    if patient_id is not None:
        header.PatientID = patient_id
    with pytest.raises(JobRejected, match="no patient ID") as error:
        person_from_header(header)
    assert "Muster" not in str(error.value)


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    first = load_keys(tmp_path / "keys")
    assert load_keys(tmp_path / "keys").column == first.column
    assert len({first.column, first.index, first.uid}) == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "keys").iterdir())
    assert first.column.hex() not in repr(first)


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    load_keys(tmp_path / "keys")
    (tmp_path / "keys" / "uid-1.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="0644"):
        load_keys(tmp_path / "keys")


def test_a_truncated_key_is_refused(tmp_path: Path) -> None:
    load_keys(tmp_path / "keys")
    (tmp_path / "keys" / "uid-1.key").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="5 bytes"):
        load_keys(tmp_path / "keys")


def test_pseudonyms_are_unique_in_the_table(databases: Databases) -> None:
    names = {tuple(one["column_names"]) for one in sa.inspect(databases.identity).get_unique_constraints("subjects")}
    assert {("pseudonym",), ("blind_index",)} <= names
