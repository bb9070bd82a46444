"""Tests of the trial of a model: what it is said to do is what it was seen to do."""

import json

from aiohttp import ClientSession, web
import pytest

from custom_components.nemotron_security.analysis import AnalysisError, AnalysisProblem, Capabilities
from custom_components.nemotron_security.analysis.chat import ChatServer, OfferedModel
from custom_components.nemotron_security.analysis.probe import async_offered, async_probe, async_probe_offered, find

from .faulty_server import FaultyServer, Response

NEMOTRON = OfferedModel("nemotron", 8192)


def server_at(session: ClientSession, url: str) -> ChatServer:
    return ChatServer(session, url, "key", list_time=0.5)


async def probe(session: ClientSession, faulty: FaultyServer, model: OfferedModel = NEMOTRON) -> Capabilities:
    return await async_probe(server_at(session, faulty.url), model)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("schema", [True, False])
@pytest.mark.parametrize("images", [True, False])
async def test_capabilities_are_what_was_seen(
    session: ClientSession, faulty: FaultyServer, *, strict: bool, schema: bool, images: bool
) -> None:
    faulty.serve(schema=schema, images=images, strict=strict)
    assert await probe(session, faulty) == Capabilities(schema=schema, images=images, context_length=8192)
    assert {request["model"] for request in faulty.requests} == {"nemotron"}


async def test_model_that_thinks_aloud(session: ClientSession, faulty: FaultyServer) -> None:
    faulty.serve(schema=False, images=True, text="<think>The user greets.</think>Hello!")
    assert (await probe(session, faulty)).images


async def test_model_that_makes_up_what_it_sees(session: ClientSession, faulty: FaultyServer) -> None:
    """A server that drops pictures in silence leaves a model that guesses."""
    faulty.serve(schema=False, images=False, text="The picture shows the number 42.")
    assert not (await probe(session, faulty)).images
    faulty.serve(schema=False, images=False, text=" ".join(map(str, range(100, 1000))))
    assert not (await probe(session, faulty)).images


async def test_server_that_refuses_a_part_of_the_real_schema_is_found_out(
    session: ClientSession, faulty: FaultyServer
) -> None:
    faulty.serve(schema=True, images=True)
    able = faulty.respond

    def respond() -> Response:
        if "maxLength" in json.dumps(faulty.requests[-1].get("response_format", {})):
            return web.json_response({"error": {"message": "maxLength is not supported"}}, status=400)
        return able()

    faulty.respond = respond
    found = await probe(session, faulty)
    assert (found.schema, found.images) == (False, True)


async def test_answer_to_the_schema_may_be_cut_off(session: ClientSession, faulty: FaultyServer) -> None:
    faulty.serve(schema=True, images=True)

    def respond() -> web.Response:
        wanted = faulty.requests[-1]["response_format"]["json_schema"]["schema"]
        word = wanted["properties"].get("word", {"enum": [""]})["enum"][0]
        return faulty.answer(f'{{"word": "{word}", "evidence": [{{"claim": "aaaaaa', finish_reason="length")

    faulty.respond = respond
    assert (await probe(session, faulty)).schema


async def test_model_that_repeats_the_schema(session: ClientSession, faulty: FaultyServer) -> None:
    faulty.serve(schema=False, images=False, text='{"word": "hello"} {"number": 1}')
    assert not (await probe(session, faulty)).schema


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AnalysisProblem.UNAUTHORIZED),
        (404, AnalysisProblem.MODEL_NOT_FOUND),
        (429, AnalysisProblem.RATE_LIMITED),
        (400, AnalysisProblem.BAD_REQUEST),
        (500, AnalysisProblem.SERVER_ERROR),
        (204, AnalysisProblem.BAD_ANSWER),
    ],
)
async def test_model_that_does_not_answer(
    session: ClientSession, faulty: FaultyServer, status: int, kind: AnalysisProblem
) -> None:
    faulty.respond = lambda: web.Response(status=status)
    with pytest.raises(AnalysisError) as error:
        await probe(session, faulty)
    assert error.value.kind is kind


async def test_server_that_falls_silent_before_the_picture_tells_nothing_of_the_eyes(
    session: ClientSession, faulty: FaultyServer
) -> None:
    faulty.serve(schema=True, images=True)
    able = faulty.respond
    faulty.respond = lambda: able() if len(faulty.requests) == 1 else web.Response(status=429)
    with pytest.raises(AnalysisError) as error:
        await probe(session, faulty)
    assert error.value.kind is AnalysisProblem.RATE_LIMITED


@pytest.mark.parametrize("status", [402, 408, 409, 425, 502, 503, 504, 529])
async def test_server_that_is_busy_when_the_picture_comes_tells_nothing_of_the_eyes(
    session: ClientSession, faulty: FaultyServer, status: int
) -> None:
    faulty.serve(schema=True, images=True)
    able = faulty.respond
    faulty.respond = lambda: able() if len(faulty.requests) == 1 else web.Response(status=status)
    with pytest.raises(AnalysisError) as error:
        await probe(session, faulty)
    assert error.value.kind is (AnalysisProblem.NO_CREDIT if status == 402 else AnalysisProblem.BUSY)


@pytest.mark.parametrize("status", [400, 422, 500, 501])
async def test_server_that_fails_at_the_picture_is_blind(
    session: ClientSession, faulty: FaultyServer, status: int
) -> None:
    faulty.serve(schema=True, images=True)
    able = faulty.respond
    faulty.respond = lambda: able() if len(faulty.requests) == 1 else web.Response(status=status)
    assert not (await probe(session, faulty)).images


