"""A simple world for tests: bright squares over noise, and a detector that really finds them."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream
import numpy as np
from numpy.typing import NDArray

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import Picture
from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.pipeline import LoadedDetector

WIDTH, HEIGHT = 640, 360
SQUARE = 60


class BlobDetector:
    """Finds one bright square a picture, however large the picture is, and calls it a person (or a car)."""

    def __init__(self, score: float = 0.9, label: str = "person") -> None:
        self.labels: tuple[str, ...] = ("person", "car")
        self.width = self.height = 320
        self.score = score
        self.looks = 0
        self.sizes: list[list[tuple[int, int]]] = []
        """Width and height of the pictures of each look."""
        self._class = self.labels.index(label)

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        self.looks += 1
        self.sizes.append([(picture.shape[1], picture.shape[0]) for picture in pictures])
        return [self._detect_one(picture) for picture in pictures]

    def close(self) -> None:
        """Hold nothing."""

    def _detect_one(self, picture: Picture) -> Detections:
        rows, columns = np.nonzero(picture[:, :, 1] > 180)
        if len(rows) < 100:
            return Detections.none()
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        scores, classes = np.array([self.score], np.float32), np.array([self._class], np.int32)
        return Detections(np.array([box], np.float32), scores, classes)


def loaded(score: float = 0.9) -> LoadedDetector:
    return LoadedDetector(BlobDetector(score), 0.5)


def pixels(number: int, left: int | None, top: int = 120, size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[np.uint8]:
    """Noise, with a square whose left side is at `left` unless that is None."""
    width, height = size
    picture = np.random.default_rng(number).integers(60, 66, (height, width, 3), dtype=np.uint8)
    if left is not None:
        picture[top : top + SQUARE, max(0, left) : max(0, left + SQUARE)] = 220
    return picture


def frame(number: int, left: int | None, *, fps: float = 15.0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Frame:
    return Frame(av.VideoFrame.from_ndarray(pixels(number, left, size=size), "rgb24"), number / fps, number)


def walk(seconds: float, *, start: float = 1.0, until: float = 1e9, fps: float = 15.0) -> Iterator[Frame]:
    """Frames in which a square enters at `start` seconds and is gone after `until`, moving 6 pixels a frame."""
    for number in range(1, int(seconds * fps) + 1):
        at = number / fps
        yield frame(number, 20 + int((at - start) * fps) * 6 if start <= at < until else None, fps=fps)


def write_video(path: Path, seconds: float = 4.0, fps: int = 15, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """A video in which a square walks from left to right, again and again."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        assert isinstance(stream, VideoStream)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        for number in range(int(seconds * fps)):
            picture = av.VideoFrame.from_ndarray(pixels(number, (number * 8) % (WIDTH - SQUARE), size=size), "rgb24")
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path
