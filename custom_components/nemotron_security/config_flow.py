"""Set-up in the user interface: one entry for the system, one subentry for each camera."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, override
from urllib.parse import urlsplit

from homeassistant.components.ai_task import DOMAIN as AI_TASK_DOMAIN
from homeassistant.components.alarm_control_panel import DOMAIN as ALARM_CONTROL_PANEL_DOMAIN
from homeassistant.config_entries import (
    SOURCE_REAUTH,
    SOURCE_RECONFIGURE,
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentryFlow,
    OptionsFlow,
)
from homeassistant.const import UnitOfTime
from homeassistant.core import callback
from homeassistant.data_entry_flow import section
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.selector import (
    BooleanSelector,
    EntitySelector,
    EntitySelectorConfig,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
import probatio as vol

from .analysis import AnalysisError, AnalysisProblem, Capabilities
from .analysis.ai_task import capabilities_of
from .analysis.analyst import AnalystLimits
from .analysis.chat import ANSWER_TIME, OfferedModel
from .analysis.context import CALENDAR_DOMAIN
from .analysis.keyframes import MOST_KEY_FRAMES
from .analysis.probe import async_offered, async_probe, find
from .camera_flow import CameraSubentryFlow
from .checks import SERVER_SCHEMES, hide_secrets, restore_secrets, server_urls, url_problem
from .const import (
    ANALYZER_AI_TASK,
    ANALYZER_NEMOTRON,
    ANALYZER_RULES,
    CONF_AI_TASK_ENTITY,
    CONF_ALARM_PANEL,
    CONF_ANALYZER,
    CONF_ANALYZER_KEY,
    CONF_ANALYZER_MODEL,
    CONF_ANALYZER_URL,
    CONF_ANSWER_TIME,
    CONF_CALENDARS,
    CONF_CALLS_PER_HOUR,
    CONF_CAPABILITIES,
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
    DOMAIN,
    SUBENTRY_CAMERA,
)
from .detector_flow import DetectorFlow
from .forms import (
    KEY_NOT_CHANGED,
    PASSWORD,
    UNKNOWN,
    URLS,
    async_docs_url,
    number,
    seconds,
    select,
    several,
    step_after,
)
from .model_watch import chat_server
from .models import Floor, Topic
from .vision.labels import coco_names
from .vision.messages import MAX_WORKERS

TITLE = "Nemotron Home Security"

SECTION_LIMITS = "limits"

PROBE_ERRORS = {
    AnalysisProblem.UNREACHABLE: "cannot_connect",
    AnalysisProblem.NO_ANSWER: "no_answer",
    AnalysisProblem.UNAUTHORIZED: "invalid_auth",
    AnalysisProblem.MODEL_NOT_FOUND: "model_not_found",
    AnalysisProblem.SERVER_ERROR: "server_error",
    AnalysisProblem.NO_CREDIT: "no_credit",
    AnalysisProblem.RATE_LIMITED: "server_busy",
    AnalysisProblem.BUSY: "server_busy",
}
"""What else a server may say means that it is none of the kind we talk to."""
ERROR_FIELDS = {"invalid_auth": CONF_ANALYZER_KEY, "model_not_found": CONF_ANALYZER_MODEL}
"""What an error is about, where the form asks for it."""


ANALYZER_SELECTOR = select((ANALYZER_RULES, ANALYZER_NEMOTRON, ANALYZER_AI_TASK), "analyzer")

USER_SCHEMA = vol.Schema({vol.Required(CONF_ANALYZER, default=ANALYZER_RULES): ANALYZER_SELECTOR})
RECONFIGURE_SCHEMA = vol.Schema({vol.Required(CONF_ANALYZER): ANALYZER_SELECTOR})
NEMOTRON_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_ANALYZER_URL): TextSelector(TextSelectorConfig(type=TextSelectorType.URL)),
        vol.Optional(CONF_ANALYZER_KEY): PASSWORD,
        vol.Optional(CONF_ANALYZER_MODEL): TextSelector(),
    }
)


def ai_task_schema(entities: Iterable[er.RegistryEntry]) -> vol.Schema:
    """Offer all AI Task entities but those of `entities` that are our own: they disappear with the model they ask."""
    own = [entity.entity_id for entity in entities if entity.platform == DOMAIN and entity.domain == AI_TASK_DOMAIN]
    selector = EntitySelector(EntitySelectorConfig(filter=[{"domain": AI_TASK_DOMAIN}], exclude_entities=own))
    return vol.Schema({vol.Required(CONF_AI_TASK_ENTITY): selector})


REAUTH_SCHEMA = vol.Schema({vol.Required(CONF_ANALYZER_KEY): PASSWORD})
FOUND = BooleanSelector({"read_only": True})
TOKENS = NumberSelector(NumberSelectorConfig(mode=NumberSelectorMode.BOX, unit_of_measurement="tokens", read_only=True))
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


class NemotronSecurityConfigFlow(DetectorFlow, ConfigFlow, domain=DOMAIN):
    """Set up the one system of the house: who judges, and which detector looks."""

    VERSION = 1
    MINOR_VERSION = 2

    def __init__(self) -> None:
        """Begin with nothing answered."""
        super().__init__()
        self._form = ""
        """The step whose answers are tried, and that is shown again if they fail."""
        self._typed: dict[str, Any] | None = None
        """What was typed there."""
        self._errors: dict[str, str] = {}
        self._server: dict[str, Any] = {}
        self._offered: list[OfferedModel] | None = None
        self._capabilities = Capabilities()
        self._settings: dict[str, Any] = {}
        """What is saved of the analyzer, once it was shown what the model can do."""
        self._trial: asyncio.Task[str] | None = None

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> OptionsFlow:
        """Return the flow of what can be changed later."""
        return NemotronSecurityOptionsFlow()

    @classmethod
    @callback
    @override
    def async_get_supported_subentry_types(cls, config_entry: ConfigEntry) -> dict[str, type[ConfigSubentryFlow]]:
        """Return what can be added to the entry: cameras."""
        return {SUBENTRY_CAMERA: CameraSubentryFlow}

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask who judges; which detector looks is asked last."""
        if user_input is not None:
            return await self._async_chosen(user_input[CONF_ANALYZER])
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(USER_SCHEMA, user_input),
            description_placeholders={"docs_url": await async_docs_url(self.hass)},
            last_step=False,
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask again who judges."""
        if user_input is not None:
            return await self._async_chosen(user_input[CONF_ANALYZER])
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(RECONFIGURE_SCHEMA, self._present_server),
        )

    async def _async_chosen(self, analyzer: str) -> ConfigFlowResult:
        if analyzer == ANALYZER_NEMOTRON:
            return await self.async_step_nemotron()
        if analyzer == ANALYZER_AI_TASK:
            return await self.async_step_ai_task()
        return await self._async_finish({CONF_ANALYZER: ANALYZER_RULES})

    async def async_step_nemotron(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask where Nemotron is served."""
        if user_input is not None:
            self._server = self._with_kept_key(user_input)
            return await self._async_tried("nemotron", user_input)
        return self._show_tried("nemotron", NEMOTRON_SCHEMA, self._present_server)

    async def async_step_ai_task(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which of Home Assistant's AI Task entities judges."""
        registry = er.async_get(self.hass)
        if user_input is not None:
            entity_id = user_input[CONF_AI_TASK_ENTITY]
            entity = registry.async_get(entity_id)
            problem = "no_ai_task"
            if entity is not None and entity.platform == DOMAIN:
                # It appeared after the form did: another window may have set up a model meanwhile.
                problem = "own_ai_task"
            elif capabilities := capabilities_of(self.hass.states.get(entity_id)):
                self._settings = {
                    CONF_ANALYZER: ANALYZER_AI_TASK,
                    CONF_AI_TASK_ENTITY: entity_id,
                    CONF_CAPABILITIES: capabilities.as_data(),
                }
                return self._show_capabilities(entity_id, capabilities)
            self._form, self._typed, self._errors = "ai_task", user_input, {CONF_AI_TASK_ENTITY: problem}
        return self._show_tried("ai_task", ai_task_schema(registry.entities.values()), self._present_server)

    async def async_step_model(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask which of the server's models judges; of a server without a list, its name."""
        if user_input is not None:
            self._server[CONF_ANALYZER_MODEL] = user_input[CONF_ANALYZER_MODEL].strip()
            return await self._async_tried("model", user_input)
        names = [model.name for model in self._offered or ()]
        selector = SelectSelector(
            SelectSelectorConfig(options=names, custom_value=not names, mode=SelectSelectorMode.DROPDOWN)
        )
        return self._show_tried("model", vol.Schema({vol.Required(CONF_ANALYZER_MODEL): selector}))

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """The server refused the key."""
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for another key."""
        entry = self._get_reauth_entry()
        if user_input is not None:
            self._server = {**entry.data, **user_input}
            return await self._async_tried("reauth_confirm", user_input)
        host = urlsplit(entry.data[CONF_ANALYZER_URL]).hostname or ""
        return self._show_tried("reauth_confirm", REAUTH_SCHEMA, server=host)

    def _show_tried(
        self, step: str, schema: vol.Schema, present: Mapping[str, Any] | None = None, **placeholders: str
    ) -> ConfigFlowResult:
        """Show a form whose answers are tried: with what was typed and why that failed, if it was."""
        errors, self._errors = self._errors, {}
        shown = self._typed if self._form == step and self._typed is not None else present
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, shown),
            errors={name if name in schema.schema else "base": error for name, error in errors.items()},
            description_placeholders=placeholders,
        )

    async def _async_tried(self, form: str, typed: dict[str, Any]) -> ConfigFlowResult:
        self._form, self._typed = form, typed
        return await self.async_step_probe()

    async def async_step_probe(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Try what was typed while somebody waits: a model that thinks takes a minute."""
        if self._trial is None:
            # Not begun at once: what is done before progress was shown can be followed by no other step.
            self._trial = self.hass.async_create_background_task(
                self._async_try(), "nemotron_security trial of a model", eager_start=False
            )
        if not self._trial.done():
            return self.async_show_progress(step_id="probe", progress_action="probe", progress_task=self._trial)
        trial, self._trial = self._trial, None
        return self.async_show_progress_done(next_step_id=step_after(trial) or self._failed(UNKNOWN))

    async def _async_try(self) -> str:
        """Try the server, then the model; returns the step that follows."""
        if problem := url_problem(self._server[CONF_ANALYZER_URL], SERVER_SCHEMES):
            return self._failed("invalid_server_url" if problem == "invalid_scheme" else problem, CONF_ANALYZER_URL)
        server = chat_server(self.hass, self._server, self._present_entry)
        try:
            self._offered = offered = await async_offered(server)
            if offered == []:
                return self._failed("no_models")
            names = [model.name for model in offered or ()]
            if not (name := self._server.get(CONF_ANALYZER_MODEL)):
                if len(names) != 1:
                    return "model"
                name = self._server[CONF_ANALYZER_MODEL] = names[0]
            if (model := find(offered, name)) is None:
                return self._failed("model_not_found")
            self._capabilities = await async_probe(server, model)
        except AnalysisError as err:
            return self._failed(PROBE_ERRORS.get(err.kind, "not_compatible"))
        return "tried"

    def _failed(self, error: str, field: str | None = None) -> str:
        """Keep why what was typed cannot be used, for the form where it was; returns that form."""
        self._errors = {field or ERROR_FIELDS.get(error, "base"): error}
        return self._form

    async def async_step_tried(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what the model was seen to do; a new key needs no look at it."""
        self._settings = {
            CONF_ANALYZER: ANALYZER_NEMOTRON,
            **self._server,
            CONF_CAPABILITIES: self._capabilities.as_data(),
        }
        if self.source == SOURCE_REAUTH:
            return await self._async_finish(self._settings)
        return self._show_capabilities(self._server[CONF_ANALYZER_MODEL], self._capabilities)

    def _show_capabilities(self, model: str, found: Capabilities) -> ConfigFlowResult:
        return self.async_show_form(
            step_id="capabilities",
            data_schema=_capabilities_schema(found),
            description_placeholders={"model": model},
        )

    async def async_step_capabilities(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Save the model whose capabilities were shown."""
        return await self._async_finish(self._settings)

    @property
    def _present_entry(self) -> ConfigEntry | None:
        if self.source == SOURCE_REAUTH:
            return self._get_reauth_entry()
        return self._get_reconfigure_entry() if self.source == SOURCE_RECONFIGURE else None

    @property
    def _present_server(self) -> dict[str, Any]:
        """What the entry says of the server now, without the key."""
        if self.source != SOURCE_RECONFIGURE:
            return {}
        present = dict(self._get_reconfigure_entry().data)
        if present.get(CONF_ANALYZER_KEY):
            present[CONF_ANALYZER_KEY] = KEY_NOT_CHANGED
        if CONF_ANALYZER_URL in present:
            present[CONF_ANALYZER_URL] = hide_secrets(present[CONF_ANALYZER_URL])
        return present

    def _with_kept_key(self, user_input: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was typed, with the secrets that are kept and without what was left empty."""
        kept = self._get_reconfigure_entry().data if self.source == SOURCE_RECONFIGURE else {}
        server = {name: value.strip() for name, value in user_input.items() if value.strip()}
        server[CONF_ANALYZER_URL] = restore_secrets(
            user_input[CONF_ANALYZER_URL].strip(), kept.get(CONF_ANALYZER_URL, "")
        )
        if server.get(CONF_ANALYZER_KEY) == KEY_NOT_CHANGED:
            server[CONF_ANALYZER_KEY] = kept.get(CONF_ANALYZER_KEY, "")
        return server

    async def _async_finish(self, data: dict[str, Any]) -> ConfigFlowResult:
        """Save the analyzer; for a new system only after a detector was chosen."""
        if self.source == SOURCE_RECONFIGURE:
            return self.async_update_and_abort(self._get_reconfigure_entry(), data=data)
        if self.source == SOURCE_REAUTH:
            return self.async_update_and_abort(self._get_reauth_entry(), data=data)
        self._settings = data
        return await self.async_step_detector()

    @property
    @override
    def _present_detector(self) -> Mapping[str, Any]:
        return {}

    @override
    async def _async_detector_chosen(self, detector: dict[str, Any] | None) -> ConfigFlowResult:
        options = {CONF_DETECTOR: detector} if detector else {}
        return self.async_create_entry(title=TITLE, data=self._settings, options=options)


def _capabilities_schema(found: Capabilities) -> vol.Schema:
    """Return fields that say what was found: they can be read, not changed."""
    fields: dict[vol.Marker, BooleanSelector | NumberSelector] = {
        vol.Optional("images", default=found.images): FOUND,
        vol.Optional("schema", default=found.schema): FOUND,
    }
    if found.context_length is not None:
        fields[vol.Optional("context_length", default=found.context_length)] = TOKENS
    return vol.Schema(fields)


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
