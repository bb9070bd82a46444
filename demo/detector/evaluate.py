"""Measures the exported model on the catalogue: `python -m demo.detector.evaluate CATALOGUE.npz`.

Each frame is looked at whole, as the pipeline does first, and each object once more in a square region, as the pipeline
does when something moves. Prints one JSON object.
"""

from argparse import ArgumentParser
from dataclasses import dataclass, field
from io import BytesIO
import json
from pathlib import Path
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.messages import DetectorConfig
from demo.detector.augment import Frames

MODEL = Path(__file__).parent / "model"
LOWEST = 0.05
CERTAIN = 0.5
CLEAR = 22.0
"""Height in pixels of the data set's frames (30 of the camera's) from which on an object must be found."""
OVERLAP = 0.5
EXCUSED = 0.3
"""A detection that overlaps a small or hidden object this much is not held against the detector."""


@dataclass(slots=True)
class Tally:
    """What was found: per class the scores and whether each was right, and the number of objects there were."""

    found: dict[int, list[tuple[float, bool]]] = field(default_factory=dict)
    there: dict[int, int] = field(default_factory=dict)
    best: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)

    def add(self, detections: Detections, truth: NDArray[np.float32]) -> None:
        """Compare one picture's detections with its objects, (M, 5): class and box.

        Small or hidden ones neither help nor harm.
        """
        wanted = (truth[:, 0] >= 0) & (truth[:, 4] - truth[:, 2] >= CLEAR)
        for number in truth[wanted, 0].astype(int):
            self.there[number] = self.there.get(number, 0) + 1
        overlap = _overlaps(detections.boxes, truth[:, 1:])
        taken = np.zeros(len(truth), bool)
        for row in np.argsort(-detections.scores):
            number = int(detections.classes[row])
            fits = np.where((truth[:, 0] == number) & wanted, overlap[row], 0).astype(np.float32)
            excused = bool((np.where(wanted, 0, overlap[row]) > EXCUSED).any())
            self._judge(number, float(detections.scores[row]), fits, taken, excused=excused)

    def _judge(
        self, number: int, score: float, fits: NDArray[np.float32], taken: NDArray[np.bool_], *, excused: bool
    ) -> None:
        fits = np.where(taken, 0, fits)
        if len(fits) and fits.max() >= OVERLAP:
            taken[fits.argmax()] = True
            self.best.append(score)
            self.overlaps.append(float(fits.max()))
            self.found.setdefault(number, []).append((score, True))
        elif not excused:
            self.found.setdefault(number, []).append((score, False))

    def figures(self, labels: tuple[str, ...]) -> dict[str, object]:
        """Return the mean average precision, and recall and precision at `CERTAIN`."""
        precisions = {labels[number]: round(self._average_precision(number), 3) for number in sorted(self.there)}
        sure = [right for found in self.found.values() for score, right in found if score >= CERTAIN]
        total = sum(self.there.values())
        return {
            "map50": round(float(np.mean(list(precisions.values()))), 3),
            "recall": round(sum(sure) / max(1, total), 3),
            "precision": round(sum(sure) / max(1, len(sure)), 3),
            "above_0.7": round(sum(score >= 0.7 for score in self.best) / max(1, total), 3),
            "mean_iou": round(float(np.mean(self.overlaps or [0])), 3),
            "objects": total,
            "ap50": precisions,
        }

    def _average_precision(self, number: int) -> float:
        ranked = sorted(self.found.get(number, []), reverse=True)
        right = np.cumsum([hit for _, hit in ranked])
        if not len(right):
            return 0.0
        precision = right / np.arange(1, len(ranked) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        recall = np.concatenate([[0], right / self.there[number]])
        return float(np.sum(np.diff(recall) * precision))


def _overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = (first[:, 2:] - first[:, :2]).prod(-1)[:, None] + (second[:, 2:] - second[:, :2]).prod(-1)[None]
    overlap: NDArray[np.float32] = shared / np.maximum(areas - shared, 1e-6)
    return overlap


def evaluate(model: Path, data: Path) -> dict[str, object]:
    """Return the figures of a model over a data set."""
    detector = NcnnDetector(DetectorConfig(model=str(model), threads=1, minimum_score=LOWEST))
    frames = Frames([data])
    whole, regions, times, false = Tally(), Tally(), [], []
    for jpeg, truth in zip(frames.pictures, frames.boxes, strict=True):
        picture = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))
        began = time.perf_counter()
        (found,) = detector.detect([picture])
        times.append(time.perf_counter() - began)
        whole.add(found, truth)
        if not len(truth):
            false.append(float(found.scores.max(initial=0)))
        _look_closer(detector, picture, truth, regions)
    return {
        "whole": whole.figures(detector.labels),
        "region": regions.figures(detector.labels),
        "empty_frames": len(false),
        "highest_score_on_empty": round(max(false, default=0), 3),
        "empty_above_half": sum(score >= 0.5 for score in false),
        "ms": round(float(np.median(times)) * 1000, 1),
    }


def _look_closer(detector: NcnnDetector, picture: NDArray[np.uint8], truth: NDArray[np.float32], tally: Tally) -> None:
    """Look at a square region about each object that counts."""
    rows, columns = picture.shape[:2]
    for number, left, top, right, bottom in truth:
        if number < 0 or bottom - top < CLEAR:
            continue
        side = min(float(rows), max(240.0, 1.6 * max(right - left, bottom - top)))
        x = int(np.clip((left + right - side) / 2, 0, columns - side))
        y = int(np.clip((top + bottom - side) / 2, 0, rows - side))
        crop = picture[y : y + int(side), x : x + int(side)]
        (found,) = detector.detect([crop])
        inside = _cropped(truth, x, y, side)
        tally.add(found, inside)


def _cropped(truth: NDArray[np.float32], x: int, y: int, side: float) -> NDArray[np.float32]:
    moved = truth.copy()
    moved[:, 1::2] = np.clip(truth[:, 1::2] - x, 0, side)
    moved[:, 2::2] = np.clip(truth[:, 2::2] - y, 0, side)
    areas = (truth[:, 3] - truth[:, 1]) * (truth[:, 4] - truth[:, 2])
    kept = (moved[:, 3] - moved[:, 1]) * (moved[:, 4] - moved[:, 2])
    moved[kept < 0.8 * areas, 0] = -1
    return moved[kept > 1]


def main() -> None:
    """Evaluate."""
    parser = ArgumentParser(prog="python -m demo.detector.evaluate", description=__doc__)
    parser.add_argument("data", type=Path, help="what `demo.detector.dataset --catalogue` wrote")
    parser.add_argument("--model", type=Path, default=MODEL)
    arguments = parser.parse_args()
    print(json.dumps(evaluate(arguments.model, arguments.data)))


if __name__ == "__main__":
    main()
