"""The parent's side of the worker: start, feed, watch, restart, stop. Runs on the event loop and never blocks it."""

import asyncio
from collections.abc import AsyncIterator, Callable
import contextlib
from itertools import count
import logging
import math
import sys
import time

from . import launch, wire
from .messages import (
    CameraConfig,
    CameraState,
    CameraStatus,
    Command,
    DetectorConfig,
    DetectorState,
    GetSnapshot,
    Heartbeat,
    LogLine,
    Message,
    Problem,
    PushStill,
    Ready,
    Report,
    SetDetector,
    Shutdown,
    Snapshot,
    StartCamera,
    StartLooking,
    StopCamera,
    WorkerLost,
)
from .redact import redact

_ROOT = (__package__ or "vision").removesuffix(".vision")
_LOGGER = logging.getLogger(__name__)
_WORKER_LOGGER = logging.getLogger(f"{_ROOT}.worker")

_START_TIMEOUT = 60.0
"""Seconds until the first message: a small machine with a cold disk imports slowly."""
HEARTBEAT_TIMEOUT = 10.0
_TICKS = 10
"""So many ticks of the watchdog make a heartbeat timeout."""
_SNAPSHOT_TIMEOUT = 8.0
_STOP_STEPS = (2.0, 1.0)
"""Seconds to go after Shutdown, and after SIGTERM."""
_QUICK_RESTART = 0.2
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_HEALTHY_TIME = 60.0
_DETECTOR_PAUSE = 10.0
_LONGEST_DETECTOR_PAUSE = 600.0
"""Seconds until a detector that brought its worker down is loaded again by the next one: doubled each time."""
_READ_LIMIT = 256 * 1024
_STILL_LIMIT = 2 * 1024 * 1024
"""Bytes waiting in the pipe above which a still is dropped: a fresher one follows."""
_COMMAND_LIMIT = 16 * 1024 * 1024
"""Bytes waiting in the pipe above which the worker is taken for hung."""


