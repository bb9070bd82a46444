"""What a detector says of one picture, and what a tracker takes: parallel arrays, one row an object."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Objects found in one picture.

    Attributes:
        boxes: (N, 4) float32; left, top, right, bottom in pixels of the picture.
        scores: (N,) float32 in 0..1.
        classes: (N,) int32; indexes into the detector's labels.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Self:
        """Return the chosen rows."""
        return type(self)(self.boxes[rows], self.scores[rows], self.classes[rows])

    @classmethod
    def none(cls) -> Self:
        """Return a picture without objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
