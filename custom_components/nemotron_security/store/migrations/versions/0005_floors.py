"""The floors that held, the pictures that a model was shown, and marked incidents found at once."""

from alembic import op
import sqlalchemy as sa

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, say that no picture was shown so far, and only then demand that; add the index."""
    with op.batch_alter_table("incidents", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.add_column(sa.Column("floor", sa.String(16), nullable=True))
        # Says nothing new, but lets SQLite write the table anew, so that it reads like one that is made at once.
        batch.alter_column("floor", existing_type=sa.String(16), nullable=True)
    with op.batch_alter_table("assessments") as batch:
        batch.add_column(sa.Column("floor", sa.String(16), nullable=True))
        batch.add_column(sa.Column("shown", sa.JSON(), nullable=True))
    op.execute(sa.table("assessments", sa.column("shown", sa.JSON())).update().values(shown=[]))
    with op.batch_alter_table("assessments", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("shown", existing_type=sa.JSON(), nullable=False)
    op.create_index("ix_incidents_feedback", "incidents", ["feedback"])
