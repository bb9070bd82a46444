"""The places where scenes happen: a front door, a driveway, a garden and a street.

Each is painted once, at twice the picture's size, from its plan in metres: ground materials by the world point below
each pixel, walls as textures in perspective, plants as clumps of leaves. What can stand before an actor is kept apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from . import textures
from .geometry import NEAR, Camera, Points
from .sketch import Colour, Point, Sketch, Sprite, shade

type Corner = tuple[float, float]
"""World x and z, metres."""

SCALE = 2
"""Oversampling of the painted background."""
FAR = 70.0
"""Depth of what is painted on the sky, metres."""

GRASS: tuple[Colour, ...] = ((98, 122, 62), (84, 110, 58), (118, 130, 74), (92, 116, 72))
PAVING: tuple[Colour, ...] = ((160, 154, 144), (148, 140, 134), (170, 158, 140), (138, 136, 136))
ASPHALT: tuple[Colour, ...] = ((88, 90, 94), (76, 78, 82), (102, 102, 104))
BRICK: tuple[Colour, ...] = ((158, 86, 66), (136, 80, 68), (172, 120, 92), (120, 96, 88))
PLASTER: tuple[Colour, ...] = ((222, 214, 196), (206, 206, 202), (232, 226, 214), (196, 184, 160), (178, 190, 196))
WOOD: tuple[Colour, ...] = ((134, 102, 72), (116, 92, 74), (150, 122, 90), (104, 100, 96))
LEAF: tuple[Colour, ...] = ((70, 104, 48), (58, 92, 50), (88, 112, 52), (62, 88, 60))
DOORS: tuple[Colour, ...] = ((46, 70, 96), (120, 36, 34), (48, 84, 62), (88, 62, 44), (60, 62, 66))


@dataclass(frozen=True, slots=True, eq=False)
class Prop:
    """Something that stands still, or sways, and can hide an actor behind it.

    Attributes:
        sprite: its picture and depth.
        sway: pixels that wind of strength 1 moves it.
        phase: of its swaying, radians.
    """

    sprite: Sprite
    sway: float = 0.0
    phase: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lamp:
    """A lamp of the place: where it hangs (metres) and how far it reaches."""

    x: float
    y: float
    z: float
    reach: float
    colour: Colour = (255, 214, 150)


@dataclass(slots=True, eq=False)
class Setting:
    """One painted place.

    Attributes:
        background: RGB picture by daylight.
        depth: (rows, width) metres of what each pixel shows.
        ground: (rows, width) 1 where it shows ground.
        sky: (rows, width) 1 where it shows sky.
    """

    name: str
    camera: Camera
    background: Image.Image
    depth: NDArray[np.float32]
    ground: NDArray[np.float32]
    sky: NDArray[np.float32]
    props: list[Prop] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)


class Painter:
    """Paints one place, the far things first."""

    def __init__(self, camera: Camera, rng: Random) -> None:
        self.camera = camera
        self.rng = rng
        self.big = Camera(
            height=camera.height,
            pitch=camera.pitch,
            focal=camera.focal * SCALE,
            width=camera.width * SCALE,
            rows=camera.rows * SCALE,
        )
        self.size = (self.big.width, self.big.rows)
        self.image = Image.new("RGB", self.size)
        self.depth = np.full((camera.rows, camera.width), FAR, np.float32)
        self.tile = textures.noise_tile(rng.randrange(1 << 30))
        self.props: list[Prop] = []
        self.bare = np.ones((camera.rows, camera.width), bool)
        self.cuts: list[tuple[NDArray[np.bool_], float]] = []
        rows, columns = np.mgrid[0 : self.size[1], 0 : self.size[0]].astype(np.float64)
        self.ground_x, self.ground_z = self.big.ground(columns + 0.5, rows + 0.5)
        self.pixels = np.zeros((self.size[1], self.size[0], 3), np.float32)

    def sky(self, clouds: float) -> None:
        """Paint the sky down to the horizon."""
        horizon = max(2, int(self.big.horizon()) + 4)
        image = textures.sky(
            (self.size[0], horizon), (118, 158, 204), (206, 220, 230), clouds, self.rng.randrange(1 << 30)
        )
        self.pixels[:horizon] = np.asarray(image, np.float32)[: self.size[1]]

    def ground(self, colour: Colour, *, rough: float = 0.3, grain: float = 0.2) -> None:
        """Cover everything below the horizon."""
        mask = np.isfinite(self.ground_z)
        self._surface(mask, colour, rough, grain)
        near = self.ground_z[::SCALE, ::SCALE]
        self.depth = np.where(np.isfinite(near), np.minimum(near, FAR), FAR).astype(np.float32)

    def area(
        self, corners: Sequence[Corner], colour: Colour, *, rough: float = 0.12, grain: float = 0.14, slab: float = 0.0
    ) -> None:
        """Pave an area; `slab` is the size of its slabs in metres (0: none)."""
        mask = self._mask([(x, 0.0, z) for x, z in corners])
        self._surface(np.asarray(mask) > 127, colour, rough, grain, slab)

    def _surface(self, mask: NDArray[np.bool_], colour: Colour, rough: float, grain: float, slab: float = 0.0) -> None:
        x, z = self.ground_x[mask], np.minimum(self.ground_z[mask], 4000.0)
        fade = np.clip(9.0 / (z + 4.0), 0.12, 1.0).astype(np.float32)
        light = (
            1 + rough * textures.look_up(self.tile, x, z, 9.0) + grain * fade * textures.look_up(self.tile, x, z, 1.1)
        )
        if slab:
            gap = 0.03
            joint = (np.mod(x, slab) < gap) | (np.mod(z, slab) < gap)
            light -= 0.28 * fade * joint
            light += 0.07 * fade * np.sin(np.floor(x / slab) * 12.9 + np.floor(z / slab) * 78.2)
        self.pixels[mask] = np.clip(np.array(colour, np.float32) * light[:, None], 0, 255)

    def line(self, corners: Sequence[Corner], colour: Colour) -> None:
        """Paint a marking on the ground."""
        self.area(corners, colour, rough=0.05, grain=0.1)

    def _mask(self, corners: Sequence[Point]) -> Image.Image:
        mask = Image.new("L", self.size)
        seen = self.big.project(np.array(_before(corners)))
        if len(seen) > 2:
            ImageDraw.Draw(mask).polygon(seen[:, :2].ravel().tolist(), fill=255)
        return mask

    def finish_ground(self) -> None:
        """Turn to painting pictures."""
        self.image = Image.fromarray(np.clip(self.pixels, 0, 255).astype(np.uint8))

    def wall(
        self, corners: Sequence[Point], texture: Image.Image, brightness: float = 1.0, *, hides: bool = False
    ) -> None:
        """Put a texture on a four-cornered wall: top left, top right, bottom right, bottom left as seen.

        One that `hides` stands before actors that are further away.
        """
        seen = self.big.project(np.array(corners))[:, :2]
        left, top = np.floor(np.clip(seen.min(axis=0), 0, self.size)).astype(int)
        right, bottom = np.ceil(np.clip(seen.max(axis=0), 0, self.size)).astype(int)
        if right <= left or bottom <= top:
            return
        target = seen - [left, top]
        width, height = texture.size
        source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
        shown = texture.transform(
            (right - left, bottom - top),
            Image.Transform.PERSPECTIVE,
            _homography(target, source),
            Image.Resampling.BICUBIC,
        )
        mask = Image.new("L", shown.size)
        ImageDraw.Draw(mask).polygon(target.ravel().tolist(), fill=255)
        if brightness != 1.0:
            shown = shown.point(lambda value: int(min(255, value * brightness)))
        self.image.paste(shown, (int(left), int(top)), mask)
        depth = float(np.mean([corner[2] for corner in corners]))
        covered = self._deepen(mask, int(left), int(top), depth)
        if hides:
            self.cuts.append((covered, depth))

    def _deepen(self, mask: Image.Image, left: int, top: int, depth: float) -> NDArray[np.bool_]:
        """Note how far away what was just painted is; return where it is."""
        whole = Image.new("L", self.size)
        whole.paste(mask, (left, top))
        covered = np.asarray(whole.reduce(SCALE)) > 127
        self.depth[covered] = depth
        self.bare[covered] = False
        return covered

    def panel(self, corners: Sequence[Point], colour: Colour, brightness: float = 1.0) -> None:
        """Paint a flat panel."""
        seen = self.big.project(np.array(_before(corners)))
        ImageDraw.Draw(self.image).polygon(seen[:, :2].ravel().tolist(), fill=shade(colour, brightness))

    def front(  # noqa: PLR0917 - a rectangle and its distance
        self, left: float, right: float, low: float, high: float, z: float, colour: Colour, brightness: float = 1.0
    ) -> None:
        """Paint a panel that faces the camera at a distance."""
        self.panel([(left, high, z), (right, high, z), (right, low, z), (left, low, z)], colour, brightness)

    def window(self, left: float, right: float, low: float, high: float, z: float) -> None:
        """Paint a window with frame, sill, curtains and the sky's reflection."""
        self.front(left - 0.08, right + 0.08, low - 0.08, high + 0.08, z, (236, 234, 228))
        self.front(left, right, low, high, z, (62, 74, 86))
        self.front(left, right, low + (high - low) * 0.55, high, z, (96, 112, 126))
        self.front(left, left + (right - left) * 0.2, low, high, z, (176, 172, 164), 0.9)
        self.front(right - (right - left) * 0.2, right, low, high, z, (176, 172, 164), 0.82)
        middle = (left + right) / 2
        self.front(middle - 0.03, middle + 0.03, low, high, z, (236, 234, 228))
        self.front(left - 0.14, right + 0.14, low - 0.16, low - 0.08, z, (190, 186, 178))

    def house(self, left: float, right: float, z: float, height: float = 5.2) -> None:
        """Paint a house across the way."""
        rng = self.rng
        wide = right - left
        if rng.random() < 0.5:
            texture = textures.bricks(wide, height, rng.choice(BRICK), rng, 40)
        else:
            texture = textures.plaster(wide, height, rng.choice(PLASTER), rng, 40)
        self.wall([(left, height, z), (right, height, z), (right, 0, z), (left, 0, z)], texture)
        roof = textures.tiles(wide, 3.2, rng.choice(((122, 70, 58), (84, 84, 90), (104, 88, 78))), rng, 40)
        eaves, ridge = height - 0.1, height + 2.4
        corners = [
            (left + 0.3, ridge, z + 3),
            (right - 0.3, ridge, z + 3),
            (right + 0.3, eaves, z - 0.3),
            (left - 0.3, eaves, z - 0.3),
        ]
        self.wall(corners, roof)
        self._openings(left, wide, z, height)

    def _openings(self, left: float, wide: float, z: float, height: float) -> None:
        step = wide / 3
        door = self.rng.randrange(3)
        for column in range(3):
            middle = left + step * (column + 0.5)
            if height > 4:
                self.window(middle - 0.55, middle + 0.55, 3.3, 4.5, z - 0.02)
            if column == door:
                self.front(middle - 0.56, middle + 0.56, 0, 2.2, z - 0.02, (230, 228, 222))
                self.front(middle - 0.46, middle + 0.46, 0, 2.1, z - 0.03, self.rng.choice(DOORS))
            else:
                self.window(middle - 0.65, middle + 0.65, 0.95, 2.2, z - 0.02)

    def hedge(self, left: float, right: float, z: float, height: float) -> None:
        """Plant a hedge across; it hides what is behind it."""
        colour, step = self.rng.choice(LEAF), height * 0.55
        self.depth, before = np.copy(self.depth), self.depth
        x = left
        while x <= right:
            self.bush(x, z, height * self.rng.uniform(0.9, 1.1), colour)
            x += step
        self.cuts.append((self.depth != before, z))

    def bush(
        self, x: float, z: float, height: float, colour: Colour | None = None, *, keep: bool = False, sway: float = 0.0
    ) -> None:
        """Plant a bush."""
        camera = self.camera if keep else self.big
        feet, top = camera.project(np.array([(x, 0.0, z), (x, height, z)]))
        tall = max(6, int(feet[1] - top[1]))
        wide = int(tall * self.rng.uniform(0.9, 1.2))
        if tall > 900 * SCALE:
            return
        clump = textures.leaves(wide, tall, colour or self.rng.choice(LEAF), self.rng)
        left, upper = int(feet[0] - wide / 2), int(top[1] + tall * 0.06)
        if keep:
            self.props.append(Prop(Sprite(clump, left, upper, z), sway, self.rng.uniform(0, 6.28)))
            return
        self.image.paste(clump, (left, upper), clump)
        self._deepen(clump.getchannel("A"), left, upper, z)

    def tree(self, x: float, z: float, height: float, *, colour: Colour | None = None) -> None:
        """Plant a tree: a trunk and clumps of leaves that sway."""
        rng = self.rng
        colour = colour or rng.choice(LEAF)
        trunk = Sketch(self.camera, x, z, 0.0)
        bark = (92, 74, 58)
        trunk.limb([(0, 0, 0, 0.02 * height), (0.03 * height, height * 0.55, 0, 0.012 * height)], bark)
        for side in (-1, 1):
            trunk.limb(
                [(0, height * 0.42, 0, 0.01 * height), (side * height * 0.16, height * 0.66, 0, 0.005 * height)], bark
            )
        sprite = trunk.render(2)
        if sprite is not None:
            self.props.append(Prop(Sprite(sprite.image, sprite.left, sprite.top, z)))
        for _ in range(11):
            across, up = rng.uniform(-0.24, 0.24) * height, height * rng.uniform(0.52, 0.95)
            self._crown(x + across * (1.35 - up / height), up, z, height * rng.uniform(0.2, 0.3), colour)

    def _crown(self, x: float, up: float, z: float, size: float, colour: Colour) -> None:
        middle = self.camera.project(np.array([(x, up, z)]))[0]
        pixels = max(8, int(size * self.camera.focal / middle[2]))
        tall = int(pixels * 0.8)
        left, top = int(middle[0] - pixels / 2), int(middle[1] - tall / 2)
        if left > self.camera.width or left + pixels < 0 or top + tall < 0 or top > self.camera.rows:
            return
        clump = textures.leaves(pixels, tall, colour, self.rng)
        sway = 0.07 * size * self.camera.focal / middle[2] * (0.4 + up / 6)
        self.props.append(Prop(Sprite(clump, left, top, z - 0.05), sway, self.rng.uniform(0, 6.28)))

    def finish(self, name: str, lamps: list[Lamp]) -> Setting:
        """Shrink the picture to its size."""
        picture = self.image.reduce(SCALE).filter(ImageFilter.GaussianBlur(0.6))
        self.props += [_cut_out(picture, mask, depth) for mask, depth in self.cuts if mask.any()]
        below = np.isfinite(self.ground_z[::SCALE, ::SCALE])
        ground, sky = (below & self.bare).astype(np.float32), (~below & self.bare).astype(np.float32)
        for prop in self.props:
            if not prop.sway:
                continue
            self._deepen_prop(prop)
        props = sorted(self.props, key=lambda prop: -prop.sprite.depth)
        return Setting(name, self.camera, picture, self.depth, ground, sky, props, lamps)

    def _deepen_prop(self, prop: Prop) -> None:
        mask = Image.new("L", (self.camera.width, self.camera.rows))
        mask.paste(prop.sprite.image.getchannel("A"), (prop.sprite.left, prop.sprite.top))
        self.depth[np.asarray(mask) > 127] = prop.sprite.depth


