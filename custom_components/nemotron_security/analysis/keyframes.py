"""Which pictures of an incident a model is shown: few, in their order, each for what it adds."""

from collections.abc import Mapping, Sequence
import contextlib
from io import BytesIO
from typing import Final, NamedTuple

from PIL import Image, ImageChops, ImageStat

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
SCENE_CHANGE: Final = "scene change"

MOST_COMPARED: Final = 12
"""Pictures that are looked at for changes; each takes one to three milliseconds."""
THUMBNAIL: Final = (64, 36)
"""Pixels; a person who fills a tenth of the height is about 2 by 4 of them."""
MEAN, DEVIATION = 128, 32
"""Of the grey levels of a thumbnail."""
FLATTEST: Final = 8.0
"""A standard deviation of fewer grey levels is taken for this many: else the noise of a foggy picture were changes."""
DIFFERENT: Final = DEVIATION // 2
"""Grey levels from which on a pixel is another."""
CHANGED: Final = 0.005
"""Share of the pixels from which on the scene is another."""


class Chosen(NamedTuple):
    """A picture, and why it was chosen: empty for one that fills a gap in time."""

    picture: Picture
    moment: str


def candidates(pictures: Sequence[Picture], importance: Mapping[int, int], most: int) -> list[Picture]:
    """Return the pictures that may be chosen: of very many, some of all times, besides those that are chosen anyway."""
    moments = _moments(pictures)
    wanted = _wanted(moments, importance, most)
    if len(wanted) >= most:
        return [choice.picture for choice in wanted.values()]
    if len(moments) <= most:
        return moments
    others = [picture for picture in moments if picture.id not in wanted]
    step = max(1.0, len(others) / MOST_COMPARED)
    compared = [others[int(number * step)] for number in range(min(len(others), MOST_COMPARED))]
    return [*(choice.picture for choice in wanted.values()), *compared]


def choose(
    pictures: Sequence[Picture], importance: Mapping[int, int], most: int, jpegs: Mapping[int, bytes]
) -> list[Chosen]:
    """Choose at most so many pictures, in the order of their times. Not for the event loop.

    The closest view comes before the first sight and the last view; then those in which the scene changed most from all
    that are chosen, as long as one did; what is left of the number fills the widest gaps in time.

    Where all may be chosen, none is compared: it would cost more time than all else that is done for a verdict.

    Args:
        pictures: what `candidates` gives.
        importance: of each track by its id; the closest view is of a track that matters most. 0 for others.
        most: how many may be chosen.
        jpegs: of the pictures, by their ids; what is missing or damaged is not compared.
    """
    moments = _moments(pictures)
    chosen = _wanted(moments, importance, most)
    if len(chosen) < most < len(moments):
        thumbnails = {}
        for picture in moments:
            with contextlib.suppress(KeyError, OSError):
                thumbnails[picture.id] = thumbnail(jpegs[picture.id])
        while len(chosen) < most and (changed := _most_changed(moments, chosen, thumbnails)):
            chosen[changed.id] = Chosen(changed, SCENE_CHANGE)
    while len(chosen) < most and (between := _widest_gap(moments, chosen)):
        chosen[between.id] = Chosen(between, "")
    return sorted(chosen.values(), key=lambda choice: choice.picture.captured_at)


def _wanted(moments: Sequence[Picture], importance: Mapping[int, int], most: int) -> dict[int, Chosen]:
    """Return what is shown in any case, by the pictures' ids."""
    if not moments or most < 1:
        return {}

    def closeness(picture: Picture) -> tuple[bool, int, float, float]:
        size = picture.box.area / max(1, picture.width * picture.height)
        # In the last view the object may be gone.
        return picture.kind is not PictureKind.LAST, importance.get(picture.track_id, 0), size, picture.score

    wanted = ((max(moments, key=closeness), CLOSEST), (moments[0], FIRST), (moments[-1], LAST))
    chosen: dict[int, Chosen] = {}
    for picture, moment in wanted:
        if len(chosen) < most:
            chosen.setdefault(picture.id, Chosen(picture, moment))
    return chosen


def _moments(pictures: Sequence[Picture]) -> list[Picture]:
    """Return one picture of each moment, in order: tracks that were best seen in the same frame share it."""
    best: dict[float, Picture] = {}
    for picture in sorted(pictures, key=lambda picture: (picture.score, picture.id)):
        best[picture.captured_at.timestamp()] = picture
    return [best[moment] for moment in sorted(best)]


def _most_changed(
    moments: Sequence[Picture], chosen: Mapping[int, Chosen], thumbnails: Mapping[int, Image.Image]
) -> Picture | None:
    """Return the picture that differs most from the chosen one that is most like it, if it differs."""
    shown = [thumbnails[picture_id] for picture_id in chosen if picture_id in thumbnails]
    if not shown:
        return None

    def difference(picture: Picture) -> float:
        return min(change(thumbnails[picture.id], other) for other in shown)

    others = [picture for picture in moments if picture.id in thumbnails and _distance(picture, chosen) >= APART]
    changed = max(others, key=difference, default=None)
    return changed if changed is not None and difference(changed) >= CHANGED else None


def _widest_gap(moments: Sequence[Picture], chosen: Mapping[int, Chosen]) -> Picture | None:
    """Return the picture that is farthest in time from all chosen ones, if that is far enough."""
    if not chosen:
        return None
    farthest = max(moments, key=lambda picture: _distance(picture, chosen))
    return farthest if _distance(farthest, chosen) >= APART else None


def _distance(picture: Picture, chosen: Mapping[int, Chosen]) -> float:
    """Return the seconds to the nearest of the chosen pictures."""
    return min(abs((picture.captured_at - other.picture.captured_at).total_seconds()) for other in chosen.values())


def thumbnail(jpeg: bytes) -> Image.Image:
    """Return a picture small, grey, and of the same brightness and contrast as all: a lamp or a cloud is no change.

    Raises:
        OSError: it is no picture.
    """
    with Image.open(BytesIO(jpeg)) as image:
        image.draft("L", (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))  # the decoder makes it up to an eighth of its size
        small = image.convert("L").resize(THUMBNAIL, Image.Resampling.BOX)
    statistics = ImageStat.Stat(small)
    mean, contrast = statistics.mean[0], DEVIATION / max(FLATTEST, statistics.stddev[0])
    return small.point([min(255, max(0, round(MEAN + (level - mean) * contrast))) for level in range(256)])


def change(one: Image.Image, other: Image.Image) -> float:
    """Return which share of the pixels of two thumbnails differs, 0 to 1.

    The pair-wise comparison of pixels by which Zhang, Kankanhalli and Smoliar find where a film's scene changes
    ("Automatic partitioning of full-motion video", Multimedia Systems 1, 1993, section 2.1). That the pictures' mean
    and deviation are made equal before is the normalisation of zero-mean normalised cross-correlation.
    """
    histogram = ImageChops.difference(one, other).histogram()
    return sum(histogram[DIFFERENT:]) / sum(histogram)


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
