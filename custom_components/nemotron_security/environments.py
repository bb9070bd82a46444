"""Where Home Assistant keeps what detectors need: their models, and the environment of those with large packages."""

from collections.abc import Mapping
from pathlib import Path
import sys
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN, PLUGIN_ULTRALYTICS
from .detection.environment import Environment, EnvironmentState
from .detection.model_store import ModelStore
from .detection.options import detector_config

_ENVIRONMENT: HassKey[Environment] = HassKey(f"{DOMAIN}_environment")


@callback
def async_environment(hass: HomeAssistant) -> Environment:
    """Return the environment of `ultralytics`: one for all who ask, so that only one of them changes it.

    It lies in the cache's folder, which is in no backup.
    """
    if _ENVIRONMENT not in hass.data:
        hass.data[_ENVIRONMENT] = Environment(Path(hass.config.cache_path(DOMAIN, PLUGIN_ULTRALYTICS)))
    return hass.data[_ENVIRONMENT]


def model_store(hass: HomeAssistant) -> ModelStore:
    """Return the models that we keep, beside what was recorded."""
    return ModelStore(Path(hass.config.path(DOMAIN, "models")))


async def async_python(hass: HomeAssistant, options: Mapping[str, Any]) -> str:
    """Return the interpreter for the worker: that of the environment if the detector needs it and it is whole.

    On Home Assistant's own the worker says of such a detector that it is not installed, and goes on without it.
    """
    config = detector_config(options)
    if config is None or not needs_environment(config.plugin):
        return sys.executable
    environment = async_environment(hass)
    ready = await environment.async_state() is EnvironmentState.READY
    return environment.python if ready else sys.executable


def needs_environment(plugin: str) -> bool:
    """Tell whether a detector runs on the environment's Python."""
    return plugin == PLUGIN_ULTRALYTICS
