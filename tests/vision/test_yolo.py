"""Decoding what YOLO models give."""

from hypothesis import given, strategies as st
import numpy as np
import pytest

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import DetectorError
from custom_components.nemotron_security.vision.detectors.yolo import (
    GREY,
    Letterbox,
    check_shape,
    decode as decode_of_input,
    is_rtdetr,
    letterbox,
    suppress,
)
from custom_components.nemotron_security.vision.messages import Problem

type Objects = list[tuple[int, float, tuple[float, float, float, float]]]
"""Class, score, box."""

WIDTH, HEIGHT = 320, 256
OBJECTS: Objects = [(2, 0.9, (10, 20, 50, 80)), (0, 0.8, (100, 100, 140, 200)), (1, 0.6, (200, 50, 260, 90))]


def raw(objects: Objects, *, classes: int = 3, anchors: int = 2100) -> np.ndarray:
    """The (4 + classes, N) form."""
    output = np.zeros((4 + classes, anchors), np.float32)
    for column, (kind, score, (left, top, right, bottom)) in enumerate(objects, 17):
        output[:4, column] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        output[4 + kind, column] = score
    return output


def end_to_end(objects: Objects) -> np.ndarray:
    """The (300, 6) form."""
    output = np.zeros((300, 6), np.float32)
    for row, (kind, score, box) in enumerate(objects):
        output[row] = (*box, score, kind)
    return output


def rtdetr(objects: Objects) -> np.ndarray:
    """The (300, 6) form of RT-DETR: centre and size as shares of the input; no row is empty."""
    output = np.tile(np.array([0.5, 0.5, 0.2, 0.2, 0.001, 0], np.float32), (300, 1))
    for row, (kind, score, (left, top, right, bottom)) in enumerate(objects):
        x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        output[row] = (x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT, score, kind)
    return output


def queries(objects: Objects, *, classes: int = 3) -> np.ndarray:
    """The (300, 4 + classes) form of older exports of RT-DETR."""
    rows = rtdetr(objects)
    output = np.full((300, 4 + classes), 0.001, np.float32)
    output[:, :4] = rows[:, :4]
    for row, (kind, score, _) in enumerate(objects):
        output[row, 4 + kind] = score
    return output


def decode(output: np.ndarray, classes: int, minimum_score: float) -> Detections:
    return decode_of_input(output, classes, minimum_score, width=WIDTH, height=HEIGHT)


def listed(found: Detections) -> Objects:
    return [
        (int(kind), round(float(score), 3), tuple(round(float(side), 1) for side in box))  # type: ignore[misc]
        for kind, score, box in zip(found.classes, found.scores, found.boxes, strict=True)
    ]


@pytest.mark.parametrize("form", [raw, end_to_end, rtdetr, queries])
def test_all_forms_give_the_same(form: object) -> None:
    found = decode(form(OBJECTS), 3, 0.5)  # type: ignore[operator]
    assert listed(found) == OBJECTS
    assert [str(array.dtype) for array in (found.boxes, found.scores, found.classes)] == ["float32", "float32", "int32"]
    assert len(decode(form(OBJECTS), 3, 0.7)) == 2  # type: ignore[operator]
    assert len(decode(form([]), 3, 0.01)) == 0  # type: ignore[operator]


def test_a_batch_of_one_is_unpacked() -> None:
    assert listed(decode(raw(OBJECTS)[None], 3, 0.5)) == OBJECTS
    assert listed(decode(end_to_end(OBJECTS)[None], 3, 0.5)) == OBJECTS


def test_two_classes_are_not_taken_for_the_other_form() -> None:
    objects: Objects = [(1, 0.9, (10, 20, 50, 80))]
    assert listed(decode(raw(objects, classes=2), 2, 0.5)) == objects
    assert listed(decode(end_to_end(objects), 2, 0.5)) == objects
    assert listed(decode(rtdetr(objects), 2, 0.5)) == objects
    assert listed(decode(queries(objects, classes=2), 2, 0.5)) == objects


def test_rtdetr_is_known_by_its_boxes() -> None:
    for form, expected in ((raw, False), (end_to_end, False), (rtdetr, True), (queries, True)):
        assert is_rtdetr(form(OBJECTS), 3) is expected
    assert not is_rtdetr(end_to_end([]), 3)
    assert not is_rtdetr(np.full((300, 6), np.nan, np.float32), 3)
    with pytest.raises(DetectorError, match="300x7"):
        decode(np.full((300, 7), 12.0, np.float32), 3, 0.5)


