"""The tracker's speed and identity switches, and those of a peer from PyPI on the same input.

    python -m benchmarks.tracker [--json]

Scenes have exact ground truth, 600 frames at 5 a second, 1280x720, 10 % of the detections missing at random, 2 px of
jitter (standard deviation of each edge):
- `5`, `20`, `50`: that many objects cross the picture on straight paths and turn at its borders. Every one is seen
  through every other, which makes them hard to tell apart where they cross.
- `slow`: 12 people in pairs walk towards and past each other, slowly, and a hidden one is not detected at all.

A switch is counted as in CLEAR MOT (Bernardin and Stiefelhagen, 2008): correspondences of the frame before are kept
while their boxes overlap by half, the others are matched anew, and an object whose track is not its last one counts.
`matched_*` is the share of the detected objects that had a track with the right box: a tracker that reports nothing
switches nothing. Our tracks count from their first sight on, the peer's once it gives them an id. The peer is
`ByteTrackTracker` of `trackers` with our thresholds and our patience; its figures are null where it is not installed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import importlib
import itertools

import lap
import numpy as np
from numpy.typing import NDArray

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.tracker import Tracker

from . import _report

type _Floats = NDArray[np.float64]
type _Ids = NDArray[np.int64]
type _Follow = Callable[[Detections, float], tuple[_Floats, _Ids]]
"""Takes detections and their time; returns the boxes and ids of the tracks seen in this frame."""

FRAMES = 600
FPS = 5.0
SIZE = np.array((1280.0, 720.0))
MISSED = 0.1
JITTER = 2.0
SAME = 0.5
LOST_TIME = 3.0
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Look:
    """One frame: where the objects are, and what a detector says.

    Attributes:
        truth: (N, 4) boxes of all objects, in pixels.
        found: (N,) which of them are among the detections.
        detections: what a detector says, in the order of the truth.
    """

    truth: _Floats
    found: NDArray[np.bool_]
    detections: Detections


def crossing(count: int, seed: int = 7) -> Iterator[Look]:
    """Objects on straight paths that turn at the borders."""
    random = np.random.default_rng(seed)
    sizes = random.uniform((30, 80), (60, 160), (count, 2))
    places = random.uniform((0, 0), SIZE - sizes)
    speeds = random.uniform(-8, 8, (count, 2))
    for _ in range(FRAMES):
        places += speeds
        beyond = (places < 0) | (places > SIZE - sizes)
        speeds[beyond] *= -1
        places = np.clip(places, 0, SIZE - sizes)
        yield _look(np.hstack((places, places + sizes)), np.ones(count, np.bool_), random)


def slow(seed: int = 11) -> Iterator[Look]:
    """Pairs that walk past each other, back and forth; who is mostly hidden behind the other is not detected."""
    random = np.random.default_rng(seed)
    pairs = 6
    middle = np.linspace(120, 1160, pairs)
    for frame in range(FRAMES):
        swing = 70 * np.sin(frame / FPS * 2 * np.pi / 40 + np.arange(pairs))
        near = _walkers(middle + swing, 420.0, 130.0)
        far = _walkers(middle - swing, 400.0, 115.0)
        hidden = _covered(far, near) > 0.6
        visible = np.concatenate((np.ones(pairs, np.bool_), ~hidden))
        yield _look(np.vstack((near, far)), visible, random)


def _walkers(x: _Floats, foot: float, height: float) -> _Floats:
    half = np.full_like(x, height * 0.2)
    return np.stack((x - half, np.full_like(x, foot - height), x + half, np.full_like(x, foot)), axis=1)


def _covered(boxes: _Floats, others: _Floats) -> _Floats:
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shares: _Floats = np.prod(np.maximum(sides, 0), axis=1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shares


def _look(truth: _Floats, visible: NDArray[np.bool_], random: np.random.Generator) -> Look:
    found = visible & (random.random(len(truth)) >= MISSED)
    boxes = (truth + random.normal(0, JITTER, truth.shape))[found]
    scores = np.clip(random.normal(0.75, 0.1, len(boxes)), 0.3, 0.97)
    detections = Detections(boxes.astype(np.float32), scores.astype(np.float32), np.zeros(len(boxes), np.int32))
    return Look(truth, found, detections)


def ours() -> _Follow:
    """Return our tracker as a function."""
    tracker = Tracker(("person",), next_id=itertools.count(1).__next__, lost_time=LOST_TIME)

    def follow(detections: Detections, at: float) -> tuple[_Floats, _Ids]:
        live, _ = tracker.update(detections, at)
        seen = [track for track in live if track.last_seen_at == at]
        return np.array([track.box for track in seen]).reshape(-1, 4), np.array([track.track_id for track in seen])

    return follow


def peer() -> _Follow:
    """Return the peer's tracker as a function.

    Raises:
        ImportError: it is not installed.
    """
    library, trackers = importlib.import_module("supervision"), importlib.import_module("trackers")
    tracker = trackers.ByteTrackTracker(
        frame_rate=FPS,
        lost_track_buffer=int(LOST_TIME * 30),  # it counts in frames of 30 a second
        track_activation_threshold=0.5,
        high_conf_det_threshold=0.5,
    )

    def follow(detections: Detections, _at: float) -> tuple[_Floats, _Ids]:
        given = library.Detections(
            xyxy=detections.boxes, confidence=detections.scores, class_id=detections.classes.astype(int)
        )
        tracked = tracker.update(given)
        known = tracked.tracker_id >= 0
        return tracked.xyxy[known].astype(np.float64), tracked.tracker_id[known]

    return follow


class Judge:
    """Counts identity switches."""

    def __init__(self) -> None:
        """Start with no known identity."""
        self.switches = 0
        self.matched = 0
        self.detected = 0
        self._last: dict[int, int] = {}

    def see(self, look: Look, boxes: _Floats, ids: _Ids) -> None:
        """Compare a frame's tracks with its truth."""
        overlap = _ious(look.truth, boxes)
        track_of = dict(self._kept(overlap, ids))
        free_objects = np.array([row for row in range(len(look.truth)) if row not in track_of], np.intp)
        free_tracks = np.array([column for column in range(len(ids)) if column not in track_of.values()], np.intp)
        track_of |= _match(overlap, free_objects, free_tracks)
        self.detected += int(look.found.sum())
        for row, column in track_of.items():
            self.matched += bool(look.found[row])
            self.switches += self._last.get(row, ids[column]) != ids[column]
            self._last[row] = int(ids[column])

    def _kept(self, overlap: _Floats, ids: _Ids) -> Iterator[tuple[int, int]]:
        columns = {int(track_id): column for column, track_id in enumerate(ids)}
        for row, track_id in self._last.items():
            column = columns.get(track_id)
            if column is not None and overlap[row, column] >= SAME:
                del columns[track_id]
                yield row, column


