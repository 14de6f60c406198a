"""What the REST interface takes and gives of peers; the commands use the same."""

import hashlib
from ipaddress import ip_network
from pathlib import PurePosixPath
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_HOSTS_LENGTH = 500

ResultObject = Literal["sr", "seg", "sc", "pdf"]
"""Keys of ``dicom_node.db.models.RESULT_KINDS``."""
SrClass = Literal["auto", "comprehensive_3d", "comprehensive", "enhanced", "basic_text"]
"""``dicom_node.db.models.SR_CLASSES``."""
Kind = Literal["dimse", "dicomweb", "orthanc"]
"""``dicom_node.db.models.PEER_KINDS``."""
ALL_OBJECTS: tuple[ResultObject, ...] = get_args(ResultObject)
DEFAULT_PORTS = {"http": 80, "https": 443}
WEB_TITLE = "web:"
"""Begins the title that stands for the AE title of a peer on the web that has none; no AE calls itself so."""


def objects_column(objects: list[ResultObject]) -> str:
    """Return chosen objects as the column holds them: all of them as empty, so that kinds to come are among them."""
    return "" if set(objects) == set(ALL_OBJECTS) else ",".join(key for key in ALL_OBJECTS if key in objects)


def objects_from_column(value: object) -> object:
    """Return what ``objects_column`` made as a list again; anything else as it is."""
    if not isinstance(value, str):
        return value
    return [part for part in value.replace(" ", "").split(",") if part] or list(ALL_OBJECTS)


class PeerIn(BaseModel):
    """A peer to add. One on the web needs a URL, and no host, port or AE title: they are derived from it."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w .-]+$")
    kind: Kind = "dimse"
    ae_title: str = Field("", max_length=16, pattern=r"^[ -\[\]-~]*$")
    host: str = Field("", max_length=255, pattern=r"^[\w.:-]*$")
    port: int | None = Field(None, ge=1, le=65535)
    url: str = Field("", max_length=500)
    credentials_file: str = Field("", max_length=500)
    may_send: bool = True
    receives_results: bool = True
    allowed_hosts: list[str] = []
    max_associations: int | None = Field(None, ge=1, le=1000)
    uses_tls: bool = False
    objects: list[ResultObject] = list(ALL_OBJECTS)
    sr_class: SrClass = "auto"
    is_queried: bool = False
    retrieve_by: Literal["get", "move"] = "get"
    requests_per_minute: int | None = Field(None, ge=1, le=100_000)
    wants_commitment: bool = False
    is_checked: bool = False

    _as_list = field_validator("objects", mode="before")(objects_from_column)

    @field_validator("objects")
    @classmethod
    def _not_nothing(cls, value: list[ResultObject]) -> list[ResultObject]:
        if not value:
            raise ValueError("name at least one of sr, seg, sc, pdf; a peer that gets nothing has receives_results off")
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _one_by_one(cls, value: object) -> object:
        """Take the column's own form too: addresses with commas between them."""
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        for one in value:
            try:
                ip_network(one, strict=False)
            except ValueError:
                raise ValueError("each is an IP address or a network such as 10.1.0.0/16, no host name") from None
        if len(",".join(value)) > MAX_HOSTS_LENGTH:
            raise ValueError(f"all together may have {MAX_HOSTS_LENGTH} characters")
        return value

    @field_validator("url")
    @classmethod
    def _is_base_address(cls, value: str) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            is_usable = parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("a base address is http:// or https://, a host, and a path where there is one")
        if "@" in parts.netloc:
            raise ValueError("user and password do not stand in the address; name a credentials file")
        if parts.query or parts.fragment:
            raise ValueError("a base address ends before any ? or #")
        return value.rstrip("/")

    @field_validator("credentials_file")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if value and not PurePosixPath(value).is_absolute():
            raise ValueError("name the file by its absolute path: the node runs in a folder of its own")
        return value

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "PeerIn":
        if self.kind == "dimse":
            missing = [name for name in ("ae_title", "host", "port") if not getattr(self, name)]
            if missing:
                raise ValueError(f"a DIMSE peer needs {', '.join(missing)}")
            if self.url or self.credentials_file:
                raise ValueError("a DIMSE peer has no URL and no credentials file")
            return self
        if not self.url:
            raise ValueError(f"a peer of kind {self.kind} needs a URL")
        if self.wants_commitment:
            raise ValueError("only a DIMSE peer has storage commitment; is_checked asks any kind")
        parts = urlsplit(self.url)
        self.host, self.port = str(parts.hostname), parts.port or DEFAULT_PORTS[parts.scheme]
        if not self.ae_title or self.ae_title.startswith(WEB_TITLE):
            self.ae_title = WEB_TITLE + hashlib.sha256(self.name.encode()).hexdigest()[:12]
            self.may_send = False
        return self

    def row(self) -> dict[str, Any]:
        """Return the columns of a peer."""
        lists = {"allowed_hosts": ",".join(self.allowed_hosts), "objects": objects_column(self.objects)}
        return {**self.model_dump(exclude={"id"}), **lists}


class PeerChange(BaseModel):
    """What of a peer to change; what is left out stays as it is. Its name and kind cannot change."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    ae_title: str | None = None
    host: str | None = None
    port: int | None = None
    url: str | None = None
    credentials_file: str | None = None
    may_send: bool | None = None
    receives_results: bool | None = None
    allowed_hosts: list[str] | None = None
    max_associations: int | None = None
    uses_tls: bool | None = None
    objects: list[str] | None = None
    sr_class: str | None = None
    is_queried: bool | None = None
    retrieve_by: str | None = None
    requests_per_minute: int | None = None
    wants_commitment: bool | None = None
    is_checked: bool | None = None


class PeerOut(PeerIn):
    """A configured peer."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")

    id: int


def changed(peer: PeerOut, change: PeerChange) -> PeerIn:
    """Return a peer with a change made, judged as a new one is.

    A peer that moves to another server loses its credentials file, unless the change names one: what was a secret with
    the old server is not sent to the new one.

    Raises
    ------
    ValidationError
        When it is no peer any more.
    """
    changes = change.model_dump(exclude_unset=True)
    if changes.get("url") and _server(changes["url"]) != _server(peer.url):
        changes.setdefault("credentials_file", "")
    return PeerIn.model_validate({**peer.model_dump(exclude={"id"}), **changes})


def _server(url: str) -> tuple[str, str]:
    """Return scheme and host with port of an address."""
    scheme, _, rest = url.partition("://")
    return scheme.lower(), rest.split("/", 1)[0].lower()


class EchoOut(BaseModel):
    """How a peer answered; ``milliseconds`` is None where it did not."""

    is_there: bool
    milliseconds: float | None
    services: list[str]
    sentence: str
