"""Camera entities of Home Assistant's own integrations as sources, with the real worker and real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import logging
from pathlib import Path
import time
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security import feeds
from custom_components.nemotron_security.checks import camera_identity
from custom_components.nemotron_security.models import CameraHealth, CameraStatus, Problem
from custom_components.nemotron_security.vision.messages import SourceKind
from demo.stream_server import StreamServer

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, async_until, frame, jpeg, make_entry, online, person
from .vision.blobs import write_video

SECRET = "secret-word"
LOBBY = {"source": "entity", "camera_entity": "camera.lobby"}


@pytest.fixture(autouse=True)
def _real_sockets(socket_enabled: None) -> None:
    """Everything here listens on loopback."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of a test, not of a house."""
    monkeypatch.setattr(feeds, "FIRST_PAUSE", 0.3)
    monkeypatch.setattr(feeds, "LONGEST_PAUSE", 1.0)
    monkeypatch.setattr(feeds, "STILLS_PATIENCE", 1.0)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "lobby.mp4")


async def add_stills(hass: HomeAssistant, picture: Path) -> MockConfigEntry:
    """Set up Home Assistant's `local_file` as camera.lobby."""
    entry = MockConfigEntry(domain="local_file", title="Lobby", options={"name": "Lobby", "file_path": str(picture)})
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


async def add_generic(hass: HomeAssistant, **options: Any) -> MockConfigEntry:
    """Set up Home Assistant's `generic` as camera.lobby."""
    entry = MockConfigEntry(domain="generic", title="Lobby", version=2, options=generic_options(**options))
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


def generic_options(**options: Any) -> dict[str, Any]:
    advanced = {"framerate": 2.0, "verify_ssl": True, "authentication": "basic"}
    return {"content_type": "image/jpeg", "advanced": advanced, **options}


def health(entry: MockConfigEntry) -> CameraHealth:
    camera_health: CameraHealth = entry.runtime_data.cameras[CAMERA].data.health
    return camera_health


async def becomes(entry: MockConfigEntry, status: CameraStatus, problem: Problem | None = None) -> None:
    await async_until(lambda: (health(entry).status, health(entry).problem) == (status, problem))


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Accept connections and say nothing; yields the address and what tells that somebody asked."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await release.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/still.jpg", asked
        release.set()


async def test_stills_of_a_camera_without_a_stream(hass: HomeAssistant, tmp_path: Path) -> None:
    picture = tmp_path / "lobby.jpg"
    picture.write_bytes(jpeg())
    await add_stills(hass, picture)
    entry = await async_set_up(hass, make_entry(LOBBY))
    await becomes(entry, CameraStatus.ONLINE)
    executor = entry.runtime_data.executor
    assert executor._cameras[CAMERA].source.kind is SourceKind.STILLS
    snapshot = await executor.async_snapshot(CAMERA)
    assert snapshot is not None
    later = await executor.async_snapshot(CAMERA, after=snapshot.frame_id)
    assert later is not None
    assert later.frame_id > snapshot.frame_id

    picture.unlink()
    await becomes(entry, CameraStatus.OFFLINE, Problem.CAMERA_UNAVAILABLE)
    picture.write_bytes(jpeg())
    await becomes(entry, CameraStatus.ONLINE)


async def test_entity_that_appears_later_and_goes(hass: HomeAssistant, tmp_path: Path) -> None:
    """Our entry may be loaded before that of the camera's integration."""
    entry = await async_set_up(hass, make_entry(LOBBY))
    await becomes(entry, CameraStatus.OFFLINE, Problem.CAMERA_UNAVAILABLE)
    picture = tmp_path / "lobby.jpg"
    picture.write_bytes(jpeg())
    theirs = await add_stills(hass, picture)
    await becomes(entry, CameraStatus.ONLINE)
    # Unavailable,
    assert await hass.config_entries.async_unload(theirs.entry_id)
    await becomes(entry, CameraStatus.OFFLINE, Problem.CAMERA_UNAVAILABLE)
    assert await hass.config_entries.async_setup(theirs.entry_id)
    await becomes(entry, CameraStatus.ONLINE)
    # and gone for good.
    await hass.config_entries.async_remove(theirs.entry_id)
    await hass.async_block_till_done()
    assert er.async_get(hass).async_get("camera.lobby") is None
    await becomes(entry, CameraStatus.OFFLINE, Problem.CAMERA_UNAVAILABLE)


async def test_entity_that_is_renamed_is_followed(hass: HomeAssistant, tmp_path: Path) -> None:
    picture = tmp_path / "lobby.jpg"
    picture.write_bytes(jpeg())
    await add_stills(hass, picture)
    entry = await async_set_up(hass, make_entry({**LOBBY, "fps": 2.0}))
    await becomes(entry, CameraStatus.ONLINE)
    er.async_get(hass).async_update_entity("camera.lobby", new_entity_id="camera.hall")
    await hass.async_block_till_done()
    subentry = entry.subentries[CAMERA]
    assert subentry.data == {**LOBBY, "camera_entity": "camera.hall", "fps": 2.0}
    assert subentry.unique_id == camera_identity(subentry.data)
    await becomes(entry, CameraStatus.ONLINE)
    assert [t for t in asyncio.all_tasks() if t.get_name().endswith("feed of camera.hall")]


