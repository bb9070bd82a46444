"""Arithmetic of many boxes at once: (N, 4) arrays of left, top, right, bottom, in pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .messages import Box

type _Floats = NDArray[np.float64]


def ious(one: _Floats, two: _Floats) -> _Floats:
    """Return (N, M): intersection over union of each pair of boxes; 0 for one without area."""
    width = np.minimum(one[:, None, 2], two[None, :, 2]) - np.maximum(one[:, None, 0], two[None, :, 0])
    height = np.minimum(one[:, None, 3], two[None, :, 3]) - np.maximum(one[:, None, 1], two[None, :, 1])
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = _areas(one)[:, None] + _areas(two)[None] - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float64)


def coverage(boxes: _Floats, areas: _Floats) -> _Floats:
    """Return (N,): the largest share of each box that lies in one of the areas."""
    return np.asarray(shares(boxes, areas).max(axis=1), np.float64) if len(areas) else np.zeros(len(boxes))


def shares(boxes: _Floats, areas: _Floats) -> _Floats:
    """Return (N, M): the share of each box that lies in each area."""
    width = np.minimum(boxes[:, None, 2], areas[None, :, 2]) - np.maximum(boxes[:, None, 0], areas[None, :, 0])
    height = np.minimum(boxes[:, None, 3], areas[None, :, 3]) - np.maximum(boxes[:, None, 1], areas[None, :, 1])
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    return np.asarray(shared / np.maximum(_areas(boxes), 1e-9)[:, None], np.float64)


def _areas(boxes: _Floats) -> _Floats:
    return np.asarray(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0).prod(axis=1), np.float64)


def centred(boxes: NDArray[np.floating]) -> _Floats:
    """Turn corners into centre and size."""
    corners = boxes.astype(np.float64)
    result: _Floats = np.hstack(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]))
    return result


def displacement(before: _Floats, now: _Floats) -> _Floats:
    """Return (N,): how far boxes left their place, in pixels.

    Both opposite edges must have moved: where something hides a part of a still object, only one does.
    """
    edges = np.abs(now - before)
    left_place: _Floats = np.maximum(np.minimum(edges[:, 0], edges[:, 2]), np.minimum(edges[:, 1], edges[:, 3]))
    return left_place


def as_boxes(boxes: Sequence[Box]) -> _Floats:
    """Return (N, 4) of a list that may be empty."""
    return np.array(boxes, np.float64).reshape(-1, 4)
