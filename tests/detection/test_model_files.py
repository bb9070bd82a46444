"""What a model's file is, told by its content; and that nothing in it is run or believed."""

from collections.abc import Callable
import contextlib
from pathlib import Path
import shutil

from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

from custom_components.nemotron_security.detection.model_files import (
    NCNN_FILES,
    ModelFileError,
    ModelFileProblem,
    ModelKind,
    check_kind,
    kind_of,
    read_labels,
    unpack_ncnn,
)
from custom_components.nemotron_security.detection.model_store import ModelStore
from demo.home_assistant import MODEL

from . import model_samples as samples

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "models"


def problem_of(call: Callable[[], object]) -> ModelFileProblem:
    with pytest.raises(ModelFileError) as raised:
        call()
    return raised.value.problem


def test_kinds(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    assert kind_of(MODEL) is ModelKind.NCNN
    assert kind_of(samples.ncnn_zip(tmp_path / "a")) is ModelKind.NCNN
    assert kind_of(samples.torch_file(tmp_path / "b", evil)) is ModelKind.PT
    assert kind_of(samples.onnx(tmp_path / "c")) is ModelKind.ONNX
    assert kind_of(samples.engine(tmp_path / "d")) is ModelKind.ENGINE
    assert kind_of(samples.written(tmp_path / "e", b"ftrt" + bytes(99))) is ModelKind.ENGINE
    assert not evil.exists()


@pytest.mark.parametrize(("name", "kind"), [("yolo11n.pt", ModelKind.PT), ("yolo11n_320_int8.onnx", ModelKind.ONNX)])
def test_kinds_of_real_models(name: str, kind: ModelKind) -> None:
    if not (WEIGHTS / name).exists():
        pytest.skip("the weights are not here")
    assert kind_of(WEIGHTS / name) is kind


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ModelFileProblem.UNKNOWN),
        (b"<!DOCTYPE html>", ModelFileProblem.UNKNOWN),
        (b"\x89PNG\r\n\x1a\n", ModelFileProblem.UNKNOWN),
        (b"\x08\x08", ModelFileProblem.UNKNOWN),
        (b"\x08\x08\x3a\xff\xff\xff\xff\x0fgraph that is cut off", ModelFileProblem.UNKNOWN),
        (b"\xff\xff\x00\x00{}", ModelFileProblem.UNKNOWN),
        (b"\x02\x00\x00\x00{}nope", ModelFileProblem.UNKNOWN),
        (b"PK\x03\x04 cut off", ModelFileProblem.ARCHIVE),
        (samples.old_pickle(), ModelFileProblem.OLD_PICKLE),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes, problem: ModelFileProblem) -> None:
    file = samples.written(tmp_path / "file", content)
    assert problem_of(lambda: kind_of(file)) is problem


def test_what_is_not_there(tmp_path: Path) -> None:
    assert problem_of(lambda: kind_of(tmp_path / "absent")) is ModelFileProblem.NOT_FOUND
    assert problem_of(lambda: kind_of(tmp_path)) is ModelFileProblem.ARCHIVE_INCOMPLETE


def test_archives_that_hold_something_else(tmp_path: Path) -> None:
    other = samples.archive(tmp_path / "a.zip", {"cat.jpg": b"jpeg"})
    assert problem_of(lambda: kind_of(other)) is ModelFileProblem.UNKNOWN
    nested = samples.nested(tmp_path / "b.zip")
    assert problem_of(lambda: kind_of(nested)) is ModelFileProblem.UNKNOWN


def test_for_another_detector(tmp_path: Path) -> None:
    onnx, folder = samples.onnx(tmp_path / "c"), MODEL
    assert check_kind(onnx, "ultralytics") is ModelKind.ONNX
    assert problem_of(lambda: check_kind(onnx, "ncnn")) is ModelFileProblem.OTHER_KIND
    assert problem_of(lambda: check_kind(folder, "ultralytics")) is ModelFileProblem.OTHER_KIND


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), head=st.sampled_from([b"", b"PK\x03\x04", b"\x08", b"\x08\x08\x3a", b"ftr"]))
def test_any_bytes_are_a_kind_or_a_problem(tmp_path: Path, head: bytes, content: bytes) -> None:
    file = samples.written(tmp_path / "file", head + content)
    with contextlib.suppress(ModelFileError):
        assert kind_of(file) in ModelKind


