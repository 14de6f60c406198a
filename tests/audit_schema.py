"""What PS3.15 A.5 says about audit messages, as tables to check messages against.

Written from the standard's text: A.5.1.1 for the structure, A.5.3.1 to A.5.3.14 for what each message has to hold.
"""

import base64
import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from xml.etree import ElementTree as ET

TOKEN, BOOLEAN, INTEGER, BASE64 = r".*", "true|false", r"-?\d+", r"[A-Za-z0-9+/]*={0,2}"
DATE_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"


class Shape(NamedTuple):
    """An element: required and optional attributes with their patterns, children in order with how often, text."""

    required: dict[str, str]
    optional: dict[str, str]
    children: tuple[tuple[str, str], ...]
    text: str = ""


def numbers(first: int, last: int) -> str:
    return "|".join(str(number) for number in range(first, last + 1))


CODED = Shape({"csd-code": TOKEN, "codeSystemName": TOKEN, "originalText": TOKEN}, {"displayName": TOKEN}, ())
SHAPES = {
    "AuditMessage": Shape(
        {},
        {},
        (
            ("EventIdentification", "1"),
            ("ActiveParticipant", "+"),
            ("AuditSourceIdentification", "1"),
            ("ParticipantObjectIdentification", "*"),
        ),
    ),
    "EventIdentification": Shape(
        {"EventDateTime": DATE_TIME, "EventOutcomeIndicator": "0|4|8|12"},
        {"EventActionCode": "C|R|U|D|E"},
        (("EventID", "1"), ("EventTypeCode", "*"), ("EventOutcomeDescription", "?")),
    ),
    "EventOutcomeDescription": Shape({}, {}, (), TOKEN),
    "ActiveParticipant": Shape(
        {"UserID": TOKEN, "UserIsRequestor": BOOLEAN},
        {
            "AlternativeUserID": TOKEN,
            "UserName": TOKEN,
            "NetworkAccessPointID": TOKEN,
            "NetworkAccessPointTypeCode": numbers(1, 5),
        },
        (("RoleIDCode", "*"), ("MediaIdentifier", "?")),
    ),
    "MediaIdentifier": Shape({}, {}, (("MediaType", "1"),)),
    "AuditSourceIdentification": Shape(
        {"AuditSourceID": TOKEN}, {"AuditEnterpriseSiteID": TOKEN}, (("AuditSourceTypeCode", "*"),)
    ),
    "AuditSourceTypeCode": Shape({"csd-code": numbers(1, 9)}, {}, ()),
    "ParticipantObjectIdentification": Shape(
        {"ParticipantObjectID": TOKEN},
        {
            "ParticipantObjectTypeCode": numbers(1, 4),
            "ParticipantObjectTypeCodeRole": numbers(1, 26),
            "ParticipantObjectDataLifeCycle": numbers(1, 15),
            "ParticipantObjectSensitivity": TOKEN,
        },
        (
            ("ParticipantObjectIDTypeCode", "1"),
            ("ParticipantObjectName|ParticipantObjectQuery", "1"),
            ("ParticipantObjectDetail", "*"),
            ("ParticipantObjectDescription", "*"),
        ),
    ),
    "ParticipantObjectName": Shape({}, {}, (), TOKEN),
    "ParticipantObjectQuery": Shape({}, {}, (), BASE64),
    "ParticipantObjectDetail": Shape({"type": TOKEN, "value": BASE64}, {}, ()),
    "ParticipantObjectDescription": Shape(
        {},
        {},
        (
            ("MPPS", "*"),
            ("Accession", "*"),
            ("SOPClass", "*"),
            ("ParticipantObjectContainsStudy", "?"),
            ("Encrypted", "?"),
            ("Anonymized", "?"),
        ),
    ),
    "SOPClass": Shape({"NumberOfInstances": INTEGER}, {"UID": r"[0-9.]+"}, (("Instance", "*"),)),
    **dict.fromkeys(("EventID", "EventTypeCode", "RoleIDCode", "MediaType", "ParticipantObjectIDTypeCode"), CODED),
}

STUDY, PATIENT = "110180", "2"


class Table(NamedTuple):
    """A message of A.5.3: actions, whether a type is needed, roles of participants, types of object identifiers.

    Roles and identifiers come with how often: ``1``, ``?``, ``*``, ``+``; a role ``""`` is a participant without one.
    """

    actions: str
    has_type: bool
    roles: dict[str, str]
    objects: dict[str, str]


TABLES = {
    "110100": Table("E", True, {"110150": "1", "110151": "*"}, {}),
    "110101": Table("R", False, {"": "+"}, {"12": "1"}),
    "110102": Table("E", False, {"110153": "1", "110152": "1", "": "*"}, {STUDY: "+", PATIENT: "1"}),
    "110103": Table("CRUD", False, {"": "+"}, {STUDY: "+", PATIENT: "1"}),
    "110104": Table("CRU", False, {"110153": "1", "110152": "1", "": "*"}, {STUDY: "+", PATIENT: "1"}),
    "110106": Table("R", False, {"110152": "*", "110153": "+", "110154": "1"}, {STUDY: "*", PATIENT: "+"}),
    "110107": Table("C", False, {"110152": "+", "110155": "1", "110153": "*"}, {STUDY: "*", PATIENT: "+"}),
    "110110": Table("CRUD", False, {"": "+"}, {PATIENT: "1"}),
    "110112": Table("E", False, {"110153": "1", "110152": "1", "": "*"}, {"110181": "?", "10": "?"}),
    "110113": Table("E", True, {"": "+"}, {"12": "*", "110182": "*", STUDY: "*", PATIENT: "*"}),
}
OBJECT_TYPES = {STUDY: ("2", "3"), PATIENT: ("1", "1"), "12": ("2", "13"), "110182": ("2", "13"), "110181": ("2", "3")}
"""ParticipantObjectTypeCode and role that the tables of A.5.3 fix for an identifier."""


