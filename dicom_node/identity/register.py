"""Which keys the database was written with, and the one row whoever changes the map holds.

A lost and newly made key would not fail by itself: every patient would look like a new one and get a second
pseudonym. The register makes it fail.
"""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.db import models
from dicom_node.errors import ConfigurationError
from dicom_node.identity.cipher import number_index, unseal
from dicom_node.identity.keys import Keys
from dicom_node.identity.person import person_from_text


def hold(session: Session) -> None:
    """Make every other change of the map wait until this transaction ends."""
    session.execute(update(models.MapState).values(audit_rows=models.MapState.audit_rows))


def check_keys(session: Session, keys: Keys) -> None:
    """Compare the keys with those the database was written with; note the ones in force on first use.

    Raises
    ------
    ConfigurationError
        When a key differs, or the database is already written with a newer one.
    """
    if _unregistered(session, keys):
        hold(session)
        names = _unregistered(session, keys)
        if names:
            _try_keys(session, keys)
            session.add_all(models.KeySet(name=name, fingerprint=keys.fingerprints[name]) for name in names)
            session.flush()


def _unregistered(session: Session, keys: Keys) -> list[str]:
    """Compare with the register; return the names of the keys in force that are not in it yet."""
    registered = {row.name: row.fingerprint for row in session.scalars(select(models.KeySet))}
    fingerprints = keys.fingerprints
    for name, fingerprint in fingerprints.items():
        if registered.get(name, fingerprint) != fingerprint:
            raise ConfigurationError(
                f"Key {name} is not the one the identity map was written with. Put the right key files back."
            )
    for name in registered.keys() - fingerprints.keys():
        if _is_newer(name, keys):
            raise ConfigurationError(
                f"The identity map is written with the newer key {name}, and this process does not have it. Restart "
                "the node; if that does not help, put the key files back."
            )
    return sorted({f"map-{keys.key_id}", f"uid-{keys.uid_id}"} - registered.keys())


def _is_newer(name: str, keys: Keys) -> bool:
    kind, _, version = name.partition("-")
    return int(version) > int(keys.key_id if kind == "map" else keys.uid_id)


def _try_keys(session: Session, keys: Keys) -> None:
    """Decrypt a row from before there was a register, and index the rows that have no index of their number."""
    for row in session.scalars(select(models.Subject).where(models.Subject.id_index.is_(None))):
        text = unseal(keys, row.identity, "subjects.identity", row.id, row.key_id)
        row.id_index = number_index(keys.of(row.key_id).index, person_from_text(text).patient_id, row.project)
