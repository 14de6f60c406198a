"""Sending the audit on: over TLS with certificates of both sides, in order, at least once, whatever interrupts it."""

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node import clock
from dicom_node.audit.events import application_started
from dicom_node.audit.recorder import record
from dicom_node.audit.rejections import Rejections
from dicom_node.audit.syslog import Receiver, deliver
from dicom_node.audit.upkeep import BEHIND_AFTER, Upkeep, problems, receiver_of
from dicom_node.db.audit import cursor, messages_after
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.net.tls import client_context
from dicom_node.settings import Settings
from tests.audit_schema import faults
from tests.certificates import Authority
from tests.conftest import wait_for
from tests.syslog_server import SyslogServer

SENT_AT_ONCE = 20
HEADER = re.compile(rb"<85>1 \S+Z \S+ osteonode \d+ DICOM\+RFC3881 - \xef\xbb\xbf<\?xml [^>]*\?>")


@pytest.fixture
def hospital(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "hospital")


@pytest.fixture
def listen() -> Iterator[Callable[..., SyslogServer]]:
    running: list[SyslogServer] = []

    def start(*words: object, **options: object) -> SyslogServer:
        running.append(SyslogServer(*words, **options))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for one in running:
        one.close()


def sending(settings: Settings, port: int, authority: Authority | None = None, name: str = "node") -> Settings:
    """Settings of a node that sends to a port of this machine."""
    tls = {}
    if authority is not None:
        files = authority.issue(name)
        tls = {
            "audit_syslog_certificate_file": files.certificate,
            "audit_syslog_key_file": files.key,
            "audit_syslog_authority_file": files.authority,
        }
    return settings.model_copy(
        update={
            "audit_syslog_host": "127.0.0.1",
            "audit_syslog_port": port,
            "audit_syslog_tls": authority is not None,
            **tls,
        }
    )


def write(databases: Databases, settings: Settings, count: int) -> None:
    record(databases, settings, *[application_started()] * count)


def sent_to(databases: Databases) -> int:
    with transaction(databases.hospital) as session:
        row = cursor(session, "syslog")
        assert row is not None
        return row.number


