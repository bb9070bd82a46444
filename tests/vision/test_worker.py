"""The worker process and its parts."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, takewhile
import logging
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest

from custom_components.nemotron_security.vision import cameras as cameras_module, wire
from custom_components.nemotron_security.vision.album import Album
from custom_components.nemotron_security.vision.cameras import Camera
from custom_components.nemotron_security.vision.inference import Inference
from custom_components.nemotron_security.vision.messages import (
    CameraConfig,
    CameraState,
    CameraStatus,
    DetectorConfig,
    DetectorState,
    FrameTracks,
    Heartbeat,
    LogLine,
    Message,
    MotionState,
    Problem,
    PushStill,
    Ready,
    Report,
    Shutdown,
    Source,
    SourceKind,
    StartCamera,
)
from custom_components.nemotron_security.vision.outbox import LogForwarder, Outbox
from custom_components.nemotron_security.vision.pictures import encode_jpeg
from custom_components.nemotron_security.vision.pipeline import LoadedDetector
from custom_components.nemotron_security.vision.sources import StillsSource

from .blobs import BlobDetector, frame, write_video

VISION = Path(__file__).resolve().parents[2] / "custom_components" / "nemotron_security" / "vision"
PATIENCE = 60.0


# --- the process ----------------------------------------------------------------------------------------------------


type Worker = subprocess.Popen[bytes]


@pytest.fixture
def worker() -> Iterator[Worker]:
    command = [sys.executable, "-I", str(VISION), "--worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


def _read(process: Worker) -> Message | None:
    assert process.stdout is not None
    return wire.read(process.stdout)  # type: ignore[arg-type]


def _send(process: Worker, data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def test_the_first_message_is_ready_and_heartbeats_follow(worker: Worker) -> None:
    ready = _read(worker)
    assert isinstance(ready, Ready)
    assert ready.pid == worker.pid
    beats = [_read(worker) for _ in range(2)]
    assert all(isinstance(beat, Heartbeat) and beat.cameras == () and beat.inference_ms_p50 is None for beat in beats)
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) > os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize("busy", [False, True])
def test_it_leaves_when_its_parent_is_gone(worker: Worker, tmp_path: Path, busy: bool) -> None:  # noqa: FBT001
    assert isinstance(_read(worker), Ready)
    if busy:
        video = write_video(tmp_path / "walk.mp4", seconds=1.0)
        source = Source(kind=SourceKind.FILE, location=str(video))
        _send(worker, wire.encode(StartCamera(config=CameraConfig(camera_id="door", source=source))))
        while not (isinstance(report := _read(worker), CameraState) and report.status is CameraStatus.ONLINE):
            assert report is not None
    assert worker.stdin is not None
    worker.stdin.close()
    begun = time.monotonic()
    assert worker.wait(PATIENCE) == 0
    assert time.monotonic() - begun < 4.0


def test_it_leaves_when_its_parent_is_killed_though_the_pipe_stays_open() -> None:
    """A shell between us is the parent, so that the worker never sees the end of its commands."""
    command = ["/bin/sh", "-c", '"$@"; exit 0', "sh", sys.executable, "-I", str(VISION), "--worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        ready = _read(parent)
        assert isinstance(ready, Ready)
        assert ready.pid != parent.pid
        parent.kill()
        said = list(takewhile(lambda message: message is not None, (_read(parent) for _ in range(6))))
    assert len(said) < 6


@pytest.mark.parametrize("end", ["shutdown", "sigterm"])
def test_it_ends_when_told(worker: Worker, end: str) -> None:
    assert isinstance(_read(worker), Ready)
    if end == "shutdown":
        _send(worker, wire.encode(Shutdown()))
    else:
        worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0


def test_ctrl_c_is_not_for_the_worker(worker: Worker) -> None:
    assert isinstance(_read(worker), Ready)
    worker.send_signal(signal.SIGINT)
    assert isinstance(_read(worker), Heartbeat)
    assert worker.poll() is None


def test_garbage_on_the_pipe_ends_it_with_a_word(worker: Worker) -> None:
    assert isinstance(_read(worker), Ready)
    _send(worker, b"\x05\x00\x00\x00\x00\x00\x00\x00wrong" + bytes(100))
    lines = []
    while (report := _read(worker)) is not None:
        lines += [report.message] if isinstance(report, LogLine) else []
    assert worker.wait(PATIENCE) == 0
    assert any("cannot be understood" in line for line in lines)


def test_packages_of_the_parent_are_found_without_a_site() -> None:
    """Home Assistant may keep requirements where an isolated interpreter does not look."""
    folders = [f"--packages={entry}" for entry in sys.path if entry.endswith("site-packages")]
    command = [sys.executable, "-I", "-S", str(VISION), "--worker"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=PATIENCE, check=False)
    assert b"No module named" in done.stderr
    with subprocess.Popen([*command, *folders], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert isinstance(_read(process), Ready)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_what_is_printed_never_gets_among_the_messages() -> None:
    program = (
        "import os, runpy, sys, types\n"
        f"runpy.run_path({str(VISION / '__main__.py')!r}, run_name='main')['_register']()\n"
        "from vision.outbox import claim_stdout\n"
        "reports = claim_stdout()\n"
        "print('a stray print', flush=True)\n"
        "os.write(1, b'and one of a library in C')\n"
        "reports.write(b'a message')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout == b"a message"
    assert done.stderr == b"a stray print\nand one of a library in C"


# --- the outgoing queue ---------------------------------------------------------------------------------------------


def _tracks(number: int) -> FrameTracks:
    return FrameTracks(camera_id="c" * 1000, frame_id=number, captured_at=1.0, width=1, height=1, tracks=())


def test_a_parent_that_does_not_read_costs_bounded_memory() -> None:
    reader, writer = os.pipe()
    outbox = Outbox(os.fdopen(writer, "wb", buffering=0), soft_limit=50_000, hard_limit=200_000)
    taken = [outbox.put(_tracks(number), droppable=True) for number in range(500)]
    assert 30 < sum(taken) < 300
    blocked = threading.Thread(target=lambda: [outbox.put(_tracks(1000 + number)) for number in range(500)])
    blocked.start()
    blocked.join(0.3)
    assert blocked.is_alive(), "what must not be lost waits"
    assert outbox._size <= 210_000
    with os.fdopen(reader, "rb") as stream:
        kept = [wire.read(stream) for _ in range(sum(taken) + 500)]
    blocked.join(PATIENCE)
    ids = [report.frame_id for report in kept if isinstance(report, FrameTracks)]
    assert ids[-500:] == list(range(1000, 1500))
    assert ids == sorted(ids)
    outbox.close(PATIENCE)


def test_closing_frees_whoever_waits_and_sends_what_is_left() -> None:
    reader, writer = os.pipe()
    outbox = Outbox(os.fdopen(writer, "wb", buffering=0))
    outbox.put(_tracks(1))
    outbox.close(5.0)
    assert not outbox.put(_tracks(2))
    os.set_blocking(reader, False)
    with os.fdopen(reader, "rb", buffering=0) as stream:
        assert wire.read(stream) == _tracks(1)


def test_a_closed_pipe_is_no_crash() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    outbox = Outbox(os.fdopen(writer, "wb", buffering=0), hard_limit=0)
    outbox.put(_tracks(1))
    outbox._thread.join(PATIENCE)
    assert not outbox.put(_tracks(2))


def test_log_records_travel_redacted_with_their_level_and_trace() -> None:
    lines: list[Report] = []

    class Box(Outbox):
        def __init__(self) -> None:
            """No thread."""

        def put(self, report: Report, *, droppable: bool = False) -> bool:
            lines.append(report)
            return droppable

    logger = logging.getLogger("test.forward")
    logger.handlers, logger.propagate = [LogForwarder(Box())], False
    try:
        raise ValueError("http://me:hunter2@host/?key=1")  # noqa: TRY301
    except ValueError:
        logger.exception("Opening %s failed", "rtsp://me:hunter2@host/x")
    (line,) = lines
    assert isinstance(line, LogLine)
    assert (line.level, line.logger) == (logging.ERROR, "test.forward")
    assert "Traceback" in line.message
    assert "rtsp://***@host/x" in line.message
    assert "hunter2" not in line.message


def _until(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoadedDetector, "load", lambda _: LoadedDetector(BlobDetector(), 0.5))


@pytest.fixture
def states() -> list[DetectorState]:
    return []


@pytest.fixture
def inference(states: list[DetectorState]) -> Iterator[Inference]:
    running = Inference(states.append)
    yield running
    running.stop(PATIENCE)
    assert not running._thread.is_alive()


# --- a camera with its threads ----------------------------------------------------------------------------------------


class _Listener(Outbox):
    """Keeps the reports instead of writing them."""

    def __init__(self) -> None:
        """No thread."""
        self.reports: list[tuple[float, Report]] = []

    def put(self, report: Report, *, droppable: bool = False) -> bool:
        self.reports.append((time.monotonic(), report))
        return True

    def of[T: Report](self, kind: type[T]) -> list[T]:
        return [report for _, report in self.reports if isinstance(report, kind)]


@pytest.mark.usefixtures("blobs")
def test_a_camera_that_ends_takes_its_motion_and_tracks_with_it(
    inference: Inference, states: list[DetectorState], tmp_path: Path
) -> None:
    inference.set_detector(DetectorConfig())
    _until(lambda: bool(states))
    listener = _Listener()
    video = write_video(tmp_path / "walk.mp4", seconds=3.0)
    source = Source(kind=SourceKind.FILE, location=str(video), loop=False)
    album = Album()
    camera = Camera(
        CameraConfig(camera_id="door", source=source),
        outbox=listener,
        inference=inference,
        album=album,
        track_ids=count(1),
    )
    _until(lambda: any(state.problem is Problem.SOURCE_ENDED for state in listener.of(CameraState)))
    camera.join(PATIENCE)
    assert not camera._thread.is_alive(), "a file that is played once is not opened again"
    assert [state.status for state in listener.of(CameraState)] == ["unknown", "online", "offline"]
    assert [state.active for state in listener.of(MotionState)] == [True, False]
    frames = listener.of(FrameTracks)
    assert any(track.confirmed for report in frames for track in report.tracks)
    assert frames[-1].tracks == ()
    assert frames[-1].ended
    report = camera.report()
    assert report.last_frame_at is None
    camera.stop()
    album.stop(PATIENCE)


class _Pushed:
    """A camera of pushed stills."""

    def __init__(self, inference: Inference) -> None:
        self.listener = _Listener()
        self.album = Album()
        self.camera = Camera(
            CameraConfig(camera_id="door", source=Source(kind=SourceKind.STILLS)),
            outbox=self.listener,
            inference=inference,
            album=self.album,
            track_ids=count(1),
        )

    @property
    def statuses(self) -> list[str]:
        return [state.status for state in self.listener.of(CameraState)]

    def push_until(self, data: bytes, test: Callable[[], bool]) -> None:
        """Push the same still again and again: one at a time is kept, and none while the source is opened again."""

        def pushed() -> bool:
            self.camera.push(PushStill(camera_id="door", captured_at=time.time(), data=data))
            return test()

        _until(pushed)

    def stop(self) -> None:
        self.camera.stop()
        self.camera.join(PATIENCE)
        self.album.stop(PATIENCE)


def test_a_source_that_soon_comes_back_was_never_offline(inference: Inference, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = _Pushed(inference)
    still = encode_jpeg(frame(1, None))
    pushed.push_until(still, lambda: CameraStatus.ONLINE in pushed.statuses)
    assert pushed.camera.report().reconnects == 0
    pushed.push_until(b"no picture", lambda: pushed.camera._trouble is not None)
    reports = [pushed.camera.report()]
    pushed.push_until(still, lambda: pushed.camera._trouble is None)
    reports.append(pushed.camera.report())
    assert pushed.statuses == ["unknown", "online"]
    assert [report.reconnects for report in reports] == [0, 1]
    assert [report.last_frame_at is not None for report in reports] == [True, True], (
        "the last frame is still the newest"
    )

    monkeypatch.setattr(cameras_module, "_SILENCE", 0.5)
    pushed.push_until(b"no picture", lambda: bool(pushed.camera.report().last_frame_at is None))
    assert pushed.statuses == ["unknown", "online", "error"]
    assert pushed.listener.of(CameraState)[-1].problem is Problem.SOURCE_CORRUPT
    pushed.push_until(still, lambda: pushed.statuses[-1] == "online")
    assert pushed.camera.report().reconnects == 1
    pushed.stop()


def test_a_source_that_stalls_is_offline_after_its_silence(
    inference: Inference, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = partial(StillsSource, stall_timeout=0.3)
    monkeypatch.setattr("custom_components.nemotron_security.vision.sources.StillsSource", opened)
    monkeypatch.setattr(cameras_module, "_SILENCE", 0.6)
    pushed = _Pushed(inference)
    pushed.push_until(encode_jpeg(frame(1, None)), lambda: CameraStatus.ONLINE in pushed.statuses)
    reports = [pushed.camera.report()]

    def told() -> bool:
        reports.append(pushed.camera.report())
        return len(pushed.statuses) > 2

    _until(told)
    assert pushed.statuses == ["unknown", "online", "offline"]
    assert pushed.listener.of(CameraState)[-1].problem is Problem.SOURCE_STALLED
    assert sum(report.stalls for report in reports) == 1, "an open that shows nothing is no second stall"
    pushed.stop()


def test_a_busy_detector_does_not_hold_up_the_heartbeat(inference: Inference, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = _Pushed(inference)
    still = encode_jpeg(frame(1, None))
    pushed.push_until(still, lambda: CameraStatus.ONLINE in pushed.statuses)
    monkeypatch.setattr(cameras_module, "_SILENCE", 0.2)
    with pushed.camera._speaking:  # as a look that takes long holds it
        _until(lambda: pushed.camera.report().last_frame_at is None)
        assert pushed.statuses == ["unknown", "online", "offline"], "without a failure of the source, too"
        assert pushed.listener.of(CameraState)[-1].problem is Problem.SOURCE_STALLED
    monkeypatch.setattr(cameras_module, "_SILENCE", 20.0)
    pushed.push_until(still, lambda: pushed.statuses[-1] == "online")
    _until(lambda: pushed.camera.report().last_frame_at is not None)
    pushed.stop()


@pytest.mark.usefixtures("blobs")
def test_tracks_do_not_outlast_a_gap(
    inference: Inference, states: list[DetectorState], monkeypatch: pytest.MonkeyPatch
) -> None:
    inference.set_detector(DetectorConfig())
    _until(lambda: bool(states))
    pushed = _Pushed(inference)
    numbers = count(1)

    def seen() -> bool:
        return any(track.confirmed for report in pushed.listener.of(FrameTracks) for track in report.tracks)

    def step(test: Callable[[], bool]) -> bool:
        number = next(numbers)
        pushed.camera.push(
            PushStill(camera_id="door", captured_at=time.time(), data=encode_jpeg(frame(number, 20 + number % 30 * 6)))
        )
        time.sleep(0.05)
        return test()

    _until(lambda: step(seen))
    monkeypatch.setattr(cameras_module, "_GAP", 0.1)
    pushed.push_until(b"no picture", lambda: pushed.camera._trouble is not None)
    before = {track.track_id for report in pushed.listener.of(FrameTracks) for track in report.tracks}
    time.sleep(0.2)
    _until(lambda: step(lambda: pushed.camera._trouble is None))
    ended = {track.track_id for report in pushed.listener.of(FrameTracks) for track in report.ended}
    live = pushed.listener.of(FrameTracks)[-1].tracks
    assert before & ended
    assert not {track.track_id for track in live} & ended
    assert pushed.statuses == ["unknown", "online"]
    pushed.stop()
