"""JPEG of frames, and tracks drawn into them for people to see."""

from collections.abc import Sequence
from functools import lru_cache
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .frames import Frame
from .messages import ANIMALS, VEHICLES, Box, TrackState

QUALITY = 85

# NVIDIA green for people; all four are told apart by the colour blind and stand out at night and in snow.
_PERSON_COLOUR = (118, 185, 0)
_VEHICLE_COLOUR = (0, 158, 255)
_ANIMAL_COLOUR = (255, 176, 0)
_OTHER_COLOUR = (200, 120, 255)


def encode_jpeg(
    frame: Frame, *, max_width: int = 0, tracks: Sequence[TrackState] = (), quality: int = QUALITY
) -> bytes:
    """Return the frame as JPEG.

    Args:
        frame: the frame.
        max_width: scale down to this many columns; 0, or more than the frame has, keeps its own.
        tracks: drawn into the picture.
        quality: JPEG quality, 1..95.
    """
    image = Image.fromarray(frame.rgb_scaled(max_width))
    if tracks:
        _draw(image, tracks, image.width / frame.width)
    return _to_jpeg(image, quality)


def draw_tracks(pixels: NDArray[np.uint8], tracks: Sequence[TrackState], *, scale: float = 1.0) -> NDArray[np.uint8]:
    """Return a copy of RGB pixels with the tracks' boxes, labels and confidences drawn into it.

    Args:
        pixels: (height, width, 3).
        tracks: their boxes are in pixels of the frame they were seen in.
        scale: width of `pixels` by width of that frame.
    """
    image = Image.fromarray(pixels)
    _draw(image, tracks, scale)
    return np.asarray(image)


def colour_of(label: str) -> tuple[int, int, int]:
    """Return the RGB colour of the label's group: person, vehicle, animal, or anything else."""
    if label == "person":
        return _PERSON_COLOUR
    if label in VEHICLES:
        return _VEHICLE_COLOUR
    return _ANIMAL_COLOUR if label in ANIMALS else _OTHER_COLOUR


def _to_jpeg(image: Image.Image, quality: int) -> bytes:
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return target.getvalue()


def _draw(image: Image.Image, tracks: Sequence[TrackState], scale: float) -> None:
    draw = ImageDraw.Draw(image)
    # The sure ones last, so that nothing covers them.
    for track in sorted(tracks, key=lambda track: (track.confirmed, track.confidence)):
        _draw_track(draw, image.size, track, scale)


def _draw_track(draw: ImageDraw.ImageDraw, size: tuple[int, int], track: TrackState, scale: float) -> None:
    box = _inside(Box(*(value * scale for value in track.box)), size)
    colour = colour_of(track.label)
    # One that is not confirmed yet is drawn thinner: it may be nothing.
    line = max(1, round(size[1] / (240 if track.confirmed else 480)))
    draw.rectangle(box, outline=colour, width=line)
    _draw_caption(draw, size, box, f"{track.label} {track.confidence:.0%}", colour)


def _inside(box: Box, size: tuple[int, int]) -> Box:
    """Cut the box off at the picture's edge; left <= right and top <= bottom, as Pillow demands."""
    left, right = sorted((min(max(box.left, 0), size[0] - 1), min(max(box.right - 1, 0), size[0] - 1)))
    top, bottom = sorted((min(max(box.top, 0), size[1] - 1), min(max(box.bottom - 1, 0), size[1] - 1)))
    return Box(left, top, right, bottom)


def _draw_caption(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], box: Box, text: str, colour: tuple[int, int, int]
) -> None:
    """Write above the box, or inside where there is no room above, never outside the picture."""
    font = _font(max(11, round(size[1] / 36)))
    _, _, width, height = (int(value) for value in draw.textbbox((0, 0), text, font=font))
    pad = max(2, height // 5)
    left = max(0, min(int(box.left), size[0] - width - 2 * pad))
    top = int(box.top) - height - 2 * pad
    top = int(box.top) if top < 0 else top
    draw.rectangle((left, top, left + width + 2 * pad, top + height + 2 * pad), fill=colour)
    draw.text((left + pad, top + pad), text, fill=(0, 0, 0), font=font)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
