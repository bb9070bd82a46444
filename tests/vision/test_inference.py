"""The inference thread: whose turn it is, what goes together, and that one camera's trouble stays its own."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
import threading
import time

import numpy as np
import pytest

from custom_components.nemotron_security.vision import inference as inference_module, soundness
from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import DetectorError, Picture
from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.inference import Inference
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraConfig,
    DetectorConfig,
    DetectorState,
    Problem,
    Source,
    SourceKind,
)
from custom_components.nemotron_security.vision.motion import NO_MOTION, Motion
from custom_components.nemotron_security.vision.pipeline import CameraPipeline, LoadedDetector, Look, Prepared

from .blobs import BlobDetector, frame

PATIENCE = 60.0
MOVING = Motion((Box(0.2, 0.2, 0.4, 0.5),), 0.05)


class GatedDetector(BlobDetector):
    """Finds squares, in batches, as soon as the gate is open; notes what it was given."""

    def __init__(self, batch: int = 1) -> None:
        super().__init__()
        self.batch = batch
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.runs: list[int] = []
        self.error: Exception | None = None
        self.chokes_on: int | None = None
        """Width of the pictures that it cannot bear."""
        self.closed = 0

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        self.runs.append(len(pictures))
        self.begun.release()
        self.gate.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        if self.chokes_on in {picture.shape[1] for picture in pictures}:
            raise ValueError("a picture that no detector can bear")
        return super().detect(pictures)

    def close(self) -> None:
        self.closed += 1


class Viewer:
    """A camera without a source: frames are handed in by the test, all else is real."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        config = CameraConfig(camera_id=name, source=Source(kind=SourceKind.STILLS))
        self.pipeline = CameraPipeline(config, count(1))
        self.name = name
        self.log = log
        self.looks: list[Look] = []
        self.skipped = 0
        self.error: Exception | None = None
        self.spared: list[bool] = []

    def prepare(self, picture: Frame, motion: Motion, loaded: LoadedDetector, *, spare: bool) -> Prepared | None:
        self.log.append((self.name, picture.frame_id))
        self.spared.append(spare)
        if self.error is not None:
            raise self.error
        return self.pipeline.prepare(picture, motion, loaded)

    def complete(self, prepared: Prepared, found: Sequence[Detections]) -> None:
        self.looks += self.pipeline.complete(prepared, found)

    def count_skipped(self) -> None:
        self.skipped += 1

    def look_anew(self) -> None:
        self.pipeline.look_anew()

    @property
    def seen(self) -> list[int]:
        return [look.tracks.frame_id for look in self.looks]


def _slowly(pictures: Sequence[Picture]) -> list[Detections]:
    time.sleep(0.02)
    return [Detections.none() for _ in pictures]


def until(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def detector() -> GatedDetector:
    return GatedDetector()


@pytest.fixture
def states() -> list[DetectorState]:
    return []


@pytest.fixture
def unloaded(
    states: list[DetectorState], detector: GatedDetector, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inference]:
    monkeypatch.setattr(LoadedDetector, "load", lambda _: LoadedDetector(detector, 0.5))
    running = Inference(states.append)
    yield running
    detector.gate.set()
    running.stop(PATIENCE)
    assert not running._thread.is_alive()


@pytest.fixture
def inference(unloaded: Inference, states: list[DetectorState]) -> Inference:
    unloaded.set_detector(DetectorConfig())
    until(lambda: bool(states))
    return unloaded


@pytest.fixture
def log() -> list[tuple[str, int]]:
    return []


def occupy(inference: Inference, detector: GatedDetector) -> Viewer:
    """Keep the detector busy with one camera's frame until the gate opens."""
    first = Viewer("first", [])
    inference.submit(first, frame(1, 100), MOVING)
    assert detector.begun.acquire(timeout=PATIENCE)
    return first


# --- whose turn it is -----------------------------------------------------------------------------------------------


def test_the_longest_waiting_camera_is_next_and_only_its_newest_frame_is_looked_at(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]]
) -> None:
    occupy(inference, detector)
    busy, quiet = Viewer("busy", log), Viewer("quiet", log)
    inference.submit(busy, frame(2, 100), MOVING)
    inference.submit(quiet, frame(1, 100), MOVING)
    inference.submit(busy, frame(3, 100), MOVING)
    inference.submit(busy, frame(4, 100), MOVING)
    detector.gate.set()
    until(lambda: bool(quiet.looks))
    assert log == [("busy", 4), ("quiet", 1)]
    assert (busy.skipped, quiet.skipped) == (2, 0)
    assert (inference.percentiles_ms(50)[0] or 0) > 0


