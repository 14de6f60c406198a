"""``osteonode peer ...``."""

import argparse

from rich.console import Console
from rich.progress import track
from rich.table import Table

from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer, all_peers, find_peer, remove_peer, set_profile
from dicom_node.db.session import open_databases, prepare_databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.net.scu import Address, echo, send_files
from dicom_node.pipeline.addresses import address_of
from dicom_node.settings import Settings
from dicom_node.web.schemas import PeerIn, PeerOut, PeerProfile


def list_peers(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the peers."""
    del options
    table = Table("name", "AE title", "address", "may send", "from", "at a time", "receives results", "SR class", "TLS")
    with transaction(prepare_databases(settings).hospital) as session:
        for peer in all_peers(session):
            sends, receives, tls = (
                "yes" if flag else "no" for flag in (peer.may_send, peer.receives_results, peer.uses_tls)
            )
            hosts, limit = peer.allowed_hosts.replace(",", " ") or "any host", str(peer.max_associations or "-")
            gets = " ".join(PeerOut.model_validate(peer).objects) if peer.receives_results else receives
            where, form = f"{peer.host}:{peer.port}", peer.sr_class if peer.receives_results else "-"
            table.add_row(peer.name, peer.ae_title, where, sends, hosts, limit, gets, form, tls)
    console.print(table)


def add(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Add a peer."""
    peer = PeerIn(
        name=options.name,
        ae_title=options.aet,
        host=options.host,
        port=options.port,
        may_send=not options.no_send,
        receives_results=not options.no_results,
        allowed_hosts=options.allow_host,
        max_associations=options.max_associations,
        uses_tls=options.tls,
        **_profile(options).model_dump(exclude_none=True),
    )
    with transaction(prepare_databases(settings).hospital) as session:
        add_peer(session, Peer(**peer.row()))
    console.print(f"Peer {options.name} added. Verify it with: osteonode peer echo {options.name}", highlight=False)


def set_peer(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Set which objects a peer gets and in which SR class; what is not named stays."""
    columns = _profile(options).columns()
    if not columns:
        raise ConfigurationError("Nothing to set; name --objects, --sr-class or both.")
    with transaction(prepare_databases(settings).hospital) as session:
        peer = PeerOut.model_validate(set_profile(session, options.name, **columns))
    console.print(f"Peer {peer.name} gets {', '.join(peer.objects)}; SR class {peer.sr_class}.", highlight=False)


def remove(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Remove a peer."""
    with transaction(prepare_databases(settings).hospital) as session:
        remove_peer(session, options.name)
    console.print(f"Peer {options.name} removed.")


def verify(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Verify a peer with C-ECHO."""
    echo(_address(settings, options.name))
    console.print(f"Peer {options.name} answers C-ECHO.")


def send(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Send every DICOM file of a folder to a peer."""
    if not options.folder.is_dir():
        raise ConfigurationError(f"{options.folder} is not a folder; name a folder with DICOM files.")
    paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
    progress = iter(track(paths, "Sending", console=console))
    send_files(_address(settings, options.name), paths, lambda path, status: next(progress, None))  # noqa: ARG005 - one tick an object
    console.print(f"{len(paths)} objects sent to {options.name}.")


def _profile(options: argparse.Namespace) -> PeerProfile:
    objects = None if options.objects is None else [part.strip() for part in options.objects.split(",") if part.strip()]
    return PeerProfile.model_validate({"objects": objects, "sr_class": options.sr_class})


def _address(settings: Settings, name: str) -> Address:
    with transaction(open_databases(settings).hospital) as session:
        peer = find_peer(session, name)
    return address_of(peer, settings)
