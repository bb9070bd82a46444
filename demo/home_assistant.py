"""A real Home Assistant as a process: for the demo, the end-to-end tests and the benchmarks.

It needs no network, asks nobody anything and listens on loopback only.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import re
import secrets
import shutil
import signal
import socket
import sys
from typing import Any, Self

import aiohttp

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = REPOSITORY / "demo" / "detector" / "model"
"""The committed detector that knows rendered scenes."""
INTEGRATION = REPOSITORY / "custom_components" / "nemotron_security"
READY_TIMEOUT = 90.0
STOP_TIMEOUT = 40.0
MARKER = ".made-by-the-demo"
"""Only a folder that holds this file is ever removed."""

CONFIGURATION = """\
homeassistant:
  name: Demo house
  latitude: 52.37
  longitude: 4.90
  elevation: 0
  unit_system: metric
  time_zone: UTC
  country: NL
  language: en
{extra_homeassistant}
# Only what is needed: the rest of default_config looks for the network.
config:
frontend:
history:
logbook:
media_source:
recorder:
stream:
{extra}
logger:
  default: info
  logs:
    custom_components.nemotron_security: debug
"""

TRUST_LOOPBACK = """\
  auth_providers:
    - type: trusted_networks
      trusted_networks:
        - 127.0.0.1
        - ::1
      allow_bypass_login: true
    - type: homeassistant
"""

NO_DETECTOR: Mapping[str, Any] = {"next_step_id": "detector_none"}
"""The answer to the config flow's last question, for a system that sees motion only."""


class HomeAssistantError(Exception):
    """Home Assistant did not do what it was asked."""


