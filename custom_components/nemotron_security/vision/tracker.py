"""The tracker: detections of single frames become objects over time.

Association in two stages after Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box"
(ECCV 2022): good detections choose first, weak ones may only continue a track. Between looks a track moves on by the
constant-velocity Kalman filter of Bewley et al., "Simple Online and Realtime Tracking" (ICIP 2016). Its four measures
(centre and size) are independent of each other, so that the filter is two-by-two in closed form and runs over all
tracks at once in NumPy. Time is real: frames may come at any rate, and a look may cover only a part of the frame.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
import math
from typing import Final

import lap
import numpy as np
from numpy.typing import NDArray

from .boxes import as_boxes, centred, coverage, displacement, ious, shares
from .detections import Detections
from .messages import ANIMALS, VEHICLES, Box, TrackState

type _Floats = NDArray[np.float64]
type _Ints = NDArray[np.intp]
type _Mask = NDArray[np.bool_]

_KINDS: Final = (
    ("car", "truck", "bus", "train"),
    ("bicycle", "motorcycle"),
    tuple(sorted(ANIMALS)),
)
"""Labels that a detector mistakes for one another on the same object; all others stand for themselves."""
_OTHER_LABEL_COST: Final = 0.15
_NEW_COST: Final = 0.4
"""What a track costs more while it is new: of two boxes around one object, the known track keeps the better one."""
_SCORES: Final = 10
_CONFIRMING_HITS: Final = 3

_MEASURED: Final = 0.05
"""Standard deviation of a measured edge, as a share of the object's size."""
_ACCELERATION: Final = 0.3
"""Standard deviation of the velocity's change in a second, in sizes per second."""
_FIRST_VELOCITY: Final = 2.0
"""Standard deviation of the unknown velocity of a new track, in sizes per second."""
_COASTING: Final = 1.5
"""Seconds after which an unseen object is taken to have lost most of its velocity."""

_MAXIMUM_COST: Final = 1.0
_DEAREST: Final = 0.999
_GATE: Final = 0.5
"""Distance that an association may bridge without overlap, in sizes, plus `_GATE_SPEED` for each second unseen."""
_GATE_SPEED: Final = 1.0
_GATE_LIMIT: Final = 3.0
_SURE_OVERLAP: Final = 0.1
"""Overlap that makes an association possible at any distance."""
_DUPLICATE_IOU: Final = 0.5
_DISPLACEMENT: Final = 0.15
"""Share of its size by which an object must leave its place to have moved."""
_JITTER: Final = 3.0
"""Pixels that never count as displacement."""
_MOTION_IOU: Final = 0.3
_MOTION_HITS: Final = 2
_LOOKED_AT: Final = 0.8
_EMPTY_LOOKS: Final = 4
"""Looks, over the lost time at least, that must show the place of a resting object empty until it is gone."""
_COVERED: Final = 0.25
"""Share of a resting object behind something else from which on it need not be seen."""
_BEHIND_MOTION: Final = 10.0
"""Seconds for which mere motion, of what no detector knows, hides a resting object."""
_LIVING_HIDDEN: Final = 30.0
"""Seconds for which a resting object that is no vehicle is believed to stay behind what hides it."""
_FORGOTTEN: Final = 10.0
"""Multiple of the lost time after which an unseen track that nobody looks for is forgotten."""
_STRANGER: Final = 300.0
"""Seconds without a look after which whoever is near the place of what did not rest is somebody else."""
_UNSTEADY_TIME: Final = 3.0
"""Seconds after a jolt of the camera or a shift of its focus in which a new place is no displacement.

Longer than what stands still goes without a look: only the second look brings its box wholly to the new place.
"""


