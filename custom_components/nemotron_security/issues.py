"""Repair issues: what a person has to do. Each goes by itself when its cause goes."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later

from .const import DOMAIN
from .models import Problem

# These come and go by themselves (a camera restarts, a network hiccups): nobody is asked before they last.
TRANSIENT = frozenset(
    {
        Problem.SOURCE_UNREACHABLE,
        Problem.SOURCE_STALLED,
        Problem.SOURCE_ENDED,
        Problem.CAMERA_UNAVAILABLE,
        Problem.WORKER_DOWN,
    }
)
PATIENCE = timedelta(minutes=5)


class Issues:
    """One issue at most for each thing that can fail."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Begin without issues: earlier ones are not persistent."""
        self._hass = hass
        self._shown: dict[str, str] = {}
        self._waiting: dict[str, CALLBACK_TYPE] = {}

    @callback
    def async_set(self, thing: str, problem: str | None, placeholders: Mapping[str, str] | None = None) -> None:
        """Say what is wrong with a thing (a camera's id, `detector`, `store`), or that nothing is."""
        if self._shown.get(thing) == problem:
            return
        self.async_clear(thing)
        if problem is None:
            return
        self._shown[thing] = problem

        @callback
        def create(_now: datetime | None = None) -> None:
            self._waiting.pop(thing, None)
            ir.async_create_issue(
                self._hass,
                DOMAIN,
                thing,
                is_fixable=False,
                severity=ir.IssueSeverity.ERROR,
                translation_key=problem,
                translation_placeholders=dict(placeholders or {}),
            )

        if problem in TRANSIENT:
            self._waiting[thing] = async_call_later(self._hass, PATIENCE, create)
        else:
            create()

    @callback
    def async_clear(self, thing: str) -> None:
        """Take the issue of a thing back."""
        if cancel := self._waiting.pop(thing, None):
            cancel()
        if self._shown.pop(thing, None) is not None:
            ir.async_delete_issue(self._hass, DOMAIN, thing)

    @callback
    def async_clear_all(self) -> None:
        """Take everything back, on unload."""
        for thing in list(self._shown):
            self.async_clear(thing)
