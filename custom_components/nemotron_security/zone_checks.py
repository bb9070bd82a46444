"""Zones, entry lines and masks of a camera as a person draws and names them, tidied and checked.

Points are shares of the picture's width and height, (0, 0) at the top left. Each problem is the key of a translated
error that says what to do.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
import re
import secrets
from typing import Any, Final
from unicodedata import normalize

from .const import CONF_LABELS, CONF_LINES, CONF_MASKS, CONF_OPENING_ZONES, CONF_ZONES, DEFAULT_LABELS
from .vision.messages import Direction

type Point = tuple[float, float]
type Shape = dict[str, Any]
"""One zone, entry line or mask as the camera's subentry keeps it."""

FEWEST_POINTS: Final = 3
MOST_POINTS: Final = 32
ENDS: Final = 2
"""Points of a line."""
MOST_SHAPES: Final = 20
"""Of each kind and camera."""
LONGEST_NAME: Final = 40
LONGEST_DWELL: Final = 300
"""Seconds."""
MOST_INERTIA: Final = 10
DEFAULT_INERTIA: Final = 3
SMALLEST_AREA: Final = 0.00001
"""As a share of the picture's: about three by three pixels of 720p."""
SHORTEST_LINE: Final = 0.01
"""As a share of the picture's sides."""

_DIGITS: Final = 4
_UNITS: Final = 10**_DIGITS
_POINT: Final = re.compile(r"\s*([+-]?\d{1,4}(?:\.\d{1,6})?)\s*,\s*([+-]?\d{1,4}(?:\.\d{1,6})?)(?=[\s;]|$)[\s;]*")
"""One point, and what parts it from the next."""

_NOT_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
"""Control characters, and what XML cannot hold."""


class ShapeKind(StrEnum):
    """What can be drawn in a camera's picture; each value names its form."""

    ZONE = "zone"
    LINE = "line"
    MASK = "mask"

    @property
    def key(self) -> str:
        """Where the camera's subentry keeps those of this kind."""
        return _KEYS[self]


_KEYS: Final = {ShapeKind.ZONE: CONF_ZONES, ShapeKind.LINE: CONF_LINES, ShapeKind.MASK: CONF_MASKS}


# --- tidying --------------------------------------------------------------------------------------------------------


def tidy_name(name: str) -> str:
    """Return the name on one line, without what cannot be stored, its letters composed: `é` is one, as most type it."""
    text = normalize("NFC", name.encode("utf-8", "replace").decode())
    return " ".join(_NOT_TEXT.sub(" ", text).split())


def tidy_points(points: Iterable[Sequence[float]]) -> list[Point]:
    """Round the points, and leave out one that repeats its neighbour: a double click, or a closed polygon's last."""
    tidied: list[Point] = []
    for x, y in points:
        # `+ 0.0` makes the zero of a negative number a plain one.
        point = (round(float(x), _DIGITS) + 0.0, round(float(y), _DIGITS) + 0.0)
        if not tidied or point != tidied[-1]:
            tidied.append(point)
    while len(tidied) > 1 and tidied[-1] == tidied[0]:
        tidied.pop()
    return tidied


def parse_points(text: str) -> list[Point] | None:
    """Read points in percent, such as `10,20 50,20 50,80`; None if the text is something else."""
    points: list[Point] = []
    position = 0
    text = text.replace("%", "").strip()
    while position < len(text):
        if (found := _POINT.match(text, position)) is None:
            return None
        points.append((float(found[1]) / 100, float(found[2]) / 100))
        position = found.end()
    return points or None


def format_points(points: Iterable[Sequence[float]]) -> str:
    """Write points in percent, as `parse_points` reads them."""
    return " ".join(f"{_percent(x)},{_percent(y)}" for x, y in points)


def _percent(share: float) -> str:
    return f"{share * 100:.2f}".rstrip("0").rstrip(".")


def shape_points(shape: Mapping[str, Any]) -> list[Point]:
    """Return the points of a zone or mask, or the two ends of a line."""
    points = shape["points"] if "points" in shape else (shape["start"], shape["end"])
    return [(x, y) for x, y in points]


# --- geometry -------------------------------------------------------------------------------------------------------


def points_problem(kind: ShapeKind, points: Sequence[Point]) -> str | None:
    """Return what is wrong with the tidied points of a shape."""
    return line_problem(points) if kind is ShapeKind.LINE else polygon_problem(points)


