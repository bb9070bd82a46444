"""The command line, as people run it."""

import json
from pathlib import Path
import subprocess
import sys

import av
import pytest

from .blobs import write_video

REPOSITORY = Path(__file__).resolve().parents[2]
VISION = REPOSITORY / "custom_components" / "nemotron_security" / "vision"
SHARED = REPOSITORY.parent / "shared"
MODEL = SHARED / "models" / "yolo11n_320_ncnn_model"
STREET = SHARED / "media" / "vtest.avi"
needs_weights = pytest.mark.skipif(
    not MODEL.is_dir() or not STREET.is_file(), reason="needs the weights and footage of shared/"
)


def _run(*arguments: str | Path, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, VISION, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first seconds of the street."""
    path = tmp_path_factory.mktemp("street") / "street.avi"
    with av.open(str(STREET)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is None or packet.pts >= 25:
                break
            packet.stream = stream
            target.mux(packet)
    return path


@needs_weights
def test_tracks_are_printed_and_drawn(street: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = _run(street, "--model", MODEL, "--labels", "person", "--confidence", "0.6", "--annotated", out)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["at"] == 0.0
    assert any(track["confirmed"] for track in lines[-1]["tracks"])
    assert {track["label"] for line in lines for track in line["tracks"]} == {"person"}
    with av.open(str(out)) as container:
        pictures = list(container.decode(video=0))
    assert len(pictures) == 25
    assert (pictures[0].width, pictures[0].height) == (768, 576)
    colours = pictures[-1].to_ndarray(format="rgb24").astype(int)
    green = (abs(colours - (118, 185, 0)) < 40).all(axis=2).sum()
    assert green > 100, "boxes are drawn in the colour of people"


@needs_weights
def test_it_runs_as_a_module_too(street: Path) -> None:
    command = [sys.executable, "-m", "custom_components.nemotron_security.vision", str(street), "--model", str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["tracks"]


@needs_weights
def test_a_missing_or_useless_video_is_said_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    for video, problem in ((tmp_path / "none.mp4", "file_missing"), (text, "source_no_video")):
        done = _run(video, "--model", MODEL)
        assert done.returncode == 2
        assert problem in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_missing_model_is_said_in_one_line(tmp_path: Path) -> None:
    done = _run(write_video(tmp_path / "walk.mp4", seconds=0.5), "--model", tmp_path / "none")
    assert done.returncode == 2
    assert "model_missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_wrong_arguments_are_explained() -> None:
    done = _run("--model")
    assert done.returncode == 2
    assert "usage: vision" in done.stderr


def test_the_folder_never_shadows_the_standard_library() -> None:
    """The integration's folder holds select.py and event.py; none of its folders may be on the worker's path."""
    probe = (
        "import runpy, sys\n"
        f"sys.argv = [{str(VISION)!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(VISION)!r}, run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "print([entry for entry in sys.path if 'nemotron_security' in entry], 'vision.watch' in sys.modules,\n"
        "      [name for name in sys.modules if 'homeassistant' in name or 'custom_components' in name])\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[] True []"
