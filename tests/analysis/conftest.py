"""Servers that an analyzer asks: a faulty one of our own, and a real llama.cpp with a tiny random Nemotron."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import BytesIO
import json
from pathlib import Path
import socket
import subprocess
import time
from typing import Any
import urllib.error
import urllib.request

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from PIL import Image
import pytest

LLAMA_SERVER = Path(__file__).parents[3] / "shared" / "tools" / "tiny_nemotron" / "llama-server"
LLAMA_STARTS = 150.0
"""Seconds; the first start fetches the server."""

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultyServer:
    """An OpenAI-compatible server that answers as a test says; `requests` are what it was asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.respond: Callable[[], Awaitable[web.StreamResponse] | web.StreamResponse] = lambda: self.answer("")
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json() if request.can_read_body else {})
        self.headers.append(dict(request.headers))
        response = self.respond()
        return response if isinstance(response, web.StreamResponse) else await response

    @staticmethod
    def answer(content: object, *, finish_reason: str = "stop") -> web.Response:
        """Make an answer with this text."""
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
        return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice]})


@pytest.fixture
async def session(socket_enabled: None) -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def faulty(socket_enabled: None) -> AsyncIterator[FaultyServer]:
    faulty = FaultyServer()
    application = web.Application(client_max_size=16 * 1024**2)
    application.router.add_route("*", "/v1/{path:.*}", faulty.handle)
    server = TestServer(application)
    await server.start_server()
    faulty.url = str(server.make_url("/"))
    yield faulty
    await server.close()


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """Return a picture of 1280x720."""
    buffer = BytesIO()
    Image.effect_noise((320, 180), 60).resize((1280, 720)).convert("RGB").save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def llama_address() -> Iterator[str]:
    """Start the real llama.cpp server once for all tests."""
    if not LLAMA_SERVER.exists():
        pytest.skip("no shared/tools/tiny_nemotron beside the checkout")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [LLAMA_SERVER, str(port), "-t", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
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