def _match(overlap: _Floats, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> dict[int, int]:
    if not len(rows) or not len(columns):
        return {}
    cost = 1 - overlap[np.ix_(rows, columns)]
    _, chosen, _ = lap.lapjv(cost, extend_cost=True, cost_limit=1 - SAME)
    return {int(rows[row]): int(columns[column]) for row, column in enumerate(chosen) if column >= 0}


def _ious(one: _Floats, two: _Floats) -> _Floats:
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, two)]
    overlap: _Floats = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)
    return overlap


def follow_scene(scene: Iterator[Look], follow: _Follow) -> tuple[Judge, _report.Stopwatch]:
    """Let a tracker follow a scene."""
    judge, watch = Judge(), _report.Stopwatch()
    for number, look in enumerate(scene):
        with watch:
            boxes, ids = follow(look.detections, number / FPS)
        judge.see(look, boxes, ids)
    del watch.times[:WARM_UP]
    return judge, watch


def _figures(make: Callable[[], _Follow], prefix: str) -> dict[str, float | int]:
    scenes = {"5": crossing(5), "20": crossing(20), "50": crossing(50), "slow": slow()}
    figures: dict[str, float | int] = {}
    for name, scene in scenes.items():
        judge, watch = follow_scene(scene, make())
        figures |= {
            f"{prefix}p50_ms_{name}": watch.percentile_ms(50),
            f"{prefix}p95_ms_{name}": watch.percentile_ms(95),
            f"{prefix}switches_{name}": judge.switches,
            f"{prefix}matched_{name}": judge.matched / judge.detected,
        }
    return figures


def measure() -> _report.Figures:
    """Measure our tracker and, where it is installed, the peer."""
    figures = _figures(ours, "")
    try:
        return {**figures, **_figures(peer, "peer_"), "peer": "trackers.ByteTrackTracker"}
    except ImportError as err:
        absent = {f"peer_{name}": None for name in figures}
        return {**figures, **absent, "peer": None, "peer_note": f"not installed: {err.name}"}


if __name__ == "__main__":
    _report.run(measure, __doc__)
