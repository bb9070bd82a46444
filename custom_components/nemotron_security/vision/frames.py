"""A frame: decoded once, converted late.

Motion needs a small grey picture of every frame; the detector needs colour of few; JPEG is made of fewer still. So a
frame keeps what the decoder made (YUV planes) and converts when asked.
"""

from dataclasses import dataclass, field
import io
import threading

import av
from av.video.reformatter import Interpolation, VideoReformatter
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .messages import Box

MAX_PIXELS = 64 * 1024 * 1024
"""Larger pictures are refused: a forged header must not cost gigabytes."""

_KEPT_SCALERS = 16
_JPEG_MAGIC = b"\xff\xd8\xff"


class PictureError(Exception):
    """These bytes are not a picture."""


@dataclass(slots=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        picture: what the decoder made.
        captured_at: Unix seconds.
        frame_id: counts up per camera, from 1.
    """

    picture: av.VideoFrame
    captured_at: float
    frame_id: int
    _rgb: NDArray[np.uint8] | None = field(default=None, init=False, repr=False)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.picture.height

    def grey(self, height: int) -> NDArray[np.uint8]:
        """Return a grey picture of about `height` rows, never larger than the frame, of the frame's shape.

        Every pixel is the mean of the area that it stands for, which takes most of a codec's noise with it (bilinear
        sampling at these scales would look at a few pixels and keep the noise). Contiguous, (rows, columns).
        """
        rows = min(height, self.height)
        columns = max(1, round(self.width * rows / self.height))
        small = _scale(self.picture, columns, rows, "gray", Interpolation.AREA)
        return np.ascontiguousarray(_plane(small, 1)[:, :, 0])

    def rgb(self) -> NDArray[np.uint8]:
        """Return the whole picture in colour, (height, width, 3); converted once. Do not write into it."""
        if self._rgb is None:
            self._rgb = _plane(_scale(self.picture, self.width, self.height, "rgb24", Interpolation.BILINEAR), 3)
            self._rgb.flags.writeable = False
        return self._rgb

    def rgb_scaled(self, width: int) -> NDArray[np.uint8]:
        """Return the picture in colour scaled down to `width` columns; cheaper than scaling `rgb()`."""
        if width <= 0 or width >= self.width:
            return self.rgb()
        rows = max(1, round(self.height * width / self.width))
        return _plane(_scale(self.picture, width, rows, "rgb24", Interpolation.AREA), 3)

    def crop(self, region: Box) -> NDArray[np.uint8]:
        """Return a view of the colour picture inside `region`, cut off at the frame's edge; never empty."""
        left = min(max(0, int(region.left)), self.width - 1)
        top = min(max(0, int(region.top)), self.height - 1)
        right = max(left + 1, min(self.width, int(np.ceil(region.right))))
        bottom = max(top + 1, min(self.height, int(np.ceil(region.bottom))))
        return self.rgb()[top:bottom, left:right]


def decode_still(data: bytes) -> av.VideoFrame:
    """Decode a JPEG (or any still that Pillow reads) into a picture.

    libav decodes a JPEG about three times as fast as Pillow, and leaves it in the JPEG's own YUV.

    Raises:
        PictureError: it is no picture, is cut off, or is larger than `MAX_PIXELS`.
    """
    return _decode_jpeg(data) if data.startswith(_JPEG_MAGIC) else _decode_by_pillow(data)


def _decode_jpeg(data: bytes) -> av.VideoFrame:
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    # Without "explode" half a JPEG decodes to half a picture above grey, which looks like motion.
    decoder.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    try:
        pictures = decoder.decode(av.Packet(data))
    except av.FFmpegError as err:
        raise PictureError(f"not a JPEG: {err.strerror}") from err
    if not pictures:
        raise PictureError("an empty JPEG")
    return pictures[0]


def _decode_by_pillow(data: bytes) -> av.VideoFrame:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(f"a picture of {image.width}x{image.height} pixels")
            return av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        raise PictureError("not a picture") from err


class _Scalers(threading.local):
    """A thread's scalers. Setting up swscale costs several times a small conversion, so one is kept per task."""

    def __init__(self) -> None:
        self.by_task: dict[tuple[int, int, str, int, int, str], VideoReformatter] = {}

    def get(self, task: tuple[int, int, str, int, int, str]) -> VideoReformatter:
        """Return the scaler of this conversion."""
        if task not in self.by_task:
            if len(self.by_task) >= _KEPT_SCALERS:
                self.by_task.clear()
            self.by_task[task] = VideoReformatter()
        return self.by_task[task]


_SCALERS = _Scalers()


def _scale(picture: av.VideoFrame, width: int, height: int, layout: str, how: Interpolation) -> av.VideoFrame:
    scaler = _SCALERS.get((picture.width, picture.height, picture.format.name, width, height, layout))
    return scaler.reformat(picture, width, height, layout, interpolation=how, threads=1)


def _plane(picture: av.VideoFrame, channels: int) -> NDArray[np.uint8]:
    """View a packed picture as (height, width, channels) without copying; libav pads its rows."""
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: picture.height]
    return rows[:, : picture.width * channels].reshape(picture.height, picture.width, channels)
