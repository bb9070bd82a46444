"""Wrong messages to every websocket command, thousands each: always an error, and the connection lives.

The commands are those that the integration registers, so a new one is tested by itself. What is right and wrong is read
from each command's schema, and more strictly than it reads itself: `true` is no integer.
"""

import asyncio
from collections.abc import Callable, Generator, Mapping
import json
import logging
import time
from types import SimpleNamespace
from typing import Any, cast

from homeassistant.components.websocket_api import DOMAIN as WEBSOCKET_DOMAIN
from homeassistant.core import HomeAssistant
from hypothesis import HealthCheck, given, settings, strategies as st
import orjson
import probatio as vol
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import MockHAClientWebSocket, WebSocketGenerator

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.websocket_api import async_register

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, frame, make_entry, online, person

type Options = dict[str, Any]
type Schemas = dict[str, Any]

WRONG_MESSAGES = 5_000
BATCH = 40
PATIENCE = 60


def registered(data: Any) -> Schemas:
    """Return the schema of each of our commands; False is that of a command without options."""
    return {name: schema for name, (_, schema) in data[WEBSOCKET_DOMAIN].items() if name.startswith(f"{DOMAIN}/")}


def all_schemas() -> Schemas:
    """Return what the integration registers, before there is a Home Assistant."""
    registry = SimpleNamespace(data={})
    async_register(cast("HomeAssistant", registry))
    return registered(registry.data)


SCHEMAS = all_schemas()


class Command:
    """A command, and what is right for it."""

    def __init__(self, name: str, incident_id: int) -> None:
        self.name = name
        self._schema = SCHEMAS[name]
        specification = {} if isinstance(self._schema, bool) else vol.to_openapi(self._schema)
        hidden = ("id", "type")
        self.options: Mapping[str, Any] = {
            option: kind for option, kind in specification.get("properties", {}).items() if option not in hidden
        }
        self.required = [option for option in specification.get("required", []) if option not in hidden]
        self._known = {"camera_id": CAMERA, "incident_id": incident_id}
        self.right: Options = {
            option: self._known.get(option, example(self.options[option])) for option in self.required
        }

    def is_wrong(self, options: Options) -> bool:
        """Whether the answer must be an error."""
        if isinstance(self._schema, bool):
            return bool(options)
        try:
            self._schema({"id": 1, "type": self.name, **options})
        except vol.Invalid:
            return True
        names_nothing = any(options[name] != known for name, known in self._known.items() if name in self.required)
        return names_nothing or not all(fits(value, self.options[name]) for name, value in options.items())


def example(kind: Mapping[str, Any]) -> Any:
    """Return a value of a kind."""
    match kind:
        case {"enum": [first, *_]}:
            return first
        case {"type": "array", "items": items}:
            return [example(items)]
        case {"type": "integer" | "number"}:
            return kind.get("minimum", 1)
    return {"boolean": True, "string": "text"}[kind["type"]]


TYPES = {"integer": (int,), "number": (int, float), "boolean": (bool,), "string": (str,), "array": (list,)}


def fits(value: Any, kind: Mapping[str, Any]) -> bool:
    """Whether a value of JSON is of the type that a schema says."""
    if "anyOf" in kind:
        return any(fits(value, each) for each in kind["anyOf"])
    if value is None:
        return bool(kind.get("nullable"))
    if type(value) not in TYPES[kind["type"]]:  # `isinstance` takes true for an integer
        return False
    return type(value) is not list or all(fits(item, kind["items"]) for item in value)


# --- what is thrown ---------------------------------------------------------------------------------------------------

DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]

NUMBERS = (-1, 0, 1, 100, 101, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**30, 0.0, -0.5, 5e-324, 1e308)
TIMES = [
    "2026-11-23",
    "2026-11-23T12:00:00",
    "2026-11-23T12:00:00Z",
    "2026-13-45T99:99:99Z",
    "0000-00-00",
    "24:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-23:59",
]
TEXTS = [
    "0",
    "1",
    "-1",
    "1e3",
    "NaN",
    "Infinity",
    "null",
    "true",
    "[]",
    "{}",
    '"',
    "*",
    "%",
    "' OR 1=1 --",
    "person",
    "high",
    "HIGH",
    "\x00",
    "a\x00b",
    "😀",
    "\u202e",
    "\ufffe",
    "../../secrets.yaml",
    "{{1}}",
]
ODD_VALUES: list[Any] = [
    *(None, True, False, "", [], {}, [None], [[]], [{}], {"": None}, DEEP),
    *(*NUMBERS, *TIMES, *TEXTS, "x" * 10_000, ["x"] * 1_000),
    *(CAMERA.lower(), [CAMERA, "absent"], {"camera_id": CAMERA}, ["person", 1], ["person", "person"]),
]
ODD = st.integers(0, len(ODD_VALUES) - 1).map(lambda at: ODD_VALUES[at])  # else hypothesis prints them all
NUMBER = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBER | st.text(max_size=20) | ODD
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.text(max_size=10) | st.sampled_from(["ID", "Type", "since", "since\x00", "limit", "__class__", "user"])
"""Options that a command may not know."""


