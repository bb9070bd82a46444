"""The durable queue over the real store and the real incidents; the analyzer and the time follow a script."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, cycle, pairwise
from pathlib import Path
import sqlite3
from typing import Any, override

from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

from custom_components.nemotron_security.analysis import (
    AnalysisError,
    AnalysisProblem,
    Brief,
    Case,
    KeyFrame,
    analyst as module,
    rules,
)
from custom_components.nemotron_security.analysis.analyst import Analyst, AnalystLimits, Clock
from custom_components.nemotron_security.analysis.breaker import Breaker, BreakerState
from custom_components.nemotron_security.incidents import Incidents
from custom_components.nemotron_security.models import WHOLE_SCENE, Assessment, Box, Detection, House, Incident, Visit
from custom_components.nemotron_security.store import Store, StoreError

from .cases import NIGHT, track

MINUTE, HOUR = 60.0, 3600.0
PLAIN = AnalystLimits(cooldown=0)
"""Without a cooldown: most tests have one camera."""

type Answer = int | Exception | Awaitable[int]


class ScriptedClock(Clock):
    """Stands still until a test lets time pass."""

    def __init__(self, begin: datetime = NIGHT) -> None:
        self.time = begin
        self.idle = asyncio.Event()
        self._passed = asyncio.Event()

    @override
    def now(self) -> datetime:
        return self.time

    @override
    def monotonic(self) -> float:
        return self.time.timestamp()

    @override
    async def async_wait(self, event: asyncio.Event, seconds: float) -> None:
        until = self.time + timedelta(seconds=seconds)
        woken = asyncio.ensure_future(event.wait())
        passed = woken
        try:
            while not woken.done() and self.time < until:
                self._passed.clear()
                self.idle.set()
                passed = asyncio.ensure_future(self._passed.wait())
                await asyncio.wait({woken, passed}, return_when=asyncio.FIRST_COMPLETED)
                passed.cancel()
        finally:
            self.idle.clear()
            passed.cancel()
            woken.cancel()

    def let_pass(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.idle.clear()
        self._passed.set()


class ScriptedAnalyzer:
    """Answers as a test says; `asked` are the tracks' numbers of the incidents, in order."""

    name = "scripted"
    sees = True

    def __init__(self, clock: ScriptedClock) -> None:
        self._clock = clock
        self.asked: list[int] = []
        self.asked_at: list[datetime] = []
        self.cases: list[Case] = []
        self.respond: Callable[[int], Answer] = lambda _: 70
        self.running = self.most = 0

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        number = case.tracks[0].track_id if case.tracks else -1
        self.asked.append(number)
        self.asked_at.append(self._clock.now())
        self.cases.append(case)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            answer = self.respond(number)
            if isinstance(answer, Exception):
                raise answer
            score = answer if isinstance(answer, int) else await answer
        finally:
            self.running -= 1
        return Assessment(
            analyzer=self.name,
            risk_score=score,
            title="A stranger",
            summary="A stranger came.",
            reasoning="Nobody is at home.",
            created_at=self._clock.now(),
        )


