"""A connection as a client, without a connection: what it chooses, and what waits until it can take more.

The properties hold our filter and our waiting room against models that are plainly right.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
import json
from types import SimpleNamespace
from typing import Any, cast

from homeassistant.components.websocket_api import ActiveConnection
from hypothesis import given, strategies as st
import pytest

from custom_components.nemotron_security.broadcasters import (
    Broadcaster,
    EventBroadcaster,
    Message,
    MessageType,
    SystemBroadcaster,
)
from custom_components.nemotron_security.models import (
    Box,
    CameraFigures,
    CameraHealth,
    CameraStatus,
    Detection,
    Incident,
)
from custom_components.nemotron_security.payloads import PipelineStatus
from custom_components.nemotron_security.permissions import CameraPermissions
from custom_components.nemotron_security.websocket_api.client import (
    MAXIMUM_BACKLOG,
    MAXIMUM_WAITING,
    MessageFilter,
    Subscription,
    Waiting,
)

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
INCIDENT = Incident(
    id=1, camera_id="door", started_at=NOON, last_seen_at=NOON, labels=("person",), rules_score=40, risk_score=40
)
DETECTION = Detection(
    id=1,
    incident_id=1,
    track_id=1,
    camera_id="door",
    object_type="person",
    confidence=0.9,
    detected_at=NOON,
    box=Box(1, 2, 3, 4),
    frame_width=1280,
    frame_height=720,
)

FIGURES = CameraFigures(
    camera_id="door", fps=5.0, inference_fps=2.0, skipped=0, quality=None, reconnects=0, stalls=0, recorded_at=NOON
)

# --- a connection that a test reads -----------------------------------------------------------------------------------


class Timer:
    """A timer that goes off when the test says so."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Connection:
    """Home Assistant's end of a connection, and its loop: what is handed over is queued until the test reads."""

    def __init__(self) -> None:
        self.user = SimpleNamespace(is_admin=False)
        self.hidden = set[str]()
        """Cameras that the user may not read."""
        self.subscriptions: dict[int, Callable[[], None]] = {}
        self.results: list[Any] = []
        self.errors: list[tuple[int, str, str]] = []
        self._message_queue: deque[bytes] = deque()
        self.send_message = self._send_message
        self.most_queued = 0
        self.hass = self.loop = self
        self.timers: list[Timer] = []
        self.broken = False

    def _send_message(self, message: bytes) -> None:
        if self.broken:
            raise ConnectionResetError
        self._message_queue.append(message)
        self.most_queued = max(self.most_queued, len(self._message_queue))

    def send_result(self, message_id: int, result: Any) -> None:
        self.results.append(result)

    def send_error(self, message_id: int, code: str, message: str, **translation: str) -> None:
        self._send_message(b"")  # or fails like everything else
        self._message_queue.pop()
        self.errors.append((message_id, code, translation["translation_key"]))

    def call_later(self, delay: float, action: Callable[[], None]) -> Timer:
        assert delay > 0
        self.timers.append(Timer(action))
        return self.timers[-1]

    def may_hear(self, user: SimpleNamespace, camera_id: str) -> bool:
        return camera_id not in self.hidden

    def read(self) -> list[dict[str, Any]]:
        """Read all that is queued."""
        events = [json.loads(frame)["event"] for frame in self._message_queue]
        self._message_queue.clear()
        return events

    def let_time_pass(self) -> None:
        """Let every timer go off once."""
        due, self.timers = self.timers, []
        for timer in due:
            if not timer.cancelled:
                timer.action()

    def read_all(self) -> list[dict[str, Any]]:
        """Read on until nothing waits any more."""
        events = self.read()
        while self.timers:
            self.let_time_pass()
            events += self.read()
        return events

    def subscribe(self, channel: Broadcaster, **wanted: Any) -> Subscription:
        """Open a subscription of this connection; it is not started."""
        subscription = Subscription(
            cast("ActiveConnection", self), 7, channel, cast("CameraPermissions", self), MessageFilter(**wanted)
        )
        subscription.open()
        return subscription


@pytest.fixture
def events() -> EventBroadcaster:
    """Return a channel without clients."""
    return EventBroadcaster()


@pytest.fixture
def connection() -> Connection:
    """Return a connection whose client does not read by itself."""
    return Connection()


def numbers(messages: list[dict[str, Any]], start: int) -> list[int]:
    """Return the numbers of messages, counted from a start."""
    return [message["seq"] - start for message in messages]


