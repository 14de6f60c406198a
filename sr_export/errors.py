"""The error tree of sr_export. All are final: the same input fails the same way, so nothing here is retried.

    ExportError
    |-- SourceMismatch        the source headers do not describe one series of one patient
    |-- IrregularGeometry     the slices do not form one regular grid
    |-- ContradictoryReport   the report contradicts itself or the source
    |-- UnknownConcept        a key is not in the tables of sr_export.codes
    `-- NotExpressible        an older SR class has nothing to say a part of the report with

No message carries an identifier of the patient: messages name attributes, keys and counts.
"""


class ExportError(Exception):
    """No valid result object can be built from this report and these headers."""


class SourceMismatch(ExportError):  # noqa: N818 - named after what was found
    """The source headers disagree with one another, or lack what every result object must repeat."""


class IrregularGeometry(ExportError):  # noqa: N818 - named after what was found
    """Slice positions are missing, repeated, unevenly spaced or tilted, so a mask has no place in space."""


class ContradictoryReport(ExportError):  # noqa: N818 - named after what was found
    """The report says something that cannot be true, such as a mask of another shape than the source."""


class UnknownConcept(ExportError):  # noqa: N818 - named after what was found
    """A measurement, structure or category has a key that no table of ``sr_export.codes`` holds."""


class NotExpressible(ExportError):  # noqa: N818 - named after what was found
    """The report holds a value type that an older SR class lacks, and nothing in that class comes near it."""
