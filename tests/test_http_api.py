"""Pictures over HTTP: for whoever may see the camera at the time of the request, and for nobody else."""

from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient
from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from sqlalchemy import event

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.http_api import PICTURES, VALIDITY, async_picture_url

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, frame, jpeg, make_entry, online, person, picture_of

NOW = 1_795_435_200.0
SHADE = 77


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """Two cameras; an incident with a picture at the first."""
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, {**ABSENT_FILE, "file_path": "/absent/yard.mp4"}))
    await async_report(
        hass, entry, online(at=NOW), frame(person(at=NOW), at=NOW), picture_of(1, at=NOW + 1, shade=SHADE)
    )
    return entry


@pytest.fixture
async def picture_id(entry: MockConfigEntry) -> int:
    """Return the picture's id."""
    (incident,) = await entry.runtime_data.store.async_incidents()
    assert incident.picture_id is not None
    return int(incident.picture_id)


def restrict(user: MockUser, entity_id: str) -> None:
    """Let the user read one entity and nothing else."""
    user.mock_policy({"entities": {"entity_ids": {entity_id: {"read": True}}}})


def only_token(user: MockUser) -> str:
    """Return the id of the user's refresh token."""
    (refresh_token_id,) = user.refresh_tokens
    return str(refresh_token_id)


async def status(client: TestClient[web.Request, web.Application], path: str) -> int:
    """Return the status that a path answers."""
    return (await client.get(path)).status


async def test_picture(hass_client: ClientSessionGenerator, picture_id: int) -> None:
    answer = await (await hass_client()).get(f"{PICTURES}/{picture_id}")
    assert answer.status == HTTPStatus.OK
    assert answer.content_type == "image/jpeg"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert await answer.read() == jpeg(SHADE)


async def test_unchanged_picture_is_not_sent_again(
    hass: HomeAssistant, entry: MockConfigEntry, hass_client: ClientSessionGenerator, picture_id: int
) -> None:
    client = await hass_client()
    etag = (await client.get(f"{PICTURES}/{picture_id}")).headers["ETag"]
    again = await client.get(f"{PICTURES}/{picture_id}", headers={"If-None-Match": etag})
    assert again.status == HTTPStatus.NOT_MODIFIED
    assert again.headers["ETag"] == etag
    assert await again.read() == b""
    other = await client.get(f"{PICTURES}/{picture_id}", headers={"If-None-Match": '"another"'})
    assert other.status == HTTPStatus.OK
    # A better view of the same track has another id and another tag.
    await async_report(hass, entry, picture_of(1, at=NOW + 2, score=0.95))
    better = await client.get(f"{PICTURES}/{picture_id + 1}", headers={"If-None-Match": etag})
    assert better.status == HTTPStatus.OK
    # The next one takes its place; the first view of a track is kept.
    await async_report(hass, entry, picture_of(1, at=NOW + 4, score=0.97))
    seen = [await status(client, f"{PICTURES}/{picture_id + number}") for number in range(3)]
    assert seen == [HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.OK]


async def test_picture_that_may_not_be_seen_costs_what_an_absent_one_does(
    entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
    picture_id: int,
) -> None:
    """So that the time an answer takes does not tell them apart."""
    restrict(hass_read_only_user, "camera.camera_1")
    client = await hass_client(hass_read_only_access_token)
    questions: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM pictures" in statement:  # not what else the integration asks meanwhile
            questions.append(statement)

    event.listen(entry.runtime_data.store._engine, "before_cursor_execute", note)
    asked = []
    for number in (picture_id, 999):
        assert await status(client, f"{PICTURES}/{number}") == HTTPStatus.NOT_FOUND
        asked.append(questions.copy())
        questions.clear()
    assert asked[0] == asked[1] != []


