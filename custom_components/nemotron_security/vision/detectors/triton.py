"""A detector on NVIDIA Triton, or any other server of KServe's version 2 protocol, over HTTP.

Tensors travel as bytes behind a JSON header (the protocol's binary tensor extension): 1.2 MB for a picture of 320x320
take a few milliseconds, as JSON half a second. https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
import json
import math
import time
from typing import Any, Final, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
import yaml

from ..detections import Detections
from ..messages import DetectorConfig, Problem
from . import DetectorError, Picture
from .coco import COCO
from .ncnn import fit_into
from .servers import Answer, Server, Servers, read_object
from .yolo import GREY, Letterbox, check_shape, decode, is_rtdetr

_TYPES: Final[dict[str, type[np.floating | np.uint8]]] = {"FP32": np.float32, "FP16": np.float16, "UINT8": np.uint8}
_FREE_SIDE = 640
"""Input size of a model that takes every size: what Ultralytics trains with."""
_MAX_SIDE = 4096
_MAX_BATCH = 16
_LOADING = 20.0
"""Seconds for the first picture: an engine may have to warm up."""
_ATTEMPT = 4.0
_PATIENCE = 12.0
"""Seconds for the pictures of one frame, on one server and on all: the parent takes a worker for hung after 30."""
_HEADER_LENGTH = "inference-header-content-length"
_PLANES = 3


class TritonDetector:
    """A YOLO behind KServe's version 2 protocol: name, size, type and form of its tensors are asked of the server."""

    def __init__(self, config: DetectorConfig) -> None:
        """Ask the servers for the model and let the first that works look at one picture.

        Raises:
            DetectorError: no server answers, has the model ready, or gives what can be decoded.
        """
        if not config.model:
            raise DetectorError(Problem.DETECTOR_NO_MODEL, "no model is named")
        self._path = f"/v2/models/{quote(config.model, safe='')}"
        self._minimum_score = config.minimum_score
        self._stretched = False
        self.device = ""
        """The server that looked first, by host and port."""
        self._names = config.labels
        self._models: dict[Server, _Model] = {}
        self._servers = Servers.of(config.urls, config.token, bearer=True)
        try:
            self._model = self._servers.ask(self._tried, time.monotonic() + _LOADING)
        except DetectorError:
            self._servers.close()
            raise
        self.labels, self.width, self.height = self._model.labels, self._model.width, self._model.height
        self.batch = self._model.batch

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of each picture, boxes in that picture's own pixels."""
        deadline = time.monotonic() + _PATIENCE
        place = Letterbox.stretch if self._stretched else Letterbox.fit
        boxes = [place(picture.shape[1], picture.shape[0], self.width, self.height) for picture in pictures]
        inputs = [self._model.prepare(picture, box) for picture, box in zip(pictures, boxes, strict=True)]
        outputs: list[NDArray[np.float32]] = []
        while len(outputs) < len(inputs):
            batch = inputs[len(outputs) : len(outputs) + self._model.batch]
            outputs += self._servers.ask(partial(self._infer, batch, deadline), deadline)
        return [self._decoded(output, box) for output, box in zip(outputs, boxes, strict=True)]

    def close(self) -> None:
        """Hang up."""
        self._servers.close()

    def _decoded(self, output: NDArray[np.float32], box: Letterbox) -> Detections:
        found = decode(output, len(self.labels), self._minimum_score, width=self.width, height=self.height)
        return Detections(box.to_picture(found.boxes), found.scores, found.classes)

    def _infer(self, batch: list[NDArray[Any]], deadline: float, server: Server) -> list[NDArray[np.float32]]:
        """Ask one server; a server that failed before, or was not needed yet, has to have the same model."""
        deadline = min(deadline, time.monotonic() + _ATTEMPT)
        try:
            if server not in self._models:
                self._models[server] = self._read(server, deadline)
            if self._models[server] != self._model:
                raise server.error(Problem.MODEL_SHAPE, "its model has other tensors than that of the first server")
            return _infer(server, self._path, self._model, batch, deadline)
        except DetectorError:
            self._models.pop(server, None)
            raise

    def _tried(self, server: Server) -> _Model:
        """Read what a server says of the model and let it look at a grey picture."""
        model = self._read(server, time.monotonic() + _ATTEMPT)
        grey = np.full((model.height, model.width, 3), GREY, np.uint8)
        box = Letterbox.fit(model.width, model.height, model.width, model.height)
        (output,) = _infer(server, self._path, model, [model.prepare(grey, box)], time.monotonic() + _LOADING)
        if not np.isfinite(output).all():
            raise server.error(Problem.DETECTOR_BAD_ANSWER, "what the model gives are not numbers")
        try:
            check_shape(output.shape, len(model.labels))
        except DetectorError as err:
            raise server.error(err.problem, err.detail) from err
        self._stretched = is_rtdetr(output, len(model.labels))
        self.device = server.name
        self._models[server] = model
        return model

    def _read(self, server: Server, deadline: float) -> _Model:
        """Return what a server says of the model.

        Raises:
            DetectorError: the server is not ready, has no such model, or one that is no YOLO.
        """
        if server.get("/v2/health/ready", deadline).status in (400, 503):
            raise server.error(Problem.DETECTOR_NOT_READY, "it is not ready yet")
        answer = server.get(self._path, deadline)
        if answer.status in (400, 404):
            raise server.error(Problem.DETECTOR_NO_MODEL, _words(answer) or "it has no such model")
        metadata = server.checked(answer).json()
        # Only Triton has this: how many pictures go into one question, and what the model's classes are called.
        answer = server.get(f"{self._path}/config", deadline)
        try:
            return _Model.of(metadata, answer.json() if answer.status == 200 else {}, self._names)  # noqa: PLR2004
        except DetectorError as err:
            raise server.error(err.problem, err.detail) from err
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
            raise server.error(Problem.DETECTOR_BAD_ANSWER, "it does not describe the model's tensors") from err


