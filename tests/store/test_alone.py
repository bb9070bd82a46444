"""The store knows nothing of Home Assistant."""

from pathlib import Path
import subprocess
import sys

from .alone import IMPORT_ALONE

USE = (
    IMPORT_ALONE
    + """
import asyncio
from pathlib import Path
from alone.store import Store
folder = Path(sys.argv[2])
async def use():
    store = Store(f"sqlite:///{folder}/events.db", folder / "pictures")
    await store.async_open()
    await store.async_close()
asyncio.run(use())
print([name for name in sys.modules if name.split(".")[0] in ("homeassistant", "voluptuous", "probatio", "aiohttp")])
print(sorted(name for name in sys.modules if name.startswith("alone.") and not name.startswith("alone.store")))
"""
)


def test_it_opens_without_home_assistant(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USE, str(Path(__file__).parents[2]), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    foreign, ours = done.stdout.splitlines()
    assert foreign == "[]"
    assert ours == "['alone.models', 'alone.vision', 'alone.vision.messages']"
