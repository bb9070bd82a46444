"""Downloads of files whose size and SHA-256 are known: resumed, verified, whole or not there at all."""

import asyncio
from collections.abc import Callable
import contextlib
from dataclasses import dataclass
from enum import StrEnum
import errno
import fcntl
import hashlib
from io import BufferedRandom
import logging
import os
from pathlib import Path
import re
from typing import Final

import aiohttp
from yarl import URL

from . import DetectionFailure
from .environment import free_space

_LOGGER = logging.getLogger(__name__)

_CHUNK: Final = 256 * 1024
_SPARE: Final = 64 * 1024 * 1024
"""Bytes that shall still be free on the disk afterwards."""
_REDIRECTS: Final = 5
_ATTEMPTS: Final = 4
"""In a row that bring nothing."""
_LONGEST_PAUSE = 10.0
"""Seconds between two of them."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


class DownloadProblem(StrEnum):
    """Why a file could not be had. Each value is a translation key that names what to do."""

    NETWORK = "download_network"
    """The server is not reached, or the connection breaks again and again. What came is kept."""
    REFUSED = "download_refused"
    """The server answers that it does not have it, or gives it to nobody."""
    INSECURE = "download_insecure"
    """The address, or one it leads to, is none with https."""
    CHANGED = "download_changed"
    """What came is another file than was wanted: by its size, or by its SHA-256. It was deleted."""
    SPACE = "download_space"
    UNWRITABLE = "download_unwritable"
    """The folder cannot be made, or nothing can be written there."""
    BUSY = "download_busy"
    """It is being downloaded already. Two would write into the same file."""


class DownloadError(DetectionFailure[DownloadProblem]):
    """A file could not be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file as it has to be."""

    url: str
    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal."""


class _Broken(Exception):  # noqa: N818  # the connection is; the next one goes on
    """The transfer ended early, and can go on."""


async def async_download(
    session: aiohttp.ClientSession, file: RemoteFile, target: Path, report: Callable[[float], None]
) -> None:
    """Download a file to `target`, which is there only once it is whole and right.

    What came is kept beside it when the connection breaks or this is cancelled, and not asked for again next time.

    Args:
        session: to ask with.
        file: what has to come.
        target: where to; its folder is made.
        report: called on the event loop with how much is there, 0 to 1.

    Raises:
        DownloadError: it could not be had.
    """
    part = _Part(target, file)
    try:
        await _async_do(part.open)
        idle = 0
        while part.length < file.size:
            before = part.length
            try:
                await _async_fetch(session, file, part, report)
            except (_Broken, aiohttp.ClientError, TimeoutError) as err:
                idle = 0 if part.length > before else idle + 1
                if idle == _ATTEMPTS:
                    # Not its words: they may quote an address with a signature in it.
                    raise DownloadError(DownloadProblem.NETWORK, type(err.__cause__ or err).__name__) from None
                await asyncio.sleep(min(2.0**idle - 1, _LONGEST_PAUSE))
        await _async_do(part.finish)
    finally:
        await _async_do(part.close)


