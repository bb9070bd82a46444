"""The one thread that owns the detector, shared fairly by all cameras."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import logging
import threading
import time
import traceback
from typing import Protocol

import numpy as np

from .detections import Detections
from .detectors import DetectorError
from .frames import Frame
from .messages import DetectorConfig, DetectorState, Problem
from .motion import Motion
from .pipeline import LoadedDetector, Prepared
from .redact import redact
from .soundness import Soundness, is_fatal, may_be_picture

_LOGGER = logging.getLogger(__name__)

_RETRY = 10.0
"""Seconds until a detector that could not be loaded is tried again: somebody may have put the model there."""
_RUN = 30.0
"""Seconds that one run of the detector may take."""
_LOADING = 240.0
_ENGINE = 3600.0
"""Seconds that loading it may take, and where TensorRT may have to make an engine: twice what a trial may take, as the
house starts at the same time."""
_WORDS = 200

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

    def look_anew(self) -> None:
        """Look for what came in such frames, though nothing moves any more; from any thread."""


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

    def __init__(self, report: Callable[[DetectorState], None], replaced: Callable[[], None] = lambda: None) -> None:
        """Start the thread.

        Args:
            report: called when the detector was loaded or failed.
            replaced: called when another detector than before was loaded, and before it looks at anything.
        """
        self._report = report
        self._replaced = replaced
        self._changed = threading.Condition()
        self._waiting: dict[Viewer, _Request] = {}
        self._wanted: DetectorConfig | None = None
        self._loaded_config: DetectorConfig | None = None
        self._last_config: DetectorConfig | None = None
        """Of the detector that looked last, though it may have failed since."""
        self._loaded: LoadedDetector | None = None
        self._state: DetectorState | None = None
        self._retry_at = 0.0
        self._soundness = Soundness()
        self._troubled: set[Viewer] = set()
        """Cameras whose trouble was logged, until one of their frames is looked at."""
        self._stopped = False
        self._busy: tuple[float, float, str] | None = None
        """Since when it is at work, how many seconds that may take, and what it does."""
        self._runs: deque[tuple[float, float]] = deque(maxlen=_RUNS)
        """When the last runs ended and how long they took, in seconds."""
        self._untold_runs: deque[float] = deque(maxlen=_RUNS)
        """Seconds of the runs since `take_runs_ms` was called."""
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def hung(self) -> DetectorState | None:
        """What is wrong with a detector that takes so long that it will never be done; None for one that is well."""
        if (busy := self._busy) is None or time.monotonic() - busy[0] <= busy[1]:
            return None
        detail = f"{busy[2]} is not done after {busy[1]:g} seconds"
        return DetectorState(problem=Problem.DETECTOR_TIMEOUT, detail=detail, fatal=True)

    def set_detector(self, config: DetectorConfig, wait: float = 0.0) -> None:
        """Load this detector instead of the present one; see `SetDetector`."""
        with self._changed:
            self._wanted, self._loaded_config, self._state = config, None, None
            self._retry_at = time.monotonic() + wait
            self._soundness = Soundness(doubted=wait > 0)
            self._changed.notify()

    def submit(self, viewer: Viewer, frame: Frame, motion: Motion) -> None:
        """Hand in a frame; the camera is told if one of its frames, in which something moved, is never looked at."""
        request = _Request.of(frame, motion)
        with self._changed:
            if self._loaded is not None:
                older = self._waiting.get(viewer)
                self._waiting[viewer] = request.replacing(older) if older else request
                skipped, missed = older, False
                self._changed.notify()
            else:
                # Without a detector nothing is missed; one that is loaded, or has failed, misses what moves meanwhile.
                skipped, missed = None, self._wanted is not None
        if skipped is not None and skipped.counts:
            viewer.count_skipped()
        if missed:
            _lose([(viewer, request)])

    def forget(self, viewer: Viewer) -> None:
        """Drop what a camera handed in: it does not want to know any more."""
        with self._changed:
            self._waiting.pop(viewer, None)
            self._troubled.discard(viewer)

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
        limit = _ENGINE if config.tensorrt else _LOADING
        self._busy = time.monotonic(), limit, "loading"
        self._unload()
        try:
            loaded = LoadedDetector.load(config)
        except Exception as err:  # noqa: BLE001  # any cause is told, here and below
            if not isinstance(err, DetectorError):
                self._log("The detector cannot be loaded", err)
            self._fail(err)
            return
        finally:
            self._busy = None
        if config != self._last_config:
            self._replaced()
        with self._changed:
            self._loaded, self._last_config = loaded, config
            if self._wanted == config:
                self._loaded_config = config
        if not self._soundness.doubted:
            self._tell_loaded(loaded)

    def _look(self) -> None:
        """Look at what waits, as much as the detector takes at once."""
        if (loaded := self._loaded) is None:
            return
        begun = time.monotonic()
        self._busy = begun, _RUN, "a look"
        looks: list[_Look] = []
        try:
            looks = self._gather(loaded)
            if looks:
                self._detect(looks, loaded)
        finally:
            self._busy = None
            ended = time.monotonic()
            if looks:
                with self._changed:
                    self._runs.append((ended, ended - begun))
                    self._untold_runs.append(ended - begun)
        if self._loaded_config is None:  # another one is wanted meanwhile
            return
        if (error := self._soundness.give_up()) is not None:
            self._fail(error)
        elif looks and not self._soundness.doubted:
            self._tell_loaded(loaded)

    def _gather(self, loaded: LoadedDetector) -> list[_Look]:
        """Prepare the frames of as many cameras as fit into one run of the detector; at least that of one."""
        looks: list[_Look] = []
        room = loaded.batch
        while (room > 0 or not looks) and (taken := self._take()):
            viewer, request, alone = taken
            spare = loaded.batch > 1 or (alone and time.monotonic() - request.since < _IDLE_WAIT)
            try:
                prepared = viewer.prepare(request.frame, request.motion, loaded, spare=spare)
            except Exception as err:  # noqa: BLE001
                self._log_once(viewer, "A frame cannot be prepared", err)
                _lose([(viewer, request)])
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
        if newer and request.counts:
            viewer.count_skipped()

    def _detect(self, looks: Sequence[_Look], loaded: LoadedDetector) -> bool:
        """Run the detector once, and hand each camera its part; False if it fails whatever it is given."""
        pictures = [picture for _, _, prepared in looks for picture in prepared.pictures]
        try:
            found = loaded.detector.detect(pictures)
        except Exception as err:  # noqa: BLE001
            if len(looks) > 1 and may_be_picture(err):
                return self._detect_each(looks, loaded)
            if may_be_picture(err) and self._soundness.works:
                self._log_once(looks[0][0], "A frame cannot be looked at", err)
            self._soundness.fail(err, time.monotonic())
            _lose(looks)
            return may_be_picture(err)
        self._soundness.succeed(time.monotonic())
        for viewer, _, prepared in looks:
            part, found = found[: len(prepared.pictures)], found[len(prepared.pictures) :]
            try:
                viewer.complete(prepared, part)
            except Exception as err:  # noqa: BLE001
                self._log_once(viewer, "What was found in a frame cannot be used", err)
            else:
                self._troubled.discard(viewer)
        return True

    def _detect_each(self, looks: Sequence[_Look], loaded: LoadedDetector) -> bool:
        """Look at one camera's pictures after the other: those of one may be the cause, and cost the others nothing."""
        for done, look in enumerate(looks, 1):
            if not self._detect([look], loaded):
                _lose(looks[done:])
                return False
        return True

    def _fail(self, error: Exception) -> None:
        """Say what is wrong, once, and try again later: here, or in another process where this one is of no use."""
        fatal = is_fatal(error)
        problem, detail = Problem.DETECTOR_BROKEN, f"{type(error).__name__}: {error}"
        if isinstance(error, DetectorError):
            problem, detail = error.problem, error.detail
        if fatal:
            problem = Problem.DETECTOR_NO_DEVICE
        self._unload()
        with self._changed:
            self._loaded_config = None
            self._retry_at = time.monotonic() + _RETRY
        self._tell(DetectorState(problem=problem, detail=self._redacted(detail)[:_WORDS], fatal=fatal))

    def _tell_loaded(self, loaded: LoadedDetector) -> None:
        detector = loaded.detector
        self._tell(
            DetectorState(
                problem=None,
                labels=loaded.labels,
                width=detector.width,
                height=detector.height,
                device=loaded.device,
                threads=loaded.threads,
            )
        )

    def _log_once(self, viewer: Viewer, what: str, error: Exception) -> None:
        """Log a camera's trouble, unless that was done since it was well."""
        if viewer not in self._troubled:
            self._troubled.add(viewer)
            self._log(what, error)

    def _log(self, what: str, error: Exception) -> None:
        _LOGGER.error("%s\n%s", what, self._redacted("".join(traceback.format_exception(error))))

    def _redacted(self, words: str) -> str:
        return redact(words, self._wanted.token if self._wanted is not None else "")

    def _tell(self, state: DetectorState) -> None:
        if state != self._state:
            self._state = state
            self._report(state)

    def _unload(self) -> None:
        with self._changed:
            loaded, self._loaded = self._loaded, None
            waiting = list(self._waiting.items())
            self._waiting.clear()
        _lose(waiting)
        if loaded is not None:
            try:
                loaded.detector.close()
            except Exception as err:  # noqa: BLE001  # whatever it is, the next one is loaded all the same
                self._log("The detector cannot be closed", err)


def _lose(unseen: Sequence[tuple[Viewer, _Request, *tuple[Prepared, ...]]]) -> None:
    """Give frames up: what moved in them is counted, and looked for later."""
    for viewer, request, *_ in unseen:
        if request.counts:
            viewer.count_skipped()
            viewer.look_anew()
