"""Files that are models, nearly, and not at all."""

from collections.abc import Mapping
import io
import json
from pathlib import Path
import pickle
import struct
from typing import Any, override
import warnings
import zipfile

NCNN: Mapping[str, bytes] = {
    "model.ncnn.param": b"7767517\n2 2\nInput in0 0 1 in0\nPermute p 1 1 in0 out0 0=0\n",
    "model.ncnn.bin": b"",
    "metadata.yaml": b"imgsz: [32, 32]\nnames: {0: person, 1: cat}\n",
}


def archive(path: Path, members: Mapping[str, bytes], *, links: Mapping[str, str] | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in members.items():
                opened.writestr(name, content)
            for name, target in (links or {}).items():
                link = zipfile.ZipInfo(name)
                link.external_attr = 0o120777 << 16
                opened.writestr(link, target)
    return path


def ncnn_zip(path: Path, prefix: str = "yolo11n_ncnn_model/") -> Path:
    return archive(path, {f"{prefix}{name}": content for name, content in NCNN.items()})


class Boom:
    """Whoever unpacks it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def torch_file(path: Path, evil: Path) -> Path:
    """A zip as PyTorch writes it. Its pickle does harm to whoever unpacks it."""
    return archive(path, {"best/data.pkl": pickle.dumps(Boom(evil)), "best/version": b"3\n", "best/data/0": b"\0" * 8})


def onnx(path: Path, *, producer: bytes = b"pytorch", graph: bytes = b"\x0a\x00") -> Path:
    """An ONNX model as far as its outermost message goes: version, producer, graph, opset."""
    return written(
        path, b"\x08\x08\x12" + bytes([len(producer)]) + producer + b"\x3a" + bytes([len(graph)]) + graph + b"\x42\x00"
    )


def engine(path: Path) -> Path:
    metadata = json.dumps({"names": {"0": "person"}}).encode()
    return written(path, struct.pack("<i", len(metadata)) + metadata + b"ftrt" + bytes(64))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def old_pickle() -> bytes:
    return pickle.dumps(["weights"], protocol=2)


def lying_zip(path: Path) -> Path:
    """A bomb that says of itself to be small: 20 MB of zeros, said to be 10 bytes."""
    archive(path, {**NCNN, "metadata.yaml": bytes(20_000_000)})
    content = bytearray(path.read_bytes())
    size = struct.pack("<I", 20_000_000)
    for _ in range(content.count(size)):
        place = content.index(size)
        content[place : place + 4] = struct.pack("<I", 10)
    return written(path, bytes(content))


def locked_zip(path: Path) -> Path:
    """The bit that says that a password is needed."""
    content = bytearray(ncnn_zip(path).read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            content[place + flags] |= 1
    return written(path, bytes(content))


def nested(path: Path) -> Path:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as opened:
        opened.writestr("model.ncnn.param", b"7767517")
    return archive(path, {"inner.zip": inner.getvalue()})
