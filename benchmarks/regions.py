"""What regions are worth: small people in 1080p pictures, found by a model whose input is 320 pixels wide.

People of 30 to 60 pixels' height walk through a wide yard that is rendered in 1920x1080 (kept in .cache/scenes), 5
frames a second. The same footage goes twice through the worker's own pipeline, motion gate and tracker included: once
as it is, so that the detector looks at regions around what moves, and once with the whole frame in their place. Nothing
is told to it but the pixels.

Recall is the share of all people in all frames that have a track which was seen in that very frame and overlaps them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
import os
from pathlib import Path
from random import Random
import threading
from typing import override

from benchmarks import _report
from benchmarks.scenes import iou
from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraConfig,
    DetectorConfig,
    FrameTracks,
    Source,
    SourceKind,
)
from custom_components.nemotron_security.vision.motion import Motion
from custom_components.nemotron_security.vision.pipeline import CameraPipeline, LoadedDetector, Prepared
from custom_components.nemotron_security.vision.regions import Region
from custom_components.nemotron_security.vision.sources import open_source
from custom_components.nemotron_security.vision.watch import follow
from demo.clips import FOLDER
from demo.home_assistant import REPOSITORY
from demo.scenes import GroundTruth, SceneScript, render_script
from demo.scenes.geometry import Camera
from demo.scenes.script import Actor, Kind, Light, Sky, Stop, Weather
from demo.scenes.settings import PLACES, Painter, Setting

OWN_MODEL = REPOSITORY / "demo" / "detector" / "model"
COCO_MODEL = REPOSITORY.parent / "shared" / "models" / "yolo11n_320_ncnn_model"
FPS = 5.0
SMALLEST, LARGEST = 30, 60
"""Pixels of height."""
VISIBLE = 0.5
OVERLAP = 0.4
"""IoU from which a track counts as being on a person: at 12 pixels' width, 3 pixels are a lot."""


# --- the footage ------------------------------------------------------------------------------------------------------


def _wide_yard(rng: Random, _jitter: float) -> Setting:
    """Paint a yard that a wide-angle camera (114 degrees) overlooks: who is 18 to 33 metres away is 60 to 30 pixels."""
    painter = Painter(Camera(height=4.0, pitch=0.2, focal=620, width=1920, rows=1080), rng)
    painter.sky(0.5)
    painter.ground((98, 122, 62))
    painter.area([(-30, 16), (30, 16), (30, 36), (-30, 36)], (148, 140, 134), slab=0.8)
    painter.area([(-3, 1), (3, 1), (3, 16), (-3, 16)], (160, 154, 144), slab=0.45)
    painter.finish_ground()
    for left in (-38.0, -20.0, 2.0, 22.0):
        painter.house(left, left + 14, 42, 6.0)
    for x, z in ((-16.0, 39.0), (0.0, 39.0), (18.0, 38.5), (-9.0, 14.0), (11.0, 13.0)):
        painter.tree(x, z, 5.5)
    return painter.finish("wide_yard", [])


PLACES["wide_yard"] = _wide_yard


def _walker(look: int, *stops: tuple[float, float, float]) -> Actor:
    return Actor(kind=Kind.PERSON, stops=tuple(Stop(*stop) for stop in stops), look=look)


_YARD = SceneScript(name="yard_day", description="People cross a yard far away.", setting="wide_yard", seconds=24)
YARDS = (
    replace(
        _YARD,
        actors=(
            _walker(11, (1, -24, 20), (23, 8, 24)),
            _walker(23, (3, 22, 30), (22, -6, 26)),
            _walker(35, (6, -10, 31), (14, -4, 20), (23, 14, 19)),
        ),
    ),
    replace(
        _YARD,
        name="yard_overcast",
        light=Light(sky=Sky.OVERCAST),
        weather=Weather(rain=0.3, wind=0.3),
        noise=2.5,
        actors=(
            _walker(41, (2, 20, 22), (22, -14, 28)),
            _walker(52, (5, -18, 27), (12, -8, 27), (15, -8, 27), (23, 4, 22)),
        ),
    ),
    replace(
        _YARD,
        name="yard_alone",
        noise=3.0,
        actors=(_walker(64, (2, -2, 33), (9, 1, 25), (11, 1, 25), (22, 18, 20)),),
    ),
)


