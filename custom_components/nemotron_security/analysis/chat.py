"""Asks servers that speak OpenAI's chat completions: NVIDIA NIM, vLLM, SGLang, llama.cpp, Ollama, LM Studio."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
import json
from typing import Any, Final, NamedTuple, override

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, ConnectionTimeoutError
from homeassistant.helpers.json import json_bytes, json_fragment

from . import AnalysisError, AnalysisProblem, Capabilities
from .refusals import hidden_refusal, refusal
from .schema import in_words
from .window import Window

ANSWER_TIME: Final = 120.0
"""Seconds that a model may take, unless the user chose others."""
CONNECT_TIME: Final = 10.0
LIST_TIME: Final = 10.0
"""Seconds."""
LARGEST_ANSWER: Final = 128 * 1024
"""Bytes; more is no answer to what we ask, and the event loop waits while it is read."""
LARGEST_LIST: Final = 1024 * 1024
"""Bytes of a list of models, which is asked for in the set-up: some offer hundreds."""
NAME_LENGTH: Final = 200
"""Characters of a model's name."""
LONGEST_WAIT: Final = 86_400.0
"""Seconds that a server may ask us to wait."""
type Message = dict[str, Any]
"""As the API has it: a role, and a text or a list of texts and pictures."""

GREETING: Final[list[Message]] = [{"role": "user", "content": "Greet me in one word."}]
"""What any model can be asked."""

# Where the servers say how many tokens a model takes: vLLM, SGLang and NIM; others.
_CONTEXT_KEYS: Final = ("max_model_len", "context_length", "context_window", "max_context_length")


class OfferedModel(NamedTuple):
    """What a server says of a model that it offers."""

    name: str
    context_length: int | None
    """Tokens, if it is told."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered."""

    text: str
    finished: bool
    """Whether the model came to its end, or to the bound of its answer."""
    prompt_tokens: int | None = None
    """How many tokens the question had, if the server tells."""
    model: str | None = None
    """Who answered, by the server's own word."""
    thought: bool = False
    """Whether the model thought aloud before, as far as that shows."""


class ChatServer:
    """One server and the key to it."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        api_key: str | None = None,
        *,
        answer_time: Callable[[], float] = lambda: ANSWER_TIME,
        list_time: float = LIST_TIME,
        on_call: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            session: the session to ask with; it stays the caller's.
            url: the server, with or without `/v1`. May hold credentials: it is never logged.
            api_key: sent as bearer token; never logged.
            answer_time: gives the seconds that a model may take now, from the connection to the answer's end.
            list_time: seconds that the list of models may take.
            on_call: is told before each question to a model; the list is none.
        """
        self._on_call = on_call
        self._session = session
        self._base = _base(url)
        self._key = (api_key or "").strip()
        self._answer_time = answer_time
        self._list_time = list_time

    async def async_models(self) -> list[OfferedModel]:
        """Return the models that the server offers.

        Raises:
            AnalysisError: it cannot be reached, refuses the key, or gives no list.
        """
        answer = await self._async_request("GET", "models", None, self._list_time)
        models = answer.get("data")
        if not isinstance(models, list):
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no list of models")
        return [
            OfferedModel(model["id"], _context_length(model))
            for model in models
            if isinstance(model, dict) and isinstance(model.get("id"), str) and model["id"]
        ]

    async def async_complete(self, request: Callable[[], Mapping[str, Any]]) -> Completion:
        """Ask for a completion.

        Args:
            request: builds the request; called in a thread, as pictures make it a megabyte.

        Raises:
            AnalysisError: no answer could be had.
        """
        body = await asyncio.to_thread(lambda: _encoded(request()))
        self._on_call()
        return _completion(await self._async_request("POST", "chat/completions", body, self._answer_time()))

    async def _async_request(self, method: str, path: str, body: bytes | None, seconds: float) -> dict[str, Any]:
        limits = ClientTimeout(total=seconds, sock_connect=CONNECT_TIME)
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
                content = await _async_read(response, LARGEST_LIST if body is None else LARGEST_ANSWER)
                status, retry_after = response.status, _retry_after(response)
        except (ClientError, TimeoutError, OSError, ValueError) as err:
            # The error's own text may name the URL, which may hold credentials; so it is not chained either.
            late = body is not None and isinstance(err, TimeoutError) and not isinstance(err, ConnectionTimeoutError)
            kind = AnalysisProblem.NO_ANSWER if late else AnalysisProblem.UNREACHABLE
            raise AnalysisError(kind, type(err).__name__) from None
        answer = _json(content)
        if status != HTTPStatus.OK:
            raise refusal(status, answer, key=self._key, retry_after=retry_after)
        if not isinstance(answer, dict):
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no JSON object")
        if (error := hidden_refusal(answer, key=self._key)) is not None:
            raise error
        return answer


