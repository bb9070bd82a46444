"""Tries what a model can do, instead of guessing it from its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
import io
import re
import secrets
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

from . import AnalysisError, AnalysisProblem, Capabilities
from .chat import GREETING, ChatModel, ChatServer, Completion, Message, OfferedModel, picture_part
from .refusals import DETAIL_LENGTH
from .schema import SCHEMA, without_thoughts

PICTURE_SIZE: Final = (448, 224)
LETTER_HEIGHT: Final = 150
LOOKS: Final = 2
"""Pictures that a model is shown before it is said to be blind: one may be misread."""

BARE_GREETING: Final[list[Message]] = [
    {"role": "user", "content": "Greet me in one word. Leave all else empty, and say nothing of it."}
]
_NUMBER: Final = re.compile(r"\d+")
# What says nothing of the model: another trial may.
_NOT_ABOUT_THE_MODEL: Final = frozenset(
    {
        AnalysisProblem.UNREACHABLE,
        AnalysisProblem.NO_ANSWER,
        AnalysisProblem.UNAUTHORIZED,
        AnalysisProblem.NO_CREDIT,
        AnalysisProblem.RATE_LIMITED,
        AnalysisProblem.BUSY,
    }
)


class ModelProblem(StrEnum):
    """What is wrong with a model that once worked: the key of a repair issue."""

    UNREACHABLE = "model_unreachable"
    SLOW = "model_slow"
    NO_CREDIT = "model_no_credit"
    GONE = "model_gone"
    INCOMPATIBLE = "model_incompatible"
    IMAGES_LOST = "model_images_lost"
    IMAGES_REFUSED = "model_images_refused"
    SCHEMA_LOST = "model_schema_lost"
    CONTEXT_LOST = "model_context_lost"
    TASK_GONE = "model_task_gone"


async def async_offered(server: ChatServer) -> list[OfferedModel] | None:
    """Return the models that a server lists; null for one that has no list.

    Raises:
        AnalysisError: it cannot be reached, refuses the key, or is asked too often.
    """
    try:
        return await server.async_models()
    except AnalysisError as err:
        if err.kind in _NOT_ABOUT_THE_MODEL:
            raise
        return None


def find(offered: Sequence[OfferedModel] | None, name: str) -> OfferedModel | None:
    """Return what a server's list says of a model, by the name that we ask for it.

    Some list it by a longer name than they answer to: as a path, as a file, with Ollama's tag. Null where the list has
    others only: llama.cpp and LM Studio answer for any name, with whatever model they have.
    """
    if not offered:
        return OfferedModel(name, None)
    same = [model for model in offered if model.name == name] or [
        model for model in offered if _is_alias(model.name, name)
    ]
    return OfferedModel(name, same[0].context_length) if same else None


def _is_alias(one: str, other: str) -> bool:
    short, long = sorted((_without_ending(one), _without_ending(other)), key=len)
    return long == short or long.endswith(f"/{short}")


def _without_ending(name: str) -> str:
    return name.replace("\\", "/").removesuffix(":latest").removesuffix(".gguf")


async def async_probe_offered(server: ChatServer, name: str) -> Capabilities:
    """Look a model up in its server's list, and try it.

    Raises:
        AnalysisError: it is not there, or does not answer at all.
    """
    offered = await async_offered(server)
    if (model := find(offered, name)) is None:
        others = ", ".join(model.name for model in offered or ())
        raise AnalysisError(AnalysisProblem.MODEL_NOT_FOUND, f"offered: {others}"[:DETAIL_LENGTH])
    return await async_probe(server, model)


async def async_probe(server: ChatServer, model: OfferedModel) -> Capabilities:
    """Let a model answer questions whose right answers are known.

    Raises:
        AnalysisError: it does not answer at all.
    """
    asked = ChatModel(server, model.name, Capabilities(schema=True, context_length=model.context_length))
    if not await _async_holds_schema(asked):
        asked.capabilities = replace(asked.capabilities, schema=False)
    return replace(asked.capabilities, images=await _async_sees(asked))


async def _async_ask(
    model: ChatModel, messages: Callable[[], list[Message]], schema: Mapping[str, Any] | None = None
) -> Completion:
    """Ask, and once more if that taught that the answer needs more room, for its thoughts."""
    thinks = model.window.thinks
    try:
        answer = await model.async_ask(messages, schema)
    except AnalysisError:
        if model.window.thinks is thinks:
            raise
    else:
        if model.window.thinks is thinks:
            return answer
    return await model.async_ask(messages, schema)


async def _async_holds_schema(model: ChatModel) -> bool:
    """Ask for something, with the schema of a verdict and a made-up word: what says the word was held to the schema."""
    word = secrets.token_hex(4)
    try:
        answer = await _async_ask(model, lambda: BARE_GREETING, _with_word(word))
    except AnalysisError as err:
        if err.kind in _NOT_ABOUT_THE_MODEL or err.kind is AnalysisProblem.MODEL_NOT_FOUND:
            raise
        # Whether it refuses the schema or every question shows without one.
        await _async_ask(model, lambda: GREETING)
        return False
    # Its end may be cut off: some write on as long as the schema lets them.
    return re.search(rf'"word"\s*:\s*"{word}"', without_thoughts(answer.text)) is not None


async def _async_sees(model: ChatModel) -> bool:
    """Show numbers that no text tells."""
    for _ in range(LOOKS):
        number = 100 + secrets.randbelow(900)
        try:
            if await _async_reads(model, number):
                return True
        except AnalysisError as err:
            if err.kind in _NOT_ABOUT_THE_MODEL:
                raise
            return False
    return False


async def _async_reads(model: ChatModel, number: int) -> bool:
    schema = _schema("number", {"type": "integer", "minimum": 0, "maximum": 999})
    answer = await _async_ask(model, lambda: _number_question(number), schema if model.capabilities.schema else None)
    return _NUMBER.findall(without_thoughts(answer.text)) == [str(number)]


def _number_question(number: int) -> list[Message]:
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which number does the picture show? Answer with the number alone."},
                picture_part(draw_number(number)),
            ],
        }
    ]


def draw_number(number: int) -> bytes:
    """Return a JPEG of a number, black on white. Takes milliseconds: not for the event loop."""
    image = Image.new("RGB", PICTURE_SIZE, "white")
    middle = (PICTURE_SIZE[0] / 2, PICTURE_SIZE[1] / 2)
    font = ImageFont.load_default(LETTER_HEIGHT)
    ImageDraw.Draw(image).text(middle, str(number), fill="black", font=font, anchor="mm")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _with_word(word: str) -> dict[str, Any]:
    """Return the schema of a verdict, with a word besides: a server that refuses any part of it is found out so."""
    properties = {"word": {"type": "string", "enum": [word]}, **SCHEMA["properties"]}
    return SCHEMA | {"properties": properties, "required": ["word", *SCHEMA["required"]]}


def _schema(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": False}
