"""The queue of incidents that wait for an analyzer."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Create the table; what an earlier version judged or left to the rules stays so."""
    op.create_table(
        "judgements",
        sa.Column("incident_id", _ID, autoincrement=False, nullable=False),
        sa.Column("due_at", _TIME, nullable=True),
        sa.Column("look", sa.JSON(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("problem", sa.String(32), nullable=True),
        sa.Column("house", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("incident_id", name="pk_judgements"),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name="fk_judgements_incident_id_incidents", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_judgements_due_at", "judgements", ["due_at"])
