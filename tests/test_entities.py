"""What the entities show: of the worker's reports, after trouble, after a restart, and the pictures over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
import logging
import os
from pathlib import Path
import signal
import time
from typing import Any

from homeassistant.const import EVENT_STATE_CHANGED, STATE_OFF, STATE_ON, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.event import async_track_state_change_event
import numpy as np
from PIL import Image
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from syrupy.assertion import SnapshotAssertion

from custom_components.nemotron_security import health
from custom_components.nemotron_security.const import EVENT_INCIDENT
from custom_components.nemotron_security.health import BEATS
from custom_components.nemotron_security.vision.messages import (
    CameraReport,
    CameraState,
    CameraStatus,
    DetectorState,
    Heartbeat,
    MotionState,
    Problem,
    Report,
)
from custom_components.nemotron_security.vision.pictures import colour_of
from demo.home_assistant import MODEL
from demo.scenes import render

from .house import (
    ABSENT_FILE,
    CAMERA,
    async_report,
    async_set_up,
    async_settle,
    async_until,
    frame,
    jpeg,
    make_entry,
    online,
    person,
    picture_of,
)
from .vision.blobs import HEIGHT, WIDTH, write_video

pytestmark = pytest.mark.usefixtures("socket_enabled")

# What detection says: unknown or unavailable as soon as the camera is not watched.
DETECTED = (
    "binary_sensor.front_door_motion",
    "binary_sensor.front_door_person",
    "binary_sensor.front_door_vehicle",
    "binary_sensor.front_door_animal",
    "sensor.front_door_persons",
)


def states(hass: HomeAssistant) -> dict[str, str]:
    """Return the states of the front door's entities."""
    return {state.entity_id: state.state for state in hass.states.async_all() if ".front_door" in state.entity_id}


def heartbeat(at: float, *, fps: float = 5.0) -> Heartbeat:
    report = CameraReport(camera_id=CAMERA, fps=fps, inference_fps=0.0, last_frame_at=at)
    return Heartbeat(at=at, cameras=(report,), inference_ms_p50=None, inference_ms_p95=None, rss=0)


def lost(status: CameraStatus, problem: Problem) -> CameraState:
    return CameraState(camera_id=CAMERA, status=status, at=time.time(), problem=problem, detail="")


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """One camera, for whose worker the test speaks."""
    return await async_set_up(hass, make_entry(ABSENT_FILE))


