"""The steps in which zones, entry lines and masks are edited, walked as the frontend walks them."""

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from aiohttp.test_utils import make_mocked_request
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType, InvalidData
from homeassistant.helpers.http import current_request
from homeassistant.helpers.network import NoURLAvailableError
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.zone_editor import EDITORS

from .house import ABSENT_FILE, CAMERA, async_set_up, make_entry

ZONE: dict[str, Any] = {
    "id": "0a1b2c3d",
    "name": "Drive",
    "points": [[0.1, 0.2], [0.5, 0.2], [0.5, 0.8]],
    "labels": ["person"],
    "dwell": 5,
    "inertia": 4,
}
LINE: dict[str, Any] = {
    "id": "11111111",
    "name": "Gate",
    "start": [0.1, 0.9],
    "end": [0.9, 0.9],
    "direction": "to_right",
    "labels": [],
}
MASK: dict[str, Any] = {
    "id": "22222222",
    "name": "Tree",
    "points": [[0.8, 0], [1, 0], [1, 0.2]],
    "motion": True,
    "objects": False,
    "labels": [],
}
BASE: dict[str, Any] = {**ABSENT_FILE, "labels": ["person", "cat"], "detect": True, "triggers": ["binary_sensor.bell"]}
OPENING = [ZONE["id"], LINE["id"]]
FULL: dict[str, Any] = {
    **BASE,
    "zones": [ZONE],
    "lines": [LINE],
    "masks": [MASK],
    "opening_zones": [ZONE["id"], LINE["id"]],
}

NEW_ZONE = {"name": "Lawn", "points": "10,20 50,20 50,80", "labels": [], "dwell": 0, "inertia": 3}
NEW_LINE = {"name": "Door", "points": "10,20 50,20", "labels": ["cat"], "direction": "both"}
NEW_MASK = {"name": "Flag", "points": "10,20 50,20 50,80", "labels": [], "motion": True, "objects": True}
NEW: dict[str, dict[str, Any]] = {"zone": NEW_ZONE, "line": NEW_LINE, "mask": NEW_MASK}


pytestmark = pytest.mark.usefixtures("seen")


async def set_up(hass: HomeAssistant, camera: Mapping[str, Any]) -> MockConfigEntry:
    return await async_set_up(hass, make_entry(camera))


async def start(hass: HomeAssistant, entry: MockConfigEntry) -> Any:
    result = await entry.start_subentry_reconfigure_flow(hass, CAMERA)
    assert is_menu(result)
    return result


async def go_on(hass: HomeAssistant, result: Any, **answers: Any) -> Any:
    return await hass.config_entries.subentries.async_configure(result["flow_id"], answers)


async def choose(hass: HomeAssistant, result: Any, step: str) -> Any:
    return await go_on(hass, result, next_step_id=step)


def is_menu(result: Any) -> bool:
    return bool(result["type"] is FlowResultType.MENU and result["step_id"] == "reconfigure")


def suggested(result: Any) -> dict[str, Any]:
    """Return what a form shows in its fields."""
    return {
        marker.schema: marker.description["suggested_value"]
        for marker in result["data_schema"].schema
        if marker.description
    }


def camera(entry: MockConfigEntry) -> Mapping[str, Any]:
    data: Mapping[str, Any] = entry.subentries[CAMERA].data
    return data


# --- the menu -------------------------------------------------------------------------------------------------------


async def test_menu_says_what_there_is(hass: HomeAssistant) -> None:
    result = await start(hass, await set_up(hass, FULL))
    assert result["menu_options"] == ["source", "draw", "zones", "lines", "masks", "opening_zones", "outside", "finish"]
    shown = result["description_placeholders"]
    assert shown.items() >= {"camera": "Front door", "zones": "1", "lines": "1", "masks": "1"}.items()
    assert shown["picture"].startswith(f"![](/api/{DOMAIN}/zone_pictures/{result['flow_id']}/1?authSig=")


async def test_nothing_can_open_an_incident_before_there_is_a_zone_or_line(hass: HomeAssistant) -> None:
    result = await start(hass, await set_up(hass, {**BASE, "masks": [MASK]}))
    assert "opening_zones" not in result["menu_options"]


async def test_leaving_changes_nothing(hass: HomeAssistant) -> None:
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), "finish")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    assert camera(entry) == FULL


