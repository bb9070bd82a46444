"""Nemotron Home Security: any camera that Home Assistant knows becomes a security camera."""

from contextlib import suppress
from pathlib import Path

from homeassistant.const import EVENT_HOMEASSISTANT_STOP, Platform
from homeassistant.core import Event, HomeAssistant
from homeassistant.exceptions import ConfigEntryNotReady
from homeassistant.helpers import config_validation as cv, device_registry as dr, entity_registry as er
from homeassistant.helpers.typing import ConfigType

from . import http_api, services, websocket_api, zone_editor
from .const import DOMAIN
from .detection.environment import EnvironmentFailure
from .detection.options import migrated
from .environments import async_environment, async_python
from .feeds import async_follow_renames
from .lasting import Lasting
from .runtime import NemotronSecurityConfigEntry, Runtime
from .store import Store, StoreError

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

PLATFORMS = [
    Platform.BINARY_SENSOR,
    Platform.CAMERA,
    Platform.EVENT,
    Platform.IMAGE,
    Platform.SENSOR,
    Platform.SWITCH,
]


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Register what does not belong to an entry."""
    websocket_api.async_register(hass)
    http_api.async_register(hass)
    services.async_register(hass)
    zone_editor.async_register(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: NemotronSecurityConfigEntry) -> bool:
    """Open the store, start the worker, watch the cameras."""
    store = await _async_open_store(hass)
    hub = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, entry.entry_id)},
        name=entry.title,
        entry_type=dr.DeviceEntryType.SERVICE,
    )
    python = await async_python(hass, entry.options)
    runtime = entry.runtime_data = Runtime(hass, entry, store, hub.id, python)
    entry.async_on_unload(runtime.async_stop)  # also after a set-up that failed half-way

    async def stop(_event: Event) -> None:
        await runtime.async_stop()

    # Home Assistant does not unload entries when it stops.
    entry.async_on_unload(hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, stop))
    _forget_task(hass, entry)
    await runtime.async_start()
    await hass.config_entries.async_forward_entry_setups(entry, _platforms(runtime))
    entry.async_on_unload(entry.add_update_listener(_async_entry_changed))
    entry.async_on_unload(async_follow_renames(hass, entry))
    return True


async def async_migrate_entry(hass: HomeAssistant, entry: NemotronSecurityConfigEntry) -> bool:
    """Bring an entry of an earlier version up to this one."""
    if entry.version == 1 and entry.minor_version < 2:  # noqa: PLR2004  # the detector became more than a folder
        hass.config_entries.async_update_entry(entry, options=migrated(entry.options), minor_version=2)
    return True


async def async_unload_entry(hass: HomeAssistant, entry: NemotronSecurityConfigEntry) -> bool:
    """Remove the entities and stop what runs: Home Assistant waits for that here as long as it takes."""
    runtime = entry.runtime_data
    unloaded = await hass.config_entries.async_unload_platforms(entry, _platforms(runtime))
    if unloaded:
        await runtime.async_stop()
    return unloaded


async def async_remove_entry(hass: HomeAssistant, entry: NemotronSecurityConfigEntry) -> None:
    """Forget what was kept besides the database and the models, which stay: the detector's environment too."""
    await Lasting(hass, entry.entry_id).async_remove()
    with suppress(EnvironmentFailure):  # a flow is making it; it will be found when another entry is set up
        await async_environment(hass).async_remove()


def _forget_task(hass: HomeAssistant, entry: NemotronSecurityConfigEntry) -> None:
    """Remove the AI Task entity of a model that we no longer ask."""
    registry = er.async_get(hass)
    entity_id = registry.async_get_entity_id(Platform.AI_TASK, DOMAIN, f"{entry.entry_id}_ai_task")
    if entity_id is not None and entry.runtime_data.model_watch is None:
        registry.async_remove(entity_id)


def _platforms(runtime: Runtime) -> list[Platform]:
    """Return the platforms that have something to show: tasks only where we ask a model ourselves."""
    return PLATFORMS if runtime.model_watch is None else [*PLATFORMS, Platform.AI_TASK]


async def async_remove_config_entry_device(
    hass: HomeAssistant, entry: NemotronSecurityConfigEntry, device: dr.DeviceEntry
) -> bool:
    """Let a GPU that is gone be removed; a camera's device goes with the camera."""
    ids = {identifier for domain, identifier in device.identifiers if domain == DOMAIN}
    if not ids.isdisjoint({entry.entry_id, *entry.subentries}):
        return False
    return all(entry.runtime_data.gpus.async_forget(device_id) for device_id in ids)


async def _async_entry_changed(hass: HomeAssistant, entry: NemotronSecurityConfigEntry) -> None:
    """Follow changed cameras and options live; only another analyzer needs a reload."""
    if entry.runtime_data.needs_reload:
        hass.config_entries.async_schedule_reload(entry.entry_id)
    else:
        await entry.runtime_data.async_apply_changes()


async def _async_open_store(hass: HomeAssistant) -> Store:
    folder = Path(hass.config.path(DOMAIN))
    store = Store(f"sqlite:///{folder / 'events.db'}", folder / "pictures")
    try:
        await store.async_open()
    except StoreError as err:
        raise ConfigEntryNotReady(
            translation_domain=DOMAIN,
            translation_key=err.problem,
            translation_placeholders={"path": str(folder), "detail": err.detail},
        ) from err
    return store
