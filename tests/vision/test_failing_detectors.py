"""A detector that fails: what that costs, when it is given up, and what is kept until it is back."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
import logging
import os
from pathlib import Path
import sys
import threading
import time

import numpy as np
import pytest

from custom_components.nemotron_security.vision import (
    executor as executor_module,
    inference as inference_module,
    soundness,
    wire,
)
from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import DetectorError, Picture, loading
from custom_components.nemotron_security.vision.executor import Executor
from custom_components.nemotron_security.vision.inference import Inference
from custom_components.nemotron_security.vision.messages import (
    CameraConfig,
    CameraState,
    CameraStatus,
    DetectorConfig,
    DetectorState,
    FrameTracks,
    Message,
    Problem,
    PushStill,
    Ready,
    SetDetector,
    Shutdown,
    Source,
    SourceKind,
    StartCamera,
    WorkerLost,
)
from custom_components.nemotron_security.vision.pictures import encode_jpeg
from custom_components.nemotron_security.vision.pipeline import LoadedDetector
from custom_components.nemotron_security.vision.tracker import Tracker
from custom_components.nemotron_security.vision.worker import Worker

from .blobs import BlobDetector, frame, write_video
from .test_executor import Reports
from .test_inference import MOVING, PATIENCE, Viewer, until
from .test_plugins import install

TOKEN = "s3cret-t0ken"
CUDA = RuntimeError("CUDA error: an illegal memory access was encountered")


class FailingDetector(BlobDetector):
    """Finds squares, unless it is told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Callable[[Sequence[Picture]], Exception | None] = lambda _: None
        self.runs = self.closed = 0

    def fail(self, error: Exception | None, times: int = 1_000_000) -> None:
        errors = iter([error] * times)
        self.error = lambda _: next(errors, None)

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        self.runs += 1
        if (error := self.error(pictures)) is not None:
            raise error
        return super().detect(pictures)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> FailingDetector:
    made = FailingDetector()
    monkeypatch.setattr(LoadedDetector, "load", lambda _: LoadedDetector(made, 0.5))
    monkeypatch.setattr(inference_module, "_RETRY", 0.05)
    return made


@pytest.fixture
def states() -> list[DetectorState]:
    return []


@pytest.fixture
def inference(detector: FailingDetector, states: list[DetectorState]) -> Iterator[Inference]:
    running = Inference(states.append)
    running.set_detector(DetectorConfig(token=TOKEN))
    until(lambda: bool(states))
    yield running
    running.stop(PATIENCE)
    assert not running._thread.is_alive()


def look(inference: Inference, detector: FailingDetector, *viewers: Viewer, times: int = 1) -> None:
    """Hand in frames, each when the last one was looked at; where none is loaded they are lost."""
    for number in range(1, times + 1):
        runs = detector.runs
        until(lambda: inference._loaded is not None)
        for viewer in viewers:
            inference.submit(viewer, frame(number, 100), MOVING)
        until(partial(_is_done, inference, detector, runs))


def _is_done(inference: Inference, detector: FailingDetector, runs: int) -> bool:
    return detector.runs > runs and not inference._waiting and inference._busy is None


