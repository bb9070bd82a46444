"""HTTP to the servers of a detector on other machines: kept alive, bounded in time and size, without secrets in words.

`http.client` and not aiohttp: the inference thread waits for each answer anyway (docs/decisions/0006).
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
import http.client
import io
import json
import socket
import time
from typing import Any, BinaryIO, Self, cast, override
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ..messages import Problem
from ..redact import redact
from . import DetectorError

_CONNECT = 2.0
"""Seconds until a server that does not even connect is given up."""
_REST = 30.0
"""Seconds that a server which failed is passed over while another one works."""
_LARGEST = 64 * 1024 * 1024
"""Bytes of an answer: a large model's output for a full batch, as JSON."""
_WORDS = 200
_PORTS = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}
_OK = range(200, 300)
_REFUSED = (401, 403)
_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: status, headers by lower-case name, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the JSON object of the body; an empty one if it holds none."""
        return read_object(self.body)


def read_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in these bytes; an empty one if they are something else."""
    try:
        value = json.loads(text)
    except ValueError, RecursionError:
        return {}
    return value if isinstance(value, dict) else {}


class Server:
    """One server of a detector. Used by one thread at a time."""

    def __init__(self, url: str, token: str, *, bearer: bool) -> None:
        """Take its address apart; nothing is connected yet.

        Args:
            url: http or https, host, port and path below which the API lies; may hold user name and password.
            token: what it wants to see, if anything; no error holds it.
            bearer: send the token in a header with every question, in place of the user name.

        Raises:
            DetectorError: that is no such address.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(host, port)
        except ValueError, KeyError, http.client.InvalidURL:
            # Not `from` it: what is wrong may be the password, and is quoted.
            raise DetectorError(Problem.DETECTOR_UNREACHABLE, "the address is none with http or https") from None
        self.name = f"{host}:{port}"
        """Host and port, for people."""
        self._path = quote(parts.path.rstrip("/"), safe="/%")
        self._authorization = _authorization(parts, token if bearer else "")
        self._secrets = [secret for secret in (token, unquote(parts.password or "")) if secret]

    def get(self, path: str, deadline: float) -> Answer:
        """Ask for something; see `post`."""
        return self._ask("GET", path, b"", {}, deadline)

    def post(self, path: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        """Send something and return the answer, whatever its status.

        Args:
            path: begins with a slash; below the path of the server's address.
            body: what is sent.
            headers: beside those of every question.
            deadline: monotonic time by which the whole answer has to be there.

        Raises:
            DetectorError: there is no answer, no whole one in time, or too large a one.
        """
        return self._ask("POST", path, body, headers, deadline)

    def close(self) -> None:
        """Hang up; the next question connects anew."""
        self._connection.close()

    def error(self, problem: Problem, detail: str) -> DetectorError:
        """Return an error that names this server and is free of secrets."""
        for secret in self._secrets:
            detail = detail.replace(secret, "***")
        return DetectorError(problem, f"{self.name}: {redact(detail)[:_WORDS]}")

    def checked(self, answer: Answer) -> Answer:
        """Return an answer whose status is good.

        Raises:
            DetectorError: it is not.
        """
        if answer.status in _OK:
            return answer
        detail = f"it answers {answer.status} {_said(answer)}".rstrip()
        if answer.status in _REFUSED:
            raise self.error(Problem.DETECTOR_UNAUTHORIZED, detail)
        raise self.error(Problem.DETECTOR_NOT_READY if answer.status in _BUSY else Problem.DETECTOR_BAD_ANSWER, detail)

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        kept = self._connection.sock is not None
        try:
            try:
                return self._exchange(method, path, body, headers, deadline)
            except ConnectionError:
                # A server may hang up on a connection that was idle. One that was just made has another reason.
                if not kept:
                    raise
                self.close()
                return self._exchange(method, path, body, headers, deadline)
        except TimeoutError as err:
            self.close()
            raise self.error(Problem.DETECTOR_UNREACHABLE, "no answer in time") from err
        except OSError as err:
            self.close()
            raise self.error(Problem.DETECTOR_UNREACHABLE, str(err) or type(err).__name__) from err
        except http.client.HTTPException as err:
            self.close()
            # Not `from` it: it quotes what came, and that may be anything.
            raise self.error(Problem.DETECTOR_UNREACHABLE, f"no HTTP ({type(err).__name__})") from None
        except BaseException:
            self.close()
            raise

    def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        connection = self._connection
        if connection.sock is None:
            connection.timeout = min(_CONNECT, max(0.01, deadline - time.monotonic()))
            connection.connect()
            connection.sock = cast("Any", _TimedSocket(cast("socket.socket", connection.sock)))
        cast("_TimedSocket", connection.sock).deadline = deadline
        connection.request(method, self._path + path, body or None, {**self._authorization, **headers})
        with connection.getresponse() as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            data = response.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise self.error(Problem.DETECTOR_BAD_ANSWER, "its answer is too large")
            if response.length:
                raise http.client.IncompleteRead(data)
            return Answer(response.status, found, data)


class Servers:
    """Servers of which the first that works is asked, in the order of the settings."""

    def __init__(self, servers: list[Server]) -> None:
        """Take the servers, the preferred one first."""
        self._all = servers
        self._failed_at: dict[Server, float] = {}

    @classmethod
    def of(cls, urls: tuple[str, ...], token: str, *, bearer: bool) -> Self:
        """Return the servers at these addresses; see `Server`.

        Raises:
            DetectorError: there is none, or one is no address.
        """
        if not urls:
            raise DetectorError(Problem.DETECTOR_UNREACHABLE, "no server is named")
        return cls([Server(url, token, bearer=bearer) for url in urls])

    def ask[T](self, question: Callable[[Server], T], deadline: float) -> T:
        """Return what the first server that works says; each is asked once.

        Args:
            question: asks one server.
            deadline: monotonic time after which no further server is tried.

        Raises:
            DetectorError: none of them could answer; of their problems the one that says most.
        """
        errors: list[DetectorError] = []
        for server in self._in_turn():
            if errors and time.monotonic() >= deadline:
                break
            try:
                answer = question(server)
            except DetectorError as err:
                errors.append(err)
                self._failed_at[server] = time.monotonic()
            else:
                self._failed_at.pop(server, None)
                return answer
        first = min(errors, key=lambda error: error.problem is Problem.DETECTOR_UNREACHABLE)
        raise DetectorError(first.problem, "; ".join(error.detail for error in errors)) from first

    def close(self) -> None:
        """Hang up on all of them."""
        for server in self._all:
            server.close()

    def _in_turn(self) -> list[Server]:
        now = time.monotonic()
        return sorted(self._all, key=lambda server: now - self._failed_at.get(server, -_REST) < _REST)


class _TimedSocket:
    """As much of a socket as `http.client` uses, of which everything is over at a deadline.

    A socket's own time-out begins anew with each byte: a server that sends one now and then would never be done.
    """

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.deadline = 0.0

    def sendall(self, data: bytes) -> None:
        self.wait_until_deadline()
        self._inner.sendall(data)

    def makefile(self, mode: str) -> BinaryIO:
        return io.BufferedReader(_TimedReader(self, self._inner))

    def close(self) -> None:
        self._inner.close()

    def wait_until_deadline(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._inner.settimeout(left)


class _TimedReader(io.RawIOBase):
    """Reads from a socket until its deadline."""

    def __init__(self, timed: _TimedSocket, inner: socket.socket) -> None:
        self._timed = timed
        self._raw = inner.makefile("rb", buffering=0)

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any, /) -> int | None:
        self._timed.wait_until_deadline()
        return self._raw.readinto(buffer)

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


def _authorization(parts: SplitResult, token: str) -> dict[str, str]:
    if token:
        # Else `http.client` refuses the header with the whole token in its words.
        if not token.isascii() or not token.isprintable():
            raise DetectorError(Problem.DETECTOR_UNAUTHORIZED, "the token has characters that none can have")
        return {"Authorization": f"Bearer {token}"}
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _said(answer: Answer) -> str:
    """Return the words of a server's error, if it has any."""
    words = answer.json().get("error", "")
    return f"({words})" if isinstance(words, str) and words else ""
