"""How often the model is asked is the user's to choose."""

from collections.abc import AsyncIterator
from datetime import timedelta

from homeassistant.core import HomeAssistant
import pytest

from custom_components.nemotron_security.analysis import AnalysisError, AnalysisProblem
from custom_components.nemotron_security.analysis.analyst import AnalystLimits

from .analysis.faulty_server import ABLE, FaultyServer, running
from .house import async_set_up, make_entry

CHOSEN = {"opening_delay": 0.0, "concurrency": 4.0, "cooldown": 30.0, "calls_per_hour": 10.0, "news_for": 60.0}


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[FaultyServer]:
    async with running(FaultyServer()) as server:
        server.serve(schema=True, images=True)
        yield server


async def test_how_long_an_answer_may_take_is_the_users_to_choose(
    hass: HomeAssistant, silent_worker: None, server: FaultyServer
) -> None:
    data = {"analyzer": "nemotron", "url": server.url, "model": "nemotron", "capabilities": ABLE.as_data()}
    entry = await async_set_up(hass, make_entry(data=data))
    assert entry.runtime_data.model_watch is not None
    model, respond = entry.runtime_data.model_watch.model, server.respond
    server.respond = server.hang
    hass.config_entries.async_update_entry(entry, options={"answer_time": 0.1})
    await hass.async_block_till_done()
    with pytest.raises(AnalysisError) as error:
        await model.async_ask(lambda: [{"role": "user", "content": "Hello"}])
    assert error.value.kind is AnalysisProblem.NO_ANSWER
    hass.config_entries.async_update_entry(entry, options={"answer_time": 30.0})
    await hass.async_block_till_done()
    server.respond = respond
    assert (await model.async_ask(lambda: [{"role": "user", "content": "Hello"}])).text == "Hello there."


async def test_options_reach_the_analyst_at_the_start_and_live(
    hass: HomeAssistant, silent_worker: None, server: FaultyServer
) -> None:
    data = {"analyzer": "nemotron", "url": server.url, "model": "nemotron", "capabilities": ABLE.as_data()}
    entry = await async_set_up(hass, make_entry(data=data, options=CHOSEN))
    (analyst,) = entry.runtime_data._analysts
    assert analyst._limits == AnalystLimits(
        opening_delay=0, concurrency=4, cooldown=30, calls_per_hour=10, news_for=timedelta(hours=1)
    )
    assert type(analyst._limits.calls_per_hour) is int
    hass.config_entries.async_update_entry(entry, options={"concurrency": 2.0})
    await hass.async_block_till_done()
    assert entry.runtime_data._analysts == [analyst]
    assert analyst._limits == AnalystLimits(concurrency=2)
