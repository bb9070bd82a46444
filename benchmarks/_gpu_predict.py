"""Runs on the Python of Ultralytics' library: frames a second on an NVIDIA GPU. See `gpu_detect.py`.

`python -I _gpu_predict.py MAIN FRAMES.npy JSON`, JSON an object with `models` (name to `.pt` or the `.yaml` of an
architecture, whose speed does not depend on its weights) and `batch`. Prints one JSON object.
"""

from collections.abc import Callable
from importlib import import_module
import json
from pathlib import Path
import runpy
import sys
import tempfile
import time
from typing import Any

import numpy as np

_WARM = 5
_SECONDS = 8.0


def main() -> dict[str, Any]:
    """Measure each model by each way."""
    runpy.run_path(sys.argv[1], run_name="main")["_register"]()
    frames = list(np.load(sys.argv[2]))
    asked = json.loads(sys.argv[3])
    plugin = import_module("vision.detectors.ultralytics")
    library, torch = plugin.import_library()
    device = asked.get("device", "cuda:0")
    if device != "cpu" and not torch.cuda.is_available():
        return {"note": "PyTorch finds no NVIDIA GPU on this machine"}
    card = "cpu" if device == "cpu" else torch.cuda.get_device_name(0)
    figures: dict[str, Any] = {"card": card, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in asked["models"].items():
            path = Path(folder) / f"{name}.pt"
            library.YOLO(model).save(str(path))
            measured = _Bench((library, torch), path, frames, asked["batch"], device).measured()
            figures |= {f"{name}_{figure}": value for figure, value in measured.items()}
    return figures


class _Bench:
    """One model, its frames and the device that it runs on."""

    def __init__(self, libraries: tuple[Any, Any], path: Path, frames: list[Any], batch: int, device: str) -> None:
        self._library, torch = libraries
        self._torch, self._path, self._device = torch, path, device
        self._frames, self._batch = frames, batch
        self._settle = torch.cuda.synchronize if device != "cpu" else lambda: None

    def measured(self) -> dict[str, Any]:
        """Return our frames a second, those of a bare loop, and what the card can do with pictures that are there."""
        own = self._library.YOLO(str(self._path))
        flipped = [np.ascontiguousarray(frame[..., ::-1]) for frame in self._frames]
        options = {"device": self._device, "verbose": False, "imgsz": 640, "conf": 0.25}
        figures: dict[str, Any] = {
            "predict_loop_fps": self._rate(lambda run: own.predict(flipped[run % len(flipped)], **options), 1)
        }
        network = own.predictor.model.backend.model
        for kind, half in (("full", False), ("half", True)):
            figures[f"{kind}_fps"] = self._plugin_rate(half=half, tensorrt=False)
            figures[f"{kind}_limit_fps"] = self._limit(network.half() if half else network.float(), half=half)
        try:
            figures["tensorrt_fps"] = self._plugin_rate(half=True, tensorrt=True)
        except Exception as err:  # noqa: BLE001  # without it the other figures still count
            figures |= {"tensorrt_fps": None, "tensorrt_note": str(err)[:200]}
        return {**figures, "gain": figures["half_fps"] / figures["predict_loop_fps"]}

    def _limit(self, network: Any, *, half: bool) -> float:
        kind = self._torch.float16 if half else self._torch.float32
        tensor = self._torch.rand(self._batch, 3, 384, 640, dtype=kind, device=self._device)
        with self._torch.inference_mode():
            return self._rate(lambda _: network(tensor), self._batch)

    def _plugin_rate(self, **options: bool) -> float:
        config = import_module("vision.messages").DetectorConfig(
            plugin="ultralytics", model=str(self._path), device=self._device, **options
        )
        detector = import_module("vision.detectors.loading").load_plugin(config)
        shown = self._frames * (self._batch // len(self._frames) + 1)
        try:
            return self._rate(lambda _: detector.detect(shown[: self._batch]), self._batch)
        finally:
            detector.close()

    def _rate(self, step: Callable[[int], object], pictures: int) -> float:
        """Return pictures a second over some seconds, after a few steps to warm up."""
        for run in range(_WARM):
            step(run)
        self._settle()
        begun, runs = time.perf_counter(), 0
        while time.perf_counter() - begun < _SECONDS:
            step(runs)
            runs += 1
        self._settle()
        return runs * pictures / (time.perf_counter() - begun)


if __name__ == "__main__":
    print(json.dumps(main()))
