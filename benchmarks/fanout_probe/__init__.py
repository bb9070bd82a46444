"""A probe inside Home Assistant: the same incidents to many clients, by our channel, by its bus, and one by one.

Every way begins at the incident and ends when the last client was handed its message; the driver reads the CPU time
when the last client has it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import batched
import json
import time
from typing import Any

from aiohttp import web
from homeassistant.components import websocket_api
from homeassistant.components.http import HomeAssistantView
from homeassistant.components.recorder import get_instance
from homeassistant.components.websocket_api.messages import construct_event_message
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.json import json_bytes
from homeassistant.helpers.typing import ConfigType
import probatio as vol

from custom_components.nemotron_security.broadcasters import BATCH, async_channels
from custom_components.nemotron_security.models import Incident
from custom_components.nemotron_security.payloads import event_payload

DOMAIN = "fanout_probe"
EVENT = "fanout_probe_event"
PAYLOAD_BYTES = 3400
LEAD = 0.05
"""Seconds from a command's answer to the first message, so that the answer costs nothing of what is measured."""
FILLING = b'"%b"' % (b"x" * 50_000)
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SENTENCE = "A person whom nobody expects walks up the drive, looks through both car windows and tries the side door. "


def incident_of(number: int) -> Incident:
    """Return an incident whose payload has the size of a thorough verdict."""
    incident = Incident(
        id=number,
        camera_id="01JCAMERAFRONTDOOR00000000",
        started_at=NOON,
        last_seen_at=NOON,
        labels=("person", "car"),
        object_count=2,
        rules_score=62,
        risk_score=71,
        analyzer="nemotron",
        title="Person at the front door",
        summary=SENTENCE * 2,
        reasoning="",
        picture_id=number,
    )
    missing = PAYLOAD_BYTES - len(json_bytes(event_payload(incident)))
    return replace(incident, reasoning=(SENTENCE * (missing // len(SENTENCE) + 1))[:missing])


class Probe:
    """Sends incidents in one of the ways, and keeps what the driver asks for afterwards."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Begin without clients."""
        self._hass = hass
        self._events = async_channels(hass).events
        self._cpu = 0
        self._sent: list[int] = []
        self._calls: list[int] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.frames: dict[websocket_api.ActiveConnection, int] = {}
        """Connections with the id of their subscription to our channel."""
        self._ways: dict[str, Callable[[Incident], Awaitable[None]]] = {
            "ours": self._ours,
            "core": self._core,
            "naive": self._naive,
            "direct": self._direct,
        }
        serve = self._events._serve  # noqa: SLF001

        def timed_serve() -> None:
            with self._timed():
                serve()

        vars(self._events)["_serve"] = timed_serve  # what a large audience gets after the call has returned

    async def send(self, way: str, first: int, count: int, interval: float) -> None:
        """Send incidents numbered from `first`, one every `interval` seconds; 0 is all of them at once."""
        incidents = [incident_of(number) for number in range(first, first + count)]
        self._sent, self._calls = [], []
        await asyncio.sleep(LEAD)
        self._cpu = time.process_time_ns()
        due = time.monotonic()
        for incident in incidents:
            self._sent.append(time.monotonic_ns())
            self._calls.append(0)
            await self._ways[way](incident)
            due += interval
            if interval:
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def result(self) -> dict[str, Any]:
        """Return the CPU time (ns) before the first message, and when each was sent and how long that took (ns)."""
        return {"cpu": self._cpu, "sent": self._sent, "calls": self._calls}

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add the time that passes to what the last message took."""
        began = time.perf_counter_ns()
        yield
        self._calls[-1] += time.perf_counter_ns() - began

    async def _ours(self, incident: Incident) -> None:
        with self._timed():
            self._events.broadcast_new_event(incident)

    async def _core(self, incident: Incident) -> None:
        with self._timed():
            self._hass.bus.async_fire_internal(EVENT, event_payload(incident))

    async def _naive(self, incident: Incident) -> None:
        with self._timed():
            payload = event_payload(incident)
            for socket in list(self.sockets):
                await socket.send_str(json.dumps({"type": "new_event", "data": payload}))

    async def _direct(self, incident: Incident) -> None:
        """Hand over finished frames, to as many clients a turn as we do: Home Assistant's part of our own way."""
        envelope = b'{"type":"new_event","data":%b,"seq":1}' % json_bytes(event_payload(incident))
        frames = {number: construct_event_message(number, envelope) for number in set(self.frames.values())}
        ready = [(connection.send_message, frames[number]) for connection, number in self.frames.items()]
        for batch in batched(ready, BATCH, strict=False):
            with self._timed():
                for send, frame in batch:
                    send(frame)
            await asyncio.sleep(0)
            await asyncio.sleep(0)


class NaiveView(HomeAssistantView):
    """A websocket without a queue, as a web framework gives it."""

    name = DOMAIN
    url = f"/api/{DOMAIN}/naive"
    requires_auth = False

    def __init__(self, probe: Probe) -> None:
        """Serve this probe."""
        self._probe = probe

    async def get(self, request: web.Request) -> web.WebSocketResponse:
        """Keep the socket until its client leaves."""
        socket = web.WebSocketResponse(heartbeat=55)
        await socket.prepare(request)
        self._probe.sockets.append(socket)
        try:
            async for _message in socket:
                pass
        finally:
            self._probe.sockets.remove(socket)
        return socket


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer the commands."""
    probe = Probe(hass)
    hass.http.register_view(NaiveView(probe))
    get_instance(hass).exclude_event_types.add(EVENT)  # its rows are no part of the fan-out

    @websocket_api.websocket_command({vol.Required("type"): f"{DOMAIN}/join", vol.Required("subscription"): int})
    @callback
    def join(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Note a client of our channel for as long as it is connected."""
        probe.frames[connection] = message["subscription"]
        connection.subscriptions[message["id"]] = lambda: probe.frames.pop(connection)
        connection.send_result(message["id"])

    @websocket_api.websocket_command(
        {
            vol.Required("type"): f"{DOMAIN}/send",
            vol.Required("way"): vol.In(["ours", "core", "naive", "direct"]),
            vol.Required("first"): int,
            vol.Required("count"): int,
            vol.Required("interval"): vol.Coerce(float),
        }
    )
    @callback
    def send(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Begin to send, soon."""
        work = probe.send(message["way"], message["first"], message["count"], message["interval"])
        hass.async_create_background_task(work, "fan-out")
        connection.send_result(message["id"])

    @websocket_api.websocket_command({vol.Required("type"): f"{DOMAIN}/result"})
    @callback
    def result(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Say how it went."""
        connection.send_result(message["id"], probe.result())

    @websocket_api.websocket_command({vol.Required("type"): f"{DOMAIN}/fill"})
    @callback
    def fill(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, _message: dict[str, Any]) -> None:
        """Send the client 20 MB, more than its socket holds."""
        for _ in range(400):
            connection.send_message(FILLING)

    for command in (join, send, result, fill):
        websocket_api.async_register_command(hass, command)
    return True
