"""How an older schema becomes the present one: one file a step below `versions/`, never changed once released.

A step uses `op.batch_alter_table`, since SQLite cannot alter a table in place. There is no way back: a step down would
erase findings.
"""

from pathlib import Path
from threading import Lock
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from ..errors import StoreError, StoreProblem
from ..tables import Base

FOLDER = Path(__file__).parent
_LOCK = Lock()  # Alembic's `op` is one for the whole process


def migrate(engine: Engine, *, folder: Path = FOLDER, revision: str = "head") -> bool:
    """Bring the schema to a revision, in one transaction where the database can.

    Args:
        engine: opened without foreign keys, see `open_engine`.
        folder: holds `versions/`.
        revision: the last step to take.

    Returns:
        Whether there was no schema before.

    Raises:
        StoreError: `TOO_NEW`, the database has a revision that is unknown here.
        SQLAlchemyError: a step failed; where the database can, nothing of it was kept.
    """
    script = ScriptDirectory(folder)
    with _LOCK, engine.begin() as connection:
        present = MigrationContext.configure(connection).get_current_heads()
        _refuse_unknown(present, script)
        _run(connection, script, revision)
    return not present


def _refuse_unknown(present: tuple[str, ...], script: ScriptDirectory) -> None:
    known = {step.revision for step in script.walk_revisions()}
    if unknown := set(present) - known:
        raise StoreError(StoreProblem.TOO_NEW, f"revision {', '.join(sorted(unknown))} is not known here")


def _run(connection: Connection, script: ScriptDirectory, revision: str) -> None:
    def steps(present: Any, _context: MigrationContext) -> Any:
        return script._upgrade_revs(revision, present)  # noqa: SLF001  what alembic.command.upgrade does

    with EnvironmentContext(Config(), script, fn=steps, destination_rev=revision) as environment:
        environment.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
        environment.run_migrations()