async def test_editor_ends_with_its_flow(hass: HomeAssistant) -> None:
    entry = await set_up(hass, BASE)
    result = await start(hass, entry)
    assert list(hass.data[EDITORS].keys()) == [result["flow_id"]]
    hass.config_entries.subentries.async_abort(result["flow_id"])
    assert hass.data[EDITORS] == {}
    await choose(hass, await start(hass, entry), "finish")
    assert hass.data[EDITORS] == {}


async def test_system_that_does_not_run_gives_no_picture_and_can_be_edited(hass: HomeAssistant) -> None:
    entry = await set_up(hass, BASE)
    assert await hass.config_entries.async_unload(entry.entry_id)
    result = await choose(hass, await start(hass, entry), "zones")
    assert result["errors"] == {"base": "no_picture"}
    assert is_menu(await go_on(hass, result, **NEW_ZONE))
    assert camera(entry)["zones"][0]["name"] == "Lawn"


# --- typed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zone", "line", "mask"])
async def test_first_one_needs_no_choice(hass: HomeAssistant, kind: str) -> None:
    entry = await set_up(hass, BASE)
    result = await choose(hass, await start(hass, entry), f"{kind}s")
    assert (result["step_id"], result["errors"]) == (kind, {})
    assert suggested(result)["points"] == ""
    assert "delete" not in result["data_schema"].schema
    result = await go_on(hass, result, **NEW[kind])
    assert is_menu(result)
    assert result["description_placeholders"][f"{kind}s"] == "1"
    (shape,) = camera(entry)[f"{kind}s"]
    assert len(bytes.fromhex(shape["id"])) == 4
    points: dict[str, Any] = {"points": [[0.1, 0.2], [0.5, 0.2], [0.5, 0.8]]}
    if kind == "line":
        points = {"start": [0.1, 0.2], "end": [0.5, 0.2]}
    typed = {name: value for name, value in NEW[kind].items() if name != "points"}
    assert shape == {"id": shape["id"], **typed, **points}
    assert camera(entry).items() >= BASE.items()


@pytest.mark.parametrize(
    ("kind", "shape", "shown"),
    [
        (
            "zone",
            ZONE,
            {"name": "Drive", "points": "10,20 50,20 50,80", "labels": ["person"], "dwell": 5, "inertia": 4},
        ),
        ("line", LINE, {"name": "Gate", "points": "10,90 90,90", "labels": [], "direction": "to_right"}),
        ("mask", MASK, {"name": "Tree", "points": "80,0 100,0 100,20", "labels": [], "motion": True, "objects": False}),
    ],
)
async def test_form_shows_what_there_is_and_changes_only_that(
    hass: HomeAssistant, kind: str, shape: dict[str, Any], shown: dict[str, Any]
) -> None:
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), f"{kind}s")
    assert (result["type"], result["step_id"]) == (FlowResultType.FORM, f"{kind}s")
    (selector,) = result["data_schema"].schema.values()
    assert [option["label"] for option in selector.config["options"]] == [shape["name"], "new"]
    result = await go_on(hass, result, shape=shape["id"])
    assert suggested(result).items() >= shown.items()
    assert is_menu(await go_on(hass, result, **{**shown, "name": "Other"}))
    assert camera(entry) == {**FULL, f"{kind}s": [{**shape, "name": "Other"}]}


@pytest.mark.parametrize("kind", ["zone", "line", "mask"])
async def test_another_one(hass: HomeAssistant, kind: str) -> None:
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), f"{kind}s")
    result = await go_on(hass, result, shape="new")
    assert result["step_id"] == kind
    assert is_menu(await go_on(hass, result, **NEW[kind]))
    assert [shape["name"] for shape in camera(entry)[f"{kind}s"]] == [FULL[f"{kind}s"][0]["name"], NEW[kind]["name"]]


@pytest.mark.parametrize(("kind", "left"), [("zone", ["11111111"]), ("line", ["0a1b2c3d"])])
async def test_no_incident_waits_for_what_is_deleted(hass: HomeAssistant, kind: str, left: list[str]) -> None:
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), f"{kind}s")
    shape = FULL[f"{kind}s"][0]
    result = await go_on(hass, result, shape=shape["id"])
    # What is wrong with the rest does not matter then.
    assert is_menu(await go_on(hass, result, **{**NEW[kind], "points": "x", "delete": True}))
    assert camera(entry) == {**FULL, f"{kind}s": [], "opening_zones": left}


