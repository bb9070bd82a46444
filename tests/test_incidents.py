"""Tests of the way from tracks to stored and announced incidents, over the real store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
import sqlite3
import time
from typing import Any

import pytest

from custom_components.nemotron_security import incident_jobs, incidents as module
from custom_components.nemotron_security.analysis import rules
from custom_components.nemotron_security.incidents import Incidents
from custom_components.nemotron_security.models import (
    Assessment,
    Box,
    Detection,
    Feedback,
    Floor,
    House,
    Incident,
    PictureKind,
    Review,
)
from custom_components.nemotron_security.store import Store, StoreError, StoreProblem
from custom_components.nemotron_security.vision.messages import TrackPicture

from .test_episodes import START, frame, seen

REVIEW = Review(reviewed=True, feedback=Feedback.FALSE_ALARM, note="Our cat.", at=datetime(2026, 11, 24, tzinfo=UTC))


class Listener:
    """Keeps what was announced, and whether it was stored by then."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.told: list[tuple[str, Any]] = []
        self.told_too_early: list[object] = []

    def incident_started(self, incident: Incident) -> None:
        self._tell("started", incident)

    def incident_updated(self, incident: Incident) -> None:
        self._tell("updated", incident)

    def incident_ended(self, incident: Incident) -> None:
        self._tell("ended", incident)

    def incident_annotated(self, incident: Incident) -> None:
        self._tell("annotated", incident)

    def detections_stored(self, detections: Sequence[Detection]) -> None:
        self.told.append(("detections", tuple(detections)))
        for detection in detections:
            self._look_up(
                "SELECT count(*) FROM detections WHERE id = ? AND track_id = ?", detection.id, detection.track_id
            )

    def store_failed(self, error: StoreError) -> None:
        self.told.append(("failed", error.problem))

    def store_recovered(self) -> None:
        self.told.append(("recovered", None))

    def _tell(self, what: str, incident: Incident) -> None:
        self.told.append((what, incident))
        self._look_up(
            "SELECT count(*) FROM incidents WHERE id = ? AND risk_score = ? AND (ended_at IS NULL) = ?",
            incident.id,
            incident.risk_score,
            incident.ended_at is None,
        )

    def _look_up(self, query: str, *values: object) -> None:
        with closing(sqlite3.connect(self._database)) as connection:
            if connection.execute(query, values).fetchone()[0] != 1:
                self.told_too_early.append(values)

    @property
    def names(self) -> list[str]:
        return [what for what, _ in self.told if what != "detections"]

    def incidents(self, what: str) -> list[Incident]:
        return [incident for told, incident in self.told if told == what]

    @property
    def detections(self) -> list[Detection]:
        return [detection for what, group in self.told if what == "detections" for detection in group]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "security.db"


