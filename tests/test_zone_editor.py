"""The window in which zones are drawn, over HTTP: what it takes, and from whom."""

from collections.abc import Mapping
from copy import deepcopy
from datetime import timedelta
from http import HTTPStatus
import json
from pathlib import Path
import re
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient
from freezegun.api import FrozenDateTimeFactory
from homeassistant.components.http.ban import KEY_FAILED_LOGIN_ATTEMPTS
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, UnknownFlow
from homeassistant.loader import async_get_integration
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.zone_editor import EDITOR, LARGEST_BODY, WINDOW_VALIDITY

from .house import CAMERA, jpeg
from .test_zone_flow import FULL, LINE, MASK, ZONE, camera, choose, go_on, is_menu, set_up, start, suggested

pytestmark = pytest.mark.usefixtures("seen")

POINTS = [[0.1, 0.2], [0.5, 0.2], [0.5, 0.8]]
CROSSED = [[0, 0], [1, 1], [1, 0], [0, 1]]
NOTHING: dict[str, Any] = {"zones": [], "lines": [], "masks": [], "gone": []}
NEW_ZONE = {"id": "", "name": "Lawn", "points": POINTS}
NEW_LINE = {"id": "", "name": "Door", "points": POINTS[:2], "direction": "to_left"}
NEW_MASK = {"id": "", "name": "Flag", "points": POINTS}
DRAWN_ZONE = {"id": ZONE["id"], "name": ZONE["name"], "points": ZONE["points"]}

type Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def entry(hass: HomeAssistant) -> MockConfigEntry:
    return await set_up(hass, FULL)


@pytest.fixture
async def client(hass_client_no_auth: ClientSessionGenerator, entry: MockConfigEntry) -> Client:
    """A browser in which nobody is logged in: an app may open the window in another one."""
    client: Client = await hass_client_no_auth()
    return client


@pytest.fixture
async def step(hass: HomeAssistant, entry: MockConfigEntry) -> Any:
    """The step that opened the window."""
    result = await choose(hass, await start(hass, entry), "draw")
    assert result["type"] is FlowResultType.EXTERNAL_STEP
    return result


@pytest.fixture
def path(step: Any) -> str:
    return str(step["url"][step["url"].index(EDITOR) :])


async def send(client: Client, path: str, **drawn: Any) -> tuple[int, Any]:
    answer = await client.post(path, json={**NOTHING, **drawn})
    return answer.status, await answer.json() if answer.content_type == "application/json" else None


async def now(hass: HomeAssistant, step: Any) -> Any:
    """Return what the dialog shows once it is told that the flow went on."""
    return await hass.config_entries.subentries.async_configure(step["flow_id"])


# --- the page -------------------------------------------------------------------------------------------------------


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


async def test_page(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == HTTPStatus.OK
    assert answer.content_type == "text/html"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    page = await answer.text()
    data = data_of(page)
    assert [(shape["kind"], shape["name"]) for shape in data["shapes"]] == [
        ("zone", "Drive"),
        ("line", "Gate"),
        ("mask", "Tree"),
    ]
    assert data["shapes"][1] == {
        "kind": "line",
        "id": LINE["id"],
        "name": "Gate",
        "direction": "to_right",
        "points": [LINE["start"], LINE["end"]],
    }
    assert data["texts"]["save"] == "Save"
    # Nothing of the camera but what is drawn: the address of its stream may hold a password.
    assert "absent" not in page
    assert "<title>Front door: draw in the picture</title>" in page


@pytest.fixture
async def translated(hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be texts in German and in Brazil's Portuguese too."""
    integration = await async_get_integration(hass, DOMAIN)
    english = integration.file_path / "translations" / "en.json"
    folder = tmp_path / "translations"
    folder.mkdir()
    for language in ("en", "de", "pt-BR"):
        texts = json.loads(english.read_text())
        if language != "en":
            texts["common"] |= {"draw_save": f"Save in {language}", "draw_expired": f"Expired in {language}"}
            texts["config_subentries"]["camera"]["error"]["empty_name"] = f"Empty in {language}"
        (folder / f"{language}.json").write_text(json.dumps(texts))
    monkeypatch.setattr(integration, "file_path", tmp_path)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB, de;q=0.9", "en"),
        ("en;q=0.5, fr, DE;q=0.7", "de"),
        ("de;q=0, en;q=0.1", "en"),
        ("pt-br", "pt-BR"),
        ("pt-PT,es", "en"),
        ("fr", "en"),
        ("*", "en"),
        (";;q=x,-,../../etc", "en"),
    ],
)
@pytest.mark.usefixtures("translated")
async def test_it_speaks_the_language_of_who_looks_at_it(
    hass: HomeAssistant, client: Client, path: str, accepted: str, language: str
) -> None:
    hass.config.language = "fr"
    said = {"Accept-Language": accepted}
    page = await (await client.get(path, headers=said)).text()
    in_words = "" if language == "en" else f" in {language}"
    assert f'<html lang="{language}">' in page
    assert data_of(page)["texts"]["save"] == f"Save{in_words}"
    answer = await client.post(path, json={**NOTHING, "zones": [{**NEW_ZONE, "name": ""}]}, headers=said)
    (problem,) = (await answer.json())["problems"]
    assert (" in " in problem["text"]) is (language != "en")
    assert problem["text"].endswith(in_words or ".")
    expired = await (await client.get(f"{EDITOR}/wrong", headers=said)).text()
    assert expired.endswith(in_words or ".")


