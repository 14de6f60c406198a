"""Storage commitment, durable: a request is a row before it is answered, and stays one until its report was taken."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from dicom_node.db.commitments import due_commitments, find_commitment, kept_instances
from dicom_node.db.models import Commitment
from dicom_node.db.peers import peer_by_title
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log
from dicom_node.net.commitment import CLASS_CONFLICT, NO_SUCH_INSTANCE, CommitmentOrder, Reference, Verdict, report
from dicom_node.net.scu import Address
from dicom_node.pipeline.addresses import address_of
from dicom_node.settings import Settings

LOG = log(__name__)
LONGEST_PAUSE = timedelta(hours=1)


def keep_order(databases: Databases, order: CommitmentOrder, now: datetime) -> None:
    """Make a request durable; the same transaction asked again is reported again."""
    with transaction(databases.hospital) as session:
        row = find_commitment(session, order.calling_aet, order.transaction_uid)
        if row is None:
            row = Commitment(calling_aet=order.calling_aet, transaction_uid=order.transaction_uid, received_at=now)
            session.add(row)
        row.reference_list = json.dumps(order.references)
        row.state, row.attempts, row.sentence, row.due_at = "WAITING", 0, "", now


def report_due(databases: Databases, settings: Settings, now: datetime) -> int:
    """Report every request that is due; return how many reports were taken.

    A peer that is away is tried again after a pause that doubles up to an hour, ``delivery_attempts`` times in all.
    """
    with transaction(databases.hospital) as session:
        due = due_commitments(session, now)
    return sum(_report(databases, settings, number, now) for number in due)


def _report(databases: Databases, settings: Settings, number: int, now: datetime) -> bool:
    with transaction(databases.hospital) as session:
        row = session.get_one(Commitment, number)
        references = tuple((str(kind), str(uid)) for kind, uid in json.loads(row.reference_list))
        verdict = verdict_on(session, settings.hospital_dir, references)
        calling_aet, transaction_uid = row.calling_aet, row.transaction_uid
    try:
        report(_address(databases, settings, calling_aet), transaction_uid, verdict)
    except (PeerUnavailable, ConfigurationError) as error:
        _put_off(databases, settings, number, now, str(error))
        return False
    except Exception as error:  # noqa: BLE001 - one report that cannot be made must not keep the others back
        _put_off(databases, settings, number, now, f"The report could not be made ({describe_failure(error)}).")
        return False
    with transaction(databases.hospital) as session:
        row = session.get_one(Commitment, number)
        row.state, row.sentence, row.attempts = "REPORTED", _summary(verdict), row.attempts + 1
    LOG.info("commitment_reported", committed=len(verdict.committed), failed=len(verdict.failed))
    return True


def verdict_on(session: Session, folder: Path, references: tuple[Reference, ...]) -> Verdict:
    """Say which instances are safe: a row is committed, and its file has the size the row says.

    Parameters
    ----------
    session
        Hospital side.
    folder
        Folder the rows' paths start from.
    references
        SOP class and instance UIDs that the peer asks about.
    """
    kept: dict[str, set[str]] = {}
    for row in kept_instances(session, [uid for _, uid in references]):
        path = folder / row.path
        if path.is_file() and path.stat().st_size >= row.size_bytes:
            kept.setdefault(row.sop_instance_uid, set()).add(row.sop_class_uid)
    committed, failed = [], []
    for sop_class_uid, sop_instance_uid in references:
        classes = kept.get(sop_instance_uid, set())
        if sop_class_uid in classes:
            committed.append((sop_class_uid, sop_instance_uid))
        else:
            reason = CLASS_CONFLICT if classes else NO_SUCH_INSTANCE
            failed.append(((sop_class_uid, sop_instance_uid), reason))
    return Verdict(tuple(committed), tuple(failed))


def _address(databases: Databases, settings: Settings, calling_aet: str) -> Address:
    """Return where a requester listens.

    Raises
    ------
    ConfigurationError
        When it is no peer, so that nobody knows where to report to.
    """
    with transaction(databases.hospital) as session:
        peer = peer_by_title(session, calling_aet)
        if peer is None:
            raise ConfigurationError(f"{calling_aet} is not a peer: its address for the report is not known.")
        return address_of(peer, settings)


def _put_off(databases: Databases, settings: Settings, number: int, now: datetime, sentence: str) -> None:
    with transaction(databases.hospital) as session:
        row = session.get_one(Commitment, number)
        row.attempts += 1
        row.sentence = sentence[:500]
        pause = timedelta(seconds=settings.delivery_backoff_s * 2.0 ** min(row.attempts - 1, 20))
        row.due_at = now + min(pause, LONGEST_PAUSE)
        if row.attempts >= settings.delivery_attempts:
            row.state = "FAILED"
            LOG.error("commitment_given_up", calling_aet=row.calling_aet, attempts=row.attempts)


def _summary(verdict: Verdict) -> str:
    return f"{len(verdict.committed)} instances committed, {len(verdict.failed)} not."
