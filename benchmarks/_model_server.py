"""An OpenAI-compatible server whose model takes exactly as long as it is told, and says how much longer it took."""

import asyncio
import base64
from functools import cache
import json
from multiprocessing.connection import Connection
import time
from typing import Any

from custom_components.nemotron_security.analysis.probe import draw_number

MODEL = "metronome"
ANSWER_TIME = 0.5
"""Seconds from the last byte of a question about an incident to the first of the answer."""
LARGEST_QUESTION = 32 * 1024 * 1024


def serve(pipe: Connection) -> None:
    """Serve on loopback until the other end of the pipe closes; sends the port once there is one."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    await asyncio.to_thread(_numbers)
    server = await asyncio.start_server(_talk, "127.0.0.1", 0, limit=LARGEST_QUESTION)
    pipe.send(server.sockets[0].getsockname()[1])
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), closed.set)
    await closed.wait()
    server.close()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of a connection one after another."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
            body = await reader.readexactly(length)
            asked_at = time.time()
            content = {"data": [{"id": MODEL}]} if length == 0 else await _answer(json.loads(body), asked_at)
            data = json.dumps(content).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data))
            writer.write(data)
    except asyncio.IncompleteReadError, ConnectionError:
        writer.close()


async def _answer(request: dict[str, Any], asked_at: float) -> dict[str, Any]:
    wanted = request.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})
    if "word" in wanted or "risk_score" not in wanted:
        return _completion(_trial(wanted, request))
    await asyncio.sleep(max(0.0, asked_at + ANSWER_TIME - time.time()))
    verdict = {
        "evidence": [{"claim": "Somebody walks up the drive to the car.", "frame": 1}] * 4,
        "reasoning": "A person whom nobody expects walks up the drive and looks into the car. " * 8,
        "category": "person",
        "risk_score": 55,
        "confidence": 0.8,
        "title": "Person at the car",
        "summary": str(time.time() - asked_at - ANSWER_TIME),
        "recommended_action": "Look at the live picture.",
    }
    return _completion(verdict)


def _trial(wanted: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Answer what a new model is tried with: something that the schema allows, or the number in the picture."""
    if "word" in wanted:
        return {"word": wanted["word"]["enum"][0]}
    parts = request["messages"][0]["content"]
    url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    return {"number": _numbers()[base64.b64decode(url.partition(",")[2])]}


@cache
def _numbers() -> dict[bytes, int]:
    return {draw_number(number): number for number in range(100, 1000)}


def _completion(answer: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": json.dumps(answer)}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
