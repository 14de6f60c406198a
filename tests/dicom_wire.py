"""DICOM as bytes on a wire: PDUs and messages made by hand, for senders that must be fast, or must misbehave."""

import socket
import struct
from collections.abc import Iterable, Sequence

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
LONGEST_PDU = 1 << 17
"""As DCMTK sends them to a receiver without a limit."""


def pdu(kind: int, content: bytes, length: int | None = None) -> bytes:
    """Return a PDU; ``length`` lies about what follows."""
    return struct.pack(">BxL", kind, len(content) if length is None else length) + content


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def associate_rq(
    contexts: Sequence[tuple[str, Sequence[str]]] = ((VERIFICATION, (IMPLICIT,)), (CT, (EXPLICIT,))),
    called: str = "OSTEONODE",
    calling: str = "SENDER",
    max_pdu: int = 0,
) -> bytes:
    """Return an A-ASSOCIATE-RQ; the contexts get the ids 1, 3, 5 ..."""
    proposed = b"".join(
        item(
            0x20,
            struct.pack("BBBB", 2 * number + 1, 0, 0, 0)
            + item(0x30, abstract.encode())
            + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes),
        )
        for number, (abstract, syntaxes) in enumerate(contexts)
    )
    user = item(0x51, struct.pack(">L", max_pdu)) + item(0x52, b"1.2.3.4")
    head = struct.pack(">H2x16s16s32x", 1, called.encode().ljust(16), calling.encode().ljust(16))
    return pdu(ASSOCIATE_RQ, head + item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + item(0x50, user))


def element(number: int, content: bytes) -> bytes:
    content += b"\0" * (len(content) % 2)
    return struct.pack("<HHL", 0, number, len(content)) + content


def command(
    field: int, sop_class: str, sop_instance: str = "", message_id: int = 1, has_dataset: bool = False
) -> bytes:
    """Return the command set of a request."""
    parts = [
        element(0x0002, sop_class.encode()),
        element(0x0100, struct.pack("<H", field)),
        element(0x0110, struct.pack("<H", message_id)),
        element(0x0700, struct.pack("<H", 0)) if field == C_STORE_RQ else b"",
        element(0x0800, struct.pack("<H", 1 if has_dataset else 0x0101)),
        element(0x1000, sop_instance.encode()) if sop_instance else b"",
    ]
    content = b"".join(parts)
    return element(0x0000, struct.pack("<L", len(content))) + content


def fragment(context_id: int, content: bytes, *, is_command: bool = False, is_last: bool = True) -> bytes:
    """Return a presentation data value item."""
    return struct.pack(">LBB", len(content) + 2, context_id, is_command + 2 * is_last) + content


def store(
    sop_instance: str, dataset: bytes, *, context_id: int = 3, sop_class: str = CT, longest: int = LONGEST_PDU - 6
) -> bytes:
    """Return the PDUs of a C-STORE."""
    said = command(C_STORE_RQ, sop_class, sop_instance, has_dataset=True)
    starts = range(0, max(len(dataset), 1), longest)
    data = b"".join(
        pdu(P_DATA, fragment(context_id, dataset[start : start + longest], is_last=start + longest >= len(dataset)))
        for start in starts
    )
    return pdu(P_DATA, fragment(context_id, said, is_command=True)) + data


def echo(context_id: int = 1) -> bytes:
    """Return the PDU of a C-ECHO."""
    return pdu(P_DATA, fragment(context_id, command(C_ECHO_RQ, VERIFICATION), is_command=True))


class Caller:
    """A connection to a receiver that says what it is told to.

    Parameters
    ----------
    port
        Of the receiver, on the loopback address.
    timeout_s
        For every answer.
    """

    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.longest = 0

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def receive(self) -> tuple[int, bytes]:
        """Return kind and content of the next PDU; (0, b"") when the connection has ended."""
        try:
            head = self._exactly(6)
            kind, length = struct.unpack(">BxL", head)
            return kind, self._exactly(length)
        except (ConnectionError, EOFError):
            return 0, b""

    def associate(self, **options: object) -> int:
        """Ask for an association and return the kind of the answer; ``longest`` is then what a fragment may have."""
        self.send(associate_rq(**options))  # type: ignore[arg-type]
        kind, content = self.receive()
        if kind == ASSOCIATE_AC:
            limit = struct.unpack_from(">L", content, content.index(b"\x51\x00\x00\x04") + 4)[0]
            self.longest = min(limit or LONGEST_PDU, LONGEST_PDU) - 6
        return kind

    def status(self) -> int:
        """Return the status of the next response."""
        kind, content = self.receive()
        if kind != P_DATA:
            raise ConnectionError(f"a PDU of type {kind} instead of a response")
        return status_in(content[6:])

    def release(self) -> int:
        """Ask for the release and return the kind of the answer."""
        self.send(pdu(RELEASE_RQ, bytes(4)))
        return self.receive()[0]

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self.socket.recv(count - len(content))
            if not piece:
                raise EOFError
            content += piece
        return content


def status_in(command_set: bytes) -> int:
    """Return the status in a response's command set."""
    offset = 0
    while offset < len(command_set):
        _, number, length = struct.unpack_from("<HHL", command_set, offset)
        if number == 0x0900:
            return int(struct.unpack_from("<H", command_set, offset + 8)[0])
        offset += 8 + length
    raise ValueError("a response without a status")


def send_all(port: int, images: Iterable[bytes], **options: object) -> list[int]:
    """Send C-STOREs over one association and return their statuses."""
    with Caller(port) as caller:
        assert caller.associate(**options) == ASSOCIATE_AC
        statuses = []
        for image in images:
            caller.send(image)
            statuses.append(caller.status())
        caller.release()
        return statuses