def polygon_problem(points: Sequence[Point]) -> str | None:
    """Return what is wrong with tidied corners: they must enclose one area without crossing lines."""
    if len(points) < FEWEST_POINTS:
        return "too_few_points"
    if len(points) > MOST_POINTS:
        return "too_many_points"
    if not _inside(points):
        return "outside_picture"
    corners = [_exact(point) for point in points]
    if all(_turn(corners[0], corners[1], corner) == 0 for corner in corners[2:]):
        return "no_area"
    if _crosses_itself(corners):
        return "crosses_itself"
    return "no_area" if polygon_area(points) < SMALLEST_AREA else None


def line_problem(points: Sequence[Point]) -> str | None:
    """Return what is wrong with a line's tidied ends."""
    if len(points) > ENDS:
        return "not_two_points"
    if not _inside(points):
        return "outside_picture"
    if len(points) < ENDS:  # both ends at one place are one point
        return "no_length"
    (x1, y1), (x2, y2) = points
    return "no_length" if max(abs(x1 - x2), abs(y1 - y2)) < SHORTEST_LINE else None


def polygon_area(points: Sequence[Point]) -> float:
    """Return the area that a polygon encloses, as a share of the picture's."""
    corners = [_exact(point) for point in points]
    doubled = sum(a[0] * b[1] - b[0] * a[1] for a, b in _edges(corners))
    return abs(doubled) / 2 / _UNITS**2


def _inside(points: Iterable[Point]) -> bool:
    # Not a number compares false, too.
    return all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points)


type _Exact = tuple[int, int]


def _exact(point: Point) -> _Exact:
    """Return whole numbers, with which the tests below are exact."""
    return round(point[0] * _UNITS), round(point[1] * _UNITS)


def _edges(corners: Sequence[_Exact]) -> Iterator[tuple[_Exact, _Exact]]:
    return zip(corners, [*corners[1:], corners[0]], strict=True)


def _turn(a: _Exact, b: _Exact, c: _Exact) -> int:
    """Return on which side of the line from a to b the point c lies: 1, -1, or 0 for on it."""
    cross = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (cross > 0) - (cross < 0)


def _crosses_itself(corners: Sequence[_Exact]) -> bool:
    """Say whether two edges touch where they should not, or an edge runs back over the one before it."""
    edges = list(_edges(corners))
    count = len(edges)
    for (i, (a, b)), (j, (c, d)) in combinations(enumerate(edges), 2):
        if j - i == 1:
            if _on(a, b, d) or _on(c, d, a):
                return True
        elif (j + 1) % count == i:
            if _on(a, b, c) or _on(c, d, b):
                return True
        elif _touch(a, b, c, d):
            return True
    return False


def _on(a: _Exact, b: _Exact, point: _Exact) -> bool:
    """Say whether a point lies on the edge from a to b."""
    return (
        _turn(a, b, point) == 0
        and min(a[0], b[0]) <= point[0] <= max(a[0], b[0])
        and min(a[1], b[1]) <= point[1] <= max(a[1], b[1])
    )


def _touch(a: _Exact, b: _Exact, c: _Exact, d: _Exact) -> bool:
    """Say whether the edges a-b and c-d share a point."""
    if _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0:
        return True
    return _on(a, b, c) or _on(a, b, d) or _on(c, d, a) or _on(c, d, b)


# --- a camera's shapes ----------------------------------------------------------------------------------------------


def shapes(settings: Mapping[str, Any], kind: ShapeKind) -> list[Shape]:
    """Return a camera's zones, lines or masks."""
    return [dict(shape) for shape in settings.get(kind.key, ())]


def find_shape(settings: Mapping[str, Any], kind: ShapeKind, shape_id: str | None) -> Shape | None:
    """Return the shape with this id."""
    return next((shape for shape in shapes(settings, kind) if shape["id"] == shape_id), None)


def name_problem(name: str, taken: Iterable[str]) -> str | None:
    """Return what is wrong with a tidied name, beside those that are taken."""
    if not name:
        return "empty_name"
    if len(name) > LONGEST_NAME:
        return "long_name"
    return "name_taken" if _folded(name) in map(_folded, taken) else None


def _folded(name: str) -> str:
    """Return what is the same for names that people cannot tell apart by ear."""
    return normalize("NFC", normalize("NFC", name).casefold())


