"""Frames a second on an NVIDIA GPU: our plug-in with batches of 16, against the library's own `predict` frame by frame.

Frames are 1280x720, the network sees 640x384. `limit_fps` is the network alone on pictures that lie in the card's
memory already. YOLO11m, and YOLO11n where its weights are absent, have random weights: their speed is the same.
ULTRALYTICS_PYTHON names a Python with what `plugins.ULTRALYTICS_REQUIREMENTS` lists, and TensorRT for its figures.
"""

import json
import os
from pathlib import Path
import subprocess
import tempfile
from typing import Any

import numpy as np

from benchmarks import _report
from custom_components.nemotron_security.vision import __file__ as vision_file
from custom_components.nemotron_security.vision.trial_run import rendered_picture

SHARED = Path(__file__).resolve().parents[2] / "shared"
WEIGHTS = SHARED / "models" / "yolo11n.pt"
PYTHON = os.environ.get("ULTRALYTICS_PYTHON", "")
BATCH = 16


def measure() -> _report.Figures:
    """Measure on the library's Python."""
    picture = rendered_picture()
    pictures = np.stack([np.roll(picture, 37 * shift, axis=1) for shift in range(4)])
    models = {"yolo11n": str(WEIGHTS) if WEIGHTS.is_file() else "yolo11n.yaml", "yolo11m": "yolo11m.yaml"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.npy"
        np.save(file, pictures)
        script, main = Path(__file__).with_name("_gpu_predict.py"), Path(vision_file).with_name("__main__.py")
        asked = json.dumps({"models": models, "batch": BATCH})
        done = subprocess.run([PYTHON, "-I", script, main, file, asked], capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    if PYTHON:
        _report.run(measure, __doc__)
    else:
        print("needs ULTRALYTICS_PYTHON: a Python with ultralytics, on a machine with an NVIDIA GPU")
