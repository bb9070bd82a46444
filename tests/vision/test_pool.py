"""Several workers as one: real processes where it matters, and what they say, word by word."""

import asyncio
from collections.abc import AsyncIterator, Callable
import os
from pathlib import Path
import signal

import numpy as np
import pytest

from custom_components.nemotron_security.vision.messages import (
    MAX_WORKERS,
    CameraConfig,
    CameraReport,
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
    WorkerLost,
)
from custom_components.nemotron_security.vision.pool import WorkerPool
from custom_components.nemotron_security.vision.worker import track_ids

from .blobs import write_video
from .test_executor import Reports

DEMO_MODEL = Path(__file__).resolve().parents[2] / "demo" / "detector" / "model"


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4")


@pytest.fixture
async def pool(reports: Reports) -> AsyncIterator[WorkerPool]:
    running = WorkerPool(reports, workers=2)
    yield running
    await running.async_stop()
    assert running.pids == ()
    assert not [task for task in asyncio.all_tasks() if "worker" in task.get_name()]


def _camera(camera_id: str, path: Path | str = "/nowhere.mp4") -> CameraConfig:
    return CameraConfig(camera_id=camera_id, source=Source(kind=SourceKind.FILE, location=str(path)))


def _is(camera_id: str, status: CameraStatus, problem: Problem | None = None) -> Callable[[CameraState], bool]:
    return lambda state: (state.camera_id, state.status, state.problem) == (camera_id, status, problem)


def _shows(camera_id: str) -> Callable[[FrameTracks], bool]:
    return lambda frame: frame.camera_id == camera_id and bool(frame.tracks)


# --- real workers ---------------------------------------------------------------------------------------------------


async def test_a_dead_worker_costs_only_its_own_cameras(pool: WorkerPool, reports: Reports, video: Path) -> None:
    pool.set_detector(DetectorConfig(model=str(DEMO_MODEL)))
    for name in ("door", "yard", "gate"):
        pool.set_camera(_camera(name, video))
    await pool.async_start()
    for name in ("door", "yard", "gate"):
        await reports.until(CameraState, _is(name, CameraStatus.ONLINE))
    running = await reports.until(DetectorState, lambda state: state.problem is None)
    assert running.width == 320
    assert len(pool.pids) == 2
    assert [type(report) for report in reports.all].count(Ready) == 1
    whole = await reports.until(Heartbeat, lambda beat: len(beat.cameras) == 3)
    assert {report.camera_id for report in whole.cameras} == {"door", "yard", "gate"}
    assert whole.rss > 2 * 30_000_000

    yard = pool.worker_of("yard")
    assert yard is not None
    assert yard.pid is not None
    assert yard is not pool.worker_of("door")
    assert pool.worker_of("door") is pool.worker_of("gate")
    begin = len(reports.all)
    os.kill(yard.pid, signal.SIGKILL)
    lost = await reports.until(WorkerLost, begin=begin)
    assert lost.camera_ids == ("yard",)
    down = await reports.until(DetectorState, begin=begin)
    assert (down.problem, down.camera_ids) == (Problem.WORKER_DOWN, ("yard",))
    await reports.until(CameraState, _is("yard", CameraStatus.ERROR, Problem.WORKER_DOWN), begin=begin)
    await reports.until(
        Heartbeat,
        lambda beat: {"door", "gate"} <= {seen.camera_id for seen in beat.cameras},
        begin=reports.all.index(lost),
    )
    snapshot = await pool.async_snapshot("door")
    assert snapshot is not None
    await reports.until(Ready, begin=begin)
    await reports.until(DetectorState, lambda state: state.problem is None, begin=begin)
    await reports.until(CameraState, _is("yard", CameraStatus.ONLINE), begin=begin)
    await reports.until(Heartbeat, lambda beat: len(beat.cameras) == 3, begin=len(reports.all))
    assert pool.worker_of("yard") is yard
    others = [
        report for report in reports.all[begin:] if isinstance(report, CameraState) and report.camera_id != "yard"
    ]
    assert others == []


