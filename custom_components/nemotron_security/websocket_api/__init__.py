"""The websocket commands."""

from homeassistant.components.websocket_api import async_register_command
from homeassistant.core import HomeAssistant, callback

from . import cameras, incidents, subscribe


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the commands, once for the life of Home Assistant."""
    for command in (
        subscribe.async_subscribe_events,
        subscribe.async_subscribe_system,
        incidents.async_list_incidents,
        incidents.async_get_incident,
        incidents.async_review_incident,
        cameras.async_list_cameras,
        cameras.async_camera_status,
    ):
        async_register_command(hass, command)
