"""How many cameras one machine holds, and how their cost grows.

Cameras of 1280x720 and 5 frames a second (a rendered front door, past which a dog runs every 20 seconds, played at its
own pace) are watched by the real worker process with the committed demo model (or the one that MODEL names). All
cameras show the same scene, at four different times of it, so that some of them see the dog at any time. For 1, 2, 4, 8
and 16 cameras the worker's processor time is measured over one round of the scene; then there are more and more, until
they are not held any more.

`held` is the largest number of cameras of which every frame that showed motion was looked at, and nearly all frames
were read in time; `dropped` is the share of frames with motion that were not looked at, for all up to 16 cameras.
`growth_exponent` is the slope of the processor time over the number of cameras, both in logarithms, fitted to the
numbers that were held: 1 is proportional. Set WORKERS to spread the cameras over several processes. `looks_per_s_N` are
frames that went through the detector.
"""

import asyncio
from dataclasses import dataclass
from fractions import Fraction
import math
import os
from pathlib import Path

import av
from av.video.stream import VideoStream
import numpy as np

from benchmarks import _report
from custom_components.nemotron_security.vision.messages import (
    CameraConfig,
    CameraState,
    CameraStatus,
    DetectorConfig,
    DetectorState,
    Heartbeat,
    Report,
    Source,
    SourceKind,
)
from custom_components.nemotron_security.vision.pool import WorkerPool
from demo.clips import FOLDER, clip, clip_path
from demo.home_assistant import REPOSITORY

MODEL = os.environ.get("MODEL", str(REPOSITORY / "demo" / "detector" / "model"))
WORKERS = int(os.environ.get("WORKERS", "1"))
SCENE = "front_door"
BEGIN = 28
FPS = 5
SECONDS = 20
"""Where the round begins in the scene, and how long it is: the dog is there for about three of them."""
TURNS = 4
"""So many copies of the scene begin at different times of it."""
GROWTH = (1, 2, 4, 8, 16)
MORE = (24, 32, 48, 64, 96, 128)
IN_TIME = 0.98
"""Share of the frames that must be looked for motion in: the others were not read in time."""
PATIENCE = 90.0


def footage() -> list[Path]:
    """Return the scene at 5 frames a second, once from each beginning; made if nobody did before."""
    paths = [FOLDER / f"{clip_path(SCENE).stem}-{FPS}fps-{turn}.mp4" for turn in range(TURNS)]
    if not all(path.exists() for path in paths):
        with av.open(str(clip(SCENE))) as container:
            stream = container.streams.video[0]
            step = round(float(stream.average_rate or FPS) / FPS)
            pictures = list(container.decode(stream))[::step][BEGIN * FPS : (BEGIN + SECONDS) * FPS]
        for turn, path in enumerate(paths):
            begin = turn * len(pictures) // TURNS
            _write(path, pictures[begin:] + pictures[:begin])
    return paths


