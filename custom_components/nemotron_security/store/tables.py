"""The schema. A column has the name of the domain's field that it keeps; `migrations/` must make the same."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, override

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    func,
    select,
)
from sqlalchemy.dialects.mysql import DATETIME, TEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

from ..models import Box, Feedback, Floor, House, PictureKind
from .plain import from_plain, to_plain


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC without an offset: the one form that every database has, to the microsecond."""

    impl = DateTime
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None

    @override
    def load_dialect_impl(self, dialect: Dialect) -> Any:
        # MariaDB's plain DATETIME drops fractions of a second.
        return dialect.type_descriptor(DATETIME(fsp=6) if dialect.name in ("mysql", "mariadb") else DateTime())


def _storable(words: str) -> str:
    """Replace what no database keeps in text: halves of surrogate pairs and NUL, both of which a model can say."""
    return words.encode("utf-8", "replace").decode().replace("\0", "?")


class Words(TypeDecorator[str]):
    """Text of any length that came from outside."""

    impl: Text | type[Text] = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else _storable(value)


class ExactWords(Words):
    """Text that is compared character by character: by itself, MariaDB takes accented letters for plain ones."""

    impl = Text().with_variant(TEXT(collation="utf8mb4_bin"), "mysql", "mariadb")
    cache_ok = True


class WordList(TypeDecorator[tuple[str, ...]]):
    """A few texts, in order."""

    impl = JSON
    cache_ok = True

    @override
    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> list[str] | None:
        return None if value is None else [_storable(item) for item in value]

    @override
    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> tuple[str, ...] | None:
        return None if value is None else tuple(value)


class Numbers(TypeDecorator[tuple[int | None, ...]]):
    """A few numbers, in order."""

    impl = JSON
    cache_ok = True

    @override
    def process_bind_param(self, value: Iterable[int | None] | None, dialect: Dialect) -> list[int | None] | None:
        return None if value is None else list(value)

    @override
    def process_result_value(self, value: list[int | None] | None, dialect: Dialect) -> tuple[int | None, ...] | None:
        return None if value is None else tuple(value)


class Name[E: StrEnum](TypeDecorator[E]):
    """A member of an enumeration by its value, so that a new one needs no migration."""

    impl = String(16)
    cache_ok = True

    def __init__(self, names: type[E]) -> None:
        super().__init__()
        self.names = names

    @override
    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.names(value)


class HouseFacts(TypeDecorator[House]):
    """What the house knew, as JSON; null when an older version kept it in a way that is not understood any more."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: House | None, dialect: Dialect) -> Any:
        return None if value is None else to_plain(value)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> House | None:
        try:
            return None if value is None else from_plain(House, value)
        except TypeError, ValueError, AttributeError:
            return None


RULES = "rules"
"""The analyzer whose word is provisional."""

Id = BigInteger().with_variant(Integer, "sqlite")
"""A row's id: 64 bits everywhere; SQLite counts up by itself only in what is called INTEGER."""

_COUNT_UP = {"sqlite_autoincrement": True}
"""Never give the id of a deleted row to another: ids were announced, and name files."""


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double, str: Words, datetime: UtcDateTime, tuple[str, ...]: WordList}  # noqa: RUF012


class BoxColumns:
    """A bounding box in four columns."""

    box_left: Mapped[float]
    box_top: Mapped[float]
    box_right: Mapped[float]
    box_bottom: Mapped[float]

    @property
    def box(self) -> Box:
        """The bounding box in pixels of its frame."""
        return Box(self.box_left, self.box_top, self.box_right, self.box_bottom)

    @box.setter
    def box(self, box: Box) -> None:
        self.box_left, self.box_top, self.box_right, self.box_bottom = box


class PictureRow(BoxColumns, Base):
    """A picture; owns the file that is named by its id. Deleted here first, then as a file, so never by cascade."""

    __tablename__ = "pictures"
    __table_args__ = (Index(None, "incident_id", "score"), _COUNT_UP)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incidents.id"))
    track_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[PictureKind] = mapped_column(Name(PictureKind))
    captured_at: Mapped[datetime]
    score: Mapped[float]
    width: Mapped[int]
    height: Mapped[int]
    size: Mapped[int]


