"""Step 4: result objects to a peer by its profile, each with its receipt, and the proof that the peer keeps them.

A peer that takes the report in no class it is offered, or refuses another object, gets the rest all the same. Every try
begins where the rows say the delivery is: what was accepted is not sent again, whatever ended the try before.

States: PENDING (something is to be sent), SENT (all accepted), COMMITTED (promised, where the peer is asked), CONFIRMED
(found, where the peer is asked), FAILED (dead letter: a person decides). docs/delivery.md draws them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from dicom_node import clock
from dicom_node.audit.transfers import audited_sending
from dicom_node.db.deliveries import accept, receipted_uids, refuse, running_delivery, unreceipted
from dicom_node.db.models import Delivery, Peer, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, DeliveryRefused, PeerUnavailable
from dicom_node.logs import log
from dicom_node.net.outcomes import LIMITED_TRIES
from dicom_node.net.scu import Offer, Refusal
from dicom_node.pipeline.delivery_peers import Destination, OnSent, destination_of
from dicom_node.pipeline.delivery_proof import Proof, Wait
from dicom_node.pipeline.reidentification import refuse_changed_identity
from dicom_node.pipeline.variants import classes_of, has_report, report_as
from dicom_node.settings import Settings
from sr_export.fallback import ReportClass

LOG = log(__name__)
LONGEST_PAUSE = timedelta(hours=1)
ON_THE_WAY = ("PENDING", "SENT", "COMMITTED", "CONFIRMED")
STALE = "STALE"
"""What a try says that is not the delivery's any more."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where results lie and as whom the node sends them."""

    databases: Databases
    settings: Settings

    def deliver(self, delivery_id: int, number: int) -> str:
        """Make one try: send what the peer has not accepted yet, then prove what it has.

        Parameters
        ----------
        delivery_id
            The delivery.
        number
            Of the try; one that is not the delivery's any more does nothing.

        Returns
        -------
        str
            The state reached, or `STALE`.
        """
        with transaction(self.databases.hospital) as session:
            delivery = running_delivery(session, delivery_id, number)
            if delivery is None:
                return STALE
            delivery.attempts += 1
            delivery.updated_at = clock.now()
            peer = session.get_one(Peer, delivery.peer_id)
        try:
            if peer.is_removed:
                raise DeliveryRefused("The peer was removed.")
            if delivery.attempts > self.settings.delivery_attempts:
                raise DeliveryRefused("Every try was broken off with the node's process; the log says why.")
            destination = destination_of(peer, self.settings)
            self._send_missing(delivery, peer, destination)
            waits = self._prove(delivery_id, number, peer, destination)
        except (PeerUnavailable, ConfigurationError) as error:
            return self._again(delivery_id, number, str(error))
        except DeliveryRefused as error:
            return self._end(delivery_id, number, "FAILED", str(error))
        if waits is not None:
            return self._wait(delivery_id, number, waits)
        return self._end(delivery_id, number, "", "")

    def put_off(self, delivery_id: int, number: int) -> str:
        """Set the time of the next try after one that ended abnormally."""
        return self._again(delivery_id, number, "The try ended abnormally on this side; the log says why.")

    def _prove(self, delivery_id: int, number: int, peer: Peer, destination: Destination) -> Wait | None:
        """Go on from SENT as far as the peer's profile asks and its answers allow."""
        proof = Proof(self.databases, self.settings)
        if self._reach(delivery_id, number, "SENT") == STALE:
            return None
        if peer.wants_commitment:
            waits = proof.commit(delivery_id, destination)
            if waits is not None:
                return waits
            self._reach(delivery_id, number, "COMMITTED")
        if peer.is_checked:
            proof.check(delivery_id, destination)
            self._reach(delivery_id, number, "CONFIRMED")
        return None

    def _send_missing(self, delivery: Delivery, peer: Peer, destination: Destination) -> None:
        with transaction(self.databases.hospital) as session:
            pending = unreceipted(session, delivery, peer)
            receipted = receipted_uids(session, delivery.id)
        classes = classes_of(peer)
        pending = [
            row
            for row in pending
            if row.kind != "sr" or not has_report(self.settings.hospital_dir, row, classes, receipted)
        ]
        if pending and not peer.receives_results:
            raise DeliveryRefused("The peer receives no results any more.")
        if pending:
            with audited_sending(self.databases, self.settings, delivery.id, peer):
                self._send(peer, destination, pending, delivery)

    def _send(self, peer: Peer, destination: Destination, pending: list[Result], delivery: Delivery) -> None:
        """Offer everything at once, then the reports it took in no class in the next it accepts.

        Raises
        ------
        PeerUnavailable
            When the peer is away, or something it refused is worth another try.
        DeliveryRefused
            When something was refused for good; everything else was sent.
        """
        if self.settings.verify_identity:
            files = [self._file(row) for row in pending]
            is_confirmed = refuse_changed_identity(destination.find_study, files, must_know_study=peer.may_send)
            LOG.info("identity_checked", delivery_id=delivery.id, is_confirmed=is_confirmed)
        classes, refusals = classes_of(peer), []
        offered: dict[Path, Result] = {}
        for row in pending:
            try:
                offered[self._file(self._as(row, classes[0]) if row.kind == "sr" else row)] = row
            except DeliveryRefused as error:
                refusals.append((row, _not_made(row, error)))
        if offered:
            ask_for = [str(one.sop_class_uid) for one in classes[1:]] if _has_reports(pending) else []
            offer = destination.offer(list(offered), self._receipts(delivery), ask_for)
            for refusal in offer.refusals:
                row = offered[refusal.path]
                is_older = row.kind == "sr" and refusal.is_of_class
                found = self._fall_back(peer, destination, row, offer, delivery) if is_older else refusal
                if found is not None:
                    refusals.append((row, found))
        self._judge(delivery.id, refusals)

    def _judge(self, delivery_id: int, refusals: list[tuple[Result, Refusal]]) -> None:
        """Write the refusals down, and raise what they mean together."""
        if not refusals:
            return
        sentences = " ".join(dict.fromkeys(refusal.sentence for _, refusal in refusals))
        with transaction(self.databases.hospital) as session:
            times = [
                refuse(session, delivery_id, row.sop_instance_uid, one.status, one.sentence, clock.now())
                for row, one in refusals
            ]
        is_open = any(
            one.outcome == "limited" and count < LIMITED_TRIES for (_, one), count in zip(refusals, times, strict=True)
        )
        raise PeerUnavailable(sentences) if is_open else DeliveryRefused(sentences)

    def _fall_back(
        self, peer: Peer, destination: Destination, report: Result, offer: Offer, delivery: Delivery
    ) -> Refusal | None:
        """Send a report in the first older class that is taken; return why it was not sent, None if it was."""
        classes = classes_of(peer)
        for one in classes[1:]:
            if one.sop_class_uid not in offer.accepted_classes:
                continue
            try:
                path = self._file(self._as(report, one))
            except DeliveryRefused as error:
                return _not_made(report, error)
            refusals = destination.offer([path], self._receipts(delivery)).refusals
            if not refusals:
                LOG.info("report_fell_back", delivery_id=delivery.id, report_class=one.key)
                return None
            if not refusals[0].is_of_class:
                return refusals[0]
        names = ", ".join(one.name for one in classes)
        sentence = (
            f"{destination.name} takes the report in no class it may get ({names}). "
            f"Set another class, or leave the report out: osteonode peer set {peer.name} --sr-class or --objects."
        )
        return Refusal(self._file(report), report.sop_class_uid, sentence, "class_refused")

    def _as(self, report: Result, report_class: ReportClass) -> Result:
        return report_as(self.databases, self.settings.hospital_dir, report, report_class)

    def _file(self, row: Result) -> Path:
        return self.settings.hospital_dir / row.path

    def _receipts(self, delivery: Delivery) -> OnSent:
        """Return what writes the receipt of an accepted file, and ends a try that was given up or taken over."""

        def write(path: Path, status: int) -> None:
            uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
            with transaction(self.databases.hospital) as session:
                accept(session, delivery.id, uid, status, clock.now())
                is_current = running_delivery(session, delivery.id, delivery.number) is not None
            if not is_current:
                raise PeerUnavailable("The delivery was given up, or another try has taken the place of this one.")

        return write

    def _reach(self, delivery_id: int, number: int, state: str) -> str:
        """Write down a state on the way, if it is a further one; what comes after it has all its tries before it."""

        def change(delivery: Delivery, now: datetime) -> None:
            if ON_THE_WAY.index(delivery.state) < ON_THE_WAY.index(state):
                delivery.state, delivery.attempts, delivery.sentence = state, 1, ""
            delivery.updated_at = now

        return self._change(delivery_id, number, change)

    def _wait(self, delivery_id: int, number: int, waits: Wait) -> str:
        def change(delivery: Delivery, now: datetime) -> None:
            delivery.sentence, delivery.updated_at, delivery.attempts = waits.sentence[:500], now, 0
            delivery.number, delivery.next_try_at = number + 1, waits.until

        return self._change(delivery_id, number, change)

    def _again(self, delivery_id: int, number: int, sentence: str) -> str:
        """Set the time of the next try, or end the delivery as failed when it had them all."""

        def change(delivery: Delivery, now: datetime) -> None:
            delivery.sentence, delivery.updated_at = sentence[:500], now
            if delivery.attempts >= self.settings.delivery_attempts:
                delivery.state, delivery.next_try_at = "FAILED", None
                LOG.error("delivery_given_up", delivery_id=delivery_id, attempts=delivery.attempts)
            else:
                pause = timedelta(seconds=self.settings.delivery_backoff_s) * 2 ** min(delivery.attempts - 1, 30)
                delivery.number, delivery.next_try_at = number + 1, now + min(pause, LONGEST_PAUSE)

        return self._change(delivery_id, number, change)

    def _end(self, delivery_id: int, number: int, state: str, sentence: str) -> str:
        def change(delivery: Delivery, now: datetime) -> None:
            delivery.state, delivery.sentence = state or delivery.state, sentence[:500]
            delivery.next_try_at, delivery.updated_at = None, now

        return self._change(delivery_id, number, change)

    def _change(self, delivery_id: int, number: int, change: Callable[[Delivery, datetime], None]) -> str:
        """Change a delivery's row, unless another try has taken this one's place."""
        with transaction(self.databases.hospital) as session:
            delivery = running_delivery(session, delivery_id, number)
            if delivery is None:
                return STALE
            change(delivery, clock.now())
            state = delivery.state
        LOG.info("delivery_tried", delivery_id=delivery_id, number=number, state=state)
        return state


def _has_reports(rows: list[Result]) -> bool:
    return any(row.kind == "sr" for row in rows)


def _not_made(report: Result, error: DeliveryRefused) -> Refusal:
    return Refusal(Path(report.path), report.sop_class_uid, str(error), "refused")
