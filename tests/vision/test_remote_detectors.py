"""The detectors on other machines, against servers that speak their protocols and run the demo's model."""

from collections.abc import Callable, Iterator
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from custom_components.nemotron_security.vision import wire
from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import Detector, DetectorError, Picture, deepstack, triton
from custom_components.nemotron_security.vision.detectors.coco import COCO
from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.messages import DetectorConfig, Problem, SetDetector
from custom_components.nemotron_security.vision.pipeline import LoadedDetector
from demo.scenes import SCENES
from demo.scenes.renderer import SceneRenderer

from .blobs import write_video
from .model_servers import REAL_TRITON, DeepStackServer, KServeServer, ModelServer, real_triton, running

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "demo" / "detector" / "model"
VISION = REPOSITORY / "custom_components" / "nemotron_security" / "vision"
LEAST = 0.3
TOKEN = "secret-token"
pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture(scope="module")
def embedded() -> NcnnDetector:
    return NcnnDetector(DetectorConfig(model=str(MODEL), threads=1, minimum_score=LEAST))


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """A visitor, a dog, a car and nobody, in pictures of 720p; and a part of one, as regions are."""
    shown = []
    for name, at in (("front_door", 8.5), ("front_door", 34.8), ("driveway", 10.0), ("front_door", 0.0)):
        renderer = SceneRenderer(SCENES[name])
        picture, _ = renderer.frame(round(at * renderer.fps))
        shown.append(picture.to_ndarray(format="rgb24").astype(np.uint8))
    return [*shown, shown[0][100:500, 200:900]]


@pytest.fixture
def kserve(embedded: NcnnDetector) -> Iterator[KServeServer]:
    with running(KServeServer(embedded)) as server:
        yield server


@pytest.fixture
def deep(embedded: NcnnDetector) -> Iterator[DeepStackServer]:
    with running(DeepStackServer(embedded)) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (triton, deepstack):
        monkeypatch.setattr(module, "_ATTEMPT", 0.3)
        monkeypatch.setattr(module, "_PATIENCE", 0.6)
        monkeypatch.setattr(module, "_LOADING", 0.6)


def load(*servers: ModelServer | str, **options: Any) -> Detector:
    """Load the detector that fits the first server."""
    kserve = not isinstance(servers[0], DeepStackServer)
    options = {"plugin": "triton" if kserve else "deepstack", "model": "yolo" if kserve else "", **options}
    urls = tuple(server if isinstance(server, str) else server.url for server in servers)
    return LoadedDetector.load(DetectorConfig(urls=urls, minimum_score=LEAST, **options)).detector


def assert_same(found: list[Detections], expected: list[Detections], *, pixels: float = 2, score: float = 0.02) -> None:
    """Hold every object that is surely seen against the other's."""
    assert len(found) == len(expected)
    compared = 0
    for one, other in zip(found, expected, strict=True):
        for here, there in ((one, other), (other, one)):
            for box, sure, number in zip(here.boxes, here.scores, here.classes, strict=True):
                if sure < LEAST + 2 * score:
                    continue
                near = np.abs(there.boxes - box).max(axis=1) <= pixels
                near &= (np.abs(there.scores - sure) <= score) & (there.classes == number)
                assert near.any(), (box, sure, there)
                compared += 1
    assert compared >= 8


def expect(problem: Problem, action: Callable[[], object]) -> str:
    """Return the words of the error that an action ends in; no secret may be in it or in what caused it."""
    with pytest.raises(DetectorError) as caught:
        action()
    assert caught.value.problem is problem, caught.value
    error: BaseException | None = caught.value
    while error is not None:
        assert TOKEN not in str(error)
        error = error.__cause__
    return caught.value.detail


# --- KServe v2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("datatype", ["FP32", "FP16", "UINT8"])
def test_boxes_are_those_of_the_embedded_detector(
    embedded: NcnnDetector, pictures: list[Picture], datatype: str, layout: str
) -> None:
    with running(KServeServer(embedded, datatype, planar=layout == "NCHW")) as server:
        detector = load(server)
        assert (detector.width, detector.height, detector.labels) == (320, 192, embedded.labels)
        assert_same(detector.detect(pictures), embedded.detect(pictures))
        assert server.wrong == []
        assert server.connections == 1, "the connection is kept"
        detector.close()


