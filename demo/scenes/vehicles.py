"""Draws cars, delivery vans and bicycles: lofted bodies of flat panels, lit by the sun, on turning wheels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin
from random import Random

from .sketch import Colour, Point, Sketch, shade

PAINT: tuple[Colour, ...] = (
    (178, 34, 36), (36, 70, 130), (206, 208, 212), (60, 64, 70), (24, 26, 30), (238, 238, 236), (84, 110, 92),
    (150, 154, 160), (196, 150, 60), (92, 38, 52), (110, 150, 180),
)  # fmt: skip
GLASS: Colour = (70, 86, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """What a car or a van looks like; metres and RGB."""

    style: str = "saloon"
    length: float = 4.4
    width: float = 1.8
    height: float = 1.46
    paint: Colour = PAINT[0]


@dataclass(frozen=True, slots=True)
class _Style:
    """Profiles along the car as (share of the length from the rear, share of the height)."""

    body: tuple[tuple[float, float], ...]
    cabin: tuple[tuple[float, float], ...]
    """Four corners: base rear, roof rear, roof front, base front."""
    pillars: tuple[float, ...]


STYLES = {
    "saloon": _Style(
        ((0.0, 0.56), (0.02, 0.62), (0.16, 0.66), (0.45, 0.655), (0.68, 0.645), (0.85, 0.6), (0.96, 0.54), (1.0, 0.45)),
        ((0.1, 0.66), (0.27, 0.985), (0.52, 1.0), (0.72, 0.64)),
        (0.5,),
    ),
    "hatchback": _Style(
        ((0.0, 0.5), (0.01, 0.6), (0.1, 0.66), (0.45, 0.65), (0.72, 0.64), (0.88, 0.59), (0.97, 0.52), (1.0, 0.42)),
        ((0.015, 0.66), (0.12, 0.97), (0.5, 1.0), (0.77, 0.635)),
        (0.36, 0.66),
    ),
    "suv": _Style(
        ((0.0, 0.5), (0.01, 0.58), (0.06, 0.64), (0.45, 0.64), (0.72, 0.63), (0.9, 0.6), (0.98, 0.53), (1.0, 0.42)),
        ((0.02, 0.64), (0.09, 0.97), (0.56, 1.0), (0.74, 0.63)),
        (0.33, 0.64),
    ),
    "van": _Style(
        ((0.0, 0.4), (0.0, 0.5), (0.3, 0.5), (0.7, 0.5), (0.86, 0.48), (0.96, 0.42), (1.0, 0.3)),
        ((0.0, 0.5), (0.005, 0.985), (0.72, 1.0), (0.9, 0.48)),
        (0.58,),
    ),
}


def random_car(rng: Random, style: str | None = None) -> Car:
    """Return some car, or a van if asked for."""
    style = style or rng.choice(("saloon", "hatchback", "suv"))
    size = {"saloon": (4.5, 1.8, 1.45), "hatchback": (4.1, 1.77, 1.5), "suv": (4.6, 1.88, 1.7), "van": (5.6, 2.0, 2.5)}
    length, width, height = (value * rng.uniform(0.95, 1.06) for value in size[style])
    paint = rng.choice(PAINT) if style != "van" or rng.random() < 0.4 else rng.choice(((236, 236, 232), (150, 96, 50)))
    return Car(style=style, length=length, width=width, height=height, paint=paint)


def draw_car(sketch: Sketch, car: Car, rolled: float, *, lamps: bool = False, brake: bool = False) -> None:
    """Add a car that has rolled some metres; with its lamps on, or braking."""
    _CarBody(sketch, car, rolled, lamps=lamps, brake=brake).draw()


class _CarBody:
    """Panels are given counter-clockwise as seen from outside; right is +, forward is +."""

    def __init__(self, sketch: Sketch, car: Car, rolled: float, *, lamps: bool, brake: bool) -> None:
        self.sketch = sketch
        self.car = car
        self.style = STYLES[car.style]
        self.rolled = rolled
        self.lamps = lamps
        self.brake = brake
        self.half = car.width / 2
        self.sill = 0.16 * min(car.height, 1.7)
        self.wheel = 0.205 * min(car.height, 1.72)

    def _along(self, share: float) -> float:
        return (share - 0.5) * self.car.length

    def _up(self, share: float) -> float:
        return share * self.car.height

    def draw(self) -> None:
        self._shadow()
        self._sides()
        self._ends()
        self._top()
        self._cabin()
        self._mirrors()
        for share in (0.19, 0.81):
            for side in (-1, 1):
                self._wheel(self._along(share), side)

    def _shadow(self) -> None:
        rear, front = self._along(0.03), self._along(0.97)
        half = self.half * 0.92
        underside = [(-half, 0.05, rear), (half, 0.05, rear), (half, 0.05, front), (-half, 0.05, front)]
        self.sketch.flat(underside, (34, 34, 36), bias=-1.5)
        for share in (0.19, 0.81):
            for side in (-1, 1):
                self._tyre(self._along(share), side)

    def _tyre(self, along: float, side: int) -> None:
        """Add a tyre as it is seen from before or behind the car, below the bumper."""
        inner, outer = sorted((side * self.half * 0.7, side * self.half * 0.97))
        for end in (-0.8, 0.8):
            at = along + end * self.wheel
            tread = [(inner, 0.0, at), (inner, self.wheel, at), (outer, self.wheel, at), (outer, 0.0, at)]
            self.sketch.flat(tread, (22, 22, 24), bias=-1.2)

    def _mirrors(self) -> None:
        base = self.style.cabin[3]
        up, along = self._up(base[1]) + 0.1, self._along(base[0]) - 0.3
        for side in (-1, 1):
            out = side * (self.half + 0.06)
            joints = [(out, up, along, 0.06), (out + side * 0.06, up, along, 0.06)]
            self.sketch.limb(joints, self.car.paint, bias=0.5 if self._sees(side) else 0.0)

    def _mirrored(self, corners: Sequence[Point], colour: Colour, *, bias: float = 0.0, gloss: float = 0.0) -> None:
        """Add a panel on the right flank (+) and its mirror on the left."""
        self.sketch.panel(corners, colour, bias=bias, gloss=gloss)
        mirrored = [(-right, up, along) for right, up, along in reversed(corners)]
        self.sketch.panel(mirrored, colour, bias=bias, gloss=gloss)

    def _sides(self) -> None:
        """Three bands a flank: tucked in below, bulging at the crease, falling in to the shoulder."""
        paint = self.car.paint
        for (first, first_up), (second, second_up) in pairwise(self.style.body):
            bands = [(0.0, 0.95), (0.42, 1.0), (0.8, 0.985), (1.0, 0.93)]
            for (low, low_half), (high, high_half) in pairwise(bands):
                corners = [
                    self._flank(second, second_up, low, low_half),
                    self._flank(second, second_up, high, high_half),
                    self._flank(first, first_up, high, high_half),
                    self._flank(first, first_up, low, low_half),
                ]
                self._mirrored(corners, paint, gloss=0.14 * high - 0.06)
        self._door_lines()

    def _flank(self, share: float, top: float, level: float, half: float) -> Point:
        narrowing = 1.0 - 0.14 * max(0.0, abs(share - 0.5) * 2 - 0.75) / 0.25
        return self.half * half * narrowing, self.sill + level * (self._up(top) - self.sill), self._along(share)

    def _door_lines(self) -> None:
        """Draw the gaps of the doors and their handles."""
        for share in (0.3, 0.5, 0.7):
            up = self._up(0.62 if self.car.style != "van" else 0.5)
            line = [
                (self.half * 1.003, self.sill + 0.08, self._along(share) - 0.012),
                (self.half * 0.96, up, self._along(share) - 0.012),
                (self.half * 0.96, up, self._along(share) + 0.012),
                (self.half * 1.003, self.sill + 0.08, self._along(share) + 0.012),
            ]
            self._mirrored(
                line[::-1], (self.car.paint[0] * 0.4, self.car.paint[1] * 0.4, self.car.paint[2] * 0.4), bias=0.3
            )

    def _ends(self) -> None:
        for share, sign in ((1.0, 1), (0.0, -1)):
            top = self.style.body[-1][1] if sign > 0 else self.style.body[0][1]
            along = self._along(share)
            half = self.half * 0.83
            face = [
                (-half, self.sill, along),
                (-half, self._up(top), along),
                (half, self._up(top), along),
                (half, self.sill, along),
            ]
            self.sketch.panel(face[::sign], self.car.paint, gloss=-0.02)
            self._end_details(along + 0.015 * sign, sign, half, self._up(top))

    def _end_details(self, along: float, sign: int, half: float, top: float) -> None:
        low = self.sill + 0.3 * (top - self.sill)
        grille = [
            (-half * 0.55, low, along),
            (-half * 0.55, top - 0.06, along),
            (half * 0.55, top - 0.06, along),
            (half * 0.55, low, along),
        ]
        plate = [
            (-0.26, low - 0.13, along),
            (-0.26, low - 0.02, along),
            (0.26, low - 0.02, along),
            (0.26, low - 0.13, along),
        ]
        bumper = [(-half, self.sill, along), (-half, low, along), (half, low, along), (half, self.sill, along)]
        self.sketch.panel(bumper[::sign], (52, 54, 58), bias=0.22)
        if sign > 0:
            self.sketch.panel(grille, (36, 38, 42), bias=0.25)
        self.sketch.panel(plate[::sign], (228, 228, 214), bias=0.3)
        for side in (-1, 1):
            inner, outer = side * half * 0.6, side * half * 0.99
            left, right = min(inner, outer), max(inner, outer)
            lamp = [
                (left, top - 0.17, along),
                (left, top - 0.02, along),
                (right, top - 0.02, along),
                (right, top - 0.17, along),
            ]
            if sign > 0:
                colour: Colour = (255, 252, 230) if self.lamps else (214, 220, 224)
            else:
                colour = (255, 60, 44) if self.brake else (190, 30, 30) if self.lamps else (150, 24, 28)
            gloss = 0.6 if (self.lamps and sign > 0) or (self.brake and sign < 0) else 0.1
            self.sketch.panel(lamp[::sign], colour, bias=0.32, gloss=gloss)

    def _top(self) -> None:
        for (first, first_up), (second, second_up) in pairwise(self.style.body):
            left = [self._flank(share, up, 1.0, 0.93) for share, up in ((first, first_up), (second, second_up))]
            right = [(-r, u, f) for r, u, f in left]
            self.sketch.panel([left[0], left[1], right[1], right[0]], self.car.paint, gloss=0.06)

    def _cabin(self) -> None:
        base_rear, roof_rear, roof_front, base_front = (
            (self._up(up), self._along(share)) for share, up in self.style.cabin
        )
        wide, narrow = self.half * 0.93, self.half * (0.74 if self.car.style != "van" else 0.9)
        paint = self.car.paint
        roof = [(narrow, *roof_rear), (narrow, *roof_front), (-narrow, *roof_front), (-narrow, *roof_rear)]
        self.sketch.panel(roof, paint, bias=0.2, gloss=0.08)
        flank = [(wide, *base_front), (narrow, *roof_front), (narrow, *roof_rear), (wide, *base_rear)]
        self._mirrored(flank, paint, bias=0.15)
        screen = [(-wide, *base_front), (wide, *base_front), (narrow, *roof_front), (-narrow, *roof_front)]
        self.sketch.panel(screen[::-1], paint, bias=0.15)
        glass = _inset(screen, 0.08)
        self.sketch.panel(glass[::-1], GLASS, bias=0.3, gloss=0.02)
        # The sky lies on the glass from the upper left.
        sheen = [glass[3], glass[2], _between(glass[1], glass[2], 0.55), _between(glass[0], glass[3], 0.2)]
        self.sketch.panel(sheen, GLASS, bias=0.32, gloss=0.3)
        back = [(-wide, *base_rear), (wide, *base_rear), (narrow, *roof_rear), (-narrow, *roof_rear)]
        self.sketch.panel(back, paint, bias=0.15)
        self.sketch.panel(_inset(back, 0.13), GLASS, bias=0.3)
        self._windows(flank)

    def _windows(self, flank: list[Point]) -> None:
        """Cut the glasshouse's flank at the pillars."""
        base_front, roof_front, roof_rear, base_rear = flank
        cuts = [0.04, *sorted(1 - pillar for pillar in self.style.pillars), 0.96]
        if self.car.style == "van":
            cuts = [0.04, 0.42]
        for first, second in pairwise(cuts):
            start, end = first + 0.02, second - 0.02
            corners = [
                _between(_between(base_front, base_rear, start), _between(roof_front, roof_rear, start), 0.08),
                _between(_between(base_front, base_rear, start), _between(roof_front, roof_rear, start), 0.86),
                _between(_between(base_front, base_rear, end), _between(roof_front, roof_rear, end), 0.86),
                _between(_between(base_front, base_rear, end), _between(roof_front, roof_rear, end), 0.08),
            ]
            self._mirrored(corners, GLASS, bias=0.35, gloss=0.05)

    def _wheel(self, along: float, side: int) -> None:
        right = side * self.half * 0.985
        if not self._sees(side):
            return
        radius = self.wheel
        self._disc(right, along, radius * 1.16, (26, 26, 28), 0.4)
        self._disc(right + 0.012 * side, along, radius, (38, 38, 40), 0.42)
        self._disc(right + 0.016 * side, along, radius * 0.66, (150, 153, 158), 0.44)
        self._disc(right + 0.018 * side, along, radius * 0.56, (92, 95, 100), 0.45)
        for spoke in range(5):
            angle = spoke * 2 * pi / 5 - self.rolled / radius
            self._spoke(right + 0.02 * side, along, angle)

    def _sees(self, side: int) -> bool:
        """Return whether the camera sees this flank."""
        outward_x, outward_z = side * cos(self.sketch.heading), -side * sin(self.sketch.heading)
        flank_x = self.sketch.x + outward_x * self.half
        flank_z = self.sketch.z + outward_z * self.half
        return -(outward_x * flank_x + outward_z * flank_z) > 0

    def _disc(self, right: float, along: float, radius: float, colour: tuple[int, int, int], bias: float) -> None:
        centre = self.wheel
        rim = [(right, centre + radius * sin(a * pi / 9), along + radius * cos(a * pi / 9)) for a in range(18)]
        floor = [(r, max(0.0, u), f) for r, u, f in rim]
        self.sketch.flat(floor, colour, bias=bias)

    def _spoke(self, right: float, along: float, angle: float) -> None:
        reach, side = self.wheel * 0.6, 0.16
        tips = [(angle - side, 0.25), (angle - side * 0.6, 1.0), (angle + side * 0.6, 1.0), (angle + side, 0.25)]
        corners = [(right, self.wheel + reach * r * sin(a), along + reach * r * cos(a)) for a, r in tips]
        self.sketch.flat(corners, (172, 175, 180), bias=0.46)


