"""The node's error tree.

::

    NodeError
    |-- Unavailable          retried: a disk, peer or database is away
    |   |-- DiskFull
    |   |-- IncompleteRetrieval
    |   `-- PeerUnavailable
    |       `-- NothingAccepted
    |-- ConfigurationError   final: an administrator has to change something
    |   |-- NotFound         what was named is not there
    |   `-- SegmenterNotReady  a segmenter lacks its weights or packages
    |-- IntakeError          final: an instance cannot be kept as a member of a study
    |   `-- NotDicom         the bytes of a file are no DICOM
    |-- InstanceUnreadable   final: a kept instance is not what its transfer syntax says
    |-- SearchTooBroad       final: a search would have to read more files than one may
    |-- ImportFailed         final: some of the files named were not imported
    |-- JobRejected          final: the study cannot be analysed; the sentence says why
    |   `-- Quarantined      with a typed cause (dicom_node.identity.causes)
    |-- JobFailed            final: a step ended abnormally
    |   `-- StepCrashed      repeated: the step's process was ended from outside, as by a lack of memory
    |-- JobDiscarded         final: a newer job does this one's work
    |-- JobHeld              the job waits for an operator
    |-- InputGone            the job goes back to the step that makes what is missing
    |-- ClaimLost            this execution may not write for the job any more
    |-- RetrievalRefused     final: a peer cannot be asked for images this way, or refuses it
    |-- WrongPatient         final: a study is not of the patient that was asked for
    |-- AssociationLost      final: an association that a peer opened broke; it never leaves ``net``
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


class SegmenterNotReady(ConfigurationError):  # noqa: N818 - the state
    """A segmenter that was chosen lacks its weights or packages.

    Parameters
    ----------
    sentence
        What is missing, and how to get it.
    state
        The same in two or three words, for a table.
    """

    def __init__(self, sentence: str, state: str) -> None:
        super().__init__(sentence)
        self.state = state


class IntakeError(NodeError):
    """A received object lacks what makes it a DICOM instance of a study."""


class JobRejected(NodeError):  # noqa: N818 - a verdict about the study, not a fault of the node
    """The study holds nothing this node can analyse, or must not be analysed."""


class JobFailed(NodeError):  # noqa: N818 - the job state's own name
    """A step of the job ended abnormally (time limit, memory limit, crash)."""


class StepCrashed(JobFailed):
    """The process of a step was ended by a signal, as by the system when memory is short."""


class ClaimLost(NodeError):  # noqa: N818 - the state, as in the database
    """The job was cancelled or taken over: this execution may not write for it any more."""


class JobHeld(NodeError):  # noqa: N818 - the job state's own name
    """The job waits for an operator to release or discard it."""


class InputGone(NodeError):  # noqa: N818 - what happened
    """What an earlier step left for this one is not there any more.

    Parameters
    ----------
    sentence
        What is missing.
    step
        The step that makes it.
    """

    def __init__(self, sentence: str, step: str) -> None:
        super().__init__(sentence)
        self.step = step


class JobDiscarded(NodeError):  # noqa: N818 - the job state's own name
    """A newer job does this one's work."""


class DeliveryRefused(NodeError):  # noqa: N818 - a verdict of the gate or the peer
    """A result object did not pass the gate, or a peer refused it for good."""


class IncompleteRetrieval(Unavailable):
    """A peer gave fewer images of a study than it says it has."""


class RetrievalRefused(NodeError):  # noqa: N818 - a verdict of the peer
    """A peer cannot be asked for images in this way, or refuses it for good."""


class WrongPatient(NodeError):  # noqa: N818 - what was found
    """A study, or one of its images, is not of the patient that was asked for."""


class NotDicom(IntakeError):  # noqa: N818 - what was found
    """The bytes are no DICOM file; they are not kept in quarantine either."""


class ImportFailed(NodeError):  # noqa: N818 - the state's own name
    """Some of the files that were to be imported were not; the summary says how many and why."""


class AssociationLost(NodeError):  # noqa: N818 - what happened
    """An association that a peer opened broke: the connection ended, or what came over it was not DICOM.

    Parameters
    ----------
    reason
        In one word, for the log.
    abort_reason
        Reason of the A-ABORT that tells the peer (PS3.8 9.3.8); None when the protocol was kept.
    """

    def __init__(self, reason: str, abort_reason: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.abort_reason = abort_reason


class InstanceUnreadable(NodeError):  # noqa: N818 - what was found
    """A kept instance is not what its transfer syntax says, or holds more than this node reads at once."""


class SearchTooBroad(NodeError):  # noqa: N818 - a verdict about the search
    """A search would have to read more files than one may; a narrower one is answered."""
