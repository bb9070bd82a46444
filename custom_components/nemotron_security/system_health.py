"""A few words on Home Assistant's page of the system's health."""

from typing import Any

from homeassistant.components.system_health import SystemHealthRegistration
from homeassistant.core import HomeAssistant, callback

from .const import DOMAIN
from .detection.options import detector_config
from .models import CameraStatus
from .payloads import PartState
from .runtime import NemotronSecurityConfigEntry


@callback
def async_register(hass: HomeAssistant, register: SystemHealthRegistration) -> None:
    """Offer the words."""
    register.async_register_info(async_system_health_info, f"/config/integrations/integration/{DOMAIN}")


async def async_system_health_info(hass: HomeAssistant) -> dict[str, Any]:
    """Say how the parts do, how many cameras are seen, and the figures that a bug report needs first."""
    entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    if not entries:
        return {"worker": PartState.OFF}
    runtime = entries[0].runtime_data
    pipeline = runtime.announcer.pipeline
    statuses = [camera.data.health.status for camera in runtime.cameras.values()]
    figures = pipeline.figures
    return {
        "worker": pipeline.worker,
        "detector": pipeline.detector,
        "detector_device": _device(entries[0]),
        "analyzer": pipeline.analyzer,
        "database": pipeline.store,
        "cameras_online": f"{statuses.count(CameraStatus.ONLINE)} / {len(statuses)}",
        "gpus": len(runtime.gpus.data),
        "detection_time": _with_unit(figures.inference_ms_p50, "ms"),
        "worker_restarts": figures.worker_restarts,
        "waiting": "-" if figures.waiting is None else figures.waiting,
        "storage_used": _with_unit(figures.storage_used, "MB", divisor=1e6),
        "disk_free": _with_unit(figures.disk_free, "GB", divisor=1e9),
    }


def _device(entry: NemotronSecurityConfigEntry) -> str:
    """Say what the detector is and runs on, as `ncnn: cpu`."""
    if (config := detector_config(entry.options)) is None:
        return "-"
    state = entry.runtime_data.detector
    device = "" if state is None else state.device
    return f"{config.plugin}: {device}" if device else config.plugin


def _with_unit(figure: float | None, unit: str, *, divisor: float = 1.0) -> str:
    return "-" if figure is None else f"{figure / divisor:.1f} {unit}"
