"""Tests of our AI Task entity: Home Assistant's own actions against servers that really answer."""

import asyncio
from collections.abc import AsyncIterator
import json
from pathlib import Path
from typing import Any

from aiohttp import web
from homeassistant.components.ai_task import AITaskEntityFeature as Feature
from homeassistant.const import ATTR_SUPPORTED_FEATURES
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security import ai_task
from custom_components.nemotron_security.analysis import AnalysisProblem
from custom_components.nemotron_security.analysis.probe import draw_number
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.models import Box

from .analysis.conftest import llama_address, llama_url  # noqa: F401
from .analysis.faulty_server import ABLE, FaultyServer, running
from .house import ABSENT_FILE, async_set_up, async_until, make_entry
from .test_media_source import NOON, add

ENTITY = "ai_task.nemotron_home_security_nemotron"
NEWEST = Path(__file__).parents[1] / ".venv-newest" / "bin" / "python"
STRUCTURE = {
    "people": {"required": True, "selector": {"number": {"min": 0, "max": 999}}},
    "words": {"required": True, "selector": {"text": {}}},
}


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[FaultyServer]:
    async with running(FaultyServer()) as server:
        server.serve(schema=True, images=True)
        yield server


def settings(url: str, model: str = "nemotron") -> dict[str, Any]:
    return {"analyzer": "nemotron", "url": url, "api_key": "key", "model": model, "capabilities": ABLE.as_data()}


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None, server: FaultyServer) -> MockConfigEntry:
    """Set up, and wait until the model was tried."""
    assert await async_setup_component(hass, "homeassistant", {})
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, data=settings(server.url)))
    await async_until(lambda: entry.runtime_data.model_watch.model.capabilities.context_length)
    server.requests.clear()
    return entry


async def generate(hass: HomeAssistant, **data: Any) -> Any:
    data = {"task_name": "count", "instructions": "How many?", "entity_id": ENTITY, **data}
    answer = await hass.services.async_call("ai_task", "generate_data", data, blocking=True, return_response=True)
    assert answer is not None
    return answer["data"]


def features(hass: HomeAssistant) -> Feature:
    state = hass.states.get(ENTITY)
    assert state is not None
    return Feature(state.attributes[ATTR_SUPPORTED_FEATURES])


async def test_text(hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry) -> None:
    assert await generate(hass) == "Hello there."
    (request,) = server.requests
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["messages"][1]["content"] == "How many?"
    assert "response_format" not in request


async def test_structure_and_picture(hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry) -> None:
    incident = await add(entry, NOON, picture=False)
    picture, _ = await entry.runtime_data.store.async_add_picture(
        incident.id,
        int(NOON.timestamp()),
        captured_at=NOON,
        box=Box(1, 2, 3, 4),
        score=0.9,
        width=448,
        height=224,
        jpeg=draw_number(321),
    )
    attachment = {
        "media_content_id": f"media-source://{DOMAIN}/picture/{picture.id}",
        "media_content_type": "image/jpeg",
    }
    answer = await generate(hass, structure=STRUCTURE, attachments=[attachment])
    assert answer == {"people": 321, "words": "something"}
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert set(schema["properties"]) == {"people", "words"}
    with pytest.raises(HomeAssistantError) as error:
        await generate(hass, attachments=[attachment | {"media_content_type": "video/mp4"}])
    assert error.value.translation_key == "only_pictures"


async def test_structure_in_words(hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry) -> None:
    entry.runtime_data.model_watch.model.capabilities = type(ABLE)()
    text = '<think>2?</think>Sure: {"people": "2", "words": "two", "more": [1]}'
    server.respond = lambda: server.answer(text)
    assert await generate(hass, structure=STRUCTURE) == {"people": 2, "words": "two"}
    assert '"people"' in server.requests[0]["messages"][0]["content"]


@pytest.mark.parametrize("text", ["Two.", '{"people": 2}', '{"people": "many", "words": "x"}', ""])
async def test_answer_that_is_not_what_was_asked_for(
    hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry, text: str
) -> None:
    server.respond = lambda: server.answer(text)
    with pytest.raises(HomeAssistantError) as error:
        await generate(hass, structure=STRUCTURE)
    assert error.value.translation_key == "task_bad_answer"


@pytest.mark.parametrize(
    ("status", "key"),
    [
        (400, "task_bad_request"),
        (413, "task_too_long"),
        (404, "task_model_not_found"),
        (429, "task_rate_limited"),
        (500, "task_server_error"),
    ],
)
async def test_server_that_fails(
    hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry, status: int, key: str
) -> None:
    server.respond = lambda: web.Response(status=status)
    with pytest.raises(HomeAssistantError) as error:
        await generate(hass)
    assert error.value.translation_key == key
    assert set(ai_task.FAILURES) == set(AnalysisProblem)


async def test_refused_key_is_asked_for_anew(hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry) -> None:
    server.respond = lambda: web.Response(status=401)
    with pytest.raises(HomeAssistantError):
        await generate(hass)
    await hass.async_block_till_done()
    (flow,) = hass.config_entries.flow.async_progress()
    assert flow["context"]["source"] == "reauth"


async def test_features_follow_what_the_model_was_seen_to_do(
    hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry
) -> None:
    assert Feature.SUPPORT_ATTACHMENTS in features(hass)
    server.serve(schema=True, images=False)
    assert await entry.runtime_data.model_watch._async_try()
    assert Feature.SUPPORT_ATTACHMENTS not in features(hass)
    assert Feature.GENERATE_DATA in features(hass)
    entry.runtime_data.issues.async_clear_all()


async def test_no_entity_without_a_model(
    hass: HomeAssistant, entry: MockConfigEntry, entity_registry: er.EntityRegistry
) -> None:
    assert entity_registry.async_get(ENTITY)
    hass.config_entries.async_update_entry(entry, data={"analyzer": "rules"})
    await hass.async_block_till_done()
    assert entity_registry.async_get(ENTITY) is None
    assert hass.states.get(ENTITY) is None


@pytest.mark.skipif(not NEWEST.exists(), reason="scripts/setup --newest makes the Home Assistant that evaluates")
async def test_evaluation_by_the_newest_home_assistant(server: FaultyServer) -> None:
    weights = {
        "question_0": {"option_0": 80, "option_1": 20},
        "question_1": {"option_0": 10, "option_1": 30},
        "question_2": {"option_0": 0, "option_1": 50, "option_2": 50},
    }
    server.respond = lambda: server.answer(json.dumps(weights))
    program = str(Path(__file__).with_name("evaluate_alone.py"))
    process = await asyncio.create_subprocess_exec(str(NEWEST), program, server.url, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert json.loads(output) == {
        "rain": {"type": "noul", "noul": 0.8},
        "who": {"type": "choice", "choice": "other", "probabilities": {"post": 0.25, "other": 0.75}},
        "risk": {"type": "score", "score": 1.5, "probabilities": [0, 0.5, 0.5]},
    }
    (request,) = server.requests
    assert '{"wet": true}' in request["messages"][1]["content"]


async def test_real_server(hass: HomeAssistant, silent_worker: None, llama_url: str) -> None:  # noqa: F811
    assert await async_setup_component(hass, "homeassistant", {})
    await async_set_up(hass, make_entry(ABSENT_FILE, data=settings(llama_url, "nvidia/nemotron-tiny")))
    structure = {
        "colour": {"required": True, "selector": {"select": {"options": ["red", "green"]}}},
        "calm": {"required": True, "selector": {"boolean": {}}},
    }
    answer = await generate(hass, structure=structure)
    assert answer["colour"] in {"red", "green"}
    assert answer["calm"] in {True, False}