async def test_a_worker_starts_with_its_first_camera(pool: WorkerPool, reports: Reports, video: Path) -> None:
    pool.set_detector(DetectorConfig(model=str(DEMO_MODEL)))
    await pool.async_start()
    await reports.until(Ready)
    await reports.until(DetectorState, lambda state: state.problem is None)
    pool.set_camera(_camera("door", video))
    await reports.until(CameraState, _is("door", CameraStatus.ONLINE))
    assert len(set(pool.pids)) == 1
    begin = len(reports.all)
    pool.set_camera(_camera("yard", video))
    await reports.until(CameraState, _is("yard", CameraStatus.ONLINE), begin=begin)
    await reports.until(DetectorState, lambda state: state.problem is None, begin=begin)
    assert len(set(pool.pids)) == 2
    said = [(report.problem, report.camera_ids) for report in reports.all[begin:] if isinstance(report, DetectorState)]
    assert said == [(Problem.WORKER_DOWN, ("yard",)), (None, ())], "until then, not every camera is looked at"
    assert not [report for report in reports.all[begin:] if isinstance(report, Ready | WorkerLost)]


@pytest.mark.parametrize("workers", [1, 3])
async def test_stopping_leaves_nothing_and_starting_again_works(reports: Reports, video: Path, workers: int) -> None:
    pool = WorkerPool(reports, workers=workers)
    for number in range(4):
        pool.set_camera(_camera(f"camera {number}", video))
    for _ in range(2):
        begin = len(reports.all)
        await pool.async_start()
        for number in range(4):
            await reports.until(CameraState, _is(f"camera {number}", CameraStatus.ONLINE), begin=begin)
        pids = pool.pids
        assert len(pids) == workers
        await pool.async_stop()
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_no_track_of_two_workers_has_the_same_id(pool: WorkerPool, reports: Reports) -> None:
    from demo.clips import clip  # noqa: PLC0415  # renders the scene, once

    video = await asyncio.get_running_loop().run_in_executor(None, clip, "pedestrians")
    pool.set_detector(DetectorConfig(model=str(DEMO_MODEL)))
    for name in ("door", "yard"):
        pool.set_camera(_camera(name, video))
    await pool.async_start()
    lanes = {}
    for name in ("door", "yard"):
        frame = await reports.until(FrameTracks, _shows(name))
        lanes[name] = {track.track_id % MAX_WORKERS for track in frame.tracks}
    assert lanes == {"door": {0}, "yard": {1}}


# --- whose camera it is ---------------------------------------------------------------------------------------------


def test_cameras_go_where_the_fewest_are_and_stay_there() -> None:
    pool = WorkerPool(lambda _: None, workers=3)

    def spread() -> list[list[str]]:
        return [sorted(member.camera_ids) for member in pool._members]

    for name in "abcdefg":
        pool.set_camera(_camera(name))
    assert spread() == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    for name in "be":
        pool.remove_camera(name)
    assert spread() == [["a", "d", "g"], [], ["c", "f"]], "nobody moves for it"
    pool.set_camera(_camera("d", "/another.mp4"))
    pool.set_camera(_camera("h"))
    assert spread() == [["a", "d", "g"], ["h"], ["c", "f"]]
    pool.remove_camera("unknown")
    assert set(pool._cameras) == set("adghcf")


@pytest.mark.parametrize(("wanted", "given"), [(0, 1), (1, 1), (4, 4), (9, MAX_WORKERS)])
def test_how_many_workers_there_are(wanted: int, given: int) -> None:
    assert len(WorkerPool(lambda _: None, workers=wanted)._members) == given


# --- what is said ---------------------------------------------------------------------------------------------------


READY = Ready(pid=1, versions={})


class Said:
    """A pool whose workers' part the test speaks."""

    def __init__(self, workers: int = 2) -> None:
        self.reports: list[Report] = []
        self.pool = WorkerPool(self.reports.append, workers=workers)
        for number, name in enumerate("abcd"[:workers]):
            self.pool.set_camera(_camera(name))
            self.pool._members[number].started = True

    def by(self, number: int, *reports: Report) -> list[Report]:
        """Return what is passed on of what a worker says."""
        self.reports.clear()
        for report in reports:
            self.pool._handle(number, report)
        return list(self.reports)


def test_one_worker_is_passed_on_as_it_is() -> None:
    said = Said(1)
    words: list[Report] = [
        READY,
        _beat(1.0),
        WorkerLost(failed_starts=2),
        DetectorState(problem=Problem.WORKER_DOWN),
        _beat(2.0),
    ]
    assert said.by(0, *words) == words


def test_ready_is_said_when_all_are() -> None:
    said = Said()
    assert said.by(0, READY) == [READY]
    assert said.by(1, READY) == [], "its first start is no second one"
    assert said.by(0, WorkerLost(failed_starts=0)) == [WorkerLost(failed_starts=0, camera_ids=("a",))]
    assert said.by(1, WorkerLost(failed_starts=3)) == [WorkerLost(failed_starts=3, camera_ids=("b",))]
    assert said.by(0, READY) == []
    assert said.by(0, WorkerLost(failed_starts=0)) == [WorkerLost(failed_starts=3, camera_ids=("a",))], (
        "the worst of them counts"
    )
    assert said.by(0, READY) == []
    assert said.by(1, READY) == [READY]


