"""The audit under real conditions: several processes, PostgreSQL, a node that is killed, a real TLS receiver."""

import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import build_context

from dicom_node import clock
from dicom_node.audit.check import check_all
from dicom_node.audit.events import application_started
from dicom_node.audit.recorder import record, waiting
from dicom_node.audit.rejections import Rejections
from dicom_node.audit.syslog import Receiver, deliver, syslog_message
from dicom_node.audit.upkeep import Upkeep
from dicom_node.db.audit import messages_after
from dicom_node.db.audit_tables import AuditMessage
from dicom_node.db.session import open_databases, prepare_databases, transaction
from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.errors import PeerUnavailable
from dicom_node.net.scu import Address, associate, echo, send_files
from dicom_node.net.tls import TlsFiles, client_context
from dicom_node.settings import Settings
from tests.audit_schema import faults, text_of
from tests.certificates import Authority
from tests.conftest import wait_for
from tests.syslog_server import SyslogServer

WRITERS, EVENTS = 3, 25
PATIENT = FakePatient()


def write_events(settings: Settings, count: int) -> None:
    """Write events one by one from several threads; a process of its own calls it."""
    databases = open_databases(settings)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(record, databases, settings, application_started()) for _ in range(count)]:
            done.result()
    databases.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_binary)])
