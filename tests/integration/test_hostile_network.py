"""Callers that break the protocol, say nothing, or never end: the node stays as it was, and honest peers are served."""

import random
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.demo.local_node import LocalNode
from tests.conftest import wait_for
from tests.dicom_dataset import ct_dataset
from tests.dicom_wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    C_STORE_RQ,
    CT,
    P_DATA,
    RELEASE_RP,
    Caller,
    associate_rq,
    command,
    echo,
    fragment,
    pdu,
    send_all,
    store,
)

REQUEST_S, IDLE_S = 3.0, 4.0
MAX_ASSOCIATIONS, MAX_CONNECTIONS = 10, 30
MESSAGE_LIMIT = 40_000_000
GROWTH_MIB = 24.0
"""[m assumption] What allocator and thread stacks may add for good; one image held per caller would be far more."""
OWN_THREADS, OWN_DESCRIPTORS = 4, 10
"""[m assumption] By how much the node's own differ from one moment to another (queues, database, web)."""


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    memory_mib: float
    threads: int
    descriptors: int


def footprint(process_id: int) -> Footprint:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process_id}/status").read_text().splitlines())
    return Footprint(
        memory_mib=int(status["VmRSS"].split()[0]) / 1024,
        threads=int(status["Threads"]),
        descriptors=len(list(Path(f"/proc/{process_id}/fd").iterdir())),
    )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    folder = tmp_path_factory.mktemp("hostile")
    running = LocalNode(
        folder / "node",
        folder / "node.log",
        accept_unknown_peers=True,
        quiet_s=3600,
        request_timeout_s=REQUEST_S,
        idle_timeout_s=IDLE_S,
        max_associations=MAX_ASSOCIATIONS,
        max_connections=MAX_CONNECTIONS,
        message_limit_bytes=MESSAGE_LIMIT,
        slowest_bytes_per_s=1000,
    ).start()
    serves_honest_peers(running)  # whatever is loaded at the first image is not a leak
    running.get("/health")
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def unharmed(node: LocalNode) -> Iterator[None]:
    """Check after every test that nothing is left of it."""
    before = footprint(node.process_id)
    yield
    serves_honest_peers(node)
    wait_for(
        lambda: (
            (now := footprint(node.process_id)).threads <= before.threads + OWN_THREADS
            and now.descriptors <= before.descriptors + OWN_DESCRIPTORS
        ),
        REQUEST_S + IDLE_S + 15,
        "threads and descriptors of connections that ended",
    )
    assert footprint(node.process_id).memory_mib <= before.memory_mib + GROWTH_MIB
    assert not list((node.data_dir / "hospital" / "incoming").iterdir()), "no half-written file stays"
    assert node.get("/health")["status"] == "ok"


def serves_honest_peers(node: LocalNode) -> None:
    uid, dataset = ct_dataset()
    assert send_all(node.dicom_port, [echo(), store(uid, dataset)]) == [0, 0]


def ending_of(caller: Caller) -> int:
    """Return the kind of the last PDU before the connection ended; 0 when there was none."""
    last = 0
    while kind := caller.receive()[0]:
        last = kind
    return last


def test_random_bytes_end_the_connection_and_nothing_else(node: LocalNode) -> None:
    rng = random.Random(1)
    for _ in range(150):
        with Caller(node.dicom_port, timeout_s=2 * REQUEST_S) as caller:
            try:
                caller.send(rng.randbytes(rng.choice((6, 7, 40, 300, 5000))) + b"\xff" * 8)
                assert ending_of(caller) in (0, ABORT)
            except ConnectionError:
                continue


@pytest.mark.parametrize("seed", range(4))
def test_mutated_conversations_never_harm(node: LocalNode, seed: int) -> None:
    rng = random.Random(seed)
    uid, dataset = ct_dataset()
    honest = associate_rq() + store(uid, dataset[:3000]) + echo()
    for _ in range(60):
        spoiled = bytearray(honest)
        for _ in range(rng.randint(1, 6)):
            spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
        if rng.random() < 0.3:
            del spoiled[rng.randrange(len(spoiled)) :]
        with Caller(node.dicom_port, timeout_s=0.2) as caller:
            try:
                caller.send(bytes(spoiled))
                while caller.receive()[0]:
                    pass
            except OSError:
                continue  # it waits for more, or has hung up