class AssessmentRow(Base):
    """What an analyzer said of an incident; only ever added to."""

    __tablename__ = "assessments"
    __table_args__ = (Index(None, "incident_id"), _COUNT_UP)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    analyzer: Mapped[str] = mapped_column(String(64))
    risk_score: Mapped[int]
    title: Mapped[str]
    summary: Mapped[str]
    reasoning: Mapped[str | None]
    created_at: Mapped[datetime]
    confidence: Mapped[float | None]
    category: Mapped[str | None]
    recommended_action: Mapped[str | None]
    evidence: Mapped[tuple[str, ...]]
    shown: Mapped[tuple[int | None, ...]] = mapped_column(Numbers)
    model: Mapped[str | None]
    floor: Mapped[Floor | None] = mapped_column(Name(Floor))


class IncidentRow(Base):
    """An incident. Its verdict repeats the assessment that counts, so that a list needs no other table."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index(None, "camera_id", "started_at"),
        Index(None, "camera_id", "id"),
        Index(None, "ended_at"),  # finds the open ones: null
        Index(None, "feedback"),
        _COUNT_UP,
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    camera_id: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    labels: Mapped[tuple[str, ...]]
    zones: Mapped[tuple[str, ...]]
    object_count: Mapped[int]
    trigger: Mapped[str | None]
    rules_score: Mapped[int | None]
    risk_score: Mapped[int | None]
    analyzer: Mapped[str | None] = mapped_column(String(64))
    floor: Mapped[Floor | None] = mapped_column(Name(Floor))
    title: Mapped[str]
    summary: Mapped[str]
    reasoning: Mapped[str | None]
    reviewed_at: Mapped[datetime | None]
    feedback: Mapped[Feedback | None] = mapped_column(Name(Feedback))
    note: Mapped[str | None]
    search_text: Mapped[str] = mapped_column(ExactWords, deferred=True)
    """The words of the incident as `search.py` folds them; read by the database alone."""

    # Asked for, not kept: it follows when a picture comes or goes, and no stale copy of an incident can undo it.
    picture_id: Mapped[int | None] = column_property(
        select(PictureRow.id)
        .where(PictureRow.incident_id == id)  # noqa: A003  the column above
        .order_by(PictureRow.score.desc(), PictureRow.id)
        .limit(1)
        .correlate_except(PictureRow)
        .scalar_subquery()
    )
    peak_score: Mapped[int | None] = column_property(
        select(func.max(AssessmentRow.risk_score))
        .where(AssessmentRow.incident_id == id)  # noqa: A003  the column above
        .correlate_except(AssessmentRow)
        .scalar_subquery()
    )


class TrackRow(BoxColumns, Base):
    """One object over time, as an incident keeps it. A track that outlasts an incident is kept by the next as well."""

    __tablename__ = "tracks"

    incident_id: Mapped[int] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True)
    track_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(String(64))
    confidence: Mapped[float]
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    frame_width: Mapped[int]
    frame_height: Mapped[int]
    stationary: Mapped[bool]
    zones: Mapped[tuple[str, ...]]


class DetectionRow(BoxColumns, Base):
    """One object in one frame, sampled."""

    __tablename__ = "detections"
    __table_args__ = (Index(None, "incident_id"), Index(None, "track_id", "detected_at"), _COUNT_UP)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    incident_id: Mapped[int | None] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    track_id: Mapped[int] = mapped_column(BigInteger)
    camera_id: Mapped[str] = mapped_column(String(64))
    object_type: Mapped[str] = mapped_column(String(64))
    confidence: Mapped[float]
    detected_at: Mapped[datetime]
    frame_width: Mapped[int]
    frame_height: Mapped[int]
    zones: Mapped[tuple[str, ...]]


class HarmlessPlaceRow(BoxColumns, Base):
    """A place where something stood that a person called harmless; kept when its incident is deleted.

    The box is in shares of the frame's width and height.
    """

    __tablename__ = "harmless_places"
    __table_args__ = (Index(None, "camera_id"), Index(None, "incident_id"), _COUNT_UP)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    camera_id: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(64))
    incident_id: Mapped[int | None] = mapped_column(ForeignKey("incidents.id", ondelete="SET NULL"))
    created_at: Mapped[datetime]


class JudgementRow(Base):
    """An incident for which an analyzer is asked, or may be once more when it ends."""

    __tablename__ = "judgements"
    __table_args__ = (Index(None, "due_at"),)

    incident_id: Mapped[int] = mapped_column(
        ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    due_at: Mapped[datetime | None]
    """Null when it was judged and has not ended yet."""
    look: Mapped[tuple[str, ...] | None]
    """How the incident was when an analyzer was asked last."""
    tries: Mapped[int]
    problem: Mapped[str | None] = mapped_column(String(32))
    house: Mapped[House | None] = mapped_column(HouseFacts)
