"""The node's error tree.

::

    NodeError
    |-- Unavailable          retried: a disk, peer or database is away
    |   |-- DiskFull
    |   `-- PeerUnavailable
    |       `-- NothingAccepted
    |-- ConfigurationError   final: an administrator has to change something
    |   `-- NotFound         what was named is not there
    |-- IntakeError          final: an instance cannot be kept as a member of a study
    |-- JobRejected          final: the study cannot be analysed; the sentence says why
    |   `-- Quarantined      with a typed cause (dicom_node.identity.causes)
    |-- JobFailed            final: a step ended abnormally
    |-- JobDiscarded         final: a newer job does this one's work
    `-- DeliveryRefused      final: a peer or the gate refused a result object

Messages are sentences for people: what was found, what was expected, what to do. They never hold an
identifier of a patient.
"""


class NodeError(Exception):
    """Something the node could not do."""


class Unavailable(NodeError):  # noqa: N818 - the name is the state, as in product.md's retry table
    """A resource is away for now; the same action may succeed later."""


class DiskFull(Unavailable):
    """The reserve of free disk space would be used up."""


class PeerUnavailable(Unavailable):
    """A peer does not answer, refuses the association, or is out of resources."""


class NothingAccepted(PeerUnavailable):
    """A peer accepted an association and none of its presentation contexts; for a delivery that is final."""


class ConfigurationError(NodeError):
    """A setting, key file or calibration file is missing or wrong."""


class NotFound(ConfigurationError):  # noqa: N818 - the HTTP status it becomes is named so
    """What was named is not there."""


class IntakeError(NodeError):
    """A received object lacks what makes it a DICOM instance of a study."""


class JobRejected(NodeError):  # noqa: N818 - a verdict about the study, not a fault of the node
    """The study holds nothing this node can analyse, or must not be analysed."""


class JobFailed(NodeError):  # noqa: N818 - the job state's own name
    """A step of the job ended abnormally (time limit, memory limit, crash)."""


class JobDiscarded(NodeError):  # noqa: N818 - the job state's own name
    """A newer job does this one's work."""


class DeliveryRefused(NodeError):  # noqa: N818 - a verdict of the gate or the peer
    """A result object did not pass the gate, or a peer refused it for good."""
