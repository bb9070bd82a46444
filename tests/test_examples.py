"""The scripts of docs/examples, run as a user runs them, with Home Assistant's real server and a network that fails."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import time

from aiohttp import web
from aiohttp.test_utils import TestServer
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.nemotron_security.broadcasters import missed

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, frame, make_entry, online, person

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
YARD = f"{CAMERA[:-1]}1"
PATIENCE = 60
NODE_WITH_WEBSOCKET = 22
NODE_WITH_THE_OPTION = 20


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Home Assistant's server may still have its heartbeat for a client that was cut off."""
    return True


class Network:
    """What lies between a client and Home Assistant, and can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._connected = True

    def cut(self) -> None:
        """Let nothing through, and reset what is connected."""
        self._connected = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def heal(self) -> None:
        """Let clients through again."""
        self._connected = True

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the bytes of one client both ways."""
        self._writers.append(writer)
        if not self._connected:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(server_writer)
        async with asyncio.TaskGroup() as group:
            group.create_task(carry(reader, server_writer))
            group.create_task(carry(server_reader, writer))


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def network(port: int) -> AsyncGenerator[tuple[Network, str]]:
    """Yield a network in front of that port of ours, and the address at its other end."""
    between = Network(port)
    async with await asyncio.start_server(between.handle, "127.0.0.1", 0) as server:
        yield between, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        between.cut()


def command_of(example: str) -> list[str]:
    """Return how the example is run here; skips where that cannot be."""
    path = str(EXAMPLES / example)
    if example.endswith(".py"):
        return [sys.executable, path]
    if (node := shutil.which("node")) is None:
        pytest.skip("there is no Node here")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.lstrip("v").split(".")[0])
    if major < NODE_WITH_THE_OPTION:
        pytest.skip(f"Node {version} has no websocket")
    return [node, *(["--experimental-websocket"] if major < NODE_WITH_WEBSOCKET else []), path]


@asynccontextmanager
async def running(example: str, url: str, token: str) -> AsyncGenerator[Printed]:
    """Run an example."""
    process = await asyncio.create_subprocess_exec(
        *command_of(example),
        env={**os.environ, "HOME_ASSISTANT_URL": url, "HOME_ASSISTANT_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        yield Printed(process.stdout)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class Printed:
    """What an example prints."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self.lines: list[str] = []

    async def until(self, pattern: str) -> None:
        """Read until a line matches."""
        async with asyncio.timeout(PATIENCE):
            while line := (await self._stream.readline()).decode():
                self.lines.append(line.rstrip())
                if re.fullmatch(pattern, line.rstrip()):
                    return
        raise AssertionError("\n".join(["the example ended:", *self.lines]))

    def count(self, pattern: str) -> int:
        return sum(re.fullmatch(pattern, line) is not None for line in self.lines)


@pytest.mark.usefixtures("silent_worker")
@pytest.mark.parametrize("example", ["subscribe.py", "subscribe.mjs"])
async def test_example(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, hass_access_token: str, example: str
) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, ABSENT_FILE))
    port = (await hass_client()).port
    assert port is not None

    async def visitor(camera_id: str, track_id: int) -> None:
        now = time.time()
        seen = frame(person(track_id, at=now), at=now, camera_id=camera_id)
        await async_report(hass, entry, online(camera_id), seen)

    async with network(port) as (between, url), running(example, f"{url}/", hass_access_token) as printed:
        await printed.until("pipeline_status: .*running.*")
        await visitor(CAMERA, 1)
        await printed.until(r"camera_status: camera \w+0 is online")
        await printed.until(r"new_event: #1 \w+ \(\d+\): Person at .*Front door.*")
        await printed.until(rf"detection: person \(\d+%\) on camera {CAMERA}")

        between.cut()
        await printed.until("not connected")
        await visitor(YARD, 2)
        between.heal()
        await printed.until(r"new_event: #2 \w+ \(\d+\): .*")
        await printed.until(rf"detection: person \(\d+%\) on camera {YARD}")
        await printed.until(r"camera_status: camera \w+1 is online")
        # What it had before did not come again, and nothing was missing.
        assert printed.count("new_event: #1 .*") == 1
        assert printed.count("away too long.*") == 0


@pytest.mark.usefixtures("silent_worker")
@pytest.mark.parametrize("example", ["subscribe.py", "subscribe.mjs"])
async def test_example_comes_back_before_the_integration(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, hass_access_token: str, example: str
) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    port = (await hass_client()).port
    assert port is not None
    async with network(port) as (between, url), running(example, url, hass_access_token) as printed:
        await printed.until("pipeline_status: .*")
        between.cut()
        await printed.until("not connected")
        assert await hass.config_entries.async_unload(entry.entry_id)
        between.heal()
        await printed.until("Nemotron Home Security is not set up or not running")
        assert await hass.config_entries.async_setup(entry.entry_id)
        await printed.until("pipeline_status: .*")
        now = time.time()
        await async_report(hass, entry, online(), frame(person(1, at=now), at=now))
        await printed.until(r"new_event: #1 .*")
        assert printed.count("away too long.*") == 0


@pytest.mark.usefixtures("silent_worker")
@pytest.mark.parametrize("example", ["subscribe.py", "subscribe.mjs"])
async def test_example_that_missed_something(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, hass_access_token: str, example: str
) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    port = (await hass_client()).port
    assert port is not None
    events = entry.runtime_data.events
    seq, now = events.seq, time.time()
    async with running(example, f"http://127.0.0.1:{port}", hass_access_token) as printed:
        await printed.until("pipeline_status: .*")
        await async_report(hass, entry, online(), frame(person(1, at=now), at=now))
        await printed.until("new_event: #1 .*")
        (client,) = events._clients
        client.offer(missed(seq + 1))  # as if it had been dropped
        await printed.until("too slow: coming back for what we missed")
        await printed.until("new_event: #1 .*")
        assert printed.count("away too long.*") == 0


@pytest.mark.usefixtures("socket_enabled")
@pytest.mark.parametrize("example", ["subscribe.py", "subscribe.mjs"])
async def test_example_comes_back_when_home_assistant_stops(example: str) -> None:
    """A Home Assistant that is about to stop closes the connection before anybody has logged in."""

    async def close(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/api/websocket", close)
    async with TestServer(app) as server, running(example, str(server.make_url("/")), "token") as printed:
        await printed.until("not connected")
        await printed.until("not connected")
