"""The migrations make the schema that the tables describe, and lose nothing on the way."""

from io import StringIO
import logging
from pathlib import Path
import shutil
import sqlite3
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
import pytest
from sqlalchemy import Engine, Pool, event, make_url
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from custom_components.nemotron_security.models import Feedback, IncidentFilter, Review
from custom_components.nemotron_security.store import Store, StoreError, StoreProblem
from custom_components.nemotron_security.store.engine import open_engine
from custom_components.nemotron_security.store.migrations import FOLDER, migrate
from custom_components.nemotron_security.store.tables import Base

from .samples import JPEG, NOON, RULES, begin, track

ROWS_OF_0001 = """
INSERT INTO incidents (id, camera_id, started_at, last_seen_at, labels, object_count, rules_score, risk_score, analyzer,
    title, summary) VALUES (7, '01JCAMERA', '2026-11-23 12:00:00.123456', '2026-11-23 12:00:00.123456', '["person"]', 1,
    40, 40, 'rules', 'Person', 'A person came.');
INSERT INTO tracks VALUES (7, 1790000000001, 'person', 0.84, '2026-11-23 12:00:00.123456',
    '2026-11-23 12:00:00.123456', 1280, 720, 0, 10.5, 20.0, 110.25, 220.0);
INSERT INTO detections (incident_id, track_id, camera_id, object_type, confidence, detected_at, frame_width,
    frame_height, box_left, box_top, box_right, box_bottom) VALUES (7, 1790000000001, '01JCAMERA', 'person', 0.8,
    '2026-11-23 12:00:00.123456', 1280, 720, 1, 2, 3, 4);
INSERT INTO assessments (incident_id, analyzer, risk_score, title, summary, created_at, evidence) VALUES (7, 'rules',
    40, 'Person', 'A person came.', '2026-11-23 12:00:00.123456', '[]');
INSERT INTO pictures (id, incident_id, track_id, kind, captured_at, score, width, height, size, box_left, box_top,
    box_right, box_bottom) VALUES (3, 7, 1790000000001, 'best', '2026-11-23 12:00:00.123456', 0.8, 1280, 720, 14, 1, 2,
    3, 4);
"""
NEXT_STEP = '''
"""A later step, as one may come: it rebuilds a table to which others refer."""

from alembic import op
import sqlalchemy as sa

revision = "9000"
down_revision = "{head}"


def upgrade():
    with op.batch_alter_table("incidents", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.add_column(sa.Column("weather", sa.Text(), nullable=False, server_default="none"))
        batch.alter_column("object_count", type_=sa.BigInteger(), existing_type=sa.Integer())
'''


