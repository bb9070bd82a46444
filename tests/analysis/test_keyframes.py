"""Tests of which pictures a model is shown."""

from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from itertools import pairwise
from typing import Any

from PIL import Image, ImageDraw
import pytest

from custom_components.nemotron_security.analysis.keyframes import (
    Chosen,
    candidates,
    change,
    choose,
    scaled,
    thumbnail,
)
from custom_components.nemotron_security.models import Box, Picture, PictureKind

from .cases import DAY

NO_JPEGS: dict[int, bytes] = {}


def picture(number: int, second: float, *, track_id: int = 1, size: int = 100, score: float = 0.9) -> Picture:
    return Picture(
        id=number,
        incident_id=1,
        track_id=track_id,
        kind=PictureKind.BEST,
        captured_at=DAY + timedelta(seconds=second),
        box=Box(0, 0, size, size),
        score=score,
        width=1280,
        height=720,
        size=1,
    )


def told(chosen: list[Chosen]) -> list[tuple[int, str]]:
    return [(choice.picture.id, choice.moment) for choice in chosen]


def test_closest_first_and_last_in_their_order() -> None:
    pictures = [picture(4, 9), picture(1, 0), picture(3, 6), picture(2, 3, size=300)]
    assert told(choose(pictures, {}, 3, NO_JPEGS)) == [(1, "first sight"), (2, "closest"), (4, "last view")]
    assert told(choose(pictures, {}, 1, NO_JPEGS)) == [(2, "closest")]
    assert told(choose(pictures, {}, 2, NO_JPEGS)) == [(1, "first sight"), (2, "closest")]
    assert told(choose(pictures, {}, 6, NO_JPEGS)) == [(1, "first sight"), (2, "closest"), (3, ""), (4, "last view")]


def test_closest_is_of_what_matters_most() -> None:
    pictures = [picture(1, 0, size=50), picture(2, 5, track_id=2, size=500)]
    assert told(choose(pictures, {1: 4, 2: 3}, 1, NO_JPEGS)) == [(1, "closest")]


def test_object_may_be_gone_in_the_last_view() -> None:
    last = replace(picture(2, 5, size=700), kind=PictureKind.LAST)
    assert told(choose([picture(1, 0), last], {}, 1, NO_JPEGS)) == [(1, "closest")]
    assert told(choose([picture(1, 0), last], {}, 2, NO_JPEGS)) == [(1, "closest"), (2, "last view")]


def test_widest_gap_is_filled_first() -> None:
    pictures = [picture(number, second) for number, second in enumerate((0, 1.5, 10, 30, 31.5))]
    assert [number for number, _ in told(choose(pictures, {}, 3, NO_JPEGS))] == [0, 2, 4]
    assert [number for number, _ in told(choose(pictures, {}, 6, NO_JPEGS))] == [0, 1, 2, 3, 4]


def test_pictures_of_one_moment_are_one() -> None:
    pictures = [picture(1, 0, score=0.7), picture(2, 0, track_id=2, score=0.95), picture(3, 0.4, track_id=3)]
    assert [number for number, _ in told(choose(pictures, {}, 6, NO_JPEGS))] == [2, 3]
    crowd = [picture(number, number / 10) for number in range(50)]
    assert len(choose(crowd, {}, 6, NO_JPEGS)) == 5
    assert len(choose(crowd[:9], {}, 6, NO_JPEGS)) == 2


@pytest.mark.parametrize("most", [0, 1, 6])
def test_none(most: int) -> None:
    assert choose([], {}, most, NO_JPEGS) == []
    assert len(choose([picture(1, 0)], {}, most, NO_JPEGS)) == min(1, most)


# --- scene changes ----------------------------------------------------------------------------------------------------

WALL, GATE, PARCEL, WALKER = (640, 100, 760, 300), (200, 200, 320, 400), (900, 560, 990, 630), (500, 250, 640, 700)


