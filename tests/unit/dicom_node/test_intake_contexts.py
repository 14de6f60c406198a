"""What a PACS may route here: every storage class, every transfer syntax, private ones, and what is refused by rule."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AllStoragePresentationContexts, build_context
from sqlalchemy import select

from dicom_node import clock
from dicom_node.db.models import Instance
from dicom_node.db.session import Databases, transaction
from dicom_node.net.acceptor import Request, acceptance
from dicom_node.net.admission import WITHOUT_STUDY, refusal_of
from dicom_node.net.contexts import ACCEPTED, CLASS_UNKNOWN, STORAGE_CLASSES, SYNTAXES_UNKNOWN, answer_contexts
from dicom_node.net.scp import Listener, Receiver
from dicom_node.settings import Settings
from dicom_node.storage.intake import Intake
from dicom_node.storage.syntaxes import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE, KEPT_SYNTAXES, chosen_syntax
from tests.dicom_dataset import ct_dataset
from tests.dicom_wire import ASSOCIATE_AC, C_ECHO_RQ, CT, P_DATA, Caller, command, fragment, pdu, send_all, store

PRIVATE_CLASS, PRIVATE_SYNTAX = "1.3.46.670589.2.3.1.1", "1.3.46.670589.33.1.4.1"
HTJ2K, ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.1.98"
WORKLIST = "1.2.840.10008.5.1.4.31"


@contextmanager
def receiver(settings: Settings, databases: Databases, **options: Any) -> Iterator[Receiver]:
    intake = Intake(databases.hospital, settings.hospital_dir, 0)
    running = Receiver(
        "OSTEONODE",
        [Listener("127.0.0.1", 0)],
        lambda arrival: intake.keep(arrival, clock.now()),
        spool=intake.spool,
        **options,
    )
    try:
        yield running
    finally:
        running.close()


def kept(databases: Databases) -> list[Instance]:
    with transaction(databases.hospital) as session:
        return list(session.scalars(select(Instance)))


def as_sent(syntax: str) -> tuple[str, bytes]:
    """Return a slice whose dataset is encoded as a transfer syntax demands."""
    uid, dataset = ct_dataset(transfer_syntax_uid=EXPLICIT_LITTLE if syntax in DEFLATED else syntax)
    if syntax not in DEFLATED:
        return uid, dataset
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return uid, packer.compress(dataset) + packer.flush()


def test_an_object_in_every_transfer_syntax_is_kept_as_it_came(
    settings: Settings, databases: Databases, tmp_path: Path
) -> None:
    syntaxes = (*KEPT_SYNTAXES, PRIVATE_SYNTAX)
    sent = {}
    with receiver(settings, databases) as running:
        for syntax in syntaxes:
            uid, dataset = as_sent(syntax)
            contexts = [(CT, (syntax,))]
            assert send_all(running.port, [store(uid, dataset, context_id=1)], contexts=contexts) == [0], syntax
            sent[uid] = (syntax, dataset)
    assert {HTJ2K, ENCAPSULATED_UNCOMPRESSED, *map(str, AllTransferSyntaxes)} - {*syntaxes} == {
        f"1.2.840.10008.1.2.7.{number}" for number in (1, 2, 3)
    }, "all but live video"
    rows = kept(databases)
    assert len(rows) == len(syntaxes)
    for row in rows:
        syntax, dataset = sent[row.sop_instance_uid]
        content = (settings.hospital_dir / row.path).read_bytes()
        assert content.endswith(dataset)
        assert dcmread(settings.hospital_dir / row.path, specific_tags=[]).file_meta.TransferSyntaxUID == syntax


def test_an_object_of_every_storage_class_is_kept_and_more_classes_than_contexts_are_no_hindrance(
    settings: Settings, databases: Databases
) -> None:
    classes = [*STORAGE_CLASSES, PRIVATE_CLASS, "1.2.840.10008.5.1.4.1.1.999.1"]
    wanted = [uid for uid in classes if uid not in WITHOUT_STUDY]
    assert len(classes) > 128
    statuses = {}
    with receiver(settings, databases) as running:
        for start in range(0, len(classes), 100):
            part = classes[start : start + 100]
            images = []
            for number, uid in enumerate(part):
                instance, dataset = ct_dataset(pixel_bytes=16, SOPClassUID=uid)
                images.append(store(instance, dataset, context_id=2 * number + 1, sop_class=uid))
            contexts = [(uid, (EXPLICIT_LITTLE,)) for uid in part]
            statuses |= dict(zip(part, send_all(running.port, images, contexts=contexts), strict=True))
    assert {uid for uid, status in statuses.items() if status == 0} == set(wanted)
    assert {statuses[uid] for uid in WITHOUT_STUDY} == {0x0122}
    assert {row.sop_class_uid for row in kept(databases)} == set(wanted)


def test_every_class_pynetdicom_knows_is_among_them() -> None:
    assert {str(context.abstract_syntax) for context in AllStoragePresentationContexts} <= set(STORAGE_CLASSES)


@pytest.mark.parametrize(
    ("sop_class", "instance", "refused", "status"),
    [
        (CT, "1.2.3", (), None),
        (PRIVATE_CLASS, "1.2.3", (), None),
        (PRIVATE_CLASS, "1.2.3", ("private",), 0x0122),
        (CT, "1.2.3", ("private",), None),
        (CT, "1.2.3", (CT,), 0x0122),
        (CT, "", (), 0x0117),
        (WORKLIST, "1.2.3", (), 0x0122),
        ("", "1.2.3", (), 0x0122),
    ],
)
def test_what_is_not_wanted_is_refused_by_rule(
    sop_class: str, instance: str, refused: tuple[str, ...], status: int | None
) -> None:
    assert refusal_of(sop_class, instance, refused) == status


def test_a_refused_class_gets_its_status_and_the_association_goes_on(settings: Settings, databases: Databases) -> None:
    unwanted, wanted = ct_dataset(SOPClassUID=PRIVATE_CLASS), ct_dataset()
    contexts = [(PRIVATE_CLASS, (EXPLICIT_LITTLE,)), (CT, (EXPLICIT_LITTLE,))]
    with receiver(settings, databases, refused=["private"]) as running:
        images = [store(*unwanted, context_id=1, sop_class=PRIVATE_CLASS), store(*wanted, context_id=3)]
        assert send_all(running.port, images, contexts=contexts) == [0x0122, 0]
    assert [row.sop_instance_uid for row in kept(databases)] == [wanted[0]]
    assert not list((settings.hospital_dir / "incoming").iterdir())


def test_a_request_for_no_service_of_the_node_is_answered_and_the_association_goes_on(
    settings: Settings, databases: Databases
) -> None:
    with receiver(settings, databases) as running, Caller(running.port) as caller:
        assert caller.associate() == ASSOCIATE_AC
        caller.send(pdu(P_DATA, fragment(3, command(0x0020, CT, has_dataset=True), is_command=True)))
        caller.send(pdu(P_DATA, fragment(3, bytes(100))))
        assert caller.status() == 0x0211
        caller.send(pdu(P_DATA, fragment(3, command(C_ECHO_RQ, CT), is_command=True)))
        assert caller.status() == 0


def test_contexts_are_answered_one_by_one() -> None:
    proposed = [
        build_context(WORKLIST, [EXPLICIT_LITTLE]),
        build_context(CT, ["1.2.840.10008.1.2.7.1"]),
        build_context(CT, [IMPLICIT_LITTLE, EXPLICIT_LITTLE]),
        build_context("1.2.840.10008.1.20.1", [EXPLICIT_LITTLE]),
    ]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    results = [(one.context_id, one.result) for one in answer_contexts(proposed)]
    assert results == [(1, CLASS_UNKNOWN), (3, SYNTAXES_UNKNOWN), (5, ACCEPTED), (7, CLASS_UNKNOWN)]
    assert answer_contexts(proposed, with_commitment=True)[3].result == ACCEPTED
    assert answer_contexts(proposed)[2].transfer_syntax[0] == EXPLICIT_LITTLE
    assert acceptance(Request("A", "B", tuple(proposed), {}), answer_contexts(proposed), frozenset())[0] == 2


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([HTJ2K, EXPLICIT_LITTLE], HTJ2K),
        ([IMPLICIT_LITTLE, EXPLICIT_LITTLE], EXPLICIT_LITTLE),
        ([IMPLICIT_LITTLE, HTJ2K], IMPLICIT_LITTLE),
        ([PRIVATE_SYNTAX, EXPLICIT_LITTLE], EXPLICIT_LITTLE),
        ([PRIVATE_SYNTAX], PRIVATE_SYNTAX),
        (["1.2.840.10008.1.2.8.1"], "1.2.840.10008.1.2.8.1"),
        (["1.2.840.10008.1.2.6.2"], None),
        (["no uid"], None),
        ([], None),
    ],
)
def test_the_syntax_is_the_peers_first_that_is_known_but_rather_explicit(
    proposed: list[str], chosen: str | None
) -> None:
    assert chosen_syntax(proposed) == chosen
