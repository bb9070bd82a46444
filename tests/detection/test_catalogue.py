"""Each model of the catalogue is described as it has to be. Whether it is there can only be seen with a network."""

import json
from pathlib import Path
import re

import probatio as vol

from custom_components.nemotron_security.detection import catalogue
from custom_components.nemotron_security.detection.catalogue import CatalogueModel, load_catalogue
from custom_components.nemotron_security.detection.model_files import KINDS

SCHEMA = vol.Schema(
    [
        {
            vol.Required("id"): vol.Match(r"^[a-z0-9]+$"),
            vol.Required("name"): vol.All(str, vol.Length(min=1)),
            vol.Required("plugin"): vol.In(KINDS),
            vol.Required("file"): vol.Match(r"^[a-z0-9]+\.(pt|onnx|zip)$"),
            vol.Required("size"): vol.All(int, vol.Range(min=100_000, max=1_000_000_000)),
            vol.Required("width"): vol.All(int, vol.Range(min=32, max=4096)),
            vol.Required("height"): vol.All(int, vol.Range(min=32, max=4096)),
            vol.Required("classes"): vol.All(int, vol.Range(min=1, max=10_000)),
            vol.Required("licence"): vol.In(["AGPL-3.0", "Apache-2.0", "MIT", "GPL-3.0", "BSD-3-Clause"]),
            # A version of its own: a commit, or a release. Not a branch, which moves.
            vol.Required("url"): vol.Match(
                r"^https://(huggingface\.co/\w+/\w+/resolve/[0-9a-f]{40}|github\.com/\w+/\w+/releases/download/v[\d.]+)/"
            ),
            vol.Required("sha256"): vol.Match(r"^[0-9a-f]{64}$"),
            vol.Required("publisher"): vol.Match(r"^https://"),
        }
    ]
)


def test_schema() -> None:
    SCHEMA(json.loads(Path(catalogue.__file__).with_suffix(".json").read_text()))


def test_catalogue() -> None:
    models = load_catalogue()
    assert models
    assert all(isinstance(model, CatalogueModel) for model in models)
    for names in ("id", "name", "sha256", "url", "size"):
        assert len({getattr(model, names) for model in models}) == len(models), names
    assert all(model.url.endswith(f"/{model.file}") for model in models)
    by_id = {model.id: model for model in models}
    assert by_id["yolo11s"].summary == "YOLO11s: 19 MB, 640x640, 80 classes, AGPL-3.0"
    assert by_id["yolo11n"].remote.sha256 == by_id["yolo11n"].sha256
    assert not any(re.search(r"\s", model.url) for model in models)
