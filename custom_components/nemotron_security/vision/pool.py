"""Several workers as one: cameras are spread over them, and their reports are brought together.

A camera stays with its worker for as long as it is watched, through the worker's restarts too: if it is the camera
that makes its worker die, it shall not go on to the next. The first worker starts at once, the others with their first
camera.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
import sys
import time

from .executor import HEARTBEAT_TIMEOUT, Executor
from .messages import (
    MAX_WORKERS,
    CameraConfig,
    DetectorConfig,
    DetectorState,
    Heartbeat,
    Problem,
    Ready,
    Report,
    Snapshot,
    WorkerLost,
)

_MINUTE = 60.0
_RUNS = 512
"""What the times of the detector's runs look back on: so many seconds, and so many runs of a worker."""
_SILENT_BEATS = 3
"""Heartbeats of one worker after which another's are not waited for."""


@dataclass(slots=True, eq=False)
class _Member:
    """One worker, and what it said last."""

    executor: Executor
    camera_ids: set[str] = field(default_factory=set)
    started: bool = False
    lost: WorkerLost | None = None
    """Its death, until it is ready again."""
    detector: DetectorState | None = None
    """None: it loads a detector, or none is wanted."""
    beats: deque[Heartbeat] = field(default_factory=deque)
    """Not passed on yet."""
    runs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_RUNS))
    """When the last minute's runs of its detector were reported, and how many milliseconds they took."""


