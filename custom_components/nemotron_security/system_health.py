"""A few words on Home Assistant's page of the system's health."""

from pathlib import Path
from typing import Any

from homeassistant.components.system_health import SystemHealthRegistration
from homeassistant.core import HomeAssistant, callback

from .broadcasters import PartState
from .const import DOMAIN
from .models import CameraStatus
from .runtime import NemotronSecurityConfigEntry


@callback
def async_register(hass: HomeAssistant, register: SystemHealthRegistration) -> None:
    """Offer the words."""
    register.async_register_info(async_system_health_info, f"/config/integrations/integration/{DOMAIN}")


async def async_system_health_info(hass: HomeAssistant) -> dict[str, Any]:
    """Say how the parts do, how many cameras are seen, and how large the database is."""
    entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    if not entries:
        return {"worker": PartState.OFF}
    runtime = entries[0].runtime_data
    pipeline = runtime.announcer.pipeline
    statuses = [camera.data.health.status for camera in runtime.cameras.values()]
    folder = Path(hass.config.path(DOMAIN))
    return {
        "worker": pipeline.worker,
        "detector": pipeline.detector,
        "analyzer": pipeline.analyzer,
        "database": pipeline.store,
        "database_size": await hass.async_add_executor_job(_size, folder),
        "cameras_online": f"{statuses.count(CameraStatus.ONLINE)} / {len(statuses)}",
    }


def _size(folder: Path) -> str:
    """Return the size of the database with its write-ahead log, in megabytes."""
    return f"{sum(file.stat().st_size for file in folder.glob('events.db*')) / 1e6:.1f} MB"
