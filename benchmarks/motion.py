"""The motion gate: its speed, what it invents in noise and what it misses.

    python -m benchmarks.motion [--json]

Each scene has 600 frames of 720p at 5 a second with shot noise, encoded with H.264 at a camera's bit rate and decoded
again, so that the codec's own noise (blocks that change with every key frame) is in it. Frame 1 is the background.
- `idle`: a garden by day, nothing moves. `false_frames_idle` counts the frames with motion.
- `hit`: the same with a person of 110 pixels who walks through. `hit_ratio` is the share of the frames in which a box
  lies on the person; `stray_frames` counts frames with a box that does not touch the person.
- `far`: a person of 30 pixels. `hit_ratio_far`.
- `ir`: an infrared-like night: flat contrast, strong noise, a slow flicker of the lamp; a person 30 grey levels
  brighter than the ground. `blind_frames_ir` counts frames without a box on the person; `false_frames_ir` those with
  motion while nobody is there. `blind_frames_faint`: the person is only 15 grey levels brighter.
- `lamp`: nothing moves, and every 20 s a lamp goes on or off. `light_frames` counts frames with boxes for each
  switching (a change that is told as `light_change` has none).
A box lies on a person if it holds a third of it and is not larger than an eighth of the picture.

`p50_ms_720p` is one update of the gate with the grey picture at hand; `grey_ms_720p` is what making that picture costs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
import io
import itertools

import av
import numpy as np
from numpy.typing import NDArray

from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.messages import Box
from custom_components.nemotron_security.vision.motion import MAXIMUM_HEIGHT, MotionDetector

from . import _report

type _Floats = NDArray[np.float32]
type _Painter = Callable[[_Floats, int], Box | None]
"""Paints what is new in a frame into a copy of the scene, and returns where the person is, in pixels."""

FRAMES = 600
FPS = 5
WIDTH, HEIGHT = 1280, 720
BIT_RATE = 1_000_000
KEY_FRAME_EVERY = 4 * FPS
LAMP_EVERY = 20 * FPS
HELD = 1 / 3
LARGEST = 1 / 8


@dataclass(frozen=True, slots=True)
class Scene:
    """What a camera films.

    Attributes:
        background: (H, W) grey levels.
        noise: standard deviation of a pixel in grey levels, the same everywhere.
        paint: what happens in each frame.
    """

    background: _Floats
    noise: float
    paint: _Painter

    def frames(self, seed: int = 5) -> Iterator[tuple[NDArray[np.uint8], Box | None]]:
        """Yield each frame in grey, with the place of the person."""
        random = np.random.default_rng(seed)
        # Fresh noise for every pixel of every frame would take longer than all the rest: one large field is shifted
        field = random.normal(0, self.noise, (HEIGHT + 256, WIDTH + 256)).astype(np.float32)
        for number in range(FRAMES):
            picture = self.background.copy()
            person = self.paint(picture, number)
            top, left = random.integers(0, 256, 2)
            picture += field[top : top + HEIGHT, left : left + WIDTH] * random.choice((-1, 1))
            yield np.clip(picture, 0, 255).astype(np.uint8), person


def garden() -> _Floats:
    """Return a picture with shades, edges and fine texture."""
    random = np.random.default_rng(3)
    rows = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]
    picture = np.repeat(150 - 60 * rows, WIDTH, axis=1)
    for _ in range(60):
        left, top = random.integers(0, WIDTH - 40), random.integers(0, HEIGHT - 40)
        width, height = random.integers(20, 240), random.integers(20, 160)
        picture[top : top + height, left : left + width] += random.uniform(-45, 45)
    grass = random.normal(0, 10, (HEIGHT // 2, WIDTH // 2)).repeat(2, axis=0).repeat(2, axis=1)
    picture[HEIGHT // 2 :] += grass[HEIGHT // 2 :]
    return np.clip(picture, 15, 240).astype(np.float32)


def night() -> _Floats:
    """Return the garden as an infrared camera shows it: flat, brighter in the middle."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    lit = np.exp(-(x * x + y * y)).astype(np.float32)
    return np.asarray(40 + 40 * lit + 0.12 * garden() * lit, np.float32)


def nothing(_picture: _Floats, _number: int) -> None:
    """Paint nothing."""


def walker(height: int, speed: float, brightness: float) -> _Painter:
    """Return a painter of a person who walks to and fro, `speed` in pixels a frame."""
    width = height // 3
    span = WIDTH - width - 40

    def paint(picture: _Floats, number: int) -> Box:
        way = (number * speed) % (2 * span)
        left = 20 + int(way if way < span else 2 * span - way)
        top = HEIGHT * 3 // 5 - height // 2
        body = picture[top : top + height, left : left + width]
        y, x = np.mgrid[0:height, 0:width]
        head = (x - width / 2) ** 2 + (y - height / 8) ** 2 < (height / 8) ** 2
        torso = (abs(x - width / 2) < width * 0.38) & (y > height * 0.22) & (y < height * 0.6)
        stride = np.sin(number * 1.7) * width * 0.3
        legs = (y >= height * 0.6) & (
            abs(abs(x - width / 2) - abs(stride) * (y / height - 0.6) * 2.5) < max(1.5, width * 0.14)
        )
        figure = head | torso | legs
        body[figure] = np.clip(body[figure].mean() + brightness, 0, 255)
        return Box(left, top, left + width, top + height)

    return paint


