"""Zones are drawn with a real mouse, in the window that the real frontend opens, and are the camera's afterwards."""

from collections.abc import AsyncIterator
import json
import shutil
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Error, Page, async_playwright, expect
import pytest

from demo.home_assistant import NO_DETECTOR, HomeAssistantProcess
from demo.stream_server import StreamServer

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60_000
"""Milliseconds; the frontend of a busy machine takes long to load."""
DRIVE = ((0.1, 0.5), (0.6, 0.45), (0.7, 0.9), (0.15, 0.95))
FLOW = "/api/config/config_entries/subentries/flow"
GATE = ((0.2, 0.3), (0.8, 0.35))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """The machine's own browser."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


async def test_zones_are_drawn_in_the_cameras_picture(
    house: HomeAssistantProcess, streams: StreamServer, browser: Browser
) -> None:
    entry = await house.add_integration([{"analyzer": "rules"}, NO_DETECTOR])
    url = streams.url("front_door")
    await house.add_camera(entry, [{"source": "stream"}, house.camera_answers("Front door", stream_url=url)])
    dialog = await open_dialog(house, browser)
    # The picture with its grid is in the dialog.
    picture = dialog.locator("ha-markdown img")
    await picture.wait_for(timeout=PATIENCE)
    assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth > 600)")

    window = await open_window(dialog)
    problems: list[str] = []
    window.on("pageerror", lambda error: problems.append(str(error)))
    await expect(window.locator("#stage")).not_to_have_class("empty", timeout=PATIENCE)
    await window.get_by_role("button", name="Zone", exact=True).click()
    await click(window, *DRIVE, DRIVE[0])
    await window.keyboard.type("Drive")
    await window.get_by_role("button", name="Entry line", exact=True).click()
    await click(window, *GATE)
    await window.keyboard.type("Drive")
    # What is wrong is said, and nothing that was drawn is lost.
    await window.get_by_role("button", name="Save").click()
    wrong = window.locator("#list .wrong")
    await expect(wrong).to_have_count(2, timeout=PATIENCE)
    await expect(wrong.first).to_contain_text("has this name already")
    await window.get_by_role("textbox", name="Name of the entry line").fill("Gate")
    await window.get_by_label("Direction in which crossing it counts").select_option("to_right")
    # A corner is taken elsewhere, and back again.
    await window.locator("#list li").first.click()
    await drag(window, DRIVE[2], (0.9, 0.9))
    await window.get_by_role("button", name="Undo").click()
    # A double click removes a corner.
    corners = window.locator("#canvas .corner")
    await expect(corners).to_have_count(len(DRIVE))
    await window.mouse.dblclick(*await place(window, DRIVE[2]))
    await expect(corners).to_have_count(len(DRIVE) - 1)
    await window.get_by_role("button", name="Undo").click()
    await expect(corners).to_have_count(len(DRIVE))
    await save(window)
    assert problems == []

    # The dialog goes on with the details of what is new.
    await expect(dialog.get_by_role("textbox", name="Corners")).to_be_visible(timeout=PATIENCE)
    settings = await camera(house)
    (zone,), (line,) = settings["zones"], settings["lines"]
    assert (zone["name"], line["name"], line["direction"]) == ("Drive", "Gate", "to_right")
    assert zone["points"] == close_to(DRIVE)
    assert [line["start"], line["end"]] == close_to(GATE)
    await dialog.get_by_role("spinbutton", name="Time inside").fill("5")
    await dialog.get_by_role("button", name="Submit").click()
    await expect(dialog.get_by_text("Entry line", exact=True)).to_be_visible(timeout=PATIENCE)
    await dialog.get_by_role("button", name="Submit").click()
    await expect(dialog.get_by_text("Zones (1)")).to_be_visible(timeout=PATIENCE)
    assert (await camera(house))["zones"] == [{**zone, "dwell": 5}]
    assert "Detected blocking call" not in house.log_text()


async def test_what_can_no_longer_be_saved_is_kept_for_the_next_window(
    house: HomeAssistantProcess, streams: StreamServer, browser: Browser
) -> None:
    """On a phone, where whoever draws in one app may lose the dialog in another."""
    entry = await house.add_integration([{"analyzer": "rules"}, NO_DETECTOR])
    url = streams.url("front_door")
    await house.add_camera(entry, [{"source": "stream"}, house.camera_answers("Front door", stream_url=url)])
    context = await browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme="dark"
    )
    window = await context.new_page()
    step = await draw_step(house, entry)
    await window.goto(step["url"])
    await window.get_by_role("button", name="Zone", exact=True).tap()
    for point in DRIVE:
        await window.touchscreen.tap(*await place(window, point))
    await window.get_by_role("button", name="Finish").tap()
    # A line by the keyboard alone: from the middle, to the right.
    await window.get_by_role("button", name="Entry line", exact=True).focus()
    for key in ("Enter", "ArrowLeft", "Enter", *["Shift+ArrowRight"] * 4, "Enter"):
        await window.keyboard.press(key)
    await expect(window.locator("#list li")).to_have_count(2)

    await house.request("DELETE", f"{FLOW}/{step['flow_id']}")
    await window.get_by_role("button", name="Save").tap()
    await expect(window.get_by_role("status")).to_contain_text("kept in this browser", timeout=PATIENCE)
    assert (await camera(house))["zones"] == []

    step = await draw_step(house, entry)
    await window.goto(step["url"])
    await window.get_by_role("button", name="Put it back").tap()
    await window.get_by_role("button", name="Save").tap()
    await expect(window.get_by_role("heading", name="Saved.")).to_be_visible(timeout=PATIENCE)
    settings = await camera(house)
    (zone,), (line,) = settings["zones"], settings["lines"]
    assert zone["points"] == close_to(DRIVE)
    assert (line["start"], line["end"]) == ([0.49, 0.5], [0.69, 0.5])
    assert (await house.get(f"{FLOW}/{step['flow_id']}"))["step_id"] == "zone"


async def draw_step(house: HomeAssistantProcess, entry: str) -> dict[str, Any]:
    """Begin to change the only camera, up to the step that opens the window; its address is that of loopback."""
    async with house.connect() as client:
        (subentry,) = await client.command({"type": "config_entries/subentries/list", "entry_id": entry})
    menu = await house.post(FLOW, {"handler": [entry, "camera"], "subentry_id": subentry["subentry_id"]})
    step = await house.post(f"{FLOW}/{menu['flow_id']}", {"next_step_id": "draw"})
    assert step["type"] == "external"
    return {**step, "url": f"{house.url}{urlsplit(step['url']).path}"}


def close_to(points: tuple[tuple[float, float], ...]) -> Any:
    """Match points that are a pixel away at most."""
    return [pytest.approx(list(point), abs=0.003) for point in points]


async def open_dialog(house: HomeAssistantProcess, browser: Browser) -> Page:
    """Log in, and open the camera's settings as a user does."""
    tokens = {
        "access_token": house.token,
        "token_type": "Bearer",
        "refresh_token": "",
        "expires_in": 10**6,
        "hassUrl": house.url,
        "clientId": f"{house.url}/",
        "expires": 10**13,
    }
    context = await browser.new_context(viewport={"width": 1300, "height": 950})
    await context.add_init_script(f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(tokens))})")
    page = await context.new_page()
    await page.goto(f"{house.url}/config/integrations/integration/nemotron_security")
    await page.get_by_role("button", name="Change camera").click(timeout=PATIENCE)
    return page


