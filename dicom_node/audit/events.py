"""What can happen in the node that its audit has to tell: one function an event, one table of kinds.

A function returns an `Event`: who did what to which study or resource, as PS3.15 A.5.3 wants it said. Who *this node*
is, what time it is and which keyed index stands for the patient is filled in when the event is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dicom_node.audit import codes
from dicom_node.audit.chain import Head
from dicom_node.audit.codes import Code
from dicom_node.audit.message import ParticipantObject
from dicom_node.identity.person import Person

Action = Literal["C", "R", "U", "D", "E"]
"""EventActionCode: create, read, update, delete, execute (PS3.15 A.5.2)."""


class Kind(NamedTuple):
    """A row of the table of kinds: its key, the EventID, the EventTypeCode if it has one, and what it tells."""

    key: str
    event: Code
    type: Code | None
    meaning: str


KINDS = {
    kind.key: kind
    for kind in (
        Kind("application_started", codes.APPLICATION_ACTIVITY, codes.APPLICATION_START, "The node started."),
        Kind("application_stopped", codes.APPLICATION_ACTIVITY, codes.APPLICATION_STOP, "The node was stopped."),
        Kind(
            "recording_started",
            codes.SECURITY_ALERT,
            codes.RECORDING_STARTED,
            "Recording began; the message holds the chain's length and last hash, so that a receiver can compare.",
        ),
        Kind(
            "recording_stopped",
            codes.SECURITY_ALERT,
            codes.RECORDING_STOPPED,
            "Recording ended with the node; it holds the chain's length and last hash.",
        ),
        Kind("audit_read", codes.AUDIT_LOG_USED, None, "Somebody listed or exported this audit."),
        Kind(
            "association_rejected",
            codes.SECURITY_ALERT,
            codes.NODE_AUTHENTICATION,
            "An association was refused: unknown AE title, host not allowed, wrong called AE title, no valid "
            "certificate. Repetitions within a minute are one message with their number.",
        ),
        Kind("transfer_begun", codes.BEGIN_TRANSFERRING, None, "Results go to a peer, or a study comes from one."),
        Kind(
            "instances_transferred",
            codes.INSTANCES_TRANSFERRED,
            None,
            "Instances of one study were received or sent over one association or HTTP request; what was refused is "
            "a message of its own.",
        ),
        Kind("query", codes.QUERY, None, "A query was sent to a peer (C-FIND, QIDO-RS), or answered (QIDO-RS)."),
        Kind("import", codes.IMPORT, None, "Instances of one study were read from a folder or a ZIP file."),
        Kind("export", codes.EXPORT, None, "Instances of one study, or the identity map, were written to files."),
        Kind(
            "instances_accessed",
            codes.INSTANCES_ACCESSED,
            None,
            "A job used a study (R), or made result objects in it under the original identity (C).",
        ),
        Kind("patient_record", codes.PATIENT_RECORD, None, "The identity map was used or changed by a person."),
        Kind("network_configuration", codes.SECURITY_ALERT, codes.NETWORK_CONFIGURATION, "A peer changed."),
        Kind("security_configuration", codes.SECURITY_ALERT, codes.SECURITY_CONFIGURATION, "Keys of the map changed."),
        Kind("software_configuration", codes.SECURITY_ALERT, codes.SOFTWARE_CONFIGURATION, "A routing rule changed."),
        Kind(
            "operator_action",
            codes.SECURITY_ALERT,
            codes.RESTRICTED_FUNCTION,
            "Somebody stopped, repeated or forced what the node does by itself.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Party:
    """Who takes part: an application entity, a web client or service, a person.

    Attributes
    ----------
    name
        AE title, address or login name: what the node's logs call it.
    ae_title
        Of an application entity.
    address
        Host name or IP address, where known.
    """

    name: str
    ae_title: str = ""
    address: str = ""


THIS_NODE = Party("")
"""Stands for the node itself until the event is written."""


def application_entity(ae_title: str, address: str = "") -> Party:
    """Return an application entity as a party."""
    return Party(ae_title, ae_title, address)


def web_client(address: str) -> Party:
    """Return who asked over HTTP; there are no accounts, so the address is all that is known."""
    return Party(address, "", address)


@dataclass(frozen=True, slots=True)
class Actor:
    """A party and the part it takes."""

    party: Party
    role: Code | None = None
    is_requestor: bool = False
    media: Code | None = None


@dataclass(frozen=True, slots=True)
class StudyInstances:
    """Instances of one study: number by SOP Class UID."""

    study_instance_uid: str
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def instance_count(self) -> int:
        """Number of instances of all classes."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    kind
        Row of ``KINDS``.
    action
        EventActionCode.
    actors
        Who took part, as A.5.3 orders them.
    sentence
        For people; it never names a patient.
    other
        The party that is not this node: what lists show as *who*.
    outcome
        One of ``codes.OUTCOMES``.
    study
        The study it is about, if one.
    person
        The patient it is about where no study tells; only its keyed index is ever written.
    objects
        Further participant objects.
    """

    kind: Kind
    action: Action
    actors: tuple[Actor, ...]
    sentence: str
    other: Party = THIS_NODE
    outcome: int = codes.SUCCESS
    study: StudyInstances | None = None
    person: Person | None = field(default=None, repr=False)
    objects: tuple[ParticipantObject, ...] = ()


def application_started() -> Event:
    """Tell that the node runs (A.5.3.1)."""
    return Event(KINDS["application_started"], "E", (Actor(THIS_NODE, codes.APPLICATION),), "The node started.")


def application_stopped() -> Event:
    """Tell that the node was told to stop (A.5.3.1)."""
    return Event(KINDS["application_stopped"], "E", (Actor(THIS_NODE, codes.APPLICATION),), "The node was stopped.")


def recording_started(head: Head) -> Event:
    """Tell that recording began on a chain that ends so (A.5.3.11)."""
    return _alert("recording_started", THIS_NODE, _chain_sentence("begins after", head), AUDIT_LOG)


def recording_stopped(head: Head) -> Event:
    """Tell that recording ends with a chain that ends so (A.5.3.11)."""
    return _alert("recording_stopped", THIS_NODE, _chain_sentence("ends after", head), AUDIT_LOG)


def _chain_sentence(verb: str, head: Head) -> str:
    return f"The audit {verb} row {head.number}, hash {head.row_hash or 'none'}."


def audit_read(reader: Party, what: str) -> Event:
    """Tell that somebody read the audit (A.5.3.2)."""
    log = ParticipantObject(
        codes.URI, AUDIT_LOG, codes.SYSTEM_OBJECT, codes.SECURITY_RESOURCE_ROLE, "Security Audit Log"
    )
    actors = (Actor(reader, is_requestor=True), Actor(THIS_NODE))
    return Event(KINDS["audit_read"], "R", actors, f"The audit was read: {what}.", reader, objects=(log,))


def association_rejected(caller: Party, reason: str, count: int = 1) -> Event:
    """Tell that somebody was not let in (A.5.3.11, Node Authentication).

    Parameters
    ----------
    caller
        Who asked, as it calls itself.
    reason
        The ledger's word for it.
    count
        How many times since the message before.
    """
    times = "An association was" if count == 1 else f"{count} associations were"
    sentence = f"{times} rejected: {reason.replace('_', ' ').replace(' ae ', ' AE ')}."
    return _alert("association_rejected", caller, sentence, caller.address, codes.MINOR_FAILURE, codes.NODE_ID)


def transfer_begun(source: Party, destination: Party, study: StudyInstances) -> Event:
    """Tell that a transfer begins (A.5.3.3); the side that is not `THIS_NODE` is the peer."""
    other = destination if source == THIS_NODE else source
    verb = "Sending to" if source == THIS_NODE else "Retrieval from"
    return Event(
        KINDS["transfer_begun"],
        "E",
        _transfer(source, destination),
        f"{verb} {other.name} begins: {_number(study)}.",
        other,
        study=study,
    )


def instances_received(source: Party, study: StudyInstances, refused: str = "", *, is_repeated: bool = False) -> Event:
    """Tell that instances of a study came (A.5.3.7).

    Parameters
    ----------
    source
        Who sent them.
    study
        The study and how many instances of which class.
    refused
        Why they were refused; empty: they were kept.
    is_repeated
        They were here already; of which study they are is not looked up then.
    """
    verb = "Refused" if refused else "Received again" if is_repeated else "Received"
    reason = f" ({refused})" if refused else ""
    return Event(
        KINDS["instances_transferred"],
        "R" if is_repeated else "C",
        _transfer(source, THIS_NODE),
        f"{verb} from {source.name}: {_number(study)}{reason}.",
        source,
        codes.SERIOUS_FAILURE if refused else codes.SUCCESS,
        study,
    )


def instances_sent(destination: Party, study: StudyInstances, failure: str = "", requestor: Party = THIS_NODE) -> Event:
    """Tell that instances of a study went to a peer, or to a web client that asked for them (A.5.3.7).

    Parameters
    ----------
    destination
        Who got them.
    study
        The study and how many instances of which class.
    failure
        Why they were not taken; empty: they were.
    requestor
        Who began it: the node, or the destination.
    """
    verb = "Not taken by" if failure else "Sent to"
    return Event(
        KINDS["instances_transferred"],
        "R",
        _transfer(THIS_NODE, destination, requestor),
        f"{verb} {destination.name}: {_number(study)}. {failure}",
        destination,
        codes.SERIOUS_FAILURE if failure else codes.SUCCESS,
        study,
    )


def query_sent(peer: Party, query: ParticipantObject) -> Event:
    """Tell that the node asked a peer (A.5.3.10); `dicom_node.audit.queries` makes the query's object."""
    sentence = f"A query was sent to {peer.name}."
    return Event(KINDS["query"], "E", _transfer(THIS_NODE, peer), sentence, peer, objects=(query,))


