"""Turns a model of PyTorch's into ncnn's form, in the environment of `ultralytics`: for machines without PyTorch."""

import asyncio
import contextlib
import os
from pathlib import Path
import shutil
import signal
import tempfile
from typing import Final

from ..vision.redact import redact
from .environment import Environment, EnvironmentFailure, EnvironmentProblem, disk_failure
from .model_files import ModelFileError
from .model_store import ModelStore, StoredModel

REQUIREMENTS: Final = (
    "ncnn>=1.0.20250428",
    "pnnx==20260526",  # Ultralytics wants this one: models that newer ones write crash
)
SIDES: Final = (320, 480, 640)
"""Input sizes that are offered, in pixels."""
_SECONDS = 900.0
_WORDS = 300
_SCRIPT: Final = """\
import sys
from ultralytics import YOLO
YOLO(sys.argv[1]).export(format="ncnn", imgsz=int(sys.argv[2]), half=True)
"""


async def async_export(environment: Environment, store: ModelStore, model: StoredModel, side: int) -> StoredModel:
    """Turn a `.pt` into a model for ncnn and keep it; minutes. When cancelled, the process is ended.

    Loading a `.pt` runs what is in it: only one that a trial of the detector accepted may be given.

    Raises:
        EnvironmentFailure: what it needs could not be installed, or it failed.
    """
    await environment.async_add(REQUIREMENTS)
    folder: Path | None = None
    try:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp))
        source = folder / f"{model.name.partition('.')[0] or 'model'}.pt"
        source = source if source.parent == folder else folder / "model.pt"
        await asyncio.to_thread(shutil.copyfile, model.path, source)
        await _async_run(environment.python, source, side)
        made = folder / f"{source.stem}_ncnn_model"
        return await asyncio.to_thread(store.add_folder, made, f"{source.stem} {side}")
    except ModelFileError as err:
        raise EnvironmentFailure(EnvironmentProblem.FAILED, str(err)) from err
    except OSError as err:
        raise disk_failure(err) from err
    finally:
        if folder is not None:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


async def _async_run(python: str, source: Path, side: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(python, "-I", "-c", _SCRIPT, str(source), str(side)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ.get("PATH", ""),
            "YOLO_AUTOINSTALL": "false",
            "YOLO_OFFLINE": "true",
            "YOLO_CONFIG_DIR": str(source.parent),
        },
        cwd=source.parent,
        start_new_session=True,  # ended with all that it started
    )
    try:
        async with asyncio.timeout(_SECONDS):
            _, said = await process.communicate()
    except TimeoutError as err:
        raise EnvironmentFailure(EnvironmentProblem.FAILED, f"not done after {_SECONDS:g} seconds") from err
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        lines = redact(said.decode(errors="replace")).strip().splitlines()
        raise EnvironmentFailure(EnvironmentProblem.FAILED, (lines[-1] if lines else "")[:_WORDS])
