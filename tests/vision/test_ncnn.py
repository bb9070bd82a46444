"""The embedded detector with real weights, and with broken ones."""

from collections.abc import Callable
from pathlib import Path
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import yaml

from custom_components.nemotron_security.vision.detectors import DetectorError, ncnn
from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.messages import DetectorConfig, Problem
from custom_components.nemotron_security.vision.trial import async_try_detector

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared"
WEIGHTS = SHARED / "models" / "yolo11n_320_ncnn_model"
FOOTAGE = SHARED / "media" / "vtest.avi"

PARAM, BIN, METADATA = "model.ncnn.param", "model.ncnn.bin", "metadata.yaml"

LOAD = """
import sys
from vision.detectors import DetectorError
from vision.detectors.ncnn import NcnnDetector
from vision.messages import DetectorConfig
try:
    NcnnDetector(DetectorConfig(model=sys.argv[1], threads=1))
except DetectorError as err:
    print(err.problem, "|", err.detail)
else:
    print("loaded")
"""


@pytest.fixture(scope="module")
def weights() -> Path:
    if not WEIGHTS.is_dir():
        pytest.skip("needs the weights in shared/models beside the checkout")
    return WEIGHTS


@pytest.fixture
def model(weights: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(weights, tmp_path / "model", copy_function=shutil.copyfile)


def load(folder: Path) -> str:
    """Load a model in a process of its own, where a crash would be seen."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)],
        cwd=REPOSITORY / "custom_components" / "nemotron_security",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} {done.stderr}"
    return done.stdout.strip()


def detector(folder: Path, **options: object) -> NcnnDetector:
    return NcnnDetector(DetectorConfig(**{"model": str(folder), "threads": 1, **options}))  # type: ignore[arg-type]


def footage(number: int) -> np.ndarray:
    if not FOOTAGE.is_file():
        pytest.skip("needs the footage in shared/media beside the checkout")
    with av.open(str(FOOTAGE)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if index == number:
                return picture.to_ndarray(format="rgb24")
    raise AssertionError("the footage is shorter")


@pytest.mark.parametrize("number", [0, 30, 100])
def test_people_are_found(weights: Path, number: int) -> None:
    """The courtyard's people are 40 to 150 pixels high; on its grass they stand in the lower three quarters."""
    yolo = detector(weights, minimum_score=0.4)
    picture = footage(number)
    (found,) = yolo.detect([picture])
    people = found[found.classes == yolo.labels.index("person")]
    assert len(people) >= 3
    assert (people.scores >= 0.4).all()
    assert (people.boxes[:, 2:] > people.boxes[:, :2]).all()
    assert (people.boxes >= 0).all()
    assert (people.boxes <= [768, 576, 768, 576]).all()
    heights = people.boxes[:, 3] - people.boxes[:, 1]
    assert ((heights > 30) & (heights < 200)).all()


def test_boxes_follow_the_picture(weights: Path) -> None:
    """Moving the picture moves the boxes; another shape of picture changes the letterbox, not the result."""
    yolo = detector(weights, minimum_score=0.5)
    picture = footage(0)
    padded = np.full((576, 1000, 3), 114, np.uint8)
    padded[:, 200:968] = picture
    here, there = yolo.detect([picture, padded])
    assert len(there) >= 2
    for box in there.boxes:
        nearest = np.abs(here.boxes + np.array([200, 0, 200, 0]) - box).max(axis=1).min()
        assert nearest < 25


def test_views_and_odd_pictures(weights: Path) -> None:
    yolo = detector(weights)
    picture = footage(0)
    view = picture[100:, 100:]
    (of_view,), (of_copy,) = yolo.detect([view]), yolo.detect([view.copy()])
    assert of_view.boxes.tolist() == of_copy.boxes.tolist()
    for shape in [(1, 1, 3), (1, 900, 3), (900, 1, 3), (37, 53, 3)]:
        yolo.detect([np.zeros(shape, np.uint8)])
    assert yolo.detect([]) == []


def test_labels_and_size(weights: Path) -> None:
    yolo = detector(weights)
    assert (yolo.width, yolo.height, len(yolo.labels)) == (320, 320, 80)
    assert (yolo.labels[0], yolo.labels[79]) == ("person", "toothbrush")


def test_closed_detector(weights: Path) -> None:
    yolo = detector(weights)
    yolo.close()
    yolo.close()
    with pytest.raises(DetectorError):
        yolo.detect([np.zeros((320, 320, 3), np.uint8)])


def _cut(name: str, share: float) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def _write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def _replace(name: str, old: bytes, new: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data
        (folder / name).write_bytes(data.replace(old, new, 1))

    return change


def _metadata(**values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        metadata = yaml.safe_load((folder / METADATA).read_text(encoding="utf-8")) | values
        (folder / METADATA).write_text(yaml.safe_dump(metadata), encoding="utf-8")

    return change


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


NOISE = np.random.default_rng(4).bytes(200_000)


@pytest.mark.parametrize(
    ("breakage", "problem", "words"),
    [
        (_remove(PARAM), Problem.MODEL_MISSING, PARAM),
        (_remove(BIN), Problem.MODEL_MISSING, BIN),
        (_remove(METADATA), Problem.MODEL_MISSING, METADATA),
        (shutil.rmtree, Problem.MODEL_MISSING, PARAM),
        (_cut(BIN, 0), Problem.MODEL_CORRUPT, BIN),
        (_cut(BIN, 0.1), Problem.MODEL_CORRUPT, BIN),
        (_cut(BIN, 0.999), Problem.MODEL_CORRUPT, BIN),
        (_write(BIN, NOISE), Problem.MODEL_CORRUPT, BIN),
        (_write(BIN, NOISE * 40), Problem.MODEL_CORRUPT, BIN),
        (_cut(PARAM, 0), Problem.MODEL_CORRUPT, PARAM),
        (_cut(PARAM, 0.5), Problem.MODEL_CORRUPT, PARAM),
        (_cut(PARAM, 0.99), Problem.MODEL_CORRUPT, PARAM),
        (_write(PARAM, NOISE), Problem.MODEL_CORRUPT, PARAM),
        (_write(PARAM, b"7767517\n99999999 99999999\n"), Problem.MODEL_CORRUPT, PARAM),
        (_write(PARAM, b"7767517\n-1 -1\n"), Problem.MODEL_CORRUPT, PARAM),
        (_replace(PARAM, b"Swish", b"Swoosh"), Problem.MODEL_CORRUPT, PARAM),
        (_cut(METADATA, 0.05), Problem.MODEL_CORRUPT, METADATA),
        (_cut(METADATA, 0.3), Problem.MODEL_SHAPE, "with its 11 labels"),
        (_write(METADATA, b"{[not yaml"), Problem.MODEL_CORRUPT, METADATA),
        (_write(METADATA, NOISE), Problem.MODEL_CORRUPT, METADATA),
        (_write(METADATA, b"a list\n"), Problem.MODEL_CORRUPT, METADATA),
        (_metadata(imgsz=[320]), Problem.MODEL_CORRUPT, METADATA),
        (_metadata(imgsz=[0, 320]), Problem.MODEL_SHAPE, "320x0"),
        (_metadata(names={0: "person"}), Problem.MODEL_SHAPE, "84x2100"),
        (_metadata(names={}), Problem.MODEL_SHAPE, "0 labels"),
    ],
)
def test_broken_models(model: Path, breakage: Callable[[Path], object], problem: Problem, words: str) -> None:
    breakage(model)
    said = load(model)
    assert said.startswith(f"{problem} |")
    assert words in said


def test_whole_model_loads(model: Path) -> None:
    assert load(model) == "loaded"


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"")
    assert load(tmp_path / "model").startswith(str(Problem.MODEL_MISSING))


PASS_THROUGH = """7767517
2 2
Input    in0  0 1 in0
Pooling  out  1 1 in0 out0 0=1 1=2 2=2
"""


def test_model_of_another_kind(tmp_path: Path) -> None:
    """A network that halves its picture: it runs, and what it gives are no boxes."""
    (tmp_path / PARAM).write_text(PASS_THROUGH)
    (tmp_path / BIN).write_bytes(b"")
    (tmp_path / METADATA).write_text("imgsz: [64, 96]\nnames: {0: person}\n")
    said = load(tmp_path)
    assert said.startswith(f"{Problem.MODEL_SHAPE} |")
    assert "3x32x48" in said


RESHAPE = """7767517
3 3
Input    in0  0 1 in0
Pooling  mean 1 1 in0 mean 0=1 1=8 2=8
Reshape  flat 1 1 mean out0 0=-1 1=6
"""


def test_input_that_is_not_square(tmp_path: Path) -> None:
    """Height comes first in the metadata: 64 rows, 96 columns. 3 x 8 x 12 means become 6 x 48: two classes."""
    (tmp_path / PARAM).write_text(RESHAPE)
    (tmp_path / BIN).write_bytes(b"")
    (tmp_path / METADATA).write_text("imgsz:\n- 64\n- 96\nnames:\n  0: person\n  1: car\n")
    yolo = detector(tmp_path, minimum_score=0.9)
    assert (yolo.width, yolo.height) == (96, 64)
    white = np.full((120, 90, 3), 255, np.uint8)
    (found,) = yolo.detect([white])
    assert (found.boxes[:, 2] <= 90).all()
    assert (found.boxes[:, 3] <= 120).all()


def test_labels_of_a_file_take_the_place_of_the_models_own(weights: Path) -> None:
    names = tuple(f"thing {number}" for number in range(80))
    assert detector(weights, labels=names).labels == names
    with pytest.raises(DetectorError) as error:
        detector(weights, labels=names[:79])
    assert error.value.problem is Problem.MODEL_SHAPE
    assert "79 labels" in error.value.detail


# --- on what it runs ------------------------------------------------------------------------------------------------


class Engine:
    """A model whose runs take as long as the test says, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], cores: int) -> None:
        self.now = 0.0
        self.threads = 0
        self.tried: list[int] = []
        self._seconds = seconds
        monkeypatch.setattr(ncnn, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(ncnn, "os", SimpleNamespace(process_cpu_count=lambda: cores))

    def use_threads(self, threads: int) -> None:
        self.threads = threads
        self.tried.append(threads)

    def run(self, picture: Any) -> None:
        self.now += self._seconds[self.threads]


@pytest.mark.parametrize(
    ("cores", "seconds", "tried", "chosen"),
    [
        (1, {1: 0.02}, [1], 1),
        (2, {1: 0.02, 2: 0.01}, [1], 1),  # one core is left to decoding
        (4, {1: 0.02, 2: 0.011, 3: 0.008}, [1, 2, 3], 3),
        (9, {1: 0.02, 2: 0.011, 3: 0.008, 4: 0.0079}, [1, 2, 3, 4], 3),  # it has to get clearly faster
        (8, {1: 0.02, 2: 0.6}, [1, 2], 1),  # threads that wait for each other
        (64, {1: 0.5, 2: 0.26, 3: 0.2}, [1, 2, 3], 3),  # no time to try more
    ],
)
def test_as_many_threads_as_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, cores: int, seconds: dict[int, float], tried: list[int], chosen: int
) -> None:
    engine: Any = Engine(monkeypatch, seconds, cores)
    took = ncnn._choose_threads(engine, None, 0)
    assert (engine.tried[: len(tried)], engine.threads) == (tried, chosen)
    assert took == pytest.approx(seconds[chosen])
    assert engine.now < 3


def test_a_number_of_threads_that_was_asked_for(weights: Path) -> None:
    yolo = detector(weights, threads=2)
    assert (yolo.threads, yolo.device) == (2, "cpu")
    assert detector(weights, threads=0).threads >= 1


@pytest.mark.parametrize("device", ["cuda:0", "vulkan", "vulkan:x", "vulkan:99", "gpu"])
def test_a_device_that_is_none(weights: Path, device: str) -> None:
    with pytest.raises(DetectorError) as error:
        detector(weights, device=device)
    assert error.value.problem is Problem.DETECTOR_NO_DEVICE
    assert device in error.value.detail


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU has a name; what it calculates is up to the test."""
    monkeypatch.setattr(ncnn, "_real_gpu", lambda: 0)
    monkeypatch.setattr(ncnn, "_gpu_name", lambda number: "Arc")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda output: output + np.float32(0.1), "other results"),
        (lambda output: output * np.float32(np.nan), "other results"),
        (lambda output: output[:, 1:], "other results"),
        (None, "status -1"),
    ],
)
def test_a_gpu_that_fails_is_not_used(
    weights: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any] | None, words: str
) -> None:
    load = ncnn._Engine.load

    def load_on_gpu(folder: Path, gpu: int | None = None) -> Any:
        engine = load(folder)
        run = engine.run

        def fail(picture: Any) -> Any:
            if change is None:
                raise DetectorError(Problem.MODEL_CORRUPT, "status -1")
            return change(run(picture))

        if gpu is not None:
            monkeypatch.setattr(engine, "run", fail)
        return engine

    monkeypatch.setattr(ncnn._Engine, "load", load_on_gpu)
    yolo = detector(weights)
    assert yolo.device.startswith("cpu (Arc: ")
    assert words in yolo.device
    assert len(yolo.detect([footage(0)])[0]) >= 3
    assert detector(weights, device="cpu").device == "cpu"


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_is_not_faster_is_not_used(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = ncnn._Engine.load
    monkeypatch.setattr(ncnn._Engine, "load", lambda folder, gpu=None: load(folder))
    monkeypatch.setattr(ncnn, "_CLEARLY_FASTER", 0.0)
    assert detector(weights).device == "cpu (Arc is not faster)"
    monkeypatch.setattr(ncnn, "_CLEARLY_FASTER", 1e9)
    assert detector(weights).device == "Arc"


async def test_vulkan() -> None:
    """Where there is one: Mesa's llvmpipe is enough, and takes half a minute."""
    model = REPOSITORY / "demo" / "detector" / "model"
    trial = await async_try_detector(DetectorConfig(model=str(model), threads=1, device="vulkan:0"), timeout=300)
    if "finds 0 GPUs" in trial.detail:
        pytest.skip("no Vulkan on this machine")
    assert (trial.problem, trial.detail) == (None, "")
    assert not trial.device.startswith("cpu")
