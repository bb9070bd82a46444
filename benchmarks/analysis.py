"""What our side of a model's verdict costs: time, the event loop's, and how many verdicts a minute it allows.

A real Home Assistant process with the `nemotron` analyzer asks a server process of our own, which answers exactly half
a second after it has a question; by how much it is late it says in its answer. Incidents are stored with four pictures
of 1280x720 each, as the worker would report them. `overhead_ms_...` is the time from when an incident is due to be
judged until a websocket client has its verdict, less the server's.

The loop is looked at every millisecond while a verdict is made, and for as long before it while nothing is done.
`loop_block_ms_max` is the longest delay of 95 in 100 verdicts, less that of 95 in 100 of those times in which nothing
is done. Other programs on the machine are in all figures; the longest delays that are usual are `loop_busy_ms_p50` and
`loop_idle_ms_p50`, the longest of all `loop_busy_ms_max` and `loop_idle_ms_max`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
import multiprocessing
from pathlib import Path
import tempfile
import time

import numpy as np
from PIL import Image, ImageDraw

from demo.home_assistant import INTEGRATION, NO_DETECTOR, HomeAssistantProcess, WebsocketClient

from ._model_server import ANSWER_TIME, serve
from ._report import run

PROBE = Path(__file__).parent / "analysis_probe"
PICTURES = 4
SIZE = (1280, 720)
NOISE = 8.0
"""Of a sensor, in grey levels; with it a picture has the size of a real camera's."""
CONCURRENCY = 4
MARGIN = 0.05
"""Seconds between the time in which nothing is done and the time in which a verdict is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    verdicts: int = 60
    """One after another."""
    together: int = 80
    """As many at once as the limits allow."""
    gathering: int = 10
    """Seconds in which those happen, before the first of them is due."""
    cameras: int = 4
    settle: float = 15.0
    """Seconds until Home Assistant has started all it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verdict; all in ms."""

    overhead: float
    loop_idle: float
    """The loop's longest delay before the verdict was due, and until it was there."""
    loop_busy: float


def render_pictures(folder: Path) -> int:
    """Write the pictures of a scene in which somebody comes nearer; returns their mean size in bytes."""
    random = np.random.default_rng(7)
    sizes = []
    for number in range(PICTURES):
        image = Image.new("RGB", SIZE, (96, 104, 112))
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 420, *SIZE), fill=(70, 84, 66))
        draw.rectangle((60, 320, 460, 600), fill=(120, 32, 30))
        draw.ellipse((620 - 30 * number, 160, 700, 700), fill=(40, 44, 70))
        noisy = np.asarray(image) + random.normal(0.0, NOISE, (SIZE[1], SIZE[0], 3))
        buffer = BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        (folder / f"{number}.jpg").write_bytes(buffer.getvalue())
        sizes.append(len(buffer.getvalue()))
    return sum(sizes) // len(sizes)


@contextmanager
def model_server() -> Iterator[str]:
    """Run the server in a process of its own; gives its address."""
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{pipe.recv()}"
    finally:
        pipe.close()
        process.join()