def faults(xml: str) -> list[str]:
    """Return what is wrong with a message: nothing, if it is as A.5 wants it."""
    root = ET.fromstring(xml)
    if root.tag != "AuditMessage":
        return [f"the root is {root.tag}"]
    return [*_shape_faults(root), *_table_faults(root)]


def _shape_faults(element: ET.Element) -> Iterator[str]:
    shape = SHAPES.get(element.tag)
    if shape is None:
        yield f"{element.tag} is no element of the schema"
        return
    allowed = {**shape.required, **shape.optional}
    yield from (f"{element.tag} lacks {name}" for name in shape.required if name not in element.attrib)
    for name, value in element.attrib.items():
        if name not in allowed or not re.fullmatch(allowed[name], value):
            yield f"{element.tag}: {name}={value!r}"
        if value != " ".join(value.split()):
            yield f"{element.tag}: {name} is no token"
    if not re.fullmatch(shape.text or r"\s*", element.text or ""):
        yield f"{element.tag}: text"
    sequence = "".join(f"<{child.tag}>" for child in element)
    order = "".join(
        f"({'|'.join(f'<{one}>' for one in tag.split('|'))}){'' if often == '1' else often}"
        for tag, often in shape.children
    )
    if not re.fullmatch(order, sequence):
        yield f"{element.tag}: children {sequence}"
    for child in element:
        yield from _shape_faults(child)


def _table_faults(root: ET.Element) -> Iterator[str]:
    event = root.find("EventIdentification")
    assert event is not None
    key = event.find("EventID").attrib["csd-code"]  # type: ignore[union-attr]
    table = TABLES.get(key)
    if table is None:
        yield f"no table for event {key}"
        return
    if event.attrib.get("EventActionCode", "") not in table.actions:
        yield f"{key}: action {event.attrib.get('EventActionCode')}"
    if table.has_type and event.find("EventTypeCode") is None:
        yield f"{key}: EventTypeCode is missing"
    if datetime.fromisoformat(event.attrib["EventDateTime"]).tzinfo is None:
        yield "EventDateTime has no time zone"
    yield from _participant_faults(key, table, root.findall("ActiveParticipant"))
    yield from _object_faults(key, table, root.findall("ParticipantObjectIdentification"))


def _participant_faults(key: str, table: Table, participants: list[ET.Element]) -> Iterator[str]:
    requestors = sum(one.attrib["UserIsRequestor"] == "true" for one in participants)
    if requestors > 1 or (key in ("110106", "110107") and not requestors):
        yield f"{key}: {requestors} participants are the requestor"
    roles = [_code(one.find("RoleIDCode")) for one in participants]
    for one, role in zip(participants, roles, strict=True):
        is_medium = role in ("110154", "110155")
        if ("NetworkAccessPointID" in one.attrib) != ("NetworkAccessPointTypeCode" in one.attrib):
            yield "an access point without its type, or a type without one"
        if is_medium and one.attrib["UserIsRequestor"] == "true":
            yield "a medium is the requestor"
        if is_medium != (one.find("MediaIdentifier") is not None):
            yield "a medium without its identifier, or an identifier without one"
    yield from _count_faults(key, "role", table.roles, roles)


def _object_faults(key: str, table: Table, objects: list[ET.Element]) -> Iterator[str]:
    types = [_code(one.find("ParticipantObjectIDTypeCode")) for one in objects]
    yield from _count_faults(key, "object", table.objects, types)
    for one, kind in zip(objects, types, strict=True):
        found = (one.attrib["ParticipantObjectTypeCode"], one.attrib["ParticipantObjectTypeCodeRole"])
        if kind in OBJECT_TYPES and found != OBJECT_TYPES[kind]:
            yield f"{key}: object {kind} has type and role {found}"
        if (kind == STUDY) != (one.find("ParticipantObjectDescription") is not None):
            yield f"{key}: object {kind}: description"
        details = {detail.attrib["type"] for detail in one.findall("ParticipantObjectDetail")}
        if key == "110113" and kind in ("12", "110182") and "Alert Description" not in details:
            yield "an alert without its description"
        if kind == "110181" and ("TransferSyntax" not in details or one.find("ParticipantObjectQuery") is None):
            yield "a DICOM query without dataset or transfer syntax"


def _count_faults(key: str, what: str, allowed: dict[str, str], found: list[str]) -> Iterator[str]:
    for one in found:
        if one not in allowed:
            yield f"{key}: {what} {one!r}"
    for one, often in allowed.items():
        number = found.count(one)
        if (often in "1+" and number == 0) or (often in "1?" and number > 1):
            yield f"{key}: {number} of {what} {one!r}, expected {often}"


def _code(element: ET.Element | None) -> str:
    return "" if element is None else element.attrib["csd-code"]


def text_of(xml: str) -> str:
    """Return a message with every base64 value decoded beside it, for a search for what must not be in it."""
    decoded = [base64.b64decode(value) for value in re.findall(r'value="([^"]*)"', xml)]
    decoded += [base64.b64decode(value) for value in re.findall(r"ObjectQuery>([^<]*)<", xml)]
    return xml + "\n" + "\n".join(one.decode("latin-1") for one in decoded)
