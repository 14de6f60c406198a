"""WADO-RS: what was stored comes back, as it is or in the transfer syntax and media type that is asked for."""

import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

from dicom_node.db.session import open_databases
from dicom_node.dicomweb import stored_file
from dicom_node.settings import Settings
from tests.unit.dicom_node.dicomweb_app import file_of, make_client, make_ct, parts_of, place, store

RELATED = "multipart/related"
AS_STORED = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
DICOM = {"Accept": 'multipart/related; type="application/dicom"'}
OCTETS = {"Accept": 'multipart/related; type="application/octet-stream"'}
PIXELS = np.arange(24, dtype="<i2")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[TestClient]:
    """One service for all: no test stores what another one asks for."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("retrieve") / "data", reserve_bytes=0)
    shutil.copytree(migrated, settings.data_dir)
    databases = open_databases(settings)
    yield make_client(databases, settings)
    databases.dispose()


def make_compressed() -> Dataset:
    """Return a CT compressed with RLE, which pydicom encodes by itself."""
    ds = make_ct()
    ds.compress(RLELossless, generate_instance_uid=False)
    return ds


def read(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def test_a_study_comes_back_as_it_was_sent(client: TestClient) -> None:
    study = generate_uid()
    sent = {str(one.SOPInstanceUID): one for one in (make_ct(StudyInstanceUID=study) for _ in range(3))}
    store(client, *sent.values())
    answer = client.get(f"/dicom-web/studies/{study}")
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    back = [read(content) for _, content in parts_of(answer)]
    assert {str(one.SOPInstanceUID) for one in back} == {*sent}
    for one in back:
        assert one == sent[str(one.SOPInstanceUID)]


def test_a_series_and_an_instance_come_back_alone(client: TestClient) -> None:
    ds, other = make_ct(), make_ct()
    other.StudyInstanceUID = ds.StudyInstanceUID
    store(client, ds, other)
    series = client.get(place(ds).rsplit("/instances", 1)[0])
    assert [read(content).SOPInstanceUID for _, content in parts_of(series)] == [ds.SOPInstanceUID]
    single = client.get(place(ds), headers={"Accept": "application/dicom"})
    assert single.headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    assert read(single.content) == ds


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_come_back_as_stored_or_in_explicit_little_endian(client: TestClient, syntax: str) -> None:
    ds = make_ct(syntax=syntax)
    assert store(client, ds).status_code == 200
    ((kind, content),) = parts_of(client.get(place(ds), headers=AS_STORED))
    assert kind == f"application/dicom; transfer-syntax={syntax}"
    assert read(content).file_meta.TransferSyntaxUID == syntax
    ((kind, content),) = parts_of(client.get(place(ds), headers=DICOM))
    assert kind == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    plain = read(content)
    assert (plain.PatientName, plain.InstanceNumber) == (ds.PatientName, 1)
    assert np.array_equal(plain.pixel_array.ravel(), PIXELS)
    ((_, frame),) = parts_of(client.get(f"{place(ds)}/frames/1", headers=OCTETS))
    assert np.array_equal(np.frombuffer(frame, "<i2"), PIXELS)


def test_big_endian_is_given_as_stored_and_its_frames_in_little_endian(client: TestClient) -> None:
    ds = make_ct(syntax=ExplicitVRBigEndian, PixelData=PIXELS.astype(">i2").tobytes())
    store(client, ds)
    for accept in (AS_STORED, DICOM):
        ((kind, content),) = parts_of(client.get(place(ds), headers=accept))
        assert kind == f"application/dicom; transfer-syntax={ExplicitVRBigEndian}"
        assert read(content) == ds
    named = {"Accept": f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}'}
    assert client.get(place(ds), headers=named).status_code == 406
    for path in ("frames/1", "bulkdata/7FE00010"):
        ((_, frame),) = parts_of(client.get(f"{place(ds)}/{path}", headers=OCTETS))
        assert np.array_equal(np.frombuffer(frame, "<i2"), PIXELS)


def test_a_compressed_instance_is_decompressed_unless_it_is_asked_for_as_stored(client: TestClient) -> None:
    ds = make_compressed()
    store(client, ds)
    ((kind, content),) = parts_of(client.get(place(ds)))
    assert kind.endswith(str(RLELossless)), "whoever says nothing gets it as it is"
    ((kind, content),) = parts_of(client.get(place(ds), headers=DICOM))
    assert kind.endswith(f"={ExplicitVRLittleEndian}")
    assert read(content).PixelData == PIXELS.tobytes()
    named = {"Accept": f'multipart/related; type="application/dicom"; transfer-syntax={RLELossless}'}
    assert (
        parts_of(client.get(place(ds), headers=named))[0][1] == parts_of(client.get(place(ds), headers=AS_STORED))[0][1]
    )


@pytest.mark.parametrize(
    "accept",
    [
        f'multipart/related; type="application/dicom"; transfer-syntax={JPEG2000Lossless}',
        'multipart/related; type="application/dicom+xml"',
        "text/html",
        "*/*; q=0",
    ],
)
def test_what_cannot_be_given_is_not_acceptable(client: TestClient, accept: str) -> None:
    ds = make_ct()
    store(client, ds)
    assert client.get(place(ds), headers={"Accept": accept}).status_code == 406


def test_the_best_of_several_acceptable_types_is_given(client: TestClient) -> None:
    ds = make_ct()
    store(client, ds)
    accept = 'text/html, application/dicom; q=0.2, multipart/related; type="application/dicom"; q=0.9'
    assert client.get(place(ds), headers={"Accept": accept}).headers["content-type"].startswith(RELATED)
    assert client.get(f"{place(ds)}?accept=application/dicom").headers["content-type"].startswith("application/dicom;")


def test_metadata_is_the_header_with_the_address_of_the_pixels(client: TestClient) -> None:
    ds = make_ct(KVP=120.5, ImageComments="")
    block = ds.private_block(0x0009, "SITE", create=True)
    block.add_new(1, "OB", b"x" * 5000)
    block.add_new(2, "OB", b"small")
    ds.add_new(0x00189345, "FD", float("nan"))
    store(client, ds)
    answer = client.get(f"{place(ds)}/metadata")
    assert answer.headers["content-type"] == "application/dicom+json"
    (one,) = json.loads(answer.content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert one["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Änne"}]}
    assert one["00180060"]["Value"] == [120.5]
    assert one["00204000"] == {"vr": "LT"}
    assert one["00189345"] == {"vr": "FD", "Value": [None]}
    assert one["7FE00010"] == {"vr": "OW", "BulkDataURI": f"http://127.0.0.1:8080{place(ds)}/bulkdata/7FE00010"}
    assert one["00091002"]["InlineBinary"] == "c21hbGwA"
    assert "00020010" not in one
    large = one["00091001"]["BulkDataURI"]
    ((_, value),) = parts_of(client.get(large, headers=OCTETS))
    assert value == b"x" * 5000
    whole = client.get(one["7FE00010"]["BulkDataURI"], headers={"Accept": "application/octet-stream"})
    assert whole.content == PIXELS.tobytes()


def test_a_value_inside_a_sequence_has_an_address_too(client: TestClient) -> None:
    item = Dataset()
    item.add_new(0x00091010, "OB", b"y" * 3000)
    ds = make_ct(RequestAttributesSequence=[Dataset(), item])
    store(client, ds)
    (one,) = client.get(f"{place(ds)}/metadata").json()
    address = one["00400275"]["Value"][1]["00091010"]["BulkDataURI"]
    assert address.endswith("/bulkdata/00400275/1/00091010")
    assert parts_of(client.get(address, headers=OCTETS))[0][1] == b"y" * 3000


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ("00100010", 404),
        ("7FE00009", 404),
        ("00400275/9/00091010", 404),
        ("00100010/0/00100010", 404),
        ("..%2f..%2fetc%2fpasswd", 400),
        ("nonsense", 400),
        ("/".join(["00400275", "0"] * 10), 400),
    ],
)
def test_a_place_without_a_binary_value_is_not_found(client: TestClient, tags: str, status: int) -> None:
    ds = make_ct()
    store(client, ds)
    assert client.get(f"{place(ds)}/bulkdata/{tags}").status_code == status


def test_frames_come_back_one_by_one(client: TestClient) -> None:
    frames = np.arange(72, dtype="<i2")
    ds = make_ct(NumberOfFrames=3, PixelData=frames.tobytes())
    store(client, ds)
    answer = client.get(f"{place(ds)}/frames/3,1", headers=OCTETS)
    assert [np.frombuffer(content, "<i2")[0] for _, content in parts_of(answer)] == [48, 0]
    alone = client.get(f"{place(ds)}/frames/2", headers={"Accept": "application/octet-stream"})
    assert alone.content == frames[24:48].tobytes()
    assert client.get(f"{place(ds)}/frames/4").status_code == 404
    for broken in ("0", "-1", "x", "1,", "1;2", "9" * 30, "%31%00"):
        assert client.get(f"{place(ds)}/frames/{broken}").status_code in (400, 404), broken


def test_frames_of_single_bits_begin_at_their_own_byte(client: TestClient) -> None:
    bits = np.random.default_rng(3).integers(0, 2, (3, 5, 7)).astype(np.uint8)
    ds = make_ct(
        SOPClassUID=SegmentationStorage, Rows=5, Columns=7, NumberOfFrames=3, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelRepresentation=0, PixelData=np.packbits(bits.ravel(), bitorder="little").tobytes(),
    )  # fmt: skip
    store(client, ds)
    for number in (1, 2, 3):
        ((_, content),) = parts_of(client.get(f"{place(ds)}/frames/{number}", headers=OCTETS))
        unpacked = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")[:35]
        assert np.array_equal(unpacked.reshape(5, 7), bits[number - 1])


def test_a_compressed_frame_is_given_as_it_is_under_its_own_type(client: TestClient) -> None:
    buffer = BytesIO()
    Image.fromarray(np.full((16, 16), 130, np.uint8)).save(buffer, "JPEG")
    ds = make_ct(
        syntax=JPEGBaseline8Bit, Rows=16, Columns=16, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0,
        PixelData=encapsulate([buffer.getvalue()]),
    )  # fmt: skip
    store(client, ds)
    for accept in (
        'multipart/related; type="image/jpeg"',
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
    ):
        ((kind, content),) = parts_of(client.get(f"{place(ds)}/frames/1", headers={"Accept": accept}))
        assert kind == f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"
        assert content.rstrip(b"\0") == buffer.getvalue().rstrip(b"\0")
    ((kind, content),) = parts_of(client.get(f"{place(ds)}/frames/1", headers=OCTETS))
    assert kind == f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    assert np.abs(np.frombuffer(content, np.uint8).astype(int) - 130).max() <= 1
    refused = client.get(f"{place(ds)}/frames/1", headers={"Accept": 'multipart/related; type="image/jls"'})
    assert refused.status_code == 406
    ((kind, _),) = parts_of(client.get(f"{place(ds)}/bulkdata/7FE00010"))
    assert kind == f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"


def picture(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(BytesIO(answer.content)))


def test_a_window_decides_on_the_greys(client: TestClient) -> None:
    ds = make_ct(WindowCenter=12, WindowWidth=24, RescaleIntercept=0)
    store(client, ds)
    png = {"Accept": "image/png"}
    own = picture(client.get(f"{place(ds)}/rendered", headers=png))
    assert own.shape == (4, 6)
    assert (own[0, 0], own[2, 0], own[-1, -1]) == (0, 133, 255), "PS3.3 C.11.2.1.2.1"
    black = picture(client.get(f"{place(ds)}/rendered?window=1000,10", headers=png))
    white = picture(client.get(f"{place(ds)}/rendered?window=-1000,10,linear-exact", headers=png))
    assert (black.max(), white.min()) == (0, 255)
    half = picture(client.get(f"{place(ds)}/rendered?window=12,24,sigmoid", headers=png))
    assert half[2, 0] in (127, 128), "the centre of a sigmoid is the middle grey"
    jpeg = client.get(f"{place(ds)}/frames/1/rendered?viewport=60,60")
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert picture(jpeg).shape == (40, 60), "the picture keeps its proportions"


def test_small_values_are_white_where_that_is_meant(client: TestClient) -> None:
    ds = make_ct(PhotometricInterpretation="MONOCHROME1")
    store(client, ds)
    shown = picture(client.get(f"{place(ds)}/rendered", headers={"Accept": "image/png"}))
    assert (shown[0, 0], shown[-1, -1]) == (255, 0)


def test_a_palette_s_colours_are_shown(client: TestClient) -> None:
    ds = make_ct(PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.PixelRepresentation, ds.PixelData = 0, bytes(range(24))
    for colour, first in (("Red", 0), ("Green", 100), ("Blue", 200)):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [24, 0, 8])
        setattr(ds, f"{colour}PaletteColorLookupTableData", bytes(range(first, first + 24)))
    store(client, ds)
    shown = picture(client.get(f"{place(ds)}/rendered", headers={"Accept": "image/png"}))
    assert shown.shape == (4, 6, 3)
    assert shown[0, 5].tolist() == [5, 105, 205]


def test_a_frame_too_large_to_be_rendered_is_refused_before_it_is_read(client: TestClient) -> None:
    ds = make_ct(Rows=50000, Columns=50000)
    store(client, ds)
    assert client.get(f"{place(ds)}/rendered").status_code == 413


def test_a_thumbnail_of_a_study_is_a_small_picture_of_something_with_pixels(client: TestClient) -> None:
    ds = make_ct()
    note = make_ct(StudyInstanceUID=ds.StudyInstanceUID, PixelData=None)
    store(client, ds, note)
    for path in (f"/dicom-web/studies/{ds.StudyInstanceUID}", place(ds).rsplit("/instances", 1)[0], place(ds)):
        assert picture(client.get(f"{path}/thumbnail")).shape == (85, 128)
    assert client.get(f"{place(note)}/thumbnail").status_code == 404
    assert client.get(f"{place(note)}/rendered").status_code == 406


@pytest.mark.parametrize(
    "query",
    [
        "window=1",
        "window=a,b",
        "window=0,0",
        "window=nan,5",
        "window=0,5,cubic",
        "viewport=0,5",
        "viewport=99999,5",
        "viewport=5",
        "quality=0",
        "quality=best",
    ],
)
def test_a_picture_that_cannot_be_made_so_is_refused(client: TestClient, query: str) -> None:
    ds = make_ct()
    store(client, ds)
    assert client.get(f"{place(ds)}/rendered?{query}").status_code == 400


def test_a_document_is_rendered_as_itself(client: TestClient) -> None:
    ds = make_ct(
        SOPClassUID=EncapsulatedPDFStorage, PixelData=None, EncapsulatedDocument=b"%PDF-1.4 " + b" " * 2000,
        MIMETypeOfEncapsulatedDocument="application/pdf", Modality="DOC",
    )  # fmt: skip
    store(client, ds)
    answer = client.get(f"{place(ds)}/rendered", headers={"Accept": "application/pdf"})
    assert (answer.headers["content-type"], answer.content[:8]) == ("application/pdf", b"%PDF-1.4")
    bulk = client.get(f"{place(ds)}/bulkdata/00420011", headers={"Accept": "application/pdf"})
    assert bulk.content == answer.content


def test_what_the_node_does_not_hold_is_not_found(client: TestClient) -> None:
    ds = make_ct()
    store(client, ds)
    other = f"/dicom-web/studies/{generate_uid()}"
    for path in (other, f"{other}/metadata", f"{place(ds)[:-1]}", f"{place(ds)[:-1]}/frames/1", f"{other}/thumbnail"):
        assert client.get(path).status_code == 404, path
    for path in ("/dicom-web/studies/..%2f..%2fetc", "/dicom-web/studies/1.2%0a/metadata", "/dicom-web/studies/%00"):
        assert client.get(path).status_code in (400, 404), path


def test_pixels_that_end_too_early_are_an_answer_and_no_crash(client: TestClient) -> None:
    ds = make_ct(Rows=4000, Columns=4000)
    store(client, ds)
    assert client.get(f"{place(ds)}/frames/1").status_code == 500
    assert client.get(f"{place(ds)}/rendered").status_code == 500
    huge = make_ct(Rows=65535, Columns=65535, BitsAllocated=32)
    store(client, huge)
    assert client.get(f"{place(huge)}/rendered").status_code == 413
    (one,) = client.get(f"{place(ds)}/metadata").json()
    assert one["00280010"]["Value"] == [4000]


def test_broken_compressed_pixels_are_refused_alone_and_given_as_stored_among_others(client: TestClient) -> None:
    broken = make_compressed()
    broken.PixelData = encapsulate([b"nonsense that is no RLE"])
    good = make_ct(StudyInstanceUID=broken.StudyInstanceUID)
    store(client, broken, good)
    named = {"Accept": f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}'}
    assert client.get(place(broken), headers=named).status_code == 406
    kinds = {
        kind.split("=")[1]
        for kind, _ in parts_of(client.get(f"/dicom-web/studies/{good.StudyInstanceUID}", headers=named))
    }
    assert kinds == {str(RLELossless), str(ExplicitVRLittleEndian)}


def test_a_deflated_bomb_is_not_inflated(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_file, "INFLATED_LIMIT_BYTES", 1 << 20)
    ds = make_ct(syntax=DeflatedExplicitVRLittleEndian, ImageComments="x" * 100)
    plain = file_of(make_ct(**{k: getattr(ds, k) for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}))
    dataset = plain[plain.index(b"\x08\x00\x05\x00") : plain.index(b"\xe0\x7f\x10\x00")]
    bomb = dataset + b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<I", 1 << 24) + b"\0" * (1 << 24)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = packer.compress(bomb) + packer.flush()
    head = file_of(ds)
    head = head[: 144 + int.from_bytes(head[140:144], "little")]
    answer = client.post("/dicom-web/studies", headers={"Content-Type": "application/dicom"}, content=head + deflated)
    assert answer.status_code == 200
    assert client.get(f"{place(ds)}/frames/1").status_code == 500
    (known,) = client.get(f"{place(ds)}/metadata").json()
    assert {tag: one["Value"] for tag, one in known.items()} == {
        "00080016": [ds.SOPClassUID],
        "00080018": [ds.SOPInstanceUID],
        "0020000D": [ds.StudyInstanceUID],
        "0020000E": [ds.SeriesInstanceUID],
    }
    assert client.get(place(ds), headers=AS_STORED).status_code == 200
