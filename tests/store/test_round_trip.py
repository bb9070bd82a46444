"""Whatever the domain can say comes back as it was said."""

from dataclasses import replace
from datetime import UTC, datetime
import math

from hypothesis import HealthCheck, given, settings, strategies as st

from custom_components.nemotron_security.models import Assessment, Box, Detection, Floor, Track
from custom_components.nemotron_security.store import Store

from .samples import CAMERA, RULES, add_picture, begin

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)
MOMENT = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SHARE = st.floats(0, 1)
PIXEL = st.floats(-1e6, 1e6)
BOX = st.builds(Box, PIXEL, PIXEL, PIXEL, PIXEL)
SIZE = st.integers(0, 2**31 - 1)
TRACK_ID = st.integers(-(2**63), 2**63 - 1)
TRACK = st.builds(
    Track,
    track_id=TRACK_ID,
    label=NAME,
    confidence=SHARE,
    first_seen_at=MOMENT,
    last_seen_at=MOMENT,
    box=BOX,
    frame_width=SIZE,
    frame_height=SIZE,
    stationary=st.booleans(),
)
DETECTION = st.builds(
    Detection,
    id=st.just(0),
    incident_id=st.none(),
    track_id=TRACK_ID,
    camera_id=NAME,
    object_type=NAME,
    confidence=SHARE,
    detected_at=MOMENT,
    box=BOX,
    frame_width=SIZE,
    frame_height=SIZE,
)
ASSESSMENT = st.builds(
    Assessment,
    analyzer=NAME,
    risk_score=st.integers(0, 100),
    title=TEXT,
    summary=TEXT,
    reasoning=st.none() | TEXT,
    created_at=MOMENT,
    confidence=st.none() | SHARE,
    category=st.none() | TEXT,
    recommended_action=st.none() | TEXT,
    evidence=st.lists(TEXT, max_size=4).map(tuple),
    shown=st.lists(st.none() | st.integers(1, 2**53), max_size=4).map(tuple),
    floor=st.none() | st.sampled_from(Floor),
    model=st.none() | TEXT,
)
often = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@often
@given(tracks=st.lists(TRACK, max_size=4, unique_by=lambda track: track.track_id), assessment=ASSESSMENT)
async def test_incidents_tracks_and_assessments(store: Store, tracks: list[Track], assessment: Assessment) -> None:
    start = max((track.last_seen_at for track in tracks), default=datetime(2026, 1, 1, tzinfo=UTC))
    started = await store.async_start_incident(CAMERA, tracks, started_at=start, assessment=assessment)
    found = await store.async_incident(started.id)
    assert found == started
    assert (found.started_at, found.last_seen_at, found.object_count) == (start, start, len(tracks))
    assert set(found.labels) == {track.label for track in tracks}
    assert found.reasoning == assessment.reasoning
    assert await store.async_assessments(started.id) == [assessment]
    by_time = sorted(tracks, key=lambda track: (track.first_seen_at, track.track_id))
    assert await store.async_tracks(started.id) == by_time
    await store.async_save_incident(started, tracks)
    assert await store.async_tracks(started.id) == by_time


@often
@given(detections=st.lists(DETECTION, max_size=5))
async def test_detections(store: Store, detections: list[Detection]) -> None:
    incident = await begin(store)
    ours = [replace(detection, incident_id=incident.id) for detection in detections]
    stored = await store.async_add_detections(ours)
    assert [replace(detection, id=0) for detection in stored] == ours
    found = await store.async_detections(incident.id)
    assert found == sorted(stored, key=lambda detection: (detection.detected_at, detection.id))


@often
@given(jpeg=st.binary(max_size=3000), score=SHARE)
async def test_pictures(store: Store, jpeg: bytes, score: float) -> None:
    incident = await begin(store)
    picture = await add_picture(store, incident, jpeg=jpeg, score=score)
    assert await store.async_pictures(incident.id) == [picture]
    assert math.isclose(picture.score, score)
    assert await store.async_read_picture(picture.id) == jpeg
    assert RULES in await store.async_assessments(incident.id)