@pytest.fixture
async def store(database: Path, tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(f"sqlite:///{database}", tmp_path / "pictures", busy_timeout=0.05)
    await store.async_open()
    yield store
    await store.async_close()


@pytest.fixture
def listener(database: Path) -> Iterator[Listener]:
    listener = Listener(database)
    yield listener
    assert listener.told_too_early == []


@pytest.fixture
def facts() -> dict[str, Any]:
    """Return what the house knows; a test may change it on the way."""
    return {"at": datetime.fromtimestamp(START, UTC).replace(hour=12)}


@pytest.fixture
async def incidents(store: Store, listener: Listener, facts: dict[str, Any]) -> AsyncIterator[Incidents]:
    incidents = make(store, listener, facts)
    await incidents.async_start()
    yield incidents
    await incidents.async_stop()
    assert not [task for task in asyncio.all_tasks() if "nemotron" in task.get_name()]


def make(store: Store, listener: Listener, facts: dict[str, Any]) -> Incidents:
    return Incidents(
        store,
        rules=rules.assess,
        house=lambda: House(**facts),
        listener=listener,
        quiet_time=10,
        maximum_length=300,
        camera_name=str.title,
    )


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST", 0.05)
    monkeypatch.setattr(module, "STOP_TIME", 1.0)
    monkeypatch.setattr(incident_jobs, "DETECTIONS_TOLD_WITHIN", inf)  # however busy the machine


async def until(condition: Callable[[], object], *, seconds: float = 8) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not come"
        await asyncio.sleep(0.01)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the database as another program would."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def picture(track_id: int = 1, at: float = 0, score: float = 0.8, data: bytes = b"jpeg") -> TrackPicture:
    return TrackPicture(
        camera_id="door",
        track_id=track_id,
        captured_at=START + at,
        box=Box(10, 20, 110, 220),
        score=score,
        width=1280,
        height=720,
        data=data,
    )


def verdict(score: int, analyzer: str = "nemotron") -> Assessment:
    return Assessment(
        analyzer=analyzer,
        risk_score=score,
        title="A neighbour",
        summary="A neighbour brings a parcel.",
        reasoning="She smiles.",
        created_at=datetime.now(UTC),
    )


async def test_start_is_stored_then_announced(incidents: Incidents, listener: Listener, store: Store) -> None:
    incidents.handle_tracks(frame(1, seen(1, 1, since=0)))
    await until(lambda: listener.detections)
    (started,) = listener.incidents("started")
    assert started.camera_id == "door"
    assert started.title == "Person at Door"
    assert (started.risk_score, started.rules_score, started.analyzer) == (30, 30, "rules")
    assert started.started_at == datetime.fromtimestamp(START, UTC)
    assert started.ended_at is None
    assert await store.async_incident(started.id) == started
    (track,) = await store.async_tracks(started.id)
    assert (track.track_id, track.label, track.dwell) == (1, "person", 1.0)
    (detection,) = listener.detections
    assert detection.incident_id == started.id


async def test_growth_is_announced_at_most_once_a_second(incidents: Incidents, listener: Listener) -> None:
    for step in range(31):
        at = step / 10
        others = (seen(2, at, since=1), seen(3, at, since=1, label="dog")) if at >= 1 else ()
        incidents.handle_tracks(frame(at, seen(1, at), *others))
        await asyncio.sleep(0)
    await until(lambda: listener.incidents("updated"))
    await asyncio.sleep(0.1)
    (updated,) = listener.incidents("updated")
    assert updated.labels == ("person", "dog")
    assert updated.object_count == 3
    assert updated.risk_score == 35
    assert updated.title == "2 people and dog at Door"


async def test_change_of_the_score_is_announced(
    incidents: Incidents, listener: Listener, facts: dict[str, Any]
) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    facts["alarm"] = "armed_away"
    incidents.handle_tracks(frame(1, seen(1, 1)))
    await until(lambda: listener.incidents("updated"))
    assert [incident.risk_score for incident in listener.incidents("updated")] == [60]


async def test_nothing_notable_is_stored_in_silence(incidents: Incidents, listener: Listener, store: Store) -> None:
    for second in range(8):
        incidents.handle_tracks(frame(second, seen(1, second)))
    await until(lambda: len(listener.detections) == 8)
    assert listener.names == ["started"]
    stored = await store.async_incident(listener.incidents("started")[0].id)
    assert stored is not None
    assert stored.last_seen_at >= datetime.fromtimestamp(START + 5, UTC)


async def test_end_is_announced_with_the_last_sight(incidents: Incidents, listener: Listener, store: Store) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_tracks(frame(2, seen(1, 2)))
    incidents.handle_tracks(frame(12))
    await until(lambda: listener.incidents("ended"))
    (ended,) = listener.incidents("ended")
    assert ended.ended_at == ended.last_seen_at == datetime.fromtimestamp(START + 2, UTC)
    assert (await store.async_tracks(ended.id))[0].dwell == 2


async def test_timer_ends_without_frames(incidents: Incidents, listener: Listener) -> None:
    incidents.set_options(quiet_time=0.5, maximum_length=300)
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("ended"))
    assert listener.names == ["started", "ended"]


