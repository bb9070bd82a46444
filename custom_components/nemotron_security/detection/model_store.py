"""The models that we keep: downloaded or uploaded, each in a folder of its own, named by an id of ours.

All of it blocks: call it in an executor.
"""

import contextlib
from dataclasses import dataclass
import json
from pathlib import Path
import shutil
import uuid

from .catalogue import CatalogueModel
from .model_files import NCNN_FILES, ModelFileError, ModelFileProblem, ModelKind, check_kind, unpack_ncnn

_ABOUT = "model.json"
_UNFINISHED = ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One model that we keep."""

    id: str
    name: str
    """As the user knows it."""
    kind: ModelKind
    path: str
    """What the detector is told: a folder for ncnn, else a file."""
    size: int
    """Bytes."""
    catalogue_id: str = ""
    """Where it is from the catalogue."""


class ModelStore:
    """The folder that holds them."""

    def __init__(self, folder: Path) -> None:
        """Keep models below this folder; it is made when the first one comes."""
        self._folder = folder

    def all(self) -> list[StoredModel]:
        """Return what is there, by name; what is not whole is left out."""
        found = []
        for about in sorted(self._folder.glob(f"*/{_ABOUT}")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                found.append(self._read(about))
        return sorted(found, key=lambda model: model.name.casefold())

    def download_target(self, model: CatalogueModel) -> Path:
        """Return where a model of the catalogue is downloaded to; what came of it earlier lies there."""
        return self._folder / "downloads" / f"{model.sha256[:16]}-{model.file}"

    def add_download(self, model: CatalogueModel) -> StoredModel:
        """Keep what was downloaded to `download_target`.

        Raises:
            ModelFileError: it is not what the detector takes.
        """
        return self._add(self.download_target(model), model.name, model.plugin, model.file, catalogue_id=model.id)

    def add_upload(self, file: Path, name: str, plugin: str) -> StoredModel:
        """Keep a file that a user sent, if by its content it is a model that the detector takes. The file is moved.

        Args:
            file: where it lies now.
            name: what the user calls it, shown in lists and used for nothing else.
            plugin: the detector that it is for.

        Raises:
            ModelFileError: it is none, or not safe to keep.
        """
        return self._add(file, name, plugin, "model")

    def add_folder(self, folder: Path, name: str) -> StoredModel:
        """Keep a copy of an ncnn model that lies in a folder.

        Raises:
            ModelFileError: it is none.
        """
        return self._add(folder, name, "ncnn", "model")

    def remove(self, model_id: str) -> None:
        """Delete a model; an unknown one is no error."""
        for model in self.all():
            if model.id == model_id:
                shutil.rmtree(self._folder / model.id, ignore_errors=True)

    def remove_all(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _add(self, file: Path, name: str, plugin: str, file_name: str, *, catalogue_id: str = "") -> StoredModel:
        kind = check_kind(file, plugin)
        model_id = uuid.uuid4().hex
        unfinished = self._folder / f"{model_id}{_UNFINISHED}"
        try:
            if file.is_dir():
                place = "model"
                (unfinished / place).mkdir(parents=True)
                for part in NCNN_FILES:
                    shutil.copyfile(file / part, unfinished / place / part)
            elif kind is ModelKind.NCNN:
                unpack_ncnn(file, unfinished / "model")
                place = "model"
            else:
                unfinished.mkdir(parents=True)
                # The detectors know a kind by its ending, whatever the file was called.
                place = f"{Path(file_name).stem}.{kind}"
                shutil.move(file, unfinished / place)
            about = {"name": name, "kind": kind, "place": place, "catalogue_id": catalogue_id}
            (unfinished / _ABOUT).write_text(json.dumps(about))
            unfinished.rename(self._folder / model_id)
        except OSError as err:
            raise ModelFileError(ModelFileProblem.SPACE, err.strerror or "") from err
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return self._read(self._folder / model_id / _ABOUT)

    def _read(self, about: Path) -> StoredModel:
        known = json.loads(about.read_text())
        path = about.parent / known["place"]
        files = [path] if path.is_file() else list(path.iterdir())
        return StoredModel(
            id=about.parent.name,
            name=known["name"],
            kind=ModelKind(known["kind"]),
            path=str(path),
            size=sum(file.stat().st_size for file in files),
            catalogue_id=known["catalogue_id"],
        )
