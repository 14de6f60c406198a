"""Files, folders and archives: every file becomes one thing that is counted, and hostile archives do no harm."""

import os
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_node import clock
from dicom_node.cli import main
from dicom_node.db.models import Instance, Quarantined
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import DiskFull, IntakeError, NotDicom
from dicom_node.settings import Settings
from dicom_node.storage import archives
from dicom_node.storage.dicom_file import read_dicom_file
from dicom_node.storage.importing import CAUSES, Tally, import_paths
from dicom_node.storage.intake import Arrival, Intake
from tests.unit.dicom_node.dicomweb_app import file_of, make_ct

LIMIT = 1_000_000


@pytest.fixture
def load(databases: Databases, settings: Settings) -> Callable[..., Tally]:
    """Return a function that imports paths through a real intake."""
    intake = Intake(databases.hospital, settings.hospital_dir, 0)
    return lambda *paths: import_paths(paths, lambda arrival: intake.keep(arrival, clock.now()), LIMIT)


def bare(ds: object) -> bytes:
    """Return a dataset without preamble and file meta information, implicit little endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    del ds.file_meta  # type: ignore[attr-defined]
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def zipped(path: Path, **files: bytes) -> Path:
    """Write an archive; a double underscore in a name stands for a slash, a single one at its end for a dot."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_a_folder_is_searched_in_depth_and_every_file_is_counted(
    tmp_path: Path, load: Callable[..., Tally], databases: Databases
) -> None:
    root = tmp_path / "disc"
    deep = root / "a" / "b" / "ü c"
    deep.mkdir(parents=True)
    one, two = make_ct(), make_ct()
    (root / "1").write_bytes(file_of(one))
    (deep / "2.dcm").write_bytes(file_of(two))
    (deep / "copy.dcm").write_bytes(file_of(two))
    (root / "no-preamble").write_bytes(file_of(make_ct())[132:])
    (root / "bare").write_bytes(bare(make_ct()))
    (root / "readme.txt").write_bytes(b"hello")
    (root / "empty").write_bytes(b"")
    (root / "viewer.exe").write_bytes(b"MZ" + os.urandom(1000))
    directory = file_of(make_ct(SOPClassUID="1.2.840.10008.1.3.10"))
    (root / "DICOMDIR").write_bytes(directory)
    (root / "no-series.dcm").write_bytes(file_of(make_ct(SeriesInstanceUID=None)))
    (root / "large.dcm").write_bytes(file_of(make_ct(PixelData=b"\0" * LIMIT)))
    (root / "loop").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "pipe")
    tally = load(root)
    assert dict(tally.counts) == {
        "imported": 4, "duplicate": 1, "not_dicom": 3, "directory": 1, "quarantined": 1, "too_large": 1,
        "unreadable": 1,
    }  # fmt: skip
    assert tally.done == tally.found
    with transaction(databases.hospital) as session:
        rows = session.scalars(sa.select(Instance)).all()
        assert {row.calling_aet for row in rows} == {"IMPORT"}
        assert len(session.scalars(sa.select(Quarantined)).all()) == 1
    assert load(root).counts["duplicate"] == 5, "an import that is repeated finds everything here already"


def test_what_an_archive_holds_is_imported_and_what_is_wrong_with_it_counted(
    tmp_path: Path, load: Callable[..., Tally]
) -> None:
    inner = zipped(tmp_path / "inner", x=file_of(make_ct())).read_bytes()
    path = zipped(
        tmp_path / "disc.zip", DICOM__IM1=file_of(make_ct()), DICOM__IM2=file_of(make_ct()), readme=b"x", inner=inner
    )
    assert dict(load(path).counts) == {"imported": 2, "not_dicom": 1, "nested": 1}


@pytest.mark.parametrize("name", ["../../evil.dcm", "/etc/evil.dcm", "..\\..\\evil.dcm", "C:\\evil.dcm", "a\0b"])
def test_a_name_in_an_archive_leads_nowhere(
    tmp_path: Path, load: Callable[..., Tally], databases: Databases, settings: Settings, name: str
) -> None:
    path = zipped(tmp_path / "evil.zip", **{name: file_of(make_ct())})
    before = {one for one in tmp_path.rglob("*") if settings.hospital_dir not in one.parents}
    assert dict(load(path).counts) == {"imported": 1}
    assert {one for one in tmp_path.rglob("*") if settings.hospital_dir not in one.parents} == before
    with transaction(databases.hospital) as session:
        assert "evil" not in session.scalars(sa.select(Instance)).one().path


def test_an_encrypted_file_is_counted(tmp_path: Path, load: Callable[..., Tally]) -> None:
    path = zipped(tmp_path / "a.zip", x=file_of(make_ct()), y=file_of(make_ct()))
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    path.write_bytes(content)
    assert dict(load(path).counts) == {"encrypted": 1, "imported": 1}


