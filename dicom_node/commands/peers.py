"""``osteonode peer ...``."""

import argparse
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer, all_peers, change_peer, find_peer, remove_peer, restore_peer
from dicom_node.db.session import open_databases, prepare_databases, transaction
from dicom_node.errors import ConfigurationError, DeliveryRefused, PeerUnavailable
from dicom_node.pipeline.delivery_peers import Destination, destination_of
from dicom_node.settings import Settings
from dicom_node.web.peer_routes import verify as ask
from dicom_node.web.peer_schemas import WEB_TITLE, PeerChange, PeerIn, PeerOut, changed

OPTIONS = {
    "ae_title": "aet",
    "host": "host",
    "port": "port",
    "url": "url",
    "credentials_file": "credentials_file",
    "may_send": "send",
    "receives_results": "results",
    "allowed_hosts": "allow_host",
    "max_associations": "max_associations",
    "uses_tls": "tls",
    "sr_class": "sr_class",
    "is_queried": "queried",
    "retrieve_by": "retrieve_by",
    "requests_per_minute": "requests_per_minute",
    "wants_commitment": "commitment",
    "is_checked": "check",
}
"""Fields of a peer and the options that set them; ``objects`` is read on its own."""


def list_peers(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the peers."""
    del options
    table = Table("name", "kind", "AE title", "address", "may send", "gets", "SR class", "proof")
    with transaction(prepare_databases(settings).hospital) as session:
        peers = [PeerOut.model_validate(peer) for peer in all_peers(session)]
    for peer in peers:
        address = peer.url or f"{peer.host}:{peer.port}{' TLS' if peer.uses_tls else ''}"
        proof = [word for word, is_on in (("commitment", peer.wants_commitment), ("query", peer.is_checked)) if is_on]
        table.add_row(
            peer.name,
            peer.kind,
            "-" if peer.ae_title.startswith(WEB_TITLE) else peer.ae_title,
            address,
            _sends(peer),
            " ".join(peer.objects) if peer.receives_results else "no",
            peer.sr_class if peer.receives_results else "-",
            " ".join(proof) or "-",
        )
    console.print(table)


def add(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Add a peer."""
    peer = PeerIn(name=options.name, kind=options.kind, **_given(options))
    with transaction(prepare_databases(settings).hospital) as session:
        add_peer(session, Peer(**peer.row()))
    console.print(f"Peer {options.name} added. Verify it with: osteonode peer echo {options.name}", highlight=False)


def set_peer(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Change a peer; what is not named stays."""
    given = _given(options)
    if not given:
        raise ConfigurationError("Nothing to set; osteonode peer set --help shows what can be.")
    with transaction(prepare_databases(settings).hospital) as session:
        before = PeerOut.model_validate(find_peer(session, options.name))
        row = changed(before, PeerChange.model_validate(given)).row()
        peer = PeerOut.model_validate(change_peer(session, options.name, row))
    console.print(f"Peer {peer.name} gets {', '.join(peer.objects)}; SR class {peer.sr_class}.", highlight=False)


def remove(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Remove a peer."""
    with transaction(prepare_databases(settings).hospital) as session:
        remove_peer(session, options.name)
    console.print(f"Peer {options.name} removed. Take it back with: osteonode peer restore {options.name}")


def restore(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Take back that a peer was removed."""
    with transaction(prepare_databases(settings).hospital) as session:
        restore_peer(session, options.name)
    console.print(f"Peer {options.name} is back.")


def verify(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Verify a peer by what its kind has for that."""
    with transaction(open_databases(settings).hospital) as session:
        answer = ask(find_peer(session, options.name), settings)
    if not answer.is_there:
        raise PeerUnavailable(answer.sentence)
    console.print(answer.sentence, highlight=False)


def send(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Send every DICOM file of a folder to a peer."""
    if not options.folder.is_dir():
        raise ConfigurationError(f"{options.folder} is not a folder; name a folder with DICOM files.")
    paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
    progress = iter(track(paths, "Sending", console=console))
    offer = _destination(settings, options.name).offer(paths, lambda path, status: next(progress, None))  # noqa: ARG005 - one tick an object
    if offer.refusals:
        raise DeliveryRefused(" ".join(dict.fromkeys(one.sentence for one in offer.refusals)))
    console.print(f"{len(paths)} objects sent to {options.name}.")


def _sends(peer: PeerOut) -> str:
    """Say from where a peer may send, and over how many associations at a time."""
    if not peer.may_send:
        return "no"
    limit = f", {peer.max_associations} at a time" if peer.max_associations else ""
    return f"from {' '.join(peer.allowed_hosts) or 'any host'}{limit}"


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields that options set."""
    named = {field: getattr(options, option, None) for field, option in OPTIONS.items()}
    if options.objects is not None:
        named["objects"] = [part.strip() for part in options.objects.split(",") if part.strip()]
    return {field: value for field, value in named.items() if value is not None}


def _destination(settings: Settings, name: str) -> Destination:
    with transaction(open_databases(settings).hospital) as session:
        peer = find_peer(session, name)
    return destination_of(peer, settings)
