"""The motion gate: which parts of a small grey picture move.

Every pixel has a running background and a running mean absolute deviation (its own noise), after the running average of
Wren et al., "Pfinder" (1997), with the background's step bounded as in the sigma-delta estimation of Manzanera and
Richefeu (2007), so that who walks past leaves no trail. A pixel's difference counts in multiples of its own noise; the
excess is summed over cells of a few pixels, and cells are joined to areas. It works from the second frame on.
"""

from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

from .messages import Box

type _Floats = NDArray[np.float32]

MAXIMUM_HEIGHT = 180
"""Higher pictures are reduced by whole factors first."""
_CELL = 4
_NOMINAL_STEP = 0.2
"""Seconds between two updates when the caller names no time."""
_LONGEST_STEP = 2.0
_BACKGROUND_TIME = 4.0
_NOISE_TIME = 8.0
_NOISE_FLOOR = 0.6
"""Grey levels: quieter pixels are not trusted to be that quiet."""
_NOISE_MULTIPLE = 3.5
_MARGIN = 1.5
_CLIP = 5.0
_MEMBER_SCORE = 2.5
_SEED_SCORE = 8.0
_LIGHT_SHARE = 0.4
"""A larger moving share is a change of light, not an object."""
_LIGHT_PATIENCE = 2.0
_STILL_TIME = 8.0


@dataclass(frozen=True, slots=True)
class Motion:
    """What moves in one frame.

    Attributes:
        boxes: the moving areas, largest first; 0..1 of the frame's width and height.
        share: the moving part of the picture, 0..1.
        light_change: the whole picture changed at once (a lamp, a cloud, infrared on or off, a jolt of the camera): no
            box is given, because every one would be wrong; a caller who wants to be sure looks at the whole frame.
    """

    boxes: tuple[Box, ...] = ()
    share: float = 0.0
    light_change: bool = False

    @property
    def active(self) -> bool:
        """Whether anything moves."""
        return bool(self.boxes)


NO_MOTION = Motion()


class MotionDetector:
    """Finds moving areas in the small grey pictures of one camera."""

    def __init__(self) -> None:
        """Start without a background."""
        self._model: _Model | None = None

    def update(self, grey: NDArray[np.uint8], at: float | None = None) -> Motion:
        """Compare a picture with the background and learn from it.

        Args:
            grey: (H, W) uint8, best 90 to 180 high. Another shape than before starts anew.
            at: seconds, any origin; without it the pictures are taken to be 0.2 s apart.

        Returns:
            What moves; nothing in the first picture, which becomes the background.
        """
        picture = _reduced(grey)
        if self._model is None or self._model.shape != picture.shape:
            self._model = _Model(picture, at)
            return NO_MOTION
        return self._model.update(picture, at)


class _Model:
    """The background and noise of one picture size, with the buffers that an update needs."""

    def __init__(self, picture: _Floats, at: float | None) -> None:
        self.shape = picture.shape
        self._background = picture.copy()
        self._noise: _Floats = np.full_like(picture, 2.0)
        self._previous = picture
        self._still = np.zeros_like(picture)
        self._at = at
        self._age = 0.0
        self._updates = 0
        self._light_for = 0.0
        self._difference = np.empty_like(picture)
        self._size = np.empty_like(picture)
        self._scratch = np.empty_like(picture)
        rows, columns = (math.ceil(length / _CELL) for length in picture.shape)
        self._excess: _Floats = np.zeros((rows * _CELL, columns * _CELL), np.float32)

    def update(self, picture: _Floats, at: float | None) -> Motion:
        step = self._step(at)
        self._updates += 1
        difference = self._difference
        np.subtract(picture, self._background, out=difference)
        offset = float(np.median(difference[::4, ::4]))
        difference -= offset
        np.abs(difference, out=self._size)
        if self._updates == 1:
            self._noise[:] = max(_NOISE_FLOOR, 1.5 * float(np.median(self._size[::4, ::4])))
        cells = self._cell_scores()
        areas, share = _areas(cells)
        if share > _LIGHT_SHARE:
            return self._light_change(picture, step, share)
        self._light_for = 0.0
        self._learn(picture, offset, step)
        return Motion(tuple(_normalised(area, picture.shape) for area in areas), share)

    def _step(self, at: float | None) -> float:
        if at is None or self._at is None:
            self._at = at
            return _NOMINAL_STEP
        step, self._at = at - self._at, at
        return min(max(step, 0.0), _LONGEST_STEP)

    def _cell_scores(self) -> _Floats:
        """Sum what exceeds the noise over each cell."""
        level = self._scratch
        np.multiply(self._noise, _NOISE_MULTIPLE, out=level)
        level += _MARGIN
        height, width = self.shape
        excess = self._excess[:height, :width]
        np.divide(self._size, level, out=excess)
        excess -= 1.0
        np.clip(excess, 0.0, _CLIP, out=excess)
        rows = self._excess[0::_CELL] + self._excess[1::_CELL]
        rows += self._excess[2::_CELL]
        rows += self._excess[3::_CELL]
        cells: _Floats = rows[:, 0::_CELL] + rows[:, 1::_CELL]
        cells += rows[:, 2::_CELL]
        cells += rows[:, 3::_CELL]
        return cells

    def _light_change(self, picture: _Floats, step: float, share: float) -> Motion:
        """Take the picture as the new background; a change that never ends is motion after all."""
        self._light_for += step
        self._background[:] = picture
        self._previous = picture
        self._still[:] = 0.0
        if self._light_for > _LIGHT_PATIENCE:
            return Motion((Box(0.0, 0.0, 1.0, 1.0),), share)
        return Motion((), share, light_change=True)

    def _learn(self, picture: _Floats, offset: float, step: float) -> None:
        """Move the background and the noise towards the picture, no faster than the noise allows."""
        bound = np.multiply(self._noise, 3.0, out=self._scratch)
        np.minimum(self._size, bound, out=self._size)
        np.minimum(self._difference, bound, out=self._difference)
        np.negative(bound, out=bound)
        np.maximum(self._difference, bound, out=self._difference)
        newest = 1.0 / (self._updates + 1)
        self._difference *= max(newest, 1.0 - math.exp(-step / _BACKGROUND_TIME))
        self._background += self._difference
        self._background += offset
        self._size -= self._noise
        self._size *= max(newest / 2, 1.0 - math.exp(-step / _NOISE_TIME))
        self._noise += self._size
        np.maximum(self._noise, _NOISE_FLOOR, out=self._noise)
        self._previous = picture


