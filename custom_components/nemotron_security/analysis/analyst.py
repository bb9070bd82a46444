"""Lets an analyzer judge the incidents: soon after each opens, and once more when it ended and had changed notably.

What waits, waits in the database, so that it outlasts restarts and outages. One task looks what is due and most urgent,
and begins as many calls as the limits allow; each call is a task of its own. A call that fails puts its incident back
into the queue with a later time: there is no other loop that tries again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
import contextlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
import logging
import math
import random
from typing import Final, NamedTuple, Protocol

from ..models import Assessment, Backlog, House, Incident, Judgement
from ..store import Store, StoreError
from . import AnalysisError, AnalysisProblem, Analyzer, Brief, rules
from .breaker import JITTER, Breaker, BreakerState
from .budget import HOUR, Budget, Clock as PlainClock

_LOGGER = logging.getLogger(__name__)

HOUSE_HOLDS: Final = timedelta(minutes=5)
"""What the house knew at one time says nothing of an incident that is farther away."""
STORE_RETRY: Final = 5.0
"""Seconds after which a database that fails is asked again."""
LONGEST_SLEEP: Final = 600.0
"""Seconds after which the queue is looked at in any case: something may have got old, or the clock been set."""
GIVEN_UP_AT_ONCE: Final = 20
"""Incidents that waited too long; so many are left to the rules before others get their turn."""
GIVE_UP_PAUSE: Final = 1.0
"""Seconds until the next of them."""
GIVE_UP_PERIOD: Final = 60.0
"""Seconds until it is looked again whether something waited too long."""
LOOK_AGAIN: Final = 3.0
"""Seconds after which it is looked again whether somebody came to an incident that was opened from outside."""
NOTHING_SEEN: Final = "unseen"
"""The problem of an incident of which there was nothing to see."""
NO_TURN: Final = "its turn did not come in time"
OUR_FAULT: Final = "fault"
"""The problem of an incident at which we failed ourselves."""

_SET_UP: Final = frozenset(
    {
        AnalysisProblem.UNAUTHORIZED,
        AnalysisProblem.NO_CREDIT,
        AnalysisProblem.MODEL_NOT_FOUND,
        AnalysisProblem.INCOMPATIBLE,
    }
)
"""Trouble that lasts until somebody changes the set-up; one failure proves it."""
_UNCLEAR: Final = frozenset({AnalysisProblem.NO_ANSWER, AnalysisProblem.SERVER_ERROR})
"""Trouble that may be the server's or the incident's: a question that takes too long, or that breaks the server."""
_AWAY: Final = _SET_UP | _UNCLEAR | {AnalysisProblem.UNREACHABLE, AnalysisProblem.RATE_LIMITED, AnalysisProblem.BUSY}
"""Trouble of the server, which would meet any incident."""
_OWN: Final = _UNCLEAR | {AnalysisProblem.BUSY, AnalysisProblem.BAD_ANSWER}
"""Trouble that an incident itself may cause again and again."""
_FOR_GOOD: Final = frozenset({AnalysisProblem.BAD_REQUEST, AnalysisProblem.TOO_LONG})
"""Trouble that the same question meets whenever it is asked."""

type Work = Callable[[], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalystLimits:
    """How an analyst paces itself. Times are seconds where nothing else is said."""

    opening_delay: float = 3.0
    """After the opening, so that there is more to see than a first glimpse."""
    ending_delay: float = 1.0
    """After the end, so that the last picture is stored."""
    concurrency: int = 1
    """Calls at the same time."""
    cooldown: float = 5.0
    """From one call about a camera to the next."""
    calls_per_hour: int = 120
    tries: int = 5
    """After so many of its own failures an incident is left to the rules; while the server is away, none counts."""
    first_retry: float = 2.0
    longest_retry: float = 600.0
    """Between two tries of one incident."""
    failures: int = 3
    """After so many failures in a row the server is left alone."""
    first_pause: float = 30.0
    longest_pause: float = 600.0
    """For which it is left alone."""
    news_for: timedelta = timedelta(minutes=5)
    """After an incident's end; a later verdict is stored, but is no news."""
    longest_wait: timedelta = timedelta(hours=24)
    """After an incident's last sight; what was not judged by then is left to the rules."""


class Clock(PlainClock):
    """The machine's time."""

    async def async_wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)


