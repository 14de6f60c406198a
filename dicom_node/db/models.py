"""The node's tables, in three databases that share no key.

``Hospital`` knows original UIDs; ``Identity`` is the map between patients and pseudonyms, encrypted;
``Research`` knows pseudonyms only. A job id is random and is the one value both sides hold.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

JOB_STATES = ("submitted", "pending", "processing", "open", "done", "failed", "discarded")
"""CT2S's states as people see them (product.md)."""
CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
"""CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage: what an analysis can use."""
SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
"""Segmentation Storage."""
RESULT_KINDS = {"sr": "sr", "seg": "seg", "sc": "page", "pdf": "pdf"}
"""What a destination can be given or not, and the ``kind`` of its rows in the table of results."""
REJECTION_KIND = "kos"
"""The note that rejects superseded results: it goes to every destination, whatever else that gets."""
SR_KINDS = ("sr", "sr_comprehensive", "sr_enhanced", "sr_text")
"""Kinds of result that are the report: as it was made, and as destinations that take an older class get it."""
SR_CLASSES = ("auto", "comprehensive_3d", "comprehensive", "enhanced", "basic_text")
"""Which SR class a destination gets: the first of the four that its association accepts, or always the one named."""
DELIVERY_STATES = ("PENDING", "SENT", "COMMITTED", "CONFIRMED", "FAILED")
"""To be sent; accepted by the peer; promised by storage commitment; found by asking the peer; dead letter."""
PEER_KINDS = ("dimse", "dicomweb", "orthanc")
"""How a peer is spoken to: DIMSE, DICOMweb (QIDO-RS, WADO-RS, STOW-RS) or an Orthanc's own REST interface."""
RETRIEVALS = ("get", "move")
"""How images are retrieved from a DIMSE peer: C-GET, or C-MOVE to this node."""
PRIORITIES = ("urgent", "normal", "offpeak")
COMMITMENT_STATES = ("WAITING", "REPORTED", "FAILED")
UID_LEVELS = ("study", "series", "frame_of_reference", "instance")


class Utc(TypeDecorator[datetime]):
    """A timezone-aware UTC timestamp on every database; SQLite has none of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time and store UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a timestamp needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Hospital(DeclarativeBase):
    """Hospital side: intake, studies, results and delivery."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Utc()}


class Peer(Hospital):
    """A remote application entity. A removed one stays for the deliveries it was given."""

    __tablename__ = "peers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    ae_title: Mapped[str] = mapped_column(String(16), unique=True)
    host: Mapped[str] = mapped_column(String(255))
    port: Mapped[int] = mapped_column(CheckConstraint("port BETWEEN 1 AND 65535", name="port"))
    may_send: Mapped[bool]
    receives_results: Mapped[bool]
    is_removed: Mapped[bool] = mapped_column(default=False)
    allowed_hosts: Mapped[str] = mapped_column(String(500), default="", server_default="")
    """IP addresses and networks it may call from, with commas between them; empty: any."""
    max_associations: Mapped[int | None]
    uses_tls: Mapped[bool] = mapped_column(default=False, server_default=false())
    objects: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """Keys of ``RESULT_KINDS`` that it gets, with commas between them; empty: every object, also of other kinds."""
    sr_class: Mapped[str] = mapped_column(
        String(16),
        CheckConstraint(_one_of("sr_class", SR_CLASSES), name="sr_class"),
        default="auto",
        server_default="auto",
    )
    kind: Mapped[str] = mapped_column(
        String(16), CheckConstraint(_one_of("kind", PEER_KINDS), name="kind"), default="dimse", server_default="dimse"
    )
    url: Mapped[str] = mapped_column(String(500), default="", server_default="")
    """Base address of a DICOMweb service or an Orthanc; empty for DIMSE."""
    credentials_file: Mapped[str] = mapped_column(String(500), default="", server_default="")
    """File with the user and password, or the token, for ``url``; the database holds neither."""
    is_queried: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Requests look for studies here, and retrieve them from here."""
    retrieve_by: Mapped[str] = mapped_column(
        String(8),
        CheckConstraint(_one_of("retrieve_by", RETRIEVALS), name="retrieve_by"),
        default="get",
        server_default="get",
    )
    requests_per_minute: Mapped[int | None]
    """Retrievals at most in a minute; None: no limit."""
    wants_commitment: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Storage commitment is asked of it for what it was sent."""
    is_checked: Mapped[bool] = mapped_column(default=False, server_default=false())
    """It is asked by C-FIND or QIDO-RS whether it holds what it was sent."""


