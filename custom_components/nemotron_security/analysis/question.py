"""What a model is asked of an incident: as much of the facts and of the pictures as fits into its context."""

from collections.abc import Iterator, Sequence
import contextlib
from dataclasses import replace
from typing import Any, Final, NamedTuple

from . import Capabilities, Case, KeyFrame
from .keyframes import CLOSEST, FIRST, LARGEST_SIDE, LAST, SCENE_CHANGE, scaled
from .prompt import SYSTEM, facts, messages
from .rules import importance
from .schema import SCHEMA, in_words
from .window import Show, Size, Window, picture_tokens

CAPTION_TOKENS: Final = 40
"""What a picture takes besides itself: its caption, and the signs around it."""
SIDES: Final = (LARGEST_SIDE, 1024, 768)
"""Pixels of a picture's longer side, tried in this order before a picture is left out."""
SMALL_SIDES: Final = (640, 448)
"""Tried when one picture only is left."""
MOST_FOR_FACTS: Final = 0.6
"""Share of the room that the facts may take before the least of them are left out, for the pictures' sake."""
FEW_TRACKS: Final = (8, 4)

_PRIORITY: Final = (CLOSEST, FIRST, LAST, SCENE_CHANGE)


class Question(NamedTuple):
    """What a model is asked."""

    messages: list[dict[str, Any]]
    case: Case
    pictures: list[KeyFrame]
    """Those that are shown, as large as they are."""
    size: Size


def question(
    case: Case, pictures: Sequence[KeyFrame], able: Capabilities, window: Window, show: Show | None = None
) -> Question:
    """Return what a model is asked. Not for the event loop.

    Of the pictures so much is shown as `show` says, or else as the window does.
    Pictures get smaller, down to 768 pixels, before one is left out: those that fill gaps first, then scene changes,
    the last view, the first sight. The closest view, when it is alone, may get smaller still.
    """
    show = show or window.show
    shown = _most_telling(pictures, show.most) if able.images else []
    frame = SYSTEM if able.schema else SYSTEM + in_words(SCHEMA)
    for fitting in leaner(case):
        told = facts(fitting)
        text_bytes = len((frame + told).encode(errors="replace"))
        tokens = window.tokens(Size(text_bytes, 0))
        if tokens <= window.room * (MOST_FOR_FACTS if shown else 1):
            break
    shown = list(_fitting(shown, window, window.room - tokens, show.side))
    size = Size(text_bytes, sum(_tokens(picture) for picture in shown))
    return Question(messages(fitting, shown, told), fitting, shown, size)


def leaner(case: Case) -> Iterator[Case]:
    """Yield the case, then with less and less of what matters least; the most important tracks stay."""
    yield case
    yield (case := replace(case, earlier=case.earlier[:2], feedback=case.feedback[:2]))
    yield (case := replace(case, earlier=(), feedback=case.feedback[:1]))
    house = case.house
    changed = [opening for opening in house.openings if opening.open is not False or opening.changed_at]
    yield (case := replace(case, house=replace(house, openings=tuple(changed[:6]), visits=house.visits[:2])))
    matters = importance(case.tracks)
    main = sorted(case.tracks, key=lambda track: matters[track.track_id], reverse=True)
    for most in FEW_TRACKS:
        tracks = tuple(track for track in case.tracks if track in main[:most])
        yield replace(case, tracks=tracks, more_tracks=len(case.tracks) - len(tracks))


def _fitting(
    pictures: Sequence[KeyFrame], window: Window, room: float, most_side: int | None = None
) -> Iterator[KeyFrame]:
    """Yield what of the pictures fits into so many tokens, in their order; a damaged one is left out."""
    for count in range(len(pictures), 0, -1):
        kept = _most_telling(pictures, count)
        for side in (*SIDES, *(SMALL_SIDES if count == 1 else ())):
            if most_side is not None and side > most_side:
                continue
            if window.tokens(Size(0, sum(_tokens(picture, side) for picture in kept))) <= room:
                for picture in kept:
                    with contextlib.suppress(OSError):
                        yield _resized(picture, side)
                return


def _most_telling(pictures: Sequence[KeyFrame], count: int) -> list[KeyFrame]:
    """Return so many of the pictures, in their order."""

    def priority(number: int) -> int:
        moment = pictures[number].moment
        return _PRIORITY.index(moment) if moment in _PRIORITY else len(_PRIORITY)

    chosen = sorted(range(len(pictures)), key=priority)[:count]
    return [pictures[number] for number in sorted(chosen)]


def _tokens(picture: KeyFrame, side: int = LARGEST_SIDE) -> int:
    width, height = picture.width or LARGEST_SIDE, picture.height or LARGEST_SIDE
    share = min(1.0, side / max(width, height))
    return CAPTION_TOKENS + picture_tokens(round(width * share), round(height * share))


def _resized(picture: KeyFrame, side: int) -> KeyFrame:
    if side == LARGEST_SIDE or 0 < max(picture.width, picture.height) <= side:
        return picture
    fitting = scaled(picture.jpeg, side)
    return replace(picture, jpeg=fitting.jpeg, width=fitting.width, height=fitting.height)
