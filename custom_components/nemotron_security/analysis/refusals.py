"""What servers of chat completions mean when they refuse a question: by the status of the answer and by its words."""

from collections.abc import Mapping
from http import HTTPStatus
import re
from typing import Final

from . import AnalysisError, AnalysisProblem, SchemaRefusedError, TooLongError, TooManyPicturesError

DETAIL_LENGTH: Final = 200
LONGEST_REFUSAL: Final = 2000
"""Characters of what a server says that are looked at."""

_PROBLEMS: Final = {
    HTTPStatus.UNAUTHORIZED: AnalysisProblem.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: AnalysisProblem.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED: AnalysisProblem.NO_CREDIT,
    HTTPStatus.NOT_FOUND: AnalysisProblem.MODEL_NOT_FOUND,
    HTTPStatus.TOO_MANY_REQUESTS: AnalysisProblem.RATE_LIMITED,
    HTTPStatus.REQUEST_TIMEOUT: AnalysisProblem.BUSY,
    HTTPStatus.CONFLICT: AnalysisProblem.BUSY,
    HTTPStatus.TOO_EARLY: AnalysisProblem.BUSY,
    HTTPStatus.INTERNAL_SERVER_ERROR: AnalysisProblem.SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED: AnalysisProblem.SERVER_ERROR,
}

# What servers that answer 400 say of a key: OpenAI and those like it, Google.
_KEY: Final = re.compile(
    r"(?:invalid|incorrect|wrong|missing|expired|no)[ _]api[ _-]?key|"
    r"api[ _-]?key.{0,40}(?:invalid|incorrect|not valid|expired|missing)|authentication_error",
    re.IGNORECASE,
)
_NO_CREDIT: Final = re.compile(r"insufficient_(?:quota|credits?|balance)", re.IGNORECASE)

# What servers say of a question that is too long, and how they name its length and the context's: vLLM and NIM,
# SGLang, TensorRT-LLM, llama.cpp, LM Studio, Ollama, OpenAI.
_TOO_LONG: Final = re.compile(
    r"context.?(?:length|size|window)|(?:maximum|max)[ _](?:model[ _])?(?:length|len)\b|max_(?:seq_len|num_tokens)|"
    r"n_ctx|prompt.{0,40}too long|too many tokens",
    re.IGNORECASE,
)
_CONTEXT: Final = re.compile(
    r"(?:context (?:length|size|window)|max_model_len|model length|n_ctx)\D{0,20}?(\d{3,7})\b", re.IGNORECASE
)
_TOKENS: Final = re.compile(
    r"\b(\d{3,7})(?: tokens?)? in the messages|(?:prompt|input|request) \((?:total )?(?:length )?(\d{3,7})|"
    r"\b(\d{3,7}) input tokens|keep the first (\d{3,7}) tokens|n_keep: (\d{3,7})",
    re.IGNORECASE,
)
# How vLLM says how many pictures it takes, today and before.
_MOST_PICTURES: Final = re.compile(r"at most (\d{1,3}) image|set [`']?image[`']?=(\d{1,3})\b", re.IGNORECASE)
# What servers call the schema of an answer: OpenAI's API, vLLM and its backends, SGLang, llama.cpp.
_SCHEMA: Final = re.compile(
    r"json.?schema|response.?format|structured.?output|guided|grammar|maxlength|maxitems", re.IGNORECASE
)
_QUESTION_STATUSES: Final = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
}


def refusal(status: int, answer: object, *, key: str = "", retry_after: float | None = None) -> AnalysisError:
    """Return the error that a server means.

    Args:
        status: of its answer.
        answer: what it says, as far as it is JSON.
        key: ours, which some servers repeat: it is taken out.
        retry_after: the seconds that it asks us to wait.
    """
    members, words = _members(answer), _words(answer, key)
    told = f"{members.get('type')} {members.get('code')} {words}"
    problem = _problem(status, told)
    detail = _detail(status, "" if problem is AnalysisProblem.UNAUTHORIZED else words)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # often of a proxy before the server: its pictures weigh too much
        return TooLongError(detail)
    if status in _QUESTION_STATUSES and problem is not AnalysisProblem.UNAUTHORIZED:
        if found := _MOST_PICTURES.search(words):
            return TooManyPicturesError(detail, most=int(found[1] or found[2]))
        if _TOO_LONG.search(told):
            return _too_long(members, words, detail)
        if _SCHEMA.search(told):
            return SchemaRefusedError(detail)
    return AnalysisError(problem, detail, retry_after=retry_after)


def hidden_refusal(answer: Mapping[str, object], *, key: str = "") -> AnalysisError | None:
    """Return the error that an answer with the status 200 holds instead of what was asked for; null if it holds none.

    Routers that had begun to answer, or that ask other servers, say so only there.
    """
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    holder = answer if first is None else first
    error = holder.get("error") if isinstance(holder, dict) else None
    if not error:
        return None
    code = str(error.get("code")) if isinstance(error, dict) else ""
    if re.fullmatch(r"[45]\d\d", code, re.ASCII):
        return refusal(int(code), {"error": error}, key=key)
    return AnalysisError(AnalysisProblem.BAD_ANSWER, _detail(HTTPStatus.OK, _words({"error": error}, key)))


def _problem(status: int, told: str) -> AnalysisProblem:
    if status == HTTPStatus.BAD_REQUEST and _KEY.search(told):
        return AnalysisProblem.UNAUTHORIZED
    if status == HTTPStatus.TOO_MANY_REQUESTS and _NO_CREDIT.search(told):  # it would not pass by waiting
        return AnalysisProblem.NO_CREDIT
    if status in _PROBLEMS:
        return _PROBLEMS[HTTPStatus(status)]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return AnalysisProblem.BUSY
    return AnalysisProblem.BAD_REQUEST if status >= HTTPStatus.BAD_REQUEST else AnalysisProblem.BAD_ANSWER


def _members(answer: object) -> dict[str, object]:
    """Return the object in which a server says what is wrong; empty if there is none."""
    if not isinstance(answer, dict):
        return {}
    error = answer.get("error")
    return error if isinstance(error, dict) else answer


def _words(answer: object, key: str) -> str:
    """Return what a server says is wrong, without our key; empty if that is not understood."""
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer.get("message", answer.get("detail")))
    words = error.get("message") if isinstance(error, dict) else error
    if not isinstance(words, str):
        return ""
    return (words.replace(key, "***") if key else words)[:LONGEST_REFUSAL]


def _detail(status: int, words: str) -> str:
    said = " ".join(words.split())[:DETAIL_LENGTH]
    return f"HTTP {status}: {said}" if said else f"HTTP {status}"


def _too_long(members: dict[str, object], words: str, detail: str) -> TooLongError:
    told = _TOKENS.search(words)
    return TooLongError(
        detail,
        tokens=_count(members.get("n_prompt_tokens"), next(filter(None, told.groups()), None) if told else None),
        context_length=_count(members.get("n_ctx"), found[1] if (found := _CONTEXT.search(words)) else None),
    )


def _count(member: object, words: str | None) -> int | None:
    """Return a number that an answer tells by itself (llama.cpp), or in words."""
    if type(member) is int and member > 0:
        return member
    return int(words) if words else None