def free_port(preferred: int = 0) -> int:
    """Return a TCP port of loopback that nobody listens on, the preferred one if it is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class HomeAssistantProcess:
    """One Home Assistant: its folder, its process and a way to talk to it.

    Attributes:
        folder: the configuration folder; made if it is not there.
        python: the interpreter of the environment that has Home Assistant.
        port: of HTTP on 127.0.0.1.
        trust_loopback: browsers on this machine need no log-in.
        extra: YAML that is added to the configuration.
        integrations: folders of the custom integrations that it can load.
    """

    folder: Path
    python: Path = field(default_factory=lambda: Path(sys.executable))
    port: int = field(default_factory=free_port)
    trust_loopback: bool = False
    extra: str = ""
    integrations: tuple[Path, ...] = (INTEGRATION,)
    token: str = field(default="", repr=False)
    process: asyncio.subprocess.Process | None = None
    session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The address that a browser opens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Everything that Home Assistant printed."""
        return self.folder / "console.log"

    def prepare(self) -> None:
        """Write the configuration, and link the integration into it."""
        (self.folder / ".storage").mkdir(parents=True, exist_ok=True)
        (self.folder / MARKER).touch()
        text = CONFIGURATION.format(extra=self.extra, extra_homeassistant=TRUST_LOOPBACK if self.trust_loopback else "")
        (self.folder / "configuration.yaml").write_text(text)
        (self.folder / "custom_components").mkdir(exist_ok=True)
        for integration in self.integrations:
            link = self.folder / "custom_components" / integration.name
            if not link.exists():
                link.symlink_to(integration)
        self._seed_http()
        self._seed_onboarding()

    def _seed(self, key: str, version: tuple[int, int], data: Mapping[str, Any]) -> None:
        content = {"version": version[0], "minor_version": version[1], "key": key, "data": data}
        (self.folder / ".storage" / key).write_text(json.dumps(content))

    def _seed_onboarding(self) -> None:
        """Skip the steps of onboarding that add integrations which need the network."""
        if not (self.folder / ".storage" / "onboarding").exists():
            self._seed("onboarding", (4, 1), {"done": ["core_config", "analytics", "integration"]})

    def _seed_http(self) -> None:
        """Set port and host: YAML's `http:` is a five-minute trial since 2026."""
        stable = {
            "server_port": self.port,
            "server_host": ["127.0.0.1"],
            "cors_allowed_origins": [],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": False,
            "ssl_profile": "modern",
            "use_x_frame_options": True,
            "created_at": "2026-01-01T00:00:00+00:00",
            "error": None,
            "error_message": None,
        }
        # Newer releases migrate this version.
        self._seed("http", (2, 2), {"stable": stable, "pending": None, "yaml_migration_done": True})

    async def async_start(self) -> None:
        """Start the process and wait until Home Assistant runs; onboards at the first start.

        Raises:
            HomeAssistantError: it ended or was not ready in time; the message holds the end of its log.
        """
        self.prepare()
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(str(self.python), "-m", "homeassistant", "-c", str(self.folder), "--skip-pip"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                cwd=self.folder,  # else Python finds custom_components here before those of the folder
            )
        self.session = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                await self._async_wait_for_http()
                if not self.token:
                    await self._async_onboard()
                await self._async_wait_until_running()
        except TimeoutError as err:
            await self.async_stop()
            raise HomeAssistantError(f"not ready in {READY_TIMEOUT:.0f} s:\n{self.log_tail()}") from err
        except BaseException:
            await self.async_stop()
            raise

    async def _async_wait_for_http(self) -> None:
        while True:
            self._check_alive()
            with suppress(aiohttp.ClientError):
                async with self._http.get(f"{self.url}/api/onboarding") as response:
                    if response.status in (200, 404):
                        return
            await asyncio.sleep(0.2)

    def _check_alive(self) -> None:
        if self.process is None or self.process.returncode is not None:
            raise HomeAssistantError(f"Home Assistant ended:\n{self.log_tail()}")

    async def _async_onboard(self) -> None:
        """Create the owner: the last step of onboarding that is left, see `_seed_onboarding`."""
        client_id = f"{self.url}/"
        password = secrets.token_urlsafe(16)
        owner = {"client_id": client_id, "name": "Demo", "username": "demo", "password": password, "language": "en"}
        code = (await self.post("/api/onboarding/users", owner))["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": client_id}
        async with self._http.post(f"{self.url}/auth/token", data=form) as response:
            self.token = (await response.json())["access_token"]
        lifetime = {"type": "auth/long_lived_access_token", "client_name": "driver", "lifespan": 30}
        async with self.connect() as client:
            self.token = await client.command(lifetime)

    async def _async_wait_until_running(self) -> None:
        while (await self.get("/api/config"))["state"] != "RUNNING":
            self._check_alive()
            await asyncio.sleep(0.2)

    async def async_stop(self) -> int | None:
        """Stop Home Assistant as its users do, or kill it when it does not; returns its exit status."""
        if self.session is not None:
            await self.session.close()
            self.session = None
        if (process := self.process) is None:
            return None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                self.kill()
                await process.wait()
        return process.returncode

    def kill(self) -> None:
        """Kill Home Assistant like a power cut would; the worker notices by itself."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def worker(self) -> int:
        """Return the process id of the vision worker that Home Assistant started.

        Raises:
            HomeAssistantError: none runs.
        """
        for command_line in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                parent = int(command_line.with_name("stat").read_text().rpartition(")")[2].split()[1])
                if self.process and parent == self.process.pid and b"--worker" in command_line.read_bytes():
                    return int(command_line.parent.name)
        raise HomeAssistantError("no worker runs")

    async def __aenter__(self) -> Self:
        """Start."""
        await self.async_start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop."""
        await self.async_stop()

    # --- talking to it ----------------------------------------------------------------------------------------------

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self.session is None:
            raise HomeAssistantError("not started")
        return self.session

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """Call the REST API and return its JSON.

        Raises:
            HomeAssistantError: the answer was not a success.
        """
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._http.request(method, f"{self.url}{path}", json=body, headers=headers) as response:
            if not response.ok:
                raise HomeAssistantError(f"{method} {path}: {response.status} {await response.text()}")
            return await response.json()

    async def get(self, path: str) -> Any:
        """GET from the REST API."""
        return await self.request("GET", path)

    async def post(self, path: str, body: object) -> Any:
        """POST to the REST API."""
        return await self.request("POST", path, body)

    async def get_bytes(self, path: str) -> bytes:
        """GET a picture."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._http.get(f"{self.url}{path}", headers=headers) as response:
            response.raise_for_status()
            return await response.read()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[WebsocketClient]:
        """Open a websocket that is logged in."""
        async with self._http.ws_connect(f"{self.url}/api/websocket", max_msg_size=0) as socket_:
            await socket_.receive_json()
            await socket_.send_json({"type": "auth", "access_token": self.token})
            answer = await socket_.receive_json()
            if answer["type"] != "auth_ok":
                raise HomeAssistantError(f"not logged in: {answer}")
            yield WebsocketClient(socket_)

    async def add_integration(self, steps: list[Mapping[str, Any]]) -> str:
        """Walk the integration's config flow with these answers; returns the entry's id."""
        path = "/api/config/config_entries/flow"
        result = await self.post(path, {"handler": "nemotron_security", "show_advanced_options": False})
        result = await self._walk(path, result, steps)
        return str(result["result"]["entry_id"])

    async def add_camera(self, entry_id: str, steps: list[Mapping[str, Any]]) -> None:
        """Walk the flow of a camera subentry with these answers."""
        path = "/api/config/config_entries/subentries/flow"
        result = await self.post(path, {"handler": [entry_id, "camera"]})
        await self._walk(path, result, steps)

    async def change_camera(self, entry_id: str, name: str, steps: list[Mapping[str, Any]]) -> None:
        """Choose from the menu of a camera, answer what it asks, and so on; each answer is saved at once."""
        async with self.connect() as client:
            cameras = await client.command({"type": "config_entries/subentries/list", "entry_id": entry_id})
        (camera_id,) = (camera["subentry_id"] for camera in cameras if camera["title"] == name)
        path = "/api/config/config_entries/subentries/flow"
        result = await self.post(path, {"handler": [entry_id, "camera"], "subentry_id": camera_id})
        for answers in (*steps, {"next_step_id": "finish"}):
            result = await self.post(f"{path}/{result['flow_id']}", answers)
        if result["type"] != "abort":
            raise HomeAssistantError(f"the camera was not changed: {result.get('errors') or result}")

    async def set_options(self, entry_id: str, steps: list[Mapping[str, Any]]) -> None:
        """Walk the integration's options flow with these answers."""
        path = "/api/config/config_entries/options/flow"
        await self._walk(path, await self.post(path, {"handler": entry_id}), steps)

    @staticmethod
    def detector_answers(model: Path) -> list[Mapping[str, Any]]:
        """Return the answers to the detector's steps of both flows: an ncnn model in a folder, tried and accepted."""
        return [
            {"next_step_id": "detector_ncnn"},
            {"next_step_id": "model_path"},
            {"model": str(model)},
            {},
        ]

    @staticmethod
    def camera_answers(name: str, **location: str) -> dict[str, Any]:
        """Return the answers to the camera flow's second step: its location, and else what the form suggests."""
        return {**location, "name": name, "labels": ["person", "car", "dog", "cat"], "detect": True}

    async def _walk(self, path: str, result: Any, steps: list[Mapping[str, Any]]) -> Any:
        for answers in steps:
            if result["type"] not in ("form", "menu"):
                raise HomeAssistantError(f"the flow ended early: {result}")
            result = await self.post(f"{path}/{result['flow_id']}", answers)
            while result["type"] == "progress":
                await asyncio.sleep(0.5)
                result = await self.get(f"{path}/{result['flow_id']}")
        if result["type"] != "create_entry":
            problem = result.get("errors") or f"it asks for {result.get('step_id')}"
            raise HomeAssistantError(f"the flow did not finish: {problem}")
        return result

    def log_text(self) -> str:
        """Return everything printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_records(self) -> list[str]:
        """Return the log by records: each with its traceback."""
        return [record for record in re.split(r"\n(?=\d{4}-\d{2}-\d{2} )", self.log_text()) if record]

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of what was printed."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def forget(self) -> None:
        """Remove the folder.

        Raises:
            HomeAssistantError: it is not one that `prepare` made, and something is in it.
        """
        if not self.folder.exists():
            return
        if any(self.folder.iterdir()) and not (self.folder / MARKER).exists():
            raise HomeAssistantError(f"{self.folder} is not the demo's own folder; name one that is not there yet")
        shutil.rmtree(self.folder)


class WebsocketClient:
    """A websocket of Home Assistant, logged in. Commands and events come apart by their ids."""

    def __init__(self, socket_: aiohttp.ClientWebSocketResponse) -> None:
        """Talk over this socket."""
        self._socket = socket_
        self._next_id = 0
        self._events: dict[int, asyncio.Queue[Any]] = {}
        self._waiting: list[Any] = []

    async def command(self, message: Mapping[str, Any]) -> Any:
        """Send a command and return its result.

        Raises:
            HomeAssistantError: it failed.
        """
        self._next_id += 1
        number = self._next_id
        await self._socket.send_json({"id": number, **message})
        while True:
            answer = await self._receive()
            if answer["id"] == number and answer["type"] == "result":
                if not answer["success"]:
                    raise HomeAssistantError(f"{message['type']}: {answer['error']}")
                return answer["result"]
            self._keep(answer)

    async def subscribe(self, message: Mapping[str, Any]) -> int:
        """Send a subscribing command; returns the id to give to `event`."""
        number = self._next_id + 1
        self._events[number] = asyncio.Queue()
        await self.command(message)
        return number

    async def event(self, subscription: int, timeout: float = 30.0) -> Any:  # noqa: ASYNC109
        """Return the next event of a subscription.

        Raises:
            TimeoutError: none came in time.
        """
        queue = self._events[subscription]
        async with asyncio.timeout(timeout):
            while queue.empty():
                self._keep(await self._receive())
        return queue.get_nowait()

    def _keep(self, answer: Any) -> None:
        if answer.get("type") == "event" and answer["id"] in self._events:
            self._events[answer["id"]].put_nowait(answer["event"])

    async def _receive(self) -> Any:
        if not self._waiting:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise HomeAssistantError(f"the websocket closed: {message.type!r}")
            content = json.loads(message.data)
            self._waiting = content if isinstance(content, list) else [content]
        return self._waiting.pop(0)
