"""Asks a NVIDIA Nemotron, or any other model, behind any server that speaks OpenAI's chat completions."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
import json
import logging
from typing import Any, Final

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from ..models import Assessment
from . import AnalysisError, AnalysisProblem, Case, KeyFrame
from .prompt import messages
from .schema import SCHEMA, read_answer

_LOGGER = logging.getLogger(__name__)

NAME: Final = "nemotron"

ANSWER_TOKENS: Final = 2048
ANSWER_TIME: Final = ClientTimeout(total=120, sock_connect=10)
PROBE_TIME: Final = ClientTimeout(total=10)
LARGEST_ANSWER: Final = 1024 * 1024
"""Bytes; more is no answer to what we ask."""
DETAIL_LENGTH: Final = 200

_PROBLEMS: Final = {
    HTTPStatus.UNAUTHORIZED: AnalysisProblem.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: AnalysisProblem.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND: AnalysisProblem.MODEL_NOT_FOUND,
    HTTPStatus.TOO_MANY_REQUESTS: AnalysisProblem.RATE_LIMITED,
    HTTPStatus.REQUEST_TIMEOUT: AnalysisProblem.SERVER_ERROR,
}


class NemotronAnalyzer:
    """Judges incidents with a model behind an OpenAI-compatible server: NIM, vLLM, llama.cpp, Ollama, LM Studio."""

    def __init__(self, session: ClientSession, url: str, model: str, api_key: str | None = None) -> None:
        """Prepare; nothing is asked yet.

        Args:
            session: the session to ask with; it stays the caller's.
            url: the server, with or without `/v1`. May hold credentials: it is never logged.
            model: the model's name at that server.
            api_key: sent as bearer token; never logged.
        """
        self._session = session
        self._base = _base(url)
        self._model = model
        self._key = (api_key or "").strip()

    @property
    def name(self) -> str:
        """What `Assessment.analyzer` says."""
        return NAME

    async def async_probe(self) -> list[str]:
        """Return the names of the models that the server offers.

        Raises:
            AnalysisError: it cannot be reached, refuses the key, or does not speak the API.
        """
        answer = await self._async_ask("GET", "models", None, PROBE_TIME)
        models = answer.get("data")
        if not isinstance(models, list):
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no list of models")
        names = [model.get("id") for model in models if isinstance(model, dict)]
        return [name for name in names if isinstance(name, str)]

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        """Judge an incident; a server that refuses the pictures is asked once more without them.

        Raises:
            AnalysisError: no assessment could be had.
        """
        try:
            return await self._async_assess(case, pictures)
        except AnalysisError as err:
            if not pictures or err.kind not in {AnalysisProblem.BAD_REQUEST, AnalysisProblem.SERVER_ERROR}:
                raise
            _LOGGER.debug("Asking again without pictures: %s", err)
        return await self._async_assess(case, ())

    async def _async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        # Pictures make the request a megabyte: turning it into text would hold up the event loop for milliseconds.
        body = await asyncio.to_thread(self._body, case, pictures)
        answer = await self._async_ask("POST", "chat/completions", body, ANSWER_TIME)
        text, finished = _content(answer)
        try:
            return read_answer(text, analyzer=NAME, model=self._model)
        except AnalysisError as err:
            if finished:
                raise
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the answer was cut off") from err

    def _body(self, case: Case, pictures: Sequence[KeyFrame]) -> bytes:
        request = {
            "model": self._model,
            "messages": messages(case, pictures),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "assessment", "strict": True, "schema": SCHEMA},
            },
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
        }
        return json.dumps(request).encode()

    async def _async_ask(self, method: str, path: str, body: bytes | None, limits: ClientTimeout) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            # A redirect would carry the key elsewhere.
            async with self._session.request(
                method, f"{self._base}/{path}", data=body, headers=headers, timeout=limits, allow_redirects=False
            ) as response:
                content = await _async_read(response)
                status, retry_after = response.status, _retry_after(response)
        except (ClientError, TimeoutError, OSError, ValueError) as err:
            # The error's own text may name the URL, which may hold credentials; so it is not chained either.
            raise AnalysisError(AnalysisProblem.UNREACHABLE, type(err).__name__) from None
        answer = _json(content)
        if status != HTTPStatus.OK:
            raise AnalysisError(_problem(status), self._detail(status, answer), retry_after=retry_after)
        if not isinstance(answer, dict):
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no JSON object")
        return answer

    def _detail(self, status: int, answer: object) -> str:
        """Return what the server says is wrong, without our key, which some servers repeat."""
        if _problem(status) is AnalysisProblem.UNAUTHORIZED:
            return f"HTTP {status}"
        error = answer.get("error", answer.get("message")) if isinstance(answer, dict) else None
        words = error.get("message") if isinstance(error, dict) else error
        if not isinstance(words, str):
            return f"HTTP {status}"
        if self._key:
            words = words.replace(self._key, "***")
        return f"HTTP {status}: {' '.join(words.split())[:DETAIL_LENGTH]}"


def _base(url: str) -> str:
    base = url.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


async def _async_read(response: ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "far too long")
    return bytes(content)


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError, RecursionError:
        return None


def _problem(status: int) -> AnalysisProblem:
    if status in _PROBLEMS:
        return _PROBLEMS[HTTPStatus(status)]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return AnalysisProblem.SERVER_ERROR
    return AnalysisProblem.BAD_REQUEST if status >= HTTPStatus.BAD_REQUEST else AnalysisProblem.BAD_ANSWER


def _retry_after(response: ClientResponse) -> float | None:
    """Return the seconds that the server asks us to wait: given as such or as a date."""
    wish = response.headers.get("Retry-After", "")
    if wish.strip().isdecimal():
        return float(wish)
    try:
        seconds = (parsedate_to_datetime(wish) - datetime.now(UTC)).total_seconds()
    except ValueError, TypeError:
        return None
    return max(0.0, seconds)


def _content(answer: dict[str, Any]) -> tuple[str, bool]:
    """Return the text of the first choice, and whether the model came to its end."""
    try:
        choice = answer["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except KeyError, IndexError, TypeError, AttributeError:
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no choice") from None
    if isinstance(text, str):
        return text, reason != "length"
    raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the answer was cut off" if reason == "length" else "no text")
