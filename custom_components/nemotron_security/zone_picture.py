"""A camera's picture with a grid in percent, its zones, entry lines and masks with their names, as an SVG document.

The picture is put into the document as it is, so that nothing is decoded here; a browser draws the rest, in the
fonts that the names need.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from io import BytesIO
from math import hypot
from typing import Any, Final

from PIL import Image

from .vision.messages import Direction
from .zone_checks import Point, ShapeKind, shape_points, shapes

EMPTY_SIZE: Final = (1280, 720)
"""Of the grid without a picture."""
STEP: Final = 10
"""Percent between two lines of the grid."""

_STYLE: Final = """
.paper { fill: #23282d }
.grid { stroke: #fff; stroke-opacity: .4; stroke-width: 1 }
text { fill: #fff; stroke: #000; stroke-opacity: .8; paint-order: stroke; font-family: sans-serif }
.zone { fill: #29b6f6; fill-opacity: .25; stroke: #29b6f6 }
.mask { fill: #000; fill-opacity: .55; stroke: #f06292 }
.start { fill: #ffca28 }
.line, .arrow { fill: none; stroke: #ffca28; stroke-linecap: round; stroke-linejoin: round }
"""


def draw(jpeg: bytes | None, settings: Mapping[str, Any]) -> bytes:
    """Return the SVG. Blocks for a moment: call it in an executor.

    Args:
        jpeg: the camera's picture; None for an empty grid.
        settings: the camera's.
    """
    width, height = _size(jpeg)
    thick = width / 320
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
    ]
    if jpeg is not None:
        data = b64encode(jpeg).decode()
        parts.append(f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}"/>')
    parts += _grid(width, height)
    # Names last: nothing covers them.
    names: list[str] = []
    for kind in (ShapeKind.MASK, ShapeKind.ZONE, ShapeKind.LINE):
        for shape in shapes(settings, kind):
            points = [(x * width, y * height) for x, y in shape_points(shape)]
            parts.append(_outline(kind, points, thick))
            if kind is ShapeKind.LINE:
                parts += _arrows(points, Direction(shape["direction"]), thick)
                parts.append(f'<circle class="start" cx="{points[0][0]:g}" cy="{points[0][1]:g}" r="{thick * 2:g}"/>')
                # The arrow is in the middle of a line.
                points = [points[0], points[0], points[0], points[1]]
            names.append(_name(shape["name"], points, width, height))
    return "\n".join([*parts, *names, "</svg>"]).encode()


def _size(jpeg: bytes | None) -> tuple[int, int]:
    if jpeg is None:
        return EMPTY_SIZE
    with Image.open(BytesIO(jpeg)) as image:  # reads no more than its header
        return image.size


def _grid(width: int, height: int) -> Iterator[str]:
    """Yield lines, and along the top and the left side their percent."""
    size = width / 45
    for percent in range(STEP, 100, STEP):
        x, y = width * percent / 100, height * percent / 100
        yield f'<path class="grid" d="M{x:g} 0V{height}M0 {y:g}H{width}"/>'
    for percent in range(0, 101, STEP):
        x, y = width * percent / 100, height * percent / 100
        anchor = "start" if percent == 0 else "end" if percent == 100 else "middle"  # noqa: PLR2004
        font = f'font-size="{size:g}" stroke-width="{size / 6:g}"'
        yield f'<text {font} x="{x:g}" y="{size:g}" text-anchor="{anchor}">{percent}</text>'
        if percent:
            below = min(y + size / 3, height - size / 6)
            yield f'<text {font} x="{size / 4:g}" y="{below:g}">{percent}</text>'


def _outline(kind: ShapeKind, points: Iterable[Point], thick: float) -> str:
    element = "polyline" if kind is ShapeKind.LINE else "polygon"
    corners = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<{element} class="{kind}" points="{corners}" stroke-width="{thick:g}"/>'


def _arrows(points: list[Point], direction: Direction, thick: float) -> Iterator[str]:
    """Yield an arrow across the middle of a line for each way in which it counts."""
    (x1, y1), (x2, y2) = points
    length = hypot(x2 - x1, y2 - y1) or 1
    # With y downward, this is to the right of somebody who looks from the start to the end.
    right = ((y1 - y2) / length, (x2 - x1) / length)
    ways = {Direction.TO_RIGHT: (1,), Direction.TO_LEFT: (-1,), Direction.BOTH: (1, -1)}
    for way in ways[direction]:
        dx, dy = right[0] * way * thick * 12, right[1] * way * thick * 12
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        tip = (x + dx, y + dy)
        barbs = [(tip[0] - dx / 3 + side * dy / 3, tip[1] - dy / 3 - side * dx / 3) for side in (1, -1)]
        path = "".join(f"M{tip[0]:g} {tip[1]:g}L{bx:g} {by:g}" for bx, by in barbs)
        yield f'<path class="arrow" stroke-width="{thick:g}" d="M{x:g} {y:g}L{tip[0]:g} {tip[1]:g}{path}"/>'


def _name(name: str, points: list[Point], width: int, height: int) -> str:
    """Write a name in the middle of what it names, so that none of it is cut off."""
    size = width / 36
    x = sum(point[0] for point in points) / len(points)
    y = sum(point[1] for point in points) / len(points)
    room = len(name) * size * 0.3
    x = min(max(x, room), max(room, width - room))
    y = min(max(y, size), height - size / 2)
    font = f'font-size="{size:g}" stroke-width="{size / 6:g}" font-weight="bold"'
    return f'<text {font} x="{x:g}" y="{y:g}" text-anchor="middle" dominant-baseline="middle">{escape(name)}</text>'
