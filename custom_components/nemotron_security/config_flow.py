"""Set-up in the user interface: one entry for the system, one subentry for each camera."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, override
from urllib.parse import urlsplit

from homeassistant.components.ai_task import DOMAIN as AI_TASK_DOMAIN
from homeassistant.config_entries import (
    SOURCE_REAUTH,
    SOURCE_RECONFIGURE,
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentryFlow,
    OptionsFlow,
)
from homeassistant.core import callback
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
from .analysis.chat import OfferedModel
from .analysis.probe import async_offered, async_probe, find
from .camera_flow import CameraSubentryFlow
from .checks import SERVER_SCHEMES, hide_secrets, restore_secrets, url_problem
from .const import (
    ANALYZER_AI_TASK,
    ANALYZER_NEMOTRON,
    ANALYZER_RULES,
    CONF_AI_TASK_ENTITY,
    CONF_ANALYZER,
    CONF_ANALYZER_KEY,
    CONF_ANALYZER_MODEL,
    CONF_ANALYZER_URL,
    CONF_CAPABILITIES,
    CONF_DETECTOR,
    DOMAIN,
    SUBENTRY_CAMERA,
)
from .detector_flow import DetectorFlow
from .forms import (
    KEY_NOT_CHANGED,
    PASSWORD,
    UNKNOWN,
    async_docs_url,
    select,
    step_after,
)
from .model_watch import chat_server
from .options_flow import NemotronSecurityOptionsFlow

TITLE = "Nemotron Home Security"

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
