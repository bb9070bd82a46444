"""The real binding against a library of our own: what it answers, and every way in which it fails."""

import asyncio
from collections.abc import AsyncIterator
import contextlib
import json
import os
from pathlib import Path
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pynvml
import pytest

from custom_components.nemotron_security.gpu import (
    GpuError,
    GpuProblem,
    GpuProcess,
    GpuReading,
    ThrottleReason,
    nvml,
    nvml_library,
    throttle_reason,
)
from custom_components.nemotron_security.gpu.nvml import NvmlSource

from ..store.alone import IMPORT_ALONE
from . import fake
from .fake import FULL, GIGABYTE, GPU, HANG, INSTANCE, OTHER_GPU, FakeDriver

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("driver")


@pytest.fixture
async def source(driver: FakeDriver) -> AsyncIterator[NvmlSource]:
    """The source under test; its thread is gone afterwards."""
    source = NvmlSource()
    yield source
    await source.async_stop()


async def read_one(source: NvmlSource) -> GpuReading:
    report = await source.async_read()
    assert report.lost == ()
    (reading,) = report.readings
    return reading


async def problem_of(source: NvmlSource) -> GpuProblem:
    with pytest.raises(GpuError) as raised:
        await source.async_read()
    assert raised.value.detail
    return raised.value.problem


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nvml"]


async def test_everything_that_a_gpu_answers(driver: FakeDriver, source: NvmlSource) -> None:
    driver.gpus(GPU)
    assert await read_one(source) == GpuReading(
        gpu_id=GPU,
        name="NVIDIA T4",
        driver_version="560.35.03",
        utilization=41.0,
        memory_used=2 * GIGABYTE,
        memory_total=16 * GIGABYTE,
        temperature=55.0,
        power=32.5,
        power_limit=70.0,
        energy=7200.0,
        graphics_clock=1590.0,
        memory_clock=5001.0,
        fan_speed=30.0,
        encoder_utilization=5.0,
        decoder_utilization=25.0,
        pcie_sent=1_200_000.0,
        pcie_received=3_400_000.0,
        ecc_corrected=7,
        ecc_uncorrected=0,
        performance_state=2,
        throttle=ThrottleReason.POWER_CAP,
        processes=(
            GpuProcess(pid=4242, name="python3", memory=GIGABYTE),
            GpuProcess(pid=4243, name="Xorg", memory=1000),
        ),
    )


async def test_a_gpu_that_answers_nothing(driver: FakeDriver, source: NvmlSource) -> None:
    driver.gpus(GPU, **dict.fromkeys(FULL))
    assert await read_one(source) == GpuReading(gpu_id=GPU, driver_version="560.35.03")


@pytest.mark.parametrize("fault", [fake.NOT_SUPPORTED, fake.NO_PERMISSION, fake.UNKNOWN, "!13", "!21", "!10"])
@pytest.mark.parametrize(
    ("key", "figure"),
    [
        ("utilization", "utilization"),
        ("temperature", "temperature"),
        ("power", "power"),
        ("ecc_corrected", "ecc_uncorrected"),
        ("encoder", "encoder_utilization"),
        ("compute", "processes"),
    ],
)
async def test_a_single_reading_that_fails_costs_no_other(
    driver: FakeDriver, source: NvmlSource, key: str, figure: str, fault: str
) -> None:
    driver.gpus(GPU, **{key: fault})
    reading = await read_one(source)
    assert getattr(reading, figure) is None
    assert reading.memory_used == 2 * GIGABYTE
    assert reading.graphics_clock == 1590.0


