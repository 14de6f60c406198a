"""From a found study to durable instances: retrieve, compare with the peer's list, try the rest series by series.

Whatever way the images come, none is taken that names another patient or another study than the one that was asked for,
and the end is the same comparison: what the peer lists against what the node holds.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.models import Instance, Peer
from dicom_node.errors import IncompleteRetrieval, NodeError, RetrievalRefused, Unavailable, WrongPatient
from dicom_node.net.remote import web_server
from dicom_node.net.retrieve import DimseSource
from dicom_node.net.sources import Inventory, Keep, Source, Stopped, Tally
from dicom_node.net.web_sources import DicomWebSource, OrthancSource
from dicom_node.pipeline.addresses import address_of
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id
from dicom_node.storage.intake import Arrival

IDENTITY_TAGS = (0x00080005, 0x00080050, 0x00100020, 0x0020000D)
"""Specific Character Set, Accession Number, Patient ID, Study Instance UID, ascending."""
HEAD_BYTES = 1 << 20
"""They stand within this much of a dataset."""
PROGRESS_PAUSE_S = 1.0

Held = Mapping[str, AbstractSet[str]]
"""Series Instance UID -> SOP Instance UIDs of what the node holds of a study."""


def source_of(peer: Peer, settings: Settings) -> Source:
    """Return how a peer is searched and retrieved from.

    Raises
    ------
    ConfigurationError
        When it uses TLS and the node has no usable certificate, or it has no web address.
    """
    if peer.kind == "dimse":
        return DimseSource(address_of(peer, settings), by_move=peer.retrieve_by == "move")
    server = web_server(peer, settings.tls_authority_file)
    return OrthancSource(server, peer.ae_title) if peer.kind == "orthanc" else DicomWebSource(server, peer.ae_title)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which study of which patient; what is empty is not known. A repr shows no patient."""

    study_instance_uid: str
    patient_id: str = field(repr=False)
    accession_number: str = field(repr=False)

    def check(self, header: Dataset) -> None:
        """Compare an image's header with what was asked for.

        Raises
        ------
        WrongPatient
            When it is of another study or another patient, or does not say of which.
        """
        if _text(header, "StudyInstanceUID") != self.study_instance_uid:
            raise WrongPatient("The peer sent an image of another study; nothing more was taken from it.")
        if self.patient_id:
            if _text(header, "PatientID") != self.patient_id:
                raise WrongPatient(
                    "An image of the study names another patient id than the one asked for; nothing more was taken. "
                    "Correct the request, or the study in the PACS."
                )
        elif _text(header, "AccessionNumber") != self.accession_number:
            raise WrongPatient(
                "An image of the study names another accession number than the one asked for, and the peer did not say "
                "whose study it is; nothing more was taken. Name the patient id in the request."
            )


class Gate:
    """Lets the images of one study through to the intake, until it is told to stop.

    Parameters
    ----------
    wanted
        The study and its patient.
    keep
        The intake.
    is_stopped
        Whether to stop: the request was cancelled, or the node stops.
    progress
        Told now and then how many images came.
    """

    def __init__(
        self, wanted: Wanted, keep: Keep, is_stopped: Callable[[], bool], progress: Callable[[int], None]
    ) -> None:
        self._wanted = wanted
        self._keep = keep
        self._is_stopped = is_stopped
        self._progress = progress
        self._told_at = time.monotonic()
        self.association_id = new_id()
        """Under which the images are kept: while it is open their study is not complete."""
        self.passed: set[str] = set()
        self.checked: set[str] = set()
        """Those of ``passed`` whose header could be compared."""
        self.trouble: Exception | None = None

    def keep(self, arrival: Arrival) -> None:
        """Keep one image.

        Raises
        ------
        Stopped
            When no more must come; ``trouble`` says why, where it was no order.
        IntakeError
            When it cannot be kept as an instance; it is in quarantine then.
        """
        self.watch(len(self.passed))
        try:
            header = _identity(arrival)
            if header is not None:
                self._wanted.check(header)
            self._keep(replace(arrival, association_id=self.association_id))
        except (WrongPatient, Unavailable) as error:
            self.trouble = error
            raise Stopped from None
        self.passed.add(arrival.sop_instance_uid)
        if header is not None:
            self.checked.add(arrival.sop_instance_uid)

    def watch(self, count: int) -> None:
        """Go on, or stop; as `sources.Watch`."""
        if self._is_stopped():
            raise Stopped
        if time.monotonic() - self._told_at >= PROGRESS_PAUSE_S:
            self._told_at = time.monotonic()
            self._progress(count)


