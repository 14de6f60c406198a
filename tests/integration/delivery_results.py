"""Real result objects and their deliveries in a node's databases, without an analysis."""

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from result_factory import make_report, make_source

from dicom_node import clock
from dicom_node.db.deliveries import open_deliveries, replace_results
from dicom_node.db.models import Delivery, Peer, Receipt, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from sr_export.build import build_results

JOB = "d" * 32
KINDS = {"SR": "sr", "SEG": "seg", "DOC": "pdf"}
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def built(previous: Sequence[Dataset] = (), **changes: object) -> list[Dataset]:
    """Build the result objects of one report."""
    return list(build_results(make_source(), make_report(pictures=(), **changes), previous=list(previous)).datasets)


def put_results(
    databases: Databases, settings: Settings, datasets: Sequence[Dataset], attempt: int = 1, job_id: str = JOB
) -> list[str]:
    """Write result objects as a job's attempt does; return their SOP Instance UIDs."""
    rows = []
    for number, dataset in enumerate(datasets):
        kind = KINDS.get(str(dataset.Modality), "page")
        path = f"results/{job_id}/{attempt}/{number}-{kind}.dcm"
        (settings.hospital_dir / path).parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(settings.hospital_dir / path, enforce_file_format=True)
        rows.append(
            Result(
                sop_instance_uid=str(dataset.SOPInstanceUID), sop_class_uid=str(dataset.SOPClassUID), job_id=job_id,
                attempt=attempt, kind=kind, path=path,
            )
        )  # fmt: skip
    uids = [row.sop_instance_uid for row in rows]
    with transaction(databases.hospital) as session:
        replace_results(session, job_id, attempt, rows)
    return uids


def put_peer(databases: Databases, name: str, **columns: object) -> Peer:
    """Add a peer that gets results."""
    values = {"ae_title": name.upper()[:16], "host": "127.0.0.1", "port": 1, "may_send": False, **columns}
    peer = Peer(name=name, receives_results=True, **values)
    with transaction(databases.hospital) as session:
        session.add(peer)
    return peer


def open_for(databases: Databases, *peers: Peer, attempt: int = 1, job_id: str = JOB) -> list[int]:
    """Open the deliveries of an attempt; return their ids in the order of the peers."""
    with transaction(databases.hospital) as session:
        open_deliveries(session, job_id, attempt, list(peers), clock.now())
        rows = {row.peer_id: row.id for row in session.query(Delivery).filter_by(job_id=job_id)}
    return [rows[peer.id] for peer in peers]


def delivery(databases: Databases, delivery_id: int) -> Delivery:
    """Return a delivery as it is now."""
    with transaction(databases.hospital) as session:
        return session.get_one(Delivery, delivery_id)


def receipts(databases: Databases, delivery_id: int) -> dict[str, Receipt]:
    """Return the receipts of a delivery by SOP Instance UID."""
    with transaction(databases.hospital) as session:
        rows = session.query(Receipt).filter_by(delivery_id=delivery_id).all()
    return {row.sop_instance_uid: row for row in rows}


def uids_of(paths: Sequence[Path]) -> list[str]:
    """Return the SOP Instance UIDs of files."""
    return sorted(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths)
