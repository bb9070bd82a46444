"""A Python environment of its own for packages that are too large to be required of every Home Assistant.

Made by `uv`, which Home Assistant ships, below the configuration's cache folder, which no backup holds. 3.2 GB are
downloaded and 6 GB kept with what NVIDIA's GPUs need; about a quarter of that without.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
import contextlib
from dataclasses import dataclass
from enum import StrEnum
import errno
from importlib import util
import json
import logging
import os
from pathlib import Path
import re
import shutil
import signal
import sys
import uuid

from packaging import tags

from ..vision.plugins import (
    ONNX_GPU_REQUIREMENTS,
    ONNX_REQUIREMENTS,
    TENSORRT_REQUIREMENTS,
    ULTRALYTICS_REQUIREMENTS,
)
from ..vision.redact import redact
from . import DetectionFailure

_LOGGER = logging.getLogger(__name__)

_CURRENT = "venv"
"""Leads to the environment that is used; a new one takes its place by leading elsewhere."""
_MARKER = "environment.json"
"""In an environment that is whole."""
_DOWNLOADS = "downloads"
_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "UV_HTTP_TIMEOUT"),
)
"""What `uv` is given of the environment. Not the rest of its own: Home Assistant's images tell it to install beside
Home Assistant, to keep no cache, and to look for packages where there are none of these."""
_GIGABYTE = 1_000_000_000
_WORDS = 300
_KEPT_LINES = 40

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DOWNLOADING = re.compile(r"^Downloading (\S+) \(([\d.]+)(B|KiB|MiB|GiB)\)$")
_DOWNLOADED = re.compile(r"^\s*Downloaded (\S+)$")


class EnvironmentProblem(StrEnum):
    """Why the environment cannot be, or is not. Each value is a translation key that names what to do."""

    MUSL = "environment_musl"
    """Home Assistant OS and the container: its C library is none that these packages are made for."""
    BITS = "environment_32_bit"
    NO_UV = "environment_no_uv"
    SPACE = "environment_space"
    PYTHON = "environment_python"
    """Some package is not made for this Python (yet), or not for this processor."""
    NETWORK = "environment_network"
    FAILED = "environment_failed"
    BUSY = "environment_busy"
    """It is being made or removed already."""


class EnvironmentState(StrEnum):
    """How far it is."""

    ABSENT = "absent"
    PARTIAL = "partial"
    """It was begun. What was downloaded is used when it is made again."""
    BROKEN = "broken"
    """It was made for another Python than Home Assistant runs on now, or something of it is gone."""
    READY = "ready"


class Accelerator(StrEnum):
    """What its packages shall make use of."""

    GPU = "gpu"
    """An NVIDIA GPU, by the version of CUDA that its driver knows."""
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What the environment is made for."""

    accelerator: Accelerator = Accelerator.GPU
    tensorrt: bool = False
    """With what makes and runs TensorRT's engines; on NVIDIA's GPUs only."""

    @property
    def space(self) -> int:
        """Bytes that must be free. With CUDA 13 on x86-64 it takes 6.0 GB; 4.6 of them are NVIDIA's and Triton's."""
        gpu = self.accelerator is Accelerator.GPU
        return (8 if gpu else 3) * _GIGABYTE + (6 * _GIGABYTE if self.tensorrt else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """What is installed."""

    wheels: tuple[str, ...]
    """Only ever as wheels: to build from source takes compilers and hours, and runs what a package brings."""
    stubs: tuple[str, ...] = ()
    """Packages whose source does nothing but fetch a wheel from their maker: TensorRT has no other form."""


def ultralytics_packages(build: Build) -> Packages:
    """Return what the detector `ultralytics` and the worker that runs it need."""
    onnx = ONNX_GPU_REQUIREMENTS if build.accelerator is Accelerator.GPU else ONNX_REQUIREMENTS
    return Packages(wheels=(*ULTRALYTICS_REQUIREMENTS, *onnx), stubs=TENSORRT_REQUIREMENTS if build.tensorrt else ())


class EnvironmentFailure(DetectionFailure[EnvironmentProblem]):
    """The environment could not be made."""


def platform_problem() -> EnvironmentProblem | None:
    """Return why this machine can never have such an environment. Reads files: call it in an executor."""
    if sys.maxsize <= 2**32:
        return EnvironmentProblem.BITS
    if "musllinux" in next(tags.sys_tags()).platform:
        return EnvironmentProblem.MUSL
    return None if find_uv() else EnvironmentProblem.NO_UV


def find_uv() -> list[str]:
    """Return the command that is `uv`: on the path, beside this Python, or as its package; empty where there is none.

    Reads files: call it in an executor.
    """
    for folder in (None, str(Path(sys.executable).parent)):
        if found := shutil.which("uv", path=folder):
            return [found]
    return [sys.executable, "-m", "uv"] if util.find_spec("uv") else []


class _Progress:
    """Tells how far `uv` is, from what it prints when nobody sits at a terminal."""

    def __init__(self, report: Callable[[float], None], begins: float = 0.0, ends: float = 0.0) -> None:
        """Report between these two; nothing at all if they are the same."""
        self._report = report
        self._begins = begins
        self._ends = ends
        self._sizes: dict[str, float] = {}
        self._done = 0.0

    def read(self, line: str) -> None:
        """Take one line. Downloads are nearly all of it: they are counted by their bytes."""
        if found := _DOWNLOADING.match(line):
            self._sizes[found[1]] = float(found[2]) * _UNITS[found[3]]
        elif found := _DOWNLOADED.match(line):
            self._done += self._sizes.get(found[1], 0.0)
            self._tell(0.05 + 0.8 * min(1.0, self._done / (sum(self._sizes.values()) or 1.0)))
        elif line.startswith("Resolved "):
            self._tell(0.05)
        elif line.startswith("Prepared "):
            self._tell(0.9)
        elif line.startswith("Installed "):
            self._tell(1.0)

    def _tell(self, share: float) -> None:
        if self._ends > self._begins:
            self._report(self._begins + share * (self._ends - self._begins))


class Environment:
    """The one environment below a folder. Its methods may be called by several: only one of them changes it."""

    def __init__(
        self,
        folder: Path,
        *,
        packages: Callable[[Build], Packages] = ultralytics_packages,
        arguments: Sequence[str] = (),
    ) -> None:
        """Nothing is done yet.

        Args:
            folder: its own; nothing else may be in it.
            packages: what is installed, the one that it is for first.
            arguments: further ones of `uv pip install`, as where to look for packages.
        """
        self._folder = folder
        self._packages = packages
        self._arguments = tuple(arguments)
        self._lock = asyncio.Lock()

    @property
    def python(self) -> str:
        """The interpreter in it, whether it is there or not."""
        return _python(self._folder / _CURRENT)

    async def async_state(self) -> EnvironmentState:
        """Look how far it is. A ready one is asked: its Python runs and finds the first of what it needs."""
        marker = await asyncio.to_thread(self._read_marker)
        if marker is None:
            there = await asyncio.to_thread(self._folder.exists)
            return EnvironmentState.PARTIAL if there else EnvironmentState.ABSENT
        ready = await self._async_runs(self.python, marker.get("module", ""))
        return EnvironmentState.READY if ready else EnvironmentState.BROKEN

    async def async_build(self) -> Build:
        """Return what it was made for, to make it so again."""
        marker = await asyncio.to_thread(self._read_marker) or {}
        cpu = marker.get("accelerator") == Accelerator.CPU
        return Build(accelerator=Accelerator.CPU if cpu else Accelerator.GPU, tensorrt=marker.get("tensorrt") == "yes")

    async def async_obstacle(self, build: Build) -> EnvironmentProblem | None:
        """Return why it cannot be made now."""
        return await asyncio.to_thread(self._obstacle, build)

    async def async_free(self) -> int:
        """Return the bytes that are free where it lies."""
        return await asyncio.to_thread(free_space, self._folder)

    async def async_install(self, build: Build, report: Callable[[float], None]) -> None:
        """Make it, or make it anew; minutes. One that is there is used until the new one is whole.

        When cancelled, what was downloaded is kept for the next time.

        Args:
            build: what it is for.
            report: called on the event loop with how far it is, 0 to 1.

        Raises:
            EnvironmentFailure: it cannot be made. What was there is still there, and nothing unusable is left, but for
                downloads that can be resumed.
        """
        if self._lock.locked():
            raise EnvironmentFailure(EnvironmentProblem.BUSY)
        async with self._lock:
            await self._async_make_room(build)
            try:
                await self._async_install(build, report)
            except OSError as err:
                await asyncio.to_thread(self._remove_unfinished)
                raise disk_failure(err) from err
            except EnvironmentFailure as err:
                resumable = err.problem is EnvironmentProblem.NETWORK
                await asyncio.to_thread(self._remove_unfinished, downloads=not resumable)
                raise
            except BaseException:
                await asyncio.shield(asyncio.to_thread(self._remove_unfinished, downloads=False))
                raise

    async def async_add(self, requirements: Sequence[str]) -> None:
        """Install more into the one that is there.

        Raises:
            EnvironmentFailure: that failed; what was there is still there.
        """
        if self._lock.locked():
            raise EnvironmentFailure(EnvironmentProblem.BUSY)
        async with self._lock:
            uv = await asyncio.to_thread(find_uv)
            install = [*uv, "pip", "install", "--python", self.python, *self._arguments, "--only-binary", ":all:"]
            try:
                await self._async_uv([*install, *requirements], _Progress(lambda _: None))
            except OSError as err:
                raise disk_failure(err) from err
            finally:
                await asyncio.shield(asyncio.to_thread(self._remove_downloads))

    async def async_remove(self) -> None:
        """Remove it and all that was downloaded for it; none is no error.

        Raises:
            EnvironmentFailure: it is being made.
        """
        if self._lock.locked():
            raise EnvironmentFailure(EnvironmentProblem.BUSY)
        async with self._lock:
            await asyncio.to_thread(self._remove)

    async def _async_make_room(self, build: Build) -> None:
        """Look whether it can be made beside what is there. Only what no longer runs makes room for it.

        Raises:
            EnvironmentFailure: it cannot.
        """
        problem = await self.async_obstacle(build)
        if problem is EnvironmentProblem.SPACE and await self.async_state() is EnvironmentState.BROKEN:
            await asyncio.to_thread(self._remove)
            problem = await self.async_obstacle(build)
        if problem:
            raise EnvironmentFailure(problem)

    async def _async_install(self, build: Build, report: Callable[[float], None]) -> None:
        uv = await asyncio.to_thread(find_uv)
        made = await asyncio.to_thread(self._begin)
        packages = self._packages(build)
        venv = ("venv", "--no-project", "--python", sys.executable, str(made))
        await self._async_uv([*uv, *venv], _Progress(report))
        install = [*uv, "pip", "install", "--python", _python(made), *self._arguments]
        share = 0.7 if packages.stubs else 1.0
        wheels = ["--only-binary", ":all:", *packages.wheels]
        backend = "auto" if build.accelerator is Accelerator.GPU else "cpu"
        try:
            await self._async_uv([*install, "--torch-backend", backend, *wheels], _Progress(report, 0.0, share))
        except EnvironmentFailure as err:
            if err.problem is not EnvironmentProblem.NETWORK or build.accelerator is Accelerator.CPU:
                raise
            # PyTorch's own index may be out of reach where PyPI is not, and that has it for GPUs too.
            await self._async_uv([*install, *wheels], _Progress(report, 0.0, share))
        if packages.stubs:
            await self._async_uv([*install, *packages.stubs], _Progress(report, share, 1.0))
        module = re.split(r"[^\w]", packages.wheels[0])[0]
        if not await self._async_runs(_python(made), module):
            raise EnvironmentFailure(EnvironmentProblem.FAILED, f"{module} is not in it")
        marker = {"accelerator": build.accelerator, "tensorrt": "yes" if build.tensorrt else "no", "module": module}
        await asyncio.to_thread(self._finish, made, marker)

    async def _async_uv(self, command: Sequence[str], progress: _Progress) -> None:
        """Run `uv` to its end."""
        process = await asyncio.create_subprocess_exec(
            *command,
            "--no-config",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**_given(_VARIABLES), "UV_CACHE_DIR": str(self._folder / _DOWNLOADS), "NO_COLOR": "1"},
            start_new_session=True,  # ended with all that it started
        )
        lines: list[str] = []
        assert process.stderr is not None
        try:
            while line := await process.stderr.readline():
                text = line.decode(errors="replace").rstrip()
                lines = [*lines[1 - _KEPT_LINES :], text]
                progress.read(text)
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            said = "\n".join(lines)
            _LOGGER.warning("uv could not make the detector's environment: %s", redact(said))
            raise _failure(said)

    async def _async_runs(self, python: str, module: str) -> bool:
        """Tell whether a Python is of Home Assistant's version and finds the module."""
        question = (
            "import importlib.util as u, sys; "
            "sys.exit(list(sys.version_info[:2]) != [int(n) for n in sys.argv[1:3]] or not u.find_spec(sys.argv[3]))"
        )
        version = map(str, sys.version_info[:2])
        try:
            process = await asyncio.create_subprocess_exec(
                *(python, "-I", "-c", question, *version, module),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=_given(_VARIABLES),
            )
        except OSError:  # the Python that it leads to is gone
            return False
        return await process.wait() == 0

    def _obstacle(self, build: Build) -> EnvironmentProblem | None:
        if problem := platform_problem():
            return problem
        return EnvironmentProblem.SPACE if free_space(self._folder) < build.space else None

    def _read_marker(self) -> dict[str, str] | None:
        try:
            marker = json.loads((self._folder / _CURRENT / _MARKER).read_text())
        except OSError, ValueError, RecursionError:
            return None
        return marker if isinstance(marker, dict) else None

    def _begin(self) -> Path:
        """Return where a new one is made: beside the present one."""
        self._remove_unfinished(downloads=False)
        made = self._folder / f"{_CURRENT}-{uuid.uuid4().hex}"
        made.parent.mkdir(parents=True, exist_ok=True)
        return made

    def _finish(self, made: Path, marker: Mapping[str, str]) -> None:
        """Let a new one take the place of the present one, in one moment, and remove all else.

        What was downloaded is linked into it by now: the cache alone can go.
        """
        (made / _MARKER).write_text(json.dumps(marker))
        current, link = self._folder / _CURRENT, made.with_name(f"{made.name}.link")
        link.symlink_to(made.name)
        if current.is_dir() and not current.is_symlink():  # a copy of this folder that followed the link
            shutil.rmtree(current)
        link.replace(current)
        self._remove_unfinished()

    def _remove_unfinished(self, *, downloads: bool = True) -> None:
        """Remove all but the environment that is there; its downloads only if told so. What stays, does no harm."""
        keep = {_CURRENT, *(() if downloads else (_DOWNLOADS,))}
        with contextlib.suppress(OSError):
            keep.add((self._folder / _CURRENT).readlink().name)
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name not in keep:
                    _delete(path)
            self._folder.rmdir()  # where nothing is left in it

    def _remove_downloads(self) -> None:
        shutil.rmtree(self._folder / _DOWNLOADS, ignore_errors=True)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / _CURRENT).unlink()  # first: what is half gone is not ready
        shutil.rmtree(self._folder, ignore_errors=True)


