"""Draws dogs and cats: a jointed four-legged body that trots, sits and looks about."""

from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin
from random import Random

from .sketch import Colour, Joint, Sketch

FUR: tuple[Colour, ...] = (
    (168, 120, 72), (58, 46, 40), (206, 180, 140), (120, 84, 54), (90, 92, 96), (222, 214, 200), (150, 88, 46),
    (40, 38, 40),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Animal:
    """What a dog or a cat looks like. `height` is metres at the shoulder."""

    species: str = "dog"
    height: float = 0.55
    fur: Colour = FUR[0]
    chest: Colour = FUR[5]
    ears_up: bool = False


def random_animal(species: str, rng: Random) -> Animal:
    """Return some dog or cat."""
    fur = rng.choice(FUR)
    return Animal(
        species=species,
        height=rng.uniform(0.42, 0.7) if species == "dog" else rng.uniform(0.26, 0.32),
        fur=fur,
        chest=rng.choice((fur, FUR[5], FUR[2])),
        ears_up=species == "cat" or rng.random() < 0.45,
    )


def draw_animal(sketch: Sketch, animal: Animal, phase: float, stride: float) -> None:
    """Add an animal; `phase` (radians) is that of its gait, `stride` 0 stands, 1 trots."""
    (_Dog if animal.species == "dog" else _Cat)(sketch, animal, phase, stride).draw()


class _Dog:
    """Joints in units of the height at the shoulder."""

    length = 1.08
    girth = 0.21
    leg = 0.058
    head_up = 1.24
    head = 0.165
    muzzle = 0.13

    def __init__(self, sketch: Sketch, animal: Animal, phase: float, stride: float) -> None:
        self.sketch = sketch
        self.animal = animal
        self.phase = phase
        self.stride = stride
        self.bob = 0.02 * stride * sin(2 * phase)

    def draw(self) -> None:
        self._trunk()
        for front in (True, False):
            for side in (-1, 1):
                self._leg(side, front=front)
        self._head()
        self._tail()

    def _limb(self, joints: list[Joint], colour: Colour, bias: float = 0.0) -> None:
        size = self.animal.height
        scaled = [(r * size, (u + self.bob) * size, f * size, radius * size) for r, u, f, radius in joints]
        self.sketch.limb(scaled, colour, bias=bias)

    def _trunk(self) -> None:
        half, fur = self.length / 2, self.animal.fur
        chest = (0.0, 0.74, half - 0.16, self.girth * 1.16)
        loin = (0.0, 0.82, -half * 0.3, self.girth * 0.8)
        rump = (0.0, 0.79, -half + 0.14, self.girth * 0.92)
        withers = (0.0, 0.87, half - 0.2, self.girth * 0.7)
        self._limb([loin, rump], fur)
        self._limb([chest, loin, withers], fur, bias=0.02)
        self._limb([(0.0, 0.66, half - 0.1, self.girth * 0.8)], self.animal.chest, bias=0.03)

    def _leg(self, side: int, *, front: bool) -> None:
        # Trotting: diagonal legs move together.
        phase = self.phase + (pi if (side > 0) == front else 0.0)
        swing = 0.5 * self.stride * sin(phase)
        lifted = 0.7 * self.stride * max(0.0, cos(phase))
        along = self.length / 2 - 0.14 if front else -self.length / 2 + 0.12
        right = 0.1 * side
        hip = (right, 0.68, along, self.leg * (1.7 if front else 2.5))
        bend = (0.2 if front else -0.35) * 0.4
        knee = (right, 0.66 - 0.33 * cos(swing + bend), along + 0.33 * sin(swing + bend), self.leg * 1.05)
        shin = swing - bend * 0.9 - lifted * (1.0 if front else 0.6)
        foot_up = max(0.05, knee[1] - 0.32 * cos(shin))
        foot = (right, foot_up, knee[2] + 0.32 * sin(shin), self.leg * 0.8)
        self._limb([hip, knee], self.animal.fur, bias=0.01 * side)
        self._limb([knee, foot], self.animal.fur)
        self._limb([foot, (right, foot_up - 0.01, foot[2] + 0.07, self.leg * 0.72)], self.animal.chest)

    def _head(self) -> None:
        half, fur, head = self.length / 2, self.animal.fur, self.head
        nod = 0.03 * sin(self.phase) * self.stride
        centre = (0.0, self.head_up + nod, half + 0.2, head)
        self._limb(
            [(0.0, 0.86, half - 0.1, self.girth * 0.75), (0.0, self.head_up + nod - 0.05, half + 0.13, head * 0.8)], fur
        )
        self._limb([centre, (0.0, centre[1] - 0.01, centre[2] + 0.04, head * 0.9)], fur, 0.03)
        nose = (0.0, centre[1] - head * 0.45, centre[2] + head * 0.7 + self.muzzle, head * 0.36)
        self._limb([(0.0, centre[1] - head * 0.3, centre[2] + head * 0.7, head * 0.58), nose], self.animal.chest, 0.06)
        self._limb([(0.0, nose[1] + 0.02, nose[2] + head * 0.3, head * 0.18)], (26, 22, 22), 0.12)
        for side in (-1, 1):
            eye = (side * head * 0.42, centre[1] + head * 0.28, centre[2] + head * 0.85, head * 0.13)
            self._limb([eye], (24, 20, 18), 0.1)
            self._ear(centre, side)

    def _ear(self, centre: Joint, side: int) -> None:
        _, up, along, head = centre
        root = (side * head * 0.6, up + head * 0.7, along - head * 0.1, head * 0.3)
        tip = (side * head * 0.8, up + head * 1.5, along - head * 0.1, head * 0.08)
        if not self.animal.ears_up:
            tip = (side * head * 1.05, up - head * 0.45, along - head * 0.05, head * 0.24)
        dark = (self.animal.fur[0] * 0.8, self.animal.fur[1] * 0.8, self.animal.fur[2] * 0.8)
        self._limb([root, tip], dark, 0.05)

    def _tail(self) -> None:
        root = -self.length / 2 - 0.02
        wag = 0.1 * sin(self.phase * 1.7)
        joints = [
            (0.0, 0.88, root, 0.05),
            (wag * 0.6, 1.02, root - 0.18, 0.05),
            (wag, 1.2, root - 0.24, 0.035),
        ]
        for first, second in pairwise(joints):
            self._limb([first, second], self.animal.fur)


class _Cat(_Dog):
    length = 1.35
    girth = 0.2
    leg = 0.06
    head_up = 1.16
    head = 0.19
    muzzle = 0.05

    def _tail(self) -> None:
        root = -self.length / 2
        sway = 0.15 * sin(self.phase * 0.6)
        joints = [
            (0.0, 0.85, root, 0.05),
            (sway * 0.3, 0.95, root - 0.25, 0.045),
            (sway * 0.7, 1.2, root - 0.42, 0.042),
            (sway, 1.48, root - 0.4, 0.04),
        ]
        for first, second in pairwise(joints):
            self._limb([first, second], self.animal.fur)
