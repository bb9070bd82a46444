"""What happens in these tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from custom_components.nemotron_security.models import Assessment, Box, Detection, Incident, Picture, PictureKind, Track
from custom_components.nemotron_security.store import Store

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
CAMERA = "01JCAMERA"
JPEG = b"\xff\xd8 a picture \xff\xd9"

TRACK = Track(
    track_id=1_790_000_000_001,
    label="person",
    confidence=0.84,
    first_seen_at=NOON,
    last_seen_at=NOON,
    box=Box(10.5, 20.0, 110.25, 220.0),
    frame_width=1280,
    frame_height=720,
)
RULES = Assessment(
    analyzer="rules", risk_score=40, title="Person", summary="A person came.", reasoning=None, created_at=NOON
)
VERDICT = Assessment(
    analyzer="nemotron",
    risk_score=72,
    title="Stranger at the door",
    summary="A stranger tries the handle.",
    reasoning="Nobody is at home.",
    created_at=NOON,
    confidence=0.9,
    category="intrusion",
    recommended_action="Look at the door.",
    evidence=("handle", "night"),
    model="nemotron-nano",
)
DETECTION = Detection(
    id=0,
    incident_id=None,
    track_id=TRACK.track_id,
    camera_id=CAMERA,
    object_type="person",
    confidence=0.81,
    detected_at=NOON,
    box=TRACK.box,
    frame_width=1280,
    frame_height=720,
)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def track(number: int = 1, *, first: float = 0, last: float = 0, **changes: Any) -> Track:
    changes |= {"first_seen_at": after(first), "last_seen_at": after(max(first, last))}
    return replace(TRACK, track_id=1_790_000_000_000 + number, **changes)


async def begin(store: Store, camera_id: str = CAMERA, *, at: float = 0) -> Incident:
    return await store.async_start_incident(
        camera_id, [track(first=at)], started_at=after(at), assessment=replace(RULES, created_at=after(at))
    )


async def add_picture(
    store: Store, incident: Incident, *, track_id: int = TRACK.track_id, score: float = 0.8, jpeg: bytes = JPEG
) -> Picture:
    picture, _ = await store.async_add_picture(
        incident.id,
        track_id,
        PictureKind.BEST,
        captured_at=NOON,
        box=TRACK.box,
        score=score,
        width=1280,
        height=720,
        jpeg=jpeg,
    )
    return picture
