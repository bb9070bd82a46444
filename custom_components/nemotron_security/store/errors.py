"""What can be wrong with a database, and the one place that tells it from a driver's error."""

from enum import StrEnum
import errno
import os
from pathlib import Path
import sqlite3

from sqlalchemy import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NoSuchTableError, ProgrammingError, StatementError


class StoreProblem(StrEnum):
    """Why the database does not work. Each value is a translation key that names what to do."""

    LOCKED = "database_locked"
    """Another program holds it."""
    READ_ONLY = "database_read_only"
    """The file, its folder or its disk cannot be written."""
    TOO_NEW = "database_too_new"
    """A newer version of this integration wrote it."""
    CORRUPT = "database_corrupt"
    """It is damaged, or not a database of ours."""
    FULL = "database_full"
    """No space is left."""
    UNREACHABLE = "database_unreachable"
    """It cannot be opened or does not answer."""


class StoreError(Exception):
    """The database could not do what was asked; nothing of the transaction was kept."""

    def __init__(self, problem: StoreProblem, detail: str = "") -> None:
        super().__init__(f"{problem}: {detail}" if detail else problem)
        self.problem = problem
        self.detail = detail
        """The driver's words, for people who look for the cause; free of secrets and of stored data."""


_SQLITE = {
    sqlite3.SQLITE_BUSY: StoreProblem.LOCKED,
    sqlite3.SQLITE_LOCKED: StoreProblem.LOCKED,
    sqlite3.SQLITE_READONLY: StoreProblem.READ_ONLY,
    sqlite3.SQLITE_PERM: StoreProblem.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: StoreProblem.CORRUPT,
    sqlite3.SQLITE_NOTADB: StoreProblem.CORRUPT,
    sqlite3.SQLITE_ERROR: StoreProblem.CORRUPT,  # a table or column that is missing, or there already
    sqlite3.SQLITE_FULL: StoreProblem.FULL,
}
_SQLITE_PRIMARY = 0xFF
"""SQLite's extended codes keep the primary one in the low byte."""

_SYSTEM = {
    errno.EACCES: StoreProblem.READ_ONLY,
    errno.EPERM: StoreProblem.READ_ONLY,
    errno.EROFS: StoreProblem.READ_ONLY,
    errno.ENOSPC: StoreProblem.FULL,
    errno.EDQUOT: StoreProblem.FULL,
}


def store_error(err: Exception, url: URL | None) -> StoreError:
    """Say what an error of SQLAlchemy, a driver or the file system means for the store at `url`."""
    cause = err.orig if isinstance(err, DBAPIError) and err.orig else err
    return StoreError(_problem(err, cause, url), _without_password(_words(cause), url))


def is_about_a_value(err: StatementError) -> bool:
    """Whether the database is well and only what it was given is not: a fault of the caller."""
    return isinstance(err, IntegrityError | DataError) or not isinstance(err, DBAPIError)


def _problem(err: Exception, cause: BaseException, url: URL | None) -> StoreProblem:
    if isinstance(cause, sqlite3.Error):
        return _sqlite_problem(cause, url)
    if isinstance(cause, OSError):
        return _SYSTEM.get(cause.errno or 0, StoreProblem.UNREACHABLE)
    if isinstance(err, ProgrammingError | NoSuchTableError):
        return StoreProblem.CORRUPT
    return StoreProblem.UNREACHABLE


def _sqlite_problem(err: sqlite3.Error, url: URL | None) -> StoreProblem:
    # An error that Python's module raises by itself has no code.
    code = getattr(err, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & _SQLITE_PRIMARY
    if code == sqlite3.SQLITE_CANTOPEN and _folder_is_read_only(url):
        return StoreProblem.READ_ONLY
    return _SQLITE.get(code, StoreProblem.UNREACHABLE)


def _folder_is_read_only(url: URL | None) -> bool:
    """Whether SQLite could not open a file because it may not create one beside it."""
    folder = Path(url.database).parent if url and url.database else None
    return folder is not None and folder.is_dir() and not os.access(folder, os.W_OK)


def _words(cause: BaseException) -> str:
    # An OSError's own words would name the path, which says nothing that the administrator of the house needs here.
    return (cause.strerror or type(cause).__name__) if isinstance(cause, OSError) else str(cause)


def _without_password(words: str, url: URL | None) -> str:
    password = str(url.password) if url and url.password else ""
    return words.replace(password, "***") if password else words
