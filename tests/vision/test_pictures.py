"""JPEG of frames, and tracks drawn into them."""

import io

import av
import numpy as np
from PIL import Image
import pytest

from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.messages import Box, TrackState
from custom_components.nemotron_security.vision.pictures import colour_of, draw_tracks, encode_jpeg


def _track(label: str, box: Box, *, confidence: float = 0.87, confirmed: bool = True) -> TrackState:
    return TrackState(
        track_id=1,
        label=label,
        confidence=confidence,
        score=confidence,
        box=box,
        first_seen_at=0.0,
        last_seen_at=1.0,
        confirmed=confirmed,
        moved=True,
        stationary=False,
    )


def _frame(width: int = 1280, height: int = 720) -> Frame:
    pixels = np.full((height, width, 3), 50, np.uint8)
    return Frame(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p"), 1.0, 1)


def _read(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("max_width", "size"), [(0, (720, 1280)), (640, (360, 640)), (333, (187, 333)), (5000, (720, 1280))]
)
def test_size(max_width: int, size: tuple[int, int]) -> None:
    pixels = _read(encode_jpeg(_frame(), max_width=max_width))
    assert pixels.shape[:2] == size
    assert np.abs(pixels - 50).max() < 6


@pytest.mark.parametrize("label", ["person", "car", "dog", "umbrella"])
@pytest.mark.parametrize("max_width", [0, 320])
def test_box_is_drawn_where_the_object_is(label: str, max_width: int) -> None:
    frame = _frame()
    pixels = _read(encode_jpeg(frame, max_width=max_width, tracks=[_track(label, Box(320, 240, 640, 600))], quality=95))
    scale = pixels.shape[1] / 1280
    middle = pixels[int(420 * scale)]
    painted = np.flatnonzero(np.abs(middle - 50).max(axis=1) > 60)
    assert painted.min() == pytest.approx(320 * scale, abs=2)
    assert painted.max() == pytest.approx(640 * scale, abs=2)
    assert (np.abs(pixels[int(300 * scale) : int(560 * scale), int(400 * scale) : int(600 * scale)] - 50) < 30).all()


def test_a_colour_per_group() -> None:
    colours = [colour_of(label) for label in ("person", "truck", "cat", "suitcase")]
    assert len(set(colours)) == 4
    assert colour_of("bicycle") == colour_of("car")


def test_label_is_readable_at_any_size() -> None:
    """The caption's height grows with the picture and never leaves it."""
    heights = []
    for width, height in [(320, 180), (1280, 720), (3840, 2160)]:
        box = Box(width * 0.3, height * 0.5, width * 0.6, height * 0.9)
        drawn = draw_tracks(_frame(width, height).rgb(), [_track("person", box)])
        column = np.abs(drawn[: int(height * 0.49), int(width * 0.3) + 1].astype(int) - colour_of("person")).max(axis=1)
        heights.append(int((column < 40).sum()))
    assert heights[0] >= 10
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize(
    "box",
    [
        Box(0, 0, 1280, 720),
        Box(-50, -50, 20, 20),
        Box(1270, 700, 1400, 900),
        Box(2000, 2000, 2100, 2100),
        Box(600, 300, 600, 300),
        Box(601, 301, 600, 300),
        Box(1279, 0, 1280, 1),
    ],
)
def test_boxes_at_and_beyond_the_edge(box: Box) -> None:
    frame = _frame()
    drawn = draw_tracks(frame.rgb(), [_track("person", box), _track("car", box, confirmed=False)])
    assert drawn.shape == (720, 1280, 3)
    assert (drawn != 50).any()


def test_drawing_leaves_the_frame_alone() -> None:
    frame = _frame()
    before = frame.rgb().copy()
    draw_tracks(frame.rgb(), [_track("person", Box(10, 10, 600, 600))])
    encode_jpeg(frame, tracks=[_track("person", Box(10, 10, 600, 600))])
    assert (frame.rgb() == before).all()


def test_unconfirmed_is_thinner() -> None:
    def painted(*, confirmed: bool) -> int:
        box = Box(300, 300, 900, 700)
        drawn = draw_tracks(_frame().rgb(), [_track("person", box, confirmed=confirmed)])
        return int((np.abs(drawn[500].astype(int) - 50).max(axis=1) > 60).sum())

    assert 0 < painted(confirmed=False) < painted(confirmed=True)