async def test_what_is_not_supported_is_not_asked_for_again_at_once(
    driver: FakeDriver, source: NvmlSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.gpus(GPU, fan=fake.NOT_SUPPORTED, temperature=fake.UNKNOWN)
    before = driver.calls("fan"), driver.calls("temperature")
    for _ in range(3):
        assert (await read_one(source)).fan_speed is None
    assert driver.calls("fan") == before[0] + 1
    assert driver.calls("temperature") == before[1] + 3
    # After a while it is: a driver may have learned it.
    later = time.monotonic() + nvml_library.ASK_AGAIN_AFTER
    monkeypatch.setattr(nvml_library, "time", SimpleNamespace(monotonic=lambda: later))
    driver.set(GPU, fan=45)
    assert (await read_one(source)).fan_speed == 45.0


async def test_old_drivers_are_asked_the_old_way(driver: FakeDriver, source: NvmlSource) -> None:
    driver.gpus(GPU, memory=None, memory_v1=f"{8 * GIGABYTE} 0 {GIGABYTE}", reasons=None, reasons_v1=0x40)
    reading = await read_one(source)
    assert (reading.memory_total, reading.memory_used) == (8 * GIGABYTE, GIGABYTE)
    assert reading.memory_utilization == 12.5
    assert reading.throttle is ThrottleReason.HARDWARE_THERMAL


async def test_a_library_older_than_the_binding(
    driver: FakeDriver, source: NvmlSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks the newest version of a function: pynvml raises what is no NVMLError."""

    def mismatch(_handle: object) -> list[object]:
        raise pynvml.NVMLLibraryMismatchError("older")

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", mismatch)
    driver.gpus(GPU)
    reading = await read_one(source)
    assert reading.processes is None
    assert reading.power == 32.5


@pytest.mark.parametrize(
    ("values", "figure"),
    [
        ({"encoder": 10_000}, "encoder_utilization"),
        ({"utilization": 101}, "utilization"),
        ({"power": (1 << 32) - 1}, "power"),
        ({"pstate": 32}, "performance_state"),
    ],
)
async def test_impossible_figures_are_null(
    driver: FakeDriver, source: NvmlSource, values: dict[str, object], figure: str
) -> None:
    driver.gpus(GPU, **values)
    assert getattr(await read_one(source), figure) is None


async def test_gpus_come_and_go(driver: FakeDriver, source: NvmlSource) -> None:
    assert (await source.async_read()).readings == ()
    driver.gpus(GPU, OTHER_GPU)
    assert [reading.gpu_id for reading in (await source.async_read()).readings] == [GPU, OTHER_GPU]
    driver.gpus(OTHER_GPU)
    assert [reading.gpu_id for reading in (await source.async_read()).readings] == [OTHER_GPU]


async def test_mig_instances(driver: FakeDriver, source: NvmlSource) -> None:
    driver.gpus(GPU, utilization=None, mig_mode=1, mig_count=7, mig=f"- {INSTANCE} - -")
    driver.set(INSTANCE, name="NVIDIA A100 MIG 1g.5gb", memory=f"{5 * GIGABYTE} 0 {GIGABYTE}")
    gpu, instance = (await source.async_read()).readings
    assert (gpu.gpu_id, gpu.parent_id, gpu.utilization, gpu.power) == (GPU, None, None, 32.5)
    assert (instance.gpu_id, instance.parent_id) == (INSTANCE, GPU)
    assert (instance.name, instance.memory_used, instance.power) == ("NVIDIA A100 MIG 1g.5gb", GIGABYTE, None)
    driver.set(GPU, mig_mode=0)
    assert len((await source.async_read()).readings) == 1


@pytest.mark.parametrize("where", ["handle", "uuid", "utilization", "energy"])
async def test_a_lost_gpu_takes_no_other_along(driver: FakeDriver, source: NvmlSource, where: str) -> None:
    driver.gpus(GPU, OTHER_GPU)
    await source.async_read()
    driver.set(GPU, **{where: fake.GPU_IS_LOST})
    report = await source.async_read()
    assert [reading.gpu_id for reading in report.readings] == [OTHER_GPU]
    assert report.lost == ("GPU 0: GPU is lost",)
    driver.set(GPU, **{where: FULL.get(where)})
    report = await source.async_read()
    assert [reading.gpu_id for reading in report.readings] == [GPU, OTHER_GPU]
    assert report.lost == ()


async def test_while_a_gpu_is_lost_the_library_is_opened_anew_now_and_then(
    driver: FakeDriver, source: NvmlSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.gpus(GPU, handle=fake.GPU_IS_LOST)
    await source.async_read()
    opened = driver.calls("init")
    await source.async_read()
    assert driver.calls("init") == opened
    later = time.monotonic() + nvml_library.RENEW_LOST_AFTER
    monkeypatch.setattr(nvml_library, "time", SimpleNamespace(monotonic=lambda: later))
    closed = driver.calls("shutdown")
    await source.async_read()
    assert driver.calls("init") == opened + 1
    assert driver.calls("shutdown") == closed + 1


async def test_a_gpu_of_another_container_is_no_problem(driver: FakeDriver, source: NvmlSource) -> None:
    driver.gpus(GPU, OTHER_GPU)
    driver.set(GPU, handle=fake.NO_PERMISSION)
    report = await source.async_read()
    assert [reading.gpu_id for reading in report.readings] == [OTHER_GPU]
    assert report.lost == ()


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (fake.DRIVER_NOT_LOADED, GpuProblem.NO_DRIVER),
        (fake.VERSION_MISMATCH, GpuProblem.DRIVER_MISMATCH),
        (fake.UNKNOWN, GpuProblem.BAD_ANSWER),
    ],
)
async def test_no_driver_then_one(driver: FakeDriver, source: NvmlSource, fault: str, problem: GpuProblem) -> None:
    driver.gpus(GPU)
    driver.set("system", init=fault)
    assert await problem_of(source) is problem
    driver.set("system", init=None)
    assert (await read_one(source)).temperature == 55.0


@pytest.mark.parametrize("key", ["utilization", "mig_mode", "handle"])
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("!1", GpuProblem.NO_DRIVER),
        (fake.DRIVER_NOT_LOADED, GpuProblem.NO_DRIVER),
        (fake.VERSION_MISMATCH, GpuProblem.DRIVER_MISMATCH),
    ],
)
async def test_the_driver_is_updated_under_us(
    driver: FakeDriver, source: NvmlSource, key: str, fault: str, problem: GpuProblem
) -> None:
    answers = {**FULL, "mig_mode": 0, "handle": None}
    driver.gpus(GPU, **answers)
    await source.async_read()
    opened = driver.calls("init")
    driver.set(GPU, **{key: fault})
    assert await problem_of(source) is problem
    driver.set(GPU, **{key: answers[key]})
    driver.set("system", driver="570.86.10")
    reading = await read_one(source)
    assert reading.driver_version == "570.86.10"
    assert reading.utilization == 41.0
    assert driver.calls("init") == opened + 1


async def test_without_a_library(monkeypatch: pytest.MonkeyPatch, source: NvmlSource) -> None:
    monkeypatch.setattr(nvml, "CDLL", fake.absent)
    assert await problem_of(source) is GpuProblem.NO_DRIVER


async def test_a_hung_call_blocks_nothing_and_starts_no_second_thread(driver: FakeDriver) -> None:
    source = NvmlSource()
    driver.gpus(GPU)
    await source.async_read()
    source._patience = 0.05
    driver.set(GPU, power=HANG)
    assert await problem_of(source) is GpuProblem.HUNG
    (thread,) = threads()
    for _ in range(5):
        assert await problem_of(source) is GpuProblem.HUNG
    assert threads() == [thread]
    source._patience = 10.0
    driver.set(GPU, power=40_000)
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(GpuError):  # until the thread is back
                assert (await read_one(source)).power == 40.0
                break
            await asyncio.sleep(0.01)
    assert threads() == [thread]
    await source.async_stop()
    assert threads() == []


async def test_stop_while_a_call_hangs(driver: FakeDriver) -> None:
    """A reload meanwhile starts no second thread either; the first ends when its call comes back."""
    source = NvmlSource(patience=0.05)
    driver.gpus(GPU)
    driver.set("system", init=HANG)
    assert await problem_of(source) is GpuProblem.HUNG
    (thread,) = threads()
    await source.async_stop()
    successor = NvmlSource()
    assert await problem_of(successor) is GpuProblem.HUNG
    assert threads() == [thread]
    shutdowns = driver.calls("shutdown")
    driver.set("system", init=None)
    await asyncio.to_thread(thread.join, 10)
    assert threads() == []
    assert driver.calls("shutdown") == shutdowns + 1
    assert (await read_one(successor)).gpu_id == GPU
    await successor.async_stop()
    assert threads() == []


async def test_stop_closes_the_library_and_reading_may_begin_again(driver: FakeDriver) -> None:
    source = NvmlSource()
    await source.async_stop()
    driver.gpus(GPU)
    for _ in range(2):
        shutdowns = driver.calls("shutdown")
        assert (await read_one(source)).gpu_id == GPU
        await source.async_stop()
        assert driver.calls("shutdown") == shutdowns + 1
        assert threads() == []


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        (0, ThrottleReason.NONE),
        (0x1, ThrottleReason.IDLE),
        (0x4, ThrottleReason.POWER_CAP),
        (0x4 | 0x40 | 0x1, ThrottleReason.HARDWARE_THERMAL),
        (0x8 | 0x80, ThrottleReason.POWER_BRAKE),
        (1 << 40, ThrottleReason.OTHER),
        (1 << 40 | 0x2, ThrottleReason.CLOCKS_SETTING),
    ],
)
def test_the_most_serious_reason_counts(bits: int, reason: ThrottleReason) -> None:
    assert throttle_reason(bits) is reason


UPDATE = (
    IMPORT_ALONE
    + """
import asyncio
from pathlib import Path
from alone.gpu import GpuError
from alone.gpu.nvml import NvmlSource
folder = Path(sys.argv[2])

async def read(source):
    try:
        print((await source.async_read()).readings[0].driver_version)
    except GpuError as err:
        print(err.problem)

async def update():
    source = NvmlSource()
    await read(source)
    await source.async_stop()
    (folder / "script.new").rename(folder / "script")
    await read(source)
    await read(source)
    (folder / "link.new").rename(folder / "libnvidia-ml.so.1")
    await read(source)
    await read(source)
    await source.async_stop()

asyncio.run(update())
"""
)


def alone(program: str, *arguments: str, **environment: str) -> list[str]:
    """Run a program in a process of its own, as this one has our library; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(REPOSITORY), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_driver_and_library_are_updated(tmp_path: Path) -> None:
    """A driver that is loaded anew wants its own library: the one that is loaded is of no use, the new file is."""
    fake.build(tmp_path / "libnvidia-ml.so.550")
    fake.build(tmp_path / "libnvidia-ml.so.570", '-DFAKE_INIT="init_570"')
    (tmp_path / fake.SONAME).symlink_to("libnvidia-ml.so.550")
    (tmp_path / "link.new").symlink_to("libnvidia-ml.so.570")
    (tmp_path / "script").write_text(f"system gpus {GPU}\nsystem driver 550\n")
    (tmp_path / "script.new").write_text(f"system gpus {GPU}\nsystem driver 570\nsystem init {fake.VERSION_MISMATCH}\n")
    said = alone(UPDATE, str(tmp_path), LD_LIBRARY_PATH=str(tmp_path), FAKE_NVML=str(tmp_path / "script"))
    assert said == ["550", *["gpu_driver_mismatch"] * 3, "570"]


WITHOUT = (
    IMPORT_ALONE
    + """
import asyncio
from alone.gpu import GpuError, nvml

def absent(name):
    raise OSError(name)

nvml.CDLL = absent
try:
    asyncio.run(nvml.NvmlSource().async_read())
except GpuError as err:
    print(err.problem, "pynvml" in sys.modules)
"""
)


def test_without_a_library_the_binding_is_not_paid_for() -> None:
    assert alone(WITHOUT) == ["gpu_no_driver False"]


REAL = (
    IMPORT_ALONE
    + """
import asyncio, dataclasses, json
from alone.gpu.nvml import NvmlSource

async def read():
    source = NvmlSource()
    report = await source.async_read()
    await source.async_stop()
    return [dataclasses.asdict(reading) for reading in report.readings]

print(json.dumps(asyncio.run(read())))
"""
)


def test_a_real_gpu() -> None:
    if not Path("/proc/driver/nvidia/version").exists():
        pytest.skip("no NVIDIA driver on this machine")
    (line,) = alone(REAL)
    readings = json.loads(line)
    assert readings
    for reading in readings:
        assert reading["gpu_id"].startswith(("GPU-", "MIG-"))
        assert reading["name"]
        assert reading["driver_version"]
        if reading["memory_total"] is not None:
            assert 0 <= reading["memory_used"] <= reading["memory_total"]
        if reading["temperature"] is not None:
            assert 0 < reading["temperature"] < 120
