"""Tables of routing and completeness: rules and their history, where each study stands, what operators ordered.

All on the hospital side. No table holds a value of a header: a sentence may name counts, peers, rules and operators.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.db.models import Hospital, _one_of

STUDY_STATES = (
    "arriving",
    "waiting_series",
    "waiting_pacs",
    "incomplete",
    "routed",
    "no_rule",
    "discarded",
    "own",
)
"""Where a study stands. ``arriving`` needs no row: it is a study whose row is missing or older than its images.

``incomplete``: held until an operator decides; ``own``: it consists of results of this or another OsteoNode.
"""
ORDERS = ("proceed", "discard", "wait")
"""What an operator may order for a study; the newest order counts."""
PACS_WORDS = ("agrees", "differs", "unknown", "silent")
"""What came of asking a PACS for its counts; ``unknown``: it does not hold the study; ``silent``: no usable answer."""


class RuleRevision(Hospital):
    """The whole list of rules after one change; the highest number is in force, the others are its history."""

    __tablename__ = "rule_revisions"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rules: Mapped[str] = mapped_column(Text)
    """JSON, as ``dicom_node.pipeline.routing_rules`` writes it."""
    change: Mapped[str] = mapped_column(String(200))
    actor: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]


class StudyRoute(Hospital):
    """Where a study stood when it was last looked at, and when to look again without news of it."""

    __tablename__ = "study_routes"
    __table_args__ = (CheckConstraint(_one_of("state", STUDY_STATES), name="state"),)
    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    sentence: Mapped[str] = mapped_column(String(1000))
    rule_name: Mapped[str] = mapped_column(String(64))
    instance_count: Mapped[int]
    last_arrival: Mapped[datetime] = mapped_column(index=True)
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    since: Mapped[datetime]
    """When it came into this state with these images; both ways of waiting are one state here."""


class StudyOrder(Hospital):
    """What an operator ordered for a study; rows are never changed but for ``is_open``."""

    __tablename__ = "study_orders"
    __table_args__ = (CheckConstraint(_one_of("action", ORDERS), name="action"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    action: Mapped[str] = mapped_column(String(16))
    rule_name: Mapped[str] = mapped_column(String(64))
    """The rule chosen by hand for ``proceed``; empty: the first that takes it."""
    actor: Mapped[str] = mapped_column(String(64))
    ordered_at: Mapped[datetime]
    is_open: Mapped[bool] = mapped_column(index=True)
    """Whether no pass has carried it out yet."""


class PacsAnswer(Hospital):
    """What a peer answered last about its counts of a study."""

    __tablename__ = "pacs_answers"
    __table_args__ = (CheckConstraint(_one_of("word", PACS_WORDS), name="word"),)
    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    peer_id: Mapped[int] = mapped_column(ForeignKey("peers.id", ondelete="CASCADE"), primary_key=True)
    scope: Mapped[str] = mapped_column(String(8))
    word: Mapped[str] = mapped_column(String(16))
    pacs_count: Mapped[int]
    here_count: Mapped[int]
    instance_count: Mapped[int]
    """Instances of others that were here when it was asked; another number makes the answer stale."""
    tries: Mapped[int]
    asked_at: Mapped[datetime]


class ReceivingAssociation(Hospital):
    """An association that brought an instance: open until it has an outcome; rows that ended are swept after a day."""

    __tablename__ = "receiving_associations"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    calling_aet: Mapped[str] = mapped_column(String(16))
    opened_at: Mapped[datetime] = mapped_column(index=True)
    outcome: Mapped[str | None] = mapped_column(String(32))
