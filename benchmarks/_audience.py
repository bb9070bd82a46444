"""Many cheap websocket clients of Home Assistant in a process of their own; they read, count and check all they get.

One loop over plain sockets instead of a client library: what the clients need is taken from the machine that is
measured.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
import json
from multiprocessing.connection import Connection
import re
import resource
import select
import socket
import time
from typing import Any

WAIT = 60.0
"""Seconds within which what was sent must have come."""
IDS = 20
"""Different ids that the clients' subscriptions have: like programs count alike."""
CHUNK = 1 << 18
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
INCIDENT = re.compile(rb'"id": ?(\d+), ?"camera_id"')
"""How every way's message begins its payload."""


class AudienceError(Exception):
    """A client did not get what it should."""


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame as clients send it: masked, here with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


class Listener:
    """One websocket without extensions; it blocks until it is logged in and subscribed."""

    def __init__(self, port: int, path: str, *, last_id: int = 0) -> None:
        """Open it; its commands are numbered from the id after `last_id`."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._last_id = last_id
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self.socket.sendall(head.encode())
        self._rest = b""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._receive()
        answer, _, self._rest = self._rest.partition(b"\r\n\r\n")
        if b" 101 " not in answer.splitlines()[0]:
            raise AudienceError(f"no websocket: {answer!r}")
        self.incidents: Iterator[int] = iter(())  # numbers that must come, in this order

    def log_in(self, token: str) -> None:
        """Log in to Home Assistant."""
        self._read()  # that it is required
        self.send({"type": "auth", "access_token": token})
        if (answer := self._read())["type"] != "auth_ok":
            raise AudienceError(f"not logged in: {answer}")

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.socket.sendall(client_frame(TEXT, json.dumps(message).encode()))

    def command(self, message: dict[str, Any]) -> int:
        """Send a command, wait for its result and return its id."""
        self._last_id += 1
        self.send({"id": self._last_id, **message})
        answer = self._read()
        if not answer.get("success"):
            raise AudienceError(f"{message['type']}: {answer}")
        return self._last_id

    def fill(self) -> None:
        """Have more sent than a connection of loopback holds, and read none of it."""
        self._last_id += 1
        self.send({"id": self._last_id, "type": "fanout_probe/fill"})

    def take(self) -> Iterator[bytes]:
        """Read once and yield the content of each frame that is whole."""
        yield from self._contents(self._receive())

    def _read(self) -> Any:
        contents = list(self._contents(b""))
        while not contents:
            contents = list(self.take())
        (content,) = contents
        return json.loads(content)

    def _receive(self) -> bytes:
        if not (data := self.socket.recv(CHUNK)):
            raise AudienceError("Home Assistant closed a connection")
        return data

    def _contents(self, data: bytes) -> Iterator[bytes]:
        data = self._rest + data if self._rest else data
        at, size = 0, len(data)
        while size - at >= 2:
            length, begin = data[at + 1], at + 2
            if length > 125:
                width = 2 if length == 126 else 8
                if size < begin + width:
                    break
                length, begin = int.from_bytes(data[begin : begin + width]), begin + width
            if begin + length > size:
                break
            opcode, content = data[at] & 0xF, data[begin : begin + length]
            at = begin + length
            if opcode == TEXT:
                yield content
            elif opcode == PING:
                self.socket.sendall(client_frame(PONG, content))
            elif opcode == CLOSE:
                raise AudienceError(f"Home Assistant closed a connection: {content!r}")
        self._rest = data[at:]


@dataclass(frozen=True, slots=True)
class Heard:
    """What came, in the order in which it came over all clients."""

    numbers: array[int]
    """The incidents' numbers."""
    times: array[int]
    """When each was there, in ns of the machine's monotonic clock."""


class Audience:
    """The clients of one process: each way's own connections, ours and the bus on the same."""

    def __init__(self, port: int, token: str) -> None:
        """Begin with nobody."""
        self._port = port
        self._token = token
        self._hub: list[Listener] = []
        self._naive: list[Listener] = []
        self._by_fd: dict[int, Listener] = {}
        self._poll = select.epoll()

    def grow(self, count: int) -> None:
        """Connect until there are that many clients of each kind."""
        while len(self._hub) < count:
            listener = Listener(self._port, "/api/websocket", last_id=len(self._hub) % IDS)
            listener.log_in(self._token)
            ours = listener.command({"type": "nemotron_security/events/subscribe"})
            listener.command({"type": "subscribe_events", "event_type": "fanout_probe_event"})
            listener.command({"type": "fanout_probe/join", "subscription": ours})
            self.add("ours", listener)
            self.add("naive", Listener(self._port, "/api/fanout_probe/naive"))

    def coalesce(self) -> None:
        """Have Home Assistant put messages that wait together into one frame, as its own frontend does."""
        for listener in self._hub:
            listener.command({"type": "supported_features", "features": {"coalesce_messages": 1}})

    def expect(self, way: str, first: int, count: int) -> None:
        """Say what every client must get next."""
        for listener in self._of(way):
            listener.incidents = iter(range(first, first + count))

    def hear(self, way: str, count: int) -> Heard:
        """Read until every client has that many messages.

        Raises:
            AudienceError: one came twice, not in order or not in time.
        """
        heard = Heard(array("q"), array("q"))
        wanted = count * len(self._of(way))
        deadline = time.monotonic() + WAIT
        while len(heard.numbers) < wanted:
            if time.monotonic() > deadline:
                raise AudienceError(f"{way}: {wanted - len(heard.numbers)} of {wanted} messages did not come")
            for fd, _ in self._poll.poll(1.0):
                listener = self._by_fd[fd]
                contents = list(listener.take())
                now = time.monotonic_ns()
                for content in contents:
                    for found in INCIDENT.findall(content):
                        number = int(found)
                        if number != next(listener.incidents, None):
                            raise AudienceError(f"{way}: {number} came out of order")
                        heard.numbers.append(number)
                        heard.times.append(now)
        return heard

    def add(self, way: str, listener: Listener) -> None:
        """Let one more listen to that way."""
        self._of(way).append(listener)
        self._by_fd[listener.socket.fileno()] = listener
        self._poll.register(listener.socket.fileno(), select.EPOLLIN)

    def _of(self, way: str) -> list[Listener]:
        return self._naive if way == "naive" else self._hub


def serve(pipe: Connection, port: int, token: str) -> None:
    """Do what the driver asks, until it hangs up; a failure is the answer."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    audience = Audience(port, token)
    try:
        while True:
            name, *arguments = pipe.recv()
            pipe.send(getattr(audience, name)(*arguments))
    except EOFError:
        pass
    except (AudienceError, OSError) as err:
        pipe.send(err)
