"""Each detector plug-in against its bare library, client or server, on the same frames of real footage.

Both take turns frame by frame in one process, so that a machine that is busy otherwise slows both down alike; ratios
are of medians. `boxes_equal`: every object that scores clearly above the least is found within 2 pixels and 0.02 by
both.

- ncnn: the same net called by ncnn's own binding, its own resize and border included, nothing decoded. Boxes against
  Ultralytics' own `predict` of the same folder.
- triton: the same tensors sent by a bare HTTP client to NVIDIA's server, the answer not decoded. Boxes against ncnn.
- deepstack: the same JPEG posted by a bare HTTP client. Boxes against the answer's.
- ultralytics: the library's own `predict`, `.pt` and `.onnx`. Boxes against it.

ULTRALYTICS_PYTHON and TRITON_PYTHON name Pythons with these libraries; what needs one that is absent is null.
"""

from collections.abc import Callable, Sequence
import http.client
import io
import json
import os
from pathlib import Path
import subprocess
import tempfile
import time
from typing import Any
from urllib.parse import urlsplit

import av
import ncnn
import numpy as np
from PIL import Image

from benchmarks import _report
from benchmarks._own_predict import LEAST, PIXELS, SCORE
from custom_components.nemotron_security.vision import __file__ as vision_file
from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import Detector, Picture, deepstack, triton
from custom_components.nemotron_security.vision.detectors.loading import load_plugin
from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.detectors.yolo import Letterbox
from custom_components.nemotron_security.vision.messages import DetectorConfig
from tests.vision.model_servers import REAL_TRITON, DeepStackServer, real_triton, running

SHARED = Path(__file__).resolve().parents[2] / "shared"
VIDEO = SHARED / "media" / "vtest.avi"
NCNN = SHARED / "models" / "yolo11n_320_ncnn_model"
OTHERS = {"pt": SHARED / "models" / "yolo11n.pt", "onnx": SHARED / "models" / "yolo11n_320_int8.onnx"}
PYTHON = os.environ.get("ULTRALYTICS_PYTHON", "")
FRAMES, STEP, RUNS = 20, 35, 100
GREY = 114.0


def frames() -> list[Picture]:
    """Return frames from all over the footage."""
    with av.open(str(VIDEO)) as container:
        shown = enumerate(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for number, frame in shown if number % STEP == 0][
            :FRAMES
        ]


def compared(detector: Detector, bare: Callable[[Picture], object], pictures: Sequence[Picture]) -> tuple[float, float]:
    """Return the median milliseconds of our plug-in and of the bare call, which take turns."""
    ours, theirs = _report.Stopwatch(), _report.Stopwatch()
    detector.detect(pictures[:1])
    bare(pictures[0])
    for run in range(RUNS):
        picture = pictures[run % len(pictures)]
        with ours:
            detector.detect([picture])
        with theirs:
            bare(picture)
    return ours.percentile_ms(50), theirs.percentile_ms(50)


def agree(found: Sequence[Detections], expected: Sequence[Detections]) -> bool:
    """Tell whether two detectors see the same."""
    for one, other in zip(found, expected, strict=True):
        for here, there in ((one, other), (other, one)):
            for box, score, kind in zip(here.boxes, here.scores, here.classes, strict=True):
                near = (np.abs(there.boxes - box).max(axis=1) <= PIXELS) & (np.abs(there.scores - score) <= SCORE)
                if score >= LEAST + 2 * SCORE and not (near & (there.classes == kind)).any():
                    return False
    return True