@pytest.mark.usefixtures("translated")
async def test_a_browser_that_names_no_language_gets_the_servers(
    hass: HomeAssistant, client: Client, path: str
) -> None:
    hass.config.language = "de"
    assert '<html lang="de">' in await (await client.get(path)).text()


async def test_page_runs_nothing_but_its_own_script(client: Client, path: str) -> None:
    policies, nonces = [], []
    for _ in range(2):
        answer = await client.get(path)
        policies.append(answer.headers["Content-Security-Policy"])
        page = await answer.text()
        (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
        nonces.append(nonce)
        rules = dict(rule.strip().split(" ", 1) for rule in policies[-1].split(";"))
        assert rules == {
            "default-src": "'none'",
            "script-src": f"'nonce-{nonce}'",
            "style-src": f"'nonce-{nonce}'",
            "img-src": "'self'",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        # It needs nothing from anywhere else.
        assert re.findall(r'(?:src|href)="(?!/static/)([^"]+)"', page) == []
        assert re.findall(r'\bon\w+="|\bstyle="|javascript:', page) == []
    assert nonces[0] != nonces[1]


EVIL = '</script><img src=x onerror=alert(1)>&"$nonce${x}'


async def test_names_are_escaped(hass: HomeAssistant, entry: MockConfigEntry, client: Client, path: str) -> None:
    subentry = entry.subentries[CAMERA]
    zones = [{**ZONE, "name": EVIL}]
    hass.config_entries.async_update_subentry(entry, subentry, title=EVIL, data={**FULL, "zones": zones})
    page = await (await client.get(path)).text()
    assert "<img src=x" not in page
    assert data_of(page)["shapes"][0]["name"] == EVIL
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&amp;&quot;$nonce${x}: draw" in page


async def test_page_shows_the_newest_picture(client: Client, path: str, seen: dict[str, bytes]) -> None:
    seen[CAMERA] = jpeg(200)
    answer = await client.get(f"{path}/picture?17")
    assert (answer.status, answer.content_type) == (HTTPStatus.OK, "image/jpeg")
    assert answer.headers["Cache-Control"] == "no-store"
    assert await answer.read() == jpeg(200)
    seen.clear()
    assert await (await client.get(f"{path}/picture")).read() == jpeg(200)


async def test_camera_that_was_never_seen(hass: HomeAssistant, client: Client, seen: dict[str, bytes]) -> None:
    seen.clear()
    (entry,) = hass.config_entries.async_entries("nemotron_security")
    step = await choose(hass, await start(hass, entry), "draw")
    path = step["url"][step["url"].index(EDITOR) :]
    assert (await client.get(path)).status == HTTPStatus.OK
    assert (await client.get(f"{path}/picture")).status == HTTPStatus.NOT_FOUND


# --- saving ---------------------------------------------------------------------------------------------------------


async def test_what_is_drawn_is_saved_at_once_and_then_asked_about(
    hass: HomeAssistant, entry: MockConfigEntry, client: Client, step: Any, path: str
) -> None:
    status, body = await send(client, path, zones=[DRAWN_ZONE, NEW_ZONE], lines=[NEW_LINE], masks=[NEW_MASK])
    assert (status, body) == (HTTPStatus.OK, {"problems": []})
    data = camera(entry)
    assert data.items() >= {key: FULL[key] for key in FULL if key not in ("zones", "lines", "masks")}.items()
    old, zone = data["zones"]
    assert old == ZONE
    new_line, new_mask = data["lines"][1], data["masks"][1]
    assert data["lines"][0] == LINE
    assert data["masks"][0] == MASK
    assert zone == {"id": zone["id"], "name": "Lawn", "points": POINTS, "labels": [], "dwell": 0, "inertia": 3}
    assert new_line == {
        "id": new_line["id"],
        "name": "Door",
        "start": POINTS[0],
        "end": POINTS[1],
        "direction": "to_left",
        "labels": [],
    }
    assert new_mask == {
        "id": new_mask["id"],
        "name": "Flag",
        "points": POINTS,
        "labels": [],
        "motion": True,
        "objects": True,
    }
    result = await now(hass, step)
    assert (result["step_id"], suggested(result)["name"]) == ("zone", "Lawn")
    details = {"name": "Grass", "points": "10,20 50,20 50,80", "labels": ["cat"], "dwell": 7, "inertia": 2}
    result = await go_on(hass, result, **details)
    assert (result["step_id"], suggested(result)["direction"]) == ("line", "to_left")
    assert camera(entry)["zones"][1] == {**zone, "name": "Grass", "labels": ["cat"], "dwell": 7, "inertia": 2}
    result = await go_on(hass, result, name="Door", points="10,20 50,20", labels=[], direction="both")
    assert result["step_id"] == "mask"
    result = await go_on(hass, result, name="", points="10,20 50,20 50,80", labels=[], motion=True, objects=False)
    assert result["errors"] == {"name": "empty_name"}
    assert is_menu(
        await go_on(hass, result, name="Flag", points="10,20 50,20 50,80", labels=[], motion=True, objects=False)
    )


async def test_what_is_moved_renamed_and_deleted(
    hass: HomeAssistant, entry: MockConfigEntry, client: Client, step: Any, path: str
) -> None:
    line = {"id": LINE["id"], "name": " Front  gate ", "points": POINTS[:2], "direction": "both"}
    moved = {**DRAWN_ZONE, "points": [*POINTS, [0.123456, 0.9], [0.12346, 0.9]]}
    assert (await send(client, path, zones=[moved], lines=[line], gone=[MASK["id"]]))[0] == HTTPStatus.OK
    data = camera(entry)
    assert data["zones"] == [{**ZONE, "points": [*POINTS, [0.1235, 0.9]]}]
    assert data["lines"] == [{**LINE, "name": "Front gate", "start": POINTS[0], "end": POINTS[1], "direction": "both"}]
    assert data["masks"] == []
    assert is_menu(await now(hass, step))


async def test_no_incident_waits_for_what_is_deleted(entry: MockConfigEntry, client: Client, path: str) -> None:
    assert (await send(client, path, gone=[ZONE["id"]]))[0] == HTTPStatus.OK
    assert camera(entry) == {**FULL, "zones": [], "opening_zones": [LINE["id"]]}


async def test_names_can_be_exchanged(entry: MockConfigEntry, client: Client, path: str) -> None:
    line = {"id": LINE["id"], "name": "Drive", "points": [LINE["start"], LINE["end"]], "direction": "both"}
    assert (await send(client, path, zones=[{**DRAWN_ZONE, "name": "Gate"}], lines=[line]))[0] == HTTPStatus.OK
    assert (camera(entry)["zones"][0]["name"], camera(entry)["lines"][0]["name"]) == ("Gate", "Drive")


async def test_what_was_changed_elsewhere_meanwhile_is_kept(
    hass: HomeAssistant, entry: MockConfigEntry, client: Client, path: str
) -> None:
    added = {**ZONE, "id": "33333333", "name": "Added"}
    settings = {**FULL, "zones": [added], "lines": [{**LINE, "labels": ["cat"]}], "opening_zones": [], "new": 1}
    hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data=settings)
    # The window still has the zone that was deleted: it was drawn on, and is there again.
    line = {"id": LINE["id"], "name": "Gate", "points": POINTS[:2], "direction": "to_right"}
    assert (await send(client, path, zones=[DRAWN_ZONE], lines=[line]))[0] == HTTPStatus.OK
    data = camera(entry)
    assert [zone["name"] for zone in data["zones"]] == ["Added", "Drive"]
    assert data["zones"][1]["points"] == ZONE["points"]
    assert data["lines"] == [{**LINE, "labels": ["cat"], "start": POINTS[0], "end": POINTS[1]}]
    assert data["new"] == 1


@pytest.mark.parametrize(
    ("drawn", "where"),
    [
        ({"zones": [{**NEW_ZONE, "points": POINTS[:2]}]}, ("zones", 0, "points", "too_few_points")),
        (
            {"zones": [{**NEW_ZONE, "points": [[0, 0], [1, 1], [1, 0], [0, 1]]}]},
            ("zones", 0, "points", "crosses_itself"),
        ),
        ({"masks": [NEW_MASK, {**NEW_MASK, "name": " "}]}, ("masks", 1, "name", "empty_name")),
        ({"masks": [{**NEW_MASK, "name": "TREE"}]}, ("masks", 0, "name", "name_taken")),
        ({"lines": [{**NEW_LINE, "points": [[0.5, 0.5], [0.5, 0.5]]}]}, ("lines", 0, "points", "no_length")),
        ({"lines": [{**NEW_LINE, "points": [[0.5, 0.5], [1.5, 0.5]]}]}, ("lines", 0, "points", "outside_picture")),
        (
            {"zones": [{**NEW_ZONE, "points": [[n / 40, (n * n % 37) / 40] for n in range(33)]}]},
            ("zones", 0, "points", "too_many_points"),
        ),
        ({"zones": [{**NEW_ZONE, "name": f"Zone {n}"} for n in range(20)]}, ("zones", None, "base", "too_many_shapes")),
    ],
)
async def test_bad_drawing_is_not_taken_and_not_lost(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    client: Client,
    step: Any,
    path: str,
    drawn: Mapping[str, Any],
    where: tuple[Any, ...],
) -> None:
    status, body = await send(client, path, **deepcopy(drawn))
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY
    (problem,) = body["problems"]
    assert tuple(problem[key] for key in ("kind", "index", "field", "problem")) == where
    assert problem["text"].endswith(".")
    assert camera(entry) == FULL
    assert (await now(hass, step))["type"] is FlowResultType.EXTERNAL_STEP
    # The window stays open for another try.
    assert (await send(client, path))[0] == HTTPStatus.OK


async def test_both_of_two_with_one_name_are_told(client: Client, path: str) -> None:
    _, body = await send(client, path, zones=[{**NEW_ZONE, "name": "gate"}, {**NEW_ZONE, "name": "Gate"}])
    assert [(problem["index"], problem["problem"]) for problem in body["problems"]] == [
        (0, "name_taken"),
        (1, "name_taken"),
    ]


async def test_leaving_changes_nothing(
    hass: HomeAssistant, entry: MockConfigEntry, client: Client, step: Any, path: str
) -> None:
    answer = await client.post(path, json={"cancel": True})
    assert answer.status == HTTPStatus.OK
    assert camera(entry) == FULL
    assert is_menu(await now(hass, step))
    assert (await client.get(path)).status == HTTPStatus.FORBIDDEN


async def test_dialog_that_was_closed_just_then(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    client: Client,
    step: Any,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was drawn is saved all the same."""

    async def gone(_flow_id: str) -> None:
        raise UnknownFlow

    monkeypatch.setattr(hass.config_entries.subentries, "async_configure", gone)
    assert (await send(client, path, zones=[NEW_ZONE]))[0] == HTTPStatus.OK
    assert camera(entry)["zones"][1]["name"] == "Lawn"
    assert (await client.get(path)).status == HTTPStatus.FORBIDDEN


# --- who may --------------------------------------------------------------------------------------------------------


async def assert_closed(client: Client, path: str, entry: MockConfigEntry) -> None:
    """Nothing can be read or changed there, and nobody is banned for trying."""
    before = deepcopy(dict(entry.subentries[CAMERA].data)) if CAMERA in entry.subentries else None
    for answer in (
        await client.get(path),
        await client.get(f"{path}/picture"),
        await client.post(path, json={**NOTHING, "gone": [ZONE["id"]]}),
        await client.post(path, json={"cancel": True}),
        await client.post(path, data=b"\xff"),
    ):
        assert answer.status == HTTPStatus.FORBIDDEN
        text = await answer.text()
        assert "Drive" not in text
        assert "no longer valid" in text
    assert before is None or entry.subentries[CAMERA].data == before
    assert not client.app[KEY_FAILED_LOGIN_ATTEMPTS]


@pytest.mark.parametrize("secret", ["x", "A" * 43, "%00", "é", "'", "None", "0"])
async def test_wrong_secret(client: Client, entry: MockConfigEntry, path: str, secret: str) -> None:
    await assert_closed(client, f"{EDITOR}/{secret}", entry)
    await assert_closed(client, path[:-1], entry)
    await assert_closed(client, f"{path}A", entry)
    assert (await client.get(path)).status == HTTPStatus.OK


async def test_no_window_is_open_before_it_was_asked_for(
    hass: HomeAssistant, entry: MockConfigEntry, client: Client
) -> None:
    result = await start(hass, entry)
    await assert_closed(client, f"{EDITOR}/{result['flow_id']}", entry)
    assert (await client.get(f"{EDITOR}/")).status == HTTPStatus.NOT_FOUND


async def test_secret_is_spent_by_saving(client: Client, entry: MockConfigEntry, path: str) -> None:
    assert (await send(client, path))[0] == HTTPStatus.OK
    await assert_closed(client, path, entry)


async def test_secret_ends_with_the_dialog(
    hass: HomeAssistant, client: Client, entry: MockConfigEntry, step: Any, path: str
) -> None:
    hass.config_entries.subentries.async_abort(step["flow_id"])
    await assert_closed(client, path, entry)


async def test_secret_of_a_dialog_that_nobody_closes(
    hass: HomeAssistant,
    client: Client,
    entry: MockConfigEntry,
    step: Any,
    path: str,
    freezer: FrozenDateTimeFactory,
) -> None:
    freezer.tick(WINDOW_VALIDITY - timedelta(seconds=1))
    assert (await client.get(path)).status == HTTPStatus.OK
    freezer.tick(1)
    await assert_closed(client, path, entry)
    # The dialog opens another one.
    again = await now(hass, step)
    assert (await client.get(again["url"][again["url"].index(EDITOR) :])).status == HTTPStatus.OK


async def test_secret_ends_with_the_camera(
    hass: HomeAssistant, client: Client, entry: MockConfigEntry, path: str
) -> None:
    hass.config_entries.async_remove_subentry(entry, CAMERA)
    await hass.async_block_till_done()
    await assert_closed(client, path, entry)


async def test_each_flow_and_each_visit_has_its_own_secret(
    hass: HomeAssistant, client: Client, entry: MockConfigEntry, step: Any, path: str
) -> None:
    other_step = await choose(hass, await start(hass, entry), "draw")
    other = other_step["url"][other_step["url"].index(EDITOR) :]
    assert other != path
    assert (await send(client, path))[0] == HTTPStatus.OK
    # The other flow's window is open still; what it saves moves only its own flow.
    assert is_menu(await now(hass, step))
    assert (await now(hass, other_step))["type"] is FlowResultType.EXTERNAL_STEP
    again = await choose(hass, step, "draw")
    path_again = again["url"][again["url"].index(EDITOR) :]
    assert path_again not in (path, other)
    await assert_closed(client, path, entry)
    assert (await send(client, other))[0] == HTTPStatus.OK
    assert (await now(hass, again))["type"] is FlowResultType.EXTERNAL_STEP


# --- malformed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        *(None, [], {}, "x", 1, {"cancel": False}, {"cancel": True, "gone": []}),
        {**NOTHING, "zones": None},
        {**NOTHING, "more": 1},
        {key: value for key, value in NOTHING.items() if key != "gone"},
        {**NOTHING, "gone": [1]},
        {**NOTHING, "zones": [{}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "labels": ["person"]}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "id": None}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "id": "0" * 33}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "name": 1}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "name": "x" * 1001}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "points": []}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "points": [[0.1], [0.2], [0.3]]}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "points": [[0.1, "0.2"], [0.5, 0.2], [0.5, 0.8]]}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "points": [[0.1, None], [0.5, 0.2], [0.5, 0.8]]}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "points": [[True, False], [0.5, 0.2], [0.5, 0.8]]}]},
        {**NOTHING, "zones": [{**NEW_ZONE, "points": [[0.5, 0.5]] * 1001}]},
        {**NOTHING, "lines": [NEW_ZONE]},
        {**NOTHING, "lines": [{**NEW_LINE, "direction": "up"}]},
        {**NOTHING, "lines": [{**NEW_LINE, "points": POINTS}]},
        {**NOTHING, "masks": [{**NEW_MASK, "motion": True}]},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
async def test_malformed_body(entry: MockConfigEntry, client: Client, path: str, body: Any) -> None:
    answer = await client.post(path, json=body)
    assert answer.status == HTTPStatus.BAD_REQUEST
    assert camera(entry) == FULL
    assert (await client.get(path)).status == HTTPStatus.OK


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        json.dumps({**NOTHING, "zones": [{**NEW_ZONE, "points": [[float("nan"), 0], [1, 0], [1, 1]]}]}).encode(),
        json.dumps({**NOTHING, "zones": [{**NEW_ZONE, "name": "\ud800"}]}).encode(),
        b"[" * 100_000,
    ],
)
async def test_what_is_no_json(entry: MockConfigEntry, client: Client, path: str, raw: bytes) -> None:
    answer = await client.post(path, data=raw, headers={"Content-Type": "application/json"})
    assert answer.status == HTTPStatus.BAD_REQUEST
    assert camera(entry) == FULL


async def test_form_of_another_site_is_not_taken(entry: MockConfigEntry, client: Client, path: str) -> None:
    """A browser asks nobody before it sends one of these."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await client.post(path, data=json.dumps(NOTHING), headers={"Content-Type": kind})
        assert answer.status == HTTPStatus.BAD_REQUEST
    assert camera(entry) == FULL


async def test_too_much(entry: MockConfigEntry, client: Client, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post(path, data=b" " * (LARGEST_BODY + 1), headers=headers)
    assert answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    async def chunks() -> Any:
        yield json.dumps(NOTHING).encode()

    # Without a length nobody knows when it ends.
    assert (await client.post(path, data=chunks(), headers=headers)).status == HTTPStatus.BAD_REQUEST
    assert camera(entry) == FULL


async def test_the_most_that_can_be_drawn_is_taken(
    hass: HomeAssistant, entry: MockConfigEntry, client: Client, path: str
) -> None:
    hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data={**FULL, "zones": [], "masks": []})
    ring = [[n / 32, 0.123456789] for n in range(16)] + [[1 - n / 32, 0.987654321] for n in range(16, 32)]
    zones = [{"id": "", "name": f"{n:02} {'x' * 37}", "points": ring} for n in range(20)]
    status, body = await send(client, path, zones=zones, masks=zones)
    assert (status, body) == (HTTPStatus.OK, {"problems": []})
    assert len(camera(entry)["zones"]) == len(camera(entry)["masks"]) == 20


# --- the forms' picture ---------------------------------------------------------------------------------------------


def form_picture(result: Any) -> str:
    found = re.search(r"!\[\]\((\S+)\)", result["description_placeholders"]["picture"])
    assert found
    return found[1]


async def test_picture_of_a_form(
    hass: HomeAssistant, entry: MockConfigEntry, client: Client, seen: dict[str, bytes]
) -> None:
    result = await start(hass, entry)
    url = form_picture(result)
    answer = await client.get(url)
    assert (answer.status, answer.content_type) == (HTTPStatus.OK, "image/svg+xml")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; img-src data:;")
    assert "Drive" in await answer.text()
    assert form_picture(await choose(hass, result, "zones")) != url
    unsigned = url.split("?", maxsplit=1)[0]
    assert (await client.get(unsigned)).status == HTTPStatus.FORBIDDEN
    assert (await client.get(url.replace("/1?", "/2?"))).status == HTTPStatus.FORBIDDEN
    hass.config_entries.subentries.async_abort(result["flow_id"])
    assert (await client.get(url)).status == HTTPStatus.NOT_FOUND


async def test_picture_of_a_form_is_for_whoever_may_see_the_camera(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
) -> None:
    url = form_picture(await start(hass, entry)).split("?", maxsplit=1)[0]
    administrator, other = await hass_client(), await hass_client(hass_read_only_access_token)
    assert (await other.get(url)).status == HTTPStatus.OK
    hass_read_only_user.mock_policy({"entities": {"entity_ids": {"camera.another": {"read": True}}}})
    assert (await other.get(url)).status == HTTPStatus.NOT_FOUND
    assert (await administrator.get(url)).status == HTTPStatus.OK
    hass.config_entries.async_remove_subentry(entry, CAMERA)
    await hass.async_block_till_done()
    assert (await administrator.get(url)).status == HTTPStatus.NOT_FOUND
