"""What one message of 3.4 kB costs Home Assistant for each websocket client, by our channel and by two other ways.

A real Home Assistant process sends the same incidents to 1, 10, 100 and 1,000 real websocket clients in other
processes: by our `events` channel, as an event of its bus to its own `subscribe_events`, and naively, with a
`json.dumps` and an awaited send for each client. Rounds of the three take turns, and ratios are medians over the
rounds, so what else the machine does meets all three. CPU is that of the whole process, in user and kernel mode, from
before the first message until the last client has the last one, less what the process takes when idle.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
import itertools
import math
import multiprocessing
from multiprocessing.connection import Connection
import os
from pathlib import Path
import resource
import tempfile
import time
from typing import Any

import numpy as np

from demo.home_assistant import INTEGRATION, NO_DETECTOR, HomeAssistantProcess, WebsocketClient

from ._audience import Heard, Listener, serve
from ._report import run

PROBE = Path(__file__).parent / "fanout_probe"
WAYS = ("ours", "core", "naive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    paces: dict[int, tuple[int, float]]
    """For each number of clients: messages a round, and seconds between them."""
    rounds: int = 24
    burst: int = 10
    """Messages sent at once, in the rounds of bursts."""
    stalled_clients: int = 100
    stalled_pairs: int = 150
    stalled_pace: tuple[int, float] = (10, 0.01)
    """Messages a round, and seconds between them, when one more client stalls."""
    settle: float = 10.0
    idle: float = 5.0
    """Seconds over which the idle process is measured, for each number of clients."""

    @property
    def most(self) -> int:
        """The largest number of clients."""
        return max(self.paces)


FULL = Plan(paces={1: (25, 0.02), 10: (25, 0.02), 100: (20, 0.04), 1000: (10, 0.1)})


@dataclass(frozen=True, slots=True)
class Round:
    """One way, once."""

    cpu: float
    """Microseconds of CPU per delivered message."""
    call: float
    """Microseconds that the call which sends one message took, per subscriber: the median of the round's messages."""
    latencies: np.ndarray[Any, np.dtype[np.float64]]
    """Milliseconds from before that call until a client has the message, for each delivery."""


class Bench:
    """A Home Assistant with the probe, and the processes of its clients."""

    def __init__(self, house: HomeAssistantProcess, client: WebsocketClient, pipes: list[Connection]) -> None:
        """Talk to these."""
        assert house.process is not None
        self._cpu_clock = (~house.process.pid << 3) | 2  # Linux: the CPU time of another process
        self._house = house
        self._client = client
        self._pipes = pipes
        self._numbers = itertools.count(1)
        self._idle = 0.0
        self.clients = 0

    async def grow(self, clients: int, idle: float) -> None:
        """Connect clients until there are that many, then measure the idle process over some seconds."""
        share, more = divmod(clients, len(self._pipes))
        await self._ask(*(("grow", share + (number < more)) for number in range(len(self._pipes))))
        self.clients = clients
        await asyncio.sleep(1)
        began, cpu = time.monotonic(), self._cpu()
        await asyncio.sleep(idle)
        self._idle = (self._cpu() - cpu) / (time.monotonic() - began)

    async def coalesce(self) -> None:
        """Let all clients coalesce from now on."""
        await self._ask(*[("coalesce",)] * len(self._pipes))

    @asynccontextmanager
    async def stalled_client(self) -> AsyncIterator[None]:
        """Have one more client of our channel, which does not read."""
        listener = await asyncio.to_thread(self._stall)
        try:
            await asyncio.sleep(0.1)  # what it is sent fills the buffers
            yield
        finally:
            listener.socket.close()
            await asyncio.sleep(0.1)

    def _stall(self) -> Listener:
        listener = Listener(self._house.port, "/api/websocket")
        listener.log_in(self._house.token)
        listener.command({"type": "nemotron_security/events/subscribe"})
        listener.fill()
        return listener

    async def round(self, way: str, count: int, interval: float) -> Round:
        """Send and receive; every client must have every message once and in order."""
        first = next(self._numbers)
        self._numbers = itertools.count(first + count)
        await self._ask(*[("expect", way, first, count)] * len(self._pipes))
        for pipe in self._pipes:
            pipe.send(("hear", way, count))
        command = {"type": "fanout_probe/send", "way": way, "first": first, "count": count, "interval": interval}
        await self._client.command(command)
        heard: list[Heard] = await asyncio.gather(*(asyncio.to_thread(_answer, pipe) for pipe in self._pipes))
        cpu_after, now = self._cpu(), time.monotonic_ns()
        result = await self._client.command({"type": "fanout_probe/result"})
        sent = np.array(result["sent"])
        deliveries = self.clients * count
        cpu = cpu_after - result["cpu"] / 1e9 - self._idle * (now - sent[0]) / 1e9
        numbers = np.concatenate([np.array(one.numbers) for one in heard])
        times = np.concatenate([np.array(one.times) for one in heard])
        return Round(
            cpu * 1e6 / deliveries,
            float(np.median(result["calls"])) / 1000 / self.clients,
            (times - sent[numbers - first]) / 1e6,
        )

    async def rounds(self, ways: tuple[str, ...], rounds: int, count: int, interval: float) -> dict[str, list[Round]]:
        """Let the ways take turns, in every order: what one leaves in the machine's caches is the next one's luck."""
        taken: dict[str, list[Round]] = {way: [] for way in ways}
        for order in itertools.islice(itertools.cycle(itertools.permutations(ways)), rounds):
            for way in order:
                taken[way].append(await self.round(way, count, interval))
        return taken

    def _cpu(self) -> float:
        return time.clock_gettime(self._cpu_clock)

    async def _ask(self, *questions: tuple[Any, ...]) -> None:
        for pipe, question in zip(self._pipes, questions, strict=True):
            pipe.send(question)
        await asyncio.gather(*(asyncio.to_thread(_answer, pipe) for pipe in self._pipes))


