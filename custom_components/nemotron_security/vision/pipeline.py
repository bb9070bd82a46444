"""One camera's way from a frame to tracks, without threads and without a clock of its own.

The worker calls `notice` for every frame. For those that `notice` asks for it calls `prepare` in another thread, runs
the detector on what one or several cameras prepared, and calls `complete`. The command line and the benchmarks call
`step`, which does all of that. All times are those of the frames.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
import math
import time

import numpy as np

from .detections import Detections
from .detectors import Detector, Picture
from .detectors.loading import load_plugin
from .frames import Frame
from .labels import coco_names
from .messages import (
    PERSONS,
    Box,
    CameraConfig,
    DetectorConfig,
    FrameTracks,
    Mask,
    MotionState,
    Report,
    TrackState,
)
from .moments import BestMoments, Moment
from .motion import MAXIMUM_HEIGHT, Motion, MotionDetector
from .regions import Region, Turns, is_held, merge_detections, select_regions
from .sources import Cadence
from .tracker import Tracker
from .zones import ZoneWatch, without_masked

_MOTION_HOLD = 2.0
_RECHECK = 2.0
_LONGEST_RECHECK = 30.0
_RECHECK_SHARE = 0.2
"""Seconds between two looks at objects that stand still where nothing moves: this share of the time since the last of
them came to rest, within these bounds. People, who keep an incident going, are looked at as often as at first."""
_SCAN = 300.0
_FIRST_SCANS = 60.0
"""Seconds between two looks at the whole frame though nothing moves, and while nothing is known to be there: something
may have come unnoticed."""
_YOUNG = 1.0
"""Seconds that an unconfirmed track is looked at twice as often, so that it soon counts or is forgotten."""
_BEHIND = 1.5
"""Frames since the last look after which the detector has enough to do without second looks."""
_WEAK_SCORE = 0.2
"""Detections between this and the minimum score may continue a track."""
_CLOCK_STEP = 1.0
"""Seconds; a clock that is set back by more makes all earlier times void."""
REGIONS = 2
MORE_REGIONS = 4
"""How many regions of a frame are looked at, and how many by a detector that has time to spare."""
_FAR = 1e6
"""Pixels: farther than any object leaves the frame."""


@dataclass(frozen=True, slots=True)
class LoadedDetector:
    """A detector and the score that starts a track."""

    detector: Detector
    minimum_score: float
    device: str = ""
    """What it runs on, see `DetectorState`."""
    threads: int = 0

    @property
    def batch(self) -> int:
        """How many pictures the detector takes at once; 1 where it does not say."""
        return max(1, getattr(self.detector, "batch", 1))

    @property
    def labels(self) -> tuple[str, ...]:
        """COCO's names of the detector's classes, by their number; a server's may become more with each picture."""
        return _in_coco(self.detector.labels)

    @classmethod
    def load(cls, config: DetectorConfig) -> LoadedDetector:
        """Load the plug-in and model of a config; takes up to seconds.

        Raises:
            DetectorError: there is no such plug-in, or it cannot use the model.
        """
        weak = replace(config, minimum_score=min(_WEAK_SCORE, config.minimum_score))
        detector = load_plugin(weak)
        # Not of the protocol: who brings a detector may leave them out.
        device, threads = getattr(detector, "device", ""), getattr(detector, "threads", 0)
        return cls(detector, config.minimum_score, device, threads)


_in_coco = lru_cache(maxsize=8)(coco_names)
"""Asked for with each look."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds spent per stage since the beginning."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun


@dataclass(frozen=True, slots=True)
class Glance:
    """What `notice` says of one frame."""

    due: bool = False
    """Motion was looked for; False for the frames in between."""
    motion: Motion | None = None
    """What the detector should look at; None when it need not look at this frame."""
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What came of the detector's look at one frame."""

    tracks: FrameTracks
    news: bool
    """A track is new, confirmed or ended: this report must not be lost."""
    moments: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One frame on its way to the detector."""

    frame: Frame
    motion: Motion
    regions: list[Region]
    pictures: list[Picture]
    """What the detector shall look at, a picture a region."""
    labels: tuple[str, ...]
    """The detector's."""
    tracker: Tracker
    before: tuple[Look, ...]
    """What is to be reported first: earlier tracks had to be given up."""


