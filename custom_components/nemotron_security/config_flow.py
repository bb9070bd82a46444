"""Set-up in the user interface: one entry for the system, one subentry for each camera."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, override
from urllib.parse import urlsplit

from homeassistant.components.ai_task import DOMAIN as AI_TASK_DOMAIN
from homeassistant.components.alarm_control_panel import DOMAIN as ALARM_CONTROL_PANEL_DOMAIN
from homeassistant.components.camera import DOMAIN as CAMERA_DOMAIN
from homeassistant.config_entries import (
    SOURCE_REAUTH,
    SOURCE_RECONFIGURE,
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentryFlow,
    OptionsFlow,
    SubentryFlowResult,
)
from homeassistant.const import CONF_NAME, UnitOfTime
from homeassistant.core import HomeAssistant, callback
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
from homeassistant.loader import async_get_integration
import probatio as vol

from .analysis import AnalysisError, AnalysisProblem, Capabilities
from .analysis.ai_task import capabilities_of
from .analysis.analyst import AnalystLimits
from .analysis.chat import OfferedModel
from .analysis.context import CALENDAR_DOMAIN
from .analysis.keyframes import MOST_KEY_FRAMES
from .analysis.probe import async_offered, async_probe, find
from .checks import (
    HIDDEN,
    LOCATION_FIELDS,
    SERVER_SCHEMES,
    STREAM_SCHEMES,
    camera_identity,
    file_problem,
    hide_secrets,
    model_problem,
    restore_secrets,
    url_problem,
)
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
    CONF_CALENDARS,
    CONF_CALLS_PER_HOUR,
    CONF_CAMERA_ENTITY,
    CONF_CAPABILITIES,
    CONF_CONCURRENCY,
    CONF_CONFIDENCE,
    CONF_COOLDOWN,
    CONF_DETECT,
    CONF_DETECTOR_MODEL,
    CONF_FILE_PATH,
    CONF_FLOORS,
    CONF_FPS,
    CONF_GPU_INTERVAL,
    CONF_GPU_URLS,
    CONF_KEY_FRAMES,
    CONF_LABELS,
    CONF_MAXIMUM_LENGTH,
    CONF_NEWS_FOR,
    CONF_NOTE,
    CONF_OPENING_DELAY,
    CONF_QUIET_TIME,
    CONF_SOURCE,
    CONF_STREAM_URL,
    CONF_TOPICS,
    CONF_VIEW,
    CONF_WORKERS,
    DEFAULT_CONFIDENCE,
    DEFAULT_FPS,
    DEFAULT_GPU_INTERVAL,
    DEFAULT_KEY_FRAMES,
    DEFAULT_LABELS,
    DEFAULT_MAXIMUM_LENGTH,
    DEFAULT_QUIET_TIME,
    DEFAULT_WORKERS,
    DOMAIN,
    SOURCE_ENTITY,
    SOURCE_FILE,
    SOURCE_STREAM,
    SUBENTRY_CAMERA,
)
from .model_watch import chat_server
from .models import CameraView, Floor, Topic
from .vision.messages import MAX_WORKERS

TITLE = "Nemotron Home Security"

SECTION_ADVANCED = "advanced"
SECTION_LIMITS = "limits"
KEY_NOT_CHANGED = "__**key_not_changed**__"
"""Stands in the form for the API key that is kept, as Home Assistant's own flows do it."""

SECURITY_LABELS = (
    *("person", "bicycle", "car", "motorcycle", "bus", "truck", "boat"),
    *("cat", "dog", "bird", "horse", "sheep", "cow", "bear"),
    *("backpack", "handbag", "suitcase"),
)
"""The COCO names that matter at a house; others can be typed."""

PROBE_ERRORS = {
    AnalysisProblem.UNREACHABLE: "cannot_connect",
    AnalysisProblem.UNAUTHORIZED: "invalid_auth",
    AnalysisProblem.MODEL_NOT_FOUND: "model_not_found",
    AnalysisProblem.SERVER_ERROR: "server_error",
    AnalysisProblem.RATE_LIMITED: "server_error",
}
"""What else a server may say means that it is none of the kind we talk to."""
ERROR_FIELDS = {"invalid_auth": CONF_ANALYZER_KEY, "model_not_found": CONF_ANALYZER_MODEL}
"""What an error is about, where the form asks for it."""


