"""The two channels: who listens, what was said, and each message turned into JSON once for all who listen.

A channel numbers its messages. The numbers rise by one, so that a client can tell that it missed something; they begin
at the clock's milliseconds, so that a number of an earlier run is not taken for one of this run. That fails when the
clock was set back; the run's own name tells runs apart whatever the clock says.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from heapq import merge
import logging
from operator import attrgetter
from secrets import token_hex
import time
from typing import NamedTuple, Protocol

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.json import json_bytes
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN
from .models import CameraFigures, CameraHealth, Detection, GpuStats, Incident
from .payloads import (
    PipelineStatus,
    camera_stats_payload,
    camera_status_payload,
    detection_payload,
    event_payload,
    gpu_stats_payload,
    pipeline_status_payload,
)

_LOGGER = logging.getLogger(__name__)

HISTORY = 1024
"""Messages of each type that a channel keeps for `since`: as many as Home Assistant lets wait for a client for long."""
SHORT_HISTORY = 512
"""The same of a type that comes often and is out of date soon."""
BATCH = 64
"""Clients that are served in one turn of the event loop. With more, each part of Home Assistant's way to the socket
would pass over all of them before the next, and find none of what it needs in the processor's cache."""
SCORES_KEPT = 4096
"""Incidents of which the events channel remembers the highest score announced."""


class MessageType(StrEnum):
    """What a message is about."""

    NEW_EVENT = "new_event"
    EVENT_UPDATED = "event_updated"
    DETECTION = "detection"
    GPU_STATS = "gpu_stats"
    CAMERA_STATUS = "camera_status"
    CAMERA_STATS = "camera_stats"
    PIPELINE_STATUS = "pipeline_status"
    MISSED = "missed"
    """For one client that read too slowly: something was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a channel, in JSON, and what clients choose it by."""

    type: MessageType
    seq: int
    data: bytes
    """The payload's JSON."""
    camera_id: str | None = None
    """The camera that it tells of; null when it tells of no single one."""
    incident_id: int | None = None
    """The incident that a message of one tells of."""
    labels: frozenset[str] = frozenset()
    """What took part in the incident, or what was detected."""
    peak: int | None = None
    """The highest score announced of its incident so far; null while nobody has judged it."""
    reading_of: int | str | None = None
    """What it is one of many readings of (a track, a GPU, a camera): the next of its type makes it out of date."""
    envelope: bytes = field(init=False)
    """The whole message's JSON, as every client gets it."""

    def __post_init__(self) -> None:
        """Put the payload into its envelope."""
        envelope = b'{"type":"%b","data":%b,"seq":%d}' % (self.type.encode(), self.data, self.seq)
        object.__setattr__(self, "envelope", envelope)


def missed(dropped: int) -> Message:
    """Return what tells a client that this message, and perhaps later ones, were dropped: `since` brings them."""
    return Message(type=MessageType.MISSED, seq=dropped - 1, data=json_bytes({"since": dropped - 1}))


class Client(Protocol):
    """Whoever listens to a channel. What it does must not block; one that raises is dropped."""

    def offer(self, message: Message) -> bool:
        """Take the message if the client may and would have it, and say so."""

    def abandon(self) -> None:
        """Let go of everything: the client failed and was dropped. Must not raise."""


class Past(NamedTuple):
    """What a client missed."""

    messages: list[Message]
    lacking: frozenset[MessageType] = frozenset()
    """Types of which it is not all: `messages` has what is still kept."""

    @property
    def complete(self) -> bool:
        """Whether that is all of it."""
        return not self.lacking


@dataclass(slots=True, kw_only=True)
class _Round:
    """Messages on their way to a large audience: everybody who listened when they were said."""

    clients: list[Client]
    messages: list[Message]
    served: int = 0
    """To how many clients they were offered."""


class _History:
    """The newest messages of one type: a busy type pushes no other out."""

    def __init__(self, length: int, seq: int) -> None:
        self.messages: deque[Message] = deque(maxlen=length)
        self.reaches_to = seq
        """All that came after this number is kept."""

    def add(self, message: Message) -> None:
        if len(self.messages) == self.messages.maxlen:
            self.reaches_to = self.messages[0].seq
        self.messages.append(message)


