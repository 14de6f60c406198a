"""Storage commitment of a running node: Orthanc promises, reports get lost or come late, and the node is killed."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from delivery_results import built, delivery, open_for, put_results, receipts
from delivery_scp import Archive

from dicom_node.db.delivery_tables import AskedCommitment
from dicom_node.db.models import Peer
from dicom_node.db.session import Databases, open_databases, transaction
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, NODE_NAME, Orthanc
from dicom_node.settings import Settings
from tests.conftest import wait_for

pytestmark = pytest.mark.needs_binary


@pytest.fixture
def archive() -> Iterator[Archive]:
    running = Archive()
    yield running
    running.close()


def prepare(node: LocalNode, **columns: object) -> tuple[Databases, Settings, Peer]:
    """Return a node's databases, its settings, and its one peer with a profile."""
    settings = Settings(data_dir=node.data_dir, ae_title=node.ae_title)
    databases = open_databases(settings)
    with transaction(databases.hospital) as session:
        peer = session.query(Peer).one()
        for column, value in {"is_checked": True, "wants_commitment": True, **columns}.items():
            setattr(peer, column, value)
    return databases, settings, peer


def test_orthanc_promises_what_it_was_sent_and_reports_that_got_lost_are_asked_for_again(
    make_node: Callable[..., LocalNode], make_orthanc: Callable[[LocalNode], Orthanc]
) -> None:
    node = make_node(commitment_wait_s=4, delivery_backoff_s=0.5, verify_identity=False)
    orthanc = make_orthanc(node)
    modality = f"{orthanc.url}/modalities/{NODE_NAME}"
    right = {"AET": node.ae_title, "Host": "127.0.0.1", "Port": node.dicom_port}
    httpx.put(modality, json={**right, "Port": 1}).raise_for_status()
    databases, settings, peer = prepare(node)
    uids = put_results(databases, settings, built())
    (number,) = open_for(databases, peer)

    def asked() -> list[str]:
        with transaction(databases.hospital) as session:
            rows = session.query(AskedCommitment).order_by(AskedCommitment.asked_at)
            return [row.state for row in rows]

    wait_for(lambda: asked() == ["EXPIRED", "OPEN"], 60, "a second request")
    assert delivery(databases, number).state == "SENT"
    httpx.put(modality, json=right).raise_for_status()
    wait_for(lambda: delivery(databases, number).state == "CONFIRMED", 60, "the promise")
    rows = receipts(databases, number)
    assert sorted(rows) == sorted(uids)
    assert all(row.committed_at and row.found_at and row.sendings == 1 for row in rows.values())
    assert len(orthanc.client.instances.get_all_ids()) == len(uids)
    databases.dispose()


def test_a_report_that_comes_after_the_node_was_killed_and_started_again_is_taken(
    make_node: Callable[..., LocalNode], archive: Archive
) -> None:
    node = make_node(commitment_wait_s=600, delivery_backoff_s=0.5, verify_identity=False)
    node.post("/api/peers", {"name": "pacs", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": archive.port})
    databases, settings, peer = prepare(node)
    uids = put_results(databases, settings, built())
    (number,) = open_for(databases, peer)
    wait_for(lambda: archive.asked, 60, "a request for commitment")
    node.kill()
    node.start()
    assert delivery(databases, number).state == "SENT"
    assert archive.report(node.dicom_port, called_aet=node.ae_title) == 0x0000
    wait_for(lambda: delivery(databases, number).state == "CONFIRMED", 60, "the end of the delivery")
    assert len(archive.asked) == 1, "it was not asked again"
    assert sorted(archive.sent) == sorted(uids), "nothing was sent twice"
    assert archive.report(node.dicom_port, called_aet=node.ae_title) == 0x0000, "a report may come twice"
    archive.asked.append(("2.25.77", uids))
    assert archive.report(node.dicom_port, called_aet=node.ae_title) == 0x0115, "a transaction we did not begin"
    databases.dispose()


def test_a_node_killed_while_it_sends_sends_the_rest_once_and_every_object_is_there_once(
    make_node: Callable[..., LocalNode], make_orthanc: Callable[[LocalNode], Orthanc]
) -> None:
    node = make_node(delivery_backoff_s=0.5, verify_identity=False)
    orthanc = make_orthanc(node)
    databases, settings, peer = prepare(node, wants_commitment=False)
    uids = put_results(databases, settings, built())
    (number,) = open_for(databases, peer)
    wait_for(lambda: orthanc.client.instances.get_all_ids(), 60, "the first object")
    node.kill()
    node.start()
    wait_for(lambda: delivery(databases, number).state == "CONFIRMED", 60, "the end of the delivery")
    held = [orthanc.client.instances.get_tags(one)["SOPInstanceUID"] for one in orthanc.client.instances.get_all_ids()]
    assert sorted(held) == sorted(uids)
    databases.dispose()