# --- what waits -------------------------------------------------------------------------------------------------------


def a_message(seq: int, reading_of: int | None) -> Message:
    """Return a message that nobody reads."""
    return Message(type=MessageType.DETECTION, seq=seq, data=b"{}", reading_of=reading_of)


class PlainWaiting(list[Message]):
    """The waiting room in plain words."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = list[int]()
        """What is to be told as missed."""

    def add(self, message: Message) -> None:
        if message.reading_of is not None:
            self[:] = [waiting for waiting in self if waiting.reading_of != message.reading_of]
        self.append(message)
        if len(self) > MAXIMUM_WAITING:
            readings = [waiting for waiting in self if waiting.reading_of is not None]
            gone = (readings or self)[0]
            self.remove(gone)
            self.dropped.append(gone.seq)

    def next(self) -> tuple[MessageType, int]:
        """Return the type and the number of what comes next."""
        if self.dropped and not [waiting for waiting in self if waiting.seq < min(self.dropped)]:
            since = min(self.dropped) - 1
            self.dropped.clear()
            return MessageType.MISSED, since
        message = self.pop(0)
        return message.type, message.seq


TRACKS = st.none() | st.integers(1, 300)


@given(st.lists(st.one_of(TRACKS, st.none(), st.just("pop")), max_size=1000), st.integers(0, 300))
def test_what_waits(turns: list[int | str | None], already: int) -> None:
    waiting, plain = Waiting(), PlainWaiting()
    told = [0]

    def compare() -> None:
        message = waiting.pop()
        assert (message.type, message.seq) == plain.next()
        told.append(message.seq)

    for seq, turn in enumerate([*[None] * already, *turns], 1):
        if turn != "pop":
            message = a_message(seq, cast("int | None", turn))
            waiting.add(message)
            plain.add(message)
        elif waiting:
            compare()
        assert len(waiting) == len(plain) + bool(plain.dropped) <= MAXIMUM_WAITING + 1
    while waiting:
        compare()
    assert not plain
    assert told == sorted(told)


def test_readings_of_different_types_are_different() -> None:
    waiting = Waiting()
    types = [MessageType.CAMERA_STATUS, MessageType.CAMERA_STATS]
    for seq, type_ in enumerate([*types, *types]):
        waiting.add(Message(type=type_, seq=seq, data=b"{}", reading_of="door"))
    assert [(waiting.pop().seq, len(waiting)) for _ in types] == [(2, 1), (3, 0)]


class TestSlowClient:
    """A client that reads slowly, or not at all."""

    def test_never_above_the_bound(self, events: EventBroadcaster, connection: Connection) -> None:
        connection.subscribe(events).start([], {})
        for _ in range(5000):
            assert events.broadcast_event_updated(INCIDENT) == 1
            connection.let_time_pass()
        assert connection.most_queued == MAXIMUM_BACKLOG
        assert len(connection.timers) == 1

    def test_gap_then_live(self, events: EventBroadcaster, connection: Connection) -> None:
        start = events.seq
        connection.subscribe(events).start([], {})
        for _ in range(1000):
            events.broadcast_event_updated(INCIDENT)
        received = numbers(connection.read_all(), start)
        # In the place of what was dropped: from where to ask for it.
        assert received == [*range(1, MAXIMUM_BACKLOG + 1), MAXIMUM_BACKLOG, *range(1001 - MAXIMUM_WAITING, 1001)]
        events.broadcast_event_updated(INCIDENT)
        assert numbers(connection.read(), start) == [1001]  # at once: nothing waits any more

    def test_detections_go_first(self, events: EventBroadcaster, connection: Connection) -> None:
        start = events.seq
        connection.subscribe(events).start([], {})
        for _ in range(MAXIMUM_BACKLOG):
            events.broadcast_event_updated(INCIDENT)
        for number in range(MAXIMUM_WAITING):
            events.broadcast_detection(replace(DETECTION, track_id=number))
        events.broadcast_new_event(INCIDENT)
        events.broadcast_detection(replace(DETECTION, track_id=5))
        received = connection.read_all()[MAXIMUM_BACKLOG:]
        seen = [message["data"].get("track_id", message["type"]) for message in received]
        assert seen == ["missed", 1, 2, 3, 4, *range(6, MAXIMUM_WAITING), "new_event", 5]
        assert numbers(received, start) == sorted(numbers(received, start))

    def test_what_it_missed_can_be_asked_for(self, events: EventBroadcaster, connection: Connection) -> None:
        """Also by a client whose filter lets little through, and that chose types: it cannot tell by the numbers."""
        wanted = {"cameras": frozenset(["door"]), "types": frozenset(["event_updated"])}
        connection.subscribe(events, **wanted).start([], {})
        of_yard = replace(INCIDENT, camera_id="yard")
        for _ in range(500):
            events.broadcast_event_updated(INCIDENT)
            events.broadcast_event_updated(of_yard)
            events.broadcast_new_event(INCIDENT)
        received = connection.read_all()
        (missed,) = [message for message in received if message["type"] == "missed"]
        assert missed.keys() == {"type", "data", "seq"}
        assert missed["data"] == {"since": missed["seq"]}
        before = [message for message in received if message["seq"] <= missed["seq"]][:-1]
        assert len(before) == MAXIMUM_BACKLOG
        again = Connection()
        again.subscribe(events, **wanted).start(events.since(missed["seq"], types=wanted["types"]).messages, {})
        assert [*before, *again.read_all()] == self._all(events, wanted)
        # Nothing more was lost, so nothing more is said of it.
        events.broadcast_event_updated(INCIDENT)
        assert [message["type"] for message in connection.read()] == ["event_updated"]

    @staticmethod
    def _all(events: EventBroadcaster, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """Return all that a quick client with that filter got."""
        passes = MessageFilter(**wanted).passes
        return [json.loads(message.envelope) for message in events.since(0).messages if passes(message)]

    def test_what_is_out_of_date_was_not_missed(self, events: EventBroadcaster, connection: Connection) -> None:
        connection.subscribe(events).start([], {})
        for _ in range(MAXIMUM_BACKLOG + 3 * MAXIMUM_WAITING):
            events.broadcast_detection(DETECTION)
        assert [message["type"] for message in connection.read_all()] == ["detection"] * (MAXIMUM_BACKLOG + 1)

    def test_what_it_missed_last(self, events: EventBroadcaster, connection: Connection) -> None:
        """The newest reading is what goes when nothing but incidents waits."""
        connection.subscribe(events).start([], {})
        for _ in range(MAXIMUM_BACKLOG + MAXIMUM_WAITING):
            events.broadcast_event_updated(INCIDENT)
        events.broadcast_detection(DETECTION)
        last = connection.read_all()[-1]
        assert (last["type"], last["data"]) == ("missed", {"since": events.seq - 1})

    def test_every_camera_keeps_its_newest_status(self, connection: Connection) -> None:
        system = SystemBroadcaster()
        connection.subscribe(system).start([], {})
        cameras = [f"camera {number}" for number in range(60)]
        statuses = [CameraStatus.ONLINE, CameraStatus.OFFLINE] * 20 + [CameraStatus.ERROR]
        for status in statuses:
            for camera_id in cameras:
                system.broadcast_camera_status(CameraHealth(camera_id=camera_id, status=status))
                system.broadcast_camera_stats(replace(FIGURES, camera_id=camera_id))
            system.broadcast_pipeline_status(PipelineStatus())
        received = connection.read_all()
        assert "missed" not in [message["type"] for message in received]
        last = {m["data"]["camera_id"]: m["data"]["status"] for m in received if m["type"] == "camera_status"}
        assert last == dict.fromkeys(cameras, "error")

    def test_what_waits_is_overtaken_by_nothing(self, events: EventBroadcaster, connection: Connection) -> None:
        start = events.seq
        connection.subscribe(events).start([], {})
        for _ in range(MAXIMUM_BACKLOG + 1):
            events.broadcast_event_updated(INCIDENT)
        assert len(connection.read()) == MAXIMUM_BACKLOG
        events.broadcast_event_updated(INCIDENT)  # the connection would take it, but one waits already
        assert connection.read() == []
        assert numbers(connection.read_all(), start) == [MAXIMUM_BACKLOG + 1, MAXIMUM_BACKLOG + 2]

    def test_backlog_of_others(self, events: EventBroadcaster, connection: Connection) -> None:
        connection.subscribe(events).start([], {})
        connection._message_queue.extend([b'{"event": {"of": "another"}}'] * MAXIMUM_BACKLOG)
        events.broadcast_event_updated(INCIDENT)
        connection.let_time_pass()
        assert all(event == {"of": "another"} for event in connection.read())
        assert len(connection.read_all()) == 1

    def test_policy_changes_while_messages_wait(self, events: EventBroadcaster, connection: Connection) -> None:
        connection.subscribe(events).start([], {})
        for camera_id in ["door"] * MAXIMUM_BACKLOG + ["door", "yard"]:
            assert events.broadcast_event_updated(replace(INCIDENT, camera_id=camera_id)) == 1
        connection.hidden.add("door")
        connection.read()
        assert [message["data"]["camera_id"] for message in connection.read_all()] == ["yard"]

    def test_client_that_leaves(self, events: EventBroadcaster, connection: Connection) -> None:
        connection.subscribe(events).start([], {})
        for _ in range(MAXIMUM_BACKLOG + 1):
            events.broadcast_event_updated(INCIDENT)
        (timer,) = connection.timers
        connection.subscriptions[7]()
        assert timer.cancelled
        assert events.connections == 0
        assert len(connection.read_all()) == MAXIMUM_BACKLOG

    def test_client_that_fails(
        self, events: EventBroadcaster, connection: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        connection.subscribe(events).start([], {})
        for _ in range(MAXIMUM_BACKLOG + 2):
            events.broadcast_event_updated(INCIDENT)
        connection.read()
        connection.broken = True
        connection.let_time_pass()
        assert events.connections == 0
        assert connection.timers == []
        assert connection.subscriptions == {}
        assert "failed and was dropped" in caplog.text

    def test_client_that_fails_while_messages_wait(
        self, events: EventBroadcaster, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection.subscribe(events).start([], {})
        for _ in range(MAXIMUM_BACKLOG + 1):
            events.broadcast_event_updated(INCIDENT)
        (timer,) = connection.timers
        monkeypatch.setattr(Waiting, "add", None)  # whatever it is that fails
        assert events.broadcast_event_updated(INCIDENT) == 0
        assert events.connections == 0
        assert timer.cancelled
        assert connection.subscriptions == {}
        assert len(connection.read_all()) == MAXIMUM_BACKLOG
        assert connection.errors == [(7, "unknown_error", "subscription_ended")]


class TestPast:
    """What is sent at subscription."""

    def test_paced(self, events: EventBroadcaster, connection: Connection) -> None:
        start = events.seq
        for _ in range(1024):
            events.broadcast_event_updated(INCIDENT)
        past = events.since(start).messages
        subscription = connection.subscribe(events)
        events.broadcast_event_updated(INCIDENT)
        subscription.start(past, {"seq": start + 1024})
        received = connection.read()
        assert len(received) == MAXIMUM_BACKLOG
        while connection.timers:
            events.broadcast_event_updated(INCIDENT)
            connection.let_time_pass()
            received += connection.read()
        assert connection.most_queued == MAXIMUM_BACKLOG
        assert numbers(received, start) == list(range(1, events.seq - start + 1))
        assert connection.results == [{"seq": start + 1024}]

    def test_replayed_new_event_is_not_told_as_another_type(
        self, events: EventBroadcaster, connection: Connection
    ) -> None:
        subscription = connection.subscribe(events, types=frozenset(["new_event"]))
        subscription.start([events.replay(INCIDENT, events.seq)], {})
        events.broadcast_new_event(INCIDENT)  # it would come as an update, which this client does not want
        assert [message["type"] for message in connection.read()] == ["new_event"]

    def test_home_assistant_that_hides_its_queue(self, events: EventBroadcaster, connection: Connection) -> None:
        handed_over = list[bytes]()
        connection.send_message = handed_over.append  # type: ignore[assignment]
        for _ in range(1000):
            events.broadcast_event_updated(INCIDENT)
        connection.subscribe(events).start(events.since(0).messages, {})
        assert len(handed_over) == MAXIMUM_BACKLOG
        connection.read_all()
        assert len(handed_over) == 1000


# --- filters ----------------------------------------------------------------------------------------------------------

CAMERAS = ["door", "yard", "road"]
LABELS = ["person", "car", "dog"]
SCORES = st.none() | st.integers(0, 100)
INCIDENTS = st.builds(
    Incident,
    id=st.integers(1, 3),
    camera_id=st.sampled_from(CAMERAS),
    started_at=st.just(NOON),
    last_seen_at=st.just(NOON),
    labels=st.lists(st.sampled_from(LABELS), max_size=3, unique=True).map(tuple),
    risk_score=SCORES,
)
DETECTIONS = st.builds(
    lambda incident_id, camera_id, label: replace(
        DETECTION, incident_id=incident_id, camera_id=camera_id, object_type=label
    ),
    st.none() | st.integers(1, 3),
    st.sampled_from(CAMERAS),
    st.sampled_from(LABELS),
)
HAPPENINGS = st.lists(
    st.tuples(st.sampled_from(["new_event", "event_updated"]), INCIDENTS) | st.tuples(st.just("detection"), DETECTIONS),
    max_size=30,
)


def some(values: list[str]) -> st.SearchStrategy[frozenset[str] | None]:
    """Choose nothing, or some."""
    return st.none() | st.frozensets(st.sampled_from(values), min_size=1)


class Everything(Connection):
    """A client without a filter, which knows what was said before."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: dict[int, list[int]] = {}

    def passes(self, message: dict[str, Any], wanted: dict[str, Any]) -> bool:
        """Say in plain words whether a filter lets a message through; called for each message, in order."""
        data = message["data"]
        if message["type"] == "detection":
            labels, incident_id = [data["object_type"]], data["incident_id"]
        else:
            labels, incident_id = data["labels"], data["id"]
            if data["risk_score"] is not None:
                self.scores.setdefault(incident_id, []).append(data["risk_score"])
        if wanted["types"] is not None and message["type"] not in wanted["types"]:
            return False
        if wanted["cameras"] is not None and data["camera_id"] not in wanted["cameras"]:
            return False
        if wanted["labels"] is not None and not any(label in wanted["labels"] for label in labels):
            return False
        minimum = wanted["minimum_risk"]
        return minimum is None or any(score >= minimum for score in self.scores.get(incident_id, []))


