"""Frames convert late, cheaply and rightly."""

import io

import av
from hypothesis import given, strategies as st
import numpy as np
from PIL import Image
import pytest

from custom_components.nemotron_security.vision.frames import Frame, PictureError, decode_still
from custom_components.nemotron_security.vision.messages import Box


def _frame(pixels: np.ndarray, layout: str = "yuv420p") -> Frame:
    return Frame(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=layout), 1.0, 1)


def _halves(width: int = 640, height: int = 360) -> np.ndarray:
    """Dark on the left, light on the right."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[:, width // 2 :] = 200
    return pixels


@pytest.mark.parametrize("layout", ["yuv420p", "yuvj420p", "nv12", "rgb24", "yuv422p10le", "gray"])
def test_grey_and_colour_of_every_layout(layout: str) -> None:
    frame = _frame(_halves(), layout)
    grey = frame.grey(90)
    assert grey.shape == (90, 160)
    assert grey.dtype == np.uint8
    assert grey.flags.c_contiguous
    assert np.abs(grey[:, 10:70].astype(int) - 40).max() < 6
    assert np.abs(grey[:, 90:150].astype(int) - 200).max() < 6
    assert frame.rgb().shape == (360, 640, 3)
    assert np.abs(frame.rgb()[:, 400:].astype(int) - 200).max() < 6


def test_grey_averages_noise_away() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (720, 1280, 1), dtype=np.uint8).repeat(3, axis=2)
    assert _frame(noise).grey(90).std() < noise.std() / 4


def test_grey_is_never_larger_than_the_frame() -> None:
    assert _frame(_halves(64, 36)).grey(90).shape == (36, 64)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 7), (1919, 1079), (358, 642)])
def test_odd_sizes(width: int, height: int) -> None:
    frame = _frame(np.full((height, width, 3), 90, np.uint8), "yuv444p")
    assert frame.rgb().shape == (height, width, 3)
    assert frame.grey(100).shape[0] == min(100, height)


def test_colour_is_converted_once_and_read_only() -> None:
    frame = _frame(_halves())
    assert frame.rgb() is frame.rgb()
    with pytest.raises(ValueError, match="read-only"):
        frame.rgb()[0, 0] = 0


def test_scaled_colour() -> None:
    frame = _frame(_halves())
    assert frame.rgb_scaled(320).shape == (180, 320, 3)
    assert frame.rgb_scaled(0) is frame.rgb()
    assert frame.rgb_scaled(9999) is frame.rgb()


def test_frames_of_changing_size_share_scalers() -> None:
    for width in [640, 320, 640, *range(64, 128, 2)]:
        frame = _frame(_halves(width, 36))
        assert frame.rgb().shape == (36, width, 3)
        assert frame.rgb()[0, -1, 0] > 190


@given(st.tuples(*[st.floats(-2000, 2000)] * 4))
def test_crop_stays_inside_and_is_never_empty(region: tuple[float, float, float, float]) -> None:
    crop = _frame(np.zeros((36, 64, 3), np.uint8)).crop(Box(*region))
    assert 0 < crop.shape[0] <= 36
    assert 0 < crop.shape[1] <= 64


def test_crop_is_where_it_should_be() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:40, 60:100] = 255
    assert _frame(pixels, "rgb24").crop(Box(60, 20, 100, 40)).min() == 255
    assert _frame(pixels, "rgb24").crop(Box(59.5, 20, 100, 40)).min() == 0


def _still(kind: str, mode: str = "RGB", **options: object) -> bytes:
    target = io.BytesIO()
    Image.fromarray(_halves()).convert(mode).save(target, kind, **options)
    return target.getvalue()


@pytest.mark.parametrize(
    "data", [_still("JPEG"), _still("JPEG", progressive=True), _still("JPEG", "L"), _still("PNG"), _still("WEBP")]
)
def test_stills(data: bytes) -> None:
    frame = Frame(decode_still(data), 1.0, 1)
    assert (frame.width, frame.height) == (640, 360)
    assert np.abs(frame.rgb()[:, 400:].astype(int) - 200).max() < 8
    assert np.abs(frame.grey(90)[:, :70].astype(int) - 40).max() < 8


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>login</html>",
        b"\xff\xd8\xff",
        _still("JPEG")[:900],
        _still("PNG")[:200],
        b"\xff\xd8\xff\xe0" + bytes(2000),
        # A header of 65500 x 65500 pixels before the same data.
        _still("JPEG").replace(bytes([0x01, 0x68, 0x02, 0x80]), b"\xff\xdc\xff\xdc", 1),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(PictureError):
        decode_still(data)