async def test_without_authentication(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_client_no_auth: ClientSessionGenerator,
    picture_id: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is told, whatever there is and however it is asked for; and Home Assistant bans nobody for it."""
    client = await hass_client_no_auth()
    answers = [
        await client.get(f"{PICTURES}/{number}{query}", headers=headers)
        for number in (picture_id, 999)
        for query in ("", "?authSig=", "?authSig=e30.e30.e30")
        for headers in ({}, {"Authorization": "Bearer e30.e30.e30"}, {"If-None-Match": "*"})
    ]
    assert await hass.config_entries.async_unload(entry.entry_id)
    answers.append(await client.get(f"{PICTURES}/{picture_id}"))
    assert {answer.status for answer in answers} == {HTTPStatus.FORBIDDEN}
    assert {await answer.read() for answer in answers} == {b"403: Forbidden"}
    assert all("ETag" not in answer.headers for answer in answers)
    assert "invalid authentication" not in caplog.text


async def test_signed_path(
    hass: HomeAssistant,
    hass_client_no_auth: ClientSessionGenerator,
    hass_admin_user: MockUser,
    hass_access_token: str,
    picture_id: int,
    freezer: FrozenDateTimeFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = await hass_client_no_auth()
    url = async_picture_url(hass, picture_id, only_token(hass_admin_user))
    assert await status(client, url) == HTTPStatus.OK
    assert await status(client, url.replace(f"/{picture_id}?", "/999?")) == HTTPStatus.FORBIDDEN
    freezer.tick(VALIDITY - timedelta(seconds=1))
    assert await status(client, url) == HTTPStatus.OK
    freezer.tick(2)
    assert await status(client, url) == HTTPStatus.FORBIDDEN
    assert "invalid authentication" not in caplog.text  # which would lead to a ban


async def test_permission_is_that_of_the_moment_and_of_the_signed_user(
    hass: HomeAssistant,
    hass_client_no_auth: ClientSessionGenerator,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
    picture_id: int,
) -> None:
    client = await hass_client_no_auth()
    url = async_picture_url(hass, picture_id, only_token(hass_read_only_user))
    restrict(hass_read_only_user, "camera.front_door")
    answer = await client.get(url)
    assert answer.status == HTTPStatus.OK
    restrict(hass_read_only_user, "camera.camera_1")
    # Not even that it is there still.
    assert (await client.get(url, headers={"If-None-Match": answer.headers["ETag"]})).status == HTTPStatus.NOT_FOUND
    unknown = async_picture_url(hass, 999, only_token(hass_read_only_user))
    refused, absent = await client.get(url), await client.get(unknown)
    assert refused.status == absent.status == HTTPStatus.NOT_FOUND
    assert await refused.read() == await absent.read()
    await hass.auth.async_remove_user(hass_read_only_user)
    assert await status(client, url) == HTTPStatus.FORBIDDEN


async def test_picture_of_a_removed_camera(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
    picture_id: int,
) -> None:
    administrator, other = await hass_client(), await hass_client(hass_read_only_access_token)
    assert await status(other, f"{PICTURES}/{picture_id}") == HTTPStatus.OK
    hass.config_entries.async_remove_subentry(entry, CAMERA)
    await hass.async_block_till_done()
    assert await status(administrator, f"{PICTURES}/{picture_id}") == HTTPStatus.OK
    assert await status(other, f"{PICTURES}/{picture_id}") == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    "name", ["0", "-1", "1.jpg", "1e3", "0x1", "%31%20", "..%2F..%2Fevents.db", "9" * 18, "9" * 19, "٣", ""]
)
async def test_what_names_no_picture(
    hass: HomeAssistant, picture_id: int, hass_client: ClientSessionGenerator, name: str
) -> None:
    answer = await (await hass_client()).get(f"{PICTURES}/{name}")
    assert answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)


async def test_file_that_is_gone(hass: HomeAssistant, picture_id: int, hass_client: ClientSessionGenerator) -> None:
    folder = Path(hass.config.path(DOMAIN, "pictures"))
    (file,) = await hass.async_add_executor_job(lambda: list(folder.rglob(f"{picture_id}.jpg")))
    await hass.async_add_executor_job(file.unlink)
    assert await status(await hass_client(), f"{PICTURES}/{picture_id}") == HTTPStatus.NOT_FOUND


async def test_store_that_does_not_answer_and_integration_that_does_not_run(
    hass: HomeAssistant, entry: MockConfigEntry, picture_id: int, hass_client: ClientSessionGenerator
) -> None:
    client = await hass_client()
    await entry.runtime_data.store.async_close()
    assert await status(client, f"{PICTURES}/{picture_id}") == HTTPStatus.SERVICE_UNAVAILABLE
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert await status(client, f"{PICTURES}/{picture_id}") == HTTPStatus.SERVICE_UNAVAILABLE