class ChatModel:
    """A model at a server, asked in the way that it was seen to understand."""

    def __init__(self, server: ChatServer, name: str, capabilities: Capabilities | None = None) -> None:
        """Name the model; without capabilities it is asked for nothing but text, with nothing but text."""
        self._server = server
        self._window = Window()
        self.name = name
        self.capabilities = capabilities or Capabilities()
        """As it was tried last: another trial may replace them while the model is in use."""

    @property
    def window(self) -> Window:
        """What is known of how much it takes. On the event loop only."""
        self._window.follow(self.capabilities.context_length)
        return self._window

    async def async_ask(
        self, messages: Callable[[], list[Message]], schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """Ask for an answer.

        Args:
            messages: builds the messages, the system's first; called in a thread.
            schema: the JSON schema of the answer. A server that does not hold an answer to a schema is told it in
                words: what comes may then be anything.

        Raises:
            AnalysisError: no answer could be had.
        """
        most = self.window.answer_tokens
        answer = await self._server.async_complete(lambda: self._request(messages(), schema, most))
        if answer.finished:
            return answer
        if answer.thought:
            self.window.thinks = True
        if not answer.text:
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the answer was cut off")
        return answer

    def _request(self, messages: list[Message], schema: Mapping[str, Any] | None, most: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.name,
            "messages": messages,
            "temperature": 0,
            "max_tokens": most,
        }
        if schema is None:
            return request
        if self.capabilities.schema:
            return request | {"response_format": response_format(schema)}
        return request | {"messages": with_schema(messages, schema)}


def with_schema(messages: list[Message], schema: Mapping[str, Any]) -> list[Message]:
    """Return the messages with the schema of the answer in words at the end of the system's."""
    system, *others = messages
    return [system | {"content": f"{system['content']}\n\n{in_words(schema)}"}, *others]


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what asks a server to hold the answer to a schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


class DataUrl:
    """A picture as the text of a `data:` URL, which is copied nowhere but into the request."""

    __slots__ = ("_json",)

    def __init__(self, data: bytes, mime_type: str) -> None:
        """Encode it. Takes some milliseconds a megabyte: not for the event loop."""
        self._json = b'%b%b"' % (json_bytes(f"data:{mime_type};base64,")[:-1], base64.b64encode(data))

    @property
    def json_fragment(self) -> Any:
        """Itself in JSON: Home Assistant's encoder asks for it."""
        return json_fragment(self._json)

    @override
    def __str__(self) -> str:
        return str(json.loads(self._json))


def picture_part(data: bytes, mime_type: str = "image/jpeg") -> dict[str, Any]:
    """Return a picture as a part of a message. Not for the event loop."""
    return {"type": "image_url", "image_url": {"url": DataUrl(data, mime_type)}}


def _encoded(request: Mapping[str, Any]) -> bytes:
    """Return a request as JSON."""
    try:
        return json_bytes(request)  # for a megabyte of pictures Python's own takes longer, and the loop waits for it
    except TypeError:  # half a character, which somebody wrote
        return json.dumps(request, default=str).encode()


def _base(url: str) -> str:
    base = url.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


def _context_length(model: Mapping[str, Any]) -> int | None:
    meta = model.get("meta")
    told = [model.get(key) for key in _CONTEXT_KEYS]
    told.append(meta.get("n_ctx") if isinstance(meta, dict) else None)  # llama.cpp
    return next((value for value in told if type(value) is int and value > 0), None)


async def _async_read(response: ClientResponse, most: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > most:
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "far too long")
    return bytes(content)


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError, RecursionError:
        return None


def _retry_after(response: ClientResponse) -> float | None:
    """Return the seconds that the server asks us to wait: given as such or as a date."""
    wish = response.headers.get("Retry-After", "")
    if wish.strip().isdecimal():
        return min(float(wish), LONGEST_WAIT)
    try:
        seconds = (parsedate_to_datetime(wish) - datetime.now(UTC)).total_seconds()
    except ValueError, TypeError:
        return None
    return min(max(0.0, seconds), LONGEST_WAIT)


def _completion(answer: Mapping[str, Any]) -> Completion:
    """Return the text of the first choice."""
    try:
        choice = answer["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text, thoughts = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
        usage = answer.get("usage")
    except KeyError, IndexError, TypeError, AttributeError:
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no choice") from None
    finished, thoughts = reason != "length", thoughts if isinstance(thoughts, str) else ""
    if text is None or text == "":
        # Some servers' parsers of thoughts take an answer that was held to a schema for one.
        text, thoughts = (thoughts, "") if finished else ("", thoughts)
    if not isinstance(text, str):
        raise AnalysisError(AnalysisProblem.BAD_ANSWER, "no text")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Completion(
        text,
        finished,
        prompt_tokens=counted if type(counted) is int and counted > 0 else None,
        model=_name(answer.get("model")),
        thought=bool(thoughts) or "<think>" in text or "</think>" in text,
    )


def _name(told: object) -> str | None:
    """Return the name that a server tells, as one line."""
    if not isinstance(told, str):
        return None
    return " ".join(told.encode(errors="replace").decode().split())[:NAME_LENGTH] or None
