"""What the entry's options say of the detector, and what the worker is told of it. In one place: here."""

from collections.abc import Mapping
from typing import Any, Final

from ..const import CONF_DETECTOR, PLUGIN_NCNN
from ..vision.messages import DetectorConfig

DETECTOR_SECRETS: Final = ("token", "urls")
"""What of the option must be shown to nobody."""
OLD_MODEL: Final = "detector_model"
"""The option of version 1.1: the folder of an ncnn model, empty for none."""


def detector_config(options: Mapping[str, Any]) -> DetectorConfig | None:
    """Return the detector of the options; None: only motion is seen.

    The option is a mapping whose names are those of `DetectorConfig`; what it does not name is as that has it.
    """
    chosen: Mapping[str, Any] | None = options.get(CONF_DETECTOR)
    if not chosen:
        return None
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()
    }
    return DetectorConfig(**values)


def detector_of(**settings: Any) -> dict[str, Any]:
    """Return a detector as the option has it: what is empty is left out."""
    return {name: value for name, value in settings.items() if value}


def migrated(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of version 1.1 as they are since: the folder of a model becomes a detector."""
    changed = dict(options)
    if model := changed.pop(OLD_MODEL, ""):
        changed[CONF_DETECTOR] = {"plugin": PLUGIN_NCNN, "model": model}
    return changed
