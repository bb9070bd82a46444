"""What a person says of an incident, and a text to search in."""

import unicodedata

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME, TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")
_EXACT_TEXT = sa.Text().with_variant(TEXT(collation="utf8mb4_bin"), "mysql", "mariadb")
_CHUNK = 1000
"""Incidents that are held in memory at once."""


def upgrade() -> None:
    """Add the columns, fill the text, and only then demand it."""
    with op.batch_alter_table("incidents") as batch:
        batch.add_column(sa.Column("reviewed_at", _TIME, nullable=True))
        batch.add_column(sa.Column("feedback", sa.String(16), nullable=True))
        batch.add_column(sa.Column("note", sa.Text(), nullable=True))
        batch.add_column(sa.Column("search_text", _EXACT_TEXT, nullable=True))
    if not op.get_context().as_sql:
        _fill(op.get_bind())
    with op.batch_alter_table("incidents", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("search_text", existing_type=_EXACT_TEXT, nullable=False)


def _fill(connection: sa.Connection) -> None:
    incidents = sa.table(
        "incidents",
        *(sa.column(name) for name in ("id", "title", "summary", "reasoning", "search_text")),
        sa.column("labels", sa.JSON()),
    )
    columns = (incidents.c.id, incidents.c.title, incidents.c.summary, incidents.c.reasoning, incidents.c.labels)
    page = sa.select(*columns).order_by(incidents.c.id).limit(_CHUNK)
    fill = incidents.update().where(incidents.c.id == sa.bindparam("row"))
    last = 0
    while rows := connection.execute(page.where(incidents.c.id > last)).all():
        texts = [{"row": row.id, "search_text": _search_text(row)} for row in rows]
        connection.execute(fill, texts)
        last = rows[-1].id


def _search_text(row: sa.Row[tuple[int, str, str, str | None, list[str]]]) -> str:
    text = "\n".join([*filter(None, (row.title, row.summary, row.reasoning)), *row.labels])
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
