"""Two hundred websocket clients come and go for two minutes while 50 messages a second flow: nothing is lost or left.

A real Home Assistant, real sockets. Each client chose something of one of the channels. Most of them disappear again
and again (politely, by a cut socket, by unsubscribing) and come back, on `events` with `since`. A witness that chose
nothing never leaves: it says what there was to be had, and by the channel's own numbers nothing is missing from that.
Everybody else must have had exactly what of it they chose, once and in order.

What Home Assistant holds is read while nobody listens, after a first round of the same kind and again at the end.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import itertools
from pathlib import Path
import random
import socket
import struct
import tempfile
from typing import Any

import aiohttp
import orjson

from demo.home_assistant import INTEGRATION, NO_DETECTOR, HomeAssistantProcess, WebsocketClient, free_port

from ._report import Figures, run

PROBE = Path(__file__).parent / "soak_probe"
CAMERAS = 6
RATE = 50.0
STAYING = 0.3
"""The share of clients that never leave."""
SYSTEM = 0.25
"""The share of clients that listen to the channel `system`; the others listen to `events`."""
SETTLE = 1.0
PATIENCE = 20.0
COUNTED = ("visits", "messages", "lost", "doubled", "out_of_order", "unwanted", "incomplete")
KEPT = ("clients", "listeners", "tasks")
RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)

type Filter = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and with how many."""

    clients: int = 200
    warm_up: float = 30.0
    """Seconds of the first round, after which what is held is read for the first time."""
    seconds: float = 120.0
    stay: tuple[float, float] = (2.0, 12.0)
    """Seconds that a visit lasts, at least and at most."""
    away: tuple[float, float] = (0.2, 5.0)
    """Seconds between two visits. Home Assistant's side keeps half a minute's messages for `since`."""


class SoakError(Exception):
    """Home Assistant refused a command."""


# --- what clients choose ----------------------------------------------------------------------------------------------


def choices(channel: str, cameras: list[str]) -> list[Filter]:
    """Return different filters for a channel; each passes something every few seconds."""
    if channel == "system":
        return [{}, {"cameras": cameras[:2]}, {"types": ["camera_status"]}, {"types": ["gpu_stats", "pipeline_status"]}]
    return [
        {},
        {"cameras": cameras[1:3]},
        {"labels": ["person", "cat"]},
        {"minimum_risk": 60},
        {"types": ["new_event", "event_updated"]},
        {"cameras": cameras[:4], "labels": ["car"], "minimum_risk": 30},
        {"labels": ["dog"], "types": ["detection"]},
    ]


class Judge:
    """Says what passes a filter, as the documentation has it; it must be asked of all messages, in order."""

    def __init__(self, wanted: Filter) -> None:
        """Judge for one filter."""
        self._wanted = wanted
        self._peaks: dict[int, int] = {}
        """The highest score with which each incident was announced."""

    def passes(self, message: Mapping[str, Any]) -> bool:
        """Whether the client must get the message."""
        data, wanted = message["data"], self._wanted
        camera_id = data.get("camera_id")
        labels = data.get("labels") or [data.get("object_type")]
        is_detection = message["type"] == "detection"
        incident_id = data.get("incident_id") if is_detection else data.get("id")
        peak = self._peak(incident_id, None if is_detection else data.get("risk_score"))
        return (
            ("types" not in wanted or message["type"] in wanted["types"])
            and ("cameras" not in wanted or camera_id is None or camera_id in wanted["cameras"])
            and ("labels" not in wanted or bool(set(labels) & set(wanted["labels"])))
            and ("minimum_risk" not in wanted or peak >= wanted["minimum_risk"])
        )

    def _peak(self, incident_id: int | None, score: int | None) -> int:
        if incident_id is None:
            return -1
        peak = self._peaks[incident_id] = max(self._peaks.get(incident_id, -1), -1 if score is None else score)
        return peak


