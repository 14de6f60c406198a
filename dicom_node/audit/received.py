"""What the association ledger says, told in the audit: instances received, and callers that were not let in.

The audit follows the ledger: so nothing is written while images come, and an association that ended just before the
node was killed is told of after its start. A row is marked in the transaction that writes its events.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy.orm import Session

from dicom_node.audit.events import Event, StudyInstances, application_entity, instances_received
from dicom_node.audit.recorder import entry_of, write
from dicom_node.audit.rejections import SECURITY_REASONS, Rejections
from dicom_node.db.associations import brought_instances, mark_audited, unaudited_associations
from dicom_node.db.models import AssociationRow
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings

TOLD_AT_ONCE = 50


def tell_of_associations(databases: Databases, settings: Settings, rejections: Rejections, now: datetime) -> int:
    """Write the events of the next associations; return how many associations that were."""
    with transaction(databases.hospital) as session:
        rows = unaudited_associations(session, TOLD_AT_ONCE)
        events = [(row.ended_at, event) for row in rows for event in _events(session, row)]
    if not rows:
        return 0
    events += [(row.ended_at, event) for row in rows for event in _rejected(row, rejections, now)]
    entries = [entry_of(databases, settings, event, at) for at, event in events]
    with transaction(databases.hospital) as session:
        if mark_audited(session, [row.id for row in rows]) and entries:
            write(session, entries)
    return len(rows)


def _rejected(row: AssociationRow, rejections: Rejections, now: datetime) -> list[Event]:
    return rejections.add(row.calling_aet, row.address, row.outcome, now) if row.outcome in SECURITY_REASONS else []


def _events(session: Session, row: AssociationRow) -> Iterator[Event]:
    """Yield one event a study, one for what was here already, one for what was refused."""
    sender = application_entity(row.calling_aet, row.address)
    brought = brought_instances(session, row.association_id) if row.association_id else {}
    for study, counts in brought.items():
        yield instances_received(sender, StudyInstances(study, counts))
    repeated = row.accepted - sum(sum(counts.values()) for counts in brought.values())
    if repeated > 0:
        yield instances_received(sender, StudyInstances("", {"": repeated}), is_repeated=True)
    if row.refused:
        yield instances_received(sender, StudyInstances("", {"": row.refused}), refused=row.errors or "refused")
