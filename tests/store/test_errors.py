"""Real trouble with the database: each has its name, costs no more than the call, and passes when its cause does."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
import os
from pathlib import Path
import sqlite3
import subprocess
import sys
import threading
from typing import Any

import pytest
from sqlalchemy import event, make_url
from sqlalchemy.exc import OperationalError

from custom_components.nemotron_security.models import Assessment
from custom_components.nemotron_security.store import Store, StoreError, StoreProblem
from custom_components.nemotron_security.store.errors import store_error

from .alone import IMPORT_ALONE
from .samples import VERDICT, add_picture, begin, track


async def expect(problem: StoreProblem, call: Any) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    assert caught.value.problem is problem
    return caught.value


@contextmanager
def pragma(store: Store, words: str) -> Iterator[None]:
    """Put the store's connections, present and future, under a limit."""

    def limit(connection: Any, _record: object) -> None:
        connection.execute(words)

    engine = store._engine
    assert engine is not None
    event.listen(engine, "connect", limit)
    engine.dispose()
    yield
    event.remove(engine, "connect", limit)
    engine.dispose()


@pytest.fixture
def other_program(store: Store, database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database, isolation_level=None)
    yield connection
    connection.close()


async def test_locked_by_another_program(store: Store, other_program: sqlite3.Connection) -> None:
    incident = await begin(store)
    other_program.execute("BEGIN IMMEDIATE")
    await expect(StoreProblem.LOCKED, store.async_save_incident(incident, [track(2)]))
    await expect(StoreProblem.LOCKED, store.async_assess(incident.id, VERDICT))
    await expect(StoreProblem.LOCKED, add_picture(store, incident))
    assert await store.async_incident(incident.id) == incident  # reading goes on
    other_program.execute("ROLLBACK")
    assert (await store.async_assess(incident.id, VERDICT)).risk_score == 72
    assert await store.async_tracks(incident.id) == [track(1)]


async def test_what_another_program_writes_in_between_disturbs_nothing(
    store: Store, other_program: sqlite3.Connection
) -> None:
    incident = await begin(store)
    for score in range(20):
        other_program.execute("UPDATE incidents SET rules_score = ?", (score,))
        assert (await store.async_save_incident(incident, [track(1)])).rules_score == score


async def test_locked_at_open_and_opened_later(store: Store, other_program: sqlite3.Connection) -> None:
    incident = await begin(store)
    await store.async_close()
    threads = set(threading.enumerate())
    other_program.execute("BEGIN IMMEDIATE")
    await expect(StoreProblem.LOCKED, store.async_open())
    assert set(threading.enumerate()) == threads
    other_program.execute("ROLLBACK")
    await store.async_open()
    assert await store.async_incident(incident.id) == incident


async def test_closing_while_another_program_holds_it(store: Store, other_program: sqlite3.Connection) -> None:
    incident = await begin(store)
    other_program.execute("BEGIN IMMEDIATE")
    await store.async_close()
    other_program.execute("ROLLBACK")
    await store.async_open()
    assert await store.async_incident(incident.id) == incident


async def test_read_only_while_running(store: Store) -> None:
    incident = await begin(store)
    with pragma(store, "PRAGMA query_only=ON"):
        await expect(StoreProblem.READ_ONLY, store.async_assess(incident.id, VERDICT))
        await expect(StoreProblem.READ_ONLY, begin(store))
        assert await store.async_incidents() == [incident]
    assert (await store.async_assess(incident.id, VERDICT)).risk_score == 72


async def test_read_only_at_open(store: Store, database: Path, pictures: Path) -> None:
    await begin(store)
    await store.async_close()
    read_only = Store(f"sqlite:///file:{database}?mode=ro&uri=true", pictures)
    await expect(StoreProblem.READ_ONLY, read_only.async_open())
    await store.async_open()
    assert len(await store.async_incidents()) == 1


OPEN_UNPRIVILEGED = (
    IMPORT_ALONE
    + """
import asyncio, os, sys
from pathlib import Path
from alone.store import Store, StoreError
import alembic.command, alembic.ddl.sqlite, sqlalchemy.dialects.sqlite
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for database, pictures in zip(sys.argv[2::2], sys.argv[3::2]):
    try:
        asyncio.run(Store(f"sqlite:///{database}", Path(pictures)).async_open())
    except StoreError as err:
        print(err.problem)
    else:
        print("opened")
"""
)