class Broadcaster:
    """A channel: its clients, the number of its last message, and what was said before."""

    def __init__(self, history: Mapping[MessageType, int]) -> None:
        """Begin without clients; keep so many messages of each type for `since`."""
        self._clients: dict[Client, Collection[str] | None] = {}
        """In the order in which they came, with the types of message that each chose; null for all."""
        self._rounds: deque[_Round] = deque()
        self._audience_listener: Callable[[], None] | None = None
        self._seq = time.time_ns() // 1_000_000
        self._history = {type_: _History(length, self._seq) for type_, length in history.items()}
        self.run = token_hex(4)
        """The name of this run of Home Assistant: another after each start."""

    @property
    def connections(self) -> int:
        """How many clients listen."""
        return len(self._clients)

    @property
    def seq(self) -> int:
        """The number of the last message."""
        return self._seq

    def audience(self, type_: MessageType) -> int:
        """Return how many clients chose messages of this type, or did not choose."""
        return sum(types is None or type_ in types for types in self._clients.values())

    def connect(self, client: Client, types: Collection[str] | None = None) -> None:
        """Send the client what happens from now on; once, however often it connects.

        The types are those that it wants at all: its own filter says the rest.
        """
        self._clients[client] = types
        self._audience_changed()

    def disconnect(self, client: Client) -> None:
        """Send the client nothing more."""
        self._clients.pop(client, None)
        self._audience_changed()

    def watch_audience(self, listener: Callable[[], None] | None) -> None:
        """Call the listener, the only one, whenever somebody comes or goes; null ends that."""
        self._audience_listener = listener

    def is_connected(self, client: Client) -> bool:
        """Whether the client listens."""
        return client in self._clients

    def since(self, seq: int, run: str | None = None, types: Collection[str] | None = None) -> Past:
        """Return what was said after the message of that number, as far as it is kept; only these types, if given.

        A number of another run is none of ours. Without its run, that shows only by the number itself.
        """
        ours = run in (None, self.run) and seq <= self._seq
        wanted = {type_: kept for type_, kept in self._history.items() if types is None or type_ in types}
        missed = ((m for m in kept.messages if not ours or m.seq > seq) for kept in wanted.values())
        return Past(
            list(merge(*missed, key=attrgetter("seq"))),
            frozenset(type_ for type_, kept in wanted.items() if not ours or seq < kept.reaches_to),
        )

    def _audience_changed(self) -> None:
        if self._audience_listener is not None:
            self._audience_listener()

    def _next(self) -> int:
        """Return the number of the channel's next message."""
        self._seq += 1
        return self._seq

    def _deliver(self, message: Message) -> int:
        """Keep a message, offer it to everybody, and return how many took it; never raises for a client.

        A large audience is offered it in the next turns of the event loop, and counts as if everybody took it.
        """
        if (history := self._history.get(message.type)) is not None:
            history.add(message)
        clients = list(self._clients)
        if len(clients) <= BATCH and not self._rounds:
            return self._offer(message, clients)
        if not self._rounds:
            asyncio.get_running_loop().call_soon(self._serve)
        if self._rounds and not (last := self._rounds[-1]).served and last.clients == clients:
            last.messages.append(message)
        else:
            self._rounds.append(_Round(clients=clients, messages=[message]))
        return len(clients)

    def _serve(self) -> None:
        """Offer what was said to the next clients of a large audience."""
        current = self._rounds[0]
        begin, current.served = current.served, current.served + BATCH
        try:
            for message in current.messages:
                self._offer(message, current.clients[begin : current.served])
        finally:  # whatever happens, the others get their turn
            if current.served >= len(current.clients):
                self._rounds.popleft()
            if self._rounds:
                loop = asyncio.get_running_loop()
                # Home Assistant needs two turns: one to wake the connections' writers, one in which these write.
                loop.call_soon(loop.call_soon, self._serve)

    def _offer(self, message: Message, clients: Iterable[Client]) -> int:
        """Offer a message to those of the clients that still listen, and return how many took it."""
        taken = 0
        for client in clients:
            if client not in self._clients:
                continue
            try:
                taken += client.offer(message)
            except Exception:  # whatever a client does, the others are served
                _LOGGER.warning("A client of a websocket channel failed and was dropped", exc_info=True)
                self.disconnect(client)
                client.abandon()
        return taken


class EventBroadcaster(Broadcaster):
    """The channel `events`: incidents and detections."""

    def __init__(self, *, history: int = HISTORY, short_history: int = SHORT_HISTORY) -> None:
        """Keep so many new and so many changed incidents for `since`, and so many detections."""
        super().__init__(
            {
                MessageType.NEW_EVENT: history,
                MessageType.EVENT_UPDATED: history,
                MessageType.DETECTION: short_history,
            }
        )
        self._peaks: OrderedDict[int, int] = OrderedDict()

    def broadcast_new_event(self, incident: Incident) -> int:
        """Announce an incident that has been stored; returns the number of clients reached."""
        return self._deliver(self._incident_message(MessageType.NEW_EVENT, self._next(), incident))

    def broadcast_event_updated(self, incident: Incident) -> int:
        """Announce that an incident grew, was judged or ended; returns the number of clients reached."""
        return self._deliver(self._incident_message(MessageType.EVENT_UPDATED, self._next(), incident))

    def broadcast_detection(self, detection: Detection) -> int:
        """Announce one object in one frame; returns the number of clients reached."""
        message = Message(
            type=MessageType.DETECTION,
            seq=self._next(),
            data=json_bytes(detection_payload(detection)),
            camera_id=detection.camera_id,
            labels=frozenset((detection.object_type,)),
            peak=None if detection.incident_id is None else self._peaks.get(detection.incident_id),
            reading_of=detection.track_id,
        )
        return self._deliver(message)

    def replay(self, incident: Incident, seq: int) -> Message:
        """Return a stored incident as a message for one client; the number is the channel's as the client came."""
        return self._incident_message(MessageType.NEW_EVENT, seq, incident)

    def _incident_message(self, type_: MessageType, seq: int, incident: Incident) -> Message:
        return Message(
            type=type_,
            seq=seq,
            data=json_bytes(event_payload(incident)),
            camera_id=incident.camera_id,
            incident_id=incident.id,
            labels=frozenset(incident.labels),
            peak=self._note_peak(incident),
        )

    def _note_peak(self, incident: Incident) -> int | None:
        """Return the highest score that was announced of an incident, this one included.

        Of what was announced before the last start, the store knows the highest.
        """
        announced = self._peaks.pop(incident.id, incident.peak_score)
        scores = [int(score) for score in (announced, incident.risk_score) if score is not None]
        if not scores:
            return None
        peak = self._peaks[incident.id] = max(scores)
        if len(self._peaks) > SCORES_KEPT:
            self._peaks.popitem(last=False)
        return peak


