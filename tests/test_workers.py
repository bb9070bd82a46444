"""Several workers in a real Home Assistant, with real processes."""

import os
from pathlib import Path
import signal

from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security.health import BEATS
from custom_components.nemotron_security.models import CameraStatus, Problem
from custom_components.nemotron_security.payloads import PartState
from custom_components.nemotron_security.vision.messages import (
    CameraReport,
    DetectorState,
    Heartbeat,
    Ready,
    WorkerLost,
)

from .house import CAMERA, async_report, async_set_up, async_until, frame, make_entry, online, person
from .vision.blobs import write_video

MODEL = Path(__file__).resolve().parents[1] / "demo" / "detector" / "model"
OTHER = f"{CAMERA[:-1]}1"


def entry_of(video: Path, workers: float) -> MockConfigEntry:
    cameras = [{"source": "file", "file_path": str(video), "labels": ["person"]} for _ in range(2)]
    cameras[1]["file_path"] = str(video.with_name("other.mp4"))
    return make_entry(*cameras, options={"detector": {"plugin": "ncnn", "model": str(MODEL)}, "workers": workers})


async def test_two_workers(hass: HomeAssistant, tmp_path: Path) -> None:
    video = write_video(tmp_path / "walk.mp4")
    write_video(tmp_path / "other.mp4")
    entry = await async_set_up(hass, entry_of(video, 2.0))
    runtime = entry.runtime_data
    cameras = runtime.cameras

    def status(camera_id: str) -> CameraStatus:
        return cameras[camera_id].data.health.status  # type: ignore[no-any-return]

    await async_until(lambda: {status(CAMERA), status(OTHER)} == {CameraStatus.ONLINE})
    await async_until(lambda: runtime.announcer.pipeline.detector is PartState.RUNNING)
    await async_until(lambda: all(camera.data.counts is not None for camera in cameras.values()))
    first, second = runtime.executor.pids
    os.kill(second, signal.SIGKILL)
    await async_until(lambda: status(OTHER) is CameraStatus.ERROR)
    assert cameras[OTHER].data.health.problem is Problem.WORKER_DOWN
    assert cameras[OTHER].data.counts is None
    assert runtime.announcer.pipeline.worker is PartState.STARTING
    assert status(CAMERA) is CameraStatus.ONLINE
    assert cameras[CAMERA].data.counts is not None, "what the other worker sees is known all the time"
    await async_until(lambda: status(OTHER) is CameraStatus.ONLINE)
    await async_until(lambda: runtime.announcer.pipeline.worker is PartState.RUNNING)
    await async_until(lambda: runtime.announcer.pipeline.detector is PartState.RUNNING)
    assert runtime.executor.pids[0] == first

    hass.config_entries.async_update_entry(entry, options={**entry.options, "workers": 1})
    await async_until(lambda: getattr(entry, "runtime_data", runtime) is not runtime)
    await async_until(lambda: len(entry.runtime_data.executor.pids) == 1)
    assert runtime.executor.pids == ()


async def test_a_lost_worker_leaves_the_figures_of_other_cameras(hass: HomeAssistant, silent_worker: None) -> None:
    entry = await async_set_up(hass, entry_of(Path("/absent/a.mp4"), 2))
    runtime = entry.runtime_data

    def beat(*camera_ids: str) -> Heartbeat:
        reports = [CameraReport(camera_id=name, fps=5.0, inference_fps=1.0, last_frame_at=1.0) for name in camera_ids]
        return Heartbeat(at=1.0, cameras=tuple(reports), inference_ms_p50=9.0, inference_ms_p95=9.0, rss=2)

    running = DetectorState(problem=None, camera_ids=())
    await async_report(hass, entry, Ready(pid=1, versions={}), running, online(), online(OTHER))
    await async_report(hass, entry, frame(person(at=1.0), at=1.0), frame(at=1.0, camera_id=OTHER))
    await async_report(hass, entry, *[beat(CAMERA, OTHER)] * (BEATS + 1))
    await async_report(hass, entry, WorkerLost(failed_starts=0, camera_ids=(OTHER,)))
    await async_report(hass, entry, DetectorState(problem=Problem.WORKER_DOWN, camera_ids=(OTHER,)))
    assert runtime.cameras[OTHER].data.figures.fps is None
    assert runtime.cameras[CAMERA].data.figures.fps == 5.0
    assert runtime.cameras[OTHER].data.counts is None
    assert runtime.cameras[CAMERA].data.counts is not None
    assert runtime.announcer.pipeline.detector is PartState.STARTING
    await async_report(hass, entry, Ready(pid=2, versions={}), *[beat(CAMERA, OTHER)] * BEATS)
    assert runtime.health.data.worker_restarts == 1
    assert runtime.cameras[OTHER].data.figures.fps == 5.0