class CameraPipeline:
    """Motion, regions, detector, tracker and best moments of one camera.

    `notice` and `lose_sight` belong to one thread, all else to another (or behind a lock); `config` may be replaced at
    any time.
    """

    def __init__(self, config: CameraConfig, track_ids: Iterator[int], stages: Stages | None = None) -> None:
        """Start without a memory; `track_ids` is shared by all cameras."""
        self.config = config
        self.latest: FrameTracks | None = None
        """The live tracks after the last look."""
        self.look_until = -math.inf
        """Time of the frames until which the detector looks also where nothing moves."""
        self._track_ids = track_ids
        self._stages = stages or Stages()
        self._gate = _Gate(config.camera_id, self._stages)
        self._tracker: Tracker | None = None
        self._tracker_settings: tuple[object, ...] = ()
        self._moments = BestMoments(config.camera_id)
        self._zones = ZoneWatch(config.zones, config.lines)
        self._zones_of = (config.zones, config.lines)
        self._scanned_at = -math.inf
        self._rested_at: dict[int, float] = {}
        """When the places of the objects that stand still were looked at last, by their tracks."""
        self._turns: Turns | None = None
        self._recheck = _RECHECK
        self._in_doubt = False
        """Whether a still object was not found where it should be."""

    def notice(self, frame: Frame) -> Glance:
        """Look for motion and decide whether the detector should look at this frame."""
        config, latest, at = self.config, self.latest, frame.captured_at
        if not self._gate.is_due(at, config.fps, _is_in_hurry(latest, at, config.fps)):
            return Glance()
        if not config.detect:
            return Glance(due=True, reports=self._gate.close(at))
        motion = self._gate.update(frame, config.masks)
        wanted = motion.active or motion.light_change or self._is_look_due(at)
        return Glance(due=True, motion=motion if wanted else None, reports=self._gate.state(motion, at))

    def lose_sight(self, at: float) -> tuple[Report, ...]:
        """Report the end of motion: no more frames come for now."""
        return self._gate.close(at)

    def look(self, frame: Frame, motion: Motion, loaded: LoadedDetector) -> tuple[Look, ...]:
        """Detect and track; two looks where earlier tracks had to be given up first.

        Raises:
            DetectorError: the detector failed.
        """
        prepared = self.prepare(frame, motion, loaded)
        with self._stages.time("detect"):
            found = loaded.detector.detect(prepared.pictures)
        return (*prepared.before, *self.complete(prepared, found))

    def prepare(self, frame: Frame, motion: Motion, loaded: LoadedDetector, *, limit: int = REGIONS) -> Prepared:
        """Choose and cut out what the detector shall look at, in at most `limit` regions."""
        labels, confidence = self.config.labels, self.config.confidence
        settings = (loaded.labels, loaded.minimum_score, frame.width, frame.height, labels, confidence)
        set_back = self.latest is not None and frame.captured_at < self.latest.captured_at - _CLOCK_STEP
        before = self.clear() if set_back or settings != self._tracker_settings else ()
        if self._tracker is None:
            self._tracker, self._tracker_settings = self._new_tracker(loaded), settings
        if self._turns is None:
            self._turns = Turns((frame.width, frame.height))
        model_size = (loaded.detector.width, loaded.detector.height)
        with self._stages.time("regions"):
            regions = self._regions(motion, frame, model_size, self._turns, limit)
        with self._stages.time("convert"):
            pictures = [frame.crop(Box(*region)) for region in regions]
        return Prepared(frame, motion, regions, pictures, loaded.labels, self._tracker, before)

    def complete(self, prepared: Prepared, found: Sequence[Detections]) -> tuple[Look, ...]:
        """Track what was found in each picture; no look if the tracks were given up meanwhile."""
        frame, tracker = prepared.frame, prepared.tracker
        if tracker is not self._tracker:
            return ()
        size = (frame.width, frame.height)
        with self._stages.time("tracker"):
            parts = [(region, _moved(part, region)) for region, part in zip(prepared.regions, found, strict=True)]
            detections = merge_detections(parts, size)
            live, ended = tracker.update(
                without_masked(detections, self.config.masks, prepared.labels, size),
                frame.captured_at,
                motion=_areas(prepared.motion, frame),
                looked_at=_covered(prepared.regions, size),
                unsteady=prepared.motion.light_change,
            )
        if self._turns is not None:
            self._turns.note(prepared.regions, frame.captured_at)
        self._rested_at = {
            track.track_id: frame.captured_at
            if is_held(prepared.regions, track.box, size)
            else self._rested_at.get(track.track_id, -math.inf)
            for track in live
        }
        if Region(0, 0, *size) in prepared.regions:
            self._scanned_at = frame.captured_at
        self._in_doubt = tracker.in_doubt
        self._recheck = _recheck_interval(live, frame.captured_at - tracker.settled_at)
        return (self._told(frame, live, ended),)

    def clear(self) -> tuple[Look, ...]:
        """Give up all tracks; they are reported as ended."""
        tracker, self._tracker = self._tracker, None
        latest, self.latest = self.latest, None
        self._scanned_at, self._turns = -math.inf, None
        self._rested_at.clear()
        ended = self._zones.recall(tracker.clear()) if tracker is not None else ()
        moments = self._moments.clear()
        if latest is None or not ended:
            return ()
        return (Look(replace(latest, tracks=(), ended=ended), news=True, moments=moments),)

    def look_anew(self) -> None:
        """Have the next frame looked at as a whole, though nothing moves in it; from any thread."""
        self._scanned_at = -math.inf

    def step(self, frame: Frame, loaded: LoadedDetector) -> list[Report]:
        """Take one frame through all stages; for callers without threads."""
        glance = self.notice(frame)
        reports = list(glance.reports)
        if glance.motion is not None:
            for look in self.look(frame, glance.motion, loaded):
                reports.append(look.tracks)
                with self._stages.time("pictures"):
                    reports += [picture for moment in look.moments for picture in moment.pictures()]
        return reports

    def _new_tracker(self, loaded: LoadedDetector) -> Tracker:
        return Tracker(
            loaded.labels,
            next_id=self._track_ids.__next__,
            confidence=self.config.confidence,
            minimum_score=loaded.minimum_score,
            weak_score=_WEAK_SCORE,
            watched=self.config.labels,
        )

    def _is_look_due(self, at: float) -> bool:
        """Tell whether the detector should look although nothing moves."""
        latest = self.latest
        if latest is None or self._is_scan_due(at):
            return True
        if not latest.tracks:
            return False
        restless = self._in_doubt or any(not track.stationary for track in latest.tracks)
        return restless or self._is_recheck_due(at)

    def _is_recheck_due(self, at: float) -> bool:
        tracks = self.latest.tracks if self.latest is not None else ()
        rested = [self._rested_at.get(track.track_id, -math.inf) for track in tracks if track.stationary]
        return any(abs(at - looked_at) >= self._recheck for looked_at in rested)

    def _is_scan_due(self, at: float) -> bool:
        known = self.latest is not None and self.latest.tracks
        return at < self.look_until or abs(at - self._scanned_at) >= (_SCAN if known else _FIRST_SCANS)

    def _regions(
        self, motion: Motion, frame: Frame, model_size: tuple[int, int], turns: Turns, limit: int
    ) -> list[Region]:
        """Choose where to look: where things move or moved, now and then at what stands still, else everywhere."""
        areas = _areas(motion, frame)
        size, at = (frame.width, frame.height), frame.captured_at
        whole = Region(0, 0, *size)
        if motion.light_change or self.latest is None:
            return [whole]
        tracks, scan = self.latest.tracks, self._is_scan_due(at)
        still_ones = scan or not areas or self._in_doubt or self._is_recheck_due(at)
        boxes = [track.box for track in tracks if still_ones or not track.stationary]
        known, live = [track.box for track in tracks], [track.box for track in tracks if not track.stationary]
        regions = turns.choose(select_regions(areas, boxes, size, model_size, known), live, known, limit)
        # What is small in the whole frame is still looked at closely: else it would be missed there.
        if scan and whole not in regions:
            regions = [whole, *regions]
        return regions or [whole]

    def _told(self, frame: Frame, live: tuple[TrackState, ...], ended: tuple[TrackState, ...]) -> Look:
        """Put the tracks after a look into words."""
        live, ended = self._placed(frame, live, ended)
        before = self.latest.tracks if self.latest is not None else ()
        news = bool(ended) or not _standing(live) <= _standing(before)
        self.latest = FrameTracks(
            camera_id=self.config.camera_id,
            frame_id=frame.frame_id,
            captured_at=frame.captured_at,
            width=frame.width,
            height=frame.height,
            tracks=live,
            ended=ended,
        )
        return Look(self.latest, news, self._moments.choose(frame, live))

    def _placed(
        self, frame: Frame, live: tuple[TrackState, ...], ended: tuple[TrackState, ...]
    ) -> tuple[tuple[TrackState, ...], tuple[TrackState, ...]]:
        """Say in which zones the tracks are, or were."""
        zones, lines = wanted = self.config.zones, self.config.lines
        if wanted != self._zones_of:
            self._zones, self._zones_of = ZoneWatch(zones, lines), wanted
        if not zones and not lines:
            return live, ended
        ended = self._zones.recall(ended)
        return self._zones.place(live, frame.captured_at, (frame.width, frame.height)), ended


