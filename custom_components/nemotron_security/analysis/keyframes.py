"""Which pictures of an incident a model is shown: few, in their order, each for what it adds."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Final, NamedTuple

from PIL import Image

from ..models import Picture, PictureKind

MOST_KEY_FRAMES: Final = 6
LARGEST_SIDE: Final = 1280
"""Pixels of a picture's longer side; larger ones are scaled down: vision models scale them down themselves."""
APART: Final = 1.0
"""Seconds; pictures that are closer to a chosen one add nothing."""
QUALITY: Final = 85

FIRST: Final = "first sight"
CLOSEST: Final = "closest"
LAST: Final = "last view"


class Chosen(NamedTuple):
    """A picture, and why it was chosen: empty for one that fills a gap, where the scene may have changed."""

    picture: Picture
    moment: str


def choose(pictures: Sequence[Picture], importance: Mapping[int, int], most: int) -> list[Chosen]:
    """Choose at most so many pictures, in the order of their times.

    The closest view comes before the first sight and the last view; what is left of the number fills the widest gaps.

    Args:
        pictures: all there are.
        importance: of each track by its id; the closest view is of a track that matters most. 0 for others.
        most: how many may be chosen.
    """
    moments = _moments(pictures)
    if not moments or most < 1:
        return []

    def closeness(picture: Picture) -> tuple[bool, int, float, float]:
        size = picture.box.area / max(1, picture.width * picture.height)
        # In the last view the object may be gone.
        return picture.kind is not PictureKind.LAST, importance.get(picture.track_id, 0), size, picture.score

    wanted = ((max(moments, key=closeness), CLOSEST), (moments[0], FIRST), (moments[-1], LAST))
    chosen: dict[int, Chosen] = {}
    for picture, moment in wanted:
        if len(chosen) < most:
            chosen.setdefault(picture.id, Chosen(picture, moment))
    while len(chosen) < most and (between := _widest_gap(moments, chosen)):
        chosen[between.id] = Chosen(between, "")
    return sorted(chosen.values(), key=lambda choice: choice.picture.captured_at)


def _moments(pictures: Sequence[Picture]) -> list[Picture]:
    """Return one picture of each moment, in order: tracks that were best seen in the same frame share it."""
    best: dict[float, Picture] = {}
    for picture in sorted(pictures, key=lambda picture: (picture.score, picture.id)):
        best[picture.captured_at.timestamp()] = picture
    return [best[moment] for moment in sorted(best)]


def _widest_gap(moments: Sequence[Picture], chosen: Mapping[int, Chosen]) -> Picture | None:
    """Return the picture that is farthest in time from all chosen ones, if that is far enough."""

    def distance(picture: Picture) -> float:
        return min(abs((picture.captured_at - other.picture.captured_at).total_seconds()) for other in chosen.values())

    farthest = max(moments, key=distance)
    return farthest if distance(farthest) >= APART else None


class Scaled(NamedTuple):
    """A JPEG and its size in pixels."""

    jpeg: bytes
    width: int
    height: int


def scaled(jpeg: bytes, largest_side: int = LARGEST_SIDE) -> Scaled:
    """Return a picture no larger than the limit; one that fits is returned as it is. Not for the event loop.

    Raises:
        OSError: it is no picture.
    """
    with Image.open(BytesIO(jpeg)) as image:
        if max(image.size) <= largest_side:
            return Scaled(jpeg, *image.size)
        # Decoding at a half or a quarter of the size first is many times as fast.
        image.draft("RGB", (largest_side, largest_side))
        image.thumbnail((largest_side, largest_side))
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        return Scaled(buffer.getvalue(), *image.size)