# --- a client ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Visit:
    """What a client had between subscribing and leaving."""

    after: int
    """The number after which messages were due."""
    numbers: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The number up to which the client knows everything."""
        return self.numbers[-1] if self.numbers else self.after


class Visitor:
    """One client: what it chose, and the number of every message that it ever got."""

    def __init__(self, house: HomeAssistantProcess, channel: str, wanted: Filter, *, coalescing: bool = False) -> None:
        """Choose; nothing is connected yet."""
        self.channel = channel
        self.wanted = wanted
        self.visits: list[Visit] = []
        self.incomplete = 0
        """Returns after which Home Assistant's side no longer had everything."""
        self._house = house
        self._coalescing = coalescing
        self._session: aiohttp.ClientSession | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._subscription = 0

    async def come(self) -> None:
        """Connect if that is necessary, and subscribe; to `events` from where the last visit ended."""
        if self._session is None:
            await self._connect()
        since = {"since": self.visits[-1].last} if self.visits and self.channel == "events" else {}
        self._subscription = next(self._ids)
        subscribe = {"type": f"nemotron_security/{self.channel}/subscribe", **self.wanted, **since}
        await self._ask(subscribe, self._subscription)

    async def leave(self) -> None:
        """Close the connection as a browser does."""
        await self._socket.close()
        await self._forget()

    async def cut(self) -> None:
        """Be gone like a phone without a network: nobody is told, and what was on the way is lost."""
        self._socket.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WHEN_CLOSED)
        await self._forget()

    async def unsubscribe(self) -> None:
        """Stay connected, and have nothing more."""
        await self._ask({"type": "unsubscribe_events", "subscription": self._subscription})

    async def have_all(self) -> None:
        """Wait until what was said is here: at once what is queued, and a moment later what waited for that."""
        await self._ask({"type": "ping"})
        await asyncio.sleep(SETTLE)
        await self._ask({"type": "ping"})

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"{self._house.url}/api/websocket", max_msg_size=0)
        await self._socket.receive_json()
        await self._socket.send_json({"type": "auth", "access_token": self._house.token})
        await self._socket.receive_json()
        self._ids = itertools.count(1)
        self._reader = asyncio.create_task(self._read())
        if self._coalescing:
            await self._ask({"type": "supported_features", "features": {"coalesce_messages": 1}})

    async def _forget(self) -> None:
        if self._session is not None and self._reader is not None:
            self._reader.cancel()
            await self._session.close()
            self._session = self._reader = None

    async def _ask(self, command: Mapping[str, Any], number: int | None = None) -> None:
        number = next(self._ids) if number is None else number
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, **command})
        async with asyncio.timeout(PATIENCE):
            answer = await waiting
        if not answer.get("success", True):
            raise SoakError(f"{command}: {answer['error']}")

    async def _read(self) -> None:
        async for frame in self._socket:
            content = orjson.loads(frame.data)
            for message in content if isinstance(content, list) else [content]:
                self._take(message)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "event":
            self.keep(message["event"])
            return
        if message["id"] == self._subscription and message["success"]:  # its messages follow at once
            self._begin(message["result"])
        self._answers.pop(message["id"]).set_result(message)

    def _begin(self, result: Mapping[str, Any]) -> None:
        going_on = self.visits and self.channel == "events"
        self.visits.append(Visit(self.visits[-1].last if going_on else result["seq"]))
        self.incomplete += not result.get("complete", True)

    def keep(self, event: Mapping[str, Any]) -> None:
        """Note a message; what carries the number of the answer is the present state, no news.

        What says that something was missed is none: the numbers tell.
        """
        if event["type"] == "missed":
            return
        if self.channel == "events" or event["seq"] != self.visits[-1].after:
            self.visits[-1].numbers.append(event["seq"])


class Witness(Visitor):
    """Chose nothing and never leaves; keeps all messages."""

    def __init__(self, house: HomeAssistantProcess, channel: str) -> None:
        """Listen to that channel."""
        super().__init__(house, channel, {})
        self.messages: list[Mapping[str, Any]] = []

    def keep(self, event: Mapping[str, Any]) -> None:
        """Keep the whole of it."""
        super().keep(event)
        self.messages.append(event)


# --- a round ----------------------------------------------------------------------------------------------------------


async def stay(visitor: Visitor, over: asyncio.Event) -> None:
    """Come, and leave when it is over."""
    await visitor.come()
    await over.wait()
    await visitor.have_all()
    await visitor.leave()


async def come_and_go(visitor: Visitor, over: asyncio.Event, chance: random.Random, plan: Plan) -> None:
    """Leave and come back until it is over, and come once more then, to have all that was missed."""
    await wait(over, chance.uniform(0, plan.stay[1]))
    while not over.is_set():
        await visitor.come()
        await wait(over, chance.uniform(*plan.stay))
        await chance.choice((visitor.leave, visitor.cut, visitor.unsubscribe))()
        await wait(over, chance.uniform(*plan.away))
    await visitor.come()
    await visitor.have_all()
    await visitor.leave()


