"""The errors of de-identification. A message holds tags and kinds of fault, never a value from a dataset.

::

    DeidError
    ├── InvalidProfile        the profile contradicts itself
    ├── InvalidSubject        the pseudonym or the date offset cannot be used
    ├── InvalidKey            the secret key is too short
    ├── RecipeError(line_number, sentence)   a line of the site's recipe cannot be taken as it stands
    ├── OcrUnavailable        the optional text recognition is not installed
    └── RefusedDataset        this dataset cannot be de-identified; it belongs in quarantine
        ├── MissingPatientId
        ├── MissingIdentifier(tag)
        ├── UnreadableElement(tag, kind)
        ├── UnsupportedObject(kind)
        ├── NestedTooDeep
        ├── UnmappedUid(tag)  on the way back: a reference nobody knows
        └── NotDeidentified   on the way back: an object that was never de-identified
"""


class DeidError(Exception):
    """Base of every error of this package."""


class InvalidProfile(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The options of a profile contradict one another, or a private rule is malformed."""


class InvalidSubject(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The pseudonym is empty or too long, or the date offset is not a whole number of weeks."""


class InvalidKey(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The secret key has fewer bytes than the security of the mapping needs."""


class RecipeError(DeidError):
    """A line of the site's recipe cannot be taken as it stands.

    Attributes
    ----------
    line_number
        Counted from 1; 0 for the recipe as a whole.
    sentence
        What is wrong and what would be right.
    """

    def __init__(self, line_number: int, sentence: str) -> None:
        self.line_number = line_number
        self.sentence = sentence
        super().__init__(f"line {line_number}: {sentence}")


class OcrUnavailable(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The optional text recognition is not installed."""


class RefusedDataset(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The dataset cannot be de-identified safely: quarantine it with this cause."""


class MissingPatientId(RefusedDataset):
    """Patient ID (0010,0020) is absent or empty, so the instance belongs to nobody we could name."""

    def __init__(self) -> None:
        super().__init__("Patient ID (0010,0020) is missing or empty; expected one value")


class MissingIdentifier(RefusedDataset):
    """A UID without which the instance cannot be placed is absent or empty.

    Attributes
    ----------
    tag
        The element, as a 32-bit number.
    """

    def __init__(self, tag: int) -> None:
        self.tag = tag
        super().__init__(f"element {tag_text(tag)} is missing or empty; expected one UID")


class UnreadableElement(RefusedDataset):
    """An element that has to be opened cannot be decoded.

    Attributes
    ----------
    tag
        The element, as a 32-bit number.
    kind
        What was tried, for example ``sequence``.
    """

    def __init__(self, tag: int, kind: str) -> None:
        self.tag = tag
        self.kind = kind
        super().__init__(f"element {tag_text(tag)} cannot be read as {kind}")


class UnsupportedObject(RefusedDataset):
    """A kind of object that has no meaning once de-identified, such as a DICOMDIR.

    Attributes
    ----------
    kind
        The kind, in words of this package.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"a {kind} is not de-identified; send the instances themselves")


class NestedTooDeep(RefusedDataset):
    """Sequences are nested deeper than any real object."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"sequences are nested more than {limit} levels deep")


class UnmappedUid(RefusedDataset):
    """A UID of a result is neither mapped, nor the node's own, nor registered.

    Attributes
    ----------
    tag
        The element that holds it, as a 32-bit number.
    """

    def __init__(self, tag: int) -> None:
        self.tag = tag
        super().__init__(f"element {tag_text(tag)} holds a UID that is neither mapped, ours, nor registered")


class NotDeidentified(RefusedDataset):
    """Patient Identity Removed (0012,0062) is not YES: no identity may be put into such an object."""

    def __init__(self) -> None:
        super().__init__("Patient Identity Removed (0012,0062) is not YES; expected an object of the research side")


def tag_text(tag: int) -> str:
    """Write a 32-bit tag the way the standard does: ``(0010,0020)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
