"""A connection of Home Assistant's as a client of a channel."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from homeassistant.components.websocket_api import ActiveConnection
from homeassistant.components.websocket_api.messages import construct_event_message
from homeassistant.core import callback

from ..broadcasters import Broadcaster, Message, MessageType
from ..permissions import CameraPermissions

MAXIMUM_WAITING = 1024
"""Messages that wait for a client whose past is still being read; beyond that the oldest go, which `seq` shows."""


class Subscription:
    """A client of a channel: one subscription of one connection.

    Until it is started, what happens waits; so nothing is lost while the past is read from the store.
    """

    def __init__(self, connection: ActiveConnection, message_id: int, permissions: CameraPermissions) -> None:
        """Belong to the command of that id."""
        self._connection = connection
        self._message_id = message_id
        self._permissions = permissions
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
        return message.camera_id is None or self._permissions.may_read(self._connection.user, message.camera_id)

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
