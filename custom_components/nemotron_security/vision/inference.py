"""The one thread that owns the detector, shared fairly by all cameras."""

from collections import deque
from collections.abc import Callable
import logging
import threading
import time
from typing import Protocol

import numpy as np

from .detectors import DetectorError
from .frames import Frame
from .messages import DetectorConfig, DetectorState, Problem
from .motion import Motion
from .pipeline import LoadedDetector

_LOGGER = logging.getLogger(__name__)

_RETRY = 10.0
"""Seconds until a detector that could not be loaded is tried again: somebody may have put the model there."""
_HUNG = 30.0
"""Seconds that one run of the detector may take."""

_RUNS = 512
_MINUTE = 60.0
"""What the figures on the detector's speed look back on: so many runs at most, and so many seconds."""


class Viewer(Protocol):
    """A camera, as the inference thread sees it."""

    def look(self, frame: Frame, motion: Motion, loaded: LoadedDetector) -> None:
        """Detect and track in this frame; raises DetectorError when the detector failed."""


class Inference:
    """Runs the detector on the newest frame of each camera in turn.

    A camera that hands in a frame while an older one still waits replaces it and keeps its place in the queue, so that
    a busy detector sees fresh frames only and no camera is starved.
    """

    def __init__(self, report: Callable[[DetectorState], None]) -> None:
        """Start the thread; `report` is called when the detector was loaded or failed."""
        self._report = report
        self._changed = threading.Condition()
        self._waiting: dict[Viewer, tuple[Frame, Motion]] = {}
        self._wanted: DetectorConfig | None = None
        self._loaded_config: DetectorConfig | None = None
        self._loaded: LoadedDetector | None = None
        self._state: DetectorState | None = None
        self._retry_at = 0.0
        self._stopped = False
        self._busy_since: float | None = None
        self._runs: deque[tuple[float, float]] = deque(maxlen=_RUNS)
        """When the last runs ended and how long they took, in seconds."""
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

    def submit(self, viewer: Viewer, frame: Frame, motion: Motion) -> bool:
        """Hand in a frame; False if it took the place of one that was never looked at."""
        with self._changed:
            if self._loaded is None:
                return True
            replaced = viewer in self._waiting
            self._waiting[viewer] = (frame, motion)
            self._changed.notify()
        return not replaced

    def forget(self, viewer: Viewer) -> None:
        """Drop what a camera handed in."""
        with self._changed:
            self._waiting.pop(viewer, None)

    def percentiles_ms(self, *percents: float) -> list[float | None]:
        """Return percentiles of the times of the last minute's runs, in milliseconds; None when there was none."""
        since = time.monotonic() - _MINUTE
        with self._changed:
            times = [spent * 1000 for ended, spent in self._runs if ended > since]
        return [float(np.percentile(times, percent)) if times else None for percent in percents]

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
                work = None if config is not None else self._next()
            try:
                if config is not None:
                    self._load(config)
                elif work is not None:
                    self._look(*work)
            except Exception:
                _LOGGER.exception("Inference failed")

    def _has_work(self) -> bool:
        return self._stopped or bool(self._waiting) or self._config_to_load() is not None

    def _config_to_load(self) -> DetectorConfig | None:
        due = self._wanted != self._loaded_config and time.monotonic() >= self._retry_at
        return self._wanted if due else None

    def _next(self) -> tuple[Viewer, Frame, Motion] | None:
        if not self._waiting:
            return None
        viewer = next(iter(self._waiting))
        return (viewer, *self._waiting.pop(viewer))

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
                DetectorState(problem=None, labels=detector.labels, width=detector.width, height=detector.height)
            )

    def _look(self, viewer: Viewer, frame: Frame, motion: Motion) -> None:
        if (loaded := self._loaded) is None:
            return
        self._busy_since = begun = time.monotonic()
        try:
            viewer.look(frame, motion, loaded)
        except DetectorError as err:
            self._fail(err.problem, err.detail)
        finally:
            self._busy_since = None
            ended = time.monotonic()
            with self._changed:
                self._runs.append((ended, ended - begun))

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
            self._waiting.clear()
        if loaded is not None:
            loaded.detector.close()
