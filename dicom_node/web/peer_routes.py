"""REST routes of peers."""

from fastapi import APIRouter, HTTPException
from pydantic import ValidationError

from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer, all_peers, change_peer, find_peer, remove_peer, restore_peer
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import NodeError
from dicom_node.pipeline.delivery_peers import destination_of
from dicom_node.settings import Settings
from dicom_node.web.peer_schemas import EchoOut, PeerChange, PeerIn, PeerOut, changed


def peer_routes(databases: Databases, settings: Settings) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/api/peers")

    @router.get("")
    def peers() -> list[PeerOut]:
        """List the peers."""
        with transaction(databases.hospital) as session:
            return [PeerOut.model_validate(peer) for peer in all_peers(session)]

    @router.post("", status_code=201)
    def create_peer(peer: PeerIn) -> PeerOut:
        """Add a peer."""
        with transaction(databases.hospital) as session:
            return PeerOut.model_validate(add_peer(session, Peer(**peer.row())))

    @router.patch("/{name}")
    def change(name: str, change: PeerChange) -> PeerOut:
        """Change a peer; what is left out stays as it is."""
        with transaction(databases.hospital) as session:
            try:
                row = changed(PeerOut.model_validate(find_peer(session, name)), change).row()
            except ValidationError as error:
                raise HTTPException(422, in_words(error)) from None
            return PeerOut.model_validate(change_peer(session, name, row))

    @router.delete("/{name}", status_code=204)
    def delete_peer(name: str) -> None:
        """Remove a peer."""
        with transaction(databases.hospital) as session:
            remove_peer(session, name)

    @router.post("/{name}/restore")
    def restore(name: str) -> PeerOut:
        """Take back that a peer was removed."""
        with transaction(databases.hospital) as session:
            return PeerOut.model_validate(restore_peer(session, name))

    @router.post("/{name}/echo")
    def echo(name: str) -> EchoOut:
        """Verify a peer now: by C-ECHO, a QIDO-RS search, or an Orthanc's version."""
        with transaction(databases.hospital) as session:
            peer = find_peer(session, name)
        return verify(peer, settings)

    return router


def verify(peer: Peer, settings: Settings) -> EchoOut:
    """Ask a peer whether it is there, and put the answer in words."""
    try:
        answer = destination_of(peer, settings).echo()
    except NodeError as error:
        return EchoOut(is_there=False, milliseconds=None, services=[], sentence=str(error))
    milliseconds = round(1000 * answer.seconds, 1)
    offers = f" It offers {', '.join(answer.services)}." if answer.services else ""
    sentence = f"{peer.name} answers in {milliseconds:g} ms.{offers}"
    return EchoOut(is_there=True, milliseconds=milliseconds, services=list(answer.services), sentence=sentence)


def in_words(error: ValidationError) -> str:
    """Return what is wrong in one line; it quotes no value."""
    problems = error.errors(include_input=False, include_url=False)
    return "; ".join(": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")]) for one in problems)
