"""The worker's main: reads commands from stdin, writes reports to stdout, and leaves when its parent does."""

import argparse
from collections.abc import Iterator, Sequence
import faulthandler
import gc
from importlib import metadata
from itertools import count
import logging
import os
import platform
import signal
import sys
import threading
import time
from typing import BinaryIO

from . import wire
from .album import Album
from .cameras import Camera
from .inference import Inference
from .messages import (
    MAX_WORKERS,
    CameraConfig,
    Command,
    DetectorState,
    GetSnapshot,
    Heartbeat,
    Message,
    PushStill,
    Ready,
    SetDetector,
    Shutdown,
    Snapshot,
    StartCamera,
    StartLooking,
    StopCamera,
)
from .outbox import LogForwarder, Outbox, claim_stdout
from .redact import route_libav_log

_LOGGER = logging.getLogger(__name__)

_BEAT = 1.0
NICENESS = 5
"""The house's automations come before the cameras."""
_LIBRARIES = (
    "numpy",
    "av",
    "Pillow",
    "ncnn",
    "lap",
    "torch",
    "ultralytics",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
)


class Worker:
    """Obeys the commands of the parent; `run` returns when all is over."""

    def __init__(self, commands: BinaryIO, reports: BinaryIO, number: int = 0) -> None:
        """Talk over these two streams; `number` is another one for each worker that runs at the same time."""
        self._commands = commands
        self.outbox = Outbox(reports)
        self._album = Album()
        self._inference = Inference(self._report_detector, self._forget_objects)
        self._cameras: dict[str, Camera] = {}
        self._track_ids = track_ids(number, time.time())
        self._ended = threading.Event()

    def end(self) -> None:
        """Make `run` return; from any thread or a signal handler."""
        self._ended.set()

    def run(self) -> None:
        """Work until the parent says so or is gone."""
        parent = os.getppid()
        self.outbox.put(Ready(pid=os.getpid(), versions=versions()))
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        # Commands that wait for a camera keep their thread from seeing the end of the pipe; an orphan leaves anyway.
        while not self._ended.wait(_BEAT) and os.getppid() == parent:
            self.outbox.put(self._heartbeat(), droppable=True)
            if (state := self._inference.hung) is not None:
                self._report_detector(state)
            # PyAV's closed containers are garbage in cycles and hold megabytes of frames, but are so few objects that
            # the collector would never come by itself.
            gc.collect()
        cameras = list(self._cameras.values())
        for camera in cameras:
            camera.stop()
        self._inference.stop(0.5)
        self._album.stop(0.2)
        self.outbox.close(0.5)

    def _heartbeat(self) -> Heartbeat:
        p50, p95 = self._inference.percentiles_ms(50, 95)
        return Heartbeat(
            at=time.time(),
            cameras=tuple(camera.report() for camera in list(self._cameras.values())),
            inference_ms_p50=p50,
            inference_ms_p95=p95,
            rss=_resident_bytes(),
            runs_ms=self._inference.take_runs_ms(),
        )

    def _report_detector(self, state: DetectorState) -> None:
        self.outbox.put(state)
        if state.fatal:
            self.end()

    def _forget_objects(self) -> None:
        """Give up what another detector saw; the next frame is looked at though nothing moves in it."""
        for camera in list(self._cameras.values()):
            camera.clear()

    def _read(self) -> None:
        try:
            while (message := wire.read(self._commands)) is not None and not isinstance(message, Shutdown):
                self._obey_safely(message)
        except wire.WireError:
            _LOGGER.exception("The commands cannot be understood")
        except OSError as err:
            _LOGGER.warning("The commands cannot be read: %s", err)
        self.end()

    def _obey_safely(self, message: Message) -> None:
        try:
            self._obey(message)  # type: ignore[arg-type]  # what is no command falls through
        except Exception:
            _LOGGER.exception("%s failed", type(message).__name__)

    def _obey(self, command: Command) -> None:
        match command:
            case SetDetector(config=config, wait=wait):
                self._inference.set_detector(config, wait)
            case StartCamera(config=config):
                self._start_camera(config)
            case StopCamera(camera_id=camera_id):
                self._stop_camera(camera_id)
            case StartLooking(camera_id=camera_id, seconds=seconds):
                if camera := self._cameras.get(camera_id):
                    camera.start_looking(seconds)
            case PushStill(camera_id=camera_id):
                if camera := self._cameras.get(camera_id):
                    camera.push(command)
            case GetSnapshot():
                self._get_snapshot(command)

    def _start_camera(self, config: CameraConfig) -> None:
        camera = self._cameras.get(config.camera_id)
        if camera is not None and camera.reconfigure(config):
            return
        self._stop_camera(config.camera_id)
        self._cameras[config.camera_id] = Camera(
            config, outbox=self.outbox, inference=self._inference, album=self._album, track_ids=self._track_ids
        )

    def _stop_camera(self, camera_id: str) -> None:
        if camera := self._cameras.pop(camera_id, None):
            camera.stop()

    def _get_snapshot(self, request: GetSnapshot) -> None:
        if camera := self._cameras.get(request.camera_id):
            camera.get_snapshot(request)
        else:
            self.outbox.put(
                Snapshot(request_id=request.request_id, camera_id=request.camera_id, frame_id=0, captured_at=None)
            )


def track_ids(number: int, at: float) -> Iterator[int]:
    """Return the ids of a worker's tracks: no other worker, and no earlier one, gives any of them."""
    milliseconds = int(at * 1000)
    return count(milliseconds - milliseconds % MAX_WORKERS + number, MAX_WORKERS)


def main(arguments: Sequence[str]) -> int:
    """Run the worker on this process's stdin and stdout."""
    parser = argparse.ArgumentParser(prog="vision --worker")
    parser.add_argument("--number", type=int, choices=range(MAX_WORKERS), default=0)
    parser.add_argument("--log-level", type=int, default=logging.INFO)
    options = parser.parse_args(arguments)
    faulthandler.enable()
    os.nice(NICENESS)
    gc.freeze()  # what was imported stays: collections look at the little that came later, in a tenth of a millisecond
    worker = Worker(sys.stdin.buffer, claim_stdout(), options.number)
    _forward_logs(worker.outbox, options.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: worker.end())
    worker.run()
    # A source may still be inside a blocking call of libav; the interpreter would wait for it, or crash into it.
    os._exit(0)


def _forward_logs(outbox: Outbox, level: int) -> None:
    root = logging.getLogger()
    root.handlers = [LogForwarder(outbox)]
    root.setLevel(level)
    route_libav_log(logging.getLogger(f"{__package__}.libav"))


def versions() -> dict[str, str]:
    """Return the versions of Python and of what the worker uses."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # once a second, for ever
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
