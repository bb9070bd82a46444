"""What the integration costs Home Assistant's own process: lateness of its event loop and memory.

One Home Assistant is measured first idle, then with four cameras at 1280x720 that are looked at 5 times a second.
A probe inside the process is due every 5 ms and notes how much too late it wakes. What the machine itself adds is in
both figures; `added_p99_ms` is their difference. Home Assistant's own camera and image components are loaded in both,
as in any house that has a camera.
"""

import asyncio
from pathlib import Path
import shutil
import tempfile
import time

from demo.clips import clip
from demo.home_assistant import INTEGRATION, MODEL, HomeAssistantProcess, WebsocketClient

from ._report import Figures, run

SCENES = ("front_door", "driveway", "front_door", "driveway")
SETTLE = 20.0
MEASURE = 60.0
PROBE = Path(__file__).parent / "loop_probe"
MEGABYTE = 1_000_000


async def measure(client: WebsocketClient, seconds: float) -> tuple[list[float], int]:
    """Return the sorted delays in ms over some seconds, and the resident memory in bytes at their end."""
    await client.command({"type": "loop_probe/read"})
    await asyncio.sleep(seconds)
    reading = await client.command({"type": "loop_probe/read"})
    return sorted(lag * 1000 for lag in reading["lags"]), reading["rss"]


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which this share of the sorted values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def measure_house() -> Figures:
    """Measure both states in one run of one Home Assistant."""
    scenes = await asyncio.to_thread(lambda: [clip(name) for name in SCENES])
    with tempfile.TemporaryDirectory() as folder:
        house = HomeAssistantProcess(
            Path(folder) / "house", extra="loop_probe:\ncamera:\nimage:\n", integrations=(INTEGRATION, PROBE)
        )
        async with house, house.connect() as client:
            await asyncio.sleep(SETTLE)
            idle, idle_rss = await measure(client, MEASURE)
            entry = await house.add_integration([{"analyzer": "rules"}, *house.detector_answers(MODEL)])
            for number, scene in enumerate(scenes):
                # One camera cannot be added twice, so each has a file of its own.
                path = await asyncio.to_thread(shutil.copy, scene, Path(folder) / f"{number}.mp4")
                answers = house.camera_answers(f"Camera {number}", file_path=str(path))
                await house.add_camera(entry, [{"source": "file"}, answers])
            await asyncio.sleep(SETTLE)
            began = time.monotonic()
            busy, busy_rss = await measure(client, MEASURE)
            took = time.monotonic() - began
            worker_rss = _rss(house.worker())
    return {
        "idle_p99_ms": round(percentile(idle, 0.99), 3),
        "busy_p99_ms": round(percentile(busy, 0.99), 3),
        "added_p99_ms": round(percentile(busy, 0.99) - percentile(idle, 0.99), 3),
        "busy_p50_ms": round(percentile(busy, 0.5), 3),
        "busy_max_ms": round(busy[-1], 3),
        "added_rss_mb": round((busy_rss - idle_rss) / MEGABYTE, 1),
        "worker_rss_mb": round(worker_rss / MEGABYTE, 1),
        "seconds": round(took),
    }


def _rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


if __name__ == "__main__":
    run(lambda: asyncio.run(measure_house()), __doc__)