def _select(options: tuple[str, ...], translation_key: str) -> SelectSelector:
    return SelectSelector(
        SelectSelectorConfig(options=list(options), translation_key=translation_key, mode=SelectSelectorMode.LIST)
    )


def _several(options: type[StrEnum], translation_key: str) -> SelectSelector:
    return SelectSelector(
        SelectSelectorConfig(
            options=list(options), translation_key=translation_key, multiple=True, mode=SelectSelectorMode.LIST
        )
    )


def _number(minimum: int, maximum: int, unit: str) -> NumberSelector:
    return NumberSelector(
        NumberSelectorConfig(min=minimum, max=maximum, step=1, mode=NumberSelectorMode.BOX, unit_of_measurement=unit)
    )


def _seconds(minimum: int, maximum: int) -> NumberSelector:
    return _number(minimum, maximum, UnitOfTime.SECONDS)


ANALYZER_SELECTOR = _select((ANALYZER_RULES, ANALYZER_NEMOTRON, ANALYZER_AI_TASK), "analyzer")
PASSWORD_SELECTOR = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))

USER_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_ANALYZER, default=ANALYZER_RULES): ANALYZER_SELECTOR,
        vol.Optional(CONF_DETECTOR_MODEL): TextSelector(),
    }
)
RECONFIGURE_SCHEMA = vol.Schema({vol.Required(CONF_ANALYZER): ANALYZER_SELECTOR})
NEMOTRON_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_ANALYZER_URL): TextSelector(TextSelectorConfig(type=TextSelectorType.URL)),
        vol.Optional(CONF_ANALYZER_KEY): PASSWORD_SELECTOR,
        vol.Optional(CONF_ANALYZER_MODEL): TextSelector(),
    }
)


def ai_task_schema(entities: Iterable[er.RegistryEntry]) -> vol.Schema:
    """Offer all AI Task entities but those of `entities` that are our own: they disappear with the model they ask."""
    own = [entity.entity_id for entity in entities if entity.platform == DOMAIN and entity.domain == AI_TASK_DOMAIN]
    selector = EntitySelector(EntitySelectorConfig(filter=[{"domain": AI_TASK_DOMAIN}], exclude_entities=own))
    return vol.Schema({vol.Required(CONF_AI_TASK_ENTITY): selector})


