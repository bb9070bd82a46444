"""The first schema."""

from typing import Any

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Create every table."""
    _create_incidents()
    _create_tracks()
    _create_detections()
    _create_assessments()
    _create_pictures()


def _column(name: str, kind: sa.types.TypeEngine[Any], *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable)


def _id(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    return (
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )


def _incident(
    table: str, *, nullable: bool = False, ondelete: str | None = "CASCADE"
) -> tuple[sa.schema.SchemaItem, ...]:
    name = f"fk_{table}_incident_id_incidents"
    return (
        sa.Column("incident_id", _ID, nullable=nullable, autoincrement=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name=name, ondelete=ondelete),
    )


def _box() -> tuple[sa.schema.SchemaItem, ...]:
    return tuple(_column(f"box_{side}", sa.Double()) for side in ("left", "top", "right", "bottom"))


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        *_id("incidents"),
        _column("camera_id", sa.String(64)),
        _column("started_at", _TIME),
        _column("last_seen_at", _TIME),
        _column("ended_at", _TIME, nullable=True),
        _column("labels", sa.JSON()),
        _column("object_count", sa.Integer()),
        _column("rules_score", sa.Integer(), nullable=True),
        _column("risk_score", sa.Integer(), nullable=True),
        _column("analyzer", sa.String(64), nullable=True),
        _column("title", sa.Text()),
        _column("summary", sa.Text()),
        _column("reasoning", sa.Text(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_incidents_camera_id_started_at", "incidents", ["camera_id", "started_at"])
    op.create_index("ix_incidents_camera_id_id", "incidents", ["camera_id", "id"])
    op.create_index("ix_incidents_ended_at", "incidents", ["ended_at"])


def _create_tracks() -> None:
    op.create_table(
        "tracks",
        *_incident("tracks"),
        sa.Column("track_id", sa.BigInteger(), autoincrement=False, nullable=False),
        _column("label", sa.String(64)),
        _column("confidence", sa.Double()),
        _column("first_seen_at", _TIME),
        _column("last_seen_at", _TIME),
        _column("frame_width", sa.Integer()),
        _column("frame_height", sa.Integer()),
        _column("stationary", sa.Boolean()),
        *_box(),
        sa.PrimaryKeyConstraint("incident_id", "track_id", name="pk_tracks"),
    )


def _create_detections() -> None:
    op.create_table(
        "detections",
        *_id("detections"),
        *_incident("detections", nullable=True),
        _column("track_id", sa.BigInteger()),
        _column("camera_id", sa.String(64)),
        _column("object_type", sa.String(64)),
        _column("confidence", sa.Double()),
        _column("detected_at", _TIME),
        _column("frame_width", sa.Integer()),
        _column("frame_height", sa.Integer()),
        *_box(),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_detections_incident_id", "detections", ["incident_id"])
    op.create_index("ix_detections_track_id_detected_at", "detections", ["track_id", "detected_at"])


def _create_assessments() -> None:
    op.create_table(
        "assessments",
        *_id("assessments"),
        *_incident("assessments"),
        _column("analyzer", sa.String(64)),
        _column("risk_score", sa.Integer()),
        _column("title", sa.Text()),
        _column("summary", sa.Text()),
        _column("reasoning", sa.Text(), nullable=True),
        _column("created_at", _TIME),
        _column("confidence", sa.Double(), nullable=True),
        _column("category", sa.Text(), nullable=True),
        _column("recommended_action", sa.Text(), nullable=True),
        _column("evidence", sa.JSON()),
        _column("model", sa.Text(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_assessments_incident_id", "assessments", ["incident_id"])


def _create_pictures() -> None:
    op.create_table(
        "pictures",
        *_id("pictures"),
        *_incident("pictures", ondelete=None),
        _column("track_id", sa.BigInteger()),
        _column("kind", sa.String(16)),
        _column("captured_at", _TIME),
        _column("score", sa.Double()),
        _column("width", sa.Integer()),
        _column("height", sa.Integer()),
        _column("size", sa.Integer()),
        *_box(),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_pictures_incident_id_score", "pictures", ["incident_id", "score"])
