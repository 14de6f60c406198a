"""The error tree of ``inference``. Every message says what was found, what was expected and what to do.

    InferenceError
    +-- VolumeError              the images cannot become one volume
    |   +-- NotCt                not CT images
    |   +-- Localizer            scout images, alone or among slices
    |   +-- MixedPatients        images of more than one patient
    |   +-- MixedSeries          images of more than one study, series, frame of reference or protocol
    |   +-- MixedGeometry        slices of different size, pixel spacing or orientation
    |   +-- MissingGeometry      no position, orientation or spacing in the header
    |   +-- TooFewSlices         too few slices, or too short a stack
    |   +-- DuplicateSlices      two slices at one position
    |   +-- MissingSlices        gaps of whole slices
    |   +-- IrregularSpacing     positions that are not equidistant
    |   +-- GantryTilt           slices stacked obliquely to their own plane
    |   +-- TruncatedPixelData   fewer pixel bytes than the header states
    |   +-- UnsupportedPixels    pixels that cannot be decoded, or are not on the Hounsfield scale
    +-- CalibrationError         a calibration record that cannot be used
    +-- SegmentationError        a segmenter that broke its contract

All of them are final: the same images give the same error. Messages carry counts, positions and technical
values, never a UID, a patient's name, ID or birth date.
"""


class InferenceError(Exception):
    """Root of what this package raises."""


class VolumeError(InferenceError):
    """The images given cannot become one CT volume."""


class NotCt(VolumeError):  # noqa: N818 - named after what was found
    """At least one object is not a CT image."""


class Localizer(VolumeError):  # noqa: N818 - named after what was found
    """At least one image is a localizer (scout view): a projection, not a slice."""


class MixedPatients(VolumeError):  # noqa: N818 - named after what was found
    """The images belong to more than one patient; nothing may be computed from them."""


class MixedSeries(VolumeError):  # noqa: N818 - named after what was found
    """The images belong to more than one study, series, frame of reference or protocol."""


class MixedGeometry(VolumeError):  # noqa: N818 - named after what was found
    """The slices differ in size, pixel spacing or orientation, so they are not one grid."""


class MissingGeometry(VolumeError):  # noqa: N818 - named after what was found
    """A slice does not say where it lies, how it is turned, or how large its pixels are."""


class TooFewSlices(VolumeError):  # noqa: N818 - named after what was found
    """Too few slices, or too short a stack, to hold a bone."""


class DuplicateSlices(VolumeError):  # noqa: N818 - named after what was found
    """Two or more slices lie at the same position, for example two contrast phases in one series."""


class MissingSlices(VolumeError):  # noqa: N818 - named after what was found
    """Whole slices are missing from an otherwise regular stack."""


class IrregularSpacing(VolumeError):  # noqa: N818 - named after what was found
    """The distances between slices differ, and not by whole missing slices."""


class GantryTilt(VolumeError):  # noqa: N818 - named after what was found
    """The stack is sheared: slices are shifted within their own plane from one to the next."""


class TruncatedPixelData(VolumeError):  # noqa: N818 - named after what was found
    """An image holds fewer bytes of pixels than its header states."""


class UnsupportedPixels(VolumeError):  # noqa: N818 - named after what was found
    """The pixels cannot be decoded here, or their values are not Hounsfield units."""


class CalibrationError(InferenceError):
    """A calibration record is malformed, physically impossible or ambiguous."""


class SegmentationError(InferenceError):
    """A segmenter returned labels that do not fit the volume or its own contract."""
