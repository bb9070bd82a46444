"""The plug-in for Ultralytics' library. What needs the library runs on the Python that ULTRALYTICS_PYTHON names."""

import asyncio
from collections.abc import Callable
import json
import os
from pathlib import Path
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
import zipfile

import numpy as np
import pytest

from custom_components.nemotron_security.vision import executor as executors
from custom_components.nemotron_security.vision.detectors import DetectorError, ultralytics
from custom_components.nemotron_security.vision.detectors.loading import load_plugin
from custom_components.nemotron_security.vision.messages import (
    CameraConfig,
    DetectorConfig,
    DetectorState,
    FrameTracks,
    Problem,
    Report,
    Source,
    SourceKind,
)
from custom_components.nemotron_security.vision.trial import async_try_detector

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
WEIGHTS = SHARED / "models" / "yolo11n.pt"
ONNX = SHARED / "models" / "yolo11n_320_int8.onnx"
FOOTAGE = SHARED / "media" / "vtest.avi"
MAIN = REPOSITORY / "custom_components" / "nemotron_security" / "vision" / "__main__.py"
PYTHON = os.environ.get("ULTRALYTICS_PYTHON", "")
"""A Python with what `plugins.ULTRALYTICS_REQUIREMENTS` lists, and `onnx` and `onnxruntime` to export and run ONNX."""

with_library = pytest.mark.skipif(not PYTHON, reason="ULTRALYTICS_PYTHON names no Python with ultralytics")
with_weights = pytest.mark.skipif(not (WEIGHTS.is_file() and FOOTAGE.is_file()), reason="needs the files of shared/")


# --- without the library --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("yolo11n", None, Problem.MODEL_SHAPE),  # names that the library would download
        ("yolo11n.pt", None, Problem.MODEL_MISSING),
        ("http://models/yolo11n.pt", None, Problem.MODEL_MISSING),
        ("yolo11n.yaml", b"nc: 80", Problem.MODEL_SHAPE),
        ("empty.pt", b"", Problem.MODEL_CORRUPT),
        ("noise.pt", bytes(range(256)) * 100, Problem.MODEL_CORRUPT),
        ("pickle.pt", b"cposix\nsystem\n(S'touch /tmp/owned'\ntR.", Problem.MODEL_UNSAFE),
    ],
)
def test_files_that_the_library_never_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes | None, problem: Problem
) -> None:
    monkeypatch.chdir(tmp_path)
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DetectorError) as error:
        load_plugin(DetectorConfig(plugin="ultralytics", model=name))
    assert error.value.problem is problem


def test_a_python_without_the_library(tmp_path: Path) -> None:
    model = tmp_path / "yolo.onnx"
    model.write_bytes(b"")
    with pytest.raises(DetectorError) as error:
        load_plugin(DetectorConfig(plugin="ultralytics", model=str(model)))
    assert error.value.problem is Problem.DETECTOR_NOT_INSTALLED
    assert "No module named" in error.value.detail


class Builder:
    """Makes engines as TensorRT does: a file beside the copy of the model."""

    def __init__(self) -> None:
        self.made = 0
        self.fault: Exception | None = None

    def __call__(self, copy: Path) -> Path:
        self.made += 1
        if self.fault is not None:
            copy.with_suffix(".onnx").write_bytes(b"half")
            raise self.fault
        engine = copy.with_suffix(".engine")
        engine.write_bytes(b"engine of " + copy.read_bytes())
        return engine


def test_an_engine_is_made_once_and_anew_when_what_it_depends_on_changed(tmp_path: Path) -> None:
    model, build = tmp_path / "porch.pt", Builder()
    model.write_bytes(b"model")
    (tmp_path / "other.0123456789abcdef.engine").write_bytes(b"of another model")
    card: dict[str, Any] = {"card": "H100", "tensorrt": "10.9", "capability": (9, 0)}
    first = ultralytics._engine_of(model, card, build)
    assert first.read_bytes() == b"engine of model"
    assert first.parent == tmp_path
    assert ultralytics._engine_of(model, card, build) == first
    assert build.made == 1
    for change in ({"card": "RTX 3050"}, {"tensorrt": "10.10"}):
        card |= change
        assert ultralytics._engine_of(model, card, build) != first
    model.write_bytes(b"a better model")
    last = ultralytics._engine_of(model, card, build)
    assert last.read_bytes() == b"engine of a better model"
    assert build.made == 4
    assert {path.name for path in tmp_path.iterdir()} == {"porch.pt", "other.0123456789abcdef.engine", last.name}


