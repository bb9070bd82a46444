"""The motion gate, situation by situation, on small grey pictures with noise."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
import pytest

from custom_components.nemotron_security.vision.messages import Box
from custom_components.nemotron_security.vision.motion import MAXIMUM_HEIGHT, NO_MOTION, Motion, MotionDetector

type Grey = NDArray[np.uint8]
type Scene = Callable[[int, NDArray[np.float64]], NDArray[np.float64]]
"""Takes a frame's number and the empty scene; returns what is to be seen, without noise."""

ROWS, COLUMNS = MAXIMUM_HEIGHT, MAXIMUM_HEIGHT * 16 // 9
FPS = 5.0


def scenery() -> NDArray[np.float64]:
    """A picture with shades, edges and texture."""
    random = np.random.default_rng(1)
    picture = np.repeat(np.linspace(150, 90, ROWS)[:, None], COLUMNS, axis=1)
    for _ in range(30):
        top, left = random.integers(0, ROWS - 20), random.integers(0, COLUMNS - 20)
        picture[top : top + 20, left : left + 20] += random.uniform(-30, 30)
    return picture + random.normal(0, 6, picture.shape)


def film(scene: Scene, frames: int, noise: float = 2.0, seed: int = 2) -> Iterator[Grey]:
    random, empty = np.random.default_rng(seed), scenery()
    for number in range(frames):
        picture = scene(number, empty.copy()) + random.normal(0, noise, empty.shape)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def watch(scene: Scene, frames: int, noise: float = 2.0, fps: float = FPS) -> list[Motion]:
    gate = MotionDetector()
    return [gate.update(grey, number / fps) for number, grey in enumerate(film(scene, frames, noise))]


def still(_: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture


def place(number: int, step: float, height: int, width: int) -> tuple[int, int]:
    """The upper left corner of somebody who walks to and fro."""
    span = COLUMNS - width
    way = number * step % (2 * span)
    return ROWS // 2, int(way if way < span else 2 * span - way)


def walker(step: float, height: int, width: int, contrast: float) -> Scene:
    def scene(number: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
        top, left = place(number, step, height, width)
        where = np.s_[top : top + height, left : left + width]
        picture[where] = picture[where].mean() + contrast
        return picture

    return scene


def is_found(motion: Motion, number: int, step: float, height: int, width: int) -> bool:
    top, left = place(number, step, height, width)
    person = Box(left / COLUMNS, top / ROWS, (left + width) / COLUMNS, (top + height) / ROWS)
    return any(shared(box, person) > person.area / 2 and box.area < 0.2 for box in motion.boxes)


def shared(one: Box, two: Box) -> float:
    return Box(
        max(one.left, two.left), max(one.top, two.top), min(one.right, two.right), min(one.bottom, two.bottom)
    ).area


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0, 8.0])
def test_noise_is_no_motion(noise: float) -> None:
    said = watch(still, 200, noise)

    assert sum(motion.active for motion in said) == 0
    assert not any(motion.light_change for motion in said)


@pytest.mark.parametrize(
    ("step", "height", "width", "contrast", "noise"),
    [
        pytest.param(2.0, 20, 8, -40, 2.0, id="a walker"),
        pytest.param(0.4, 20, 8, -40, 2.0, id="a slow walker"),
        pytest.param(9.0, 20, 8, -40, 2.0, id="a runner"),
        pytest.param(0.7, 5, 2, -50, 1.0, id="a far walker: 30 pixels high in 720p"),
        pytest.param(1.5, 20, 8, 30, 4.0, id="infrared: little contrast in much noise"),
        pytest.param(3.0, 45, 25, -50, 2.0, id="somebody near"),
    ],
)
def test_who_walks_is_seen_from_the_second_frame(
    step: float, height: int, width: int, contrast: float, noise: float
) -> None:
    said = watch(walker(step, height, width, contrast), 200, noise)

    assert said[0] == NO_MOTION
    # Slow walkers must first leave the place where the first frame showed them, which is the background.
    first = 1 + int(width / step)
    found = [is_found(motion, number, step, height, width) for number, motion in enumerate(said)]
    assert np.mean(found[first:]) >= 0.98