def taken_names(settings: Mapping[str, Any], kind: ShapeKind, own_id: str | None) -> list[str]:
    """Return the names that a shape of this kind may not have. Zones and lines share theirs: they are told apart."""
    kinds = (ShapeKind.MASK,) if kind is ShapeKind.MASK else (ShapeKind.ZONE, ShapeKind.LINE)
    return [shape["name"] for other in kinds for shape in shapes(settings, other) if shape["id"] != own_id]


def labels_problem(labels: Iterable[str], watched: Collection[str]) -> str | None:
    """Return whether a shape is limited to something that its camera does not watch for."""
    return None if set(labels) <= set(watched) else "label_not_watched"


def shape_problems(
    settings: Mapping[str, Any], kind: ShapeKind, shape: Mapping[str, Any], points: Sequence[Point]
) -> dict[str, str]:
    """Return what is wrong with a tidied shape that shall have these points, by field, beside the camera's others."""
    problems = {}
    if problem := name_problem(shape["name"], taken_names(settings, kind, shape["id"])):
        problems["name"] = problem
    if problem := points_problem(kind, points):
        problems["points"] = problem
    if problem := labels_problem(shape["labels"], settings.get(CONF_LABELS, DEFAULT_LABELS)):
        problems["labels"] = problem
    if kind is ShapeKind.MASK and not shape["motion"] and not shape["objects"]:
        problems["objects"] = "mask_without_effect"
    return problems


def count_problem(settings: Mapping[str, Any], kind: ShapeKind) -> str | None:
    """Return whether a camera would have more of a kind than can be looked at."""
    return "too_many_shapes" if len(shapes(settings, kind)) > MOST_SHAPES else None


def unwatched_shapes(settings: Mapping[str, Any], watched: Collection[str]) -> list[str]:
    """Return the names of what is limited to a label that would no longer be watched for."""
    return [
        shape["name"]
        for kind in ShapeKind
        for shape in shapes(settings, kind)
        if labels_problem(shape["labels"], watched)
    ]


def opening_problem(settings: Mapping[str, Any], ids: Iterable[str]) -> str | None:
    """Return whether an incident would wait for a zone or line that is not there."""
    return None if set(ids) <= set(opening_choices(settings)) else "zone_not_found"


def opening_choices(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the zones and lines, by their ids."""
    both = (ShapeKind.ZONE, ShapeKind.LINE)
    return {shape["id"]: shape["name"] for kind in both for shape in shapes(settings, kind)}


def new_shape(kind: ShapeKind, settings: Mapping[str, Any], name: str = "") -> Shape:
    """Return a shape with an id of its own and what most people want, but for its points."""
    known = {shape["id"] for each in ShapeKind for shape in shapes(settings, each)}
    shape_id = secrets.token_hex(4)
    while shape_id in known:
        shape_id = secrets.token_hex(4)
    shape: Shape = {"id": shape_id, "name": name, "labels": []}
    match kind:
        case ShapeKind.ZONE:
            return shape | {"dwell": 0, "inertia": DEFAULT_INERTIA}
        case ShapeKind.LINE:
            return shape | {"direction": Direction.BOTH.value}
        case ShapeKind.MASK:
            return shape | {"motion": True, "objects": True}


def with_points(kind: ShapeKind, shape: Mapping[str, Any], points: Sequence[Point]) -> Shape:
    """Return the shape with these points, of which `points_problem` found nothing wrong."""
    if kind is ShapeKind.LINE:
        start, end = points
        return {**shape, "start": list(start), "end": list(end)}
    return {**shape, "points": [list(point) for point in points]}


def with_shape(settings: Mapping[str, Any], kind: ShapeKind, shape: Shape) -> dict[str, Any]:
    """Return the settings with this shape, in its place if it is there already."""
    present = shapes(settings, kind)
    if find_shape(settings, kind, shape["id"]) is None:
        changed = [*present, shape]
    else:
        changed = [shape if other["id"] == shape["id"] else other for other in present]
    return {**settings, kind.key: changed}


def without_shapes(settings: Mapping[str, Any], ids: Collection[str]) -> dict[str, Any]:
    """Return the settings without these shapes; no incident waits for one of them any more."""
    changed = dict(settings)
    for kind in ShapeKind:
        if kind.key in settings:
            changed[kind.key] = [shape for shape in shapes(settings, kind) if shape["id"] not in ids]
    if CONF_OPENING_ZONES in settings:
        changed[CONF_OPENING_ZONES] = [zone for zone in settings[CONF_OPENING_ZONES] if zone not in ids]
    return changed