def _cut_out(picture: Image.Image, mask: NDArray[np.bool_], depth: float) -> Prop:
    """Return the masked part of the picture as something that stands by itself."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    part = picture.crop(box).convert("RGBA")
    part.putalpha(Image.fromarray(mask[box[1] : box[3], box[0] : box[2]].astype(np.uint8) * 255))
    return Prop(Sprite(part, box[0], box[1], depth))


def _before(corners: Sequence[Point]) -> list[Point]:
    """Clip a polygon to what lies before the camera (Sutherland and Hodgman, one plane)."""
    kept: list[Point] = []
    limit = NEAR + 0.8
    for index, corner in enumerate(corners):
        previous = corners[index - 1]
        if (corner[2] >= limit) != (previous[2] >= limit):
            share = (limit - previous[2]) / (corner[2] - previous[2])
            a, b, c = (start + (end - start) * share for start, end in zip(previous, corner, strict=True))
            kept.append((a, b, c))
        if corner[2] >= limit:
            kept.append(corner)
    return kept


def _homography(target: Points, source: Points) -> tuple[float, ...]:
    """Return Pillow's eight coefficients, which map points of the target to those of the source."""
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(np.linalg.solve(np.array(rows), np.array(values)).tolist())


def _across(painter: Painter, near: float, pavement: float, road: float) -> None:
    """Lay a pavement, a road and the pavement beyond, and the houses across."""
    rng = painter.rng
    stone = rng.choice(PAVING)
    painter.area([(-80, near), (80, near), (80, near + pavement), (-80, near + pavement)], stone, slab=0.6)
    start = near + pavement
    painter.area([(-80, start), (80, start), (80, start + road), (-80, start + road)], rng.choice(ASPHALT))
    painter.line([(-80, start), (80, start), (80, start + 0.16), (-80, start + 0.16)], (176, 172, 164))
    middle = start + road / 2
    for dash in range(-20, 20):
        x = dash * 4.0
        painter.line(
            [(x, middle - 0.06), (x + 2, middle - 0.06), (x + 2, middle + 0.06), (x, middle + 0.06)], (206, 204, 196)
        )
    beyond = start + road
    painter.area([(-80, beyond), (80, beyond), (80, beyond + 2), (-80, beyond + 2)], stone, slab=0.6)


