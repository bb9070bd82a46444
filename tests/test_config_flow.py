"""The flows, walked as the frontend walks them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from aiohttp import web
from homeassistant.config_entries import SOURCE_USER, ConfigSubentry
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
from homeassistant.helpers import entity_registry as er
import probatio as vol
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security import config_flow
from custom_components.nemotron_security.camera_flow import SECURITY_LABELS
from custom_components.nemotron_security.config_flow import NemotronSecurityConfigFlow
from custom_components.nemotron_security.const import DEFAULT_LABELS, DOMAIN
from custom_components.nemotron_security.forms import KEY_NOT_CHANGED
from custom_components.nemotron_security.vision.executor import Executor

from .analysis.faulty_server import FaultyServer, running

SERVER = "http://127.0.0.1:8000"
KEY = "sk-very-secret"
STREAM = "rtsp://admin:pass%20word@10.0.0.7:554/ch1?token=abc&quality=high"
SHOWN_STREAM = "rtsp://admin:********@10.0.0.7:554/ch1?token=********&quality=high"
DETAILS = {"labels": ["person"], "detect": True}


@pytest.fixture(autouse=True)
def not_set_up() -> Any:
    """The flow is tested here; what it sets up is tested where it is written."""
    with (
        patch("custom_components.nemotron_security.async_setup", return_value=True),
        patch("custom_components.nemotron_security.async_setup_entry", return_value=True),
    ):
        yield


async def start(hass: HomeAssistant) -> Any:
    return await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})


async def answer(hass: HomeAssistant, result: Any, **user_input: Any) -> Any:
    return await hass.config_entries.flow.async_configure(result["flow_id"], user_input)


async def no_detector(hass: HomeAssistant, result: Any) -> Any:
    """Answer the last question of the set-up."""
    assert result["step_id"] == "detector"
    return await answer(hass, result, next_step_id="detector_none")


async def start_nemotron(hass: HomeAssistant) -> Any:
    result = await answer(hass, await start(hass), analyzer="nemotron")
    assert result["step_id"] == "nemotron"
    return result


def suggested(result: Any, field: str) -> Any:
    for marker in result["data_schema"].schema:
        if marker.schema == field and marker.description:
            return marker.description.get("suggested_value")
    return None


# --- the entry ------------------------------------------------------------------------------------------------------


async def test_rules_and_no_detector(hass: HomeAssistant) -> None:
    result = await start(hass)
    assert result["type"] is FlowResultType.FORM
    assert not result["errors"]
    result = await answer(hass, result, analyzer="rules")
    assert result["type"] is FlowResultType.MENU
    assert result["step_id"] == "detector"
    result = await no_detector(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"] == {"analyzer": "rules"}
    assert result["options"] == {}
    assert (result["version"], result["minor_version"]) == (1, 2)


async def test_only_one_entry(hass: HomeAssistant) -> None:
    MockConfigEntry(domain=DOMAIN).add_to_hass(hass)
    result = await start(hass)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "single_instance_allowed"


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[FaultyServer]:
    """Listen as a server whose model can do everything."""
    async with running(FaultyServer()) as server:
        server.serve(schema=True, images=True)
        yield server


async def tried(hass: HomeAssistant, result: Any, **user_input: Any) -> Any:
    """Answer, and wait while it is tried."""
    result = await answer(hass, result, **user_input)
    if result["type"] is FlowResultType.SHOW_PROGRESS:
        assert result["progress_action"] == "probe"
        await hass.async_block_till_done(wait_background_tasks=True)
        result = await hass.config_entries.flow.async_configure(result["flow_id"])
    return result


def shown_capabilities(result: Any) -> dict[str, Any]:
    assert result["step_id"] == "capabilities"
    return dict(result["data_schema"]({}))


ABLE = {"schema": True, "images": True, "context_length": 8192}


async def test_nemotron_takes_the_only_model(hass: HomeAssistant, server: FaultyServer) -> None:
    result = await tried(hass, await start_nemotron(hass), url=f" {server.url} ", api_key=KEY)
    assert shown_capabilities(result) == ABLE
    assert result["description_placeholders"]["model"] == "nemotron"
    result = await no_detector(hass, await answer(hass, result))
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"] == {
        "analyzer": "nemotron",
        "url": server.url,
        "api_key": KEY,
        "model": "nemotron",
        "capabilities": ABLE,
    }
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(("schema", "images"), [(True, False), (False, True), (False, False)])
async def test_what_a_model_lacks_is_shown_and_remembered(
    hass: HomeAssistant, server: FaultyServer, *, schema: bool, images: bool
) -> None:
    server.serve(schema=schema, images=images, strict=True)
    result = await tried(hass, await start_nemotron(hass), url=server.url)
    found = {"schema": schema, "images": images, "context_length": 8192}
    assert shown_capabilities(result) == found
    # What is shown cannot be overruled.
    result = await no_detector(hass, await answer(hass, result, images=True, schema=True))
    assert result["data"]["capabilities"] == found


async def test_nemotron_asks_which_model(hass: HomeAssistant, server: FaultyServer) -> None:
    server.offer = [{"id": "a"}, {"id": "b"}]
    result = await tried(hass, await start_nemotron(hass), url=server.url)
    assert result["step_id"] == "model"
    assert not server.requests
    with pytest.raises(vol.Invalid):
        await answer(hass, result, model="c")
    result = await no_detector(hass, await answer(hass, await tried(hass, result, model="b")))
    assert result["data"]["model"] == "b"
    assert {request["model"] for request in server.requests} == {"b"}


async def test_server_without_a_list_asks_for_the_models_name(hass: HomeAssistant, server: FaultyServer) -> None:
    respond = server.respond

    def without_list() -> Any:
        request = server.requests[-1]
        if not request:
            return web.Response(status=501)
        return respond() if request["model"] == "right" else web.json_response({}, status=404)

    server.offer, server.respond = None, without_list
    result = await tried(hass, await start_nemotron(hass), url=server.url)
    assert result["step_id"] == "model"
    result = await tried(hass, result, model="wrong")
    assert result["step_id"] == "model"
    assert result["errors"] == {"model": "model_not_found"}
    assert suggested(result, "model") == "wrong"
    result = await no_detector(hass, await answer(hass, await tried(hass, result, model=" right ")))
    assert result["data"]["model"] == "right"
    assert result["data"]["capabilities"] == {"schema": True, "images": True, "context_length": None}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (HTTPStatus.UNAUTHORIZED, {"api_key": "invalid_auth"}),
        (HTTPStatus.INTERNAL_SERVER_ERROR, {"base": "server_error"}),
        (HTTPStatus.BAD_GATEWAY, {"base": "server_busy"}),
        (HTTPStatus.TOO_MANY_REQUESTS, {"base": "server_busy"}),
        (HTTPStatus.PAYMENT_REQUIRED, {"base": "no_credit"}),
        (HTTPStatus.NOT_FOUND, {"model": "model_not_found"}),
        (HTTPStatus.BAD_REQUEST, {"base": "not_compatible"}),
    ],
)
async def test_nemotron_that_fails_says_why_and_recovers(
    hass: HomeAssistant, server: FaultyServer, status: HTTPStatus, error: dict[str, str]
) -> None:
    respond, server.respond = server.respond, lambda: web.Response(status=status)
    typed = {"url": server.url, "api_key": KEY, "model": "nemotron"}
    result = await tried(hass, await start_nemotron(hass), **typed)
    assert result["step_id"] == "nemotron"
    assert result["errors"] == error
    assert {name: suggested(result, name) for name in typed} == typed
    server.respond = respond
    result = await no_detector(hass, await answer(hass, await tried(hass, result, **typed)))
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_what_nobody_foresaw_leads_back_to_the_form(
    hass: HomeAssistant, server: FaultyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_arguments: object) -> None:
        raise LookupError(f"Bearer {KEY}")

    typed = {"url": server.url, "api_key": KEY}
    with monkeypatch.context() as patched:
        patched.setattr(config_flow, "async_offered", fail)
        result = await tried(hass, await start_nemotron(hass), **typed)
    assert result["step_id"] == "nemotron"
    assert result["errors"] == {"base": "unknown"}
    assert {name: suggested(result, name) for name in typed} == typed
    assert "LookupError" in caplog.text
    assert KEY not in "".join(record.getMessage() for record in caplog.records if "nemotron" in record.name)
    assert shown_capabilities(await tried(hass, result, **typed)) == ABLE


async def test_server_that_is_not_there(hass: HomeAssistant, socket_enabled: None, unused_tcp_port: int) -> None:
    result = await tried(hass, await start_nemotron(hass), url=f"http://127.0.0.1:{unused_tcp_port}")
    assert result["errors"] == {"base": "cannot_connect"}


@pytest.mark.parametrize(
    ("offer", "error"), [([], {"base": "no_models"}), ([{"id": "other"}], {"model": "model_not_found"})]
)
async def test_server_without_the_model(
    hass: HomeAssistant, server: FaultyServer, offer: list[dict[str, Any]], error: dict[str, str]
) -> None:
    server.offer = offer
    result = await tried(hass, await start_nemotron(hass), url=server.url, model="wanted")
    assert result["errors"] == error
    assert not server.requests


@pytest.mark.parametrize(
    ("url", "error"),
    [("localhost:8000", "invalid_server_url"), ("rtsp://host", "invalid_server_url"), ("http://", "invalid_url")],
)
async def test_bad_server_address(hass: HomeAssistant, url: str, error: str) -> None:
    result = await tried(hass, await start_nemotron(hass), url=url)
    assert result["errors"] == {"url": error}


async def test_flow_that_is_closed_ends_the_trial(hass: HomeAssistant, server: FaultyServer) -> None:
    server.respond = server.hang
    result = await answer(hass, await start_nemotron(hass), url=server.url)
    assert result["type"] is FlowResultType.SHOW_PROGRESS
    flow = hass.config_entries.flow._progress[result["flow_id"]]
    assert isinstance(flow, NemotronSecurityConfigFlow)
    assert flow._trial is not None
    trial = flow._trial
    hass.config_entries.flow.async_abort(result["flow_id"])
    with pytest.raises(asyncio.CancelledError):
        await trial


def nemotron_entry(hass: HomeAssistant, url: str = SERVER) -> MockConfigEntry:
    entry = MockConfigEntry(
        domain=DOMAIN, data={"analyzer": "nemotron", "url": url, "api_key": KEY, "model": "nemotron"}, options={}
    )
    entry.add_to_hass(hass)
    return entry


async def test_reconfigure_keeps_the_key_without_showing_it(hass: HomeAssistant, server: FaultyServer) -> None:
    entry = nemotron_entry(hass, server.url)
    result = await answer(hass, await entry.start_reconfigure_flow(hass), analyzer="nemotron")
    assert suggested(result, "url") == server.url
    assert suggested(result, "api_key") == KEY_NOT_CHANGED
    typed = {"url": server.url, "api_key": KEY_NOT_CHANGED, "model": "b"}
    result = await tried(hass, result, **typed)
    assert result["errors"] == {"model": "model_not_found"}
    assert {name: suggested(result, name) for name in typed} == typed
    server.offer = [{"id": "a"}, {"id": "b"}]
    result = await answer(hass, await tried(hass, result, **typed))
    assert result["reason"] == "reconfigure_successful"
    assert entry.data == {
        "analyzer": "nemotron",
        "url": server.url,
        "api_key": KEY,
        "model": "b",
        "capabilities": {"schema": True, "images": True, "context_length": None},
    }


async def test_reconfigure_can_remove_the_key(hass: HomeAssistant, server: FaultyServer) -> None:
    entry = nemotron_entry(hass, server.url)
    result = await answer(hass, await entry.start_reconfigure_flow(hass), analyzer="nemotron")
    await answer(hass, await tried(hass, result, url=server.url))
    assert "api_key" not in entry.data
    assert entry.data["model"] == "nemotron"


async def test_reconfigure_to_rules_forgets_the_server(hass: HomeAssistant) -> None:
    entry = nemotron_entry(hass)
    result = await answer(hass, await entry.start_reconfigure_flow(hass), analyzer="rules")
    assert result["reason"] == "reconfigure_successful"
    assert entry.data == {"analyzer": "rules"}


async def test_reauth(hass: HomeAssistant, server: FaultyServer) -> None:
    entry = nemotron_entry(hass, server.url)
    result = await entry.start_reauth_flow(hass)
    assert result["step_id"] == "reauth_confirm"
    assert result["description_placeholders"]["server"] == "127.0.0.1"
    respond, server.respond = server.respond, lambda: web.Response(status=HTTPStatus.UNAUTHORIZED)
    result = await tried(hass, result, api_key="wrong")
    assert result["errors"] == {"api_key": "invalid_auth"}
    assert result["description_placeholders"]["server"] == "127.0.0.1"
    server.offer = [{"id": "other"}]
    result = await tried(hass, result, api_key="right")
    assert result["errors"] == {"base": "model_not_found"}
    server.offer, server.respond = [{"id": "nemotron"}], respond
    result = await tried(hass, result, api_key="right")
    assert result["reason"] == "reauth_successful"
    assert entry.data["api_key"] == "right"
    assert entry.data["url"] == server.url
    assert entry.data["capabilities"]["images"] is True


@pytest.mark.parametrize("images", [True, False])
async def test_ai_task_entity(hass: HomeAssistant, *, images: bool) -> None:
    hass.states.async_set("ai_task.judge", "unknown", {"supported_features": 3 if images else 1})
    hass.states.async_set("ai_task.painter", "unknown", {"supported_features": 4})
    result = await answer(hass, await start(hass), analyzer="ai_task")
    for wrong in ("ai_task.painter", "ai_task.absent"):
        result = await answer(hass, result, ai_task_entity=wrong)
        assert result["errors"] == {"ai_task_entity": "no_ai_task"}
        assert suggested(result, "ai_task_entity") == wrong
    result = await answer(hass, result, ai_task_entity="ai_task.judge")
    assert shown_capabilities(result) == {"schema": True, "images": images}
    assert result["description_placeholders"]["model"] == "ai_task.judge"
    result = await no_detector(hass, await answer(hass, result))
    assert result["data"] == {
        "analyzer": "ai_task",
        "ai_task_entity": "ai_task.judge",
        "capabilities": {"schema": True, "images": images, "context_length": None},
    }


async def test_our_own_ai_task_entity_is_refused(hass: HomeAssistant) -> None:
    """It would disappear with the model that it asks."""
    hass.states.async_set("ai_task.judge", "unknown", {"supported_features": 3})
    entry = nemotron_entry(hass)
    before = dict(entry.data)
    early = await answer(hass, await entry.start_reconfigure_flow(hass), analyzer="ai_task")
    own = er.async_get(hass).async_get_or_create("ai_task", DOMAIN, "own", config_entry=entry).entity_id
    hass.states.async_set(own, "unknown", {"supported_features": 3})
    early = await answer(hass, early, ai_task_entity=own)
    assert early["errors"] == {"ai_task_entity": "own_ai_task"}
    with pytest.raises(InvalidData):  # the form does not offer it any more
        await answer(hass, early, ai_task_entity=own)
    assert entry.data == before
    await answer(hass, await answer(hass, early, ai_task_entity="ai_task.judge"))
    assert entry.data["ai_task_entity"] == "ai_task.judge"


async def test_reconfigure_to_an_ai_task_entity(hass: HomeAssistant) -> None:
    hass.states.async_set("ai_task.judge", "unknown", {"supported_features": 3})
    entry = nemotron_entry(hass)
    result = await answer(hass, await entry.start_reconfigure_flow(hass), analyzer="ai_task")
    await answer(hass, await answer(hass, result, ai_task_entity="ai_task.judge"))
    assert entry.data == {
        "analyzer": "ai_task",
        "ai_task_entity": "ai_task.judge",
        "capabilities": {"schema": True, "images": True, "context_length": None},
    }
    result = await answer(hass, await entry.start_reconfigure_flow(hass), analyzer="ai_task")
    assert suggested(result, "ai_task_entity") == "ai_task.judge"


async def page(hass: HomeAssistant, entry: MockConfigEntry, step: str) -> Any:
    """Open a page of the options."""
    result = await hass.config_entries.options.async_init(entry.entry_id)
    assert result["type"] is FlowResultType.MENU
    assert step in (result["menu_options"] or ())
    return await fill(hass, result, next_step_id=step)


async def fill(hass: HomeAssistant, result: Any, **user_input: Any) -> Any:
    return await hass.config_entries.options.async_configure(result["flow_id"], user_input)


async def test_options_of_incidents(hass: HomeAssistant) -> None:
    entry = nemotron_entry(hass)
    result = await fill(hass, await page(hass, entry, "incidents"), quiet_time=60, maximum_length=60)
    assert result["errors"] == {"maximum_length": "shorter_than_quiet_time"}
    assert suggested(result, "quiet_time") == 60
    good = {
        "quiet_time": 20,
        "maximum_length": 600,
        "alarm_panel": "alarm_control_panel.house",
        "floors": [],
        "calendars": ["calendar.visits"],
    }
    result = await fill(hass, result, **good)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options == good
    result = await page(hass, entry, "incidents")
    assert {name: suggested(result, name) for name in good} == good


async def test_options_of_workers(hass: HomeAssistant) -> None:
    entry = nemotron_entry(hass)
    await fill(hass, await page(hass, entry, "workers"), workers=2)
    assert entry.options == {"workers": 2}
    assert suggested(await page(hass, entry, "workers"), "workers") == 2


async def test_a_page_of_options_touches_no_other(hass: HomeAssistant) -> None:
    entry = nemotron_entry(hass)
    before = {"alarm_panel": "alarm_control_panel.house", "gpu_interval": 2, "topics": ["alarm"], "opening_delay": 9}
    hass.config_entries.async_update_entry(entry, options=before)
    await fill(hass, await page(hass, entry, "incidents"), quiet_time=20, maximum_length=600)
    # What is left empty on a page is gone.
    assert "alarm_panel" not in entry.options
    assert {name: entry.options[name] for name in ("gpu_interval", "topics", "opening_delay")} == {
        name: before[name] for name in ("gpu_interval", "topics", "opening_delay")
    }
    await fill(hass, await page(hass, entry, "gpus"))
    assert "gpu_interval" not in entry.options
    assert entry.options["quiet_time"] == 20


async def test_options_of_what_and_how_often_a_model_is_asked(hass: HomeAssistant) -> None:
    entry = nemotron_entry(hass)
    await fill(hass, await page(hass, entry, "judging"), topics=["alarm"], key_frames=2, limits={})
    assert entry.options["topics"] == ["alarm"]
    assert entry.options["key_frames"] == 2
    usual = {
        "opening_delay": 3,
        "concurrency": 1,
        "cooldown": 5,
        "calls_per_hour": 120,
        "answer_time": 120,
        "news_for": 5,
    }
    assert usual.items() <= entry.options.items()
    result = await page(hass, entry, "judging")
    assert suggested(result, "topics") == ["alarm"]
    with pytest.raises(InvalidData) as refused:
        await fill(hass, result, limits={"concurrency": 9})
    assert refused.value.path == ["limits", "concurrency"]
    chosen = {
        "opening_delay": 0,
        "concurrency": 8,
        "cooldown": 0,
        "calls_per_hour": 1,
        "answer_time": 600,
        "news_for": 60,
    }
    await fill(hass, result, limits=chosen)
    assert chosen.items() <= entry.options.items()
    assert "limits" not in entry.options
    result = await page(hass, entry, "judging")
    form = result["data_schema"]
    assert form is not None
    limits = form.schema["limits"].schema.schema
    assert {marker.schema: marker.description["suggested_value"] for marker in limits} == chosen


# --- cameras --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def entry(hass: HomeAssistant) -> MockConfigEntry:
    entry = MockConfigEntry(domain=DOMAIN, data={"analyzer": "rules"})
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    entry.runtime_data = SimpleNamespace(executor=Executor(lambda _report: None))  # its worker was not started
    return entry


async def add_camera(hass: HomeAssistant, entry: MockConfigEntry, source: str, **details: Any) -> Any:
    subentries = hass.config_entries.subentries
    result = await subentries.async_init((entry.entry_id, "camera"), context={"source": SOURCE_USER})
    assert result["step_id"] == "user"
    result = await subentries.async_configure(result["flow_id"], {"source": source})
    assert result["step_id"] == source
    return await subentries.async_configure(result["flow_id"], details)


async def test_what_a_camera_looks_at(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    source = {"stream_url": "rtsp://10.0.0.7/live", "name": "Garden"}
    told = {"view": "private", "note": "The neighbour's cat."}
    await add_camera(hass, entry, "stream", **source, **told)
    (subentry,) = entry.subentries.values()
    assert subentry.data.items() >= told.items()
    result = await reconfigure(hass, entry, "stream")
    assert {name: suggested(result, name) for name in told} == told
    await go_on(hass, result, **source)
    (subentry,) = entry.subentries.values()
    assert told.keys() & subentry.data.keys() == set()


async def go_on(hass: HomeAssistant, result: Any, **details: Any) -> Any:
    return await hass.config_entries.subentries.async_configure(result["flow_id"], details)


def only_camera(entry: MockConfigEntry) -> ConfigSubentry:
    subentries: list[ConfigSubentry] = list(entry.subentries.values())
    assert len(subentries) == 1
    return subentries[0]


async def test_stream(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    result = await add_camera(hass, entry, "stream", stream_url=STREAM, name="Front door")
    assert result["type"] is FlowResultType.CREATE_ENTRY
    camera = only_camera(entry)
    assert camera.title == "Front door"
    assert camera.data == {
        "source": "stream",
        "stream_url": STREAM,
        "labels": list(DEFAULT_LABELS),
        "detect": True,
        "confidence": 0.7,
        "fps": 5.0,
    }
    assert camera.unique_id is not None
    assert "word" not in camera.unique_id


@pytest.mark.parametrize(
    ("source", "location", "name"),
    [
        ("stream", {"stream_url": STREAM}, "10.0.0.7"),
        ("entity", {"camera_entity": "camera.porch"}, "Porch camera"),
        ("file", {"file_path": "clip one.mp4"}, "clip one"),
    ],
)
async def test_a_camera_without_a_name_is_called_after_its_source(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path, source: str, location: dict[str, str], name: str
) -> None:
    hass.states.async_set("camera.porch", "idle", {"friendly_name": "Porch camera"})
    if source == "file":
        (tmp_path / "clip one.mp4").touch()
        location = {"file_path": str(tmp_path / "clip one.mp4")}
    result = await add_camera(hass, entry, source, **location, **DETAILS)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    camera = only_camera(entry)
    assert camera.title == name
    assert camera.data == {"source": source, "confidence": 0.7, "fps": 5.0, **location, **DETAILS}


@pytest.mark.parametrize(
    ("source", "details", "errors"),
    [
        ("stream", {"stream_url": "10.0.0.7/ch1"}, {"stream_url": "invalid_scheme"}),
        ("stream", {"stream_url": "file:///etc/passwd"}, {"stream_url": "invalid_scheme"}),
        ("stream", {"stream_url": "rtsp:///ch1"}, {"stream_url": "invalid_url"}),
        ("stream", {"stream_url": "rtsp://u:p@host:99999/"}, {"stream_url": "invalid_url"}),
        ("stream", {"stream_url": "rtsp://u:p w@host/"}, {"stream_url": "invalid_url"}),
        ("stream", {"stream_url": "rtsp://u:p\n@host/"}, {"stream_url": "invalid_url"}),
        ("stream", {"stream_url": "rtsp://[::1/"}, {"stream_url": "invalid_url"}),
        ("file", {"file_path": "clip.mp4"}, {"file_path": "path_not_absolute"}),
        ("file", {"file_path": "/absent/clip.mp4"}, {"file_path": "file_not_found"}),
        ("file", {"file_path": "/"}, {"file_path": "not_a_file"}),
        ("entity", {"camera_entity": "camera.absent"}, {"camera_entity": "entity_not_found"}),
        ("stream", {"stream_url": STREAM, "labels": [" "]}, {"labels": "no_labels"}),
    ],
)
async def test_bad_camera_says_why_and_keeps_what_was_typed(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    source: str,
    details: dict[str, Any],
    errors: Mapping[str, str],
) -> None:
    typed = {"name": "Porch", **DETAILS, **details}
    result = await add_camera(hass, entry, source, **typed, advanced={"confidence": 0.5, "fps": 3})
    assert result["errors"] == errors
    assert {name: suggested(result, name) for name in typed} == typed
    assert result["data_schema"].schema["advanced"].schema({"fps": 3})["fps"] == 3
    assert not entry.subentries
    placeholders = result["description_placeholders"] or {}
    assert "pass" not in str(placeholders)


async def test_unreadable_file(hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.touch()
    with patch.object(Path, "open", side_effect=PermissionError):
        result = await add_camera(hass, entry, "file", file_path=str(clip), **DETAILS)
    assert result["errors"] == {"file_path": "file_unreadable"}


async def test_own_cameras_cannot_be_watched(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    own = er.async_get(hass).async_get_or_create("camera", DOMAIN, "x", config_entry=entry)
    hass.states.async_set(own.entity_id, "idle")
    with pytest.raises(vol.Invalid):
        await add_camera(hass, entry, "entity", camera_entity=own.entity_id, **DETAILS)


@pytest.mark.parametrize(
    "again",
    [STREAM, STREAM.replace("pass%20word", "other").replace("abc", "xyz"), STREAM.replace("rtsp://", "RTSP://")],
)
async def test_same_stream_twice(hass: HomeAssistant, entry: MockConfigEntry, again: str) -> None:
    await add_camera(hass, entry, "stream", stream_url=STREAM, **DETAILS)
    result = await add_camera(hass, entry, "stream", stream_url=again, **DETAILS)
    assert result["errors"] == {"stream_url": "already_configured"}
    result = await go_on(hass, result, stream_url=again.replace("ch1", "ch2"), **DETAILS)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert len(entry.subentries) == 2


async def reconfigure(hass: HomeAssistant, entry: MockConfigEntry, source: str) -> Any:
    result = await entry.start_subentry_reconfigure_flow(hass, only_camera(entry).subentry_id)
    assert result["type"] is FlowResultType.MENU
    assert result["step_id"] == "reconfigure"
    result = await go_on(hass, result, next_step_id="source")
    assert result["step_id"] == "source"
    return await go_on(hass, result, source=source)


async def test_reconfigure_stream_keeps_the_password_without_showing_it(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await add_camera(hass, entry, "stream", stream_url=STREAM, name="Door", **DETAILS)
    camera = only_camera(entry)
    unique_id, subentry_id = camera.unique_id, camera.subentry_id
    result = await reconfigure(hass, entry, "stream")
    assert suggested(result, "stream_url") == SHOWN_STREAM
    assert suggested(result, "name") == "Door"
    assert suggested(result, "labels") == ["person"]
    changed = SHOWN_STREAM.replace("ch1", "ch2")
    result = await go_on(
        hass,
        result,
        stream_url=changed,
        name="Porch",
        labels=["person", "Parcel ", "Be\u0301be\u0301"],
        detect=False,
        advanced={"confidence": 0.5, "fps": 2},
    )
    assert result["reason"] == "reconfigure_successful"
    camera = only_camera(entry)
    assert camera.subentry_id == subentry_id
    assert camera.unique_id != unique_id
    assert camera.title == "Porch"
    assert camera.data == {
        "source": "stream",
        "stream_url": STREAM.replace("ch1", "ch2"),
        "labels": ["person", "parcel", "bébé"],
        "detect": False,
        "confidence": 0.5,
        "fps": 2,
    }


async def test_reconfigure_without_a_change_is_no_duplicate(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await add_camera(hass, entry, "stream", stream_url=STREAM, name="Door", **DETAILS)
    result = await reconfigure(hass, entry, "stream")
    result = await go_on(hass, result, stream_url=SHOWN_STREAM, name="Door", **DETAILS)
    assert result["reason"] == "reconfigure_successful"
    assert only_camera(entry).data["stream_url"] == STREAM


async def test_reconfigure_to_another_kind_of_source(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> None:
    await add_camera(hass, entry, "stream", stream_url=STREAM, name="Door", **DETAILS)
    clip = tmp_path / "clip.mp4"
    clip.touch()
    result = await reconfigure(hass, entry, "file")
    assert suggested(result, "name") == "Door"
    result = await go_on(hass, result, file_path=str(clip), name="Door", **DETAILS)
    assert result["reason"] == "reconfigure_successful"
    data = only_camera(entry).data
    assert data["source"] == "file"
    assert "stream_url" not in data


ZONE = {"id": "0a1b2c3d", "name": "Drive", "points": [[0, 0], [1, 0], [1, 1]], "labels": [], "dwell": 0, "inertia": 3}


async def test_settings_that_are_edited_elsewhere_are_kept(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await add_camera(hass, entry, "stream", stream_url=STREAM, name="Door", note="Gone soon.", **DETAILS)
    others = {"zones": [ZONE], "opening_zones": [ZONE["id"]], "triggers": ["binary_sensor.bell"]}
    hass.config_entries.async_update_subentry(
        entry, only_camera(entry), data={**only_camera(entry).data, **others, "confidence": 0.5}
    )
    result = await reconfigure(hass, entry, "stream")
    result = await go_on(hass, result, stream_url=SHOWN_STREAM, name="Porch", **DETAILS)
    assert result["reason"] == "reconfigure_successful"
    data = only_camera(entry).data
    assert data.items() >= others.items()
    # What the form leaves out of its own is left out.
    assert "note" not in data
    assert data["confidence"] == 0.7


async def test_label_that_a_zone_is_limited_to_cannot_be_taken_away(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await add_camera(hass, entry, "stream", stream_url=STREAM, name="Door", labels=["person", "cat"], detect=True)
    zones = [{**ZONE, "labels": ["cat"]}]
    hass.config_entries.async_update_subentry(
        entry, only_camera(entry), data={**only_camera(entry).data, "zones": zones}
    )
    result = await reconfigure(hass, entry, "stream")
    result = await go_on(hass, result, stream_url=SHOWN_STREAM, labels=["person"], detect=True)
    assert result["errors"] == {"labels": "label_in_use"}
    assert result["description_placeholders"]["shapes"] == "Drive"
    result = await go_on(hass, result, stream_url=SHOWN_STREAM, labels=["cat"], detect=True)
    assert result["reason"] == "reconfigure_successful"
    assert only_camera(entry).data["zones"] == zones


def test_default_labels_are_offered() -> None:
    assert set(DEFAULT_LABELS) <= set(SECURITY_LABELS)
