"""The cameras of a worker: one thread each, that reads its source, looks for motion and feeds the detector."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
import logging
import math
import random
import threading
import time

from .album import Album
from .detections import Detections
from .frames import Frame
from .inference import Inference
from .messages import (
    CameraConfig,
    CameraReport,
    CameraState,
    CameraStatus,
    FrameTracks,
    GetSnapshot,
    Problem,
    PushStill,
    Snapshot,
    SourceKind,
    TrackState,
)
from .moments import Moment
from .motion import Motion
from .outbox import Outbox
from .pictures import encode_jpeg
from .pipeline import MORE_REGIONS, REGIONS, CameraPipeline, LoadedDetector, Look, Prepared
from .sources import FrameSource, SourceError, StillsSource, open_source

_LOGGER = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_LASTING = 10.0
"""Seconds of frames after which a source counts as sound, and the next trouble starts with a short pause."""
_SOURCE_FPS = 15.0
"""Frames a second that are taken from a source: enough for a live picture and for a quick second look."""
_SNAPSHOT_PATIENCE = 5.0
_TRACKS_SHOWN = 3.0
_STILL_SHOWN = 60.0
"""Seconds after which the last look's tracks, and those of them that stand still, are no longer drawn into live
pictures. What stands still is looked at seldom."""

_HIDDEN_SHOWN = 0.5
"""Seconds after which a track that is not seen any more is no longer drawn."""

_SHOWN_PAUSE = 8.0
"""Seconds until a source that showed something, though not for long, is opened again at the latest."""
_GAP = 3.0
"""Seconds without a frame, after a failure of the source, that no track outlasts: as long as the tracker waits."""
_SILENCE = 20.0
"""Seconds without a frame after which a camera that was seen is not seen any more."""

_OFFLINE = {Problem.SOURCE_UNREACHABLE, Problem.SOURCE_STALLED, Problem.SOURCE_ENDED}


class Camera:
    """One camera in the worker.

    `prepare` and `complete` are called by the inference thread, `count_skipped` and `look_anew` by any; everything else
    from outside by the worker's main and reader threads.
    """

    def __init__(
        self, config: CameraConfig, *, outbox: Outbox, inference: Inference, album: Album, track_ids: Iterator[int]
    ) -> None:
        """Start to watch."""
        self._config = config
        self._outbox = outbox
        self._inference = inference
        self._album = album
        self._pipeline = CameraPipeline(config, track_ids)
        self._stop = threading.Event()
        self._speaking = threading.Lock()
        """Held while tracks change and are reported, so that reports leave in the order of what happened."""
        self._source: FrameSource | None = None
        self._newest: Frame | None = None
        self._frame_id = 0
        self._snapshots = _SnapshotQueue()
        self._changing = threading.RLock()
        """Held while the status changes: the camera's own thread and the worker's main thread both do that."""
        self._state: tuple[CameraStatus, Problem | None] | None = None
        self._trouble: SourceError | None = None
        """What the source suffers from, until it shows a frame again."""
        self._seen_at = -math.inf
        """When the last frame came, on the monotonic clock."""
        self._untidy = False
        """Whether motion and tracks of before a gap are still there."""
        self._counts = _Counts()
        self._set_state(CameraStatus.UNKNOWN)
        self._thread = threading.Thread(target=self._run, name=f"camera {config.camera_id}", daemon=True)
        self._thread.start()

    # --- commands -------------------------------------------------------------------------------------------------

    def reconfigure(self, config: CameraConfig) -> bool:
        """Follow a changed config; False if that needs another source, which is another camera's work."""
        if config.source != self._config.source or _source_fps(config) > _source_fps(self._config):
            return False
        detect_ends = self._config.detect and not config.detect
        self._config = self._pipeline.config = config
        if detect_ends:
            self.clear()
        return True

    def start_looking(self, seconds: float) -> None:
        """Look at every frame that is due until then, also where nothing moves."""
        self._pipeline.look_until = time.time() + seconds

    def push(self, still: PushStill) -> None:
        """Take a pushed still; it is dropped if the source is not one for stills, or is being opened again."""
        if isinstance(self._source, StillsSource):
            self._source.push(still.data, still.captured_at)

    def get_snapshot(self, request: GetSnapshot) -> None:
        """Answer now or with a later frame."""
        newest = self._newest
        # An id beyond the newest one comes from an earlier life of the worker.
        waits = newest is None or newest.frame_id == request.after
        if waits and request.after:
            self._snapshots.add(request)
        else:
            self._answer(request, newest)

    def stop(self) -> None:
        """Stop watching; the thread ends within about a second. Its tracks are forgotten without a report."""
        self._stop.set()
        self._inference.forget(self)
        self._snapshots_expire(float("inf"))

    def join(self, timeout: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout)

    def report(self) -> CameraReport:
        """Return the figures since the last call; called once a second."""
        self._snapshots_expire(time.monotonic())
        with self._changing:
            if self._online and self._silent:
                self._set_lost(self._trouble or SourceError(Problem.SOURCE_STALLED, f"no frame for {_SILENCE:.0f} s"))
        newest = self._newest
        return self._counts.take(
            CameraReport(
                camera_id=self._config.camera_id,
                fps=0.0,
                inference_fps=0.0,
                last_frame_at=newest.captured_at if newest else None,
                width=newest.width if newest else 0,
                height=newest.height if newest else 0,
            )
        )

    # --- the camera's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            begun = time.monotonic()
            trouble = self._watch()
            if self._stop.is_set():
                return
            over = trouble.problem is Problem.SOURCE_ENDED and self._config.source.kind is SourceKind.FILE
            with self._changing:
                seen = self._seen_at > begun
                self._counts.add("stalls", trouble.problem is Problem.SOURCE_STALLED and seen)
                self._trouble = trouble
                # A source that soon comes back is worth a figure, but no message.
                if over or not self._online or self._silent:
                    self._set_lost(trouble)
            self._tidy_up()
            if over:
                return
            if time.monotonic() - begun > _LASTING:
                pause = _FIRST_PAUSE
            elif seen:
                pause = min(pause, _SHOWN_PAUSE)
            # Cameras behind one recorder fail together and should not all come back in the same moment.
            self._stop.wait(pause * random.uniform(1.0, 1.25))  # noqa: S311
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _watch(self) -> SourceError:
        """Read the source until it fails; returns why."""
        try:
            source = open_source(
                self._config.source, fps=_source_fps(self._config), stop=self._stop, first_frame_id=self._frame_id + 1
            )
            with source:
                self._source = source
                for frame in source:
                    self._handle_frame(frame)
        except SourceError as err:
            return err
        except Exception as err:
            _LOGGER.exception("Camera %s failed", self._config.camera_id)
            return SourceError(Problem.SOURCE_CORRUPT, f"{type(err).__name__}: {err}")
        finally:
            self._source = None
        return SourceError(Problem.SOURCE_ENDED, "no more frames")

    def _handle_frame(self, frame: Frame) -> None:
        now = time.monotonic()
        with self._changing:
            again = self._trouble is not None and self._seen_at > -math.inf
            self._counts.add("reconnects", again)
            # Whoever stands there after such a gap may be somebody else.
            self._untidy |= again and now - self._seen_at > _GAP
            self._trouble, self._seen_at = None, now
        self._tidy_up()
        with self._changing:
            self._frame_id, self._newest = frame.frame_id, frame
            self._set_state(CameraStatus.ONLINE)
        for request in self._snapshots.take_all():
            self._answer(request, frame)
        glance = self._pipeline.notice(frame)
        for report in glance.reports:
            self._outbox.put(report)
        self._counts.add("looked", glance.due)
        if glance.motion is not None:
            self._inference.submit(self, frame, glance.motion)

    @property
    def _online(self) -> bool:
        return self._state == (CameraStatus.ONLINE, None)

    @property
    def _silent(self) -> bool:
        """Whether no frame came for long."""
        return time.monotonic() - self._seen_at > _SILENCE

    def _set_lost(self, trouble: SourceError) -> None:
        """Say that the camera is not seen now. Quick: the worker's main thread, which says it too, must not wait."""
        status = CameraStatus.OFFLINE if trouble.problem in _OFFLINE else CameraStatus.ERROR
        self._set_state(status, trouble.problem, trouble.detail)
        self._newest = None
        self._untidy = True

    def _tidy_up(self) -> None:
        """Let nothing of what a lost camera showed stay; may wait for the detector."""
        with self._changing:
            untidy, self._untidy = self._untidy, False
        if not untidy or self._stop.is_set():
            return
        for report in self._pipeline.lose_sight(time.time()):
            self._outbox.put(report)
        self.clear()

    def _set_state(self, status: CameraStatus, problem: Problem | None = None, detail: str = "") -> None:
        if self._state == (status, problem) or self._stop.is_set():
            return
        self._state = (status, problem)
        _LOGGER.debug("Camera %s is %s %s %s", self._config.camera_id, status, problem or "", detail)
        self._outbox.put(
            CameraState(camera_id=self._config.camera_id, status=status, at=time.time(), problem=problem, detail=detail)
        )

    # --- the inference thread -------------------------------------------------------------------------------------

    def prepare(self, frame: Frame, motion: Motion, loaded: LoadedDetector, *, spare: bool) -> Prepared | None:
        """Choose and cut out what the detector shall look at."""
        with self._speaking:
            if not self._is_watching:
                return None
            prepared = self._pipeline.prepare(frame, motion, loaded, limit=MORE_REGIONS if spare else REGIONS)
            self._tell(prepared.before)
        return prepared

    def complete(self, prepared: Prepared, found: Sequence[Detections]) -> None:
        """Track what was found, and report it."""
        with self._speaking:
            if self._is_watching:
                self._counts.add("inferred")
                self._tell(self._pipeline.complete(prepared, found))

    def count_skipped(self) -> None:
        """Count a frame that will never be looked at."""
        self._counts.add("skipped")

    def look_anew(self) -> None:
        """Look for what may have come unseen."""
        self._pipeline.look_anew()

    @property
    def _is_watching(self) -> bool:
        return not self._stop.is_set() and self._config.detect and self._newest is not None

    def clear(self) -> None:
        """Give up all tracks, reporting their end; the next frame is looked at anew."""
        self._inference.forget(self)
        with self._speaking:
            self._tell(self._pipeline.clear())

    def _tell(self, looks: tuple[Look, ...]) -> None:
        for look in looks:
            self._outbox.put(look.tracks, droppable=not look.news)
            for moment in look.moments:
                self._album.do(self._config.camera_id, partial(self._send_pictures, moment))

    # --- the album's thread ---------------------------------------------------------------------------------------

    def _send_pictures(self, moment: Moment) -> None:
        for picture in moment.pictures():
            self._outbox.put(picture)

    def _answer(self, request: GetSnapshot, frame: Frame | None) -> None:
        if not self._album.do(self._config.camera_id, lambda: self._send_snapshot(request, frame)):
            self._outbox.put(_empty(request))

    def _send_snapshot(self, request: GetSnapshot, frame: Frame | None) -> None:
        if frame is None:
            self._outbox.put(_empty(request))
            return
        tracks = _drawn(self._pipeline.latest, frame) if request.boxes else ()
        data = encode_jpeg(frame, max_width=request.max_width, tracks=tracks)
        self._outbox.put(
            replace(_empty(request), frame_id=frame.frame_id, captured_at=frame.captured_at, data=data), droppable=True
        )

    def _snapshots_expire(self, now: float) -> None:
        for request in self._snapshots.take_expired(now):
            self._outbox.put(_empty(request))


