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

from .messages import Box, Point
from .zones import raster

type _Grey = NDArray[np.uint8]
type _Floats = NDArray[np.float32]
type _Area = tuple[int, int, int, int]
"""Left, top, right, bottom in cells."""

MAXIMUM_HEIGHT = 90
"""Rows at which speed and the smallest visible object are in balance; higher pictures are reduced to it first."""
_CELL = 4
"""Pixels; the height and width of the cells that areas are made of."""
_NOMINAL_STEP = 0.2
"""Seconds between two updates when the caller names no time."""
_LONGEST_STEP = 2.0
"""Seconds; a longer pause teaches no more than this one does."""
_BACKGROUND_TIME = 8.0
_NOISE_TIME = 8.0
"""Seconds in which the background and the noise follow a lasting change by about two thirds, within their bounds."""
_FIRST_NOISE = 1.5
"""Multiple of the median difference of two pictures that all pixels are taken to have as noise at first."""
_QUIETEST = 0.6
"""Grey levels; no pixel is trusted to have less noise."""
_NOISIEST = 20.0
"""Grey levels; more is movement, not noise: after a camera turned it must not be blind."""
_NOISE_MULTIPLE = 3.0
_MARGIN = 1.0
"""A pixel counts from this multiple of its noise on, and these grey levels."""
_MOST = 6.0
"""More than this multiple of its threshold a single pixel cannot contribute."""
_MEMBER_SCORE = 2.5
_SEED_SCORE = 8.0
"""A cell belongs to an area from the first score on; an area has a cell with the second."""
_LIGHT_SHARE = 0.4
"""A larger moving share is a change of light, not an object."""
_LIGHT_JUMP = 35.0
"""Grey levels by which the whole picture's brightness changes only with the light."""
_LIGHT_PATIENCE = 2.0
"""Seconds after which a change of light that goes on counts as motion."""
_LIT_SHARE = 0.03
_LIT_CORRELATION = 0.9
"""An area of this share whose pattern is still this much alike was lit or shaded; nothing moved."""


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
        self._ignored: tuple[tuple[Point, ...], ...] = ()

    def ignore(self, polygons: tuple[tuple[Point, ...], ...]) -> None:
        """See nothing move inside these polygons; others than before mean a start anew."""
        if polygons != self._ignored:
            self._ignored, self._model = polygons, None

    def update(self, grey: _Grey, at: float | None = None) -> Motion:
        """Compare a picture with the background and learn from it.

        Args:
            grey: (H, W) uint8, best 90 to 180 high. Another shape than before starts anew.
            at: seconds, any origin; without it the pictures are taken to be 0.2 s apart.

        Returns:
            What moves; nothing in the first picture, which becomes the background.
        """
        picture = _reduced(grey)
        if self._model is None or self._model.shape != picture.shape:
            self._model = _Model(picture, at, raster(self._ignored, picture.shape))
            return NO_MOTION
        return self._model.update(picture, at)


