"""An audit message and its XML (PS3.15 A.5.1): plain values in, text out.

The module knows the schema: order of elements, which attributes there are. What an event has to say is
`dicom_node.audit.events`'s business. Whatever stands in a value, the XML is well formed and of bounded length.
"""

import base64
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from dicom_node.audit.codes import APPLICATION_SERVER, IP_ADDRESS, MACHINE_NAME, Code

MAX_MESSAGE_BYTES = 32768
"""What PS3.15 A.6 asks a receiver to take; the limits below keep every message smaller."""
MAX_VALUE_CHARACTERS = 250
MAX_QUERY_BYTES = 4096
MAX_SOP_CLASSES = 20
"""Of one study in one message; further ones are counted together, without a UID."""
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 2.2 has no way to write."""


@dataclass(frozen=True, slots=True)
class Participant:
    """An ActiveParticipant: a process or a person.

    Attributes
    ----------
    user_id, alternative_user_id, user_name
        A.5.2.1 to A.5.2.3.
    is_requestor
        Whether it began what happened; one participant at most.
    role
        RoleIDCode, where the message has one.
    access_point
        Host name or IP address.
    media
        Kind of medium, of a medium.
    """

    user_id: str
    alternative_user_id: str = ""
    user_name: str = ""
    is_requestor: bool = False
    role: Code | None = None
    access_point: str = ""
    media: Code | None = None


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """A ParticipantObjectIdentification: a study, a patient, a query, a resource.

    Attributes
    ----------
    id_type, object_id
        What kind of identifier it is, and the identifier.
    type_code, role
        ParticipantObjectTypeCode and its role.
    name
        For people; the schema wants a name wherever there is no query.
    query
        The query itself, in place of a name.
    details
        Pairs of type and value.
    sop_classes
        SOP Class UID and number of instances, of a study; None for what is no study.
    """

    id_type: Code
    object_id: str
    type_code: int
    role: int
    name: str
    query: bytes | None = None
    details: tuple[tuple[str, bytes], ...] = ()
    sop_classes: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who reports: the node's name, and its site."""

    source_id: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """An AuditMessage."""

    event: Code
    action: str
    at: datetime
    outcome: int
    participants: tuple[Participant, ...]
    source: AuditSource
    types: tuple[Code, ...] = ()
    outcome_text: str = ""
    objects: tuple[ParticipantObject, ...] = ()


def clean(value: str, limit: int = MAX_VALUE_CHARACTERS) -> str:
    """Return a value as an XML token: no character XML cannot hold, single spaces, at most ``limit`` characters."""
    return " ".join(NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", value).split())[:limit]


def xml_of(message: Message) -> str:
    """Return the XML of a message, in one line, without declaration."""
    root = ET.Element("AuditMessage")
    event = _add(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=message.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        EventOutcomeIndicator=str(message.outcome),
    )
    _add_code(event, "EventID", message.event)
    for one in message.types:
        _add_code(event, "EventTypeCode", one)
    if message.outcome_text:
        _add(event, "EventOutcomeDescription").text = clean(message.outcome_text)
    for participant in message.participants:
        _add_participant(root, participant)
    site = {"AuditEnterpriseSiteID": message.source.site} if message.source.site else {}
    source = _add(root, "AuditSourceIdentification", **site, AuditSourceID=message.source.source_id)
    _add(source, "AuditSourceTypeCode", **{"csd-code": APPLICATION_SERVER})
    for one_object in message.objects:
        _add_object(root, one_object)
    return ET.tostring(root, encoding="unicode")


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, {name: clean(value) for name, value in attributes.items()})


def _add_code(parent: ET.Element, tag: str, code: Code) -> None:
    _add(parent, tag, **{"csd-code": code.code}, codeSystemName=code.scheme, originalText=code.meaning)


def _add_participant(root: ET.Element, participant: Participant) -> None:
    optional = {
        "AlternativeUserID": participant.alternative_user_id,
        "UserName": participant.user_name,
        "NetworkAccessPointID": participant.access_point,
        "NetworkAccessPointTypeCode": access_point_type(participant.access_point),
    }
    element = _add(
        root,
        "ActiveParticipant",
        UserID=participant.user_id,
        UserIsRequestor="true" if participant.is_requestor else "false",
        **{name: value for name, value in optional.items() if value},
    )
    if participant.role:
        _add_code(element, "RoleIDCode", participant.role)
    if participant.media:
        _add_code(_add(element, "MediaIdentifier"), "MediaType", participant.media)


def access_point_type(access_point: str) -> str:
    """Return the NetworkAccessPointTypeCode of a host name or an IP address; nothing for nothing."""
    if not access_point:
        return ""
    try:
        ipaddress.ip_address(access_point)
    except ValueError:
        return str(MACHINE_NAME)
    return str(IP_ADDRESS)


def _add_object(root: ET.Element, one: ParticipantObject) -> None:
    element = _add(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=one.object_id,
        ParticipantObjectTypeCode=str(one.type_code),
        ParticipantObjectTypeCodeRole=str(one.role),
    )
    _add_code(element, "ParticipantObjectIDTypeCode", one.id_type)
    if one.query is None:
        _add(element, "ParticipantObjectName").text = clean(one.name)
    else:
        _add(element, "ParticipantObjectQuery").text = _base64(one.query)
    for kind, value in one.details:
        ET.SubElement(element, "ParticipantObjectDetail", {"type": clean(kind), "value": _base64(value)})
    if one.sop_classes is not None:
        description = _add(element, "ParticipantObjectDescription")
        for uid, count in _few(one.sop_classes):
            _add(description, "SOPClass", **({"UID": uid} if uid else {}), NumberOfInstances=str(count))


def _few(sop_classes: tuple[tuple[str, int], ...]) -> list[tuple[str, int]]:
    """Return the SOP classes, those beyond the limit as one without a UID."""
    shown, rest = list(sop_classes[:MAX_SOP_CLASSES]), sop_classes[MAX_SOP_CLASSES:]
    return [*shown, ("", sum(count for _, count in rest))] if rest else shown


def _base64(value: bytes) -> str:
    return base64.b64encode(value[:MAX_QUERY_BYTES]).decode("ascii")