def test_motion_goes_before_rechecks(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_module, "_PATIENCE", PATIENCE)
    occupy(inference, detector)
    still, lit, moving = Viewer("still", log), Viewer("lit", log), Viewer("moving", log)
    inference.submit(still, frame(1, 100), NO_MOTION)
    inference.submit(moving, frame(1, 100), MOVING)
    inference.submit(lit, frame(1, 100), Motion(light_change=True))
    detector.gate.set()
    until(lambda: bool(still.looks))
    assert [name for name, _ in log] == ["moving", "lit", "still"]


def test_a_recheck_has_its_turn_however_much_moves(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_module, "_PATIENCE", 0.2)
    detector.gate.set()
    monkeypatch.setattr(detector, "detect", _slowly)
    moving = [Viewer(f"moving {number}", log) for number in range(3)]
    still = Viewer("still", log)
    ended = threading.Event()

    def keep_moving(viewer: Viewer) -> None:
        for number in count(1):
            if ended.is_set():
                return
            inference.submit(viewer, frame(number, 100), MOVING)
            time.sleep(0.005)

    threads = [threading.Thread(target=keep_moving, args=(viewer,)) for viewer in moving]
    for thread in threads:
        thread.start()
    until(lambda: min(len(viewer.looks) for viewer in moving) >= 3)
    inference.submit(still, frame(1, 100), NO_MOTION)
    until(lambda: bool(still.looks))
    ended.set()
    for thread in threads:
        thread.join()
    assert all(viewer.skipped for viewer in moving)


def test_what_moved_in_a_frame_that_was_never_seen_is_looked_for_in_the_next(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]]
) -> None:
    occupy(inference, detector)
    camera = Viewer("camera", log)
    camera.pipeline.latest = None
    inference.submit(camera, frame(1, 100), MOVING)
    inference.submit(camera, frame(2, 100), NO_MOTION)
    assert inference._waiting[camera].motion.boxes == MOVING.boxes
    inference.submit(camera, frame(3, 100), NO_MOTION)
    detector.gate.set()
    until(lambda: bool(camera.looks))
    assert camera.seen == [3]
    assert camera.skipped == 1, "a recheck whose place another takes is no loss"


def test_a_detector_with_time_to_spare(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]]
) -> None:
    first = occupy(inference, detector)
    second, third = Viewer("second", log), Viewer("third", log)
    inference.submit(second, frame(1, 100), MOVING)
    inference.submit(third, frame(1, 100), MOVING)
    time.sleep(0.1)
    detector.gate.set()
    until(lambda: bool(third.looks))
    assert first.spared == [True]
    assert second.spared == third.spared == [False]


# --- what is counted ------------------------------------------------------------------------------------------------


def test_no_frame_is_missed_where_no_detector_is_wanted(unloaded: Inference, log: list[tuple[str, int]]) -> None:
    camera = Viewer("camera", log)
    unloaded.submit(camera, frame(1, 100), MOVING)
    assert camera.skipped == 0


def test_what_moves_before_the_detector_is_there_counts_as_skipped(
    unloaded: Inference, states: list[DetectorState], log: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: DetectorConfig) -> LoadedDetector:
        raise DetectorError(Problem.MODEL_MISSING, "not there")

    monkeypatch.setattr(LoadedDetector, "load", refuse)
    camera = Viewer("camera", log)
    unloaded.set_detector(DetectorConfig())
    until(lambda: bool(states))
    unloaded.submit(camera, frame(1, 100), NO_MOTION)
    unloaded.submit(camera, frame(2, 100), MOVING)
    assert camera.skipped == 1
    assert not log