@pytest.mark.parametrize(
    ("kind", "typed", "errors"),
    [
        ("zone", {"name": " "}, {"name": "empty_name"}),
        ("zone", {"name": "x" * 41}, {"name": "long_name"}),
        ("zone", {"name": "drive"}, {"name": "name_taken"}),
        ("line", {"name": "DRIVE"}, {"name": "name_taken"}),
        ("mask", {"name": "tree"}, {"name": "name_taken"}),
        ("zone", {"points": "left of the tree"}, {"points": "points_unreadable"}),
        ("zone", {"points": ""}, {"points": "points_unreadable"}),
        ("zone", {"points": "10,10 20,20"}, {"points": "too_few_points"}),
        ("zone", {"points": "10,10 20,20 10,10"}, {"points": "too_few_points"}),
        ("mask", {"points": " ".join(f"{n},{n * n % 97}" for n in range(33))}, {"points": "too_many_points"}),
        ("zone", {"points": "10,10 110,10 50,80"}, {"points": "outside_picture"}),
        ("zone", {"points": "-1,10 90,10 50,80"}, {"points": "outside_picture"}),
        ("zone", {"points": "10,10 20,20 30,30"}, {"points": "no_area"}),
        ("mask", {"points": "0,0 100,100 100,0 0,100"}, {"points": "crosses_itself"}),
        ("line", {"points": "10,10 20,20 30,30"}, {"points": "not_two_points"}),
        ("line", {"points": "10,10 10,10"}, {"points": "no_length"}),
        ("line", {"points": "10,10"}, {"points": "no_length"}),
        ("mask", {"motion": False, "objects": False}, {"objects": "mask_without_effect"}),
        ("zone", {"name": "", "points": "10,10"}, {"name": "empty_name", "points": "too_few_points"}),
    ],
)
async def test_bad_input_says_why_and_keeps_what_was_typed(
    hass: HomeAssistant, kind: str, typed: dict[str, Any], errors: dict[str, str]
) -> None:
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), f"{kind}s")
    result = await go_on(hass, result, shape="new")
    result = await go_on(hass, result, **{**NEW[kind], **typed})
    assert (result["step_id"], result["errors"]) == (kind, errors)
    assert suggested(result) == {**NEW[kind], **typed}
    assert camera(entry) == FULL
    # It can be mended.
    assert is_menu(await go_on(hass, result, **NEW[kind]))
    assert len(camera(entry)[f"{kind}s"]) == 2


async def test_most_zones(hass: HomeAssistant) -> None:
    zones = [{**ZONE, "id": f"{number:08x}", "name": f"Zone {number}"} for number in range(20)]
    entry = await set_up(hass, {**BASE, "zones": zones})
    chosen = await choose(hass, await start(hass, entry), "zones")
    result = await go_on(hass, await go_on(hass, chosen, shape="new"), **NEW_ZONE)
    assert result["errors"] == {"base": "too_many_shapes"}
    assert suggested(result) == NEW_ZONE
    assert camera(entry)["zones"] == zones


async def test_label_that_is_no_longer_watched_is_shown_and_must_go(hass: HomeAssistant) -> None:
    entry = await set_up(hass, {**BASE, "zones": [{**ZONE, "labels": ["bear"]}]})
    result = await choose(hass, await start(hass, entry), "zones")
    result = await go_on(hass, result, shape=ZONE["id"])
    result = await go_on(hass, result, **{**NEW_ZONE, "labels": ["bear"]})
    assert result["errors"] == {"labels": "label_not_watched"}
    with pytest.raises(InvalidData):
        await go_on(hass, result, **{**NEW_ZONE, "labels": ["giraffe"]})
    assert is_menu(await go_on(hass, result, **{**NEW_ZONE, "labels": ["cat"]}))


async def test_camera_without_a_picture(hass: HomeAssistant, seen: dict[str, bytes]) -> None:
    seen.clear()
    entry = await set_up(hass, BASE)
    result = await choose(hass, await start(hass, entry), "zones")
    assert result["errors"] == {"base": "no_picture"}
    # What is wrong is more important.
    result = await go_on(hass, result, **{**NEW_ZONE, "name": " "})
    assert result["errors"] == {"name": "empty_name"}
    assert is_menu(await go_on(hass, result, **NEW_ZONE))


