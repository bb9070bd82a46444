"""Tests of what fits into a model's context: how much pictures take, what is left out, what refusals teach."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
import json
import math
from typing import Any

from aiohttp import ClientSession, web
from homeassistant.helpers.json import json_bytes
from PIL import Image
import pytest

from custom_components.nemotron_security.analysis import (
    AnalysisProblem,
    Capabilities,
    Case,
    KeyFrame,
    PastFeedback,
    TooLongError,
)
from custom_components.nemotron_security.analysis.chat import ChatModel, ChatServer
from custom_components.nemotron_security.analysis.nemotron import NemotronAnalyzer
from custom_components.nemotron_security.analysis.question import leaner, question
from custom_components.nemotron_security.analysis.window import LIMITED_FOR, Size, Window, answer_tokens, picture_tokens
from custom_components.nemotron_security.models import Feedback

from .cases import DAY, case, opening, track, visit
from .faulty_server import ABLE, FaultyServer
from .test_schema import TEXT

MOMENTS = ("first sight", "closest", "", "last view")


def jpeg(width: int = 1280, height: int = 720) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((width // 4, height // 4), 60).resize((width, height)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def key_frames(width: int = 1280, height: int = 720) -> list[KeyFrame]:
    data = jpeg(width, height)
    return [
        KeyFrame(
            track_id=1,
            captured_at=DAY + timedelta(seconds=3 * number),
            jpeg=data,
            width=width,
            height=height,
            moment=moment,
        )
        for number, moment in enumerate(MOMENTS)
    ]


def rich() -> Case:
    """Return a case of which there is much to tell."""
    subject = case(
        *(track("person" if number == 7 else "car", track_id=number, begin=number) for number in range(20)),
        openings=tuple(opening(f"Window {number} of the conservatory", is_open=number > 30) for number in range(40)),
        visits=tuple(visit(f"Somebody who repairs thing {number}") for number in range(8)),
    )
    said = PastFeedback(feedback=Feedback.FALSE_ALARM, note="It is the neighbour's cat. " * 5, times=3)
    return replace(subject, feedback=(said,) * 4)


def listing(length: int | None) -> tuple[Capabilities, Window]:
    able = replace(ABLE, context_length=length)
    window = Window()
    window.follow(length)
    return able, window


def moments(pictures: list[KeyFrame]) -> list[str]:
    return [picture.moment for picture in pictures]


# --- how much it takes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (448, 448, 256),  # one tile is its own whole
        (1280, 720, 9 * 256),  # 4x2 tiles and the whole: as close in shape as 2x1, and small enough
        (1024, 576, 37 * 21),  # 2x1 tiles would be less than a token for each 28x28 pixels
        (640, 480, 13 * 256),  # 4x3 tiles, whatever its size
        (1280, 20, 13 * 256),  # 12x1
        (20, 1280, 13 * 256),
        (1, 1, 256),
        (4000, 3000, 143 * 108),
    ],
)
def test_tokens_of_a_picture(width: int, height: int, tokens: int) -> None:
    assert picture_tokens(width, height) == tokens


@pytest.mark.parametrize(
    ("length", "tokens"), [(None, 2048), (131_072, 2048), (8192, 2048), (4096, 1024), (2048, 512), (600, 512)]
)
def test_answer_leaves_room_for_the_question(length: int | None, tokens: int) -> None:
    assert answer_tokens(length) == tokens


# --- what fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 32_768, 131_072])
def test_large_context_takes_all_as_it_is(length: int | None) -> None:
    pictures = key_frames()
    asked = question(rich(), pictures, *listing(length))
    assert asked.case == rich()
    assert asked.pictures == pictures
    assert sum(part["type"] == "image_url" for part in asked.messages[1]["content"]) == 4


@pytest.mark.parametrize(
    ("length", "shown", "side"),
    [
        (16_384, MOMENTS, 1280),
        (8192, MOMENTS, 1024),
        (6144, MOMENTS, 1024),
        (4096, ("first sight", "closest", "last view"), 1024),
        (3072, ("first sight", "closest"), 1024),
        (2200, ("closest",), 1024),
        (1024, (), 0),
    ],
)
def test_pictures_get_smaller_then_fewer(length: int, shown: tuple[str, ...], side: int) -> None:
    able, window = listing(length)
    asked = question(case(), key_frames(), able, window)
    assert moments(asked.pictures) == list(shown)
    assert {picture.width for picture in asked.pictures} == ({side} if shown else set())
    if shown:
        assert window.tokens(asked.size) <= length - answer_tokens(length)
    for picture in asked.pictures:
        with Image.open(BytesIO(picture.jpeg)) as image:
            assert image.size == (picture.width, picture.height) == (side, side * 9 // 16)


def test_the_closest_view_stays_longest() -> None:
    """Pictures of 4:3 take 13 tiles each, however small they are."""

    def shown(length: int) -> list[str]:
        return moments(question(case(), key_frames(1280, 960), *listing(length)).pictures)

    assert shown(16_384) == list(MOMENTS)
    assert shown(14_000) == ["first sight", "closest", "last view"]
    assert shown(10_000) == ["first sight", "closest"]
    assert shown(7000) == ["closest"]
    assert shown(4096) == []


def test_small_context_is_told_less_but_of_everybody() -> None:
    able, window = listing(2600)
    whole, asked = question(rich(), (), *listing(None)), question(rich(), key_frames(), able, window)
    assert asked.size.text_bytes < whole.size.text_bytes
    assert moments(asked.pictures) == ["closest"]
    assert window.tokens(asked.size) <= 2600 - 650
    facts = asked.messages[1]["content"][0]["text"]
    # The person stays though she came late, and what is not told is counted.
    assert '"person"' in facts
    assert facts.count('- "') + int(facts.split("- and ")[1].split(" more")[0]) == 20


def test_each_case_is_leaner_than_the_one_before() -> None:
    sizes = [question(lean, (), *listing(None)).size.text_bytes for lean in leaner(rich())]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) >= 5


def test_damaged_picture_that_has_to_be_smaller_is_left_out() -> None:
    first, *others = key_frames()
    asked = question(case(), [replace(first, jpeg=b"no picture"), *others], *listing(8192))
    assert moments(asked.pictures) == ["closest", "", "last view"]


def test_schema_in_words_takes_room() -> None:
    able, window = listing(4096)
    in_words = question(case(), (), replace(able, schema=False), window)
    assert in_words.size.text_bytes > question(case(), (), able, window).size.text_bytes + 1000


# --- what is learnt ---------------------------------------------------------------------------------------------------


def test_answers_that_count_tokens_make_room_for_pictures() -> None:
    able, window = listing(7000)
    before = question(case(), key_frames(1280, 960), able, window)
    assert len(before.pictures) == 1
    # A model that takes 256 tokens for any picture, as Gemma 3 does.
    window.answered(before.size, before.size.text_bytes // 4 + 256)
    after = question(case(), key_frames(1280, 960), able, window)
    assert len(after.pictures) == 4
    assert window.tokens(after.size) <= 7000 - 1750
    # It never takes less than it was seen to take.
    window.answered(after.size, after.size.text_bytes // 4 + 4 * 1280)
    assert len(question(case(), key_frames(1280, 960), able, window).pictures) < 4
    window.answered(after.size, after.size.text_bytes // 4 + 4 * 64)
    assert len(question(case(), key_frames(1280, 960), able, window).pictures) < 4


def test_tokens_that_were_not_counted_change_nothing() -> None:
    able, window = listing(8192)
    asked = question(case(), key_frames(), able, window)
    before = window.tokens(asked.size)
    window.answered(asked.size, None)
    assert window.tokens(asked.size) == before


def test_other_context_forgets_what_was_refused() -> None:
    window = Window()
    window.follow(8192)
    window.refused(Size(30_000, 0), TooLongError(context_length=2048))
    window.follow(8192)
    assert (window.context_length, window.room) == (2048, 2048 - 512)
    window.follow(32_768)
    assert window.room == 32_768 - 2048


# --- a server that refuses --------------------------------------------------------------------------------------------


class SmallServer:
    """Refuses questions of more tokens than its context holds, in the words of one of the servers."""

    def __init__(self, faulty: FaultyServer, context: int, refuse: Callable[[int, int], web.Response]) -> None:
        self.faulty = faulty
        self.context = context
        self.refuse = refuse
        self.answers = 0
        faulty.respond = self.respond

    def respond(self) -> web.Response:
        request = self.faulty.requests[-1]
        tokens = self.tokens(request)
        if tokens + request["max_tokens"] > self.context:
            return self.refuse(tokens, self.context)
        self.answers += 1
        return self.faulty.answer(TEXT)

    @staticmethod
    def tokens(request: dict[str, Any]) -> int:
        """Count as a model that takes twice as much as is usual."""
        content: str | list[dict[str, str]] = request["messages"][1]["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        pictures = sum(part["type"] == "image_url" for part in parts)
        text = len(request["messages"][0]["content"]) + sum(len(part.get("text", "")) for part in parts)
        return int(text / 1.5) + 2000 * pictures


def refusal(words: str, status: int = 400, **members: Any) -> Callable[[int, int], web.Response]:
    def refuse(tokens: int, context: int) -> web.Response:
        told = {name: {"tokens": tokens, "context": context}.get(value, value) for name, value in members.items()}
        error = {"message": words.format(tokens=tokens, context=context), **told}
        return web.json_response({"error": error}, status=status)

    return refuse


# As the servers say it; the numbers are those of the question that is refused.
REFUSALS = {
    "llama.cpp": refusal(
        "request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it",
        type="exceed_context_size_error",
        n_prompt_tokens="tokens",
        n_ctx="context",
    ),
    "vLLM, prompt": refusal(
        "The decoder prompt (length {tokens}) is longer than the maximum model length of {context}. Make sure that "
        "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
    ),
    "vLLM, prompt and answer": refusal(
        "This model's maximum context length is {context} tokens. However, you requested 99999 tokens ({tokens} in the "
        "messages, 2048 in the completion). Please reduce the length of the messages or completion.",
    ),
    "vLLM, answer": refusal(
        "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is {context} "
        "tokens and your request has {tokens} input tokens.",
    ),
    "LM Studio": refusal(
        "Trying to keep the first {tokens} tokens when context the overflows. However, the model is loaded with "
        "context length of only {context} tokens, which is not enough.",
    ),
    "OpenAI": refusal("Your input exceeds the limit of this model.", code="context_length_exceeded"),
    "Ollama": refusal("input exceeds context length", status=500),
    "proxy": lambda _tokens, _context: web.Response(status=413, text="<html>Request Entity Too Large</html>"),
    "SGLang": lambda tokens, context: web.json_response(
        {
            "object": "error",
            "message": f"The input ({tokens} tokens) is longer than the model's context length ({context} tokens).",
            "code": 400,
        },
        status=400,
    ),
}


@pytest.mark.parametrize("server", REFUSALS)
async def test_refused_question_is_asked_again_with_less(
    session: ClientSession, faulty: FaultyServer, server: str
) -> None:
    small = SmallServer(faulty, 8192, REFUSALS[server])
    told: list[str] = []
    model = ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE)
    subject = NemotronAnalyzer(
        model, on_pictures=lambda _: told.append("refused"), on_repeat=lambda: told.append("repeat")
    )
    verdict = await subject.async_assess(case(), key_frames())
    assert verdict.risk_score == 92
    first = len(faulty.requests)
    assert first > 1
    assert told == ["repeat"] * (first - 1)
    assert isinstance(faulty.requests[-1]["messages"][1]["content"], list)  # with a picture at least
    # It is remembered: the next question fits at once.
    await subject.async_assess(case(), key_frames())
    assert (len(faulty.requests), small.answers) == (first + 1, 2)


async def test_context_that_is_far_too_small_is_a_failure_with_its_name(
    session: ClientSession, faulty: FaultyServer
) -> None:
    SmallServer(faulty, 500, REFUSALS["llama.cpp"])
    subject = NemotronAnalyzer(ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE))
    with pytest.raises(TooLongError) as error:
        await subject.async_assess(rich(), key_frames())
    assert error.value.kind is AnalysisProblem.TOO_LONG
    assert 1 < len(faulty.requests) <= 5


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Invalid json_schema: maxLength is not supported"}},
        {"error": {"message": "cannot decode image 1 of 4"}},
        {"error": None},
        {"error": ["context length"]},
        {"error": {"message": None, "type": 7, "code": []}},
        {"detail": [{"loc": ["body"], "msg": "field required"}]},
    ],
)
async def test_other_refusals_are_not_taken_for_it(
    session: ClientSession, faulty: FaultyServer, body: dict[str, Any]
) -> None:
    def respond() -> web.Response:
        blind = isinstance(faulty.requests[-1]["messages"][1]["content"], str)
        return faulty.answer(TEXT) if blind else web.json_response(body, status=400)

    faulty.respond = respond
    model = ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE)
    assert (await NemotronAnalyzer(model).async_assess(case(), key_frames())).risk_score == 92
    assert model.window.context_length is None
    assert model.window.room == math.inf


def shown(request: dict[str, Any]) -> int:
    content = request["messages"][1]["content"]
    return 0 if isinstance(content, str) else sum(part["type"] == "image_url" for part in content)


class PictureServer:
    """Takes so many pictures at once, and questions of so many bytes with pictures."""

    def __init__(self, faulty: FaultyServer, most: int, *, weight: int = 10**9, words: str = "Bad request") -> None:
        self.faulty, self.most, self.weight, self.words = faulty, most, weight, words
        faulty.respond = self.respond

    def respond(self) -> web.Response:
        request = self.faulty.requests[-1]
        pictures = shown(request)
        if pictures > self.most or (pictures and len(json.dumps(request)) > self.weight):
            return web.json_response({"message": self.words.format(most=self.most, sent=pictures)}, status=400)
        return self.faulty.answer(TEXT)


@pytest.mark.parametrize("most", [3, 1])
@pytest.mark.parametrize(
    "words",
    [
        "At most {most} image(s) may be provided in one request.",
        "You set image={most} (or defaulted to 1) in `--limit-mm-per-prompt`, but passed {sent} image items",
    ],
)
async def test_server_that_takes_fewer_pictures_is_shown_as_many_as_it_takes(
    session: ClientSession, faulty: FaultyServer, words: str, most: int
) -> None:
    server = PictureServer(faulty, most, words=words)
    told: list[str | None] = []
    subject = NemotronAnalyzer(ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE), on_pictures=told.append)
    for _ in range(3):
        await subject.async_assess(case(), key_frames())
    assert [shown(request) for request in faulty.requests] == [4, most, most, most]
    assert told == [f"HTTP 400: {words.format(most=most, sent=4)}"]
    # The most telling ones, as large as ever.
    captions = [part["text"] for part in faulty.requests[-1]["messages"][1]["content"] if part["type"] == "text"]
    assert "closest" in " ".join(captions[1:])
    # A server that was started anew with more is found out in time, and it is said.
    server.most = 6
    for _ in range(LIMITED_FOR):
        await subject.async_assess(case(), key_frames())
    assert shown(faulty.requests[-1]) == 4
    assert told[1:] == [None]


async def test_server_that_does_not_say_why_it_refuses_pictures_is_shown_a_small_one(
    session: ClientSession, faulty: FaultyServer
) -> None:
    PictureServer(faulty, 6, weight=100_000)
    told: list[str | None] = []
    subject = NemotronAnalyzer(ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE), on_pictures=told.append)
    await subject.async_assess(case(), key_frames())
    await subject.async_assess(case(), key_frames())
    assert [shown(request) for request in faulty.requests] == [4, 1, 1]
    assert told == ["HTTP 400: Bad request"]
    caption, picture = faulty.requests[-1]["messages"][1]["content"][1:]
    assert "closest" in caption["text"]
    with Image.open(BytesIO(base64.b64decode(str(picture["image_url"]["url"]).partition(",")[2]))) as image:
        assert max(image.size) == 448


async def test_server_that_refuses_every_picture_is_asked_without(session: ClientSession, faulty: FaultyServer) -> None:
    PictureServer(faulty, 0)
    told: list[str | None] = []
    subject = NemotronAnalyzer(ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE), on_pictures=told.append)
    await subject.async_assess(case(), key_frames())
    await subject.async_assess(case(), key_frames())
    assert [shown(request) for request in faulty.requests] == [4, 1, 0, 0]
    assert told == ["HTTP 400: Bad request"]


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_server_that_refuses_the_schema_is_told_it_in_words_and_shown_all_pictures(
    session: ClientSession, faulty: FaultyServer, status: int
) -> None:
    def respond() -> web.Response:
        if "maxLength" in json.dumps(faulty.requests[-1].get("response_format", {})):
            words = "The provided JSON schema contains features not supported by xgrammar."
            return web.json_response({"error": {"message": words}}, status=status)
        return faulty.answer(TEXT)

    faulty.respond = respond
    told: list[str] = []
    model = ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE)
    subject = NemotronAnalyzer(
        model, on_pictures=lambda _: told.append("pictures"), on_refused_schema=lambda: told.append("schema")
    )
    assert (await subject.async_assess(case(), key_frames())).risk_score == 92
    assert [shown(request) for request in faulty.requests] == [4, 4]
    assert told == ["schema"]
    assert not model.capabilities.schema  # until it is tried again


async def test_questions_at_the_same_time(session: ClientSession, faulty: FaultyServer) -> None:
    SmallServer(faulty, 8192, REFUSALS["llama.cpp"])
    subject = NemotronAnalyzer(ChatModel(ChatServer(session, faulty.url), "nemotron", ABLE))
    verdicts = await asyncio.gather(*(subject.async_assess(case(), key_frames()) for _ in range(6)))
    assert {verdict.risk_score for verdict in verdicts} == {92}


async def test_answers_length_follows_the_context(session: ClientSession, faulty: FaultyServer) -> None:
    faulty.respond = lambda: faulty.answer(TEXT)
    model = ChatModel(ChatServer(session, faulty.url), "nemotron", replace(ABLE, context_length=4096))
    await NemotronAnalyzer(model).async_assess(case(), ())
    model.capabilities = ABLE
    await NemotronAnalyzer(model).async_assess(case(), ())
    assert [request["max_tokens"] for request in faulty.requests] == [1024, 2048]


async def test_real_server_with_a_small_context(session: ClientSession, small_llama_url: str) -> None:
    """The tiny model takes nearly a token a byte; nothing is known of that before it refuses a question."""
    model = ChatModel(ChatServer(session, small_llama_url), "nvidia/nemotron-tiny", ABLE)
    repeats: list[int] = []
    subject = NemotronAnalyzer(model, on_repeat=lambda: repeats.append(1))
    verdict = await subject.async_assess(rich(), key_frames())
    assert 0 <= verdict.risk_score <= 100
    assert repeats
    assert model.window.context_length == 4096
    # What was learnt holds for the next question.
    asked = len(repeats)
    await subject.async_assess(rich(), key_frames())
    assert len(repeats) == asked


async def test_real_servers_list_tells_the_context(session: ClientSession, llama_url: str) -> None:
    (offered,) = await ChatServer(session, llama_url).async_models()
    assert offered.context_length == 8192
    model = ChatModel(ChatServer(session, llama_url), offered.name, replace(ABLE, context_length=8192))
    assert 0 <= (await NemotronAnalyzer(model).async_assess(case(), key_frames())).risk_score <= 100


def test_question_is_json() -> None:
    messages = question(rich(), key_frames(), *listing(8192)).messages
    assert json.loads(json_bytes(messages)) == json.loads(json.dumps(messages, default=str))
