"""What goes onto Home Assistant's bus and into the channels' present state."""

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
import json
import time
from typing import Any

from homeassistant.core import Event, HomeAssistant
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    async_fire_time_changed,
)

from custom_components.nemotron_security.announcer import DETECTION_INTERVAL
from custom_components.nemotron_security.broadcasters import Message, MessageType, async_channels
from custom_components.nemotron_security.const import EVENT_CAMERA_STATUS, EVENT_DETECTION, EVENT_INCIDENT
from custom_components.nemotron_security.models import Detection
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraState,
    CameraStatus,
    DetectorState,
    Problem,
    Ready,
    WorkerLost,
)

from .house import CAMERA, async_report, async_set_up, async_settle, frame, make_entry, online, person, picture_of

SECRET = "secret-word"
STREAM = {"source": "stream", "stream_url": f"rtsp://guard:{SECRET}@127.0.0.1:1/live?token={SECRET}"}
YARD = f"{CAMERA[:-1]}1"


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """Two cameras, for whose worker the test speaks."""
    return await async_set_up(hass, make_entry(STREAM, {**STREAM, "stream_url": "rtsp://127.0.0.1:1/yard"}))


class Listener:
    """A client of the channel `events`."""

    def __init__(self) -> None:
        self.received: list[Message] = []

    def offer(self, message: Message) -> bool:
        self.received.append(message)
        return True

    def abandon(self) -> None:
        raise AssertionError("it never fails")

    @property
    def detections(self) -> list[int]:
        """The ids of the detections so far."""
        return [json.loads(m.data)["id"] for m in self.received if m.type is MessageType.DETECTION]


@pytest.fixture
def listener(hass: HomeAssistant, entry: MockConfigEntry) -> Listener:
    client = Listener()
    async_channels(hass).events.connect(client)
    return client


def lost(detail: str = "") -> CameraState:
    return CameraState(
        camera_id=CAMERA,
        status=CameraStatus.OFFLINE,
        at=time.time(),
        problem=Problem.SOURCE_UNREACHABLE,
        detail=detail,
    )


def pipeline(hass: HomeAssistant) -> dict[str, str]:
    """Return what a client that connects now is told of the pipeline's parts."""
    told = [m for m in async_channels(hass).system.present() if m.type is MessageType.PIPELINE_STATUS]
    assert len(told) == 1
    status: dict[str, str] = json.loads(told[0].data)
    return {part: status[part] for part in ("worker", "detector", "store", "analyzer")}


async def test_incident_on_the_bus(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    events = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now), picture_of(1, at=now))
    await async_report(hass, entry, frame(person(at=now + 2), person(2, at=now + 2), at=now + 2))
    hass.config_entries.async_remove_subentry(entry, CAMERA)
    await hass.async_block_till_done()
    await async_settle(hass, entry)
    changes = [event.data["change"] for event in events]
    assert changes[0] == "started"
    assert changes[-1] == "ended"
    assert set(changes[1:-1]) == {"updated"}
    first, last = events[0].data, events[-1].data
    assert first["id"] == last["id"]
    assert (first["camera_id"], first["labels"], first["object_count"]) == (CAMERA, ["person"], 1)
    assert (first["ended_at"], first["picture_id"]) == (None, None)
    assert first["risk_level"] == "medium"
    assert 30 <= first["risk_score"] == first["rules_score"] < 60  # more at night
    assert last["object_count"] == 2
    assert last["ended_at"] is not None
    assert last["picture_id"] is not None


async def test_what_is_announced_can_be_found(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    store = entry.runtime_data.store
    found: list[Any] = []

    async def look(event: Event[Any]) -> None:
        found.append(await store.async_incident(event.data["id"]))

    hass.bus.async_listen_once(EVENT_INCIDENT, look)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    async with asyncio.timeout(5):
        while not found:
            await asyncio.sleep(0.01)
    assert found[0] is not None
    assert found[0].camera_id == CAMERA


async def test_detections_once_a_second_and_camera_on_the_bus(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    on_bus = async_capture_events(hass, EVENT_DETECTION)
    on_channel: list[Message] = []

    class Client:
        def offer(self, message: Message) -> bool:
            if taken := message.type is MessageType.DETECTION:
                on_channel.append(message)
            return taken

        def abandon(self) -> None:
            raise AssertionError("it never fails")

    async_channels(hass).events.connect(Client())
    now = float(int(time.time()))
    await async_report(hass, entry, online(), online(YARD))
    for number in range(15):
        at = now + number / 5
        for camera_id in (CAMERA, YARD):
            # Three persons who come one after the other: each is stored at a moment of its own.
            seen = [person(track_id, at=at, since=now) for track_id in (1, 2, 3) if number >= track_id - 1]
            await async_report(hass, entry, frame(*seen, at=at, frame_id=number + 1, camera_id=camera_id))
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=DETECTION_INTERVAL))
    assert len({json.loads(message.data)["detected_at"] for message in on_channel}) >= 9
    assert [event.data["camera_id"] for event in on_bus] == [CAMERA, YARD] * 3
    moments = sorted({datetime.fromisoformat(event.data["detected_at"]) for event in on_bus})
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(moments))
    data = on_bus[0].data
    assert (data["object_type"], data["confidence"], data["track_id"]) == ("person", 0.9, 1)
    assert (data["bbox_x"], data["bbox_y"], data["bbox_width"], data["bbox_height"]) == (100, 200, 80, 220)
    assert data["incident_id"] == on_bus[2].data["incident_id"]


