"""Models that can be downloaded: `catalogue.json`, each with the size and the SHA-256 that its publisher states.

No model of ncnn's form is in it: none is published by those who trained it. See docs/detectors.md for where to get one.
"""

from dataclasses import dataclass
import json
from pathlib import Path

from .download import RemoteFile

_FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """One model of the catalogue."""

    id: str
    name: str
    plugin: str
    """The detector that it is for."""
    file: str
    """What it is called here."""
    size: int
    """Bytes."""
    width: int
    """Input size in pixels, as it was trained."""
    height: int
    classes: int
    """How many it tells apart."""
    licence: str
    """SPDX identifier."""
    url: str
    """Of this very version."""
    sha256: str
    publisher: str
    """The page where the publisher offers it, and states size and SHA-256."""

    @property
    def remote(self) -> RemoteFile:
        """What has to come."""
        return RemoteFile(url=self.url, size=self.size, sha256=self.sha256)

    @property
    def summary(self) -> str:
        """In a line, for a list."""
        size = f"{self.size / 1e6:.0f} MB, {self.width}x{self.height}"
        return f"{self.name}: {size}, {self.classes} classes, {self.licence}"


def load_catalogue() -> tuple[CatalogueModel, ...]:
    """Return all models. Reads a file: call it in an executor."""
    return tuple(CatalogueModel(**model) for model in json.loads(_FILE.read_text()))