@pytest.fixture
def _all_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enable the noisy entities too."""
    monkeypatch.setattr(Entity, "entity_registry_enabled_default", True)


@pytest.mark.usefixtures("_all_enabled", "silent_worker")
async def test_all_entities(
    hass: HomeAssistant,
    entity_registry: er.EntityRegistry,
    snapshot: SnapshotAssertion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for component in ("camera", "image"):
        monkeypatch.setattr(f"homeassistant.components.{component}._RND.getrandbits", lambda _bits: 1)
    monkeypatch.setattr(f"{health.__name__}._database_size_and_space", lambda _: (200_000, 80_000_000_000))
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    entities = er.async_entries_for_config_entry(entity_registry, entry.entry_id)
    for entity in sorted(entities, key=lambda entity: entity.entity_id):
        assert entity == snapshot(name=f"{entity.entity_id}-entry")
        assert hass.states.get(entity.entity_id) == snapshot(name=f"{entity.entity_id}-state")


NOW = 1_795_435_200.0
TABLE: dict[str, tuple[list[Report], dict[str, str]]] = {
    "first frame": (
        [online(at=NOW)],
        {
            "binary_sensor.front_door_connectivity": STATE_ON,
            **dict.fromkeys(DETECTED, STATE_UNKNOWN),
            "camera.front_door": "idle",
        },
    ),
    "a second without motion": (
        [online(at=NOW), heartbeat(NOW)],
        {"binary_sensor.front_door_motion": STATE_OFF, "binary_sensor.front_door_person": STATE_UNKNOWN},
    ),
    "a second without a frame that was looked at": (
        [online(at=NOW), heartbeat(NOW, fps=0.0)],
        {"binary_sensor.front_door_motion": STATE_UNKNOWN},
    ),
    "motion": (
        [online(at=NOW), MotionState(camera_id=CAMERA, active=True, at=NOW), heartbeat(NOW)],
        {"binary_sensor.front_door_motion": STATE_ON},
    ),
    "motion ended": (
        [
            online(at=NOW),
            MotionState(camera_id=CAMERA, active=True, at=NOW),
            MotionState(camera_id=CAMERA, active=False, at=NOW),
        ],
        {"binary_sensor.front_door_motion": STATE_OFF},
    ),
    "nobody": (
        [online(at=NOW), frame(at=NOW)],
        {
            "binary_sensor.front_door_person": STATE_OFF,
            "binary_sensor.front_door_vehicle": STATE_OFF,
            "binary_sensor.front_door_animal": STATE_OFF,
            "sensor.front_door_persons": "0",
            "sensor.front_door_last_risk": STATE_UNKNOWN,
            "event.front_door_incident": STATE_UNKNOWN,
            "image.front_door_last_incident": STATE_UNKNOWN,
        },
    ),
    "two persons, a truck and a dog": (
        [
            online(at=NOW),
            frame(
                person(1, at=NOW),
                person(2, at=NOW),
                person(3, at=NOW, label="truck"),
                person(4, at=NOW, label="dog"),
                at=NOW,
            ),
        ],
        {
            "binary_sensor.front_door_person": STATE_ON,
            "binary_sensor.front_door_vehicle": STATE_ON,
            "binary_sensor.front_door_animal": STATE_ON,
            "sensor.front_door_persons": "2",
            "sensor.front_door_vehicles": "1",
            "sensor.front_door_animals": "1",
            "sensor.front_door_last_risk_level": "medium",
        },
    ),
    "they left": (
        [online(at=NOW), frame(person(at=NOW), at=NOW), frame(at=NOW + 1)],
        {
            "binary_sensor.front_door_person": STATE_OFF,
            "sensor.front_door_persons": "0",
            "sensor.front_door_last_risk_level": "medium",
        },
    ),
    "of another camera": (
        [online(at=NOW), online("removed", at=NOW), frame(person(at=NOW), at=NOW, camera_id="removed")],
        {"binary_sensor.front_door_person": STATE_UNKNOWN},
    ),
    "offline": (
        [
            online(at=NOW),
            MotionState(camera_id=CAMERA, active=True, at=NOW),
            frame(person(at=NOW), at=NOW),
            lost(CameraStatus.OFFLINE, Problem.SOURCE_STALLED),
            # The worker tidies up, and its last heartbeat tells of the second before.
            MotionState(camera_id=CAMERA, active=False, at=NOW),
            frame(at=NOW),
            heartbeat(NOW),
        ],
        {
            **dict.fromkeys((*DETECTED, "camera.front_door"), STATE_UNAVAILABLE),
            "binary_sensor.front_door_connectivity": STATE_OFF,
            "sensor.front_door_last_risk_level": "medium",
            "switch.front_door_detection": STATE_ON,
        },
    ),
    "worker died": (
        [online(at=NOW), frame(person(at=NOW), at=NOW), lost(CameraStatus.ERROR, Problem.WORKER_DOWN)],
        {**dict.fromkeys(DETECTED, STATE_UNAVAILABLE), "binary_sensor.front_door_connectivity": STATE_OFF},
    ),
    "worker is back": (
        [
            online(at=NOW),
            frame(person(at=NOW), at=NOW),
            lost(CameraStatus.ERROR, Problem.WORKER_DOWN),
            CameraState(camera_id=CAMERA, status=CameraStatus.UNKNOWN, at=NOW),
        ],
        {**dict.fromkeys(DETECTED, STATE_UNAVAILABLE), "binary_sensor.front_door_connectivity": STATE_UNKNOWN},
    ),
    "camera is back": (
        [
            online(at=NOW),
            MotionState(camera_id=CAMERA, active=True, at=NOW),
            frame(person(at=NOW), at=NOW),
            lost(CameraStatus.OFFLINE, Problem.SOURCE_STALLED),
            MotionState(camera_id=CAMERA, active=False, at=NOW),
            frame(at=NOW),
            online(at=NOW + 5),
        ],
        {**dict.fromkeys(DETECTED, STATE_UNKNOWN), "binary_sensor.front_door_connectivity": STATE_ON},
    ),
    "detector failed": (
        [
            online(at=NOW),
            MotionState(camera_id=CAMERA, active=True, at=NOW),
            frame(person(at=NOW), at=NOW),
            DetectorState(problem=Problem.MODEL_CORRUPT),
        ],
        {
            "binary_sensor.front_door_person": STATE_UNKNOWN,
            "sensor.front_door_persons": STATE_UNKNOWN,
            "binary_sensor.front_door_motion": STATE_ON,
        },
    ),
}


@pytest.mark.usefixtures("_all_enabled")  # before the entry is set up
@pytest.mark.parametrize(("reports", "expected"), TABLE.values(), ids=TABLE)
async def test_states(
    hass: HomeAssistant, entry: MockConfigEntry, reports: list[Report], expected: dict[str, str]
) -> None:
    await async_report(hass, entry, *reports)
    shown = states(hass)
    assert {entity_id: shown[entity_id] for entity_id in expected} == expected


async def test_incident_from_its_start_to_its_end(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    events: list[tuple[str, Any]] = []

    @callback
    def note(event: Event[EventStateChangedData]) -> None:
        attributes = event.data["new_state"].attributes if event.data["new_state"] else {}
        if kind := attributes.get("event_type"):
            events.append((kind, attributes))

    async_track_state_change_event(hass, "event.front_door_incident", note)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now), picture_of(1, at=now))
    await async_report(hass, entry, frame(person(at=now + 2), person(2, at=now + 2), at=now + 2))
    hass.config_entries.async_update_entry(entry, options={"quiet_time": 1})
    await hass.async_block_till_done()
    async with asyncio.timeout(10):
        while not events or events[-1][0] != "ended":
            await asyncio.sleep(0.1)
    assert [kind for kind, _ in events if kind != "updated"] == ["started", "ended"]
    assert {kind for kind, _ in events} == {"started", "updated", "ended"}
    started, ended = events[0][1], events[-1][1]
    assert started["labels"] == ["person"]
    assert started["object_count"] == 1
    assert ended["object_count"] == 2
    assert {attributes["incident_id"] for _, attributes in events} == {started["incident_id"]}
    stored = await entry.runtime_data.store.async_incident(ended["incident_id"])
    assert ended["risk_score"] == stored.risk_score
    assert states(hass)["sensor.front_door_last_risk"] == str(stored.risk_score)
    assert ended["risk_level"] == "medium"
    assert ended["title"]
    assert ended["summary"]


async def test_picture_of_the_last_incident(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = await hass_client()
    address = "/api/image_proxy/image.front_door_last_incident"
    assert (await client.get(address)).status == 500  # Home Assistant's word for no picture
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now), picture_of(1, at=now, shade=40))
    first = hass.states.get("image.front_door_last_incident")
    assert first is not None
    assert first.state not in (STATE_UNKNOWN, STATE_UNAVAILABLE)
    assert await (await client.get(address)).read() == jpeg(40)
    # A better view takes its place before anybody is told.
    await async_report(hass, entry, picture_of(1, at=now + 1, shade=200, score=0.95))
    assert await (await client.get(address)).read() == jpeg(200)
    # After a restart it can be seen still, but nothing says that it is new.
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert states(hass)["image.front_door_last_incident"] == STATE_UNKNOWN
    assert await (await client.get(address)).read() == jpeg(200)
    # Home Assistant logs what an entity raises with its trace: a store that fails is not the entity's fault.
    await entry.runtime_data.store.async_close()
    assert (await client.get(address)).status == 500
    assert "Traceback" not in caplog.text


async def test_after_a_restart_everything_is_unknown_until_seen(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    now = time.time()
    moving = MotionState(camera_id=CAMERA, active=True, at=now)
    await async_report(hass, entry, online(), moving, frame(person(at=now), at=now))
    assert await hass.config_entries.async_unload(entry.entry_id)
    await hass.async_block_till_done()
    announced = async_capture_events(hass, EVENT_INCIDENT)
    last_event = hass.states.get("event.front_door_incident")
    assert last_event is not None
    assert await hass.config_entries.async_setup(entry.entry_id)
    await async_settle(hass, entry)
    shown = states(hass)
    restored = hass.states.get("event.front_door_incident")
    assert restored is not None
    assert restored.attributes["event_type"] == "started"
    assert shown.pop("event.front_door_incident") < restored.last_changed.isoformat()
    assert shown.pop("switch.front_door_detection") == STATE_ON
    assert set(shown.values()) == {STATE_UNKNOWN, STATE_UNAVAILABLE}
    assert shown["binary_sensor.front_door_connectivity"] == STATE_UNKNOWN
    assert announced == []
    await async_report(hass, entry, online())
    assert {states(hass)[entity_id] for entity_id in DETECTED} == {STATE_UNKNOWN}


async def test_nothing_is_written_when_nothing_changed(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    now = time.time()
    await async_report(hass, entry, online(), *[heartbeat(now)] * BEATS, frame(person(at=now, since=now), at=now))
    written = async_capture_events(hass, EVENT_STATE_CHANGED)
    for number in range(1, 51):
        at = now + number / 5
        entry.runtime_data._handle_report(frame(person(at=at, since=now), at=at, frame_id=number + 1))
        entry.runtime_data._handle_report(heartbeat(at))
    await async_settle(hass, entry)
    assert [event.data["entity_id"] for event in written] == []


async def test_lost_camera_is_said_once_in_the_log(
    hass: HomeAssistant, entry: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broken = lost(CameraStatus.ERROR, Problem.SOURCE_CORRUPT)
    stalled = lost(CameraStatus.OFFLINE, Problem.SOURCE_STALLED)
    await async_report(hass, entry, online(), stalled, broken, stalled, online(), online(), stalled)
    said = [line for line in caplog.messages if line.startswith("Camera Front door is ")]
    assert [line.split()[4].rstrip(":") for line in said] == ["lost", "back", "lost"]


# --- with the real worker -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright square that walks, encoded for this test."""
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4")