def footage(script: SceneScript) -> Path:
    """Return the video of a yard; renders it if nobody did before."""
    sources = [Path(__file__), *sorted((REPOSITORY / "demo" / "scenes").glob("*.py"))]
    version = sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:12]
    path = FOLDER / f"{script.name}-{version}.mp4"
    if not path.exists():
        print(f"Rendering the scene {script.name} (once) ...", flush=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.mp4")
        render_script(script, part, fps=FPS)
        part.with_suffix(".json").replace(path.with_suffix(".json"))
        part.replace(path)
    return path


# --- the measurement --------------------------------------------------------------------------------------------------


class _WholeFrames(CameraPipeline):
    """Looks at the whole frame whenever it looks."""

    @override
    def prepare(self, frame: Frame, motion: Motion, loaded: LoadedDetector, *, limit: int = 1) -> Prepared:
        prepared = super().prepare(frame, motion, loaded, limit=limit)
        return replace(prepared, regions=[Region(0, 0, frame.width, frame.height)], pictures=[frame.rgb()])


@dataclass(slots=True)
class Count:
    """People in frames, and how many of them were found, and found by a track that counts."""

    people: int = 0
    found: int = 0
    confirmed: int = 0
    looks: int = 0
    pictures: int = 0

    def recall(self) -> float:
        """Return the share that was found."""
        return self.found / self.people


def small_people(truth: GroundTruth) -> Iterator[list[Box]]:
    """Yield for each frame the boxes of the people that it is about."""
    for frame in truth.frames:
        boxes = [Box(*found.box) for found in frame.objects if found.label == "person" and found.visible >= VISIBLE]
        yield [box for box in boxes if SMALLEST <= box.height <= LARGEST]


def watch(script: SceneScript, kind: type[CameraPipeline], loaded: LoadedDetector, into: Count) -> None:
    """Take one video through a pipeline."""
    path = footage(script)
    people = list(small_people(GroundTruth.load(path.with_suffix(".json"))))
    source = Source(kind=SourceKind.FILE, location=str(path), loop=False, realtime=False)
    config = CameraConfig(camera_id=script.name, source=source, fps=FPS)
    into.people += sum(map(len, people))
    with open_source(source, fps=0, stop=threading.Event()) as frames:
        for frame, reports, _ in follow(frames, kind(config, count(1)), loaded):
            for report in (report for report in reports if isinstance(report, FrameTracks)):
                into.looks += 1
                seen = [track for track in report.tracks if track.last_seen_at == report.captured_at]
                truth = people[min(round(frame.captured_at * FPS), len(people) - 1)]
                for box in truth:
                    on_it = [track for track in seen if iou(track.box, box) >= OVERLAP]
                    into.found += bool(on_it)
                    into.confirmed += any(track.confirmed for track in on_it)


def measure() -> _report.Figures:
    """Watch all yards with each model that is there."""
    figures: dict[str, _report.Figure] = {}
    for name, model in (("", OWN_MODEL), ("coco_", COCO_MODEL)):
        if not model.is_dir():
            figures[f"{name}recall_ratio"] = None
            figures[f"{name}note"] = "the model is not there"
            continue
        loaded = LoadedDetector.load(DetectorConfig(model=str(model)))
        regions, whole = Count(), Count()
        for script in YARDS:
            watch(script, CameraPipeline, loaded, regions)
            watch(script, _WholeFrames, loaded, whole)
            print(
                f"{script.name:14} {model.name:24} regions {regions.recall():.3f} whole {whole.recall():.3f}",
                flush=True,
            )
        loaded.detector.close()
        figures |= {
            f"{name}people": regions.people,
            f"{name}recall_regions": regions.recall(),
            f"{name}recall_whole": whole.recall(),
            f"{name}confirmed_regions": regions.confirmed / regions.people,
            f"{name}confirmed_whole": whole.confirmed / whole.people,
            # Where the whole frame shows nothing at all, one person is counted for it.
            f"{name}recall_ratio": regions.found / max(1, whole.found),
            f"{name}looks": regions.looks,
        }
    return figures


if __name__ == "__main__":
    _report.run(measure, __doc__)
