"""Cases, tracks and houses for the tests of the analyzers."""

from datetime import UTC, datetime, timedelta
from typing import Any

from custom_components.nemotron_security.analysis import Case
from custom_components.nemotron_security.models import Box, CameraView, House, Opening, Track, Visit

DAY = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NIGHT = datetime(2026, 6, 1, 23, 30, tzinfo=UTC)


def track(label: str = "person", *, track_id: int = 1, begin: float = 0, dwell: float = 12, **changes: Any) -> Track:
    """Make a track that begins `begin` seconds after noon."""
    first = DAY + timedelta(seconds=begin)
    values: dict[str, Any] = {
        "track_id": track_id,
        "label": label,
        "confidence": 0.9,
        "first_seen_at": first,
        "last_seen_at": first + timedelta(seconds=dwell),
        "box": Box(100, 100, 200, 400),
        "frame_width": 1280,
        "frame_height": 720,
    }
    return Track(**values | changes)


def house(**facts: Any) -> House:
    """Make a house that knows nothing but the time and these facts."""
    return House(**{"at": DAY} | facts)


def opening(name: str = "Kitchen window", *, is_open: bool | None = True, **facts: Any) -> Opening:
    """Make a door or window that is open."""
    return Opening(name=name, open=is_open, **facts)


def visit(title: str = "Parcel", *, begin: float = -1, end: float = 1, at: datetime = DAY, **facts: Any) -> Visit:
    """Make a visit from and to so many hours after a time."""
    return Visit(title=title, begin=at + timedelta(hours=begin), end=at + timedelta(hours=end), **facts)


def case(
    *tracks: Track, name: str = "Front door", note: str | None = None, view: CameraView | None = None, **facts: Any
) -> Case:
    """Make a case of these tracks (one person, if none is given) in a house with these facts."""
    return Case(
        camera_id="01CAMERA",
        camera_name=name,
        started_at=DAY,
        tracks=tracks or (track(),),
        house=house(**facts),
        note=note,
        view=view,
    )
