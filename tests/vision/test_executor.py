"""The parent's side of the worker, with real workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from io import BytesIO
import logging
import os
from pathlib import Path
import signal
import threading
import time

from PIL import Image
import pytest

from custom_components.nemotron_security.vision.executor import Executor
from custom_components.nemotron_security.vision.messages import (
    CameraConfig,
    CameraState,
    CameraStatus,
    DetectorConfig,
    DetectorState,
    FrameTracks,
    Heartbeat,
    Problem,
    Ready,
    Report,
    Source,
    SourceKind,
    TrackPicture,
)

from .blobs import pixels, write_video

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
MODEL = SHARED / "models" / "yolo11n_320_ncnn_model"
STREET = SHARED / "media" / "vtest.avi"
PATIENCE = 60.0
"""Seconds: what takes one on an idle machine takes many on a busy one."""


class Reports:
    """Collects what the executor reports."""

    def __init__(self) -> None:
        self.all: list[Report] = []
        self._came = asyncio.Event()

    def __call__(self, report: Report) -> None:
        self.all.append(report)
        self._came.set()

    async def until[T: Report](self, kind: type[T], test: Callable[[T], bool] = lambda _: True, *, begin: int = 0) -> T:
        """Return the first report of this kind that passes, from index `begin` on."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._came.clear()
                for report in self.all[begin:]:
                    if isinstance(report, kind) and test(report):
                        return report
                await self._came.wait()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def executor(reports: Reports) -> AsyncIterator[Executor]:
    running = Executor(reports)
    before = set(threading.enumerate())
    yield running
    await running.async_stop()
    assert running.pid is None
    assert set(threading.enumerate()) <= before
    assert not [task for task in asyncio.all_tasks() if "worker" in task.get_name()]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4")


def _camera(camera_id: str, path: Path | str, **changes: object) -> CameraConfig:
    source = Source(kind=SourceKind.FILE, location=str(path))
    return CameraConfig(camera_id=camera_id, source=source, **changes)  # type: ignore[arg-type]


def _is(camera_id: str, status: CameraStatus, problem: Problem | None = None) -> Callable[[CameraState], bool]:
    return lambda state: (state.camera_id, state.status, state.problem) == (camera_id, status, problem)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_camera_comes_online_and_stops_without_a_trace(
    executor: Executor, reports: Reports, video: Path
) -> None:
    executor.set_camera(_camera("door", video))
    await executor.async_start()
    ready = await reports.until(Ready)
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    heartbeat = await reports.until(Heartbeat, lambda beat: bool(beat.cameras) and beat.cameras[0].width > 0)
    assert ready.pid == executor.pid
    assert ready.versions["numpy"]
    assert heartbeat.rss > 10_000_000
    assert (heartbeat.cameras[0].width, heartbeat.cameras[0].height) == (640, 360)
    states = [report for report in reports.all if isinstance(report, CameraState)]
    assert [state.status for state in states] == [CameraStatus.UNKNOWN, CameraStatus.ONLINE]
    await executor.async_stop()
    assert _is_gone(ready.pid)
    count = len(reports.all)
    await asyncio.sleep(0.5)
    assert len(reports.all) == count


async def test_starting_and_stopping_twice_is_harmless(executor: Executor, reports: Reports) -> None:
    await executor.async_stop()
    await executor.async_start()
    await executor.async_start()
    await executor.async_stop()
    await executor.async_stop()
    assert executor.pid is None
    await executor.async_start()
    await reports.until(Ready)
    assert executor.pid is not None


async def test_a_stop_during_the_start_leaves_nothing(executor: Executor) -> None:
    await executor.async_start()
    while executor.pid is None:
        await asyncio.sleep(0.001)
    pid = executor.pid
    await executor.async_stop()
    assert _is_gone(pid)


