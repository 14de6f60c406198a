"""The tables of the conformance statement, each made from what the code runs on."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from fastapi.routing import APIRoute
from pydicom.uid import UID, EncapsulatedPDFStorage, KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from deid_rules.options import BASIC_PROFILE_CODE, DEFAULT_OPTIONS, METHOD_MEANINGS
from dicom_node import __version__
from dicom_node.audit.codes import OUTCOMES
from dicom_node.audit.events import KINDS
from dicom_node.audit.message import MAX_MESSAGE_BYTES
from dicom_node.audit.syslog import APP_NAME, FACILITY, MESSAGE_ID, SEVERITY
from dicom_node.db.models import CT_CLASSES, SEGMENTATION_CLASS
from dicom_node.dicomweb.archive import Archive
from dicom_node.dicomweb.attributes import KEYS
from dicom_node.dicomweb.place import PREFIX
from dicom_node.dicomweb.render import render_routes
from dicom_node.dicomweb.retrieve import retrieve_routes
from dicom_node.dicomweb.search import search_routes
from dicom_node.dicomweb.store import store_routes
from dicom_node.net import admission, commitment
from dicom_node.net.acceptor import APPLICATION_CONTEXT
from dicom_node.net.admission import WITHOUT_STUDY, Rejection
from dicom_node.net.contexts import STORAGE_CLASSES, UNCOMPRESSED
from dicom_node.net.find import IDENTITY_KEYS, STUDY_KEYS
from dicom_node.net.outcomes import OUTCOME_WORDS, STATUSES
from dicom_node.net.retrieve import SYNTAXES
from dicom_node.net.services import SERVICES
from dicom_node.net.statuses import CLASS_NOT_SUPPORTED, TEXT
from dicom_node.net.tls import CIPHERS
from dicom_node.settings import Settings
from dicom_node.storage.part10 import IMPLEMENTATION_UID, VERSION_NAME
from dicom_node.storage.syntaxes import KEPT_SYNTAXES, NEWER
from sr_export.codes import SCHEME, SCHEME_NAME, SCHEME_VERSION
from sr_export.fallback import REPORT_CLASSES


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def services() -> str:
    """Return the services and roles."""
    rows = [
        (one.sop_class_uid.name, f"`{one.sop_class_uid}`", _yes(one.is_user), _yes(one.is_provider)) for one in SERVICES
    ]
    number = len(STORAGE_CLASSES)
    storage = (f"Storage: {number} SOP classes, and unknown ones", "see 4.2.1", "the results, see 8", "yes")
    return table(("SOP class", "UID", "user (SCU)", "provider (SCP)"), [rows[0], storage, *rows[1:]])


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def identification() -> str:
    """Return what the node says of itself in a negotiation."""
    rows = (
        ("Application Context Name", f"`{APPLICATION_CONTEXT}`"),
        ("Implementation Class UID", f"`{IMPLEMENTATION_UID}`"),
        ("Implementation Version Name", f"`{VERSION_NAME}`"),
        ("Product version", __version__),
        ("Maximum PDU length received", "unlimited (0)"),
        ("Asynchronous operations", "not negotiated: one at a time"),
    )
    return table(("item", "value"), rows)


def storage_classes() -> str:
    """Return the storage SOP classes received."""
    rows = [(UID(uid).name or "(retired)", f"`{uid}`", _verdict(uid)) for uid in STORAGE_CLASSES]
    return table(("SOP class", "UID", "what becomes of an instance"), sorted(rows))


def _verdict(uid: str) -> str:
    if uid in WITHOUT_STUDY:
        return f"refused, 0x{CLASS_NOT_SUPPORTED:04X}: it is of no study"
    if uid in CT_CLASSES:
        return "kept; analysed"
    return "kept; may correct a result" if uid == SEGMENTATION_CLASS else "kept"


def transfer_syntaxes() -> str:
    """Return the transfer syntaxes of storage as provider, and which are proposed for C-GET."""
    rows = [(NEWER.get(uid) or UID(uid).name, f"`{uid}`", "yes" if uid in SYNTAXES else "") for uid in KEPT_SYNTAXES]
    return table(("transfer syntax", "UID", "proposed for C-GET"), rows)


def proposed_contexts() -> str:
    """Return what the node proposes as a user of a service."""
    results = ", ".join(UID(uid).name for uid in UNCOMPRESSED)
    rows = [
        *[(one.sop_class_uid.name, one.syntaxes, "SCU") for one in SERVICES if one.is_user],
        ("Storage commitment, the report", results, "SCP, by role selection (PS3.7 D.3.3.4)"),
        ("Storage of the results of section 8", f"{results}, each in a context of its own", "SCU"),
        ("Storage within C-GET", "those marked in 4.2.1, in contexts of their own where there is room", GET_ROLE),
    ]
    return table(("SOP class", "transfer syntaxes", "role"), rows)


GET_ROLE = "SCP, by role selection"


def rejections() -> str:
    """Return why and how associations are rejected."""
    found = [one for one in vars(admission).values() if isinstance(one, Rejection)]
    rows = [
        (one.result, one.source, one.diagnostic, one.reason.replace("_", " ").replace(" ae ", " AE ")) for one in found
    ]
    return table(("result", "source", "reason", "when"), sorted(set(rows)))


def answered_statuses() -> str:
    """Return the statuses of C-STORE as provider."""
    rows = [(f"0x{status:04X}", TEXT[status], meaning) for status, meaning in ANSWERED.items()]
    return table(("status", "name", "when"), rows)


ANSWERED = {
    0x0000: "the instance is durable: file and folder synced, row committed; also when it was there already",
    0xA700: "less disk space than the reserve is free, or the database is away; send again later",
    0xC000: "no dataset of the negotiated syntax, or a UID is missing or differs from the command; it is in quarantine",
    0x0122: "the SOP class is none of storage, is of no study, or the site refuses it",
    0x0117: "the command names no SOP instance",
    0x0211: "the command is of no service that the node offers",
    0x0110: "an unforeseen failure; the node goes on",
}
"""Statuses the receiver answers; a test compares them with what `net.statuses` and `net.admission` can return."""


def taken_statuses() -> str:
    """Return what becomes of an object of ours after a peer's status."""
    rows = [
        (
            f"0x{row.first:04X}" if row.first == row.last else f"0x{row.first:04X} to 0x{row.last:04X}",
            row.meaning,
            OUTCOME_WORDS[row.outcome],
        )
        for row in STATUSES
    ]
    return table(("status", "meaning", "what becomes of the object"), rows)