@given(
    happenings=HAPPENINGS,
    joins=st.integers(0, 30),
    cameras=some(CAMERAS),
    labels=some(LABELS),
    minimum_risk=SCORES,
    types=some(["new_event", "event_updated", "detection"]),
)
def test_filters(happenings: list[tuple[str, Any]], joins: int, **wanted: Any) -> None:
    """Live and with `since`, a filtered client gets what passes of what everybody gets, in the same order."""
    events, everything, live, late = EventBroadcaster(), Everything(), Connection(), Connection()
    start = events.seq
    everything.subscribe(events).start([], {})
    live.subscribe(events, **wanted).start([], {})
    for number, (type_, what) in enumerate(happenings):
        if number == joins:
            late.subscribe(events, **wanted).start(events.since(start).messages, {})
        getattr(events, f"broadcast_{type_}")(what)
    if joins >= len(happenings):
        late.subscribe(events, **wanted).start(events.since(start).messages, {})
    expected = [message for message in everything.read() if everything.passes(message, wanted)]
    assert live.read() == expected
    as_seen_late = [(message["seq"], message["data"]) for message in late.read()]
    if joins >= len(happenings):
        assert as_seen_late == [(message["seq"], message["data"]) for message in expected]
    assert {seq for seq, _ in as_seen_late} <= {message["seq"] for message in expected}


