"""Multipart bodies (RFC 2046 5.1, PS3.18 8.6.1.2), read as they arrive.

A reader holds one part at a time and no more of it than its limit; what is larger is read to its end and dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

BOUNDARY_LIMIT = 200
"""RFC 2046 allows 70 characters; some senders use more."""
PREAMBLE_LIMIT_BYTES = 65536
HEADERS_LIMIT_BYTES = 16384
NEW_LINE = b"\r\n"


class BadMultipartError(ValueError):
    """The body is not what its Content-Type says."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type: type in lower case, and parameters by lower-case name."""

    name: str
    parameters: dict[str, str]

    @property
    def root(self) -> str:
        """Media type of the parts of a multipart/related body."""
        return self.parameters.get("type", "").lower()


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes
    ----------
    content_type
        What its header says; an empty name where it says nothing.
    content
        Its body, or None when it is larger than the reader's limit or the body ended in the middle of it.
    is_whole
        False when the body ended in the middle of it.
    """

    content_type: MediaType
    content: bytearray | None
    is_whole: bool


def media_type(value: str) -> MediaType:
    """Parse the value of a Content-Type header."""
    message = Message()
    message["Content-Type"] = value.replace("\r", " ").replace("\n", " ")
    parameters = message.get_params(failobj=[])
    name = parameters[0][0].strip().lower() if parameters else ""
    return MediaType(name, {key.lower(): str(text) for key, text in parameters[1:]})


class MultipartReader:
    """Takes a body in pieces and gives parts as they end.

    Parameters
    ----------
    boundary
        The boundary of the Content-Type header.
    limit_bytes
        A part with more is not kept.

    Raises
    ------
    BadMultipartError
        From every method: an unusable boundary, no boundary where the body begins, endless headers.
    """

    def __init__(self, boundary: str, limit_bytes: int) -> None:
        if not 0 < len(boundary) <= BOUNDARY_LIMIT or not boundary.isascii() or not boundary.isprintable():
            raise BadMultipartError("The Content-Type header needs a boundary of printable ASCII characters.")
        self._delimiter = NEW_LINE + b"--" + boundary.encode("ascii")
        self._limit_bytes = limit_bytes
        self._pending = bytearray(NEW_LINE)
        self._content: bytearray | None = bytearray()
        self._size = 0
        self._type = media_type("")
        self._step = self._read_preamble
        self.has_ended = False

    def feed(self, piece: bytes) -> Iterator[Part]:
        """Take the next piece; yield the parts that end in it."""
        self._pending += piece
        while True:
            before = len(self._pending), self._step
            part = self._step()
            if part is not None:
                yield part
            elif (len(self._pending), self._step) == before:
                return

    def finish(self) -> Part | None:
        """Tell the reader that the body has ended; return the part that was cut off, if one was."""
        if self.has_ended:
            return None
        if self._step == self._read_preamble:
            raise BadMultipartError("The body has no part: its boundary was not found.")
        return Part(self._type, None, is_whole=False)

    def _read_preamble(self) -> Part | None:
        found = self._pending.find(self._delimiter)
        if found < 0:
            if len(self._pending) > PREAMBLE_LIMIT_BYTES:
                raise BadMultipartError("The body does not begin with its boundary.")
            return None
        del self._pending[:found]
        self._step = self._read_delimiter
        return None

    def _read_delimiter(self) -> Part | None:
        """Decide what follows a boundary: the end, or another part."""
        after = bytes(self._pending[len(self._delimiter) : len(self._delimiter) + HEADERS_LIMIT_BYTES])
        if after.startswith(b"--"):
            self.has_ended = True
            self._pending.clear()
            self._step = self._ignore
            return None
        line_end = after.find(NEW_LINE)
        if after[: max(line_end, 0)].strip(b" \t") or (len(after) == HEADERS_LIMIT_BYTES and line_end < 0):
            raise BadMultipartError("A boundary is followed by something else than a line end.")
        if line_end >= 0:
            del self._pending[: len(self._delimiter) + line_end]
            self._step = self._read_headers
        return None

    def _read_headers(self) -> Part | None:
        end = self._pending.find(NEW_LINE * 2)
        if end < 0:
            if len(self._pending) > HEADERS_LIMIT_BYTES:
                raise BadMultipartError("The headers of a part do not end.")
            return None
        self._type = _content_type(bytes(self._pending[:end]))
        del self._pending[: end + 2 * len(NEW_LINE)]
        self._content, self._size = bytearray(), 0
        self._step = self._read_content
        return None

    def _read_content(self) -> Part | None:
        found = self._find_end()
        if found is None:
            return None
        self._keep(found)
        self._step = self._read_delimiter
        return Part(self._type, self._content, is_whole=True)

    def _find_end(self) -> int | None:
        """Return where the content ends; None, and what cannot be its end is kept, where more has to come."""
        start = 0
        while (found := self._pending.find(self._delimiter, start)) >= 0:
            after = bytes(self._pending[found + len(self._delimiter) : found + len(self._delimiter) + 2])
            if len(after) < 2:
                self._keep(found)
                return None
            if after[:1] in (b" ", b"\t") or after in (b"--", NEW_LINE):
                return found
            start = found + 1
        self._keep(len(self._pending) - len(self._delimiter) + 1)
        return None

    def _ignore(self) -> Part | None:
        """Drop what follows the last boundary."""
        self._pending.clear()
        return None

    def _keep(self, count: int) -> None:
        """Move bytes to the part's content, or drop them once it is too large."""
        if count <= 0:
            return
        self._size += count
        if self._size > self._limit_bytes:
            self._content = None
        if self._content is not None:
            self._content += memoryview(self._pending)[:count]
        del self._pending[:count]


def _content_type(headers: bytes) -> MediaType:
    for line in headers.split(NEW_LINE):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return media_type(value.strip().decode("latin-1"))
    return media_type("")
