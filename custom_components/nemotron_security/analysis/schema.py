"""The answer that a model shall give, as a JSON schema, and a reader that takes what models really answer."""

from collections.abc import Iterator
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
LONGEST_ANSWER: Final = 64 * 1024
"""Characters that are looked at."""
MOST_TRIES: Final = 200
"""Braces at which an object may begin."""

# What is seen comes first, the score after it: a model that writes in this order judges by what it wrote.
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "evidence": {
            "type": "array",
            "items": {"type": "string", "maxLength": EVIDENCE_LENGTH},
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
_UNFINISHED_THOUGHT: Final = re.compile(r"<think>.*$", re.DOTALL | re.IGNORECASE)
_NUMBER: Final = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*(?:/\s*100)?\s*")
_BLANKS: Final = re.compile(r"[\s\x00-\x1f\x7f]+")


def read_answer(text: str, *, analyzer: str, model: str | None) -> Assessment:
    """Read a model's answer: thoughts, code fences and text around it are passed over.

    A score that is missing or out of its range refuses the answer; an optional value that is, is null.

    Raises:
        AnalysisError: `BAD_ANSWER`, with what is wrong with it.
    """
    answer = _answer(text)
    score = _number(answer.get("risk_score"))
    if score is None or not 0 <= score <= 100:  # noqa: PLR2004
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the risk score is no number from 0 to 100")
    title = _text(answer.get("title"), TITLE_LENGTH)
    summary = _text(answer.get("summary"), SUMMARY_LENGTH)
    if not title and not summary:
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "neither title nor summary")
    return Assessment(
        analyzer=analyzer,
        model=model,
        risk_score=math.floor(score + 0.5),
        title=title or _shortened(summary, TITLE_LENGTH),
        summary=summary or title,
        reasoning=_text(answer.get("reasoning"), REASONING_LENGTH) or None,
        created_at=datetime.now(UTC),
        confidence=_confidence(answer.get("confidence")),
        category=_category(answer.get("category")),
        recommended_action=_text(answer.get("recommended_action"), ACTION_LENGTH) or None,
        evidence=_evidence(answer.get("evidence")),
    )


def _answer(text: str) -> dict[str, Any]:
    """Return the first JSON object that holds a score; what a model thought aloud before it does not count."""
    text = _UNFINISHED_THOUGHT.sub("", _THOUGHTS.sub("", text[:LONGEST_ANSWER]))
    found = next((item for item in _objects(text) if "risk_score" in item), None)
    if found is None:
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no JSON object with a risk score")
    return found


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text; bounded in time whatever a model repeats for ever."""
    decoder = json.JSONDecoder()
    end = 0
    for _ in range(MOST_TRIES):
        if (start := text.find("{", end)) < 0:
            return
        try:
            item, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as err:
            # On where it broke, not at the next brace: nested ones would be read again and again.
            end = max(start + 1, err.pos)
        except RecursionError:
            return
        else:
            yield item


def _number(value: object) -> float | None:
    """Return a finite number, also one in a string such as "85" or "85/100"."""
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        value = float(match[1])
    # JSON's integers have no bounds, and those beyond a float's raise.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:  # noqa: PLR2004
        return None
    return float(value) if math.isfinite(value) else None


def _confidence(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None


def _category(value: object) -> str | None:
    category = _text(value, TITLE_LENGTH).lower()
    return category if category in CATEGORIES else None


def _evidence(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    texts = (_text(item, EVIDENCE_LENGTH) for item in items[:EVIDENCE_ITEMS])
    return tuple(text for text in texts if text)


def _text(value: object, length: int) -> str:
    """Return one line of bounded length; empty for what is no text."""
    return _shortened(_BLANKS.sub(" ", value).strip(), length) if isinstance(value, str) else ""


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
