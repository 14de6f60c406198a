"""UIDs that are a function of what they name (PS3.5 B.2, UUID-derived UIDs below 2.25).

An identical rerun gives identical UIDs, so sending it again changes nothing in the archive; a changed content
gives a new UID, because an archive that already holds a UID keeps the old content and still answers success.
"""

import hashlib
import uuid
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

NAMESPACE = uuid.UUID("5d0c1f7e-9d0f-4b6e-8a4b-0f6a2c9be3d1")
"""Chosen once at random for this project; changing it changes every UID the node ever makes."""

PLACEHOLDER = UID("2.25.0")
"""Stands for a UID that is computed once the content is known."""


def uid_of(*parts: str) -> UID:
    """Return the UID of a tuple of strings; equal parts give equal UIDs."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8")).hexdigest()
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, digest).int}")


def content_digest(dataset: Dataset) -> str:
    """Return the SHA-256 (hex) of a dataset as it would be written in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = False
    write_dataset(buffer, dataset)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def stamp_uids(datasets: Sequence[Dataset], job_reference: str, kind: str) -> None:
    """Give new objects of one kind one Series Instance UID and a SOP Instance UID each, from their content.

    Where one object of a kind changes, all get new UIDs: an instance cannot lie in two series.

    Parameters
    ----------
    datasets
        Complete but for their own UIDs, which hold ``PLACEHOLDER``; changed in place.
    job_reference
        The job they belong to.
    kind
        ``seg``, ``sr``, ``sc``, ``pdf`` ...; one series per kind and run.
    """
    digests = [content_digest(dataset) for dataset in datasets]
    series_uid = uid_of("series", job_reference, kind, *digests)
    for dataset, digest in zip(datasets, digests, strict=True):
        instance_uid = uid_of("instance", str(series_uid), digest)
        dataset.SeriesInstanceUID = series_uid
        dataset.SOPInstanceUID = instance_uid
        dataset.file_meta.MediaStorageSOPInstanceUID = instance_uid
