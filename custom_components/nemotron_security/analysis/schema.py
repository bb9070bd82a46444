"""The answer that a model shall give, as a JSON schema, and a reader that takes what models really answer."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
import json
import math
import re
from typing import Any, Final

from ..models import Assessment
from . import AnalysisError, AnalysisProblem

CATEGORIES: Final = ("person", "vehicle", "animal", "delivery", "visitor", "intruder", "nothing", "other")

TITLE_LENGTH: Final = 80
SUMMARY_LENGTH: Final = 300
REASONING_LENGTH: Final = 1200
EVIDENCE_LENGTH: Final = 160
EVIDENCE_ITEMS: Final = 6
ACTION_LENGTH: Final = 160
"""Characters; bounds make servers that constrain the answer end it in time."""
MOST_PICTURES: Final = 6
FRAME_MEANS: Final = "The number of the picture that shows it; 0 for a fact that no picture shows."
LONGEST_ANSWER: Final = 64 * 1024
"""Characters that are looked at."""
MOST_TRIES: Final = 200
"""Braces at which an object may begin."""
MOST_LISTS: Final = 500
"""Lists in an answer, however deep; to follow 30,000 of them into each other takes 11 ms."""

# What is seen comes first, the score after it: a model that writes in this order judges by what it wrote.
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "evidence": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "claim": {"type": "string", "maxLength": EVIDENCE_LENGTH},
                    "frame": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": MOST_PICTURES,
                        "description": FRAME_MEANS,
                    },
                },
                "required": ["claim", "frame"],
                "additionalProperties": False,
            },
            "maxItems": EVIDENCE_ITEMS,
        },
        "reasoning": {"type": "string", "maxLength": REASONING_LENGTH},
        "category": {"type": "string", "enum": list(CATEGORIES)},
        "risk_score": {"type": "integer", "minimum": 0, "maximum": 100},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "title": {"type": "string", "maxLength": TITLE_LENGTH},
        "summary": {"type": "string", "maxLength": SUMMARY_LENGTH},
        "recommended_action": {"type": "string", "maxLength": ACTION_LENGTH},
    },
    "required": [
        "evidence",
        "reasoning",
        "category",
        "risk_score",
        "confidence",
        "title",
        "summary",
        "recommended_action",
    ],
    "additionalProperties": False,
}

_THOUGHTS: Final = re.compile(r"^.*</think>", re.DOTALL | re.IGNORECASE)
_ANSWERS_AT_ONCE: Final = re.compile(r"\s*(?:```\w*\s*)?\{\s*[\"']")
_UNFINISHED_THOUGHT: Final = re.compile(r"<think>.*$", re.DOTALL | re.IGNORECASE)
_NUMBER: Final = re.compile(r"\s*([+-]?\d{1,9}(?:\.\d{1,9})?)\s*(?:/\s*100)?\s*", re.ASCII)
# Besides blanks: what ends a line on some device, turns the direction of the text around, or is half a character.
_BLANKS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_BEGINNING: Final = re.compile(r'\{\s*"')
_MEMBER: Final = re.compile(r"""\{\s*(?:["']|\w+\s*:)""")
"""An object, if perhaps none of JSON's: in talk, braces stand around other things."""
_SCORE_KEY: Final = re.compile(r'(?<!\\)"risk_score"\s*:')
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.?+)*+(?:"|\Z)|[{}\[\],]', re.DOTALL)


def in_words(schema: Mapping[str, Any]) -> str:
    """Return what tells a model the schema of its answer where its server cannot hold it to one."""
    return (
        "Answer with one JSON object and nothing else: no explanation before or after it, no code fence. It must match "
        f"this JSON schema:\n{json.dumps(schema)}"
    )


def read_answer(text: str, *, analyzer: str, model: str | None, pictures: Sequence[int | None] = ()) -> Assessment:
    """Read a model's answer: thoughts, code fences and text around it are passed over, a cut end is left out.

    Args:
        text: what the model wrote.
        analyzer: who asked it.
        model: its name.
        pictures: the ids of those that it was shown, null for one that is not stored: evidence in others is no evidence
            in a picture.

    Raises:
        AnalysisError: `BAD_ANSWER`, with what is wrong with it.
    """
    return read_values(_verdict(text), analyzer=analyzer, model=model, pictures=pictures)


def read_values(
    answer: Mapping[str, Any], *, analyzer: str, model: str | None, pictures: Sequence[int | None] = ()
) -> Assessment:
    """Read the values of an answer.

    A score that is missing, out of its range or of another scale refuses the answer; an optional value that is wrong,
    is null.

    Raises:
        AnalysisError: `BAD_ANSWER`, with what is wrong with it.
    """
    score = _score(answer.get("risk_score"))
    title = _text(answer.get("title"), TITLE_LENGTH)
    summary = _text(answer.get("summary"), SUMMARY_LENGTH)
    if not title and not summary:
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "neither title nor summary")
    return Assessment(
        analyzer=analyzer,
        model=model,
        risk_score=score,
        title=title or _shortened(summary, TITLE_LENGTH),
        summary=summary or title,
        reasoning=_text(answer.get("reasoning"), REASONING_LENGTH) or None,
        created_at=datetime.now(UTC),
        confidence=_confidence(answer.get("confidence")),
        category=_category(answer.get("category")),
        recommended_action=_text(answer.get("recommended_action"), ACTION_LENGTH) or None,
        evidence=_evidence(answer.get("evidence"), len(pictures)),
        shown=tuple(pictures),
    )


def without_thoughts(text: str) -> str:
    """Return what a model wrote after it thought aloud, of bounded length.

    What begins with an answer does not begin with thoughts: their end is then something that the answer quotes.
    """
    text = text[:LONGEST_ANSWER]
    return _UNFINISHED_THOUGHT.sub("", text if _ANSWERS_AT_ONCE.match(text) else _THOUGHTS.sub("", text))


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text; bounded in time whatever a model repeats for ever."""
    return (item for item, _ in _objects(text) if item is not None)


def _objects(text: str) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Yield the JSON objects in a text with their words; null for one that began and broke."""
    if text.count("[") > MOST_LISTS:
        return
    decoder = json.JSONDecoder()
    end = 0
    for _ in range(MOST_TRIES):
        if (start := text.find("{", end)) < 0:
            return
        try:
            item, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as err:
            if _MEMBER.match(text, start):
                yield None, ""
            # On where it broke, not at the next brace: nested ones would be read again and again.
            end = max(start + 1, err.pos)
        except ValueError:  # a number of more digits than Python reads
            return
        except RecursionError:
            return
        else:
            yield item, text[start:end]


def first_object(text: str) -> dict[str, Any]:
    """Return the first JSON object that a model wrote; empty if it wrote none."""
    return next(objects(without_thoughts(text)), {})


def _verdict(text: str) -> Mapping[str, Any]:
    """Return the one object that holds a score.

    Raises:
        AnalysisError: there is none; or there are several that disagree, or there were, as when a model repeats what it
            read: the object that can be read may be a piece of paper's in the picture, and the model's own broken.
    """
    text = without_thoughts(text)
    found: list[tuple[dict[str, Any], str]] = []
    broken = False
    for item, words in _objects(text):
        if item is not None and "risk_score" in (verdict := _unwrapped(item)):
            found.append((verdict, words))
        elif item is None and not found:
            broken = True
    if not found:
        rest, words = _without_cut_end(text)
        if "risk_score" not in rest:
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no JSON object with a risk score")
        found, broken = [(rest, words)], False
    (first, _), *others = found
    alike = all(other["risk_score"] == first["risk_score"] for other, _ in others)
    alone = all(len(_SCORE_KEY.findall(words)) <= 1 for _, words in found)
    elsewhere = _scores(text) > sum(_scores(words) for _, words in found)
    if broken or elsewhere or not (alike and alone):
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "several verdicts")
    return first