def test_a_pdu_cut_off_anywhere_is_only_a_lost_connection(node: LocalNode) -> None:
    uid, dataset = ct_dataset()
    request, image = associate_rq(), store(uid, dataset)
    for cut in (1, 5, 6, 7, 73, 74, 75, len(request) - 1):
        with Caller(node.dicom_port) as caller:
            caller.send(request[:cut])
    for cut in (1, 6, 11, 12, 13, 40, 150, 200, len(image) // 2, len(image) - 1):
        with Caller(node.dicom_port) as caller:
            assert caller.associate() == ASSOCIATE_AC
            caller.send(image[:cut])


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 5, 6, 7, 8, 0x47, 0xFF])
def test_whatever_comes_before_an_association_is_refused(node: LocalNode, kind: int) -> None:
    with Caller(node.dicom_port) as caller:
        caller.send(pdu(kind, bytes(200)))
        assert ending_of(caller) == ABORT


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 6, 8, 0xFF])
def test_a_pdu_out_of_its_place_aborts_the_association(node: LocalNode, kind: int) -> None:
    with Caller(node.dicom_port) as caller:
        assert caller.associate() == ASSOCIATE_AC
        caller.send(pdu(kind, bytes(4)))
        assert ending_of(caller) == ABORT


def test_an_announced_length_of_four_gigabytes_costs_nothing(node: LocalNode) -> None:
    with Caller(node.dicom_port) as caller:
        began = time.monotonic()
        caller.send(pdu(ASSOCIATE_RQ, bytes(100), length=0xFFFFFFFF))
        assert ending_of(caller) == ABORT
        assert time.monotonic() - began < REQUEST_S / 2, "it is not waited for"
    with ExitStack() as stack:
        callers = [stack.enter_context(Caller(node.dicom_port)) for _ in range(5)]
        for caller in callers:
            assert caller.associate() == ASSOCIATE_AC
            said = command(C_STORE_RQ, CT, "1.2.3", has_dataset=True)
            caller.send(pdu(P_DATA, fragment(3, said, is_command=True)))
            caller.send(struct.pack(">BxLLBB", P_DATA, 0xFFFFFFFF, 0xFFFFFFFF - 4, 3, 2) + bytes(1000))


@pytest.mark.parametrize(
    "spoiled",
    [
        pdu(P_DATA, struct.pack(">LBB", 0, 3, 3)),
        pdu(P_DATA, struct.pack(">LBB", 1, 3, 3)),
        pdu(P_DATA, struct.pack(">LBB", 0xFFFFFFFF, 3, 3)),
        pdu(P_DATA, struct.pack(">LBB", 300, 3, 3)),
        pdu(P_DATA, b"\x00\x00\x00"),
        pdu(P_DATA, fragment(99, b"", is_command=True)),
        pdu(P_DATA, fragment(3, b"dataset without command")),
        pdu(P_DATA, fragment(3, b"no command set", is_command=True)),
        pdu(P_DATA, fragment(3, b"", is_command=True)),
        pdu(P_DATA, fragment(3, bytes(60_000), is_command=True, is_last=False)),
        pdu(P_DATA, fragment(3, command(C_STORE_RQ, CT, "1.2", has_dataset=True), is_command=True)) + echo(),
        pdu(P_DATA, fragment(3, command(C_STORE_RQ, CT, "1.2", has_dataset=True), is_command=True))
        + pdu(P_DATA, fragment(1, b"other context")),
    ],
)
def test_fragments_that_break_the_rules_abort_the_association(node: LocalNode, spoiled: bytes) -> None:
    with Caller(node.dicom_port) as caller:
        assert caller.associate() == ASSOCIATE_AC
        caller.send(spoiled)
        assert ending_of(caller) == ABORT


@pytest.mark.parametrize("piece", [bytes(100_000), b""])
def test_an_image_that_never_ends_is_cut_off_and_leaves_no_file(node: LocalNode, piece: bytes) -> None:
    said = command(C_STORE_RQ, CT, "1.2.3", has_dataset=True)
    endless = pdu(P_DATA, fragment(3, piece, is_last=False)) * (1 if piece else 10_000)
    sent = 0
    with Caller(node.dicom_port) as caller:
        assert caller.associate() == ASSOCIATE_AC
        caller.send(pdu(P_DATA, fragment(3, said, is_command=True)))
        try:
            while sent < 4 * MESSAGE_LIMIT:
                caller.send(endless)
                sent += len(endless)
        except ConnectionError:
            pass
    assert sent < 2 * MESSAGE_LIMIT