def _write(path: Path, pictures: list[av.VideoFrame]) -> None:
    part = path.with_suffix(f".{os.getpid()}.mp4")
    with av.open(str(part), "w", options={"movflags": "+faststart"}) as container:
        options = {"preset": "veryfast", "crf": "24", "g": str(FPS), "bf": "0"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        assert isinstance(stream, VideoStream)
        (stream.width, stream.height), stream.pix_fmt = (pictures[0].width, pictures[0].height), "yuv420p"
        for number, picture in enumerate(pictures):
            copy = picture.reformat(format="yuv420p")
            copy.pts, copy.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(copy))
        container.mux(stream.encode())
    part.replace(path)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round with so many cameras came to."""

    cameras: int
    cpu: float
    """Processor seconds of the workers in a second."""
    looked: float
    """Frames a second and camera in which motion was looked for."""
    inferred: float
    """Frames a second that went through the detector, of all cameras."""
    skipped: int
    rss: int

    @property
    def is_held(self) -> bool:
        """Whether every frame that showed motion was looked at, and nearly all were read in time to tell."""
        return self.skipped == 0 and self.looked >= IN_TIME * FPS


class _Listener:
    def __init__(self, cameras: int) -> None:
        self._cameras = cameras
        self._online: set[str] = set()
        self.watching = asyncio.Event()
        self.detecting = asyncio.Event()
        self.beats: list[Heartbeat] = []

    def __call__(self, report: Report) -> None:
        match report:
            case CameraState():
                if report.status is CameraStatus.ONLINE:
                    self._online.add(report.camera_id)
                if len(self._online) == self._cameras:
                    self.watching.set()
            case DetectorState(problem=None):
                self.detecting.set()
            case Heartbeat():
                self.beats.append(report)


async def play(cameras: int, paths: list[Path]) -> Round:
    """Watch so many cameras for a round."""
    listener = _Listener(cameras)
    pool = WorkerPool(listener, workers=WORKERS, heartbeat_timeout=PATIENCE)
    pool.set_detector(DetectorConfig(model=MODEL, threads=1))
    for number in range(cameras):
        source = Source(kind=SourceKind.FILE, location=str(paths[number % len(paths)]))
        pool.set_camera(CameraConfig(camera_id=f"camera {number}", source=source, fps=FPS, labels=("person", "dog")))
    await pool.async_start()
    try:
        async with asyncio.timeout(PATIENCE):
            await listener.detecting.wait()
            await listener.watching.wait()
        await asyncio.sleep(3)  # the first looks, and what was skipped while the model was loaded
        listener.beats.clear()
        loop = asyncio.get_running_loop()
        begun, spent = loop.time(), _cpu_seconds(pool.pids)
        await asyncio.sleep(SECONDS)
        spent, took = _cpu_seconds(pool.pids) - spent, loop.time() - begun
        beats = list(listener.beats)
    finally:
        await pool.async_stop()
    reports = [report for beat in beats for report in beat.cameras]
    return Round(
        cameras,
        cpu=spent / took,
        looked=sum(report.fps for report in reports) / max(1, len(reports)),
        inferred=sum(report.inference_fps for report in reports) / max(1, len(beats)),
        skipped=sum(report.skipped for report in reports),
        rss=max((beat.rss for beat in beats), default=0),
    )


def _cpu_seconds(pids: tuple[int, ...]) -> float:
    """Return the processor time that these processes used so far, all of their threads."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure() -> _report.Figures:
    """Watch more and more cameras."""
    paths = footage()
    rounds: list[Round] = []
    for cameras in (*GROWTH, *MORE):
        rounds.append(asyncio.run(play(cameras, paths)))
        print(_line(rounds[-1]), flush=True)
        if cameras >= GROWTH[-1] and not rounds[-1].is_held:
            break
    if (between := _between(rounds)) is not None:
        rounds.append(asyncio.run(play(between, paths)))
        print(_line(rounds[-1]), flush=True)
    return _figures(rounds)


def _line(done: Round) -> str:
    return (
        f"{done.cameras:3} cameras  {done.cpu:.3f} processors  {done.looked:.2f} frames a second each"
        f"  {done.inferred:.1f} looks a second  {done.skipped} skipped  {done.rss / 1e6:.0f} MB"
    )


def _between(rounds: list[Round]) -> int | None:
    """Return a number of cameras to try between the last that were held and the first that were not."""
    held = max((done.cameras for done in rounds if done.is_held), default=0)
    lost = min((done.cameras for done in rounds if not done.is_held and done.cameras > held), default=0)
    return (held + lost) // 2 if lost - held > 1 else None


def _figures(rounds: list[Round]) -> _report.Figures:
    held = [done for done in rounds if done.is_held]
    growth = [done for done in held if done.cameras in GROWTH]
    small = [done for done in rounds if done.cameras in GROWTH]
    skipped = sum(done.skipped for done in small)
    figures: dict[str, _report.Figure] = {
        "held": max((done.cameras for done in held), default=0),
        "dropped": skipped / max(1.0, skipped + sum(done.inferred * SECONDS for done in small)),
        "growth_exponent": _slope(growth),
        "workers": WORKERS,
    }
    if len(growth) < len(GROWTH):
        figures["growth_note"] = f"fitted to {', '.join(str(done.cameras) for done in growth)} cameras"
    for done in rounds:
        figures |= {
            f"cpu_{done.cameras}": done.cpu,
            f"looks_per_s_{done.cameras}": done.inferred,
            f"skipped_{done.cameras}": done.skipped,
            f"rss_mb_{done.cameras}": done.rss / 1e6,
        }
    return figures


def _slope(rounds: list[Round]) -> float | None:
    if len(rounds) < 3:
        return None
    numbers = np.log([done.cameras for done in rounds])
    return float(np.polyfit(numbers, [math.log(done.cpu) for done in rounds], 1)[0])


if __name__ == "__main__":
    _report.run(measure, __doc__)