async def frames_of(response: Any) -> AsyncIterator[bytes]:
    """Yield the JPEGs of an MJPEG stream."""
    buffer = b""
    async for chunk in response.content.iter_any():
        buffer += chunk
        while (end := buffer.find(b"\xff\xd9\r\n")) >= 0:
            yield buffer[buffer.index(b"\xff\xd8") : end + 2]
            buffer = buffer[end + 2 :]


async def test_live_picture_over_http(hass: HomeAssistant, video: Path, hass_client: ClientSessionGenerator) -> None:
    entry = await async_set_up(hass, make_entry({"source": "file", "file_path": str(video)}))
    await async_until(lambda: states(hass)["binary_sensor.front_door_motion"] == STATE_ON)
    client = await hass_client()

    still = Image.open(BytesIO(await (await client.get("/api/camera_proxy/camera.front_door")).read()))
    assert still.size == (WIDTH, HEIGHT)
    grey = still.convert("L").tobytes()
    assert min(grey) < 100
    assert max(grey) > 200
    small = await (await client.get("/api/camera_proxy/camera.front_door?width=320&height=180")).read()
    assert Image.open(BytesIO(small)).width <= 320

    async with asyncio.timeout(60), client.get("/api/camera_proxy_stream/camera.front_door") as response:
        pictures = frames_of(response)
        first = await anext(pictures)
        assert await anext(pictures) == first  # Home Assistant sends the first one twice
        following = [await anext(pictures) for _ in range(3)]
        assert len({first, *following}) == 4
        assert Image.open(BytesIO(following[-1])).size == (WIDTH, HEIGHT)

        # The viewer's stream outlives the worker,
        os.kill(entry.runtime_data.executor.pid, signal.SIGKILL)
        await async_until(lambda: states(hass)["camera.front_door"] == STATE_UNAVAILABLE)
        await async_until(lambda: states(hass)["camera.front_door"] == "idle")
        later = [await anext(pictures) for _ in range(12)]
        assert Image.open(BytesIO(later[-1])).size == (WIDTH, HEIGHT)
        # and ends with the entry.
        assert await hass.config_entries.async_unload(entry.entry_id)
        assert all([picture.startswith(b"\xff\xd8") async for picture in pictures])


