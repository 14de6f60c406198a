"""What the pages and the REST interface show of the node itself, read from the databases."""

from dicom_node import __version__, clock
from dicom_node.audit.upkeep import problems
from dicom_node.db.instances import count_instances, quarantined
from dicom_node.db.jobs import count_by_state
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.storage.room import Marks, Room, usage_of
from dicom_node.web.schemas import Health, QuarantineOut


def health(databases: Databases, settings: Settings, dicom_port: int) -> Health:
    """Return the node's state in figures."""
    with transaction(databases.hospital) as session:
        instance_count, quarantine_count = count_instances(session), len(quarantined(session))
    with transaction(databases.research) as session:
        states = count_by_state(session)
    usage = usage_of(settings.hospital_dir)
    is_accepting = Room(settings.hospital_dir, Marks(settings.reserve_bytes, settings.watermark_percent)).look()
    return Health(
        status="ok" if is_accepting else "disk full",
        version=__version__,
        ae_title=settings.ae_title,
        dicom_port=dicom_port,
        instance_count=instance_count,
        quarantine_count=quarantine_count,
        jobs_by_state=states,
        free_bytes=usage.free_bytes,
        reserve_bytes=settings.reserve_bytes,
        used_percent=round(usage.used_percent, 1),
        watermark_percent=settings.watermark_percent,
        is_accepting=is_accepting,
        audit_problems=problems(databases, settings, clock.now()),
    )


def quarantine(databases: Databases) -> list[QuarantineOut]:
    """Everything kept aside, newest first."""
    with transaction(databases.hospital) as session:
        return [QuarantineOut.model_validate(row) for row in quarantined(session)]