REAUTH_SCHEMA = vol.Schema({vol.Required(CONF_ANALYZER_KEY): PASSWORD_SELECTOR})
FOUND = BooleanSelector({"read_only": True})
TOKENS = NumberSelector(NumberSelectorConfig(mode=NumberSelectorMode.BOX, unit_of_measurement="tokens", read_only=True))
DEFAULT_LIMITS = AnalystLimits()
LIMITS_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_OPENING_DELAY, default=int(DEFAULT_LIMITS.opening_delay)): _seconds(0, 60),
        vol.Required(CONF_CONCURRENCY, default=DEFAULT_LIMITS.concurrency): NumberSelector(
            NumberSelectorConfig(min=1, max=8, step=1, mode=NumberSelectorMode.SLIDER)
        ),
        vol.Required(CONF_COOLDOWN, default=int(DEFAULT_LIMITS.cooldown)): _seconds(0, 600),
        vol.Required(CONF_CALLS_PER_HOUR, default=DEFAULT_LIMITS.calls_per_hour): NumberSelector(
            NumberSelectorConfig(min=1, max=3600, step=1, mode=NumberSelectorMode.BOX)
        ),
        vol.Required(CONF_NEWS_FOR, default=DEFAULT_LIMITS.news_for // timedelta(minutes=1)): _number(
            1, 1440, UnitOfTime.MINUTES
        ),
    }
)
OPTIONS_SCHEMA = vol.Schema(
    {
        vol.Optional(CONF_DETECTOR_MODEL): TextSelector(),
        vol.Required(CONF_WORKERS, default=DEFAULT_WORKERS): NumberSelector(
            NumberSelectorConfig(min=1, max=MAX_WORKERS, step=1, mode=NumberSelectorMode.SLIDER)
        ),
        vol.Required(CONF_QUIET_TIME, default=DEFAULT_QUIET_TIME): _seconds(2, 300),
        vol.Required(CONF_MAXIMUM_LENGTH, default=DEFAULT_MAXIMUM_LENGTH): _seconds(30, 3600),
        vol.Optional(CONF_ALARM_PANEL): EntitySelector(
            EntitySelectorConfig(filter=[{"domain": ALARM_CONTROL_PANEL_DOMAIN}])
        ),
        vol.Optional(CONF_GPU_INTERVAL, description={"suggested_value": DEFAULT_GPU_INTERVAL}): _seconds(1, 60),
        vol.Optional(CONF_GPU_URLS): TextSelector(TextSelectorConfig(multiple=True)),
        vol.Required(CONF_FLOORS, default=list(Floor)): _several(Floor, "floor"),
        vol.Optional(CONF_CALENDARS, default=list): EntitySelector(
            EntitySelectorConfig(filter=[{"domain": CALENDAR_DOMAIN}], multiple=True)
        ),
        vol.Required(CONF_TOPICS, default=list(Topic)): _several(Topic, "topic"),
        vol.Required(CONF_KEY_FRAMES, default=DEFAULT_KEY_FRAMES): NumberSelector(
            NumberSelectorConfig(min=0, max=MOST_KEY_FRAMES, step=1, mode=NumberSelectorMode.SLIDER)
        ),
        vol.Optional(SECTION_LIMITS): section(LIMITS_SCHEMA, {"collapsed": True}),
    }
)

SOURCES = (SOURCE_ENTITY, SOURCE_STREAM, SOURCE_FILE)
SOURCE_SCHEMA = vol.Schema({vol.Required(CONF_SOURCE, default=SOURCE_ENTITY): _select(SOURCES, "source")})
ADVANCED_SCHEMA = vol.Schema(
    {
        vol.Required(CONF_CONFIDENCE, default=DEFAULT_CONFIDENCE): NumberSelector(
            NumberSelectorConfig(min=0.3, max=0.95, step=0.05, mode=NumberSelectorMode.SLIDER)
        ),
        vol.Required(CONF_FPS, default=DEFAULT_FPS): NumberSelector(
            NumberSelectorConfig(min=1, max=15, step=1, mode=NumberSelectorMode.SLIDER)
        ),
    }
)
CAMERA_FIELDS = {
    vol.Required(CONF_LABELS, default=list(DEFAULT_LABELS)): SelectSelector(
        SelectSelectorConfig(
            options=list(SECURITY_LABELS),
            multiple=True,
            custom_value=True,
            translation_key="label",
            mode=SelectSelectorMode.DROPDOWN,
        )
    ),
    vol.Required(CONF_DETECT, default=True): BooleanSelector(),
    vol.Optional(CONF_VIEW): SelectSelector(
        SelectSelectorConfig(options=list(CameraView), translation_key="view", mode=SelectSelectorMode.DROPDOWN)
    ),
    vol.Optional(CONF_NOTE): TextSelector(TextSelectorConfig(multiline=True)),
    vol.Optional(SECTION_ADVANCED): section(ADVANCED_SCHEMA, {"collapsed": True}),
}