def _between(first: Point, second: Point, share: float) -> Point:
    a, b, c = (start + (end - start) * share for start, end in zip(first, second, strict=True))
    return a, b, c


def _inset(corners: Sequence[Point], share: float) -> list[Point]:
    """Shrink a panel towards its middle."""
    count = len(corners)
    middle = (
        sum(c[0] for c in corners) / count,
        sum(c[1] for c in corners) / count,
        sum(c[2] for c in corners) / count,
    )
    return [_between(corner, middle, share) for corner in corners]


def draw_bicycle(sketch: Sketch, paint: Colour, rolled: float) -> None:
    """Add a bicycle without its rider."""
    radius = 0.34
    for along in (-0.52, 0.52):
        rim = [(0.0, radius + radius * sin(a * pi / 10), along + radius * cos(a * pi / 10), 0.02) for a in range(21)]
        sketch.chain(rim, (34, 34, 36))
        for spoke in range(6):
            angle = spoke * pi / 3 - rolled / radius
            tip = (0.0, radius + 0.33 * sin(angle), along + 0.33 * cos(angle), 0.004)
            sketch.limb([(0.0, radius, along, 0.006), tip], (150, 150, 154))
    hub_rear, hub_front, crank = (0.0, radius, -0.52, 0.02), (0.0, radius, 0.52, 0.02), (0.0, 0.3, -0.08, 0.03)
    saddle, head = (0.0, 0.82, -0.24, 0.02), (0.0, 0.84, 0.36, 0.022)
    for tube in (
        (hub_rear, crank),
        (crank, saddle),
        (saddle, head),
        (crank, head),
        (hub_rear, saddle),
        (head, hub_front),
    ):
        sketch.limb(tube, paint, bias=0.01)
    bar = (0.0, 0.98, 0.34, 0.014)
    sketch.limb([head, bar], shade(paint, 0.8))
    sketch.limb([(-0.26, 1.0, 0.3, 0.014), (0.26, 1.0, 0.3, 0.014)], (40, 40, 42))
    sketch.limb([(0.0, 0.93, -0.34, 0.035), (0.0, 0.93, -0.16, 0.025)], (30, 28, 28))