class WorkerPool:
    """Spreads cameras over up to `MAX_WORKERS` workers; used like an `Executor`.

    With one worker, reports are passed on as they are. With several:
        - `Ready` says that all workers that started are ready; `WorkerLost` names the cameras that are lost with one.
        - `Heartbeat` is sent once a second for all workers together: memory is summed, times of the detector's runs are
          percentiles over all runs.
        - `DetectorState` is without a problem once the detectors of all workers with cameras are; one with a problem
          names the cameras of the worker that has it.
    """

    def __init__(
        self,
        listener: Callable[[Report], None],
        *,
        workers: int = 1,
        python: str = sys.executable,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    ) -> None:
        """Nothing runs yet; see `Executor` for the arguments."""
        self._listener = listener
        self._members = [
            _Member(
                Executor(
                    partial(self._handle, number), number=number, python=python, heartbeat_timeout=heartbeat_timeout
                )
            )
            for number in range(min(max(1, workers), MAX_WORKERS))
        ]
        self._cameras: dict[str, CameraConfig] = {}
        self._member_of: dict[str, _Member] = {}
        self._started = False
        self._unready = True
        """Whether `Ready` is owed to the listener."""
        self._detector: DetectorConfig | None = None
        self._detector_told: DetectorState | None = None

    @property
    def pid(self) -> int | None:
        """The first worker's process id while there is one."""
        return self._members[0].executor.pid

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that run."""
        return tuple(pid for member in self._members if (pid := member.executor.pid) is not None)

    def worker_of(self, camera_id: str) -> Executor | None:
        """Return the worker that watches a camera, if one does."""
        member = self._member_of.get(camera_id)
        return member.executor if member is not None else None

    async def async_start(self) -> None:
        """Start the workers that have cameras, and the first; returns at once."""
        self._started = True
        for member in self._members:
            if member.camera_ids or member is self._members[0]:
                self._start(member)

    async def async_stop(self) -> None:
        """Stop the workers; returns when their processes are gone."""
        self._started = False
        await asyncio.gather(*(member.executor.async_stop() for member in self._members))
        for member in self._members:
            member.started, member.lost, member.detector = False, None, None
            member.beats.clear()
        self._unready, self._detector_told = True, None

    # --- what is wanted -------------------------------------------------------------------------------------------

    def set_detector(self, config: DetectorConfig) -> None:
        """Load this detector in every worker, now and after each restart."""
        if config == self._detector:
            return
        self._detector, self._detector_told = config, None
        for member in self._members:
            member.detector = None
            member.executor.set_detector(config)

    def set_camera(self, config: CameraConfig) -> None:
        """Watch this camera, or change how it is watched. A new one goes to the worker with the fewest."""
        camera_id = config.camera_id
        member = self._member_of.get(camera_id)
        if member is None:
            member = min(self._members, key=lambda member: len(member.camera_ids))
            self._member_of[camera_id] = member
            member.camera_ids.add(camera_id)
        self._cameras[camera_id] = config
        member.executor.set_camera(config)
        if self._started and not member.started:
            self._start(member)
            if self._detector_told is not None and self._detector_told.problem is None:
                self._tell_detector(DetectorState(problem=Problem.WORKER_DOWN, camera_ids=(camera_id,)))

    def remove_camera(self, camera_id: str) -> None:
        """Watch this camera no more; no other one moves for it. An unknown one is no error."""
        if (member := self._member_of.pop(camera_id, None)) is None:
            return
        del self._cameras[camera_id]
        member.camera_ids.discard(camera_id)
        member.executor.remove_camera(camera_id)
        if len(self._members) > 1 and not member.camera_ids and (state := self._joined_detector()) is not None:
            self._tell_detector(replace(state, camera_ids=()))

    def start_looking(self, camera_id: str, seconds: float) -> None:
        """Let the detector look at a camera, also while nothing moves; see `Executor`."""
        if (executor := self.worker_of(camera_id)) is not None:
            executor.start_looking(camera_id, seconds)

    def push_still(self, camera_id: str, captured_at: float, jpeg: bytes) -> None:
        """Hand over a still of a camera; dropped when its worker is down or behind."""
        if (executor := self.worker_of(camera_id)) is not None:
            executor.push_still(camera_id, captured_at, jpeg)

    async def async_snapshot(
        self, camera_id: str, *, after: int = 0, boxes: bool = True, max_width: int = 0
    ) -> Snapshot | None:
        """Return the newest frame as JPEG, or None when there is none; see `Executor`."""
        if (executor := self.worker_of(camera_id)) is None:
            return None
        return await executor.async_snapshot(camera_id, after=after, boxes=boxes, max_width=max_width)

    # --- what the workers say -------------------------------------------------------------------------------------

    def _start(self, member: _Member) -> None:
        member.started = True
        member.executor.start()

    def _handle(self, number: int, report: Report) -> None:
        if len(self._members) == 1:
            self._listener(report)
            return
        member = self._members[number]
        match report:
            case Ready():
                self._handle_ready(member, report)
            case WorkerLost():
                self._handle_lost(member, report)
            case Heartbeat():
                self._handle_heartbeat(member, report)
            case DetectorState():
                self._handle_detector(member, report)
            case _:
                self._listener(report)

    def _handle_ready(self, member: _Member, ready: Ready) -> None:
        member.lost = None
        if self._unready and not any(other.lost for other in self._members):
            self._unready = False
            self._listener(ready)

    def _handle_lost(self, member: _Member, lost: WorkerLost) -> None:
        member.lost, self._unready = lost, True
        member.beats.clear()
        member.runs.clear()
        failed_starts = max(other.lost.failed_starts for other in self._members if other.lost is not None)
        self._listener(WorkerLost(failed_starts=failed_starts, camera_ids=tuple(member.camera_ids)))

    def _handle_detector(self, member: _Member, state: DetectorState) -> None:
        member.detector = state
        if (joined := self._joined_detector()) is not None:
            self._tell_detector(replace(joined, camera_ids=tuple(member.camera_ids) if state.problem else ()))

    def _joined_detector(self) -> DetectorState | None:
        """Return the state of all workers with cameras together; None while one still loads its detector."""
        members = [member for member in self._members if member.camera_ids] or self._members[:1]
        states = [member.detector for member in members]
        known = [state for state in states if state is not None]
        # What a person can mend says more than that a worker starts anew.
        failed = sorted(
            (state for state in known if state.problem), key=lambda state: state.problem is Problem.WORKER_DOWN
        )
        if failed:
            return failed[0]
        return known[0] if known and len(known) == len(states) else None

    def _tell_detector(self, state: DetectorState) -> None:
        if state != self._detector_told:
            self._detector_told = state
            self._listener(state)

    def _handle_heartbeat(self, member: _Member, beat: Heartbeat) -> None:
        """Gather a beat of each worker that lives; one that is silent is not waited for."""
        now = time.monotonic()
        member.runs.extend((now, run) for run in beat.runs_ms)
        member.beats.append(beat)
        complete = all(other.beats for other in self._members if other.started and other.lost is None)
        if complete or len(member.beats) > _SILENT_BEATS:
            self._pass_on_heartbeats(now)

    def _pass_on_heartbeats(self, now: float) -> None:
        beats = [member.beats.popleft() for member in self._members if member.beats]
        since = now - _MINUTE
        runs = sorted(run for member in self._members for at, run in member.runs if at > since)
        self._listener(
            Heartbeat(
                at=max(beat.at for beat in beats),
                cameras=tuple(report for beat in beats for report in beat.cameras),
                inference_ms_p50=_percentile(runs, 0.5),
                inference_ms_p95=_percentile(runs, 0.95),
                rss=sum(beat.rss for beat in beats),
            )
        )


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Return a percentile of ordered values, as NumPy does; None of nothing."""
    if not values:
        return None
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)
