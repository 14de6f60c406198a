"""Small studies of a real patient under fake names, and a sender that remembers what was acknowledged."""

import hashlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom import Dataset, dcmread
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import CTImageStorage

from dicom_node.demo.fake_ct import FakePatient, Scan, read_nifti, write_series
from dicom_node.public_data import fetch

SENDER = "SCANNER"
SLICES = slice(4, 30)
"""Of the public CT: the hips with little shaft. The analysis takes 1.3 s and makes segmentation, report, pages, PDF."""


def small_scan() -> Scan:
    """Return 26 slices that give a full set of result objects in the shortest time (measured; no strength in it)."""
    scan = read_nifti(fetch("patient") / "example_ct.nii.gz")
    return Scan(scan.array[SLICES], scan.spacing_mm, scan.origin_mm)


@dataclass
class Study:
    """A study on its way to the node.

    ``digests`` is what was made: SOP Instance UID -> SHA-256 of the encoded dataset. ``acknowledged`` is what the node
    answered 0x0000 for.
    """

    name: str
    uid: str
    files: dict[str, Path]
    digests: dict[str, str]
    acknowledged: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    """How often a person ran its job again."""

    @property
    def owed(self) -> list[Path]:
        """Files that were not acknowledged."""
        return [path for uid, path in self.files.items() if uid not in self.acknowledged]


def make_study(scan: Scan, folder: Path, name: str) -> Study:
    """Write a study of a patient of its own; the name is the seed of every UID."""
    patient = replace(FakePatient(), patient_id=f"MRN-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
    files, digests, uid = {}, {}, ""
    for path in write_series(scan, folder, patient, seed=name):
        dataset = dcmread(path)
        uid, instance = str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)
        files[instance] = path
        digests[instance] = digest_of(dataset)
    return Study(name, uid, files, digests)


def digest_of(dataset: Dataset) -> str:
    """Return the SHA-256 of a dataset as it goes over the network."""
    return hashlib.sha256(encode(dataset, False, True) or b"").hexdigest()


def offer(study: Study, port: int, paths: list[Path] | None = None) -> None:
    """Send what is owed (or given) over one association, noting what is acknowledged; ends quietly when it breaks."""
    assoc = connect(port)
    if assoc is None:
        return
    for path in study.owed if paths is None else paths:
        dataset = dcmread(path)
        try:
            status = assoc.send_c_store(dataset)
        except (RuntimeError, ValueError):
            break
        if "Status" not in status:
            break
        uid = str(dataset.SOPInstanceUID)
        if status.Status == 0:
            study.acknowledged.add(uid)
        else:
            study.refused[uid] = int(status.Status)
    if assoc.is_established:
        assoc.release()


def insist(study: Study, port: int, timeout_s: float, is_vain: Callable[[], bool] = lambda: False) -> None:
    """Send what is owed again and again, as a PACS does; give up after a time, or when it is in vain."""
    end = time.monotonic() + timeout_s
    while study.owed and time.monotonic() < end and not is_vain():
        offer(study, port)
        if study.owed:
            time.sleep(0.05)


def connect(port: int, calling: str = SENDER, called: str = "OSTEONODE") -> Association | None:
    """Open an association for CT; None when the node is not there."""
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex(("127.0.0.1", port)):
            return None
    ae = AE(calling)
    ae.connection_timeout, ae.dimse_timeout, ae.acse_timeout = 5, 60, 30
    assoc = ae.associate(
        "127.0.0.1",
        port,
        contexts=[build_context(CTImageStorage, "1.2.840.10008.1.2.1")],
        ae_title=called,
        max_pdu=0,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
    )
    return assoc if assoc.is_established else None


def _no_delay(event: evt.Event) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
