"""What an answer may be: the Accept header, or the ``accept`` parameter in its place (PS3.18 8.3.3.1, 8.7)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import HTTPException, Request

from dicom_node.dicomweb.multipart import MediaType, media_type

ACCEPT_LIMIT = 4096
RELATED = "multipart/related"
ANY_SYNTAX = "*"
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing the asker takes.

    Attributes
    ----------
    name
        Media type of a part, or of the whole answer; it may hold ``*``.
    transfer_syntax_uid
        As asked for; empty where nothing was said, ``*`` for any.
    is_multipart
        Whether the answer is multipart/related.
    """

    name: str
    transfer_syntax_uid: str
    is_multipart: bool

    def takes(self, name: str) -> bool:
        """Tell whether a media type is among those meant."""
        main, _, sub = self.name.partition("/")
        return self.name in ("*/*", name) or (sub == "*" and name.startswith(f"{main}/"))


def choices(request: Request) -> list[Choice]:
    """Return what the asker takes, best first; anything at all where nothing was said."""
    value = request.query_params.get("accept") or ",".join(request.headers.getlist("accept")) or "*/*"
    if len(value) > ACCEPT_LIMIT:
        raise HTTPException(400, "The Accept header is too long.")
    ranges = [media_type(one) for one in _COMMA.split(value) if one.strip()]
    ranked = sorted(ranges, key=_quality, reverse=True)
    return [choice for one in ranked if _quality(one) > 0 for choice in _choices_of(one)]


def refusal(can: str) -> HTTPException:
    """Return the error for an asker that takes nothing of what there is."""
    return HTTPException(406, f"None of the acceptable media types can be given; there is: {can}.")


def _choices_of(wanted: MediaType) -> Iterator[Choice]:
    syntax = wanted.parameters.get("transfer-syntax", "")
    if wanted.name == RELATED:
        yield Choice(wanted.root or "*/*", syntax, is_multipart=True)
    elif wanted.name == "*/*":
        yield Choice("*/*", syntax or ANY_SYNTAX, is_multipart=True)
    else:
        yield Choice(wanted.name, syntax, is_multipart=False)


def _quality(wanted: MediaType) -> float:
    try:
        return float(wanted.parameters.get("q", "1"))
    except ValueError:
        return 0.0
