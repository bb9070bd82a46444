"""Detectors of other packages, installed for real: found by their entry point, in a process of their own."""

import asyncio
from collections.abc import Callable
from pathlib import Path
import sys

import numpy as np
import pytest

from custom_components.nemotron_security.vision import plugins
from custom_components.nemotron_security.vision.detectors import DetectorError
from custom_components.nemotron_security.vision.detectors.loading import load_plugin
from custom_components.nemotron_security.vision.executor import Executor
from custom_components.nemotron_security.vision.messages import DetectorConfig, DetectorState, Problem
from custom_components.nemotron_security.vision.trial import async_try_detector

MODEL = Path(__file__).resolve().parents[2] / "demo" / "detector" / "model"
OURS = "custom_components.nemotron_security.vision"
TOKEN = "s3cret-t0ken"

SOUND = """
from types import SimpleNamespace
import numpy as np
from OURS.detectors import DetectorError
from OURS.messages import Problem

class Porch:
    labels = ["person", "parcel"]
    width, height = 64, 48
    device, threads = "toaster", 2

    def __init__(self, config):
        if config.model == "gone":
            raise DetectorError(Problem.MODEL_MISSING, "no such porch")
        self.config = config

    def detect(self, pictures):
        size = [float(side) for side in pictures[0].shape[1::-1]]
        boxes = [[0, 0, *size], [9, 9, 9, 9], [1, 1, 5, 5]]
        return [SimpleNamespace(boxes=boxes, scores=[0.9, 0.9, 0.01], classes=[1, 0, 0]) for _ in pictures]

    def close(self):
        pass
"""


def install(folder: Path, code: str, *, name: str = "porch", point: str = "porch_detector:Porch") -> Path:
    """Install a package as pip would: its module and a dist-info with its entry point."""
    packages = folder / "site-packages"
    about = packages / f"{name}_detector-1.0.dist-info"
    about.mkdir(parents=True)
    (packages / f"{name}_detector.py").write_text(code, encoding="utf-8")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-detector\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {point}\n", encoding="utf-8")
    return packages


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a package for this test's own process."""

    def use(code: str) -> None:
        monkeypatch.syspath_prepend(str(install(tmp_path, code.replace("OURS", OURS))))
        monkeypatch.delitem(sys.modules, "porch_detector", raising=False)

    return use


async def test_a_package_brings_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the worker, which is isolated, our package is called `vision`."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(install(tmp_path, SOUND.replace("OURS", "vision")))])
    trial = await async_try_detector(DetectorConfig(plugin="porch"), timeout=60)
    assert (trial.problem, trial.detail) == (None, "")
    assert (trial.labels, trial.width, trial.height) == (("person", "parcel"), 64, 48)
    assert (trial.device, trial.threads) == ("toaster", 2)
    assert plugins.names() == ("ncnn", "ultralytics", "triton", "deepstack", "porch")
    assert "porch_detector" not in sys.modules, "listed without being imported"
    refused = await async_try_detector(DetectorConfig(plugin="porch", model="gone"), timeout=60)
    assert (refused.problem, refused.detail) == (Problem.MODEL_MISSING, "no such porch")


async def test_one_that_leaves_on_import_does_not_take_the_worker_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(install(tmp_path, "import sys; sys.exit('no toaster')"))])
    states: asyncio.Queue[DetectorState] = asyncio.Queue()
    executor = Executor(lambda report: states.put_nowait(report) if isinstance(report, DetectorState) else None)
    executor.set_detector(DetectorConfig(plugin="porch"))
    await executor.async_start()
    try:
        async with asyncio.timeout(60):
            state = await states.get()
            assert state.problem is Problem.DETECTOR_BROKEN
            assert "SystemExit: no toaster" in state.detail
            pid = executor.pid
            executor.set_detector(DetectorConfig(model=str(MODEL), threads=1))
            assert (await states.get()).problem is None
            assert executor.pid == pid
    finally:
        await executor.async_stop()


