"""What a frame costs on the way to NVIDIA's own Triton: bytes and milliseconds, binary against JSON, one against eight.

The server runs YOLO11n at 320 in ncnn on one thread of this machine, and a second model with the same tensors that does
nothing: `way_ms` is a frame's time with that one, the client's work and the way there and back. JSON goes by a bare
client of this script, as the plug-in knows no such way to ask. TRITON_PYTHON names a Python with nvidia-pytriton and
ncnn.
"""

from collections.abc import Callable
from contextlib import ExitStack
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks import _report
from benchmarks._own_predict import LEAST
from benchmarks.detectors import NCNN, VIDEO, frames
from custom_components.nemotron_security.vision.detectors import Picture
from custom_components.nemotron_security.vision.detectors.servers import Answer, Server
from custom_components.nemotron_security.vision.detectors.triton import TritonDetector
from custom_components.nemotron_security.vision.detectors.yolo import Letterbox, decode
from custom_components.nemotron_security.vision.messages import DetectorConfig
from tests.vision.model_servers import REAL_TRITON, real_triton

RUNS, BATCH = 6, 8


class CountingServer(Server):
    """A server of the plug-in's, with its traffic counted."""

    sent = received = 0

    def post(self, path: str, body: bytes, headers: Any, deadline: float) -> Answer:
        """Ask, and count."""
        answer = super().post(path, body, headers, deadline)
        CountingServer.sent += len(body)
        CountingServer.received += len(answer.body)
        return answer


class JsonClient:
    """Asks with numbers as text, which every server of the protocol understands."""

    def __init__(self, url: str, name: str, detector: TritonDetector) -> None:
        """Keep one connection."""
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self.path = f"/v2/models/{name}/infer"
        self.detector = detector
        self.sent = self.received = 0

    def detect(self, pictures: list[Picture]) -> None:
        """Find the objects of the pictures."""
        model = self.detector._model  # noqa: SLF001  # the very same tensor
        size = model.width, model.height
        boxes = [Letterbox.fit(picture.shape[1], picture.shape[0], *size) for picture in pictures]
        tensor = np.stack([model.prepare(picture, box) for picture, box in zip(pictures, boxes, strict=True)])
        described = {"name": model.source, "shape": tensor.shape, "datatype": model.datatype}
        question = json.dumps({"inputs": [{**described, "data": tensor.ravel().tolist()}]}).encode()
        self.connection.request("POST", self.path, question, {"Content-Type": "application/json"})
        answer = self.connection.getresponse().read()
        self.sent, self.received = self.sent + len(question), self.received + len(answer)
        (output,) = json.loads(answer)["outputs"]
        for rows in np.array(output["data"], np.float32).reshape(output["shape"]):
            decode(rows, len(model.labels), LEAST, width=model.width, height=model.height)


def measure() -> _report.Figures:
    """Let the ways take turns."""
    shown = frames()
    figures: dict[str, _report.Figure] = {"runs": RUNS}
    with real_triton(NCNN) as url, ExitStack() as stack:
        ways: dict[str, tuple[Callable[[list[Picture]], object], int]] = {}
        clients = []
        for name, figure in (("yolo", "ms"), ("nothing", "way_ms")):
            detector = TritonDetector(DetectorConfig(plugin="triton", model=name, urls=(url,), minimum_score=LEAST))
            detector._servers._all[0].__class__ = CountingServer  # noqa: SLF001  # only here its traffic is of interest
            client = JsonClient(url, name, detector)
            clients.append(client)
            stack.callback(detector.close)
            stack.callback(client.connection.close)
            for size in (1, BATCH):
                ways[f"binary_{size}_{figure}"] = detector.detect, size
                ways[f"json_{size}_{figure}"] = client.detect, size
        watches = {name: _report.Stopwatch() for name in ways}
        for run in range(RUNS):
            pictures = [shown[(run + more) % len(shown)] for more in range(BATCH)]
            for name, (ask, size) in ways.items():
                before = traffic(clients)
                with watches[name]:
                    ask(pictures[:size])
                if not name.endswith("_way_ms"):  # a text of zeros is shorter than one of boxes
                    kind = name.removesuffix("_ms")
                    figures[f"{kind}_sent_bytes"], figures[f"{kind}_received_bytes"] = [
                        (now - then) // size for now, then in zip(traffic(clients), before, strict=True)
                    ]
    figures |= {name: watch.percentile_ms(50) / ways[name][1] for name, watch in watches.items()}
    ratio = watches["json_1_way_ms"].percentile_ms(50) / watches["binary_1_way_ms"].percentile_ms(50)
    return {**figures, "json_to_binary_way_ratio": ratio}


def traffic(clients: list[JsonClient]) -> tuple[int, int]:
    """Return the bytes that were sent and received so far, headers of HTTP left out."""
    return (
        CountingServer.sent + sum(client.sent for client in clients),
        CountingServer.received + sum(client.received for client in clients),
    )


if __name__ == "__main__":
    if not (VIDEO.is_file() and NCNN.is_dir()):
        print(f"needs {VIDEO} and {NCNN}")
    elif not REAL_TRITON:
        print("needs TRITON_PYTHON: a Python with nvidia-pytriton and ncnn")
    else:
        _report.run(measure, __doc__)
