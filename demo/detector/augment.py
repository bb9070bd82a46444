"""Turns rendered frames into training pictures: whole frames, region crops, other light, noise, blur."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from demo.detector import HEIGHT, WIDTH

PADDING = 114
"""Grey around a picture that does not have the input's shape, as Ultralytics pads."""
LEAST_KEPT = 0.3
"""Share of an object's box that a crop must keep, else it is to be ignored."""


class Frames:
    """A data set in memory: JPEGs and boxes. Decoded pictures are kept too, 1.5 MB each."""

    def __init__(self, paths: list[Path]) -> None:
        """Load the files that `demo.detector.dataset` wrote."""
        self.pictures: list[bytes] = []
        self.boxes: list[NDArray[np.float32]] = []
        self._decoded: dict[int, Image.Image] = {}
        for path in paths:
            with np.load(path) as data:
                self._add(data["pictures"].tobytes(), data["ends"].tolist(), data["boxes"])

    def _add(self, pictures: bytes, ends: list[int], boxes: NDArray[np.float32]) -> None:
        start = 0
        for number, end in enumerate(ends):
            self.pictures.append(pictures[start:end])
            self.boxes.append(boxes[boxes[:, 0] == number, 1:])
            start = end

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, number: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return an augmented picture, (HEIGHT, WIDTH, 3), and its objects, (M, 5): class and box."""
        if (image := self._decoded.get(number)) is None:
            image = self._decoded[number] = Image.open(BytesIO(self.pictures[number])).convert("RGB")
        view = _view(image.size, self.boxes[number], rng)
        picture, objects = letterbox(image, view, self.boxes[number])
        if rng.random() < 0.5:
            picture, objects = _mirror(picture, objects)
        return _expose(picture, rng), objects


def _view(
    size: tuple[int, int], boxes: NDArray[np.float32], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Choose what to look at: the whole frame, or a region (often square) about some object or none."""
    width, height = size
    if rng.random() < 0.4:
        return 0.0, 0.0, float(width), float(height)
    side = height * rng.uniform(0.33, 1.0)
    wide = side * (1.0 if rng.random() < 0.65 else 16 / 9)
    centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    known = boxes[boxes[:, 0] >= 0]
    if len(known) and rng.random() < 0.85:
        left, top, right, bottom = known[rng.integers(len(known)), 1:]
        side = max(side, (bottom - top) * 1.15)
        wide = max(wide, (right - left) * 1.15, side)
        centre = np.array([(left + right) / 2, (top + bottom) / 2]) + rng.uniform(-0.35, 0.35, 2) * (wide, side)
    wide, side = min(wide, width), min(side, height)
    left = float(np.clip(centre[0] - wide / 2, 0, width - wide))
    top = float(np.clip(centre[1] - side / 2, 0, height - side))
    return left, top, left + wide, top + side


def letterbox(
    image: Image.Image, view: tuple[float, float, float, float], boxes: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Scale a part of a picture into the network's input, in its middle, and the objects with it."""
    left, top, right, bottom = view
    scale = min(WIDTH / (right - left), HEIGHT / (bottom - top))
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    across, down = (WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2
    canvas = Image.new("RGB", (WIDTH, HEIGHT), (PADDING,) * 3)
    canvas.paste(image.resize(size, Image.Resampling.BILINEAR, box=view, reducing_gap=1.5), (across, down))
    moved = boxes.copy()
    moved[:, 1::2] = (np.clip(boxes[:, 1::2], left, right) - left) * scale + across
    moved[:, 2::2] = (np.clip(boxes[:, 2::2], top, bottom) - top) * scale + down
    area = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2]) * scale * scale
    kept = (moved[:, 3] - moved[:, 1]) * (moved[:, 4] - moved[:, 2])
    small = moved[:, 4] - moved[:, 2] < 4
    moved[(kept < LEAST_KEPT * area) | small, 0] = -1
    return np.asarray(canvas), moved[kept > 1]


def _mirror(picture: NDArray[np.uint8], objects: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    mirrored: NDArray[np.float32] = objects.copy()
    mirrored[:, 1], mirrored[:, 3] = WIDTH - objects[:, 3], WIDTH - objects[:, 1]
    return picture[:, ::-1], mirrored


def _expose(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast, colour; blur; add noise; drop the colour."""
    if rng.random() < 0.25:
        blurred = Image.fromarray(np.ascontiguousarray(picture)).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
        picture = np.asarray(blurred)
    pixels = picture.astype(np.float32)
    if rng.random() < 0.12:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    middle = pixels.mean()
    pixels = (pixels - middle) * rng.uniform(0.75, 1.25) + middle * rng.uniform(0.7, 1.3)
    pixels *= rng.uniform(0.92, 1.08, 3).astype(np.float32)
    if rng.random() < 0.3:
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(1, 9))
    exposed: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return exposed
