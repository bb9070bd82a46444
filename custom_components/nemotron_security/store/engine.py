"""How the database is opened."""

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

_BEGIN = "sqlite_begin"


def open_engine(url: URL, *, busy_timeout: float, foreign_keys: bool = True) -> Engine:
    """Make the engine for a database; connects to nothing yet.

    Args:
        url: any SQLAlchemy URL. SQLite gets write-ahead logging and real transactions, also around DDL.
        busy_timeout: seconds to wait for another program that writes to the same SQLite file.
        foreign_keys: False for migrations: SQLite rebuilds a table to alter it, and dropping the old one would
            otherwise take along, by cascade, every row that refers to it.
    """
    if url.get_backend_name() != "sqlite":
        return create_engine(url, hide_parameters=True, pool_pre_ping=True)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": busy_timeout})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        _prepare_sqlite(connection, foreign_keys=foreign_keys)

    event.listen(engine, "begin", _begin_sqlite)
    return engine


def for_reading(engine: Engine) -> Engine:
    """Return the same engine (and pool) for transactions that only read, which wait for no writer."""
    return engine.execution_options(**{_BEGIN: "BEGIN"})


def checkpoint(engine: Engine) -> None:
    """Move SQLite's log into its file, which no transaction may surround."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()


def _prepare_sqlite(connection: Any, *, foreign_keys: bool) -> None:
    # Python's module would begin transactions by itself, but not before DDL and never immediately: we do it.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at once, without waiting, when another program wrote
    # in between; one that takes the write lock at its start waits for its turn.
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))
