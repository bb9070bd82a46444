"""Draws a solid body of rounded limbs and flat panels as a sprite with a soft edge.

A body is described in its own coordinates (right, up, forward; metres) and drawn back to front, each limb in a few
shrinking, brightening layers towards the light, which reads as a lit cylinder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import cos, hypot, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .geometry import Camera, Points, place

type Colour = tuple[float, float, float]
type Joint = tuple[float, float, float, float]
"""Right, up, forward and radius, metres."""
type Point = tuple[float, float, float]

LAYERS = ((1.0, 0.0, 0.72), (0.84, 0.1, 0.86), (0.55, 0.26, 1.0))
"""Of each limb: radius, shift towards the light in radii, brightness."""
LIGHT = (-0.55, -0.75)
"""Where the light comes from, in picture coordinates."""
SUN = np.array([-0.5, 0.75, -0.45]) / np.linalg.norm([-0.5, 0.75, -0.45])
"""The same in world coordinates, for flat panels."""
RING = np.array([(cos(step * pi / 12), sin(step * pi / 12)) for step in range(24)])


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A drawn body: an RGBA picture, where it lies in the frame (pixels), and how far away it stands (metres)."""

    image: Image.Image
    left: int
    top: int
    depth: float


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    depth: float
    outline: Points
    colour: tuple[int, int, int]


def shade(colour: Colour, brightness: float) -> tuple[int, int, int]:
    """Return the 8-bit colour at a brightness (1 leaves it as it is)."""
    red, green, blue = (min(255, max(0, round(channel * brightness))) for channel in colour)
    return red, green, blue


def hull(centres: Points, radii: Points) -> Points:
    """Return the outline of the convex hull of circles: the outermost point in each of a ring of directions."""
    outermost = (centres @ RING.T + radii[:, None]).argmax(axis=0)
    outline: Points = centres[outermost] + RING * radii[outermost, None]
    return outline


@dataclass(slots=True, eq=False)
class Sketch:
    """Collects the shapes of one body that stands at (x, z) with a heading."""

    camera: Camera
    x: float
    z: float
    heading: float
    _shapes: list[_Shape] = field(default_factory=list)

    def limb(self, joints: Sequence[Joint], colour: Colour, *, bias: float = 0.0) -> None:
        """Add the convex hull of spheres; a positive bias (metres) draws it as if it were nearer."""
        parts = np.array(joints)
        seen = self._project(parts[:, :3])
        radii = parts[:, 3] * self.camera.focal / seen[:, 2]
        depth = float(seen[:, 2].mean()) - bias
        for scale, shift, brightness in LAYERS:
            centres = seen[:, :2] + np.outer(radii * shift, LIGHT)
            self._shapes.append(_Shape(depth, hull(centres, radii * scale), shade(colour, brightness)))

    def chain(self, joints: Sequence[Joint], colour: Colour, *, bias: float = 0.0) -> None:
        """Add limbs from joint to joint."""
        for pair in pairwise(joints):
            self.limb(pair, colour, bias=bias)

    def panel(self, corners: Sequence[Point], colour: Colour, *, bias: float = 0.0, gloss: float = 0.0) -> None:
        """Add a flat panel, lit by the sun, if it faces the camera: its corners then run counter-clockwise."""
        world = place(np.array(corners), self.x, self.z, self.heading)
        normal = np.cross(world[2] - world[0], world[1] - world[0])
        length = float(np.linalg.norm(normal))
        eye = np.array([0.0, self.camera.height, 0.0])
        if length == 0 or float(normal @ (eye - world.mean(axis=0))) <= 0:
            return
        normal = normal / length
        lit = 0.55 + 0.4 * max(0.0, float(normal @ SUN)) + 0.12 * float(normal[1]) + gloss
        self.flat(corners, shade(colour, lit), bias=bias)

    def flat(self, corners: Sequence[Point], colour: tuple[int, int, int], *, bias: float = 0.0) -> None:
        """Add a flat panel of exactly this colour, seen from either side."""
        seen = self._project(np.array(corners))
        self._shapes.append(_Shape(float(seen[:, 2].mean()) - bias, seen[:, :2], colour))

    def _project(self, local: Points) -> Points:
        return self.camera.project(place(local, self.x, self.z, self.heading))

    def render(self, oversampling: int = 3) -> Sprite | None:
        """Draw what was added; nothing when it lies outside the picture."""
        if not self._shapes:
            return None
        outlines = np.concatenate([shape.outline for shape in self._shapes])
        left, top = np.floor(np.maximum(outlines.min(axis=0), [-600, -600])).astype(int)
        right, bottom = np.ceil(
            np.minimum(outlines.max(axis=0), [self.camera.width + 600, self.camera.rows + 600])
        ).astype(int)
        outside = right <= 0 or bottom <= 0 or left >= self.camera.width or top >= self.camera.rows
        if outside or right <= left or bottom <= top:
            return None
        if bottom - top > 320:
            oversampling = min(oversampling, 2)
        canvas = Image.new("RGBA", ((right - left) * oversampling, (bottom - top) * oversampling))
        self._paint(ImageDraw.Draw(canvas), np.array([left, top], np.float64), oversampling)
        return Sprite(canvas.reduce(oversampling), int(left), int(top), hypot(self.x, self.z))

    def _paint(self, draw: ImageDraw.ImageDraw, origin: Points, scale: int) -> None:
        for shape in sorted(self._shapes, key=lambda shape: -shape.depth):
            corners = ((shape.outline - origin) * scale).ravel().tolist()
            if len(corners) >= 6:
                draw.polygon(corners, fill=(*shape.colour, 255))


def opaque(sprite: Sprite) -> NDArray[np.bool_]:
    """Return where a sprite covers what is behind it."""
    return np.asarray(sprite.image.getchannel("A")) > 96
