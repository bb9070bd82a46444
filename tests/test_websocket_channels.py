"""Both channels over a real websocket of Home Assistant, fed by the real pipeline and the real store."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import json
import logging
from pathlib import Path
import re
import socket
import threading
import time
from typing import Any

from homeassistant.components.websocket_api.const import MAX_PENDING_MSG
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import MockHAClientWebSocket, WebSocketGenerator
from sqlalchemy.orm import Session

from custom_components.nemotron_security.broadcasters import HISTORY, SHORT_HISTORY, Broadcaster, missed
from custom_components.nemotron_security.const import (
    CONF_FILE_PATH,
    CONF_SOURCE,
    DOMAIN,
    SOURCE_FILE,
    SUBENTRY_CAMERA,
)
from custom_components.nemotron_security.episodes import DETECTIONS_PER_SECOND
from custom_components.nemotron_security.health import BEATS
from custom_components.nemotron_security.models import (
    Assessment,
    Box,
    CameraStatus,
    GpuStats,
    Incident,
    IncidentFilter,
    Track,
)
from custom_components.nemotron_security.payloads import PartState, PipelineStatus
from custom_components.nemotron_security.runtime import Runtime
from custom_components.nemotron_security.store import Store, StoreError, queries
from custom_components.nemotron_security.vision.messages import (
    CameraReport,
    CameraState,
    DetectorState,
    FrameTracks,
    Heartbeat,
    TrackPicture,
    TrackState,
)
from custom_components.nemotron_security.websocket_api import async_register
from custom_components.nemotron_security.websocket_api.client import (
    MAXIMUM_BACKLOG,
    MAXIMUM_WAITING,
    Subscription,
    queued,
)

from .gpu.fake import GPU, FakeDriver

DOOR = "01JDOOR0000000000000000000"
YARD = "01JYARD0000000000000000000"
EVENTS = f"{DOMAIN}/events/subscribe"
SYSTEM = f"{DOMAIN}/system/subscribe"
DOCUMENTATION = Path(__file__).parents[1] / "docs" / "websocket-api.md"
PATIENCE = 10

GPU_STATS = GpuStats(
    gpu_id="GPU-1",
    name="NVIDIA T4",
    gpu_utilization=41.5,
    memory_used=2 << 30,
    memory_total=16 << 30,
    temperature=None,
    inference_fps=19.8,
    recorded_at=datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
)

INCIDENT = Incident(
    id=1,
    camera_id=DOOR,
    started_at=datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
    last_seen_at=datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
)

# --- the system under test --------------------------------------------------------------------------------------------


@pytest.fixture
def entry(hass: HomeAssistant) -> MockConfigEntry:
    """Return an entry with two cameras."""
    entry = MockConfigEntry(
        domain=DOMAIN,
        title="Nemotron Home Security",
        subentries_data=[
            {
                "data": {CONF_SOURCE: SOURCE_FILE, CONF_FILE_PATH: f"/{name}.mp4"},
                "subentry_id": camera_id,
                "subentry_type": SUBENTRY_CAMERA,
                "title": name,
                "unique_id": name,
            }
            for camera_id, name in ((DOOR, "Door"), (YARD, "Yard"))
        ],
    )
    entry.add_to_hass(hass)
    return entry


@pytest.fixture
async def runtime(hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path) -> AsyncGenerator[Runtime]:
    """Run everything but the worker's process; the tests report in its place, by the same messages."""
    async_register(hass)
    store = Store(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "pictures")
    await store.async_open()
    hub = dr.async_get(hass).async_get_or_create(config_entry_id=entry.entry_id, identifiers={(DOMAIN, entry.entry_id)})
    runtime = entry.runtime_data = Runtime(hass, entry, store, hub.id)
    await runtime.incidents.async_start()
    await runtime.async_sync_cameras()
    entry.mock_state(hass, ConfigEntryState.LOADED)
    yield runtime
    entry.mock_state(hass, ConfigEntryState.NOT_LOADED)
    await runtime.async_stop()


def person(track_id: int, at: float) -> TrackState:
    """Return what the tracker says of a person whom it confirmed."""
    return TrackState(
        track_id=track_id,
        label="person",
        confidence=0.87,
        score=0.9,
        box=Box(100, 50, 180, 250),
        first_seen_at=at - 0.4,
        last_seen_at=at,
        confirmed=True,
        moved=True,
        stationary=False,
    )


def see(runtime: Runtime, *tracks: TrackState, camera_id: str, at: float) -> None:
    """Report one frame."""
    runtime._handle_report(
        FrameTracks(camera_id=camera_id, frame_id=1, captured_at=at, width=1280, height=720, tracks=tracks)
    )


def see_person(runtime: Runtime, camera_id: str = DOOR, *, track_id: int = 1, at: float | None = None) -> None:
    """Report one frame with a person."""
    at = time.time() if at is None else at
    see(runtime, person(track_id, at), camera_id=camera_id, at=at)


def see_people(runtime: Runtime, count: int, *, at: float) -> None:
    """Report one frame with many."""
    see(runtime, *(person(track_id, at) for track_id in range(count)), camera_id=DOOR, at=at)


def infer(runtime: Runtime, *, fps: float) -> None:
    """Report that so many frames a second went through the detector, of both cameras together."""
    runtime._handle_report(DetectorState(problem=None))
    for beat in range(BEATS):
        reports = tuple(
            CameraReport(camera_id=camera_id, fps=5.0, inference_fps=fps / 2, last_frame_at=float(beat))
            for camera_id in (DOOR, YARD)
        )
        runtime._handle_report(
            Heartbeat(at=float(beat), cameras=reports, inference_ms_p50=9.0, inference_ms_p95=12.0, rss=1)
        )


def change_status(runtime: Runtime, status: CameraStatus, camera_id: str = DOOR) -> None:
    """Report a camera's status."""
    runtime._handle_report(CameraState(camera_id=camera_id, status=status, at=time.time()))


async def stored_incident(
    runtime: Runtime, camera_id: str = DOOR, *, label: str = "person", score: int = 40
) -> Incident:
    """Store an incident without announcing it."""
    now = datetime.now(UTC)
    track = Track(
        track_id=time.time_ns(),
        label=label,
        confidence=0.9,
        first_seen_at=now,
        last_seen_at=now,
        box=Box(1, 2, 3, 4),
        frame_width=1280,
        frame_height=720,
    )
    assessment = Assessment(
        analyzer="rules", risk_score=score, title="Person", summary="A person.", reasoning=None, created_at=now
    )
    return await runtime.store.async_start_incident(camera_id, [track], started_at=now, assessment=assessment)


