"""Multipart bodies are read whatever pieces they come in, and hostile ones end in a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.dicomweb.accept import Choice
from dicom_node.dicomweb.multipart import BadMultipartError, MultipartReader, Part, media_type
from tests.unit.dicom_node.dicomweb_app import multipart

LIMIT = 1000


def read(body: bytes, pieces: list[int], limit: int = LIMIT, boundary: str = "xYzZY") -> list[Part]:
    """Read a body cut into pieces of these lengths, the rest in one."""
    reader = MultipartReader(boundary, limit)
    found = []
    position = 0
    for length in [*pieces, len(body)]:
        found += list(reader.feed(body[position : position + length]))
        position += length
    cut_off = reader.finish()
    return found if cut_off is None else [*found, cut_off]


CONTENTS = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--xYzZ", b"xYzZY", b"\r\n"])).map(b"".join),
    ).filter(lambda one: b"\r\n--xYzZY" not in b"\r\n" + one),
    min_size=1,
    max_size=5,
)


@given(CONTENTS, st.lists(st.integers(1, 40), max_size=60))
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(contents: list[bytes], pieces: list[int]) -> None:
    _, body = multipart(*contents)
    found = read(body, pieces)
    assert [bytes(part.content or b"") for part in found] == contents
    assert all(part.is_whole and part.content_type.name == "application/dicom" for part in found)


def test_what_stands_before_the_first_and_after_the_last_boundary_is_ignored() -> None:
    _, body = multipart(b"one")
    assert [bytes(part.content or b"") for part in read(b"Preamble.\r\n" + body + b"Epilogue --xYzZY", [5, 7])] == [
        b"one"
    ]


def test_content_that_only_begins_like_the_boundary_is_content() -> None:
    content = b"a\r\n--xYzZYX\r\nb"
    _, body = multipart(content)
    assert bytes(read(body, [3] * 30)[0].content or b"") == content


def test_a_part_over_the_limit_is_dropped_and_the_next_one_is_read() -> None:
    _, body = multipart(b"x" * (LIMIT + 1), b"small")
    large, small = read(body, [100] * 5)
    assert large.content is None
    assert large.is_whole
    assert bytes(small.content or b"") == b"small"


def test_a_reader_holds_no_more_of_a_huge_part_than_its_limit_and_a_piece() -> None:
    reader = MultipartReader("b", LIMIT)
    list(reader.feed(b"--b\r\n\r\n"))
    for _ in range(100):
        list(reader.feed(b"y" * 10_000))
        assert len(reader._pending) < 100
        assert len(reader._content or b"") <= LIMIT


def test_a_body_that_ends_in_the_middle_of_a_part_says_so() -> None:
    _, body = multipart(b"one", b"two")
    one, cut = read(body[:-12], [])
    assert bytes(one.content or b"") == b"one"
    assert (cut.content, cut.is_whole) == (None, False)


@pytest.mark.parametrize(
    "body",
    [b"", b"no boundary at all", b"z" * 70_000, b"--xYzZY garbage\r\n\r\n", b"--xYzZY\r\nX: " + b"a" * 20_000],
    ids=["empty", "none", "endless preamble", "junk after boundary", "endless headers"],
)
def test_a_broken_body_is_refused(body: bytes) -> None:
    with pytest.raises(BadMultipartError):
        read(body, [])


@pytest.mark.parametrize("boundary", ["", "x" * 201, "a\nb", "ü"])
def test_an_unusable_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(BadMultipartError):
        MultipartReader(boundary, LIMIT)


def test_a_quoted_boundary_and_type_are_understood() -> None:
    kind = media_type('Multipart/Related; TYPE="application/dicom"; boundary="a;b c"')
    assert (kind.name, kind.root, kind.parameters["boundary"]) == ("multipart/related", "application/dicom", "a;b c")


@pytest.mark.parametrize(
    ("wanted", "name", "is_taken"),
    [("*/*", "image/png", True), ("image/*", "image/png", True), ("image/*", "video/mp4", False), ("a/b", "a/b", True)],
)
def test_a_media_range_takes_what_it_covers(wanted: str, name: str, is_taken: bool) -> None:
    assert Choice(wanted, "", is_multipart=False).takes(name) == is_taken