@pytest.mark.parametrize("batch", [1, 8])
def test_a_detector_that_fails_costs_what_it_was_given_and_what_waited(
    inference: Inference,
    detector: GatedDetector,
    states: list[DetectorState],
    log: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(inference_module, "_RETRY", 0.2)
    monkeypatch.setattr(soundness, "_TRUSTED", 0.0)
    detector.batch = batch
    first = occupy(inference, detector)
    waiting = [Viewer(f"camera {number}", log) for number in range(3)]
    for viewer in waiting:
        inference.submit(viewer, frame(1, 100), MOVING)
    detector.error = DetectorError(Problem.MODEL_CORRUPT, "broke")
    detector.gate.set()
    until(lambda: len(states) >= 2)
    detector.error = None
    until(lambda: detector.closed == 1 and inference._loaded is not None)
    assert [viewer.skipped for viewer in (first, *waiting)] == [1, 1, 1, 1]
    assert len(states) == 2, "to load it proves nothing"
    inference.submit(first, frame(2, 100), MOVING)
    until(lambda: first.seen == [2] and len(states) == 3)
    assert [state.problem for state in states] == [None, Problem.MODEL_CORRUPT, None]


# --- one camera's trouble -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 8])
def test_a_camera_that_fails_costs_the_others_nothing(
    inference: Inference, detector: GatedDetector, states: list[DetectorState], log: list[tuple[str, int]], batch: int
) -> None:
    detector.batch = batch
    occupy(inference, detector)
    before, broken, after = (Viewer(name, log) for name in ("before", "broken", "after"))
    broken.error = ValueError("one camera's own trouble")
    for viewer in (before, broken, after):
        inference.submit(viewer, frame(1, 100), MOVING)
    detector.gate.set()
    until(lambda: bool(before.looks) and bool(after.looks) and bool(broken.skipped))
    assert (before.skipped, broken.skipped, after.skipped) == (0, 1, 0)
    assert len(states) == 1
    assert not detector.closed
    broken.error = None
    inference.submit(broken, frame(2, 100), MOVING)
    until(lambda: broken.seen == [2])


@pytest.mark.parametrize("batch", [1, 8])
def test_a_picture_that_the_detector_cannot_bear_costs_only_its_camera(
    inference: Inference, detector: GatedDetector, states: list[DetectorState], log: list[tuple[str, int]], batch: int
) -> None:
    detector.batch = batch
    occupy(inference, detector)
    detector.chokes_on = 300
    before, broken, after = (Viewer(name, log) for name in ("before", "broken", "after"))
    for viewer in (before, broken, after):
        inference.submit(viewer, frame(1, 100, size=(300, 240) if viewer is broken else (640, 360)), MOVING)
    detector.gate.set()
    until(lambda: bool(before.looks) and bool(after.looks) and bool(broken.skipped))
    assert (before.skipped, broken.skipped, after.skipped) == (0, 1, 0)
    assert not broken.looks
    assert len(states) == 1
    assert not detector.closed


def test_what_cannot_be_used_costs_only_its_camera(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.batch = 8
    occupy(inference, detector)
    broken, other = Viewer("broken", log), Viewer("other", log)
    monkeypatch.setattr(broken, "complete", lambda *_: 1 / 0)
    for viewer in (broken, other):
        inference.submit(viewer, frame(1, 100), MOVING)
    detector.gate.set()
    until(lambda: bool(other.looks))


def test_a_camera_that_is_forgotten_is_not_looked_at(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]]
) -> None:
    occupy(inference, detector)
    gone, other = Viewer("gone", log), Viewer("other", log)
    for viewer in (gone, other):
        inference.submit(viewer, frame(1, 100), MOVING)
    inference.forget(gone)
    detector.gate.set()
    until(lambda: bool(other.looks))
    assert log == [("other", 1)]
    assert gone.skipped == 0


