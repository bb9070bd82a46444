"""The channels themselves: who is counted, who is reached, what a message looks like."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
import json
from typing import Any, override

import numpy as np
import pytest

from custom_components.nemotron_security.broadcasters import (
    BATCH,
    Broadcaster,
    EventBroadcaster,
    Message,
    MessageType,
    SystemBroadcaster,
)
from custom_components.nemotron_security.models import (
    Box,
    CameraHealth,
    CameraStatus,
    Detection,
    Feedback,
    GpuStats,
    Incident,
    Problem,
    RiskLevel,
)
from custom_components.nemotron_security.payloads import PartState, PipelineStatus

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

INCIDENT = Incident(
    id=7,
    camera_id="01JDOOR",
    started_at=NOON,
    last_seen_at=NOON + timedelta(seconds=4),
    labels=("person",),
    zones=("Driveway",),
    object_count=1,
    rules_score=62,
    risk_score=62,
    analyzer="rules",
    title="Person at the front door",
    summary="A person stands at the front door.",
    reasoning="It is night and nobody is at home.",
    picture_id=3,
    reviewed_at=NOON + timedelta(minutes=5),
    feedback=Feedback.FALSE_ALARM,
    note="The neighbour.",
)
DETECTION = Detection(
    id=41,
    incident_id=7,
    track_id=5,
    camera_id="01JDOOR",
    object_type="person",
    confidence=0.87,
    detected_at=NOON,
    box=Box(100.4, 50.0, 180.6, 250.0),
    frame_width=1280,
    frame_height=720,
    zones=("Driveway",),
)
GPU_STATS = GpuStats(
    gpu_id="GPU-1",
    name="NVIDIA T4",
    gpu_utilization=41.5,
    memory_used=2 << 30,
    memory_total=16 << 30,
    temperature=61.0,
    inference_fps=19.8,
    recorded_at=NOON,
)
CAMERA_HEALTH = CameraHealth(camera_id="01JDOOR", status=CameraStatus.ONLINE, last_seen_at=NOON)


class Listener:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.abandoned = False

    def offer(self, message: Message) -> bool:
        self.received.append(json.loads(message.envelope))
        return True

    def abandon(self) -> None:
        self.abandoned = True


class FailingListener(Listener):
    """A client whose connection is gone."""

    @override
    def offer(self, message: Message) -> bool:
        raise ConnectionResetError


class ChoosyListener(Listener):
    """A client that may not have messages of one camera."""

    @override
    def offer(self, message: Message) -> bool:
        return message.camera_id != "01JDOOR" and super().offer(message)


def connected[T: Listener](broadcaster: Broadcaster, *listeners: T) -> list[T]:
    """Connect listeners to a channel."""
    for listener in listeners:
        broadcaster.connect(listener)
    return list(listeners)


@pytest.fixture
def events() -> EventBroadcaster:
    """Return a channel without clients."""
    return EventBroadcaster()


@pytest.fixture
def system() -> SystemBroadcaster:
    """Return a channel without clients."""
    return SystemBroadcaster()


class TestEventBroadcaster:
    """The channel `events`."""

    def test_connect_websocket(self, events: EventBroadcaster) -> None:
        (listener,) = connected(events, Listener())
        events.connect(listener)
        assert events.connections == 1
        assert events.is_connected(listener)

    def test_disconnect_websocket(self, events: EventBroadcaster) -> None:
        (listener,) = connected(events, Listener())
        events.broadcast_new_event(INCIDENT)
        events.disconnect(listener)
        assert events.connections == 0
        assert events.broadcast_new_event(INCIDENT) == 0
        assert len(listener.received) == 1

    def test_disconnect_nonexistent_websocket(self, events: EventBroadcaster) -> None:
        (listener,) = connected(events, Listener())
        events.disconnect(Listener())
        assert events.connections == 1
        assert events.is_connected(listener)

    def test_broadcast_new_event_no_connections(self, events: EventBroadcaster) -> None:
        assert events.broadcast_new_event(INCIDENT) == 0

    def test_broadcast_new_event_single_connection(self, events: EventBroadcaster) -> None:
        (listener,) = connected(events, Listener())
        assert events.broadcast_new_event(INCIDENT) == 1
        assert listener.received == [
            {
                "type": "new_event",
                "data": {
                    "id": 7,
                    "camera_id": "01JDOOR",
                    "risk_score": 62,
                    "risk_level": "high",
                    "summary": "A person stands at the front door.",
                    "reasoning": "It is night and nobody is at home.",
                    "started_at": "2026-11-23T12:00:00+00:00",
                    "ended_at": None,
                    "last_seen_at": "2026-11-23T12:00:04+00:00",
                    "title": "Person at the front door",
                    "labels": ["person"],
                    "zones": ["Driveway"],
                    "object_count": 1,
                    "trigger": None,
                    "picture_id": 3,
                    "rules_score": 62,
                    "analyzer": "rules",
                    "reviewed_at": "2026-11-23T12:05:00+00:00",
                    "feedback": "false_alarm",
                    "note": "The neighbour.",
                },
                "seq": events.seq,
            }
        ]

    def test_broadcast_new_event_multiple_connections(self, events: EventBroadcaster) -> None:
        listeners = connected(events, Listener(), Listener(), Listener())
        assert events.broadcast_new_event(INCIDENT) == 3
        assert [len(listener.received) for listener in listeners] == [1, 1, 1]
        assert listeners[0].received == listeners[1].received == listeners[2].received

    def test_broadcast_new_event_with_failed_connection(self, events: EventBroadcaster) -> None:
        first, failed, last = connected(events, Listener(), FailingListener(), Listener())
        assert events.broadcast_new_event(INCIDENT) == 2
        assert len(first.received) == len(last.received) == 1
        assert events.connections == 2
        assert not events.is_connected(failed)

    def test_broadcast_detection_single_connection(self, events: EventBroadcaster) -> None:
        (listener,) = connected(events, Listener())
        assert events.broadcast_detection(DETECTION) == 1
        assert listener.received == [
            {
                "type": "detection",
                "data": {
                    "id": 41,
                    "camera_id": "01JDOOR",
                    "object_type": "person",
                    "confidence": 0.87,
                    "detected_at": "2026-11-23T12:00:00+00:00",
                    "bbox_x": 100,
                    "bbox_y": 50,
                    "bbox_width": 81,
                    "bbox_height": 200,
                    "frame_width": 1280,
                    "frame_height": 720,
                    "incident_id": 7,
                    "track_id": 5,
                    "zones": ["Driveway"],
                },
                "seq": events.seq,
            }
        ]

    def test_broadcast_detection_no_connections(self, events: EventBroadcaster) -> None:
        assert events.broadcast_detection(DETECTION) == 0

    def test_message_serialization(self, events: EventBroadcaster, system: SystemBroadcaster) -> None:
        (listener,) = connected(events, Listener())
        system.connect(listener)
        summer_time = timezone(timedelta(hours=2))
        numpy_numbers: dict[str, Any] = {
            "id": np.int64(41),
            "confidence": np.float32(0.5),
            "frame_width": np.int32(1280),
        }
        box = Box(*np.array([1, 2, 11, 22], np.float32))
        events.broadcast_detection(
            replace(DETECTION, detected_at=NOON.astimezone(summer_time), box=box, **numpy_numbers)
        )
        verdict: Any = np.int64(85)
        events.broadcast_new_event(replace(INCIDENT, risk_score=verdict))
        system.broadcast_camera_status(replace(CAMERA_HEALTH, problem=Problem.SOURCE_STALLED))
        reading: dict[str, Any] = {"gpu_utilization": np.float32(12.5), "memory_used": np.uint64(1)}
        system.broadcast_gpu_stats(replace(GPU_STATS, **reading))
        assert all(message.keys() == {"type", "data", "seq"} for message in listener.received)
        detection, incident, camera, gpu = (message["data"] for message in listener.received)
        assert (detection["id"], detection["confidence"], detection["bbox_width"]) == (41, 0.5, 10)
        assert detection["detected_at"] == "2026-11-23T12:00:00+00:00"
        assert (incident["risk_score"], incident["risk_level"]) == (85, "critical")
        assert (camera["status"], camera["problem"]) == ("online", "source_stalled")
        assert (gpu["gpu_utilization"], gpu["memory_used"]) == (12.5, 1)


class TestSystemBroadcaster:
    """The channel `system`."""

    def test_connect_websocket(self, system: SystemBroadcaster) -> None:
        (listener,) = connected(system, Listener())
        system.connect(listener)
        assert system.connections == 1

    def test_disconnect_websocket(self, system: SystemBroadcaster) -> None:
        (listener,) = connected(system, Listener())
        system.disconnect(listener)
        assert system.connections == 0
        assert system.broadcast_gpu_stats(GPU_STATS) == 0
        assert listener.received == []

    def test_broadcast_gpu_stats_no_connections(self, system: SystemBroadcaster) -> None:
        assert system.broadcast_gpu_stats(GPU_STATS) == 0

    def test_broadcast_gpu_stats_single_connection(self, system: SystemBroadcaster) -> None:
        (listener,) = connected(system, Listener())
        assert system.broadcast_gpu_stats(GPU_STATS) == 1
        assert listener.received == [
            {
                "type": "gpu_stats",
                "data": {
                    "gpu_utilization": 41.5,
                    "memory_used": 2147483648,
                    "memory_total": 17179869184,
                    "temperature": 61.0,
                    "inference_fps": 19.8,
                    "recorded_at": "2026-11-23T12:00:00+00:00",
                    "gpu_id": "GPU-1",
                    "name": "NVIDIA T4",
                },
                "seq": system.seq,
            }
        ]

    def test_broadcast_gpu_stats_multiple_connections(self, system: SystemBroadcaster) -> None:
        first, second = connected(system, Listener(), Listener())
        assert system.broadcast_gpu_stats(GPU_STATS) == 2
        assert first.received == second.received
        assert len(first.received) == 1

    def test_broadcast_camera_status_single_connection(self, system: SystemBroadcaster) -> None:
        (listener,) = connected(system, Listener())
        assert system.broadcast_camera_status(CAMERA_HEALTH) == 1
        (message,) = listener.received
        assert message["type"] == "camera_status"
        assert message["data"] == {
            "camera_id": "01JDOOR",
            "status": "online",
            "last_seen_at": "2026-11-23T12:00:00+00:00",
            "problem": None,
        }

    def test_broadcast_camera_status_no_connections(self, system: SystemBroadcaster) -> None:
        assert system.broadcast_camera_status(CAMERA_HEALTH) == 0

    def test_broadcast_camera_status_with_failed_connection(self, system: SystemBroadcaster) -> None:
        failed, listener = connected(system, FailingListener(), Listener())
        assert system.broadcast_camera_status(CAMERA_HEALTH) == 1
        assert len(listener.received) == 1
        assert not system.is_connected(failed)


class TestConnectionManagement:
    """Many clients, and clients that fail."""

    def test_concurrent_connections_event_broadcaster(self, events: EventBroadcaster) -> None:
        listeners = connected(events, *(Listener() for _ in range(10)))
        assert events.broadcast_new_event(INCIDENT) == 10
        for listener in listeners[:5]:
            events.disconnect(listener)
        assert events.connections == 5
        assert events.broadcast_new_event(INCIDENT) == 5
        assert [len(listener.received) for listener in listeners] == [1] * 5 + [2] * 5

    def test_concurrent_connections_system_broadcaster(self, system: SystemBroadcaster) -> None:
        listeners = connected(system, *(Listener() for _ in range(5)))
        assert system.connections == 5
        assert system.broadcast_gpu_stats(GPU_STATS) == 5
        assert [len(listener.received) for listener in listeners] == [1] * 5

    def test_graceful_disconnect_on_error(self, events: EventBroadcaster, caplog: pytest.LogCaptureFixture) -> None:
        failing, listener = connected(events, FailingListener(), Listener())
        assert events.broadcast_new_event(INCIDENT) == 1
        assert events.connections == 1
        assert (failing.abandoned, listener.abandoned) == (True, False)
        assert "failed and was dropped" in caplog.text

    def test_client_is_not_sent_what_it_may_not_have(self, events: EventBroadcaster) -> None:
        choosy, listener = connected(events, ChoosyListener(), Listener())
        assert events.broadcast_new_event(INCIDENT) == 1
        assert events.broadcast_new_event(replace(INCIDENT, id=8, camera_id="01JYARD")) == 2
        assert [message["data"]["id"] for message in choosy.received] == [8]
        assert [message["data"]["id"] for message in listener.received] == [7, 8]

    def test_client_that_leaves_during_a_broadcast(self, events: EventBroadcaster) -> None:
        class LeavingListener(Listener):
            @override
            def offer(self, message: Message) -> bool:
                events.disconnect(self)
                return super().offer(message)

        leaving, staying = connected(events, LeavingListener(), Listener())
        assert events.broadcast_new_event(INCIDENT) == 2
        assert events.broadcast_new_event(INCIDENT) == 1
        assert (len(leaving.received), len(staying.received)) == (1, 2)

    def test_payload_is_encoded_once(self, events: EventBroadcaster) -> None:
        taken: list[Message] = []

        class KeepingListener(Listener):
            @override
            def offer(self, message: Message) -> bool:
                taken.append(message)
                return True

        connected(events, *(KeepingListener() for _ in range(3)))
        events.broadcast_new_event(INCIDENT)
        assert len(taken) == 3
        assert len({id(message.envelope) for message in taken}) == 1


class TestLargeAudience:
    """More clients than are served in one turn of the event loop."""

    SIZE = 2 * BATCH + 1

    @pytest.fixture
    def listeners(self, events: EventBroadcaster) -> list[Listener]:
        return connected(events, *(Listener() for _ in range(self.SIZE)))

    async def test_is_served_in_batches(self, events: EventBroadcaster, listeners: list[Listener]) -> None:
        assert events.broadcast_new_event(INCIDENT) == self.SIZE
        served = [0]
        while served[-1] < self.SIZE:
            await asyncio.sleep(0)
            served.append(sum(len(listener.received) for listener in listeners))
        assert sorted(set(served)) == [0, BATCH, 2 * BATCH, self.SIZE]
        assert {message["data"]["id"] for listener in listeners for message in listener.received} == {7}

    async def test_messages_said_together_come_together(
        self, events: EventBroadcaster, listeners: list[Listener]
    ) -> None:
        for _ in range(3):
            events.broadcast_new_event(INCIDENT)
        await asyncio.sleep(0)
        assert [len(listener.received) for listener in listeners] == [3] * BATCH + [0] * (self.SIZE - BATCH)

    async def test_order_while_clients_come_and_go(self, events: EventBroadcaster, listeners: list[Listener]) -> None:
        start, leaving = events.seq, listeners[-1]
        events.broadcast_new_event(INCIDENT)
        (late,) = connected(events, Listener())
        events.broadcast_new_event(INCIDENT)
        await asyncio.sleep(0)  # the first of them were served
        events.disconnect(leaving)
        for listener in listeners[BATCH : 2 * BATCH]:
            events.disconnect(listener)
        events.broadcast_detection(DETECTION)  # few are left now, and it comes after what others wait for
        for _ in range(24):
            await asyncio.sleep(0)
        for listener in listeners[:BATCH]:
            assert [message["seq"] - start for message in listener.received] == [1, 2, 3]
        assert [message["seq"] - start for message in late.received] == [2, 3]
        assert leaving.received == []

    async def test_client_that_fails(self, events: EventBroadcaster, listeners: list[Listener]) -> None:
        (failing,) = connected(events, FailingListener())
        events.broadcast_new_event(INCIDENT)
        events.broadcast_new_event(INCIDENT)
        for _ in range(8):
            await asyncio.sleep(0)
        assert failing.abandoned
        assert not events.is_connected(failing)
        assert [len(listener.received) for listener in listeners] == [2] * self.SIZE

    async def test_whatever_fails_the_others_get_their_turn(
        self, events: EventBroadcaster, listeners: list[Listener]
    ) -> None:
        def fail() -> None:
            raise RuntimeError("a broken watch of the audience")

        events.disconnect(listeners.pop(0))
        (failing,) = connected(events, FailingListener())
        events.watch_audience(fail)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        for _ in range(2):
            events.broadcast_new_event(INCIDENT)
            for _ in range(8):
                await asyncio.sleep(0)
        assert not events.is_connected(failing)
        assert [len(listener.received) for listener in listeners] == [2] * len(listeners)


class TestHistory:
    """Numbers, and what is kept under them."""

    def test_numbers_rise_by_one(self, events: EventBroadcaster) -> None:
        (listener,) = connected(events, Listener())
        before = events.seq
        events.broadcast_new_event(INCIDENT)
        events.broadcast_detection(DETECTION)
        events.broadcast_event_updated(INCIDENT)
        assert [message["seq"] for message in listener.received] == [before + 1, before + 2, before + 3]
        assert [message["type"] for message in listener.received] == ["new_event", "detection", "event_updated"]

    def test_since(self) -> None:
        events = EventBroadcaster(history=3)
        start = events.seq
        assert events.since(start) == ([], frozenset())
        for number in range(1, 6):
            events.broadcast_new_event(replace(INCIDENT, id=number))
        expected = {
            start + 5: ([], True),
            start + 4: ([5], True),
            start + 2: ([3, 4, 5], True),
            start + 1: ([3, 4, 5], False),  # the message of incident 2 is no longer kept
            0: ([3, 4, 5], False),
            start + 6: ([3, 4, 5], False),  # of another run: this one has not come so far
        }
        for since, (incident_ids, complete) in expected.items():
            past = events.since(since)
            assert [message.incident_id for message in past.messages] == incident_ids, since - start
            assert past.complete is complete

    def test_detections_push_no_incident_out(self) -> None:
        events = EventBroadcaster(history=3, short_history=2)
        start = events.seq
        events.broadcast_new_event(INCIDENT)
        for _ in range(4):
            events.broadcast_detection(DETECTION)
        events.broadcast_event_updated(INCIDENT)
        incidents, detections = ["new_event", "event_updated"], ["detection"]
        everything = events.since(start)
        assert [message.seq - start for message in everything.messages] == [1, 4, 5, 6]
        assert everything.lacking == {MessageType.DETECTION}
        told = events.since(start, types=incidents)
        assert ([message.seq - start for message in told.messages], told.complete) == ([1, 6], True)
        for seq, complete in ((start + 2, False), (start + 3, True)):
            told = events.since(seq, types=detections)
            assert ([message.seq - start for message in told.messages], told.complete) == ([4, 5], complete)
        # What is lacking brings nothing again that the client has.
        told = events.since(start + 1)
        assert ([message.seq - start for message in told.messages], told.complete) == ([4, 5, 6], False)

    def test_since_another_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The clock was set back, so that this run has come to the number which the client has of the run before."""
        monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000_000)
        before, after = EventBroadcaster(), EventBroadcaster()
        before.broadcast_new_event(INCIDENT)
        for _ in range(3):
            after.broadcast_new_event(INCIDENT)
        assert after.since(before.seq, after.run).complete
        missed = after.since(before.seq, before.run)
        assert (len(missed.messages), missed.complete) == (3, False)

    def test_present_state_is_the_last_of_each(self, system: SystemBroadcaster) -> None:
        status = PipelineStatus(worker=PartState.RUNNING)
        system.broadcast_gpu_stats(GPU_STATS)
        system.broadcast_gpu_stats(replace(GPU_STATS, gpu_id="GPU-2"))
        system.broadcast_camera_status(replace(CAMERA_HEALTH, status=CameraStatus.UNKNOWN))
        system.broadcast_camera_status(CAMERA_HEALTH)
        system.broadcast_camera_status(replace(CAMERA_HEALTH, camera_id="01JYARD"))
        system.broadcast_pipeline_status(status)
        present = [json.loads(message.envelope) for message in system.present()]
        assert {message["seq"] for message in present} == {system.seq}
        assert [(message["type"], message["data"].get("status")) for message in present] == [
            ("gpu_stats", None),
            ("gpu_stats", None),
            ("camera_status", "online"),
            ("camera_status", "online"),
            ("pipeline_status", None),
        ]
        system.forget_camera("01JYARD")
        system.forget_gpu("GPU-1")
        assert [message.type for message in system.present()] == [
            MessageType.GPU_STATS,
            MessageType.CAMERA_STATUS,
            MessageType.PIPELINE_STATUS,
        ]
        system.forget_all()
        assert system.present() == []