class Executor:
    """Runs one worker and keeps it in the wanted state.

    What was set stays set: after a restart the detector and the cameras are sent again. Every report of the worker goes
    to `listener`, on the event loop; when the worker dies, `WorkerLost` is reported, and each camera as `ERROR` with
    `WORKER_DOWN`.
    """

    def __init__(
        self,
        listener: Callable[[Report], None],
        *,
        python: str = sys.executable,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
        number: int = 0,
    ) -> None:
        """Nothing runs yet.

        Args:
            listener: called with every report except log lines and answered snapshots.
            python: the interpreter that the worker runs on.
            heartbeat_timeout: seconds without a heartbeat after which the worker is hung and is killed.
            number: of this worker among those that run at the same time, below `MAX_WORKERS`.
        """
        self._listener = listener
        self._python = python
        self._heartbeat_timeout = heartbeat_timeout
        self._number = number
        self._detector: DetectorConfig | None = None
        self._detector_falls = 0
        """How often in a row the detector brought its worker down."""
        self._cameras: dict[str, CameraConfig] = {}
        self._snapshots: dict[int, asyncio.Future[Snapshot | None]] = {}
        self._request_ids = count(1)
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._ticks_left = 0
        """Until the watchdog takes the worker for hung."""
        self._down = False
        self._ready = False
        self._failed_starts = 0

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return self._process.pid if self._process else None

    async def async_start(self) -> None:
        """Start the worker and watch it; returns at once, `Ready` tells when it listens."""
        self.start()

    def start(self) -> None:
        """Start the worker and watch it, from a function that cannot wait; there has to be a running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._async_supervise(), name="nemotron_security worker")

    async def async_stop(self) -> None:
        """Stop the worker; returns when its process is gone."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # --- what is wanted -------------------------------------------------------------------------------------------

    def set_detector(self, config: DetectorConfig) -> None:
        """Load this detector, now and after each restart."""
        if config != self._detector:
            self._detector, self._detector_falls = config, 0
            self._send(SetDetector(config=config))

    def set_camera(self, config: CameraConfig) -> None:
        """Watch this camera, or change how it is watched."""
        if config == self._cameras.get(config.camera_id):
            return
        self._cameras[config.camera_id] = config
        self._send(StartCamera(config=config))
        if self._down:
            self._report_down(config.camera_id)

    def remove_camera(self, camera_id: str) -> None:
        """Watch this camera no more; an unknown one is no error."""
        if self._cameras.pop(camera_id, None) is not None:
            self._send(StopCamera(camera_id=camera_id))

    def start_looking(self, camera_id: str, seconds: float) -> None:
        """Let the detector look at a camera for so many seconds, also while nothing moves; not after a restart."""
        if camera_id in self._cameras:
            self._send(StartLooking(camera_id=camera_id, seconds=seconds))

    def push_still(self, camera_id: str, captured_at: float, jpeg: bytes) -> None:
        """Hand over a still of a camera; dropped when the worker is down or behind."""
        if camera_id in self._cameras and self._backlog() < _STILL_LIMIT:
            self._send(PushStill(camera_id=camera_id, captured_at=captured_at, data=jpeg))

    async def async_snapshot(
        self, camera_id: str, *, after: int = 0, boxes: bool = True, max_width: int = 0
    ) -> Snapshot | None:
        """Return the newest frame as JPEG, or None when there is none.

        Args:
            camera_id: a camera that was set.
            after: wait, at most 5 s, for a frame with a larger `frame_id`.
            boxes: draw the live tracks into it.
            max_width: scale down to this width in pixels; 0 keeps the frame's own.
        """
        if self._process is None or camera_id not in self._cameras:
            return None
        request_id = next(self._request_ids)
        answer: asyncio.Future[Snapshot | None] = asyncio.get_running_loop().create_future()
        self._snapshots[request_id] = answer
        self._send(
            GetSnapshot(request_id=request_id, camera_id=camera_id, after=after, boxes=boxes, max_width=max_width)
        )
        try:
            async with asyncio.timeout(_SNAPSHOT_TIMEOUT):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._snapshots.pop(request_id, None)

    # --- the worker's life ----------------------------------------------------------------------------------------

    async def _async_supervise(self) -> None:
        pause = _QUICK_RESTART
        while True:
            started_at = time.monotonic()
            try:
                await self._async_live()
            except OSError as err:
                _LOGGER.warning("The vision worker cannot be started: %s", err)
            self._handle_death()
            if time.monotonic() - started_at > _HEALTHY_TIME:
                pause = _QUICK_RESTART
            await asyncio.sleep(pause)
            pause = max(_FIRST_PAUSE, min(pause * 2, _LONGEST_PAUSE))

    async def _async_live(self) -> None:
        """Run one worker from its start to its end."""
        async with self._async_process() as process, self._async_watchdog(process) as watchdog:
            self._send_wanted_state()
            reason = await self._async_read_reports(process)
            if watchdog.done():
                reason = "gave no sign of life and was killed"
        _LOGGER.warning("The vision worker %s (status %s); starting another", reason, process.returncode)

    @contextlib.asynccontextmanager
    async def _async_process(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            self._python,
            "-I",
            launch.FOLDER,
            "--worker",
            f"--number={self._number}",
            f"--log-level={_WORKER_LOGGER.getEffectiveLevel()}",
            *launch.package_arguments(self._python),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=launch.environment(),
            limit=_READ_LIMIT,
            start_new_session=True,  # Ctrl-C is for Home Assistant, which then stops the worker in its own time
        )
        self._process = process
        relay = asyncio.create_task(_async_relay_errors(process))
        try:
            yield process
        except asyncio.CancelledError:
            self._send(Shutdown())
            self._process = None
            await _async_end(process, *_STOP_STEPS)
            raise
        finally:
            self._process = None
            await _async_end(process)
            await relay
            self._drop_snapshots()

    @contextlib.asynccontextmanager
    async def _async_watchdog(self, process: asyncio.subprocess.Process) -> AsyncIterator[asyncio.Task[None]]:
        """Kill the process when it is silent for too long; the task is done once it was."""
        tick = self._heartbeat_timeout / _TICKS
        self._ticks_left = math.ceil(max(_START_TIMEOUT, self._heartbeat_timeout) / tick)
        watchdog = asyncio.create_task(self._async_watch(process, tick), name="nemotron_security worker watchdog")
        try:
            yield watchdog
        finally:
            watchdog.cancel()
            await asyncio.wait([watchdog])

    async def _async_watch(self, process: asyncio.subprocess.Process, tick: float) -> None:
        # Ticks are counted instead of the clock being asked: while others block the event loop, heartbeats lie unread.
        # That is not the worker's silence, and however long it lasts, it is one tick.
        while self._ticks_left > 0:
            await asyncio.sleep(tick)
            self._ticks_left -= 1
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    def _send_wanted_state(self) -> None:
        if self._detector is not None:
            pause = _DETECTOR_PAUSE * 2 ** (self._detector_falls - 1) if self._detector_falls else 0.0
            self._send(SetDetector(config=self._detector, wait=min(pause, _LONGEST_DETECTOR_PAUSE)))
        for config in self._cameras.values():
            self._send(StartCamera(config=config))

    async def _async_read_reports(self, process: asyncio.subprocess.Process) -> str:
        """Handle what the worker says until it ends or talks nonsense; returns which."""
        assert process.stdout is not None
        try:
            while (message := await wire.async_read(process.stdout)) is not None:
                self._handle(message)
                await asyncio.sleep(0)  # what is buffered is read without a pause: let others have their turn
        except wire.WireError as err:
            return f"talked nonsense and was killed: {err}"
        return "ended"

    def _handle(self, message: Message) -> None:
        match message:
            case LogLine():
                name = message.logger.removeprefix("vision.")
                _WORKER_LOGGER.getChild(name).log(message.level, "%s", message.message)
                return
            case Snapshot():
                self._handle_snapshot(message)
                return
            case Ready():
                _LOGGER.debug("The vision worker is ready: %s", message.versions)
                self._down, self._ready, self._failed_starts = False, True, 0
                self._ticks_left = _TICKS
            case Heartbeat():
                self._ticks_left = _TICKS
            case DetectorState(problem=None):
                self._detector_falls = 0
            case DetectorState(fatal=True):
                self._detector_falls += 1
        self._report(message)  # type: ignore[arg-type]  # a worker sends no commands

    def _handle_snapshot(self, snapshot: Snapshot) -> None:
        answer = self._snapshots.pop(snapshot.request_id, None)
        if answer is not None and not answer.done():
            answer.set_result(snapshot if snapshot.data else None)

    def _report(self, report: Report) -> None:
        try:
            self._listener(report)
        except Exception:
            _LOGGER.exception("Handling a %s of the vision worker failed", type(report).__name__)

    def _handle_death(self) -> None:
        self._failed_starts += not self._ready
        self._down, self._ready = True, False
        self._report(WorkerLost(failed_starts=self._failed_starts))
        if self._detector is not None and not self._detector_falls:  # else it is known why
            self._report(DetectorState(problem=Problem.WORKER_DOWN))
        for camera_id in tuple(self._cameras):
            self._report_down(camera_id)

    def _report_down(self, camera_id: str) -> None:
        self._report(
            CameraState(camera_id=camera_id, status=CameraStatus.ERROR, at=time.time(), problem=Problem.WORKER_DOWN)
        )

    def _drop_snapshots(self) -> None:
        for answer in self._snapshots.values():
            if not answer.done():
                answer.set_result(None)

    # --- the pipe -------------------------------------------------------------------------------------------------

    def _backlog(self) -> int:
        """Return the bytes that the pipe has not taken yet."""
        if self._process is None or self._process.stdin is None:
            return 0
        return self._process.stdin.transport.get_write_buffer_size()

    def _send(self, command: Command) -> None:
        """Write without waiting. What a dead worker misses, the next one is told."""
        process = self._process
        if process is None or process.stdin is None or process.stdin.transport.is_closing():
            return
        if self._backlog() > _COMMAND_LIMIT:
            _LOGGER.error("The vision worker takes no commands and is killed")
            process.kill()
            return
        process.stdin.write(wire.encode(command))