def _reduced(grey: NDArray[np.uint8]) -> _Floats:
    """Return the picture as float32, reduced by a whole factor to at most MAXIMUM_HEIGHT rows."""
    factor = math.ceil(grey.shape[0] / MAXIMUM_HEIGHT)
    if factor == 1:
        return grey.astype(np.float32)
    height, width = (length // factor * factor for length in grey.shape)
    total = np.zeros((height // factor, width // factor), np.uint32)
    for row in range(factor):
        for column in range(factor):
            total += grey[row:height:factor, column:width:factor]
    return np.asarray(total, np.float32) / np.float32(factor * factor)


def _areas(cells: _Floats) -> tuple[list[tuple[int, int, int, int]], float]:
    """Join cells to areas that each hold a seed.

    Returns:
        (left, top, right, bottom) in cells, largest first, and the moving share of all cells.
    """
    seeds = cells > _SEED_SCORE
    if not seeds.any():
        return [], 0.0
    stride = cells.shape[1] + 1  # one empty column keeps a row's end from touching the next row's start
    members = _bits(cells > _MEMBER_SCORE, stride)
    left_over = _bits(seeds, stride)
    found: list[tuple[int, int, int, int]] = []
    moving = 0
    while left_over:
        area = _flood(left_over & -left_over, members, stride)
        left_over &= ~area
        moving += area.bit_count()
        found.append(_extent(area, cells.shape[0], stride))
    found.sort(key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))
    return found, moving / cells.size


def _bits(mask: NDArray[np.bool_], stride: int) -> int:
    """Write a mask as one whole number, a bit a cell: joining cells is then a few shifts, at any size."""
    padded = np.zeros((mask.shape[0], stride), np.bool_)
    padded[:, :-1] = mask
    return int.from_bytes(np.packbits(padded, bitorder="little").tobytes(), "little")


def _flood(area: int, members: int, stride: int) -> int:
    """Grow an area over its eight neighbours as long as they are members."""
    while True:
        wide = area | area << 1 | area >> 1
        grown = (wide | wide << stride | wide >> stride) & members
        if grown == area:
            return area
        area = grown


def _extent(area: int, rows: int, stride: int) -> tuple[int, int, int, int]:
    raw = np.frombuffer(area.to_bytes((rows * stride + 7) // 8, "little"), np.uint8)
    mask = np.unpackbits(raw, count=rows * stride, bitorder="little").reshape(rows, stride)
    y = np.flatnonzero(mask.any(axis=1))
    x = np.flatnonzero(mask.any(axis=0))
    return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1


def _normalised(area: tuple[int, int, int, int], shape: tuple[int, ...]) -> Box:
    height, width = shape
    left, top, right, bottom = (edge * _CELL for edge in area)
    return Box(left / width, top / height, min(1.0, right / width), min(1.0, bottom / height))
