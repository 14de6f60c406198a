"""Files of weights as a site keeps them: who may write them, what they hold, and their checksum.

Weights that anybody on the machine may change are refused: they decide what a bone is. What a file holds is never
executed (``restricted_load``).
"""

import hashlib
import json
import pickle
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from dicom_node.errors import ConfigurationError, SegmenterNotReady

MISSING = "weights missing"
BROKEN = "cannot be used"
JSON_LIMIT_BYTES = 16 * 2**20
"""Largest description that is read; those of nnU-Net and MONAI stay below 1 MB."""
CHUNK_BYTES = 1 << 20


def checked_files(root: Path, files: Iterable[Path]) -> None:
    """Refuse weights that anybody may write.

    Raises
    ------
    SegmenterNotReady
        When a file is missing.
    ConfigurationError
        When a file, or a folder between it and ``root``, is writable for everybody.
    """
    for path in files:
        if not path.is_file():
            raise SegmenterNotReady(f"{path.relative_to(root)} is missing in {root}.", MISSING)
        folders = [place for place in path.parents if place.is_relative_to(root)]
        for place in (path, *folders):
            if place.stat().st_mode & stat.S_IWOTH:
                raise ConfigurationError(
                    f"{place} may be written by everybody on this machine; weights decide what a bone is. "
                    "chmod o-w takes that right away."
                )


def checksum_of(root: Path, files: Sequence[Path]) -> str:
    """SHA-256, hexadecimal, over names (below ``root``) and contents, in the order of the names."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises
    ------
    ConfigurationError
        When it cannot be read so.
    """
    try:
        if path.stat().st_size > JSON_LIMIT_BYTES:
            raise ConfigurationError(f"{path} is larger than any description of a model.")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON ({type(error).__name__}).") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} holds no JSON object.")
    return found


def restricted_load(source: Path | IO[bytes], name: str) -> Any:
    """Read a file that ``torch.save`` wrote: tensors, numbers, words and their containers, nothing that runs.

    Parameters
    ----------
    source
        File, or open stream.
    name
        How sentences call it.

    Raises
    ------
    ConfigurationError
        When it is damaged, cut off, or holds anything else.
    """
    import numpy as np
    import torch
    from numpy.dtypes import Float32DType, Float64DType, Int64DType

    scalar: Any = np.float64(0).__reduce__()[0]
    plain: list[Any] = [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        Float32DType,
        Float64DType,
        Int64DType,
    ]
    try:
        with torch.serialization.safe_globals(plain):
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigurationError(
            f"{name} holds more than weights, or is damaged. Nothing of it was executed; save it again as a plain "
            "state dictionary, by a program you trust."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise ConfigurationError(
            f"{name} cannot be read as a file of weights ({type(error).__name__}): damaged or cut off. Copy it again."
        ) from None
