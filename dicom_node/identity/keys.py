"""Secret keys: files of 32 random bytes that only the node's own user can read.

Keys are never in settings, logs or tables. Losing them makes the identity map unreadable: back them up apart
from the databases.
"""

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.storage.files import sync_folder

KEY_BYTES = 32
KEY_ID = "1"
"""Version of the key set in use; written beside everything a key touched, so that keys can be rotated."""


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """The three keys of the identity map.

    ``column`` encrypts columns, ``index`` blinds look-ups, ``uid`` maps UIDs. They differ, so that
    one that leaks opens one door only.
    """

    column: bytes
    index: bytes
    uid: bytes
    key_id: str = KEY_ID


def load_keys(folder: Path) -> Keys:
    """Read the key set, making it on first use.

    Raises
    ------
    ConfigurationError
        When a key file has the wrong size or can be read by others than its owner.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    column, index, uid = (_load_key(folder / f"{name}-{KEY_ID}.key") for name in ("column", "index", "uid"))
    return Keys(column, index, uid)


def _load_key(path: Path) -> bytes:
    if not path.exists():
        _create_key(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(f"Key file {path.name} has mode {mode:04o}; only its owner may read it (chmod 0600).")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"Key file {path.name} holds {len(key)} bytes; {KEY_BYTES} are expected.")
    return key


def _create_key(path: Path) -> None:
    """Make a key file that is durable before anything is encrypted with it; never overwrite one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
