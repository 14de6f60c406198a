"""When deliveries are tried: their rows say it, the engine runs each try as a workflow of its own.

A delivery that waits costs a row and no thread. Whatever is to be done at once - a person's "try now", a peer's report
of storage commitment - makes the next try due by its row.
"""

from datetime import datetime, timedelta

from dicom_node.db.deliveries import due_deliveries, mark_submitted, next_number, silent_deliveries
from dicom_node.db.session import Databases, transaction
from dicom_node.jobs.engine import JobEngine
from dicom_node.logs import log

LOG = log(__name__)
SILENCE = timedelta(minutes=2)
"""A try that has changed nothing for so long is asked after: its workflow may be gone, with the engine's database or an
older version of the workflows."""


def submit_due(databases: Databases, engine: JobEngine, now: datetime) -> int:
    """Hand every try that is due to the engine, once; return their number."""
    with transaction(databases.hospital) as session:
        due = [(row.id, row.number, row.peer_id) for row in due_deliveries(session, now)]
        silent = [(row.id, row.number) for row in silent_deliveries(session, now - SILENCE)]
    for delivery_id, number, peer_id in due:
        engine.deliver(delivery_id, number, peer_id)
        with transaction(databases.hospital) as session:
            mark_submitted(session, delivery_id, number)
    for delivery_id, number in silent:
        if engine.has_tried(delivery_id, number):
            LOG.warning("delivery_try_lost", delivery_id=delivery_id, number=number)
            with transaction(databases.hospital) as session:
                next_number(session, delivery_id, number, now)
    return len(due)