def query_answered(asker: Party, query: ParticipantObject) -> Event:
    """Tell that the node was asked (A.5.3.10)."""
    sentence = f"A query of {asker.name} was answered."
    return Event(KINDS["query"], "E", _transfer(asker, THIS_NODE), sentence, asker, objects=(query,))


def imported(by: Party, source_uri: str, study: StudyInstances) -> Event:
    """Tell that instances of a study were read from files (A.5.3.5)."""
    actors = (
        Actor(by, codes.DESTINATION, is_requestor=True),
        Actor(Party(source_uri), codes.SOURCE_MEDIA, media=codes.MEDIA_URI),
    )
    return Event(KINDS["import"], "C", actors, f"Imported: {_number(study)}.", by, study=study)


def exported(
    by: Party, destination_uri: str, what: str, study: StudyInstances | None = None, person: Person | None = None
) -> Event:
    """Tell that data left the node as files (A.5.3.4).

    Parameters
    ----------
    by
        Who did it.
    destination_uri
        Where they are; it must not hold a patient's name.
    what
        In words.
    study, person
        The study, or the patient, it is about.
    """
    actors = (
        Actor(by, codes.SOURCE, is_requestor=True),
        Actor(Party(destination_uri), codes.DESTINATION_MEDIA, media=codes.MEDIA_URI),
    )
    return Event(KINDS["export"], "R", actors, f"{what} left the node as files.", by, study=study, person=person)


