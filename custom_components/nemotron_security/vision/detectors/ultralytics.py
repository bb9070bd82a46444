"""Ultralytics' own library: `.pt`, `.onnx` and `.engine` on NVIDIA GPUs, several pictures at a time, or on a processor.

It runs where that library is installed: in an environment of its own (see `plugins.ULTRALYTICS_REQUIREMENTS`), on whose
Python the whole worker runs then. Nothing is sent, downloaded or installed. A `.pt` is a pickle, which may hold a
program: only the classes that models are made of are loaded from it, and never in Home Assistant's process.
"""

from collections.abc import Callable, Sequence
import hashlib
import json
import os
from pathlib import Path
import pickletools
import re
import shutil
import sys
import tempfile
from types import ModuleType
from typing import Any, Final
import zipfile

import numpy as np

from ..detections import Detections
from ..messages import DetectorConfig, Problem
from . import DetectorError, Picture
from .yolo import GREY

_SUFFIXES = (".pt", ".onnx", ".engine")
_TRAINED_SIDE = 640
"""Input size of a model that does not say with which one it was trained."""
_MAX_SIDE = 4096
_MAX_BATCH = 16
_IOU = 0.7
_MAX_OBJECTS = 300
_WORDS = 200
_FOLDER = "nemotron_security"
_REFUSED = re.compile(r"GLOBAL ([\w.]+)|(unsafe getattr)")
"""PyTorch's words when a pickle names what is not among the classes that it may use."""

_SETTINGS: Final = {
    "YOLO_OFFLINE": "true",  # no check for a network, no telemetry, no newer version looked for
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "true",  # what is missing fails when it is imported
    "ULTRALYTICS_SAFE_LOAD": "true",  # of a pickle only what models are made of
    "HF_HUB_OFFLINE": "1",
}


class UltralyticsDetector:
    """A detection model of Ultralytics' library: YOLO or RT-DETR."""

    def __init__(self, config: DetectorConfig) -> None:
        """Load the model and let it look at a grey picture.

        Raises:
            DetectorError: the library or the file is missing, the file is damaged, poisoned or no detection model, or
                the GPU cannot be used.
        """
        path = _checked(Path(config.model))
        library, torch = import_library()
        self._device, self.device = _choose_device(torch, config.device, path)
        self.threads = 0 if self._device.startswith("cuda") else _use_threads(torch, config.threads)
        self._most = _MAX_BATCH
        """Pictures that the model takes at once."""
        self._options = {
            "conf": max(config.minimum_score, 1e-3),
            "iou": _IOU,
            "max_det": _MAX_OBJECTS,
            "device": self._device,
            "verbose": False,
            "save": False,
        }
        if config.half and self._device.startswith("cuda"):
            self._options["quantize"] = 16
        if config.tensorrt and path.suffix == ".pt" and self._device.startswith("cuda"):
            path = _engine_of(path, self._fingerprint(torch, config), lambda copy: self._export(library, copy, config))
        self._torch = torch
        self._model = _load(library, path)
        self.labels: tuple[str, ...] = ()
        self.width = self.height = _input_side(self._model)
        self._try(config)
        if path.suffix.lower() != ".pt" and not self._takes_several():
            self._most = 1
        self.batch = self._most if self._device.startswith("cuda") else 1

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of each picture, boxes in that picture's own pixels."""
        if self._model is None:
            raise DetectorError(Problem.MODEL_MISSING, "the detector was closed")
        found: list[Detections] = []
        size = self._most
        while len(found) < len(pictures):
            batch = pictures[len(found) : len(found) + size]
            try:
                found += self._predict(batch)
            except self._torch.OutOfMemoryError as err:
                if len(batch) == 1:
                    raise DetectorError(Problem.DETECTOR_NO_DEVICE, f"{self.device} has too little memory") from err
                size = max(1, len(batch) // 2)
        return found

    def close(self) -> None:
        """Free what it holds, on the GPU too."""
        self._model = None
        if self._device.startswith("cuda"):
            self._torch.cuda.empty_cache()

    def _predict(self, pictures: Sequence[Picture]) -> list[Detections]:
        import cv2  # noqa: PLC0415  # of the library's environment

        # The library takes pictures as OpenCV reads them: blue first.
        flipped = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR) for picture in pictures]
        results = self._model.predict(flipped, imgsz=[self.height, self.width], **self._options)
        return [_read(result) for result in results]

    def _try(self, config: DetectorConfig) -> None:
        """Look at a grey picture, and at what kind of model it is."""
        grey = np.full((self.height, self.width, 3), GREY, np.uint8)
        try:
            self._predict([grey])
            loaded = self._model.predictor.model
            task, names = getattr(loaded, "task", None) or self._model.task, loaded.names
            height, width = getattr(loaded, "imgsz", None) or (self.height, self.width)
        except DetectorError, ImportError:
            raise
        except self._torch.OutOfMemoryError as err:
            raise DetectorError(Problem.DETECTOR_NO_DEVICE, f"{self.device} has too little memory") from err
        except Exception as err:
            raise DetectorError(Problem.MODEL_CORRUPT, _words(err)) from err
        if task != "detect":
            raise DetectorError(Problem.MODEL_SHAPE, f"it is a model of the kind {task}, not detect")
        labels = tuple(str(names[number]) for number in range(len(names)))
        if config.labels and len(config.labels) != len(labels):
            raise DetectorError(
                Problem.MODEL_SHAPE, f"the model has {len(labels)} classes, and {len(config.labels)} labels are given"
            )
        if not all(0 < side <= _MAX_SIDE for side in (width, height)):
            raise DetectorError(Problem.MODEL_SHAPE, f"an input of {width}x{height}")
        self.labels = config.labels or labels
        self.width, self.height = int(width), int(height)

    def _takes_several(self) -> bool:
        """Tell whether several pictures may go in together; an export that was not told to be dynamic takes one."""
        grey = np.full((self.height, self.width, 3), GREY, np.uint8)
        try:
            return len(self._predict([grey, grey])) > 1
        except Exception:  # noqa: BLE001  # each engine has errors of its own
            return False

    def _fingerprint(self, torch: Any, config: DetectorConfig) -> dict[str, Any]:
        """Return what an engine depends on beside its model: it works with that card and that TensorRT alone."""
        try:
            import tensorrt  # noqa: PLC0415
        except ImportError as err:
            raise DetectorError(Problem.DETECTOR_NOT_INSTALLED, f"TensorRT: {err}") from err
        return {
            "card": self.device,
            "capability": torch.cuda.get_device_capability(self._device),
            "cuda": torch.version.cuda,
            "tensorrt": tensorrt.__version__,
            "half": config.half,
            "batch": _MAX_BATCH,
        }

    def _export(self, library: ModuleType, copy: Path, config: DetectorConfig) -> Path:
        """Let TensorRT make an engine of a model; takes minutes."""
        options = {"quantize": 16} if config.half else {}
        made = _load(library, copy).export(
            format="engine", device=self._device, dynamic=True, batch=_MAX_BATCH, verbose=False, **options
        )
        return Path(made)