def _row_of_houses(painter: Painter, z: float) -> None:
    rng = painter.rng
    left = -z * 1.3 + rng.uniform(-4, 0)
    while left < z * 1.3:
        wide = rng.uniform(8, 11)
        painter.house(left, left + wide, z + rng.uniform(0, 2), rng.uniform(4.9, 5.6))
        left += wide + rng.choice((0.0, 2.5, 4.0))


def _camera(rng: Random, height: float, pitch: float, focal: float, jitter: float) -> Camera:
    return Camera(
        height=height * rng.uniform(1 - jitter, 1 + jitter),
        pitch=pitch + rng.uniform(-0.5, 0.5) * jitter,
        focal=focal * rng.uniform(1 - jitter, 1 + jitter),
    )


def _front_door(rng: Random, jitter: float) -> Setting:
    painter = Painter(_camera(rng, 2.6, 0.3, 830, jitter), rng)
    painter.sky(rng.uniform(0.3, 0.8))
    painter.ground(rng.choice(GRASS))
    _across(painter, 12.0, 2.0, 6.0)
    painter.area([(-0.9, 0.5), (0.9, 0.5), (0.9, 12), (-0.9, 12)], rng.choice(PAVING), slab=0.45)
    painter.area([(-2.6, 0.4), (2.6, 0.4), (2.6, 2.9), (-2.6, 2.9)], rng.choice(PAVING), slab=0.3)
    painter.area([(-6, 4.0), (-2.4, 3.6), (-2.4, 5.6), (-5.4, 6.0)], (92, 74, 58), rough=0.3, grain=0.4)
    painter.finish_ground()
    _row_of_houses(painter, 24)
    for side in (-1, 1):
        start, end = (-12.0, -1.4) if side < 0 else (1.4, 12.0)
        fence = textures.boards(end - start, 0.95, rng.choice(WOOD), rng)
        painter.wall([(start, 0.95, 11.8), (end, 0.95, 11.8), (end, 0, 11.8), (start, 0, 11.8)], fence, hides=True)
    for x in (-5.2, -4.3, -3.4, -2.9):
        painter.bush(
            x,
            rng.uniform(4.3, 5.4),
            rng.uniform(0.45, 0.8),
            rng.choice(((70, 104, 48), (150, 76, 100), (176, 150, 60))),
        )
    painter.hedge(5.4, 9.0, 7.5, 1.1)
    painter.tree(5.2, 9.0, 5.0)
    painter.tree(-7.0, 16.5, 6.5)
    _porch_post(painter, -2.3, 2.4)
    painter.bush(2.35, 2.75, 0.85, keep=True)
    return painter.finish("front_door", [Lamp(x=1.5, y=2.4, z=0.9, reach=3.6), Lamp(x=-9, y=5, z=15, reach=5.5)])


