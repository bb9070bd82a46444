"""A store in a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custom_components.nemotron_security.store import Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "events.db"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return tmp_path / "data" / "pictures"


@pytest.fixture
def closed_store(database: Path, pictures: Path) -> Store:
    return Store(f"sqlite:///{database}", pictures, busy_timeout=0.2)


@pytest.fixture
async def store(closed_store: Store) -> AsyncIterator[Store]:
    await closed_store.async_open()
    yield closed_store
    await closed_store.async_close()