def test_a_sender_that_vanishes_in_an_image_leaves_no_file(node: LocalNode) -> None:
    before = node.get("/health")["instance_count"]
    uid, dataset = ct_dataset()
    for _ in range(20):
        with Caller(node.dicom_port) as caller:
            assert caller.associate() == ASSOCIATE_AC
            caller.send(store(uid, dataset)[: len(dataset) // 2])
    assert node.get("/health")["instance_count"] == before


def drip(caller: Caller, content: bytes, stop: threading.Event) -> None:
    """Send a byte every third of a second, as long as somebody takes it."""
    try:
        for number in range(len(content)):
            caller.send(content[number : number + 1])
            if stop.wait(0.33):
                return
    except OSError:
        return


def test_slow_callers_are_closed_and_keep_nobody_out(node: LocalNode) -> None:
    uid, dataset = ct_dataset()
    stop = threading.Event()
    with ExitStack() as stack:
        stack.callback(stop.set)
        silent = [stack.enter_context(Caller(node.dicom_port)) for _ in range(12)]
        asking = [stack.enter_context(Caller(node.dicom_port)) for _ in range(6)]
        sending = [stack.enter_context(Caller(node.dicom_port)) for _ in range(MAX_ASSOCIATIONS - 2)]
        for caller in sending:
            assert caller.associate() == ASSOCIATE_AC
        image = store(uid, dataset)
        for caller, content in [*((one, associate_rq()) for one in asking), *((one, image) for one in sending)]:
            threading.Thread(target=drip, args=(caller, content, stop), daemon=True).start()
        began = time.monotonic()
        while time.monotonic() - began < REQUEST_S + IDLE_S + 1:
            serves_honest_peers(node)
            time.sleep(0.3)
        for caller in (*silent, *asking, *sending):
            caller.socket.settimeout(5)
            assert ending_of(caller) in (0, ABORT)


def test_a_silent_association_is_aborted(node: LocalNode) -> None:
    with Caller(node.dicom_port, timeout_s=3 * IDLE_S) as caller:
        assert caller.associate() == ASSOCIATE_AC
        assert ending_of(caller) == ABORT


def test_a_hundred_connections_that_say_nothing_keep_nobody_out(node: LocalNode) -> None:
    with ExitStack() as stack:
        before = footprint(node.process_id).threads
        for _ in range(100):
            stack.enter_context(Caller(node.dicom_port))
        serves_honest_peers(node)
        assert footprint(node.process_id).threads <= before + MAX_CONNECTIONS + 2


def test_of_a_hundred_associations_at_once_the_surplus_is_rejected_as_congestion(node: LocalNode) -> None:
    answers: list[int] = []
    gate = threading.Barrier(100)

    def call() -> None:
        with Caller(node.dicom_port) as caller:
            gate.wait(30)
            answers.append(caller.associate())
            gate.wait(30)
            if answers[-1] == ASSOCIATE_AC:
                caller.release()

    threads = [threading.Thread(target=call) for _ in range(100)]
    with ExitStack() as stack:
        stack.callback(lambda: [thread.join(60) for thread in threads])
        for thread in threads:
            thread.start()
    accepted, rejected = answers.count(ASSOCIATE_AC), answers.count(ASSOCIATE_RJ)
    assert 1 <= accepted <= MAX_ASSOCIATIONS
    assert rejected >= MAX_CONNECTIONS - MAX_ASSOCIATIONS, "who is turned away is told so"


def test_health_checks_without_an_association_cost_nothing_and_fill_no_log(node: LocalNode) -> None:
    log = node.data_dir.parent / "node.log"
    before = len(log.read_text().splitlines())
    for _ in range(300):
        Caller(node.dicom_port).close()
    serves_honest_peers(node)
    assert len(log.read_text().splitlines()) - before < 5


def test_a_released_association_ends_as_it_should(node: LocalNode) -> None:
    with Caller(node.dicom_port) as caller:
        assert caller.associate() == ASSOCIATE_AC
        assert caller.release() == RELEASE_RP
        assert caller.receive() == (0, b"")
