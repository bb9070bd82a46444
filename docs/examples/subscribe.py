"""Print what Nemotron Home Security tells on its two channels, live.

It needs aiohttp (`pip install aiohttp`), the address of Home Assistant and a long-lived access token, which your
profile page in Home Assistant creates under Security:

    HOME_ASSISTANT_URL=http://homeassistant.local:8123 HOME_ASSISTANT_TOKEN=... python subscribe.py
"""

import asyncio
import os
from typing import Any

import aiohttp

# Our two commands, by their ids: Home Assistant puts those on everything that belongs to them.
EVENTS, SYSTEM = 1, 2
COMMANDS = {
    EVENTS: {"type": "nemotron_security/events/subscribe", "replay": 5},
    SYSTEM: {"type": "nemotron_security/system/subscribe"},
}

# While Home Assistant starts it already answers, but does not know our commands, or their integration is not loaded.
# The last one ends a subscription that failed.
NOT_YET = ("unknown_command", "not_found", "unknown_error")


class NotYetError(Exception):
    """The integration is not running, for now."""


class MissedError(Exception):
    """We read too slowly; `since` brings what we missed."""


class Listener:
    """Listens to both channels, and remembers where it was when the connection is lost."""

    def __init__(self, url: str, token: str) -> None:
        """Listen to the Home Assistant of that address."""
        self.url = f"{url.rstrip('/')}/api/websocket"
        self.token = token
        self.since: dict[int, dict[str, Any]] = {EVENTS: {}, SYSTEM: {}}
        """Of each channel the number of its last message, and the run that it belongs to."""

    async def listen(self) -> None:
        """Print until the connection ends."""
        async with aiohttp.ClientSession() as session, session.ws_connect(self.url, heartbeat=30) as socket:
            await self.log_in(socket)
            for channel, command in COMMANDS.items():
                # With `since`, what happened while we were away comes first.
                await socket.send_json({"id": channel, **command, **self.since[channel]})
            async for frame in socket:
                self.take(frame.json())

    async def log_in(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Say who we are."""
        await socket.receive_json()  # auth_required
        await socket.send_json({"type": "auth", "access_token": self.token})
        answer = await socket.receive_json()
        if answer["type"] != "auth_ok":
            raise SystemExit(f"Home Assistant does not let us in: {answer['message']}")

    def take(self, message: dict[str, Any]) -> None:
        """Take the answer to a command, or a message of a channel."""
        since = self.since[message["id"]]
        if message["type"] == "event":
            event = message["event"]
            since["since"] = event["seq"]
            if event["type"] == "missed":
                raise MissedError("too slow: coming back for what we missed")
            show(event["type"], event["data"])
        elif not message["success"]:
            error = message["error"]
            raise NotYetError(error["message"]) if error["code"] in NOT_YET else SystemExit(error["message"])
        else:
            result = message["result"]
            if not result["complete"]:
                print("away too long: something is missing", flush=True)
            if "since" not in since or not result["complete"]:
                since["since"] = result["seq"]
            since["run"] = result["run"]


def show(kind: str, data: dict[str, Any]) -> None:
    """Print a message of a channel."""
    match kind:
        case "new_event" | "event_updated":
            risk = f"{data['risk_level']} ({data['risk_score']})" if data["risk_level"] else "not judged"
            text = f"#{data['id']} {risk}: {data['title']}. {data['summary']}"
        case "detection":
            text = f"{data['object_type']} ({data['confidence']:.0%}) on camera {data['camera_id']}"
        case "camera_status":
            text = f"camera {data['camera_id']} is {data['status']}"
        case "gpu_stats":
            text = f"{data['name']}: {data['gpu_utilization']} %, {data['temperature']} °C"
        case _:
            text = str(data)
    print(f"{kind}: {text}", flush=True)


async def main() -> None:
    """Listen for ever; come back when the connection is lost."""
    listener = Listener(os.environ["HOME_ASSISTANT_URL"], os.environ["HOME_ASSISTANT_TOKEN"])
    while True:
        try:
            await listener.listen()
        except (aiohttp.ClientError, aiohttp.WSMessageTypeError, NotYetError, MissedError) as error:
            print(error, flush=True)
        print("not connected", flush=True)
        await asyncio.sleep(2)


if __name__ == "__main__":
    asyncio.run(main())