class Briefs(Protocol):
    """Whoever knows all that there is to judge an incident by: `Briefing`."""

    async def async_brief(self, incident: Incident, house: House) -> Brief:
        """Return what an analyzer is given of an incident that happened when the house knew this.

        Raises:
            StoreError: the database cannot be read.
        """


class Verdicts(Protocol):
    """Whoever stores and announces what the analyzer says: `Incidents`."""

    async def async_apply(
        self, incident_id: int, assessment: Assessment, *, news: Callable[[Incident], bool]
    ) -> Incident:
        """Store an assessment and announce it; if it is no news by then, only to those who show incidents.

        Raises:
            LookupError: the incident is no more.
            StoreError: stopped before it was stored.
        """


class _News(NamedTuple):
    """An incident that began or ended."""

    incident: Incident
    due_at: datetime
    house: House


class Analyst:
    """Judges incidents, the most urgent first."""

    def __init__(
        self,
        analyzer: Analyzer,
        store: Store,
        incidents: Verdicts,
        house: Callable[[], House],
        briefs: Briefs,
        *,
        limits: AnalystLimits = AnalystLimits(),
        clock: Clock = Clock(),  # noqa: B008  it has no state
        budget: Budget | None = None,
        on_problem: Callable[[AnalysisProblem | None], None] = lambda _: None,
        on_breaker: Callable[[BreakerState], None] = lambda _: None,
    ) -> None:
        """Prepare; nothing runs before `async_start`.

        Args:
            analyzer: whoever judges.
            store: where the incidents are, and the queue.
            incidents: takes the verdicts.
            house: gives what the house knows now.
            briefs: gives what there is to judge an incident by.
            limits: the pace.
            clock: the time.
            budget: counts the calls of this analyst and of others that ask the same model; null for one of its own.
            on_problem: is told when the analyzer begins to fail, and why; null when it works again.
            on_breaker: is told every new state of the circuit breaker.
        """
        self._analyzer = analyzer
        self._store = store
        self._incidents = incidents
        self._house = house
        self._briefs = briefs
        self._limits = limits
        self._clock = clock
        self._on_problem = on_problem
        self._breaker = Breaker(
            failures=limits.failures,
            first_pause=limits.first_pause,
            longest_pause=limits.longest_pause,
            on_change=on_breaker,
        )
        self._problem: AnalysisProblem | None = None
        self._news: deque[_News] = deque()
        self._changed = asyncio.Event()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._budget = budget or Budget(clock)
        self._camera_called_at: dict[str, float] = {}
        """Times of the monotonic clock; likewise `_give_up_at`."""
        self._give_up_at = -math.inf
        self._started_at = clock.now()
        self._task: asyncio.Task[None] | None = None

    @property
    def breaker(self) -> BreakerState:
        """Whether the analyzer's server is called."""
        return self._breaker.state

    async def async_backlog(self) -> Backlog:
        """Count the incidents that wait.

        Raises:
            StoreError: the database cannot be read.
        """
        return await self._store.async_backlog()

    def set_limits(self, limits: AnalystLimits) -> None:
        """Change the pace, also for what waits; but when to try again after failures stays as it was."""
        self._limits = limits
        self._changed.set()

    async def async_start(self) -> None:
        """Begin to judge, first what waited before a restart."""
        self._task = asyncio.create_task(self._async_work(), name="nemotron_security analyst")

    async def async_stop(self) -> None:
        """Stop at once; what waits is judged after the next start."""
        tasks = [*self._running.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None
        with contextlib.suppress(StoreError):
            await self._async_queue_news()

    def incident_started(self, incident: Incident) -> None:
        """Judge this incident soon."""
        self._take(incident, self._limits.opening_delay)

    def incident_updated(self, incident: Incident) -> None:
        """Look whether it is to be judged again: a floor may have begun to hold, or somebody come to an empty scene."""
        if incident.ended_at is not None:
            return
        if incident.trigger is not None and incident.object_count:
            self._take(incident, self._limits.opening_delay)
        elif incident.floor is not None:
            self._changed.set()

    def incident_ended(self, incident: Incident) -> None:
        """Judge this incident again if it changed notably since, or for the first time."""
        self._take(incident, self._limits.ending_delay)

    def server_answers(self) -> None:
        """Take note that the server answered somebody else: what it fails at is then the incidents' own fault."""
        if self._problem in _UNCLEAR and self._breaker.state is not BreakerState.CLOSED:
            self._breaker.answered()
            self._changed.set()

    def _take(self, incident: Incident, delay: float) -> None:
        self._news.append(_News(incident, self._clock.now() + timedelta(seconds=delay), self._house()))
        self._changed.set()

    # --- what is due ------------------------------------------------------------------------------------------------

    async def _async_work(self) -> None:
        resumed = False
        while True:
            self._changed.clear()
            try:
                if not resumed:
                    await self._async_resume()
                    resumed = True
                await self._async_queue_news()
                wait = min(await self._async_begin_calls(), await self._async_give_up_old())
            except StoreError as err:
                _LOGGER.debug("The queue cannot be read: %s", err)
                wait = STORE_RETRY
            except Exception:  # without this task nothing would be judged any more
                _LOGGER.exception("The analyst failed")
                wait = STORE_RETRY
            await self._clock.async_wait(self._changed, min(wait, LONGEST_SLEEP))

    async def _async_resume(self) -> None:
        """Find again what a crash interrupted, and the calls that are still within the budget's hour."""
        now = self._clock.now()
        await self._store.async_resume_judgements(now)
        self._budget.add_verdicts(await self._store.async_assessed_since(now - timedelta(seconds=HOUR)))

    async def _async_queue_news(self) -> None:
        while self._news:
            incident, due_at, house = self._news[0]
            # What was seen before the start is not told of the house as it is now, which may itself just be starting.
            known = house if incident.last_seen_at >= self._started_at and _holds(house, incident) else None
            with contextlib.suppress(LookupError):  # it is no more
                await self._store.async_await_judgement(incident.id, due_at, known)
            self._news.popleft()

    async def _async_give_up_old(self) -> float:
        """Leave some of what waited too long to the rules; return after how many seconds to go on with the rest."""
        if (pause := self._give_up_at - self._clock.monotonic()) > 0:
            return pause
        old = await self._store.async_old_judgements(
            self._clock.now(), self._oldest(), without_incidents=list(self._running), limit=GIVEN_UP_AT_ONCE
        )
        for judgement in old:
            await self._async_do(judgement, partial(self._async_give_up, judgement, judgement.problem))
        pause = GIVE_UP_PAUSE if len(old) == GIVEN_UP_AT_ONCE else GIVE_UP_PERIOD
        self._give_up_at = self._clock.monotonic() + pause
        return pause

    async def _async_begin_calls(self) -> float:
        """Begin what is due and may begin; return after how many seconds to look again, if no news come first."""
        while (wait := self._hold_up()) == 0:
            now, cooling = self._clock.monotonic(), self._cooling()
            trial = self._breaker.state is BreakerState.HALF_OPEN
            judgement = await self._store.async_claim_judgement(
                self._clock.now(),
                seen_since=self._oldest(),
                without_incidents=list(self._running),
                without_cameras=list(cooling),
                for_trial=trial,
            )
            if judgement is None:
                return await self._async_next_in(cooling)
            called_at = self._budget.note()
            self._camera_called_at[judgement.incident.camera_id] = now
            self._begin(judgement, partial(self._async_judge, judgement, called_at, trial=trial))
        return wait

    def _hold_up(self) -> float:
        """Return for how many seconds no call may begin: 0 for none, infinity for until one ends."""
        now = self._clock.monotonic()
        if pause := self._breaker.pause(now):
            return pause
        most = 1 if self._breaker.state is BreakerState.HALF_OPEN else self._limits.concurrency
        if len(self._running) >= most:
            return math.inf
        return self._budget.pause(self._limits.calls_per_hour)

    def _cooling(self) -> dict[str, float]:
        """Return the cameras that must not be asked about yet, and for how many seconds."""
        over = self._clock.monotonic() - self._limits.cooldown
        self._camera_called_at = {camera: at for camera, at in self._camera_called_at.items() if at > over}
        return {camera: at - over for camera, at in self._camera_called_at.items()}

    async def _async_next_in(self, cooling: dict[str, float]) -> float:
        due_at = await self._store.async_next_judgement_at(
            seen_since=self._oldest(), without_incidents=list(self._running), without_cameras=list(cooling)
        )
        waits = list(cooling.values())
        if due_at is not None:
            now = self._clock.now()
            latest = now + timedelta(seconds=self._longest_delay())
            if due_at > latest:  # the clock was set back since
                await self._store.async_hasten_judgements(now, after=latest)
                due_at = now
            waits.append(max(0.0, (due_at - now).total_seconds()))
        return min(waits, default=math.inf)

    def _oldest(self) -> datetime:
        """Return when an incident must have been seen for the last time, at least, to be judged still."""
        return self._clock.now() - self._limits.longest_wait

    def _longest_delay(self) -> float:
        limits = self._limits
        return max(limits.opening_delay, limits.ending_delay, STORE_RETRY, limits.longest_retry) * (1 + JITTER)

    def _begin(self, judgement: Judgement, work: Work) -> None:
        incident_id = judgement.incident.id
        task = asyncio.create_task(
            self._async_do(judgement, work), name=f"nemotron_security analyst's incident {incident_id}"
        )
        self._running[incident_id] = task
        task.add_done_callback(lambda _: self._end(incident_id))

    def _end(self, incident_id: int) -> None:
        del self._running[incident_id]
        self._changed.set()

    async def _async_do(self, judgement: Judgement, work: Work) -> None:
        """Do something about an incident; what goes wrong neither loses it nor holds up the others."""
        incident_id = judgement.incident.id
        try:
            await work()
        except StoreError as err:
            _LOGGER.debug("Incident %s was not judged: %s", incident_id, err)
            await self._async_postpone(judgement, STORE_RETRY)
        except Exception:
            _LOGGER.exception("Cannot judge incident %s", incident_id)
            await self._async_note_fault(judgement)

    # --- one call ---------------------------------------------------------------------------------------------------

    async def _async_judge(self, judgement: Judgement, called_at: float, *, trial: bool) -> None:
        """Ask, and store the answer. The call is a trial while the breaker is half open."""
        house = self._known_house(judgement)
        brief = await self._async_brief(judgement.incident, house)
        if not brief.case.tracks and not (brief.case.trigger and brief.pictures and self._analyzer.sees):
            self._budget.take_back(called_at)
            self._camera_called_at.pop(judgement.incident.camera_id, None)
            await self._async_leave_unseen(judgement)
            return
        # What the model is shown stays what its evidence speaks of.
        with self._store.keeping([picture.picture_id for picture in brief.pictures if picture.picture_id is not None]):
            try:
                assessment = await self._analyzer.async_assess(brief.case, brief.pictures)
            except AnalysisError as err:
                await self._async_note_failure(judgement, err, trial=trial)
                return
            self._breaker.answered()
            self._tell_problem(None)
            verdict = rules.raise_to_floor(assessment, brief.case)
            if house is None or house.at < judgement.incident.last_seen_at:
                verdict = verdict.raised_to(judgement.incident.floor)  # the rules knew the house later
            await self._async_apply(judgement.incident, verdict)

    async def _async_leave_unseen(self, judgement: Judgement) -> None:
        """Wait for somebody to come while it goes on, for there is nothing to judge by yet."""
        if judgement.incident.trigger is None:  # it was deleted meanwhile
            await self._async_drop(judgement.incident.id)
        elif judgement.incident.ended_at is None:
            await self._async_postpone(judgement, LOOK_AGAIN)
        else:
            await self._async_give_up(judgement, NOTHING_SEEN)

    async def _async_brief(self, incident: Incident, house: House | None) -> Brief:
        if house is None:
            house = House(at=incident.started_at.astimezone(self._house().at.tzinfo))
        return await self._briefs.async_brief(incident, house)

    def _known_house(self, judgement: Judgement) -> House | None:
        """Return what the house knew of the incident: of one that goes on, what it knows now."""
        incident = judgement.incident
        goes_on = incident.ended_at is None and incident.last_seen_at >= self._started_at
        return self._house() if goes_on else judgement.house

    async def _async_apply(self, incident: Incident, assessment: Assessment) -> None:
        try:
            await self._incidents.async_apply(incident.id, assessment, news=self._is_news)
        except LookupError:
            _LOGGER.debug("Incident %s is no more", incident.id)

    def _is_news(self, incident: Incident) -> bool:
        """Whether a verdict on the incident, as it is now, comes in time."""
        return incident.ended_at is None or self._clock.now() - incident.ended_at <= self._limits.news_for

    # --- failures ---------------------------------------------------------------------------------------------------

    async def _async_note_failure(self, judgement: Judgement, err: AnalysisError, *, trial: bool) -> None:
        """Try again later, or leave it at the rules' score."""
        if err.kind in _AWAY:
            lasting = 0.0 if err.kind in _SET_UP else None
            self._breaker.failed(self._clock.monotonic(), wish=lasting if err.retry_after is None else err.retry_after)
        else:
            self._breaker.answered()
        tries = judgement.tries + 1 if err.kind in _OWN and not trial else judgement.tries
        _LOGGER.debug("Incident %s was not judged (own failures: %s): %s", judgement.incident.id, tries, err)
        if err.kind in _FOR_GOOD or tries >= self._limits.tries:
            self._tell_problem(err.kind)
            await self._async_give_up(judgement, err.kind)
            return
        if self._breaker.failing or err.kind in _SET_UP:
            self._tell_problem(err.kind)
        await self._async_try_later(replace(judgement, tries=tries, problem=err.kind.value))

    async def _async_note_fault(self, judgement: Judgement) -> None:
        """Try again after a fault of ours, and say in the incident when that did not help."""
        judgement = replace(judgement, tries=judgement.tries + 1, problem=OUR_FAULT)
        if judgement.tries < self._limits.tries:
            await self._async_try_later(judgement)
            return
        try:
            await self._async_give_up(judgement, OUR_FAULT)
        except Exception:
            _LOGGER.exception("Cannot say that incident %s was not judged", judgement.incident.id)
            await self._async_drop(judgement.incident.id)

    async def _async_try_later(self, judgement: Judgement) -> None:
        delay = min(self._limits.first_retry * 2.0 ** max(0, judgement.tries - 1), self._limits.longest_retry)
        await self._async_postpone(judgement, delay)

    async def _async_postpone(self, judgement: Judgement, delay: float) -> None:
        due_at = self._clock.now() + timedelta(seconds=delay * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        with contextlib.suppress(StoreError):  # then it is due still
            await self._store.async_postpone_judgement(
                judgement.incident.id, due_at, tries=judgement.tries, problem=judgement.problem
            )

    async def _async_give_up(self, judgement: Judgement, problem: str | None) -> None:
        """Leave it at the rules' score, and say in the incident that no model judged it, and why."""
        incident = judgement.incident
        said = await self._store.async_assessments(incident.id)
        if said and all(assessment.analyzer == rules.NAME for assessment in said):
            # As the rules said it then, word for word: the house may know less now.
            reasoning = f"{said[-1].reasoning or ''} No model judged it: {_WORDS.get(problem, NO_TURN)}.".lstrip()
            verdict = replace(said[-1], reasoning=reasoning, created_at=self._clock.now())
            await self._async_apply(incident, verdict)
        await self._async_drop(incident.id)

    async def _async_drop(self, incident_id: int) -> None:
        with contextlib.suppress(StoreError):  # then it waits still
            await self._store.async_drop_judgement(incident_id)

    def _tell_problem(self, problem: AnalysisProblem | None) -> None:
        if problem is not self._problem:
            self._problem = problem
            self._on_problem(problem)


_WORDS: Final[Mapping[str | None, str]] = {
    AnalysisProblem.UNREACHABLE: "its server could not be reached",
    AnalysisProblem.NO_ANSWER: "its answer did not come in time",
    AnalysisProblem.UNAUTHORIZED: "its server refused the key",
    AnalysisProblem.NO_CREDIT: "what was paid for it is used up",
    AnalysisProblem.MODEL_NOT_FOUND: "its server does not have it",
    AnalysisProblem.INCOMPATIBLE: "its server refuses all questions",
    AnalysisProblem.RATE_LIMITED: "its server was asked too often",
    AnalysisProblem.BAD_ANSWER: "its answer could not be used",
    AnalysisProblem.BAD_REQUEST: "its server refused the question",
    AnalysisProblem.TOO_LONG: "its context is too small for the question",
    AnalysisProblem.SERVER_ERROR: "its server failed",
    AnalysisProblem.BUSY: "its server was too busy",
    NOTHING_SEEN: "nothing was seen that it could judge by",
    OUR_FAULT: "an error of this integration, which the log describes",
}


def _holds(house: House, incident: Incident) -> bool:
    """Whether what the house knew then is true of the incident."""
    return abs(house.at - incident.last_seen_at) <= HOUSE_HOLDS