async def open_window(dialog: Page) -> Page:
    """Let the frontend open the window to draw in."""
    async with dialog.context.expect_page(timeout=PATIENCE) as opened:
        await dialog.get_by_text("Draw in the picture").click()
    return await opened.value


async def save(window: Page) -> None:
    """Save; the window closes by itself, perhaps before the click is over."""
    try:
        async with window.expect_event("close", timeout=PATIENCE):
            await window.get_by_role("button", name="Save").click()
    except Error:
        assert window.is_closed()


async def place(window: Page, point: tuple[float, float]) -> tuple[float, float]:
    """Return where in the window a point of the picture is."""
    box = await window.locator("#canvas").bounding_box()
    assert box is not None
    return box["x"] + box["width"] * point[0], box["y"] + box["height"] * point[1]


async def click(window: Page, *points: tuple[float, float]) -> None:
    """Click on these points of the picture."""
    for point in points:
        await window.mouse.click(*await place(window, point))


async def drag(window: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press the mouse at one point of the picture, and let it go at another."""
    await window.mouse.move(*await place(window, start))
    await window.mouse.down()
    await window.mouse.move(*await place(window, end), steps=4)
    await window.mouse.up()


async def camera(house: HomeAssistantProcess) -> dict[str, Any]:
    """Return what a client is told of the only camera's settings."""
    async with house.connect() as client:
        (found,) = (await client.command({"type": "nemotron_security/cameras/list"}))["cameras"]
    return dict(found)
