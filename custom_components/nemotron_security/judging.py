"""Who judges incidents besides the rules: the model of the set-up, and whoever watches what it can do."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback

from .analysis import AnalysisProblem, Analyzer
from .analysis.ai_task import AiTaskAnalyzer
from .analysis.analyst import Analyst, AnalystLimits, Briefs, Verdicts
from .analysis.breaker import BreakerState
from .analysis.budget import Budget
from .analysis.nemotron import NemotronAnalyzer
from .analysis.probe import ModelProblem
from .const import (
    ANALYZER_AI_TASK,
    ANALYZER_NEMOTRON,
    CONF_AI_TASK_ENTITY,
    CONF_ANALYZER,
    CONF_CALLS_PER_HOUR,
    CONF_CONCURRENCY,
    CONF_COOLDOWN,
    CONF_NEWS_FOR,
    CONF_OPENING_DELAY,
)
from .issues import Issues
from .model_watch import ModelWatch, answer_time
from .models import House
from .payloads import PartState
from .store import Store
from .task_watch import TaskWatch


class Judging:
    """The analyst and whoever watches its model; neither where the rules alone judge."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        *,
        store: Store,
        incidents: Verdicts,
        house: Callable[[], House],
        briefing: Briefs,
        budget: Budget,
        issues: Issues,
        on_state: Callable[[PartState], None],
        on_breaker: Callable[[BreakerState], None],
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            hass: Home Assistant.
            entry: says which model, and how often it may be asked.
            store: where the incidents are, and the queue.
            incidents: takes the verdicts.
            house: gives what the house knows now.
            briefing: gives what there is to judge an incident by.
            budget: counts the calls of all who ask this model.
            issues: where it is told what the model lacks.
            on_state: is told whether the model works.
            on_breaker: is told every new state of the circuit breaker.
        """
        self._hass = hass
        self._entry = entry
        self._issues = issues
        self._on_state = on_state
        self.model_watch: ModelWatch | None = None
        """Of the model that we ask ourselves."""
        if entry.data.get(CONF_ANALYZER) == ANALYZER_NEMOTRON:
            self.model_watch = ModelWatch(hass, entry, issues, budget)
        self.analysts: list[Analyst] = []
        """The one there is, if there is one."""
        if (analyzer := _analyzer(hass, entry, self.model_watch)) is not None:
            self.analysts.append(
                Analyst(
                    analyzer,
                    store,
                    incidents,
                    house,
                    briefing,
                    limits=_limits(entry),
                    budget=budget,
                    on_problem=self._handle_problem,
                    on_breaker=on_breaker,
                )
            )

    async def async_start(self) -> None:
        """Begin to judge."""
        for analyst in self.analysts:
            await analyst.async_start()
            if self.model_watch is not None:
                self.model_watch.async_listen(analyst.server_answers)

    @callback
    def async_watch(self) -> None:
        """Begin to look whether the model can what it could."""
        if self.model_watch is not None:
            self.model_watch.async_start()
        elif self._entry.data.get(CONF_ANALYZER) == ANALYZER_AI_TASK:
            self._entry.async_on_unload(TaskWatch(self._hass, self._entry, self._issues).async_start())

    async def async_stop(self) -> None:
        """Stop; what waits is judged after the next start."""
        for analyst in self.analysts:
            await analyst.async_stop()
        if self.model_watch is not None:
            await self.model_watch.async_stop()

    @callback
    def async_follow_options(self) -> None:
        """Ask as often as the options say now."""
        for analyst in self.analysts:
            analyst.set_limits(_limits(self._entry))

    @callback
    def _handle_problem(self, problem: AnalysisProblem | None) -> None:
        """Say that the model fails; a refused key is asked for anew. Incidents keep the rules' score meanwhile."""
        self._on_state(PartState.FAILED if problem else PartState.RUNNING)
        if problem is AnalysisProblem.UNAUTHORIZED:
            self._entry.async_start_reauth(self._hass)
        elif self.model_watch is None:
            gone = ModelProblem.TASK_GONE if problem is AnalysisProblem.MODEL_NOT_FOUND else None
            self._issues.async_set("analyzer", gone, {"model": self._entry.data.get(CONF_AI_TASK_ENTITY, "")})
        elif problem is not AnalysisProblem.RATE_LIMITED:
            self.model_watch.async_handle_problem(problem)


def _limits(entry: ConfigEntry) -> AnalystLimits:
    """Return how often the model may be asked; what the user did not choose is as `AnalystLimits` has it."""
    options = entry.options
    names = (CONF_OPENING_DELAY, CONF_CONCURRENCY, CONF_COOLDOWN, CONF_CALLS_PER_HOUR)
    chosen: dict[str, Any] = {name: int(options[name]) for name in names if name in options}
    if CONF_NEWS_FOR in options:
        chosen[CONF_NEWS_FOR] = timedelta(minutes=options[CONF_NEWS_FOR])
    return AnalystLimits(**chosen)


def _analyzer(hass: HomeAssistant, entry: ConfigEntry, watch: ModelWatch | None) -> Analyzer | None:
    """Return the model that judges besides the rules, if one is configured."""
    if watch is not None:
        return NemotronAnalyzer(
            watch.model,
            on_pictures=watch.async_handle_pictures,
            on_refused_schema=watch.async_doubt,
            on_repeat=watch.budget.note,
        )
    if entry.data.get(CONF_ANALYZER) == ANALYZER_AI_TASK:
        return AiTaskAnalyzer(hass, entry.data[CONF_AI_TASK_ENTITY], answer_time=partial(answer_time, entry))
    return None
