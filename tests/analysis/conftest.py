"""Servers that an analyzer asks: a faulty one of our own, and a real llama.cpp with a tiny random Nemotron."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import BytesIO
import json
import os
from pathlib import Path
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from aiohttp import ClientSession
from PIL import Image
import pytest

from .faulty_server import FaultyServer, running

LLAMA_SERVER = Path(__file__).parents[3] / "shared" / "tools" / "tiny_nemotron" / "llama-server"
LLAMA_STARTS = 150.0
"""Seconds; the first start fetches the server."""


@pytest.fixture
async def session(socket_enabled: None) -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def faulty(socket_enabled: None) -> AsyncIterator[FaultyServer]:
    async with running(FaultyServer()) as faulty:
        yield faulty


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """Return a picture of 1280x720."""
    buffer = BytesIO()
    Image.effect_noise((320, 180), 60).resize((1280, 720)).convert("RGB").save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def llama_address() -> Iterator[str]:
    """Start the real llama.cpp server once for all tests."""
    with _llama() as address:
        yield address


@pytest.fixture(scope="session")
def small_llama_address() -> Iterator[str]:
    """Start another one whose context is 4096 tokens for each of its two slots."""
    with _llama("-c", "8192") as address:
        yield address


@contextmanager
def _llama(*options: str) -> Iterator[str]:
    if not LLAMA_SERVER.exists():
        pytest.skip("no shared/tools/tiny_nemotron beside the checkout")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Its first start makes the model with uv, which Home Assistant brought into this environment.
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{Path(sys.executable).parent}"}
    process = subprocess.Popen(
        [LLAMA_SERVER, str(port), "-t", "1", *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # asked nicely, it first finishes what it writes
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    give_up = time.monotonic() + LLAMA_STARTS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            pytest.skip("the llama.cpp server cannot start here")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if json.load(answer)["status"] == "ok":
                    return
        except urllib.error.URLError, ConnectionError, TimeoutError:
            time.sleep(0.2)
    pytest.skip("the llama.cpp server did not become ready")


@pytest.fixture
async def llama_url(socket_enabled: None, request: pytest.FixtureRequest) -> str:
    """Return the real server's address; it starts at the first use, where sockets are allowed."""
    await asyncio.sleep(0)
    return str(request.getfixturevalue("llama_address"))


@pytest.fixture
async def small_llama_url(socket_enabled: None, request: pytest.FixtureRequest) -> str:
    """Return the address of the real server with the small context."""
    await asyncio.sleep(0)
    return str(request.getfixturevalue("small_llama_address"))