class Instance(Hospital):
    """One received object, durable on disk before this row is committed."""

    __tablename__ = "instances"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "sha256"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(String(255))
    calling_aet: Mapped[str] = mapped_column(String(16))
    is_own: Mapped[bool]
    is_correction: Mapped[bool | None]
    """Of a Segmentation that others made: whether it corrects ours; None until it was looked at."""
    received_at: Mapped[datetime] = mapped_column(index=True)
    association_id: Mapped[str | None] = mapped_column(String(32))
    """The association that brought it (``dicom_node.db.routing_tables.ReceivingAssociation``)."""
    is_examined: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Of an object of a class this node makes: whether its equipment was looked at."""


class Quarantined(Hospital):
    """An object kept aside with the cause; never deleted by the node."""

    __tablename__ = "quarantine"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    cause: Mapped[str] = mapped_column(String(64))
    sentence: Mapped[str] = mapped_column(String(500))
    path: Mapped[str] = mapped_column(String(255))
    calling_aet: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[datetime]


class StudyVersion(Hospital):
    """A study as it was when arrivals had been quiet; late images make the next version.

    ``ct_count`` counts the CT instance rows it covers, so that a row committed late can never be missed by a
    comparison of clocks. ``correction_id`` is the instance of a corrected segmentation that replaces the automatic one.
    """

    __tablename__ = "study_versions"
    __table_args__ = (UniqueConstraint("study_instance_uid", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    instance_count: Mapped[int]
    ct_count: Mapped[int]
    correction_id: Mapped[str | None] = mapped_column(String(32))
    job_id: Mapped[str] = mapped_column(String(32), unique=True)
    created_at: Mapped[datetime]
    rule_name: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """The routing rule that took it, with the hash of what that rule said then."""
    rule_hash: Mapped[str] = mapped_column(String(64), default="", server_default="")
    pipelines: Mapped[str] = mapped_column(String(32), default="hip,spine", server_default="hip,spine")
    segmenter: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """What finds the bones, as the rule says; empty: as the setting says when the job runs."""
    priority: Mapped[str] = mapped_column(String(16), default="normal", server_default="normal")
    destinations: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Names of the peers that get the results, one a line; empty: as the peers' own settings say."""
    incomplete: Mapped[str] = mapped_column(String(500), default="", server_default="")
    """What it lacked when it was taken all the same; empty: nothing is known to lack."""
    forced_by: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """The operator who had it taken before its time, or by hand."""


class Result(Hospital):
    """One result object made by this node, under the original patient and study."""

    __tablename__ = "results"
    sop_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(String(32), index=True)
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    path: Mapped[str] = mapped_column(String(255))


class Delivery(Hospital):
    """The results of one job on their way to one peer; ``attempt`` is the job's whose results are sent."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("job_id", "peer_id"),
        CheckConstraint(_one_of("state", DELIVERY_STATES), name="state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(String(32), index=True)
    peer_id: Mapped[int] = mapped_column(ForeignKey("peers.id", ondelete="RESTRICT"))
    attempt: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    """Tries since the state last changed."""
    sentence: Mapped[str] = mapped_column(String(500))
    updated_at: Mapped[datetime]
    number: Mapped[int] = mapped_column(default=1, server_default="1")
    """Of the try that is due or running; every one has a workflow of its own."""
    submitted: Mapped[int] = mapped_column(default=0, server_default="0")
    """The last try that was handed to the engine."""
    next_try_at: Mapped[datetime | None] = mapped_column(index=True)
    """None: nothing is left to do."""
    given_up_from: Mapped[str] = mapped_column(String(16), default="", server_default="")
    """The state in which a person gave it up, to undo that."""


class Receipt(Hospital):
    """A peer's answer for one object of a delivery that it accepted, and what it said of it later."""

    __tablename__ = "receipts"
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("results.sop_instance_uid", ondelete="CASCADE"), primary_key=True
    )
    status: Mapped[int]
    received_at: Mapped[datetime]
    sendings: Mapped[int] = mapped_column(default=1, server_default="1")
    """How often it was sent and accepted."""
    committed_at: Mapped[datetime | None]
    commitment_status: Mapped[int | None]
    """Failure reason where the peer did not commit itself (PS3.3 C.14.1.1)."""
    found_at: Mapped[datetime | None]
    is_lost: Mapped[bool] = mapped_column(default=False, server_default=false())
    """The peer does not have it after all, or is to get it again: it is sent once more."""


class AssociationRow(Hospital):
    """The association ledger: one association that stored something, or did not end as it should."""

    __tablename__ = "associations"
    id: Mapped[int] = mapped_column(primary_key=True)
    calling_aet: Mapped[str] = mapped_column(String(16))
    called_aet: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime] = mapped_column(index=True)
    accepted: Mapped[int]
    refused: Mapped[int]
    received_bytes: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str] = mapped_column(String(32))
    is_tls: Mapped[bool] = mapped_column(default=False, server_default=false())
    errors: Mapped[str] = mapped_column(String(200), default="", server_default="")
    """Statuses other than success with their numbers: ``0xA700 3, 0xC000 1``."""
    association_id: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """What the instances it brought call it."""
    is_audited: Mapped[bool] = mapped_column(default=False, server_default=false(), index=True)
    """Whether the audit tells of it."""