async def _async_do[**P](call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do what blocks in a thread, to its end: when this is cancelled, nothing else gets at the file meanwhile.

    Raises:
        DownloadError: the disk does not take it.
    """
    job = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        await asyncio.wait([job])
    finally:
        await asyncio.wait([job])
        error = job.exception()
    if isinstance(error, OSError):
        problem = DownloadProblem.SPACE if error.errno in _NO_SPACE else DownloadProblem.UNWRITABLE
        raise DownloadError(problem, error.strerror or type(error).__name__) from error
    if error is not None:
        raise error


async def _async_fetch(
    session: aiohttp.ClientSession, file: RemoteFile, part: _Part, report: Callable[[float], None]
) -> None:
    """Ask once, and take what comes."""
    async with contextlib.AsyncExitStack() as stack:
        response = await _async_answer(stack, session, URL(file.url), part)
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        goes_on = response.status == 206 and found is not None and int(found[1]) == part.length  # noqa: PLR2004
        if not goes_on:
            # From its beginning: the file is another one by now, or the server gives it only as a whole.
            await _async_do(part.restart)
            if response.status != 200:  # noqa: PLR2004
                raise _Broken
        total = int(found[2]) if goes_on and found else response.content_length
        if total not in (None, file.size):
            await _async_do(part.discard)
            raise DownloadError(DownloadProblem.CHANGED, f"it has {total} bytes, not {file.size}")
        if not goes_on:
            await _async_do(part.begin, response.headers.get("ETag", ""))
        async for data in response.content.iter_chunked(_CHUNK):
            await _async_do(part.write, data)
            report(part.length / file.size)
    if part.length < file.size:
        raise _Broken


async def _async_answer(
    stack: contextlib.AsyncExitStack, session: aiohttp.ClientSession, url: URL, part: _Part
) -> aiohttp.ClientResponse:
    """Follow redirects, to https only, and return an answer that holds the file or a part of it."""
    headers = {"Accept-Encoding": "identity", **part.range_headers()}
    for _ in range(_REDIRECTS):
        if url.scheme != "https":
            raise DownloadError(DownloadProblem.INSECURE, f"{url.scheme}://{url.host}")
        response = await stack.enter_async_context(
            session.get(url, headers=headers, allow_redirects=False, timeout=_TIMEOUT)
        )
        if response.status in {301, 302, 303, 307, 308} and (location := response.headers.get("Location")):
            url = url.join(URL(location))
            continue
        if response.status in _BUSY:
            raise _Broken from DownloadError(DownloadProblem.NETWORK, f"{url.host}: {response.status}")
        if response.status not in {200, 206, 416}:
            raise DownloadError(DownloadProblem.REFUSED, f"{url.host}: {response.status}")
        return response
    raise DownloadError(DownloadProblem.REFUSED, "it leads in circles")


class _Part:
    """What came of a file so far. Its methods block, but for `range_headers`."""

    def __init__(self, target: Path, file: RemoteFile) -> None:
        self._target = target
        self._path = target.with_name(f"{target.name}.part")
        self._tag_path = target.with_name(f"{target.name}.part.etag")
        self._file = file
        self._stream: BufferedRandom | None = None
        self._tag = ""
        self.length = 0

    def open(self) -> None:
        """Take up what an earlier try left, if the server can be asked for the rest of the very same.

        Raises:
            DownloadError: somebody else writes there, or there is no space.
        """
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._path.open("a+b")
        self._lock()
        with contextlib.suppress(OSError):
            self._tag = self._tag_path.read_text()
        self.length = self._stream.seek(0, os.SEEK_END)
        if (
            self.length > self._file.size
            or not self._tag
            or (self.length == self._file.size and self._sha256() != self._file.sha256)
        ):
            self.restart()
        if free_space(self._target.parent) < self._file.size - self.length + _SPARE:
            raise DownloadError(DownloadProblem.SPACE)

    def _lock(self) -> None:
        """Keep all others away until the file is closed: other windows, and other processes."""
        assert self._stream is not None
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise DownloadError(DownloadProblem.BUSY) from err
        except OSError as err:  # some network's disk; what would get mixed up, `finish` finds out
            _LOGGER.debug("A download cannot be locked: %s", err.strerror)
        try:
            mine = os.path.samestat(os.fstat(self._stream.fileno()), self._path.stat())
        except FileNotFoundError:
            mine = False
        if not mine:  # another one was done with it after it was opened here, and named or deleted it
            raise DownloadError(DownloadProblem.BUSY)

    def range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest, of exactly what came so far."""
        return {"Range": f"bytes={self.length}-", "If-Range": self._tag} if self.length and self._tag else {}

    def begin(self, tag: str) -> None:
        """Remember what tells this version of the file from others; a weak tag does not."""
        self._tag = "" if tag.startswith("W/") else tag
        self._tag_path.write_text(self._tag)

    def write(self, data: bytes) -> None:
        """Take what came.

        Raises:
            DownloadError: it is more than there may be.
        """
        assert self._stream is not None
        if self.length + len(data) > self._file.size:
            self.discard()
            raise DownloadError(DownloadProblem.CHANGED, f"it has more than {self._file.size} bytes")
        self._stream.write(data)
        self.length += len(data)

    def restart(self) -> None:
        """Begin anew."""
        assert self._stream is not None
        self._stream.truncate(0)
        self._tag = ""
        self.length = 0

    def finish(self) -> None:
        """Give the file its name, if it is the right one: what lies on the disk, not what was sent there.

        Raises:
            DownloadError: it is not; it is gone.
        """
        assert self._stream is not None
        self._stream.flush()
        os.fsync(self._stream.fileno())
        if self._sha256() != self._file.sha256:
            self.discard()
            raise DownloadError(DownloadProblem.CHANGED, "its SHA-256 differs")
        self._path.replace(self._target)
        self._tag_path.unlink(missing_ok=True)

    def _sha256(self) -> str:
        assert self._stream is not None
        self._stream.seek(0)
        return hashlib.file_digest(self._stream, "sha256").hexdigest()

    def discard(self) -> None:
        """Delete what came, while nobody else can have it."""
        self._path.unlink(missing_ok=True)
        self._tag_path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close the file; what came stays, but for what the disk does not take."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