def instances_accessed(action: Literal["C", "R", "U"], sentence: str, study: StudyInstances) -> Event:
    """Tell that a job used a study, or made objects in it (A.5.3.6)."""
    return Event(KINDS["instances_accessed"], action, (Actor(THIS_NODE),), sentence, study=study)


def patient_record(by: Party, action: Action, sentence: str, person: Person | None = None) -> Event:
    """Tell that somebody used or changed the identity map (A.5.3.14)."""
    actors = (Actor(by, is_requestor=True), Actor(THIS_NODE))
    return Event(KINDS["patient_record"], action, actors, sentence, by, person=person)


def configuration_changed(
    by: Party, kind: Literal["network", "security", "software"], resource: str, sentence: str
) -> Event:
    """Tell that somebody changed how the node works (A.5.3.11); ``resource`` names what, as the REST interface does."""
    return _alert(f"{kind}_configuration", by, sentence, f"osteonode:{resource}")


def operator_action(by: Party, resource: str, sentence: str, study: StudyInstances | None = None) -> Event:
    """Tell that somebody intervened in a job, a study or a delivery (A.5.3.11, Use of Restricted Function)."""
    return _alert("operator_action", by, sentence, f"osteonode:{resource}", study=study)


AUDIT_LOG = "osteonode:audit"
"""The audit as a resource."""


def _alert(
    key: str,
    by: Party,
    sentence: str,
    resource: str,
    outcome: int = codes.SUCCESS,
    id_type: Code = codes.URI,
    study: StudyInstances | None = None,
) -> Event:
    """Make a Security Alert: the node reports, ``by`` performed it."""
    actors = (Actor(THIS_NODE),) if by == THIS_NODE else (Actor(THIS_NODE), Actor(by))
    subject = ParticipantObject(
        id_type,
        resource or "unknown",
        codes.SYSTEM_OBJECT,
        codes.SECURITY_RESOURCE_ROLE,
        "Subject of the alert",
        details=(("Alert Description", sentence.encode()),),
    )
    return Event(KINDS[key], "E", actors, sentence, by, outcome, study, objects=(subject,))


def _transfer(source: Party, destination: Party, requestor: Party | None = None) -> tuple[Actor, Actor]:
    """Return both ends; unless it is said otherwise, the source began it."""
    begins = source if requestor is None else requestor
    return (
        Actor(source, codes.SOURCE, is_requestor=begins == source),
        Actor(destination, codes.DESTINATION, is_requestor=begins == destination),
    )


def _number(study: StudyInstances) -> str:
    count = study.instance_count
    return f"{count or 'a number of'} instance{'s' if count != 1 else ''}"