@pytest.mark.parametrize(
    ("told", "length"),
    [
        ({}, None),
        ({"max_model_len": 4096}, 4096),
        ({"context_length": 131072}, 131072),
        ({"meta": {"n_ctx": 16384}}, 16384),
        ({"max_model_len": "4096"}, None),
        ({"max_model_len": True}, None),
        ({"max_model_len": 0, "meta": None}, None),
    ],
)
async def test_offered_models(
    session: ClientSession, faulty: FaultyServer, told: dict[str, object], length: int | None
) -> None:
    models = [{"id": "a", **told}, {"id": 5}, "x", {"id": ""}, {"id": "b"}]
    faulty.respond = lambda: web.json_response({"data": models})
    assert await async_offered(server_at(session, faulty.url)) == [OfferedModel("a", length), OfferedModel("b", None)]


@pytest.mark.parametrize(("status", "text"), [(404, ""), (500, ""), (200, "<html>"), (200, '{"data": null}')])
async def test_server_without_a_list(session: ClientSession, faulty: FaultyServer, status: int, text: str) -> None:
    faulty.respond = lambda: web.Response(status=status, text=text)
    assert await async_offered(server_at(session, faulty.url)) is None


@pytest.mark.parametrize(
    ("listed", "name", "same"),
    [
        ("nemotron", "nemotron", True),
        ("nemotron:latest", "nemotron", True),
        ("nemotron", "nemotron:latest", True),
        ("nemotron:12b", "nemotron", False),
        ("/models/nemotron.gguf", "nemotron", True),
        ("C:\\models\\nemotron.gguf", "nemotron", True),
        ("nvidia/nemotron", "nemotron", True),
        ("nvidia/nemotron", "elsewhere/nemotron", False),
        ("tiny-other-1b.gguf", "nvidia/nemotron", False),
        ("my-nemotron", "nemotron", False),
    ],
)
def test_model_in_the_list_under_another_name(listed: str, name: str, *, same: bool) -> None:
    offered = [OfferedModel("other", 1024), OfferedModel(listed, 4096)]
    assert find(offered, name) == (OfferedModel(name, 4096) if same else None)


@pytest.mark.parametrize("offered", [None, []])
def test_model_of_a_server_without_a_list(offered: list[OfferedModel] | None) -> None:
    assert find(offered, "nemotron") == OfferedModel("nemotron", None)


async def test_server_that_answers_for_any_name_with_another_model(
    session: ClientSession, faulty: FaultyServer
) -> None:
    faulty.serve(schema=True, images=True)
    faulty.offer = [{"id": "tiny-other-1b.gguf"}]
    with pytest.raises(AnalysisError) as error:
        await async_probe_offered(server_at(session, faulty.url), "nvidia/nemotron")
    assert (error.value.kind, error.value.detail) == (AnalysisProblem.MODEL_NOT_FOUND, "offered: tiny-other-1b.gguf")
    assert faulty.requests == []


async def test_answers_that_the_server_takes_for_thoughts(session: ClientSession, faulty: FaultyServer) -> None:
    faulty.serve(schema=True, images=True)
    able = faulty.respond

    def respond() -> web.Response:
        answer = able()
        assert isinstance(answer, web.Response)
        choice = json.loads(answer.text or "")["choices"][0]
        message = {"content": None, "reasoning_content": choice["message"]["content"]}
        return web.json_response({"choices": [choice | {"message": message}]})

    faulty.respond = respond
    assert await probe(session, faulty) == Capabilities(schema=True, images=True, context_length=8192)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", None])
async def test_model_that_thinks_longer_than_an_answer_may_be_is_given_more_room(
    session: ClientSession, faulty: FaultyServer, field: str | None
) -> None:
    faulty.serve(schema=True, images=True)
    able = faulty.respond

    def respond() -> Response:
        if faulty.requests[-1]["max_tokens"] >= 4096:
            return able()
        thoughts = {"content": "<think>Hm" if field is None else None} | ({field: "Hm"} if field else {})
        return web.json_response({"choices": [{"message": thoughts, "finish_reason": "length"}]})

    faulty.respond = respond
    assert await probe(session, faulty, OfferedModel("nemotron", 32_768)) == Capabilities(
        schema=True, images=True, context_length=32_768
    )
    assert [request["max_tokens"] for request in faulty.requests] == [2048, 8192, 8192]


async def test_list_that_is_refused(session: ClientSession, faulty: FaultyServer) -> None:
    faulty.respond = lambda: web.Response(status=401)
    with pytest.raises(AnalysisError) as error:
        await async_offered(server_at(session, faulty.url))
    assert error.value.kind is AnalysisProblem.UNAUTHORIZED
    faulty.respond = faulty.hang
    with pytest.raises(AnalysisError) as error:
        await async_offered(server_at(session, faulty.url))
    assert error.value.kind is AnalysisProblem.UNREACHABLE


async def test_real_server(session: ClientSession, llama_url: str) -> None:
    """Its model of random weights takes pictures and cannot read them: that it is offered them says nothing."""
    server = server_at(session, llama_url)
    (model,) = await async_offered(server) or []
    assert model.name == "nvidia/nemotron-tiny"
    capabilities = await async_probe(server, model)
    assert capabilities == Capabilities(schema=True, images=False, context_length=model.context_length)
    assert capabilities.context_length is not None
    assert Capabilities.from_data(capabilities.as_data()) == capabilities