def _checked(path: Path) -> Path:
    """Return the path of a file that may be loaded; anything else the library would take for a name to download."""
    if path.suffix.lower() not in _SUFFIXES:
        raise DetectorError(Problem.MODEL_SHAPE, f"{path.name} is none of {', '.join(_SUFFIXES)}")
    if not path.is_file():
        raise DetectorError(Problem.MODEL_MISSING, f"there is no file {path.name}")
    path = path.resolve()
    if path.suffix.lower() == ".pt" and not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            kind = Problem.MODEL_UNSAFE if _holds_a_program(file.read(1 << 20)) else Problem.MODEL_CORRUPT
        raise DetectorError(kind, f"{path.name} is no archive as PyTorch writes it")
    return path


def _holds_a_program(data: bytes) -> bool:
    """Tell whether these bytes begin as a pickle that calls something."""
    try:
        return any(code.name in {"REDUCE", "INST", "OBJ", "NEWOBJ", "BUILD"} for code, _, _ in pickletools.genops(data))
    except ValueError, UnicodeDecodeError, IndexError:
        return False


def import_library() -> tuple[ModuleType, Any]:
    """Import the library, told to keep to itself."""
    import torch  # noqa: PLC0415  # takes seconds, and is there in its own environment only

    folder = _own_folder()
    os.environ.update(_SETTINGS, YOLO_CONFIG_DIR=folder, MPLCONFIGDIR=folder)
    import ultralytics as library  # noqa: PLC0415
    from ultralytics import utils  # noqa: PLC0415

    if not getattr(utils, "SAFE_LOAD", False) or utils.ONLINE:
        raise DetectorError(
            Problem.DETECTOR_NOT_INSTALLED, f"ultralytics {library.__version__} is too old to load a model safely"
        )
    return library, torch


def _own_folder() -> str:
    """Return a folder for the library's settings: in its own environment, else one that nobody else can write to."""
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        folder = Path(sys.prefix) / "var" / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)
    return tempfile.mkdtemp(prefix=f"{_FOLDER}-")