# --- archives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "model/", "a/b/c/", "model\\"])
def test_unpacking(tmp_path: Path, prefix: str) -> None:
    unpack_ncnn(samples.ncnn_zip(tmp_path / "a.zip", prefix), tmp_path / "new" / "model")
    unpacked = {path.name: path.read_bytes() for path in (tmp_path / "new" / "model").iterdir()}
    assert unpacked == samples.NCNN


def test_only_what_a_model_needs_is_unpacked(tmp_path: Path) -> None:
    more = {"model/model_ncnn.py": b"import os", "__MACOSX/model/metadata.yaml": b"", "README": b"x"}
    file = samples.archive(tmp_path / "a.zip", {**samples.NCNN, **more})
    unpack_ncnn(file, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == set(NCNN_FILES)


@pytest.mark.parametrize(
    "name", ["../model.ncnn.param", "/etc/model.ncnn.param", "a/../../model.ncnn.param", "..\\model.ncnn.param", "\\x"]
)
def test_ways_out_of_the_folder(tmp_path: Path, name: str) -> None:
    file = samples.archive(tmp_path / "a.zip", {**samples.NCNN, name: b"7767517"})
    assert problem_of(lambda: unpack_ncnn(file, tmp_path / "in" / "model")) is ModelFileProblem.ARCHIVE_UNSAFE
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip"]


def test_links(tmp_path: Path) -> None:
    members = {name: content for name, content in samples.NCNN.items() if name != "model.ncnn.bin"}
    file = samples.archive(tmp_path / "a.zip", members, links={"model.ncnn.bin": "/etc/shadow"})
    assert problem_of(lambda: unpack_ncnn(file, tmp_path / "model")) is ModelFileProblem.ARCHIVE_UNSAFE


def test_bombs(tmp_path: Path) -> None:
    honest = samples.archive(tmp_path / "a.zip", {**samples.NCNN, "metadata.yaml": bytes(20_000_000)})
    assert honest.stat().st_size < 100_000
    assert problem_of(lambda: unpack_ncnn(honest, tmp_path / "a")) is ModelFileProblem.ARCHIVE_UNSAFE
    lying = samples.lying_zip(tmp_path / "b.zip")
    problem = problem_of(lambda: unpack_ncnn(lying, tmp_path / "b"))
    assert problem in {ModelFileProblem.ARCHIVE_UNSAFE, ModelFileProblem.ARCHIVE}
    assert sum(path.stat().st_size for path in tmp_path.glob("b/*")) < 2_000_000
    many = samples.archive(tmp_path / "c.zip", {f"{number}": b"" for number in range(2001)} | dict(samples.NCNN))
    assert problem_of(lambda: unpack_ncnn(many, tmp_path / "c")) is ModelFileProblem.ARCHIVE_UNSAFE


def test_archives_that_cannot_be_read(tmp_path: Path) -> None:
    locked = samples.locked_zip(tmp_path / "a.zip")
    assert problem_of(lambda: unpack_ncnn(locked, tmp_path / "a")) is ModelFileProblem.ARCHIVE
    whole = samples.ncnn_zip(tmp_path / "b.zip").read_bytes()
    cut = samples.written(tmp_path / "c.zip", whole[: len(whole) // 2])
    assert problem_of(lambda: unpack_ncnn(cut, tmp_path / "c")) is ModelFileProblem.ARCHIVE
    twice = samples.archive(tmp_path / "e.zip", {**samples.NCNN, "other/metadata.yaml": b""})
    assert problem_of(lambda: unpack_ncnn(twice, tmp_path / "e")) is ModelFileProblem.ARCHIVE_INCOMPLETE
    less = samples.archive(tmp_path / "f.zip", {"model.ncnn.param": b"7767517"})
    assert problem_of(lambda: unpack_ncnn(less, tmp_path / "f")) is ModelFileProblem.ARCHIVE_INCOMPLETE
    text = samples.archive(tmp_path / "g.zip", {**samples.NCNN, "model.ncnn.param": b"import os"})
    assert problem_of(lambda: unpack_ncnn(text, tmp_path / "g")) is ModelFileProblem.UNKNOWN


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "person\ncat\n",
        "\ufeffperson\r\n\r\n  cat ",
        "names:\n  0: person\n  1: cat\n",
        "path: x\nnames: [person, cat]\n",
        "names:\n- person\n- cat\n",
        'names:\n  "0": person\n  "1": cat\n',
        "names: {'1': cat, '0': person}\n",
        "# Of our yard.\nperson\n  # Two of them.\ncat\n",
        "# Of our yard.\nnames: [person, cat]  # two\n",
    ],
)
def test_labels(tmp_path: Path, content: str) -> None:
    assert read_labels(samples.written(tmp_path / "labels", content.encode())) == ("person", "cat")


def test_labels_are_composed(tmp_path: Path) -> None:
    """As those that are typed for a camera, with which they are compared."""
    assert read_labels(samples.written(tmp_path / "labels", "be\u0301be\u0301\n".encode())) == ("bébé",)


def test_labels_that_yaml_has_other_ideas_of(tmp_path: Path) -> None:
    words = ("on", "off", "yes", "no", "null", "~", "1", "1.50", "0x10", "2026-11-28", "1:30", "=", "Infinity")
    for content in (
        f"names: [{', '.join(words)}]\n",
        "names:\n" + "".join(f"  {number}: {word}\n" for number, word in enumerate(words)),
        "\n".join(words),
    ):
        assert read_labels(samples.written(tmp_path / "labels", content.encode())) == words


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n \n",
        b"# person\n",
        b"names:\n  0: person\n  1:\n",
        b"names: ['']\n",
        b"names: {0: person, 00: cat}\n",
        b"names: {first: person}\n",
        b"\xff\xfe",
        b"names:\n  1: person\n",
        b"names: 5\n",
        b"names: person\n",
        b"names: [[person]]\n",
        b"names: !!python/object/apply:os.system [true]\n",
        b"names: {0: &a [x], 1: [*a, *a]",
        b"name\x00\n",
        b"x" * 200,
        b"a\n" * 3000,
        b"a" * 200_000,
        b"names: " + b"[" * 5000,
    ],
    ids=lambda content: content[:20],
)
def test_bad_labels(tmp_path: Path, content: bytes) -> None:
    file = samples.written(tmp_path / "labels", content)
    assert problem_of(lambda: read_labels(file)) is ModelFileProblem.LABELS


