"""A pinhole camera above a flat ground.

World coordinates are metres: x to the right, y up, z away from the camera along the ground. A heading is an angle on
the ground in radians: 0 looks away from the camera, pi towards it, pi / 2 to the right.
"""

from dataclasses import dataclass
from math import cos, sin

import numpy as np
from numpy.typing import NDArray

type Points = NDArray[np.float64]

NEAR = 0.35
"""Nothing nearer to the camera than this (metres) is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Where the camera hangs and what it sees.

    Attributes:
        height: metres above the ground.
        pitch: radians that it looks down.
        focal: focal length in pixels.
        width: of the picture, pixels.
        rows: height of the picture, pixels.
    """

    height: float = 2.7
    pitch: float = 0.28
    focal: float = 800.0
    width: int = 1280
    rows: int = 720

    def project(self, points: Points) -> Points:
        """Return (N, 3): u and v in pixels and the depth in metres of (N, 3) world points."""
        up, ahead = points[:, 1] - self.height, points[:, 2]
        depth = np.maximum(ahead * cos(self.pitch) - up * sin(self.pitch), NEAR)
        rise = up * cos(self.pitch) + ahead * sin(self.pitch)
        scale = self.focal / depth
        return np.stack([self.width / 2 + points[:, 0] * scale, self.rows / 2 - rise * scale, depth], axis=1)

    def ground(self, u: Points, v: Points) -> tuple[Points, Points]:
        """Return the world x and z of the ground below pixels; z is infinite at and above the horizon."""
        across = (u - self.width / 2) / self.focal
        rise = (self.rows / 2 - v) / self.focal
        falling = sin(self.pitch) - rise * cos(self.pitch)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(falling > 1e-6, self.height / falling, np.inf)
            z = distance * (cos(self.pitch) + rise * sin(self.pitch))
            x = np.where(np.isfinite(distance), across * distance, 0.0)
        return x, z

    def horizon(self) -> float:
        """Return the picture row of the horizon."""
        return self.rows / 2 - self.focal * sin(self.pitch) / cos(self.pitch)


def place(local: Points, x: float, z: float, heading: float) -> Points:
    """Return world points of (N, 3) local ones (right, up, forward) of a body that stands at (x, z)."""
    right, up, forward = local[:, 0], local[:, 1], local[:, 2]
    turned_x = x + right * cos(heading) + forward * sin(heading)
    turned_z = z - right * sin(heading) + forward * cos(heading)
    return np.stack([turned_x, up, turned_z], axis=1)