# --- together -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "runs"),
    [
        pytest.param(1, [1] * 6, id="one by one"),
        pytest.param(2, [1, 2, 2, 1], id="two at once"),
        pytest.param(16, [1, 5], id="all that wait, and none is waited for"),
    ],
)
def test_pictures_of_several_cameras_go_together(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]], batch: int, runs: list[int]
) -> None:
    detector.batch = batch
    occupy(inference, detector)
    viewers = [Viewer(f"camera {number}", log) for number in range(5)]
    for number, viewer in enumerate(viewers):
        inference.submit(viewer, frame(1, 60 + 80 * number), MOVING)
    detector.gate.set()
    until(lambda: all(viewer.looks for viewer in viewers))
    assert detector.runs == runs
    lefts = [look.tracks.tracks[0].box.left for viewer in viewers for look in viewer.looks]
    assert np.allclose(lefts, [60 + 80 * number for number in range(5)], atol=3), "each camera is given its own part"


def test_a_camera_that_does_not_fit_any_more_keeps_its_turn(
    inference: Inference, detector: GatedDetector, log: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.batch = 3
    occupy(inference, detector)
    first, wide, last = (Viewer(name, log) for name in ("one", "wide", "last"))
    original = wide.pipeline.prepare

    def three_pictures(*arguments: object, **options: object) -> Prepared:
        prepared = original(*arguments, **options)  # type: ignore[arg-type]
        prepared.regions[:], prepared.pictures[:] = prepared.regions * 3, prepared.pictures * 3
        return prepared

    monkeypatch.setattr(wide.pipeline, "prepare", three_pictures)
    for viewer in (first, wide, last):
        inference.submit(viewer, frame(1, 100), MOVING)
    detector.gate.set()
    until(lambda: bool(last.looks))
    assert detector.runs == [1, 1, 3, 1]
    assert [name for name, _ in log] == ["one", "wide", "wide", "last"]
    assert first.skipped == wide.skipped == last.skipped == 0


# --- the detector ---------------------------------------------------------------------------------------------------


def test_a_model_that_is_missing_is_used_once_it_is_there(
    states: list[DetectorState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_module, "_RETRY", 0.1)
    inference = Inference(states.append)
    inference.set_detector(DetectorConfig(model="/nowhere/later"))
    until(lambda: bool(states))
    time.sleep(0.5)
    assert [state.problem for state in states] == [Problem.MODEL_MISSING], "the same trouble is told once"
    monkeypatch.setattr(LoadedDetector, "load", lambda _: LoadedDetector(BlobDetector(), 0.5))
    until(lambda: len(states) == 2)
    assert states[1].labels == ("person", "car")
    inference.stop(PATIENCE)


def test_a_detector_that_never_returns_is_noticed(
    inference: Inference, detector: GatedDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_module, "_RUN", 0.1)
    occupy(inference, detector)
    until(lambda: inference.hung is not None)
    assert inference.hung == DetectorState(
        problem=Problem.DETECTOR_TIMEOUT, detail="a look is not done after 0.1 seconds", fatal=True
    )
    detector.gate.set()
    until(lambda: inference.hung is None)


@pytest.mark.parametrize(("tensorrt", "patient"), [(False, False), (True, True)])
def test_a_detector_that_never_loads_is_noticed_and_one_that_makes_an_engine_is_not_disturbed(
    unloaded: Inference, detector: GatedDetector, monkeypatch: pytest.MonkeyPatch, *, tensorrt: bool, patient: bool
) -> None:
    monkeypatch.setattr(inference_module, "_LOADING", 0.1)
    begun = threading.Event()

    def load(_: DetectorConfig) -> LoadedDetector:
        begun.set()
        detector.gate.wait(PATIENCE)
        return LoadedDetector(detector, 0.5)

    monkeypatch.setattr(LoadedDetector, "load", load)
    unloaded.set_detector(DetectorConfig(tensorrt=tensorrt))
    assert begun.wait(PATIENCE)
    time.sleep(0.3)
    assert (unloaded.hung is None) == patient
    detector.gate.set()
    until(lambda: unloaded._loaded is not None)
    assert unloaded.hung is None


def test_percentiles_are_of_the_last_minute(inference: Inference) -> None:
    assert inference.percentiles_ms(50, 95) == [None, None]
    now = time.monotonic()
    inference._runs.extend((now, 0.001 * (number + 1)) for number in range(100))
    inference._runs.append((now - 61, 10.0))
    assert inference.percentiles_ms(50, 95) == [pytest.approx(50.5), pytest.approx(95.05)]