@pytest.mark.skipif(not MODEL.is_dir() or not STREET.is_file(), reason="needs the weights and footage of shared/")
async def test_people_in_a_street_are_tracked_and_pictured(executor: Executor, reports: Reports) -> None:
    executor.set_detector(DetectorConfig(model=str(MODEL), threads=1))
    executor.set_camera(_camera("street", STREET))
    await executor.async_start()
    state = await reports.until(DetectorState)
    assert (state.problem, state.width, state.labels[0]) == (None, 320, "person")
    assert (state.device.startswith("cpu"), state.threads) == (True, 1)
    seen = await reports.until(FrameTracks, lambda frame: any(track.confirmed for track in frame.tracks))
    track = next(track for track in seen.tracks if track.confirmed)
    assert track.label == "person"
    assert track.track_id > 1_600_000_000_000
    assert abs(seen.captured_at - time.time()) < 30
    picture = await reports.until(TrackPicture)
    assert picture.data.startswith(b"\xff\xd8")
    assert (picture.width, picture.height) == (768, 576)


async def test_after_a_crash_the_cameras_are_down_and_come_back(
    executor: Executor, reports: Reports, video: Path
) -> None:
    executor.set_detector(DetectorConfig(model="/nowhere"))
    executor.set_camera(_camera("door", video))
    executor.set_camera(_camera("yard", video))
    await executor.async_start()
    await reports.until(CameraState, _is("yard", CameraStatus.ONLINE))
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    await reports.until(DetectorState, lambda state: state.problem is Problem.MODEL_MISSING)
    assert executor.pid is not None
    begin, killed_at = len(reports.all), time.monotonic()
    os.kill(executor.pid, signal.SIGKILL)
    for camera in ("door", "yard"):
        await reports.until(CameraState, _is(camera, CameraStatus.ERROR, Problem.WORKER_DOWN), begin=begin)
    assert time.monotonic() - killed_at < 1.0
    await reports.until(DetectorState, lambda state: state.problem is Problem.WORKER_DOWN, begin=begin)
    await reports.until(Ready, begin=begin)
    for camera in ("door", "yard"):
        await reports.until(CameraState, _is(camera, CameraStatus.ONLINE), begin=begin)
    await reports.until(DetectorState, lambda state: state.problem is Problem.MODEL_MISSING, begin=begin)


async def test_a_hung_worker_is_killed_and_replaced(
    reports: Reports, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = Executor(reports, heartbeat_timeout=5.0)
    executor.set_camera(_camera("door", video))
    await executor.async_start()
    try:
        await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
        hung = executor.pid
        assert hung is not None
        begin = len(reports.all)
        os.kill(hung, signal.SIGSTOP)
        await reports.until(CameraState, _is("door", CameraStatus.ERROR, Problem.WORKER_DOWN), begin=begin)
        assert _is_gone(hung)
        assert "gave no sign of life and was killed" in caplog.text
        await reports.until(CameraState, _is("door", CameraStatus.ONLINE), begin=begin)
        assert executor.pid not in (None, hung)
    finally:
        await executor.async_stop()


async def test_a_worker_outlives_a_blocked_event_loop(reports: Reports) -> None:
    executor = Executor(reports, heartbeat_timeout=3.0)
    await executor.async_start()
    try:
        pid = (await reports.until(Ready)).pid
        await reports.until(Heartbeat)
        begin = len(reports.all)
        time.sleep(4.0)  # noqa: ASYNC251 - what an integration must not do, and some do
        for _ in range(5):
            await reports.until(Heartbeat, begin=begin)
            begin = len(reports.all)
        assert executor.pid == pid
    finally:
        await executor.async_stop()
    assert not [task for task in asyncio.all_tasks() if "worker" in task.get_name()]


async def test_a_stopped_process_is_stopped_all_the_same(executor: Executor, reports: Reports) -> None:
    await executor.async_start()
    pid = (await reports.until(Ready)).pid
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    await executor.async_stop()
    assert time.monotonic() - begun < 6.0
    assert _is_gone(pid)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("printf 'this is not a message, it is quite long'; exec sleep 60", "talked nonsense"),
        ("echo 'no module named rtsp://user:secret@host/x' >&2; exit 3", "ended (status 3)"),
    ],
)
async def test_a_broken_worker_is_tried_again_with_growing_pauses(
    reports: Reports, tmp_path: Path, caplog: pytest.LogCaptureFixture, script: str, reason: str
) -> None:
    program, starts = tmp_path / "python", tmp_path / "starts"
    program.write_text(f"#!/bin/sh\necho x >> {starts}\n{script}\n")
    program.chmod(0o755)
    executor = Executor(reports, python=str(program))
    executor.set_camera(_camera("door", "/nowhere"))
    await executor.async_start()
    await asyncio.sleep(4.0)
    pid = executor.pid
    await executor.async_stop()
    assert pid is None or _is_gone(pid)
    assert 2 <= len(starts.read_text().split()) <= 4
    assert reason in caplog.text
    assert "secret" not in caplog.text
    assert [report for report in reports.all if isinstance(report, CameraState)]


