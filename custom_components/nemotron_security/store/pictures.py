"""The files that rows own: `<id // 1000>/<id>.jpg` below a folder of our own. Runs in the writer's thread."""

from collections.abc import Iterator
from datetime import UTC, datetime
import logging
from pathlib import Path
import re

_LOGGER = logging.getLogger(__name__)

PER_FOLDER = 1000
"""Pictures in one folder: a directory with a hundred thousand files is slow on many file systems."""

_PICTURE = re.compile(r"(\d+)\.jpg")
_LEFTOVER = re.compile(r"\d+\.jpg\.tmp")


class PictureFiles:
    """JPEG files below a folder, named by nothing but ids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self) -> None:
        """Make the folder, if it is not there."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def write(self, picture_id: int, jpeg: bytes) -> None:
        """Write a file whole or not at all.

        It is not forced to the disk, as the commits of the database are not: a power cut may take the last moments,
        and `read` then tells by the size.
        """
        path = self.path(picture_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            temporary.write_bytes(jpeg)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def read(self, picture_id: int, size: int) -> bytes | None:
        """Return the file's bytes; None when it is gone or not of that size."""
        try:
            jpeg = self.path(picture_id).read_bytes()
        except FileNotFoundError:
            return None
        return jpeg if len(jpeg) == size else None

    def remove(self, picture_id: int) -> None:
        """Remove the file, if it is there. One that resists is left to the next start: its row is gone already."""
        try:
            self.path(picture_id).unlink(missing_ok=True)
        except OSError as err:
            _LOGGER.warning("Picture %s could not be removed yet: %s", picture_id, err.strerror)

    def remove_leftovers(self) -> None:
        """Remove files that a crash left half written."""
        for folder in self._folders():
            for path in folder.iterdir():
                if _LEFTOVER.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def ids(self) -> Iterator[set[int]]:
        """Yield the ids of the pictures that are there, folder by folder; files of others are not touched."""
        for folder in self._folders():
            names = (_PICTURE.fullmatch(path.name) for path in folder.iterdir())
            found = {int(name[1]) for name in names if name}
            yield {picture_id for picture_id in found if self.path(picture_id).parent == folder}

    def set_aside(self) -> None:
        """Keep the pictures of a database that is gone: a new one would count from 1 again and overwrite them."""
        if not any(self.ids()):
            return
        aside = self._folder.with_name(f"{self._folder.name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        self._folder.rename(aside)
        self.create()
        _LOGGER.warning("The database is new; the pictures of the one before were kept in %s", aside)

    def _folders(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.name.isdecimal() and path.is_dir()]

    def path(self, picture_id: int) -> Path:
        """Return where a picture's file lies, if it is there."""
        return self._folder / f"{picture_id // PER_FOLDER:d}" / f"{picture_id:d}.jpg"