async def test_pictures_before_during_and_after(incidents: Incidents, listener: Listener, store: Store) -> None:
    incidents.handle_picture(picture(data=b"early"))
    incidents.handle_tracks(frame(0, seen(1, moved=False)))
    assert listener.told == []
    incidents.handle_tracks(frame(1, seen(1, 1)))
    await until(lambda: listener.incidents("updated"))
    (updated,) = listener.incidents("updated")
    assert updated.picture_id is not None
    assert await store.async_read_picture(updated.picture_id) == b"early"
    incidents.handle_picture(picture(at=2, score=0.9, data=b"better"))
    incidents.handle_tracks(frame(30))
    incidents.handle_picture(picture(at=2, score=0.95, data=b"late and best"))
    await incidents.async_stop()
    best, first = await store.async_pictures(updated.id)
    assert (best.kind, await store.async_read_picture(best.id)) == (PictureKind.BEST, b"late and best")
    assert (first.kind, await store.async_read_picture(first.id)) == (PictureKind.FIRST, b"early")
    assert listener.names == ["started", "updated", "ended"]


async def test_picture_of_what_never_counts_is_not_stored(
    incidents: Incidents, listener: Listener, tmp_path: Path
) -> None:
    for number in range(100):
        incidents.handle_picture(picture(number))
    assert len(incidents._cameras["door"].early_pictures) == module.PICTURES_BEFORE_INCIDENT
    incidents.handle_tracks(frame(0, ended=[seen(number) for number in range(100)]))
    assert not incidents._cameras["door"].early_pictures
    await incidents.async_stop()
    assert not list((tmp_path / "pictures").rglob("*.jpg"))


async def test_verdict_is_stored_announced_and_outlasts_the_rules(
    incidents: Incidents, listener: Listener, facts: dict[str, Any]
) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("started"))
    incident_id = listener.incidents("started")[0].id
    applied = await incidents.async_apply(incident_id, verdict(12))
    assert (applied.risk_score, applied.rules_score, applied.analyzer) == (12, 30, "nemotron")
    assert listener.incidents("updated") == [applied]
    facts["alarm"] = "armed_night"
    incidents.handle_tracks(frame(2, seen(1, 2)))
    incidents.handle_tracks(frame(20))
    await until(lambda: listener.incidents("ended"))
    (ended,) = listener.incidents("ended")
    assert (ended.risk_score, ended.rules_score, ended.summary) == (12, 45, "A neighbour brings a parcel.")


async def test_a_floor_is_announced_over_a_verdict_also_when_it_leaves_the_rules_score_alone(
    incidents: Incidents, listener: Listener, facts: dict[str, Any]
) -> None:
    facts |= {"at": facts["at"].replace(hour=23), "sun_up": False, "anyone_home": False, "alarm": "armed_away"}
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("started"))
    (started,) = listener.incidents("started")
    assert (started.risk_score, started.floor) == (85, Floor.INTRUDER)
    await incidents.async_apply(started.id, verdict(62))
    facts["forced_entry"] = True
    incidents.handle_tracks(frame(1, seen(1, 1)))
    await until(lambda: len(listener.incidents("updated")) == 2)
    raised = listener.incidents("updated")[1]
    assert (raised.risk_score, raised.rules_score, raised.analyzer) == (85, 85, "nemotron")
    assert raised.floor is Floor.FORCED_ENTRY
    assert (
        raised.reasoning == "She smiles. Raised from 62 to 85: a door or window was opened while the alarm was armed."
    )
    incidents.handle_tracks(frame(2, seen(1, 2)))
    await asyncio.sleep(0.1)
    assert len(listener.incidents("updated")) == 2


async def test_verdict_that_comes_late_is_stored_but_no_news(incidents: Incidents, listener: Listener) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_tracks(frame(20))
    await until(lambda: listener.incidents("ended"))
    applied = await incidents.async_apply(listener.incidents("ended")[0].id, verdict(70), news=lambda _: False)
    assert listener.names == ["started", "ended", "annotated"]
    assert listener.incidents("annotated") == [applied]
    assert applied.risk_score == 70


