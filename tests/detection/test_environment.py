"""A real environment, made by the real uv, of tiny packages that lie in a folder; and all that can go wrong."""

import asyncio
from collections.abc import Callable, Mapping
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any
import zipfile

from packaging.tags import Tag
import pytest

from custom_components.nemotron_security.detection import environment
from custom_components.nemotron_security.detection.environment import (
    Accelerator,
    Build,
    Environment,
    EnvironmentFailure,
    EnvironmentProblem,
    EnvironmentState,
    Packages,
    find_uv,
    platform_problem,
)

CPU = Build(accelerator=Accelerator.CPU)


def wheel(
    folder: Path,
    name: str,
    content: str = "",
    *,
    tag: str = "py3-none-any",
    version: str = "1.0",
    files: Mapping[str, str] | None = None,
) -> None:
    """Write a wheel with one module, and perhaps other files."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as opened:
        for place, text in {f"{name}.py": content, **(files or {})}.items():
            opened.writestr(place, text)
        opened.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        opened.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        opened.writestr(f"{about}/RECORD", "")


@pytest.fixture(autouse=True)
def _space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a disk with enough of it."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(f"{environment.__name__}.shutil.disk_usage", lambda _: usage._replace(free=100_000_000_000))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    wheel(tmp_path / "packages", "tiny", "ANSWER = 42\n")
    return tmp_path / "packages"


@pytest.fixture
def make(tmp_path: Path, packages: Path) -> Callable[..., Environment]:
    def make(*requirements: str, arguments: tuple[str, ...] | None = None) -> Environment:
        found_there = ("--no-index", "--find-links", str(packages))
        return Environment(
            tmp_path / "cache" / "tiny",
            packages=lambda build: Packages(
                wheels=requirements or ("tiny",), stubs=("stub",) if build.tensorrt else ()
            ),
            arguments=found_there if arguments is None else arguments,
        )

    return make


@pytest.fixture
async def made(make: Callable[..., Environment]) -> Environment:
    environment = make()
    await environment.async_install(CPU, lambda _: None)
    return environment


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("cache/tiny/*"))


async def failure_of(environment: Environment) -> EnvironmentFailure:
    with pytest.raises(EnvironmentFailure) as raised:
        await environment.async_install(CPU, lambda _: None)
    return raised.value


async def test_made_used_and_removed(make: Callable[..., Environment], tmp_path: Path) -> None:
    environment, told = make(), list[float]()
    assert await environment.async_state() is EnvironmentState.ABSENT
    await environment.async_install(CPU, told.append)
    assert await environment.async_state() is EnvironmentState.READY
    assert await environment.async_build() == CPU
    assert told == sorted(told)
    assert told[-1] == 1.0
    answer = subprocess.run(  # noqa: ASYNC221
        [environment.python, "-I", "-c", "import tiny; print(tiny.ANSWER)"], capture_output=True, check=True
    )
    assert answer.stdout == b"42\n"
    # What was downloaded is linked into it; the cache is gone.
    link, made = (tmp_path / "cache" / "tiny" / name for name in leftovers(tmp_path))
    assert (link.name, link.readlink().name) == ("venv", made.name)
    await environment.async_remove()
    assert await environment.async_state() is EnvironmentState.ABSENT
    assert not (tmp_path / "cache" / "tiny").exists()
    await environment.async_remove()


async def test_nothing_of_ours_is_seen_in_it(made: Environment) -> None:
    """It is Home Assistant's Python, but without its packages."""
    seen = subprocess.run(  # noqa: ASYNC221
        [made.python, "-I", "-c", "import sys; print(sys.version_info[:3]); import homeassistant"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert seen.stdout == f"{sys.version_info[:3]}\n"
    assert "ModuleNotFoundError" in seen.stderr


async def test_made_anew_over_an_old_one(made: Environment, tmp_path: Path) -> None:
    (tmp_path / "cache" / "tiny" / "venv" / "old").touch()
    await made.async_install(Build(), lambda _: None)
    assert await made.async_state() is EnvironmentState.READY
    assert await made.async_build() == Build()
    assert not (tmp_path / "cache" / "tiny" / "venv" / "old").exists()
    assert len(leftovers(tmp_path)) == 2


def packages_gone_from_the_index(packages: Path, _monkeypatch: pytest.MonkeyPatch) -> EnvironmentProblem:
    shutil.rmtree(packages)
    packages.mkdir()
    return EnvironmentProblem.FAILED


def index_down(packages: Path, monkeypatch: pytest.MonkeyPatch) -> EnvironmentProblem:
    uv_that_says("error: Failed to fetch: https://example.org/tiny.whl", packages.parent, monkeypatch)
    return EnvironmentProblem.NETWORK


def disk_fills_up(packages: Path, monkeypatch: pytest.MonkeyPatch) -> EnvironmentProblem:
    uv_that_says("error: No space left on device (os error 28)", packages.parent, monkeypatch)
    return EnvironmentProblem.SPACE


def disk_is_too_small_for_both(packages: Path, monkeypatch: pytest.MonkeyPatch) -> EnvironmentProblem:
    usage = shutil.disk_usage(packages)
    monkeypatch.setattr(f"{environment.__name__}.shutil.disk_usage", lambda _: usage._replace(free=1_000_000_000))
    return EnvironmentProblem.SPACE


def uv_that_says(words: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv make the environment, and fail to install into it."""
    tool = folder / "bin" / "uv"
    tool.parent.mkdir()
    (real,) = find_uv()
    tool.write_text(f'#!/bin/sh\n[ "$1" = venv ] && exec {real} "$@"\necho "{words}" >&2\nexit 2\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    "accident", [packages_gone_from_the_index, index_down, disk_fills_up, disk_is_too_small_for_both]
)
async def test_one_that_works_goes_on_working_when_the_new_one_cannot_be_made(
    made: Environment,
    tmp_path: Path,
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    accident: Callable[[Path, pytest.MonkeyPatch], EnvironmentProblem],
) -> None:
    before = leftovers(tmp_path)
    problem = accident(packages, monkeypatch)
    with pytest.raises(EnvironmentFailure) as raised:
        await made.async_install(Build(), lambda _: None)
    assert raised.value.problem is problem
    assert await made.async_state() is EnvironmentState.READY
    assert await made.async_build() == CPU
    # What was downloaded is of use only where the network failed.
    assert set(leftovers(tmp_path)) - {"downloads"} == set(before)
    assert ("downloads" in leftovers(tmp_path)) is (problem is EnvironmentProblem.NETWORK)


async def test_one_that_works_is_used_while_the_new_one_is_made(
    made: Environment, slow_uv: Path, tmp_path: Path
) -> None:
    before = leftovers(tmp_path)
    task = asyncio.create_task(made.async_install(Build(), lambda _: None))
    async with asyncio.timeout(20):
        while not slow_uv.exists() or not slow_uv.read_text():
            await asyncio.sleep(0.01)
    assert await made.async_state() is EnvironmentState.READY
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await made.async_state() is EnvironmentState.READY
    assert leftovers(tmp_path) == sorted(["downloads", *before])


async def test_one_that_no_longer_runs_makes_room(
    made: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_gone(tmp_path / "cache" / "tiny")
    old = (tmp_path / "cache" / "tiny" / "venv").resolve()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        f"{environment.__name__}.shutil.disk_usage",
        lambda _: usage._replace(free=1_000_000_000 if old.exists() else 5_000_000_000),
    )
    await made.async_install(CPU, lambda _: None)
    assert await made.async_state() is EnvironmentState.READY


async def test_what_a_crash_left_and_copies_that_are_no_links_are_cleaned_up(made: Environment, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "tiny"
    real = (folder / "venv").resolve()
    (folder / "venv").unlink()
    real.rename(folder / "venv")
    (folder / "venv-crashed" / "bin").mkdir(parents=True)
    (folder / "venv-crashed.link").symlink_to("venv-crashed")
    assert await made.async_state() is EnvironmentState.READY
    await made.async_install(CPU, lambda _: None)
    assert await made.async_state() is EnvironmentState.READY
    assert leftovers(tmp_path) == ["venv", (folder / "venv").readlink().name]


async def test_what_home_assistants_image_tells_uv_does_not_count(
    make: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "true")
    monkeypatch.setenv("UV_NO_CACHE", "true")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "https://user:secret@127.0.0.1:1/")
    environment = make()
    await environment.async_install(CPU, lambda _: None)
    assert await environment.async_state() is EnvironmentState.READY


# --- an update, and other accidents -----------------------------------------------------------------------------------


def of_another_python(folder: Path) -> None:
    """Home Assistant's image brings another version: what it leads to answers with that."""
    python = folder / "venv" / "bin" / "python"
    python.unlink()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)


def python_gone(folder: Path) -> None:
    """Home Assistant's image has its Python elsewhere now."""
    python = folder / "venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/local/bin/python3.99")


def packages_gone(folder: Path) -> None:
    shutil.rmtree(folder / "venv" / "lib")


@pytest.mark.parametrize("accident", [of_another_python, python_gone, packages_gone])
async def test_broken_ones_are_found_out_and_made_anew(
    made: Environment, tmp_path: Path, accident: Callable[[Path], None]
) -> None:
    accident(tmp_path / "cache" / "tiny")
    assert await made.async_state() is EnvironmentState.BROKEN
    await made.async_install(await made.async_build(), lambda _: None)
    assert await made.async_state() is EnvironmentState.READY


@pytest.mark.parametrize("content", ["", "[]", "{"])
async def test_marker_that_is_damaged(made: Environment, tmp_path: Path, content: str) -> None:
    (tmp_path / "cache" / "tiny" / "venv" / "environment.json").write_text(content)
    assert await made.async_state() is EnvironmentState.PARTIAL


# --- what cannot be ---------------------------------------------------------------------------------------------------


async def test_on_musl(make: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        f"{environment.__name__}.tags.sys_tags", lambda: iter([Tag("cp314", "cp314", "musllinux_1_2_x86_64")])
    )
    assert platform_problem() is EnvironmentProblem.MUSL
    assert (await failure_of(make())).problem is EnvironmentProblem.MUSL
    assert leftovers(tmp_path) == []


async def test_on_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{environment.__name__}.sys.maxsize", 2**31 - 1)
    assert platform_problem() is EnvironmentProblem.BITS


async def test_without_uv(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Environment]) -> None:
    monkeypatch.setattr(f"{environment.__name__}.shutil.which", lambda *_args, **_keywords: None)
    assert find_uv() == [sys.executable, "-m", "uv"]
    await make().async_install(CPU, lambda _: None)
    monkeypatch.setattr(f"{environment.__name__}.util.find_spec", lambda _: None)
    assert platform_problem() is EnvironmentProblem.NO_UV