def _choose_device(torch: Any, device: str, path: Path) -> tuple[str, str]:
    """Return the device as PyTorch calls it, and in words."""
    kind, _, number = device.partition(":")
    if kind not in {"", "cpu", "cuda"} or (number and not number.isdecimal()):
        raise DetectorError(Problem.DETECTOR_NO_DEVICE, f"ultralytics knows no device {device!r}, but cpu and cuda:0")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = int(number or 0)
    if kind == "cuda" and wanted >= count:
        raise DetectorError(Problem.DETECTOR_NO_DEVICE, f"PyTorch finds {count} NVIDIA GPUs, so {device} is none")
    if kind != "cpu" and count:
        return f"cuda:{wanted}", str(torch.cuda.get_device_name(wanted))
    if path.suffix.lower() == ".engine":
        raise DetectorError(Problem.DETECTOR_NO_DEVICE, "an engine of TensorRT runs on an NVIDIA GPU only")
    return "cpu", "cpu" if kind == "cpu" else "cpu (PyTorch finds no NVIDIA GPU)"


def _use_threads(torch: Any, wanted: int) -> int:
    """Use so many threads of the processor; without a wish all but one, which decodes streams meanwhile."""
    threads = wanted or max(1, (os.process_cpu_count() or 1) - 1)
    torch.set_num_threads(threads)
    return threads


def _load(library: ModuleType, path: Path) -> Any:
    """Return the library's model of a file."""
    try:
        if path.suffix.lower() == ".pt":
            return library.YOLO(str(path))  # turns to RT-DETR by itself
        return library.RTDETR(str(path)) if _is_rtdetr(path) else library.YOLO(str(path), task="detect")
    except ImportError:
        raise
    except Exception as err:
        raise _load_error(err) from err


def _load_error(err: Exception) -> DetectorError:
    """Tell a file that wants to run something from one that is damaged."""
    chain: list[BaseException] = [err]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    if refused := _REFUSED.search(str(chain[-1])):
        return DetectorError(Problem.MODEL_UNSAFE, f"it uses {refused[1] or 'getattr'}, which no model needs")
    return DetectorError(Problem.MODEL_CORRUPT, _words(chain[-1]))


def _is_rtdetr(path: Path) -> bool:
    """Tell whether an export says that it is an RT-DETR, which takes stretched pictures."""
    if path.suffix.lower() == ".engine":
        with path.open("rb") as file:  # the library puts its words before the engine: a length, then JSON
            length = int.from_bytes(file.read(4), "little")
            words = file.read(length) if length < 1 << 20 else b""
    else:
        from onnxruntime import InferenceSession  # noqa: PLC0415

        session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
        words = json.dumps(session.get_modelmeta().custom_metadata_map).encode()
    return b"rtdetr" in words.lower() or b"rt-detr" in words.lower()


def _input_side(model: Any) -> int:
    """Return the side of the square that a model was trained on."""
    side = model.overrides.get("imgsz", _TRAINED_SIDE)
    return side if isinstance(side, int) and 0 < side <= _MAX_SIDE else _TRAINED_SIDE


def _read(result: Any) -> Detections:
    """Return the library's objects of one picture as ours."""
    rows = result.boxes.data.cpu().numpy().astype(np.float32)
    height, width = result.orig_shape
    boxes = np.clip(rows[:, :4], 0, np.array([width, height] * 2, np.float32)).astype(np.float32)
    return Detections(boxes, rows[:, 4], rows[:, 5].astype(np.int32))


def _words(err: BaseException) -> str:
    """Return the first line of an error's words, as this library writes many."""
    line = next(iter(str(err).splitlines()), "")
    return f"{type(err).__name__}: {re.sub(r'^ERROR[^\w/]*', '', line)}"[:_WORDS]


def _engine_of(path: Path, depends_on: dict[str, Any], make: Callable[[Path], Path]) -> Path:
    """Return the engine of a model: one that lies beside it, or in our folder, if it was made of this very model.

    Args:
        path: the model.
        depends_on: what else it is made for.
        make: makes an engine of a copy of the model, beside that copy, and returns its path.
    """
    with path.open("rb") as file:
        model = hashlib.file_digest(file, "sha256").hexdigest()
    known = json.dumps({**depends_on, "model": model}, sort_keys=True, default=str)
    name = f"{path.stem}.{hashlib.sha256(known.encode()).hexdigest()[:16]}.engine"
    folder = path.parent if os.access(path.parent, os.W_OK) else Path(_own_folder())
    engine = folder / name
    if engine.is_file():
        return engine
    with tempfile.TemporaryDirectory(dir=folder, prefix=".engine-") as scratch:
        copy = Path(shutil.copyfile(path, Path(scratch) / path.name))
        try:
            made = make(copy)
        except DetectorError, ImportError:
            raise
        except Exception as err:
            raise DetectorError(Problem.DETECTOR_NO_DEVICE, f"TensorRT made no engine: {_words(err)}") from err
        for old in folder.glob(f"{path.stem}.{'[0-9a-f]' * 16}.engine"):
            old.unlink()
        made.replace(engine)
    return engine
