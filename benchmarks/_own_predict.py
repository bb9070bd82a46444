"""Runs on the Python of Ultralytics' library: our plug-in and the library's own `predict`, in turn, on the same frames.

`python -I _own_predict.py MAIN FRAMES.npy JSON`, where MAIN is the vision package's `__main__.py` and JSON an object
with `model`, `plugin`, `runs` and what else goes into a `DetectorConfig`. Prints one JSON object.
"""

from importlib import import_module
import json
import runpy
import sys
import time
from typing import Any

import numpy as np

LEAST = 0.3
PIXELS, SCORE = 2.0, 0.02


def main() -> dict[str, Any]:
    """Measure, and compare what both find."""
    runpy.run_path(sys.argv[1], run_name="main")["_register"]()
    frames = np.load(sys.argv[2])
    options = json.loads(sys.argv[3])
    runs = options.pop("runs")
    plugin = import_module("vision.detectors.ultralytics")
    config = import_module("vision.messages").DetectorConfig(minimum_score=LEAST, **options)
    library, torch = plugin.import_library()
    load_plugin = import_module("vision.detectors.loading").load_plugin
    detector = load_plugin(config)
    own = library.YOLO(config.model, task="detect")
    torch.set_num_threads(max(1, detector.threads))
    size = [detector.height, detector.width]
    flipped = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]

    def predict(number: int) -> Any:
        return own.predict(flipped[number], imgsz=size, conf=LEAST, iou=0.7, device="cpu", verbose=False)[0]

    ours, theirs, equal = [], [], True
    for run in range(-1, runs):
        number = run % len(frames)
        begun = time.perf_counter()
        (found,) = detector.detect([frames[number]])
        between = time.perf_counter()
        result = predict(number)
        ended = time.perf_counter()
        if run >= 0:  # the first of each warms up
            ours.append(between - begun)
            theirs.append(ended - between)
        equal = equal and _agree(found, result.boxes.data.numpy())
    return {"ms": _median_ms(ours), "bare_ms": _median_ms(theirs), "boxes_equal": equal, "device": detector.device}


def _median_ms(times: list[float]) -> float:
    return float(np.median(times)) * 1000


def _agree(found: Any, rows: Any) -> bool:
    """Tell whether every object that is surely seen by one is seen by the other in the same place."""
    sides = [(found.boxes, found.scores, found.classes), (rows[:, :4], rows[:, 4], rows[:, 5])]
    for (boxes, scores, classes), (other_boxes, other_scores, other_classes) in (sides, sides[::-1]):
        for box, score, kind in zip(boxes, scores, classes, strict=True):
            if score < LEAST + 2 * SCORE:
                continue
            near = (np.abs(other_boxes - box).max(axis=1) <= PIXELS) & (np.abs(other_scores - score) <= SCORE)
            if not (near & (other_classes == kind)).any():
                return False
    return True


if __name__ == "__main__":
    print(json.dumps(main()))
