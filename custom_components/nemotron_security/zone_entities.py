"""The entities of zones and entry lines; they come, are renamed and go while everything runs."""

from collections.abc import Collection
from typing import TYPE_CHECKING, override

from homeassistant.components.binary_sensor import BinarySensorDeviceClass, BinarySensorEntity
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import CONF_LINES, CONF_ZONES
from .coordinator import CameraCoordinator
from .entity import CameraBoundEntity

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

KEYS = {CONF_ZONES: "zone", CONF_LINES: "entry_line"}
"""Translation keys, and what the unique ids begin with after the camera's."""


@callback
def async_add_zone_binary_sensors(
    hass: HomeAssistant, entry: NemotronSecurityConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Add a binary sensor for every zone and entry line of every camera, also for those added later."""

    @callback
    def add(camera: CameraCoordinator) -> None:
        sensors = _CameraZones(hass, camera, async_add_entities)
        sensors.async_follow()
        entry.async_on_unload(camera.async_add_settings_listener(sensors.async_follow))

    entry.async_on_unload(entry.runtime_data.async_for_each_camera(add))


class _CameraZones:
    """The binary sensors of one camera's zones and entry lines."""

    def __init__(
        self, hass: HomeAssistant, camera: CameraCoordinator, async_add_entities: AddConfigEntryEntitiesCallback
    ) -> None:
        self._hass = hass
        self._camera = camera
        self._async_add_entities = async_add_entities
        self._present: dict[str, ZoneBinarySensor] = {}
        """By unique id."""

    @callback
    def async_follow(self) -> None:
        """Bring the sensors in line with what the camera's settings say."""
        entry, camera_id = self._camera.config_entry, self._camera.camera_id
        if (subentry := entry.subentries.get(camera_id)) is None:  # Home Assistant takes its entities away
            return
        wanted = {
            f"{camera_id}_{key}_{part['id']}": (key, part["name"])
            for kind, key in KEYS.items()
            for part in subentry.data.get(kind, ())
        }
        self._remove_others(wanted.keys())
        for unique_id, (key, name) in wanted.items():
            if (present := self._present.get(unique_id)) is not None and present.zone == name:
                continue
            self._present[unique_id] = sensor = ZoneBinarySensor(self._camera, key, unique_id, name)
            entry.async_create_task(self._hass, self._async_put(sensor, present))

    async def _async_put(self, sensor: ZoneBinarySensor, instead_of: ZoneBinarySensor | None) -> None:
        """Add a sensor; it takes the place, the id and the history of one that had another name."""
        if instead_of is not None:
            await instead_of.async_remove()
        self._async_add_entities([sensor], config_subentry_id=self._camera.camera_id)

    def _remove_others(self, wanted: Collection[str]) -> None:
        """Remove what belongs to deleted zones, also to those deleted while nothing ran."""
        camera_id, registry = self._camera.camera_id, er.async_get(self._hass)
        for entity in er.async_entries_for_config_entry(registry, self._camera.config_entry.entry_id):
            ours = entity.unique_id.startswith(tuple(f"{camera_id}_{key}_" for key in KEYS.values()))
            if ours and entity.unique_id not in wanted:
                self._present.pop(entity.unique_id, None)
                registry.async_remove(entity.entity_id)


class ZoneBinarySensor(CameraBoundEntity, BinarySensorEntity):
    """Whether something is in a zone, or has just come across an entry line."""

    def __init__(self, coordinator: CameraCoordinator, key: str, unique_id: str, zone: str) -> None:
        """Describe the entity; `zone` is the name of the zone or the line."""
        super().__init__(coordinator, key)
        self._attr_unique_id = unique_id
        self._attr_device_class = BinarySensorDeviceClass.OCCUPANCY if key == KEYS[CONF_ZONES] else None
        self._attr_translation_placeholders = {"zone": zone}
        self.zone = zone

    @property
    @override
    def is_on(self) -> bool | None:
        """Return the fact, null when it is not known."""
        occupied = self.coordinator.data.occupied
        return None if occupied is None else self.zone in occupied