def expected(databases: Databases) -> list[bytes]:
    with transaction(databases.hospital) as session:
        return [row.message.encode() for row in messages_after(session, 0)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.audit.syslog.REJECTION_S", 0.1)
    monkeypatch.setattr("dicom_node.audit.upkeep.SENT_AT_ONCE", SENT_AT_ONCE)


def xml_of(messages: list[bytes]) -> list[bytes]:
    assert all(HEADER.match(message) for message in messages)
    return [HEADER.sub(b"", message) for message in messages]


def passes(upkeep: Upkeep, count: int = 1) -> None:
    """Make passes; no pause after a failure holds one back."""
    for _ in range(count):
        upkeep._send_due = None
        upkeep(clock.now())


def test_messages_arrive_over_tls_in_order_and_are_what_the_chain_holds(
    databases: Databases, settings: Settings, hospital: Authority, listen: Callable[..., SyslogServer]
) -> None:
    server = listen(hospital.issue("receiver"))
    settings = sending(settings, server.port, hospital)
    write(databases, settings, 2 * SENT_AT_ONCE + 7)
    passes(Upkeep(databases, settings, Rejections()), 2)
    wait_for(lambda: len(server.messages) >= 2 * SENT_AT_ONCE + 7, 5, "the messages")
    assert xml_of(server.messages) == expected(databases)
    assert faults(xml_of(server.messages)[0].decode()) == []
    assert server.connections == 3
    assert sent_to(databases) == 2 * SENT_AT_ONCE + 7


def test_what_was_sent_is_not_sent_again_after_a_restart(
    databases: Databases, settings: Settings, listen: Callable[..., SyslogServer]
) -> None:
    server = listen()
    settings = sending(settings, server.port)
    for _ in range(3):
        write(databases, settings, 2)
        passes(Upkeep(databases, settings, Rejections()))
    wait_for(lambda: len(server.messages) == 6, 5, "the messages")
    assert xml_of(server.messages) == expected(databases)


def test_a_receiver_that_is_away_gets_everything_when_it_is_back(
    databases: Databases, settings: Settings, hospital: Authority, listen: Callable[..., SyslogServer]
) -> None:
    files = hospital.issue("receiver")
    server = listen(files)
    settings = sending(settings, server.port, hospital)
    upkeep = Upkeep(databases, settings, Rejections())
    write(databases, settings, 2)
    passes(upkeep)
    server.close()
    write(databases, settings, 3)
    passes(upkeep, 3)
    assert sent_to(databases) == 2
    second = listen(files, server.port)
    passes(upkeep)
    wait_for(lambda: len(second.messages) == 3, 5, "the messages")
    assert xml_of(server.messages + second.messages) == expected(databases)


def test_a_receiver_that_hangs_up_in_the_middle_misses_nothing(
    databases: Databases, settings: Settings, hospital: Authority, listen: Callable[..., SyslogServer]
) -> None:
    server = listen(hospital.issue("receiver"), hang_up_after=3)
    settings = sending(settings, server.port, hospital)
    upkeep = Upkeep(databases, settings, Rejections())
    for _ in range(8):
        write(databases, settings, 2)
        passes(upkeep, 2)
    wait_for(lambda: set(expected(databases)) <= set(xml_of(server.messages)), 5, "every message")
    arrived = xml_of(server.messages)
    firsts = [arrived.index(one) for one in expected(databases)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("who", ["client", "receiver", "host"])
def test_certificates_that_are_not_trusted_keep_the_audit_here(
    databases: Databases,
    settings: Settings,
    hospital: Authority,
    listen: Callable[..., SyslogServer],
    tmp_path: Path,
    who: str,
) -> None:
    foreign = Authority(tmp_path, "foreign")
    receiver = {
        "client": hospital.issue("receiver"),
        "receiver": foreign.issue("receiver"),
        "host": hospital.issue("receiver", address="127.0.0.2"),
    }[who]
    server = listen(receiver)
    settings = sending(settings, server.port, hospital)
    if who == "client":
        files = foreign.issue("node")
        settings = settings.model_copy(
            update={"audit_syslog_certificate_file": files.certificate, "audit_syslog_key_file": files.key}
        )
    write(databases, settings, 3)
    passes(Upkeep(databases, settings, Rejections()), 2)
    assert sent_to(databases) == 0
    assert server.messages == []
    (problem,) = problems(databases, settings, clock.now() + 2 * BEHIND_AFTER)
    assert problem.startswith("3 audit messages wait to be sent. The audit receiver 127.0.0.1")


def test_pauses_grow_while_nobody_listens_and_end_when_somebody_does(
    databases: Databases,
    settings: Settings,
    free_port: Callable[[], int],
    listen: Callable[..., SyslogServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    settings = sending(settings, port)
    upkeep = Upkeep(databases, settings, Rejections())
    write(databases, settings, 1)
    now, tried = clock.now(), list[object]()
    monkeypatch.setattr("dicom_node.audit.upkeep.deliver", lambda *words: (tried.append(words), deliver(*words)))
    tries = []
    for second in range(100):
        upkeep(now + timedelta(seconds=second))
        tries.append(len(tried))
    assert [tries.index(count) for count in range(1, 8)] == [0, 1, 3, 7, 15, 31, 63]
    server = listen(None, port)
    upkeep(now + timedelta(minutes=10))
    wait_for(lambda: len(server.messages) == 1, 5, "the message")


def test_without_certificates_the_sentence_says_what_to_set(databases: Databases, settings: Settings) -> None:
    settings = settings.model_copy(update={"audit_syslog_host": "127.0.0.1"})
    write(databases, settings, 1)
    passes(Upkeep(databases, settings, Rejections()))
    assert "audit_syslog_certificate_file" in problems(databases, settings, clock.now() + 2 * BEHIND_AFTER)[0]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that takes connections and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def plain(listening: socket.socket) -> Receiver:
    return Receiver("127.0.0.1", listening.getsockname()[1], None)


def test_a_receiver_that_reads_nothing_does_not_keep_the_node_forever(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.audit.syslog.TIMEOUT_S", 0.3)
    with pytest.raises(PeerUnavailable):
        deliver(plain(silent), [b"x" * 200_000] * 400)


def test_a_receiver_that_never_says_goodbye_is_believed_after_a_time(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.audit.syslog.TIMEOUT_S", 0.3)
    with capture_logs() as logs:
        deliver(plain(silent), [b"x"])
    assert [line["event"] for line in logs] == ["audit_receiver_silent"]


def test_a_receiver_that_goes_with_messages_unread_has_not_got_them(silent: socket.socket) -> None:
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(deliver, plain(silent), [b"unread"])
        connection, _ = silent.accept()
        connection.recv(1)
        connection.close()
        with pytest.raises(PeerUnavailable):
            sending.result(5)


@pytest.mark.parametrize("has_manners", [True, False])
def test_a_receiver_that_goes_after_the_handshake_has_got_nothing(
    hospital: Authority, silent: socket.socket, has_manners: bool
) -> None:
    """As rsyslog with GnuTLS does with a certificate it does not like."""
    files = hospital.issue("receiver")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    def go() -> None:
        connection = context.wrap_socket(silent.accept()[0], server_side=True)
        if has_manners:
            connection.settimeout(0.01)
            with suppress(OSError):
                connection.unwrap()
        connection.close()

    receiver = Receiver("127.0.0.1", silent.getsockname()[1], client_context(hospital.issue("node")))
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go)
        with pytest.raises(PeerUnavailable):
            deliver(receiver, [b"abc"])
        going.result(5)


def test_a_receiver_that_reads_all_and_closes_without_a_word_of_tls_has_got_it(
    hospital: Authority, silent: socket.socket
) -> None:
    files = hospital.issue("receiver")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    def read_and_go() -> bytes:
        with context.wrap_socket(silent.accept()[0], server_side=True) as connection:
            read = connection.recv(1000)
            assert connection.recv(1000) == b""
            return read

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_and_go)
        port = silent.getsockname()[1]
        deliver(Receiver("127.0.0.1", port, client_context(hospital.issue("node"))), [b"abc"])
        assert reading.result(5) == b"3 abc"


def test_a_key_that_does_not_fit_is_said(databases: Databases, settings: Settings, hospital: Authority) -> None:
    settings = sending(settings, 1, hospital)
    Path(str(settings.audit_syslog_key_file)).write_text("nothing")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        receiver_of(settings)
