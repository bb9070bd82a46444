"""Tries the model again, at start and when it fails, and says by a repair issue what it can no longer do."""

import asyncio
from collections.abc import Callable, Mapping
import contextlib
import logging
from typing import Any, Final
from urllib.parse import urlsplit

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from .analysis import AnalysisError, AnalysisProblem, Capabilities
from .analysis.budget import Budget
from .analysis.chat import ChatModel, ChatServer
from .analysis.probe import ModelProblem, async_probe_offered
from .const import CONF_ANALYZER_KEY, CONF_ANALYZER_MODEL, CONF_ANALYZER_URL, CONF_CAPABILITIES
from .issues import Issues

_LOGGER = logging.getLogger(__name__)

FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 1800.0
"""Seconds between two trials of a model that did not answer; the pause doubles from the first to the longest."""
AT_MOST_EVERY: Final = 300.0
"""Seconds between a trial and another of a model that answers: each is some calls of it."""

ISSUE: Final = "analyzer"
ISSUE_IMAGES: Final = "analyzer_images"
ISSUE_SCHEMA: Final = "analyzer_schema"

# A refused key and too many questions have their own ways to be said.
_PROBLEMS: Final = {
    AnalysisProblem.UNREACHABLE: ModelProblem.UNREACHABLE,
    AnalysisProblem.SERVER_ERROR: ModelProblem.UNREACHABLE,
    AnalysisProblem.MODEL_NOT_FOUND: ModelProblem.GONE,
    AnalysisProblem.BAD_REQUEST: ModelProblem.INCOMPATIBLE,
    AnalysisProblem.TOO_LONG: ModelProblem.INCOMPATIBLE,
    AnalysisProblem.BAD_ANSWER: ModelProblem.INCOMPATIBLE,
}


def chat_server(hass: HomeAssistant, data: Mapping[str, Any], on_call: Callable[[], None] = lambda: None) -> ChatServer:
    """Return the server that settings name; `on_call` is told before each question to it."""
    session = async_get_clientsession(hass)
    return ChatServer(session, data[CONF_ANALYZER_URL], data.get(CONF_ANALYZER_KEY), on_call=on_call)


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
        self._server = chat_server(hass, entry.data, budget.note)
        self.model = ChatModel(chat_server(hass, entry.data), entry.data[CONF_ANALYZER_MODEL], self._remembered)
        """Who asks it, counts that."""
        self.budget = budget
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
    def async_doubt(self) -> None:
        """Try the model soon: it fails, works again, or took a question only without its pictures."""
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
            if await self._async_try():
                pause = FIRST_PAUSE
                await asyncio.sleep(AT_MOST_EVERY)
                await self._asked.wait()
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _async_try(self) -> bool:
        """Try the model once; returns whether there is nothing to try for until somebody asks."""
        try:
            capabilities = await async_probe_offered(self._server, self.model.name)
        except AnalysisError as err:
            _LOGGER.debug("The model could not be tried: %s", err)
            if err.kind is AnalysisProblem.UNAUTHORIZED:
                self._entry.async_start_reauth(self._hass)
                return True
            if problem := _PROBLEMS.get(err.kind):
                self._issues.async_set(ISSUE, problem, self._placeholders | {"detail": err.detail or "-"})
            return False
        self.model.capabilities = capabilities
        for listener in self._listeners:
            listener()
        before = self._remembered
        images_lost = ModelProblem.IMAGES_LOST if before.images and not capabilities.images else None
        schema_lost = ModelProblem.SCHEMA_LOST if before.schema and not capabilities.schema else None
        self._issues.async_set(ISSUE, None)
        self._issues.async_set(ISSUE_IMAGES, images_lost, self._placeholders)
        self._issues.async_set(ISSUE_SCHEMA, schema_lost, self._placeholders)
        return True

    @property
    def _placeholders(self) -> dict[str, str]:
        host = urlsplit(self._entry.data[CONF_ANALYZER_URL]).hostname
        return {"model": self.model.name, "server": host or ""}
