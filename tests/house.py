"""A loaded entry of the integration, in a real Home Assistant with the real worker."""

import asyncio
from collections.abc import Callable, Mapping
from io import BytesIO
import time
from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from PIL import Image
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraState,
    CameraStatus,
    FrameTracks,
    Report,
    TrackPicture,
    TrackState,
)

CAMERA = "01JCAMERAFRONTDOOR00000000"
ABSENT_FILE = {"source": "file", "file_path": "/absent/clip.mp4"}
PORCH = {
    "id": "5d1c09aa",
    "name": "Porch",
    "points": [[0.1, 0.5], [0.6, 0.5], [0.6, 1.0], [0.1, 1.0]],
    "labels": ["person"],
    "dwell": 1.5,
    "inertia": 2,
}
GATE = {
    "id": "77e0b3f2",
    "name": "Gate",
    "start": [0.2, 0.6],
    "end": [0.45, 0.58],
    "direction": "to_left",
    "labels": [],
}
TREE = {
    "id": "0badcafe",
    "name": "Tree",
    "points": [[0.7, 0.0], [1.0, 0.0], [1.0, 0.4]],
    "motion": True,
    "objects": True,
    "labels": ["bird"],
}


def make_entry(
    *cameras: Mapping[str, Any], options: Mapping[str, Any] | None = None, data: Mapping[str, Any] | None = None
) -> MockConfigEntry:
    """Return an entry with these cameras; the first has the id CAMERA and the title Front door."""
    return MockConfigEntry(
        domain=DOMAIN,
        entry_id="01JENTRY000000000000000000",
        title="Nemotron Home Security",
        data={"analyzer": "rules", **(data or {})},
        options=options or {},
        subentries_data=[
            {
                "subentry_id": CAMERA if number == 0 else f"{CAMERA[:-1]}{number}",
                "subentry_type": "camera",
                "title": "Front door" if number == 0 else f"Camera {number}",
                "unique_id": f"camera {number}",
                "data": dict(camera),
            }
            for number, camera in enumerate(cameras)
        ],
    )


async def async_set_up(hass: HomeAssistant, entry: MockConfigEntry) -> MockConfigEntry:
    """Load the entry."""
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED
    return entry


async def async_report(hass: HomeAssistant, entry: MockConfigEntry, *reports: Report) -> None:
    """Let the worker's side of the pipe say something, and wait until all that follows is done."""
    for report in reports:
        entry.runtime_data.executor._listener(report)  # the edge between the two processes
    await async_settle(hass, entry)


async def async_settle(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    """Wait until the store has taken everything and it was announced."""
    async with asyncio.timeout(10):
        while entry.runtime_data.incidents.busy:
            await asyncio.sleep(0.01)
    await hass.async_block_till_done()


async def async_until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Wait until something is so; the worker needs a second on an idle machine and many on a busy one."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def online(camera_id: str = CAMERA, at: float | None = None) -> CameraState:
    """The first frame came."""
    return CameraState(camera_id=camera_id, status=CameraStatus.ONLINE, at=at or time.time())


def person(
    track_id: int = 1, *, at: float, since: float | None = None, label: str = "person", **changes: Any
) -> TrackState:
    """A walking, confirmed object."""
    values: dict[str, Any] = {
        "track_id": track_id,
        "label": label,
        "confidence": 0.85,
        "score": 0.9,
        "box": Box(100.0, 200.0, 180.0, 420.0),
        "first_seen_at": at if since is None else since,
        "last_seen_at": at,
        "confirmed": True,
        "moved": True,
        "stationary": False,
    }
    return TrackState(**values | changes)


def frame(*tracks: TrackState, at: float, frame_id: int = 1, camera_id: str = CAMERA) -> FrameTracks:
    """What the detector said of one frame of 1280x720."""
    return FrameTracks(
        camera_id=camera_id, frame_id=frame_id, captured_at=at, width=1280, height=720, tracks=tuple(tracks)
    )


def jpeg(shade: int = 128) -> bytes:
    """A small grey picture."""
    buffer = BytesIO()
    Image.new("RGB", (64, 36), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


def picture_of(track_id: int, *, at: float, shade: int = 128, score: float = 0.9) -> TrackPicture:
    """The best view of a track so far."""
    return TrackPicture(
        camera_id=CAMERA,
        track_id=track_id,
        captured_at=at,
        box=Box(10.0, 5.0, 30.0, 35.0),
        score=score,
        width=64,
        height=36,
        data=jpeg(shade),
    )