def _answer(pipe: Connection) -> Any:
    answer = pipe.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


@asynccontextmanager
async def bench(plan: Plan) -> AsyncIterator[Bench]:
    """Start Home Assistant with our integration and the probe, and the processes of the clients."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # Home Assistant inherits it
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        house = HomeAssistantProcess(Path(folder) / "house", extra="fanout_probe:\n", integrations=(INTEGRATION, PROBE))
        async with house, house.connect() as client:
            await house.add_integration([{"analyzer": "rules"}, NO_DETECTOR])
            await asyncio.sleep(plan.settle)
            pipes, processes = [], []
            for _ in range(max(1, min(4, (os.cpu_count() or 2) - 1))):
                pipe, theirs = spawn.Pipe()
                process = spawn.Process(target=serve, args=(theirs, house.port, house.token), daemon=True)
                process.start()
                theirs.close()
                pipes.append(pipe)
                processes.append(process)
            try:
                yield Bench(house, client, pipes)
            finally:
                for pipe in pipes:
                    pipe.close()
                for process in processes:
                    process.join()


def cpu_figures(taken: dict[str, list[Round]], prefix: str, suffix: str) -> dict[str, float]:
    """Return the CPU of each way per delivered message, and the ratios of ours to the others', round by round."""
    cpu = {way: np.array([one.cpu for one in taken[way]]) for way in WAYS}
    figures: dict[str, float] = {f"{prefix}cpu_us{suffix}": float(np.median(cpu["ours"]))}
    for way in WAYS[1:]:
        figures[f"{prefix}{way}_cpu_us{suffix}"] = float(np.median(cpu[way]))
        figures[f"{prefix}ratio_vs_{way}{suffix}"] = float(np.median(cpu["ours"] / cpu[way]))
    return figures


async def measure_pace(bench: Bench, plan: Plan) -> dict[str, float]:
    """Measure messages that come one by one, as incidents do."""
    figures: dict[str, float] = {}
    for clients, (count, interval) in plan.paces.items():
        await bench.grow(clients, plan.idle)
        ways = (*WAYS, "direct") if clients == plan.most else WAYS
        taken = await bench.rounds(ways, plan.rounds, count, interval)
        figures |= cpu_figures(taken, "", f"_{clients}")
        if clients == plan.stalled_clients:
            figures |= await measure_stalled(bench, plan)
    latencies = np.concatenate([one.latencies for one in taken["ours"]])
    p50, p99 = map(float, np.percentile(latencies, (50, 99)))
    handovers = [ours.call - direct.call for ours, direct in zip(taken["ours"], taken["direct"], strict=True)]
    return figures | {
        f"p50_ms_{plan.most}": p50,
        f"p99_ms_{plan.most}": p99,
        "handover_us": float(np.median(handovers)),
        "ratio_vs_core": figures[f"ratio_vs_core_{plan.most}"],
        "ratio_vs_naive": figures[f"ratio_vs_naive_{plan.most}"],
    }


async def measure_bursts(bench: Bench, plan: Plan) -> dict[str, float]:
    """Measure messages that come at once, to clients that do not coalesce and then to clients that do."""
    figures = cpu_figures(await bench.rounds(WAYS, plan.rounds, plan.burst, 0.0), "burst_", "")
    await bench.coalesce()
    taken = await bench.rounds(WAYS, plan.rounds, plan.burst, 0.0)
    return figures | cpu_figures(taken, "coalesced_burst_", "")


async def measure_stalled(bench: Bench, plan: Plan) -> dict[str, float]:
    """Measure what a client that stops reading adds to the others' p99, in pairs of rounds without and with it."""
    added = []
    for number in range(plan.stalled_pairs):
        p99 = {}
        for stalled in (False, True) if number % 2 else (True, False):
            async with bench.stalled_client() if stalled else nullcontext():
                taken = await bench.round("ours", *plan.stalled_pace)
            p99[stalled] = float(np.percentile(taken.latencies, 99))
        added.append(p99[True] - p99[False])
    margin = 98 / math.sqrt(len(added))  # of the 95 % confidence interval of a median, in percentiles
    low, middle, high = map(float, np.percentile(added, (max(0, 50 - margin), 50, min(100, 50 + margin))))
    return {"stalled_delay_ms": middle, "stalled_delay_ms_low": low, "stalled_delay_ms_high": high}


async def measure_fanout(plan: Plan) -> dict[str, float]:
    """Measure everything in one run of one Home Assistant."""
    async with bench(plan) as house:
        figures = await measure_pace(house, plan)
        return figures | await measure_bursts(house, plan)


if __name__ == "__main__":
    run(lambda: asyncio.run(measure_fanout(FULL)), __doc__)