async def test_verdict_after_the_end_keeps_the_end(incidents: Incidents, listener: Listener) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_tracks(frame(20))
    await until(lambda: listener.incidents("ended"))
    applied = await incidents.async_apply(listener.incidents("ended")[0].id, verdict(70))
    assert applied.ended_at is not None
    assert applied.risk_score == 70


async def test_verdict_on_what_does_not_exist(incidents: Incidents, listener: Listener) -> None:
    with pytest.raises(LookupError):
        await incidents.async_apply(4711, verdict(12))
    assert listener.told == []


async def test_verdict_that_the_store_refuses_holds_up_nothing(incidents: Incidents, listener: Listener) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("started"))
    without_zone = replace(verdict(12), created_at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(Exception, match="zone"):
        await incidents.async_apply(listener.incidents("started")[0].id, without_zone)
    incidents.handle_tracks(frame(20))
    await until(lambda: listener.incidents("ended"))


async def test_what_a_crash_left_open_is_ended_first(store: Store, listener: Listener, facts: dict[str, Any]) -> None:
    crashed = make(store, listener, facts)
    await crashed.async_start()
    crashed.handle_tracks(frame(0, seen(1)))
    crashed.handle_tracks(frame(4, seen(1, 4)))
    await until(lambda: len(listener.detections) == 2)
    for task in crashed._tasks:
        task.cancel()
    again = make(store, listener, facts)
    await again.async_start()
    again.handle_tracks(frame(60, seen(9, 60, since=60)))
    await until(lambda: len(listener.incidents("started")) == 2)
    assert listener.names == ["started", "ended", "started"]
    assert listener.incidents("ended")[0].ended_at == datetime.fromtimestamp(START + 4, UTC)
    await again.async_stop()


async def test_stop_ends_what_goes_on(incidents: Incidents, listener: Listener, store: Store) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_tracks(frame(3, seen(1, 3)))
    await incidents.async_stop()
    (ended,) = listener.incidents("ended")
    assert ended.ended_at == datetime.fromtimestamp(START + 3, UTC)
    assert await store.async_incident(ended.id) == ended
    await incidents.async_stop()


async def test_cameras_are_apart(incidents: Incidents, listener: Listener) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_tracks(frame(0, seen(2), camera_id="garden"))
    await until(lambda: len(listener.incidents("started")) == 2)
    incidents.camera_removed("door")
    await until(lambda: listener.incidents("ended"))
    assert [incident.camera_id for incident in listener.incidents("ended")] == ["door"]


async def test_lost_camera_keeps_its_incident_for_the_quiet_time(incidents: Incidents, listener: Listener) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.camera_lost("door")
    incidents.handle_tracks(frame(6, seen(50, 6, since=6)))
    await until(lambda: listener.incidents("updated"))
    assert listener.names == ["started", "updated"]
    assert listener.incidents("updated")[0].object_count == 2


async def test_locked_store_loses_nothing(incidents: Incidents, listener: Listener, database: Path) -> None:
    await until(lambda: not incidents._jobs)
    with locked(database):
        for second in range(5):
            incidents.handle_tracks(frame(second, seen(1, second)))
        incidents.handle_picture(picture())
        incidents.handle_tracks(frame(20))
        incidents.handle_tracks(frame(21, seen(2, 21, since=21)))
        await until(lambda: ("failed", StoreProblem.LOCKED) in listener.told)
        await asyncio.sleep(0.4)
        assert listener.told == [("failed", StoreProblem.LOCKED)]
    await until(lambda: "recovered" in listener.names)
    assert listener.names == ["failed", "started", "ended", "updated", "started", "recovered"]
    assert len(listener.detections) == 6
    first, following = listener.incidents("started")
    assert listener.incidents("ended")[0].id == first.id
    assert listener.incidents("updated")[0].picture_id is not None
    assert following.started_at == datetime.fromtimestamp(START + 21, UTC)


async def test_detections_that_waited_long_are_stored_but_no_news(
    incidents: Incidents, listener: Listener, database: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(database):
        for second in range(5):
            incidents.handle_tracks(frame(second, seen(1, second)))
        await until(lambda: "failed" in listener.names)
        monkeypatch.setattr(incident_jobs, "DETECTIONS_TOLD_WITHIN", 0.0)
    await until(lambda: "recovered" in listener.names)
    (incident,) = listener.incidents("started")
    assert len(await store.async_detections(incident.id)) == 5
    assert listener.detections == []
    monkeypatch.setattr(incident_jobs, "DETECTIONS_TOLD_WITHIN", inf)
    incidents.handle_tracks(frame(5, seen(1, 5)))
    await until(lambda: listener.detections)
    assert len(listener.detections) == 1


async def test_picture_that_cannot_be_written_holds_up_nothing(
    incidents: Incidents, listener: Listener, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures" / "0"
    folder.parent.mkdir(exist_ok=True)
    folder.touch()  # a file where the pictures' folder would be: rows can be stored, files cannot
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_picture(picture(data=b"late"))
    await until(lambda: "failed" in listener.names)
    incidents.handle_tracks(frame(20))
    incidents.handle_tracks(frame(21, seen(2, 21, since=21)))
    await until(lambda: len(listener.incidents("started")) == 2)
    assert len(listener.incidents("ended")) == 1
    folder.unlink()
    await until(lambda: "recovered" in listener.names)
    assert listener.incidents("updated")[-1].picture_id is not None


async def test_end_that_comes_while_a_save_is_tried_joins_it() -> None:
    record: Any = object()
    tried, newer = (incident_jobs.Save(record, tell=news, assess=news) for news in (False, True))
    jobs = incident_jobs.Jobs()
    jobs.add(tried)
    assert jobs.first() is tried
    jobs.add(newer)  # the episode ended in the meantime
    assert not jobs.put_back(tried)
    assert len(jobs) == 1  # else both would announce the end
    assert (tried.tell, tried.assess) == (True, True)


async def test_news_that_join_a_waiting_save_are_announced(
    incidents: Incidents, listener: Listener, database: Path
) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.detections)
    with locked(database):
        for second in range(1, 6):
            incidents.handle_tracks(frame(second, seen(1, second)))
        await until(lambda: "failed" in listener.names)
        incidents.handle_tracks(frame(6, seen(1, 6), seen(2, 6, since=6)))
    await until(lambda: "recovered" in listener.names)
    assert listener.incidents("updated")[0].object_count == 2


async def test_memory_is_bounded_while_the_store_fails(
    incidents: Incidents, listener: Listener, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_jobs, "WAITING_DETECTIONS", 10)
    monkeypatch.setattr(incident_jobs, "WAITING_PICTURES", 3)
    await until(lambda: not incidents._jobs)
    with locked(database):
        for number in range(30):
            begin = number * 20
            incidents.handle_tracks(frame(begin, seen(number, begin, since=begin)))
            incidents.handle_picture(picture(number, begin))
            if number == 0:
                await until(lambda: listener.told)
        # At once, not only when the store is tried again.
        assert len(incidents._jobs) < 30 * 2 + 10 + 3 + 2
    await until(lambda: "recovered" in listener.names)
    # No incident is dropped; of detections and pictures, the newest remain.
    assert len(listener.incidents("started")) == 30
    assert len(listener.incidents("ended")) == 29
    assert [detection.track_id for detection in listener.detections] == list(range(20, 30))
    assert len(listener.incidents("updated")) == 3


async def test_waiting_verdict_is_given_up_at_the_stop(
    incidents: Incidents, listener: Listener, database: Path
) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("started"))
    incident_id = listener.incidents("started")[0].id
    with locked(database):
        waiting = asyncio.create_task(incidents.async_apply(incident_id, verdict(5)))
        await asyncio.sleep(0.05)
        await incidents.async_stop()
        with pytest.raises(StoreError, match="stopped"):
            await waiting
    with pytest.raises(StoreError, match="stopped"):
        await incidents.async_review(incident_id, REVIEW)


async def test_review_is_stored_announced_and_kept(incidents: Incidents, listener: Listener, store: Store) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("started"))
    incident_id = listener.incidents("started")[0].id
    reviewed = await incidents.async_review(incident_id, REVIEW)
    assert (reviewed.reviewed_at, reviewed.feedback, reviewed.note) == (REVIEW.at, REVIEW.feedback, REVIEW.note)
    assert listener.incidents("updated") == [reviewed]
    incidents.handle_tracks(frame(2, seen(1, 2)))
    incidents.handle_tracks(frame(20))
    await until(lambda: listener.incidents("ended"))
    (ended,) = listener.incidents("ended")
    assert (ended.reviewed_at, ended.feedback, ended.note) == (REVIEW.at, REVIEW.feedback, REVIEW.note)
    taken_back = await incidents.async_review(ended.id, replace(REVIEW, reviewed=False, feedback=None, note=None))
    assert (taken_back.reviewed_at, taken_back.feedback, taken_back.note) == (None, None, None)
    assert taken_back == await store.async_incident(ended.id)