async def wait(over: asyncio.Event, seconds: float) -> None:
    """Wait, but not longer than until it is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await over.wait()


async def soak_once(house: HomeAssistantProcess, control: WebsocketClient, plan: Plan, seconds: float) -> Counter[str]:
    """Let clients come and go while messages flow; returns what went wrong, and how much went right."""
    chance = random.Random(plan.clients)
    entry = (await house.get("/api/config/config_entries/entry?domain=nemotron_security"))[0]
    subentries = await control.command({"type": "config_entries/subentries/list", "entry_id": entry["entry_id"]})
    filters = {name: choices(name, [camera["subentry_id"] for camera in subentries]) for name in ("events", "system")}
    witnesses = {channel: Witness(house, channel) for channel in filters}
    visitors: list[Visitor] = []
    over = asyncio.Event()
    for witness in witnesses.values():
        await witness.come()
    async with asyncio.TaskGroup() as group:
        for number in range(plan.clients):
            channel = "system" if chance.random() < SYSTEM else "events"
            visitor = Visitor(house, channel, chance.choice(filters[channel]), coalescing=number % 2 == 0)
            visitors.append(visitor)
            stays = chance.random() < STAYING
            group.create_task(stay(visitor, over) if stays else come_and_go(visitor, over, chance, plan))
        said = await control.command({"type": "soak_probe/flow", "rate": RATE, "seconds": seconds})
        over.set()
    for witness in witnesses.values():
        await witness.have_all()
        await witness.leave()
    everybody = [*visitors, *witnesses.values()]
    return sum((account(visitor, witnesses[visitor.channel], said) for visitor in everybody), Counter())


def account(visitor: Visitor, witness: Witness, said: Mapping[str, int]) -> Counter[str]:
    """Compare what a client got with what it had to get."""
    judge = Judge(visitor.wanted)
    wanted = [message["seq"] for message in witness.messages if judge.passes(message)]
    if visitor is witness:  # numbers rise by one, so it needs no witness
        wanted = list(range(visitor.visits[0].after + 1, max(said[visitor.channel], visitor.visits[-1].last) + 1))
    visits = visitor.visits
    if visitor.channel == "events":  # each visit goes on where the last one ended
        visits = [Visit(visits[0].after, [number for visit in visits for number in visit.numbers])]
    found = Counter(visits=len(visitor.visits), incomplete=visitor.incomplete)
    for visit in visits:
        until = max(visit.last, said[visitor.channel]) if visit is visits[-1] else visit.last
        due, had = {number for number in wanted if visit.after < number <= until}, set(visit.numbers)
        found["messages"] += len(visit.numbers)
        found["lost"] += len(due - had)
        found["unwanted"] += len(had - due)
        found["doubled"] += len(visit.numbers) - len(had)
        found["out_of_order"] += sum(later < earlier for earlier, later in itertools.pairwise(visit.numbers))
    return found


# --- what is held -----------------------------------------------------------------------------------------------------


async def held(control: WebsocketClient, most: Mapping[str, int]) -> Mapping[str, int]:
    """Return what Home Assistant holds; what was just left behind has some seconds to go."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                reading: dict[str, int] = await control.command({"type": "soak_probe/read"})
                if all(reading[name] <= bound for name, bound in most.items()):
                    return reading
                await asyncio.sleep(1)
    return reading


def complaints(house: HomeAssistantProcess) -> list[str]:
    """Return every record in which Home Assistant complains of something."""
    signs = (" WARNING ", " ERROR ", " CRITICAL ", "Traceback")
    return [record for record in house.log_records() if any(sign in record for sign in signs)]


async def soak(folder: Path, plan: Plan) -> dict[str, Any]:
    """Run both rounds in one Home Assistant, whose cameras cannot be reached."""
    house = HomeAssistantProcess(folder, extra="soak_probe:\n", integrations=(INTEGRATION, PROBE))
    async with house:
        entry = await house.add_integration([{"analyzer": "rules"}, NO_DETECTOR])
        for number in range(CAMERAS):
            answers = house.camera_answers(f"Camera {number}", stream_url=f"rtsp://127.0.0.1:{free_port()}/")
            await house.add_camera(entry, [{"source": "stream"}, {**answers, "detect": False}])
        complained = len(complaints(house))  # of its start, which is not measured
        async with house.connect() as control:
            await soak_once(house, control, plan, plan.warm_up)
            before = await held(control, {"clients": 0})
            found = await soak_once(house, control, plan, plan.seconds)
            after = await held(control, {name: before[name] for name in KEPT})
    wrong = complaints(house)[complained:]
    return {
        "clients": plan.clients,
        "seconds": plan.seconds,
        **{name: found[name] for name in COUNTED},
        **{f"leaked_{name}": after[name] - before[name] for name in KEPT},
        "object_growth": after["objects"] - before["objects"],
        "memory_growth_mb": (after["rss"] - before["rss"]) / 1e6,
        "log_errors": len(wrong),
        **({"log_note": wrong[0][:500]} if wrong else {}),
    }


def main() -> Figures:
    """Soak in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(soak(Path(folder) / "house", Plan()))


if __name__ == "__main__":
    run(main, __doc__)