class _Gate:
    """When a camera's frames are looked at, and whether something moves in them."""

    def __init__(self, camera_id: str, stages: Stages) -> None:
        self._camera_id = camera_id
        self._stages = stages
        self._detector = MotionDetector()
        self._fps = 0.0
        self._cadence = Cadence(0)
        self._quick_cadence = Cadence(0)
        self._moved_at: float | None = None

    def is_due(self, at: float, fps: float, hurry: bool) -> bool:  # noqa: FBT001
        """Tell whether this frame is to be looked at; call it for every frame."""
        if fps != self._fps:
            self._fps, self._cadence, self._quick_cadence = fps, Cadence(fps), Cadence(2 * fps)
        due, quick = self._cadence.is_due(at), self._quick_cadence.is_due(at)
        return due or (quick and hurry)

    def update(self, frame: Frame, masks: tuple[Mask, ...]) -> Motion:
        with self._stages.time("grey"):
            grey = frame.grey(MAXIMUM_HEIGHT)
        with self._stages.time("motion"):
            self._detector.ignore(tuple(mask.points for mask in masks if mask.motion))
            return self._detector.update(grey, frame.captured_at)

    def state(self, motion: Motion, at: float) -> tuple[Report, ...]:
        """Report that motion began, or that there was none for a while."""
        if motion.active:
            began, self._moved_at = self._moved_at is None, at
            return (self._report(active=True, at=at),) if began else ()
        if self._moved_at is not None and not 0 <= at - self._moved_at < _MOTION_HOLD:
            return self.close(at)
        return ()

    def close(self, at: float) -> tuple[Report, ...]:
        """Report the end of motion if there was any."""
        if self._moved_at is None:
            return ()
        self._moved_at = None
        return (self._report(active=False, at=at),)

    def _report(self, *, active: bool, at: float) -> MotionState:
        return MotionState(camera_id=self._camera_id, active=active, at=at)


