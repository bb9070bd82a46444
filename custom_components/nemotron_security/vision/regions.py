"""Where in a frame the detector looks.

A whole 720p frame on a 320 pixel model makes a person of 60 pixels 15 pixels high; a crop around what moves keeps it
large. Regions are squares of at least the model's input size around clusters of motion and tracks, as in Frigate. Where
there are more than a look may have, they take turns; where crops would gain nothing the whole frame is looked at.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .detections import Detections
from .messages import Box

_GRID = 32
"""Regions snap to it, so that one object is seen by the detector alike from frame to frame."""
_MARGIN = 0.3
"""Surroundings that a region keeps around its boxes, as a share of their size."""
_WHOLE_SHARE = 0.6
"""Regions that cover more of the frame together are replaced by the whole frame."""
_FOLLOWED = 3.0
"""How many times as long a region counts as having waited for its turn when something is followed in it;"""
_TURN = 1.0
"""and the seconds that one counts as having waited which was looked at last."""
_DUPLICATE_IOU = 0.55
_CUT_OFF = 0.7
"""A box cut by its region's border is dropped if this share of it lies in another box."""
_BORDER = 3.0


class Region(NamedTuple):
    """A rectangle of a frame in whole pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def area(self) -> int:
        """Area in square pixels."""
        return self.width * self.height


def select_regions(
    motion: Iterable[Box],
    tracks: Iterable[Box],
    frame_size: tuple[int, int],
    model_size: tuple[int, int],
    known: Sequence[Box] = (),
) -> list[Region]:
    """Return where the detector has to look to see all of it.

    Args:
        motion: moving areas in pixels of the frame.
        tracks: boxes of the tracks that are looked at, in pixels of the frame.
        frame_size: width and height in pixels.
        model_size: the model's input width and height in pixels.
        known: boxes of all objects; none of them is seen in part only.

    Returns:
        Regions inside the frame that hold every box; none when there is nothing to look at.
    """
    wanted = [box for box in (_inside(box, frame_size) for box in (*motion, *tracks)) if box.area > 0]
    while True:
        regions = _join(list(wanted), frame_size, max(model_size))
        # A car that is seen in part seems to have moved. What is asked for is held, so that this ends.
        if not (cut := find_cut(regions, known, frame_size)):
            return regions
        wanted += [_inside(box, frame_size) for box in cut]


class Turns:
    """Says which regions of a camera's frames are looked at next, where there are too many for one look."""

    def __init__(self, frame_size: tuple[int, int]) -> None:
        """Begin with nothing looked at yet; `frame_size` is width and height in pixels."""
        self._size = frame_size
        cells = (-(-frame_size[1] // _GRID), -(-frame_size[0] // _GRID))
        self._seen_at = np.zeros(cells)

    def note(self, regions: Iterable[Region], at: float) -> None:
        """Note what was looked at, and when."""
        for region in regions:
            self._cells(region)[:] = at

    def choose(self, regions: Sequence[Region], live: Sequence[Box], known: Sequence[Box], limit: int) -> list[Region]:
        """Return what is looked at now.

        Args:
            regions: all that should be looked at.
            live: boxes of what is followed; a region that holds one has its turn more often, the others have theirs.
            known: boxes of all objects; a region that would show a part of one is widened.
            limit: how many regions at most.
        """
        chosen = list(regions)
        if len(regions) > limit:
            followed = [any(_holds(region, _inside(box, self._size)) for box in live) for region in regions]
            since = self._seen_at.max() + _TURN
            waits = [float(since - self._cells(region).mean()) for region in regions]
            turns = [wait * (_FOLLOWED if followed else 1) for wait, followed in zip(waits, followed, strict=True)]
            order = sorted(range(len(regions)), key=lambda number: (turns[number], followed[number]), reverse=True)
            chosen = self._widened([regions[number] for number in order[:limit]], known)
        whole = Region(0, 0, *self._size)
        return [whole] if sum(region.area for region in chosen) > _WHOLE_SHARE * whole.area else chosen

    def _widened(self, regions: list[Region], known: Sequence[Box]) -> list[Region]:
        """Let regions hold the objects that their borders run through."""
        while cut := find_cut(regions, known, self._size):
            inside = _inside(cut[0], self._size)
            number = next(number for number, region in enumerate(regions) if _overlap(region, inside))
            regions[number] = _around(_union(Box(*regions[number]), inside), self._size)
        return list(dict.fromkeys(regions))

    def _cells(self, region: Region) -> NDArray[np.float64]:
        rows = slice(region.top // _GRID, -(-region.bottom // _GRID))
        columns = slice(region.left // _GRID, -(-region.right // _GRID))
        return self._seen_at[rows, columns]


def find_cut(regions: Sequence[Region], boxes: Iterable[Box], frame_size: tuple[int, int]) -> list[Box]:
    """Return the boxes that a region's border runs through and that no region holds.

    Only a part of such an object is seen, which looks as if the object had another place and size.

    Args:
        regions: what the detector looks at.
        boxes: objects in pixels of the frame.
        frame_size: width and height in pixels.
    """
    inside = [(box, _inside(box, frame_size)) for box in boxes]
    return [
        box
        for box, seen in inside
        if any(_overlap(region, seen) for region in regions) and not any(_holds(region, seen) for region in regions)
    ]


def is_held(regions: Iterable[Region], box: Box, frame_size: tuple[int, int]) -> bool:
    """Return whether a region holds a box, or all of it that is inside the frame."""
    seen = _inside(box, frame_size)
    return any(_holds(region, seen) for region in regions)


def _join(clusters: list[Box], frame_size: tuple[int, int], smallest: int) -> list[Region]:
    """Join the pair of clusters that gains most, until joining gains nothing."""
    regions = [_region(box, frame_size, smallest) for box in clusters]
    while len(regions) > 1:
        joined = {
            pair: _region(_union(clusters[pair[0]], clusters[pair[1]]), frame_size, smallest)
            for pair in combinations(range(len(regions)), 2)
        }
        (first, second), region = min(
            joined.items(), key=lambda item: item[1].area - regions[item[0][0]].area - regions[item[0][1]].area
        )
        if region.area > regions[first].area + regions[second].area:
            break
        clusters[first], regions[first] = _union(clusters[first], clusters[second]), region
        del clusters[second], regions[second]
    return regions


def _region(box: Box, frame_size: tuple[int, int], smallest: int) -> Region:
    """Return a square around a box with some surroundings, no smaller than `smallest` where the frame is larger."""
    return _square(box, frame_size, max(smallest, max(box.width, box.height) * (1 + 2 * _MARGIN)))


def _around(box: Box, frame_size: tuple[int, int]) -> Region:
    """Return a square that holds a box, also after it was snapped to the grid."""
    return _square(box, frame_size, max(box.width, box.height) + 2 * _GRID)


def _square(box: Box, frame_size: tuple[int, int], wanted: float) -> Region:
    """Return a square of at least the wanted side around a box, snapped to the grid and pushed inside the frame."""
    side = -(-int(wanted) // _GRID) * _GRID
    left, right = _span((box.left + box.right) / 2, side, frame_size[0])
    top, bottom = _span((box.top + box.bottom) / 2, side, frame_size[1])
    return Region(left, top, right, bottom)


def _span(centre: float, side: int, length: int) -> tuple[int, int]:
    if side >= length:
        return 0, length
    start = round((centre - side / 2) / _GRID) * _GRID
    start = min(max(start, 0), length - side)
    return start, start + side


def _inside(box: Box, frame_size: tuple[int, int]) -> Box:
    width, height = frame_size
    return Box(max(0.0, box.left), max(0.0, box.top), min(float(width), box.right), min(float(height), box.bottom))


def _overlap(region: Region, box: Box) -> bool:
    return min(region.right, box.right) > max(region.left, box.left) and min(region.bottom, box.bottom) > max(
        region.top, box.top
    )


def _holds(region: Region, box: Box) -> bool:
    return (
        region.left <= box.left and region.top <= box.top and region.right >= box.right and region.bottom >= box.bottom
    )


def _union(one: Box, two: Box) -> Box:
    return Box(min(one.left, two.left), min(one.top, two.top), max(one.right, two.right), max(one.bottom, two.bottom))


def merge_detections(parts: Sequence[tuple[Region, Detections]], frame_size: tuple[int, int]) -> Detections:
    """Make one list of what was found in several regions, each object once.

    An object in two overlapping regions is found twice: the better one stays. At a region's border only a part of it is
    found: a box that ends at a border inside the frame gives way to a box of its class that holds most of it.

    Args:
        parts: each region with what was found in it, in pixels of the frame.
        frame_size: width and height in pixels.
    """
    found = [(region, detections) for region, detections in parts if len(detections)]
    if not found:
        return Detections.none()
    everything = Detections(
        np.concatenate([detections.boxes for _, detections in found]),
        np.concatenate([detections.scores for _, detections in found]),
        np.concatenate([detections.classes for _, detections in found]),
    )
    if len(parts) == 1:
        return everything
    cut = np.concatenate([_cut_off(detections.boxes, region, frame_size) for region, detections in found])
    return everything[_keep(everything, cut)]


def _cut_off(boxes: NDArray[np.float32], region: Region, frame_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which boxes end at a border of the region that is not the frame's."""
    width, height = frame_size
    cut: NDArray[np.bool_] = np.zeros(len(boxes), np.bool_)
    if region.left > 0:
        cut |= boxes[:, 0] < region.left + _BORDER
    if region.top > 0:
        cut |= boxes[:, 1] < region.top + _BORDER
    if region.right < width:
        cut |= boxes[:, 2] > region.right - _BORDER
    if region.bottom < height:
        cut |= boxes[:, 3] > region.bottom - _BORDER
    return cut


def _keep(found: Detections, cut: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the rows that stay: whole boxes before cut ones, better before worse."""
    kept: list[int] = []
    for row in np.lexsort((-found.scores, cut)):
        others = np.array([other for other in kept if found.classes[other] == found.classes[row]], np.intp)
        shared = _intersections(found.boxes[row], found.boxes[others])
        area, areas = _area(found.boxes[row]), _area(found.boxes[others])
        duplicate = shared > _DUPLICATE_IOU * (area + areas - shared)
        if cut[row]:
            duplicate |= shared > _CUT_OFF * area
        if not duplicate.any():
            kept.append(int(row))
    return np.array(sorted(kept), np.intp)


def _intersections(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.asarray(np.prod(np.maximum(sides, 0), axis=1), np.float32)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]), np.float32)
