"""The commands about cameras: which there are, and how one does."""

from typing import Any

from homeassistant.components.websocket_api import ActiveConnection, websocket_command
from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
import probatio as vol

from ..const import (
    CONF_DETECT,
    CONF_LABELS,
    CONF_LINES,
    CONF_OPENING_ZONES,
    CONF_ZONES,
    DEFAULT_LABELS,
    DOMAIN,
    SUBENTRY_CAMERA,
)
from ..coordinator import CameraCoordinator
from ..payloads import camera_stats_payload, camera_status_payload, event_payload
from ..permissions import async_permissions
from .common import NAME, async_loaded_entry, async_refuse_camera


@websocket_command({vol.Required("type"): f"{DOMAIN}/cameras/list"})
@callback
def async_list_cameras(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """List the cameras that the user may read."""
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    may_read = async_permissions(hass).may_read
    cameras = entry.runtime_data.cameras
    connection.send_result(
        msg["id"],
        {
            "cameras": [
                _camera_payload(hass, cameras[subentry.subentry_id], subentry)
                for subentry in entry.get_subentries_of_type(SUBENTRY_CAMERA)
                if subentry.subentry_id in cameras and may_read(connection.user, subentry.subentry_id)
            ]
        },
    )


@websocket_command({vol.Required("type"): f"{DOMAIN}/camera/status", vol.Required("camera_id"): NAME})
@callback
def async_camera_status(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Say how a camera does and what goes on before it."""
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    camera = entry.runtime_data.cameras.get(msg["camera_id"])
    if camera is None or not async_permissions(hass).may_read(connection.user, camera.camera_id):
        async_refuse_camera(connection, msg)
        return
    incident, figures = camera.data.incident, camera.data.figures
    connection.send_result(
        msg["id"],
        {
            **camera_status_payload(camera.data.health),
            "stats": camera_stats_payload(figures) if figures else None,
            "incident": event_payload(incident) if incident and incident.ended_at is None else None,
        },
    )


def _camera_payload(hass: HomeAssistant, camera: CameraCoordinator, subentry: ConfigSubentry) -> dict[str, Any]:
    entry = camera.config_entry
    device = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, camera.camera_id), entry.entry_id)
    return {
        **camera_status_payload(camera.data.health),
        "name": subentry.title,
        "area_id": device.area_id if device else None,
        "device_id": device.id if device else None,
        "entities": _entities(hass, camera),
        "detect": bool(subentry.data.get(CONF_DETECT, True)),
        "labels": list(subentry.data.get(CONF_LABELS, DEFAULT_LABELS)),
        **{key: list(subentry.data.get(key, ())) for key in (CONF_ZONES, CONF_LINES, CONF_OPENING_ZONES)},
    }


def _entities(hass: HomeAssistant, camera: CameraCoordinator) -> dict[str, dict[str, str]]:
    """Return the ids of the camera's enabled entities by platform and key."""
    found: dict[str, dict[str, str]] = {}
    for entity in er.async_entries_for_config_entry(er.async_get(hass), camera.config_entry.entry_id):
        if entity.config_subentry_id == camera.camera_id and not entity.disabled:
            key = entity.unique_id.removeprefix(f"{camera.camera_id}_")
            found.setdefault(entity.domain, {})[key] = entity.entity_id
    return found