def yard(*, gate_open: bool = False, parcel: bool = False, walker: int | None = None, light: float = 1.0) -> bytes:
    """Render a yard in 1280x720 with a sensor's noise; `walker` is how far somebody is to the right of the middle."""
    image = Image.linear_gradient("L").resize((1280, 720)).point([40 + level // 2 for level in range(256)])
    draw = ImageDraw.Draw(image)
    draw.rectangle(WALL, fill=150)
    draw.rectangle(GATE, fill=20 if gate_open else 120)
    if parcel:
        draw.rectangle(PARCEL, fill=30)
    if walker is not None:
        left, top, right, bottom = WALKER
        draw.ellipse((left + walker, top, right + walker, bottom), fill=25)
    noisy = Image.blend(image, Image.effect_noise(image.size, 60), 0.12).point([round(n * light) for n in range(256)])
    buffer = BytesIO()
    noisy.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@pytest.mark.parametrize("light", [0.4, 0.8, 1.3])
def test_noise_and_brightness_are_no_change(light: float) -> None:
    assert change(thumbnail(yard()), thumbnail(yard(light=light))) == 0


@pytest.mark.parametrize("what", [{"gate_open": True}, {"parcel": True}, {"walker": 0}])
def test_what_opened_came_or_was_left_is_a_change(what: dict[str, Any]) -> None:
    before, after = thumbnail(yard()), thumbnail(yard(**what, light=0.7))
    assert 0.005 <= change(before, after) < 0.2
    assert change(before, after) == change(after, before)
    assert change(before, before) == 0


def test_fog_is_no_change() -> None:
    fog = [BytesIO(), BytesIO()]
    for buffer in fog:
        Image.effect_noise((1280, 720), 8).save(buffer, "JPEG", quality=85)
    assert change(*(thumbnail(buffer.getvalue()) for buffer in fog)) < 0.005


def visit() -> tuple[list[Picture], dict[int, bytes]]:
    """Somebody comes near, leaves a parcel and goes; the gate opens, not in the middle of the widest gap."""
    shown = {
        1: (0, yard(walker=300)),
        2: (2, yard(walker=302)),
        3: (4, yard(walker=300, gate_open=True)),
        4: (30, yard(walker=300)),
        5: (60, yard(walker=302)),
        6: (64, yard(walker=0, parcel=True)),
        7: (70, yard(parcel=True)),
    }
    pictures = [picture(number, second, size=700 if number == 6 else 50) for number, (second, _) in shown.items()]
    return pictures, {number: data for number, (_, data) in shown.items()}


def test_the_change_is_shown_before_the_gap_in_time() -> None:
    pictures, jpegs = visit()
    assert [number for number, _ in told(choose(pictures, {}, 4, NO_JPEGS))] == [1, 4, 6, 7]
    assert told(choose(pictures, {}, 4, jpegs)) == [
        (1, "first sight"),
        (3, "scene change"),
        (6, "closest"),
        (7, "last view"),
    ]
    # The closest, the first and the last come first, whatever changes.
    assert told(choose(pictures, {}, 3, jpegs)) == [(1, "first sight"), (6, "closest"), (7, "last view")]


def test_what_does_not_change_fills_gaps() -> None:
    still = yard()
    pictures = [picture(number, 10 * number) for number in range(8)]
    chosen = choose(pictures, {}, 5, dict.fromkeys(range(8), still))
    assert len(chosen) == 5
    assert "scene change" not in {choice.moment for choice in chosen}


def test_each_change_is_shown_once() -> None:
    pictures = [picture(number, 10 * number) for number in range(9)]
    # The gate is open in three, the parcel is there in two.
    open_in, parcel_in = {2, 3, 4}, {6, 7}
    jpegs = {number: yard(gate_open=number in open_in, parcel=number in parcel_in) for number in range(9)}
    chosen = told(choose(pictures, {}, 5, jpegs))
    changes = {number for number, moment in chosen if moment == "scene change"}
    assert len(changes) == 2
    assert len(changes & open_in) == len(changes & parcel_in) == 1


def test_damaged_and_missing_pictures_are_not_compared() -> None:
    pictures, jpegs = visit()
    jpegs[2] = jpegs[1]
    jpegs[3] = jpegs[3][:2000]
    jpegs[4] = b"no picture"
    del jpegs[5]
    assert [number for number, _ in told(choose(pictures, {}, 4, jpegs))] == [1, 4, 6, 7]
    assert len(choose(pictures, {}, 6, dict.fromkeys(range(1, 8), b""))) == 6


def test_a_crowd_is_not_compared_without_end() -> None:
    crowd = [picture(number, number) for number in range(200)]
    compared = candidates(crowd, {}, 4)
    assert len(compared) == len({picture.id for picture in compared}) <= 15
    assert {0, 199} <= {picture.id for picture in compared}
    seconds = sorted((picture.captured_at - DAY).total_seconds() for picture in compared)
    assert max(later - earlier for earlier, later in pairwise(seconds)) < 40
    assert candidates(crowd[:4], {}, 4) == crowd[:4]
    assert len(candidates(crowd, {}, 2)) == 2
    assert candidates([], {}, 4) == []


def jpeg(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((1280, 720), (1280, 720)),
        ((64, 36), (64, 36)),
        ((3840, 2160), (1280, 720)),
        ((1440, 2560), (720, 1280)),
        ((1300, 20), (1280, 20)),
    ],
)
def test_scaled(size: tuple[int, int], fits: tuple[int, int]) -> None:
    original = jpeg(*size)
    result = scaled(original)
    assert (result.width, result.height) == fits
    assert (result.jpeg is original) is (size == fits)
    with Image.open(BytesIO(result.jpeg)) as image:
        image.load()
        assert (image.format, image.size) == ("JPEG", fits)


@pytest.mark.parametrize("data", [b"", b"no picture", jpeg(3000, 2000)[:5000]])
def test_damaged_picture(data: bytes) -> None:
    with pytest.raises(OSError, match=r"cannot|truncated"):
        scaled(data)
