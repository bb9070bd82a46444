"""Try a detector before it is chosen: the parent's side. A process of its own loads it, runs it and is gone.

Home Assistant's process loads this; what the child does is in `trial_run.py`.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
import json
import logging
import signal
import sys

from . import launch, wire
from .messages import DetectorConfig, Problem
from .redact import redact

_LOGGER = logging.getLogger(__name__)

_LARGEST = 1024 * 1024
"""Bytes that a child may say: a result is a few kilobytes."""
_WORDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of trying a detector: a problem, or what it can do on this machine."""

    problem: Problem | None
    """Null: it works. Each value is a translation key of an issue, which says what to do."""
    detail: str = ""
    """For people who look for the cause; free of secrets."""
    labels: tuple[str, ...] = ()
    """Names of the model's classes."""
    width: int = 0
    height: int = 0
    """Input size in pixels."""
    ms: float | None = None
    """Median time for one picture of 1280x720."""
    fps: float | None = None
    """Such pictures a second, one after the other."""
    batch_fps: float | None = None
    """Pictures a second when several go in together; null where that is not faster."""
    batch: int = 1
    """How many go in together then."""
    threads: int = 0
    """Threads of the processor; 0 where it does not run on this machine's or chooses by itself."""
    device: str = ""
    """`cpu`, a GPU's name, `cpu (...)` with why no GPU is used, or a server's host and port."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of Python and the libraries that were used."""


async def async_try_detector(
    config: DetectorConfig,
    *,
    python: str = sys.executable,
    timeout: float = 60.0,  # noqa: ASYNC109
) -> Trial:
    """Load a detector in a process of its own, let it look at a rendered picture, and tell how fast it is.

    Takes a few seconds; with `tensorrt` up to many minutes the first time. When cancelled, the process is ended.

    Args:
        config: the detector. It travels through a pipe: its token is in no argument and no environment.
        python: the interpreter to run on, for `ultralytics` that of its environment.
        timeout: seconds after which the process is killed.

    Returns:
        What it can do, or the problem: whatever happens to the process is one, never an error.
    """
    question = json.dumps(wire.to_plain(config)).encode()
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            "-I",
            launch.FOLDER,
            "--check",
            *launch.package_arguments(python),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=launch.environment(),
            start_new_session=True,  # Ctrl-C is for Home Assistant
        )
    except OSError as err:
        return Trial(problem=Problem.DETECTOR_NOT_INSTALLED, detail=f"{python}: {err.strerror or err}")
    try:
        async with asyncio.timeout(timeout):
            said, complaints = await _async_talk(process, question)
    except TimeoutError:
        return Trial(problem=Problem.DETECTOR_TIMEOUT, detail=f"not done after {timeout:g} seconds")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    words = redact(complaints.decode(errors="replace"), config.token).strip()
    return _read(said, words, process.returncode or 0)


async def _async_talk(process: asyncio.subprocess.Process, question: bytes) -> tuple[bytes, bytes]:
    """Ask the child, and return what it says and the end of what it complains of."""
    assert process.stdout is not None
    assert process.stderr is not None
    said, complaints, _ = await asyncio.gather(
        _async_end_of(process.stdout), _async_end_of(process.stderr), _async_ask(process, question)
    )
    await process.wait()
    return said, complaints


async def _async_ask(process: asyncio.subprocess.Process, question: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):  # it may die before it has read
        process.stdin.write(question)
        await process.stdin.drain()
    process.stdin.close()


async def _async_end_of(stream: asyncio.StreamReader) -> bytes:
    """Read a stream to its end and return the last of it."""
    kept = b""
    while part := await stream.read(_LARGEST):
        kept = (kept + part)[-_LARGEST:]
    return kept


def _read(said: bytes, words: str, status: int) -> Trial:
    """Return the trial that the child's last line holds, else what became of the child."""
    if words:
        _LOGGER.debug("The detector that was tried wrote: %s", words)
    if status == 0 and (lines := said.splitlines()):
        with contextlib.suppress(ValueError, RecursionError, wire.WireError):
            return wire.from_plain(Trial, json.loads(lines[-1]))
    last = words.splitlines()[-1] if words else "without a word"
    return Trial(problem=Problem.DETECTOR_CRASHED, detail=f"{_ended(status)}: {last}"[:_WORDS])


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
