"""A probe inside Home Assistant: how late the event loop is, and how much memory the process holds."""

import asyncio
import os
from pathlib import Path
import time
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.typing import ConfigType
import probatio as vol

DOMAIN = "loop_probe"
PERIOD = 0.005
PAGE = os.sysconf("SC_PAGE_SIZE")
STATM = Path("/proc/self/statm")


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Measure from now on."""
    lags: list[float] = []

    async def probe() -> None:
        # On a fixed grid: a stall of 50 ms makes ten of the wake-ups late that were due in it, not one.
        due = time.perf_counter()
        while True:
            due += PERIOD
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            late = time.perf_counter() - due
            while late > PERIOD:
                lags.append(late)
                due += PERIOD
                late -= PERIOD
            lags.append(max(0.0, late))

    hass.async_create_background_task(probe(), "loop probe")

    @websocket_api.websocket_command({vol.Required("type"): "loop_probe/read"})
    @callback
    def read(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Return the delays (s) since the last reading, and the resident memory (bytes)."""
        measured = lags[:]
        lags.clear()
        rss = int(STATM.read_text().split()[1]) * PAGE  # /proc is memory, not a disk
        connection.send_result(message["id"], {"lags": measured, "rss": rss})

    websocket_api.async_register_command(hass, read)
    return True
