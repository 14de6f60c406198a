"""The errors of de-identification. A message holds tags and kinds of fault, never a value from a dataset.

::

    DeidError
    ├── InvalidProfile        the profile contradicts itself
    ├── InvalidSubject        the pseudonym or the date offset cannot be used
    ├── InvalidKey            the secret key is too short
    └── RefusedDataset        this dataset cannot be de-identified; it belongs in quarantine
        ├── MissingPatientId
        ├── MissingIdentifier(tag)
        ├── UnreadableElement(tag, kind)
        ├── UnsupportedObject(kind)
        └── NestedTooDeep
"""


class DeidError(Exception):
    """Base of every error of this package."""


class InvalidProfile(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The options of a profile contradict one another, or a private rule is malformed."""


class InvalidSubject(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The pseudonym is empty or too long, or the date offset is not a whole number of weeks."""


class InvalidKey(DeidError):  # noqa: N818 - named by what happened, as the whole tree is
    """The secret key has fewer bytes than the security of the mapping needs."""


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


def tag_text(tag: int) -> str:
    """Write a 32-bit tag the way the standard does: ``(0010,0020)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
