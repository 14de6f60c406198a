"""The three kinds of destinations behind one set of functions: DIMSE, DICOMweb, and an Orthanc's own interface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dicom_node.db.models import Peer
from dicom_node.net.commitment import Reference, TakeReport, ask_for_commitment
from dicom_node.net.dicomweb_store import echo_by_qido, find_study_by_qido, held_by_qido, offer_by_stow
from dicom_node.net.find import find_study
from dicom_node.net.orthanc import echo_orthanc, find_study_in_orthanc, held_by_orthanc, offer_to_orthanc
from dicom_node.net.presence import InstanceKey, held_by
from dicom_node.net.remote import web_server
from dicom_node.net.scu import Echo, Offer, echo, offer_files
from dicom_node.pipeline.addresses import address_of
from dicom_node.pipeline.reidentification import Find
from dicom_node.settings import Settings

OnSent = Callable[[Path, int], None]


class OfferFiles(Protocol):
    """Offers files; as `net.scu.offer_files`, without the address."""

    def __call__(self, paths: Sequence[Path], on_sent: OnSent, ask_for: Sequence[str] = ()) -> Offer:
        """Offer files to the peer."""


@dataclass(frozen=True, slots=True)
class Destination:
    """What can be done with a peer that gets results; every function raises what its counterpart in ``net`` raises.

    Attributes
    ----------
    name
        For sentences.
    offer
        Sends files.
    held
        Says which instances the peer holds.
    find_study
        Says whose study one is there.
    echo
        Verifies the peer.
    commit
        Asks for storage commitment; None where the kind of peer has none.
    """

    name: str
    offer: OfferFiles
    held: Callable[[Sequence[InstanceKey]], set[str]]
    find_study: Find
    echo: Callable[[], Echo]
    commit: Callable[[str, Sequence[Reference], TakeReport, float], None] | None = None


def destination_of(peer: Peer, settings: Settings) -> Destination:
    """Return how to speak to a peer.

    Raises
    ------
    ConfigurationError
        When what its kind needs is not set.
    """
    return MAKERS[peer.kind](peer, settings)


def _dimse(peer: Peer, settings: Settings) -> Destination:
    address = address_of(peer, settings)
    return Destination(
        name=peer.ae_title,
        offer=partial(offer_files, address),
        held=partial(held_by, address),
        find_study=partial(find_study, address),
        echo=partial(echo, address),
        commit=partial(ask_for_commitment, address),
    )


def _dicomweb(peer: Peer, settings: Settings) -> Destination:
    server = web_server(peer, settings.tls_authority_file)
    return Destination(
        name=peer.name,
        offer=partial(offer_by_stow, server),
        held=partial(held_by_qido, server),
        find_study=partial(find_study_by_qido, server),
        echo=partial(echo_by_qido, server),
    )


def _orthanc(peer: Peer, settings: Settings) -> Destination:
    server = web_server(peer, settings.tls_authority_file)
    return Destination(
        name=peer.name,
        offer=partial(offer_to_orthanc, server),
        held=partial(held_by_orthanc, server),
        find_study=partial(find_study_in_orthanc, server),
        echo=partial(echo_orthanc, server),
    )


MAKERS: dict[str, Callable[[Peer, Settings], Destination]] = {
    "dimse": _dimse,
    "dicomweb": _dicomweb,
    "orthanc": _orthanc,
}
"""Kinds of peers (``dicom_node.db.models.PEER_KINDS``)."""