def hold_reading(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let the store take its time to read incidents: until the event is set."""
    read, go_on = runtime.store.async_incidents, asyncio.Event()

    async def read_later(*args: Any, **kwargs: Any) -> list[Incident]:
        await go_on.wait()
        return await read(*args, **kwargs)

    monkeypatch.setattr(runtime.store, "async_incidents", read_later)
    return go_on


@contextmanager
def held_searches(monkeypatch: pytest.MonkeyPatch) -> Generator[threading.Event]:
    """Let the database take its time to search for words: until the end. The event says that it has begun."""
    find, began, go_on = queries.incidents, threading.Event(), threading.Event()

    def find_later(session: Session, wanted: IncidentFilter, *args: Any) -> list[Incident]:
        if wanted.text:
            began.set()
            go_on.wait(PATIENCE)
        return find(session, wanted, *args)

    monkeypatch.setattr(queries, "incidents", find_later)
    try:
        yield began
    finally:
        go_on.set()


# --- a client ---------------------------------------------------------------------------------------------------------


async def receive(client: MockHAClientWebSocket) -> dict[str, Any]:
    """Return the next message off the wire."""
    async with asyncio.timeout(PATIENCE):
        message: dict[str, Any] = await client.receive_json()
        return message


async def receive_bytes(client: MockHAClientWebSocket) -> tuple[str, str]:
    """Return the next frame as it came: its id, and what follows the id."""
    async with asyncio.timeout(PATIENCE):
        frame = (await client.receive()).data
    match = re.fullmatch(r'\{"id":(\d+),(.*)', frame, re.DOTALL)
    assert match
    return match[1], match[2]


def stop_reading(client: MockHAClientWebSocket) -> asyncio.Transport:
    """Let the client leave in the network's buffers what comes, and keep its own small."""
    connection = client._response.connection
    assert connection is not None
    transport = connection.transport
    assert isinstance(transport, asyncio.Transport)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    transport.pause_reading()
    return transport


async def ask(client: MockHAClientWebSocket, command: str, **options: Any) -> dict[str, Any]:
    """Send a command and return its answer."""
    await client.send_json_auto_id({"type": command, **options})
    return await receive(client)


async def subscribe(client: MockHAClientWebSocket, command: str, **options: Any) -> dict[str, Any]:
    """Subscribe and return the result."""
    answer = await ask(client, command, **options)
    assert answer["success"], answer
    assert answer["type"] == "result"
    result: dict[str, Any] = answer["result"]
    return result


async def receive_event(client: MockHAClientWebSocket, type_: str | None = None) -> dict[str, Any]:
    """Return the next message of a subscription, or the next of one type."""
    while True:
        message = await receive(client)
        assert message["type"] == "event", message
        event: dict[str, Any] = message["event"]
        if type_ is None or event["type"] == type_:
            return event


async def subscribe_system(client: MockHAClientWebSocket) -> dict[str, Any]:
    """Subscribe to `system` and take the present state of the two cameras."""
    result = await subscribe(client, SYSTEM)
    present = [await receive_event(client) for _ in range(2)]
    assert [message["type"] for message in present] == ["camera_status"] * 2
    return result


async def nothing_waits(client: MockHAClientWebSocket) -> None:
    """Make sure that nothing was sent that was not received."""
    assert (await ask(client, "ping"))["type"] == "pong"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other end of a socket does in its own time."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def left_alone(channel: Broadcaster) -> None:
    """Wait until nobody listens."""
    await until(lambda: channel.connections == 0)


def is_utc(text: str) -> bool:
    """Whether a text is ISO 8601 with UTC's offset."""
    return datetime.fromisoformat(text).utcoffset() == timedelta(0)


# --- the contract's tests ---------------------------------------------------------------------------------------------


class TestWebSocketEventChannel:
    """The channel `events`."""

    async def test_events_websocket_connection(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        assert runtime.events.connections == 0
        result = await subscribe(client, EVENTS)
        assert result == {"seq": runtime.events.seq, "run": runtime.events.run, "complete": True}
        assert runtime.events.connections == 1
        await nothing_waits(client)

    async def test_events_websocket_connection_and_disconnect(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        await subscribe(client, EVENTS)
        assert runtime.events.connections == 1
        await client.close()
        await left_alone(runtime.events)

    async def test_events_websocket_receive_new_event(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        seq = (await subscribe(client, EVENTS))["seq"]
        see_person(runtime)
        event = await receive_event(client)
        assert (event["type"], event["seq"]) == ("new_event", seq + 1)
        stored = await runtime.store.async_incident(event["data"]["id"])
        assert stored
        assert event["data"]["camera_id"] == stored.camera_id == DOOR
        assert event["data"]["risk_score"] == stored.risk_score
        assert event["data"]["summary"] == stored.summary
        assert event["data"]["started_at"] == stored.started_at.isoformat()
        assert event["data"]["ended_at"] is None

    async def test_events_websocket_receive_detection(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        await subscribe(client, EVENTS)
        see_person(runtime)
        incident = await receive_event(client, "new_event")
        detection = await receive_event(client, "detection")
        (stored,) = await runtime.store.async_detections(incident["data"]["id"])
        assert detection["data"]["id"] == stored.id
        assert detection["data"]["incident_id"] == incident["data"]["id"]
        assert detection["data"]["object_type"] == "person"
        assert detection["data"]["confidence"] == stored.confidence

    async def test_events_websocket_multiple_connections(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        first, second = await hass_ws_client(), await hass_ws_client()
        await subscribe(first, EVENTS)
        await subscribe(second, EVENTS)
        assert runtime.events.connections == 2
        see_person(runtime)
        event = await receive_event(first)
        assert event["type"] == "new_event"
        assert await receive_event(second) == event

    async def test_events_websocket_reconnection(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        await subscribe(client, EVENTS)
        see_person(runtime, track_id=1)
        seen = await receive_event(client, "detection")
        await client.close()
        await left_alone(runtime.events)

        see_person(runtime, YARD, track_id=2)
        await until(lambda: runtime.events.seq == seen["seq"] + 2)
        client = await hass_ws_client()
        result = await subscribe(client, EVENTS, since=seen["seq"])
        assert result == {"seq": seen["seq"] + 2, "run": runtime.events.run, "complete": True}
        missed = [await receive_event(client) for _ in range(2)]
        assert [message["type"] for message in missed] == ["new_event", "detection"]
        assert [message["seq"] - seen["seq"] for message in missed] == [1, 2]
        assert {message["data"]["camera_id"] for message in missed} == {YARD}

        see_person(runtime, YARD, track_id=2, at=time.time() + 2)
        assert (await receive_event(client))["seq"] == seen["seq"] + 3

    async def test_events_websocket_message_format_new_event(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        await subscribe(client, EVENTS)
        see_person(runtime)
        event = await receive_event(client, "new_event")
        data = event["data"]
        assert event.keys() == {"type", "data", "seq"}
        assert type(event["seq"]) is int
        assert type(data["id"]) is int
        assert data["camera_id"] == DOOR
        assert type(data["risk_score"]) is int
        assert data["risk_level"] in {"low", "medium", "high", "critical"}
        assert type(data["summary"]) is str
        assert data["reasoning"] is None or type(data["reasoning"]) is str
        assert is_utc(data["started_at"])
        assert data["ended_at"] is None

    async def test_events_websocket_message_format_detection(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        await subscribe(client, EVENTS)
        see_person(runtime)
        event = await receive_event(client, "detection")
        data = event["data"]
        assert event.keys() == {"type", "data", "seq"}
        assert type(data["id"]) is int
        assert data["id"] > 0
        assert (data["camera_id"], data["object_type"]) == (DOOR, "person")
        assert type(data["confidence"]) is float
        assert is_utc(data["detected_at"])
        box = [data[f"bbox_{key}"] for key in ("x", "y", "width", "height")]
        assert box == [100, 50, 80, 200]
        assert all(type(pixels) is int for pixels in box)
        assert (data["frame_width"], data["frame_height"]) == (1280, 720)


class TestWebSocketSystemChannel:
    """The channel `system`."""

    async def test_system_websocket_connection(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        runtime.system.broadcast_pipeline_status(PipelineStatus(store=PartState.RUNNING))
        client = await hass_ws_client()
        result = await subscribe(client, SYSTEM)
        assert result == {"seq": runtime.system.seq, "run": runtime.system.run, "complete": True}
        assert runtime.system.connections == 1
        present = [await receive_event(client) for _ in range(4)]
        assert [message["type"] for message in present] == [
            "gpu_stats",
            "camera_status",
            "camera_status",
            "pipeline_status",
        ]
        assert {message["seq"] for message in present} == {result["seq"]}
        assert [message["data"]["camera_id"] for message in present[1:3]] == [DOOR, YARD]
        parts = {part: present[3]["data"][part] for part in ("worker", "detector", "store", "analyzer")}
        assert parts == {
            "worker": "unknown",
            "detector": "unknown",
            "store": "running",
            "analyzer": "unknown",
        }
        await nothing_waits(client)

    async def test_system_websocket_connection_and_disconnect(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        await subscribe(client, SYSTEM)
        assert runtime.system.connections == 1
        await client.close()
        await left_alone(runtime.system)

    async def test_system_websocket_receive_gpu_stats(
        self, runtime: Runtime, driver: FakeDriver, hass_ws_client: WebSocketGenerator
    ) -> None:
        driver.gpus(GPU, temperature=None)
        client = await hass_ws_client()
        seq = (await subscribe_system(client))["seq"]
        await runtime.gpus.async_start()
        event = await receive_event(client)
        assert (event["type"], event["seq"]) == ("gpu_stats", seq + 1)
        assert (event["data"]["gpu_id"], event["data"]["name"]) == (GPU, "NVIDIA T4")
        assert event["data"]["gpu_utilization"] == 41.0
        assert event["data"]["temperature"] is None

    async def test_system_websocket_receive_camera_status(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        await subscribe_system(client)
        change_status(runtime, CameraStatus.ONLINE)
        event = await receive_event(client, "camera_status")
        assert (event["data"]["camera_id"], event["data"]["status"]) == (DOOR, "online")
        change_status(runtime, CameraStatus.OFFLINE)
        event = await receive_event(client, "camera_status")
        assert event["data"]["status"] == "offline"
        assert is_utc(event["data"]["last_seen_at"])

    async def test_system_websocket_multiple_connections(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        first, second = await hass_ws_client(), await hass_ws_client()
        await subscribe_system(first)
        await subscribe_system(second)
        assert runtime.system.connections == 2
        change_status(runtime, CameraStatus.ONLINE, YARD)
        event = await receive_event(first, "camera_status")
        assert event["data"]["camera_id"] == YARD
        assert await receive_event(second, "camera_status") == event

    async def test_system_websocket_reconnection(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        run = (await subscribe_system(client))["run"]
        change_status(runtime, CameraStatus.ONLINE)
        seen = await receive_event(client, "camera_status")
        await client.close()
        await left_alone(runtime.system)

        runtime.system.broadcast_gpu_stats(GPU_STATS)
        for status in (CameraStatus.OFFLINE, CameraStatus.ONLINE):
            change_status(runtime, status)
        client = await hass_ws_client()
        result = await subscribe(client, SYSTEM, since=seen["seq"], run=run)
        assert result == {"seq": seen["seq"] + 3, "run": run, "complete": True}
        received = [await receive_event(client) for _ in range(6)]
        told = [(message["type"], message["data"].get("status"), message["seq"] - seen["seq"]) for message in received]
        assert told[:3] == [
            ("gpu_stats", None, 1),
            ("camera_status", "offline", 2),
            ("camera_status", "online", 3),
        ]
        # Then the present state, as always.
        assert told[3:] == [("gpu_stats", None, 3), ("camera_status", "online", 3), ("camera_status", "unknown", 3)]
        assert [message["data"]["camera_id"] for message in received[4:]] == [DOOR, YARD]

        change_status(runtime, CameraStatus.ONLINE, YARD)
        assert (await receive_event(client))["seq"] == seen["seq"] + 4

    async def test_system_websocket_reconnection_after_long(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        """What comes often pushes no camera's status out; a client is told of what is lost only where it wants it."""
        start = runtime.system.seq
        change_status(runtime, CameraStatus.ONLINE)
        for _ in range(SHORT_HISTORY + 1):
            runtime.system.broadcast_gpu_stats(GPU_STATS)
        client = await hass_ws_client()
        assert not (await subscribe(client, SYSTEM, since=start))["complete"]
        assert (await receive_event(client))["seq"] == start + 1
        client = await hass_ws_client()
        assert (await subscribe(client, SYSTEM, since=start, types=["camera_status"]))["complete"]
        received = [await receive_event(client) for _ in range(3)]
        assert [message["data"]["status"] for message in received] == ["online", "online", "unknown"]
        await nothing_waits(client)
        assert not (await subscribe(client, SYSTEM, since=start, run="another"))["complete"]

    async def test_system_websocket_message_format_gpu_stats(
        self, runtime: Runtime, driver: FakeDriver, hass_ws_client: WebSocketGenerator
    ) -> None:
        driver.gpus(GPU)
        client = await hass_ws_client()
        await subscribe_system(client)
        infer(runtime, fps=19.8)
        await runtime.gpus.async_start()
        event = await receive_event(client, "gpu_stats")
        data = event["data"]
        assert event.keys() == {"type", "data", "seq"}
        assert type(data["gpu_utilization"]) is type(data["temperature"]) is type(data["inference_fps"]) is float
        assert type(data["memory_used"]) is type(data["memory_total"]) is int
        assert data["inference_fps"] == pytest.approx(19.8)
        assert is_utc(data["recorded_at"])

    async def test_system_websocket_message_format_camera_status(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client()
        await subscribe(client, SYSTEM)
        unseen = await receive_event(client, "camera_status")
        assert unseen.keys() == {"type", "data", "seq"}
        assert unseen["data"] == {"camera_id": DOOR, "status": "unknown", "last_seen_at": None, "problem": None}
        await receive_event(client, "camera_status")
        change_status(runtime, CameraStatus.ONLINE)
        seen = await receive_event(client, "camera_status")
        assert seen["data"]["status"] == "online"
        assert is_utc(seen["data"]["last_seen_at"])


class TestWebSocketConnectionCleanup:
    """What a client leaves behind: nothing."""

    @staticmethod
    async def _visit(create: WebSocketGenerator, commands: list[str], channels: list[Broadcaster]) -> None:
        client = await create()
        for command in commands:
            await client.send_json_auto_id({"type": command})
        await until(lambda: all(channel.connections == 1 for channel in channels))
        await client.close()
        await client.client.close()
        for channel in channels:
            await left_alone(channel)

    @staticmethod
    def _left_behind(hass: HomeAssistant) -> tuple[dict[str, int], int]:
        return {str(event): count for event, count in hass.bus.async_listeners().items()}, len(asyncio.all_tasks())

    async def _assert_clean(
        self, hass: HomeAssistant, create: WebSocketGenerator, commands: list[str], channels: list[Broadcaster], n: int
    ) -> None:
        await self._visit(create, commands, channels)  # the first visit starts what lives as long as Home Assistant
        before = self._left_behind(hass)
        for _ in range(n):
            await self._visit(create, commands, channels)
        await until(lambda: self._left_behind(hass) == before)

    async def test_events_websocket_cleanup_on_disconnect(
        self, hass: HomeAssistant, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        await self._assert_clean(hass, hass_ws_client, [EVENTS], [runtime.events], 5)

    async def test_system_websocket_cleanup_on_disconnect(
        self, hass: HomeAssistant, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        await self._assert_clean(hass, hass_ws_client, [SYSTEM], [runtime.system], 5)

    async def test_mixed_websocket_cleanup(
        self, hass: HomeAssistant, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        channels: list[Broadcaster] = [runtime.events, runtime.system]
        await self._assert_clean(hass, hass_ws_client, [EVENTS, SYSTEM], channels, 2)

    async def test_unsubscribe(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        await client.send_json_auto_id({"type": EVENTS})
        subscription = (await receive(client))["id"]
        assert runtime.events.connections == 1
        assert (await ask(client, "unsubscribe_events", subscription=subscription))["success"]
        assert runtime.events.connections == 0
        see_person(runtime)
        await until(lambda: runtime.events.since(0).messages != [])
        await nothing_waits(client)


class TestWebSocketErrorHandling:
    """What goes wrong costs nobody else anything."""

    async def test_events_websocket_invalid_path(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        unknown = await ask(client, f"{DOMAIN}/nothing/subscribe")
        assert (unknown["success"], unknown["error"]["code"]) == (False, "unknown_command")
        malformed: list[dict[str, Any]] = [
            {"replay": -1},
            {"replay": 101},
            {"replay": "all"},
            {"replay": 1.5},
            {"since": -1},
            {"since": None},
            {"replay": True},
            {"camera": "door"},
            {"cameras": []},
            {"cameras": DOOR},
            {"labels": []},
            {"labels": [""]},
            {"minimum_risk": -1},
            {"minimum_risk": 101},
            {"minimum_risk": True},
            {"types": []},
            {"types": ["gpu_stats"]},
        ]
        for options in malformed:
            answer = await ask(client, EVENTS, **options)
            assert (answer["success"], answer["error"]["code"]) == (False, "invalid_format"), options
        for options in (
            {"since": "0"},
            {"run": ""},
            {"replay": 1},
            {"labels": ["person"]},
            {"cameras": []},
            {"types": ["detection"]},
        ):
            answer = await ask(client, SYSTEM, **options)
            assert (answer["success"], answer["error"]["code"]) == (False, "invalid_format"), options
        assert runtime.events.connections == runtime.system.connections == 0
        await subscribe(client, EVENTS)
        see_person(runtime)
        assert (await receive_event(client))["type"] == "new_event"

    async def test_system_websocket_handles_connection_errors(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        clients = [await hass_ws_client() for _ in range(3)]
        for client in clients:
            await subscribe_system(client)
        first, dying, last = clients
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        connection = dying._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
        for number in range(20):
            runtime.system.broadcast_gpu_stats(replace(GPU_STATS, gpu_utilization=float(number)))
        for client in (first, last):
            received = [(await receive_event(client))["data"]["gpu_utilization"] for _ in range(21)]
            assert received == [41.5, *map(float, range(20))]
        await until(lambda: runtime.system.connections == 2)
        assert runtime.system.broadcast_gpu_stats(GPU_STATS) == 2

    async def test_not_loaded(
        self,
        hass: HomeAssistant,
        entry: MockConfigEntry,
        runtime: Runtime,
        hass_ws_client: WebSocketGenerator,
    ) -> None:
        client = await hass_ws_client()
        entry.mock_state(hass, ConfigEntryState.SETUP_RETRY)
        for command in (EVENTS, SYSTEM):
            answer = await ask(client, command)
            error = answer["error"]
            assert (error["code"], error["translation_domain"], error["translation_key"]) == (
                "not_found",
                DOMAIN,
                "not_loaded",
            )
        entry.mock_state(hass, ConfigEntryState.LOADED)
        await subscribe(client, EVENTS)
        assert runtime.events.connections == 1

    @pytest.mark.parametrize("waits", [False, True], ids=["at once", "what waited"])
    async def test_client_that_fails_is_told(
        self,
        runtime: Runtime,
        hass_ws_client: WebSocketGenerator,
        monkeypatch: pytest.MonkeyPatch,
        waits: bool,  # noqa: FBT001
    ) -> None:
        """It is still connected, and would hear nothing for ever."""
        good, bad = await hass_ws_client(), await hass_ws_client()
        await subscribe(good, EVENTS)
        await subscribe(bad, EVENTS)
        subscription = list(runtime.events._clients)[-1]
        assert isinstance(subscription, Subscription)

        def fail(*_args: Any, **_options: Any) -> None:
            raise ValueError

        monkeypatch.setattr(subscription, "_send_message", fail)
        if waits:
            monkeypatch.setattr(subscription, "_queued", [None] * MAXIMUM_BACKLOG)
        runtime.events.broadcast_event_updated(INCIDENT)
        subscription._queued = []
        assert (await receive_event(good))["type"] == "event_updated"
        ended = await receive(bad)
        assert (ended["type"], ended["id"], ended["success"]) == ("result", 1, False)
        assert (ended["error"]["code"], ended["error"]["translation_domain"], ended["error"]["translation_key"]) == (
            "unknown_error",
            DOMAIN,
            "subscription_ended",
        )
        assert runtime.events.connections == 1
        await subscribe(bad, EVENTS)
        runtime.events.broadcast_event_updated(INCIDENT)
        assert (await receive_event(bad))["type"] == "event_updated"
        await nothing_waits(bad)

    async def test_store_fails_at_replay(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        await runtime.incidents.async_stop()
        await runtime.store.async_close()
        answer = await ask(client, EVENTS, replay=5)
        assert not answer["success"]
        assert answer["error"]["translation_key"] == "events_unreadable"
        assert runtime.events.connections == 0
        await subscribe(client, EVENTS)
        assert runtime.events.connections == 1


class TestWebSocketBroadcastFunctionality:
    """Everybody gets the same, each channel its own."""

    async def test_events_broadcast_to_multiple_clients(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        clients = [await hass_ws_client() for _ in range(3)]
        for number, client in enumerate(clients):
            for _ in range(number):
                await nothing_waits(client)  # so that the ids of the subscriptions differ
            await subscribe(client, EVENTS)
        see_person(runtime)
        frames = [await receive_bytes(client) for client in clients]
        assert [message_id for message_id, _ in frames] == ["1", "2", "3"]
        assert len({rest for _, rest in frames}) == 1
        assert '"type":"new_event"' in frames[0][1]

    async def test_system_broadcast_to_multiple_clients(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        clients = [await hass_ws_client() for _ in range(3)]
        for number, client in enumerate(clients):
            for _ in range(number):
                await nothing_waits(client)
            await subscribe_system(client)
        assert runtime.system.broadcast_gpu_stats(GPU_STATS) == 3
        frames = [await receive_bytes(client) for client in clients]
        assert [message_id for message_id, _ in frames] == ["1", "2", "3"]
        assert len({rest for _, rest in frames}) == 1
        assert '"type":"gpu_stats"' in frames[0][1]

    async def test_isolated_channels(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        events, system = await hass_ws_client(), await hass_ws_client()
        await subscribe(events, EVENTS)
        await subscribe_system(system)
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        see_person(runtime)
        change_status(runtime, CameraStatus.ONLINE)
        seen = [(await receive_event(events))["type"] for _ in range(2)]
        assert seen == ["new_event", "detection"]
        await nothing_waits(events)
        known = [(await receive_event(system))["type"] for _ in range(2)]
        assert known == ["gpu_stats", "camera_status"]
        await nothing_waits(system)


# --- what goes beyond the contract's list -----------------------------------------------------------------------------


class TestReplay:
    """What was before a client came."""

    async def test_newest_events(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        incidents = [await stored_incident(runtime) for _ in range(4)]
        client = await hass_ws_client()
        result = await subscribe(client, EVENTS, replay=3)
        replayed = [await receive_event(client) for _ in range(3)]
        assert [message["data"]["id"] for message in replayed] == [incident.id for incident in incidents[1:]]
        assert {(message["type"], message["seq"]) for message in replayed} == {("new_event", result["seq"])}
        await nothing_waits(client)

    async def test_too_far_back(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        incidents = [await stored_incident(runtime) for _ in range(2)]
        client = await hass_ws_client()
        result = await subscribe(client, EVENTS, since=1, replay=10)
        assert result == {"seq": runtime.events.seq, "run": runtime.events.run, "complete": False}
        replayed = [(await receive_event(client))["data"]["id"] for _ in range(2)]
        assert replayed == [incident.id for incident in incidents]

    async def test_many_detections_push_no_incident_out(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        start = runtime.events.seq
        see_person(runtime)
        await until(lambda: runtime.events.seq == start + 2)
        (detection,) = await runtime.store.async_detections((await runtime.store.async_incidents())[0].id)
        for _ in range(HISTORY):
            runtime.events.broadcast_detection(detection)
        client = await hass_ws_client()
        result = await subscribe(client, EVENTS, since=start, types=["new_event", "event_updated"])
        assert result["complete"]
        assert (await receive_event(client))["seq"] == start + 1
        await nothing_waits(client)
        # Whoever wants all is told that something is missing; no replay takes the place of what is kept.
        everything = await hass_ws_client()
        result = await subscribe(everything, EVENTS, since=start, replay=10)
        assert not result["complete"]
        received = [(await receive_event(everything))["seq"] - start for _ in range(1 + SHORT_HISTORY)]
        assert received == [1, *range(3 + HISTORY - SHORT_HISTORY, 3 + HISTORY)]
        await nothing_waits(everything)

    async def test_since_another_run(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        seq, run = runtime.events.seq, runtime.events.run
        assert (await subscribe(client, EVENTS, since=seq, run=run))["complete"]
        assert not (await subscribe(client, EVENTS, since=seq, run="another"))["complete"]

    async def test_within_reach_needs_no_replay(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        await stored_incident(runtime)
        client = await hass_ws_client()
        assert (await subscribe(client, EVENTS, since=runtime.events.seq, replay=10))["complete"]
        await nothing_waits(client)

    async def test_events_during_replay_come_once(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, during = await stored_incident(runtime), await stored_incident(runtime)
        client = await hass_ws_client()
        go_on = hold_reading(runtime, monkeypatch)
        await client.send_json_auto_id({"type": EVENTS, "replay": 10})
        await until(lambda: runtime.events.connections == 1)
        seq = runtime.events.seq
        runtime.events.broadcast_new_event(during)
        runtime.events.broadcast_event_updated(replace(during, title="Later"))
        go_on.set()
        assert (await receive(client))["result"] == {"seq": seq, "run": runtime.events.run, "complete": True}
        received = [await receive_event(client) for _ in range(3)]
        assert [(message["type"], message["data"]["id"], message["seq"] - seq) for message in received] == [
            ("new_event", before.id, 0),
            ("new_event", during.id, 1),
            ("event_updated", during.id, 2),
        ]
        await nothing_waits(client)

    async def test_replayed_before_it_is_announced(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        incident = await stored_incident(runtime)
        early, late = await hass_ws_client(), await hass_ws_client()
        seq = (await subscribe(early, EVENTS, replay=1))["seq"]
        await subscribe(late, EVENTS)
        replayed = await receive_event(early)
        runtime.events.broadcast_new_event(incident)
        announced, update = await receive_event(late), await receive_event(early)
        assert (replayed["type"], replayed["seq"]) == ("new_event", seq)
        assert (announced["type"], announced["seq"]) == ("new_event", seq + 1)
        assert (update["type"], update["seq"]) == ("event_updated", seq + 1)
        assert replayed["data"] == announced["data"] == update["data"]

    async def test_what_waits_is_bounded(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await hass_ws_client()
        go_on = hold_reading(runtime, monkeypatch)
        await client.send_json_auto_id({"type": EVENTS, "replay": 1})
        await until(lambda: runtime.events.connections == 1)
        for number in range(MAXIMUM_WAITING + 10):
            runtime.events.broadcast_event_updated(replace(INCIDENT, id=number))
        go_on.set()
        seq = (await receive(client))["result"]["seq"]
        told = await receive_event(client)
        assert (told["type"], told["data"], told["seq"]) == ("missed", {"since": seq}, seq)
        received = [(await receive_event(client))["seq"] - seq for _ in range(MAXIMUM_WAITING)]
        assert received == list(range(11, MAXIMUM_WAITING + 11))
        await nothing_waits(client)

    async def test_client_leaves_during_replay(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await stored_incident(runtime)
        client = await hass_ws_client()
        go_on = hold_reading(runtime, monkeypatch)
        await client.send_json_auto_id({"type": EVENTS, "replay": 10})
        await until(lambda: runtime.events.connections == 1)
        await client.close()
        await left_alone(runtime.events)
        go_on.set()
        assert runtime.events.broadcast_new_event(await stored_incident(runtime)) == 0

    async def test_client_unsubscribes_during_replay(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await stored_incident(runtime)
        client = await hass_ws_client()
        go_on = hold_reading(runtime, monkeypatch)
        await client.send_json({"id": 1, "type": EVENTS, "replay": 10})
        await until(lambda: runtime.events.connections == 1)
        await client.send_json({"id": 2, "type": "unsubscribe_events", "subscription": 1})
        assert (await receive(client))["id"] == 2
        go_on.set()
        answer = await receive(client)
        assert (answer["id"], answer["success"], answer["result"]["complete"]) == (1, True, False)
        await client.send_json({"id": 3, "type": "ping"})
        assert (await receive(client))["type"] == "pong"  # nothing came between

    async def test_replay_fails_in_an_unforeseen_way(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*args: Any, **kwargs: Any) -> list[Incident]:
            raise ValueError

        monkeypatch.setattr(runtime.store, "async_incidents", fail)
        client = await hass_ws_client()
        assert (await ask(client, EVENTS, replay=5))["error"]["code"] == "unknown_error"
        assert runtime.events.connections == 0


class TestLoadedIntegration:
    """The integration as Home Assistant sets it up, worker and all."""

    async def test_clients_survive_a_reload(self, hass: HomeAssistant, hass_ws_client: WebSocketGenerator) -> None:
        entry = MockConfigEntry(domain=DOMAIN, title="Nemotron Home Security")
        entry.add_to_hass(hass)
        assert await hass.config_entries.async_setup(entry.entry_id)
        client = await hass_ws_client()
        seq = (await subscribe(client, EVENTS))["seq"]
        await subscribe(client, SYSTEM)
        before: Runtime = entry.runtime_data

        assert await hass.config_entries.async_reload(entry.entry_id)
        after: Runtime = entry.runtime_data
        assert after is not before
        assert after.system.connections == 1
        assert after.events.broadcast_new_event(await stored_incident(after)) == 1
        assert (await receive_event(client, "new_event"))["seq"] == seq + 1


class TestFilters:
    """What a client chose to have."""

    async def test_cameras(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        start = (await subscribe(client, EVENTS, cameras=[YARD]))["seq"]
        for camera_id in (DOOR, YARD, DOOR, YARD):
            runtime.events.broadcast_event_updated(replace(INCIDENT, camera_id=camera_id))
        received = [await receive_event(client) for _ in range(2)]
        assert [(message["data"]["camera_id"], message["seq"] - start) for message in received] == [
            (YARD, 2),
            (YARD, 4),
        ]
        await nothing_waits(client)

    @pytest.mark.parametrize("command", [EVENTS, SYSTEM])
    async def test_unknown_camera(
        self,
        runtime: Runtime,
        hass_read_only_access_token: str,
        hass_ws_client: WebSocketGenerator,
        command: str,
    ) -> None:
        """What a user may not read does not exist for that user."""
        restricted, administrator = (
            await hass_ws_client(access_token=hass_read_only_access_token),
            await hass_ws_client(),
        )
        absent = await ask(restricted, command, cameras=[DOOR, "01JABSENT"])
        unreadable = await ask(restricted, command, cameras=[DOOR])
        assert (
            absent["error"]
            == unreadable["error"]
            == (await ask(administrator, command, cameras=["01JABSENT"]))["error"]
        )
        assert absent["error"]["code"] == "not_found"
        assert (absent["error"]["translation_domain"], absent["error"]["translation_key"]) == (
            DOMAIN,
            "camera_not_found",
        )
        assert runtime.events.connections == runtime.system.connections == 0
        await subscribe(administrator, command, cameras=[DOOR])

    async def test_minimum_risk(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        start = (await subscribe(client, EVENTS, minimum_risk=60))["seq"]
        rising = replace(INCIDENT, id=1, risk_score=30)
        runtime.events.broadcast_new_event(rising)
        runtime.events.broadcast_new_event(replace(INCIDENT, id=2, risk_score=None))
        runtime.events.broadcast_event_updated(replace(rising, risk_score=70))
        runtime.events.broadcast_event_updated(replace(rising, risk_score=10))
        received = [await receive_event(client) for _ in range(2)]
        assert [(message["type"], message["data"]["risk_score"], message["seq"] - start) for message in received] == [
            ("event_updated", 70, 3),
            ("event_updated", 10, 4),
        ]
        await nothing_waits(client)

    async def test_of_the_real_pipeline(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        persons, cars, incidents = [await hass_ws_client() for _ in range(3)]
        await subscribe(persons, EVENTS, labels=["dog", "person"], minimum_risk=0)
        await subscribe(cars, EVENTS, labels=["car"])
        await subscribe(incidents, EVENTS, types=["new_event", "event_updated"])
        see_person(runtime)
        assert [(await receive_event(persons))["type"] for _ in range(2)] == ["new_event", "detection"]
        assert (await receive_event(incidents))["type"] == "new_event"
        await nothing_waits(cars)
        await nothing_waits(incidents)

    async def test_replay(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        """So many come as were asked for, however many others lie between."""
        wanted = [await stored_incident(runtime, YARD, label="dog", score=60) for _ in range(3)]
        for camera_id, label, score in ((YARD, "dog", 59), (YARD, "cat", 90), (DOOR, "dog", 90)):
            await stored_incident(runtime, camera_id, label=label, score=score)
        client = await hass_ws_client()
        await subscribe(client, EVENTS, replay=2, cameras=[YARD], labels=["dog"], minimum_risk=60)
        replayed = [(await receive_event(client))["data"]["id"] for _ in range(2)]
        assert replayed == [incident.id for incident in wanted[1:]]
        await nothing_waits(client)
        # What was replayed as an alarm is heard of when it turns out to be none.
        runtime.events.broadcast_event_updated(replace(wanted[1], peak_score=None, risk_score=5))
        assert (await receive_event(client))["data"]["risk_score"] == 5

    async def test_alarm_of_an_earlier_run(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        """Whoever was told of it is told that it is none, though this run has announced nothing of it."""
        incident = await stored_incident(runtime, score=20)
        await stored_incident(runtime, score=59)
        for score in (80, 10):
            verdict = Assessment(
                analyzer="nemotron",
                risk_score=score,
                title="Person",
                summary="A person.",
                reasoning=None,
                created_at=datetime.now(UTC),
            )
            incident = await runtime.store.async_assess(incident.id, verdict)
        replaying, listening = await hass_ws_client(), await hass_ws_client()
        await subscribe(listening, EVENTS, minimum_risk=60)
        runtime.events.broadcast_event_updated(incident)
        assert (await receive_event(listening))["data"]["risk_score"] == 10
        await subscribe(replaying, EVENTS, replay=2, minimum_risk=60)
        replayed = (await receive_event(replaying))["data"]
        assert (replayed["id"], replayed["risk_score"]) == (incident.id, 10)
        assert "peak_score" not in replayed
        await nothing_waits(replaying)
        listed = (await ask(replaying, f"{DOMAIN}/incidents/list", minimum_risk=60))["result"]["incidents"]
        assert listed == []

    async def test_since(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        start = runtime.events.seq
        for score in (10, 80, 20):
            runtime.events.broadcast_event_updated(replace(INCIDENT, risk_score=score))
        client = await hass_ws_client()
        result = await subscribe(client, EVENTS, since=start, minimum_risk=50)
        assert result == {"seq": start + 3, "run": runtime.events.run, "complete": True}
        missed = [await receive_event(client) for _ in range(2)]
        assert [(message["data"]["risk_score"], message["seq"] - start) for message in missed] == [(80, 2), (20, 3)]
        await nothing_waits(client)

    async def test_system(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        of_yard, statuses = await hass_ws_client(), await hass_ws_client()
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        await subscribe(of_yard, SYSTEM, cameras=[YARD])
        await subscribe(statuses, SYSTEM, types=["camera_status"])
        present = [await receive_event(of_yard) for _ in range(2)]
        assert [(message["type"], message["data"].get("camera_id")) for message in present] == [
            ("gpu_stats", None),
            ("camera_status", YARD),
        ]
        present = [await receive_event(statuses) for _ in range(2)]
        assert [message["data"]["camera_id"] for message in present] == [DOOR, YARD]
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        change_status(runtime, CameraStatus.ONLINE, DOOR)
        assert (await receive_event(of_yard))["type"] == "gpu_stats"
        assert (await receive_event(statuses))["data"]["camera_id"] == DOOR
        await nothing_waits(of_yard)
        await nothing_waits(statuses)


LONG = "A long story. " * 600  # so that the buffers between the two ends are soon full


class TestBackPressure:
    """A client that reads slowly is not dropped, and costs the others nothing."""

    @staticmethod
    def _subscription(runtime: Runtime) -> Subscription:
        """Return our end of the client that came last."""
        subscription = list(runtime.events._clients)[-1]
        assert isinstance(subscription, Subscription)
        return subscription

    async def test_home_assistants_queue(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        """We read where Home Assistant really keeps what it has queued."""
        client = await hass_ws_client()
        await subscribe(client, EVENTS)
        connection = self._subscription(runtime)._connection
        assert len(queued(connection)) == 0
        for number in range(1, 4):
            connection.send_message(b'{"id":%d,"type":"pong"}' % number)
            assert len(queued(connection)) == number
        assert [(await receive(client))["id"] for _ in range(3)] == [1, 2, 3]
        assert len(queued(connection)) == 0

    async def test_stalled_client(
        self, runtime: Runtime, hass_ws_client: WebSocketGenerator, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "homeassistant.components.websocket_api")  # else it notes every message
        quick, stalled = await hass_ws_client(), await hass_ws_client()
        await subscribe(quick, EVENTS)
        start = (await subscribe(stalled, EVENTS))["seq"]
        connection = self._subscription(runtime)._connection
        transport = stop_reading(stalled)

        most, received = 0, []
        for _ in range(56):  # enough to be dropped for, after what the buffers hold
            for _ in range(100):
                assert runtime.events.broadcast_event_updated(replace(INCIDENT, reasoning=LONG)) == 2
            most = max(most, len(queued(connection)))
            received += [(await receive_event(quick))["seq"] - start for _ in range(100)]
        assert received == list(range(1, len(received) + 1))
        assert most == MAXIMUM_BACKLOG

        transport.resume_reading()
        messages = [await receive_event(stalled)]
        while messages[-1]["seq"] - start < received[-1]:
            messages.append(await receive_event(stalled))
        (notice,) = [message for message in messages if message["type"] == "missed"]
        messages.remove(notice)
        told = [message["seq"] - start for message in messages]
        assert told == sorted(set(told))
        assert notice["data"]["since"] - start == told[-MAXIMUM_WAITING - 1]
        assert told[-MAXIMUM_WAITING:] == received[-MAXIMUM_WAITING:]
        assert len(told) < len(received) - MAX_PENDING_MSG  # else it was not stalled enough to prove anything
        runtime.events.broadcast_event_updated(INCIDENT)
        assert (await receive_event(stalled))["seq"] == start + len(received) + 1
        await nothing_waits(stalled)
        assert "unable to keep up" not in caplog.text

    async def test_stalled_client_leaves(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        client = await hass_ws_client()
        await subscribe(client, EVENTS)
        subscription = self._subscription(runtime)
        transport = stop_reading(client)
        for _ in range(MAXIMUM_BACKLOG + 10):
            runtime.events.broadcast_event_updated(INCIDENT)
        assert subscription._timer
        transport.abort()
        await left_alone(runtime.events)
        assert subscription._timer is None

    async def test_long_past(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        start = runtime.events.seq
        for _ in range(HISTORY):
            runtime.events.broadcast_event_updated(INCIDENT)
        client = await hass_ws_client()
        result = await subscribe(client, EVENTS, since=start)
        assert result == {"seq": start + HISTORY, "run": runtime.events.run, "complete": True}
        assert self._subscription(runtime)._past  # it does not come in one burst
        received = []
        for _ in range(HISTORY):
            received.append((await receive_event(client))["seq"] - start)
            if len(received) in (1, 500, 1000):
                runtime.events.broadcast_event_updated(INCIDENT)
        received += [(await receive_event(client))["seq"] - start for _ in range(3)]
        assert received == list(range(1, HISTORY + 4))
        await nothing_waits(client)

    async def test_busy_camera(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        """Thirty people before a camera of 25 frames a second make no more than five detections a second."""
        client = await hass_ws_client()
        start = (await subscribe(client, EVENTS, types=["detection"]))["seq"]
        began, seconds = time.time(), 4
        for number in range(25 * seconds):
            see_people(runtime, 30, at=began + number / 25)
        await until(lambda: not runtime.incidents.busy)
        received = [await receive_event(client) for _ in range(DETECTIONS_PER_SECOND * seconds)]
        assert received[0]["seq"] > start
        assert received[-1]["seq"] == runtime.events.seq
        await nothing_waits(client)
        times = [datetime.fromisoformat(message["data"]["detected_at"]).timestamp() for message in received]
        assert times == sorted(times)
        assert all(
            later - earlier > 0.999 for earlier, later in zip(times, times[DETECTIONS_PER_SECOND:], strict=False)
        )
        assert len({message["data"]["track_id"] for message in received}) == len(times)  # everybody has a turn


class TestPermissions:
    """A message about a camera is for those who may look through it."""

    @pytest.fixture
    def cameras(self, entry: MockConfigEntry, entity_registry: er.EntityRegistry) -> dict[str, str]:
        """Register the cameras' entities; returns the `camera` entity of each."""
        entity_ids: dict[str, str] = {}
        for camera_id in (DOOR, YARD):
            for domain in ("camera", "binary_sensor"):
                entity = entity_registry.async_get_or_create(
                    domain, DOMAIN, f"{camera_id}_{domain}", config_entry=entry, config_subentry_id=camera_id
                )
                entity_ids.setdefault(camera_id, entity.entity_id)
        return entity_ids

    @pytest.fixture
    async def restricted_client(
        self, hass_read_only_access_token: str, hass_ws_client: WebSocketGenerator
    ) -> MockHAClientWebSocket:
        """Connect as the user whose policy the test sets."""
        return await hass_ws_client(access_token=hass_read_only_access_token)

    async def test_restricted_user(
        self,
        runtime: Runtime,
        cameras: dict[str, str],
        hass_read_only_user: MockUser,
        hass_read_only_access_token: str,
        hass_ws_client: WebSocketGenerator,
    ) -> None:
        hass_read_only_user.mock_policy({"entities": {"entity_ids": {cameras[YARD]: {"read": True}}}})
        await stored_incident(runtime, DOOR)
        in_yard = await stored_incident(runtime, YARD)
        await stored_incident(runtime, DOOR)
        client = await hass_ws_client(access_token=hass_read_only_access_token)

        await subscribe(client, EVENTS, replay=1)
        assert (await receive_event(client))["data"]["id"] == in_yard.id
        await subscribe(client, SYSTEM)
        assert (await receive_event(client))["data"]["camera_id"] == YARD

        change_status(runtime, CameraStatus.ONLINE, DOOR)
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        assert (await receive_event(client))["type"] == "gpu_stats"
        see_person(runtime, DOOR, track_id=1)
        see_person(runtime, YARD, track_id=2)
        assert {(await receive_event(client))["data"]["camera_id"] for _ in range(2)} == {YARD}
        await nothing_waits(client)

    async def test_read_only_user_hears_the_whole_system(
        self,
        runtime: Runtime,
        cameras: dict[str, str],
        restricted_client: MockHAClientWebSocket,
    ) -> None:
        """A user of Home Assistant's own read-only group, whose policy nobody changed."""
        await subscribe_system(restricted_client)
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        change_status(runtime, CameraStatus.ONLINE)
        runtime.health.async_worker_lost()
        runtime.announcer.pipeline_status(store=PartState.FAILED)
        received = [await receive_event(restricted_client) for _ in range(5)]
        assert [message["type"] for message in received] == [
            "gpu_stats",
            "camera_status",
            "camera_stats",
            "camera_stats",
            "pipeline_status",
        ]
        assert received[1]["data"]["camera_id"] == DOOR
        assert [message["data"]["camera_id"] for message in received[2:4]] == [DOOR, YARD]
        await nothing_waits(restricted_client)

    async def test_policy_changes(
        self,
        runtime: Runtime,
        cameras: dict[str, str],
        hass_read_only_user: MockUser,
        hass_read_only_access_token: str,
        hass_ws_client: WebSocketGenerator,
    ) -> None:
        client = await hass_ws_client(access_token=hass_read_only_access_token)
        await subscribe(client, EVENTS)
        incident = await stored_incident(runtime)
        assert runtime.events.broadcast_new_event(incident) == 1
        hass_read_only_user.mock_policy({"entities": {"entity_ids": {cameras[YARD]: {"read": True}}}})
        assert runtime.events.broadcast_event_updated(incident) == 0
        hass_read_only_user.mock_policy({"entities": {"domains": {"binary_sensor": {"read": True}}}})
        assert runtime.events.broadcast_event_updated(incident) == 0
        hass_read_only_user.mock_policy({"entities": True})
        assert runtime.events.broadcast_event_updated(incident) == 1

    async def test_registry_changes(
        self,
        runtime: Runtime,
        cameras: dict[str, str],
        entity_registry: er.EntityRegistry,
        hass_read_only_user: MockUser,
        restricted_client: MockHAClientWebSocket,
    ) -> None:
        hass_read_only_user.mock_policy({"entities": {"entity_ids": {"camera.renamed": {"read": True}}}})
        await subscribe(restricted_client, EVENTS)
        incident = await stored_incident(runtime)
        assert runtime.events.broadcast_new_event(incident) == 0
        entity_registry.async_update_entity(cameras[DOOR], new_entity_id="camera.renamed")
        await entity_registry.hass.async_block_till_done()
        assert runtime.events.broadcast_event_updated(incident) == 1

    async def test_camera_without_entities(
        self, runtime: Runtime, hass_read_only_access_token: str, hass_ws_client: WebSocketGenerator
    ) -> None:
        client = await hass_ws_client(access_token=hass_read_only_access_token)
        administrator = await hass_ws_client()
        await subscribe(client, EVENTS)
        await subscribe(administrator, EVENTS)
        assert runtime.events.broadcast_new_event(await stored_incident(runtime)) == 1
        assert (await receive_event(administrator))["type"] == "new_event"


async def test_searches_delay_nothing_else(
    runtime: Runtime,
    hass_ws_client: WebSocketGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    incident = await stored_incident(runtime)
    listener, late, searcher = await hass_ws_client(), await hass_ws_client(), await hass_ws_client()
    await subscribe(listener, EVENTS, types=["new_event", "event_updated"])
    with held_searches(monkeypatch) as began:
        for number in range(20):
            await searcher.send_json({"id": number + 1, "type": f"{DOMAIN}/incidents/list", "text": "person"})
        await until(began.is_set)
        at = time.time()
        see_person(runtime, DOOR, at=at)
        picture = TrackPicture(
            camera_id=DOOR,
            track_id=1,
            captured_at=at,
            box=Box(100, 50, 180, 250),
            score=0.8,
            width=1280,
            height=720,
            data=b"jpeg",
        )
        runtime._handle_report(picture)
        see_person(runtime, YARD, track_id=2, at=at)
        told = [await receive_event(listener) for _ in range(3)]
        assert [(message["type"], message["data"]["camera_id"]) for message in told] == [
            ("new_event", DOOR),
            ("event_updated", DOOR),
            ("new_event", YARD),
        ]
        assert (await ask(late, f"{DOMAIN}/incidents/get", incident_id=incident.id))["result"]["id"] == incident.id
        reviewed = await ask(late, f"{DOMAIN}/incidents/review", incident_id=incident.id)
        assert reviewed["result"]["reviewed_at"] is not None
        await subscribe(late, EVENTS, replay=1)
        assert (await receive_event(late))["data"]["camera_id"] == YARD
    found = [(await receive(searcher))["result"]["incidents"] for _ in range(20)]
    assert all(len(page) == 3 for page in found)


async def test_searches_do_not_hold_up_the_stop(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    with held_searches(monkeypatch) as began:
        searches = [asyncio.create_task(runtime.store.async_search(IncidentFilter(text="person"))) for _ in range(20)]
        await until(began.is_set)
        closing = asyncio.create_task(runtime.store.async_close())
        await asyncio.sleep(0)
    await closing
    results = await asyncio.gather(*searches, return_exceptions=True)
    assert [type(result) for result in results] == [list] + [StoreError] * 19


def examples() -> list[dict[str, Any]]:
    """Return the JSON examples of the documentation."""
    return [
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENTATION.read_text("utf-8"), re.DOTALL)
    ]


class TestDocumentation:
    """What the documentation shows is true."""

    async def test_commands(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        commands = [example for example in examples() if example["type"] in (EVENTS, SYSTEM)]
        assert {command["type"] for command in commands} == {EVENTS, SYSTEM}
        for command in commands:
            client = await hass_ws_client()
            await client.send_json(command)
            answer = await receive(client)
            assert (answer["id"], answer["success"]) == (command["id"], True), answer
            await client.close()
            await left_alone(runtime.events)
            await left_alone(runtime.system)

    async def test_messages(self, runtime: Runtime, hass_ws_client: WebSocketGenerator) -> None:
        shown = {example["event"]["type"]: example["event"] for example in examples() if "event" in example}
        assert shown.pop("missed").keys() == json.loads(missed(1).envelope).keys()
        client = await hass_ws_client()
        answers = [await subscribe(client, EVENTS)]
        runtime.system.broadcast_gpu_stats(GPU_STATS)
        runtime.system.broadcast_pipeline_status(PipelineStatus())
        runtime.health.async_worker_lost()
        see_person(runtime)
        sent = {event["type"]: event for event in [await receive_event(client) for _ in range(2)]}
        answers.append(await subscribe(client, SYSTEM))
        sent |= {event["type"]: event for event in [await receive_event(client) for _ in range(6)]}
        assert shown.keys() - {"event_updated"} == sent.keys()
        for type_, event in sent.items():
            assert shown[type_].keys() == event.keys()
            assert shown[type_]["data"].keys() == event["data"].keys(), type_
        results = [example["result"] for example in examples() if "complete" in (example.get("result") or {})]
        assert [result.keys() for result in results] == [answer.keys() for answer in answers]
