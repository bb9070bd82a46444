"""What the store keeps and gives back."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
import sqlite3
import threading
import time

import pytest

from custom_components.nemotron_security.models import Box, Feedback, IncidentFilter, Review
from custom_components.nemotron_security.store import Store, StoreError, StoreProblem

from .samples import CAMERA, DETECTION, NOON, RULES, TRACK, VERDICT, add_picture, after, begin, track


async def test_an_incident_starts_with_its_tracks_and_the_word_of_the_rules(store: Store) -> None:
    tracks = [track(2, first=1, label="dog"), track(1, first=0, last=3), track(3, first=2, label="dog")]
    started = await store.async_start_incident(CAMERA, tracks, started_at=NOON, assessment=RULES)

    assert started == await store.async_incident(started.id)
    assert started.id > 0
    assert (started.camera_id, started.started_at, started.last_seen_at) == (CAMERA, NOON, after(3))
    assert started.ended_at is None
    assert started.labels == ("person", "dog")
    assert started.object_count == 3
    assert (started.rules_score, started.risk_score, started.analyzer) == (40, 40, "rules")
    assert (started.title, started.summary, started.reasoning) == (RULES.title, RULES.summary, None)
    assert started.picture_id is None
    assert await store.async_tracks(started.id) == [tracks[1], tracks[0], tracks[2]]
    assert await store.async_assessments(started.id) == [RULES]


async def test_a_track_is_updated_or_added(store: Store) -> None:
    incident = await begin(store)
    grown = track(1, last=5, stationary=True, box=Box(1, 2, 3, 4))
    other = track(2, first=4, label="car")
    await store.async_save_incident(incident, [grown, other])
    assert await store.async_tracks(incident.id) == [grown, other]


async def test_one_track_is_kept_by_two_incidents(store: Store) -> None:
    first, second = await begin(store), await begin(store, at=300)
    await store.async_save_incident(second, [track(1, first=0, last=310)])
    assert await store.async_tracks(first.id) == [track(1)]
    assert await store.async_tracks(second.id) == [track(1, first=0, last=310)]


async def test_saving_an_old_copy_undoes_neither_the_verdict_nor_the_picture(store: Store) -> None:
    copy = await begin(store)
    await store.async_assess(copy.id, VERDICT)
    picture = await add_picture(store, copy)

    course = {"last_seen_at": after(9), "ended_at": after(9), "labels": ("person", "car"), "object_count": 2}
    saved = await store.async_save_incident(replace(copy, **course))  # type: ignore[arg-type]

    assert saved == await store.async_incident(copy.id)
    assert {name: getattr(saved, name) for name in course} == course
    assert (saved.risk_score, saved.analyzer, saved.title) == (72, "nemotron", VERDICT.title)
    assert saved.picture_id == picture.id


async def test_the_word_of_the_rules_counts_until_a_model_has_judged(store: Store) -> None:
    incident = await begin(store)
    louder = replace(RULES, risk_score=55, title="Persons", summary="Two.", created_at=after(1))
    assert (await store.async_assess(incident.id, louder)).risk_score == 55

    judged = await store.async_assess(incident.id, VERDICT)
    assert (judged.risk_score, judged.rules_score, judged.analyzer) == (72, 55, "nemotron")
    assert judged.peak_score == 72
    assert (judged.title, judged.summary, judged.reasoning) == (VERDICT.title, VERDICT.summary, VERDICT.reasoning)

    late = replace(RULES, risk_score=90, created_at=after(2))
    assert await store.async_assess(incident.id, late) == replace(judged, rules_score=90, peak_score=90)

    lowered = await store.async_assess(incident.id, replace(VERDICT, risk_score=10, title="The postman"))
    assert (lowered.risk_score, lowered.rules_score, lowered.peak_score) == (10, 90, 90)
    assert lowered.title == "The postman"
    said = await store.async_assessments(incident.id)
    assert [one.risk_score for one in said] == [40, 55, 72, 90, 10]
    assert said[2] == VERDICT


async def test_incidents_are_listed_by_page(store: Store) -> None:
    ids = [(await begin(store, f"camera {number % 2}", at=number)).id for number in range(7)]
    odd = IncidentFilter(camera_ids=frozenset(["camera 1"]))

    async def listed(*wanted: IncidentFilter, before_id: int | None = None, limit: int = 50) -> list[int]:
        return [incident.id for incident in await store.async_incidents(*wanted, before_id=before_id, limit=limit)]

    assert await listed() == ids[::-1]
    assert await listed(limit=3) == [ids[6], ids[5], ids[4]]
    assert await listed(limit=3, before_id=ids[4]) == [ids[3], ids[2], ids[1]]
    assert await listed(odd) == [ids[5], ids[3], ids[1]]
    assert await listed(odd, before_id=ids[5], limit=1) == [ids[3]]
    assert await listed(before_id=ids[0]) == []
    with pytest.raises(ValueError, match="keep"):
        await listed(before_id=10**30)


async def test_a_review_takes_the_place_of_the_one_before(store: Store) -> None:
    incident = await begin(store)
    first = Review(reviewed=True, feedback=Feedback.SERIOUS, note="Call me.", at=after(60))
    reviewed = await store.async_review(incident.id, first)
    assert reviewed == replace(incident, reviewed_at=after(60), feedback=Feedback.SERIOUS, note="Call me.")
    assert await store.async_incident(incident.id) == reviewed
    judged = await store.async_assess(incident.id, VERDICT)
    assert (judged.reviewed_at, judged.feedback, judged.note) == (after(60), Feedback.SERIOUS, "Call me.")
    noted = Review(reviewed=False, feedback=None, note="It was nothing.", at=after(90))
    assert await store.async_review(incident.id, noted) == replace(
        judged, reviewed_at=None, feedback=None, note="It was nothing."
    )


async def test_detections_get_ids_in_order(store: Store) -> None:
    incident = await begin(store)
    given = [replace(DETECTION, incident_id=incident.id, detected_at=after(-n)) for n in range(5)]
    stored = await store.async_add_detections([*given, DETECTION])
    assert [replace(one, id=0) for one in stored] == [*given, DETECTION]
    ids = [one.id for one in stored]
    assert ids == sorted(set(ids))
    assert await store.async_detections(incident.id) == stored[4::-1]
    assert await store.async_add_detections([]) == []


async def test_what_names_an_unknown_incident_is_refused_whole(store: Store) -> None:
    incident = await begin(store)
    await _expect_unknown(store.async_assess(999, VERDICT))
    await _expect_unknown(store.async_review(999, Review(reviewed=True, feedback=None, note=None, at=NOON)))
    await _expect_unknown(store.async_save_incident(replace(incident, id=999), [TRACK]))
    await _expect_unknown(add_picture(store, replace(incident, id=999)))
    known = replace(DETECTION, incident_id=incident.id)
    await _expect_unknown(store.async_add_detections([known, replace(known, incident_id=999)]))
    assert await store.async_detections(incident.id) == []
    assert await store.async_incident(999) is None
    assert await store.async_pictures(999) == []


async def _expect_unknown(call: object) -> None:
    with pytest.raises(LookupError, match="999"):
        await call  # type: ignore[misc]


async def test_times_of_any_zone_come_back_as_the_same_moment_in_utc(store: Store) -> None:
    local = datetime(2026, 7, 1, 0, 30, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    incident = await store.async_start_incident(CAMERA, [], started_at=local, assessment=RULES)
    found = await store.async_incident(incident.id)
    assert found is not None
    assert found.started_at == local
    assert found.started_at.utcoffset() == timedelta(0)
    assert found.object_count == 0


async def test_a_time_without_a_zone_is_refused_and_nothing_is_kept(store: Store) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match="without a zone"):
        await store.async_start_incident(CAMERA, [TRACK], started_at=NOON, assessment=replace(RULES, created_at=naive))
    assert await store.async_incidents() == []


async def test_what_a_model_says_is_kept_even_where_it_is_no_text(store: Store) -> None:
    incident = await begin(store)
    broken = replace(VERDICT, title="half \ud83d pair", summary="nul \0", evidence=("\udc00", "🐈"))
    judged = await store.async_assess(incident.id, broken)
    assert (judged.title, judged.summary) == ("half ? pair", "nul ?")
    assert (await store.async_assessments(incident.id))[-1].evidence == ("?", "🐈")


async def test_open_incidents_are_closed_with_their_last_sight(store: Store) -> None:
    plain, tracked, detected, pictured, ended = [await begin(store, at=number) for number in range(5)]
    await store.async_save_incident(tracked, [track(1, last=20), track(2, last=10)])
    await store.async_add_detections(
        [replace(DETECTION, incident_id=detected.id, detected_at=after(at)) for at in (30, 25)]
    )
    await store.async_add_picture(
        pictured.id, 1, captured_at=after(40), box=TRACK.box, score=1, width=1, height=1, jpeg=b"x"
    )
    ended = await store.async_save_incident(replace(ended, ended_at=after(50), last_seen_at=after(45)))

    closed = await store.async_close_open_incidents()

    assert [incident.id for incident in closed] == [plain.id, tracked.id, detected.id, pictured.id]
    assert [incident.ended_at for incident in closed] == [after(0), after(20), after(30), after(40)]
    assert all(incident.last_seen_at == incident.ended_at for incident in closed)
    assert await store.async_incident(ended.id) == ended
    assert await store.async_close_open_incidents() == []


async def test_all_is_there_after_closing_and_opening(store: Store, database: Path) -> None:
    incident = await begin(store)
    picture = await add_picture(store, incident)
    expected = await store.async_incident(incident.id)
    await store.async_close()
    assert [path.name for path in database.parent.iterdir() if path.name.startswith("events.db-")] == []

    await store.async_open()
    assert await store.async_incident(incident.id) == expected
    assert await store.async_read_picture(picture.id) is not None


async def test_closing_ends_the_threads_and_may_be_repeated(closed_store: Store) -> None:
    before = set(threading.enumerate())
    await closed_store.async_close()
    await closed_store.async_open()
    await closed_store.async_open()
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["nemotron_security_writer_0"]
    saving = asyncio.ensure_future(begin(closed_store))
    await asyncio.sleep(0)
    await closed_store.async_close()
    assert set(threading.enumerate()) <= before
    assert (await saving).id == 1  # asked for before closing, so it was done
    await closed_store.async_close()
    with pytest.raises(StoreError) as caught:
        await begin(closed_store)
    assert caught.value.problem is StoreProblem.UNREACHABLE


async def test_many_at_once(store: Store) -> None:
    incidents = await asyncio.gather(*(begin(store, f"camera {number}") for number in range(50)))
    assert len({incident.id for incident in incidents}) == 50

    async def live(number: int) -> None:
        incident = incidents[number]
        for second in range(4):
            seen = replace(incident, last_seen_at=after(second), object_count=second)
            await asyncio.gather(
                store.async_save_incident(seen, [track(1, last=second)]),
                store.async_add_detections([replace(DETECTION, incident_id=incident.id, detected_at=after(second))]),
            )
        await asyncio.gather(add_picture(store, incident), store.async_assess(incident.id, VERDICT))

    await asyncio.gather(*(live(number) for number in range(50)))
    for incident in await store.async_incidents(limit=100):
        assert (incident.last_seen_at, incident.object_count, incident.risk_score) == (after(3), 3, 72)
        assert incident.picture_id is not None
        assert len(await store.async_detections(incident.id)) == 4


async def test_the_event_loop_never_waits_for_the_database(store: Store, database: Path) -> None:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = time.perf_counter()
    waiting = asyncio.ensure_future(begin(store))
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0.005)
        turns += 1
    other.close()
    assert isinstance(waiting.exception(), StoreError)
    assert time.perf_counter() - before > 0.15  # it did wait for the other program
    assert turns > 5


async def test_reading_does_not_wait_for_writing(store: Store, database: Path) -> None:
    incident = await begin(store)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(begin(store))
    assert await store.async_incidents() == [incident]
    assert not writing.done()  # it waits for the other program
    other.close()
    await asyncio.wait([writing])


async def test_writing_does_not_wait_for_reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def long_search(_session: object) -> bool:
        return go_on.wait(10)

    reading = asyncio.ensure_future(store._async_read(long_search))
    assert (await begin(store)).id == 1
    assert not reading.done()
    go_on.set()
    assert await reading


async def test_an_abandoned_call_breaks_nothing(store: Store) -> None:
    calls = [asyncio.ensure_future(begin(store)) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    kept = {incident.id for incident in done if not isinstance(incident, BaseException)}
    assert len(kept) == 10
    assert kept <= {incident.id for incident in await store.async_incidents()}