def test_the_detector_runs_when_it_does_for_every_camera() -> None:
    said = Said(3)
    running, corrupt = DetectorState(problem=None, width=320), DetectorState(problem=Problem.MODEL_CORRUPT)
    down = DetectorState(problem=Problem.WORKER_DOWN)
    said.pool.set_detector(DetectorConfig(model="x"))
    assert said.by(0, running) == []
    assert said.by(1, running) == []
    assert said.by(2, running) == [DetectorState(problem=None, width=320, camera_ids=())]
    assert said.by(1, corrupt) == [DetectorState(problem=Problem.MODEL_CORRUPT, camera_ids=("b",))]
    assert said.by(2, down) == [DetectorState(problem=Problem.MODEL_CORRUPT, camera_ids=("c",))]
    assert said.by(1, running) == [DetectorState(problem=Problem.WORKER_DOWN, camera_ids=())]
    said.reports.clear()
    said.pool.remove_camera("c")
    assert said.reports == [DetectorState(problem=None, width=320, camera_ids=())], "nobody waits for that worker"
    said.pool.set_detector(DetectorConfig(model="y"))
    assert said.by(0, running) == []
    assert said.by(1, running) == [DetectorState(problem=None, width=320, camera_ids=())]


def _beat(at: float, *runs: float, camera: str = "a", rss: int = 100, skipped: int = 0) -> Heartbeat:
    report = CameraReport(camera_id=camera, fps=5.0, inference_fps=5.0, last_frame_at=at, skipped=skipped)
    return Heartbeat(at=at, cameras=(report,), inference_ms_p50=1.0, inference_ms_p95=1.0, rss=rss, runs_ms=runs)


def test_figures_are_those_of_all_workers() -> None:
    said = Said()
    fast, slow = [float(run) for run in range(1, 41)], [100.0] * 5
    assert said.by(0, _beat(1.0, *fast)) == []
    (joined,) = said.by(1, _beat(1.5, *slow, camera="b", rss=50, skipped=2))
    assert isinstance(joined, Heartbeat)
    assert (joined.at, joined.rss) == (1.5, 150)
    assert [(report.camera_id, report.skipped) for report in joined.cameras] == [("a", 0), ("b", 2)]
    assert joined.inference_ms_p50 == pytest.approx(np.percentile([*fast, *slow], 50))
    assert joined.inference_ms_p95 == pytest.approx(np.percentile([*fast, *slow], 95))
    (later,) = said.by(0, _beat(2.0)) + said.by(1, _beat(2.5, camera="b"))
    assert isinstance(later, Heartbeat)
    assert later.inference_ms_p50 == joined.inference_ms_p50, "they look back on a minute"


def test_each_beat_is_passed_on_once_however_they_come() -> None:
    said = Said()
    passed = [*said.by(0, _beat(1.0), _beat(2.0), _beat(2.9)), *said.by(1, _beat(1.5, camera="b"))]
    passed += said.by(1, _beat(2.5, camera="b"), _beat(3.5, camera="b"))
    assert [[report.camera_id for report in beat.cameras] for beat in passed if isinstance(beat, Heartbeat)] == [
        ["a", "b"]
    ] * 3


def test_a_silent_worker_is_not_waited_for() -> None:
    said = Said()
    passed = [beat for number in range(6) for beat in said.by(0, _beat(float(number)))]
    assert 2 <= len(passed) <= 4
    said.by(1, WorkerLost(failed_starts=0))
    (beat,) = said.by(0, _beat(7.0, 5.0))[-1:]
    assert isinstance(beat, Heartbeat)
    assert beat.inference_ms_p50 == 5.0


# --- ids ------------------------------------------------------------------------------------------------------------


def test_ids_of_workers_never_meet() -> None:
    starts = [(number, 1_800_000_000.0 + offset) for number in range(MAX_WORKERS) for offset in (0.0, 0.0, 0.001, 0.7)]
    given: dict[int, int] = {}
    for number, at in starts:
        ids = track_ids(number, at)
        for _ in range(1000):
            assert given.setdefault(next(ids), number) == number
    assert max(given) < 2**53, "JavaScript counts no further"


def test_ids_of_a_worker_that_starts_again_go_on() -> None:
    before, after = track_ids(1, 1000.0), track_ids(1, 1010.0)
    assert max(next(before) for _ in range(2000)) < next(after)
