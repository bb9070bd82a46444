"""Where in a camera's picture something is: zones, entry lines and masks.

An object is where it stands, at the middle of its lower edge. What lies inside a polygon follows the even-odd rule
(Shimrat, "Algorithm 112: Position of point relative to polygon", CACM 1962), for all objects at once in NumPy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .detections import Detections
from .messages import Direction, EntryLine, Mask, Point, TrackState, Zone

type _Floats = NDArray[np.float64]
type _Bools = NDArray[np.bool_]

LINE_HOLD: Final = 2.0
"""Seconds for which an entry line stands among a track's zones after it was crossed."""
_INSIDE: Final = 1.0 - 1e-6
"""The largest share that a place may have: who is cut off by the picture's border stands on the border."""
_SURE: Final = 0.1
"""Share of an object's height by which it must be past a line, so that a trembling box does not cross it."""


def inside(x: _Floats, y: _Floats, polygon: Sequence[Point]) -> _Bools:
    """Return which places lie in a polygon; both arrays have one shape, and that is the result's."""
    found: _Bools = np.zeros(x.shape, np.bool_)
    with np.errstate(divide="ignore", invalid="ignore"):
        for one, other in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            crosses = (one.y > y) != (other.y > y)
            found ^= crosses & (x < one.x + (other.x - one.x) * (y - one.y) / np.float64(other.y - one.y))
    return found


def raster(polygons: Iterable[Sequence[Point]], shape: tuple[int, ...]) -> _Bools | None:
    """Return which pixels of a picture of this shape, (rows, columns), lie in any of the polygons; null without any."""
    rows, columns = shape
    y, x = np.mgrid[0.5:rows:1.0, 0.5:columns:1.0]
    x, y = x / columns, y / rows
    found = [inside(x, y, polygon) for polygon in polygons]
    return np.logical_or.reduce(found) if found else None


def without_masked(
    found: Detections, masks: Sequence[Mask], labels: Sequence[str], size: tuple[int, int]
) -> Detections:
    """Return the detections without those that stand in a mask for objects.

    Args:
        found: in pixels of the frame.
        masks: of the camera; those for motion alone are passed over.
        labels: the detector's, by class.
        size: width and height of the frame in pixels.
    """
    masks = [mask for mask in masks if mask.objects]
    if not masks or not len(found):
        return found
    x, y = _places(found.boxes.astype(np.float64), size)
    kept = np.ones(len(found), np.bool_)
    names = np.array(labels)[found.classes]
    for mask in masks:
        meant = np.isin(names, mask.labels) if mask.labels else kept
        kept &= ~(meant & inside(x, y, mask.points))
    return found[kept]


@dataclass(slots=True)
class _Stay:
    """How one track is to one zone."""

    looks: int = 0
    """Looks in favour of being inside, between 0 and the zone's inertia."""
    within: bool = False
    since: float = 0.0
    """When it was seen to come in."""


@dataclass(slots=True)
class _Whereabouts:
    """What is known of one track."""

    stays: dict[str, _Stay] = field(default_factory=dict)
    sides: dict[str, tuple[float, Point]] = field(default_factory=dict)
    """By line: on which side it surely was last (positive is the right one), and where."""
    crossed_at: dict[str, float] = field(default_factory=dict)
    visited: dict[str, None] = field(default_factory=dict)
    """A set that keeps its order."""
    zones: tuple[str, ...] = ()


