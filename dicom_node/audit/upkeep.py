"""What is done beside writing: sending the audit on, checking its chain, and telling what is the matter.

One pass after another in a thread of the node. Where the chain was sent and checked to are rows of the database, so a
node that was killed goes on there: a message may be sent twice, and never not at all.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from dicom_node import clock
from dicom_node.audit.chain import Head
from dicom_node.audit.check import ChainCheck
from dicom_node.audit.events import application_started, application_stopped, recording_started, recording_stopped
from dicom_node.audit.received import TOLD_AT_ONCE, tell_of_associations
from dicom_node.audit.recorder import record, take_up, waiting
from dicom_node.audit.rejections import Rejections
from dicom_node.audit.syslog import Receiver, deliver, syslog_message
from dicom_node.db.associations import FORGOTTEN_AT_ONCE, forget_associations
from dicom_node.db.audit import cursor, head, messages_after
from dicom_node.db.audit_tables import AuditMessage
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.logs import log
from dicom_node.net.tls import TlsFiles, client_context
from dicom_node.settings import Settings

LOG = log(__name__)
SENT_AT_ONCE = 500
BATCHES_OF_A_PASS = 10
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)
CHECK_AGAIN_AFTER = timedelta(hours=24)
FORGET_EVERY = timedelta(hours=1)
BEHIND_AFTER = timedelta(minutes=10)
"""A receiver that has been away for so long is worth a word in ``/health``."""


class Upkeep:
    """Passes over the audit; call it from one thread."""

    def __init__(self, databases: Databases, settings: Settings, rejections: Rejections) -> None:
        self._databases = databases
        self._settings = settings
        self._rejections = rejections
        self._pause = FIRST_PAUSE
        self._send_due: datetime | None = None
        self._forget_due: datetime | None = None
        self._check = ChainCheck()
        self._check_due: datetime | None = None

    def __call__(self, now: datetime) -> None:
        """Make one pass at a timezone-aware time."""
        record(self._databases, self._settings, *self._rejections.due(now))
        take_up(self._databases, self._settings)
        while tell_of_associations(self._databases, self._settings, self._rejections, now) == TOLD_AT_ONCE:
            pass
        self._check_chain(now)
        self._send(now)
        self._forget(now)

    def finish(self, now: datetime) -> None:
        """Write what the ledger still has, and what was being counted."""
        tell_of_associations(self._databases, self._settings, self._rejections, now)
        record(self._databases, self._settings, *self._rejections.due(now, at_end=True))

    def send_last(self, now: datetime) -> None:
        """Try once to send the rest, whatever pause there is."""
        self._send_due = None
        self._send(now)

    def _send(self, now: datetime) -> None:
        """Send what the receiver has not got yet, in order; pause longer after each failure, five minutes at most."""
        if self._settings.audit_syslog_host is None or (self._send_due is not None and now < self._send_due):
            return
        try:
            for _ in range(BATCHES_OF_A_PASS):
                if not self._send_some(now):
                    break
        except (PeerUnavailable, ConfigurationError) as error:
            self._send_due, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
            with transaction(self._databases.hospital) as session:
                if (row := cursor(session, "syslog", hold=True)) is not None:
                    row.sentence = str(error)[:500]
            LOG.warning("audit_not_sent", sentence=str(error))
        else:
            self._pause, self._send_due = FIRST_PAUSE, None

    def _send_some(self, now: datetime) -> bool:
        """Send the next few; return whether there may be more. The cursor moves when they have arrived."""
        with transaction(self._databases.hospital) as session:
            row = cursor(session, "syslog", hold=True)
            messages = [] if row is None else list(messages_after(session, row.number, SENT_AT_ONCE))
            if row is None or not messages:
                return False
            number = row.number
        # Outside of the transaction: a receiver that hangs must not keep the database.
        deliver(receiver_of(self._settings), [_encoded(message) for message in messages])
        with transaction(self._databases.hospital) as session:
            row = cursor(session, "syslog", hold=True)
            if row is not None and row.number == number:
                row.number, row.row_hash = messages[-1].number, messages[-1].row_hash
                row.at, row.sentence = now, ""
        return len(messages) == SENT_AT_ONCE

    def _check_chain(self, now: datetime) -> None:
        """Check the next rows; begin anew at every start of the node and once a day."""
        if self._check_due is None or now >= self._check_due:
            self._check, self._check_due = ChainCheck(), now + CHECK_AGAIN_AFTER
        with transaction(self._databases.hospital) as session:
            for fault in self._check.go_on(session):
                LOG.error("audit_chain_broken", sentence=fault)
            last, sentence = self._check.last, next(iter(self._check.faults), "")
            row = cursor(session, "check")
            if row is not None and (row.number, row.sentence) != (last.number, sentence):
                row.number, row.row_hash, row.at, row.sentence = last.number, last.row_hash, now, sentence[:500]

    def _forget(self, now: datetime) -> None:
        """Delete rows of the ledger that are older than the site wants to keep."""
        days = self._settings.ledger_days
        if not days or (self._forget_due is not None and now < self._forget_due):
            return
        with transaction(self._databases.hospital) as session:
            count = forget_associations(session, now - timedelta(days=days))
        if count < FORGOTTEN_AT_ONCE:
            self._forget_due = now + FORGET_EVERY
        if count:
            LOG.info("ledger_rows_forgotten", count=count, older_than_days=days)


@contextmanager
def recording(databases: Databases, settings: Settings, rejections: Rejections) -> Iterator[Upkeep]:
    """Record that the node starts, and at the end that it stops; yield what has to be called again and again."""
    upkeep = Upkeep(databases, settings, rejections)
    take_up(databases, settings)
    record(databases, settings, recording_started(_head(databases)), application_started())
    try:
        yield upkeep
    finally:
        try:
            upkeep.finish(clock.now())
            record(databases, settings, application_stopped())
            record(databases, settings, recording_stopped(_head(databases)))
            upkeep.send_last(clock.now())
        except SQLAlchemyError as error:  # a database that is away must not keep the node from stopping
            LOG.error("audit_not_finished", error=type(error).__name__)


def _head(databases: Databases) -> Head:
    with transaction(databases.hospital) as session:
        return head(session)


def _encoded(row: AuditMessage) -> bytes:
    return syslog_message(row.message, row.at, row.outcome, socket.gethostname(), os.getpid())


def receiver_of(settings: Settings) -> Receiver:
    """Return where the audit is sent to.

    Raises
    ------
    ConfigurationError
        When TLS is asked for and a file is missing or cannot be used.
    """
    assert settings.audit_syslog_host is not None
    return Receiver(
        settings.audit_syslog_host,
        settings.audit_syslog_port,
        client_context(_tls_files(settings)) if settings.audit_syslog_tls else None,
    )


def _tls_files(settings: Settings) -> TlsFiles:
    certificate = settings.audit_syslog_certificate_file or settings.tls_certificate_file
    key = settings.audit_syslog_key_file or settings.tls_key_file
    authority = settings.audit_syslog_authority_file or settings.tls_authority_file
    if certificate is None or key is None or authority is None:
        raise ConfigurationError(
            "The audit is sent over TLS: set audit_syslog_certificate_file, audit_syslog_key_file and "
            "audit_syslog_authority_file, or the tls_... files of the node."
        )
    return TlsFiles(certificate, key, authority)


def problems(databases: Databases, settings: Settings, now: datetime) -> list[str]:
    """Return what is the matter with the audit, for ``/health``; nothing when all is well."""
    found = []
    if count := waiting(settings):
        found.append(f"{count} audit events wait to be written; the log says why.")
    with transaction(databases.hospital) as session:
        checked, sent = cursor(session, "check"), cursor(session, "syslog")
        if checked is not None and checked.sentence:
            found.append(f"The audit is not whole. {checked.sentence}")
        if settings.audit_syslog_host is not None and sent is not None and sent.sentence:
            behind = head(session).number - sent.number
            oldest = next(messages_after(session, sent.number, 1), None)
            if oldest is not None and now - oldest.at >= BEHIND_AFTER:
                found.append(f"{behind} audit messages wait to be sent. {sent.sentence}")
    return found
