"""The one thread that owns the detector, shared fairly by all cameras."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import logging
import threading
import time
from typing import Protocol

import numpy as np

from .detections import Detections
from .detectors import DetectorError
from .frames import Frame
from .messages import DetectorConfig, DetectorState, Problem
from .motion import Motion
from .pipeline import LoadedDetector, Prepared

_LOGGER = logging.getLogger(__name__)

_RETRY = 10.0
"""Seconds until a detector that could not be loaded is tried again: somebody may have put the model there."""
_HUNG = 30.0
"""Seconds that one run of the detector may take."""

_PATIENCE = 1.0
"""Seconds that a mere recheck lets frames with motion go first; then it counts as one of them."""
_IDLE_WAIT = 0.05
"""Seconds; whoever waited no longer than this, alone, finds a detector that has time to spare."""

_RUNS = 512
_MINUTE = 60.0
"""What the figures on the detector's speed look back on: so many runs at most, and so many seconds."""


class Viewer(Protocol):
    """A camera, as the inference thread sees it. An error in one of these costs only this camera's frame."""

    def prepare(self, frame: Frame, motion: Motion, loaded: LoadedDetector, *, spare: bool) -> Prepared | None:
        """Choose and cut out what the detector shall look at; None when nobody wants to know any more.

        `spare` says that the detector has time for more than the usual number of pictures.
        """

    def complete(self, prepared: Prepared, found: Sequence[Detections]) -> None:
        """Go on with what was found in each picture."""

    def count_skipped(self) -> None:
        """Count a frame in which something moved and that will never be looked at; from any thread."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A frame that waits, and since when its camera does (monotonic seconds)."""

    frame: Frame
    motion: Motion
    since: float
    counts: bool
    """Whether something moved in this very frame, so that it counts as skipped if nobody looks at it."""

    @classmethod
    def of(cls, frame: Frame, motion: Motion) -> _Request:
        """Begin to wait now."""
        return cls(frame, motion, time.monotonic(), motion.active or motion.light_change)

    def is_urgent(self, now: float) -> bool:
        """Whether something moved, or it has waited for long."""
        return self.motion.active or self.motion.light_change or now - self.since > _PATIENCE

    def replacing(self, older: _Request) -> _Request:
        """Return this request in the place of an older one of its camera.

        What moved in a frame that nobody looked at may stand still in this one, and is still to be found.
        """
        motion = replace(
            self.motion,
            boxes=self.motion.boxes or older.motion.boxes,
            light_change=self.motion.light_change or older.motion.light_change,
        )
        return replace(self, motion=motion, since=older.since)


type _Look = tuple[Viewer, _Request, Prepared]