def commitment_reasons() -> str:
    """Return the failure reasons of storage commitment as provider."""
    rows = (
        (f"0x{commitment.NO_SUCH_INSTANCE:04X}", "no such instance, or its file is not there in full size"),
        (f"0x{commitment.CLASS_CONFLICT:04X}", "the instance has another SOP class"),
    )
    return table(("failure reason", "when"), rows)


def query_keys() -> str:
    """Return the keys the node sends by C-FIND."""
    rows = (
        ("Whose is this study? Before results are sent", "STUDY", "StudyInstanceUID", ", ".join(IDENTITY_KEYS)),
        (
            "Which studies answer a request?",
            "STUDY",
            "PatientID or AccessionNumber, StudyDate (range), ModalitiesInStudy",
            ", ".join(STUDY_KEYS),
        ),
        ("What is in a study?", "SERIES, IMAGE", "the UIDs above", "UIDs, SOP class, counts"),
        ("Does the peer hold what it was sent?", "IMAGE", "StudyInstanceUID, SeriesInstanceUID", "SOPInstanceUID"),
        ("How many instances does it hold?", "STUDY, SERIES, IMAGE", "the UIDs above", "UIDs, counts"),
    )
    return table(("question", "level", "matching keys", "return keys"), rows)


def limits() -> str:
    """Return the settings that bound associations, with their defaults."""
    names = (
        "max_associations",
        "idle_timeout_s",
        "accept_unknown_peers",
        "dicom_plain",
        "dicom_tls_port",
        "reserve_bytes",
    )
    rows = []
    for name in names:
        field = Settings.model_fields[name]
        default = "" if field.default is None else f"`{field.default}`"
        rows.append((f"`OSTEONODE_{name.upper()}`", default, field.description))
    return table(("setting", "default", "meaning"), rows)


LIMITING = (
    "max_associations",
    "idle_timeout_s",
    "accept_unknown_peers",
    "dicom_plain",
    "dicom_tls_port",
    "reserve_bytes",
)
"""Names of settings."""
NO_ARCHIVE = cast("Archive", None)
"""The routes are listed, never called."""