@pytest.mark.parametrize(("most", "batches"), [(8, [1, 5]), (2, [1, 2, 2, 1]), (0, [1] * 6)])
def test_pictures_go_together_as_far_as_the_model_takes_them(
    embedded: NcnnDetector, pictures: list[Picture], most: int, batches: list[int]
) -> None:
    with running(KServeServer(embedded, batch=most)) as server:
        detector = load(server)
        assert_same(detector.detect(pictures), embedded.detect(pictures))
        assert server.batches == batches
        assert server.wrong == []
        assert detector.detect([]) == []
        assert detector.detect([np.zeros((1, 900, 3), np.uint8)])[0].boxes.shape[1] == 4


def test_answers_as_json(kserve: KServeServer, embedded: NcnnDetector, pictures: list[Picture]) -> None:
    kserve.answers_json = True
    assert_same(load(kserve).detect(pictures), embedded.detect(pictures))


def test_end_to_end_output(kserve: KServeServer, embedded: NcnnDetector, pictures: list[Picture]) -> None:
    """It is not suppressed here; a real model's has no doubles either."""
    kserve.end_to_end = True
    for found, expected in zip(load(kserve).detect(pictures), embedded.detect(pictures), strict=True):
        for box, number in zip(expected.boxes, expected.classes, strict=True):
            assert ((np.abs(found.boxes - box).max(axis=1) <= 2) & (found.classes == number)).any()


def test_without_configuration_labels_are_those_of_coco(kserve: KServeServer) -> None:
    """The demo's model has six classes, so that COCO's eighty cannot be meant."""
    kserve.has_config = False
    assert "84xN" in expect(Problem.MODEL_SHAPE, lambda: load(kserve))
    kserve.end_to_end = True
    assert load(kserve).labels == COCO


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("metadata", Problem.DETECTOR_BAD_ANSWER),
        ("input", Problem.MODEL_SHAPE),
        ("outputs", Problem.MODEL_SHAPE),
        ("shape", Problem.MODEL_SHAPE),
        ("nan", Problem.DETECTOR_BAD_ANSWER),
        ("name", Problem.DETECTOR_BAD_ANSWER),
        ("type", Problem.DETECTOR_BAD_ANSWER),
        ("negative", Problem.DETECTOR_BAD_ANSWER),
        ("size", Problem.DETECTOR_BAD_ANSWER),
        ("length", Problem.DETECTOR_BAD_ANSWER),
        ("words", Problem.DETECTOR_BAD_ANSWER),
        ("short", Problem.DETECTOR_BAD_ANSWER),
    ],
)
def test_wrong_tensors(kserve: KServeServer, spoil: str, problem: Problem) -> None:
    kserve.spoil = spoil
    assert expect(problem, lambda: load(kserve)).startswith("127.0.0.1:")


def test_not_ready_and_no_such_model(kserve: KServeServer) -> None:
    expect(Problem.DETECTOR_NO_MODEL, lambda: load(kserve, model="no/../such"))
    assert "/v2/models/no%2F..%2Fsuch" in kserve.asked
    expect(Problem.DETECTOR_NO_MODEL, lambda: load(kserve, model=""))
    kserve.ready = False
    expect(Problem.DETECTOR_NOT_READY, lambda: load(kserve))


def test_a_model_that_changes_in_the_middle(kserve: KServeServer, pictures: list[Picture]) -> None:
    detector = load(kserve)
    kserve.spoil = "shape"
    expect(Problem.MODEL_SHAPE, lambda: detector.detect(pictures))
    kserve.spoil = ""
    detector.detect(pictures)


# --- both -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["kserve", "deep"])
def server(request: pytest.FixtureRequest) -> ModelServer:
    found: ModelServer = request.getfixturevalue(request.param)
    return found


FAULTS = [
    ("hangs", Problem.DETECTOR_UNREACHABLE),
    ("drips", Problem.DETECTOR_UNREACHABLE),
    ("half", Problem.DETECTOR_UNREACHABLE),
    ("garbage", Problem.DETECTOR_UNREACHABLE),
    ("cut", Problem.DETECTOR_UNREACHABLE),
    ("500", Problem.DETECTOR_BAD_ANSWER),
    ("503", Problem.DETECTOR_NOT_READY),
    ("redirects", Problem.DETECTOR_BAD_ANSWER),
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("fault", "problem"), FAULTS)
def test_a_server_that_fails_is_said_and_works_again(
    server: ModelServer, pictures: list[Picture], fault: str, problem: Problem
) -> None:
    detector = load(server, token=TOKEN)
    server.fault = fault
    said = expect(problem, lambda: detector.detect(pictures[:1]))
    assert said.startswith("127.0.0.1:")
    # A server that does not get ready says so at the question for it.
    expect(problem, lambda: load(server, token=TOKEN))
    server.fault = ""
    assert len(detector.detect(pictures[:1])[0]) >= 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [fault for fault, _ in FAULTS])
