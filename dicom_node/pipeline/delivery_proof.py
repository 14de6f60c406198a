"""After an object was accepted: storage commitment, and the question whether the peer holds it.

Everything is rows. A request for commitment is one before it is sent; its report is written down whenever and on
whatever association it comes, also after a restart and after the request was given up as lost. What a peer does not
commit itself to, or does not list, is sent again; `MAX_SENDINGS` times in all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node import clock
from dicom_node.db.deliveries import asked_commitments, held_delivery, receipts_of, wake
from dicom_node.db.delivery_tables import AskedCommitment
from dicom_node.db.models import Delivery, Receipt, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import DeliveryRefused, PeerUnavailable
from dicom_node.logs import log
from dicom_node.net.commitment import INVALID_ARGUMENT, PROCESSING_FAILURE, CommitmentReport
from dicom_node.net.outcomes import commitment_in_words
from dicom_node.net.presence import InstanceKey
from dicom_node.pipeline.delivery_peers import Destination
from dicom_node.settings import Settings

LOG = log(__name__)
SAME_ASSOCIATION_S = 1.0
"""An association on which commitment was asked stays open so long for a report that comes at once."""
MAX_ASKS = 8
"""Requests without a report before a delivery fails; with pauses that double from ten minutes, a day and a half."""
LONGEST_WAIT = timedelta(hours=12)
MAX_SENDINGS = 3
CHECKS = 5
"""An archive may list an object some time after it took it; what it does not list at the fifth look is sent again."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before a time, or a report."""

    until: datetime
    sentence: str


@dataclass(frozen=True, slots=True)
class Proof:
    """Proves the deliveries of one node."""

    databases: Databases
    settings: Settings

    def commit(self, delivery_id: int, destination: Destination) -> Wait | None:
        """Bring the storage commitment of a delivery as far as it goes now; None when every object is committed.

        Raises
        ------
        PeerUnavailable
            When the peer cannot be asked now, or has to get something again.
        DeliveryRefused
            When it offers no storage commitment, does not report, or does not commit itself.
        """
        if destination.commit is None:
            raise DeliveryRefused(f"{destination.name} is no DIMSE peer and has no storage commitment. Switch it off.")
        now = clock.now()
        with transaction(self.databases.hospital) as session:
            delivery = session.get_one(Delivery, delivery_id)
            rows = receipts_of(session, delivery)
            asked = asked_commitments(session, delivery_id)
            for one in asked:
                if one.state == "OPEN" and one.due_at <= now:
                    one.state = "EXPIRED"
            waiting = [one for one in asked if one.state == "OPEN"]
        refused = [(result, receipt) for result, receipt in rows if receipt.commitment_status is not None]
        if refused:
            reason = commitment_in_words(refused[0][1].commitment_status or 0)
            sentence = f"{destination.name} does not commit itself to {len(refused)} of {len(rows)} objects ({reason})"
            self._send_again(delivery_id, refused, sentence)
        missing = [(result, receipt) for result, receipt in rows if receipt.committed_at is None]
        if not missing:
            return None
        if waiting:
            return Wait(waiting[0].due_at, _waits(len(missing), destination))
        sent_at = max(receipt.received_at for _, receipt in missing)
        lost = sum(one.state == "EXPIRED" and one.asked_at >= sent_at for one in asked)
        if lost >= MAX_ASKS:
            raise DeliveryRefused(
                f"{destination.name} took {lost} requests for storage commitment and reported on none. "
                "Check that it knows this node's AE title, host and port."
            )
        return self._ask(delivery_id, destination, [result for result, _ in missing], lost, max(now, sent_at))

    def _ask(
        self, delivery_id: int, destination: Destination, results: Sequence[Result], lost: int, now: datetime
    ) -> Wait:
        """Ask at ``now``: never before the last object was sent, though the clock was set back."""
        due = now + min(timedelta(seconds=self.settings.commitment_wait_s) * 2**lost, LONGEST_WAIT)
        asked = AskedCommitment(
            transaction_uid=str(generate_uid(prefix=None)), delivery_id=delivery_id, state="OPEN", asked_at=now,
            instance_uids=json.dumps([row.sop_instance_uid for row in results]), due_at=due,
        )  # fmt: skip
        with transaction(self.databases.hospital) as session:
            session.add(asked)
        references = [(row.sop_class_uid, row.sop_instance_uid) for row in results]
        assert destination.commit is not None
        try:
            destination.commit(asked.transaction_uid, references, self._take, SAME_ASSOCIATION_S)
        except (PeerUnavailable, DeliveryRefused):
            with transaction(self.databases.hospital) as session:
                session.delete(session.get_one(AskedCommitment, asked.transaction_uid))
            raise
        LOG.info("commitment_asked", delivery_id=delivery_id, instance_count=len(results))
        return Wait(due, _waits(len(results), destination))

    def _take(self, report: CommitmentReport) -> int:
        return take_report(self.databases, report, clock.now())

    def check(self, delivery_id: int, destination: Destination) -> None:
        """Ask the peer for every object; return when it holds them all.

        Raises
        ------
        PeerUnavailable
            When it cannot be asked now, does not list something yet, or has to get something again.
        DeliveryRefused
            When it cannot be asked at all, or does not list what it was sent `MAX_SENDINGS` times.
        """
        with transaction(self.databases.hospital) as session:
            delivery = session.get_one(Delivery, delivery_id)
            rows = receipts_of(session, delivery)
        open_rows = [(result, receipt) for result, receipt in rows if receipt.found_at is None]
        held = destination.held([self._key(result) for result, _ in open_rows]) if open_rows else set()
        with transaction(self.databases.hospital) as session:
            for result, _ in open_rows:
                if result.sop_instance_uid in held:
                    session.get_one(Receipt, (delivery_id, result.sop_instance_uid)).found_at = clock.now()
        missing = [row for row in open_rows if row[0].sop_instance_uid not in held]
        if not missing:
            return
        sentence = f"{destination.name} does not list {len(missing)} of {len(rows)} objects that it accepted"
        if delivery.attempts < CHECKS:
            raise PeerUnavailable(f"{sentence}; it is asked again.")
        self._send_again(delivery_id, missing, sentence)

    def _key(self, result: Result) -> InstanceKey:
        tags = ["StudyInstanceUID", "SeriesInstanceUID"]
        header = dcmread(self.settings.hospital_dir / result.path, stop_before_pixels=True, specific_tags=tags)
        return InstanceKey(str(header.StudyInstanceUID), str(header.SeriesInstanceUID), result.sop_instance_uid)

    def _send_again(self, delivery_id: int, rows: Sequence[tuple[Result, Receipt]], sentence: str) -> None:
        """Mark objects to be sent once more.

        Raises
        ------
        PeerUnavailable
            So that the delivery begins again.
        DeliveryRefused
            When they were sent often enough.
        """
        if any(receipt.sendings >= MAX_SENDINGS for _, receipt in rows):
            raise DeliveryRefused(f"{sentence}, though they were sent {MAX_SENDINGS} times.")
        with transaction(self.databases.hospital) as session:
            for result, _ in rows:
                session.get_one(Receipt, (delivery_id, result.sop_instance_uid)).is_lost = True
            delivery = held_delivery(session, delivery_id)
            if delivery is not None and delivery.next_try_at is not None:
                delivery.state = "PENDING"
        raise PeerUnavailable(f"{sentence}; they are sent again.")