async def test_alarm_panel_that_is_renamed_is_followed(hass: HomeAssistant) -> None:
    panel = er.async_get(hass).async_get_or_create("alarm_control_panel", "test", "1", suggested_object_id="house")
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, options={"alarm_panel": panel.entity_id}))
    er.async_get(hass).async_update_entity(panel.entity_id, new_entity_id="alarm_control_panel.home")
    await hass.async_block_till_done()
    assert entry.options["alarm_panel"] == "alarm_control_panel.home"


async def test_calendar_that_is_renamed_is_followed(hass: HomeAssistant) -> None:
    calendar = er.async_get(hass).async_get_or_create("calendar", "test", "1", suggested_object_id="visits")
    options = {"calendars": ["calendar.other", calendar.entity_id]}
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, options=options))
    er.async_get(hass).async_update_entity(calendar.entity_id, new_entity_id="calendar.guests")
    await hass.async_block_till_done()
    assert entry.options["calendars"] == ["calendar.other", "calendar.guests"]


async def test_stream_of_an_entity_is_decoded_and_followed(
    hass: HomeAssistant, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "custom_components.nemotron_security")
    login = {"username": "guard", "password": SECRET}
    async with StreamServer({"lobby": video}, user="guard", password=SECRET) as server:
        theirs = await add_generic(hass, stream_source=server.url("lobby"), **login)
        entry = await async_set_up(hass, make_entry(LOBBY))
        await becomes(entry, CameraStatus.ONLINE)
        assert entry.runtime_data.executor._cameras[CAMERA].source.kind is SourceKind.STREAM
        assert server.clients == 1
        await async_until(lambda: entry.runtime_data.cameras[CAMERA].data.motion)
    await async_until(lambda: health(entry).status is not CameraStatus.ONLINE)
    # The camera has another address now, which only its own integration knows.
    async with StreamServer({"lobby": video}, user="guard", password=SECRET) as server:
        options = generic_options(stream_source=server.url("lobby"), **login)
        hass.config_entries.async_update_entry(theirs, options=options)
        await becomes(entry, CameraStatus.ONLINE)
        assert server.clients == 1
        # What still streams is watched, whatever its entity says; what does not is asked for again.
        assert await hass.config_entries.async_unload(theirs.entry_id)
        await hass.async_block_till_done()
        assert health(entry).status is CameraStatus.ONLINE
    await becomes(entry, CameraStatus.OFFLINE, Problem.CAMERA_UNAVAILABLE)
    async with StreamServer({"lobby": video}, user="guard", password=SECRET) as server:
        options = generic_options(stream_source=server.url("lobby"), **login)
        hass.config_entries.async_update_entry(theirs, options=options)
        assert await hass.config_entries.async_setup(theirs.entry_id)
        await becomes(entry, CameraStatus.ONLINE)
        assert await hass.config_entries.async_unload(entry.entry_id)
    ours = [record.getMessage() for record in caplog.records if "nemotron_security" in record.name]
    assert ours
    assert not [line for line in ours if SECRET in line]


async def test_entity_whose_integration_fails_is_tried_again(hass: HomeAssistant, video: Path) -> None:
    """This address lets `generic` raise what no caller expects."""
    theirs = await add_generic(hass, stream_source=f"http://guard:{SECRET}@[")
    entry = await async_set_up(hass, make_entry(LOBBY))
    await becomes(entry, CameraStatus.OFFLINE, Problem.CAMERA_UNAVAILABLE)
    assert health(entry).detail
    assert SECRET not in health(entry).detail
    async with StreamServer({"lobby": video}) as server:
        options = generic_options(stream_source=server.url("lobby"))
        hass.config_entries.async_update_entry(theirs, options=options)
        await becomes(entry, CameraStatus.ONLINE)
        assert await hass.config_entries.async_unload(entry.entry_id)


async def test_unload_while_a_still_is_waited_for(hass: HomeAssistant, silent_worker: None) -> None:
    """Home Assistant 2026.10 swallows the cancellation of who waits for a still."""
    async with silent_server() as (url, asked):
        await add_generic(hass, still_image_url=url)
        entry = await async_set_up(hass, make_entry(LOBBY))
        await asked.wait()
        task = entry.runtime_data._feeds[CAMERA]._task
        assert task is not None
        begun = time.monotonic()
        assert await hass.config_entries.async_unload(entry.entry_id)
        assert time.monotonic() - begun < 3
        assert task.cancelled()


async def test_last_of_several_quick_changes_wins(hass: HomeAssistant, silent_worker: None, tmp_path: Path) -> None:
    picture = tmp_path / "lobby.jpg"
    picture.write_bytes(jpeg())
    await add_stills(hass, picture)
    entry = await async_set_up(hass, make_entry(LOBBY))
    executor = entry.runtime_data.executor
    await async_until(lambda: CAMERA in executor._cameras)
    for fps in (2.0, 3.0, 4.0):
        hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data={**LOBBY, "fps": fps})
    await hass.async_block_till_done()
    await async_until(lambda: executor._cameras[CAMERA].fps == 4.0)
    feeding = [task for task in asyncio.all_tasks() if "feed of camera.lobby" in task.get_name()]
    assert len(feeding) == 1


async def test_another_source_is_never_mixed_up_with_the_old_one(
    hass: HomeAssistant, silent_worker: None, video: Path
) -> None:
    entry = await async_set_up(hass, make_entry({"source": "file", "file_path": str(video)}))
    executor = entry.runtime_data.executor
    assert CAMERA in executor._cameras
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data=LOBBY)
    await hass.async_block_till_done()
    assert CAMERA not in executor._cameras
    assert entry.runtime_data.cameras[CAMERA].data.counts is None
    assert health(entry).problem is Problem.CAMERA_UNAVAILABLE
