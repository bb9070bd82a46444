"""Rendered scenes as files, each rendered once, and anew when it or the renderer has changed."""

from hashlib import sha256
import os
from pathlib import Path

from .home_assistant import REPOSITORY
from .scenes import SCENES, render

FOLDER = REPOSITORY / ".cache" / "scenes"


def clip_path(name: str) -> Path:
    """Return where the clip of a scene lies, rendered or not; its ground truth lies beside it as JSON."""
    script = sha256(repr(SCENES[name]).encode()).hexdigest()[:8]
    return FOLDER / f"{name}-{_renderer_version()}-{script}.mp4"


def clip(name: str) -> Path:
    """Return the video file of a scene; renders it, in about 20 s, if nobody did before."""
    path = clip_path(name)
    if not path.exists():
        print(f"Rendering the scene {name} (once) ...", flush=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.mp4")
        render(name, part)
        part.with_suffix(".json").replace(path.with_suffix(".json"))
        part.replace(path)
    return path


def _renderer_version() -> str:
    digest = sha256()
    for file in sorted((REPOSITORY / "demo" / "scenes").glob("*.py")):
        if file.name != "catalogue.py":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