def a_detection(number: int, track_id: int = 1) -> Detection:
    return Detection(
        id=number,
        incident_id=None,
        track_id=track_id,
        camera_id=CAMERA,
        object_type="person",
        confidence=0.9,
        detected_at=dt_util.utcnow(),
        box=Box(1.0, 2.0, 3.0, 4.0),
        frame_width=1280,
        frame_height=720,
    )


async def test_detections_that_follow_soon_are_delivered_together(
    hass: HomeAssistant, entry: MockConfigEntry, listener: Listener
) -> None:
    announcer = entry.runtime_data.announcer
    announcer.detections_stored([a_detection(1)])
    assert listener.detections == [1], "the first one does not wait"
    announcer.detections_stored([a_detection(2), a_detection(3)])
    announcer.detections_stored([a_detection(4)])
    assert listener.detections == [1]
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=DETECTION_INTERVAL))
    assert listener.detections == [1, 2, 3, 4]
    # After a pause without any, the next does not wait either.
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=3 * DETECTION_INTERVAL))
    announcer.detections_stored([a_detection(5)])
    assert listener.detections == [1, 2, 3, 4, 5]


async def test_detections_come_before_what_is_told_of_their_incident_next(
    hass: HomeAssistant, entry: MockConfigEntry, listener: Listener
) -> None:
    announcer = entry.runtime_data.announcer
    announcer.detections_stored([a_detection(1)])
    announcer.detections_stored([a_detection(2)])
    now = time.time()
    await async_report(hass, entry, online(), *[frame(person(at=now + n, since=now), at=now + n) for n in range(2)])
    types = [message.type for message in listener.received]
    assert types[:3] == [MessageType.DETECTION, MessageType.DETECTION, MessageType.NEW_EVENT]


async def test_detections_that_are_held_are_not_lost_at_the_end(
    hass: HomeAssistant, entry: MockConfigEntry, listener: Listener
) -> None:
    announcer = entry.runtime_data.announcer
    announcer.detections_stored([a_detection(1)])
    announcer.detections_stored([a_detection(2)])
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert listener.detections == [1, 2]


async def test_camera_status_on_the_bus(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    events = async_capture_events(hass, EVENT_CAMERA_STATUS)
    at = time.time()
    await async_report(hass, entry, online(at=at), lost(), online())
    assert [(event.data["status"], event.data["problem"]) for event in events] == [
        ("online", None),
        ("offline", "source_unreachable"),
        ("online", None),
    ]
    assert {event.data["camera_id"] for event in events} == {CAMERA}
    assert events[1].data["last_seen_at"] == events[0].data["last_seen_at"]


async def test_pipeline_is_in_the_present_state_from_the_start(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert pipeline(hass) == {"worker": "starting", "detector": "off", "store": "running", "analyzer": "off"}
    await async_report(hass, entry, Ready(pid=1, versions={}))
    assert pipeline(hass)["worker"] == "running"
    await async_report(hass, entry, WorkerLost(failed_starts=0))
    assert pipeline(hass)["worker"] == "starting"
    # After a reload it is told anew, though nothing differs.
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert pipeline(hass)["worker"] == "starting"
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert async_channels(hass).system.present() == []


ONE = {"plugin": "ncnn", "model": "/models/one"}


async def test_detector_in_the_pipeline(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    hass.config_entries.async_update_entry(entry, options={"detector": ONE})
    await hass.async_block_till_done()
    assert pipeline(hass)["detector"] == "starting"
    await async_report(hass, entry, DetectorState(problem=None))
    assert pipeline(hass)["detector"] == "running"
    # A change of something else does not touch it.
    hass.config_entries.async_update_entry(entry, options={"detector": ONE, "quiet_time": 20})
    await hass.async_block_till_done()
    assert pipeline(hass)["detector"] == "running"
    await async_report(hass, entry, DetectorState(problem=Problem.MODEL_CORRUPT))
    assert pipeline(hass)["detector"] == "failed"
    await async_report(hass, entry, DetectorState(problem=Problem.WORKER_DOWN))
    assert pipeline(hass)["detector"] == "starting"
    # Without a model nothing is detected any more, which takes a new worker.
    runtime = entry.runtime_data
    hass.config_entries.async_update_entry(entry, options={})
    await hass.async_block_till_done()
    assert entry.runtime_data is not runtime
    assert pipeline(hass)["detector"] == "off"


async def test_no_secret_on_the_bus(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    captured = [async_capture_events(hass, name) for name in (EVENT_INCIDENT, EVENT_DETECTION, EVENT_CAMERA_STATUS)]
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now), lost(f"libav said {SECRET}"))
    assert all(captured)
    told = json.dumps([event.as_dict() for events in captured for event in events], default=str)
    assert SECRET not in told
    assert "rtsp:" not in told
    assert SECRET not in json.dumps([state.as_dict() for state in hass.states.async_all()], default=str)
