"""Draws people: a jointed body that walks, waits, carries, bends down and cycles."""

from dataclasses import dataclass
from math import cos, pi, sin
from random import Random

from .sketch import Colour, Joint, Sketch

SKIN: tuple[Colour, ...] = ((236, 188, 160), (224, 172, 140), (198, 140, 104), (150, 100, 70), (104, 70, 50))
HAIR: tuple[Colour, ...] = ((34, 28, 26), (70, 48, 32), (120, 84, 50), (178, 142, 84), (140, 140, 142), (110, 50, 30))
TOPS: tuple[Colour, ...] = (
    (172, 44, 42), (44, 82, 150), (54, 58, 66), (222, 220, 212), (58, 108, 70), (214, 158, 54), (118, 82, 128),
    (110, 128, 142), (30, 34, 46), (196, 112, 70), (126, 156, 190), (148, 138, 116),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = (
    (44, 56, 88), (34, 36, 42), (92, 84, 74), (150, 136, 108), (66, 76, 96), (58, 50, 46), (120, 124, 128),
)  # fmt: skip
SADDLE = 0.98
"""Height of a cyclist's hips, metres."""
SHOES: tuple[Colour, ...] = ((30, 28, 28), (84, 56, 38), (206, 204, 200), (60, 64, 74))


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What one person looks like. Colours are RGB, `height` is metres."""

    height: float = 1.75
    build: float = 1.0
    skin: Colour = SKIN[0]
    hair: Colour = HAIR[0]
    top: Colour = TOPS[0]
    trousers: Colour = TROUSERS[0]
    shoes: Colour = SHOES[0]
    cap: Colour | None = None
    hood: bool = False
    long_hair: bool = False
    coat: bool = False
    short_sleeves: bool = False
    backpack: Colour | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """What a body does at one moment.

    Attributes:
        phase: of the gait, radians; a full turn is two steps.
        stride: 0 stands, 1 walks, 1.6 runs.
        bend: 0 upright, 1 bent down to the ground.
        carry: both arms hold something before the chest.
        reach: one arm is stretched out, as at a bell.
        seated: on a bicycle.
    """

    phase: float = 0.0
    stride: float = 0.0
    bend: float = 0.0
    carry: bool = False
    reach: float = 0.0
    seated: bool = False


def random_person(rng: Random) -> Person:
    """Return somebody."""
    return Person(
        height=rng.uniform(1.5, 1.95) if rng.random() > 0.12 else rng.uniform(1.05, 1.5),
        build=rng.uniform(0.88, 1.2),
        skin=rng.choice(SKIN),
        hair=rng.choice(HAIR),
        top=_vary(rng.choice(TOPS), rng),
        trousers=_vary(rng.choice(TROUSERS), rng),
        shoes=rng.choice(SHOES),
        cap=_vary(rng.choice(TOPS), rng) if rng.random() < 0.2 else None,
        hood=rng.random() < 0.12,
        long_hair=rng.random() < 0.35,
        coat=rng.random() < 0.25,
        short_sleeves=rng.random() < 0.3,
        backpack=_vary(rng.choice(TOPS), rng) if rng.random() < 0.2 else None,
    )


def _vary(colour: Colour, rng: Random) -> Colour:
    red, green, blue = (min(245.0, max(18.0, channel * rng.uniform(0.8, 1.2))) for channel in colour)
    return red, green, blue


def draw_person(sketch: Sketch, who: Person, pose: Pose) -> None:
    """Add a person to a sketch; its feet stand on the ground at the sketch's place."""
    _Body(sketch, who, pose).draw()


class _Body:
    """The joints of one body in one pose, in units of its height until they are drawn."""

    def __init__(self, sketch: Sketch, who: Person, pose: Pose) -> None:
        self.sketch = sketch
        self.who = who
        self.pose = pose
        self.legs = [self._leg(side) for side in (-1, 1)]
        lowest = min(leg[-2][1] for leg in self.legs)
        # The pelvis sinks so that the supporting foot stands on the ground.
        self.lift = SADDLE / who.height - 0.52 if pose.seated else 0.035 - lowest
        self.lean = 0.06 * pose.stride + 1.05 * pose.bend + (0.35 if pose.seated else 0.0)

    def draw(self) -> None:
        for side, leg in zip((-1, 1), self.legs, strict=True):
            self._draw_leg(leg)
            self._draw_arm(side)
        self._draw_torso()
        self._draw_head()

    def _metres(self, joint: Joint, build: float = 1.0) -> Joint:
        size = self.who.height
        right, up, forward, radius = joint
        return right * size * build, (up + self.lift) * size, forward * size, radius * size * build

    def _leg(self, side: int) -> list[Joint]:
        pose = self.pose
        phase = pose.phase + (pi if side > 0 else 0.0)
        if pose.seated:
            thigh, knee = 1.15 + 0.45 * sin(phase), 1.5 + 0.4 * sin(phase + 0.6)
        else:
            thigh = 0.46 * pose.stride * sin(phase) + 0.75 * pose.bend
            knee = 0.06 + 0.8 * pose.stride * max(0.0, cos(phase)) + 1.25 * pose.bend
        hip = (0.052 * side, 0.52, -0.12 * pose.bend)
        knee_up, knee_forward = hip[1] - 0.245 * cos(thigh), hip[2] + 0.245 * sin(thigh)
        shin = thigh - knee
        ankle_up, ankle_forward = knee_up - 0.24 * cos(shin), knee_forward + 0.24 * sin(shin)
        tilt = -0.5 * max(0.0, cos(phase)) * pose.stride * 0.6
        toe = (0.06 * side, ankle_up - 0.012 + 0.1 * sin(tilt), ankle_forward + 0.1 * cos(tilt), 0.018)
        return [
            (*hip, 0.058),
            (0.052 * side, knee_up, knee_forward, 0.04),
            (0.05 * side, ankle_up, ankle_forward, 0.026),
            toe,
        ]

    def _draw_leg(self, leg: list[Joint]) -> None:
        who = self.who
        joints = [self._metres(joint, who.build) for joint in leg]
        self.sketch.chain(joints[:3], who.trousers)
        right, up, forward, _ = joints[2]
        heel = (right, up - 0.012 * who.height, forward - 0.012 * who.height, 0.024 * who.height)
        self.sketch.limb([heel, joints[3]], who.shoes, bias=0.01)

    def _spine(self, along: float, right: float = 0.0, forward: float = 0.0, radius: float = 0.05) -> Joint:
        """Return a joint `along` the spine above the hips, leaning as the body does."""
        up = 0.52 + along * cos(self.lean) - forward * sin(self.lean)
        ahead = along * sin(self.lean) + forward * cos(self.lean) - 0.12 * self.pose.bend
        return right, up, ahead, radius

    def _draw_arm(self, side: int) -> None:
        pose, who = self.pose, self.who
        swing = -0.55 * pose.stride * sin(pose.phase + (pi if side > 0 else 0.0))
        elbow = 0.22 + 0.35 * pose.stride
        if pose.carry:
            swing, elbow = 0.3, 1.25
        elif pose.seated:
            swing, elbow = 0.75, 0.25
        elif pose.bend > 0.05:
            swing, elbow = 0.2 + 0.5 * pose.bend, 0.3
        elif side > 0 and pose.reach:
            swing, elbow = 1.25 * pose.reach, 0.35
        angle = swing + self.lean * 0.4
        shoulder = self._spine(0.295, 0.108 * side, radius=0.036)
        inward = 0.35 if pose.carry else 0.0
        middle = self._swung(shoulder, angle, 0.165, 0.018 * side, 0.03)
        hand = self._swung(middle, angle + elbow, 0.15, -0.09 * inward * side, 0.022)
        arm = [self._metres(joint, who.build) for joint in (shoulder, middle, hand)]
        self.sketch.limb(arm[:2], who.top, bias=0.01)
        self.sketch.limb(arm[1:], who.skin if who.short_sleeves else who.top, bias=0.015)
        right, up, forward, _ = arm[2]
        self.sketch.limb([(right, up - 0.012, forward + 0.01, 0.024 * who.height)], who.skin, bias=0.03)

    @staticmethod
    def _swung(joint: Joint, angle: float, length: float, outward: float, radius: float) -> Joint:
        right, up, forward, _ = joint
        return right + outward, up - length * cos(angle), forward + length * sin(angle), radius

    def _draw_torso(self) -> None:
        who = self.who
        hips = [self._spine(0.0, 0.035 * side, radius=0.062) for side in (-1, 1)]
        waist = [self._spine(0.12, 0.036 * side, radius=0.056) for side in (-1, 1)]
        chest = [self._spine(0.24, 0.052 * side, 0.008, 0.066) for side in (-1, 1)]
        shoulders = [self._spine(0.3, 0.085 * side, radius=0.04) for side in (-1, 1)]
        self._limb([*hips, *waist], who.trousers, bias=-0.01)
        self._limb([*waist, *chest], who.top)
        self._limb([*chest, *shoulders, self._spine(0.335, radius=0.03)], who.top, bias=0.005)
        if who.coat:
            hem = [self._spine(-0.17, 0.05 * side, 0.01 * self.pose.stride, 0.066) for side in (-1, 1)]
            self._limb([*hem, *waist], who.top, bias=0.09)
        if who.backpack and not self.pose.seated:
            pack = [self._spine(0.1, 0.03 * side, -0.1, 0.05) for side in (-1, 1)]
            pack += [self._spine(0.26, 0.03 * side, -0.095, 0.045) for side in (-1, 1)]
            self._limb(pack, who.backpack, bias=0.01)

    def _limb(self, joints: list[Joint], colour: Colour, *, bias: float = 0.0) -> None:
        self.sketch.limb([self._metres(joint, self.who.build) for joint in joints], colour, bias=bias)

    def _draw_head(self) -> None:
        who = self.who
        self._limb([self._spine(0.32, radius=0.03), self._spine(0.37, forward=0.008, radius=0.027)], who.skin)
        crown = self._spine(0.43, forward=0.012, radius=0.05)
        jaw = self._spine(0.392, forward=0.024, radius=0.034)
        self._limb([crown, jaw], who.skin, bias=0.01)
        self._limb([self._spine(0.405, forward=0.064, radius=0.009)], who.skin, bias=0.04)
        for side in (-1, 1):
            self._limb([self._spine(0.422, 0.02 * side, 0.055, 0.0062)], (40, 30, 28), bias=0.03)
            self._limb([self._spine(0.41, 0.05 * side, 0.008, 0.011)], who.skin, bias=0.01)
        self._limb([self._spine(0.385, -0.011, 0.055, 0.004), self._spine(0.385, 0.011, 0.055, 0.004)],
                   (150, 80, 76), bias=0.02)  # fmt: skip
        self._draw_hair()

    def _draw_hair(self) -> None:
        who = self.who
        colour = who.top if who.hood else who.hair
        size = 0.054 if who.hood else 0.05
        back = [self._spine(0.445, forward=-0.002, radius=size), self._spine(0.415, forward=-0.012, radius=0.045)]
        if who.long_hair or who.hood:
            back.append(self._spine(0.35, forward=-0.025, radius=0.042))
        self._limb(back, colour, bias=-0.015)
        fringe = [self._spine(0.462, 0.018 * side, 0.028, 0.024) for side in (-1, 1)]
        self._limb([self._spine(0.468, forward=0.0, radius=0.036), *fringe], who.cap or colour, bias=0.045)
        if who.cap:
            brim = [self._spine(0.45, 0.026 * side, 0.075, 0.01) for side in (-1, 1)]
            self._limb([*brim, self._spine(0.452, forward=0.04, radius=0.03)], who.cap, bias=0.06)
