"""Writes a scene as H.264 in MP4, with its truth beside it."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream
import numpy as np
from numpy.typing import NDArray

from .catalogue import SCENES
from .renderer import SceneRenderer
from .script import SceneScript
from .truth import FrameTruth, GroundTruth, find_incidents

KEY_SECONDS = 1.0
"""Seconds from key frame to key frame: a stream can be joined that often."""


def scene(name: str, seconds: float | None = None) -> SceneScript:
    """Return a scene by its name, cut to so many seconds; raises KeyError."""
    script = SCENES[name]
    return script if seconds is None else replace(script, seconds=seconds)


def frames(script: SceneScript, fps: float = 15.0) -> Iterator[tuple[NDArray[np.uint8], FrameTruth]]:
    """Yield the frames of a scene as (720, 1280, 3) RGB without encoding them."""
    for frame, truth in SceneRenderer(script, fps).frames():
        yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False), truth


def render(name: str, path: Path, *, seconds: float | None = None, fps: float = 15.0) -> GroundTruth:
    """Render a scene of the catalogue to an MP4 file; write its truth beside it as JSON and return it.

    A file that is there whole is never half overwritten: both are written aside first. Raises KeyError for an unknown
    name, OSError when the folder cannot be written.
    """
    return render_script(scene(name, seconds), path, fps=fps)


def render_script(script: SceneScript, path: Path, *, fps: float = 15.0) -> GroundTruth:
    """Render any scene; see `render`."""
    renderer = SceneRenderer(script, fps)
    aside = path.with_name(f".{path.stem}.part{path.suffix}")
    truths: list[FrameTruth] = []
    with av.open(str(aside), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = _open_stream(container, renderer, fps)
        for frame, truth in renderer.frames():
            frame.pts = truth.index
            frame.time_base = Fraction(1) / Fraction(fps).limit_denominator(1000)
            container.mux(stream.encode(frame))
            truths.append(truth)
        container.mux(stream.encode())
    result = _truth(renderer, tuple(truths))
    result.save(path.with_suffix(".json"))
    aside.replace(path)
    return result


def _open_stream(container: av.container.OutputContainer, renderer: SceneRenderer, fps: float) -> VideoStream:
    rate = Fraction(fps).limit_denominator(1000)
    key = str(max(1, round(fps * KEY_SECONDS)))
    # One slice thread and no B frames: the same bytes each time, and a stream that starts at once.
    options = {"preset": "veryfast", "crf": "24", "g": key, "keyint_min": key, "bf": "0", "threads": "1"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height = renderer.camera.width, renderer.camera.rows
    stream.pix_fmt = "yuv420p"
    return stream


def _truth(renderer: SceneRenderer, truths: tuple[FrameTruth, ...]) -> GroundTruth:
    return GroundTruth(
        name=renderer.script.name,
        description=renderer.script.description,
        width=renderer.camera.width,
        height=renderer.camera.rows,
        fps=renderer.fps,
        frames=truths,
        incidents=find_incidents(truths),
    )
