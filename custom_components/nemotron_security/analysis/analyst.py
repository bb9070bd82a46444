"""Lets an analyzer judge the incidents: soon after each opens, and once more when it ended and had changed notably."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
import contextlib
from dataclasses import dataclass, replace
from datetime import timedelta
import logging
from typing import Final, Protocol

from ..models import Assessment, House, Incident
from ..store import Store, StoreError
from . import AnalysisError, AnalysisProblem, Analyzer, Brief, rules

_LOGGER = logging.getLogger(__name__)

OPENING_DELAY: Final = 3.0
"""Seconds after the opening, so that there is more to see than a first glimpse."""
ENDING_DELAY: Final = 1.0
"""Seconds after the end, so that the last picture is stored."""
WAITING: Final = 64
"""Incidents that may wait; the oldest is given up when one more comes."""
NOTABLE_SCORE_CHANGE: Final = 10
"""Points of the rules' score that make an incident worth another judgement."""
TRIES: Final = 3
RETRY_FIRST: Final = 2.0
RETRY_LONGEST: Final = 60.0
"""Seconds between two tries."""
LONGEST_MEMORY: Final = 256
"""Incidents of which is remembered how they were when they were judged."""
HOUSE_HOLDS: Final = timedelta(minutes=5)
"""What the house knows now says nothing of an incident that is older."""


class Briefs(Protocol):
    """Whoever knows all that there is to judge an incident by: `Briefing`."""

    async def async_brief(self, incident: Incident, house: House) -> Brief:
        """Return what an analyzer is given of an incident that happened when the house knew this.

        Raises:
            StoreError: the database cannot be read.
        """


class Verdicts(Protocol):
    """Whoever stores and announces what the analyzer says: `Incidents`."""

    async def async_apply(self, incident_id: int, assessment: Assessment) -> Incident:
        """Store and announce an assessment.

        Raises:
            LookupError: the incident is no more.
        """


@dataclass(slots=True)
class _Request:
    """An incident that waits to be judged."""

    incident_id: int
    due: float
    """On the event loop's clock."""
    house: House
    """What the house knew when the incident began or ended, not when its turn comes."""
    tries: int = 0


type _Look = tuple[tuple[str, ...], int, int]


