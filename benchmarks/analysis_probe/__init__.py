"""A probe inside Home Assistant: lets incidents with pictures happen, and watches how late the event loop is."""

import asyncio
from bisect import bisect
from collections.abc import Sequence
import itertools
from pathlib import Path
import time
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.typing import ConfigType
import probatio as vol

from custom_components.nemotron_security.runtime import NemotronSecurityConfigEntry, Runtime
from custom_components.nemotron_security.vision.messages import Box, FrameTracks, TrackPicture, TrackState

DOMAIN = "analysis_probe"
PERIOD = 0.001
"""Seconds between two looks at the loop."""
SIZE = (1280, 720)
BOXES = {"person": Box(500, 160, 700, 700), "car": Box(60, 320, 460, 600)}
"""What takes part in each incident. Of each the first view and the best are kept: four pictures."""
APART = 1.2
"""Seconds between two pictures."""


PATIENCE = 30.0
"""Seconds after which all incidents should be stored. One that is judged by then waits no more, and is not seen to."""


class LoopWatch:
    """Notes how late the loop wakes."""

    def __init__(self) -> None:
        """Begin without a look."""
        self._due_at: list[float] = []
        self._late: list[float] = []

    async def run(self) -> None:
        """Look again and again, on a fixed grid."""
        due = time.time()
        while True:
            due = max(due + PERIOD, time.time())
            await asyncio.sleep(max(0.0, due - time.time()))
            self._due_at.append(due)
            self._late.append(max(0.0, time.time() - due))

    def longest(self, begin: float, end: float) -> float:
        """Return the longest delay (s) between two times of the clock, and forget what was before the first."""
        first = bisect(self._due_at, begin)
        del self._due_at[:first], self._late[:first]
        return max(self._late[: bisect(self._due_at, end)], default=0.0)


class Stage:
    """Lets two objects come before a camera, as the worker would report it."""

    def __init__(self, runtime: Runtime, pictures: Sequence[bytes]) -> None:
        """Show these pictures."""
        self._incidents = runtime.incidents
        self._pictures = pictures
        self._track_ids = itertools.count(time.time_ns() // 1_000_000)
        self._frame_ids = itertools.count(1)

    def play(self, camera_id: str) -> None:
        """Let an incident begin, be seen four times and end."""
        now = time.time()
        tracks = tuple(self._track(label, now) for label in BOXES)
        width, height = SIZE
        self._incidents.handle_tracks(
            FrameTracks(
                camera_id=camera_id,
                frame_id=next(self._frame_ids),
                captured_at=now,
                width=width,
                height=height,
                tracks=tracks,
            )
        )
        for number, picture in enumerate(self._pictures):
            track = tracks[number % len(tracks)]
            self._incidents.handle_picture(
                TrackPicture(
                    camera_id=camera_id,
                    track_id=track.track_id,
                    captured_at=now - APART * (len(self._pictures) - 1 - number),
                    box=track.box,
                    score=0.5 + number / 10,
                    width=width,
                    height=height,
                    data=picture,
                )
            )
        self._incidents.camera_removed(camera_id)

    def _track(self, label: str, now: float) -> TrackState:
        return TrackState(
            track_id=next(self._track_ids),
            label=label,
            confidence=0.9,
            score=0.9,
            box=BOXES[label],
            first_seen_at=now - APART * len(self._pictures),
            last_seen_at=now,
            confirmed=True,
            moved=True,
            stationary=False,
        )


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer the commands, and look at the loop from now on."""
    watch = LoopWatch()
    hass.async_create_background_task(watch.run(), "loop watch")

    def runtime() -> Runtime:
        entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries("nemotron_security")
        return entries[0].runtime_data

    @websocket_api.websocket_command(
        {vol.Required("type"): f"{DOMAIN}/play", vol.Required("folder"): str, vol.Required("incidents"): int}
    )
    @websocket_api.async_response
    async def play(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Let so many incidents happen, camera by camera, with the pictures of a folder.

        Returns when (Unix time) the first is due, once all are stored and wait for the model.
        """
        files = await asyncio.to_thread(lambda: sorted(Path(message["folder"]).glob("*.jpg")))
        stage = Stage(runtime(), [await asyncio.to_thread(file.read_bytes) for file in files])
        cameras = itertools.cycle(list(runtime().cameras))
        for camera_id in itertools.islice(cameras, message["incidents"]):
            stage.play(camera_id)
            while runtime().incidents.busy:  # noqa: ASYNC110  it has no event; too many pictures would be dropped
                await asyncio.sleep(PERIOD)
        try:
            async with asyncio.timeout(PATIENCE):
                wanted = message["incidents"]
                while (backlog := await runtime().store.async_backlog()).waiting < wanted:  # noqa: ASYNC110
                    await asyncio.sleep(PERIOD)
        except TimeoutError:
            connection.send_error(
                message["id"], "too_slow", "Some were judged before all were stored: too much else runs"
            )
            return
        assert backlog.oldest_due_at is not None
        connection.send_result(message["id"], backlog.oldest_due_at.timestamp())

    @websocket_api.websocket_command(
        {
            vol.Required("type"): f"{DOMAIN}/longest",
            vol.Required("begin"): vol.Coerce(float),
            vol.Required("end"): vol.Coerce(float),
        }
    )
    @callback
    def longest(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Return the loop's longest delay (s) between two times."""
        connection.send_result(message["id"], watch.longest(message["begin"], message["end"]))

    for command in (play, longest):
        websocket_api.async_register_command(hass, command)
    return True
