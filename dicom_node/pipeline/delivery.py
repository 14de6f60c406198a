"""Step 4: result objects to a peer, each with its receipt."""

from dataclasses import dataclass
from datetime import datetime

from dicom_node import clock
from dicom_node.db.deliveries import unreceipted
from dicom_node.db.models import Delivery, Peer, Receipt
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, DeliveryRefused, PeerUnavailable
from dicom_node.jobs.engine import Attempt
from dicom_node.logs import log
from dicom_node.net.scu import send_files
from dicom_node.pipeline.addresses import address_of
from dicom_node.pipeline.reidentification import refuse_changed_identity
from dicom_node.settings import Settings

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
            pending = {
                self.settings.hospital_dir / row.path: row.sop_instance_uid for row in unreceipted(session, delivery)
            }
        try:
            if peer.is_removed:
                raise DeliveryRefused("The peer was removed.")
            if pending:
                address = address_of(peer, self.settings)
                if self.settings.verify_identity:
                    refuse_changed_identity(address, list(pending), must_know_study=peer.may_send)
                send_files(
                    address,
                    list(pending),
                    lambda path, status: self._receipt(delivery_id, pending[path], status),
                )
        except (PeerUnavailable, ConfigurationError) as error:
            return self._set(delivery_id, "PENDING", str(error), "again")
        except DeliveryRefused as error:
            return self._set(delivery_id, "FAILED", str(error), "failed")
        return self._set(delivery_id, "SENT", "", "sent")

    def give_up(self, delivery_id: int, attempt: int) -> None:
        """Mark a delivery as failed after its last try; its sentence keeps the last reason."""
        with transaction(self.databases.hospital) as session:
            delivery = session.get_one(Delivery, delivery_id)
            if delivery.attempt == attempt and delivery.state == "PENDING":
                delivery.state, delivery.updated_at = "FAILED", clock.now()
        LOG.error("delivery_given_up", delivery_id=delivery_id)

    def _receipt(self, delivery_id: int, sop_instance_uid: str, status: int) -> None:
        received_at: datetime = clock.now()
        with transaction(self.databases.hospital) as session:
            session.merge(
                Receipt(
                    delivery_id=delivery_id,
                    sop_instance_uid=sop_instance_uid,
                    status=status,
                    received_at=received_at,
                )
            )

    def _set(self, delivery_id: int, state: str, sentence: str, outcome: Attempt) -> Attempt:
        with transaction(self.databases.hospital) as session:
            delivery = session.get_one(Delivery, delivery_id)
            delivery.state, delivery.sentence, delivery.updated_at = state, sentence[:500], clock.now()
        LOG.info("delivery_attempted", delivery_id=delivery_id, outcome=outcome)
        return outcome