def flickering(paint: _Painter) -> _Painter:
    """Return a painter whose light wanders slowly by some grey levels."""

    def flicker(picture: _Floats, number: int) -> Box | None:
        person = paint(picture, number)
        picture *= 1 + 0.06 * np.sin(number * 0.45) + 0.03 * np.sin(number * 1.9)
        return person

    return flicker


def lamp(picture: _Floats, number: int) -> None:
    """Light a lamp on the left: bright nearby, less far away."""
    if number // LAMP_EVERY % 2:
        x = np.linspace(0, 1, WIDTH, dtype=np.float32)[None]
        picture *= 1 + 0.9 * np.exp(-3 * x)


def decoded(scene: Scene) -> Iterator[tuple[av.VideoFrame, Box | None]]:
    """Encode a scene as a camera does and decode it again, lazily."""
    people: list[Box | None] = []
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    pictures = itertools.chain.from_iterable(
        decoder.decode(packet) for packet in itertools.chain(_encoded(scene, people), (None,))
    )
    for number, picture in enumerate(pictures):
        yield picture, people[number]


def _encoded(scene: Scene, people: list[Box | None]) -> Iterator[av.Packet[av.VideoStream]]:
    with av.open(io.BytesIO(), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = BIT_RATE
        stream.gop_size = KEY_FRAME_EVERY
        stream.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "maxrate": str(BIT_RATE),
            "bufsize": str(BIT_RATE),
        }
        stream.codec_context.thread_count = 1
        for number, (grey, person) in enumerate(scene.frames()):
            people.append(person)
            picture = av.VideoFrame.from_ndarray(grey, format="gray").reformat(format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            yield from stream.encode(picture)
        yield from stream.encode(None)


@dataclass(slots=True)
class Outcome:
    """What the gate said of one scene."""

    seen: int = 0
    hits: int = 0
    moving: int = 0
    stray: int = 0


def watch(scene: Scene, grey_watch: _report.Stopwatch, gate_watch: _report.Stopwatch) -> Outcome:
    """Let a new gate look at a scene."""
    gate, outcome = MotionDetector(), Outcome()
    for number, (picture, person) in enumerate(decoded(scene)):
        frame = Frame(picture, number / FPS, number + 1)
        with grey_watch:
            grey = frame.grey(MAXIMUM_HEIGHT)
        with gate_watch:
            motion = gate.update(grey, frame.captured_at)
        if number == 0:
            continue
        outcome.seen += 1
        outcome.moving += motion.active
        if person is not None:
            place = Box(person.left / WIDTH, person.top / HEIGHT, person.right / WIDTH, person.bottom / HEIGHT)
            outcome.hits += any(_shared(box, place) >= HELD * place.area and box.area < LARGEST for box in motion.boxes)
            outcome.stray += any(_shared(box, place) <= 0 for box in motion.boxes)
    return outcome


def _shared(one: Box, two: Box) -> float:
    return Box(
        max(one.left, two.left), max(one.top, two.top), min(one.right, two.right), min(one.bottom, two.bottom)
    ).area


def measure() -> _report.Figures:
    """Let the gate look at every scene."""
    scenes = {
        "idle": Scene(garden(), 5.0, nothing),
        "hit": Scene(garden(), 5.0, walker(110, 9.0, -35.0)),
        "far": Scene(garden(), 5.0, walker(30, 4.0, -50.0)),
        "ir_empty": Scene(night(), 12.0, flickering(nothing)),
        "ir": Scene(night(), 12.0, flickering(walker(110, 7.0, 30.0))),
        "faint": Scene(night(), 12.0, flickering(walker(110, 7.0, 15.0))),
        "lamp": Scene(garden(), 5.0, lamp),
    }
    grey_watch, gate_watch = _report.Stopwatch(), _report.Stopwatch()
    outcomes = {name: watch(scene, grey_watch, gate_watch) for name, scene in scenes.items()}
    return {
        "p50_ms_720p": gate_watch.percentile_ms(50),
        "p95_ms_720p": gate_watch.percentile_ms(95),
        "grey_ms_720p": grey_watch.percentile_ms(50),
        "false_frames_idle": outcomes["idle"].moving,
        "blind_frames_ir": outcomes["ir"].seen - outcomes["ir"].hits,
        "blind_frames_faint": outcomes["faint"].seen - outcomes["faint"].hits,
        "false_frames_ir": outcomes["ir_empty"].moving,
        "hit_ratio": outcomes["hit"].hits / outcomes["hit"].seen,
        "hit_ratio_far": outcomes["far"].hits / outcomes["far"].seen,
        "stray_frames": outcomes["hit"].stray,
        "stray_frames_far": outcomes["far"].stray,
        "stray_frames_ir": outcomes["ir"].stray,
        "light_frames": outcomes["lamp"].moving / (FRAMES // LAMP_EVERY - 1),
    }


if __name__ == "__main__":
    _report.run(measure, __doc__)
