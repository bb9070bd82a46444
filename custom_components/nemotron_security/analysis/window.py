"""How much a model takes: what its server tells of its context, and what is learnt of it while the model is in use.

Nobody but the server can count tokens. So they are estimated high, each answer that says how many the question had
corrects the estimate, and a question that is refused as too long makes the next ones shorter.
"""

from itertools import product
import math
from typing import Final, NamedTuple

from . import TooLongError

ANSWER_TOKENS: Final = 2048
THINKING_TOKENS: Final = 8192
"""Of an answer with thoughts before it, once one was cut off."""
LEAST_ANSWER: Final = 512
"""Tokens; an answer without thoughts takes about 400."""
BYTES_PER_TOKEN: Final = 3.0
"""Of UTF-8. English prose has 4 to 5; names, numbers, times, and scripts that tokenizers know less, about 3."""
MOST_BYTES_PER_TOKEN: Final = 5.0

TILE: Final = 448
TILE_TOKENS: Final = 256
MOST_TILES: Final = 12
TOKEN_SIDE: Final = 28
"""Pixels."""
SHRINK: Final = 0.6
"""After a refusal that does not tell why our count was wrong, a question has this share of the refused one's tokens."""
LEAST_SCALE: Final = 0.05

_SHAPES: Final = [(across, down) for across, down in product(range(1, 13), repeat=2) if across * down <= MOST_TILES]


class Size(NamedTuple):
    """What of a question takes room."""

    text_bytes: int
    picture_tokens: int
    """By `picture_tokens`, before any correction."""


def picture_tokens(width: int, height: int) -> int:
    """Return how many tokens a picture takes at most with the models that are usual; sizes in pixels.

    The larger of two ways to count. NVIDIA's Nemotron VL and InternVL cut a picture into at most 12 tiles, in the
    arrangement whose shape is closest to the picture's (of several that are, the largest of whose pixels the picture
    has more than half), add the whole as one more tile, and take 256 tokens a tile: InternVL 1.5 (arXiv 2404.16821,
    section 3.3), as vLLM's `nano_nemotron_vl` and `get_internvl_target_ratios` count. A tile has 512 pixels a side for
    Nemotron Nano v2 VL and 448 for InternVL; the smaller one gives the larger number. Qwen's VL and many others take a
    token for each 28x28 pixels: Qwen2-VL (arXiv 2409.12191, section 2.1).
    """
    shape = width / max(1, height)
    nearest = min(abs(shape - across / down) for across, down in _SHAPES)
    fitting = [across * down for across, down in _SHAPES if abs(shape - across / down) - nearest < 1e-9]  # noqa: PLR2004
    tiles = max((count for count in fitting if 2 * width * height > TILE * TILE * count), default=min(fitting))
    tiled = TILE_TOKENS * (tiles + 1 if tiles > 1 else 1)
    return max(tiled, math.ceil(width / TOKEN_SIDE) * math.ceil(height / TOKEN_SIDE))


def answer_tokens(context_length: int | None, *, thinks: bool = False) -> int:
    """Return how many tokens an answer may have: of a small context, a quarter is kept for it."""
    most = THINKING_TOKENS if thinks else ANSWER_TOKENS
    return most if context_length is None else min(most, max(LEAST_ANSWER, context_length // 4))


class Show(NamedTuple):
    """How much of the pictures a model is shown."""

    most: int
    side: int | None = None
    """Pixels of the longer side at most; null for as large as fits."""


ALL: Final = Show(1000)
LIMITED_FOR: Final = 20
"""Questions after which a server that refused pictures is shown all of them again: it may have been started anew."""


class Window:
    """What is known of how much one model takes."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._listed: int | None = None
        """The context as the server's list tells it; `_told` as a refusal did."""
        self._told: int | None = None
        self._most = math.inf
        """Tokens of a question by our estimate; more was refused."""
        self._text_scale = self._picture_scale = 1.0
        """Tokens for each that was estimated. The text's never falls."""
        self._measured = False
        """Whether the pictures' comes from the server: then it is the most that was seen, and does not fall either."""
        self.thinks = False
        """Whether an answer was cut off for its thoughts."""
        self.show = ALL
        self._limited_for = 0

    def follow(self, listed: int | None) -> None:
        """Forget what was refused when the server lists another context: it was started with other settings."""
        if listed != self._listed:
            self._listed, self._told, self._most, self.show = listed, None, math.inf, ALL

    @property
    def context_length(self) -> int | None:
        """Tokens of a question and its answer together; null when nobody told."""
        return min((length for length in (self._listed, self._told) if length is not None), default=None)

    @property
    def room(self) -> float:
        """Tokens that a question may have; infinity when nothing is known."""
        if (length := self.context_length) is None:
            return self._most
        return min(self._most, length - self.answer_tokens)

    @property
    def answer_tokens(self) -> int:
        """Tokens that an answer may have."""
        return answer_tokens(self.context_length, thinks=self.thinks)

    def tokens(self, size: Size) -> float:
        """Return how many tokens a question takes."""
        return self._text_scale * size.text_bytes / BYTES_PER_TOKEN + self._picture_scale * size.picture_tokens

    def answered(self, size: Size, told: int | None) -> None:
        """Correct the estimate by the tokens of a question that the server counted, if it did."""
        self._limited_for -= 1
        if self._limited_for <= 0:
            self.show = ALL
        if not told:
            return
        self._raise_scales(size, told)
        if size.picture_tokens:
            # Text takes this much at least; what is left is at most the pictures'.
            seen = max(LEAST_SCALE, (told - size.text_bytes / MOST_BYTES_PER_TOKEN) / size.picture_tokens)
            self._picture_scale = max(self._picture_scale, seen) if self._measured else seen
            self._measured = True

    def limit(self, show: Show) -> None:
        """Take note that the server took no more than this: it is shown no more for some questions."""
        self.show, self._limited_for = show, LIMITED_FOR

    def refused(self, size: Size, error: TooLongError) -> None:
        """Take note that a question was too long: from now on they are shorter."""
        if error.tokens:
            self._raise_scales(size, error.tokens)
        if error.context_length:
            self._told = error.context_length
        if (tokens := self.tokens(size)) <= self.room:
            self._most = SHRINK * tokens

    def _raise_scales(self, size: Size, told: int) -> None:
        if told > (estimate := self.tokens(size)) > 0:
            self._text_scale *= told / estimate
            self._picture_scale *= told / estimate
            self._measured |= size.picture_tokens > 0
