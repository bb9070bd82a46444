"""What the tests of a whole Home Assistant look at it with."""

import asyncio
from contextlib import closing
import sqlite3
from typing import Any

from demo.home_assistant import HomeAssistantProcess, WebsocketClient


async def next_of(client: WebsocketClient, subscription: int, kind: str) -> Any:
    """Return the next message of a type."""
    async with asyncio.timeout(60):
        while True:
            message = await client.event(subscription, timeout=60)
            if message["type"] == kind:
                return message


def rows(house: HomeAssistantProcess, query: str, *values: Any) -> list[Any]:
    """Read from the store as it lies on the disk."""
    path = house.folder / "nemotron_security" / "events.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()