def add_step(folder: Path, words: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    head = ScriptDirectory.from_config(config).get_current_head()
    (folder / "versions" / "9000_next.py").write_text(words.replace("{head}", str(head)))


def engine_for(database: Path) -> Engine:
    database.parent.mkdir(parents=True, exist_ok=True)
    return open_engine(make_url(f"sqlite:///{database}"), busy_timeout=1, foreign_keys=False)


def sql(database: Path, statements: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database)
    try:
        *first, last = [statement for statement in statements.split(";") if statement.strip()]
        for statement in first:
            connection.execute(statement)
        rows = connection.execute(last).fetchall()
        connection.commit()
        return rows
    finally:
        connection.close()


@pytest.fixture
def old_database(database: Path) -> Path:
    """A database as the first release made it, with a row in every table."""
    engine = engine_for(database)
    migrate(engine, revision="0001")
    engine.dispose()
    sql(database, ROWS_OF_0001)
    return database


def test_the_migrated_schema_is_that_of_the_tables(database: Path) -> None:
    engine = engine_for(database)
    assert migrate(engine) is True
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_database_and_the_tables_made_at_once_have_the_same_words(database: Path, tmp_path: Path) -> None:
    """Also what Alembic does not compare: names of constraints, primary keys, cascades, AUTOINCREMENT."""
    migrated, made = engine_for(database), engine_for(tmp_path / "made.db")
    migrate(migrated)
    Base.metadata.create_all(made)
    assert _described(migrated) == _described(made)
    migrated.dispose()
    made.dispose()


def _described(engine: Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    return {
        name: sorted(line.strip().rstrip(",").replace('"', "") for line in words.splitlines() if line.strip())
        for name, words in rows
        if not name.startswith(("sqlite_", "alembic_"))
    }


async def test_what_the_first_release_stored_is_there(old_database: Path, closed_store: Store, pictures: Path) -> None:
    (pictures / "0").mkdir(parents=True)
    (pictures / "0" / "3.jpg").write_bytes(JPEG[:14])
    await closed_store.async_open()
    (incident,) = await closed_store.async_incidents()
    assert (incident.id, incident.labels, incident.risk_score, incident.picture_id) == (7, ("person",), 40, 3)
    assert await closed_store.async_tracks(7) == [track(1)]
    assert await closed_store.async_assessments(7) == [RULES]
    assert len(await closed_store.async_detections(7)) == 1
    assert await closed_store.async_read_picture(3) == JPEG[:14]
    assert (await begin(closed_store)).id == 8
    await closed_store.async_close()


async def test_what_the_first_release_stored_is_found_and_reviewed(old_database: Path, closed_store: Store) -> None:
    many = "WITH RECURSIVE number(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM number WHERE n < 2600)"
    columns = "camera_id, started_at, last_seen_at, object_count"
    sql(
        old_database,
        f"INSERT INTO incidents (id, {columns}, labels, title, summary, reasoning) "
        f"""{many} SELECT n, {columns}, '["car", "dog"]', 'Straße ' || n, '\uff26ULL width', 'Büro' """
        "FROM number JOIN incidents ON incidents.id = 7",
    )
    await closed_store.async_open()

    async def found(text: str) -> list[int]:
        return [one.id for one in await closed_store.async_incidents(IncidentFilter(text=text), limit=9999)]

    assert await found("a PERSON came") == [7]
    assert await found("STRASSE 1234 full bu\u0308ro dog") == [1234]
    assert len(await found("car")) == 2501
    ((_, kept),) = sql(old_database, "SELECT id, search_text FROM incidents WHERE id = 1234")
    review = Review(reviewed=True, feedback=Feedback.FALSE_ALARM, note=None, at=NOON)
    assert (await closed_store.async_review(1234, review)).feedback is Feedback.FALSE_ALARM
    # The step and the store fold alike.
    assert sql(old_database, "SELECT id, search_text FROM incidents WHERE id = 1234") == [(1234, kept)]
    await closed_store.async_close()


async def test_a_step_that_was_interrupted_is_done_again(old_database: Path, closed_store: Store) -> None:
    before = sql(old_database, "SELECT * FROM incidents")

    def fill_the_disk(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes the present size for it

    event.listen(Pool, "connect", fill_the_disk)
    try:
        with pytest.raises(StoreError) as caught:
            await closed_store.async_open()
    finally:
        event.remove(Pool, "connect", fill_the_disk)
    assert caught.value.problem is StoreProblem.FULL
    assert sql(old_database, "SELECT * FROM incidents") == before
    await closed_store.async_open()
    assert [one.id for one in await closed_store.async_incidents(IncidentFilter(text="person"))] == [7]
    await closed_store.async_close()


def test_a_later_step_that_rebuilds_a_table_keeps_all_that_refers_to_it(old_database: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "50 % more steps")
    add_step(folder, NEXT_STEP)
    engine = engine_for(old_database)
    assert migrate(engine, folder=folder) is False
    engine.dispose()
    assert sql(old_database, "SELECT id, weather FROM incidents") == [(7, "none")]
    for table in ("tracks", "detections", "assessments", "pictures"):
        assert sql(old_database, f"SELECT incident_id FROM {table}") == [(7,)]
    assert sql(old_database, "PRAGMA foreign_key_check") == []
    assert sql(old_database, "SELECT version_num FROM alembic_version") == [("9000",)]


def test_a_step_that_fails_leaves_the_database_as_it_was(old_database: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "steps")
    add_step(folder, NEXT_STEP + "    raise RuntimeError('half-way')\n")
    before = sql(old_database, "SELECT sql FROM sqlite_master")
    engine = engine_for(old_database)
    with pytest.raises(RuntimeError, match="half-way"):
        migrate(engine, folder=folder)
    engine.dispose()
    assert sql(old_database, "SELECT sql FROM sqlite_master") == before
    assert sql(old_database, "SELECT version_num FROM alembic_version") == [("0001",)]


async def test_a_database_of_a_newer_version_is_refused_untouched(store: Store, database: Path) -> None:
    await begin(store)
    await store.async_close()
    ((present,),) = sql(database, "SELECT version_num FROM alembic_version")
    sql(database, "UPDATE alembic_version SET version_num = '9999'")
    content = database.read_bytes()

    with pytest.raises(StoreError) as caught:
        await store.async_open()
    assert caught.value.problem is StoreProblem.TOO_NEW
    assert "9999" in caught.value.detail
    assert database.read_bytes() == content

    sql(database, f"UPDATE alembic_version SET version_num = '{present}'")
    await store.async_open()
    assert len(await store.async_incidents()) == 1


async def test_opening_leaves_logging_alone(closed_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    before = logging.root.level, list(logging.root.handlers), logging.getLogger("sqlalchemy").level
    await closed_store.async_open()
    await closed_store.async_close()
    assert (logging.root.level, list(logging.root.handlers), logging.getLogger("sqlalchemy").level) == before
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_every_step_follows_the_one_before() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    steps = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    assert steps == [f"{number:04d}" for number in range(1, len(steps) + 1)]


DIALECTS = [postgresql.dialect(), mysql.dialect()]  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("dialect", DIALECTS, ids=["postgresql", "mysql"])
def test_the_schema_can_be_said_to_other_databases(dialect: object) -> None:
    for table in Base.metadata.sorted_tables:
        words = str(CreateTable(table).compile(dialect=dialect))  # type: ignore[arg-type]
        assert table.name in words
        if isinstance(dialect, mysql.dialect):
            assert words.count("DATETIME") == words.count("DATETIME(6)")
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_the_steps_can_be_said_to_other_databases(name: str) -> None:
    words = StringIO()
    context = MigrationContext.configure(dialect_name=name, opts={"as_sql": True, "output_buffer": words})
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    script = ScriptDirectory.from_config(config)
    with Operations.context(context):
        for step in reversed(list(script.walk_revisions())):
            step.module.upgrade()
    assert words.getvalue().count("CREATE TABLE") == len(Base.metadata.tables)