@pytest.mark.parametrize(
    ("fault", "kind"), [(RuntimeError("no memory"), DetectorError), (ImportError("no tensorrt"), ImportError)]
)
def test_an_engine_that_cannot_be_made_leaves_nothing(tmp_path: Path, fault: Exception, kind: type[Exception]) -> None:
    model, build = tmp_path / "porch.pt", Builder()
    model.write_bytes(b"model")
    build.fault = fault
    with pytest.raises(kind, match=r"no memory|no tensorrt"):
        ultralytics._engine_of(model, {}, build)
    assert [path.name for path in tmp_path.iterdir()] == ["porch.pt"]


class _Library:
    """As much of Ultralytics, PyTorch and OpenCV as the plug-in uses, with a model that takes so many pictures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.runs: list[int] = []
        self.most = most
        cuda = SimpleNamespace(
            is_available=lambda: True,
            device_count=lambda: 1,
            get_device_name=lambda _: "H100",
            empty_cache=lambda: None,
        )
        utils = ModuleType("ultralytics.utils")
        utils.__dict__.update(SAFE_LOAD=True, ONLINE=False)
        library = ModuleType("ultralytics")
        library.__dict__.update(utils=utils, YOLO=lambda *_, **__: self, __version__="8.4.100")
        torch = ModuleType("torch")
        torch.__dict__.update(cuda=cuda, OutOfMemoryError=MemoryError, set_num_threads=lambda _: None)
        cv2 = ModuleType("cv2")
        cv2.__dict__.update(cvtColor=lambda picture, _: picture[..., ::-1], COLOR_RGB2BGR=4)
        for module in (library, utils, torch, cv2):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        self.overrides = {"imgsz": 320}
        self.predictor = SimpleNamespace(model=SimpleNamespace(task="detect", names={0: "person"}, imgsz=[320, 320]))

    def predict(self, pictures: list[Any], **_: Any) -> list[Any]:
        self.runs.append(len(pictures))
        if len(pictures) > self.most:
            raise ValueError("InvalidArgument: got: 2 expected: 1")
        rows = SimpleNamespace(data=SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: np.zeros((0, 6)))))
        return [SimpleNamespace(boxes=rows, orig_shape=picture.shape[:2]) for picture in pictures]


@pytest.mark.parametrize(
    ("name", "most", "device", "batch", "runs"),
    [
        ("porch.engine", 1, "", 1, [1, 1, 1]),
        ("porch.engine", 99, "", 16, [3]),
        ("porch.pt", 99, "", 16, [3]),
        ("porch.pt", 99, "cpu", 1, [3]),
    ],
)
def test_an_export_that_takes_one_picture_is_given_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    most: int,
    device: str,
    batch: int,
    runs: list[int],
) -> None:
    library, model = _Library(monkeypatch, most), tmp_path / name
    with zipfile.ZipFile(model, "w"):
        """A `.pt` is an archive."""
    detector = load_plugin(DetectorConfig(plugin="ultralytics", model=str(model), device=device))
    assert getattr(detector, "batch", 0) == batch
    library.runs.clear()
    assert [len(found) for found in detector.detect([np.zeros((9, 9, 3), np.uint8)] * 3)] == [0, 0, 0]
    assert library.runs == runs


# --- with it --------------------------------------------------------------------------------------------------------

BEGIN = """
import json, os, runpy, sys
runpy.run_path(sys.argv[1], run_name="main")["_register"]()
import av, numpy as np
from vision.messages import DetectorConfig
from vision.detectors import DetectorError
from vision.detectors.ultralytics import UltralyticsDetector, import_library
import_library()  # before anything of the library: it reads its settings then

def load(**options):
    return UltralyticsDetector(DetectorConfig(plugin="ultralytics", **options))

def frames(path, *numbers):
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers:
                yield frame.to_ndarray(format="rgb24")
            if number > max(numbers):
                return