def test_a_damaged_archive_is_counted_and_the_next_one_read(tmp_path: Path, load: Callable[..., Tally]) -> None:
    whole = zipped(tmp_path / "0.zip", x=file_of(make_ct()), y=file_of(make_ct())).read_bytes()
    (tmp_path / "1.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.zip").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    flipped = bytearray(whole)
    flipped[80:90] = b"\xff" * 10
    (tmp_path / "3.zip").write_bytes(flipped)
    (tmp_path / "4.zip").write_bytes(b"PK\x05\x06" + b"\0" * 18)
    counts = load(tmp_path / "1.zip", tmp_path / "2.zip", tmp_path / "3.zip", tmp_path / "4.zip").counts
    assert dict(counts) == {"damaged": 3, "imported": 1}


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_bytes_that_cannot_be_unpacked_are_counted_whatever_the_packing(
    tmp_path: Path, load: Callable[..., Tally], packing: int
) -> None:
    path = tmp_path / "broken.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("x", bytes(range(256)) * 200)
    content = path.read_bytes()
    for place in range(30, 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert load(path).done == 1, place


def test_a_packing_nobody_knows_is_counted(tmp_path: Path, load: Callable[..., Tally]) -> None:
    path = zipped(tmp_path / "a.zip", x=file_of(make_ct()))
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(magic) + offset] = 77
    path.write_bytes(content)
    assert dict(load(path).counts) == {"damaged": 1}


def test_an_archive_that_unpacks_to_far_more_than_it_is_stays_packed(
    tmp_path: Path, load: Callable[..., Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SMALL_BYTES", 1 << 20)
    bomb = b"\0" * 128 + b"DICM" + b"\0" * (1 << 24)
    assert dict(load(zipped(tmp_path / "bomb.zip", x=bomb)).counts) == {"bomb": 1}
    honest = make_ct(PixelData=os.urandom(LIMIT // 2))
    assert dict(load(zipped(tmp_path / "honest.zip", x=file_of(honest))).counts) == {"imported": 1}


def test_a_file_that_states_less_than_it_unpacks_to_is_not_unpacked_further(
    tmp_path: Path, load: Callable[..., Tally]
) -> None:
    path = zipped(tmp_path / "liar.zip", x=file_of(make_ct(PixelData=b"\0" * 900_000)))
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = content.index(magic) + offset
        content[place : place + 4] = struct.pack("<I", 1000)
    path.write_bytes(content)
    assert dict(load(path).counts) == {"damaged": 1}


def test_an_endless_list_of_files_is_not_read(
    tmp_path: Path, load: Callable[..., Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "DIRECTORY_LIMIT_BYTES", 1000)
    path = zipped(tmp_path / "many.zip", **{f"n{number}": b"" for number in range(50)})
    assert dict(load(path).counts) == {"bomb": 1}


def test_the_first_sign_of_a_full_disk_is_tried_again_and_the_second_ends_the_import(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}").write_bytes(file_of(make_ct()))
    tries: list[str] = []

    def once_full(arrival: Arrival) -> bool:
        tries.append(arrival.sop_instance_uid)
        if len(tries) == 1:
            raise DiskFull("Full.")
        return True

    assert dict(import_paths([tmp_path], once_full, LIMIT).counts) == {"imported": 30}

    def full(arrival: Arrival) -> bool:
        raise DiskFull("Full.")

    tally = import_paths([tmp_path], full, LIMIT)
    assert tally.sentence == "The import stopped. Full."
    assert tally.done < 30


def test_every_error_of_keeping_is_counted_and_none_ends_the_import(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(file_of(make_ct(InstanceNumber=number)))
    errors = iter([IntakeError("no"), RuntimeError("Quistgaard"), None])

    def keep(arrival: Arrival) -> bool:
        error = next(errors)
        if error is not None:
            raise error
        return True

    assert dict(import_paths([tmp_path], keep, LIMIT).counts) == {"quarantined": 1, "refused": 1, "imported": 1}


def test_an_import_that_is_told_to_stop_says_that_it_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(file_of(make_ct()))
    tally = import_paths([tmp_path], lambda arrival: True, LIMIT, goes_on=lambda: False)
    assert (tally.done, tally.sentence) == (0, "The import was interrupted; it can be repeated.")


def test_the_dataset_of_a_file_is_kept_as_it_is_encoded() -> None:
    content = file_of(make_ct())
    file = read_dicom_file(content, "X")
    assert content.endswith(file.arrival.dataset)
    assert file.arrival.dataset[:4] == b"\x08\x00\x05\x00"
    assert file.study_instance_uid == dcmread(BytesIO(content)).StudyInstanceUID


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 200, b"\x02\x00", b"\x08\x00" * 100, b"\x02\x00\x10\x00UI\xff\xff1.2", b"\0" * 500],
)
def test_bytes_that_are_no_dicom_are_told_from_dicom(content: bytes) -> None:
    with pytest.raises(NotDicom):
        read_dicom_file(content, "X")


def test_every_cause_has_its_words() -> None:
    assert all(words and len(words) < 60 for words in CAUSES.values())


def test_the_command_imports_says_how_much_and_ends_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("OSTEONODE_RESERVE_BYTES", "0")
    folder = tmp_path / "Quistgaard Wilhelmine"
    folder.mkdir()
    (folder / "Quistgaard.dcm").write_bytes(file_of(make_ct()))
    assert main(["import", str(folder), "--dry-run"]) == 0
    assert "Nothing was imported" in capsys.readouterr().out
    assert not list(settings.hospital_dir.rglob("*.dcm"))
    assert main(["import", str(folder)]) == 0
    assert len(list(settings.hospital_dir.rglob("*.dcm"))) == 1
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"x" * 40)
    assert main(["import", str(folder)]) == 1
    assert main(["import", str(tmp_path / "nowhere")]) == 1
    (tmp_path / "nothing").mkdir()
    assert main(["import", str(tmp_path / "nothing")]) == 1
    said = capsys.readouterr()
    assert "here already" in said.out
    assert "Quistgaard" not in said.out.replace(str(tmp_path), "") + said.err
