"""Several receiving processes behind one port: one set of limits, nothing lost, and another for each that dies."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgresql_server import PostgresqlServer
from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import free_port
from dicom_node.errors import ConfigurationError
from dicom_node.net.scu import Address, associate
from dicom_node.settings import Settings
from tests.conftest import wait_for
from tests.dicom_dataset import ct_dataset
from tests.dicom_wire import ASSOCIATE_AC, ASSOCIATE_RJ, CT, Caller, store

PROCESSES = 3


@pytest.fixture
def node(make_node: Callable[..., LocalNode]) -> LocalNode:
    return make_node(receiving_processes=PROCESSES, quiet_s=3600, accept_unknown_peers=True, max_associations=8)


def receivers(node: LocalNode) -> list[int]:
    """Return the ids of the receiving processes."""
    found = []
    for task in Path(f"/proc/{node.process_id}/task").glob("*/children"):
        children = [int(child) for child in task.read_text().split()]
        found += [one for one in children if b"dicom_node.receiving" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return sorted(found)


def send_many(node: LocalNode, associations: int, images: int) -> dict[str, int]:
    """Send images over several associations at once; return each one's status, where it got one."""
    statuses: dict[str, int] = {}

    def send() -> None:
        slices = [ct_dataset(pixel_bytes=20_000) for _ in range(images)]
        with Caller(node.dicom_port) as caller:
            if caller.associate() != ASSOCIATE_AC:
                return
            try:
                for uid, dataset in slices:
                    caller.send(store(uid, dataset))
                    statuses[uid] = caller.status()
                caller.release()
            except OSError:
                return  # its process was killed

    threads = [threading.Thread(target=send) for _ in range(associations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return statuses


def kept(node: LocalNode) -> list[tuple[str, str]]:
    with sa.create_engine(f"sqlite:///{node.data_dir / 'hospital' / 'node.db'}").connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT sop_instance_uid, path FROM instances"))]


def test_every_process_receives_and_every_image_acknowledged_is_kept_once(node: LocalNode) -> None:
    assert len(receivers(node)) == PROCESSES
    statuses = send_many(node, associations=6, images=15)
    assert list(statuses.values()) == [0] * 90
    rows = kept(node)
    assert {uid for uid, _ in rows} == set(statuses)
    assert len(rows) == 90
    assert all((node.data_dir / "hospital" / path).exists() for _, path in rows)
    folders = Counter(path.split("/")[1] for _, path in rows)
    assert len(folders) >= 2, "each process has its own folder, and more than one has received"
    assert node.get("/health")["instance_count"] == 90
    assert sum(row["accepted"] for row in node.get("/api/associations")) == 90


def is_let_in(port: int) -> bool:
    """Ask for an association and end it."""
    with Caller(port) as caller:
        return caller.associate() == ASSOCIATE_AC


def test_the_limits_hold_across_processes(node: LocalNode) -> None:
    with ExitStack() as stack:
        answers = [stack.enter_context(Caller(node.dicom_port)).associate() for _ in range(12)]
        assert answers == [ASSOCIATE_AC] * 8 + [ASSOCIATE_RJ] * 4
    wait_for(lambda: is_let_in(node.dicom_port), 10, "a seat")


def test_the_limit_of_a_peer_holds_across_processes(make_node: Callable[..., LocalNode]) -> None:
    node = make_node(receiving_processes=PROCESSES, quiet_s=3600)
    peer = {"name": "ct", "ae_title": "CT1", "host": "127.0.0.1", "port": 1, "max_associations": 2}
    node.post("/api/peers", peer)
    with ExitStack() as stack:
        answers = [stack.enter_context(Caller(node.dicom_port)).associate(calling="CT1") for _ in range(5)]
    assert answers == [ASSOCIATE_AC] * 2 + [ASSOCIATE_RJ] * 3


def test_a_process_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(node: LocalNode) -> None:
    before = receivers(node)
    with ExitStack() as stack:
        callers = [stack.enter_context(Caller(node.dicom_port)) for _ in range(7)]
        uid, dataset = ct_dataset(pixel_bytes=100_000)
        for caller in callers:
            assert caller.associate() == ASSOCIATE_AC
            caller.send(store(uid, dataset)[:50_000])
        sending: list[dict[str, int]] = []
        thread = threading.Thread(target=lambda: sending.append(send_many(node, 1, 40)))
        thread.start()
        for process_id in before[:2]:
            os.kill(process_id, signal.SIGKILL)
        thread.join(60)
    wait_for(lambda: len(set(receivers(node)) - set(before)) == 2, 60, "two new processes")
    wait_for(lambda: len(send_many(node, 6, 3)) == 18, 60, "seats of the dead ones")
    acknowledged = {uid for uid, status in sending[0].items() if status == 0}
    assert acknowledged <= {uid for uid, _ in kept(node)}
    wait_for(lambda: not list((node.data_dir / "hospital" / "incoming").iterdir()), 30, "the sweep")


def test_a_stop_ends_every_process_and_a_kill_of_the_node_too(node: LocalNode) -> None:
    for end in (node.stop, node.kill):
        children = receivers(node)
        assert len(children) == PROCESSES
        end()
        wait_for(lambda pids=children: not [pid for pid in pids if Path(f"/proc/{pid}/stat").exists()], 20, "their end")
        node.start()
        assert set(send_many(node, 2, 2).values()) == {0}


def request_for(uids: list[str], transaction_uid: str) -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        request.ReferencedSOPSequence.append(item)
    return request


def test_a_request_for_commitment_is_taken_by_whichever_process_gets_it(node: LocalNode) -> None:
    statuses = send_many(node, 2, 2)
    for number in range(6):
        address = Address(node.ae_title, "127.0.0.1", node.dicom_port, "SENDER")
        with associate(address, [build_context(StorageCommitmentPushModel)]) as assoc:
            status, _ = assoc.send_n_action(
                request_for(list(statuses), f"1.2.3.{number + 1}"),
                1,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
        assert status.Status == 0
    assert len(node.get("/api/commitments")) == 6


def test_a_port_that_is_taken_is_said_and_no_process_stays(
    make_node: Callable[..., LocalNode], tmp_path: Path, node: LocalNode
) -> None:
    second = LocalNode(tmp_path / "second", tmp_path / "second.log", receiving_processes=2)
    second._settings["dicom_port"] = node.dicom_port
    with pytest.raises(ConfigurationError):
        second.start()
    assert "cannot listen" in (tmp_path / "second.log").read_text()


@pytest.mark.needs_binary
def test_processes_receive_on_postgresql_too(make_node: Callable[..., LocalNode], postgresql: PostgresqlServer) -> None:
    node = make_node(
        receiving_processes=2,
        quiet_s=3600,
        accept_unknown_peers=True,
        **{
            f"{name}_database_url": postgresql.fresh(f"intake_{name}")
            for name in ("hospital", "identity", "research", "engine")
        },
    )
    statuses = send_many(node, associations=4, images=10)
    assert list(statuses.values()) == [0] * 40
    assert node.get("/health")["instance_count"] == 40


def test_settings_refuse_no_process_at_all() -> None:
    with pytest.raises(ValueError, match="receiving_processes"):
        Settings(receiving_processes=0, dicom_port=free_port())