def test_another_server_takes_over(
    server: ModelServer, embedded: NcnnDetector, pictures: list[Picture], fault: str
) -> None:
    with running(type(server)(embedded)) as other:
        detector = load(server, other)
        detector.detect(pictures[:1])
        assert other.asked == [], "the first that works is asked"
        server.fault = fault
        assert len(detector.detect(pictures[:1])[0]) >= 1
        asked = len(server.asked)
        assert len(detector.detect(pictures[:1])[0]) >= 1
        assert len(server.asked) == asked, "who failed is left alone for a while"
        other.die()
        server.fault = ""
        assert len(detector.detect(pictures[:1])[0]) >= 1


def test_a_server_that_dies(server: ModelServer, embedded: NcnnDetector, pictures: list[Picture]) -> None:
    with running(type(server)(embedded)) as other:
        detector = load(server, other)
        server.die()
        assert len(detector.detect(pictures[:1])[0]) >= 1
        other.die()
        said = expect(Problem.DETECTOR_UNREACHABLE, lambda: detector.detect(pictures[:1]))
        assert said.count("127.0.0.1:") == 2
        assert "Connection refused" in said


def test_an_idle_connection_that_was_closed(server: ModelServer, pictures: list[Picture]) -> None:
    detector = load(server)
    server.hang_up()
    assert len(detector.detect(pictures[:1])[0]) >= 1


def test_another_server_needs_the_same_model(kserve: KServeServer, embedded: NcnnDetector) -> None:
    with running(KServeServer(embedded, "UINT8")) as other:
        detector = load(kserve, other)
        kserve.die()
        picture = np.zeros((192, 320, 3), np.uint8)
        assert "other tensors" in expect(Problem.MODEL_SHAPE, lambda: detector.detect([picture]))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu",
        "ftp://gpu",
        "http://",
        f"http://user:{TOKEN}@gpu:many",
        f"http://user:{TOKEN}@gpu:99999",
        f"http://user:{TOKEN}@gp u",
        "http://[gpu",
    ],
)
@pytest.mark.parametrize("plugin", ["triton", "deepstack"])
def test_impossible_addresses(url: str, plugin: str) -> None:
    expect(Problem.DETECTOR_UNREACHABLE, lambda: load(url, plugin=plugin, model="yolo"))


@pytest.mark.parametrize("plugin", ["triton", "deepstack"])
def test_no_server_at_all(plugin: str) -> None:
    config = DetectorConfig(plugin=plugin, model="yolo")
    expect(Problem.DETECTOR_UNREACHABLE, lambda: LoadedDetector.load(config))


def test_secrets_stay_where_they_belong(kserve: KServeServer, deep: DeepStackServer) -> None:
    config = DetectorConfig(urls=(f"http://user:{TOKEN}@gpu",), token=TOKEN)
    assert TOKEN not in repr(SetDetector(config=config))
    data = wire.encode(SetDetector(config=config))
    assert wire.decode(data[8:], b"") == SetDetector(config=config), "but they reach the worker"
    kserve.token = f"Bearer {TOKEN}"
    load(kserve, token=TOKEN)
    expect(Problem.DETECTOR_UNAUTHORIZED, lambda: load(kserve, token="wrong"))
    expect(Problem.DETECTOR_UNAUTHORIZED, lambda: load(kserve, token=f"{TOKEN}\r\nX-More: 1"))
    kserve.token = "Basic YTpi/w=="
    expect(Problem.DETECTOR_UNAUTHORIZED, lambda: load(kserve.url.replace("//", f"//user:{TOKEN}@")))
    kserve.token = "Basic dXNlcjpwYXNzIHdvcmQ="
    load(kserve.url.replace("//", "//user:pass%20word@"))
    deep.key = "other"
    assert "api key ***" in expect(Problem.DETECTOR_UNAUTHORIZED, lambda: load(deep, token=TOKEN))
    deep.key = TOKEN
    load(deep, token=TOKEN)