def messages(command: Command) -> st.SearchStrategy[Options]:
    """Vary what is right by a little, by much or altogether."""
    names = sorted(command.options)
    with_unknown = st.builds(lambda key, value: {**command.right, key: value}, KEYS, VALUES)
    ways: list[st.SearchStrategy[Options]] = [with_unknown, st.dictionaries(KEYS, VALUES, max_size=4)]
    if names:
        one_changed = st.builds(lambda key, value: {**command.right, key: value}, st.sampled_from(names), VALUES)
        ways += [one_changed, one_changed, st.dictionaries(st.sampled_from(names), VALUES, max_size=len(names))]
    if command.required:
        left_out = st.sampled_from(command.required)
        ways.append(left_out.map(lambda key: {name: value for name, value in command.right.items() if name != key}))
    return st.one_of(ways).map(as_received)


def as_received(options: Options) -> Options:
    """Return options as Home Assistant reads them off the wire, where integers beyond 64 bits are floats."""
    received = orjson.loads(json.dumps(options))
    return {key: value for key, value in received.items() if key not in ("id", "type")}  # these are Home Assistant's


# --- the conversation -------------------------------------------------------------------------------------------------


class Conversation:
    """Throws messages at a command, over one connection, and looks at the answers and the log."""

    def __init__(self, client: MockHAClientWebSocket, command: Command, caplog: pytest.LogCaptureFixture) -> None:
        self._client = client
        self._command = command
        self._caplog = caplog
        self._next_id = 1_000
        self.wrong = 0

    async def throw(self, batch: list[Options]) -> None:
        """Send a batch and look at every answer."""
        for options, answer in zip(batch, await self.ask(batch), strict=True):
            wrong = self._command.is_wrong(options)
            self.wrong += wrong
            assert not (wrong and answer["success"]), options
            if not answer["success"]:
                expected = ("invalid_format", "not_found") if wrong else ("not_found",)
                assert answer["error"]["code"] in expected, (options, answer)
        self._look_at_log()

    async def ask(self, batch: list[Options]) -> list[Any]:
        """Send a batch in one frame and return its results; what subscriptions bring in between does not matter."""
        first = self._next_id
        self._next_id += len(batch)
        commands = [{**options, "id": first + at, "type": self._command.name} for at, options in enumerate(batch)]
        await self._client.send_str(json.dumps(commands))
        answers: dict[int, Any] = {}
        async with asyncio.timeout(PATIENCE):
            while len(answers) < len(batch):
                message = await self._client.receive_json()
                if message["type"] == "result":
                    assert message["id"] not in answers
                    answers[message["id"]] = message
        return [answers[number] for number in range(first, self._next_id)]

    def _look_at_log(self) -> None:
        complaints = [
            record
            for record in self._caplog.records
            # asyncio warns of what takes long on a busy machine
            if record.exc_info or (record.levelno >= logging.WARNING and record.name != "asyncio")
        ]
        assert [record.getMessage() for record in complaints] == []
        self._caplog.clear()


@pytest.fixture
def _refusals_unlogged(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    """Leave out the line that Home Assistant writes of each message it refused: that is right, and there are many."""

    def is_news(record: logging.LogRecord) -> bool:
        return "Error handling message" not in record.msg or "(invalid_format)" not in record.getMessage()

    logger = logging.getLogger("homeassistant.components.websocket_api.http.connection")
    logger.addFilter(is_news)
    with caplog.at_level(logging.WARNING, logger.name):  # it also prints every message, which takes most of the time
        yield
    logger.removeFilter(is_news)


@pytest.fixture
async def incident_id(hass: HomeAssistant, silent_worker: None) -> int:
    """Set up a house with one camera and one incident."""
    entry: MockConfigEntry = await async_set_up(hass, make_entry(ABSENT_FILE))
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    (incident,) = await entry.runtime_data.store.async_incidents()
    return int(incident.id)


@pytest.mark.filterwarnings(
    "ignore:Do not use the .random. module"
)  # it is Home Assistant that does, beside hypothesis
@pytest.mark.usefixtures("_refusals_unlogged")
@pytest.mark.parametrize("name", SCHEMAS)
async def test_wrong_messages(
    hass: HomeAssistant,
    incident_id: int,
    hass_ws_client: WebSocketGenerator,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    client = await hass_ws_client()
    command = Command(name, incident_id)
    assert not command.is_wrong(command.right)
    caplog.clear()
    conversation = Conversation(client, command, caplog)

    def throw(batch: list[Options]) -> None:
        asyncio.run_coroutine_threadsafe(conversation.throw(batch), hass.loop).result()

    await hass.async_add_executor_job(property_of(command, throw))
    assert conversation.wrong >= WRONG_MESSAGES
    # The same connection still does what is asked of it.
    (answer,) = await conversation.ask([command.right])
    assert answer["success"], answer


def property_of(command: Command, throw: Callable[[list[Options]], None]) -> Callable[[], None]:
    """Return the property; it blocks, as hypothesis does."""

    @settings(
        max_examples=WRONG_MESSAGES // BATCH * 5 // 4,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(messages(command), min_size=BATCH, max_size=BATCH))
    def answers_each_with_an_error(batch: list[Options]) -> None:
        throw(batch)

    return answers_each_with_an_error


async def test_every_command_is_tested(hass: HomeAssistant, silent_worker: None) -> None:
    await async_set_up(hass, make_entry(ABSENT_FILE))
    assert registered(hass.data).keys() == SCHEMAS.keys()
