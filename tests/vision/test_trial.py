"""Trying a detector in a process of its own, which may die, hang or talk nonsense."""

import asyncio
from collections.abc import Iterator
import os
from pathlib import Path
import stat
import time

import pytest

from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.messages import DetectorConfig, Problem
from custom_components.nemotron_security.vision.trial import Trial, async_try_detector

from .model_servers import KServeServer, running

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "demo" / "detector" / "model"
TOKEN = "s3cret-t0ken"
PATIENCE = 60.0

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture
def kserve() -> Iterator[KServeServer]:
    with running(KServeServer(NcnnDetector(DetectorConfig(model=str(MODEL), threads=1)))) as server:
        yield server


def interpreter(folder: Path, body: str) -> str:
    """Return a program that stands in for the child's Python, to die in ways that Python seldom does."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


async def test_a_detector_that_works() -> None:
    trial = await async_try_detector(DetectorConfig(model=str(MODEL), threads=1), timeout=PATIENCE)
    assert (trial.problem, trial.detail) == (None, "")
    assert trial.labels[:2] == ("person", "bicycle")
    assert (trial.width, trial.height) == (320, 192)
    assert trial.ms is not None
    assert 0 < trial.ms < 5000
    assert trial.fps == pytest.approx(1000 / trial.ms, rel=0.01)
    assert {"python", "numpy", "ncnn"} <= set(trial.versions)


async def test_a_detector_on_a_server(kserve: KServeServer) -> None:
    """The token goes through the pipe, and several pictures into one question."""
    kserve.token = f"Bearer {TOKEN}"
    config = DetectorConfig(plugin="triton", model="yolo", urls=(kserve.url,), token=TOKEN)
    trial = await async_try_detector(config, timeout=PATIENCE)
    assert (trial.problem, trial.device) == (None, kserve.url.removeprefix("http://"))
    assert max(kserve.batches) > 1
    refused = await async_try_detector(
        DetectorConfig(plugin="triton", model="yolo", urls=(kserve.url,), token=TOKEN[:-1]), timeout=PATIENCE
    )
    assert refused.problem is Problem.DETECTOR_UNAUTHORIZED
    assert TOKEN[:-1] not in repr(refused)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (DetectorConfig(model="/nowhere"), Problem.MODEL_MISSING),
        (DetectorConfig(plugin="crystal_ball"), Problem.DETECTOR_NOT_INSTALLED),
        (DetectorConfig(plugin="triton", model="x", urls=("http://127.0.0.1:1",)), Problem.DETECTOR_UNREACHABLE),
    ],
)
async def test_a_detector_that_says_what_is_wrong(config: DetectorConfig, problem: Problem) -> None:
    trial = await async_try_detector(config, timeout=PATIENCE)
    assert trial.problem is problem
    assert trial.detail
    assert (trial.ms, trial.fps, trial.batch_fps) == (None, None, None)
    assert trial.versions["python"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -SEGV $$", "SIGSEGV"),
        (f"echo out of memory, token {TOKEN} >&2; exit 3", "status 3: out of memory, token ***"),
        ("exit 0", "status 0"),
        ("echo nonsense", "status 0"),
        ("""echo '{"problem": "no such problem"}'""", "status 0"),
        ("""echo '{"problem": null, "labels": "person"}'""", "status 0"),
        ("head -c 3000000 /dev/zero", "status 0"),
        ("exec 0<&-; exit 1", "status 1"),
    ],
)
async def test_a_child_that_dies_or_talks_nonsense(tmp_path: Path, body: str, words: str) -> None:
    config = DetectorConfig(model="x" * 200_000, token=TOKEN)  # more than a pipe holds
    trial = await async_try_detector(config, python=interpreter(tmp_path, body), timeout=PATIENCE)
    assert trial.problem is Problem.DETECTOR_CRASHED
    assert words in trial.detail
    assert TOKEN not in trial.detail


async def test_no_interpreter(tmp_path: Path) -> None:
    trial = await async_try_detector(DetectorConfig(), python=str(tmp_path / "none"), timeout=PATIENCE)
    assert trial.problem is Problem.DETECTOR_NOT_INSTALLED
    assert "No such file" in trial.detail


async def test_a_child_that_hangs_is_killed(tmp_path: Path) -> None:
    python = interpreter(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 60")
    begun = time.monotonic()
    trial = await async_try_detector(DetectorConfig(), python=python, timeout=0.5)
    assert time.monotonic() - begun < 5
    assert trial == Trial(problem=Problem.DETECTOR_TIMEOUT, detail="not done after 0.5 seconds")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_who_stops_waiting_leaves_no_child_behind(tmp_path: Path) -> None:
    python = interpreter(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 60")
    waiting = asyncio.create_task(async_try_detector(DetectorConfig(), python=python))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
