"""The embedded detector: Tencent's ncnn on this machine's processor."""

from collections.abc import Sequence
from pathlib import Path
import threading
from typing import Any

import ncnn
import numpy as np
from numpy.typing import NDArray
import yaml

from ..detections import Detections
from ..messages import DetectorConfig, Problem
from . import DetectorError, Picture
from .yolo import GREY, Letterbox, check_shape, decode

_FILES = ("model.ncnn.param", "model.ncnn.bin", "metadata.yaml")
_RGB = ncnn.Mat.PixelType.PIXEL_RGB
_ONE_THREAD = ncnn.Option()
_ONE_THREAD.num_threads = 1  # Its default is every core, also for a copy of microseconds.
_SIDES = 2
_MAX_SIDE = 4096


class NcnnDetector:
    """A YOLO that Ultralytics exported with `format="ncnn"`, or any model with the same files, inputs and outputs.

    One thread by default: on a machine that is busy otherwise ncnn's threads wait for each other, and two are slower
    than one. The binding gives up the GIL while it infers (measured with YOLO11n at 320x320: a thread that ticks every
    millisecond ticks 29 times in a run of 32 ms), so decoding goes on meanwhile.
    """

    def __init__(self, config: DetectorConfig) -> None:
        """Load the model and run it once.

        Raises:
            DetectorError: a file is missing, broken, or the model's output is not one that we can decode.
        """
        folder = Path(config.model)
        _check_files(folder)
        self.width, self.height, self.labels = _read_metadata(folder / "metadata.yaml")
        self._minimum_score = config.minimum_score
        self._lock = threading.Lock()
        self._net: Any = _load(folder, max(1, config.threads))
        self._input, self._output = _blob_names(self._net)
        self._validate()

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of each picture, boxes in that picture's own pixels."""
        return [self._detect_one(picture) for picture in pictures]

    def close(self) -> None:
        """Free the model; a run in progress is waited for."""
        with self._lock:
            self._net = None

    def _detect_one(self, picture: Picture) -> Detections:
        box = Letterbox.fit(picture.shape[1], picture.shape[0], self.width, self.height)
        found = decode(
            self._run(_to_input(picture, box, self.width, self.height)), len(self.labels), self._minimum_score
        )
        return Detections(box.to_picture(found.boxes), found.scores, found.classes)

    def _run(self, picture: Any) -> NDArray[np.float32]:
        with self._lock:
            if self._net is None:
                raise DetectorError(Problem.MODEL_MISSING, "the detector was closed")
            extractor = self._net.create_extractor()
            extractor.input(self._input, picture)
            status, output = extractor.extract(self._output)
        if status != 0:
            raise DetectorError(Problem.MODEL_CORRUPT, f"ncnn could not run the model (status {status})")
        # The array is a view of memory that ncnn frees with the Mat.
        return np.array(output, dtype=np.float32)

    def _validate(self) -> None:
        grey = np.full((self.height, self.width, 3), GREY, np.uint8)
        box = Letterbox.fit(self.width, self.height, self.width, self.height)
        output = self._run(_to_input(grey, box, self.width, self.height))
        check_shape(output.shape, len(self.labels))
        if not np.isfinite(output).all():
            raise DetectorError(
                Problem.MODEL_CORRUPT, "model.ncnn.bin holds other weights: what the model gives are not numbers"
            )


def fit_into(picture: Picture, box: Letterbox, width: int, height: int) -> Any:
    """Return the letterboxed picture as a Mat of three planes, 0..255.

    Scaled and padded inside ncnn: 0.4 ms from 720p to 320, against 1.7 by swscale (area) and 4.3 by Pillow.
    """
    pixels = np.ascontiguousarray(picture)
    inner = ncnn.Mat.from_pixels_resize(pixels, _RGB, box.width, box.height, box.inner_width, box.inner_height)
    right, bottom = width - box.inner_width - box.left, height - box.inner_height - box.top
    border = ncnn.BorderType.BORDER_CONSTANT
    return ncnn.copy_make_border(inner, box.top, bottom, box.left, right, border, float(GREY), _ONE_THREAD)


def _to_input(picture: Picture, box: Letterbox, width: int, height: int) -> Any:
    whole = fit_into(picture, box, width, height)
    whole.substract_mean_normalize([], [1 / 255.0] * 3)
    return whole


def _check_files(folder: Path) -> None:
    for name in _FILES:
        if not (folder / name).is_file():
            raise DetectorError(Problem.MODEL_MISSING, f"{folder.name} has no {name}")


def _read_metadata(path: Path) -> tuple[int, int, tuple[str, ...]]:
    """Return input width, input height and labels."""
    try:
        metadata = yaml.safe_load(path.read_text(encoding="utf-8"))
        # Ultralytics writes height before width.
        height, width = _sides(metadata["imgsz"])
        names = metadata["names"]
        labels = [str(names[index]) for index in range(len(names))]
    except (yaml.YAMLError, OSError, ValueError, TypeError, KeyError, IndexError) as err:
        raise DetectorError(Problem.MODEL_CORRUPT, f"{path.name} does not name the input size and the labels") from err
    if not labels or not all(0 < side <= _MAX_SIDE for side in (width, height)):
        raise DetectorError(Problem.MODEL_SHAPE, f"an input of {width}x{height} and {len(labels)} labels")
    return width, height, tuple(labels)


def _sides(size: int | list[int]) -> tuple[int, int]:
    sides = [size] * _SIDES if isinstance(size, int) else [int(side) for side in size]
    if len(sides) != _SIDES:
        raise ValueError(f"{len(sides)} sides")
    return sides[0], sides[1]


def _load(folder: Path, threads: int) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = True
    for name, load in (("model.ncnn.param", net.load_param), ("model.ncnn.bin", net.load_model)):
        if load(str(folder / name)) != 0:
            raise DetectorError(Problem.MODEL_CORRUPT, f"{name} is cut off or not a model of ncnn")
    return net


def _blob_names(net: Any) -> tuple[str, str]:
    inputs, outputs = net.input_names(), net.output_names()
    if len(inputs) != 1 or len(outputs) != 1:
        raise DetectorError(
            Problem.MODEL_SHAPE,
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs; it has to have one each",
        )
    return inputs[0], outputs[0]
