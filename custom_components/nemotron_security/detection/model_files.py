"""What a model's file is, told by its content. Nothing here runs a model, unpacks a pickle or trusts a name.

All of it blocks: call it in an executor.
"""

from enum import StrEnum
import json
from pathlib import Path
import stat
from typing import IO, BinaryIO, Final
from unicodedata import normalize
import zipfile

import yaml

from . import DetectionFailure

NCNN_FILES: Final = ("model.ncnn.param", "model.ncnn.bin", "metadata.yaml")
_NCNN_LIMITS: Final = {"model.ncnn.param": 8_000_000, "model.ncnn.bin": 1_000_000_000, "metadata.yaml": 1_000_000}
"""Bytes that each of them may have."""
_NCNN_MAGIC: Final = b"7767517"
_MEMBERS: Final = 2000
_CHUNK: Final = 1024 * 1024
_LABEL_BYTES: Final = 100_000
_MOST_LABELS: Final = 2000
_LONGEST_LABEL: Final = 100
_ENGINE_MAGIC: Final = b"ftrt"
_ENGINE_METADATA: Final = 1_000_000
_ONNX_GRAPH: Final = 7
_ONNX_FIELDS: Final = 64
_VARINT_BYTES: Final = 10


class ModelKind(StrEnum):
    """What a model's file can be, by the ending that Ultralytics knows it by."""

    NCNN = "ncnn"
    """A folder, or a zip of one."""
    PT = "pt"
    ONNX = "onnx"
    ENGINE = "engine"


KINDS: Final = {"ncnn": frozenset({ModelKind.NCNN}), "ultralytics": frozenset(ModelKind) - {ModelKind.NCNN}}
"""What each detector that runs here takes."""


class ModelFileProblem(StrEnum):
    """Why a file is none that can be used. Each value is a translation key that names what to do."""

    NOT_FOUND = "model_file_not_found"
    UNKNOWN = "model_file_unknown"
    """It is no model of a kind that we know."""
    OTHER_KIND = "model_file_other_kind"
    """It is one, but for another detector."""
    OLD_PICKLE = "model_file_old_pickle"
    """PyTorch's form of before 2020: it cannot be looked at without running what is in it."""
    ARCHIVE = "model_archive_broken"
    ARCHIVE_UNSAFE = "model_archive_unsafe"
    """It leads out of its folder, holds links, or is packed to be far larger than it looks."""
    ARCHIVE_INCOMPLETE = "model_archive_incomplete"
    LABELS = "labels_unreadable"
    SPACE = "model_no_space"


class ModelFileError(DetectionFailure[ModelFileProblem]):
    """A file cannot be used."""


def kind_of(path: Path) -> ModelKind:
    """Return what a file or folder is.

    Raises:
        ModelFileError: it is not there, or nothing that we know.
    """
    try:
        if path.is_dir():
            return _kind_of_folder(path)
        with path.open("rb") as stream:
            return _kind_of_stream(stream)
    except OSError as err:
        raise ModelFileError(ModelFileProblem.NOT_FOUND, err.strerror or "") from err
    except ValueError as err:  # a path that none can be
        raise ModelFileError(ModelFileProblem.NOT_FOUND) from err


def check_kind(path: Path, plugin: str) -> ModelKind:
    """Return what a file or folder is, if the detector takes that.

    Raises:
        ModelFileError: it does not.
    """
    kind = kind_of(path)
    if plugin in KINDS and kind not in KINDS[plugin]:
        raise ModelFileError(ModelFileProblem.OTHER_KIND, kind)
    return kind


def unpack_ncnn(archive: Path, folder: Path) -> None:
    """Unpack the three files of an ncnn model into a new folder, whatever else the archive holds.

    Nothing that it says is believed: names are not used, and what comes out is counted while it does.

    Raises:
        ModelFileError: they are not in it, more than once in it, or not safe.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _ncnn_members(opened)
            folder.mkdir(parents=True)
            for name, member in members.items():
                with opened.open(member) as source, (folder / name).open("xb") as target:
                    _copy(source, target, _NCNN_LIMITS[name])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as err:
        # Broken, packed in a way that Python does not know, or with a password.
        raise ModelFileError(ModelFileProblem.ARCHIVE, type(err).__name__) from err
    except OSError as err:
        raise ModelFileError(ModelFileProblem.SPACE, err.strerror or "") from err


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the names of classes in a file: one on each line, or YAML with `names`, as Ultralytics has them.

    Raises:
        ModelFileError: it holds none, or too many.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LABEL_BYTES + 1)
    except OSError as err:
        raise ModelFileError(ModelFileProblem.NOT_FOUND, err.strerror or "") from err
    if len(content) > _LABEL_BYTES:
        raise ModelFileError(ModelFileProblem.LABELS, "it is too long")
    try:
        text = content.decode("utf-8-sig")
        labels = _yaml_labels(text) or _listed_labels(text)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, KeyError) as err:
        raise ModelFileError(ModelFileProblem.LABELS, type(err).__name__) from err
    if not 0 < len(labels) <= _MOST_LABELS:
        raise ModelFileError(ModelFileProblem.LABELS, f"it has {len(labels)} names")
    if any(not 0 < len(label) <= _LONGEST_LABEL or not label.isprintable() for label in labels):
        raise ModelFileError(ModelFileProblem.LABELS, "these are no names")
    return tuple(normalize("NFC", label) for label in labels)


class _Strings(yaml.SafeLoader):
    """Reads all that is written as words: names such as `on`, `no`, `null` and `1` are no truths and numbers."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # as its base declares it


