"""Set-up of one camera in the user interface: a subentry of the system's entry."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import urlsplit

from homeassistant.components.camera import DOMAIN as CAMERA_DOMAIN
from homeassistant.config_entries import SOURCE_RECONFIGURE, SubentryFlowResult
from homeassistant.const import CONF_NAME
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
)
import probatio as vol

from .checks import (
    LOCATION_FIELDS,
    STREAM_SCHEMES,
    camera_identity,
    file_problem,
    hide_secrets,
    restore_secrets,
    url_problem,
)
from .const import (
    CONF_CAMERA_ENTITY,
    CONF_CONFIDENCE,
    CONF_DETECT,
    CONF_FILE_PATH,
    CONF_FPS,
    CONF_LABELS,
    CONF_LOOK_ENTITIES,
    CONF_NOTE,
    CONF_OPEN_ENTITIES,
    CONF_SOURCE,
    CONF_STREAM_URL,
    CONF_VIEW,
    DEFAULT_CONFIDENCE,
    DEFAULT_FPS,
    DEFAULT_LABELS,
    SOURCE_ENTITY,
    SOURCE_FILE,
    SOURCE_STREAM,
)
from .forms import async_docs_url, select
from .models import CameraView
from .outside import TRIGGER_DOMAINS
from .zone_checks import unwatched_shapes
from .zone_flow import ZoneSteps

SECTION_ADVANCED = "advanced"

SECURITY_LABELS = (
    *("person", "bicycle", "car", "motorcycle", "bus", "truck", "boat"),
    *("cat", "dog", "bird", "horse", "sheep", "cow", "bear"),
    *("backpack", "handbag", "suitcase"),
)
"""The COCO names that matter at a house; others can be typed."""

SOURCES = (SOURCE_ENTITY, SOURCE_STREAM, SOURCE_FILE)
SOURCE_SCHEMA = vol.Schema({vol.Required(CONF_SOURCE, default=SOURCE_ENTITY): select(SOURCES, "source")})
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
OUTSIDE_SCHEMA = vol.Schema(
    {
        vol.Optional(name, default=list): EntitySelector(
            EntitySelectorConfig(filter=[{"domain": list(TRIGGER_DOMAINS)}], multiple=True)
        )
        for name in (CONF_LOOK_ENTITIES, CONF_OPEN_ENTITIES)
    }
)
FORM_FIELDS = {
    *(CONF_SOURCE, *LOCATION_FIELDS.values(), CONF_LABELS, CONF_DETECT, CONF_VIEW, CONF_NOTE),
    *(CONF_CONFIDENCE, CONF_FPS),
}
"""What these forms say of a camera. The rest of its settings is edited elsewhere, and stays."""


class CameraSubentryFlow(ZoneSteps):
    """Add or change one camera. The running system follows without a reload."""

    OTHER_STEPS = ("outside",)

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what kind of source the new camera is."""
        return await self._async_ask_source("user", user_input)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what of the camera to change."""
        return await self.async_show_zone_menu()

    async def async_step_source(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what kind of source the camera is from now on."""
        return await self._async_ask_source("source", user_input)

    async def async_step_outside(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what else in the house lets the detector look, or opens an incident."""
        errors: dict[str, str] = {}
        if user_input is not None:
            look, open_ = user_input[CONF_LOOK_ENTITIES], user_input[CONF_OPEN_ENTITIES]
            errors = {
                name: "signal_not_found"
                for name, chosen in user_input.items()
                if not all(map(self.hass.states.get, set(chosen) - set(self._present.get(name, ()))))
            }
            if not set(look).isdisjoint(open_):
                errors[CONF_LOOK_ENTITIES] = "in_both_lists"
            if not errors:
                self.hass.config_entries.async_update_subentry(
                    self._get_entry(), self._get_reconfigure_subentry(), data={**self._present, **user_input}
                )
                return await self.async_show_zone_menu()
        shown = self._present if user_input is None else user_input
        return self.async_show_form(
            step_id="outside", data_schema=self.add_suggested_values_to_schema(OUTSIDE_SCHEMA, shown), errors=errors
        )

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
        limited = ""
        if user_input is not None:
            settings = self._settings(source, user_input)
            errors = await self._async_check(settings)
            limited = ", ".join(unwatched_shapes(settings, settings[CONF_LABELS]))
            if not errors:
                return self._finish(user_input.get(CONF_NAME, "").strip(), settings)
        shown = self._suggestions(source) if user_input is None else user_input
        return self.async_show_form(
            step_id=source,
            data_schema=self.add_suggested_values_to_schema(self._details_schema(source), shown),
            errors=errors,
            description_placeholders={"docs_url": await async_docs_url(self.hass), "shapes": limited},
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
        labels = (normalize("NFC", label.strip().lower()) for label in user_input[CONF_LABELS])
        kept = {name: value for name, value in self._present.items() if name not in FORM_FIELDS}
        return {
            **kept,
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
        elif unwatched_shapes(settings, settings[CONF_LABELS]):
            errors[CONF_LABELS] = "label_in_use"
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
