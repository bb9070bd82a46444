"""Tests of the analyst over the real store, the real incidents and the real protocol."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
import json
from pathlib import Path
import time
from typing import Any

from aiohttp import ClientSession, web
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security.analysis import AnalysisProblem, rules
from custom_components.nemotron_security.analysis.analyst import Analyst, AnalystLimits
from custom_components.nemotron_security.analysis.briefing import Briefing
from custom_components.nemotron_security.analysis.chat import ChatModel, ChatServer
from custom_components.nemotron_security.analysis.nemotron import NemotronAnalyzer
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.incidents import Incidents
from custom_components.nemotron_security.models import WHOLE_SCENE, Detection, House, Incident
from custom_components.nemotron_security.store import Store, StoreError
from custom_components.nemotron_security.vision.messages import Box, TrackPicture
from tests.house import jpeg
from tests.test_episodes import frame, seen

from .faulty_server import ABLE, FaultyServer
from .test_schema import ANSWER

FAST = AnalystLimits(
    opening_delay=0.1, ending_delay=0.1, first_retry=0.1, cooldown=0, tries=3, failures=10, first_pause=0.2
)
ENTRY = MockConfigEntry(
    domain=DOMAIN,
    subentries_data=[
        {
            "subentry_id": "door",
            "subentry_type": "camera",
            "title": "Door",
            "unique_id": "door",
            "data": {"note": "The postman comes at noon."},
        }
    ],
)


class Home:
    """A store, incidents and an analyst, wired as the runtime wires them."""

    def __init__(self, hass: HomeAssistant, store: Store, session: ClientSession, url: str) -> None:
        self.store = store
        self.facts: dict[str, Any] = {}
        self.told: list[tuple[str, Incident]] = []
        self.problems: list[AnalysisProblem | None] = []
        self.incidents = Incidents(
            store, rules=rules.assess, house=self.house, listener=self, quiet_time=10, maximum_length=300
        )
        self.analyst = Analyst(
            NemotronAnalyzer(ChatModel(ChatServer(session, url), "tiny", ABLE)),
            store,
            self.incidents,
            self.house,
            Briefing(hass, ENTRY, store, str.title),
            limits=FAST,
            on_problem=self.problems.append,
        )

    def house(self) -> House:
        noon_here = timezone(timedelta(hours=12 - self.now.hour))  # whatever the hour at which the tests run
        return House(at=self.now.astimezone(noon_here), **self.facts)

    def incident_started(self, incident: Incident) -> None:
        self.told.append(("started", incident))
        self.analyst.incident_started(incident)

    def incident_updated(self, incident: Incident) -> None:
        self.told.append(("updated", incident))
        self.analyst.incident_updated(incident)

    def incident_ended(self, incident: Incident) -> None:
        self.told.append(("ended", incident))
        self.analyst.incident_ended(incident)

    def incident_annotated(self, incident: Incident) -> None:
        self.told.append(("annotated", incident))

    def detections_stored(self, detections: Sequence[Detection]) -> None:
        pass

    def store_failed(self, error: StoreError) -> None:
        pass

    def store_recovered(self) -> None:
        pass

    async def async_start(self) -> None:
        await self.incidents.async_start()
        await self.analyst.async_start()
        self.now = datetime.now(UTC)
        self.begin = self.now.timestamp()

    async def async_stop(self) -> None:
        await self.incidents.async_stop()
        await self.analyst.async_stop()

    def see(self, second: float, *track_ids: int) -> None:
        tracks = [self.moved(track_id, second) for track_id in track_ids]
        self.incidents.handle_tracks(replace(frame(0, *tracks), captured_at=self.begin + second))

    def moved(self, track_id: int, second: float) -> Any:
        return replace(seen(track_id), first_seen_at=self.begin, last_seen_at=self.begin + second)

    def show(self, track_id: int, second: float, data: bytes) -> None:
        self.incidents.handle_picture(self.picture(track_id, second, data))

    def picture(self, track_id: int, second: float, data: bytes) -> TrackPicture:
        return TrackPicture(
            camera_id="door",
            track_id=track_id,
            captured_at=self.begin + second,
            box=Box(0, 0, 10, 10),
            score=0.9,
            width=1280,
            height=720,
            data=data,
        )

    def incident(self, what: str) -> Incident:
        return [incident for told, incident in self.told if told == what][-1]

    def has(self, what: str, analyzer: str = "rules") -> bool:
        return any(told == what and incident.analyzer == analyzer for told, incident in self.told)


@pytest.fixture
async def home(
    hass: HomeAssistant, tmp_path: Path, session: ClientSession, faulty: FaultyServer
) -> AsyncIterator[Home]:
    store = Store(f"sqlite:///{tmp_path / 'security.db'}", tmp_path / "pictures")
    await store.async_open()
    home = Home(hass, store, session, faulty.url)
    await home.async_start()
    yield home
    await home.async_stop()
    assert not [task for task in asyncio.all_tasks() if "nemotron" in task.get_name()]
    await store.async_close()


async def until(condition: Callable[[], object], *, seconds: float = 10) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not come"
        await asyncio.sleep(0.01)


def answer(score: int) -> web.Response:
    return FaultyServer.answer(json.dumps(ANSWER | {"risk_score": score}))


def facts_asked(faulty: FaultyServer, number: int = -1) -> str:
    content = faulty.requests[number]["messages"][1]["content"]
    return str(content if isinstance(content, str) else content[0]["text"])


async def test_judged_soon_after_opening_with_pictures_and_facts(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: answer(77)
    home.facts["anyone_home"] = False
    home.see(0, 1)
    home.show(1, 0.5, jpeg())
    await until(lambda: home.has("updated", "nemotron"))
    verdict = home.incident("updated")
    assert (verdict.risk_score, verdict.rules_score) == (77, 45)
    (request,) = faulty.requests
    assert [part["type"] for part in request["messages"][1]["content"]] == ["text", "text", "image_url"]
    for words in ('Camera: "Door"', "The postman comes at noon.", "residents: nobody is home"):
        assert words in facts_asked(faulty)


async def test_scene_without_anybody_is_judged_by_its_picture(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: answer(44)
    assert home.incidents.open("door", "Doorbell")
    home.incidents.handle_scene(home.picture(WHOLE_SCENE, 0, jpeg()))
    await until(lambda: home.has("updated", "nemotron"))
    (request,) = faulty.requests
    told, caption, _ = request["messages"][1]["content"]
    assert 'Opened from outside the camera, by: "Doorbell"\nDetected objects: none so far' in told["text"]
    assert "the whole scene" in caption["text"]
    # Whoever comes then is judged soon, not only at the end.
    faulty.respond = lambda: answer(88)
    home.see(1.5, 1)
    home.see(3, 1)
    await until(lambda: home.has("updated", "nemotron") and home.incident("updated").risk_score == 88)
    assert '"person" (confidence' in facts_asked(faulty)
    assert home.incident("updated").ended_at is None


async def test_end_without_news_is_not_judged_again(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: answer(77)
    home.see(0, 1)
    await until(lambda: home.has("updated", "nemotron"))
    home.see(2, 1)
    home.see(20)
    await until(lambda: home.has("ended", "nemotron"))
    await asyncio.sleep(0.4)
    assert len(faulty.requests) == 1


async def test_end_with_news_is_judged_again(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: answer(77)
    home.see(0, 1)
    await until(lambda: home.has("updated", "nemotron"))
    home.see(2, 1, 2)
    faulty.respond = lambda: answer(90)
    home.see(20)
    await until(lambda: home.told[-1][1].risk_score == 90)
    assert home.told[-1][0] == "updated"
    assert home.told[-1][1].ended_at is not None
    assert facts_asked(faulty).count('"person" (confidence') == 2


async def test_short_incident_is_judged_once(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: answer(40)
    home.see(0, 1)
    home.see(20)
    await until(lambda: home.has("updated", "nemotron"))
    await asyncio.sleep(0.4)
    assert len(faulty.requests) == 1


async def test_one_at_a_time(home: Home, faulty: FaultyServer) -> None:
    running = most = 0

    async def respond() -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return answer(50)

    faulty.respond = respond
    for number in range(6):
        home.see(number * 20, number)
    await until(lambda: len(faulty.requests) == 6)
    await until(lambda: sum(incident.analyzer == "nemotron" for _, incident in home.told) >= 6)
    assert most == 1


async def test_trouble_that_passes_is_tried_again(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: answer(66) if len(faulty.requests) == 3 else web.json_response({}, status=503)
    home.see(0, 1)
    await until(lambda: home.has("updated", "nemotron"))
    assert home.incident("updated").risk_score == 66
    assert len(faulty.requests) == 3
    assert home.problems == []


async def test_final_failure_leaves_the_rules_score_and_says_so(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: web.json_response({}, status=500)
    home.see(0, 1)
    await until(lambda: home.has("updated"))
    verdict = home.incident("updated")
    assert (verdict.risk_score, verdict.rules_score, verdict.analyzer) == (30, 30, "rules")
    assert verdict.reasoning is not None
    assert verdict.reasoning.endswith("No model judged it: its server failed.")
    assert len(faulty.requests) == FAST.tries
    assert home.problems == [AnalysisProblem.SERVER_ERROR]
    faulty.respond = lambda: answer(12)
    home.see(20, 2)
    await until(lambda: home.problems == [AnalysisProblem.SERVER_ERROR, None])


async def test_what_a_wrong_key_kept_waiting_is_judged_later(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: web.json_response({}, status=401)
    home.see(0, 1)
    await until(lambda: home.problems == [AnalysisProblem.UNAUTHORIZED])
    assert (await home.analyst.async_backlog()).waiting == 1
    faulty.respond = lambda: answer(12)
    await until(lambda: home.has("updated", "nemotron"))
    assert home.problems == [AnalysisProblem.UNAUTHORIZED, None]


async def test_server_s_wish_to_wait_is_followed(home: Home, faulty: FaultyServer) -> None:
    times: list[float] = []

    def respond() -> web.Response:
        times.append(time.monotonic())
        return web.json_response({}, status=429, headers={"Retry-After": "1"}) if len(times) == 1 else answer(5)

    faulty.respond = respond
    home.see(0, 1)
    await until(lambda: home.has("updated", "nemotron"))
    assert times[1] - times[0] >= 1


async def test_restart_judges_nothing_twice(
    hass: HomeAssistant, home: Home, faulty: FaultyServer, session: ClientSession
) -> None:
    faulty.respond = lambda: answer(50)
    home.see(0, 1)
    await until(lambda: home.has("updated", "nemotron"))
    for task in home.incidents._tasks:
        task.cancel()
    await home.analyst.async_stop()
    again = Home(hass, home.store, session, faulty.url)
    await again.async_start()
    await until(lambda: again.has("ended", "nemotron"))
    await asyncio.sleep(0.4)
    assert len(faulty.requests) == 1
    await again.async_stop()


async def test_old_incident_is_not_judged_by_what_the_house_knows_now(home: Home, faulty: FaultyServer) -> None:
    faulty.respond = lambda: answer(50)
    home.facts["anyone_home"] = False
    home.begin -= 3600
    home.see(0, 1)
    await until(lambda: home.has("updated", "nemotron"))
    assert "residents: not known" in facts_asked(faulty)


async def test_stop_in_the_middle(home: Home, faulty: FaultyServer) -> None:
    gone = asyncio.Event()

    async def respond() -> web.Response:
        await gone.wait()
        return answer(50)

    faulty.respond = respond
    home.see(0, 1)
    await until(lambda: faulty.requests)
    begun = time.monotonic()
    await home.async_stop()
    assert time.monotonic() - begun < 1
    gone.set()
    assert home.incident("ended").analyzer == "rules"


async def test_real_server_judges(home: Home, session: ClientSession, llama_url: str, jpeg: bytes) -> None:
    home.analyst._analyzer = NemotronAnalyzer(ChatModel(ChatServer(session, llama_url), "nvidia/nemotron-tiny", ABLE))
    home.see(0, 1)
    home.show(1, 0.5, jpeg)
    await until(lambda: home.has("updated", "nemotron"), seconds=60)
    stored = await home.store.async_incident(home.incident("updated").id)
    assert stored is not None
    assert stored.analyzer == "nemotron"
    (_, judged) = await home.store.async_assessments(stored.id)
    assert judged.model == "nvidia/nemotron-tiny"
    assert datetime.now(UTC) - judged.created_at < timedelta(minutes=2)
