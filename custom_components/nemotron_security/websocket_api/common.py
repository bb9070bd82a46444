"""What all commands share: the loaded entry, what options may be, and the errors that are answered."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from homeassistant.components.websocket_api import ERR_NOT_FOUND, ActiveConnection
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
import probatio as vol

from ..const import DOMAIN
from ..store import StoreError

if TYPE_CHECKING:
    from ..runtime import NemotronSecurityConfigEntry

MAXIMUM_ID = 2**63 - 1
"""Of a row: what every database can compare."""
NAME = vol.All(str, vol.Length(min=1, max=64))
"""A camera's id or a label."""


def integer(minimum: int = 0, maximum: int | None = None) -> vol.All[Any]:
    """Return the schema of an integer."""
    return vol.All(_no_boolean, int, vol.Range(min=minimum, max=maximum))


def list_of(item: Any) -> vol.All[Any]:
    """Return the schema of a list of choices. An empty one is refused: nobody asks for nothing."""
    return vol.All([item], vol.Length(min=1, max=100))


def _no_boolean(value: Any) -> Any:
    """Refuse what Python takes for 0 and 1."""
    if isinstance(value, bool):
        raise vol.Invalid("expected int")
    return value


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


@callback
def async_refuse_camera(connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Answer that there is no such camera, for this user at least."""
    connection.send_error(
        msg["id"],
        ERR_NOT_FOUND,
        "There is no such camera",
        translation_domain=DOMAIN,
        translation_key="camera_not_found",
    )


@callback
def async_refuse_incident(connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Answer that there is no such incident, for this user at least."""
    connection.send_error(
        msg["id"],
        ERR_NOT_FOUND,
        "There is no such incident",
        translation_domain=DOMAIN,
        translation_key="incident_not_found",
    )


@contextmanager
def reading() -> Generator[None]:
    """Say in the user's language that the stored incidents cannot be read now."""
    try:
        yield
    except StoreError as err:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="events_unreadable",
            translation_placeholders={"detail": err.detail},
        ) from err