def _scores(text: str) -> int:
    """Return how often a text speaks of a score by the name of its key."""
    return text.lower().count("risk_score")


def _unwrapped(item: dict[str, Any]) -> dict[str, Any]:
    """Return the object inside one like `{"answer": {...}}`."""
    values = list(item.values())
    return values[0] if len(values) == 1 and isinstance(values[0], dict) else item


def _without_cut_end(text: str) -> tuple[dict[str, Any], str]:
    """Return the members of an object whose end was cut off, without the last one, which may be cut itself, and words.

    These are the object's to where it was cut.
    """
    if (beginning := _BEGINNING.search(text)) is None:
        return {}, ""
    start, depth, whole = beginning.start(), 0, 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in "{[":
            depth += 1
        elif token[0] in "}]":
            depth -= 1
        elif token[0] == "," and depth == 1:
            whole = token.start()
        if depth == 0:
            return {}, ""
    try:
        item = json.loads(f"{text[start:whole]}}}") if whole else {}
    except ValueError, RecursionError:
        return {}, ""
    return (item, text[start:whole]) if isinstance(item, dict) else ({}, "")


def _score(value: object) -> int:
    number = number_of(value)
    if number is None or not 0 <= number <= 100:  # noqa: PLR2004
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the risk score is no number from 0 to 100")
    if 0 < number < 1:
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the risk score is of another scale")
    return math.floor(number + 0.5)


def number_of(value: object) -> float | None:
    """Return a finite number, also one in a string such as "85" or "85/100"."""
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        value = float(match[1])
    # JSON's integers have no bounds, and those beyond a float's raise.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:  # noqa: PLR2004
        return None
    return float(value) if math.isfinite(value) else None


def _confidence(value: object) -> float | None:
    number = number_of(value)
    return number if number is not None and 0 <= number <= 1 else None


def _category(value: object) -> str | None:
    category = _text(value, TITLE_LENGTH).lower()
    return category if category in CATEGORIES else None


def _evidence(value: object, pictures: int) -> tuple[str, ...]:
    """Return each claim, after the number of the picture that shows it."""
    items = value if isinstance(value, list) else [value]
    texts = (_claim(item, pictures) for item in items[:EVIDENCE_ITEMS])
    return tuple(text for text in texts if text)


def _claim(item: object, pictures: int) -> str:
    if not isinstance(item, dict):
        return _text(item, EVIDENCE_LENGTH)
    claim, frame = _text(item.get("claim"), EVIDENCE_LENGTH), number_of(item.get("frame"))
    if not claim or frame is None or frame not in range(1, pictures + 1):
        return claim
    return f"Picture {frame:.0f}: {claim}"


def _text(value: object, length: int) -> str:
    """Return one line of bounded length; empty for what is no text."""
    return _shortened(_BLANKS.sub(" ", value).strip(), length) if isinstance(value, str) else ""


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
