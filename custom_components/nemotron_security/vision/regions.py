"""Where in a frame the detector looks.

A whole 720p frame on a 320 pixel model makes a person of 60 pixels 15 pixels high; a crop around what moves keeps it
large. Regions are squares of at least the model's input size around clusters of motion and tracks, as in Frigate;
no frame gets more than a few, and where a crop would gain nothing the whole frame is looked at.
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
    *,
    limit: int = 2,
) -> list[Region]:
    """Choose what the detector looks at.

    Args:
        motion: moving areas in pixels of the frame.
        tracks: boxes of the live tracks in pixels of the frame.
        frame_size: width and height in pixels.
        model_size: the model's input width and height in pixels.
        limit: how many regions at most.

    Returns:
        No region when there is nothing to look at; else up to `limit`, all inside the frame, that hold every box.
    """
    width, height = frame_size
    whole = Region(0, 0, width, height)
    clusters = [box for box in (_inside(box, frame_size) for box in (*motion, *tracks)) if box.area > 0]
    if not clusters:
        return []
    smallest = max(model_size)
    if min(width, height) <= smallest:
        return [whole]
    regions = _join([_region(box, frame_size, smallest) for box in clusters], clusters, frame_size, smallest, limit)
    return [whole] if sum(region.area for region in regions) > _WHOLE_SHARE * whole.area else regions


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


def _join(
    regions: list[Region], clusters: list[Box], frame_size: tuple[int, int], smallest: int, limit: int
) -> list[Region]:
    """Join the pair of clusters that costs least, until joining gains nothing and there are few enough."""
    while len(regions) > 1:
        joined = {
            pair: _region(_union(clusters[pair[0]], clusters[pair[1]]), frame_size, smallest)
            for pair in combinations(range(len(regions)), 2)
        }
        (first, second), region = min(
            joined.items(), key=lambda item: item[1].area - regions[item[0][0]].area - regions[item[0][1]].area
        )
        if len(regions) <= limit and region.area > regions[first].area + regions[second].area:
            break
        clusters[first], regions[first] = _union(clusters[first], clusters[second]), region
        del clusters[second], regions[second]
    return regions


def _region(box: Box, frame_size: tuple[int, int], smallest: int) -> Region:
    """Return a square around a box, snapped to the grid and pushed inside the frame; smaller only than the frame is."""
    wanted = max(smallest, max(box.width, box.height) * (1 + 2 * _MARGIN))
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
