"""What a reading of the GPUs costs beyond the library's own time, and how long it keeps the event loop waiting.

The real binding runs against the tests' library, which answers everything that a GPU can be asked for and counts the
time that is spent in it. `ms_per_gpu` is the median of many readings.

`loop_block_ms_max` is the longest time between two turns of an event loop that has nothing else to do, while GPUs are
read without a pause. Other programs on the machine are in it too: it is taken from the quietest of some rounds, and
`loop_idle_ms_max` is the same without a reading.
"""

import asyncio
from collections.abc import Awaitable, Callable
import os
from pathlib import Path
import tempfile
import time

import numpy as np

from custom_components.nemotron_security.gpu.nvml import NvmlSource
from tests.gpu import fake

from ._report import Figures, run

GPUS = 4
READINGS = 300
ROUNDS = 80
ROUND = 0.05
"""Seconds."""


async def longest_turn_ms(work: Callable[[], Awaitable[object]]) -> float:
    """Return the longest time between two turns of the loop while the work is done again and again."""
    until = time.perf_counter() + ROUND

    async def turn() -> float:
        longest, last = 0.0, time.perf_counter()
        while last < until:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        return longest

    turning = asyncio.create_task(turn())
    while not turning.done():
        await work()
    return 1000 * await turning


async def quietest_ms(work: Callable[[], Awaitable[object]]) -> float:
    """Return the figure of the round that other programs disturbed least."""
    return min([await longest_turn_ms(work) for _ in range(ROUNDS)])


async def nothing() -> None:
    """Let the loop turn."""
    await asyncio.sleep(0.001)


async def measure(driver: fake.FakeDriver) -> Figures:
    """Measure readings one after another, then the loop beside them."""
    source = NvmlSource()
    report = await source.async_read()
    if len(report.readings) != GPUS:
        raise RuntimeError("the library did not answer for all GPUs")
    whole, own = [], []
    for _ in range(READINGS):
        inside, began = driver.seconds, time.perf_counter()
        await source.async_read()
        whole.append((time.perf_counter() - began) * 1000 / GPUS)
        own.append(whole[-1] - (driver.seconds - inside) * 1000 / GPUS)
    idle = await quietest_ms(nothing)
    busy = await quietest_ms(source.async_read)
    await source.async_stop()
    return {
        "ms_per_gpu": float(np.median(own)),
        "ms_per_gpu_p95": float(np.percentile(own, 95)),
        "with_library_ms_per_gpu": float(np.median(whole)),
        "loop_block_ms_max": busy,
        "loop_idle_ms_max": idle,
        "gpus": GPUS,
        "readings": READINGS,
    }


def measure_with_library() -> Figures:
    """Compile and load the library, and measure with it."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "nvml.script"
        os.environ["FAKE_NVML"] = str(script)
        driver = fake.FakeDriver(script, fake.load(fake.build(Path(folder) / fake.SONAME)))
        driver.gpus(*(f"GPU-{number}" for number in range(GPUS)))
        return asyncio.run(measure(driver))


if __name__ == "__main__":
    run(measure_with_library, __doc__)