def test_absent_labels(tmp_path: Path) -> None:
    assert problem_of(lambda: read_labels(tmp_path / "absent")) is ModelFileProblem.NOT_FOUND


# --- the store --------------------------------------------------------------------------------------------------------


def test_store(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    assert store.all() == []
    zipped = store.add_upload(samples.ncnn_zip(tmp_path / "a.zip"), "My model.zip", "ncnn")
    weights = store.add_upload(samples.onnx(tmp_path / "b.pt"), "../../b.pt", "ultralytics")
    assert [model.name for model in store.all()] == ["../../b.pt", "My model.zip"]
    assert kind_of(Path(zipped.path)) is ModelKind.NCNN
    # Neither its name nor its ending is believed.
    assert Path(weights.path) == tmp_path / "models" / weights.id / "model.onnx"
    assert weights.size == Path(weights.path).stat().st_size
    store.remove(weights.id)
    store.remove("../..")
    assert [model.id for model in store.all()] == [zipped.id]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "models"]
    store.remove_all()
    assert not (tmp_path / "models").exists()


def test_store_keeps_nothing_of_what_it_refuses(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    bad = samples.archive(tmp_path / "a.zip", {**samples.NCNN, "model.ncnn.param": b"nope"})
    assert problem_of(lambda: store.add_upload(bad, "a", "ncnn")) is ModelFileProblem.UNKNOWN
    pickled = samples.torch_file(tmp_path / "b.pt", tmp_path / "evil")
    assert problem_of(lambda: store.add_upload(pickled, "b", "ncnn")) is ModelFileProblem.OTHER_KIND
    assert list((tmp_path / "models").glob("*")) == []
    assert store.add_upload(pickled, "b", "ultralytics").kind is ModelKind.PT
    assert not (tmp_path / "evil").exists()


def test_store_that_is_damaged_lists_the_rest(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    kept = store.add_upload(samples.ncnn_zip(tmp_path / "a.zip"), "a", "ncnn")
    gone = store.add_upload(samples.ncnn_zip(tmp_path / "b.zip"), "b", "ncnn")
    shutil.rmtree(gone.path)
    (tmp_path / "models" / "other").mkdir()
    (tmp_path / "models" / "other" / "model.json").write_text("[]")
    assert store.all() == [kept]