# --- what is borne --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        DetectorError(Problem.DETECTOR_UNREACHABLE, "no answer in time"),
        DetectorError(Problem.DETECTOR_NOT_READY, "it answers 503"),
        DetectorError(Problem.DETECTOR_BAD_ANSWER, "success: false"),
        DetectorError(Problem.DETECTOR_BROKEN, "porch: it cannot look at a picture"),
        ValueError("one picture's own trouble"),
    ],
    ids=lambda error: getattr(error, "problem", "unknown"),
)
def test_some_failures_cost_only_their_frames(
    inference: Inference, detector: FailingDetector, states: list[DetectorState], error: Exception
) -> None:
    camera = Viewer("camera", [])
    for _ in range(4):
        detector.fail(error, times=4)
        look(inference, detector, camera, times=5)
    assert (camera.skipped, len(camera.looks)) == (16, 4)
    assert (len(states), detector.closed) == (1, 0)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (
            DetectorError(Problem.DETECTOR_UNREACHABLE, "no answer in time"),
            DetectorState(problem=Problem.DETECTOR_UNREACHABLE, detail="no answer in time"),
        ),
        (
            ValueError(f"a tensor of another shape from http://me:{TOKEN}@host, {TOKEN}"),
            DetectorState(
                problem=Problem.DETECTOR_BROKEN,
                detail="ValueError: a tensor of another shape from http://***@host, ***",
            ),
        ),
        (
            CUDA,
            DetectorState(problem=Problem.DETECTOR_NO_DEVICE, detail=f"RuntimeError: {CUDA}", fatal=True),
        ),
    ],
    ids=["server", "unknown", "CUDA"],
)
def test_one_that_fails_for_good_is_said_once_and_logged_once(
    inference: Inference,
    detector: FailingDetector,
    states: list[DetectorState],
    error: Exception,
    state: DetectorState,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cameras = Viewer("one", []), Viewer("other", [])
    detector.fail(error)
    look(inference, detector, *cameras, times=20)
    until(lambda: detector.closed >= 2)
    assert states[1:] == [state], "also after it was loaded again and again"
    traces = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(traces) == (not isinstance(error, DetectorError))
    assert TOKEN not in "".join(traces)
    assert all("Traceback" in trace for trace in traces)


def test_two_failures_far_apart_are_enough(
    inference: Inference, detector: FailingDetector, states: list[DetectorState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundness, "_LONG", 0.1)
    camera = Viewer("camera", [])
    detector.fail(DetectorError(Problem.DETECTOR_UNREACHABLE, "no answer in time"))
    look(inference, detector, camera)
    time.sleep(0.2)
    assert len(states) == 1
    look(inference, detector, camera)
    until(lambda: len(states) == 2)


def test_one_that_fails_in_turn_does_not_work_and_one_that_works_for_long_does(
    inference: Inference, detector: FailingDetector, states: list[DetectorState], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Viewer("camera", [])
    for _ in range(3):
        detector.fail(DetectorError(Problem.DETECTOR_NOT_READY, "it answers 503"), times=5)
        look(inference, detector, camera, times=9)
    assert [state.problem for state in states] == [None, Problem.DETECTOR_NOT_READY]
    assert detector.closed == 3
    monkeypatch.setattr(soundness, "_TRUSTED", 0.1)
    time.sleep(0.2)
    look(inference, detector, camera)
    until(lambda: len(states) == 3)
    assert states[2] == states[0]


def test_one_that_brought_a_worker_down_waits_and_has_to_prove_itself(
    detector: FailingDetector, states: list[DetectorState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundness, "_TRUSTED", 0.1)
    inference, begun = Inference(states.append), time.monotonic()
    inference.set_detector(DetectorConfig(), wait=0.3)
    until(lambda: inference._loaded is not None)
    assert time.monotonic() - begun >= 0.3
    camera = Viewer("camera", [])
    look(inference, detector, camera)
    assert not states
    time.sleep(0.2)
    look(inference, detector, camera)
    until(lambda: len(states) == 1)
    assert states[0].problem is None
    inference.stop(PATIENCE)


@pytest.mark.parametrize("error", [CUDA, DetectorError(Problem.MODEL_CORRUPT, "words")], ids=["plain", "cause"])
def test_a_gpu_that_fails_while_it_is_loaded_needs_another_process(
    states: list[DetectorState], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(_: DetectorConfig) -> LoadedDetector:
        raise error from CUDA

    monkeypatch.setattr(LoadedDetector, "load", load)
    inference = Inference(states.append)
    inference.set_detector(DetectorConfig())
    until(lambda: bool(states))
    assert (states[0].problem, states[0].fatal) == (Problem.DETECTOR_NO_DEVICE, True)
    inference.stop(PATIENCE)


def test_one_that_cannot_be_closed_is_replaced_all_the_same(
    inference: Inference, detector: FailingDetector, states: list[DetectorState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "close", lambda: 1 / 0)
    inference.set_detector(DetectorConfig(model="other"))
    until(lambda: len(states) == 2)
    assert states[1].problem is None


# --- one camera's pictures ------------------------------------------------------------------------------------------


class _Picky(BlobDetector):
    """Another package's detector, which cannot bear the pictures of one camera."""

    batch = 8

    def __init__(self, _: DetectorConfig) -> None:
        super().__init__()
        self.gate, self.begun = threading.Event(), threading.Event()

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        self.begun.set()
        self.gate.wait(PATIENCE)
        if any(picture.shape[1] == 300 for picture in pictures):
            raise ValueError(f"an odd size, {TOKEN}")
        return super().detect(pictures)


def _is_seen(good: Viewer, bad: Viewer, times: int) -> bool:
    return (len(good.looks), bad.skipped) == (times, times)


def test_a_plug_in_that_cannot_bear_one_cameras_pictures_serves_the_others(
    states: list[DetectorState], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "_find", lambda _: _Picky)
    inference = Inference(states.append)
    inference.set_detector(DetectorConfig(plugin="porch", token=TOKEN))
    until(lambda: inference._loaded is not None)
    assert inference._loaded is not None
    plug_in = inference._loaded.detector._inner  # type: ignore[attr-defined]
    first, good, bad = (Viewer(name, []) for name in ("first", "good", "bad"))
    for number in range(1, 11):
        plug_in.gate.clear()
        plug_in.begun.clear()
        inference.submit(first, frame(number, 100), MOVING)
        assert plug_in.begun.wait(PATIENCE)
        inference.submit(bad, frame(number, 100, size=(300, 240)), MOVING)
        inference.submit(good, frame(number, 100), MOVING)
        plug_in.gate.set()
        until(partial(_is_seen, good, bad, number))
    assert len(states) == 1
    assert len(first.looks) == 10
    traces = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(traces) == 1, "the same trouble is logged once"
    assert TOKEN not in traces[0]
    inference.stop(PATIENCE)


# --- the worker -----------------------------------------------------------------------------------------------------


class RunningWorker:
    """A worker in a thread, with a camera whose stills the test pushes."""

    def __init__(self) -> None:
        commands, self._commands = os.pipe()
        self._reports, reports = os.pipe()
        self.worker = Worker(os.fdopen(commands, "rb"), os.fdopen(reports, "wb", buffering=0))
        self.said: list[Message] = []
        self._numbers = count(1)
        self._thread = threading.Thread(target=self.worker.run)
        self._listener = threading.Thread(target=self._listen)
        self._thread.start()
        self._listener.start()

    def _listen(self) -> None:
        with os.fdopen(self._reports, "rb") as stream:
            while (message := wire.read(stream)) is not None:
                self.said.append(message)

    def tell(self, command: Message) -> None:
        os.write(self._commands, wire.encode(command))

    def of[T: Message](self, kind: type[T]) -> list[T]:
        return [message for message in self.said if isinstance(message, kind)]

    def push_until(self, test: Callable[[], bool], left: int | None = 100) -> None:
        def pushed() -> bool:
            still = encode_jpeg(frame(next(self._numbers), left))
            self.tell(PushStill(camera_id="door", captured_at=time.time(), data=still))
            time.sleep(0.05)
            return test()

        until(pushed)

    def start(self, config: DetectorConfig) -> None:
        self.tell(SetDetector(config=config))
        self.tell(StartCamera(config=CameraConfig(camera_id="door", source=Source(kind=SourceKind.STILLS))))
        until(lambda: bool(self.of(DetectorState)))

    def wait(self) -> None:
        """Wait until it is over; its process would end then, and its threads with it."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        for camera in self.worker._cameras.values():
            camera.join(PATIENCE)
        self.worker._inference._thread.join(PATIENCE)
        self.worker.outbox._stream.close()
        self._listener.join(PATIENCE)

    def stop(self) -> None:
        self.tell(Shutdown())
        self.wait()
        os.close(self._commands)


def test_tracks_outlive_a_failure_of_their_detector_but_not_another_detector(
    detector: FailingDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundness, "_TRUSTED", 0.0)
    running = RunningWorker()
    running.start(DetectorConfig())

    def live() -> set[int]:
        tracks = running.of(FrameTracks)
        return {track.track_id for track in tracks[-1].tracks if track.confirmed} if tracks else set()

    running.push_until(lambda: bool(live()))
    before = live()
    detector.fail(DetectorError(Problem.DETECTOR_UNREACHABLE, "no answer in time"), times=5)
    running.push_until(lambda: len(running.of(DetectorState)) == 3)
    assert [state.problem for state in running.of(DetectorState)] == [None, Problem.DETECTOR_UNREACHABLE, None]
    looks = len(running.of(FrameTracks))
    running.push_until(lambda: len(running.of(FrameTracks)) > looks + 1)
    assert live() == before
    assert not any(report.ended for report in running.of(FrameTracks))
    running.tell(SetDetector(config=DetectorConfig(model="other")))
    running.push_until(lambda: bool(live()) and live() != before)
    assert {track.track_id for report in running.of(FrameTracks) for track in report.ended} == before
    running.stop()


def test_what_came_while_the_detector_failed_is_found_though_it_stands_still(detector: FailingDetector) -> None:
    running = RunningWorker()
    running.start(DetectorConfig())
    running.push_until(lambda: bool(running.of(FrameTracks)), left=None)
    detector.fail(DetectorError(Problem.DETECTOR_NOT_READY, "it answers 503"), times=1)
    looks = detector.runs
    running.push_until(lambda: detector.runs > looks)
    running.push_until(lambda: any(report.tracks for report in running.of(FrameTracks)))
    running.stop()


def test_after_long_blindness_only_what_rested_is_the_same() -> None:
    tracker = Tracker(("person", "car"), next_id=count(1).__next__)

    def found(*boxes: tuple[float, float, float, float]) -> Detections:
        classes = np.array([1, 0][: len(boxes)], np.int32)
        return Detections(np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32), classes)

    car = (300.0, 100.0, 400.0, 160.0)
    for step in range(60):
        at = step / 4
        live, _ = tracker.update(found(car, (20 + 4 * step, 100, 60 + 4 * step, 200)), at)
    assert [track.track_id for track in live] == [1, 2]
    for step in range(30):
        live, _ = tracker.update(found(car, (256, 100, 296, 200)), at + 301 + step / 4)
    assert [(track.track_id, track.label) for track in live] == [(1, "car"), (3, "person")]


@pytest.mark.parametrize("where", ["_LOADING", "_RUN"])
def test_a_detector_that_never_returns_ends_the_worker(
    detector: FailingDetector, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(inference_module, where, 0.1)
    gate = threading.Event()

    def hang(_: object) -> None:
        gate.wait(PATIENCE)

    running = RunningWorker()
    if where == "_RUN":
        running.start(DetectorConfig())
        detector.error = hang
        running.push_until(lambda: len(running.of(DetectorState)) == 2)
    else:
        monkeypatch.setattr(LoadedDetector, "load", hang)
        running.tell(SetDetector(config=DetectorConfig()))
    running.worker._ended.wait(PATIENCE)
    gate.set()
    running.stop()
    state = running.of(DetectorState)[-1]
    assert (state.problem, state.fatal) == (Problem.DETECTOR_TIMEOUT, True)
    assert "not done after 0.1 seconds" in state.detail


# --- the next worker ------------------------------------------------------------------------------------------------

FALLS_ONCE = """
from pathlib import Path
import numpy as np
from vision.detections import Detections

class Porch:
    labels = ("person",)
    width = height = 320

    def __init__(self, config):
        self.fell = Path(config.model)

    def detect(self, pictures):
        failures = len(list(self.fell.iterdir()))
        if failures < 5:
            (self.fell / str(failures)).touch()
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        whole = np.array([[0, 0, 99, 99]], np.float32)
        return [Detections(whole, np.array([0.9], np.float32), np.array([0], np.int32)) for _ in pictures]

    def close(self):
        pass
"""


async def test_another_worker_takes_over_from_one_whose_gpu_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cameras are down for a moment only; the detector has to wait."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(install(tmp_path, FALLS_ONCE))])
    monkeypatch.setattr(executor_module, "_DETECTOR_PAUSE", 1.0)
    (tmp_path / "fell").mkdir()
    source = Source(kind=SourceKind.FILE, location=str(write_video(tmp_path / "walk.mp4")))
    reports = Reports()
    executor = Executor(reports)
    executor.set_detector(DetectorConfig(plugin="porch", model=str(tmp_path / "fell")))
    executor.set_camera(CameraConfig(camera_id="door", source=source))
    await executor.async_start()
    try:
        first = await reports.until(Ready)
        fatal = await reports.until(DetectorState, lambda state: state.problem is not None)
        assert (fatal.problem, fatal.fatal) == (Problem.DETECTOR_NO_DEVICE, True)
        await reports.until(WorkerLost)
        lost = len(reports.all)
        second = await reports.until(Ready, begin=lost)
        assert second.pid != first.pid
        begin = reports.all.index(second)
        await reports.until(CameraState, lambda state: state.status is CameraStatus.ONLINE, begin=begin)
        await reports.until(FrameTracks, begin=begin)
        told = [report.problem for report in reports.all if isinstance(report, DetectorState)]
        assert told == [None, Problem.DETECTOR_NO_DEVICE]
        assert executor._detector_falls == 1
    finally:
        await executor.async_stop()
