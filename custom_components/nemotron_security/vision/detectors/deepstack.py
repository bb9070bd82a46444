"""A detector that is a server of DeepStack's kind: DeepStack itself, CodeProject.AI, Blue Onyx.

Each picture is sent as JPEG; boxes come back in its pixels. The server keeps its model's size to itself.
"""

from collections.abc import Mapping, Sequence
import io
import math
import time
from typing import Any
from urllib.parse import quote
import uuid

import numpy as np
from PIL import Image

from ..detections import Detections
from ..labels import coco_name
from ..messages import DetectorConfig, Problem
from . import DetectorError, Picture
from .coco import COCO
from .servers import Server, Servers
from .yolo import GREY

_SIDE = 640
"""What these servers scale pictures to by default: regions smaller than it show no more."""
_LARGEST = 1280
"""Pixels of the longer side above which a picture is scaled down before it is sent."""
_QUALITY = 90
_LOADING = 20.0
_ATTEMPT = 4.0
_PATIENCE = 12.0
"""Seconds for the first picture, for one later, and for all those of a frame."""
_MAX_LABELS = 256
_MAX_OBJECTS = 300


type _Row = tuple[str, float, float, float, float, float]
"""Label, score, left, top, right, bottom."""


class DeepStackDetector:
    """Sends pictures to `/v1/vision/detection`, or to a model that the server's owner added."""

    def __init__(self, config: DetectorConfig) -> None:
        """Let the first server that works look at one picture.

        Raises:
            DetectorError: no server answers, or none has the model.
        """
        self.labels: tuple[str, ...] = COCO
        self.width = self.height = _SIDE
        self.device = ""
        """The server that looked first, by host and port."""
        self._name = config.model
        self._path = f"/v1/vision/custom/{quote(config.model, safe='')}" if config.model else "/v1/vision/detection"
        self._fields = {"min_confidence": f"{config.minimum_score:.2f}"}
        if config.token:
            self._fields["api_key"] = config.token
        self._minimum_score = config.minimum_score
        self._servers = Servers.of(config.urls, config.token, bearer=False)
        try:
            self._servers.ask(self._try, time.monotonic() + _LOADING)
        except DetectorError:
            self._servers.close()
            raise

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of each picture, boxes in that picture's own pixels."""
        deadline = time.monotonic() + _PATIENCE
        found = [self._detect_one(picture, deadline) for picture in pictures]
        known = {label: index for index, label in enumerate(self.labels)}
        # A label that was never seen counts from the next run on: whoever asked knows those of before.
        new = dict.fromkeys(label for rows in found for label, *_ in rows if label not in known)
        self.labels = (*self.labels, *new)[:_MAX_LABELS]
        return [_detections(rows, known) for rows in found]

    def close(self) -> None:
        """Hang up."""
        self._servers.close()

    def _detect_one(self, picture: Picture, deadline: float) -> list[_Row]:
        height, width = picture.shape[:2]
        scale = min(1.0, _LARGEST / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        jpeg = _jpeg(picture, size)
        found = self._servers.ask(
            lambda server: self._look(server, jpeg, min(deadline, time.monotonic() + _ATTEMPT)), deadline
        )
        rows = (self._row(item, width / size[0], height / size[1], picture) for item in found)
        return [row for row in rows if row is not None]

    def _try(self, server: Server) -> None:
        """Make sure that a server has the model and looks at pictures."""
        if self._name:
            # DeepStack has no list, and Blue Onyx an empty one: only what is listed can be missed.
            listed = server.post("/v1/vision/custom/list", b"", {}, time.monotonic() + _ATTEMPT).json().get("models")
            if isinstance(listed, list) and listed and self._name not in listed:
                raise server.error(Problem.DETECTOR_NO_MODEL, "it has no such model")
        grey = np.full((_SIDE, _SIDE, 3), GREY, np.uint8)
        self._look(server, _jpeg(grey, (_SIDE, _SIDE)), time.monotonic() + _LOADING)
        self.device = server.name

    def _look(self, server: Server, jpeg: bytes, deadline: float) -> list[Any]:
        """Return what one server finds in a picture."""
        body, content_type = _form(self._fields, jpeg)
        answer = server.post(self._path, body, {"Content-Type": content_type}, deadline)
        if answer.status == 404:  # noqa: PLR2004
            raise server.error(Problem.DETECTOR_NO_MODEL, "it has no such model")
        said = server.checked(answer).json()
        found = said.get("predictions")
        if said.get("success") is not True or not isinstance(found, list):
            raise server.error(Problem.DETECTOR_BAD_ANSWER, str(said.get("error") or "it answers without predictions"))
        return found[:_MAX_OBJECTS]

    def _row(self, item: Any, scale_x: float, scale_y: float, picture: Picture) -> _Row | None:
        """Return a server's prediction in pixels of the picture; None if it is no box with a label."""
        try:
            label = coco_name(item["label"])
            numbers = [float(item[name]) for name in ("confidence", "x_min", "y_min", "x_max", "y_max")]
        except KeyError, TypeError, ValueError, AttributeError, OverflowError:
            return None
        score, left, top, right, bottom = numbers
        sound = all(map(math.isfinite, numbers)) and score <= 1 and left < right and top < bottom
        if not sound or score < self._minimum_score:
            return None
        height, width = picture.shape[:2]
        left, right = (min(max(0.0, x * scale_x), width) for x in (left, right))
        top, bottom = (min(max(0.0, y * scale_y), height) for y in (top, bottom))
        return label, score, left, top, right, bottom


def _detections(rows: Sequence[_Row], known: Mapping[str, int]) -> Detections:
    """Return predictions as detections, without those whose label has no number yet."""
    rows = [row for row in rows if row[0] in known]
    if not rows:
        return Detections.none()
    return Detections(
        np.array([row[2:] for row in rows], np.float32),
        np.array([row[1] for row in rows], np.float32),
        np.array([known[row[0]] for row in rows], np.int32),
    )


def _jpeg(picture: Picture, size: tuple[int, int]) -> bytes:
    image = Image.fromarray(picture)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()


def _form(fields: Mapping[str, str], jpeg: bytes) -> tuple[bytes, str]:
    """Return a multipart form of the fields and the picture, and its content type."""
    boundary = uuid.uuid4().hex
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    picture = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = (head + picture).encode() + jpeg + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
