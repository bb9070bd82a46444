"""A frame: decoded once, converted late.

Motion needs a small grey picture of every frame; the detector needs colour of few; JPEG is made of fewer still. So a
frame keeps what the decoder made (YUV planes) and converts when asked.
"""

from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray


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
