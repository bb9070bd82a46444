"""The websocket commands: a connection of Home Assistant's becomes a client of our channels.

Order on a subscription: the command's result, what is past or present, then what happens, with no gap between.
"""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from homeassistant.auth.models import User
from homeassistant.auth.permissions.const import POLICY_READ
from homeassistant.components.camera.const import DOMAIN as CAMERA_DOMAIN
from homeassistant.components.websocket_api import (
    ERR_NOT_FOUND,
    ActiveConnection,
    async_register_command,
    async_response,
    websocket_command,
)
from homeassistant.components.websocket_api.messages import construct_event_message
from homeassistant.core import Event, HomeAssistant, callback, split_entity_id
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er
from homeassistant.util.hass_dict import HassKey
import probatio as vol

from .broadcasters import Broadcaster, Message, MessageType, Past
from .const import DOMAIN, SUBENTRY_CAMERA
from .models import Incident
from .store import StoreError

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

MAXIMUM_REPLAY = 100
MAXIMUM_WAITING = 1024
"""Messages that wait for a client whose past is still being read; beyond that the oldest go, which `seq` shows."""


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the commands, once for the life of Home Assistant."""
    hass.data[READERS] = CameraReaders(hass)
    async_register_command(hass, _async_subscribe_events)
    async_register_command(hass, _async_subscribe_system)


# --- who may read what ------------------------------------------------------------------------------------------------


class CameraReaders:
    """Says who may have messages about a camera: whoever may read its `camera` entity.

    If a camera has none, all its entities must be readable; if it has no entity at all, it is for administrators.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        """Look entities up once, until the registry changes."""
        self._hass = hass
        self._entity_ids: dict[str, list[str]] = {}
        hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, self._forget)

    def may_read(self, user: User, camera_id: str) -> bool:
        """Say whether the user may, by the policies of this moment."""
        if user.is_admin:
            return True
        if (entity_ids := self._entity_ids.get(camera_id)) is None:
            entity_ids = self._entity_ids[camera_id] = self._find(camera_id)
        check = user.permissions.check_entity
        return bool(entity_ids) and all(check(entity_id, POLICY_READ) for entity_id in entity_ids)

    def _find(self, camera_id: str) -> list[str]:
        registry = er.async_get(self._hass)
        entity_ids = [
            entity.entity_id
            for entry in self._hass.config_entries.async_entries(DOMAIN)
            for entity in er.async_entries_for_config_entry(registry, entry.entry_id)
            if entity.config_subentry_id == camera_id
        ]
        cameras = [entity_id for entity_id in entity_ids if split_entity_id(entity_id)[0] == CAMERA_DOMAIN]
        return cameras or entity_ids

    @callback
    def _forget(self, _event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        self._entity_ids.clear()


READERS: HassKey[CameraReaders] = HassKey(f"{DOMAIN}_camera_readers")


# --- one subscription -------------------------------------------------------------------------------------------------


class Subscription:
    """A client of a channel: one subscription of one connection.

    Until it is started, what happens waits; so nothing is lost while the past is read from the store.
    """

    def __init__(self, connection: ActiveConnection, message_id: int, readers: CameraReaders) -> None:
        """Belong to the command of that id."""
        self._connection = connection
        self._message_id = message_id
        self._readers = readers
        self._waiting: deque[Message] | None = deque(maxlen=MAXIMUM_WAITING)
        self._told: set[int | None] = set()
        """Incidents that the past told of."""

    @callback
    def open(self, channel: Broadcaster) -> None:
        """Listen from now on, until the client unsubscribes or disconnects."""
        channel.connect(self)
        self._connection.subscriptions[self._message_id] = lambda: channel.disconnect(self)

    @callback
    def abandon(self) -> None:
        """Listen no more: the command failed."""
        if unsubscribe := self._connection.subscriptions.pop(self._message_id, None):
            unsubscribe()

    def wants(self, message: Message) -> bool:
        """Say whether the connection's user may have the message; asked for each, because policies change."""
        return message.camera_id is None or self._readers.may_read(self._connection.user, message.camera_id)

    def send(self, message: Message) -> None:
        """Hand the message to Home Assistant, which queues it for the connection and never blocks."""
        if self._waiting is not None:
            self._waiting.append(message)
        else:
            self._send_now(message)

    @callback
    def start(self, past: Iterable[Message], result: dict[str, Any]) -> None:
        """Send the command's result, the past, what waited, and from now on what happens.

        An incident can be in the store before it is announced. If its announcement waits already, it is left out of the
        past; if it comes later, it comes as an update. So no client is told twice of a new event, and `seq` has no gap.
        """
        waiting, self._waiting = self._waiting or (), None
        announced = {message.incident_id for message in waiting if message.type is MessageType.NEW_EVENT}
        told = [
            message
            for message in past
            if self.wants(message)
            and (message.type is not MessageType.NEW_EVENT or message.incident_id not in announced)
        ]
        self._connection.send_result(self._message_id, result)
        for message in (*told, *waiting):
            self._send_now(message)
        self._told = {message.incident_id for message in told if message.type is MessageType.NEW_EVENT}

    def _send_now(self, message: Message) -> None:
        if message.type is MessageType.NEW_EVENT and message.incident_id in self._told:
            message = message.with_type(MessageType.EVENT_UPDATED)
        self._connection.send_message(_frame(self._message_id, message))


def _frame(message_id: int, message: Message) -> bytes:
    """Join a subscription's id to a message; the only place that knows Home Assistant's frame."""
    return construct_event_message(message_id, message.envelope)


# --- the commands -----------------------------------------------------------------------------------------------------


@websocket_command(
    {
        vol.Required("type"): f"{DOMAIN}/events/subscribe",
        vol.Optional("replay", default=0): vol.All(int, vol.Range(min=0, max=MAXIMUM_REPLAY)),
        vol.Optional("since"): vol.All(int, vol.Range(min=0)),
    }
)
@async_response
async def _async_subscribe_events(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Subscribe to incidents and detections.

    With `since`, what was said after that number comes first. `replay` newest incidents come first if there is no
    `since`, or if it lies too far back.
    """
    if (entry := _loaded_entry(hass, connection, msg)) is None:
        return
    events = entry.runtime_data.events
    seq = events.seq
    past = events.since(msg["since"]) if "since" in msg else Past([], complete=True)
    subscription = Subscription(connection, msg["id"], hass.data[READERS])
    subscription.open(events)
    messages = past.messages
    if msg["replay"] and not ("since" in msg and past.complete):
        try:
            incidents = await _async_newest(hass, entry, connection.user, msg["replay"])
        except StoreError as err:
            subscription.abandon()
            raise HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key="events_unreadable",
                translation_placeholders={"detail": err.detail},
            ) from err
        messages = [events.replay(incident, seq) for incident in reversed(incidents)]
    if events.is_connected(subscription):  # else the client left in the meantime
        subscription.start(messages, {"seq": seq, "complete": past.complete})


@websocket_command({vol.Required("type"): f"{DOMAIN}/system/subscribe"})
@callback
def _async_subscribe_system(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Subscribe to GPUs, cameras and the pipeline; the last message about each comes first."""
    if (entry := _loaded_entry(hass, connection, msg)) is None:
        return
    system = entry.runtime_data.system
    subscription = Subscription(connection, msg["id"], hass.data[READERS])
    subscription.open(system)
    subscription.start(system.present(), {"seq": system.seq})


@callback
def _loaded_entry(
    hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]
) -> NemotronSecurityConfigEntry | None:
    """Return the loaded config entry; without one, answer that there is none."""
    entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    if entries:
        return entries[0]
    connection.send_error(
        msg["id"],
        ERR_NOT_FOUND,
        "Nemotron Home Security is not set up or not running",
        translation_domain=DOMAIN,
        translation_key="not_loaded",
    )
    return None


async def _async_newest(
    hass: HomeAssistant, entry: NemotronSecurityConfigEntry, user: User, count: int
) -> list[Incident]:
    """Return the newest incidents that the user may read, the newest first.

    Raises:
        StoreError: they cannot be read now.
    """
    store = entry.runtime_data.store
    if user.is_admin:
        return await store.async_incidents(limit=count)
    may_read = hass.data[READERS].may_read
    found = [
        incident
        for subentry in entry.get_subentries_of_type(SUBENTRY_CAMERA)
        if may_read(user, subentry.subentry_id)
        for incident in await store.async_incidents(camera_id=subentry.subentry_id, limit=count)
    ]
    return sorted(found, key=lambda incident: incident.id, reverse=True)[:count]