class Inference:
    """Runs the detector on the newest frames of the cameras that wait, the longest waiting first.

    A camera has one frame waiting at most: a newer one takes the place of the older and keeps its turn, so that a busy
    detector sees fresh frames only. Where something moves goes before rechecks of what stands still, but those too have
    their turn after a second. A detector that takes several pictures at once gets those of several cameras together; it
    never waits for more of them to come.
    """

    def __init__(self, report: Callable[[DetectorState], None]) -> None:
        """Start the thread; `report` is called when the detector was loaded or failed."""
        self._report = report
        self._changed = threading.Condition()
        self._waiting: dict[Viewer, _Request] = {}
        self._wanted: DetectorConfig | None = None
        self._loaded_config: DetectorConfig | None = None
        self._loaded: LoadedDetector | None = None
        self._state: DetectorState | None = None
        self._retry_at = 0.0
        self._stopped = False
        self._busy_since: float | None = None
        self._runs: deque[tuple[float, float]] = deque(maxlen=_RUNS)
        """When the last runs ended and how long they took, in seconds."""
        self._untold_runs: deque[float] = deque(maxlen=_RUNS)
        """Seconds of the runs since `take_runs_ms` was called."""
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def hung(self) -> bool:
        """Whether one run takes so long that it will never end."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > _HUNG

    def set_detector(self, config: DetectorConfig) -> None:
        """Load this detector instead of the present one."""
        with self._changed:
            self._wanted, self._loaded_config, self._state, self._retry_at = config, None, None, 0.0
            self._changed.notify()

    def submit(self, viewer: Viewer, frame: Frame, motion: Motion) -> None:
        """Hand in a frame; the camera is told if one of its frames, in which something moved, is never looked at."""
        request = _Request.of(frame, motion)
        with self._changed:
            if self._loaded is not None:
                older = self._waiting.get(viewer)
                self._waiting[viewer] = request.replacing(older) if older else request
                skipped = older
                self._changed.notify()
            else:
                # Without a detector nothing is missed; one that is loaded, or has failed, misses what moves meanwhile.
                skipped = request if self._wanted is not None else None
        if skipped is not None and skipped.counts:
            viewer.count_skipped()

    def forget(self, viewer: Viewer) -> None:
        """Drop what a camera handed in: it does not want to know any more."""
        with self._changed:
            self._waiting.pop(viewer, None)

    def percentiles_ms(self, *percents: float) -> list[float | None]:
        """Return percentiles of the times of the last minute's runs, in milliseconds; None when there was none."""
        since = time.monotonic() - _MINUTE
        with self._changed:
            times = [spent * 1000 for ended, spent in self._runs if ended > since]
        return [float(np.percentile(times, percent)) if times else None for percent in percents]

    def take_runs_ms(self) -> tuple[float, ...]:
        """Return the times of the runs since the last call, in milliseconds."""
        with self._changed:
            runs = tuple(round(spent * 1000, 2) for spent in self._untold_runs)
            self._untold_runs.clear()
        return runs

    def stop(self, timeout: float) -> None:
        """End the thread; a run in progress is waited for `timeout` seconds."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, timeout=1.0)
                if self._stopped:
                    return
                config = self._config_to_load()
            try:
                if config is not None:
                    self._load(config)
                else:
                    self._look()
            except Exception:
                _LOGGER.exception("Inference failed")

    def _has_work(self) -> bool:
        return self._stopped or bool(self._waiting) or self._config_to_load() is not None

    def _config_to_load(self) -> DetectorConfig | None:
        due = self._wanted != self._loaded_config and time.monotonic() >= self._retry_at
        return self._wanted if due else None

    def _load(self, config: DetectorConfig) -> None:
        self._unload()
        try:
            loaded = LoadedDetector.load(config)
        except DetectorError as err:
            self._fail(err.problem, err.detail)
        except Exception as err:
            _LOGGER.exception("The detector cannot be loaded")
            self._fail(Problem.MODEL_CORRUPT, f"{type(err).__name__}: {err}")
        else:
            detector = loaded.detector
            with self._changed:
                self._loaded = loaded
                if self._wanted == config:
                    self._loaded_config = config
            self._tell(
                DetectorState(
                    problem=None,
                    labels=detector.labels,
                    width=detector.width,
                    height=detector.height,
                    device=loaded.device,
                    threads=loaded.threads,
                )
            )

    def _look(self) -> None:
        """Look at what waits, as much as the detector takes at once."""
        if (loaded := self._loaded) is None:
            return
        self._busy_since = begun = time.monotonic()
        looks: list[_Look] = []
        try:
            looks = self._gather(loaded)
            if looks:
                self._detect(looks, loaded)
        except DetectorError as err:
            self._fail(err.problem, err.detail)
        finally:
            self._busy_since = None
            ended = time.monotonic()
            if looks:
                with self._changed:
                    self._runs.append((ended, ended - begun))
                    self._untold_runs.append(ended - begun)

    def _gather(self, loaded: LoadedDetector) -> list[_Look]:
        """Prepare the frames of as many cameras as fit into one run of the detector; at least that of one."""
        looks: list[_Look] = []
        room = loaded.batch
        while (room > 0 or not looks) and (taken := self._take()):
            viewer, request, alone = taken
            spare = loaded.batch > 1 or (alone and time.monotonic() - request.since < _IDLE_WAIT)
            try:
                prepared = viewer.prepare(request.frame, request.motion, loaded, spare=spare)
            except Exception:
                _LOGGER.exception("A frame cannot be prepared")
                _count_skipped([(viewer, request)])
                continue
            if prepared is None:
                continue
            if looks and len(prepared.pictures) > room:
                self._put_back(viewer, request)
                break
            looks.append((viewer, request, prepared))
            room -= len(prepared.pictures)
        return looks

    def _take(self) -> tuple[Viewer, _Request, bool] | None:
        """Return whose turn it is, and whether nobody else waits."""
        now = time.monotonic()
        with self._changed:
            if not self._waiting:
                return None
            viewer, request = min(self._waiting.items(), key=lambda item: (not item[1].is_urgent(now), item[1].since))
            del self._waiting[viewer]
            return viewer, request, not self._waiting

    def _put_back(self, viewer: Viewer, request: _Request) -> None:
        """Let a camera keep its turn."""
        with self._changed:
            newer = self._waiting.get(viewer)
            self._waiting[viewer] = newer.replacing(request) if newer else request
        if newer:
            _count_skipped([(viewer, request)])

    def _detect(self, looks: Sequence[_Look], loaded: LoadedDetector) -> None:
        """Run the detector once, and hand each camera its part.

        Raises:
            DetectorError: the detector failed.
        """
        pictures = [picture for _, _, prepared in looks for picture in prepared.pictures]
        try:
            found = loaded.detector.detect(pictures)
        except DetectorError:
            _count_skipped(looks)
            raise
        except Exception:
            # One camera's picture may be the cause: the others' shall not be lost for it.
            if len(looks) > 1:
                self._detect_each(looks, loaded)
            else:
                _LOGGER.exception("A frame cannot be looked at")
                _count_skipped(looks)
            return
        for viewer, _, prepared in looks:
            part, found = found[: len(prepared.pictures)], found[len(prepared.pictures) :]
            try:
                viewer.complete(prepared, part)
            except Exception:
                _LOGGER.exception("What was found in a frame cannot be used")

    def _detect_each(self, looks: Sequence[_Look], loaded: LoadedDetector) -> None:
        for done, look in enumerate(looks, 1):
            try:
                self._detect([look], loaded)
            except DetectorError:
                _count_skipped(looks[done:])
                raise

    def _fail(self, problem: Problem, detail: str) -> None:
        """Say what is wrong, once, and try again later."""
        self._unload()
        with self._changed:
            self._loaded_config = None
            self._retry_at = time.monotonic() + _RETRY
        self._tell(DetectorState(problem=problem, detail=detail))

    def _tell(self, state: DetectorState) -> None:
        if state != self._state:
            self._state = state
            self._report(state)

    def _unload(self) -> None:
        with self._changed:
            loaded, self._loaded = self._loaded, None
            waiting = list(self._waiting.items())
            self._waiting.clear()
        _count_skipped(waiting)
        if loaded is not None:
            loaded.detector.close()


def _count_skipped(unseen: Sequence[tuple[Viewer, _Request, *tuple[Prepared, ...]]]) -> None:
    for viewer, request, *_ in unseen:
        if request.counts:
            viewer.count_skipped()