@dataclass(slots=True, eq=False)
class _Tracks:
    """All tracks of a camera as parallel arrays, one row a track."""

    track_id: NDArray[np.int64]
    position: _Floats
    """(N, 4): centre x, centre y, width, height in pixels."""
    velocity: _Floats
    """(N, 4): pixels per second."""
    variance: _Floats
    """(N, 3, 4): variance of the position, covariance with the velocity, variance of the velocity."""
    anchor: _Floats
    """(N, 4): the box (left, top, right, bottom) where it was first seen, or was when the camera was last unsteady."""
    rest: _Floats
    """(N, 4): the box where it last came to rest."""
    votes: _Floats
    """(N, labels): sum of the scores for each label."""
    scores: _Floats
    """(N, 10): the last scores, a ring; NaN where there is none yet."""
    score: _Floats
    median: _Floats
    hits: _Ints
    motion_hits: _Ints
    misses: _Ints
    """Looks in vain since it was seen last."""
    missing_since: _Floats
    """When the first of them was."""
    first_seen_at: _Floats
    last_seen_at: _Floats
    rest_since: _Floats
    confirmed: _Mask
    moved: _Mask

    def __len__(self) -> int:
        return len(self.track_id)

    def boxes(self) -> _Floats:
        """Return (N, 4): left, top, right, bottom in pixels."""
        half = self.position[:, 2:] / 2
        boxes: _Floats = np.hstack((self.position[:, :2] - half, self.position[:, :2] + half))
        return boxes

    def sizes(self) -> _Floats:
        """Return (N,): the side of a square of the same area, in pixels."""
        sizes: _Floats = np.sqrt(np.maximum(self.position[:, 2] * self.position[:, 3], 1.0))
        return sizes

    def resting(self, stationary_time: float) -> _Mask:
        """Return (N,): which had not left their place for so many seconds when they were last seen."""
        return self.last_seen_at - self.rest_since >= stationary_time

    def rows(self, chosen: _Mask) -> _Tracks:
        """Return the chosen tracks."""
        return _Tracks(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def joined(self, others: _Tracks) -> _Tracks:
        """Return these tracks and the others."""
        return _Tracks(
            *(np.concatenate((getattr(self, field.name), getattr(others, field.name))) for field in fields(self))
        )


class Tracker:
    """Follows the objects of one camera.

    Every track is reported from its first sight on; `confirmed` says whether it counts.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        next_id: Callable[[], int],
        confidence: float = 0.7,
        minimum_score: float = 0.5,
        weak_score: float = 0.1,
        lost_time: float = 3.0,
        stationary_time: float = 10.0,
        watched: Collection[str] | None = None,
    ) -> None:
        """Start without tracks.

        Args:
            labels: the detector's labels; a detection's class is an index into them.
            next_id: gives each new track its id.
            confidence: the median score that confirms a track.
            minimum_score: weaker detections never start a track.
            weak_score: weaker detections are ignored.
            lost_time: seconds that an unseen object is waited for.
            stationary_time: seconds without displacement after which an object is stationary.
            watched: labels to report; None reports all.
        """
        self._labels = tuple(labels)
        self._next_id = next_id
        self._confidence = confidence
        self._minimum_score = minimum_score
        self._weak_score = weak_score
        self._lost_time = lost_time
        self._stationary_time = stationary_time
        self._kinds = _kinds(self._labels)
        self._vehicles = np.array([label in VEHICLES for label in self._labels], np.bool_)
        self._reported = np.array([watched is None or label in watched for label in self._labels], np.bool_)
        self._tracked = np.isin(self._kinds, self._kinds[self._reported])
        self._tracks = _new_tracks(Detections.none(), 0.0, len(self._labels), next_id)
        self._resting = np.zeros(0, np.bool_)
        """Which tracks rested when they were last seen before this look."""
        self._at: float | None = None
        self._unsteady_until = -math.inf
        self.in_doubt = False
        """Whether a resting object was not found in the last look though nothing hides it: look again soon."""

    def update(
        self,
        detections: Detections,
        at: float,
        *,
        motion: Sequence[Box] = (),
        looked_at: Sequence[tuple[float, float, float, float]] | None = None,
        unsteady: bool = False,
    ) -> tuple[tuple[TrackState, ...], tuple[TrackState, ...]]:
        """Take what was found in one frame.

        Args:
            detections: objects in pixels of the frame, weak ones included.
            at: Unix seconds of the frame; never earlier than the last.
            motion: moving areas in pixels of the frame.
            looked_at: rectangles that the detector saw (left, top, right, bottom); a track outside them is not missing.
                None: the whole frame.
            unsteady: the whole picture changed at once; what is elsewhere now and shortly after has not moved for it.

        Returns:
            The live tracks, briefly hidden ones included, and those that ended with this frame.
        """
        detections = self._usable(detections)
        self._forget(at)
        self._resting = self._tracks.resting(self._stationary_time)
        self._predict(at)
        seen = self._associate(detections)
        self._count_misses(seen, detections, looked_at, as_boxes(motion))
        self._begin(detections, seen, at)
        if unsteady:
            self._unsteady_until = at + _UNSTEADY_TIME
        self._judge(at, as_boxes(motion))
        return self._report(at)

    @property
    def settled_at(self) -> float:
        """When the last of the live objects came to rest or moved; -inf where there is none."""
        return float(self._tracks.rest_since.max(initial=-math.inf))

    def clear(self) -> tuple[TrackState, ...]:
        """Forget every track, for example when the source changed; return them as ended."""
        ended = self._states(self._tracks, self._at or 0.0)
        self._tracks = self._tracks.rows(np.zeros(len(self._tracks), np.bool_))
        return ended

    def _usable(self, detections: Detections) -> Detections:
        usable = (detections.scores >= self._weak_score) & self._tracked[detections.classes]
        return detections if usable.all() else detections[usable]

    def _forget(self, at: float) -> None:
        """Drop the long unseen tracks of unwatched labels: nobody looks for them, so that no look is in vain.

        Before the association, or what comes hours later would take over from them.
        """
        tracks = self._tracks
        unwatched = ~self._reported[tracks.votes.argmax(axis=1)]
        forgotten = unwatched & (at - tracks.last_seen_at >= _FORGOTTEN * self._lost_time)
        if forgotten.any():
            self._tracks = tracks.rows(~forgotten)

    def _predict(self, at: float) -> None:
        """Move every track on to the time of this frame."""
        before = at if self._at is None else self._at
        step = max(0.0, at - before)
        self._at = at
        tracks = self._tracks
        if not len(tracks) or not step:
            return
        lasting = np.exp(-step / _COASTING) if step > _COASTING else 1.0
        travel = min(step, _COASTING)
        # A hidden object keeps its size: the trend of its last measurements would soon shrink its box to nothing.
        tracks.velocity[tracks.misses > 0, 2:] = 0.0
        # What rests stays where it came to rest, however little of it was seen last and however long that is ago.
        hidden = self._resting & (tracks.last_seen_at < before)
        if hidden.any():
            tracks.velocity[hidden] = 0.0
            tracks.position[hidden] = centred(tracks.rest[hidden])
        tracks.position += tracks.velocity * travel
        np.maximum(tracks.position[:, 2:], 1.0, out=tracks.position[:, 2:])
        tracks.velocity *= lasting
        place, shared, speed = tracks.variance[:, 0], tracks.variance[:, 1], tracks.variance[:, 2]
        pushed = (_ACCELERATION * tracks.sizes()[:, None]) ** 2 * travel
        place += travel * (2.0 * shared + travel * speed) + pushed * (travel * travel / 3.0)
        shared += travel * speed + pushed * (travel / 2.0)
        speed += pushed

    def _associate(self, detections: Detections) -> _Ints:
        """Match detections to tracks and correct these.

        Returns:
            (detections,): the row of the track that took each detection, -1 where none did.
        """
        taken: _Ints = np.full(len(detections), -1, np.intp)
        tracks = self._tracks
        if not len(tracks) or not len(detections):
            return taken
        cost = self._cost(detections)
        strong = detections.scores >= self._minimum_score
        free = np.ones(len(tracks), np.bool_)
        for stage in (strong, ~strong):
            rows, columns = np.flatnonzero(free), np.flatnonzero(stage)
            chosen, found = _assign(cost[np.ix_(rows, columns)])
            taken[columns[found]] = rows[chosen]
            free[rows[chosen]] = False
        matched = taken >= 0
        self._correct(taken[matched], detections[matched])
        return taken

    def _cost(self, detections: Detections) -> _Floats:
        """Return (tracks, detections): 0 for a perfect match; above `_MAXIMUM_COST` where a match is impossible."""
        tracks = self._tracks
        boxes, found = tracks.boxes(), detections.boxes.astype(np.float64)
        overlap = ious(boxes, found)
        centres = (found[:, :2] + found[:, 2:]) / 2
        offset = centres[None] - tracks.position[:, None, :2]
        distance = np.sqrt(np.einsum("ijk,ijk->ij", offset, offset))
        # What rests comes back at its place or not at all: it takes over no other object that comes near.
        unseen = np.where(self._resting, 0.0, (self._at or 0.0) - tracks.last_seen_at)
        reach = tracks.sizes() * np.minimum(_GATE + _GATE_SPEED * unseen, _GATE_LIMIT)
        near = distance / reach[:, None]
        cost: _Floats = 0.7 * (1.0 - overlap) + 0.3 * np.minimum(near, 1.0)
        kinds, classes = self._kinds[detections.classes], detections.classes
        label = tracks.votes.argmax(axis=1)
        cost += _OTHER_LABEL_COST * (label[:, None] != classes[None])
        # What is dearer for being new stays possible: alone it is the same object all the same.
        new = (~tracks.confirmed & (tracks.hits < _CONFIRMING_HITS))[:, None] & (cost < _MAXIMUM_COST)
        cost[new] = np.minimum(cost[new] + _NEW_COST, _DEAREST)
        cost[(near > 1.0) & (overlap < _SURE_OVERLAP)] = np.inf
        cost[self._kinds[label][:, None] != kinds[None]] = np.inf
        cost[unseen >= _STRANGER] = np.inf
        return cost

    def _correct(self, rows: _Ints, detections: Detections) -> None:
        """Let tracks learn from the detections they took."""
        tracks = self._tracks
        measured = centred(detections.boxes)
        noise = np.maximum(_MEASURED * tracks.sizes()[rows, None], 1.0) ** 2
        variance = tracks.variance[rows]
        place, shared, speed = variance[:, 0], variance[:, 1], variance[:, 2]
        gain, velocity_gain = place / (place + noise), shared / (place + noise)
        error = measured - tracks.position[rows]
        tracks.position[rows] += gain * error
        tracks.velocity[rows] += velocity_gain * error
        tracks.variance[rows] = np.stack(
            ((1.0 - gain) * place, (1.0 - gain) * shared, speed - velocity_gain * shared), axis=1
        )
        tracks.scores[rows, tracks.hits[rows] % _SCORES] = detections.scores
        tracks.score[rows] = detections.scores
        tracks.votes[rows, detections.classes] += detections.scores
        tracks.hits[rows] += 1
        tracks.misses[rows] = 0
        tracks.last_seen_at[rows] = self._at

    def _count_misses(
        self,
        taken: _Ints,
        detections: Detections,
        looked_at: Sequence[tuple[float, float, float, float]] | None,
        motion: _Floats,
    ) -> None:
        """Count a look in vain for each track that was in sight of the detector but not found."""
        tracks = self._tracks
        missed = np.ones(len(tracks), np.bool_)
        missed[taken[taken >= 0]] = False
        # What was missed before and is not in sight now stays in doubt.
        doubtful = missed & self._resting & (tracks.misses > 0)
        if looked_at is not None and missed.any():
            missed &= coverage(tracks.boxes(), np.array(looked_at, np.float64).reshape(-1, 4)) >= _LOOKED_AT
        doubtful &= ~missed
        resting = np.flatnonzero(missed & self._resting)
        if len(resting):
            missed[resting] = ~self._are_hidden(resting, taken, detections, motion)
            doubtful[resting] = missed[resting]
        self.in_doubt = bool(self._reported[tracks.votes[doubtful].argmax(axis=1)].any())
        tracks.missing_since[missed & (tracks.misses == 0)] = self._at
        tracks.misses += missed

    def _are_hidden(self, resting: _Ints, taken: _Ints, detections: Detections, motion: _Floats) -> _Mask:
        """Return which of these resting tracks may be there unseen: behind what came after them, or moves."""
        tracks, came_at = self._tracks, self._tracks.rest_since
        boxes = tracks.boxes()[resting]
        unseen = (self._at or 0.0) - tracks.last_seen_at[resting]
        hidden = (coverage(boxes, motion) >= _COVERED) & (unseen <= _BEHIND_MOTION)
        came = np.where(taken >= 0, came_at[taken], np.where(detections.scores >= self._minimum_score, np.inf, -np.inf))
        after = came[None] > came_at[resting][:, None]
        if after.any():
            covered = shares(boxes, detections.boxes.astype(np.float64)) >= _COVERED
            hidden |= (covered & after).any(axis=1)
        vehicles = self._vehicles[tracks.votes[resting].argmax(axis=1)]
        return np.asarray(hidden & (vehicles | (unseen <= _LIVING_HIDDEN)), np.bool_)

    def _begin(self, detections: Detections, taken: _Ints, at: float) -> None:
        """Start a track for each good detection that none took, unless it doubles one that was taken."""
        new = (taken < 0) & (detections.scores >= self._minimum_score)
        if not new.any():
            return
        boxes = detections.boxes.astype(np.float64)
        kinds = self._kinds[detections.classes]
        same = (ious(boxes, boxes) > _DUPLICATE_IOU) & (kinds[:, None] == kinds[None])
        for row in sorted(np.flatnonzero(new), key=lambda row: -detections.scores[row]):
            twins = np.flatnonzero(same[row])
            new[row] = not any(taken[twin] >= 0 or (new[twin] and twin != row) for twin in twins)
        fresh = _new_tracks(detections[new], at, len(self._labels), self._next_id)
        self._tracks = self._tracks.joined(fresh)

    def _judge(self, at: float, motion: _Floats) -> None:
        """Decide which of the tracks seen in this frame are confirmed, have moved, are at rest."""
        tracks = self._tracks
        seen = tracks.last_seen_at == at
        ordered = np.sort(tracks.scores, axis=1)  # NaN comes last
        count = np.minimum(tracks.hits, _SCORES)
        every = np.arange(len(tracks))
        tracks.median = (ordered[every, (count - 1) // 2] + ordered[every, count // 2]) / 2
        tracks.confirmed |= (tracks.median >= self._confidence) & (tracks.hits >= _CONFIRMING_HITS)
        boxes, limit = tracks.boxes(), np.maximum(_DISPLACEMENT * tracks.sizes(), _JITTER)
        if len(motion):
            # Only of what appears: a cloud's shadow over a car that stands there for an hour does not move the car.
            # Nor do headlights move the parked car that they reveal: a vehicle that arrives always leaves its place.
            appears = seen & (tracks.hits <= _SCORES) & ~self._vehicles[tracks.votes.argmax(axis=1)]
            tracks.motion_hits += appears & (ious(boxes, motion).max(axis=1) >= _MOTION_IOU)
        if at < self._unsteady_until:
            tracks.anchor[~tracks.moved] = boxes[~tracks.moved]
            tracks.rest[:] = boxes
        gone = displacement(tracks.anchor, boxes) > limit
        tracks.moved |= seen & (gone | (tracks.motion_hits >= _MOTION_HITS))
        restless = seen & (displacement(tracks.rest, boxes) > limit)
        tracks.rest[restless] = boxes[restless]
        tracks.rest_since[restless] = at

    def _report(self, at: float) -> tuple[tuple[TrackState, ...], tuple[TrackState, ...]]:
        tracks = self._tracks
        patience = np.where(tracks.hits > 1, self._lost_time, self._lost_time / 3)
        over = (tracks.misses > 1) & (at - tracks.last_seen_at >= patience)
        if over.any():
            empty = (tracks.misses >= _EMPTY_LOOKS) & (at - tracks.missing_since >= self._lost_time)
            over &= empty | ~tracks.resting(self._stationary_time)
        if not over.any():
            return self._states(tracks, at), ()
        self._tracks = tracks.rows(~over)
        return self._states(self._tracks, at), self._states(tracks.rows(over), at)

    def _states(self, tracks: _Tracks, at: float) -> tuple[TrackState, ...]:
        label = tracks.votes.argmax(axis=1)
        stationary = at - tracks.rest_since >= self._stationary_time
        columns = zip(
            tracks.track_id.tolist(),
            label.tolist(),
            tracks.median.tolist(),
            tracks.score.tolist(),
            tracks.boxes().tolist(),
            tracks.first_seen_at.tolist(),
            tracks.last_seen_at.tolist(),
            tracks.confirmed.tolist(),
            tracks.moved.tolist(),
            stationary.tolist(),
            self._reported[label].tolist(),
            strict=True,
        )
        return tuple(
            TrackState(
                track_id=track_id,
                label=self._labels[label],
                confidence=median,
                score=score,
                box=Box(*box),
                first_seen_at=first_seen_at,
                last_seen_at=last_seen_at,
                confirmed=confirmed,
                moved=moved,
                stationary=at_rest,
            )
            for (
                track_id,
                label,
                median,
                score,
                box,
                first_seen_at,
                last_seen_at,
                confirmed,
                moved,
                at_rest,
                told,
            ) in columns
            if told
        )


def _kinds(labels: Sequence[str]) -> _Ints:
    """Return for each label a number that it shares with those it is mistaken for."""
    names = {label: kind[0] for kind in _KINDS for label in kind}
    order = {name: number for number, name in enumerate(dict.fromkeys(names.get(label, label) for label in labels))}
    return np.array([order[names.get(label, label)] for label in labels], np.intp)


def _new_tracks(detections: Detections, at: float, labels: int, next_id: Callable[[], int]) -> _Tracks:
    """Start a track of each detection."""
    count = len(detections)
    boxes = detections.boxes.astype(np.float64)
    position = centred(detections.boxes)
    size = np.sqrt(np.maximum(position[:, 2:3] * position[:, 3:4], 1.0))
    variance = np.zeros((count, 3, 4))
    variance[:, 0] = np.maximum(_MEASURED * size, 1.0) ** 2
    variance[:, 2] = (_FIRST_VELOCITY * size) ** 2
    variance[:, 2, 2:] /= 16.0  # sizes change slower than places
    votes = np.zeros((count, labels))
    votes[np.arange(count), detections.classes] = detections.scores
    scores = np.full((count, _SCORES), np.nan)
    scores[:, 0] = detections.scores
    return _Tracks(
        track_id=np.array([next_id() for _ in range(count)], np.int64),
        position=position,
        velocity=np.zeros((count, 4)),
        variance=variance,
        anchor=boxes,
        rest=boxes.copy(),
        votes=votes,
        scores=scores,
        score=scores[:, 0].copy(),
        median=scores[:, 0].copy(),
        hits=np.ones(count, np.intp),
        motion_hits=np.zeros(count, np.intp),
        misses=np.zeros(count, np.intp),
        missing_since=np.full(count, at),
        first_seen_at=np.full(count, at),
        last_seen_at=np.full(count, at),
        rest_since=np.full(count, at),
        confirmed=np.zeros(count, np.bool_),
        moved=np.zeros(count, np.bool_),
    )


def _assign(cost: _Floats) -> tuple[_Ints, _Ints]:
    """Return rows and columns of the cheapest assignment that stays below `_MAXIMUM_COST` a pair."""
    if not cost.size:
        nothing = np.empty(0, np.intp)
        return nothing, nothing
    _, column_of, _ = lap.lapjv(np.minimum(cost, 1e3), extend_cost=True, cost_limit=_MAXIMUM_COST)
    rows = np.flatnonzero(column_of >= 0)
    columns = column_of[rows].astype(np.intp)
    possible = cost[rows, columns] <= _MAXIMUM_COST
    return rows[possible], columns[possible]
