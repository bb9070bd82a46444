"""The embedded detector: Tencent's ncnn on this machine's processor, or on a GPU by Vulkan."""

from collections.abc import Callable, Sequence
import ctypes
import logging
import os
from pathlib import Path
import threading
import time
from typing import Any, Self

import ncnn
import numpy as np
from numpy.typing import NDArray
import yaml

from ..detections import Detections
from ..messages import DetectorConfig, Problem
from . import DetectorError, Picture
from .yolo import GREY, Letterbox, check_shape, decode, has_rows, is_rtdetr

_LOGGER = logging.getLogger(__name__)

_FILES = ("model.ncnn.param", "model.ncnn.bin", "metadata.yaml")
_RGB = ncnn.Mat.PixelType.PIXEL_RGB
_ONE_THREAD = ncnn.Option()
_ONE_THREAD.num_threads = 1  # Its default is every core, also for a copy of microseconds.
_SIDES = 2
_MAX_SIDE = 4096

_THREADS = (1, 2, 3, 4, 6, 8, 12, 16)
_CLEARLY_FASTER = 0.85
"""What takes less than this share of the time is worth more threads, or a GPU."""
_MEASURING = 2.0
"""Seconds after which no more threads are tried."""
_RUNS = 5
_SOME_TIME = 0.5
"""Runs of one measurement at most, and seconds after which there is no further one."""
_SOFTWARE = 3
"""ncnn's type of a Vulkan device that is the processor: Mesa's llvmpipe takes 32 s for the first picture, then 4 s."""
_LIKE = 0.05
"""How far a GPU's scores may be from the processor's: it calculates in half precision."""


class NcnnDetector:
    """A YOLO that Ultralytics exported with `format="ncnn"`, or any model with the same files, inputs and outputs.

    The binding gives up the GIL while it infers (measured with YOLO11n at 320x320: a thread that ticks every
    millisecond ticks 29 times in a run of 32 ms), so decoding goes on meanwhile.
    """

    def __init__(self, config: DetectorConfig) -> None:
        """Load the model, run it, and choose what to run it on.

        Raises:
            DetectorError: a file is missing, broken, or the model's output is not one that we can decode; or the GPU
                that was asked for cannot be used.
        """
        folder = Path(config.model)
        _check_files(folder)
        self.width, self.height, labels = _read_metadata(folder / "metadata.yaml")
        self.labels = config.labels or labels
        self._minimum_score = config.minimum_score
        self._stretched = False
        self._lock = threading.Lock()
        noise = np.random.default_rng(1).integers(0, 256, (self.height, self.width, 3), np.uint8)
        sample = _to_input(noise, self._fit(noise), self.width, self.height)
        self._engine: _Engine | None
        self._engine, self.device = _choose_engine(folder, config, sample, self._check)
        self.threads = self._engine.threads

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of each picture, boxes in that picture's own pixels."""
        return [self._detect_one(picture) for picture in pictures]

    def close(self) -> None:
        """Free the model; a run in progress is waited for."""
        with self._lock:
            self._engine = None

    def _detect_one(self, picture: Picture) -> Detections:
        box = self._fit(picture)
        output = self._run(_to_input(picture, box, self.width, self.height))
        found = decode(output, len(self.labels), self._minimum_score, width=self.width, height=self.height)
        return Detections(box.to_picture(found.boxes), found.scores, found.classes)

    def _fit(self, picture: Picture) -> Letterbox:
        place = Letterbox.stretch if self._stretched else Letterbox.fit
        return place(picture.shape[1], picture.shape[0], self.width, self.height)

    def _run(self, picture: Any) -> NDArray[np.float32]:
        with self._lock:
            if self._engine is None:
                raise DetectorError(Problem.MODEL_MISSING, "the detector was closed")
            return self._engine.run(picture)

    def _check(self, output: NDArray[np.float32]) -> None:
        """Make sure that this is what a detection model with these labels gives."""
        check_shape(output.shape, len(self.labels))
        if not np.isfinite(output).all():
            raise DetectorError(
                Problem.MODEL_CORRUPT, "model.ncnn.bin holds other weights: what the model gives are not numbers"
            )
        self._stretched = is_rtdetr(output, len(self.labels))


class _Engine:
    """A model that is loaded for one device."""

    def __init__(self, net: Any) -> None:
        """Find the names of its input and output."""
        self._net = net
        self._input, self._output = _blob_names(net)

    @classmethod
    def load(cls, folder: Path, gpu: int | None = None) -> Self:
        """Load the model for the processor, or for a GPU."""
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.opt.use_vulkan_compute = gpu is not None
        if gpu is not None:
            net.set_vulkan_device(gpu)
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = True
        for name, load in (("model.ncnn.param", net.load_param), ("model.ncnn.bin", net.load_model)):
            if load(str(folder / name)) != 0:
                raise DetectorError(Problem.MODEL_CORRUPT, f"{name} is cut off or not a model of ncnn")
        return cls(net)

    @property
    def threads(self) -> int:
        """Threads of the processor that a run uses."""
        threads: int = self._net.opt.num_threads
        return threads

    def use_threads(self, threads: int) -> None:
        """Use as many threads from the next run on."""
        self._net.opt.num_threads = threads

    def run(self, picture: Any) -> NDArray[np.float32]:
        """Return what the model gives for a picture."""
        extractor = self._net.create_extractor()
        extractor.input(self._input, picture)
        status, output = extractor.extract(self._output)
        if status != 0:
            raise DetectorError(Problem.MODEL_CORRUPT, f"ncnn could not run the model (status {status})")
        # The array is a view of memory that ncnn frees with the Mat.
        return np.array(output, dtype=np.float32)


