"""Servers of models as detectors meet them: KServe's version 2 protocol and DeepStack's, strict, with a real model.

They run in threads of their own and can be told to fail in all the ways that a server on a network does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import json
import math
import os
from pathlib import Path
import socket
import struct
import subprocess
import threading
from typing import Any, override

import ncnn
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.messages import DetectorConfig

SERVE = """
import sys
import ncnn, numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

WIDTH, HEIGHT = int(sys.argv[3]), int(sys.argv[4])
ANCHORS = sum(WIDTH // stride * (HEIGHT // stride) for stride in (8, 16, 32))
net = ncnn.Net()
net.opt.num_threads = 1
net.load_param(sys.argv[2] + "/model.ncnn.param")
net.load_model(sys.argv[2] + "/model.ncnn.bin")

def look(picture):
    planes = np.ascontiguousarray(picture)
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], ncnn.Mat(planes).clone())
    return np.array(extractor.extract(net.output_names()[0])[1], dtype=np.float32)

@batch
def infer(images):
    rows = np.zeros((len(images), 84, ANCHORS), np.float32)
    for row, picture in zip(rows, images):
        output = look(picture)
        row[:4], row[4:4 + len(output) - 4] = output[:4], output[4:]
    return {"output0": rows}

@batch
def pass_by(images):
    return {"output0": np.zeros((len(images), 84, ANCHORS), np.float32)}

config = TritonConfig(http_address="127.0.0.1", http_port=int(sys.argv[1]), allow_grpc=False, allow_metrics=False)
with Triton(config=config) as triton:
    for name, answer in (("yolo", infer), ("nothing", pass_by)):
        triton.bind(
            name, answer, inputs=[Tensor(name="images", dtype=np.float32, shape=(3, HEIGHT, WIDTH))],
            outputs=[Tensor(name="output0", dtype=np.float32, shape=(84, ANCHORS))],
            config=ModelConfig(max_batch_size=8),
        )
    triton.run()
    print("ready", flush=True)
    sys.stdin.read()
"""

REAL_TRITON = os.environ.get("TRITON_PYTHON", "")
"""A Python that has `nvidia-pytriton` and `ncnn`: with it the tests run against NVIDIA's own server too."""

TYPES = {"FP32": "<f4", "FP16": "<f2", "UINT8": "u1"}
LENGTH = "Inference-Header-Content-Length"


class ModelServer(ThreadingHTTPServer):
    """Answers requests; `fault` makes it fail, `asked` counts what it was asked."""

    daemon_threads = False  # so that those that answer are waited for

    def __init__(self, model: NcnnDetector) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model
        self.fault = ""
        self.token = ""
        self.asked: list[str] = []
        self.wrong: list[str] = []
        """What a client did against the protocol."""
        self.connections = 0
        self.released = threading.Event()
        """Ends what hangs."""
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.append(request)
        super().process_request(request, client_address)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error."""

    def hang_up(self) -> None:
        """Close every connection, as a server does that restarts or dies."""
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._open.clear()

    def die(self) -> None:
        """Hang up and answer nobody any more."""
        self.shutdown()
        self.released.set()
        self.hang_up()
        self.server_close()

    def answer(self, method: str, path: str, headers: Message, body: bytes) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def infer(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model on (3, height, width) of 0..1."""
        planes = np.ascontiguousarray(picture)  # held: the Mat is a view of it
        with self._lock:
            return self.model._run(ncnn.Mat(planes).clone())


class Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server = self.server
        server.asked.append(self.path)
        if self._fails():
            return
        headers: dict[str, str] = {}
        if server.token and self.headers.get("Authorization") != server.token:
            status, data = 401, json.dumps({"error": "no"}).encode()
        else:
            status, headers, data = server.answer(self.command, self.path, self.headers, body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fails(self) -> bool:
        match self.server.fault:
            case "hangs":
                self.server.released.wait(30)
            case "drips":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while not self.server.released.wait(0.05):
                    self.wfile.write(b"x")
            case "half":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            case "garbage":
                self.wfile.write(b"\x00\x01 secret-token \xff\xfe\r\n\r\n")
            case "500" | "503" as status:
                data = json.dumps({"error": "out of memory, token secret-token"}).encode()
                self.send_response(int(status))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                return True
            case "redirects":
                self.send_response(302)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return True
            case "cut":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case _:
                return False
        self.close_connection = True
        return True


class KServeServer(ModelServer):
    """KServe v2 with the binary tensor extension, as strict as Triton."""

    def __init__(self, model: NcnnDetector, datatype: str = "FP32", *, planar: bool = True, batch: int = 8) -> None:
        super().__init__(model)
        self.datatype = datatype
        self.planar = planar
        self.batch = batch
        self.batches: list[int] = []
        self.ready = True
        self.answers_json = False
        """As `kserve` does although bytes were asked for."""
        self.has_config = True
        self.end_to_end = False
        self.spoil = ""

    @property
    def shape(self) -> list[int]:
        sides = [self.model.height, self.model.width]
        return [3, *sides] if self.planar else [*sides, 3]

    @override
    def answer(self, method: str, path: str, headers: Message, body: bytes) -> tuple[int, dict[str, str], bytes]:
        match method, path:
            case "GET", "/v2/health/ready":
                return (200 if self.ready else 400), {}, b""
            case "GET", "/v2/models/yolo":
                return self._json(self._metadata())
            case "GET", "/v2/models/yolo/config" if self.has_config:
                names = dict(enumerate(self.model.labels))
                config: dict[str, Any] = {"max_batch_size": self.batch}
                config["parameters"] = {"metadata": {"string_value": str({"names": names})}}
                return self._json(config)
            case "POST", "/v2/models/yolo/infer":
                try:
                    return self._infer(headers, body)
                except (AssertionError, KeyError, ValueError) as err:
                    self.wrong.append(repr(err))
                    return 400, {}, json.dumps({"error": repr(err)}).encode()
        return 404, {}, json.dumps({"error": "Request for unknown model: not found"}).encode()

    def _metadata(self) -> dict[str, Any]:
        free = [-1] if self.batch else []
        shape = free + (self.shape if self.spoil != "input" else [7])
        rows = [300, 6] if self.end_to_end else [4 + len(self.model.labels), -1]
        outputs = [{"name": "output0", "datatype": "FP32", "shape": [*free, *rows]}]
        return {
            "name": "yolo",
            "inputs": [{"name": "images", "datatype": self.datatype, "shape": shape}],
            "outputs": outputs * 2 if self.spoil == "outputs" else outputs,
        }

    def _json(self, value: object) -> tuple[int, dict[str, str], bytes]:
        text = b"[1, 2" if self.spoil == "metadata" else json.dumps(value).encode()
        return 200, {"Content-Type": "application/json"}, text

    def _infer(self, headers: Message, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert headers["Content-Type"] == "application/octet-stream"
        length = int(headers[LENGTH])
        question = json.loads(body[:length])
        (tensor,) = question["inputs"]
        assert tensor["name"] == "images"
        assert tensor["datatype"] == self.datatype
        kind = np.dtype(TYPES[self.datatype])
        shape = tensor["shape"]
        pictures = shape[0] if self.batch else 1
        assert shape == [pictures, *self.shape] if self.batch else self.shape
        assert 1 <= pictures <= max(1, self.batch)
        assert tensor["parameters"]["binary_data_size"] == len(body) - length == math.prod(shape) * kind.itemsize
        assert question["outputs"] == [{"name": "output0", "parameters": {"binary_data": True}}]
        self.batches.append(pictures)
        values = np.frombuffer(body, kind, offset=length).reshape(pictures, *self.shape).astype(np.float32)
        values = values / np.float32(255) if self.datatype == "UINT8" else values
        values = values if self.planar else values.transpose(0, 3, 1, 2)
        output = np.stack([self._look(picture) for picture in values])
        return self._packed(output if self.batch else output[0])

    def _look(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        output = self.infer(picture)
        if not self.end_to_end:
            return output
        rows = np.zeros((300, 6), np.float32)
        best = np.argsort(-output[4:].max(axis=0))[:300]
        x, y, width, height = output[:4, best]
        scores = output[4:, best]
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        rows[: len(best)] = np.stack((*corners, scores.max(axis=0), scores.argmax(axis=0)), axis=1)
        return rows

    def _packed(self, output: NDArray[np.float32]) -> tuple[int, dict[str, str], bytes]:
        described: dict[str, Any] = {"name": "output0", "datatype": "FP32", "shape": list(output.shape)}
        match self.spoil:
            case "name":
                described["name"] = "other"
            case "shape":
                output = output[:, :3]
                described["shape"] = list(output.shape)
            case "nan":
                output = output * np.float32(np.nan)
            case "type":
                described["datatype"] = "BYTES"
            case "negative":
                described["shape"] = [-1, -1, 3]
        if self.answers_json:
            described["data"] = output.ravel().tolist()
            return 200, {}, json.dumps({"outputs": [described]}).encode()
        data = output.astype("<f4").tobytes()
        described["parameters"] = {"binary_data_size": len(data) + (4 if self.spoil == "size" else 0)}
        head = json.dumps({"model_name": "yolo", "outputs": [described]}).encode()
        length = {"length": "9999999999", "words": "many"}.get(self.spoil, str(len(head)))
        return 200, {LENGTH: length}, head + (data[:-8] if self.spoil == "short" else data)


class DeepStackServer(ModelServer):
    """DeepStack's API as CodeProject.AI has it, with a list of custom models."""

    def __init__(self, model: NcnnDetector) -> None:
        super().__init__(model)
        self.key = ""
        self.names = {"person": "Person", "car": "vehicle"}
        """What it calls things."""
        self.listed: list[str] | None = ["driveway"]
        self.more: list[Any] = []
        self.sizes: list[tuple[int, int]] = []

    @override
    def answer(self, method: str, path: str, headers: Message, body: bytes) -> tuple[int, dict[str, str], bytes]:
        match method, path:
            case "POST", "/v1/vision/custom/list" if self.listed is not None:
                return 200, {}, json.dumps({"success": True, "models": self.listed}).encode()
            case "POST", "/v1/vision/detection" | "/v1/vision/custom/driveway":
                return self._detect(headers, body)
        return 404, {}, b"no such route"

    def _detect(self, headers: Message, body: bytes) -> tuple[int, dict[str, str], bytes]:
        form = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
        fields: dict[str, Any] = {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
            for part in form.iter_parts()
        }
        if self.key and fields.get("api_key") != self.key.encode():
            words = f"Incorrect api key {fields.get('api_key', b'').decode()}"
            return 401, {}, json.dumps({"success": False, "error": words}).encode()
        with Image.open(io.BytesIO(fields["image"])) as image:
            self.sizes.append(image.size)
            picture = np.asarray(image.convert("RGB"))
        least = float(fields["min_confidence"])
        (found,) = self.model.detect([picture])
        predictions: list[Any] = [
            {
                "label": self.names.get(label, label),
                "confidence": float(score),
                **dict(zip(("x_min", "y_min", "x_max", "y_max"), (round(float(side)) for side in box), strict=True)),
            }
            for box, score, label in zip(
                found.boxes, found.scores, (self.model.labels[number] for number in found.classes), strict=True
            )
            if score >= least
        ]
        return 200, {}, json.dumps({"success": True, "predictions": predictions + self.more}).encode()


@contextmanager
def running[S: ModelServer](server: S) -> Iterator[S]:
    """Let a server run while the block does."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.die()
        thread.join()


@contextmanager
def real_triton(model: Path) -> Iterator[str]:
    """Let NVIDIA's own server run an ncnn model as `yolo` while the block does; yields its address.

    Its second model, `nothing`, takes and gives the same tensors and does nothing.
    """
    detector = NcnnDetector(DetectorConfig(model=str(model), threads=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [REAL_TRITON, "-c", SERVE, str(port), str(model), str(detector.width), str(detector.height)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            while "ready" not in (line := process.stdout.readline()):
                assert line, "it ended"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:  # a test that failed left a connection open, for which it waits
                process.terminate()
