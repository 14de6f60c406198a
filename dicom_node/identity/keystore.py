"""Where keys lie: files of mode 0600 in one folder, or the operating system's keyring (optional package)."""

import importlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, Protocol

from dicom_node.errors import ConfigurationError
from dicom_node.storage.files import sync_folder

KEY_BYTES = 32
KEYRING_SCHEME = "keyring:"
BEGUN = "first-version"
"""File or entry that is there while the first keys are made: a kill in between must not look like a lost key."""
_FILE = re.compile(r"(column|index|uid)-([1-9][0-9]{0,8})\.key", re.ASCII)


class KeyStore(Protocol):
    """Keys by kind and version."""

    def versions(self, kind: str) -> list[int]:
        """Versions there are, ascending."""

    def read(self, kind: str, version: int) -> bytes:
        """Return a key, or raise ConfigurationError."""

    def create(self, kind: str, version: int) -> None:
        """Make a random key and keep it durably; one that is there stays."""

    def set_begun(self, begun: bool) -> None:
        """Note durably that the first keys are being made, or that all of them are there."""

    def is_begun(self) -> bool:
        """Tell whether a process that made the first keys ended before it had made them all."""


def open_store(place: Path) -> KeyStore:
    """Return the keyring for ``keyring:NAME``, the folder otherwise."""
    if str(place).startswith(KEYRING_SCHEME):
        return KeyringStore(str(place).removeprefix(KEYRING_SCHEME))
    return FolderStore(place)


class FolderStore:
    """Key files ``KIND-VERSION.key`` in a folder only its owner can enter."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def versions(self, kind: str) -> list[int]:
        """Versions there are, ascending."""
        matches = (_FILE.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[2]) for match in matches if match and match[1] == kind)

    def read(self, kind: str, version: int) -> bytes:
        """Return a key.

        Raises
        ------
        ConfigurationError
            When the file has the wrong size or can be read by others than its owner.
        """
        path = self._path(kind, version)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigurationError(
                f"Key file {path.name} has mode {mode:04o}; only its owner may read it (chmod 0600)."
            )
        return _whole(path.read_bytes(), f"Key file {path.name}")

    def create(self, kind: str, version: int) -> None:
        """Make a key file that is durable and whole before it has its name; never overwrite one."""
        path = self._path(kind, version)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_folder(self._folder)

    def set_begun(self, begun: bool) -> None:
        """Note durably that the first keys are being made, or that all of them are there."""
        if begun:
            (self._folder / BEGUN).touch(mode=0o600)
        else:
            (self._folder / BEGUN).unlink(missing_ok=True)
        sync_folder(self._folder)

    def is_begun(self) -> bool:
        """Tell whether a process that made the first keys ended before it had made them all."""
        return (self._folder / BEGUN).exists()

    def _path(self, kind: str, version: int) -> Path:
        return self._folder / f"{kind}-{version}.key"


class KeyringStore:
    """Keys as hexadecimal entries ``KIND-VERSION`` of one service of the OS keyring.

    Parameters
    ----------
    service
        Name of the service.

    Raises
    ------
    ConfigurationError
        When the package ``keyring`` is not installed.
    """

    def __init__(self, service: str) -> None:
        self._service = service or "osteonode"
        try:
            self._keyring: Any = importlib.import_module("keyring")
        except ImportError:
            raise ConfigurationError(
                "The key folder names the OS keyring, and the package keyring is not installed (pip install keyring)."
            ) from None

    def versions(self, kind: str) -> list[int]:
        """Versions there are, ascending; a keyring cannot list its entries, so one entry holds the newest."""
        newest = int(self._keyring.get_password(self._service, f"{kind}-newest") or 0)
        return [version for version in range(1, newest + 1) if self._entry(kind, version) is not None]

    def read(self, kind: str, version: int) -> bytes:
        """Return a key."""
        try:
            key = bytes.fromhex(self._entry(kind, version) or "")
        except ValueError:
            key = b""
        return _whole(key, f"Keyring entry {kind}-{version}")

    def create(self, kind: str, version: int) -> None:
        """Make a key; one that is there stays."""
        if self._entry(kind, version) is None:
            self._keyring.set_password(self._service, f"{kind}-{version}", secrets.token_hex(KEY_BYTES))
        self._keyring.set_password(self._service, f"{kind}-newest", str(version))

    def set_begun(self, begun: bool) -> None:
        """Note that the first keys are being made, or that all of them are there."""
        self._keyring.set_password(self._service, BEGUN, "begun" if begun else "made")

    def is_begun(self) -> bool:
        """Tell whether a process that made the first keys ended before it had made them all."""
        return bool(self._keyring.get_password(self._service, BEGUN) == "begun")

    def _entry(self, kind: str, version: int) -> str | None:
        entry: str | None = self._keyring.get_password(self._service, f"{kind}-{version}")
        return entry


def _whole(key: bytes, what: str) -> bytes:
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{what} holds {len(key)} bytes; {KEY_BYTES} are expected.")
    return key
