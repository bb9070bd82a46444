"""The demo: a real Home Assistant with two cameras that watch rendered scenes. `scripts/demo` starts it.

NEMOTRON_URL, NEMOTRON_MODEL, NEMOTRON_API_KEY: a server that judges the incidents; without one the rules do.
"""

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import suppress
import os
from pathlib import Path
import signal
import sys
from typing import Any

from .clips import clip
from .home_assistant import MODEL, REPOSITORY, HomeAssistantError, HomeAssistantProcess, free_port
from .stream_server import StreamServer

FOLDER = REPOSITORY / ".demo" / "home-assistant"
PREFERRED_PORT = 8123
EXTRA = f"""\
sun:
input_button:
  doorbell:
    name: Doorbell
    icon: mdi:doorbell
alarm_control_panel:
  - platform: manual
    name: House alarm
    arming_time: 0
lovelace:
  dashboards:
    demo-house:
      mode: yaml
      title: Demo house
      icon: mdi:cctv
      filename: {REPOSITORY / "demo" / "dashboard.yaml"}
"""


PATH: list[Mapping[str, Any]] = [
    {"next_step_id": "zones"},
    {"name": "Path", "points": "44,42 56,42 68,98 33,98", "labels": ["person"], "dwell": 0, "inertia": 3},
]
"""Answers to the front door's menu: a zone on the path to it."""
DOORBELL: list[Mapping[str, Any]] = [
    {"next_step_id": "outside"},
    {"look_entities": [], "open_entities": ["input_button.doorbell"]},
]
"""Likewise: the doorbell opens an incident."""


def analyzer_steps(environment: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return the answers to the config flow: the server of NEMOTRON_URL, or the rules."""
    detector = HomeAssistantProcess.detector_answers(MODEL)
    if not (url := environment.get("NEMOTRON_URL")):
        return [{"analyzer": "rules"}, *detector]
    server = {"url": url}
    if model := environment.get("NEMOTRON_MODEL"):
        server["model"] = model
    if key := environment.get("NEMOTRON_API_KEY"):
        server["api_key"] = key
    # The empty one accepts what the model was seen to do.
    return [{"analyzer": "nemotron"}, server, {}, *detector]


async def async_run(folder: Path, port: int) -> None:
    """Start everything, say where to look, and go on until told to stop."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)  # stops what runs by then, also in the middle of the start
    front_door, driveway = await asyncio.to_thread(lambda: (clip("front_door"), clip("driveway")))
    async with StreamServer({"front_door": front_door}) as streams:
        house = HomeAssistantProcess(folder, port=port, trust_loopback=True, extra=EXTRA)
        house.forget()
        print("Starting Home Assistant ...", flush=True)
        async with house:
            entry = await house.add_integration(analyzer_steps(os.environ))
            visitor = house.camera_answers("Front door", stream_url=streams.url("front_door"))
            car = house.camera_answers("Driveway", file_path=str(driveway))
            await house.add_camera(entry, [{"source": "stream"}, visitor])
            await house.add_camera(entry, [{"source": "file"}, car])
            await house.change_camera(entry, "Front door", [*PATH, *DOORBELL])
            print(
                f"Ready: open {house.url}/demo-house/cameras and watch both cameras: within a minute a visitor comes "
                "to the front door and a car to the driveway. Arm the alarm and see the risk rise; press the doorbell. "
                "Ctrl-C ends it.",
                flush=True,
            )
            assert house.process is not None
            await house.process.wait()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--port", type=int, default=None, help="of Home Assistant on 127.0.0.1 (8123 if it is free)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="its configuration; made anew at each start")
    options = parser.parse_args()
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(async_run(options.folder, options.port or free_port(PREFERRED_PORT)))
    except HomeAssistantError as err:
        hint = " Look at NEMOTRON_URL, NEMOTRON_MODEL, NEMOTRON_API_KEY." if "NEMOTRON_URL" in os.environ else ""
        sys.exit(f"The demo did not start: {err}.{hint}")


if __name__ == "__main__":
    main()