def test_what_it_finds_is_put_into_our_types(use: Callable[[str], None]) -> None:
    use(SOUND)
    detector = load_plugin(DetectorConfig(plugin="porch", minimum_score=0.2))
    picture = np.zeros((30, 40, 3), np.uint8)
    one, two = detector.detect([picture, picture])
    assert one.boxes.tolist() == two.boxes.tolist() == [[0, 0, 40, 30]], "no box without area, none below the score"
    assert [str(array.dtype) for array in (one.boxes, one.scores, one.classes)] == ["float32", "float32", "int32"]
    assert detector.detect([]) == []
    detector.close()


def _with(old: str, new: str) -> str:
    assert old in SOUND
    return SOUND.replace(old, new)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            f"raise RuntimeError('no toaster, token {TOKEN}')",
            "cannot be imported (RuntimeError: no toaster, token ***)",
        ),
        ("import no_such_library", "cannot be imported (ModuleNotFoundError"),
        ("import sys; sys.exit(1)", "cannot be imported (SystemExit"),
        ("def half(", "cannot be imported (SyntaxError"),
        ("", "cannot be imported (AttributeError"),
        ("Porch = 7", "cannot be called"),
        ("class Porch: pass", "cannot be made (TypeError"),
        ("def Porch(config): pass", "has no detect and no close"),
        (_with("def close", "def end"), "has no close"),
        (_with("64, 48", "0, 48"), "its width"),
        (_with("64, 48", "64.0, 48"), "its width"),
        (_with("64, 48", "64, '48'"), "its height"),
        (_with('["person", "parcel"]', '"person"'), "has no labels"),
        (_with('["person", "parcel"]', "[]"), "its labels"),
        (_with('["person", "parcel"]', "[1, 2]"), "its labels"),
        (_with("for _ in pictures]", "for _ in [1, 2, 3]]"), "it answers 3 times for 1 pictures"),
        (_with("scores=[0.9, 0.9, 0.01]", "scores=[0.9]"), "do not match"),
        (_with("scores=[0.9, 0.9, 0.01]", "scores=[90, 0.9, 0.01]"), "outside 0 to 1"),
        (_with("scores=[0.9, 0.9, 0.01]", "scores=[float('nan')] * 3"), "no numbers"),
        (_with("classes=[1, 0, 0]", "classes=[2, 0, 0]"), "classes that have no label"),
        (_with("classes=[1, 0, 0]", "classes=[0.5, 0, 0]"), "cannot look at a picture (TypeError"),
        (_with("SimpleNamespace(boxes=boxes, ", "SimpleNamespace("), "cannot look at a picture (AttributeError"),
        (_with("size = ", f"raise ValueError('{TOKEN}') #"), "cannot look at a picture (ValueError: ***)"),
    ],
)
def test_one_that_is_none(use: Callable[[str], None], code: str, words: str) -> None:
    use(code)
    with pytest.raises(DetectorError) as error:
        load_plugin(DetectorConfig(plugin="porch", token=TOKEN)).detect([np.zeros((30, 40, 3), np.uint8)])
    assert error.value.problem is Problem.DETECTOR_BROKEN
    assert words in error.value.detail
    assert TOKEN not in error.value.detail


def test_our_names_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path, SOUND, name="ncnn", point="ncnn_detector:Porch")))
    assert plugins.entry_point("ncnn") is not None
    with pytest.raises(DetectorError) as error:
        load_plugin(DetectorConfig(model="/nowhere"))
    assert error.value.problem is Problem.MODEL_MISSING
    assert plugins.names() == tuple(plugins.BUILT_IN)


def test_a_name_that_nobody_brings() -> None:
    with pytest.raises(DetectorError) as error:
        load_plugin(DetectorConfig(plugin="crystal_ball"))
    assert error.value.problem is Problem.DETECTOR_NOT_INSTALLED
    assert "crystal_ball" in error.value.detail
