"""What can be changed once it is set up: page by page, live."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, override

from homeassistant.components.alarm_control_panel import DOMAIN as ALARM_CONTROL_PANEL_DOMAIN
from homeassistant.config_entries import (
    ConfigFlowResult,
    OptionsFlow,
)
from homeassistant.const import UnitOfTime
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    EntitySelector,
    EntitySelectorConfig,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
)
import probatio as vol

from .analysis.analyst import AnalystLimits
from .analysis.chat import ANSWER_TIME
from .analysis.context import CALENDAR_DOMAIN
from .analysis.keyframes import MOST_KEY_FRAMES
from .checks import hide_secrets, server_urls
from .const import (
    CONF_ALARM_PANEL,
    CONF_ANSWER_TIME,
    CONF_CALENDARS,
    CONF_CALLS_PER_HOUR,
    CONF_CONCURRENCY,
    CONF_COOLDOWN,
    CONF_DETECT,
    CONF_DETECTOR,
    CONF_FLOORS,
    CONF_GPU_INTERVAL,
    CONF_GPU_URLS,
    CONF_KEY_FRAMES,
    CONF_LABELS,
    CONF_MAXIMUM_LENGTH,
    CONF_NEWS_FOR,
    CONF_OPENING_DELAY,
    CONF_QUIET_TIME,
    CONF_TOPICS,
    CONF_WORKERS,
    DEFAULT_GPU_INTERVAL,
    DEFAULT_KEY_FRAMES,
    DEFAULT_LABELS,
    DEFAULT_MAXIMUM_LENGTH,
    DEFAULT_QUIET_TIME,
    DEFAULT_WORKERS,
    SUBENTRY_CAMERA,
)
from .detector_flow import DetectorFlow
from .forms import (
    URLS,
    async_docs_url,
    number,
    seconds,
    several,
)
from .models import Floor, Topic
from .vision.labels import coco_names
from .vision.messages import MAX_WORKERS

SECTION_LIMITS = "limits"

DEFAULT_LIMITS = AnalystLimits()
LIMITS_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_OPENING_DELAY, default=int(DEFAULT_LIMITS.opening_delay)): seconds(0, 60),
        vol.Required(CONF_CONCURRENCY, default=DEFAULT_LIMITS.concurrency): NumberSelector(
            NumberSelectorConfig(min=1, max=8, step=1, mode=NumberSelectorMode.SLIDER)
        ),
        vol.Required(CONF_COOLDOWN, default=int(DEFAULT_LIMITS.cooldown)): seconds(0, 600),
        vol.Required(CONF_CALLS_PER_HOUR, default=DEFAULT_LIMITS.calls_per_hour): NumberSelector(
            NumberSelectorConfig(min=1, max=3600, step=1, mode=NumberSelectorMode.BOX)
        ),
        vol.Required(CONF_ANSWER_TIME, default=int(ANSWER_TIME)): seconds(20, 1800),
        vol.Required(CONF_NEWS_FOR, default=DEFAULT_LIMITS.news_for // timedelta(minutes=1)): number(
            1, 1440, UnitOfTime.MINUTES
        ),
    }
)
INCIDENTS_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_QUIET_TIME, default=DEFAULT_QUIET_TIME): seconds(2, 300),
        vol.Required(CONF_MAXIMUM_LENGTH, default=DEFAULT_MAXIMUM_LENGTH): seconds(30, 3600),
        vol.Optional(CONF_ALARM_PANEL): EntitySelector(
            EntitySelectorConfig(filter=[{"domain": ALARM_CONTROL_PANEL_DOMAIN}])
        ),
        vol.Required(CONF_FLOORS, default=list(Floor)): several(Floor, "floor"),
        vol.Optional(CONF_CALENDARS, default=list): EntitySelector(
            EntitySelectorConfig(filter=[{"domain": CALENDAR_DOMAIN}], multiple=True)
        ),
    }
)
WORKERS_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_WORKERS, default=DEFAULT_WORKERS): NumberSelector(
            NumberSelectorConfig(min=1, max=MAX_WORKERS, step=1, mode=NumberSelectorMode.SLIDER)
        )
    }
)
JUDGING_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_TOPICS, default=list(Topic)): several(Topic, "topic"),
        vol.Required(CONF_KEY_FRAMES, default=DEFAULT_KEY_FRAMES): NumberSelector(
            NumberSelectorConfig(min=0, max=MOST_KEY_FRAMES, step=1, mode=NumberSelectorMode.SLIDER)
        ),
        vol.Optional(SECTION_LIMITS): section(LIMITS_SCHEMA, {"collapsed": True}),
    }
)
GPUS_SCHEMA = vol.Schema(
    {
        vol.Optional(CONF_GPU_INTERVAL, description={"suggested_value": DEFAULT_GPU_INTERVAL}): seconds(1, 60),
        vol.Optional(CONF_GPU_URLS): URLS,
    }
)


class NemotronSecurityOptionsFlow(DetectorFlow, OptionsFlow):
    """Change the detector, how long incidents last, and what counts for the verdict. Applied live, page by page."""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what shall be changed."""
        return self.async_show_menu(
            step_id="init",
            menu_options=["detector", "workers", "incidents", "judging", "gpus"],
            description_placeholders={"docs_url": await async_docs_url(self.hass)},
        )

    async def async_step_workers(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask over how many processes the cameras are spread."""
        if user_input is not None:
            return self._save(WORKERS_SCHEMA.schema, user_input)
        return self._show_page("workers", WORKERS_SCHEMA, None, {})

    async def async_step_incidents(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask when an incident ends, and what counts for its risk."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if user_input[CONF_MAXIMUM_LENGTH] > user_input[CONF_QUIET_TIME]:
                return self._save(INCIDENTS_SCHEMA.schema, user_input)
            errors[CONF_MAXIMUM_LENGTH] = "shorter_than_quiet_time"
        return self._show_page("incidents", INCIDENTS_SCHEMA, user_input, errors)

    async def async_step_judging(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what a model is told, and how often it is asked."""
        if user_input is not None:
            limits = user_input.pop(SECTION_LIMITS, {})
            return self._save((*JUDGING_SCHEMA.schema, *LIMITS_SCHEMA.schema), {**user_input, **limits})
        return self._show_page("judging", JUDGING_SCHEMA, None, {})

    async def async_step_gpus(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask whose GPUs are read, and how often."""
        errors: dict[str, str] = {}
        if user_input is not None:
            kept = self.config_entry.options.get(CONF_GPU_URLS, ())
            urls, problem = server_urls(user_input.get(CONF_GPU_URLS, ()), kept)
            if problem is None:
                return self._save(GPUS_SCHEMA.schema, {**user_input, CONF_GPU_URLS: urls})
            errors[CONF_GPU_URLS] = problem
        return self._show_page("gpus", GPUS_SCHEMA, user_input, errors)

    def _show_page(
        self, step: str, schema: vol.Schema, typed: dict[str, Any] | None, errors: dict[str, str]
    ) -> ConfigFlowResult:
        """Show a page of options, with what was typed or else what they are now, without secrets."""
        options = self.config_entry.options
        limits = {name: options[name] for name in LIMITS_SCHEMA.schema if name in options}
        urls = [hide_secrets(url) for url in options.get(CONF_GPU_URLS, ())]
        present = {**options, CONF_GPU_URLS: urls, SECTION_LIMITS: limits}
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, present if typed is None else typed),
            errors=errors,
        )

    def _save(self, page: Iterable[Any], changed: Mapping[str, Any]) -> ConfigFlowResult:
        """Save one page: what was left empty there is gone, and the other pages stay as they are."""
        asked = {str(field) for field in page}
        kept = {name: value for name, value in self.config_entry.options.items() if name not in asked}
        return self.async_create_entry(data={**kept, **changed})

    @property
    @override
    def _present_detector(self) -> Mapping[str, Any]:
        return self.config_entry.options.get(CONF_DETECTOR) or {}

    @property
    @override
    def _watched_labels(self) -> tuple[str, ...]:
        settings = [camera.data for camera in self.config_entry.get_subentries_of_type(SUBENTRY_CAMERA)]
        watching = [camera for camera in settings if camera.get(CONF_DETECT, True)]
        return coco_names(label for camera in watching for label in camera.get(CONF_LABELS, DEFAULT_LABELS))

    @override
    async def _async_detector_chosen(self, detector: dict[str, Any] | None) -> ConfigFlowResult:
        return self._save([CONF_DETECTOR], {CONF_DETECTOR: detector} if detector else {})

    @override
    def _handle_environment_changed(self) -> None:
        self.hass.config_entries.async_schedule_reload(self.config_entry.entry_id)
