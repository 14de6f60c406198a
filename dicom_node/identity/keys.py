"""Secret keys: files of 32 random bytes that only the node's own user can read, or entries of the OS keyring.

Keys are never in settings, logs or tables. Losing them makes the identity map unreadable: back them up apart
from the databases.

A key has a kind and a version: ``column-2.key`` encrypts columns, ``index-2.key`` blinds look-ups, ``uid-1.key``
maps UIDs. The newest complete version writes; older ones are kept so that what they wrote can be read.
"""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.identity.keystore import KeyStore, open_store

MAP_KINDS = ("column", "index")
"""Kinds that are rotated together: a row's ``key_id`` is the version of both."""


@dataclass(frozen=True, slots=True, repr=False)
class MapKeys:
    """One version of the keys of the map's rows."""

    column: bytes
    index: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Every key of the identity map.

    ``column`` encrypts columns, ``index`` blinds look-ups, ``uid`` maps UIDs. They differ, so that
    one that leaks opens one door only.

    Attributes
    ----------
    column, index, uid
        The keys in force, 32 bytes each.
    key_id, uid_id
        Versions of the first two, and of the third.
    older, older_uids
        Earlier versions by id, for reading only.
    """

    column: bytes
    index: bytes
    uid: bytes
    key_id: str
    uid_id: str
    older: dict[str, MapKeys]
    older_uids: dict[str, bytes]

    def of(self, key_id: str) -> MapKeys:
        """Return the keys a row was written with.

        Raises
        ------
        ConfigurationError
            When there is no such version any more, or not yet in this process.
        """
        if key_id == self.key_id:
            return MapKeys(self.column, self.index)
        if key_id not in self.older:
            raise ConfigurationError(
                f"The identity map holds rows of key version {key_id}, and its key files are missing. Put them back, "
                "or restart the node if the keys were just rotated."
            )
        return self.older[key_id]

    @property
    def versions(self) -> list[MapKeys]:
        """The keys of the map's rows, the ones in force first."""
        return [MapKeys(self.column, self.index), *self.older.values()]

    @property
    def uids(self) -> list[bytes]:
        """The keys of the UID mapping, the one in force first."""
        return [self.uid, *self.older_uids.values()]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Name and fingerprint of every version; a fingerprint tells nothing about its key."""
        maps = {self.key_id: MapKeys(self.column, self.index), **self.older}
        uids = {self.uid_id: self.uid, **self.older_uids}
        return {
            **{f"map-{name}": _fingerprint(one.column, one.index) for name, one in maps.items()},
            **{f"uid-{name}": _fingerprint(one) for name, one in uids.items()},
        }


def _fingerprint(*keys: bytes) -> str:
    parts = (hmac.digest(key, b"osteonode key fingerprint/1", "sha256") for key in keys)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def load_keys(place: Path) -> Keys:
    """Read the keys, making a first version where there is none at all, or where its making was interrupted.

    Parameters
    ----------
    place
        Folder of the key files, or ``keyring:NAME`` for the OS keyring's service NAME.

    Raises
    ------
    ConfigurationError
        When a key has the wrong size, can be read by others than its owner, or the keyring is not there.
    """
    store = open_store(place)
    if store.is_begun() or not any(store.versions(kind) for kind in (*MAP_KINDS, "uid")):
        store.set_begun(True)
        for kind in (*MAP_KINDS, "uid"):
            store.create(kind, 1)
        store.set_begun(False)
    return _read_keys(store)


def _read_keys(store: KeyStore) -> Keys:
    maps = set.intersection(*(set(store.versions(kind)) for kind in MAP_KINDS))
    uids = set(store.versions("uid"))
    if not maps or not uids:
        raise ConfigurationError("Key files are missing: a column, an index and a uid key are needed. Put them back.")
    rows = {str(version): MapKeys(*(store.read(kind, version) for kind in MAP_KINDS)) for version in maps}
    mappers = {str(version): store.read("uid", version) for version in uids}
    key_id, uid_id = str(max(maps)), str(max(uids))
    newest = rows.pop(key_id)
    return Keys(newest.column, newest.index, mappers.pop(uid_id), key_id, uid_id, rows, mappers)


def add_version(place: Path, *, new_uid_key: bool = False) -> Keys:
    """Make the next version of the keys and return them all.

    Parameters
    ----------
    place
        As in `load_keys`.
    new_uid_key
        Whether the key of the UID mapping gets a new version too: a study that is sent again then gets other clean
        UIDs than before.
    """
    store = open_store(place)
    keys = load_keys(place)
    if new_uid_key:
        store.create("uid", int(keys.uid_id) + 1)
    for kind in MAP_KINDS:
        store.create(kind, int(keys.key_id) + 1)
    return _read_keys(store)
