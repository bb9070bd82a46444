"""Zones of tracks, detections and incidents, what opened an incident, and the places that were called harmless."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Add the columns, say that nothing was in a zone so far, and only then demand that; create the table."""
    with op.batch_alter_table("incidents") as batch:
        batch.add_column(sa.Column("trigger", sa.Text(), nullable=True))
    for table in ("incidents", "tracks", "detections"):
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("zones", sa.JSON(), nullable=True))
        op.execute(sa.table(table, sa.column("zones", sa.JSON())).update().values(zones=[]))
        counts_up = {} if table == "tracks" else {"sqlite_autoincrement": True}
        with op.batch_alter_table(table, table_kwargs=counts_up) as batch:
            batch.alter_column("zones", existing_type=sa.JSON(), nullable=False)
    op.create_table(
        "harmless_places",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("camera_id", sa.String(64), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("incident_id", _ID, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        *(sa.Column(f"box_{side}", sa.Double(), nullable=False) for side in ("left", "top", "right", "bottom")),
        sa.PrimaryKeyConstraint("id", name="pk_harmless_places"),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name="fk_harmless_places_incident_id_incidents", ondelete="SET NULL"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_harmless_places_camera_id", "harmless_places", ["camera_id"])
    op.create_index("ix_harmless_places_incident_id", "harmless_places", ["incident_id"])