async def test_review_waits_for_a_store_that_fails(incidents: Incidents, listener: Listener, database: Path) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("started"))
    with locked(database):
        waiting = asyncio.create_task(incidents.async_review(listener.incidents("started")[0].id, REVIEW))
        await until(lambda: "failed" in listener.names)
        assert not waiting.done()
    assert (await waiting).note == REVIEW.note
    assert listener.names == ["started", "failed", "updated", "recovered"]


async def test_review_of_what_does_not_exist(incidents: Incidents, listener: Listener) -> None:
    with pytest.raises(LookupError):
        await incidents.async_review(4711, REVIEW)
    assert listener.told == []


async def test_review_that_nobody_waits_for_any_more_is_done_all_the_same(
    incidents: Incidents, listener: Listener, database: Path
) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.incidents("started"))
    with locked(database):
        waiting = asyncio.create_task(incidents.async_review(listener.incidents("started")[0].id, REVIEW))
        await until(lambda: "failed" in listener.names)
        waiting.cancel()
    await until(lambda: listener.incidents("updated"))
    assert listener.incidents("updated")[0].feedback is Feedback.FALSE_ALARM


async def test_failing_listener_harms_nothing(
    incidents: Incidents, listener: Listener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Incident) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(listener, "incident_started", fail)
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_tracks(frame(20))
    await until(lambda: listener.incidents("ended"))
    assert "A listener failed" in caplog.text