def web_services() -> str:
    """Return the resources of DICOMweb."""
    found = [
        (group, route)
        for group, make in (
            ("QIDO-RS", search_routes),
            ("STOW-RS", store_routes),
            ("WADO-RS", retrieve_routes),
            ("WADO-RS rendered", render_routes),
        )
        for route in make(NO_ARCHIVE).routes
        if isinstance(route, APIRoute)
    ]
    rows = [
        (group, " ".join(sorted(route.methods or ())), f"`{PREFIX}{route.path}`", route.description.splitlines()[0])
        for group, route in found
    ]
    return table(("service", "method", "resource", "what it does"), sorted(rows))


def web_keys() -> str:
    """Return the attributes that QIDO-RS matches."""
    rows = [(keyword, key.level, MATCHING[key.kind]) for keyword, key in KEYS.items()]
    return table(("attribute", "level", "matching (PS3.4 C.2.2.2)"), rows)


MATCHING = {
    "uid": "list of UIDs",
    "text": "single value, wildcard, list",
    "code": "single value, wildcard, list",
    "name": "single value, wildcard; whatever the case",
    "date": "single value, range",
    "time": "single value, range",
    "number": "single value",
}


def results() -> str:
    """Return the SOP classes of the objects the node makes."""
    reports = [
        (row.name, f"`{row.sop_class_uid}`", "TID 1500" if row.key != "basic_text" else "none", "the report")
        for row in REPORT_CLASSES.values()
    ]
    rows = (
        ("Segmentation", f"`{SEGMENTATION_CLASS}`", "", "bones and regions measured, on the CT's own grid"),
        *reports,
        ("Secondary Capture", f"`{SecondaryCaptureImageStorage}`", "", "the report's pages"),
        ("Encapsulated PDF", f"`{EncapsulatedPDFStorage}`", "", "the same pages"),
        (
            "Key Object Selection",
            f"`{KeyObjectSelectionDocumentStorage}`",
            "TID 2010",
            "which superseded results no longer hold; only where the site wants it",
        ),
    )
    return table(("IOD", "SOP class", "template", "what it holds"), rows)


def coding_scheme() -> str:
    """Return the private coding scheme."""
    rows = [(SCHEME, SCHEME_VERSION, SCHEME_NAME)]
    return table(("coding scheme designator", "version", "name"), rows)


def deidentification() -> str:
    """Return the profile and options of de-identification that hold unless the site sets others."""
    rows = [
        (code, meaning, "by default" if code in {BASIC_PROFILE_CODE, *(str(one) for one in DEFAULT_OPTIONS)} else "")
        for code, meaning in METHOD_MEANINGS.items()
    ]
    return table(("code (CID 7050)", "meaning", "claimed"), rows)


def ciphers() -> str:
    """Return the cipher suites of TLS."""
    rows = [("1.2", suite) for suite in CIPHERS.split(":")]
    return table(("TLS", "cipher suites (names of OpenSSL)"), [*rows, ("1.3", "all of the version's")])


def audit_messages() -> str:
    """Return the audit messages the node makes."""
    rows = [
        (
            f"`{kind.key}`",
            f"{kind.event.code} {kind.event.meaning}",
            f"{kind.type.code} {kind.type.meaning}" if kind.type else "",
            kind.meaning,
        )
        for kind in KINDS.values()
    ]
    return table(("kind", "EventID (DCM)", "EventTypeCode (DCM)", "when"), rows)


def syslog() -> str:
    """Return the parameters of the audit's transmission."""
    severities = ", ".join(f"{OUTCOMES[outcome]} {severity}" for outcome, severity in SEVERITY.items())
    rows = (
        ("Transport", "syslog over TLS (RFC 5425), octet counting; port 6514 unless set otherwise"),
        ("PRI", f"facility {FACILITY}; severity: {severities}"),
        ("APP-NAME, PROCID, MSGID", f"`{APP_NAME}`, the process id, `{MESSAGE_ID}`"),
        ("STRUCTURED-DATA", "none is made, none is processed"),
        ("MSG", "byte order mark, XML declaration, one message in UTF-8"),
        ("Extensions of the schema", "none"),
        ("Largest message", f"below {MAX_MESSAGE_BYTES} octets"),
    )
    return table(("parameter", "value"), rows)


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        services,
        identification,
        storage_classes,
        transfer_syntaxes,
        proposed_contexts,
        rejections,
        answered_statuses,
        taken_statuses,
        commitment_reasons,
        query_keys,
        limits,
        web_services,
        web_keys,
        results,
        coding_scheme,
        deidentification,
        ciphers,
        audit_messages,
        syslog,
    )
}
"""What stands for ``{{ name }}`` in the statement's text."""