def coloured(jpeg_: bytes) -> int:
    """Count the pixels in the colour that persons are framed in."""
    pixels = np.asarray(Image.open(BytesIO(jpeg_)).convert("RGB")).astype(int)
    return int((np.abs(pixels - colour_of("person")).max(axis=2) < 60).sum())


async def test_visitor_is_seen_and_framed(
    hass: HomeAssistant, tmp_path: Path, hass_client: ClientSessionGenerator
) -> None:
    """A rendered visitor, the committed detector, the real worker: until the picture over HTTP."""
    await asyncio.to_thread(render, "front_door", tmp_path / "visitor.mp4", seconds=5.0)
    camera = {"source": "file", "file_path": str(tmp_path / "visitor.mp4"), "labels": ["person"]}
    entry = await async_set_up(hass, make_entry(camera, options={"detector": {"plugin": "ncnn", "model": str(MODEL)}}))
    await async_until(lambda: states(hass)["binary_sensor.front_door_person"] == STATE_ON)
    await async_until(lambda: states(hass)["image.front_door_last_incident"] != STATE_UNKNOWN)
    assert states(hass)["sensor.front_door_last_risk_level"] == "medium"
    client = await hass_client()
    async with asyncio.timeout(30):
        while coloured(await (await client.get("/api/camera_proxy/camera.front_door")).read()) < 300:
            await asyncio.sleep(0.1)
    # What is kept as evidence has nothing drawn into it.
    evidence = await (await client.get("/api/image_proxy/image.front_door_last_incident")).read()
    assert Image.open(BytesIO(evidence)).size == (1280, 720)
    assert coloured(evidence) < 300
    assert await hass.config_entries.async_unload(entry.entry_id)