def _python(venv: Path) -> str:
    return str(venv / "bin" / "python")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def free_space(folder: Path) -> int:
    """Return the bytes that are free where a folder lies or will lie. Blocks."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def disk_failure(err: OSError) -> EnvironmentFailure:
    """Return what to tell when the disk does not take something, or a program cannot be started."""
    full = err.errno in {errno.ENOSPC, errno.EDQUOT}
    problem = EnvironmentProblem.SPACE if full else EnvironmentProblem.FAILED
    return EnvironmentFailure(problem, err.strerror or type(err).__name__)


def _given(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _failure(said: str) -> EnvironmentFailure:
    """Tell from the words of `uv` what went wrong."""
    detail = redact(_detail(said))
    for problem, signs in (
        (EnvironmentProblem.SPACE, ("No space left on device", "os error 28")),
        (EnvironmentProblem.NETWORK, ("Failed to fetch", "error sending request", "dns error", "Connect", "timed out")),
        (EnvironmentProblem.PYTHON, ("has no wheels with a matching", "no wheels are available", "no usable wheels")),
    ):
        if any(sign in said for sign in signs):
            return EnvironmentFailure(problem, detail)
    return EnvironmentFailure(EnvironmentProblem.FAILED, detail)


def _detail(said: str) -> str:
    """Return the error and its last cause: what lies between explains the one by the other."""
    lines = [line.strip() for line in said.splitlines()]
    errors = [line for line in lines if line.startswith(("error:", "cause:"))]
    words = "; ".join(dict.fromkeys((*errors[:1], *errors[-1:]))) or (lines[-1] if lines else "")
    return words[:_WORDS]
