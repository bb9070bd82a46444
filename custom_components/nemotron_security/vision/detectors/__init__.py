"""Detectors: one plug-in a file; `yolo.py` decodes the output of all of them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..detections import Detections
from ..messages import Problem

type Picture = NDArray[np.uint8]
"""(height, width, 3) RGB."""


class DetectorError(Exception):
    """A detector cannot be loaded or used."""

    def __init__(self, problem: Problem, detail: str) -> None:
        """Keep what to tell the user and the words for people who look for the cause."""
        super().__init__(f"{problem}: {detail}")
        self.problem = problem
        self.detail = detail


class Detector(Protocol):
    """Finds objects in pictures. Used by one thread at a time.

    One that is faster with several pictures at once says in an attribute `batch` how many it takes: it is then given
    those of several cameras together.
    """

    labels: tuple[str, ...]
    """Class names by index."""
    width: int
    """Input width in pixels; pictures of any size are letterboxed to it."""
    height: int

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of each picture, boxes in that picture's own pixels."""

    def close(self) -> None:
        """Free what it holds."""
