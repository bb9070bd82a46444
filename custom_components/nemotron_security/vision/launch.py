"""How a process of ours is started: the worker that watches, and the short one that tries a detector."""

import os
from pathlib import Path
import sys

FOLDER = str(Path(__file__).parent)
"""What `python -I` is told to run."""

_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "HOME",
    "TMPDIR",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
)
"""All that a process of ours is given of the environment, which may hold the house's secrets."""


def environment() -> dict[str, str]:
    """Return the environment of a process of ours."""
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}


def package_arguments(python: str) -> list[str]:
    """Return the arguments that tell an interpreter where packages lie; none for one with packages of its own."""
    if python != sys.executable:
        return []
    # Home Assistant may keep requirements in a folder of its own, which an isolated interpreter does not know.
    folders = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return [f"--packages={folder}" for folder in folders]