def wire(broadcaster: Broadcaster) -> Listener:
    """Connect one listener."""
    return connected(broadcaster, Listener())[0]


def is_utc(text: str) -> bool:
    """Whether a text is ISO 8601 with UTC's offset."""
    return datetime.fromisoformat(text).utcoffset() == timedelta(0)


class TestMessageFormat:
    """The contract's keys and types, from the real model objects."""

    @pytest.mark.parametrize(
        ("score", "level"),
        [
            (0, RiskLevel.LOW),
            (29, RiskLevel.LOW),
            (30, RiskLevel.MEDIUM),
            (59, RiskLevel.MEDIUM),
            (60, RiskLevel.HIGH),
            (84, RiskLevel.HIGH),
            (85, RiskLevel.CRITICAL),
            (100, RiskLevel.CRITICAL),
            (None, None),
        ],
    )
    def test_event_message_format(self, events: EventBroadcaster, score: int | None, level: RiskLevel | None) -> None:
        listener = wire(events)
        ended = replace(INCIDENT, risk_score=score, reasoning=None, ended_at=NOON)
        events.broadcast_new_event(ended)
        events.broadcast_event_updated(ended)
        new, updated = listener.received
        assert (new["type"], updated["type"]) == ("new_event", "event_updated")
        assert new["data"] == updated["data"]
        data = new["data"]
        assert type(data["id"]) is int
        assert data["camera_id"] == "01JDOOR"
        assert (data["risk_score"], data["risk_level"]) == (score, level)
        assert type(data["summary"]) is str
        assert data["reasoning"] is None
        assert is_utc(data["started_at"])
        assert is_utc(data["ended_at"])

    def test_detection_message_format(self, events: EventBroadcaster) -> None:
        listener = wire(events)
        events.broadcast_detection(DETECTION)
        events.broadcast_detection(replace(DETECTION, box=Box(-3.2, 700.0, 1290.0, 731.0)))
        message, cut = listener.received
        data = message["data"]
        assert message["type"] == "detection"
        integers = ("id", "bbox_x", "bbox_y", "bbox_width", "bbox_height", "frame_width", "frame_height")
        assert all(type(data[key]) is int for key in integers)
        assert (data["camera_id"], data["object_type"]) == ("01JDOOR", "person")
        assert type(data["confidence"]) is float
        assert 0 <= data["confidence"] <= 1
        assert is_utc(data["detected_at"])
        box = [cut["data"][f"bbox_{key}"] for key in ("x", "y", "width", "height")]
        assert box == [0, 700, 1280, 20]  # within the frame

    def test_gpu_stats_message_format(self, system: SystemBroadcaster) -> None:
        listener = wire(system)
        system.broadcast_gpu_stats(GPU_STATS)
        system.broadcast_gpu_stats(replace(GPU_STATS, gpu_utilization=None, temperature=None, inference_fps=None))
        known, unknown = (message["data"] for message in listener.received)
        assert [message["type"] for message in listener.received] == ["gpu_stats", "gpu_stats"]
        assert all(type(known[key]) is float for key in ("gpu_utilization", "temperature", "inference_fps"))
        assert all(type(known[key]) is int for key in ("memory_used", "memory_total"))
        assert is_utc(known["recorded_at"])
        assert [unknown[key] for key in ("gpu_utilization", "temperature", "inference_fps")] == [None, None, None]

    @pytest.mark.parametrize("status", CameraStatus)
    def test_camera_status_message_format(self, system: SystemBroadcaster, status: CameraStatus) -> None:
        listener = wire(system)
        system.broadcast_camera_status(replace(CAMERA_HEALTH, status=status))
        system.broadcast_camera_status(CameraHealth(camera_id="01JYARD", detail="words of a library"))
        seen, unseen = (message["data"] for message in listener.received)
        assert listener.received[0]["type"] == "camera_status"
        assert seen["camera_id"] == "01JDOOR"
        assert seen["status"] == status.value
        assert status.value in {"online", "offline", "error", "unknown"}
        assert is_utc(seen["last_seen_at"])
        assert (unseen["status"], unseen["last_seen_at"]) == ("unknown", None)
        assert "words of a library" not in str(listener.received)
