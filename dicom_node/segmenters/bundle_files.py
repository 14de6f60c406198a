"""The files of a MONAI bundle, in a folder or a ZIP archive; an archive is read where it lies, never unpacked."""

import hashlib
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_node.errors import ConfigurationError, SegmenterNotReady
from dicom_node.segmenters.card import CARD_FILE, Card, card_from
from dicom_node.segmenters.extras import imported
from dicom_node.segmenters.weights import JSON_LIMIT_BYTES, MISSING, checked_files

CONFIGS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
METADATA, WEIGHTS = "configs/metadata.json", "models/model.pt"
WEIGHTS_LIMIT_BYTES = 4 * 2**30
"""Larger weights are no network this node could run [m assumption]."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, ValueError, EOFError)
"""What a damaged, encrypted or cut off archive raises."""


@dataclass(frozen=True, slots=True)
class BundleFiles:
    """What is read of a bundle.

    Attributes
    ----------
    name
        Of the folder or archive.
    config, metadata
        As the files hold them.
    weights
        Bytes of ``models/model.pt``.
    card
        What the site says of it.
    checksum
        SHA-256 over the files read.
    """

    name: str
    config: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)
    weights: bytes = field(repr=False)
    card: Card
    checksum: str


def read_bundle(place: Path) -> BundleFiles:
    """Read a bundle.

    Parameters
    ----------
    place
        Its folder; where there is none, the archive of that name ending in ``.zip``.

    Raises
    ------
    SegmenterNotReady
        When bundle, configuration or weights are missing.
    ConfigurationError
        When they cannot be read, or may be written by everybody.
    """
    archive = place.with_name(place.name + ".zip")
    if not place.is_dir() and not archive.is_file():
        raise SegmenterNotReady(
            f"There is no folder {place} and no {archive.name}; put the MONAI bundle there.", MISSING
        )
    found = _from_folder(place) if place.is_dir() else _from_archive(archive)
    config = next((name for name in CONFIGS if name in found), None)
    if config is None or METADATA not in found or WEIGHTS not in found:
        lacking = [CONFIGS[0]] if config is None else []
        lacking += [name for name in (METADATA, WEIGHTS) if name not in found]
        raise SegmenterNotReady(f"The MONAI bundle {place} lacks {', '.join(lacking)}.", MISSING)
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + found[name])
    card = card_from(_parsed(CARD_FILE, found[CARD_FILE]), CARD_FILE) if CARD_FILE in found else Card()
    metadata = _parsed(METADATA, found[METADATA])
    return BundleFiles(place.name, _parsed(config, found[config]), metadata, found[WEIGHTS], card, digest.hexdigest())


def _wanted(name: str) -> bool:
    return name in (*CONFIGS, METADATA, WEIGHTS, CARD_FILE)


def _limit(name: str) -> int:
    return WEIGHTS_LIMIT_BYTES if name == WEIGHTS else JSON_LIMIT_BYTES


def _from_folder(place: Path) -> dict[str, bytes]:
    files = {name: place / name for name in (*CONFIGS, METADATA, WEIGHTS, CARD_FILE) if (place / name).is_file()}
    checked_files(place, files.values())
    for name, path in files.items():
        if path.stat().st_size > _limit(name):
            raise ConfigurationError(f"{path} is larger than any such file of a bundle.")
    return {name: path.read_bytes() for name, path in files.items()}


def _from_archive(archive: Path) -> dict[str, bytes]:
    """Read members by their names below the one folder that archives of bundles hold, if they hold one."""
    checked_files(archive.parent, [archive])
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                whole, _, below = member.filename.partition("/")
                name = member.filename if _wanted(member.filename) else below
                if not _wanted(name) or name in found:
                    continue
                with members.open(member) as stream:
                    content = stream.read(_limit(name) + 1)
                if len(content) > _limit(name):
                    raise ConfigurationError(f"{whole} in {archive.name} is larger than any such file of a bundle.")
                found[name] = content
    except UNREADABLE as error:
        raise ConfigurationError(f"{archive} cannot be read as a ZIP archive ({type(error).__name__}).") from None
    return found


def _parsed(name: str, content: bytes) -> dict[str, Any]:
    try:
        if name.endswith(".json"):
            found = json.loads(content)
        else:
            yaml = imported("yaml", "monai")
            try:
                found = yaml.safe_load(io.BytesIO(content))
            except yaml.YAMLError as error:
                raise ValueError(str(type(error))) from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{name} of the MONAI bundle cannot be read.") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{name} of the MONAI bundle holds no mapping.")
    return found