async def test_picture_of_a_moment_ago_serves_a_camera_that_was_just_lost(
    hass: HomeAssistant, seen: dict[str, bytes]
) -> None:
    result = await start(hass, await set_up(hass, BASE))
    seen.clear()
    result = await choose(hass, result, "zones")
    assert result["errors"] == {}


async def test_zone_that_was_deleted_in_another_window(hass: HomeAssistant) -> None:
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), "zones")
    hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data=BASE)
    assert is_menu(await go_on(hass, result, shape=ZONE["id"]))
    # One that is edited already is there again when it is saved: nothing that was typed is lost.
    hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data=FULL)
    result = await go_on(hass, await choose(hass, await start(hass, entry), "zones"), shape=ZONE["id"])
    hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data=BASE)
    assert is_menu(await go_on(hass, result, **NEW_ZONE))
    assert [(zone["id"], zone["name"]) for zone in camera(entry)["zones"]] == [(ZONE["id"], "Lawn")]


# --- what may begin an incident -------------------------------------------------------------------------------------


async def test_opening_zones(hass: HomeAssistant) -> None:
    entry = await set_up(hass, {**FULL, "opening_zones": [LINE["id"], "99999999"]})
    result = await choose(hass, await start(hass, entry), "opening_zones")
    # One that is not there any more is not shown.
    assert suggested(result) == {"opening_zones": [LINE["id"]]}
    (selector,) = result["data_schema"].schema.values()
    assert [option["label"] for option in selector.config["options"]] == ["Drive", "Gate"]
    assert is_menu(await go_on(hass, result, opening_zones=[ZONE["id"]]))
    assert camera(entry) == {**FULL, "opening_zones": [ZONE["id"]]}
    result = await choose(hass, await start(hass, entry), "opening_zones")
    assert is_menu(await go_on(hass, result))
    assert camera(entry)["opening_zones"] == []


async def test_opening_zone_that_was_deleted_meanwhile(hass: HomeAssistant) -> None:
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), "opening_zones")
    without = {**FULL, "zones": [], "opening_zones": []}
    hass.config_entries.async_update_subentry(entry, entry.subentries[CAMERA], data=without)
    result = await go_on(hass, result, opening_zones=[ZONE["id"]])
    assert result["errors"] == {"opening_zones": "zone_not_found"}
    assert camera(entry) == without
    assert is_menu(await go_on(hass, result, opening_zones=[LINE["id"]]))


# --- drawn ----------------------------------------------------------------------------------------------------------


async def test_window_is_opened_where_the_user_has_home_assistant(hass: HomeAssistant) -> None:
    entry = await set_up(hass, BASE)
    result = await start(hass, entry)
    request = make_mocked_request("POST", "/", headers={"HA-Frontend-Base": "https://house.example:8443"})
    token = current_request.set(request)
    try:
        result = await choose(hass, result, "draw")
    finally:
        current_request.reset(token)
    assert result["type"] is FlowResultType.EXTERNAL_STEP
    assert result["url"].startswith(f"https://house.example:8443/api/{DOMAIN}/zone_editor/")
    # Elsewhere, at the address that Home Assistant has.
    await hass.config.async_update(internal_url="http://10.0.0.2:8123")
    again = await hass.config_entries.subentries.async_configure(result["flow_id"])
    assert again["url"].startswith(f"http://10.0.0.2:8123/api/{DOMAIN}/zone_editor/")
    assert again["url"].rpartition("/")[2] == result["url"].rpartition("/")[2]


async def test_window_of_a_house_without_an_address(hass: HomeAssistant) -> None:
    entry = await set_up(hass, BASE)
    with patch("custom_components.nemotron_security.zone_flow.get_url", side_effect=NoURLAvailableError):
        result = await choose(hass, await start(hass, entry), "draw")
    assert result["url"].startswith(f"/api/{DOMAIN}/zone_editor/")


async def test_flow_takes_no_drawing_from_elsewhere(hass: HomeAssistant) -> None:
    """Only the window's own address does."""
    entry = await set_up(hass, FULL)
    result = await choose(hass, await start(hass, entry), "draw")
    result = await go_on(hass, result, zones=[], lines=[], masks=[], gone=[ZONE["id"]])
    assert result["type"] is FlowResultType.EXTERNAL_STEP
    assert camera(entry) == FULL