def _waits(count: int, destination: Destination) -> str:
    return f"{destination.name} was asked to commit itself to {count} objects; its report is awaited."


def take_report(databases: Databases, report: CommitmentReport, now: datetime) -> int:
    """Write down what a peer says of a transaction, and let its delivery go on.

    Returns
    -------
    int
        0x0000 when it is on record, or was before; 0x0115 for a transaction that this node did not begin.
    """
    with transaction(databases.hospital) as session:
        asked = session.get(AskedCommitment, report.transaction_uid)
        if asked is None:
            LOG.warning("commitment_report_unknown", calling_aet=report.calling_aet)
            return INVALID_ARGUMENT
        failed = dict(report.failed)
        count = 0
        for uid in json.loads(asked.instance_uids):
            receipt = session.get(Receipt, (asked.delivery_id, uid))
            if receipt is None or receipt.is_lost or receipt.received_at > asked.asked_at:
                continue
            if uid in report.committed and uid not in failed:
                receipt.committed_at, receipt.commitment_status = receipt.committed_at or now, None
                count += 1
            elif receipt.committed_at is None:
                receipt.commitment_status = failed.get(uid, PROCESSING_FAILURE)
        is_new = asked.state != "ANSWERED"
        asked.state, asked.answered_at = "ANSWERED", now
        delivery = session.get_one(Delivery, asked.delivery_id)
        if is_new and delivery.state == "SENT" and delivery.next_try_at is not None:
            wake(delivery, now)
    LOG.info("commitment_report_taken", calling_aet=report.calling_aet, committed=count, failed=len(failed))
    return 0