def retrieve_study(source: Source, wanted: Wanted, gate: Gate, held: Callable[[], Held]) -> tuple[Inventory, Tally]:
    """Retrieve what is missing of a study: all at once, and what then is missing series by series.

    Parameters
    ----------
    source
        Where it is.
    wanted
        The study.
    gate
        Where the images go.
    held
        Asks what the node holds of it now.

    Returns
    -------
    tuple
        What the peer lists, and how the sub-operations ended.

    Raises
    ------
    IncompleteRetrieval
        When images are missing at the end, or the peer lists none.
    WrongPatient, PeerUnavailable, RetrievalRefused, ConfigurationError
        As `Wanted.check` and the source.
    Stopped
        When the gate was told so.
    """
    inventory = source.inventory(wanted.study_instance_uid)
    if not inventory.instance_count:
        raise IncompleteRetrieval(f"{source.name} lists no image of the study.")
    missing = inventory.missing(held())
    is_whole = len(missing) > 0 and sum(missing.values()) == inventory.instance_count
    tally = Tally()
    trouble: NodeError | None = None
    if is_whole:
        tally, trouble = _one(source, wanted, "", inventory, gate)
        missing = inventory.missing(held())
    for series in missing:
        more, problem = _one(source, wanted, series, inventory, gate)
        tally, trouble = tally + more, problem or trouble
        if problem is not None:
            break
    lacking = sum(inventory.missing(held()).values())
    if lacking:
        raise _incomplete(source, inventory, lacking, tally, trouble)
    return inventory, tally


def _one(
    source: Source, wanted: Wanted, series: str, inventory: Inventory, gate: Gate
) -> tuple[Tally, NodeError | None]:
    """Retrieve one series, or the study; what a later or a smaller try may mend is told, not raised."""
    try:
        return source.retrieve(wanted.study_instance_uid, series, inventory, gate.keep, gate.watch), None
    except Stopped:
        if gate.trouble is not None:
            raise gate.trouble from None
        raise
    except Unavailable as error:
        return Tally(), error
    except RetrievalRefused as error:
        if series:
            raise
        return Tally(), error


def _incomplete(
    source: Source, inventory: Inventory, lacking: int, tally: Tally, trouble: NodeError | None
) -> IncompleteRetrieval:
    count = inventory.instance_count
    said = [f"{lacking} of {count} images did not come from {source.name}."]
    said += [str(trouble)] if trouble is not None else []
    return IncompleteRetrieval(" ".join([*said, *outcome_words(tally)]))


def outcome_words(tally: Tally) -> list[str]:
    """Say what went wrong with sub-operations; nothing where nothing did."""
    said = []
    if tally.failed:
        said.append(f"The peer counts {tally.failed} failed transfers.")
    if tally.warned:
        said.append(f"The peer counts {tally.warned} transfers with a warning.")
    return [*said, *tally.sentences]


def check_held(session: Session, hospital_dir: Path, wanted: Wanted, gate: Gate) -> None:
    """Check the images of a study that were not compared at the gate: from before, by C-MOVE, or with a strange header.

    One that came before under the UID of one that came now is another object, and is checked too.

    Raises
    ------
    WrongPatient
        As `Wanted.check`.
    """
    rows = select(Instance.sop_instance_uid, Instance.association_id, Instance.path).where(
        Instance.study_instance_uid == wanted.study_instance_uid, ~Instance.is_own
    )
    for instance, association_id, path in session.execute(rows):
        if association_id != gate.association_id or instance not in gate.checked:
            wanted.check(dcmread(hospital_dir / path, stop_before_pixels=True, specific_tags=list(IDENTITY_TAGS)))


def _identity(arrival: Arrival) -> Dataset | None:
    """Read whose image it is; None where it cannot be read so: it is read anew once it is kept, if it ever is."""
    syntax = UID(arrival.transfer_syntax_uid)
    try:
        head = arrival.dataset[:HEAD_BYTES]
        if syntax.is_deflated:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(arrival.dataset, HEAD_BYTES)
        found = read_dataset(
            BytesIO(head),
            is_implicit_VR=syntax.is_implicit_VR,
            is_little_endian=syntax.is_little_endian,
            stop_when=lambda tag, vr, length: tag > IDENTITY_TAGS[-1],  # noqa: ARG005 - pydicom's signature
            specific_tags=list(IDENTITY_TAGS),
        )
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        return None
    is_cut = len(head) >= HEAD_BYTES and "StudyInstanceUID" not in found
    return None if is_cut else found


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).replace("\x00", "").strip()