class BareNcnn:
    """The same net by ncnn's own binding."""

    def __init__(self, model: Path, width: int, height: int) -> None:
        """Load it as the plug-in does."""
        self.net = ncnn.Net()
        self.net.opt.num_threads = 1
        self.net.load_param(str(model / "model.ncnn.param"))
        self.net.load_model(str(model / "model.ncnn.bin"))
        self.size = width, height
        self.option = ncnn.Option()
        self.option.num_threads = 1

    def __call__(self, picture: Picture) -> object:
        """Resize, pad, scale, infer."""
        height, width = picture.shape[:2]
        scale = min(self.size[0] / width, self.size[1] / height)
        inner_width, inner_height = round(width * scale), round(height * scale)
        inner = ncnn.Mat.from_pixels_resize(
            picture, ncnn.Mat.PixelType.PIXEL_RGB, width, height, inner_width, inner_height
        )
        spare_x, spare_y = self.size[0] - inner_width, self.size[1] - inner_height
        border = (spare_y // 2, spare_y - spare_y // 2, spare_x // 2, spare_x - spare_x // 2)
        kind = ncnn.BorderType.BORDER_CONSTANT
        whole = ncnn.copy_make_border(inner, *border, kind, GREY, self.option)
        whole.substract_mean_normalize([], [1 / 255.0] * 3)
        extractor = self.net.create_extractor()
        extractor.input("in0", whole)
        return np.array(extractor.extract("out0")[1])


class BareTriton:
    """A bare client of KServe's protocol, with the tensor made by the plug-in's own step."""

    def __init__(self, url: str, detector: triton.TritonDetector) -> None:
        """Keep one connection."""
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self.detector = detector

    def __call__(self, picture: Picture) -> object:
        """Send a picture and read the tensor."""
        model = self.detector._model  # noqa: SLF001  # the bare client sends the very same tensor
        box = Letterbox.fit(picture.shape[1], picture.shape[0], model.width, model.height)
        tensor = model.prepare(picture, box)[None]
        size = {"binary_data_size": tensor.nbytes}
        described = {"name": model.source, "shape": tensor.shape, "datatype": model.datatype, "parameters": size}
        wanted = [{"name": model.target, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [described], "outputs": wanted}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        self.connection.request("POST", "/v2/models/yolo/infer", head + tensor.tobytes(), headers)
        answer = self.connection.getresponse()
        data = answer.read()
        return np.frombuffer(data, np.float32, offset=int(answer.headers["Inference-Header-Content-Length"]))


class BareDeepStack:
    """A bare POST of the same JPEG."""

    def __init__(self, url: str) -> None:
        """Keep one connection."""
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def __call__(self, picture: Picture) -> list[dict[str, Any]]:
        """Send a picture and read the predictions."""
        target = io.BytesIO()
        Image.fromarray(picture).save(target, "JPEG", quality=90)
        head = (
            f'--b\r\nContent-Disposition: form-data; name="min_confidence"\r\n\r\n{LEAST:.2f}\r\n--b\r\n'
            'Content-Disposition: form-data; name="image"; filename="i.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        )
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        body = head.encode() + target.getvalue() + b"\r\n--b--\r\n"
        self.connection.request("POST", "/v1/vision/detection", body, headers)
        predictions: list[dict[str, Any]] = json.loads(self.connection.getresponse().read())["predictions"]
        return predictions


def measure_ncnn(pictures: Sequence[Picture]) -> dict[str, _report.Figure]:
    """The embedded detector."""
    detector = NcnnDetector(DetectorConfig(model=str(NCNN), threads=1, minimum_score=LEAST, device="cpu"))
    ms, bare = compared(detector, BareNcnn(NCNN, detector.width, detector.height), pictures)
    figures: dict[str, _report.Figure] = {"ncnn_ms": ms, "ncnn_bare_ms": bare}
    said = own_predict(pictures, NCNN, runs=len(pictures), plugin="ncnn", threads=1)
    return {**figures, "ncnn_boxes_equal": said["boxes_equal"] if said else None}


def measure_ultralytics(pictures: Sequence[Picture]) -> dict[str, _report.Figure]:
    """The library on a Python of its own."""
    figures: dict[str, _report.Figure] = {}
    for form, model in OTHERS.items():
        said = own_predict(pictures, model, runs=RUNS, plugin="ultralytics", device="cpu") or {}
        for name in ("ms", "bare_ms", "boxes_equal"):
            figures[f"ultralytics_{form}_{name}"] = said.get(name)
    if not PYTHON:
        figures["ultralytics_note"] = "ULTRALYTICS_PYTHON names no Python with ultralytics"
    return figures


def own_predict(pictures: Sequence[Picture], model: Path, **options: object) -> dict[str, Any] | None:
    """Measure on the library's Python; None where there is none."""
    if not PYTHON or not model.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.npy"
        np.save(file, np.stack(pictures))
        script, main = Path(__file__).with_name("_own_predict.py"), Path(vision_file).with_name("__main__.py")
        asked = json.dumps({"model": str(model), **options})
        done = subprocess.run([PYTHON, "-I", script, main, file, asked], capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def measure_triton(pictures: Sequence[Picture]) -> dict[str, _report.Figure]:
    """NVIDIA's own server, running the same ncnn model."""
    if not REAL_TRITON:
        reason = "TRITON_PYTHON names no Python with nvidia-pytriton and ncnn"
        return {"triton_ms": None, "triton_bare_ms": None, "triton_boxes_equal": None, "triton_note": reason}
    embedded = NcnnDetector(DetectorConfig(model=str(NCNN), threads=1, minimum_score=LEAST, device="cpu"))
    with real_triton(NCNN) as url:
        config = DetectorConfig(plugin="triton", model="yolo", urls=(url,), minimum_score=LEAST)
        detector = load_plugin(config)
        assert isinstance(detector, triton.TritonDetector)
        bare = BareTriton(url, detector)
        ms, bare_ms = compared(detector, bare, pictures)
        equal = agree(detector.detect(pictures), embedded.detect(pictures))
        detector.close()
        bare.connection.close()
    return {"triton_ms": ms, "triton_bare_ms": bare_ms, "triton_boxes_equal": equal}


def measure_deepstack(pictures: Sequence[Picture]) -> dict[str, _report.Figure]:
    """The tests' server of DeepStack's kind, in threads of this process, running the same ncnn model."""
    model = NcnnDetector(DetectorConfig(model=str(NCNN), threads=1, minimum_score=LEAST, device="cpu"))
    with running(DeepStackServer(model)) as server:
        config = DetectorConfig(plugin="deepstack", urls=(server.url,), minimum_score=LEAST)
        detector = load_plugin(config)
        assert isinstance(detector, deepstack.DeepStackDetector)
        bare = BareDeepStack(server.url)
        ms, bare_ms = compared(detector, bare, pictures)
        equal = agree(detector.detect(pictures), [_read(bare(picture), detector) for picture in pictures])
        detector.close()
        bare.connection.close()
    return {"deepstack_ms": ms, "deepstack_bare_ms": bare_ms, "deepstack_boxes_equal": equal}


def _read(predictions: list[dict[str, Any]], detector: Detector) -> Detections:
    names = {"Person": "person", "vehicle": "car"}
    boxes = [[row[side] for side in ("x_min", "y_min", "x_max", "y_max")] for row in predictions]
    kinds = [detector.labels.index(names.get(row["label"], row["label"])) for row in predictions]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([row["confidence"] for row in predictions], np.float32),
        np.array(kinds, np.int32),
    )


def measure() -> _report.Figures:
    """Measure each plug-in; a ratio is of ours to the bare one."""
    pictures = frames()
    figures: dict[str, _report.Figure] = {"frames": len(pictures), "runs": RUNS}
    begun = time.perf_counter()
    for part in (measure_ncnn, measure_triton, measure_deepstack, measure_ultralytics):
        figures |= part(pictures)
    ratios: dict[str, float] = {}
    for name, bare in figures.items():
        ours = figures.get(name.replace("_bare_ms", "_ms"))
        if name.endswith("_bare_ms") and isinstance(ours, float) and isinstance(bare, float):
            ratios[name.replace("_bare_ms", "_overhead_ratio")] = ours / bare
    equal = [bool(value) for name, value in figures.items() if name.endswith("_boxes_equal") and value is not None]
    return {
        **figures,
        **ratios,
        "max_overhead_ratio": max(ratios.values()),
        "boxes_equal": all(equal),
        "took_s": time.perf_counter() - begun,
    }


if __name__ == "__main__":
    if VIDEO.is_file() and NCNN.is_dir():
        _report.run(measure, __doc__)
    else:
        print(f"needs {VIDEO} and {NCNN}")