def open_unprivileged(*places: Path) -> list[str]:
    """Open databases (and their folders of pictures) in a process that may not write everywhere, as root may."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN_UNPRIVILEGED, str(Path(__file__).parents[2]), *map(str, places)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


async def test_a_folder_or_file_without_permission(store: Store, database: Path, pictures: Path) -> None:
    await begin(store)
    await store.async_close()
    for folder in [database.parent, *list(database.parent.parents)[:3]]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(0o755)
    database.chmod(0o444)
    folder = database.parent
    folder.chmod(0o555)
    try:
        problems = open_unprivileged(
            *(database, pictures),
            *(folder / "new.db", pictures),
            *(folder / "new" / "events.db", pictures),
            *(database, folder / "new pictures"),
        )
        assert problems == [StoreProblem.READ_ONLY] * 4
    finally:
        folder.chmod(0o755)
        database.chmod(0o644)
    await store.async_open()
    assert len(await store.async_incidents()) == 1


async def test_the_disk_is_full(store: Store) -> None:
    incident = await begin(store)
    words = "many words " * 1000
    with pragma(store, "PRAGMA max_page_count=1"):  # SQLite takes the present size for it
        await _fill(store, incident.id)
        assert (await store.async_incidents())[0].id == incident.id
    said = len(await store.async_assessments(incident.id))
    assert (await store.async_save_incident(incident, [track(2)])).id == incident.id
    await store.async_assess(incident.id, _long(words))
    assert len(await store.async_assessments(incident.id)) == said + 1


def _long(words: str) -> Assessment:
    return replace(VERDICT, summary=words, reasoning=words)


async def _fill(store: Store, incident_id: int) -> None:
    """Write until it fails; what had been written stays."""
    said = await store.async_assessments(incident_id)
    error = None
    for number in range(20):
        assessment = _long(f"{number} many words " * 1000)
        try:
            await store.async_assess(incident_id, assessment)
        except StoreError as err:
            error = err
            break
        said.append(assessment)
    assert error is not None
    assert error.problem is StoreProblem.FULL
    assert await store.async_assessments(incident_id) == said


async def test_a_file_that_is_no_database(closed_store: Store, database: Path) -> None:
    database.parent.mkdir(parents=True)
    garbage = b"this is not a database, but it is long enough to be one. " * 200
    database.write_bytes(garbage)
    threads = set(threading.enumerate())
    await expect(StoreProblem.CORRUPT, closed_store.async_open())
    assert database.read_bytes() == garbage
    assert set(threading.enumerate()) == threads
    database.unlink()
    await closed_store.async_open()
    assert await closed_store.async_incidents() == []
    await closed_store.async_close()


async def test_a_truncated_database(store: Store, database: Path) -> None:
    await begin(store)
    await store.async_close()
    content = database.read_bytes()
    for length in (100, 2000, len(content) // 2, len(content) - 4096):
        database.write_bytes(content[:length])
        await expect(StoreProblem.CORRUPT, store.async_open())
    database.write_bytes(content)
    await store.async_open()
    assert len(await store.async_incidents()) == 1


async def test_pages_overwritten_in_the_middle(store: Store, database: Path) -> None:
    await begin(store)
    await store.async_close()
    content = database.read_bytes()
    database.write_bytes(content[:4096] + b"\x99" * (len(content) - 4096))

    async def use() -> None:
        await store.async_open()
        await store.async_incidents()

    error = await expect(StoreProblem.CORRUPT, use())
    assert "malformed" in error.detail


async def test_a_database_with_tables_of_somebody_else(closed_store: Store, database: Path) -> None:
    database.parent.mkdir(parents=True)
    other = sqlite3.connect(database)
    other.execute("CREATE TABLE incidents (number INTEGER)")
    other.commit()
    await expect(StoreProblem.CORRUPT, closed_store.async_open())
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("incidents",)]
    other.close()


async def test_a_folder_that_is_a_file(closed_store: Store, database: Path) -> None:
    database.parent.write_text("in the way")
    await expect(StoreProblem.UNREACHABLE, closed_store.async_open())
    database.parent.unlink()
    await closed_store.async_open()
    await closed_store.async_close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg2://house:hunter2@localhost:1/events",
        "nothing+of+the+kind://house:hunter2@localhost/events",
        "nothing://house:hunter2@localhost/events",
        "postgresql://house:hunter2@localhost:hunter2/events",
        "hunter2",
        "",
    ],
)
async def test_an_address_of_no_use(url: str, pictures: Path) -> None:
    error = await expect(StoreProblem.UNREACHABLE, Store(url, pictures).async_open())
    assert "hunter2" not in f"{error} {error.detail} {error!r}"


def test_a_password_never_shows() -> None:
    url = make_url("postgresql://house:hunter2@db/events")
    driver = Exception('connection to "postgresql://house:hunter2@db/events" failed')
    error = store_error(OperationalError("SELECT 1", {}, driver), url)
    assert error.problem is StoreProblem.UNREACHABLE
    assert "hunter2" not in f"{error} {error.detail}"
    assert "failed" in error.detail


async def test_what_is_stored_never_shows_in_an_error(store: Store, other_program: sqlite3.Connection) -> None:
    incident = await begin(store)
    other_program.execute("BEGIN IMMEDIATE")
    error = await expect(StoreProblem.LOCKED, store.async_assess(incident.id, VERDICT))
    assert VERDICT.summary not in f"{error} {error.__cause__}"


def test_each_problem_is_a_translation_key() -> None:
    assert {problem.value for problem in StoreProblem} == {
        "database_locked",
        "database_read_only",
        "database_too_new",
        "database_corrupt",
        "database_full",
        "database_unreachable",
    }