async def _async_relay_errors(process: asyncio.subprocess.Process) -> None:
    """Log what the worker writes to stderr: an import that fails, a C library's complaint, the trace of a crash."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:  # a line beyond every limit; it was discarded
            continue
        if not line:
            return
        if text := line.decode(errors="replace").rstrip():
            _WORKER_LOGGER.warning("%s", redact(text))


async def _async_end(process: asyncio.subprocess.Process, patience: float = 0.0, mercy: float = 0.0) -> None:
    """Wait for the process to end by itself, then by SIGTERM, then end it with SIGKILL."""
    assert process.stdout is not None
    drain = asyncio.create_task(_async_drain(process.stdout))  # a full pipe would keep it from ending
    if patience and await _async_gone(process, patience):
        process_gone = True
    else:
        with contextlib.suppress(ProcessLookupError):
            if mercy:
                process.terminate()
        process_gone = bool(mercy) and await _async_gone(process, mercy)
    if not process_gone:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await drain
    if process.stdin is not None:
        process.stdin.close()


async def _async_gone(process: asyncio.subprocess.Process, patience: float) -> bool:
    try:
        async with asyncio.timeout(patience):
            await process.wait()
    except TimeoutError:
        return False
    return True


async def _async_drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(_READ_LIMIT):
        pass
