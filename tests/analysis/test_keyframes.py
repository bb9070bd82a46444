"""Tests of which pictures a model is shown."""

from dataclasses import replace
from datetime import timedelta
from io import BytesIO

from PIL import Image
import pytest

from custom_components.nemotron_security.analysis.keyframes import Chosen, choose, scaled
from custom_components.nemotron_security.models import Box, Picture, PictureKind

from .cases import DAY


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
    assert told(choose(pictures, {}, 3)) == [(1, "first sight"), (2, "closest"), (4, "last view")]
    assert told(choose(pictures, {}, 1)) == [(2, "closest")]
    assert told(choose(pictures, {}, 2)) == [(1, "first sight"), (2, "closest")]
    assert told(choose(pictures, {}, 6)) == [(1, "first sight"), (2, "closest"), (3, ""), (4, "last view")]


def test_closest_is_of_what_matters_most() -> None:
    pictures = [picture(1, 0, size=50), picture(2, 5, track_id=2, size=500)]
    assert told(choose(pictures, {1: 4, 2: 3}, 1)) == [(1, "closest")]


def test_object_may_be_gone_in_the_last_view() -> None:
    last = replace(picture(2, 5, size=700), kind=PictureKind.LAST)
    assert told(choose([picture(1, 0), last], {}, 1)) == [(1, "closest")]
    assert told(choose([picture(1, 0), last], {}, 2)) == [(1, "closest"), (2, "last view")]


def test_widest_gap_is_filled_first() -> None:
    pictures = [picture(number, second) for number, second in enumerate((0, 1.5, 10, 30, 31.5))]
    assert [number for number, _ in told(choose(pictures, {}, 3))] == [0, 2, 4]
    assert [number for number, _ in told(choose(pictures, {}, 6))] == [0, 1, 2, 3, 4]


def test_pictures_of_one_moment_are_one() -> None:
    pictures = [picture(1, 0, score=0.7), picture(2, 0, track_id=2, score=0.95), picture(3, 0.4, track_id=3)]
    assert [number for number, _ in told(choose(pictures, {}, 6))] == [2, 3]
    crowd = [picture(number, number / 10) for number in range(50)]
    assert len(choose(crowd, {}, 6)) == 5
    assert len(choose(crowd[:9], {}, 6)) == 2


@pytest.mark.parametrize("most", [0, 1, 6])
def test_none(most: int) -> None:
    assert choose([], {}, most) == []
    assert len(choose([picture(1, 0)], {}, most)) == min(1, most)


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
