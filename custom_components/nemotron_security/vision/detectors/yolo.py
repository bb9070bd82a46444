"""What Ultralytics-exported YOLO models take and give, for every engine that runs them.

A model takes a letterboxed picture: scaled into its input size without distortion, the rest grey; RT-DETR a stretched
one. It gives one of these forms, told apart by their shape (https://docs.ultralytics.com/modes/export/):

- YOLOv8, YOLO11 and YOLO26: (4 + classes, N); rows 0..3 are the box's centre x, centre y, width and height in pixels of
  the input, the others the classes' scores. Boxes overlap and want non-maximum suppression.
- Exported with non-maximum suppression, YOLOv10 and YOLO26 end to end: (N, 6) with left, top, right, bottom in pixels,
  score and class; N is 300.
- RT-DETR: (N, 6) with centre x, centre y, width and height as shares of the input, score and class; of older exports
  (N, 4 + classes), the scores of all classes in place of the last two. No box of pixels lies between 0 and 1.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..boxes import ious
from ..detections import Detections
from ..messages import Problem
from . import DetectorError, Picture

GREY: Final = 114
"""The padding's grey that the models were trained with."""
IOU_THRESHOLD: Final = 0.7
"""Of two boxes of one class that overlap more, the one with the lower score goes (Ultralytics' default)."""
_MAX_CANDIDATES: Final = 400
_MAX_QUERIES: Final = 1000
"""RT-DETR has 300; the anchors of a YOLO are more for every input of 400 pixels and above."""
_ROW: Final = 6
_BOX: Final = 4


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a picture lies in a model's input.

    Attributes:
        width, height: size of the picture.
        inner_width, inner_height: size of the scaled picture inside the input.
        left, top: where it begins.
    """

    width: int
    height: int
    inner_width: int
    inner_height: int
    left: int
    top: int

    @classmethod
    def fit(cls, width: int, height: int, input_width: int, input_height: int) -> Letterbox:
        """Place a picture of `width` x `height` in the middle of the input, as large as it goes."""
        scale = min(input_width / width, input_height / height)
        inner_width = min(input_width, max(1, round(width * scale)))
        inner_height = min(input_height, max(1, round(height * scale)))
        left, top = (input_width - inner_width) // 2, (input_height - inner_height) // 2
        return cls(width, height, inner_width, inner_height, left, top)

    @classmethod
    def stretch(cls, width: int, height: int, input_width: int, input_height: int) -> Letterbox:
        """Fill the input with a picture of `width` x `height`, whatever its shape."""
        return cls(width, height, input_width, input_height, 0, 0)

    def to_input(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, 4) boxes of the picture to the input."""
        return boxes * self._scale() + self._offset()

    def to_picture(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, 4) boxes of the input back to the picture, cut off at its edge."""
        mapped = (boxes - self._offset()) / self._scale()
        edge = np.array([self.width, self.height] * 2, np.float32)
        return np.clip(mapped, 0, edge).astype(np.float32)

    def _scale(self) -> NDArray[np.float32]:
        # Width and height are rounded apart, so each axis has its own scale.
        return np.array([self.inner_width / self.width, self.inner_height / self.height] * 2, np.float32)

    def _offset(self) -> NDArray[np.float32]:
        return np.array([self.left, self.top] * 2, np.float32)


def letterbox(picture: Picture, width: int, height: int) -> tuple[Picture, Letterbox]:
    """Return the picture scaled into (height, width, 3), and how to map boxes back."""
    box = Letterbox.fit(picture.shape[1], picture.shape[0], width, height)
    canvas = np.full((height, width, 3), GREY, np.uint8)
    inner = Image.fromarray(picture).resize((box.inner_width, box.inner_height), Image.Resampling.BILINEAR)
    canvas[box.top : box.top + box.inner_height, box.left : box.left + box.inner_width] = np.asarray(inner)
    return canvas, box


def has_rows(shape: tuple[int, ...]) -> bool:
    """Tell whether an output of this shape has a row for each object, with its score and class."""
    # Two classes in the other form are 6 rows as well, but never 6 columns: a model has hundreds of anchors.
    return len(shape) == 2 and shape[1] == _ROW and shape[0] != _ROW  # noqa: PLR2004


def is_rtdetr(output: NDArray[np.float32], classes: int) -> bool:
    """Tell whether this is RT-DETR's output: its boxes are shares of the input, which it takes stretched."""
    if not (has_rows(output.shape) or _has_queries(output.shape, classes)):
        return False
    boxes = output[:, :_BOX]
    return bool((boxes != 0).any() and ((boxes >= 0) & (boxes <= 1)).all())