def _porch_post(painter: Painter, x: float, z: float) -> None:
    post = Sketch(painter.camera, x, z, 0.0)
    post.limb([(0, 0.1, 0, 0.07), (0, 3.4, 0, 0.07)], (226, 222, 214))
    post.limb([(0, 0.0, 0, 0.1), (0, 0.14, 0, 0.1)], (206, 202, 194), bias=0.1)
    sprite = post.render(2)
    if sprite is not None:
        painter.props.append(Prop(sprite))


def _driveway(rng: Random, jitter: float) -> Setting:
    painter = Painter(_camera(rng, 3.4, 0.3, 820, jitter), rng)
    painter.sky(rng.uniform(0.2, 0.8))
    painter.ground(rng.choice(GRASS))
    _across(painter, 15.0, 1.8, 6.5)
    painter.area(
        [(-2.4, 0.5), (2.2, 0.5), (2.2, 16.8), (-2.4, 16.8)], rng.choice(PAVING + ASPHALT), slab=rng.choice((0.0, 0.25))
    )
    painter.area([(2.2, 3.0), (3.4, 3.0), (3.4, 15), (2.2, 15)], (150, 144, 132), grain=0.5)
    painter.finish_ground()
    _row_of_houses(painter, 28)
    painter.hedge(-12.0, -3.4, 14.4, 1.3)
    painter.hedge(3.6, 6.4, 14.4, 1.0)
    cladding = textures.boards(7.5, 3.0, rng.choice(WOOD + PLASTER), rng, upright=False)
    painter.wall([(-4.2, 3.0, 3.0), (-4.2, 3.0, 10.5), (-4.2, 0, 10.5), (-4.2, 0, 3.0)], cladding, 0.82)
    fence = textures.boards(12, 1.5, rng.choice(WOOD), rng)
    painter.wall([(6.5, 1.5, 14.5), (6.5, 1.5, 4.0), (6.5, 0, 4.0), (6.5, 0, 14.5)], fence, 0.9)
    painter.tree(4.9, 10.5, 5.5)
    painter.tree(-8.0, 12.5, 6.0)
    painter.bush(4.4, 6.3, 0.8)
    painter.bush(-3.6, 11.6, 1.0)
    return painter.finish("driveway", [Lamp(x=-3.6, y=2.9, z=5.5, reach=5.0), Lamp(x=9, y=5.5, z=17, reach=6.0)])


