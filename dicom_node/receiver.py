"""The receiver of one process, put together from the settings: sockets, intake, admission, ledger."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from dicom_node import clock
from dicom_node.db.models import AssociationRow
from dicom_node.db.peers import callers
from dicom_node.db.routing import end_association
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.net.admission import Caller, Rejection, Sender, admit
from dicom_node.net.ledger import AssociationRecord
from dicom_node.net.scp import Limits, Listener, Receiver
from dicom_node.net.seats import Seats
from dicom_node.net.tls import server_context
from dicom_node.pipeline.addresses import tls_files
from dicom_node.pipeline.commitments import keep_order
from dicom_node.pipeline.delivery_proof import take_report
from dicom_node.settings import Settings
from dicom_node.storage.intake import Intake


def open_listeners(settings: Settings) -> list[Listener]:
    """Open every socket the settings name.

    Raises
    ------
    ConfigurationError
        When one cannot be listened on.
    """
    opened: list[Listener] = []
    for listener in listeners_of(settings):
        try:
            opened.append(replace(listener, opened=listener.open()))
        except OSError as error:
            close_listeners(opened)
            raise ConfigurationError(
                f"The DICOM service cannot listen on {listener.host}:{listener.port} ({error.strerror}); is another "
                "program using the port?"
            ) from None
    return opened


def listeners_of(settings: Settings) -> list[Listener]:
    """Return the places the settings name, not listened on yet."""
    files = tls_files(settings)
    found = []
    if settings.dicom_plain:
        found.append(Listener(settings.dicom_host, settings.dicom_port))
    if settings.dicom_tls_port is not None and files is not None:
        found.append(Listener(settings.dicom_host, settings.dicom_tls_port, server_context(files)))
    return found


def close_listeners(listeners: Sequence[Listener]) -> None:
    """Close the sockets that are open."""
    for listener in listeners:
        if listener.opened is not None:
            listener.opened.close()


def make_receiver(settings: Settings, databases: Databases, listeners: Sequence[Listener], seats: Seats) -> Receiver:
    """Put the receiver of one process together."""
    intake = Intake(databases.hospital, settings.hospital_dir, settings.reserve_bytes, settings.watermark_percent)

    def decide(caller: Caller, active: int) -> Rejection | None:
        with transaction(databases.hospital) as session:
            known = [
                Sender(
                    peer.ae_title,
                    tuple(filter(None, peer.allowed_hosts.split(","))),
                    peer.max_associations,
                    peer.may_send,
                )
                for peer in callers(session)
            ]
        return admit(caller, known, active)

    return Receiver(
        settings.ae_title,
        listeners,
        lambda arrival: intake.keep(arrival, clock.now()),
        spool=intake.spool,
        admit=None if settings.accept_unknown_peers else decide,
        order=lambda order: keep_order(databases, order, clock.now()),
        reports=lambda report: take_report(databases, report, clock.now()),
        record=lambda ended: _record(databases, ended),
        refused=settings.refused_sop_classes,
        limits=limits_of(settings),
        seats=seats,
    )


def limits_of(settings: Settings) -> Limits:
    """Return what callers may use up."""
    return Limits(
        associations=settings.max_associations,
        connections=settings.max_connections,
        request_s=settings.request_timeout_s,
        idle_s=settings.idle_timeout_s,
        slowest_bytes_per_s=settings.slowest_bytes_per_s,
        message_bytes=settings.message_limit_bytes,
    )


def _record(databases: Databases, ended: AssociationRecord) -> None:
    """Put an association that has ended into the ledger, and end what its instances name."""
    with transaction(databases.hospital) as session:
        end_association(session, ended.association_id, ended.outcome)
        session.add(AssociationRow(**asdict(ended)))