def _is_in_hurry(latest: FrameTracks | None, at: float, fps: float) -> bool:
    """Tell whether a track is so new that it is not confirmed yet, and the detector is not behind already."""
    if latest is None or (at - latest.captured_at) * fps > _BEHIND:
        return False
    return any(not track.confirmed and at - track.first_seen_at < _YOUNG for track in latest.tracks)


def _recheck_interval(tracks: Sequence[TrackState], settled_for: float) -> float:
    """Return after how many seconds what stands still is looked at again, if the last of it did so for so many."""
    if any(track.confirmed and track.label in PERSONS for track in tracks):
        return _RECHECK
    return min(max(_RECHECK, _RECHECK_SHARE * settled_for), _LONGEST_RECHECK)


def _standing(tracks: Sequence[TrackState]) -> set[tuple[int, bool]]:
    return {(track.track_id, track.confirmed) for track in tracks}


def _areas(motion: Motion, frame: Frame) -> list[Box]:
    """Return the moving areas in pixels of the frame."""
    width, height = frame.width, frame.height
    return [
        Box(left * width, top * height, right * width, bottom * height) for left, top, right, bottom in motion.boxes
    ]


def _covered(regions: Sequence[Region], size: tuple[int, int]) -> list[Box]:
    """Return what was looked at, all beyond the frame's borders included: who left the frame is not waited for."""
    width, height = size
    seen = [
        Box(
            region.left or -_FAR,
            region.top or -_FAR,
            region.right if region.right < width else _FAR,
            region.bottom if region.bottom < height else _FAR,
        )
        for region in regions
    ]
    beyond = (
        Box(-_FAR, -_FAR, 0, _FAR),
        Box(-_FAR, -_FAR, _FAR, 0),
        Box(width, -_FAR, _FAR, _FAR),
        Box(-_FAR, height, _FAR, _FAR),
    )
    return [*seen, *beyond]


def _moved(detections: Detections, region: Region) -> Detections:
    """Return a region's detections in pixels of the whole frame."""
    if not len(detections) or not (region.left or region.top):
        return detections
    offset = np.array((region.left, region.top, region.left, region.top), np.float32)
    return Detections(detections.boxes + offset, detections.scores, detections.classes)
