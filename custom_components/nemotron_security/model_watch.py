"""Tries the model again, at start and when it fails, and says by a repair issue what it can no longer do."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
import contextlib
from enum import Enum, auto
from functools import partial
import logging
from typing import Any, Final
from urllib.parse import urlsplit

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from .analysis import AnalysisError, AnalysisProblem, Capabilities
from .analysis.breaker import LONGEST_WISH
from .analysis.budget import Budget
from .analysis.chat import ANSWER_TIME, ChatModel, ChatServer
from .analysis.probe import ModelProblem, async_probe_offered
from .const import CONF_ANALYZER_KEY, CONF_ANALYZER_MODEL, CONF_ANALYZER_URL, CONF_ANSWER_TIME, CONF_CAPABILITIES
from .issues import Issues

_LOGGER = logging.getLogger(__name__)

FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 1800.0
"""Seconds between two trials of a model that did not answer; the pause doubles from the first to the longest."""
AT_MOST_EVERY: Final = 300.0
"""Seconds between a trial and another of a model that answers: each is some calls of it."""
AMPLE_CONTEXT: Final = 16_384
"""Tokens; more are no loss: they hold all that is ever asked."""

ISSUE: Final = "analyzer"
ISSUE_IMAGES: Final = "analyzer_images"
ISSUE_SCHEMA: Final = "analyzer_schema"
ISSUE_CONTEXT: Final = "analyzer_context"

# A refused key and too many questions have their own ways to be said.
_PROBLEMS: Final = {
    AnalysisProblem.UNREACHABLE: ModelProblem.UNREACHABLE,
    AnalysisProblem.NO_ANSWER: ModelProblem.SLOW,
    AnalysisProblem.NO_CREDIT: ModelProblem.NO_CREDIT,
    AnalysisProblem.SERVER_ERROR: ModelProblem.UNREACHABLE,
    AnalysisProblem.BUSY: ModelProblem.UNREACHABLE,
    AnalysisProblem.MODEL_NOT_FOUND: ModelProblem.GONE,
    AnalysisProblem.BAD_REQUEST: ModelProblem.INCOMPATIBLE,
    AnalysisProblem.TOO_LONG: ModelProblem.INCOMPATIBLE,
    AnalysisProblem.BAD_ANSWER: ModelProblem.INCOMPATIBLE,
}


def answer_time(entry: ConfigEntry) -> float:
    """Return how many seconds a model may take as the options are now."""
    return float(entry.options.get(CONF_ANSWER_TIME, ANSWER_TIME))


def chat_server(
    hass: HomeAssistant,
    data: Mapping[str, Any],
    entry: ConfigEntry | None = None,
    *,
    on_call: Callable[[], object] = lambda: None,
) -> ChatServer:
    """Return the server that settings name.

    Args:
        hass: Home Assistant.
        data: the settings.
        entry: whose options say how long an answer may take, once there is one.
        on_call: is told before each question to it.
    """
    return ChatServer(
        async_get_clientsession(hass),
        data[CONF_ANALYZER_URL],
        data.get(CONF_ANALYZER_KEY),
        answer_time=partial(answer_time, entry) if entry else lambda: ANSWER_TIME,
        on_call=on_call,
    )


class _Trial(Enum):
    """What came of a trial."""

    FAILED = auto()
    """It did not answer."""
    LESS = auto()
    """It can do less than when it was set up, or too slowly."""
    DONE = auto()
    """There is nothing to try for until somebody asks."""


class ModelWatch:
    """Keeps what is known of the configured model true.

    What it could do when it was set up is remembered in the entry; `model` is asked by what it can do now.
    """

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, issues: Issues, budget: Budget) -> None:
        """Take the model to be as it was when it was set up; each question of a trial counts for the budget."""
        self._hass = hass
        self._entry = entry
        self._issues = issues
        self._remembered = Capabilities.from_data(entry.data.get(CONF_CAPABILITIES))
        self._server = chat_server(hass, entry.data, entry, on_call=budget.note)
        self.model = ChatModel(chat_server(hass, entry.data, entry), entry.data[CONF_ANALYZER_MODEL], self._remembered)
        """Who asks it, counts that."""
        self.budget = budget
        self._problem: AnalysisProblem | None = None
        self._refusal: str | None = None
        self._wish = 0.0
        """Seconds that the server asked to be left alone when it was tried last."""
        self._asked = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    @callback
    def async_start(self) -> None:
        """Try the model, and go on doing so whenever it is doubted."""
        self._task = self._hass.async_create_background_task(self._async_watch(), "nemotron_security model watch")

    async def async_stop(self) -> None:
        """Stop at once; the issues are their owner's to take back."""
        if (task := self._task) is None:
            return
        self._task = None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    @callback
    def async_handle_problem(self, problem: AnalysisProblem | None) -> None:
        """Try the model soon: it began to fail at incidents, or (null) works again."""
        self._problem = problem
        self.async_doubt()

    @callback
    def async_handle_pictures(self, refusal: str | None) -> None:
        """Try the model soon: its server refuses pictures of incidents with these words, or (null) takes them again."""
        if refusal != self._refusal:
            self._refusal = refusal
            self.async_doubt()

    @callback
    def async_doubt(self) -> None:
        """Try the model soon."""
        self._asked.set()

    @callback
    def async_listen(self, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Call a listener when the model was tried; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def _async_watch(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._asked.clear()
            if (trial := await self._async_try()) is _Trial.FAILED:
                await asyncio.sleep(max(pause, self._wish))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            await asyncio.sleep(AT_MOST_EVERY)
            with contextlib.suppress(TimeoutError):
                # What it lost is not used, so that no failure would tell that it can again.
                async with asyncio.timeout(LONGEST_PAUSE if trial is _Trial.LESS else None):
                    await self._asked.wait()

    async def _async_try(self) -> _Trial:
        """Try the model once."""
        try:
            capabilities = await async_probe_offered(self._server, self.model.name)
        except AnalysisError as err:
            _LOGGER.debug("The model could not be tried: %s", err)
            self._wish = min(err.retry_after or 0.0, LONGEST_WISH)
            if err.kind is AnalysisProblem.UNAUTHORIZED:
                self._entry.async_start_reauth(self._hass)
                return _Trial.DONE
            if problem := _PROBLEMS.get(err.kind):
                self._issues.async_set(ISSUE, problem, self._placeholders | {"detail": err.detail or "-"})
            return _Trial.FAILED
        self.model.capabilities = capabilities
        for listener in self._listeners:
            listener()
        lost = dict(_lost(self._remembered, capabilities))
        if self._refusal is not None and capabilities.images:
            lost.setdefault(ISSUE_IMAGES, ModelProblem.IMAGES_REFUSED)
        slow = self._problem is AnalysisProblem.NO_ANSWER  # what it is tried with is short
        self._issues.async_set(ISSUE, ModelProblem.SLOW if slow else None, self._placeholders)
        for thing in (ISSUE_IMAGES, ISSUE_SCHEMA, ISSUE_CONTEXT):
            told = {"length": str(capabilities.context_length), "detail": self._refusal or "-"}
            self._issues.async_set(thing, lost.get(thing), self._placeholders | told)
        return _Trial.LESS if lost or slow else _Trial.DONE

    @property
    def _placeholders(self) -> dict[str, str]:
        host = urlsplit(self._entry.data[CONF_ANALYZER_URL]).hostname
        return {"model": self.model.name, "server": host or "", "seconds": f"{answer_time(self._entry):.0f}"}


def _lost(before: Capabilities, now: Capabilities) -> Iterator[tuple[str, ModelProblem]]:
    """Yield what a model could when it was set up and cannot now, each as an issue and what it says."""
    if before.images and not now.images:
        yield ISSUE_IMAGES, ModelProblem.IMAGES_LOST
    if before.schema and not now.schema:
        yield ISSUE_SCHEMA, ModelProblem.SCHEMA_LOST
    if now.context_length and now.context_length < min(before.context_length or 0, AMPLE_CONTEXT):
        yield ISSUE_CONTEXT, ModelProblem.CONTEXT_LOST