class Analyst:
    """Judges incidents one after the other, each soon after it opens and again at its end if it changed notably."""

    def __init__(
        self,
        analyzer: Analyzer,
        store: Store,
        incidents: Verdicts,
        house: Callable[[], House],
        briefs: Briefs,
        *,
        on_problem: Callable[[AnalysisProblem | None], None] = lambda _: None,
    ) -> None:
        """Prepare; nothing runs before `async_start`.

        Args:
            analyzer: whoever judges.
            store: where the incidents and their pictures are.
            incidents: takes the verdicts.
            house: gives what the house knows now.
            briefs: gives what there is to judge an incident by.
            on_problem: is told when the analyzer begins to fail, and why; null when it works again.
        """
        self._analyzer = analyzer
        self._store = store
        self._incidents = incidents
        self._house = house
        self._briefs = briefs
        self._on_problem = on_problem
        self._problem: AnalysisProblem | None = None
        self._waiting: dict[int, _Request] = {}
        self._changed = asyncio.Event()
        self._judged: OrderedDict[int, _Look] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def async_start(self) -> None:
        """Begin to judge."""
        self._task = asyncio.create_task(self._async_work(), name="nemotron_security analyst")

    async def async_stop(self) -> None:
        """Stop at once; what waits keeps the rules' score."""
        self._waiting.clear()
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    def incident_started(self, incident: Incident) -> None:
        """Judge this incident soon."""
        self._request(incident.id, OPENING_DELAY)

    def incident_ended(self, incident: Incident) -> None:
        """Judge this incident again if it changed notably since, or for the first time."""
        if waiting := self._waiting.get(incident.id):
            waiting.house = self._house()
        else:
            self._request(incident.id, ENDING_DELAY)

    def _request(self, incident_id: int, delay: float) -> None:
        if len(self._waiting) >= WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            _LOGGER.warning("Too many incidents wait for %s; incident %s is not judged", self._analyzer.name, oldest)
        self._waiting[incident_id] = _Request(incident_id, _now() + delay, self._house())
        self._changed.set()

    async def _async_work(self) -> None:
        while True:
            request = await self._async_next()
            try:
                await self._async_judge(request)
            except (AnalysisError, StoreError) as err:
                await self._async_retry(request, err)
            except LookupError:
                _LOGGER.debug("Incident %s is no more", request.incident_id)
            except Exception:
                _LOGGER.exception("Cannot judge incident %s", request.incident_id)

    async def _async_next(self) -> _Request:
        """Wait for the request that is due first, and take it."""
        while True:
            self._changed.clear()
            request = min(self._waiting.values(), key=lambda request: request.due, default=None)
            if request and request.due <= _now():
                del self._waiting[request.incident_id]
                return request
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), request.due - _now() if request else None)

    async def _async_judge(self, request: _Request) -> None:
        incident = await self._store.async_incident(request.incident_id)
        if incident is None or self._is_judged(incident):
            return
        brief = await self._async_brief(incident, request.house)
        if not brief.case.tracks:
            return
        assessment = await self._analyzer.async_assess(brief.case, brief.pictures)
        self._tell_problem(None)
        self._remember(incident)
        await self._incidents.async_apply(incident.id, rules.raise_to_floor(assessment, brief.case))

    def _is_judged(self, incident: Incident) -> bool:
        """Whether nothing notable happened since it was judged; what was judged before a restart is left alone."""
        if incident.id in self._judged:
            return self._judged[incident.id] == _look(incident)
        return incident.analyzer == self._analyzer.name

    def _remember(self, incident: Incident) -> None:
        self._judged[incident.id] = _look(incident)
        while len(self._judged) > LONGEST_MEMORY:
            self._judged.popitem(last=False)

    async def _async_brief(self, incident: Incident, house: House) -> Brief:
        if abs(house.at - incident.last_seen_at) > HOUSE_HOLDS:
            house = House(at=incident.started_at.astimezone(house.at.tzinfo))
        return await self._briefs.async_brief(incident, house)

    async def _async_retry(self, request: _Request, err: AnalysisError | StoreError) -> None:
        """Try again later, or leave it at the rules' score."""
        request.tries += 1
        _LOGGER.debug("Incident %s was not judged, try %s: %s", request.incident_id, request.tries, err)
        temporary = isinstance(err, StoreError) or err.temporary
        if temporary and request.tries < TRIES:
            request.due = _now() + _delay(request.tries, err)
            self._waiting.setdefault(request.incident_id, request)
            return
        if isinstance(err, AnalysisError):
            self._tell_problem(err.kind)
            await self._async_leave_to_rules(request, err)

    async def _async_leave_to_rules(self, request: _Request, err: AnalysisError) -> None:
        """Say in the incident that no model judged it, and why."""
        try:
            incident = await self._store.async_incident(request.incident_id)
            if incident is None or incident.analyzer not in (None, rules.NAME):
                return
            verdict = rules.assess((await self._async_brief(incident, request.house)).case)
            reasoning = f"{verdict.reasoning} No model judged it: {_WORDS[err.kind]}."
            await self._incidents.async_apply(incident.id, replace(verdict, reasoning=reasoning))
        except StoreError, LookupError, ValueError:
            _LOGGER.debug("Incident %s keeps its score without a word on the model", request.incident_id)

    def _tell_problem(self, problem: AnalysisProblem | None) -> None:
        if problem is not self._problem:
            self._problem = problem
            self._on_problem(problem)


_WORDS: Final = {
    AnalysisProblem.UNREACHABLE: "its server could not be reached",
    AnalysisProblem.UNAUTHORIZED: "its server refused the key",
    AnalysisProblem.MODEL_NOT_FOUND: "its server does not have it",
    AnalysisProblem.RATE_LIMITED: "its server was asked too often",
    AnalysisProblem.BAD_ANSWER: "its answer could not be used",
    AnalysisProblem.BAD_REQUEST: "its server refused the question",
    AnalysisProblem.SERVER_ERROR: "its server failed",
}


def _look(incident: Incident) -> _Look:
    """Return what makes an incident worth another judgement when it changes."""
    return incident.labels, incident.object_count, (incident.rules_score or 0) // NOTABLE_SCORE_CHANGE


def _delay(tries: int, err: AnalysisError | StoreError) -> float:
    wish = err.retry_after if isinstance(err, AnalysisError) else None
    return float(min(max(RETRY_FIRST * 2 ** (tries - 1), wish or 0.0), RETRY_LONGEST))


def _now() -> float:
    return asyncio.get_running_loop().time()
