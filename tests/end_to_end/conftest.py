"""A real Home Assistant, a real stream of a rendered scene, the real worker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
import subprocess

import pytest
import pytest_socket

from demo.clips import clip
from demo.home_assistant import REPOSITORY, HomeAssistantProcess
from demo.stream_server import StreamServer


@pytest.fixture(autouse=True)
def _real_sockets() -> None:
    """Allow sockets, which the harness forbids before each test: everything here listens on loopback."""
    pytest_socket.enable_socket()
    pytest_socket.socket_allow_hosts(["127.0.0.1", "localhost"])


@pytest.fixture(scope="session", params=["pinned", "newest"])
def home_assistant_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment with the Home Assistant that the harness pins, or the newest release."""
    if request.param == "pinned":
        return REPOSITORY / ".venv" / "bin" / "python"
    setup = subprocess.run([REPOSITORY / "scripts" / "setup", "--newest"], capture_output=True, text=True, check=False)
    if setup.returncode:
        pytest.fail(f"scripts/setup --newest failed:\n{setup.stdout}{setup.stderr}")
    return REPOSITORY / ".venv-newest" / "bin" / "python"


@pytest.fixture
async def streams() -> AsyncIterator[StreamServer]:
    """A real HTTP server that streams a visitor for ever."""
    async with StreamServer({"front_door": await asyncio.to_thread(clip, "front_door")}) as server:
        yield server


@pytest.fixture
async def house(tmp_path: Path, home_assistant_python: Path) -> AsyncIterator[HomeAssistantProcess]:
    """A running Home Assistant."""
    async with HomeAssistantProcess(tmp_path / "home-assistant", python=home_assistant_python) as process:
        yield process
