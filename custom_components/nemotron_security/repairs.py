"""Repairs that only have to be asked for."""

import asyncio
from typing import Any

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant

from .const import DOMAIN
from .detection.environment import EnvironmentFailure
from .environments import async_environment
from .forms import UNKNOWN, step_after


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the flow of the one issue that can be repaired so: the detector's environment."""
    return EnvironmentRepairFlow()


class EnvironmentRepairFlow(RepairsFlow):
    """Make the environment anew, as it was."""

    def __init__(self) -> None:
        """Nothing is done yet."""
        self._job: asyncio.Task[str] | None = None
        self._error = ""
        self._detail = ""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask first: it takes minutes and gigabytes."""
        return await self.async_step_confirm()

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Begin when told to; say why it failed, if it did."""
        if user_input is not None:
            return await self.async_step_install()
        errors, self._error = {"base": self._error} if self._error else {}, ""
        return self.async_show_form(
            step_id="confirm", errors=errors, description_placeholders={"detail": self._detail or "-"}
        )

    async def async_step_install(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Install while somebody waits."""
        if self._job is None:
            self._job = self.hass.async_create_background_task(
                self._async_install(), "nemotron_security repair of the detector's environment", eager_start=False
            )
        if not self._job.done():
            return self.async_show_progress(step_id="install", progress_action="install", progress_task=self._job)
        job, self._job = self._job, None
        return self.async_show_progress_done(next_step_id=step_after(job) or self._failed(UNKNOWN))

    async def _async_install(self) -> str:
        """Make it anew; returns the step that follows."""
        environment = async_environment(self.hass)
        try:
            await environment.async_install(await environment.async_build(), self.async_update_progress)
        except EnvironmentFailure as err:
            return self._failed(err.problem, err.detail)
        return "done"

    def _failed(self, error: str, detail: str = "") -> str:
        """Keep why it could not be made; returns the step that says so."""
        self._error, self._detail = error, detail
        return "confirm"

    async def async_step_done(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Start the detector again."""
        for entry in self.hass.config_entries.async_loaded_entries(DOMAIN):
            self.hass.config_entries.async_schedule_reload(entry.entry_id)
        return self.async_create_entry(data={})