@dataclass(frozen=True, slots=True)
class _Model:
    """A model's tensors.

    Attributes:
        source, target: names of the input and the output.
        datatype: of the input, a key of `_TYPES`.
        planar: the input is (3, height, width), else (height, width, 3).
        batched: the input has a first dimension of pictures.
        batch: pictures in one question.
    """

    source: str
    target: str
    datatype: str
    planar: bool
    batched: bool
    batch: int
    width: int
    height: int
    labels: tuple[str, ...]

    @classmethod
    def of(cls, metadata: dict[str, Any], config: dict[str, Any], names: tuple[str, ...]) -> Self:
        """Read a server's description of the model, to which `names` are its labels if there are any.

        Raises:
            DetectorError: it is no YOLO.
        """
        inputs, outputs = metadata["inputs"], metadata["outputs"]
        if len(inputs) != 1 or len(outputs) != 1:
            raise DetectorError(
                Problem.MODEL_SHAPE,
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs; it has to have one each",
            )
        shape, datatype = [int(side) for side in inputs[0]["shape"]], inputs[0]["datatype"]
        sides = shape[-_PLANES:]
        if len(shape) not in (_PLANES, _PLANES + 1) or datatype not in _TYPES or _PLANES not in (sides[0], sides[-1]):
            raise DetectorError(Problem.MODEL_SHAPE, f"an input of {datatype} {shape} is no picture")
        planar = sides[0] == _PLANES
        height, width = (side if side > 0 else _FREE_SIDE for side in (sides[1:] if planar else sides[:-1]))
        if max(height, width) > _MAX_SIDE:
            raise DetectorError(Problem.MODEL_SHAPE, f"an input of {width}x{height}")
        batched = len(shape) > _PLANES
        free = batched and shape[0] < 0
        most = int(config.get("max_batch_size", 1)) if free else 1
        return cls(
            source=str(inputs[0]["name"]),
            target=str(outputs[0]["name"]),
            datatype=datatype,
            planar=planar,
            batched=batched,
            batch=min(max(1, most), _MAX_BATCH),
            width=width,
            height=height,
            labels=names or _labels(config),
        )

    def prepare(self, picture: Picture, box: Letterbox) -> NDArray[Any]:
        """Return the picture as the model takes it, without the dimension of pictures."""
        planes: NDArray[np.float32] = np.array(fit_into(picture, box, self.width, self.height), dtype=np.float32)
        if self.datatype != "UINT8":
            planes *= np.float32(1 / 255)
        pixels = planes if self.planar else planes.transpose(1, 2, 0)
        return np.ascontiguousarray(pixels, dtype=np.dtype(_TYPES[self.datatype]).newbyteorder("<"))


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the names that Ultralytics' export keeps in the model's configuration, else those of COCO."""
    parameter = config.get("parameters", {}).get("metadata", {}).get("string_value", "")
    try:
        names = yaml.safe_load(parameter)["names"]
        return tuple(str(names[index]) for index in range(len(names))) or COCO
    except yaml.YAMLError, TypeError, KeyError, RecursionError:
        return COCO


def _infer(
    server: Server, path: str, model: _Model, batch: list[NDArray[Any]], deadline: float
) -> list[NDArray[np.float32]]:
    """Return the output for each picture of a batch."""
    tensor = np.stack(batch) if model.batched else batch[0]
    question = {
        "inputs": [
            {
                "name": model.source,
                "shape": tensor.shape,
                "datatype": model.datatype,
                "parameters": {"binary_data_size": tensor.nbytes},
            }
        ],
        "outputs": [{"name": model.target, "parameters": {"binary_data": True}}],
    }
    head = json.dumps(question).encode()
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(head))}
    answer = server.checked(server.post(f"{path}/infer", head + tensor.tobytes(), headers, deadline))
    try:
        output = _read_tensor(answer, model.target)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as err:
        raise server.error(Problem.DETECTOR_BAD_ANSWER, "its answer is none of a model") from err
    if not model.batched:
        output = output[None] if output.ndim < _PLANES else output
    if output.ndim != _PLANES or len(output) != len(batch):
        raise server.error(Problem.MODEL_SHAPE, f"the model gives {output.shape} for {len(batch)} pictures")
    return list(output)


def _read_tensor(answer: Answer, name: str) -> NDArray[np.float32]:
    """Return an output: of the bytes behind the header, or of the JSON that some servers answer all the same."""
    length = int(answer.headers.get(_HEADER_LENGTH, len(answer.body)))
    if not 0 <= length <= len(answer.body):
        raise ValueError("a header longer than the answer")
    offset = length
    for output in read_object(answer.body[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        if output["name"] == name:
            kind = np.dtype(_TYPES[output["datatype"]]).newbyteorder("<")
            shape = [int(side) for side in output["shape"]]
            if "data" in output:
                return np.asarray(output["data"], np.float32).reshape(shape)
            if size != math.prod(shape) * kind.itemsize:
                raise ValueError("another size than its shape says")
            return np.frombuffer(answer.body, kind, math.prod(shape), offset).reshape(shape).astype(np.float32)
        offset += size
    raise KeyError(name)


def _words(answer: Answer) -> str:
    words = answer.json().get("error")
    return words if isinstance(words, str) else ""
