"""The demo: one command, and within a minute of being ready there are incidents to look at."""

import asyncio
from pathlib import Path
import re
import shutil
import signal
import sys

import aiohttp
from playwright.async_api import async_playwright

from demo.home_assistant import REPOSITORY

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


async def ready_line(process: asyncio.subprocess.Process) -> str:
    """Return the line that says where to look."""
    assert process.stdout is not None
    async with asyncio.timeout(240):
        while line := (await process.stdout.readline()).decode():
            if line.startswith("Ready"):
                return line
    raise AssertionError("the demo ended")


async def test_demo_shows_incidents_within_a_minute(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demo", "--folder", str(tmp_path / "house"), "--port", "0"),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", await ready_line(process))
        assert found
        async with aiohttp.ClientSession() as session:
            token = await log_in(session, found[0])
            async with asyncio.timeout(60):
                while not await both_have_incidents(session, found[0], token):
                    await asyncio.sleep(1)
        if BROWSER:
            await look(found[0])
    finally:
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    assert "Detected blocking call" not in (tmp_path / "house" / "console.log").read_text()


async def log_in(session: aiohttp.ClientSession, url: str) -> str:
    """Log in as a browser on this machine does: without a password."""
    client = {"client_id": f"{url}/"}
    start = {**client, "handler": ["trusted_networks", None], "redirect_uri": f"{url}/"}
    async with session.post(f"{url}/auth/login_flow", json=start) as response:
        step = await response.json()
    async with session.post(
        f"{url}/auth/token", data={**client, "grant_type": "authorization_code", "code": step["result"]}
    ) as response:
        return str((await response.json())["access_token"])


async def both_have_incidents(session: aiohttp.ClientSession, url: str, token: str) -> bool:
    """Whether both cameras announced one."""
    async with session.get(f"{url}/api/states", headers={"Authorization": f"Bearer {token}"}) as response:
        states = {state["entity_id"]: state["state"] for state in await response.json()}
    return all(states[f"event.{camera}_incident"] != "unknown" for camera in ("front_door", "driveway"))


async def look(url: str) -> None:
    """Open the dashboard in a real browser: nobody asks for a password, and both cameras are shown."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = await browser.new_page(viewport={"width": 1400, "height": 1200})
        await page.goto(f"{url}/demo-house/cameras")
        await page.get_by_text("Driveway Connectivity").wait_for(timeout=60_000)
        pictures = page.locator("hui-picture-entity-card img, hui-picture-entity-card ha-camera-stream")
        assert await pictures.count() >= 2
        await browser.close()
