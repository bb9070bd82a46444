"""Who may do what: a camera's messages, incidents and pictures belong to whoever may read or control its entity."""

from collections.abc import Callable
import time
from typing import Final

from homeassistant.auth.models import User
from homeassistant.auth.permissions.const import POLICY_CONTROL, POLICY_READ
from homeassistant.components.camera.const import DOMAIN as CAMERA_DOMAIN
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback, split_entity_id
from homeassistant.helpers import entity_registry as er
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN

LAST_WORDS: Final = 600.0
"""Seconds for which a camera that was removed is still heard of by whoever could read it: until its incident has ended,
was judged, and a slow client or one that reconnects knows it too."""


class CameraPermissions:
    """Says who may read of a camera and who may change what it keeps: who may read or control its `camera` entity.

    If a camera has none, the user needs all its entities. One that has no entity at all, such as a camera that was
    removed, is for administrators.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        """Look entities up once, until the registry changes."""
        self._hass = hass
        self._entity_ids: dict[str, list[str]] = {}
        self._removed: dict[str, tuple[float, list[str]]] = {}
        """When cameras were removed, and their entities until then."""
        self._listeners: list[Callable[[str], None]] = []
        hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, self._handle_registry)

    def may_read(self, user: User, camera_id: str) -> bool:
        """Say whether the user may see what the camera sees, by the policies of this moment."""
        return user.is_admin or _holds(user, self._entities_of(camera_id), POLICY_READ)

    def may_hear(self, user: User, camera_id: str) -> bool:
        """Say whether the user is told what a camera has to say: who may read it, of its last words who could."""
        if user.is_admin:
            return True
        return _holds(user, self._entities_of(camera_id) or self._last_entities_of(camera_id), POLICY_READ)

    def may_control(self, user: User, camera_id: str) -> bool:
        """Say whether the user may change what is kept of the camera, by the policies of this moment."""
        return user.is_admin or _holds(user, self._entities_of(camera_id), POLICY_CONTROL)

    @callback
    def async_camera_removed(self, camera_id: str) -> None:
        """Remember the entities of a camera whose settings are gone; Home Assistant removes them next."""
        if entity_ids := self._entities_of(camera_id):
            self._removed[camera_id] = time.monotonic(), entity_ids

    @callback
    def async_on_registered(self, listener: Callable[[str], None]) -> CALLBACK_TYPE:
        """Call the listener with the id of each camera whose `camera` entity is registered; returns what ends that.

        Before that, nobody but administrators may read of a new camera.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _entities_of(self, camera_id: str) -> list[str]:
        if (entity_ids := self._entity_ids.get(camera_id)) is None:
            entity_ids = self._entity_ids[camera_id] = self._find(camera_id)
        return entity_ids

    def _last_entities_of(self, camera_id: str) -> list[str]:
        removed_at, entity_ids = self._removed.get(camera_id, (0.0, []))
        if entity_ids and time.monotonic() - removed_at > LAST_WORDS:
            del self._removed[camera_id]
            return []
        return entity_ids

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
    def _handle_registry(self, event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        self._entity_ids.clear()
        if event.data["action"] != "create":
            return
        entity = er.async_get(self._hass).async_get(event.data["entity_id"])
        if entity and (entity.domain, entity.platform) == (CAMERA_DOMAIN, DOMAIN) and entity.config_subentry_id:
            for listener in list(self._listeners):
                listener(entity.config_subentry_id)


def _holds(user: User, entity_ids: list[str], policy: str) -> bool:
    """Say whether the user's policy holds for all of these, and there are any."""
    check = user.permissions.check_entity
    return bool(entity_ids) and all(check(entity_id, policy) for entity_id in entity_ids)


_PERMISSIONS: HassKey[CameraPermissions] = HassKey(f"{DOMAIN}_camera_permissions")


@callback
def async_permissions(hass: HomeAssistant) -> CameraPermissions:
    """Return the permissions of this Home Assistant."""
    if (permissions := hass.data.get(_PERMISSIONS)) is None:
        permissions = hass.data[_PERMISSIONS] = CameraPermissions(hass)
    return permissions