class NemotronSecurityConfigFlow(ConfigFlow, domain=DOMAIN):
    """Set up the one system of the house: who judges, and which model looks."""

    VERSION = 1
    MINOR_VERSION = 1

    def __init__(self) -> None:
        """Begin with nothing answered."""
        self._options: dict[str, Any] = {}
        self._form = ""
        """The step whose answers are tried, and that is shown again if they fail."""
        self._typed: dict[str, Any] | None = None
        """What was typed there."""
        self._errors: dict[str, str] = {}
        self._server: dict[str, Any] = {}
        self._offered: list[OfferedModel] | None = None
        self._capabilities = Capabilities()
        self._settings: dict[str, Any] = {}
        """What is saved once it was shown what the model can do."""
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
        """Ask who judges and where the detector's model is."""
        errors: dict[str, str] = {}
        missing = ""
        if user_input is not None:
            errors, missing = await _async_check_model(self.hass, user_input)
            if not errors:
                self._options = {name: value for name, value in user_input.items() if name != CONF_ANALYZER}
                return await self._async_chosen(user_input[CONF_ANALYZER])
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(USER_SCHEMA, user_input),
            errors=errors,
            description_placeholders={"files": missing, "docs_url": await _async_docs_url(self.hass)},
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
        return self._finish({CONF_ANALYZER: ANALYZER_RULES})

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
                self._settings = {CONF_ANALYZER: ANALYZER_AI_TASK, CONF_AI_TASK_ENTITY: entity_id}
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
        return self.async_show_progress_done(next_step_id=trial.result())

    async def _async_try(self) -> str:
        """Try the server, then the model; returns the step that follows."""
        if problem := url_problem(self._server[CONF_ANALYZER_URL], SERVER_SCHEMES):
            return self._failed("invalid_server_url" if problem == "invalid_scheme" else problem, CONF_ANALYZER_URL)
        server = chat_server(self.hass, self._server)
        try:
            self._offered = offered = await async_offered(server)
            if offered == []:
                return self._failed("no_models")
            names = [model.name for model in offered or ()]
            if not (name := self._server.get(CONF_ANALYZER_MODEL)):
                if len(names) != 1:
                    return "model"
                name = self._server[CONF_ANALYZER_MODEL] = names[0]
            if names and name not in names:
                return self._failed("model_not_found")
            self._capabilities = await async_probe(server, find(offered, name))
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
            return self._finish(self._settings)
        return self._show_capabilities(self._server[CONF_ANALYZER_MODEL], self._capabilities)

    def _show_capabilities(self, model: str, found: Capabilities) -> ConfigFlowResult:
        return self.async_show_form(
            step_id="capabilities",
            data_schema=_capabilities_schema(found),
            description_placeholders={"model": model},
        )

    async def async_step_capabilities(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Save the model whose capabilities were shown."""
        return self._finish(self._settings)

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

    def _finish(self, data: Mapping[str, Any]) -> ConfigFlowResult:
        if self.source == SOURCE_RECONFIGURE:
            return self.async_update_and_abort(self._get_reconfigure_entry(), data=data)
        if self.source == SOURCE_REAUTH:
            return self.async_update_and_abort(self._get_reauth_entry(), data=data)
        return self.async_create_entry(title=TITLE, data=data, options=self._options)


def _capabilities_schema(found: Capabilities) -> vol.Schema:
    """Return fields that say what was found: they can be read, not changed."""
    fields: dict[vol.Marker, BooleanSelector | NumberSelector] = {
        vol.Optional("images", default=found.images): FOUND,
        vol.Optional("schema", default=found.schema): FOUND,
    }
    if found.context_length is not None:
        fields[vol.Optional("context_length", default=found.context_length)] = TOKENS
    return vol.Schema(fields)


class NemotronSecurityOptionsFlow(OptionsFlow):
    """Change the detector's model, how long incidents last, and what counts for the verdict. Applied live."""

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for everything on one page."""
        errors: dict[str, str] = {}
        missing = ""
        if user_input is not None:
            errors, missing = await _async_check_model(self.hass, user_input)
            if user_input[CONF_MAXIMUM_LENGTH] <= user_input[CONF_QUIET_TIME]:
                errors[CONF_MAXIMUM_LENGTH] = "shorter_than_quiet_time"
            urls, problem = _gpu_urls(user_input.get(CONF_GPU_URLS, ()), self._gpu_urls)
            if problem:
                errors[CONF_GPU_URLS] = problem
            if not errors:
                limits = user_input.pop(SECTION_LIMITS, {})
                return self.async_create_entry(data={**user_input, **limits, CONF_GPU_URLS: urls})
        shown = self._present if user_input is None else user_input
        return self.async_show_form(
            step_id="init",
            data_schema=self.add_suggested_values_to_schema(OPTIONS_SCHEMA, shown),
            errors=errors,
            description_placeholders={"files": missing, "docs_url": await _async_docs_url(self.hass)},
        )

    @property
    def _present(self) -> dict[str, Any]:
        """The options as the form has them, without secrets."""
        options = self.config_entry.options
        limits = {name: options[name] for name in LIMITS_SCHEMA.schema if name in options}
        return {**options, CONF_GPU_URLS: list(self._gpu_urls), SECTION_LIMITS: limits}

    @property
    def _gpu_urls(self) -> dict[str, str]:
        """The addresses that are kept, each by what is shown of it."""
        return {hide_secrets(url): url for url in self.config_entry.options.get(CONF_GPU_URLS, ())}


class CameraSubentryFlow(ConfigSubentryFlow):
    """Add or change one camera. The running system follows without a reload."""

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what kind of source the new camera is."""
        return await self._async_ask_source("user", user_input)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what kind of source the camera is from now on."""
        return await self._async_ask_source("reconfigure", user_input)

    async def async_step_entity(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which of Home Assistant's cameras to watch, and how."""
        return await self._async_ask_details(SOURCE_ENTITY, user_input)

    async def async_step_stream(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the URL of a stream, and how to watch it."""
        return await self._async_ask_details(SOURCE_STREAM, user_input)

    async def async_step_file(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for a video file, and how to watch it."""
        return await self._async_ask_details(SOURCE_FILE, user_input)

    async def _async_ask_source(self, step: str, user_input: dict[str, Any] | None) -> SubentryFlowResult:
        if user_input is not None:
            return await self._async_ask_details(user_input[CONF_SOURCE], None)
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(SOURCE_SCHEMA, self._present),
            last_step=False,
        )

    async def _async_ask_details(self, source: str, user_input: dict[str, Any] | None) -> SubentryFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:
            settings = self._settings(source, user_input)
            errors = await self._async_check(settings)
            if not errors:
                return self._finish(user_input.get(CONF_NAME, "").strip(), settings)
        shown = self._suggestions(source) if user_input is None else user_input
        return self.async_show_form(
            step_id=source,
            data_schema=self.add_suggested_values_to_schema(self._details_schema(source), shown),
            errors=errors,
            description_placeholders={"docs_url": await _async_docs_url(self.hass)},
        )

    @property
    def _present(self) -> Mapping[str, Any]:
        """The settings of the camera that is changed; empty for a new one."""
        return self._get_reconfigure_subentry().data if self.source == SOURCE_RECONFIGURE else {}

    def _suggestions(self, source: str) -> dict[str, Any]:
        """Return the camera's settings as the form has them, without secrets."""
        if not (present := self._present):
            return {}
        shown = {**present, CONF_NAME: self._get_reconfigure_subentry().title}
        shown[SECTION_ADVANCED] = {name: present[name] for name in (CONF_CONFIDENCE, CONF_FPS) if name in present}
        if source == SOURCE_STREAM and CONF_STREAM_URL in present:
            shown[CONF_STREAM_URL] = hide_secrets(present[CONF_STREAM_URL])
        return shown

    def _details_schema(self, source: str) -> vol.Schema:
        location: TextSelector | EntitySelector = TextSelector()
        if source == SOURCE_ENTITY:
            location = EntitySelector(
                EntitySelectorConfig(filter=[{"domain": CAMERA_DOMAIN}], exclude_entities=self._own_cameras())
            )
        return vol.Schema(
            {
                vol.Required(LOCATION_FIELDS[source]): location,
                vol.Optional(CONF_NAME): TextSelector(),
                **CAMERA_FIELDS,
            }
        )

    def _own_cameras(self) -> list[str]:
        """Return our own live pictures: watching them would be watching ourselves."""
        entities = er.async_entries_for_config_entry(er.async_get(self.hass), self._get_entry().entry_id)
        return [entity.entity_id for entity in entities if entity.domain == CAMERA_DOMAIN]

    def _settings(self, source: str, user_input: Mapping[str, Any]) -> dict[str, Any]:
        """Turn what was typed into what the subentry keeps."""
        field = LOCATION_FIELDS[source]
        location = user_input[field].strip()
        if source == SOURCE_STREAM:
            location = restore_secrets(location, self._present.get(CONF_STREAM_URL, ""))
        labels = (label.strip().lower() for label in user_input[CONF_LABELS])
        return {
            CONF_SOURCE: source,
            field: location,
            CONF_LABELS: list(dict.fromkeys(label for label in labels if label)),
            CONF_DETECT: user_input[CONF_DETECT],
            **{name: user_input[name] for name in (CONF_VIEW, CONF_NOTE) if user_input.get(name)},
            CONF_CONFIDENCE: DEFAULT_CONFIDENCE,
            CONF_FPS: DEFAULT_FPS,
            **user_input.get(SECTION_ADVANCED, {}),
        }

    async def _async_check(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return errors by field."""
        errors = {}
        field = LOCATION_FIELDS[settings[CONF_SOURCE]]
        if problem := await self._async_location_problem(settings):
            errors[field] = problem
        elif self._is_duplicate(camera_identity(settings)):
            errors[field] = "already_configured"
        if settings[CONF_DETECT] and not settings[CONF_LABELS]:
            errors[CONF_LABELS] = "no_labels"
        return errors

    async def _async_location_problem(self, settings: Mapping[str, Any]) -> str | None:
        match settings[CONF_SOURCE]:
            case "entity":
                return None if self.hass.states.get(settings[CONF_CAMERA_ENTITY]) else "entity_not_found"
            case "stream":
                return url_problem(settings[CONF_STREAM_URL], STREAM_SCHEMES)
            case _:
                return await self.hass.async_add_executor_job(file_problem, settings[CONF_FILE_PATH])

    def _is_duplicate(self, unique_id: str) -> bool:
        own = self._get_reconfigure_subentry().subentry_id if self.source == SOURCE_RECONFIGURE else None
        return any(
            subentry.unique_id == unique_id and subentry.subentry_id != own
            for subentry in self._get_entry().subentries.values()
        )

    def _finish(self, name: str, settings: dict[str, Any]) -> SubentryFlowResult:
        title = name or self._default_name(settings)
        if self.source == SOURCE_RECONFIGURE:
            return self.async_update_and_abort(
                self._get_entry(),
                self._get_reconfigure_subentry(),
                title=title,
                data=settings,
                unique_id=camera_identity(settings),
            )
        return self.async_create_entry(title=title, data=settings, unique_id=camera_identity(settings))

    def _default_name(self, settings: Mapping[str, Any]) -> str:
        match settings[CONF_SOURCE]:
            case "entity":
                state = self.hass.states.get(settings[CONF_CAMERA_ENTITY])
                return state.name if state else str(settings[CONF_CAMERA_ENTITY])
            case "stream":
                return urlsplit(settings[CONF_STREAM_URL]).hostname or ""
            case _:
                return Path(settings[CONF_FILE_PATH]).stem


async def _async_check_model(hass: HomeAssistant, user_input: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Check the model's folder and tidy what was typed; returns errors by field and the files that are missing."""
    path = user_input[CONF_DETECTOR_MODEL] = user_input.get(CONF_DETECTOR_MODEL, "").strip()
    problem, missing = await hass.async_add_executor_job(model_problem, path)
    return ({CONF_DETECTOR_MODEL: problem} if problem else {}), missing


def _gpu_urls(typed: Iterable[str], kept: Mapping[str, str]) -> tuple[list[str], str | None]:
    """Return the addresses with the secrets that are kept, and what is wrong with one of them."""
    urls = list(dict.fromkeys(kept.get(url, url) for url in map(str.strip, typed) if url))
    for url in urls:
        if problem := url_problem(url, SERVER_SCHEMES):
            return urls, "invalid_server_url" if problem == "invalid_scheme" else problem
        if HIDDEN in url:
            return urls, "secret_hidden"
    return urls, None


async def _async_docs_url(hass: HomeAssistant) -> str:
    return (await async_get_integration(hass, DOMAIN)).documentation or ""