def audited(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a node whose hospital database is empty and has the newest schema."""
    settings = Settings(data_dir=tmp_path / "data", reserve_bytes=0)
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").fresh(f"audit_{tmp_path.name[-12:]}")
        settings = settings.model_copy(update={"hospital_database_url": url})
    prepare_databases(settings).dispose()
    return settings


def test_processes_and_threads_cannot_fork_the_chain(audited: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_events, args=(audited, EVENTS)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    databases = open_databases(audited)
    with transaction(databases.hospital) as session:
        assert check_all(session).faults == []
        assert [row.number for row in messages_after(session, 0)] == list(range(1, WRITERS * EVENTS + 1))
    assert waiting(audited) == 0
    databases.dispose()


def test_two_processes_that_send_do_so_in_order(audited: Settings) -> None:
    server = SyslogServer()
    settings = audited.model_copy(
        update={"audit_syslog_host": "127.0.0.1", "audit_syslog_port": server.port, "audit_syslog_tls": False}
    )
    databases = open_databases(settings)
    record(databases, settings, *[application_started()] * 300)
    with ThreadPoolExecutor(2) as pool:
        senders = [Upkeep(databases, settings, Rejections()) for _ in range(2)]
        for done in [pool.submit(sender, clock.now()) for sender in senders]:
            done.result()
    arrived = [message.split(b"?>", 1)[1].decode() for message in received(server, 300)]
    with transaction(databases.hospital) as session:
        expected = [row.message for row in messages_after(session, 0)]
    firsts = [arrived.index(one) for one in expected]
    assert firsts == sorted(firsts)
    server.close()
    databases.dispose()


def received(server: SyslogServer, count: int) -> list[bytes]:
    return wait_for(lambda: server.messages if len(server.messages) >= count else None, 10, f"{count} messages")


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Eight small slices under a fake identity; nothing can be measured in them."""
    scan = Scan(np.zeros((8, 32, 32), np.int16), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    return write_series(scan, tmp_path / "series", PATIENT, seed="audit")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[SyslogServer, dict[str, object]]]:
    """A receiver with TLS and client certificates, and the settings of a node that sends to it."""
    hospital = Authority(tmp_path, "hospital")
    server, files = SyslogServer(hospital.issue("receiver")), hospital.issue("node")
    yield (
        server,
        {
            "audit_syslog_host": "127.0.0.1",
            "audit_syslog_port": server.port,
            "audit_syslog_certificate_file": files.certificate,
            "audit_syslog_key_file": files.key,
            "audit_syslog_authority_file": files.authority,
        },
    )
    server.close()


def rows_of(node: LocalNode) -> list[AuditMessage]:
    """Read the audit of a node's data folder, and check that its chain is whole."""
    databases = open_databases(Settings(data_dir=node.data_dir))
    with transaction(databases.hospital) as session:
        assert check_all(session).faults == []
        rows = list(messages_after(session, 0))
    databases.dispose()
    return rows


def messages_of(server: SyslogServer) -> list[str]:
    return [message.split(b"?>", 1)[1].decode() for message in server.messages]


def address(node: LocalNode, title: str) -> Address:
    return Address(node.ae_title, "127.0.0.1", node.dicom_port, title)


def test_what_happens_to_a_patient_s_study_is_told_and_nobody_learns_whose_it_is(
    make_node: Callable[..., LocalNode],
    receiver: tuple[SyslogServer, dict[str, object]],
    series: list[Path],
    tmp_path: Path,
) -> None:
    server, settings = receiver
    node = make_node(**settings)
    sender = {"name": "CT", "ae_title": "CT", "host": "127.0.0.1", "port": 104, "receives_results": False}
    node.post("/api/peers", sender)
    with pytest.raises(PeerUnavailable):
        echo(address(node, "STRANGER"))
    send_files(address(node, "CT"), series)
    study = str(dcmread(series[0], stop_before_pixels=True).StudyInstanceUID)
    web = f"{node.url}/dicom-web/studies"
    asked = {"PatientName": PATIENT.name, "00100020": PATIENT.patient_id, "AccessionNumber": PATIENT.accession_number}
    assert httpx.get(web, params=asked).is_success
    assert httpx.get(f"{web}/{study}/metadata").is_success
    headers = {"Content-Type": "application/dicom"}
    assert httpx.post(web, content=series[0].read_bytes(), headers=headers).is_success
    wait_for(lambda: any(job["state"] == "failed" for job in node.get("/api/jobs")), 60, "the end of the job")
    wait_for(lambda: any("used the study" in one for one in sentences(node)), 10, "the job in the audit")
    node.stop()

    rows = rows_of(node)
    kinds = {row.kind for row in rows}
    assert kinds >= {
        "recording_started", "application_started", "network_configuration", "association_rejected", "query",
        "instances_transferred", "instances_accessed", "audit_read", "application_stopped", "recording_stopped",
    }  # fmt: skip
    (received,) = [row for row in rows if row.sentence == f"Received from CT: {len(series)} instances."]
    of_patient = {row.patient for row in rows if row.study_instance_uid == study}
    assert (received.study_instance_uid, of_patient) == (study, {received.patient})
    assert len(received.patient) == 64
    assert [row.message for row in rows] == messages_of(server)
    assert [fault for row in rows for fault in faults(row.message)] == []
    texts = [text_of(row.message) + row.sentence + row.who for row in rows]
    texts += [message.decode(errors="replace") for message in server.messages]
    texts.append((tmp_path / "node.log").read_text())
    assert not [word for word in PATIENT.identifiers for text in texts if word in text]


def sentences(node: LocalNode) -> list[str]:
    return [row["sentence"] for row in node.get("/api/audit")]


def test_a_node_killed_again_and_again_leaves_nothing_out(
    make_node: Callable[..., LocalNode], receiver: tuple[SyslogServer, dict[str, object]], series: list[Path]
) -> None:
    server, settings = receiver
    node = make_node(accept_unknown_peers=True, **settings)
    for attempt in range(3):
        kind = dcmread(series[0], stop_before_pixels=True)
        with associate(address(node, f"CT{attempt}"), [build_context(kind.SOPClassUID)]) as assoc:
            for path in series[2 * attempt : 2 * attempt + 2]:
                assert assoc.send_c_store(dcmread(path)).Status == 0
            time.sleep(0.4 * attempt)
            node.kill()
        node.start()
    wait_for(
        lambda: sum("2 instances" in one for one in sentences(node)) == 3, 20, "the associations that were cut off"
    )
    node.stop()
    rows = rows_of(node)
    assert [row.sentence for row in rows if "2 instances" in row.sentence] == [
        f"Received from CT{attempt}: 2 instances." for attempt in range(3)
    ]
    assert [row.kind for row in rows].count("application_started") == 4
    assert [row.kind for row in rows].count("application_stopped") == 1
    arrived = messages_of(server)
    firsts = [arrived.index(row.message) for row in rows]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("driver", ["ossl", "gtls"])
def test_rsyslog_takes_every_message_and_a_foreign_node_is_noticed(
    tmp_path: Path, driver: str, free_port: Callable[[], int]
) -> None:
    program = shutil.which("rsyslogd", path="/usr/sbin")
    if program is None or not list(Path("/usr/lib").rglob(f"rsyslog/lmnsd_{driver}.so")):
        pytest.skip(f"rsyslogd with its driver {driver} is not installed")
    hospital, port, out = Authority(tmp_path, "hospital"), free_port(), tmp_path / "received"
    own, node, foreign = (
        hospital.issue("receiver"),
        hospital.issue("node"),
        Authority(tmp_path, "foreign").issue("node"),
    )
    settings = f"""
global(workDirectory="{tmp_path}" maxMessageSize="64k" DefaultNetstreamDriverCAFile="{own.authority}"
       DefaultNetstreamDriverCertFile="{own.certificate}" DefaultNetstreamDriverKeyFile="{own.key}")
module(load="imtcp" StreamDriver.Name="{driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imtcp" port="{port}")
action(type="omfile" file="{out}" template="raw")
"""
    (tmp_path / "rsyslog.conf").write_text(settings)
    words = [program, "-n", "-f", str(tmp_path / "rsyslog.conf"), "-i", str(tmp_path / "pid")]
    with (tmp_path / "errors").open("w") as errors, subprocess.Popen(words, stderr=errors, stdout=errors) as running:
        try:
            messages = [
                syslog_message(f"<AuditMessage number='{number}'>&#246;</AuditMessage>", clock.now(), 0, "node", 1)
                for number in range(200)
            ]
            wait_for(
                lambda: is_delivered(Receiver("127.0.0.1", port, client_context(node)), messages[:1]), 10, "rsyslogd"
            )
            deliver(Receiver("127.0.0.1", port, client_context(node)), messages[1:])
            wait_for(lambda: out.exists() and out.read_bytes().splitlines() == messages, 10, "the messages")
            stranger = TlsFiles(foreign.certificate, foreign.key, own.authority)
            with pytest.raises(PeerUnavailable):
                deliver(Receiver("127.0.0.1", port, client_context(stranger)), messages[:1])
        finally:
            running.terminate()


def is_delivered(receiver: Receiver, messages: list[bytes]) -> bool:
    try:
        deliver(receiver, messages)
    except PeerUnavailable:
        return False
    return True