def _garden(rng: Random, jitter: float) -> Setting:
    painter = Painter(_camera(rng, 3.0, 0.32, 800, jitter), rng)
    painter.sky(rng.uniform(0.2, 0.9))
    painter.ground(rng.choice(GRASS), rough=0.35)
    painter.area([(-8, 0.4), (8, 0.4), (8, 3.6), (-8, 3.6)], rng.choice(PAVING), slab=0.5)
    painter.area([(-7.5, 9.5), (-4.5, 9.2), (-4.2, 12.6), (-7.5, 12.8)], (88, 70, 54), rough=0.3, grain=0.5)
    for step in range(6):
        z = 4.3 + step * 1.2
        painter.area([(1.2, z), (2.0, z), (2.0, z + 0.6), (1.2, z + 0.6)], rng.choice(PAVING))
    painter.finish_ground()
    for far in range(-24, 24, 7):
        painter.bush(far, 22, rng.uniform(3.5, 6.0))
    fence = textures.boards(26, 1.8, rng.choice(WOOD), rng)
    painter.wall([(-13, 1.8, 14), (13, 1.8, 14), (13, 0, 14), (-13, 0, 14)], fence)
    _shed(painter, 4.6, 11.2)
    for x in (-7.2, -6.4, -5.5, -4.9):
        painter.bush(
            x,
            rng.uniform(9.8, 12.0),
            rng.uniform(0.5, 1.0),
            rng.choice(((80, 110, 50), (170, 90, 110), (190, 160, 70))),
        )
    painter.hedge(-12.0, -8.4, 8.5, 1.6)
    painter.tree(-3.4, 9.4, 5.0)
    painter.tree(9.0, 12.5, 6.0)
    painter.bush(-3.9, 4.2, 0.75, keep=True, sway=2.0)
    return painter.finish("garden", [Lamp(x=3.0, y=2.6, z=1.0, reach=6.0)])


