"""Step 4: result objects to a peer by its profile, each with its receipt.

A peer that takes the report in no class it is offered, or refuses another object, gets the rest all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from dicom_node import clock
from dicom_node.db.deliveries import receipted_uids, unreceipted
from dicom_node.db.models import Delivery, Peer, Receipt, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, DeliveryRefused, PeerUnavailable
from dicom_node.jobs.engine import Attempt
from dicom_node.logs import log
from dicom_node.net.scu import Address, offer_files
from dicom_node.pipeline.addresses import address_of
from dicom_node.pipeline.reidentification import refuse_changed_identity
from dicom_node.pipeline.variants import classes_of, has_report, report_as
from dicom_node.settings import Settings
from sr_export.fallback import ReportClass

LOG = log(__name__)


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where results lie and as whom the node sends them."""

    databases: Databases
    settings: Settings

    def deliver(self, delivery_id: int, attempt: int) -> Attempt:
        """Make one try to send what the peer has not accepted yet of an attempt's results."""
        with transaction(self.databases.hospital) as session:
            delivery = session.get_one(Delivery, delivery_id)
            if delivery.attempt != attempt:
                return "failed"
            delivery.attempts += 1
            peer = session.get_one(Peer, delivery.peer_id)
            pending = unreceipted(session, delivery, peer)
            receipted = receipted_uids(session, delivery_id)
        try:
            if peer.is_removed:
                raise DeliveryRefused("The peer was removed.")
            classes = classes_of(peer)
            pending = [
                row
                for row in pending
                if row.kind != "sr" or not has_report(self.settings.hospital_dir, row, classes, receipted)
            ]
            if pending:
                self._send(peer, pending, delivery_id)
        except (PeerUnavailable, ConfigurationError) as error:
            return self._set(delivery_id, "PENDING", str(error), "again")
        except DeliveryRefused as error:
            return self._set(delivery_id, "FAILED", str(error), "failed")
        return self._set(delivery_id, "SENT", "", "sent")

    def _send(self, peer: Peer, pending: list[Result], delivery_id: int) -> None:
        """Offer everything over one association, then the reports it took in no class in the next it accepts.

        Raises
        ------
        DeliveryRefused
            When something was refused for good; everything else was sent.
        """
        address = address_of(peer, self.settings)
        if self.settings.verify_identity:
            refuse_changed_identity(address, [self._file(row) for row in pending], must_know_study=peer.may_send)
        classes, sentences = classes_of(peer), []
        offered: dict[Path, Result] = {}
        for row in pending:
            try:
                offered[self._file(self._as(row, classes[0]) if row.kind == "sr" else row)] = row
            except DeliveryRefused as error:
                sentences.append(str(error))
        if not offered:
            raise DeliveryRefused(" ".join(dict.fromkeys(sentences)))
        ask_for = [str(one.sop_class_uid) for one in classes[1:]] if any(row.kind == "sr" for row in pending) else []
        offer = offer_files(address, list(offered), self._receipts(delivery_id), ask_for)
        for refusal in offer.refusals:
            row = offered[refusal.path]
            if row.kind == "sr" and refusal.is_of_class:
                further = [one for one in classes[1:] if one.sop_class_uid in offer.accepted_classes]
                sentences += self._fall_back(peer, address, row, further, delivery_id)
            else:
                sentences.append(refusal.sentence)
        if sentences:
            raise DeliveryRefused(" ".join(dict.fromkeys(sentences)))

    def _fall_back(
        self, peer: Peer, address: Address, report: Result, classes: list[ReportClass], delivery_id: int
    ) -> list[str]:
        """Send a report in the first of these classes that is taken; return why it was not sent, nothing if it was."""
        for one in classes:
            try:
                path = self._file(self._as(report, one))
            except DeliveryRefused as error:
                return [str(error)]
            refusals = offer_files(address, [path], self._receipts(delivery_id)).refusals
            if not refusals:
                LOG.info("report_fell_back", delivery_id=delivery_id, report_class=one.key)
                return []
            if not refusals[0].is_of_class:
                return [refusals[0].sentence]
        names = ", ".join(one.name for one in classes_of(peer))
        sentence = (
            f"{peer.ae_title} takes the report in no class it may get ({names}). "
            f"Set another class, or leave the report out: osteonode peer set {peer.name} --sr-class or --objects."
        )
        return [sentence]

    def _as(self, report: Result, report_class: ReportClass) -> Result:
        return report_as(self.databases, self.settings.hospital_dir, report, report_class)

    def _file(self, row: Result) -> Path:
        return self.settings.hospital_dir / row.path

    def give_up(self, delivery_id: int, attempt: int) -> None:
        """Mark a delivery as failed after its last try; its sentence keeps the last reason."""
        with transaction(self.databases.hospital) as session:
            delivery = session.get_one(Delivery, delivery_id)
            if delivery.attempt == attempt and delivery.state == "PENDING":
                delivery.state, delivery.updated_at = "FAILED", clock.now()
        LOG.error("delivery_given_up", delivery_id=delivery_id)

    def _receipts(self, delivery_id: int) -> Callable[[Path, int], None]:
        """Return what writes the receipt of an accepted file."""

        def write(path: Path, status: int) -> None:
            uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
            with transaction(self.databases.hospital) as session:
                session.merge(
                    Receipt(
                        delivery_id=delivery_id, sop_instance_uid=uid, status=status, received_at=clock.now()
                    )
                )  # fmt: skip

        return write

    def _set(self, delivery_id: int, state: str, sentence: str, outcome: Attempt) -> Attempt:
        with transaction(self.databases.hospital) as session:
            delivery = session.get_one(Delivery, delivery_id)
            delivery.state, delivery.sentence, delivery.updated_at = state, sentence[:500], clock.now()
        LOG.info("delivery_attempted", delivery_id=delivery_id, outcome=outcome)
        return outcome
