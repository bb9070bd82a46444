"""A connection of Home Assistant's as a client of a channel: what it chooses, and what waits until it can take more.

Home Assistant drops a client for which 4096 messages are queued, or more than 1024 for ten seconds. So ours wait here,
bounded, while the connection has a backlog. Nothing here awaits: no client delays another.
"""

from asyncio import TimerHandle
from collections import OrderedDict, deque
from collections.abc import Iterable, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
import logging
from typing import Any

from homeassistant.components.websocket_api import ERR_UNKNOWN_ERROR, ActiveConnection
from homeassistant.components.websocket_api.messages import construct_event_message
from homeassistant.core import callback

from ..broadcasters import Broadcaster, Message, MessageType, missed
from ..const import DOMAIN
from ..permissions import CameraPermissions

_LOGGER = logging.getLogger(__name__)

MAXIMUM_BACKLOG = 128
"""Messages that Home Assistant may have queued for a connection until ours wait; also how many are sent at once."""
MAXIMUM_WAITING = 256
"""Messages that wait for a client; beyond that some go, and it is told so."""
PAUSE = 0.05
"""Seconds until what waits is tried again."""
FRAMES_KEPT = 64
"""Frames that are at hand for further clients: of the last message to so many different ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """What a client chose to have; null where it chose everything. It never shows less than what it says."""

    cameras: frozenset[str] | None = None
    """Of what tells of a camera, only these cameras'."""
    labels: frozenset[str] | None = None
    """One of an incident's labels is enough."""
    minimum_risk: int | None = None
    """An incident that was announced with this score passes for good, so that nobody keeps a stale alarm."""
    types: frozenset[str] | None = None

    def passes(self, message: Message) -> bool:
        """Say whether the client would have the message."""
        return (
            (self.types is None or message.type in self.types)
            and (self.cameras is None or message.camera_id is None or message.camera_id in self.cameras)
            and (self.labels is None or not self.labels.isdisjoint(message.labels))
            and (self.minimum_risk is None or (message.peak is not None and message.peak >= self.minimum_risk))
        )