@pytest.mark.parametrize("shape", [(84,), (85, 8400), (300, 7), (8400, 84), (1, 3, 80, 80), (), (2, 84, 8400)])
def test_other_shapes_are_refused_with_words(shape: tuple[int, ...]) -> None:
    with pytest.raises(DetectorError) as caught:
        decode(np.zeros(shape, np.float32), 80, 0.5)
    assert caught.value.problem is Problem.MODEL_SHAPE
    assert "x".join(map(str, shape)) in caught.value.detail
    assert "84xN" in caught.value.detail
    assert "300x6" in caught.value.detail


def test_number_of_labels_is_checked() -> None:
    check_shape((84, 8400), 80)
    with pytest.raises(DetectorError, match="3 labels"):
        check_shape((84, 8400), 3)


def test_rows_of_unknown_classes_and_broken_rows_are_dropped() -> None:
    output = end_to_end([(7, 0.9, (1, 1, 5, 5)), (0, 0.8, (1, 1, 5, 5))])
    output[2] = np.nan
    assert listed(decode(output, 3, 0.5)) == [(0, 0.8, (1, 1, 5, 5))]
    broken = raw(OBJECTS)
    broken[:, 5] = np.nan
    with np.errstate(invalid="ignore"):
        assert listed(decode(broken, 3, 0.5)) == OBJECTS


def test_suppression_keeps_the_best_of_each_class() -> None:
    objects: Objects = [
        (0, 0.9, (0, 0, 100, 100)),
        (0, 0.8, (2, 2, 102, 102)),  # the same object
        (1, 0.7, (1, 1, 101, 101)),  # of another class
        (0, 0.6, (60, 0, 160, 100)),  # beside it
    ]
    assert [kind for kind, _, _ in listed(decode(raw(objects), 3, 0.5))] == [0, 1, 0]


def _greedy(found: Detections, threshold: float) -> list[float]:
    """The textbook's loop."""
    kept: list[int] = []
    for row in np.argsort(-found.scores, kind="stable"):
        if all(
            found.classes[row] != found.classes[other] or _overlap(found.boxes[row], found.boxes[other]) <= threshold
            for other in kept
        ):
            kept.append(int(row))
    return [float(found.scores[row]) for row in kept]


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - shared
    return float(shared / union) if union > 0 else 0.0


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([0.30001, 0.50001, 0.70001]))
def test_suppression_agrees_with_the_textbook(seed: int, count: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    corner = random.integers(0, 60, (count, 2)).astype(np.float32)
    size = random.integers(10, 60, (count, 2)).astype(np.float32)
    scores = random.permutation(np.linspace(0.1, 0.9, count, dtype=np.float32))
    found = Detections(np.hstack((corner, corner + size)), scores, random.integers(0, 2, count).astype(np.int32))
    assert suppress(found, threshold).scores.tolist() == pytest.approx(_greedy(found, threshold))


SIDES = st.integers(16, 4096)
INPUTS = st.sampled_from([(320, 320), (640, 640), (320, 192), (192, 320), (96, 96)])


@given(SIDES, SIDES, INPUTS, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_letterbox_there_and_back(width: int, height: int, size: tuple[int, int], sides: list[float]) -> None:
    box = Letterbox.fit(width, height, *size)
    left, right = sorted(sides[:2])
    top, bottom = sorted(sides[2:])
    boxes = np.array([[left * width, top * height, right * width, bottom * height]], np.float32)
    inside = box.to_input(boxes)
    assert (inside >= -1e-3).all()
    assert (inside[:, [0, 2]] <= size[0] + 1e-2).all()
    assert (inside[:, [1, 3]] <= size[1] + 1e-2).all()
    assert box.to_picture(inside) == pytest.approx(boxes, abs=max(width, height) * 1e-5)


@given(SIDES, SIDES, INPUTS)
def test_letterbox_fills_one_side_and_keeps_the_shape(width: int, height: int, size: tuple[int, int]) -> None:
    box = Letterbox.fit(width, height, *size)
    assert box.inner_width == size[0] or box.inner_height == size[1]
    scale = min(size[0] / width, size[1] / height)
    assert abs(box.inner_width - width * scale) <= 1
    assert abs(box.inner_height - height * scale) <= 1
    assert 0 <= size[0] - box.inner_width - 2 * box.left <= 1
    assert 0 <= size[1] - box.inner_height - 2 * box.top <= 1


def test_boxes_beyond_the_picture_are_cut_off() -> None:
    box = Letterbox.fit(640, 360, 320, 320)
    assert box.to_picture(np.array([[-50, 0, 400, 320]], np.float32)).tolist() == [[0, 0, 640, 360]]


def test_letterboxed_picture() -> None:
    picture = np.full((360, 640, 3), 200, np.uint8)
    canvas, box = letterbox(picture, 320, 192)
    assert canvas.shape == (192, 320, 3)
    assert (canvas[: box.top] == GREY).all()
    assert (canvas[box.top : box.top + box.inner_height] == 200).all()
    assert (canvas[box.top + box.inner_height :] == GREY).all()
