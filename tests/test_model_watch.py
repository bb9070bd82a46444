"""Tests of the watch over the model: what it can do now is what counts, and what it lost is said."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

from aiohttp import web
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.nemotron_security import model_watch
from custom_components.nemotron_security.analysis import AnalysisProblem, Capabilities
from custom_components.nemotron_security.analysis.budget import Budget
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.issues import PATIENCE, Issues
from custom_components.nemotron_security.model_watch import ModelWatch

from .analysis.faulty_server import ABLE, FaultyServer, running
from .house import async_until


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[FaultyServer]:
    async with running(FaultyServer()) as server:
        server.serve(schema=True, images=True)
        yield server


@pytest.fixture
async def watch(
    hass: HomeAssistant, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ModelWatch]:
    """Watch a model that could do everything when it was set up. It is tried without pauses."""
    for pause in ("FIRST_PAUSE", "LONGEST_PAUSE", "AT_MOST_EVERY"):
        monkeypatch.setattr(model_watch, pause, 0.02)
    data = {"analyzer": "nemotron", "url": server.url, "model": "nemotron", "capabilities": ABLE.as_data()}
    entry = MockConfigEntry(domain=DOMAIN, data=data)
    entry.add_to_hass(hass)
    watch = ModelWatch(hass, entry, Issues(hass), Budget())
    yield watch
    await watch.async_stop()


def shown(hass: HomeAssistant) -> set[str | None]:
    return {issue.translation_key for issue in ir.async_get(hass).issues.values() if issue.domain == DOMAIN}


async def test_model_that_can_do_what_it_could(hass: HomeAssistant, server: FaultyServer, watch: ModelWatch) -> None:
    assert watch.model.capabilities == ABLE
    watch.async_start()
    await async_until(lambda: watch.model.capabilities.context_length == 8192)
    assert watch.model.capabilities == Capabilities(schema=True, images=True, context_length=8192)
    assert shown(hass) == set()


async def test_what_is_lost_is_said_and_no_longer_used_until_it_is_back(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch
) -> None:
    server.serve(schema=False, images=False)
    watch.async_start()
    await async_until(lambda: shown(hass) == {"model_images_lost", "model_schema_lost"})
    assert not watch.model.capabilities.images
    assert not watch.model.capabilities.schema
    issue = ir.async_get(hass).async_get_issue(DOMAIN, "analyzer_images")
    assert issue is not None
    assert issue.translation_placeholders == {
        "model": "nemotron",
        "server": "127.0.0.1",
        "seconds": "120",
        "length": "8192",
        "detail": "-",
    }
    server.serve(schema=True, images=True)
    watch.async_doubt()
    await async_until(lambda: shown(hass) == set())
    assert watch.model.capabilities.images


async def test_what_is_lost_is_looked_for_though_nobody_doubts(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch
) -> None:
    """A model that is shown no pictures never fails at them, so that nothing would tell that it sees again."""
    server.serve(schema=True, images=False)
    watch.async_start()
    await async_until(lambda: shown(hass) == {"model_images_lost"})
    server.serve(schema=True, images=True)
    await async_until(lambda: shown(hass) == set())


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (32_768, 4096, True),
        (8192, 4096, True),
        (4096, 4096, False),
        (4096, 8192, False),
        (131_072, 32_768, False),  # still enough for all
        (None, 4096, False),
        (8192, None, False),  # nobody knows
    ],
)
def test_smaller_context_is_a_loss_where_less_fits(before: int | None, now: int | None, *, lost: bool) -> None:
    said = dict(model_watch._lost(replace(ABLE, context_length=before), replace(ABLE, context_length=now)))
    assert said == ({"analyzer_context": "model_context_lost"} if lost else {})


async def test_smaller_context_is_said(hass: HomeAssistant, server: FaultyServer, watch: ModelWatch) -> None:
    watch._remembered = replace(ABLE, context_length=32_768)
    watch.async_start()
    await async_until(lambda: shown(hass) == {"model_context_lost"})
    issue = ir.async_get(hass).async_get_issue(DOMAIN, "analyzer_context")
    assert issue is not None
    assert issue.translation_placeholders == {
        "model": "nemotron",
        "server": "127.0.0.1",
        "seconds": "120",
        "length": "8192",
        "detail": "-",
    }


async def test_what_it_never_could_is_no_loss(hass: HomeAssistant, server: FaultyServer, watch: ModelWatch) -> None:
    watch._remembered = Capabilities(schema=True)
    server.serve(schema=True, images=False)
    watch.async_start()
    await async_until(lambda: not watch.model.capabilities.images)
    assert shown(hass) == set()


async def test_pictures_of_incidents_that_are_refused_are_said_though_that_of_the_trial_was_read(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch
) -> None:
    watch.async_start()
    watch.async_handle_pictures("At most 1 image(s)")
    await async_until(lambda: shown(hass) == {"model_images_refused"})
    issue = ir.async_get(hass).async_get_issue(DOMAIN, "analyzer_images")
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert issue.translation_placeholders["detail"] == "At most 1 image(s)"
    watch.async_handle_pictures(None)
    await async_until(lambda: shown(hass) == set())


async def test_nothing_is_tried_until_there_is_a_doubt(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch
) -> None:
    watch.async_start()
    await async_until(lambda: watch.model.capabilities.context_length)
    asked = len(server.requests)
    watch.async_doubt()
    await async_until(lambda: len(server.requests) == 2 * asked)


@pytest.mark.parametrize(
    ("status", "problem"), [(404, "model_gone"), (402, "model_no_credit"), (400, "model_incompatible")]
)
async def test_model_that_is_gone(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch, status: int, problem: str
) -> None:
    respond, server.respond = server.respond, lambda: web.json_response({"error": "no such model"}, status=status)
    watch.async_start()
    await async_until(lambda: shown(hass) == {problem})
    issue = ir.async_get(hass).async_get_issue(DOMAIN, "analyzer")
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert issue.translation_placeholders["detail"] == f"HTTP {status}: no such model"
    # It is tried again by itself; doubted, for the change may come between two questions of one trial.
    server.respond = respond
    await async_until(lambda: watch.async_doubt() or shown(hass) == set())


async def test_answers_that_do_not_come_in_time_are_said_though_the_trial_passes(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch
) -> None:
    watch.async_start()
    watch.async_handle_problem(AnalysisProblem.NO_ANSWER)
    asked = len(server.requests)
    await async_until(lambda: len(server.requests) > asked + 4)
    assert shown(hass) == set()  # one incident may be to blame
    async_fire_time_changed(hass, dt_util.utcnow() + PATIENCE + timedelta(seconds=1))
    await hass.async_block_till_done()
    assert shown(hass) == {"model_slow"}
    watch.async_handle_problem(None)
    await async_until(lambda: shown(hass) == set())


async def test_busy_server_is_not_taken_for_a_blind_one_nor_tried_before_it_wants_to(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch
) -> None:
    able = server.respond
    server.respond = lambda: (
        web.Response(status=503, headers={"Retry-After": "60"}) if "image_url" in str(server.requests[-1]) else able()
    )
    watch.async_start()
    await async_until(lambda: watch._wish)
    asked = len(server.requests)
    await asyncio.sleep(0.2)  # several of the test's pauses
    assert len(server.requests) == asked
    assert watch.model.capabilities == ABLE
    assert shown(hass) == set()
    watch._issues.async_clear_all()


@pytest.mark.parametrize("status", [500, 429])
async def test_server_that_fails_for_a_while(
    hass: HomeAssistant, server: FaultyServer, watch: ModelWatch, status: int
) -> None:
    server.respond = lambda: web.Response(status=status)
    watch.async_start()
    await async_until(lambda: len(server.requests) >= 6)
    assert watch.model.capabilities == ABLE
    assert shown(hass) == set()
    await watch.async_stop()  # else the time that passes is also that of a question under way
    async_fire_time_changed(hass, dt_util.utcnow() + PATIENCE + timedelta(seconds=1))
    await hass.async_block_till_done()
    # One that is asked too often is there.
    assert shown(hass) == ({"model_unreachable"} if status == 500 else set())
    watch._issues.async_clear_all()


async def test_server_that_has_another_model_now(hass: HomeAssistant, server: FaultyServer, watch: ModelWatch) -> None:
    server.offer = [{"id": "tiny-other-1b.gguf"}]
    watch.async_start()
    await async_until(lambda: shown(hass) == {"model_gone"})
    server.offer = [{"id": "nemotron:latest"}]
    await async_until(lambda: shown(hass) == set())


async def test_refused_key_is_asked_for_anew(hass: HomeAssistant, server: FaultyServer, watch: ModelWatch) -> None:
    server.respond = lambda: web.Response(status=401)
    watch.async_start()
    await async_until(hass.config_entries.flow.async_progress)
    (flow,) = hass.config_entries.flow.async_progress()
    assert flow["context"]["source"] == "reauth"
    assert shown(hass) == set()
