"""The frames that show an object best: which of them become pictures, and when."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

from .frames import Frame
from .messages import TrackPicture, TrackState
from .pictures import encode_jpeg

_PICTURE_GAP = 1.0
_BETTER = 1.2
"""A picture follows an earlier one of the same track if its quality is so many times as high."""
_AT_EDGE = 0.01
"""An object this close to the frame's border, as a share of the frame, is probably cut off."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A view of tracks that is worth a picture."""

    camera_id: str
    frame: Frame
    tracks: tuple[TrackState, ...]

    def pictures(self) -> list[TrackPicture]:
        """Encode the frame, once for all of its tracks; takes milliseconds."""
        data = encode_jpeg(self.frame)
        return [
            TrackPicture(
                camera_id=self.camera_id,
                track_id=track.track_id,
                captured_at=self.frame.captured_at,
                box=track.box,
                score=track.score,
                width=self.frame.width,
                height=self.frame.height,
                data=data,
            )
            for track in self.tracks
        ]


@dataclass(slots=True)
class _Best:
    """The best views of one track: the one that was sent, and a better one that waits for its time."""

    quality: float
    sent_at: float
    waiting: tuple[Frame, TrackState] | None = None


class BestMoments:
    """Chooses the frames that show a confirmed track best.

    The first at its confirmation, then only clearly better ones, at least a second apart; what waits is sent as soon as
    the object is hidden, so that it comes before the track's end.
    """

    def __init__(self, camera_id: str) -> None:
        self._camera_id = camera_id
        self._best: dict[int, _Best] = {}

    def choose(self, frame: Frame, tracks: Sequence[TrackState]) -> tuple[Moment, ...]:
        """Return what is due after this frame, oldest first."""
        chosen = [view for track in tracks if track.confirmed and (view := self._view(frame, track)) is not None]
        live = {track.track_id for track in tracks}
        self._best = {track_id: best for track_id, best in self._best.items() if track_id in live}
        return self._moments(chosen)

    def clear(self) -> tuple[Moment, ...]:
        """Forget all tracks; returns what still waits."""
        waiting = [best.waiting for best in self._best.values() if best.waiting is not None]
        self._best = {}
        return self._moments(waiting)

    def _view(self, frame: Frame, track: TrackState) -> tuple[Frame, TrackState] | None:
        """Return the view of this track that is due now, if any."""
        best = self._best.get(track.track_id)
        seen = track.last_seen_at == frame.captured_at
        if seen:
            quality = _quality(track, frame)
            if best is None:
                self._best[track.track_id] = _Best(quality, frame.captured_at)
                return frame, track
            if quality > best.quality * _BETTER:
                best.quality, best.waiting = quality, (frame, track)
        if best is None or best.waiting is None or (seen and frame.captured_at - best.sent_at < _PICTURE_GAP):
            return None
        view, best.waiting, best.sent_at = best.waiting, None, frame.captured_at
        return view

    def _moments(self, views: Sequence[tuple[Frame, TrackState]]) -> tuple[Moment, ...]:
        """Join the views of one frame: its JPEG is made once."""
        by_frame: dict[int, list[tuple[Frame, TrackState]]] = {}
        for view in views:
            by_frame.setdefault(view[0].frame_id, []).append(view)
        return tuple(
            Moment(self._camera_id, of_frame[0][0], tuple(track for _, track in of_frame))
            for _, of_frame in sorted(by_frame.items())
        )


def _quality(track: TrackState, frame: Frame) -> float:
    """Say how well a frame shows an object: sure, large, and not cut off at the border."""
    box, width, height = track.box, frame.width, frame.height
    margin_x, margin_y = _AT_EDGE * width, _AT_EDGE * height
    cut_off = (
        box.left < margin_x or box.top < margin_y or box.right > width - margin_x or box.bottom > height - margin_y
    )
    return track.score * math.sqrt(box.area / (width * height)) * (0.5 if cut_off else 1.0)