def check_shape(shape: tuple[int, ...], classes: int) -> None:
    """Make sure that an output of this shape can be decoded.

    Raises:
        DetectorError: it has none of the forms, or its number of classes is not that of the labels.
    """
    if has_rows(shape) or _has_queries(shape, classes) or (len(shape) == 2 and shape[0] == _BOX + classes):  # noqa: PLR2004
        return
    raise _unknown(shape, classes)


def decode(output: NDArray[np.float32], classes: int, minimum_score: float, *, width: int, height: int) -> Detections:
    """Return the objects of one output, boxes in pixels of the model's input, highest score first.

    Args:
        output: (4 + classes, N), (N, 6) or (N, 4 + classes); a batch of one may have a leading 1.
        classes: number of labels.
        minimum_score: what scores lower is left out.
        width: of the model's input, in pixels.
        height: likewise.

    Raises:
        DetectorError: the output has another shape.
    """
    if output.ndim == 3 and output.shape[0] == 1:  # noqa: PLR2004
        output = output[0]
    check_shape(output.shape, classes)
    if output.shape[0] == _BOX + classes and not has_rows(output.shape):
        return _decode_raw(output, minimum_score)
    shares = is_rtdetr(output, classes)
    if not has_rows(output.shape) or (shares and classes == _ROW - _BOX and (output[:, 5] % 1 != 0).any()):
        # A transposed output of a YOLO has this shape too.
        if not shares:
            raise _unknown(output.shape, classes)
        output = _best_of_classes(output)
    if shares:
        output = output.copy()
        output[:, :_BOX] = _corners(output[:, :_BOX].T) * np.array([width, height] * 2, np.float32)
    return _decode_rows(output, classes, minimum_score)


def suppress(found: Detections, iou_threshold: float = IOU_THRESHOLD) -> Detections:
    """Return the objects without those that overlap one of their own class with a higher score (greedy NMS)."""
    order = np.argsort(-found.scores, kind="stable")[:_MAX_CANDIDATES]
    found = found[order]
    boxes = found.boxes.astype(np.float64)
    overlaps = ious(boxes, boxes) > iou_threshold
    overlaps &= found.classes[:, None] == found.classes[None, :]
    keep = np.ones(len(found), np.bool_)
    # The rows are sorted: when a row's turn comes, nothing better can take it away any more.
    for row in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
        if keep[row]:
            keep[row + 1 :] &= ~overlaps[row, row + 1 :]
    return found[keep]


def _has_queries(shape: tuple[int, ...], classes: int) -> bool:
    return len(shape) == 2 and shape[1] == _BOX + classes and shape[0] <= _MAX_QUERIES  # noqa: PLR2004


def _unknown(shape: tuple[int, ...], classes: int) -> DetectorError:
    return DetectorError(
        Problem.MODEL_SHAPE,
        f"the model gives {'x'.join(map(str, shape)) or 'nothing'}; with its {classes} labels it has to give"
        f" {_BOX + classes}xN (YOLOv8, YOLO11, YOLO26) or 300x6 (exported with NMS, RT-DETR)",
    )


def _corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (4, N) centres and sizes into (N, 4) left, top, right, bottom."""
    centre_x, centre_y, width, height = boxes
    return np.stack((centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2), axis=1)


def _best_of_classes(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (N, 4 + classes) into (N, 6)."""
    scores = output[:, _BOX:]
    best: NDArray[np.float32] = np.column_stack((output[:, :_BOX], scores.max(axis=1), scores.argmax(axis=1)))
    return best.astype(np.float32)


def _decode_rows(output: NDArray[np.float32], classes: int, minimum_score: float) -> Detections:
    # Unused rows have score 0. Comparisons with NaN are false, so rows of a broken model go here too.
    known = (output[:, 5] >= 0) & (output[:, 5] < classes)
    rows = output[(output[:, 4] >= max(minimum_score, 1e-6)) & known]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return Detections(rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32), rows[:, 5].astype(np.int32))


def _decode_raw(output: NDArray[np.float32], minimum_score: float) -> Detections:
    scores = output[_BOX:]
    best = scores.max(axis=0)
    columns = np.flatnonzero(best >= max(minimum_score, 1e-6))
    classes = scores[:, columns].argmax(axis=0).astype(np.int32)
    boxes = _corners(output[:_BOX, columns]).astype(np.float32)
    return suppress(Detections(boxes, best[columns].astype(np.float32), classes))