def _choose_engine(
    folder: Path, config: DetectorConfig, sample: Any, check: Callable[[NDArray[np.float32]], None]
) -> tuple[_Engine, str]:
    """Return the model on the device that a config asks for or that is the fastest, and the device in words."""
    engine = _Engine.load(folder)
    expected = engine.run(sample)
    check(expected)
    if config.device not in {"", "cpu"}:
        gpu = _named_gpu(config.device)
        return _load_on_gpu(folder, gpu, sample, expected), _gpu_name(gpu)
    took = _choose_threads(engine, sample, config.threads)
    if config.device == "cpu" or (found := _real_gpu()) is None:
        return engine, "cpu"
    name = _gpu_name(found)
    try:
        on_gpu = _load_on_gpu(folder, found, sample, expected)
    except DetectorError as err:
        _LOGGER.warning("%s is not used: %s", name, err.detail)
        return engine, f"cpu ({name}: {err.detail})"
    if _median(on_gpu, sample) < took * _CLEARLY_FASTER:
        return on_gpu, name
    return engine, f"cpu ({name} is not faster)"


def _choose_threads(engine: _Engine, sample: Any, wanted: int) -> float:
    """Use as many threads as are wanted, else as many as are worth it; return the seconds of a run.

    One core is left to the decoding of streams: where all are busy, ncnn's threads wait for each other, and two on two
    cores have been seen to be 30 times slower than one.
    """
    deadline = time.perf_counter() + _MEASURING
    engine.use_threads(max(1, wanted))
    took = _median(engine, sample)
    if wanted:
        return took
    best = 1
    for threads in _THREADS[1:]:
        if threads > (os.process_cpu_count() or 1) - 1 or time.perf_counter() > deadline:
            break
        engine.use_threads(threads)
        more = _median(engine, sample)
        if more > took * _CLEARLY_FASTER:
            break
        took, best = more, threads
    engine.use_threads(best)
    return took


def _median(engine: _Engine, sample: Any) -> float:
    """Return the median time of a few runs in seconds, after one that is not counted."""
    deadline = time.perf_counter() + _SOME_TIME
    engine.run(sample)
    times: list[float] = []
    while not times or (len(times) < _RUNS and time.perf_counter() < deadline):
        begun = time.perf_counter()
        engine.run(sample)
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def _named_gpu(device: str) -> int:
    """Return the number of a GPU that was asked for, as `vulkan:0`; software is taken if it was meant."""
    kind, _, number = device.partition(":")
    if kind != "vulkan" or not number.isdecimal():
        raise DetectorError(
            Problem.DETECTOR_NO_DEVICE, f"ncnn knows no device {device!r}, only cpu, vulkan:0 and so on"
        )
    if int(number) >= _count_gpus():
        raise DetectorError(Problem.DETECTOR_NO_DEVICE, f"Vulkan finds {_count_gpus()} GPUs, so {device} is none")
    return int(number)


def _real_gpu() -> int | None:
    """Return the number of the first GPU that is one."""
    real = (number for number in range(_count_gpus()) if ncnn.get_gpu_info(number).type() != _SOFTWARE)
    return next(real, None)


def _count_gpus() -> int:
    try:
        # ncnn complains in many lines where there is no Vulkan at all.
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return 0
    count: int = ncnn.get_gpu_count()
    return count


def _gpu_name(number: int) -> str:
    return str(ncnn.get_gpu_info(number).device_name())


def _load_on_gpu(folder: Path, number: int, sample: Any, expected: NDArray[np.float32]) -> _Engine:
    """Load the model for a GPU.

    Raises:
        DetectorError: it cannot be loaded there, or gives something else than on the processor.
    """
    try:
        engine = _Engine.load(folder, number)
        output = engine.run(sample)
    except DetectorError as err:
        raise DetectorError(Problem.DETECTOR_NO_DEVICE, f"it cannot run the model: {err.detail}") from err
    if output.shape != expected.shape or not np.isfinite(output).all() or not _alike(output, expected):
        raise DetectorError(Problem.DETECTOR_NO_DEVICE, "it gives other results than the processor")
    return engine


def _alike(output: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Tell whether two outputs agree; rows that come in the order of their scores cannot be compared."""
    if has_rows(output.shape):
        return True
    boxes, scores = np.abs(output - expected)[:4], np.abs(output - expected)[4:]
    return bool(scores.max() < _LIKE and np.median(boxes) < 1.0)


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


def _blob_names(net: Any) -> tuple[str, str]:
    inputs, outputs = net.input_names(), net.output_names()
    if len(inputs) != 1 or len(outputs) != 1:
        raise DetectorError(
            Problem.MODEL_SHAPE,
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs; it has to have one each",
        )
    return inputs[0], outputs[0]
