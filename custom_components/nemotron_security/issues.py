"""Repair issues: what a person has to do. Each goes by itself when its cause goes."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later

from .analysis.probe import ModelProblem
from .const import DOMAIN
from .gpu import GpuProblem
from .models import Problem

# These come and go by themselves (a camera restarts, a network hiccups): nobody is asked before they last.
TRANSIENT = frozenset(
    {
        Problem.SOURCE_UNREACHABLE,
        Problem.SOURCE_STALLED,
        Problem.SOURCE_ENDED,
        Problem.CAMERA_UNAVAILABLE,
        Problem.WORKER_DOWN,
        Problem.DETECTOR_UNREACHABLE,
        Problem.DETECTOR_NOT_READY,
        Problem.DETECTOR_BAD_ANSWER,
        ModelProblem.UNREACHABLE,
        ModelProblem.SLOW,
        GpuProblem.NO_DRIVER,
        GpuProblem.HUNG,
        GpuProblem.UNREACHABLE,
        GpuProblem.BAD_ANSWER,
    }
)
ISSUE_ENVIRONMENT = "detector_environment"
"""The environment of the detector is gone or broken, as after an update of Home Assistant's Python."""
FIXABLE = frozenset({ISSUE_ENVIRONMENT})
"""A person only has to say so; see `repairs.py`."""
PATIENCE = timedelta(minutes=5)


class Issues:
    """One issue at most for each thing that can fail."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Begin without issues: earlier ones are not persistent."""
        self._hass = hass
        self._wrong: dict[str, tuple[str, dict[str, str]]] = {}
        self._shown: dict[str, str] = {}
        self._waiting: dict[str, CALLBACK_TYPE] = {}

    @callback
    def async_set(self, thing: str, problem: str | None, placeholders: Mapping[str, str] | None = None) -> None:
        """Say what is wrong with a thing (a camera's id, `detector`, `store`, `gpu_...`), or that nothing is.

        What may pass by itself has to last: as long as the thing has not worked in between, whatever its words.
        """
        if problem is None:
            self.async_clear(thing)
            return
        self._wrong[thing] = (problem, dict(placeholders or {}))
        if problem not in TRANSIENT or self._shown.get(thing) in TRANSIENT:
            self._async_show(thing)
        elif thing not in self._waiting:

            @callback
            def show(_now: datetime) -> None:
                del self._waiting[thing]
                self._async_show(thing)

            self._waiting[thing] = async_call_later(self._hass, PATIENCE, show)

    @callback
    def async_clear(self, thing: str) -> None:
        """Take the issue of a thing back."""
        self._async_wait_no_more(thing)
        self._wrong.pop(thing, None)
        if self._shown.pop(thing, None) is not None:
            ir.async_delete_issue(self._hass, DOMAIN, thing)

    @callback
    def async_clear_all(self) -> None:
        """Take everything back, on unload."""
        for thing in list(self._wrong):
            self.async_clear(thing)

    @callback
    def _async_show(self, thing: str) -> None:
        self._async_wait_no_more(thing)
        problem, placeholders = self._wrong[thing]
        self._shown[thing] = problem
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            thing,
            is_fixable=problem in FIXABLE,
            severity=ir.IssueSeverity.ERROR,
            translation_key=problem,
            translation_placeholders=placeholders,
        )

    @callback
    def _async_wait_no_more(self, thing: str) -> None:
        if cancel := self._waiting.pop(thing, None):
            cancel()