class ZoneWatch:
    """Says of each track of one camera which zones it is in, and which entry lines it came across."""

    def __init__(self, zones: Sequence[Zone], lines: Sequence[EntryLine]) -> None:
        """Begin with nothing known of any track."""
        self._zones = tuple(zones)
        self._lines = tuple(lines)
        self._known: dict[int, _Whereabouts] = {}

    def place(self, tracks: Sequence[TrackState], at: float, size: tuple[int, int]) -> tuple[TrackState, ...]:
        """Return the live tracks after a look, each with its zones; whoever is not among them is forgotten.

        Args:
            tracks: all that live; what is hidden now stays where it was.
            at: time of the look in Unix seconds.
            size: width and height of the frame in pixels.
        """
        known = {track.track_id: self._known.get(track.track_id) or _Whereabouts() for track in tracks}
        self._known = known
        x, y = _places(np.array([track.box for track in tracks], np.float64).reshape(-1, 4), size)
        hits = [inside(x, y, zone.points) for zone in self._zones]
        for row, track in enumerate(tracks):
            where = known[track.track_id]
            if track.last_seen_at == at:
                for zone, hit in zip(self._zones, hits, strict=True):
                    _stay(where, zone, track, at, is_inside=bool(hit[row]))
                here = Point(float(x[row]), float(y[row]))
                for line in self._lines:
                    if _crosses(where, line, track, here, size):
                        where.crossed_at[line.name] = at
            where.zones = self._names(where, at)
            where.visited.update(dict.fromkeys(where.zones))
        return self.recall(tracks)

    def recall(self, tracks: Sequence[TrackState]) -> tuple[TrackState, ...]:
        """Return tracks that `place` knows from the last look with the zones that they had then."""
        return tuple(
            replace(track, zones=where.zones, visited=tuple(where.visited))
            if (where := self._known.get(track.track_id)) is not None
            else track
            for track in tracks
        )

    def _names(self, where: _Whereabouts, at: float) -> tuple[str, ...]:
        names = [
            zone.name
            for zone in self._zones
            if (stay := where.stays.get(zone.name)) and stay.within and at - stay.since >= zone.dwell
        ]
        names += [line.name for line in self._lines if at - where.crossed_at.get(line.name, -np.inf) <= LINE_HOLD]
        return tuple(names)


def _stay(where: _Whereabouts, zone: Zone, track: TrackState, at: float, *, is_inside: bool) -> None:
    """Count a look in which a track was seen inside or outside a zone."""
    is_inside &= not zone.labels or track.label in zone.labels
    stay = where.stays.get(zone.name)
    if stay is None:
        if not is_inside:
            return
        stay = where.stays[zone.name] = _Stay()
    if is_inside and not stay.looks:
        stay.since = at
    stay.looks = min(stay.looks + 1, zone.inertia) if is_inside else stay.looks - 1
    if stay.looks >= zone.inertia:
        stay.within = True
    elif stay.looks <= 0:
        del where.stays[zone.name]


def _crosses(where: _Whereabouts, line: EntryLine, track: TrackState, here: Point, size: tuple[int, int]) -> bool:
    """Return whether a track, seen here, has come across a line, between its ends and the way that counts."""
    if line.labels and track.label not in line.labels:
        return False
    distance = _side(line.start, line.end, here, size)
    if abs(distance) < _SURE * track.box.height:
        return False
    before = where.sides.get(line.name)
    where.sides[line.name] = distance, here
    if before is None or (before[0] > 0) == (distance > 0):
        return False
    # It went round an end of the line when both ends lie on one side of its way.
    ends = [_side(before[1], here, end, size) > 0 for end in (line.start, line.end)]
    wanted = (Direction.BOTH, Direction.TO_RIGHT if distance > 0 else Direction.TO_LEFT)
    return ends[0] != ends[1] and line.direction in wanted


def _side(start: Point, end: Point, place: Point, size: tuple[int, int]) -> float:
    """Return how many pixels a place is to the right of the way from start to end; negative to its left."""
    width, height = size
    along_x, along_y = (end.x - start.x) * width, (end.y - start.y) * height
    off_x, off_y = (place.x - start.x) * width, (place.y - start.y) * height
    # y grows downward, which turns the cross product's sign.
    return (along_x * off_y - along_y * off_x) / max(float(np.hypot(along_x, along_y)), 1e-9)


def _places(boxes: _Floats, size: tuple[int, int]) -> tuple[_Floats, _Floats]:
    """Return x and y, as shares of the frame, of where the objects in (N, 4) boxes stand."""
    width, height = size
    x = np.clip((boxes[:, 0] + boxes[:, 2]) / 2 / width, 0.0, _INSIDE)
    y = np.clip(boxes[:, 3] / height, 0.0, _INSIDE)
    return x, y