class Waiting:
    """The messages that wait for one client, in the order of their numbers.

    Of the readings of one track, GPU or camera the newest waits: that loses nothing that is still true. Of too many
    messages the oldest reading goes, and without readings the oldest message. In the place of what goes so, the client
    is told that it missed something.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._readings: OrderedDict[tuple[MessageType, int | str], Message] = OrderedDict()
        self._others: deque[Message] = deque()
        self._dropped: int | None = None
        """The first message that was dropped since the client was told so."""

    def __len__(self) -> int:
        """Return how many wait, and one more if the client is to be told that it missed some."""
        return len(self._readings) + len(self._others) + (self._dropped is not None)

    def add(self, message: Message) -> None:
        """Take the newest message."""
        if message.reading_of is None:
            self._others.append(message)
        else:
            reading = message.type, message.reading_of
            self._readings.pop(reading, None)
            self._readings[reading] = message
        if len(self._readings) + len(self._others) <= MAXIMUM_WAITING:
            return
        dropped = self._readings.popitem(last=False)[1] if self._readings else self._others.popleft()
        self._dropped = dropped.seq if self._dropped is None else min(self._dropped, dropped.seq)

    def pop(self) -> Message:
        """Give the oldest message away, or what tells that it is missing; there must be one."""
        oldest = next(iter(self._readings.values()), None)
        if self._others and (oldest is None or self._others[0].seq < oldest.seq):
            oldest = self._others[0]
        if self._dropped is not None and (oldest is None or self._dropped < oldest.seq):
            dropped, self._dropped = self._dropped, None
            return missed(dropped)
        if self._others and oldest is self._others[0]:
            return self._others.popleft()
        return self._readings.popitem(last=False)[1]

    def announced(self) -> set[int | None]:
        """Return the incidents whose announcement waits."""
        return {message.incident_id for message in self._others if message.type is MessageType.NEW_EVENT}

    def clear(self) -> None:
        """Forget all."""
        self._readings.clear()
        self._others.clear()
        self._dropped = None


class Subscription:
    """A client of a channel: one subscription of one connection.

    Until it is started, what happens waits; so nothing is lost while the past is read from the store.
    """

    def __init__(
        self,
        connection: ActiveConnection,
        message_id: int,
        channel: Broadcaster,
        permissions: CameraPermissions,
        wanted: MessageFilter,
    ) -> None:
        """Belong to the command of that id."""
        # what every message needs comes first, so that it lies together in memory
        self._passes = None if wanted == MessageFilter() else wanted.passes
        self._user = connection.user
        self._may_hear = permissions.may_hear
        self._holding = True
        """Whether messages have to wait: until it is started, and behind those that wait."""
        self._queued = queued(connection)
        self._told: set[int | None] = set()
        """Incidents that the past told of."""
        self._send_message = connection.send_message
        self._message_id = message_id
        self._connection = connection
        self._channel = channel
        self._types = wanted.types
        self._past: deque[Message] = deque()
        self._waiting = Waiting()
        self._timer: TimerHandle | None = None

    @callback
    def open(self) -> None:
        """Listen from now on, until the client unsubscribes or disconnects."""
        self._channel.connect(self, self._types)
        self._connection.subscriptions[self._message_id] = self._close

    @callback
    def withdraw(self) -> None:
        """Listen no more, and let nothing wait: the command failed, and its client is told so by its answer."""
        self._connection.subscriptions.pop(self._message_id, None)
        self._close()

    @callback
    def abandon(self) -> None:
        """Listen no more, and say so: else a client that is still there would wait for ever."""
        self.withdraw()
        with suppress(Exception):  # most likely the connection is gone
            self._connection.send_error(
                self._message_id,
                ERR_UNKNOWN_ERROR,
                "The subscription failed and has ended",
                translation_domain=DOMAIN,
                translation_key="subscription_ended",
            )

    def offer(self, message: Message) -> bool:
        """Hand the message to Home Assistant, which queues it for the connection, or let it wait; never blocks.

        Returns:
            Whether the user chose it and may have it.
        """
        # Past _wants and _hand_over where they would change nothing: two calls less for each message and client.
        if (self._passes is not None or not self._user.is_admin) and not self._wants(message):
            return False
        if self._holding or len(self._queued) >= MAXIMUM_BACKLOG:
            self._hold(message)
        elif self._told:
            self._hand_over(message)
        else:
            self._send_message(_frame(self._message_id, message.envelope))
        return True

    def _wants(self, message: Message) -> bool:
        """Say whether the user chose the message and may have it; asked for each, because policies change."""
        if self._passes is not None and not self._passes(message):
            return False
        return message.camera_id is None or self._may_hear(self._user, message.camera_id)

    def _hold(self, message: Message) -> None:
        self._waiting.add(message)
        if not self._holding:
            self._holding = True
            self._try_later()

    @callback
    def start(self, past: Iterable[Message], result: dict[str, Any]) -> None:
        """Send the command's result, the past, what waited, and from now on what happens.

        An incident can be in the store before it is announced. If its announcement waits already, it is left out of the
        past; if it comes later, it comes as an update. So no client is told twice of a new event, and `seq` has no gap.
        """
        announced = self._waiting.announced()
        self._past.extend(
            message
            for message in past
            if self._wants(message)
            and (message.type is not MessageType.NEW_EVENT or message.incident_id not in announced)
        )
        self._told = {message.incident_id for message in self._past if message.type is MessageType.NEW_EVENT}
        self._connection.send_result(self._message_id, result)
        self._pump()

    @callback
    def _pump(self) -> None:
        """Hand over what waits, as far as the connection takes it now."""
        self._timer = None
        try:
            self._hand_over_waiting()
        except Exception:  # as when a channel delivers: the client is dropped, and nobody else notices
            _LOGGER.warning("A client of a websocket channel failed and was dropped", exc_info=True)
            self.abandon()
        if self._past or self._waiting:
            self._try_later()
        else:
            self._holding = False

    def _try_later(self) -> None:
        self._timer = self._connection.hass.loop.call_later(PAUSE, self._pump)

    def _hand_over_waiting(self) -> None:
        free = MAXIMUM_BACKLOG - len(self._queued)
        while free > 0 and (self._past or self._waiting):
            past = bool(self._past)
            message = self._past.popleft() if past else self._waiting.pop()
            # once more: it waited, and policies change
            if message.type is MessageType.MISSED or self._wants(message):
                self._hand_over(message, past=past)
                free -= 1

    def _hand_over(self, message: Message, *, past: bool = False) -> None:
        if self._told and not past and message.type is MessageType.NEW_EVENT and message.incident_id in self._told:
            message = replace(message, type=MessageType.EVENT_UPDATED)
            if not self._wants(message):
                return
        self._send_message(_frame(self._message_id, message.envelope))

    @callback
    def _close(self) -> None:
        self._channel.disconnect(self)
        self._past.clear()
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def queued(connection: ActiveConnection) -> Sized:
    """Return the messages that Home Assistant has queued for a connection, as they come and go.

    The only place that knows where they are. A Home Assistant that keeps them elsewhere seems to have none.
    """
    queue = getattr(getattr(connection.send_message, "__self__", None), "_message_queue", ())
    return queue if isinstance(queue, Sized) else ()


@lru_cache(maxsize=FRAMES_KEPT)
def _frame(message_id: int, envelope: bytes) -> bytes:
    """Join a subscription's id to a message; the only place that knows Home Assistant's frame.

    Like programs number their subscriptions alike, so a frame serves many clients: it is made once, and takes memory
    once wherever it waits.
    """
    return construct_event_message(message_id, envelope)
