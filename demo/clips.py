"""Rendered scenes as files, each rendered once."""

import os
from pathlib import Path

from .home_assistant import REPOSITORY
from .scenes import render

FOLDER = REPOSITORY / ".cache" / "clips"


def clip(name: str) -> Path:
    """Return the video file of a scene; renders it, in about 20 s, if nobody did before."""
    path = FOLDER / f"{name}.mp4"
    if not path.exists():
        print(f"Rendering the scene {name} (once) ...", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{name}.{os.getpid()}.part.mp4")
        render(name, part)
        part.replace(path)
    return path