class Scene:
    """A store, incidents and an analyst. A second scene with the same store is the same house after a restart."""

    def __init__(self, store: Store, clock: ScriptedClock, limits: AnalystLimits = PLAIN) -> None:
        self.store = store
        self.clock = clock
        self.facts: dict[str, Any] = {}
        self.told: list[tuple[str, Incident]] = []
        self.pictures: list[KeyFrame] = []
        self.problems: list[AnalysisProblem | None] = []
        self.states: list[BreakerState] = []
        self.analyzer = ScriptedAnalyzer(clock)
        self.incidents = Incidents(
            store, rules=rules.assess, house=self.house, listener=self, quiet_time=10, maximum_length=300
        )
        self.analyst = Analyst(
            self.analyzer,
            store,
            self.incidents,
            self.house,
            self,
            limits=limits,
            clock=clock,
            on_problem=self.problems.append,
            on_breaker=self.states.append,
        )

    def house(self) -> House:
        return House(at=self.clock.now(), **self.facts)

    async def async_brief(self, incident: Incident, house: House) -> Brief:
        tracks = tuple(await self.store.async_tracks(incident.id))
        case = Case(
            camera_id=incident.camera_id,
            camera_name="Door",
            started_at=incident.started_at,
            tracks=tracks,
            house=house,
            trigger=incident.trigger,
        )
        return Brief(case, self.pictures)

    def incident_started(self, incident: Incident) -> None:
        self.told.append(("started", incident))

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
        await self.settle()

    async def async_stop(self) -> None:
        await self.incidents.async_stop()
        await self.analyst.async_stop()

    def crash(self) -> None:
        """Stop as a killed process stops: nothing is tidied up."""
        analyst, incidents = self.analyst, self.incidents
        for task in (analyst._task, *analyst._running.values(), *incidents._tasks):
            if task:
                task.cancel()

    async def opens(self, number: int, *, score: int = 40, camera_id: str = "door") -> Incident:
        now = self.clock.now()
        seen = track(track_id=number, first_seen_at=now, last_seen_at=now)
        assessment = rules.assess(
            Case(camera_id=camera_id, camera_name="Door", started_at=now, tracks=(seen,), house=self.house())
        )
        incident = await self.store.async_start_incident(
            camera_id, [seen], started_at=now, assessment=replace(assessment, risk_score=score)
        )
        self.analyst.incident_started(incident)
        return incident

    async def rings(self) -> Incident:
        """Open an incident in which nobody is seen yet."""
        now = self.clock.now()
        seen = Case(
            camera_id="door", camera_name="Door", started_at=now, tracks=(), house=self.house(), trigger="Doorbell"
        )
        incident = await self.store.async_start_incident(
            "door", [], started_at=now, assessment=rules.assess(seen), trigger="Doorbell"
        )
        self.analyst.incident_started(incident)
        return incident

    async def comes(self, incident: Incident, number: int) -> Incident:
        """Let somebody be seen in an incident that goes on."""
        now = self.clock.now()
        seen = track(track_id=number, first_seen_at=now, last_seen_at=now)
        grown = replace(await self.now(incident), last_seen_at=now, labels=("person",), object_count=1)
        grown = await self.store.async_save_incident(grown, [seen])
        self.analyst.incident_updated(grown)
        return grown

    async def ends(self, incident: Incident, **changes: Any) -> Incident:
        now = self.clock.now()
        ended = await self.store.async_save_incident(replace(incident, last_seen_at=now, ended_at=now, **changes))
        self.analyst.incident_ended(ended)
        return ended

    async def rules_judge(self, incident: Incident) -> None:
        """Let the rules judge what goes on by what the house knows now, as they do all the time, and tell of it."""
        tracks = tuple(await self.store.async_tracks(incident.id))
        case = Case(camera_id="door", camera_name="Door", started_at=NIGHT, tracks=tracks, house=self.house())
        await self.incidents.async_apply(incident.id, rules.assess(case))
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is left to do before time passes."""
        async with asyncio.timeout(10):
            while True:
                await self.clock.idle.wait()
                busy = self.analyst._news or self.analyst._changed.is_set() or self.incidents.busy
                if not busy and len(self.analyst._running) == self.analyzer.running:
                    return
                await asyncio.sleep(0.001)

    async def passes(self, seconds: float, *, step: float | None = None) -> None:
        """Let time pass, at once or in steps."""
        left = seconds
        while left > 0:
            self.clock.let_pass(min(left, step or left))
            left -= step or left
            await self.settle()

    async def answers(self, answer: asyncio.Future[int], score: int) -> None:
        """Let a call that waits for this answer have it."""
        answer.set_result(score)
        await asyncio.sleep(0)
        await self.settle()

    async def models_said(self, incident: Incident) -> list[int]:
        return [said.risk_score for said in await self.store.async_assessments(incident.id) if said.analyzer != "rules"]

    async def waiting(self) -> int:
        return (await self.analyst.async_backlog()).waiting

    async def now(self, incident: Incident) -> Incident:
        found = await self.store.async_incident(incident.id)
        assert found is not None
        return found


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "security.db"


@pytest.fixture
async def store(database: Path, tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(f"sqlite:///{database}", tmp_path / "pictures", busy_timeout=0.05)
    await store.async_open()
    yield store
    await store.async_close()


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


@pytest.fixture
async def scene(store: Store, clock: ScriptedClock) -> AsyncIterator[Scene]:
    scene = Scene(store, clock)
    await scene.async_start()
    yield scene
    await scene.async_stop()
    assert not [task for task in asyncio.all_tasks() if "nemotron" in task.get_name()]


type Restart = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def restart(store: Store, clock: ScriptedClock) -> AsyncIterator[Restart]:
    """Start another scene in the same house."""
    scenes: list[Scene] = []

    async def start(limits: AnalystLimits = PLAIN, *, respond: Callable[[int], Answer] | None = None) -> Scene:
        scene = Scene(store, clock, limits)
        scenes.append(scene)
        if respond:
            scene.analyzer.respond = respond
        await scene.async_start()
        return scene

    yield start
    for scene in scenes:
        await scene.async_stop()


def down(problem: AnalysisProblem = AnalysisProblem.UNREACHABLE, *, wish: float | None = None) -> AnalysisError:
    return AnalysisError(problem, retry_after=wish)


# --- twice, not late --------------------------------------------------------------------------------------------------


async def test_judged_once_its_delay_is_over_and_then_waits_for_the_end(scene: Scene) -> None:
    incident = await scene.opens(1)
    await scene.passes(2.9)
    assert (scene.analyzer.asked, await scene.waiting()) == ([], 1)
    await scene.passes(0.2)
    assert (scene.analyzer.asked, await scene.waiting()) == ([1], 0)
    assert [what for what, _ in scene.told] == ["updated"]
    assert await scene.models_said(incident) == [70]


async def test_the_end_is_judged_if_something_notable_changed(scene: Scene) -> None:
    same, more = await scene.opens(1), await scene.opens(2)
    await scene.passes(3)
    assert scene.analyzer.asked == [1, 2]
    await scene.ends(same)
    await scene.ends(more, object_count=2)
    await scene.passes(1)
    assert scene.analyzer.asked == [1, 2, 2]
    assert (await scene.models_said(same), await scene.models_said(more)) == ([70], [70, 70])
    await scene.passes(HOUR)
    assert len(scene.analyzer.asked) == 3


async def test_an_end_during_the_call_is_judged_if_something_notable_changed(scene: Scene) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answers: list[Answer] = [80, answer]
    scene.analyzer.respond = lambda _: answers.pop()
    incident = await scene.opens(1)
    await scene.passes(3)
    await scene.ends(incident, object_count=2)
    await scene.settle()
    await scene.answers(answer, 60)
    await scene.passes(1)
    assert await scene.models_said(incident) == [60, 80]
    await scene.passes(HOUR)
    assert (scene.analyzer.asked, await scene.waiting()) == ([1, 1], 0)


async def test_an_end_during_the_call_without_news_is_not_judged(scene: Scene) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: answer
    incident = await scene.opens(1)
    await scene.passes(3)
    await scene.ends(incident)
    await scene.answers(answer, 60)
    await scene.passes(MINUTE)
    assert await scene.models_said(incident) == [60]
    assert await scene.waiting() == 0


async def test_what_the_model_is_shown_stays_what_its_evidence_speaks_of(scene: Scene) -> None:
    incident = await scene.opens(1)

    async def picture() -> int:
        values = {"captured_at": NIGHT, "box": Box(0, 0, 9, 9), "score": 0.5, "width": 64, "height": 36, "jpeg": b"j"}
        stored, _ = await scene.store.async_add_picture(incident.id, 1, **values)  # type: ignore[arg-type]
        return stored.id

    shown = await picture()
    brief = scene.async_brief

    async def with_picture(incident: Incident, house: House) -> Brief:
        frame = KeyFrame(track_id=1, captured_at=NIGHT, jpeg=b"j", picture_id=shown)
        return replace(await brief(incident, house), pictures=[frame])

    scene.async_brief = with_picture  # type: ignore[method-assign]
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: answer
    await scene.passes(3)
    closer = await picture()
    assert {one.id for one in await scene.store.async_pictures(incident.id)} == {shown, closer}
    await scene.answers(answer, 60)
    closest = await picture()
    assert {one.id for one in await scene.store.async_pictures(incident.id)} == {closest}, "no verdict speaks of it"


# --- floors that begin to hold after the model was asked --------------------------------------------------------------

AWAY = {"alarm": "armed_away", "anyone_home": False}


async def test_a_floor_holds_at_once_and_the_model_is_told_of_it(scene: Scene) -> None:
    scene.facts = dict(AWAY)
    scene.analyzer.respond = lambda _: 61
    incident = await scene.opens(1, score=65)
    await scene.passes(5)
    before = await scene.now(incident)
    scene.told.clear()
    scene.analyzer.respond = lambda _: down()
    scene.facts["forced_entry"] = True
    await scene.rules_judge(incident)
    now = await scene.now(incident)
    assert (now.risk_score, now.analyzer, now.title) == (85, "scripted", before.title)
    assert now.reasoning == (
        "Nobody is at home. Raised from 61 to 85: a door or window was opened while the alarm was armed."
    )
    assert [(what, told.risk_score) for what, told in scene.told] == [("updated", 85)]
    # The model was asked at once. It is away, and the floor holds for good.
    assert scene.analyzer.asked == [1, 1]
    assert scene.analyzer.cases[-1].house.forced_entry
    await scene.ends(now)
    await scene.passes(25 * HOUR, step=600)
    assert (await scene.now(incident)).risk_score == 85
    assert await scene.waiting() == 0


async def test_a_floor_that_the_model_keeps_is_asked_about_once(scene: Scene) -> None:
    scene.facts = dict(AWAY)
    scene.analyzer.respond = lambda _: 61
    incident = await scene.opens(1, score=65)
    await scene.passes(5)
    scene.facts["forced_entry"] = True
    await scene.rules_judge(incident)
    await scene.rules_judge(incident)
    await scene.passes(MINUTE, step=5)
    assert (scene.analyzer.asked, await scene.models_said(incident)) == ([1, 1], [61, 85])
    assert (await scene.now(incident)).risk_score == 85


async def test_a_floor_that_begins_during_the_call_holds(scene: Scene) -> None:
    """The question says nothing of it, so the model cannot have argued it away."""
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answers: list[Answer] = [95, answer]
    scene.analyzer.respond = lambda _: answers.pop()
    scene.facts = dict(AWAY)
    incident = await scene.opens(1, score=65)
    await scene.passes(3)
    scene.facts["forced_entry"] = True
    await scene.rules_judge(incident)
    await scene.answers(answer, 20)
    assert await scene.models_said(incident) == [85, 95]
    assert scene.analyzer.asked == [1, 1]


async def test_a_floor_that_the_question_told_otherwise_is_the_questions(scene: Scene) -> None:
    """Asked by name, a calendar knows more than its state, by which the rules judge."""
    scene.facts = {"alarm": "armed_away"}
    incident = await scene.opens(1, score=60)
    visit = Visit(title="Cleaner", begin=NIGHT - timedelta(hours=9), end=NIGHT)
    day = NIGHT - timedelta(hours=8)
    brief = scene.async_brief

    async def better(incident: Incident, house: House) -> Brief:
        return await brief(incident, replace(house, at=day, visits=(visit,)))

    scene.async_brief = better  # type: ignore[method-assign]
    scene.analyzer.respond = lambda _: 20
    await scene.passes(3)
    assert (await scene.now(incident)).risk_score == 20


async def test_a_floor_outlasts_what_the_house_knew(scene: Scene, restart: Restart) -> None:
    """It was kept when the incident opened; what became of it since, a crash took."""
    scene.facts = dict(AWAY)
    incident = await scene.opens(1, score=65)
    await scene.settle()
    scene.clock.let_pass(2)
    scene.facts["forced_entry"] = True
    seen = track(first_seen_at=NIGHT, last_seen_at=scene.clock.now())
    await scene.store.async_save_incident(replace(incident, last_seen_at=scene.clock.now()), [seen])
    await scene.rules_judge(incident)
    scene.crash()
    scene.clock.let_pass(2)
    again = await restart(respond=lambda _: 10)
    await again.passes(5)
    assert await again.models_said(incident) == [85]
    assert not again.analyzer.cases[0].house.forced_entry


# --- nobody was seen yet ----------------------------------------------------------------------------------------------

SCENE = KeyFrame(track_id=WHOLE_SCENE, captured_at=NIGHT, jpeg=b"a porch")


async def test_scene_without_anybody_is_judged_by_its_picture_and_again_when_somebody_comes(scene: Scene) -> None:
    scene.pictures = [SCENE]
    incident = await scene.rings()
    await scene.passes(4)
    assert (scene.analyzer.asked, await scene.waiting()) == ([-1], 0)
    await scene.passes(20, step=1)
    await scene.comes(incident, 7)
    await scene.passes(4)
    assert scene.analyzer.asked == [-1, 7]
    await scene.comes(incident, 7)
    await scene.passes(20, step=1)
    await scene.ends(await scene.now(incident))
    await scene.passes(20, step=1)
    assert (scene.analyzer.asked, await scene.waiting()) == ([-1, 7], 0)


async def test_who_comes_while_the_empty_scene_is_judged_is_judged_after_it(scene: Scene) -> None:
    scene.pictures = [SCENE]
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda number: answer if number < 0 else 60
    incident = await scene.rings()
    await scene.passes(4)
    await scene.comes(incident, 7)
    await scene.settle()
    await scene.answers(answer, 10)
    await scene.passes(1)
    assert await scene.models_said(incident) == [10, 60]


@pytest.mark.parametrize("lacks", ["picture", "eyes"])
async def test_what_cannot_be_judged_by_a_picture_waits_for_somebody(restart: Restart, lacks: str) -> None:
    scene = await restart(replace(PLAIN, calls_per_hour=2, cooldown=600))
    scene.pictures = [] if lacks == "picture" else [SCENE]
    scene.analyzer.sees = lacks == "picture"
    incident = await scene.rings()
    await scene.passes(30, step=1)
    assert (scene.analyzer.asked, await scene.waiting()) == ([], 1)
    await scene.comes(incident, 7)
    await scene.passes(5, step=1)
    assert scene.analyzer.asked == [7]  # neither the budget nor the cooldown was spent by waiting
    assert await scene.models_said(incident) == [70]


async def test_incident_in_which_nothing_was_ever_seen_says_so(scene: Scene) -> None:
    incident = await scene.rings()
    await scene.passes(10, step=1)
    await scene.ends(incident)
    await scene.passes(10, step=1)
    assert (scene.analyzer.asked, await scene.waiting()) == ([], 0)
    left = await scene.now(incident)
    assert left.analyzer == "rules"
    assert str(left.reasoning).endswith("No model judged it: nothing was seen that it could judge by.")


# --- order and pace ---------------------------------------------------------------------------------------------------


async def test_the_most_urgent_is_judged_first(scene: Scene) -> None:
    for number, score in enumerate((20, 90, 50, 90)):
        await scene.opens(number, score=score)
        await scene.passes(0.1)
    await scene.passes(3)
    assert scene.analyzer.asked == [1, 3, 2, 0]
    assert scene.analyzer.most == 1


async def test_two_hundred_are_judged_once_each_by_four_at_a_time(restart: Restart) -> None:
    scene = await restart(replace(PLAIN, concurrency=4, calls_per_hour=1000))

    async def think(number: int) -> int:
        await asyncio.sleep(0.05)  # long enough for a busy machine to begin the others
        return number % 100

    scene.analyzer.respond = think
    incidents = [await scene.opens(number, camera_id=f"camera {number % 8}") for number in range(200)]
    await scene.passes(3)
    for incident in incidents[::2]:
        await scene.ends(incident)
    await scene.passes(MINUTE)
    async with asyncio.timeout(60):
        while await scene.waiting():
            await asyncio.sleep(0.02)
    assert Counter(scene.analyzer.asked) == Counter(range(200))
    assert scene.analyzer.most == 4
    assert [await scene.models_said(incident) for incident in incidents] == [[n % 100] for n in range(200)]
    assert Counter(incident.id for what, incident in scene.told if what == "updated") == Counter(
        incident.id for incident in incidents
    )
    assert await scene.waiting() == 0


async def test_a_camera_cools_down_and_others_do_not_wait_for_it(restart: Restart, clock: ScriptedClock) -> None:
    scene = await restart(replace(PLAIN, cooldown=20))
    begin = clock.now()
    for number in range(3):
        await scene.opens(number, score=90)
    await scene.opens(10, score=5, camera_id="garden")
    await scene.passes(MINUTE, step=1)
    assert scene.analyzer.asked == [0, 10, 1, 2]
    assert [(at - begin).total_seconds() for at in scene.analyzer.asked_at] == [3, 3, 23, 43]


async def test_the_budget_is_kept_and_spent_on_the_most_urgent(restart: Restart, clock: ScriptedClock) -> None:
    limits = replace(PLAIN, calls_per_hour=2)
    scene = await restart(limits)
    begin = clock.now()
    for number in range(4):
        await scene.opens(number, score=50 - number)
    await scene.passes(10 * MINUTE, step=MINUTE)
    assert scene.analyzer.asked == [0, 1]
    await scene.opens(9, score=95)
    await scene.passes(40 * MINUTE, step=MINUTE)
    assert scene.analyzer.asked == [0, 1]
    await scene.passes(20 * MINUTE, step=MINUTE)
    assert scene.analyzer.asked == [0, 1, 9, 2]
    assert (scene.analyzer.asked_at[2] - begin).total_seconds() >= HOUR
    # A restart does not renew it.
    await scene.async_stop()
    again = await restart(limits)
    await again.passes(30 * MINUTE, step=MINUTE)
    assert again.analyzer.asked == []
    await again.passes(40 * MINUTE, step=MINUTE)
    assert again.analyzer.asked == [3]


async def test_new_limits_count_for_what_waits(restart: Restart) -> None:
    limits = replace(PLAIN, calls_per_hour=1)
    scene = await restart(limits)
    never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: never
    for number in range(4):
        await scene.opens(number, score=50 - number)
    await scene.passes(10 * MINUTE, step=MINUTE)
    assert scene.analyzer.asked == [0]
    scene.analyst.set_limits(replace(limits, calls_per_hour=10))
    await scene.settle()
    assert scene.analyzer.asked == [0]
    scene.analyst.set_limits(replace(limits, calls_per_hour=10, concurrency=3))
    await scene.settle()
    assert sorted(scene.analyzer.asked) == [0, 1, 2], "the most urgent two, at once"
    assert await scene.waiting() == 4


# --- restarts and crashes ---------------------------------------------------------------------------------------------


async def test_what_waited_or_was_under_way_is_judged_after_a_restart(scene: Scene, restart: Restart) -> None:
    never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: never
    scene.facts = {"anyone_home": False, "alarm": "armed_away"}
    incidents = [await scene.opens(number) for number in range(3)]
    await scene.passes(3)
    assert scene.analyzer.running == 1
    await scene.async_stop()
    again = await restart()
    await again.passes(1)
    assert sorted(again.analyzer.asked) == [0, 1, 2]
    assert [await again.models_said(incident) for incident in incidents] == [[70]] * 3
    # By what the house knew then, not by what it knows now.
    assert {(case.house.anyone_home, case.house.alarm) for case in again.analyzer.cases} == {(False, "armed_away")}


async def test_what_was_told_just_before_the_stop_is_not_lost(scene: Scene, restart: Restart) -> None:
    scene.facts = {"alarm": "armed_night"}
    await scene.incidents.async_stop()
    incident = await scene.opens(1)
    await scene.analyst.async_stop()
    scene.clock.let_pass(1)
    again = await restart()
    await again.passes(5)
    assert await again.models_said(incident) == [70]
    assert [case.house.alarm for case in again.analyzer.cases] == ["armed_night"]


async def test_a_crash_between_answer_and_store_asks_once_more_and_stores_once(
    scene: Scene, restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def never(*_: object, **__: object) -> Incident:
        answered.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(scene.incidents, "async_apply", never)
    incident = await scene.opens(1)
    await asyncio.sleep(0)
    scene.clock.let_pass(3)
    await answered.wait()
    scene.crash()
    again = await restart()
    await again.passes(1)
    assert await again.models_said(incident) == [70]
    assert [what for what, _ in again.told if what == "updated"] == ["updated"]
    await again.passes(HOUR)
    assert again.analyzer.asked == [1]


async def test_a_crash_right_after_the_store_asks_nothing_twice(
    scene: Scene, restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, stored = scene.incidents.async_apply, asyncio.Event()

    async def apply_and_hang(*args: Any, **options: Any) -> Incident:
        await apply(*args, **options)
        stored.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(scene.incidents, "async_apply", apply_and_hang)
    incident = await scene.opens(1)
    await asyncio.sleep(0)
    scene.clock.let_pass(3)
    await stored.wait()
    scene.crash()
    again = await restart()
    await again.passes(HOUR)
    assert again.analyzer.asked == []
    assert await again.models_said(incident) == [70]


@pytest.mark.parametrize(("changes", "asked"), [({"object_count": 3}, [1]), ({}, [])])
async def test_an_end_that_a_crash_swallowed_is_found_again(
    scene: Scene, restart: Restart, changes: dict[str, Any], asked: list[int]
) -> None:
    incident = await scene.opens(1)
    await scene.passes(3)
    scene.crash()
    now = scene.clock.now()
    await scene.store.async_save_incident(replace(incident, last_seen_at=now, ended_at=now, **changes))
    again = await restart()
    await again.passes(5)
    assert again.analyzer.asked == asked
    assert await again.waiting() == 0


async def test_what_a_crash_left_open_is_judged_by_what_the_house_knew_then(scene: Scene, restart: Restart) -> None:
    scene.facts = {"alarm": "armed_night"}
    incident = await scene.opens(1)
    await scene.settle()
    scene.crash()
    scene.clock.let_pass(2 * HOUR)
    again = await restart()  # ends it, and tells so
    await again.passes(5)
    assert (await again.now(incident)).ended_at is not None
    assert [case.house.alarm for case in again.analyzer.cases] == ["armed_night"]


@pytest.mark.parametrize("kept", ["null", '"nonsense"', '{"at": "yesterday"}', '{"people_home": 7}', "{}"])
async def test_what_the_house_knew_is_unknown_if_it_is_not_understood_any_more(
    scene: Scene, restart: Restart, database: Path, kept: str
) -> None:
    scene.facts = {"alarm": "armed_night"}
    incident = await scene.opens(1)
    await scene.settle()
    await scene.async_stop()
    connection = sqlite3.connect(database)
    connection.execute("UPDATE judgements SET house = ?", (kept,))
    connection.commit()
    connection.close()
    again = await restart()
    await again.passes(5)
    assert [case.house for case in again.analyzer.cases] == [House(at=incident.started_at)]


async def test_a_database_that_fails_for_a_while_loses_nothing(scene: Scene, database: Path) -> None:
    other = sqlite3.connect(database, isolation_level=None)
    waiting = await scene.opens(1)
    await scene.settle()
    other.execute("BEGIN IMMEDIATE")
    scene.analyst.incident_started(waiting)  # cannot be queued now
    async with asyncio.timeout(5):
        await scene.clock.idle.wait()
    scene.clock.let_pass(4)
    await asyncio.sleep(0.2)
    assert scene.analyzer.asked == []
    other.close()
    await scene.passes(module.STORE_RETRY)
    await scene.passes(module.STORE_RETRY)
    assert await scene.models_said(waiting) == [70]


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_own_failures_are_tried_again_with_growing_pauses_and_given_up(scene: Scene) -> None:
    scene.analyzer.respond = lambda _: down(AnalysisProblem.BAD_ANSWER)
    incident = await scene.opens(1)
    await scene.passes(MINUTE, step=0.25)
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(scene.analyzer.asked_at)]
    assert len(pauses) == PLAIN.tries - 1
    for pause, expected in zip(pauses, (2, 4, 8, 16), strict=True):
        assert expected * 0.75 <= pause <= expected * 1.25 + 0.5
    left = await scene.now(incident)
    assert (left.analyzer, left.risk_score) == ("rules", 40)
    assert str(left.reasoning).endswith("No model judged it: its answer could not be used.")
    assert (scene.problems, scene.states, await scene.waiting()) == ([AnalysisProblem.BAD_ANSWER], [], 0)
    scene.analyzer.respond = lambda _: 50
    await scene.opens(2)
    await scene.passes(3)
    assert scene.problems == [AnalysisProblem.BAD_ANSWER, None]


async def test_pauses_differ_so_that_many_do_not_come_back_at_once(restart: Restart, store: Store) -> None:
    scene = await restart(replace(PLAIN, concurrency=20), respond=lambda _: down(AnalysisProblem.BAD_ANSWER))
    for number in range(20):
        await scene.opens(number)
    await scene.passes(3)
    first = await store.async_next_judgement_at()
    assert first is not None
    await scene.passes((first - scene.clock.now()).total_seconds())
    assert len(scene.analyzer.asked) < 40


async def test_a_question_that_is_refused_is_left_to_the_rules_at_once(scene: Scene) -> None:
    scene.analyzer.respond = lambda _: down(AnalysisProblem.BAD_REQUEST)
    incident = await scene.opens(1)
    await scene.passes(HOUR, step=MINUTE)
    assert scene.analyzer.asked == [1]
    assert "No model judged it" in str((await scene.now(incident)).reasoning)
    assert (scene.problems, scene.states, await scene.waiting()) == ([AnalysisProblem.BAD_REQUEST], [], 0)


@pytest.mark.parametrize(
    "problem",
    [
        AnalysisProblem.UNAUTHORIZED,
        AnalysisProblem.NO_CREDIT,
        AnalysisProblem.MODEL_NOT_FOUND,
        AnalysisProblem.INCOMPATIBLE,
    ],
)
async def test_what_the_set_up_prevents_waits_for_another(
    scene: Scene, restart: Restart, problem: AnalysisProblem
) -> None:
    scene.analyzer.respond = lambda _: down(problem)
    incidents = [await scene.opens(number) for number in range(20)]
    await scene.passes(10, step=1)
    assert (len(scene.analyzer.asked), scene.problems, scene.states) == (1, [problem], [BreakerState.OPEN])
    await scene.passes(HOUR, step=MINUTE)
    assert (len(scene.analyzer.asked) < 12, await scene.waiting()) == (True, 20)
    await scene.async_stop()
    again = await restart()  # as when the entry is set up anew with another key
    await again.passes(MINUTE, step=5)
    assert [await again.models_said(incident) for incident in incidents] == [[70]] * 20


async def test_floors_hold_while_an_incident_goes_on(scene: Scene) -> None:
    scene.facts = {"alarm": "triggered"}
    scene.analyzer.respond = lambda _: down()
    incident = await scene.opens(1, score=85)
    for _ in range(14):
        await scene.passes(30, step=10)
        await scene.store.async_save_incident(replace(await scene.now(incident), last_seen_at=scene.clock.now()))
    scene.analyzer.respond = lambda _: 5
    await scene.passes(15 * MINUTE, step=30)
    assert await scene.models_said(incident) == [85]


async def test_floors_of_the_opening_hold_for_what_ended_after_a_long_quiet_time(scene: Scene) -> None:
    scene.facts = {"alarm": "triggered"}
    scene.analyzer.respond = lambda _: 5
    incident = await scene.opens(1)
    await scene.passes(5)
    seen = scene.clock.now() + timedelta(minutes=6)
    scene.facts = {}
    await scene.passes(12 * MINUTE, step=MINUTE)
    ended = replace(await scene.now(incident), last_seen_at=seen, ended_at=seen, object_count=2)
    scene.analyst.incident_ended(await scene.store.async_save_incident(ended))
    await scene.passes(10)
    assert await scene.models_said(incident) == [85, 85]


async def test_giving_up_keeps_the_rules_score(scene: Scene) -> None:
    scene.analyzer.respond = lambda _: down(AnalysisProblem.BAD_REQUEST)
    incident = await scene.opens(1, score=85)  # more than the rules would say now
    await scene.passes(5)
    now = await scene.now(incident)
    assert (now.risk_score, now.rules_score, now.title) == (85, 85, incident.title)
    assert now.reasoning == f"{incident.reasoning} No model judged it: its server refused the question."


@pytest.mark.parametrize("wish", [0, 1])
async def test_a_server_that_wishes_for_no_pause_is_left_alone_all_the_same(scene: Scene, wish: float) -> None:
    scene.analyzer.respond = lambda _: down(AnalysisProblem.RATE_LIMITED, wish=wish)
    await scene.opens(1)
    await scene.passes(HOUR, step=5)
    assert 5 < len(scene.analyzer.asked) < 15


def test_a_pause_grows_no_more_after_weeks() -> None:
    breaker = Breaker(failures=1, first_pause=30, longest_pause=600, on_change=lambda _: None)
    now = 0.0
    for _ in range(3000):
        breaker.failed(now)
        now += (pause := breaker.pause(now))
        assert pause <= 600 * 1.25
        assert breaker.pause(now) == 0


async def test_assessments_of_the_future_count_for_no_budget(
    scene: Scene, restart: Restart, clock: ScriptedClock
) -> None:
    await scene.opens(1)
    await scene.passes(5)
    await scene.async_stop()
    clock.time -= timedelta(days=365)
    again = await restart(replace(PLAIN, calls_per_hour=1))
    await again.opens(2)
    await again.passes(5)
    assert again.analyzer.asked == [2]


async def test_what_waits_does_not_wait_for_a_clock_that_was_set_back(
    scene: Scene, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.analyzer.respond = lambda _: down()
    incident = await scene.opens(1)
    await scene.passes(MINUTE, step=5)
    scene.analyzer.respond = lambda _: 33
    monkeypatch.setattr(clock, "now", lambda: clock.time - timedelta(days=1))
    await scene.passes(HOUR, step=MINUTE)
    assert await scene.models_said(incident) == [33]


async def test_what_is_too_old_is_left_to_the_rules_a_few_at_a_time(
    scene: Scene, restart: Restart, clock: ScriptedClock
) -> None:
    scene.analyzer.respond = lambda _: down()
    for number in range(50):
        await scene.ends(await scene.opens(number))
    await scene.settle()
    await scene.async_stop()
    clock.time += timedelta(hours=30)
    again = await restart(respond=lambda _: 33)
    assert await again.waiting() == 30
    await again.passes(5, step=1)
    assert (again.analyzer.asked, await again.waiting()) == ([], 0)


async def test_a_verdict_is_kept_when_the_end_cannot_be_judged(scene: Scene) -> None:
    incident = await scene.opens(1)
    await scene.passes(3)
    scene.analyzer.respond = lambda _: down(AnalysisProblem.BAD_REQUEST)
    await scene.ends(incident, object_count=4)
    await scene.passes(1)
    assert scene.analyzer.asked == [1, 1]
    assert (await scene.now(incident)).analyzer == "scripted"
    assert await scene.waiting() == 0


async def test_the_servers_wish_is_followed_for_all(scene: Scene, clock: ScriptedClock) -> None:
    answers: Iterator[Answer] = iter([down(AnalysisProblem.RATE_LIMITED, wish=120), 50, 50])
    scene.analyzer.respond = lambda _: next(answers)
    await scene.opens(1)
    await scene.passes(3)
    await scene.opens(2, score=99)
    assert scene.analyst.breaker is BreakerState.OPEN
    await scene.passes(119, step=1)
    assert scene.analyzer.asked == [1]
    await scene.passes(32, step=1)
    assert scene.analyzer.asked == [1, 2, 1]
    assert scene.states == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]
    assert scene.problems == []  # that was a pause, no failure


async def test_an_outage_opens_the_breaker_and_loses_nobody(restart: Restart) -> None:
    scene = await restart(replace(PLAIN, concurrency=4), respond=lambda _: down())
    incidents = [await scene.opens(number, score=number) for number in range(12)]
    await scene.passes(10 * HOUR, step=30)
    # Three failures and then one trial a pause: 30, 60, 120, 240, 480 seconds and from then on 10 minutes.
    assert len(scene.analyzer.asked) < 4 + 6 + 60 + 5
    trials = scene.analyzer.asked_at[10:]
    assert all((later - earlier).total_seconds() >= 600 for earlier, later in pairwise(trials))
    assert await scene.waiting() == 12
    assert scene.problems == [AnalysisProblem.UNREACHABLE]
    assert scene.states[:3] == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN]
    scene.analyzer.respond = lambda _: 33
    await scene.passes(15 * MINUTE, step=30)
    assert [await scene.models_said(incident) for incident in incidents] == [[33]] * 12
    assert scene.states[-1:] == [scene.analyst.breaker] == [BreakerState.CLOSED]
    assert scene.problems == [AnalysisProblem.UNREACHABLE, None]


async def test_failures_between_answers_do_not_add_up(scene: Scene) -> None:
    answers: Iterator[Answer] = cycle([down(), 50])
    scene.analyzer.respond = lambda _: next(answers)
    for number in range(6):
        await scene.opens(number)
        await scene.passes(MINUTE, step=5)
    assert len(scene.analyzer.asked) == 12
    assert (scene.states, scene.problems) == ([], [])


async def test_a_trial_is_alone(restart: Restart) -> None:
    scene = await restart(replace(PLAIN, concurrency=4), respond=lambda _: down())
    for number in range(8):
        await scene.opens(number)
    await scene.passes(3)
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: answer
    before = len(scene.analyzer.asked)
    await scene.passes(MINUTE, step=5)
    assert scene.states[-1:] == [BreakerState.HALF_OPEN]
    assert (scene.analyzer.running, len(scene.analyzer.asked)) == (1, before + 1)
    scene.analyzer.respond = lambda _: 20
    await scene.answers(answer, 20)
    await scene.passes(MINUTE)
    assert scene.states[-1:] == [scene.analyst.breaker] == [BreakerState.CLOSED]
    assert await scene.waiting() == 0


async def test_one_that_the_server_always_fails_at_does_not_hold_up_the_others(scene: Scene) -> None:
    scene.analyzer.respond = lambda number: down(AnalysisProblem.SERVER_ERROR) if number == 0 else 44
    poison = await scene.opens(0, score=99)
    numbers = count(1)
    others = []
    for _ in range(10):
        others.append(await scene.opens(next(numbers)))
        await scene.passes(2 * MINUTE, step=5)
    assert [await scene.models_said(other) for other in others] == [[44]] * 10
    assert "its server failed" in str((await scene.now(poison)).reasoning)
    assert scene.analyzer.asked.count(0) < 12
    assert await scene.waiting() == 0


@pytest.mark.parametrize("problem", [AnalysisProblem.NO_ANSWER, AnalysisProblem.SERVER_ERROR])
async def test_several_that_the_server_always_fails_at_do_not_take_every_trial(
    scene: Scene, problem: AnalysisProblem
) -> None:
    poisons = {0, 1, 2}
    scene.analyzer.respond = lambda number: down(problem) if number in poisons else 44
    for number in poisons:
        await scene.opens(number, score=99)
    await scene.passes(2 * MINUTE, step=5)
    others = [await scene.opens(number) for number in range(3, 8)]
    await scene.passes(30 * MINUTE, step=5)
    assert [await scene.models_said(other) for other in others] == [[44]] * 5
    assert await scene.waiting() == 0


async def test_one_whose_answer_never_comes_in_time_is_given_up_once_the_server_is_seen_to_answer(scene: Scene) -> None:
    scene.analyzer.respond = lambda _: down(AnalysisProblem.NO_ANSWER)
    incident = await scene.opens(1)
    await scene.passes(10 * MINUTE, step=5)
    assert (scene.problems, await scene.waiting()) == ([AnalysisProblem.NO_ANSWER], 1)  # it may be an outage
    assert scene.analyst.breaker is BreakerState.OPEN
    scene.analyst.server_answers()
    await scene.passes(MINUTE, step=5)
    assert await scene.waiting() == 0
    assert str((await scene.now(incident)).reasoning).endswith("No model judged it: its answer did not come in time.")


async def test_a_pause_that_a_server_wished_for_is_kept_though_it_answers_others(scene: Scene) -> None:
    scene.analyzer.respond = lambda _: down(AnalysisProblem.RATE_LIMITED, wish=600)
    await scene.opens(1)
    await scene.passes(5)
    scene.analyst.server_answers()
    assert scene.analyst.breaker is BreakerState.OPEN


@pytest.mark.parametrize("fault", [ZeroDivisionError(), KeyError("risk"), ValueError()], ids=repr)
async def test_a_fault_of_ours_costs_one_incident_and_is_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    scene.analyzer.respond = lambda number: fault if number == 1 else 44
    incident = await scene.opens(1, score=90)
    other = await scene.opens(2)
    await scene.passes(3)
    assert await scene.models_said(other) == [44]
    assert "Cannot judge incident" in caplog.text
    await scene.passes(5 * MINUTE, step=1)
    assert (scene.analyzer.asked, await scene.waiting()) == ([1, 2, 1, 1, 1, 1], 0)
    assert "No model judged it: an error of this integration" in str((await scene.now(incident)).reasoning)


async def test_an_incident_that_is_deleted_waits_no_longer(scene: Scene, database: Path) -> None:
    never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: never
    await scene.opens(1)
    await scene.opens(2)
    await scene.passes(3)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("DELETE FROM incidents")
    connection.close()
    await scene.answers(never, 10)
    await scene.passes(MINUTE)
    assert scene.analyzer.asked == [1]
    assert await scene.waiting() == 0


# --- late verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "what"), [(4.5, "updated"), (5.5, "annotated")])
async def test_a_verdict_that_comes_late_is_stored_but_no_news(scene: Scene, minutes: float, what: str) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: answer
    incident = await scene.ends(await scene.opens(1))
    await scene.passes(minutes * MINUTE)
    await scene.answers(answer, 88)
    assert [told for told, _ in scene.told] == [what]
    assert (await scene.now(incident)).risk_score == 88


async def test_what_ended_long_ago_while_the_model_thought_is_no_news(scene: Scene) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scene.analyzer.respond = lambda _: answer
    incident = await scene.opens(1)
    await scene.passes(4)
    await scene.ends(incident)
    await scene.passes(6 * MINUTE)
    await scene.answers(answer, 77)
    assert [told for told, _ in scene.told] == ["annotated"]


async def test_what_is_too_old_is_left_to_the_rules(scene: Scene) -> None:
    scene.analyzer.respond = lambda _: down()
    incident = await scene.ends(await scene.opens(1))
    await scene.passes(23 * HOUR, step=5 * MINUTE)
    assert await scene.waiting() == 1
    await scene.passes(1.5 * HOUR, step=5 * MINUTE)
    left = await scene.now(incident)
    assert str(left.reasoning).endswith("No model judged it: its server could not be reached.")
    assert [told for told, _ in scene.told] == ["annotated"]
    assert await scene.waiting() == 0


async def test_what_the_budget_never_reached_says_so(restart: Restart) -> None:
    scene = await restart(replace(PLAIN, calls_per_hour=1, longest_wait=timedelta(minutes=30)))
    await scene.opens(1)
    incident = await scene.ends(await scene.opens(2, score=10))
    await scene.passes(41 * MINUTE, step=MINUTE)
    assert str((await scene.now(incident)).reasoning).endswith("its turn did not come in time.")
    assert scene.analyzer.asked == [1]


async def test_the_backlog_says_how_many_wait_and_since_when(scene: Scene, clock: ScriptedClock) -> None:
    scene.analyzer.respond = lambda _: down()
    begin = clock.now()
    assert (await scene.analyst.async_backlog()).oldest_due_at is None
    await scene.opens(1)
    await scene.settle()
    backlog = await scene.analyst.async_backlog()
    assert (backlog.waiting, backlog.oldest_due_at) == (1, begin + timedelta(seconds=3))


# --- whatever happens -------------------------------------------------------------------------------------------------


class Server:
    """What the analyzers of all scenes of a house ask."""

    def __init__(self) -> None:
        self.trouble: AnalysisProblem | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def respond(self) -> int:
        await self.answers.wait()
        if self.trouble:
            raise AnalysisError(self.trouble)
        return 70


class World:
    """A house in which things happen, to the server and to Home Assistant too."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = ScriptedClock()
        self.server = Server()
        self.numbers = count()
        self.scene = self.make()

    def make(self) -> Scene:
        scene = Scene(self.store, self.clock, replace(PLAIN, calls_per_hour=10_000, concurrency=2))
        scene.analyzer.respond = lambda _: self.server.respond()
        return scene

    async def begin_anew(self) -> None:
        self.scene = self.make()
        await self.scene.async_start()

    async def open_incidents(self) -> list[Incident]:
        return [incident for incident in await self.store.async_incidents() if incident.ended_at is None]

    async def opens(self) -> None:
        await self.scene.opens(next(self.numbers))

    async def grows(self) -> None:
        for incident in await self.open_incidents():
            await self.store.async_save_incident(replace(incident, object_count=incident.object_count + 1))

    async def ends(self) -> None:
        for incident in (await self.open_incidents())[:2]:
            await self.scene.ends(incident)

    async def time_passes(self) -> None:
        await self.scene.passes(4)

    async def server_hangs(self) -> None:
        self.server.answers.clear()

    async def server_answers(self) -> None:
        self.server.answers.set()
        await asyncio.sleep(0)

    async def server_fails(self) -> None:
        self.server.trouble = AnalysisProblem.SERVER_ERROR

    async def server_goes(self) -> None:
        self.server.trouble = AnalysisProblem.UNREACHABLE

    async def server_is_well(self) -> None:
        self.server.trouble = None

    async def stops(self) -> None:
        await self.scene.async_stop()
        await self.begin_anew()

    async def crashes(self) -> None:
        self.scene.crash()
        await asyncio.sleep(0)
        await self.begin_anew()