async def test_what_belongs_to_a_deleted_incident_is_dropped(
    incidents: Incidents, listener: Listener, database: Path
) -> None:
    incidents.handle_tracks(frame(0, seen(1)))
    await until(lambda: listener.detections)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM incidents")
    incidents.handle_tracks(frame(5, seen(1, 5)))
    incidents.handle_tracks(frame(20))
    incidents.handle_tracks(frame(21, seen(2, 21, since=21)))
    await until(lambda: len(listener.incidents("started")) == 2)
    assert "failed" not in listener.names


async def test_rules_that_fail_at_the_timer_do_not_stop_it(
    incidents: Incidents, listener: Listener, facts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    incidents.set_options(quiet_time=0.5, maximum_length=300)
    incidents.handle_tracks(frame(0, seen(1)))
    incidents.handle_tracks(replace(frame(0, seen(1)), camera_id="garden"))
    at = facts.pop("at")
    await until(lambda: "The timer of camera" in caplog.text)
    facts["at"] = at + timedelta(seconds=1)
    incidents.handle_tracks(replace(frame(1, seen(3, 1, since=1)), camera_id="street"))
    await until(lambda: len(listener.incidents("ended")) == 3)
    assert {incident.camera_id for incident in listener.incidents("ended")} == {"door", "garden", "street"}