class Commitment(Hospital):
    """A peer's request for storage commitment, and how far its report has come."""

    __tablename__ = "commitments"
    __table_args__ = (
        UniqueConstraint("calling_aet", "transaction_uid"),
        CheckConstraint(_one_of("state", COMMITMENT_STATES), name="state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    calling_aet: Mapped[str] = mapped_column(String(16))
    transaction_uid: Mapped[str] = mapped_column(String(64))
    reference_list: Mapped[str] = mapped_column(Text)
    """JSON: pairs of SOP Class UID and SOP Instance UID."""
    state: Mapped[str] = mapped_column(String(16), index=True)
    attempts: Mapped[int]
    sentence: Mapped[str] = mapped_column(String(500))
    received_at: Mapped[datetime]
    due_at: Mapped[datetime]


class Identity(DeclarativeBase):
    """The identity map: a database of its own that never leaves the hospital side."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Utc()}


class Subject(Identity):
    """A patient in a project. Only the pseudonym is in clear; look-up is by keyed blind index."""

    __tablename__ = "subjects"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    blind_index: Mapped[str] = mapped_column(String(64), unique=True)
    id_index: Mapped[str | None] = mapped_column(String(64), index=True)
    """As the blind index but without the issuer, to find the same number under another one."""
    pseudonym: Mapped[str] = mapped_column(String(64), unique=True)
    project: Mapped[str] = mapped_column(String(64), index=True)
    identity: Mapped[bytes] = mapped_column(LargeBinary)
    date_offset: Mapped[bytes] = mapped_column(LargeBinary)
    key_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]


class UidRow(Identity):
    """The way back from a clean UID to the original one."""

    __tablename__ = "uid_rows"
    __table_args__ = (CheckConstraint(_one_of("level", UID_LEVELS), name="level"),)
    clean_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    original_uid: Mapped[bytes] = mapped_column(LargeBinary)
    level: Mapped[str] = mapped_column(String(20))
    key_id: Mapped[str] = mapped_column(String(16))
    subject_id: Mapped[str] = mapped_column(ForeignKey("subjects.id", ondelete="RESTRICT"), index=True)


class KeySet(Identity):
    """A key this database was written with: its name and a fingerprint that tells it from a wrong one."""

    __tablename__ = "key_sets"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))


class AuditRow(Identity):
    """One use of the map by a person; every row holds the hash of the one before."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    action: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(String(500))
    previous_hash: Mapped[str] = mapped_column(String(64))
    row_hash: Mapped[str] = mapped_column(String(64))


class MapState(Identity):
    """One row: how long the audit is and its last hash. Whoever changes the map holds this row."""

    __tablename__ = "map_state"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    audit_rows: Mapped[int]
    audit_hash: Mapped[str] = mapped_column(String(64))


class Research(DeclarativeBase):
    """Research side: jobs and what they found, by pseudonym only."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Utc()}


class Job(Research):
    """One analysis of one version of one study."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(_one_of("state", JOB_STATES), name="state"),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    pipeline: Mapped[str] = mapped_column(String(32))
    priority: Mapped[str] = mapped_column(
        String(16),
        CheckConstraint(_one_of("priority", PRIORITIES), name="priority"),
        default="normal",
        server_default="normal",
    )
    pseudonym: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    stage: Mapped[str] = mapped_column(String(64))
    progress: Mapped[float]
    sentence: Mapped[str] = mapped_column(String(1000))
    attempts: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
    next_step: Mapped[str] = mapped_column(String(16), default="deidentify", server_default="deidentify")
    """The step that runs, or runs next."""
    is_paused: Mapped[bool] = mapped_column(default=False, server_default=false())
    is_released: Mapped[bool] = mapped_column(default=False, server_default=false())
    """An operator let it go on where it had waited for one."""
    due_at: Mapped[datetime | None]
    """Before this time it is not tried again."""
    queue: Mapped[str] = mapped_column(String(8), default="", server_default="", index=True)
    """The engine's queue it was handed to; empty: it waits in this table."""
    ticket: Mapped[int] = mapped_column(default=0, server_default="0")
    """Counts the hand-overs to the engine; only the last one's workflow may begin a step."""
    token: Mapped[str | None] = mapped_column(String(32))
    """Of the one execution that may write for this job now; None: nobody may."""
    executor: Mapped[str] = mapped_column(String(100), default="", server_default="")
    """The process that runs the step, or ran the last one."""
    tries: Mapped[int] = mapped_column(default=0, server_default="0")
    """Times the step that runs next has failed and is repeated."""
    losses: Mapped[int] = mapped_column(default=0, server_default="0")
    """Times the process was lost in that step."""