# --- DeepStack's kind -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["", "driveway"])
def test_deepstack_finds_the_same_objects(
    deep: DeepStackServer, embedded: NcnnDetector, pictures: list[Picture], model: str
) -> None:
    """JPEG changes the scores a little; the server scales a picture that was scaled down already."""
    detector = load(deep, model=model)
    found, expected = detector.detect(pictures), embedded.detect(pictures)
    for one, other in zip(found, expected, strict=True):
        labels = [detector.labels[number] for number in one.classes]
        for box, score, number in zip(other.boxes, other.scores, other.classes, strict=True):
            if score > LEAST + 0.1:
                index = int(np.abs(one.boxes - box).max(axis=1).argmin())
                assert np.abs(one.boxes[index] - box).max() < 12
                assert abs(one.scores[index] - score) < 0.1
                assert labels[index] == embedded.labels[number], "Person and vehicle have COCO's names"


def test_deepstack_boxes_are_of_the_picture(deep: DeepStackServer, pictures: list[Picture]) -> None:
    detector = load(deep)
    large = np.repeat(np.repeat(pictures[0], 2, axis=0), 2, axis=1)
    (small_found,), (large_found,) = detector.detect([pictures[0]]), detector.detect([large])
    assert max(deep.sizes[-1]) == 1280
    sure = int(small_found.scores.argmax())
    assert np.abs(large_found.boxes - 2 * small_found.boxes[sure]).max(axis=1).min() < 12


def test_deepstack_models_that_are_not_there(deep: DeepStackServer) -> None:
    expect(Problem.DETECTOR_NO_MODEL, lambda: load(deep, model="garden"))
    assert deep.asked == ["/v1/vision/custom/list"]
    deep.listed = None
    expect(Problem.DETECTOR_NO_MODEL, lambda: load(deep, model="garden"))
    load(deep, model="driveway")


def test_deepstack_predictions_that_are_none(deep: DeepStackServer, pictures: list[Picture]) -> None:
    detector = load(deep)
    before = len(detector.detect(pictures[:1])[0])
    sound = {"label": "Package", "confidence": 0.9, "x_min": -5, "y_min": 10, "x_max": 1e9, "y_max": 50}
    deep.more = [
        *(1, None, [], {}, {**sound, "label": 7}, {**sound, "x_min": "left"}, {**sound, "confidence": float("nan")}),
        *({**sound, "confidence": 7}, {**sound, "x_max": -10}, {**sound, "y_max": float("inf")}, sound),
    ]
    first, second = detector.detect([pictures[0], pictures[0]])
    assert len(first) == len(second) == before, "a label of a custom model counts from the next run on"
    assert max(*first.classes, *second.classes) < len(COCO), "whoever asked knows the labels of before"
    assert detector.labels == (*COCO, "package")
    (found,) = detector.detect(pictures[:1])
    package = found[found.classes == len(COCO)]
    assert package.boxes.tolist() == [[0, 10, pictures[0].shape[1], 50]]


# --- NVIDIA's own server --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL_TRITON, reason="TRITON_PYTHON names no Python with nvidia-pytriton and ncnn")
def test_real_triton(embedded: NcnnDetector, pictures: list[Picture]) -> None:
    """The demo's six classes are COCO's first six rows there; only their numbers matter."""
    with real_triton(MODEL) as url:
        detector = load(url)
        assert detector.labels == COCO
        assert_same(detector.detect(pictures), embedded.detect(pictures))
        expect(Problem.DETECTOR_NO_MODEL, lambda: load(url, model="other"))
        detector.close()  # it waits for its clients


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [TOKEN, "wrong"])
def test_a_video_is_watched_with_a_server(kserve: KServeServer, tmp_path: Path, token: str) -> None:
    kserve.token = f"Bearer {TOKEN}"
    video = write_video(tmp_path / "walk.mp4", seconds=0.5)
    command = [sys.executable, str(VISION), str(video), "--detector", "triton", "--model", "yolo", "--url", kserve.url]
    environment = {**os.environ, "DETECTOR_TOKEN": token}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert token not in done.stderr
    if token == TOKEN:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[0])["at"] == 0.0
        assert kserve.batches
    else:
        assert done.returncode == 2
        assert Problem.DETECTOR_UNAUTHORIZED in done.stderr
