"""Try a detector before it is chosen: the child's side. Prints one JSON line, a `Trial`, and ends with 0."""

from collections.abc import Sequence
import json
import os
import sys
import threading
import time
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from . import wire
from .detectors import Detector, DetectorError, Picture
from .messages import DetectorConfig, Problem
from .outbox import claim_stdout
from .pipeline import LoadedDetector
from .redact import redact
from .trial import Trial
from .worker import NICENESS, versions

_WIDTH, _HEIGHT = 1280, 720
_RUNS, _FEWEST, _SECONDS = 15, 3, 2.0
"""A measurement: so many runs at most and at least, and about so many seconds."""
_BATCHES: Final = (2, 4, 8, 16)
_GAIN = 1.25
"""A batch pays when so many times as many pictures go through."""


def main(arguments: Sequence[str]) -> int:
    """Try the detector whose config is on stdin; the process's exit status is 0 whatever comes of it."""
    said = claim_stdout()
    threading.Thread(target=_leave_with, args=(os.getppid(),), name="orphan", daemon=True).start()
    os.nice(NICENESS)
    said.write(json.dumps(wire.to_plain(_tried(sys.stdin.buffer.read()))).encode() + b"\n")
    sys.stderr.flush()
    # A plug-in's threads, or a library that crashes while it is unloaded, do not matter any more.
    os._exit(0)


def _leave_with(parent: int) -> None:
    """End the process when its parent is gone: nobody waits for the result."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _tried(question: bytes) -> Trial:
    config = wire.from_plain(DetectorConfig, json.loads(question))
    try:
        return _measured(LoadedDetector.load(config))
    except DetectorError as err:
        return Trial(problem=err.problem, detail=err.detail, versions=versions())
    except Exception as err:  # noqa: BLE001  # any cause is a result
        words = redact(f"{type(err).__name__}: {err}", config.token)
        return Trial(problem=Problem.DETECTOR_BROKEN, detail=words, versions=versions())


def _measured(loaded: LoadedDetector) -> Trial:
    detector, picture = loaded.detector, rendered_picture()
    one = _median(detector, [picture])
    batch, batch_fps = 1, 1 / one
    for size in _BATCHES:
        fps = size / _median(detector, [picture] * size)
        if fps < batch_fps * _GAIN:
            break
        batch, batch_fps = size, fps
    return Trial(
        problem=None,
        labels=loaded.labels,
        width=detector.width,
        height=detector.height,
        ms=round(one * 1000, 2),
        fps=round(1 / one, 2),
        batch=batch,
        batch_fps=round(batch_fps, 2) if batch > 1 else None,
        device=loaded.device,
        threads=loaded.threads,
        versions=versions(),
    )


def _median(detector: Detector, pictures: list[Picture]) -> float:
    """Return the median time in seconds of a run on these pictures; the first run is not counted."""
    detector.detect(pictures)
    times: list[float] = []
    ends = time.perf_counter() + _SECONDS
    while len(times) < _FEWEST or (len(times) < _RUNS and time.perf_counter() < ends):
        begun = time.perf_counter()
        detector.detect(pictures)
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def rendered_picture() -> Picture:
    """Return a picture of 1280x720 with a house, a car, a figure and some noise: like a camera's, and of nobody."""
    rows = np.linspace(190, 90, _HEIGHT)[:, None, None] + np.array([-20.0, 0.0, 20.0])
    noise = np.random.default_rng(1).normal(0, 4, (_HEIGHT, _WIDTH, 1))
    image = Image.fromarray(np.clip(rows + noise, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((80, 120, 560, 460), fill=(150, 120, 100))
    draw.rectangle((250, 260, 350, 460), fill=(70, 50, 40))
    draw.rounded_rectangle((720, 430, 1100, 560), 40, fill=(40, 60, 120))
    draw.ellipse((770, 530, 840, 600), fill=(20, 20, 20))
    draw.ellipse((980, 530, 1050, 600), fill=(20, 20, 20))
    draw.ellipse((600, 300, 640, 345), fill=(200, 160, 140))
    draw.rounded_rectangle((590, 345, 650, 460), 14, fill=(60, 90, 60))
    draw.rectangle((596, 455, 618, 560), fill=(40, 40, 60))
    draw.rectangle((624, 455, 646, 560), fill=(40, 40, 60))
    return np.asarray(image)
