"""The forms of the detector's flow."""

from collections.abc import Iterable, Sequence
from typing import Final

from homeassistant.helpers.selector import (
    BooleanSelector,
    FileSelector,
    FileSelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
import probatio as vol

from .detection.catalogue import CatalogueModel
from .detection.environment import Accelerator
from .detection.export import SIDES
from .detection.model_store import StoredModel
from .forms import PASSWORD, SHOWN_TEXT, URLS, select, shown_number
from .vision.trial import Trial

FIELD_MODEL: Final = "model"
FIELD_URLS: Final = "urls"
FIELD_TOKEN: Final = "token"  # noqa: S105  # a name
FIELD_PLUGIN: Final = "plugin"
FIELD_HALF: Final = "half"
FIELD_TENSORRT: Final = "tensorrt"
FIELD_DEVICE: Final = "device"
FIELD_FILE: Final = "file"
FIELD_LABELS_FILE: Final = "labels_file"
FIELD_SIDE: Final = "side"
FIELD_ACCELERATOR: Final = "accelerator"

CAMERA_FPS: Final = 5
"""Frames a second of a camera, for telling how many a detector carries."""
_UPLOADS: Final = {"ncnn": ".zip", "ultralytics": ".pt,.onnx,.engine"}

TRITON_SCHEMA = vol.Schema(
    {
        vol.Required(FIELD_URLS): URLS,
        vol.Required(FIELD_MODEL): TextSelector(),
        vol.Optional(FIELD_TOKEN): PASSWORD,
        vol.Optional(FIELD_LABELS_FILE): TextSelector(),
    }
)
DEEPSTACK_SCHEMA = vol.Schema({vol.Required(FIELD_URLS): URLS, vol.Optional(FIELD_TOKEN): PASSWORD})
PATH_SCHEMA = vol.Schema({vol.Required(FIELD_MODEL): TextSelector(), vol.Optional(FIELD_LABELS_FILE): TextSelector()})
TUNING_SCHEMA = vol.Schema(
    {
        vol.Required(FIELD_HALF, default=True): BooleanSelector(),
        vol.Required(FIELD_TENSORRT, default=False): BooleanSelector(),
        vol.Optional(FIELD_DEVICE): TextSelector(),
    }
)
ENVIRONMENT_SCHEMA = vol.Schema(
    {
        vol.Required(FIELD_ACCELERATOR, default=Accelerator.GPU): select(tuple(Accelerator), "accelerator"),
        vol.Required(FIELD_TENSORRT, default=False): BooleanSelector(),
    }
)
NOTHING = vol.Schema({})


def upload_schema(plugin: str) -> vol.Schema:
    """Ask for a file of a kind that the detector takes, and perhaps the names of its classes."""
    return vol.Schema(
        {
            vol.Required(FIELD_FILE): FileSelector(FileSelectorConfig(accept=_UPLOADS[plugin])),
            vol.Optional(FIELD_LABELS_FILE): FileSelector(FileSelectorConfig(accept=".txt,.yaml,.yml,.names")),
        }
    )


def catalogue_schema(models: Iterable[CatalogueModel]) -> vol.Schema:
    """Ask which model of the catalogue."""
    options = [SelectOptionDict(value=model.id, label=model.summary) for model in models]
    return vol.Schema({vol.Required(FIELD_MODEL): _list(options)})


def stored_schema(models: Iterable[StoredModel]) -> vol.Schema:
    """Ask which of the models that we keep."""
    options = [
        SelectOptionDict(value=model.id, label=f"{model.name} ({model.kind}, {model.size / 1e6:.1f} MB)")
        for model in models
    ]
    return vol.Schema({vol.Required(FIELD_MODEL): _list(options)})


def export_schema(models: Iterable[StoredModel]) -> vol.Schema:
    """Ask which model shall be turned into ncnn's form, and for pictures of what size."""
    options = [SelectOptionDict(value=model.id, label=model.name) for model in models]
    sides = SelectSelector(
        SelectSelectorConfig(options=[str(side) for side in SIDES], mode=SelectSelectorMode.DROPDOWN)
    )
    return vol.Schema(
        {vol.Required(FIELD_MODEL): _list(options), vol.Required(FIELD_SIDE, default=str(SIDES[0])): sides}
    )


def remove_schema(models: Iterable[StoredModel]) -> vol.Schema:
    """Ask which of the models that we keep shall go."""
    options = [
        SelectOptionDict(value=model.id, label=f"{model.name} ({model.kind}, {model.size / 1e6:.1f} MB)")
        for model in models
    ]
    selector = SelectSelector(SelectSelectorConfig(options=options, multiple=True, mode=SelectSelectorMode.LIST))
    return vol.Schema({vol.Required(FIELD_MODEL, default=list): selector})


def custom_model_schema(names: Sequence[str]) -> vol.Schema:
    """Ask which model of a DeepStack-like server; any can be typed."""
    selector = SelectSelector(
        SelectSelectorConfig(options=list(names), custom_value=True, mode=SelectSelectorMode.DROPDOWN)
    )
    return vol.Schema({vol.Optional(FIELD_MODEL): selector if names else TextSelector()})


def other_schema(plugins: Sequence[str]) -> vol.Schema:
    """Ask for what any detector of another package may want to know."""
    return vol.Schema(
        {
            vol.Required(FIELD_PLUGIN, default=plugins[0]): SelectSelector(
                SelectSelectorConfig(options=list(plugins), mode=SelectSelectorMode.LIST)
            ),
            vol.Optional(FIELD_MODEL): TextSelector(),
            vol.Optional(FIELD_URLS): URLS,
            vol.Optional(FIELD_TOKEN): PASSWORD,
        }
    )


def measured_schema(trial: Trial, watched: Iterable[str]) -> vol.Schema:
    """Show what a detector was seen to do: it can be read, not changed. What is not known is not shown.

    Args:
        trial: what came of it.
        watched: what the cameras watch for; what of it the model does not know is shown.
    """
    missing = sorted(set(watched) - set(trial.labels))
    fps = trial.batch_fps or trial.fps
    shown = {
        "ms": (trial.ms, shown_number("ms")),
        "fps": (fps, shown_number("fps")),
        "cameras": (None if fps is None else int(fps // CAMERA_FPS), shown_number("")),
        "device": (trial.device or None, SHOWN_TEXT),
        "threads": (trial.threads or None, shown_number("")),
        "input": (f"{trial.width} x {trial.height}" if trial.width else None, SHOWN_TEXT),
        "classes": (len(trial.labels), shown_number("")),
        "missing": (", ".join(missing) or None, SHOWN_TEXT),
    }
    return vol.Schema(
        {vol.Optional(name, default=value): field for name, (value, field) in shown.items() if value is not None}
    )


def _list(options: list[SelectOptionDict]) -> SelectSelector:
    return SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.LIST))
