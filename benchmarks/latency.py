"""Time to know: from the first frame that shows an object until `new_event` is at a websocket client.

A real Home Assistant watches real HTTP streams, 5 frames a second. Each stream is a rendered scene cut so that a person
is suddenly there: the moment is exact. The clock starts when the server hands that frame to the socket and stops when
the client has read the message; in between lie the network, the decoder, the motion gate, the detector, the tracker's
confirmation (three sights), the rules, the store and the websocket.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
import tempfile
import time

from aiohttp import web
import av
import numpy as np

from demo.home_assistant import MODEL, HomeAssistantProcess
from demo.scenes import render
from demo.stream_server import transport_stream

from ._report import Figures, run

SCENE = "front_door"
FPS = 15
EMPTY_SECONDS = 10.0
SHOWN_SECONDS = 3.0
CAMERAS = 2
INCIDENTS = 30
OPTIONS = {"quiet_time": 3, "maximum_length": 300}
CONFIRMED_AFTER_LIMIT = 9.0
"""Seconds after which an appearance counts as missed."""


def cut_clip(folder: Path) -> Path:
    """Write the clip: an empty scene, then at once a person who is already in full view."""
    truth = render(SCENE, folder / "scene.mp4", fps=FPS)
    empty = next(frame.index for frame in truth.frames if not frame.objects)
    shown = next(
        frame.index
        for frame in truth.frames
        if any(found.label == "person" and found.visible > 0.95 for found in frame.objects)
    )
    with av.open(str(folder / "scene.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in _first(container, shown + int(SHOWN_SECONDS * FPS))]
    order = [empty] * int(EMPTY_SECONDS * FPS) + list(range(shown, len(pictures)))
    path = folder / "cut.mp4"
    with av.open(str(path), "w") as output:
        # As cameras encode: no B-frames, which would hold pictures back.
        stream = output.add_stream("libx264", rate=FPS, options={"tune": "zerolatency", "bf": "0", "g": str(FPS)})
        stream.width, stream.height, stream.pix_fmt = truth.width, truth.height, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for index in order:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[index], format="rgb24")))
        output.mux(stream.encode(None))
    return path


def _first(container: av.container.InputContainer, count: int) -> Iterator[av.VideoFrame]:
    for index, frame in enumerate(container.decode(video=0)):
        if index >= count:
            return
        yield frame


@dataclass(slots=True)
class Stage:
    """Streams the clip to each camera and notes when the person was shown."""

    clip: Path
    shown_at: dict[str, list[float]] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Stream at the clip's own pace, for ever."""
        name = request.match_info["name"]
        shown = self.shown_at.setdefault(name, [])
        response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await response.prepare(request)
        start = time.monotonic()
        length = EMPTY_SECONDS + SHOWN_SECONDS
        passes = 0
        with suppress(ConnectionError):
            for due, chunk in transport_stream(self.clip):
                await asyncio.sleep(start + due - time.monotonic())
                if due >= passes * length + EMPTY_SECONDS - 0.5 / FPS:
                    passes += 1
                    shown.append(time.monotonic())
                await response.write(chunk)
        return response


async def measure(folder: Path) -> Figures:
    """Run one Home Assistant until enough incidents were announced."""
    stage = Stage(await asyncio.to_thread(cut_clip, folder))
    application = web.Application()
    application.router.add_get("/{name}.ts", stage.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        return await _measure_house(folder, stage, port)
    finally:
        await runner.cleanup()


async def _measure_house(folder: Path, stage: Stage, port: int) -> Figures:
    async with HomeAssistantProcess(folder / "house") as house, house.connect() as client:
        entry = await house.add_integration([{"analyzer": "rules"}, *house.detector_answers(MODEL)])
        await house.set_options(entry, [{"next_step_id": "incidents"}, OPTIONS])
        events = await client.subscribe({"type": "nemotron_security/events/subscribe"})
        adding = asyncio.create_task(_add_cameras(house, entry, port))
        arrivals: list[tuple[str, float]] = []
        deadline = time.monotonic() + (EMPTY_SECONDS + SHOWN_SECONDS) * (INCIDENTS / CAMERAS + 3)
        with suppress(TimeoutError):
            while len(arrivals) < INCIDENTS:
                message = await client.event(events, timeout=max(0.1, deadline - time.monotonic()))
                if message["type"] == "new_event":
                    arrivals.append((message["data"]["camera_id"], time.monotonic()))
        await adding
        cameras = await client.command({"type": "config_entries/subentries/list", "entry_id": entry})
        names = {camera["subentry_id"]: camera["title"] for camera in cameras}
        appearances = sum(len(shown) for shown in stage.shown_at.values())
    delays = [at - max(shown for shown in stage.shown_at[names[camera]] if shown <= at) for camera, at in arrivals]
    found = [delay for delay in delays if delay < CONFIRMED_AFTER_LIMIT]
    # Somebody may just be shown as the measurement ends; every other appearance without an incident is a miss.
    missed = max(0, appearances - len(found) - CAMERAS)
    found += [CONFIRMED_AFTER_LIMIT] * missed
    return {
        "p50_s": float(np.percentile(found, 50)) if found else None,
        "p95_s": float(np.percentile(found, 95)) if found else None,
        "max_s": max(found, default=None),
        "incidents": len(found) - missed,
        "missed": missed,
        "appearances": appearances,
    }


async def _add_cameras(house: HomeAssistantProcess, entry: str, port: int) -> None:
    """Add the cameras one after the other, so that their visitors do not all come at once."""
    for number in range(CAMERAS):
        url = f"http://127.0.0.1:{port}/{number}.ts"
        await house.add_camera(entry, [{"source": "stream"}, house.camera_answers(f"{number}", stream_url=url)])
        await asyncio.sleep((EMPTY_SECONDS + SHOWN_SECONDS) / CAMERAS)


def main() -> Figures:
    """Measure in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    run(main, __doc__)