EVENTS = [
    *(World.opens, World.opens, World.grows, World.ends, World.time_passes, World.time_passes, World.time_passes),
    *(World.server_hangs, World.server_answers, World.server_fails, World.server_goes, World.server_is_well),
    *(World.stops, World.crashes),
]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(st.sampled_from(EVENTS), max_size=25))
async def test_whatever_happens_every_incident_is_judged_and_none_more_than_twice(
    tmp_path_factory: pytest.TempPathFactory, events: list[Callable[[World], Awaitable[None]]]
) -> None:
    folder = tmp_path_factory.mktemp("house")
    store = Store(f"sqlite:///{folder / 'security.db'}", folder / "pictures")
    await store.async_open()
    world = World(store)
    await world.scene.async_start()
    for event in [*events, World.server_is_well, World.server_answers]:
        await event(world)
    await world.scene.passes(30 * MINUTE, step=MINUTE)
    for incident in await world.open_incidents():
        await world.scene.ends(incident)
    await world.scene.passes(30 * MINUTE, step=5 * MINUTE)
    assert await world.scene.waiting() == 0
    for incident in await store.async_incidents():
        assert 1 <= len(await world.scene.models_said(incident)) <= 2
        assert incident.analyzer == "scripted"
    await world.scene.async_stop()
    await store.async_close()
