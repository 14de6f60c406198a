"""A node's delivery of two objects to an archive, for tests of what becomes of it."""

from collections.abc import Callable
from datetime import timedelta

from delivery_scp import Archive

from dicom_node import clock
from dicom_node.db.deliveries import open_deliveries, replace_results
from dicom_node.db.delivery_tables import AskedCommitment
from dicom_node.db.models import Delivery, Peer, Receipt, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.net.commitment import CommitmentReport
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.delivery_proof import take_report
from dicom_node.settings import Settings
from dicom_node.storage.files import write_durably
from dicom_node.storage.intake import Arrival
from dicom_node.storage.part10 import file_head

JOB = "e" * 32


class Desk:
    """A node's delivery of two objects to the archive, and what a test looks at."""

    def __init__(self, databases: Databases, settings: Settings, uids: list[str], peer: Peer) -> None:
        self.databases, self.settings, self.uids, self.peer = databases, settings, uids, peer
        with transaction(databases.hospital) as session:
            (self.id,) = open_deliveries(session, JOB, 1, [peer], clock.now())

    def try_now(self) -> str:
        """Make the next try, whenever it is due."""
        return Outbox(self.databases, self.settings).deliver(self.id, self.row.number)

    @property
    def row(self) -> Delivery:
        with transaction(self.databases.hospital) as session:
            return session.get_one(Delivery, self.id)

    @property
    def receipts(self) -> dict[str, Receipt]:
        with transaction(self.databases.hospital) as session:
            return {row.sop_instance_uid: row for row in session.query(Receipt).filter_by(delivery_id=self.id)}

    @property
    def asked(self) -> list[AskedCommitment]:
        with transaction(self.databases.hospital) as session:
            return session.query(AskedCommitment).order_by(AskedCommitment.asked_at).all()

    def order(self, function: Callable[..., Delivery], *arguments: object) -> Delivery:
        with transaction(self.databases.hospital) as session:
            return function(session, self.id, *arguments, clock.now())

    def expire(self) -> None:
        """Let the time of every open request pass."""
        with transaction(self.databases.hospital) as session:
            session.query(AskedCommitment).update({"due_at": clock.now() - timedelta(seconds=1)})

    def take(self, committed: list[str], failed: dict[str, int] | None = None, number: int = -1) -> int:
        report = CommitmentReport(
            "PACS", self.asked[number].transaction_uid, frozenset(committed), tuple((failed or {}).items())
        )
        return take_report(self.databases, report, clock.now())


def desks(databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> Callable[..., Desk]:
    """Return a factory of desks."""

    def make(archive: Archive, **columns: object) -> Desk:
        rows = []
        for number in range(2):
            one = make_arrival()
            path = f"results/{JOB}/1/{number}-seg.dcm"
            head = file_head(one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid)
            write_durably(settings.hospital_dir / path, [head, one.dataset])
            rows.append(
                Result(
                    sop_instance_uid=one.sop_instance_uid, sop_class_uid=one.sop_class_uid, job_id=JOB, attempt=1,
                    kind="seg", path=path,
                )
            )  # fmt: skip
        peer = Peer(
            name="PACS", ae_title="PACS", host="127.0.0.1", port=archive.port, may_send=False, receives_results=True,
            **columns,
        )  # fmt: skip
        uids = [row.sop_instance_uid for row in rows]
        with transaction(databases.hospital) as session:
            session.add(peer)
            replace_results(session, JOB, 1, rows)
        changes = {"ae_title": "NODE", "verify_identity": False, "delivery_backoff_s": 60.0}
        return Desk(databases, settings.model_copy(update=changes), uids, peer)

    return make
