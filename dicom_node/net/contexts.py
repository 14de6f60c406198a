"""Presentation contexts: what the node accepts as a receiver and proposes as a sender."""

from collections.abc import Iterable, Sequence

from pydicom.uid import UID, UID_dictionary
from pynetdicom import build_context
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from dicom_node.storage.syntaxes import chosen_syntax
from dicom_node.uids import is_uid

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
"""What is asked for where images are retrieved, as contexts are few there; what is sent to the node may come in any of
``dicom_node.storage.syntaxes.KEPT_SYNTAXES``."""

STORAGE_ARC = "1.2.840.10008.5.1.4.1.1."
OTHER_STORAGE = tuple(f"1.2.840.10008.5.1.4.{end}" for end in ("34.1", "34.7", "34.10", "38.1", "39.1")) + tuple(
    f"1.2.840.10008.5.1.4.{end}.1" for end in (43, 44, 45)
)
"""Storage SOP classes outside the arc: RT delivery instructions, hanging protocols, palettes, implant templates."""
NOT_STORAGE = frozenset(
    uid
    for uid, entry in UID_dictionary.items()
    if uid.startswith(STORAGE_ARC) and entry[1] == "SOP Class" and entry[0] and "Storage" not in entry[0]
)
"""Queries that have their number within the arc (protocol approval, inventories)."""

STORAGE_CLASSES = tuple(
    sorted(
        {
            uid
            for uid, entry in UID_dictionary.items()
            if uid.startswith(STORAGE_ARC) and entry[1] == "SOP Class" and uid not in NOT_STORAGE
        }
        | {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
        | {*OTHER_STORAGE}
    )
)
"""Every storage SOP class pydicom or pynetdicom knows, the retired ones too (PS3.6 annex A); later and private ones
are accepted as well."""

ACCEPTED, CLASS_UNKNOWN, SYNTAXES_UNKNOWN = 0, 3, 4
"""Results of a presentation context (PS3.8 9.3.3.2)."""


def is_storage(uid: str) -> bool:
    """Tell whether an abstract syntax is taken for a storage SOP class: a standard, a later or a private one."""
    if uid.startswith(STORAGE_ARC):
        return uid not in NOT_STORAGE
    return uid in STORAGE_CLASSES or (is_uid(uid) and UID(uid).is_private)


def answer_contexts(
    proposed: Iterable[PresentationContext], *, with_commitment: bool = False
) -> list[PresentationContext]:
    """Answer every presentation context a peer proposes.

    Parameters
    ----------
    proposed
        With ids, abstract syntaxes and transfer syntaxes.
    with_commitment
        Whether storage commitment is offered.

    Returns
    -------
    list of PresentationContext
        In the same order, each with its result and one transfer syntax.
    """
    services = {Verification, StorageCommitmentPushModel} if with_commitment else {Verification}
    return [_answer(context, services) for context in proposed]


def _answer(proposed: PresentationContext, services: set[UID]) -> PresentationContext:
    syntaxes = [str(uid) for uid in proposed.transfer_syntax]
    if proposed.abstract_syntax in services:
        chosen = _first_uncompressed(syntaxes)
    elif is_storage(str(proposed.abstract_syntax)):
        chosen = chosen_syntax(syntaxes)
    else:
        return _result(proposed, CLASS_UNKNOWN, None)
    return _result(proposed, SYNTAXES_UNKNOWN if chosen is None else ACCEPTED, chosen)


def _first_uncompressed(syntaxes: Sequence[str]) -> str | None:
    return next((uid for uid in UNCOMPRESSED if uid in syntaxes), None)


def _result(proposed: PresentationContext, result: int, syntax: str | None) -> PresentationContext:
    answer = PresentationContext()
    answer.context_id = proposed.context_id
    answer.abstract_syntax = proposed.abstract_syntax
    answer.transfer_syntax = [UID(syntax or UNCOMPRESSED[1])]
    answer.result = result
    return answer


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