class _Model:
    """The background and noise of one picture size, with the buffers that an update needs."""

    def __init__(self, picture: _Grey, at: float | None, ignored: NDArray[np.bool_] | None) -> None:
        """Take a first picture as background; what happens where `ignored` is set counts for nothing."""
        self.shape = picture.shape
        self._ignored = ignored
        counted = None if ignored is None or ignored[::4, ::4].all() else ~ignored[::4, ::4]
        self._sampled: tuple[slice, slice] | tuple[NDArray[np.intp], ...] = np.s_[::4, ::4]
        """A sixteenth of the pixels that count: enough for what is typical."""
        if counted is not None:
            self._sampled = tuple(4 * index for index in np.nonzero(counted))
        self._background = picture.astype(np.float32)
        self._noise: _Floats = np.full(self.shape, _QUIETEST, np.float32)
        self._difference: _Floats = np.empty(self.shape, np.float32)
        self._size: _Floats = np.empty(self.shape, np.float32)
        self._level: _Floats = np.empty(self.shape, np.float32)
        rows, columns = (math.ceil(length / _CELL) * _CELL for length in self.shape)
        self._ratio: _Floats = np.ones((rows, columns), np.float32)
        self._at = at
        self._updates = 0
        self._light_for = 0.0
        self._brightness = np.float32(0.0)
        self._is_new = True

    def update(self, picture: _Grey, at: float | None) -> Motion:
        """Compare a picture with the background and learn from it."""
        step = self._step(at)
        self._updates += 1
        jump = self._compare(picture)
        areas, share = _areas(self._cell_scores())
        np.minimum(self._size, self._level, out=self._size)  # no faster than the noise allows is anything learnt
        if share > _LIGHT_SHARE or jump > _LIGHT_JUMP:
            return self._light_change(picture, step, share)
        self._light_for = 0.0
        moving = [area for area in areas if not self._was_lit(area, picture)]
        self._learn_background(step)
        self._learn_noise(step)
        return Motion(tuple(_normalised(area, self.shape) for area in moving), share if moving else 0.0)

    def _step(self, at: float | None) -> float:
        before, self._at = self._at, at
        if at is None or before is None:
            return _NOMINAL_STEP
        return min(max(at - before, 0.0), _LONGEST_STEP)

    def _compare(self, picture: _Grey) -> float:
        """Measure each pixel's difference, without the brightness that the whole picture gained or lost.

        Returns:
            By how much that brightness changed since the last picture.
        """
        before, self._brightness = self._brightness, _typical(picture[self._sampled] - self._background[self._sampled])
        np.subtract(picture, self._background, out=self._difference)
        self._difference -= self._brightness
        np.abs(self._difference, out=self._size)
        if self._ignored is not None:
            self._size[self._ignored] = 0.0
        if self._is_new:
            self._is_new = False
            self._raise_noise()
        np.multiply(self._noise, _NOISE_MULTIPLE, out=self._level)
        self._level += _MARGIN
        return abs(float(self._brightness - before))

    def _raise_noise(self) -> None:
        """Raise the noise of all pixels to that of a first comparison: infrared has more of it than daylight."""
        factor = _FIRST_NOISE * _typical(self._size[self._sampled]) / _typical(self._noise[self._sampled])
        self._noise *= np.float32(max(1.0, factor))
        np.minimum(self._noise, _NOISIEST, out=self._noise)

    def _cell_scores(self) -> _Floats:
        """Sum over each cell what exceeds the thresholds, in multiples of them."""
        height, width = self.shape
        ratio = self._ratio[:height, :width]
        np.divide(self._size, self._level, out=ratio)
        np.clip(ratio, 1.0, _MOST, out=ratio)
        rows = self._ratio[0::_CELL] + self._ratio[1::_CELL]
        for row in range(2, _CELL):
            rows += self._ratio[row::_CELL]
        cells: _Floats = rows[:, 0::_CELL] + rows[:, 1::_CELL]
        for column in range(2, _CELL):
            cells += rows[:, column::_CELL]
        cells -= _CELL * _CELL  # a pixel below its threshold has the ratio 1
        return cells

    def _light_change(self, picture: _Grey, step: float, share: float) -> Motion:
        """Take the picture as the new background; a change that never ends is motion after all."""
        self._light_for += step
        self._background[:] = picture
        self._brightness = np.float32(0.0)
        self._is_new = True
        self._learn_noise(step)  # a camera that shakes in the wind is not blinded for ever
        if self._light_for > _LIGHT_PATIENCE:
            return Motion((Box(0.0, 0.0, 1.0, 1.0),), share)
        return Motion((), share, light_change=True)

    def _was_lit(self, area: _Area, picture: _Grey) -> bool:
        """Return whether a large area still shows its old pattern, brighter or darker; it is then background."""
        left, top, right, bottom = (edge * _CELL for edge in area)
        where = np.s_[top:bottom, left:right]
        changed = self._ratio[: self.shape[0], : self.shape[1]][where] > 1.0
        if np.count_nonzero(changed) < _LIT_SHARE * picture.size:
            return False
        now, before = picture[where][changed].astype(np.float32), self._background[where][changed]
        now -= now.mean()
        before -= before.mean()
        alike = float(now @ before) > _LIT_CORRELATION * math.sqrt(float(now @ now) * float(before @ before))
        if alike:
            self._background[where] += self._difference[where]
            self._size[where] = 0.0
        return alike

    def _learn_background(self, step: float) -> None:
        """Move the background towards the picture by the bounded difference: who walks past leaves no trail."""
        np.copysign(self._size, self._difference, out=self._difference)
        self._difference *= max(1.0 / (self._updates + 1), 1.0 - math.exp(-step / _BACKGROUND_TIME))
        self._background += self._difference

    def _learn_noise(self, step: float) -> None:
        """Move the noise towards the size of the bounded difference."""
        self._size -= self._noise
        self._size *= max(0.5 / (self._updates + 1), 1.0 - math.exp(-step / _NOISE_TIME))
        self._noise += self._size
        np.clip(self._noise, _QUIETEST, _NOISIEST, out=self._noise)


def _typical(sample: _Floats) -> np.float32:
    """Return the sample's median."""
    return np.float32(np.partition(sample, sample.size // 2, axis=None)[sample.size // 2])


def _reduced(grey: _Grey) -> _Grey:
    """Return the picture, reduced by a whole factor to at most `MAXIMUM_HEIGHT` rows."""
    factor = math.ceil(grey.shape[0] / MAXIMUM_HEIGHT)
    if factor == 1:
        return grey
    if grey.shape[1] < factor:
        return grey[::factor]
    height, width = (length // factor * factor for length in grey.shape)
    rows = np.add.reduce(grey[:height, :width].reshape(height // factor, factor, width), axis=1, dtype=np.uint32)
    total = np.add.reduce(rows.reshape(height // factor, width // factor, factor), axis=2)
    reduced: _Grey = (total // (factor * factor)).astype(np.uint8)
    return reduced


def _areas(cells: _Floats) -> tuple[list[_Area], float]:
    """Join cells to areas that each hold a seed.

    Returns:
        The areas, largest first, and the moving share of all cells.
    """
    seeds = cells > _SEED_SCORE
    if not seeds.any():
        return [], 0.0
    stride = cells.shape[1] + 1  # one empty column keeps a row's end from touching the next row's start
    members = _bits(cells > _MEMBER_SCORE, stride)
    left_over = _bits(seeds, stride)
    found: list[_Area] = []
    moving = 0
    while left_over:
        area = _flood(left_over & -left_over, members, stride)
        left_over &= ~area
        moving += area.bit_count()
        found.append(_extent(area, stride))
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


def _extent(area: int, stride: int) -> _Area:
    """Return the rectangle around an area."""
    top, bottom = ((area & -area).bit_length() - 1) // stride, (area.bit_length() - 1) // stride + 1
    row, columns = (1 << stride) - 1, 0
    rest = area >> top * stride
    while rest:
        columns |= rest & row
        rest >>= stride
    return (columns & -columns).bit_length() - 1, top, columns.bit_length(), bottom


def _normalised(area: _Area, shape: tuple[int, ...]) -> Box:
    height, width = shape
    left, top, right, bottom = (edge * _CELL for edge in area)
    return Box(left / width, top / height, min(1.0, right / width), min(1.0, bottom / height))
