"""Presentation contexts: what the node offers as a receiver and proposes as a sender."""

from collections.abc import Iterable

from pynetdicom import build_context
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""Explicit and Implicit VR Little Endian, in the order proposed."""

ACCEPTED_SYNTAXES = (
    *UNCOMPRESSED,
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
)
"""PS3.5 annex A. Bytes are kept as they come; decoding is the analysis's business."""

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"


def receiver_contexts(*, with_commitment: bool = False) -> list[PresentationContext]:
    """Return every storage class with every accepted transfer syntax, verification, and storage commitment."""
    storage = {str(context.abstract_syntax) for context in AllStoragePresentationContexts} | {LABEL_MAP_SEGMENTATION}
    return [
        build_context(Verification),
        *([build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))] if with_commitment else []),
        *(build_context(uid, list(ACCEPTED_SYNTAXES)) for uid in sorted(storage)),
    ]


def sender_contexts(kinds: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """Return the contexts to propose for (SOP class, transfer syntax) pairs of objects to send.

    A compressed object goes as it is or not at all. An uncompressed one may go in Explicit or in Implicit VR Little
    Endian, each in a context of its own: in a common one the peer would choose, and many choose Implicit.
    """
    asked = {
        (sop_class, offered)
        for sop_class, syntax in kinds
        for offered in (UNCOMPRESSED if syntax in UNCOMPRESSED else (syntax,))
    }
    return [build_context(*pair) for pair in sorted(asked, key=_explicit_first)]


def _explicit_first(pair: tuple[str, str]) -> tuple[bool, str, str]:
    """Order for contexts of which only a number can be proposed: Implicit VR last."""
    return (pair[1] == UNCOMPRESSED[1], *pair)
