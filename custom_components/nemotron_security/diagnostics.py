"""Diagnostics of the entry, for a bug report: nothing in it is secret."""

from dataclasses import asdict, replace
from typing import Any

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.const import CONF_UNIQUE_ID
from homeassistant.core import HomeAssistant

from .const import (
    CONF_ANALYZER_KEY,
    CONF_ANALYZER_URL,
    CONF_CALENDARS,
    CONF_GPU_URLS,
    CONF_NOTE,
    CONF_STREAM_URL,
)
from .coordinator import CameraCoordinator
from .detection.environment import platform_problem
from .detection.options import DETECTOR_SECRETS
from .environments import async_environment
from .payloads import camera_status_payload, pipeline_status_payload
from .runtime import NemotronSecurityConfigEntry, Runtime

# A camera's unique id is made of its stream's address; without a name of its own it is titled by its host. A note tells
# of the people and their habits, and calendars are named after them.
TO_REDACT = {
    CONF_ANALYZER_KEY,
    CONF_ANALYZER_URL,
    CONF_CALENDARS,
    CONF_GPU_URLS,
    CONF_NOTE,
    CONF_STREAM_URL,
    CONF_UNIQUE_ID,
    "title",
    *DETECTOR_SECRETS,
}


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: NemotronSecurityConfigEntry) -> dict[str, Any]:
    """Return what is configured, how the parts do, and the last second's figures."""
    runtime = entry.runtime_data
    return {
        "entry": async_redact_data(entry.as_dict(), TO_REDACT),
        "pipeline": pipeline_status_payload(runtime.announcer.pipeline),
        "worker": _worker(runtime),
        "detector": await _async_detector(hass, runtime),
        "cameras": {camera_id: _camera(runtime, camera) for camera_id, camera in runtime.cameras.items()},
        "gpus": {
            "problems": runtime.gpus.problems,
            # Which programs run is nobody's business.
            "readings": [asdict(replace(reading, processes=None)) for reading in runtime.gpus.data.values()],
        },
    }


async def _async_detector(hass: HomeAssistant, runtime: Runtime) -> dict[str, Any]:
    """Return what the worker said of the detector, and what it needs of this machine. Its settings are options."""
    state = runtime.detector
    said = {} if state is None else {name: getattr(state, name) for name in ("problem", "detail", "device", "threads")}
    environment = async_environment(hass)
    return {
        **said,
        "input": None if state is None or not state.width else f"{state.width}x{state.height}",
        "classes": None if state is None else len(state.labels),
        "environment": await environment.async_state(),
        "platform": await hass.async_add_executor_job(platform_problem),
    }


def _worker(runtime: Runtime) -> dict[str, Any] | None:
    if (worker := runtime.worker) is None:
        return None
    heartbeat = runtime.heartbeat
    names = ("at", "inference_ms_p50", "inference_ms_p95", "rss")
    figures = {} if heartbeat is None else {name: getattr(heartbeat, name) for name in names}
    return {"versions": worker.versions, **figures}


def _camera(runtime: Runtime, camera: CameraCoordinator) -> dict[str, Any]:
    reports = runtime.heartbeat.cameras if runtime.heartbeat else ()
    report = next((report for report in reports if report.camera_id == camera.camera_id), None)
    return {
        "status": camera_status_payload(camera.data.health),
        "detail": camera.data.health.detail,
        "motion": camera.data.motion,
        "objects": camera.data.counts,
        "figures": None if report is None else asdict(report),
    }
