"""Where the dataset of a received message goes: into memory, to disk, or nowhere.

Whatever becomes of it, it is read to its end, so that the peer gets a status instead of a broken association.
"""

from dicom_node.errors import IntakeError
from dicom_node.net.dimse import Body

MEMORY_BYTES = 1 << 24
"""[m assumption] A request for storage commitment of 100 000 instances has 15 MB."""


class InMemory:
    """Collects a dataset.

    Parameters
    ----------
    limit_bytes
        It may be so long; None: any length.
    """

    def __init__(self, limit_bytes: int | None = MEMORY_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._content = bytearray()

    @property
    def content(self) -> bytes:
        """What was collected."""
        return bytes(self._content)

    @property
    def size_bytes(self) -> int:
        """Bytes that have come."""
        return len(self._content)

    def write(self, piece: memoryview) -> None:
        """Add a piece.

        Raises
        ------
        IntakeError
            When it passes the limit.
        """
        if self._limit_bytes is not None and len(self._content) + len(piece) > self._limit_bytes:
            raise IntakeError(f"The dataset is longer than {self._limit_bytes} bytes.")
        self._content += piece

    def discard(self) -> None:
        """Forget it."""
        self._content.clear()


class Refused:
    """Lets a dataset pass by that will be answered with a status of refusal."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.size_bytes = 0

    def write(self, piece: memoryview) -> None:
        """Count it."""
        self.size_bytes += len(piece)

    def discard(self) -> None:
        """Nothing was kept."""


class Guarded:
    """Hands a dataset on; when that fails the rest passes by, and the error is kept for the status."""

    def __init__(self, inner: Body) -> None:
        self.inner = inner
        self.error: Exception | None = None
        self.size_bytes = 0

    def write(self, piece: memoryview) -> None:
        """Hand a piece on."""
        self.size_bytes += len(piece)
        if self.error is None:
            try:
                self.inner.write(piece)
            except Exception as error:  # noqa: BLE001 - it becomes the status of the message
                self.error = error
                self.inner.discard()

    def check(self) -> None:
        """Raise the error that kept the dataset from being taken, if there was one."""
        if self.error is not None:
            raise self.error

    def discard(self) -> None:
        """Forget it."""
        self.inner.discard()