class Bench:
    """A Home Assistant whose incidents are judged by the server."""

    def __init__(self, house: HomeAssistantProcess, client: WebsocketClient, entry: str, pictures: Path) -> None:
        """Use this entry of the integration, and these pictures for all incidents."""
        self._house = house
        self._client = client
        self._entry = entry
        self._pictures = str(pictures)
        self._events = 0

    async def listen(self) -> None:
        """Hear of incidents from now on."""
        self._events = await self._client.subscribe({"type": "nemotron_security/events/subscribe"})

    async def set_limits(self, **limits: int) -> None:
        """Let the analyst keep these limits, and else those of a new entry."""
        await self._house.set_options(self._entry, [{"next_step_id": "judging"}, {"limits": limits}])

    async def verdict(self) -> Verdict:
        """Let an incident happen and be judged."""
        due = await self._play(1)
        heard_at, late = await self._heard()
        took = heard_at - due
        return Verdict(
            overhead=1000 * (took - ANSWER_TIME - late),
            loop_idle=await self._longest_delay(due - MARGIN - took, due - MARGIN),
            loop_busy=await self._longest_delay(due, heard_at),
        )

    async def verdicts_per_minute(self, incidents: int) -> float:
        """Let incidents happen that are due at about the same time."""
        due = await self._play(incidents)
        for _ in range(incidents):
            heard_at, _late = await self._heard()
        return 60 * incidents / (heard_at - due)

    async def _play(self, incidents: int) -> float:
        """Return when (Unix time) the first is due."""
        play = {"type": "analysis_probe/play", "folder": self._pictures, "incidents": incidents}
        return float(await self._client.command(play))

    async def _heard(self) -> tuple[float, float]:
        """Return when (Unix time) the next verdict came, and how late (s) the server was with it."""
        while True:
            event = await self._client.event(self._events)
            heard_at = time.time()
            if event["data"].get("analyzer") == "nemotron":
                return heard_at, float(event["data"]["summary"])

    async def _longest_delay(self, begin: float, end: float) -> float:
        times = {"begin": begin, "end": end}
        return 1000 * float(await self._client.command({"type": "analysis_probe/longest", **times}))


@asynccontextmanager
async def bench(plan: Plan, pictures: Path) -> AsyncIterator[Bench]:
    """Start the server, and Home Assistant with our integration, the probe and cameras that show nothing."""
    with model_server() as url, tempfile.TemporaryDirectory() as folder:
        house = HomeAssistantProcess(
            Path(folder) / "house", extra="analysis_probe:\n", integrations=(INTEGRATION, PROBE)
        )
        async with house, house.connect() as client:
            entry = await house.add_integration([{"analyzer": "nemotron"}, {"url": url}, {}, NO_DETECTOR])
            for number in range(plan.cameras):
                answers = house.camera_answers(f"Camera {number}", stream_url=f"http://127.0.0.1:9/{number}")
                await house.add_camera(entry, [{"source": "stream"}, answers])
            await asyncio.sleep(plan.settle)
            bench = Bench(house, client, entry, pictures)
            await bench.listen()
            yield bench


async def measure_analysis(plan: Plan) -> dict[str, float]:
    """Measure everything in one run of one Home Assistant."""
    with tempfile.TemporaryDirectory() as folder:
        size = await asyncio.to_thread(render_pictures, Path(folder))
        async with bench(plan, Path(folder)) as house:
            await house.set_limits(opening_delay=1, concurrency=1, cooldown=0, calls_per_hour=3600)
            taken = [await house.verdict() for _ in range(plan.verdicts)]
            await house.set_limits(
                opening_delay=plan.gathering, concurrency=CONCURRENCY, cooldown=0, calls_per_hour=3600
            )
            per_minute = await house.verdicts_per_minute(plan.together)
    overheads = [verdict.overhead for verdict in taken]
    busy, idle = [verdict.loop_busy for verdict in taken], [verdict.loop_idle for verdict in taken]
    return {
        "overhead_ms_p50": float(np.percentile(overheads, 50)),
        "overhead_ms_p95": float(np.percentile(overheads, 95)),
        "loop_block_ms_max": float(np.percentile(busy, 95) - np.percentile(idle, 95)),
        "loop_busy_ms_p50": float(np.percentile(busy, 50)),
        "loop_idle_ms_p50": float(np.percentile(idle, 50)),
        "loop_busy_ms_max": max(busy),
        "loop_idle_ms_max": max(idle),
        "throughput_per_min": per_minute,
        "verdicts": plan.verdicts,
        "picture_kb": size / 1000,
    }


if __name__ == "__main__":
    run(lambda: asyncio.run(measure_analysis(Plan())), __doc__)