def test_who_passed_leaves_no_trail() -> None:
    def scene(number: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
        return walker(4.0, 20, 8, -40)(number, picture) if 10 <= number < 50 else picture

    said = watch(scene, 100)

    assert all(motion.active for motion in said[10:50])
    assert not any(motion.active for motion in said[52:])


def test_who_stops_melts_into_the_background_in_seconds() -> None:
    def scene(number: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
        return walker(4.0, 20, 8, -40)(min(number, 20), picture)

    said = watch(scene, 300)

    assert all(motion.active for motion in said[1:35])
    assert not any(motion.active for motion in said[200:])


def test_a_lamp_is_told_as_light_and_does_not_blind() -> None:
    def scene(number: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
        if number >= 20:
            picture = picture * (1 + 0.8 * np.exp(-2 * np.linspace(0, 1, COLUMNS)))
        return walker(3.0, 20, 8, -40)(number, picture) if number >= 23 else picture

    said = watch(scene, 60)

    assert said[20].light_change
    assert not any(motion.active for motion in said[:23])
    assert all(is_found(motion, 23 + number, 3.0, 20, 8) for number, motion in enumerate(said[23:]))


@pytest.mark.parametrize(("before", "after"), [(2.0, 7.0), (7.0, 2.0)], ids=["to infrared", "to daylight"])
def test_the_infrared_switch(before: float, after: float) -> None:
    def night(_: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
        return 40 + 0.15 * picture

    scenes = {True: still, False: night}
    gate = MotionDetector()
    first, second = scenes[before < after], scenes[before > after]
    said = [gate.update(grey) for grey in (*film(first, 40, before), *film(second, 60, after))]

    assert said[40].light_change
    assert sum(motion.active for motion in said) <= 1


def test_half_a_garden_in_another_light_is_no_motion() -> None:
    def scene(number: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
        if number >= 20:
            picture[30:90, 10:90] *= 1.4
        return picture

    assert not any(motion.active for motion in watch(scene, 60))


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(lambda number, picture: picture * (1 + 0.1 * np.sin(number * 2.1)), id="mains flicker"),
        pytest.param(lambda number, picture: picture * (1 - number / 400), id="dusk"),
    ],
)
def test_light_that_wanders_is_no_motion(scene: Scene) -> None:
    assert sum(motion.active for motion in watch(scene, 150)) <= 1


def test_a_jolt_of_the_camera_is_over_at_once() -> None:
    def scene(number: int, picture: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.roll(picture, 3, axis=1) if number == 30 else picture

    said = watch(scene, 60)

    assert not any(motion.active for motion in said[35:])


def test_a_picture_that_never_rests_is_motion_in_the_end() -> None:
    random = np.random.default_rng(4)
    gate = MotionDetector()
    said = []
    for number in range(40):
        blocks = random.integers(0, 255, (ROWS // 10, COLUMNS // 10 + 1)).repeat(10, axis=0).repeat(10, axis=1)
        said.append(gate.update(blocks[:ROWS, :COLUMNS].astype(np.uint8), number / FPS))

    assert (Box(0.0, 0.0, 1.0, 1.0),) in [motion.boxes for motion in said[:20]]


@pytest.mark.parametrize("fps", [0.2, 1.0, 5.0, 15.0])
def test_any_frame_rate(fps: float) -> None:
    step = min(10.0, 10.0 / fps)

    assert sum(motion.active for motion in watch(still, 80, fps=fps)) == 0
    said = watch(walker(step, 20, 8, -40), 80, fps=fps)
    found = [is_found(motion, number, step, 20, 8) for number, motion in enumerate(said)]
    assert np.mean(found[1 + int(8 / step) :]) >= 0.95


def test_times_that_stand_still_or_run_back_do_no_harm() -> None:
    gate = MotionDetector()
    said = [gate.update(grey, at) for grey, at in zip(film(still, 5), (10.0, 10.0, 3.0, 1e9, 1e9), strict=True)]

    assert not any(motion.active for motion in said)


def test_another_shape_starts_anew() -> None:
    gate = MotionDetector()
    for grey in film(still, 5):
        gate.update(grey)

    other = np.full((90, 120), 200, np.uint8)
    assert gate.update(other) == NO_MOTION
    assert gate.update(other) == NO_MOTION


def test_larger_pictures_are_reduced() -> None:
    gate = MotionDetector()
    grey = np.full((720, 1280), 100, np.uint8)
    assert gate.update(grey) == NO_MOTION
    grey[300:400, 640:700] = 180

    (box,) = gate.update(grey).boxes
    assert shared(box, Box(640 / 1280, 300 / 720, 700 / 1280, 400 / 720)) == pytest.approx(60 * 100 / 1280 / 720)
    assert box.area < 3 * 60 * 100 / 1280 / 720


def test_two_who_move_are_two_areas_the_larger_one_first() -> None:
    gate = MotionDetector()
    grey = np.full((ROWS, COLUMNS), 100, np.uint8)
    gate.update(grey)
    moved = grey.copy()
    moved[0:4, COLUMNS - 6 :] = 180  # ends at a border; the next row's first cell must not be joined to it
    moved[40:60, 0:20] = 180

    large, small = gate.update(moved).boxes
    assert large.left == 0.0
    assert large.bottom == pytest.approx(60 / ROWS)
    assert small.right == 1.0
    assert small.top == 0.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (300, 1), (1, 2000)])
def test_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    gate = MotionDetector()
    for level in (0, 0, 255, 0):
        motion = gate.update(np.full(shape, level, np.uint8))
        assert all(0 <= edge <= 1 for box in motion.boxes for edge in box)