async def test_without_space(make: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(f"{environment.__name__}.shutil.disk_usage", lambda _: usage._replace(free=5_000_000_000))
    made = make()
    assert await made.async_free() == 5_000_000_000
    assert await made.async_obstacle(CPU) is None
    assert await made.async_obstacle(Build()) is EnvironmentProblem.SPACE


async def test_package_that_is_nowhere(make: Callable[..., Environment], tmp_path: Path) -> None:
    failed = await failure_of(make("tiny", "absent-package"))
    assert failed.problem is EnvironmentProblem.FAILED
    assert "absent-package" in failed.detail
    assert leftovers(tmp_path) == []


async def test_package_for_another_python(make: Callable[..., Environment], packages: Path, tmp_path: Path) -> None:
    wheel(packages, "old", tag="cp39-cp39-manylinux_2_17_x86_64")
    failed = await failure_of(make("tiny", "old"))
    assert failed.problem is EnvironmentProblem.PYTHON
    assert leftovers(tmp_path) == []


async def test_package_that_would_have_to_be_built(
    make: Callable[..., Environment], packages: Path, tmp_path: Path
) -> None:
    """Building runs what is in it."""
    evil = tmp_path / "evil"
    with zipfile.ZipFile(packages / "source-1.0.zip", "w") as opened:
        opened.writestr("source-1.0/setup.py", f"open({str(evil)!r}, 'w')")
    assert (await failure_of(make("source"))).problem in {EnvironmentProblem.PYTHON, EnvironmentProblem.FAILED}
    assert not evil.exists()


async def test_without_network(
    make: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "1")
    index = "http://user:secret@127.0.0.1:1/simple"
    failed = await failure_of(make(arguments=("--default-index", index)))
    assert failed.problem is EnvironmentProblem.NETWORK
    assert "secret" not in failed.detail
    # What was downloaded until then would be used.
    assert leftovers(tmp_path) == ["downloads"]
    made = make()
    assert await made.async_state() is EnvironmentState.PARTIAL
    await made.async_install(CPU, lambda _: None)
    assert await made.async_state() is EnvironmentState.READY


async def test_with_packages_that_exist_as_source_only(
    make: Callable[..., Environment], packages: Path, tmp_path: Path
) -> None:
    """As TensorRT's, which fetches a wheel while it is built. Here it is one already: the second step counts."""
    wheel(packages, "stub", "ANSWER = 43\n")
    made, told = make(), list[float]()
    build = Build(tensorrt=True)
    await made.async_install(build, told.append)
    assert await made.async_build() == build
    assert told == sorted(told)
    answer = subprocess.run(  # noqa: ASYNC221
        [made.python, "-I", "-c", "import stub, tiny; print(stub.ANSWER)"], capture_output=True, check=True
    )
    assert answer.stdout == b"43\n"


def test_what_ultralytics_needs() -> None:
    gpu, cpu, engines = (environment.ultralytics_packages(build) for build in (Build(), CPU, Build(tensorrt=True)))
    assert gpu.wheels[0].startswith("ultralytics")
    assert not gpu.stubs
    assert set(gpu.wheels) - set(cpu.wheels) == {"onnxruntime-gpu>=1.23"}
    assert any(name.startswith("tensorrt") for name in engines.stubs)
    assert Build(tensorrt=True).space > Build().space > CPU.space


async def test_without_the_index_of_pytorch_alone(
    make: Callable[..., Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a GPU there is PyPI's own build; for the processor alone that would be gigabytes for nothing."""
    tool = tmp_path / "bin" / "uv"
    tool.parent.mkdir()
    (real,) = find_uv()
    tool.write_text(
        f'#!/bin/sh\ncase "$*" in *--torch-backend*) echo "error: Failed to fetch: pytorch" >&2; exit 2;; esac\n'
        f'exec {real} "$@"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    made = make()
    assert (await failure_of(made)).problem is EnvironmentProblem.NETWORK
    await made.async_install(Build(), lambda _: None)
    assert await made.async_state() is EnvironmentState.READY


async def test_packages_that_lack_what_was_asked_for(
    make: Callable[..., Environment], packages: Path, tmp_path: Path
) -> None:
    wheel(packages, "other")
    (packages / "other-1.0-py3-none-any.whl").rename(packages / "named-1.0-py3-none-any.whl")
    failed = await failure_of(make("named"))
    assert failed.problem is EnvironmentProblem.FAILED
    assert leftovers(tmp_path) == []


# --- while it is made -------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A uv that stays at the second step, with a child of its own, until it is killed; returns the child's pid file."""
    pid, tool = tmp_path / "pid", tmp_path / "bin" / "uv"
    tool.parent.mkdir()
    (real,) = find_uv()
    tool.write_text(
        f'#!/bin/sh\n[ "$1" = venv ] && exec {real} "$@"\n'
        f'echo "Downloading torch (10.0MiB)" >&2\necho "Downloading numpy (30.0MiB)" >&2\n'
        f'echo " Downloaded torch" >&2\nsleep 60 &\necho $! > {pid}\nwait\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    return pid


async def test_cancelled(
    make: Callable[..., Environment], slow_uv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, told = make(), list[float]()
    task = asyncio.create_task(made.async_install(CPU, told.append))
    async with asyncio.timeout(20):
        while not slow_uv.exists() or not slow_uv.read_text() or not told:
            await asyncio.sleep(0.01)
    assert told == [pytest.approx(0.05 + 0.8 / 4)]
    # Nobody else gets in between.
    with pytest.raises(EnvironmentFailure) as raised:
        await made.async_install(CPU, told.append)
    assert raised.value.problem is EnvironmentProblem.BUSY
    with pytest.raises(EnvironmentFailure) as raised:
        await made.async_remove()
    assert raised.value.problem is EnvironmentProblem.BUSY
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Its children are gone with it.
    async with asyncio.timeout(5):
        while Path(f"/proc/{slow_uv.read_text().strip()}/cmdline").exists() and _alive(slow_uv):
            await asyncio.sleep(0.01)
    assert leftovers(tmp_path) == ["downloads"]
    assert await made.async_state() is EnvironmentState.PARTIAL
    await made.async_remove()
    assert await made.async_state() is EnvironmentState.ABSENT


def _alive(pid: Path) -> bool:
    stat = Path(f"/proc/{pid.read_text().strip()}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("error: No space left on device (os error 28)", EnvironmentProblem.SPACE),
        ("error: Failed to fetch: `https://example.org/torch.whl`\n  cause: dns error", EnvironmentProblem.NETWORK),
        ("error: Because torch has no wheels with a matching Python ABI tag", EnvironmentProblem.PYTHON),
        ("something else", EnvironmentProblem.FAILED),
        ("", EnvironmentProblem.FAILED),
    ],
)
def test_words_of_uv(said: str, problem: EnvironmentProblem) -> None:
    assert environment._failure(said).problem is problem


def test_marker_holds_no_more_than_it_must(made: Environment, tmp_path: Path) -> None:
    marker: Mapping[str, Any] = json.loads((tmp_path / "cache" / "tiny" / "venv" / "environment.json").read_text())
    assert marker == {"accelerator": "cpu", "tensorrt": "no", "module": "tiny"}