class _Counts:
    """What a camera counts between two heartbeats, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counter[str]()
        self._since = time.monotonic()

    def add(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._counts[what] += count

    def take(self, report: CameraReport) -> CameraReport:
        """Return the report with the figures since the last call."""
        now = time.monotonic()
        with self._lock:
            counts, self._counts = self._counts, Counter()
            passed, self._since = max(now - self._since, 1e-3), now
        return replace(
            report,
            fps=counts["looked"] / passed,
            inference_fps=counts["inferred"] / passed,
            skipped=counts["skipped"],
            reconnects=counts["reconnects"],
            stalls=counts["stalls"],
        )


class _SnapshotQueue:
    """Requests that wait for a frame."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, GetSnapshot]] = []

    def add(self, request: GetSnapshot) -> None:
        with self._lock:
            self._waiting.append((time.monotonic() + _SNAPSHOT_PATIENCE, request))

    def take_all(self) -> list[GetSnapshot]:
        return self.take_expired(float("inf")) if self._waiting else []

    def take_expired(self, now: float) -> list[GetSnapshot]:
        with self._lock:
            taken = [request for deadline, request in self._waiting if deadline <= now]
            self._waiting = [entry for entry in self._waiting if entry[0] > now]
        return taken


def _source_fps(config: CameraConfig) -> float:
    return max(_SOURCE_FPS, 2 * config.fps)


def _drawn(latest: FrameTracks | None, frame: Frame) -> tuple[TrackState, ...]:
    """Return the tracks that belong into a live picture."""
    age = math.inf if latest is None else frame.captured_at - latest.captured_at
    if latest is None or age > _STILL_SHOWN:
        return ()
    if (latest.width, latest.height) != (frame.width, frame.height):
        return ()
    # A box around what is hidden, or has left the picture, looks like a false alarm.
    return tuple(
        track
        for track in latest.tracks
        if (track.stationary or age <= _TRACKS_SHOWN) and latest.captured_at - track.last_seen_at <= _HIDDEN_SHOWN
    )


def _empty(request: GetSnapshot) -> Snapshot:
    return Snapshot(request_id=request.request_id, camera_id=request.camera_id, frame_id=0, captured_at=None)