asked = sys.argv[2:]
"""


def run_there(code: str, *arguments: object, timeout: float = 300) -> Any:
    """Run code on the library's Python; returns the JSON of its last line."""
    done = subprocess.run(
        [PYTHON, "-I", "-c", BEGIN + code, str(MAIN), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@with_library
@with_weights
async def test_it_is_tried_on_a_python_of_its_own() -> None:
    config = DetectorConfig(plugin="ultralytics", model=str(WEIGHTS))
    trial = await async_try_detector(config, python=PYTHON, timeout=300)
    assert (trial.problem, trial.detail) == (None, "")
    assert (trial.width, trial.height, trial.labels[0], len(trial.labels)) == (640, 640, "person", 80)
    assert trial.ms is not None
    assert trial.device
    assert {"torch", "ultralytics"} <= set(trial.versions)


COMPARE = """
from ultralytics import YOLO
out = []
pictures = list(frames(asked[1], 0, 30, 100))
batches = [[picture] for picture in pictures] + [pictures, [pictures[0], pictures[1][100:400, 200:700]]]
detector = load(model=asked[0], minimum_score=0.25, device="cpu")
own = YOLO(asked[0], task="detect")
for batch in batches:
    size = [detector.height, detector.width]
    expected = own.predict([np.ascontiguousarray(p[..., ::-1]) for p in batch], imgsz=size, conf=0.25, iou=0.7,
                           device="cpu", verbose=False)
    for ours, theirs, picture in zip(detector.detect(batch), expected, batch, strict=True):
        rows = theirs.boxes.data.numpy()
        ours, rows = ours[np.argsort(-ours.scores)], rows[np.argsort(-rows[:, 4])]
        same = len(ours) == len(rows) and (ours.classes == rows[:, 5]).all()
        out.append([len(rows), bool(same), float(np.abs(ours.boxes - rows[:, :4]).max(initial=0)),
                    float(np.abs(ours.scores - rows[:, 4]).max(initial=0)), str(ours.boxes.dtype)])
assert detector.detect([]) == []
detector.detect([np.zeros((1, 900, 3), np.uint8), np.zeros((37, 53, 3), np.uint8)])
assert sum(map(len, detector.detect(pictures * 7))) >= 21, "more than go into one batch"
detector.close()
try:
    detector.detect(pictures)
except DetectorError as err:
    out.append(str(err.problem))
print(json.dumps(out))
"""


@with_library
@with_weights
@pytest.mark.parametrize("model", [WEIGHTS, ONNX], ids=["pt", "onnx"])
def test_boxes_are_those_of_the_librarys_own_predict(model: Path) -> None:
    *compared, closed = run_there(COMPARE, model, FOOTAGE)
    assert len(compared) == 8
    assert sum(count for count, *_ in compared) > 15
    for _, same, pixels, score, kind in compared:
        assert (same, kind) == (True, "float32")
        assert pixels < 0.01
        assert score < 1e-4
    assert closed == Problem.MODEL_MISSING


BREAK = """
import builtins, pickle, shutil, zipfile
import torch
os.chdir(asked[1])
whole = open(asked[0], "rb").read()

class Run:
    def __init__(self, function, *arguments):
        self.call = function, arguments
    def __reduce__(self):
        return self.call

touch = f"touch {asked[1]}/OWNED"
torch.save({"model": Run(os.system, touch)}, "system.pt")
checkpoint = torch.load(asked[0], map_location="cpu", weights_only=False)
torch.save({**checkpoint, "train_args": Run(eval, f"__import__('os').system('{touch}')")}, "hidden.pt")
torch.save({**checkpoint, "epoch": Run(getattr, torch.nn.Module, "__init__")}, "getattr.pt")
torch.save({**checkpoint, "epoch": Run(builtins.exec, f"import os; os.system('{touch}')")}, "exec.pt")
pickle.dump({"model": Run(os.system, touch)}, open("bare.pt", "wb"))
open("cut.pt", "wb").write(whole[:len(whole) // 2])
torch.save({"epoch": 1}, "nothing.pt")
torch.save(torch.nn.Linear(2, 2), "linear.pt")
with zipfile.ZipFile("garbage.pt", "w") as archive:
    archive.writestr("x/data.pkl", b"garbage")
open("cut.onnx", "wb").write(open(asked[2], "rb").read()[:100_000])
open("empty.onnx", "wb").write(b"")
from ultralytics import YOLO
YOLO("yolo11n-seg.yaml").save("segments.pt")

out = {}
for options in json.loads(asked[3]):
    try:
        load(**options)
        said = ["loaded", ""]
    except DetectorError as err:
        said = [str(err.problem), err.detail]
    out[json.dumps(options)] = said
print(json.dumps([out, os.path.exists("OWNED")]))
"""

BROKEN: list[tuple[dict[str, Any], Problem, str]] = [
    ({"model": "system.pt"}, Problem.MODEL_UNSAFE, "system"),
    ({"model": "hidden.pt"}, Problem.MODEL_UNSAFE, "eval"),
    ({"model": "getattr.pt"}, Problem.MODEL_UNSAFE, "getattr"),
    ({"model": "exec.pt"}, Problem.MODEL_UNSAFE, "exec"),
    ({"model": "bare.pt"}, Problem.MODEL_UNSAFE, "no archive"),
    ({"model": "cut.pt"}, Problem.MODEL_CORRUPT, "no archive"),
    ({"model": "nothing.pt"}, Problem.MODEL_CORRUPT, ""),
    ({"model": "linear.pt"}, Problem.MODEL_CORRUPT, ""),
    ({"model": "garbage.pt"}, Problem.MODEL_CORRUPT, ""),
    ({"model": "cut.onnx"}, Problem.MODEL_CORRUPT, ""),
    ({"model": "empty.onnx"}, Problem.MODEL_CORRUPT, ""),
    ({"model": "segments.pt"}, Problem.MODEL_SHAPE, "segment"),
    ({"model": str(WEIGHTS), "labels": ["person"]}, Problem.MODEL_SHAPE, "80 classes, and 1 labels"),
    ({"model": str(WEIGHTS), "device": "vulkan:0"}, Problem.DETECTOR_NO_DEVICE, "vulkan:0"),
    ({"model": str(WEIGHTS), "device": "cuda:99"}, Problem.DETECTOR_NO_DEVICE, "cuda:99"),
]


@with_library
@with_weights
def test_poisoned_damaged_and_other_files(tmp_path: Path) -> None:
    """Real pickles that would run a program, alone and inside of a model that works otherwise."""
    asked = json.dumps([options for options, _, _ in BROKEN])
    said, owned = run_there(BREAK, WEIGHTS, tmp_path, ONNX, asked, timeout=600)
    assert not owned
    assert not (tmp_path / "OWNED").exists()
    for options, problem, words in BROKEN:
        assert said[json.dumps(options)][0] == problem, (options, said[json.dumps(options)])
        assert words in said[json.dumps(options)][1]


FORMS = """
import torch
import onnxruntime
from vision.detectors.yolo import decode, is_rtdetr
from ultralytics import RTDETR, YOLO

os.chdir(asked[1])
torch.manual_seed(3)
kind = RTDETR if "rtdetr" in asked[0] else YOLO
model = kind(asked[0])
if asked[0].endswith(".yaml"):
    # What no layer was trained for dies away before the head; with statistics of its own it arrives.
    if kind is YOLO:
        model.model.train()
        with torch.no_grad():
            for layer in model.model.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.momentum = None
            for name, weights in model.model.model[-1].named_parameters():
                if name.endswith(".2.weight"):
                    torch.nn.init.normal_(weights, 0, 0.1)
            for _ in range(3):
                model.model(torch.rand(2, 3, 320, 320))
        model.model.eval()
    model.save("model.pt")
else:
    import shutil
    shutil.copyfile(asked[0], "model.pt")
exported = kind("model.pt").export(format="onnx", imgsz=320, verbose=False, simplify=False, **json.loads(asked[2]))
session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
picture = next(frames(asked[3], 30))[100:420, 300:620]
planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None]).astype(np.float32) / 255
(output,) = session.run(None, {session.get_inputs()[0].name: planes})
classes = len(model.names)
every = decode(output, classes, 1e-5, width=320, height=320)
least = float(np.sort(every.scores)[::-1][:40][-1]) - 1e-7
ours = decode(output, classes, least, width=320, height=320)
# The plug-in on both forms of file, and the library's own predict.
blue_first = np.ascontiguousarray(picture[..., ::-1])
own = kind(exported) if kind is RTDETR else kind(exported, task="detect")
theirs = own.predict(blue_first, conf=least, iou=0.7, imgsz=320, verbose=False)[0]
rows = theirs.boxes.data.numpy()
rows[:, :4] = rows[:, :4].clip(0, 320)
(plugged,) = load(model=exported, minimum_score=least, device="cpu").detect([picture])

def compared(found):
    boxes = found.boxes.clip(0, 320)
    same = 0
    for box, score, number in zip(boxes, found.scores, found.classes, strict=True):
        near = (np.abs(rows[:, :4] - box).max(axis=1) < 0.05) & (np.abs(rows[:, 4] - score) < 1e-4)
        same += bool((near & (rows[:, 5] == number)).any())
    return [len(found), same]

form = list(output.shape[1:])
print(json.dumps([form, is_rtdetr(output[0], classes), len(rows), compared(ours), compared(plugged)]))
"""


@with_library
@with_weights
@pytest.mark.parametrize(
    ("model", "options", "shape"),
    [
        (str(WEIGHTS), {}, [84, 2100]),
        (str(WEIGHTS), {"nms": True}, [300, 6]),
        ("yolov8n.yaml", {}, [84, 2100]),
        ("yolo26n.yaml", {}, [84, 2100]),
        ("yolo26n.yaml", {"nms": False}, [300, 6]),
        ("rtdetr-l.yaml", {}, [300, 6]),
    ],
)
def test_exports_are_decoded_as_the_library_does(
    tmp_path: Path, model: str, options: dict[str, Any], shape: list[int]
) -> None:
    """Real exports; where no trained weights are at hand, of the architecture with random ones."""
    form, shares, expected, ours, plugged = run_there(FORMS, model, tmp_path, json.dumps(options), FOOTAGE, timeout=600)
    assert form == shape
    assert shares is ("rtdetr" in model)
    assert expected >= 2
    assert ours == plugged == [expected, expected]


ALONE = """
touched = []
net = {"socket.connect", "socket.getaddrinfo"}
sys.addaudithook(lambda event, args: touched.append(event) if event in net else None)
detector = load(model=asked[0], device="cpu", threads=1, half=True, tensorrt=True)
detector.detect([np.zeros((90, 160, 3), np.uint8)])
import threading, time
time.sleep(0.5)
from ultralytics import SETTINGS, utils
print(json.dumps([touched, utils.ONLINE, utils.AUTOINSTALL, str(utils.USER_CONFIG_DIR), detector.threads]))
"""


@with_library
@with_weights
def test_it_asks_nobody(tmp_path: Path) -> None:
    """No telemetry, no download, no installation; half precision and TensorRT are for GPUs and no fault elsewhere."""
    touched, online, installs, folder, threads = run_there(ALONE, WEIGHTS)
    assert (touched, online, installs, threads) == ([], False, False, 1)
    assert not Path(folder).is_relative_to(Path.home() / ".config")


@with_library
@with_weights
async def test_the_worker_runs_on_that_python(monkeypatch: pytest.MonkeyPatch) -> None:
    came: asyncio.Queue[Report] = asyncio.Queue()
    executor = executors.Executor(came.put_nowait, python=PYTHON)
    executor.set_detector(DetectorConfig(plugin="ultralytics", model=str(WEIGHTS), device="cpu"))
    source = Source(kind=SourceKind.FILE, location=str(FOOTAGE))
    executor.set_camera(CameraConfig(camera_id="street", source=source))
    await executor.async_start()
    try:
        async with asyncio.timeout(240):
            state = await _until(came, lambda report: isinstance(report, DetectorState))
            assert isinstance(state, DetectorState)
            assert (state.problem, state.width, state.device) == (None, 640, "cpu")
            seen = await _until(
                came, lambda report: isinstance(report, FrameTracks) and any(track.confirmed for track in report.tracks)
            )
            assert isinstance(seen, FrameTracks)
            assert {track.label for track in seen.tracks} == {"person"}
    finally:
        await executor.async_stop()


async def _until(came: asyncio.Queue[Report], wanted: Callable[[Report], bool]) -> Report:
    while not wanted(report := await came.get()):
        pass
    return report