def _yaml_labels(text: str) -> list[str] | None:
    """Return the names of a YAML document that has them; None for a plain list of lines."""
    if not any(line.startswith("names:") for line in text.splitlines()):
        return None
    names = yaml.load(text, Loader=_Strings)["names"]  # noqa: S506  # it is a safe one
    if isinstance(names, dict):
        by_number = {int(number): name for number, name in names.items()}
        # A number that is left out, or there twice, is a KeyError.
        names = [by_number[index] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("no list of names")
    return [name.strip() for name in names]


def _listed_labels(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _kind_of_folder(folder: Path) -> ModelKind:
    missing = [name for name in NCNN_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelFileError(ModelFileProblem.ARCHIVE_INCOMPLETE, ", ".join(missing))
    return ModelKind.NCNN


def _kind_of_stream(stream: BinaryIO) -> ModelKind:
    head = stream.read(8)
    if head.startswith(b"PK"):
        return _kind_of_archive(stream)
    if head[:1] == b"\x80" or head.startswith(b"\x8a\x0al\xfc"):
        raise ModelFileError(ModelFileProblem.OLD_PICKLE)
    if head.startswith(_ENGINE_MAGIC) or _has_engine_metadata(stream):
        return ModelKind.ENGINE
    if _is_onnx(stream):
        return ModelKind.ONNX
    raise ModelFileError(ModelFileProblem.UNKNOWN)


def _kind_of_archive(stream: BinaryIO) -> ModelKind:
    """Tell PyTorch's zip from one with an ncnn model in it, by the names in it alone."""
    try:
        with zipfile.ZipFile(stream) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()[:_MEMBERS]}
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as err:
        raise ModelFileError(ModelFileProblem.ARCHIVE, type(err).__name__) from err
    if "data.pkl" in names:
        return ModelKind.PT
    if names & set(NCNN_FILES):
        return ModelKind.NCNN
    raise ModelFileError(ModelFileProblem.UNKNOWN)


def _ncnn_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an ncnn model by their names."""
    if len(infos := archive.infolist()) > _MEMBERS:
        raise ModelFileError(ModelFileProblem.ARCHIVE_UNSAFE, f"{len(infos)} files")
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        parts = info.filename.replace("\\", "/").split("/")
        mode = info.external_attr >> 16
        if info.filename.startswith(("/", "\\")) or ".." in parts or stat.S_ISLNK(mode):
            raise ModelFileError(ModelFileProblem.ARCHIVE_UNSAFE, parts[-1][:_LONGEST_LABEL])
        name = parts[-1]
        if name not in NCNN_FILES or "__MACOSX" in parts:
            continue
        if name in found:
            raise ModelFileError(ModelFileProblem.ARCHIVE_INCOMPLETE, f"{name} is in it twice")
        if info.file_size > _NCNN_LIMITS[name]:
            raise ModelFileError(ModelFileProblem.ARCHIVE_UNSAFE, f"{name}: {info.file_size} bytes")
        found[name] = info
    if missing := [name for name in NCNN_FILES if name not in found]:
        raise ModelFileError(ModelFileProblem.ARCHIVE_INCOMPLETE, ", ".join(missing))
    return found


def _copy(source: IO[bytes], target: BinaryIO, limit: int) -> None:
    """Copy at most so many bytes: what an archive says of its own sizes need not be so."""
    left = limit
    first = True
    while data := source.read(_CHUNK):
        left -= len(data)
        if left < 0:
            raise ModelFileError(ModelFileProblem.ARCHIVE_UNSAFE, f"more than {limit} bytes")
        if first and target.name.endswith(NCNN_FILES[0]) and not data.startswith(_NCNN_MAGIC):
            raise ModelFileError(ModelFileProblem.UNKNOWN, NCNN_FILES[0])
        first = False
        target.write(data)


def _has_engine_metadata(stream: BinaryIO) -> bool:
    """Ultralytics puts JSON before TensorRT's own: its length in four bytes, then an object."""
    stream.seek(0)
    length = int.from_bytes(stream.read(4), "little")
    if not 0 < length <= _ENGINE_METADATA:
        return False
    try:
        return isinstance(json.loads(stream.read(length)), dict) and stream.read(4) == _ENGINE_MAGIC
    except ValueError, RecursionError:
        return False


def _is_onnx(stream: BinaryIO) -> bool:
    """Walk over the fields of the outermost message: they fill the file, and one of them is the graph."""
    size = stream.seek(0, 2)
    stream.seek(0)
    if stream.read(1) != b"\x08":  # the version, which every writer puts first
        return False
    stream.seek(0)
    graph = False
    try:
        for _ in range(_ONNX_FIELDS):
            if stream.tell() == size:
                return graph
            number, wire_type = divmod(_varint(stream), 8)
            if wire_type == 0:
                _varint(stream)
            elif wire_type == 2:  # noqa: PLR2004
                length = _varint(stream)
                graph = graph or number == _ONNX_GRAPH
                if stream.tell() + length > size:
                    return False
                stream.seek(length, 1)
            else:
                return False
    except ValueError:
        return False
    return False


def _varint(stream: BinaryIO) -> int:
    value = 0
    for place in range(_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            raise ValueError("cut off")
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:  # noqa: PLR2004
            return value
    raise ValueError("no varint")
