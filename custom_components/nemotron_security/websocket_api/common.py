"""What all commands share."""

from typing import TYPE_CHECKING, Any

from homeassistant.components.websocket_api import ERR_NOT_FOUND, ActiveConnection
from homeassistant.core import HomeAssistant, callback

from ..const import DOMAIN

if TYPE_CHECKING:
    from ..runtime import NemotronSecurityConfigEntry


@callback
def async_loaded_entry(
    hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]
) -> NemotronSecurityConfigEntry | None:
    """Return the loaded config entry; without one, answer that there is none."""
    entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    if entries:
        return entries[0]
    connection.send_error(
        msg["id"],
        ERR_NOT_FOUND,
        "Nemotron Home Security is not set up or not running",
        translation_domain=DOMAIN,
        translation_key="not_loaded",
    )
    return None
