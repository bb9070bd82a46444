"""Who may do what: a camera's messages, incidents and pictures belong to whoever may read or control its entity."""

from homeassistant.auth.models import User
from homeassistant.auth.permissions.const import POLICY_CONTROL, POLICY_READ
from homeassistant.components.camera.const import DOMAIN as CAMERA_DOMAIN
from homeassistant.core import Event, HomeAssistant, callback, split_entity_id
from homeassistant.helpers import entity_registry as er
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN


class CameraPermissions:
    """Says who may read of a camera and who may change what it keeps: who may read or control its `camera` entity.

    If a camera has none, the user needs all its entities. One that has no entity at all, such as a camera that was
    removed, is for administrators.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        """Look entities up once, until the registry changes."""
        self._hass = hass
        self._entity_ids: dict[str, list[str]] = {}
        hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, self._forget)

    def may_read(self, user: User, camera_id: str) -> bool:
        """Say whether the user may see what the camera sees, by the policies of this moment."""
        return user.is_admin or self._holds(user, camera_id, POLICY_READ)

    def may_control(self, user: User, camera_id: str) -> bool:
        """Say whether the user may change what is kept of the camera, by the policies of this moment."""
        return user.is_admin or self._holds(user, camera_id, POLICY_CONTROL)

    def _holds(self, user: User, camera_id: str, policy: str) -> bool:
        if (entity_ids := self._entity_ids.get(camera_id)) is None:
            entity_ids = self._entity_ids[camera_id] = self._find(camera_id)
        check = user.permissions.check_entity
        return bool(entity_ids) and all(check(entity_id, policy) for entity_id in entity_ids)

    def _find(self, camera_id: str) -> list[str]:
        registry = er.async_get(self._hass)
        entity_ids = [
            entity.entity_id
            for entry in self._hass.config_entries.async_entries(DOMAIN)
            for entity in er.async_entries_for_config_entry(registry, entry.entry_id)
            if entity.config_subentry_id == camera_id
        ]
        cameras = [entity_id for entity_id in entity_ids if split_entity_id(entity_id)[0] == CAMERA_DOMAIN]
        return cameras or entity_ids

    @callback
    def _forget(self, _event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        self._entity_ids.clear()


_PERMISSIONS: HassKey[CameraPermissions] = HassKey(f"{DOMAIN}_camera_permissions")


@callback
def async_permissions(hass: HomeAssistant) -> CameraPermissions:
    """Return the permissions of this Home Assistant."""
    if (permissions := hass.data.get(_PERMISSIONS)) is None:
        permissions = hass.data[_PERMISSIONS] = CameraPermissions(hass)
    return permissions
