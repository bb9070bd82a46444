"""The command line: watch a video file without Home Assistant, to try a model on a camera's recording.

Prints one JSON object for each frame that the detector looked at. Times are seconds since the beginning of the video,
boxes are left, top, right, bottom in pixels of the frame.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
import dataclasses
from fractions import Fraction
from itertools import count
import json
import os
from pathlib import Path
import sys
import threading
from types import TracebackType
from typing import Self

import av
from av.video.stream import VideoStream

from . import plugins
from .detectors import DetectorError
from .frames import Frame
from .labels import coco_names
from .messages import CameraConfig, DetectorConfig, FrameTracks, Problem, Report, Source, SourceKind, TrackState
from .pictures import draw_tracks
from .pipeline import CameraPipeline, LoadedDetector
from .sources import SourceError, open_source

_MODEL = Path(__file__).resolve().parents[3] / "demo" / "detector" / "model"
"""The demo's model, in a checkout of the repository."""
_TOKEN = "DETECTOR_TOKEN"  # noqa: S105  # the variable's name: arguments are seen by everybody on the machine
_LABELS = "person,bicycle,car,motorcycle,bus,truck,cat,dog"
_CLOCK = 90_000
"""Ticks a second in an annotated video."""


def main(arguments: Sequence[str]) -> int:
    """Watch a file as the arguments say; returns the exit status, 2 for what the user can mend."""
    options = _parser().parse_args(arguments)
    try:
        _watch(options)
    except BrokenPipeError, KeyboardInterrupt:
        return 1
    except (DetectorError, SourceError) as err:
        print(f"vision: {err.detail} ({err.problem})", file=sys.stderr)  # noqa: T201
        return 2
    except (av.FFmpegError, OSError) as err:
        print(f"vision: {err}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vision", description=__doc__)
    parser.add_argument("video", help="a video file")
    parser.add_argument("--detector", choices=plugins.names(), default="ncnn", help="what looks")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a folder with a model for ncnn, a file for ultralytics, or a model's name at the server",
    )
    parser.add_argument("--url", action="append", default=[], help=f"a server; its token is taken from {_TOKEN}")
    parser.add_argument("--labels", default=_LABELS, help="what is tracked (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.7, help="when a track counts (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=5.0, help="frames a second looked at (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the detector (default: as measured)")
    parser.add_argument("--device", default="", help="cpu, cuda:0, vulkan:0 and the like (default: a GPU that helps)")
    parser.add_argument("--half", action="store_true", help="ultralytics: half precision on a GPU")
    parser.add_argument("--tensorrt", action="store_true", help="ultralytics: make an engine of a .pt file, and use it")
    parser.add_argument("--annotated", metavar="OUT.mp4", help="write the video with the tracks drawn into it")
    return parser


def _watch(options: argparse.Namespace) -> None:
    source = Source(kind=SourceKind.FILE, location=options.video, loop=False, realtime=False)
    config = CameraConfig(
        camera_id=Path(options.video).name,
        source=source,
        fps=options.fps,
        labels=coco_names(options.labels.split(",")),
        confidence=options.confidence,
    )
    detector = DetectorConfig(
        plugin=options.detector,
        model=options.model or (str(_MODEL) if options.detector == "ncnn" else ""),
        threads=options.threads,
        device=options.device,
        half=options.half,
        tensorrt=options.tensorrt,
        urls=tuple(options.url),
        token=os.environ.get(_TOKEN, ""),
    )
    with ExitStack() as stack:
        frames = stack.enter_context(open_source(source, fps=0, stop=threading.Event()))
        loaded = LoadedDetector.load(detector)
        stack.callback(loaded.detector.close)
        annotated = stack.enter_context(_AnnotatedVideo(options.annotated)) if options.annotated else None
        for frame, reports, tracks in follow(frames, CameraPipeline(config, count(1)), loaded):
            for report in reports:
                if isinstance(report, FrameTracks):
                    print(json.dumps(_plain(report)), flush=True)  # noqa: T201
            if annotated is not None:
                annotated.write(frame, tracks)


def follow(
    frames: Iterable[Frame], pipeline: CameraPipeline, loaded: LoadedDetector
) -> Iterator[tuple[Frame, list[Report], tuple[TrackState, ...]]]:
    """Take every frame of a file through the pipeline.

    Yields:
        Each frame, what the worker would report of it, and the tracks that live then. The end of the file is no error.

    Raises:
        SourceError: the file cannot be read.
        DetectorError: the detector failed.
    """
    try:
        for frame in frames:
            reports = pipeline.step(frame, loaded)
            yield frame, reports, pipeline.latest.tracks if pipeline.latest else ()
    except SourceError as err:
        if err.problem is not Problem.SOURCE_ENDED:
            raise


def _plain(report: FrameTracks) -> dict[str, object]:
    return {
        "at": round(report.captured_at, 3),
        "frame": report.frame_id,
        "tracks": [_plain_track(track) for track in report.tracks],
        "ended": [track.track_id for track in report.ended],
    }


def _plain_track(track: TrackState) -> dict[str, object]:
    plain = dataclasses.asdict(track)
    plain["box"] = [round(side, 1) for side in track.box]
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in plain.items()}


class _AnnotatedVideo:
    """A video file with the tracks drawn into its frames."""

    def __init__(self, path: str) -> None:
        self._container = av.open(path, "w")
        self._stream: VideoStream | None = None
        self._last_pts = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def write(self, frame: Frame, tracks: Sequence[TrackState]) -> None:
        """Append a frame."""
        if self._stream is None:
            self._stream = self._begin(frame)
        picture = av.VideoFrame.from_ndarray(draw_tracks(frame.rgb(), tracks), format="rgb24")
        # A camera that changes its resolution does not change that of a file that has begun.
        picture = picture.reformat(self._stream.width, self._stream.height, "yuv420p")
        self._last_pts = picture.pts = max(self._last_pts + 1, round(frame.captured_at * _CLOCK))
        picture.time_base = Fraction(1, _CLOCK)
        self._container.mux(self._stream.encode(picture))

    def _begin(self, frame: Frame) -> VideoStream:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        # H.264 with colour at half resolution knows even sizes only.
        stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        return stream