class SystemBroadcaster(Broadcaster):
    """The channel `system`: GPUs, cameras and the pipeline. It keeps the last message about each."""

    def __init__(self, *, history: int = SHORT_HISTORY) -> None:
        """Begin with nothing known; keep so many messages of each type for `since`."""
        super().__init__(
            dict.fromkeys(
                (
                    MessageType.GPU_STATS,
                    MessageType.CAMERA_STATUS,
                    MessageType.CAMERA_STATS,
                    MessageType.PIPELINE_STATUS,
                ),
                history,
            )
        )
        self._gpus: dict[str, Message] = {}
        self._cameras: dict[str, Message] = {}
        self._camera_stats: dict[str, Message] = {}
        self._pipeline: Message | None = None

    def broadcast_gpu_stats(self, stats: GpuStats) -> int:
        """Announce a reading of a GPU; returns the number of clients reached."""
        message = self._gpus[stats.gpu_id] = Message(
            type=MessageType.GPU_STATS,
            seq=self._next(),
            data=json_bytes(gpu_stats_payload(stats)),
            reading_of=stats.gpu_id,
        )
        return self._deliver(message)

    def broadcast_camera_status(self, health: CameraHealth) -> int:
        """Announce a camera's status; returns the number of clients reached."""
        message = self._cameras[health.camera_id] = Message(
            type=MessageType.CAMERA_STATUS,
            seq=self._next(),
            data=json_bytes(camera_status_payload(health)),
            camera_id=health.camera_id,
            reading_of=health.camera_id,
        )
        return self._deliver(message)

    def broadcast_camera_stats(self, figures: CameraFigures) -> int:
        """Announce how much of a camera is looked at; returns the number of clients reached."""
        message = self._camera_stats[figures.camera_id] = Message(
            type=MessageType.CAMERA_STATS,
            seq=self._next(),
            data=json_bytes(camera_stats_payload(figures)),
            camera_id=figures.camera_id,
            reading_of=figures.camera_id,
        )
        return self._deliver(message)

    def broadcast_pipeline_status(self, status: PipelineStatus) -> int:
        """Announce how the pipeline does; returns the number of clients reached."""
        message = self._pipeline = Message(
            type=MessageType.PIPELINE_STATUS,
            seq=self._next(),
            data=json_bytes(pipeline_status_payload(status)),
            reading_of="",
        )
        return self._deliver(message)

    def forget_camera(self, camera_id: str) -> None:
        """Take a camera that was removed out of the present state."""
        self._cameras.pop(camera_id, None)
        self._camera_stats.pop(camera_id, None)

    def forget_gpu(self, gpu_id: str) -> None:
        """Take a GPU whose readings ended out of the present state."""
        self._gpus.pop(gpu_id, None)

    def forget_all(self) -> None:
        """Take everything out of the present state: nothing is watched any more."""
        self._gpus.clear()
        self._cameras.clear()
        self._camera_stats.clear()
        self._pipeline = None

    def present(self) -> list[Message]:
        """Return the last message about each GPU, each camera and the pipeline, as of the channel's last number."""
        known = [*self._gpus.values(), *self._cameras.values(), *self._camera_stats.values()]
        if self._pipeline is not None:
            known.append(self._pipeline)
        return [replace(message, seq=self._seq) for message in known]


class Channels(NamedTuple):
    """Both channels."""

    events: EventBroadcaster
    system: SystemBroadcaster


_CHANNELS: HassKey[Channels] = HassKey(f"{DOMAIN}_channels")


@callback
def async_channels(hass: HomeAssistant) -> Channels:
    """Return the channels of this Home Assistant. They outlive a reload of the entry, and so do their clients."""
    if (channels := hass.data.get(_CHANNELS)) is None:
        channels = hass.data[_CHANNELS] = Channels(EventBroadcaster(), SystemBroadcaster())
    return channels