def _shed(painter: Painter, x: float, z: float) -> None:
    wood = painter.rng.choice(WOOD)
    front = textures.boards(2.8, 2.1, wood, painter.rng)
    side = textures.boards(2.2, 2.1, wood, painter.rng)
    painter.wall([(x, 2.1, z + 2.2), (x, 2.1, z), (x, 0, z), (x, 0, z + 2.2)], side, 0.7)
    painter.wall([(x, 2.1, z), (x + 2.8, 2.1, z), (x + 2.8, 0, z), (x, 0, z)], front)
    painter.front(x + 0.9, x + 1.8, 0.05, 1.9, z - 0.02, wood, 0.7)
    roof = textures.tiles(3.2, 1.4, (86, 84, 84), painter.rng)
    painter.wall(
        [(x - 0.1, 2.7, z + 1.3), (x + 2.9, 2.7, z + 1.3), (x + 3.0, 2.05, z - 0.2), (x - 0.2, 2.05, z - 0.2)], roof
    )


def _street(rng: Random, jitter: float) -> Setting:
    painter = Painter(_camera(rng, 4.3, 0.34, 860, jitter), rng)
    painter.sky(rng.uniform(0.3, 0.9))
    painter.ground(rng.choice(GRASS))
    _across(painter, 4.5, 3.0, 7.5)
    painter.finish_ground()
    _row_of_houses(painter, 19.5)
    painter.hedge(-22, -3, 18.2, 0.9)
    painter.hedge(2, 22, 18.2, 0.9)
    painter.tree(-6.0, 16.2, 5.5)
    painter.tree(7.5, 16.2, 5.0)
    _street_lamp(painter, -3.6, 6.9)
    return painter.finish("street", [Lamp(x=-3.6, y=5.0, z=7.6, reach=7.0), Lamp(x=12, y=5, z=16, reach=6.0)])


def _street_lamp(painter: Painter, x: float, z: float) -> None:
    pole = Sketch(painter.camera, x, z, 0.0)
    pole.limb([(0, 0, 0, 0.07), (0, 6.5, 0, 0.05)], (96, 102, 104))
    sprite = pole.render(2)
    if sprite is not None:
        painter.props.append(Prop(sprite))


PLACES: dict[str, Callable[[Random, float], Setting]] = {
    "front_door": _front_door,
    "driveway": _driveway,
    "garden": _garden,
    "street": _street,
}


@lru_cache(maxsize=4)
def build(name: str, variant: int = 0) -> Setting:
    """Paint a place; variant 0 is the catalogue's, others differ in colours, layout and the camera's position."""
    rng = Random(crc32(f"{name}/{variant}".encode()))
    return PLACES[name](rng, 0.14 if variant else 0.0)
