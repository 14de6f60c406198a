"""Syslog for audit messages: RFC 5424 messages, framed by RFC 5425, over TLS (PS3.15 A.6, IHE ITI-20) or plain TCP.

Syslog has no answers. What there is to know about arrival the end of the connection tells: a receiver that has read
everything answers TLS's goodbye with its own, as RFC 5425 4.4 demands, and one that goes with something unread breaks
the connection. So every few messages have a connection of their own. A receiver that answers nothing at all is believed
after a time. What it read and did not store when *it* crashed, nobody can know.
"""

import select
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.audit import codes
from dicom_node.audit.message import clean
from dicom_node.errors import PeerUnavailable
from dicom_node.logs import log

LOG = log(__name__)
FACILITY = 10
"""Security and authorisation messages (PS3.15 A.6)."""
SEVERITY = {codes.SUCCESS: 5, codes.MINOR_FAILURE: 4, codes.SERIOUS_FAILURE: 3, codes.MAJOR_FAILURE: 2}
"""RFC 5424 6.2.1: notice, as A.6 says; warning, error and critical for failures."""
MESSAGE_ID = "DICOM+RFC3881"
"""PS3.15 A.6."""
APP_NAME = "osteonode"
TIMEOUT_S = 10.0
"""For the connection, and for a goodbye."""
REJECTION_S = 0.5
"""[m assumption] Longer than a receiver on the hospital's network needs to reject a certificate."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """An audit record repository: where it listens, and TLS where it is spoken."""

    host: str
    port: int
    tls: ssl.SSLContext | None


def syslog_message(xml: str, at: datetime, outcome: int, host: str, process_id: int) -> bytes:
    """Return one SYSLOG-MSG (RFC 5424 6): header without structured data, byte order mark, XML in UTF-8."""
    header = " ".join(
        (
            f"<{FACILITY * 8 + SEVERITY[outcome]}>1",
            at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            _name(host, 255),
            APP_NAME,
            str(process_id),
            MESSAGE_ID,
            "-",
        )
    )
    return header.encode("ascii") + b" \xef\xbb\xbf" + b'<?xml version="1.0" encoding="UTF-8"?>' + xml.encode()


def framed(message: bytes) -> bytes:
    """Return a message with its length before it (RFC 5425 4.3)."""
    return b"%d %s" % (len(message), message)


def _name(text: str, limit: int) -> str:
    """Return printable ASCII without spaces, as RFC 5424 wants names; ``-`` for nothing."""
    return "".join(one for one in clean(text, limit) if "!" <= one <= "~") or "-"


def deliver(receiver: Receiver, messages: Iterable[bytes]) -> None:
    """Send messages in their order over a connection of their own; return when the receiver has read them.

    Raises
    ------
    PeerUnavailable
        When it has not: nobody listens, one side does not trust the other's certificate, or it broke off. Some of them
        may have arrived.
    """
    place = f"{receiver.host}:{receiver.port}"
    try:
        with socket.create_connection((receiver.host, receiver.port), TIMEOUT_S) as plain:
            if receiver.tls is None:
                _send_all(plain, messages)
            else:
                with receiver.tls.wrap_socket(plain, server_hostname=receiver.host) as secure:
                    _await_rejection(secure)
                    _send_all(secure, messages)
    except OSError as error:
        raise PeerUnavailable(f"The audit receiver {place} cannot be reached ({type(error).__name__}).") from None


def _await_rejection(connection: ssl.SSLSocket) -> None:
    """Give a receiver that does not trust our certificate the time to say so.

    In TLS 1.3 it says so after the handshake (RFC 8446 4.4.2.4), and some (rsyslog with GnuTLS) say goodbye instead.

    Raises
    ------
    OSError
        When it did either.
    """
    end = time.monotonic() + REJECTION_S
    while connection.version() == "TLSv1.3" and (left_s := end - time.monotonic()) > 0:
        if select.select([connection], [], [], left_s)[0]:
            _require_open(connection)


def _require_open(connection: socket.socket) -> None:
    """Find out whether the receiver has gone; it has nothing else to say.

    Raises
    ------
    OSError
        When it has, or TLS brings an alert.
    """
    connection.settimeout(0)
    try:
        if not connection.recv(1):
            raise ConnectionResetError
    except (BlockingIOError, ssl.SSLWantReadError):
        return
    finally:
        connection.settimeout(TIMEOUT_S)


def _send_all(connection: socket.socket, messages: Iterable[bytes]) -> None:
    """Send, say goodbye, and wait for the receiver's.

    Raises
    ------
    OSError
        When the connection breaks before.
    """
    for message in messages:
        connection.sendall(framed(message))
    _require_open(connection)
    try:
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()
        else:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1024):
                pass
    except ssl.SSLEOFError:
        return  # closed without TLS's own goodbye; what was unread would have broken the connection
    except TimeoutError:
        LOG.warning("audit_receiver_silent", wait_s=TIMEOUT_S)