class TestHighestScore:
    """What the channel remembers of an incident's scores."""

    @staticmethod
    def _peak(events: EventBroadcaster, incident: Incident) -> int | None:
        events.broadcast_event_updated(incident)
        return events.since(events.seq - 1).messages[0].peak

    def test_stays_when_the_score_falls(self, events: EventBroadcaster) -> None:
        scores = [None, 40, 70, 10, None]
        judged = [replace(INCIDENT, rules_score=None, risk_score=score) for score in scores]
        assert [self._peak(events, incident) for incident in judged] == [None, 40, 70, 70, 70]
        events.broadcast_detection(DETECTION)
        assert events.since(events.seq - 1).messages[0].peak == 70

    def test_after_a_restart(self, events: EventBroadcaster) -> None:
        """A higher score was announced in an earlier run."""
        assert self._peak(events, replace(INCIDENT, peak_score=75, risk_score=10)) == 75

    def test_is_bounded(self, events: EventBroadcaster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("custom_components.nemotron_security.broadcasters.SCORES_KEPT", 2)
        for incident_id in (1, 2, 1, 3):
            events.broadcast_event_updated(replace(INCIDENT, id=incident_id, risk_score=90))
        fallen = [replace(INCIDENT, id=incident_id, risk_score=10) for incident_id in (1, 3, 2)]
        assert [self._peak(events, incident) for incident in fallen] == [90, 90, 10]
