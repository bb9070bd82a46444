"""The actions."""

from typing import TYPE_CHECKING

from homeassistant.auth.models import User
from homeassistant.core import HomeAssistant, ServiceCall, callback
from homeassistant.exceptions import ServiceValidationError, UnknownUser
from homeassistant.helpers import config_validation as cv
import probatio as vol

from .const import DOMAIN
from .models import Feedback
from .reviews import MAXIMUM_NOTE, async_review

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

SERVICE_REVIEW_INCIDENT = "review_incident"
REVIEW_SCHEMA = vol.Schema(
    {
        vol.Required("incident_id"): vol.All(vol.Coerce(int), vol.Range(min=1, max=2**63 - 1)),
        vol.Optional("reviewed", default=True): cv.boolean,
        vol.Optional("feedback", default=None): vol.Any(None, vol.In([feedback.value for feedback in Feedback])),
        vol.Optional("note", default=None): vol.Any(None, vol.All(cv.string, vol.Length(max=MAXIMUM_NOTE))),
    }
)


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the actions, once for the life of Home Assistant."""
    hass.services.async_register(DOMAIN, SERVICE_REVIEW_INCIDENT, _async_review_incident, schema=REVIEW_SCHEMA)


async def _async_review_incident(call: ServiceCall) -> None:
    """Say what somebody makes of an incident."""
    entries: list[NemotronSecurityConfigEntry] = call.hass.config_entries.async_loaded_entries(DOMAIN)
    if not entries:
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="not_loaded")
    try:
        await async_review(call.hass, entries[0].runtime_data, await _async_user(call), **call.data)
    except LookupError as err:
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="incident_not_found") from err


async def _async_user(call: ServiceCall) -> User | None:
    """Return who called; null for an automation, which may whatever its owner let it."""
    if call.context.user_id is None:
        return None
    if (user := await call.hass.auth.async_get_user(call.context.user_id)) is None:
        raise UnknownUser(context=call.context)
    return user
