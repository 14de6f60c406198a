"""Where a study, series or instance is on the web (PS3.18 10.4.1)."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import HTTPException, Request

from dicom_node.uids import is_uid

PREFIX = "/dicom-web"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Place:
    """A study, a series of it or an instance of that; empty below its level."""

    study: str
    series: str = ""
    instance: str = ""

    def url(self, base: str) -> str:
        """Return the address it is retrieved from."""
        parts = (("studies", self.study), ("series", self.series), ("instances", self.instance))
        return base + "".join(f"/{word}/{uid}" for word, uid in parts if uid)

    def bulk_address(self, base: str) -> Callable[[str], str]:
        """Return what makes the address of a large value from its place in the dataset."""
        return lambda place: f"{self.url(base)}/bulkdata/{place}"


def base_url(request: Request) -> str:
    """Return the address of the service as the asker knows it.

    Some clients (dicomweb-client) name the host without the port they call. Where that host is this machine itself, and
    not a proxy in front of it, the port is that of the connection.
    """
    url = request.base_url
    server = request.scope.get("server")
    if url.port is None and server and server[1] and url.hostname in (*LOOPBACK, server[0]):
        url = url.replace(port=server[1])
    return f"{str(url).rstrip('/')}{PREFIX}"


def read_uid(text: str) -> str:
    """Return a UID of an address.

    Raises
    ------
    HTTPException
        400 when it is none.
    """
    if not is_uid(text):
        raise HTTPException(400, "The address holds something that is not a UID.")
    return text


def read_place(study: str, series: str = "", instance: str = "") -> Place:
    """Return the place an address names; 400 when it names none."""
    return Place(*(read_uid(uid) if uid else "" for uid in (study, series, instance)))