async def test_an_interpreter_that_does_not_exist_is_no_crash(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    executor = Executor(reports, python="/nowhere/python")
    executor.set_camera(_camera("door", "/nowhere"))
    await executor.async_start()
    await reports.until(CameraState, _is("door", CameraStatus.ERROR, Problem.WORKER_DOWN))
    executor.set_camera(_camera("yard", "/nowhere"))
    await reports.until(CameraState, _is("yard", CameraStatus.ERROR, Problem.WORKER_DOWN))
    assert await executor.async_snapshot("door") is None
    executor.push_still("door", 1.0, b"x")
    await executor.async_stop()
    assert "cannot be started" in caplog.text


async def test_a_listener_that_fails_stops_nothing(video: Path, caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports()

    def listener(report: Report) -> None:
        reports(report)
        raise RuntimeError("listener")

    executor = Executor(listener)
    executor.set_camera(_camera("door", video))
    await executor.async_start()
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    await reports.until(Heartbeat)
    await executor.async_stop()
    assert "Handling a Ready of the vision worker failed" in caplog.text
    caplog.clear()


async def test_log_lines_keep_their_level_and_lose_their_secrets(
    executor: Executor, reports: Reports, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="custom_components.nemotron_security.worker")
    url = "rtsp://admin:hunter2@127.0.0.1:9/live?token=abcdef"
    executor.set_camera(CameraConfig(camera_id="gate", source=Source(kind=SourceKind.STREAM, location=url)))
    executor.set_camera(_camera("door", video))
    await executor.async_start()
    state = await reports.until(CameraState, lambda state: state.problem is not None)
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    await reports.until(Heartbeat)
    assert (state.camera_id, state.problem) == ("gate", Problem.SOURCE_UNREACHABLE)
    records = [
        record for record in caplog.records if record.name == "custom_components.nemotron_security.worker.cameras"
    ]
    assert {record.levelno for record in records} == {logging.DEBUG}
    assert "Camera door is online" in caplog.text
    for text in (caplog.text, repr(reports.all)):
        assert "hunter2" not in text
        assert "abcdef" not in text


async def test_the_worker_is_given_no_secrets(
    executor: Executor, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISOR_TOKEN", "hunter2")
    await executor.async_start()
    pid = (await reports.until(Ready)).pid
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"hunter2" not in environment


async def test_a_broken_camera_costs_the_other_nothing(
    executor: Executor, reports: Reports, video: Path, tmp_path: Path
) -> None:
    corrupt = tmp_path / "corrupt.mp4"
    corrupt.write_bytes(video.read_bytes()[:3000])
    executor.set_camera(_camera("missing", tmp_path / "none.mp4"))
    executor.set_camera(_camera("corrupt", corrupt))
    executor.set_camera(_camera("door", video))
    await executor.async_start()
    await reports.until(CameraState, _is("missing", CameraStatus.ERROR, Problem.FILE_MISSING))
    await reports.until(CameraState, _is("corrupt", CameraStatus.ERROR, Problem.SOURCE_CORRUPT))
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    assert await executor.async_snapshot("missing") is None
    # The cause goes, and the camera comes back by itself.
    (tmp_path / "none.mp4").write_bytes(video.read_bytes())
    await reports.until(CameraState, _is("missing", CameraStatus.ONLINE))
    assert not [
        report
        for report in reports.all
        if isinstance(report, CameraState) and report.camera_id == "door" and report.problem is not None
    ]


async def test_snapshots_follow_one_another(executor: Executor, reports: Reports, video: Path) -> None:
    executor.set_camera(_camera("door", video))
    assert await executor.async_snapshot("door") is None
    await executor.async_start()
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    first = await executor.async_snapshot("door")
    assert first is not None
    second = await executor.async_snapshot("door", after=first.frame_id, max_width=160)
    assert second is not None
    assert second.frame_id > first.frame_id
    assert len(second.data) < len(first.data)
    assert second.data.startswith(b"\xff\xd8")
    assert await executor.async_snapshot("unknown") is None
    # An id of an earlier life of the worker is not waited for.
    assert await executor.async_snapshot("door", after=10**9) is not None


async def test_pending_snapshots_end_with_the_worker(executor: Executor, reports: Reports) -> None:
    executor.set_camera(CameraConfig(camera_id="stills", source=Source(kind=SourceKind.STILLS)))
    await executor.async_start()
    pid = (await reports.until(Ready)).pid
    pending = asyncio.create_task(executor.async_snapshot("stills", after=1))
    await asyncio.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(3):
        assert await pending is None


async def test_pushed_stills_are_watched(executor: Executor, reports: Reports) -> None:
    still = BytesIO()
    Image.fromarray(pixels(1, 100)).save(still, "JPEG")
    executor.set_camera(CameraConfig(camera_id="stills", source=Source(kind=SourceKind.STILLS)))
    await executor.async_start()
    await reports.until(CameraState, _is("stills", CameraStatus.UNKNOWN))
    for number in range(100):
        executor.push_still("stills", 1000.0 + number, still.getvalue())
        if any(_is("stills", CameraStatus.ONLINE)(state) for state in reports.all if isinstance(state, CameraState)):
            break
        await asyncio.sleep(0.1)
    snapshot = await executor.async_snapshot("stills")
    assert snapshot is not None
    assert snapshot.captured_at is not None
    assert 1000.0 <= snapshot.captured_at <= 1100.0


async def test_a_file_that_loops_for_ever_costs_no_more_memory(
    executor: Executor, reports: Reports, tmp_path: Path
) -> None:
    executor.set_camera(_camera("door", write_video(tmp_path / "short.mp4", seconds=0.3)))
    await executor.async_start()
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    async with asyncio.timeout(PATIENCE):
        while len(beats := [report for report in reports.all if isinstance(report, Heartbeat)]) < 11:
            await asyncio.sleep(0.1)
    # Opened anew about three times a second, at four megabytes each.
    assert beats[10].rss - beats[3].rss < 30_000_000


async def test_changes_are_live_and_the_source_stays_open(executor: Executor, reports: Reports, video: Path) -> None:
    executor.set_camera(_camera("door", video, detect=False))
    await executor.async_start()
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    begin = len(reports.all)
    executor.set_camera(_camera("door", video, fps=2.0))
    await reports.until(Heartbeat, lambda beat: 0 < beat.cameras[0].fps < 3.5, begin=begin)
    assert not [report for report in reports.all[begin:] if isinstance(report, CameraState)]
    executor.remove_camera("door")
    await reports.until(Heartbeat, lambda beat: not beat.cameras, begin=begin)
    executor.set_camera(_camera("door", video))
    await reports.until(CameraState, _is("door", CameraStatus.UNKNOWN), begin=begin)


async def test_a_worker_that_reads_nothing_costs_bounded_memory(
    reports: Reports, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    executor = Executor(reports, python=str(program))
    executor.set_camera(CameraConfig(camera_id="stills", source=Source(kind=SourceKind.STILLS)))
    await executor.async_start()
    while executor.pid is None:
        await asyncio.sleep(0.01)
    for number in range(200):
        executor.push_still("stills", float(number), bytes(100_000))
    assert executor._backlog() < 3_000_000
    await executor.async_stop()
