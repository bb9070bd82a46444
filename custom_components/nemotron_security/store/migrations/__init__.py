"""How an older schema becomes the present one: one file a step below `versions/`, never changed once released.

A step uses `op.batch_alter_table`, since SQLite cannot alter a table in place. There is no way back: a step down would
erase findings.
"""

from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from ..errors import StoreError, StoreProblem
from ..tables import Base

FOLDER = Path(__file__).parent
_LOCK = Lock()  # Alembic's `op` is one for the whole process


def migrate(engine: Engine, *, folder: Path = FOLDER, revision: str = "head") -> bool:
    """Bring the schema to a revision, in one transaction where the database can.

    Args:
        engine: opened without foreign keys, see `open_engine`.
        folder: holds `env.py` and `versions/`.
        revision: the last step to take.

    Returns:
        Whether there was no schema before.

    Raises:
        StoreError: `TOO_NEW`, the database has a revision that is unknown here.
        SQLAlchemyError: a step failed; where the database can, nothing of it was kept.
    """
    with _LOCK, engine.begin() as connection:
        config = _config(folder, connection)
        present = MigrationContext.configure(connection).get_current_heads()
        _refuse_unknown(present, ScriptDirectory.from_config(config))
        command.upgrade(config, revision)
        # A database that can only be read says so now, not when the first incident comes.
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
    return not present


def _refuse_unknown(present: tuple[str, ...], script: ScriptDirectory) -> None:
    known = {step.revision for step in script.walk_revisions()}
    if unknown := set(present) - known:
        raise StoreError(StoreProblem.TOO_NEW, f"revision {', '.join(sorted(unknown))} is not known here")


def _config(folder: Path, connection: Connection) -> Config:
    config = Config(attributes={"connection": connection, "metadata": Base.metadata})
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
