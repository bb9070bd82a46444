"""Makes the detector that a config names, and keeps watch over those that are not ours."""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import plugins
from ..detections import Detections
from ..messages import DetectorConfig, Problem
from ..redact import redact
from . import Detector, DetectorError, Picture

_LARGEST_SIDE = 8192
_MOST_LABELS = 100_000
_WORDS = 200


def load_plugin(config: DetectorConfig) -> Detector:
    """Import the plug-in of a config, and no other one, and make its detector; takes up to seconds.

    Raises:
        DetectorError: there is no such plug-in, it lacks a library, is none, or cannot use the model.
    """
    if config.plugin not in plugins.BUILT_IN:
        return _Guarded(config, _find(config))
    module, name = plugins.BUILT_IN[config.plugin]
    try:
        made: Detector = getattr(import_module(f"{__package__}.{module}"), name)(config)
    except ImportError as err:
        raise DetectorError(Problem.DETECTOR_NOT_INSTALLED, f"{config.plugin}: {err}") from err
    return made


def _find(config: DetectorConfig) -> Callable[[DetectorConfig], Any]:
    """Return what makes the detector of another package."""
    point = plugins.entry_point(config.plugin)
    if point is None:
        raise DetectorError(Problem.DETECTOR_NOT_INSTALLED, f"no package brings a detector {config.plugin!r}")
    try:
        factory = point.load()
    except (Exception, SystemExit) as err:
        raise _broken(config, f"{point.value} cannot be imported", err) from err
    if not callable(factory):
        raise _broken(config, f"{point.value} cannot be called")
    made: Callable[[DetectorConfig], Any] = factory
    return made


def _broken(config: DetectorConfig, detail: str, err: BaseException | None = None) -> DetectorError:
    """Return the error of a plug-in that does not do what it has to, with no secret in its words."""
    words = f"{config.plugin}: {detail}" + (f" ({type(err).__name__}: {err})" if err is not None else "")
    return DetectorError(Problem.DETECTOR_BROKEN, redact(words, config.token)[:_WORDS])


class _Guarded:
    """A detector of another package: whatever it does wrong becomes a `DetectorError` that says so."""

    def __init__(self, config: DetectorConfig, factory: Callable[[DetectorConfig], Any]) -> None:
        """Make the detector and look at what it says of itself."""
        self._config = config
        try:
            self._inner = factory(config)
        except DetectorError:
            raise
        except (Exception, SystemExit) as err:
            raise self._broken("it cannot be made", err) from err
        missing = [name for name in ("detect", "close") if not callable(getattr(self._inner, name, None))]
        if missing:
            raise self._broken(f"it has no {' and no '.join(missing)}")
        self.width, self.height = self._side("width"), self._side("height")
        self.labels = self._labels()
        self.device = str(getattr(self._inner, "device", ""))
        threads = getattr(self._inner, "threads", 0)
        self.threads = threads if type(threads) is int else 0
        batch = getattr(self._inner, "batch", 1)
        self.batch = batch if type(batch) is int else 1

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Return the objects of each picture, boxes in that picture's own pixels."""
        if not pictures:
            return []
        try:
            found = list(self._inner.detect(pictures))
            self.labels = self._labels()
            checked = [self._checked(one) for one in found]
        except DetectorError:
            raise
        except (Exception, SystemExit) as err:
            raise self._broken("it cannot look at a picture", err) from err
        if len(checked) != len(pictures):
            raise self._broken(f"it answers {len(checked)} times for {len(pictures)} pictures")
        return checked

    def close(self) -> None:
        """Free what it holds."""
        try:
            self._inner.close()
        except DetectorError:
            raise
        except (Exception, SystemExit) as err:
            raise self._broken("it cannot be closed", err) from err

    def _broken(self, detail: str, err: BaseException | None = None) -> DetectorError:
        return _broken(self._config, detail, err)

    def _side(self, name: str) -> int:
        side = getattr(self._inner, name, None)
        if type(side) is not int or not 0 < side <= _LARGEST_SIDE:
            raise self._broken(f"its {name} is no number of pixels")
        return side

    def _labels(self) -> tuple[str, ...]:
        labels = getattr(self._inner, "labels", None)
        if isinstance(labels, str) or not isinstance(labels, Iterable):
            raise self._broken("it has no labels")
        labels = tuple(labels)
        if not 0 < len(labels) <= _MOST_LABELS or not all(isinstance(label, str) for label in labels):
            raise self._broken("its labels are no names")
        return labels

    def _checked(self, found: Any) -> Detections:
        """Return the objects of one picture in our types, without those that score nothing or have no area."""
        boxes: NDArray[np.float32] = np.asarray(found.boxes, np.float32)
        scores: NDArray[np.float32] = np.asarray(found.scores, np.float32)
        classes: NDArray[np.int32] = np.asarray(found.classes).astype(np.int32, casting="same_kind")
        if boxes.size == scores.size == classes.size == 0:
            return Detections.none()
        if boxes.shape != (len(scores), 4) or scores.ndim != 1 or classes.shape != scores.shape:
            raise self._broken(f"boxes {boxes.shape}, scores {scores.shape} and classes {classes.shape} do not match")
        if not (np.isfinite(boxes).all() and ((scores >= 0) & (scores <= 1)).all()):
            raise self._broken("its boxes and scores are no numbers, or its scores lie outside 0 to 1")
        if not ((classes >= 0) & (classes < len(self.labels))).all():
            raise self._broken("it finds classes that have no label")
        sound = np.all(boxes[:, 2:] > boxes[:, :2], axis=1) & (scores >= self._config.minimum_score)
        return Detections(boxes, scores, classes)[np.asarray(sound, np.bool_)]
