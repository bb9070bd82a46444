"""The actions."""

from typing import TYPE_CHECKING, Any

from homeassistant.auth.models import User
from homeassistant.components.camera.const import DOMAIN as CAMERA_DOMAIN
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, UnknownUser
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.service import async_register_admin_service, async_register_platform_entity_service
from homeassistant.helpers.typing import VolDictType
import probatio as vol

from .analysis import Capabilities
from .analysis.ai_task import capabilities_of, preview_task
from .analysis.briefing import house_then
from .analysis.chat import with_schema
from .analysis.prompt import preview
from .analysis.question import question
from .analysis.schema import SCHEMA
from .analysis.window import Window
from .const import CONF_AI_TASK_ENTITY, DOMAIN
from .models import Feedback
from .outside import LONGEST_TRIGGER, LOOK_TIME
from .reviews import MAXIMUM_NOTE, async_review
from .store import StoreError

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry, Runtime

INCIDENT_ID = vol.All(vol.Coerce(int), vol.Range(min=1, max=2**63 - 1))

SERVICE_REVIEW_INCIDENT = "review_incident"
REVIEW_SCHEMA = vol.Schema(
    {
        vol.Required("incident_id"): INCIDENT_ID,
        vol.Optional("reviewed", default=True): cv.boolean,
        vol.Optional("feedback", default=None): vol.Any(None, vol.In([feedback.value for feedback in Feedback])),
        vol.Optional("note", default=None): vol.Any(None, vol.All(cv.string, vol.Length(max=MAXIMUM_NOTE))),
    }
)

SERVICE_PREVIEW_PROMPT = "preview_prompt"
PREVIEW_SCHEMA = vol.Schema({vol.Required("incident_id"): INCIDENT_ID})


SERVICE_START_LOOKING = "start_looking"
SERVICE_OPEN_INCIDENT = "open_incident"
SERVICE_FORGET_HARMLESS_PLACES = "forget_harmless_places"
OF_A_CAMERA: dict[str, VolDictType] = {
    SERVICE_START_LOOKING: {
        vol.Optional("seconds", default=LOOK_TIME): vol.All(vol.Coerce(float), vol.Range(min=1, max=600))
    },
    SERVICE_OPEN_INCIDENT: {
        vol.Required("trigger"): vol.All(cv.string, str.strip, vol.Length(min=1, max=LONGEST_TRIGGER))
    },
    SERVICE_FORGET_HARMLESS_PLACES: {},
}
"""Actions on cameras: their fields. The camera's entity has a method of the same name."""


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the actions, once for the life of Home Assistant."""
    hass.services.async_register(DOMAIN, SERVICE_REVIEW_INCIDENT, _async_review_incident, schema=REVIEW_SCHEMA)
    async_register_admin_service(
        hass, DOMAIN, SERVICE_PREVIEW_PROMPT, _async_preview_prompt, PREVIEW_SCHEMA, SupportsResponse.ONLY
    )
    for name, schema in OF_A_CAMERA.items():
        async_register_platform_entity_service(
            hass, DOMAIN, name, entity_domain=CAMERA_DOMAIN, schema=schema, func=f"async_{name}"
        )


async def _async_review_incident(call: ServiceCall) -> None:
    """Say what somebody makes of an incident."""
    runtime = _runtime(call.hass)
    try:
        await async_review(call.hass, runtime, await _async_user(call), **call.data)
    except LookupError as err:
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="incident_not_found") from err


async def _async_preview_prompt(call: ServiceCall) -> ServiceResponse:
    """Return what the model would be told of an incident if it were asked now; sizes stand for the pictures."""
    runtime = _runtime(call.hass)
    try:
        incident = await runtime.store.async_incident(call.data["incident_id"])
        if incident is None:
            raise ServiceValidationError(translation_domain=DOMAIN, translation_key="incident_not_found")
        brief = await runtime.briefing.async_brief(incident, house_then(runtime.house.read(), incident))
    except StoreError as err:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="events_unreadable",
            translation_placeholders={"detail": err.detail},
        ) from err
    if entity_id := _entry(call.hass).data.get(CONF_AI_TASK_ENTITY):
        takes = capabilities_of(call.hass.states.get(entity_id)) or Capabilities(schema=True, images=False)
        return {"messages": await call.hass.async_add_executor_job(preview_task, brief.case, brief.pictures, takes)}
    model = runtime.model_watch.model if runtime.model_watch else None
    able = model.capabilities if model else Capabilities(schema=True, images=True)
    window = model.window if model else Window()
    asked = await call.hass.async_add_executor_job(question, brief.case, brief.pictures, able, window)
    messages: list[Any] = await call.hass.async_add_executor_job(preview, asked.case, asked.pictures)
    if not able.schema:
        messages = with_schema(messages, SCHEMA)
    return {"messages": messages}


def _entry(hass: HomeAssistant) -> NemotronSecurityConfigEntry:
    entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    if not entries:
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="not_loaded")
    return entries[0]


def _runtime(hass: HomeAssistant) -> Runtime:
    return _entry(hass).runtime_data


async def _async_user(call: ServiceCall) -> User | None:
    """Return who called; null for an automation, which may whatever its owner let it."""
    if call.context.user_id is None:
        return None
    if (user := await call.hass.auth.async_get_user(call.context.user_id)) is None:
        raise UnknownUser(context=call.context)
    return user
