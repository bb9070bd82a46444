"""An OpenAI-compatible server of our own that does whatever a test says: also every fault that there is."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
import json
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from custom_components.nemotron_security.analysis import Capabilities
from custom_components.nemotron_security.analysis.probe import draw_number

ABLE = Capabilities(schema=True, images=True)

type Response = web.StreamResponse | Awaitable[web.StreamResponse]


class FaultyServer:
    """Answers as a test says; `requests` are what it was asked, the lists of models apart."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.respond: Callable[[], Response] = lambda: self.answer("")
        self.offer: list[dict[str, Any]] | None = None
        """The models that it lists; without, `respond` answers to that question too."""
        self.stopped = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/models") and self.offer is not None:
            return web.json_response({"object": "list", "data": self.offer})
        self.requests.append(await request.json() if request.can_read_body else {})
        self.headers.append(dict(request.headers))
        self._request = request
        response = self.respond()
        return response if isinstance(response, web.StreamResponse) else await response

    # --- what it may do ---------------------------------------------------------------------------------------------

    @staticmethod
    def answer(content: object, *, finish_reason: str = "stop") -> web.Response:
        """Answer with this text."""
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
        return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice]})

    def serve(self, *, schema: bool, images: bool, strict: bool = False, text: str = "Hello there.") -> None:
        """Be a server with these abilities, and a model `nemotron`.

        What lacks is passed over in silence, or (`strict`) refused: a schema with 400, a picture with 500.
        """
        self.offer = [{"id": "nemotron", "max_model_len": 8192}]

        def respond() -> web.Response:
            request = self.requests[-1]
            wanted = request.get("response_format", {}).get("json_schema", {}).get("schema")
            picture = _picture(request)
            if strict and wanted and not schema:
                return web.json_response({"error": {"message": "response_format is not supported"}}, status=400)
            if strict and picture and not images:
                return web.json_response({"error": {"message": "image input is not supported"}}, status=500)
            seen = _numbers().get(picture) if picture and images else None
            if wanted and schema:
                return self.answer(json.dumps(_example(wanted, seen)))
            return self.answer(text if seen is None else str(seen))

        self.respond = respond

    async def hang(self) -> web.StreamResponse:
        """Say nothing until the test is over."""
        await self.stopped.wait()
        return web.Response()

    async def drip(self, body: bytes, *, pause: float) -> web.StreamResponse:
        """Send a byte at a time."""
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(self._request)
        for byte in body:
            if self.stopped.is_set():
                break
            await response.write(bytes([byte]))
            await asyncio.sleep(pause)
        return response

    async def break_off(self, body: bytes) -> web.StreamResponse:
        """Announce more than is sent, then close the connection."""
        response = web.StreamResponse(headers={"Content-Length": str(len(body) + 100)})
        await response.prepare(self._request)
        await response.write(body)
        assert self._request.transport is not None
        self._request.transport.abort()
        return response

    async def pour(self, size: int) -> web.StreamResponse:
        """Send this many bytes without saying how many will come."""
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(self._request)
        for _ in range(size // 65536):
            await response.write(b" " * 65536)
        return response


@asynccontextmanager
async def running(faulty: FaultyServer) -> AsyncIterator[FaultyServer]:
    """Let it listen on loopback."""
    application = web.Application(client_max_size=16 * 1024**2)
    application.router.add_route("*", "/v1/{path:.*}", faulty.handle)
    server = TestServer(application)
    await server.start_server()
    faulty.url = str(server.make_url("/"))
    try:
        yield faulty
    finally:
        faulty.stopped.set()
        await server.close()


def _picture(request: dict[str, Any]) -> bytes | None:
    for message in request.get("messages", []):
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part["type"] == "image_url":
                return base64.b64decode(part["image_url"]["url"].partition(",")[2])
    return None


@cache
def _numbers() -> dict[bytes, int]:
    """Return what a model that sees would read in each picture of a number."""
    return {draw_number(number): number for number in range(100, 1000)}


def _example(schema: dict[str, Any], seen: int | None) -> Any:
    """Return something that a schema allows: with the number that was seen, where it wants numbers."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: _example(value, seen) for key, value in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema["items"], seen)] if "items" in schema else []
        case "integer" | "number":
            return seen if seen is not None else schema.get("minimum", 0)
        case "boolean":
            return True
        case _:
            return "something"
