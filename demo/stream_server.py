"""A network camera made of a video file: an endless MPEG-TS stream over HTTP at the file's own pace.

`python -m demo.stream_server FILE --port 8555` serves `http://127.0.0.1:8555/FILE's name.ts` on loopback. The file's
H.264 is not encoded again; its times run on when it begins anew, as a camera's do. Every client begins at the file's
beginning.
"""

import argparse
import asyncio
import base64
from collections.abc import Iterator, Mapping
from contextlib import suppress
import hmac
import io
from pathlib import Path
from types import TracebackType
from typing import Self, override

from aiohttp import web
import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream


class StreamServer:
    """Serves each file as `/NAME.ts`; an async context manager that listens while it is open."""

    def __init__(self, files: Mapping[str, Path], *, port: int = 0, user: str = "", password: str = "") -> None:
        """Name the files; with a `user`, clients have to log in by Basic authentication. Port 0 takes a free one."""
        self._files = dict(files)
        self._port = port
        self._login = _basic(user, password) if user else None
        self._runner: web.AppRunner | None = None
        self.clients = 0
        """Clients that are being served."""

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        application = web.Application()
        application.router.add_get("/{name}.ts", self._handle_stream)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Hang up on every client and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def url(self, name: str) -> str:
        """Return the address of a file's stream, without credentials."""
        return f"http://127.0.0.1:{self._port}/{name}.ts"

    async def _handle_stream(self, request: web.Request) -> web.StreamResponse:
        if self._login and not hmac.compare_digest(request.headers.get("Authorization", ""), self._login):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="camera"'})
        if (path := self._files.get(request.match_info["name"])) is None:
            return web.Response(status=404)
        response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await response.prepare(request)
        self.clients += 1
        try:
            await _stream(path, response)
        except ConnectionError:
            pass  # The client hung up.
        finally:
            self.clients -= 1
        return response


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def _stream(path: Path, response: web.StreamResponse) -> None:
    clock = asyncio.get_running_loop().time
    start, chunks = clock(), transport_stream(path)
    while True:
        # Reading and muxing take microseconds, but a file's disk may be asleep: never on the loop.
        due, chunk = await asyncio.to_thread(next, chunks)
        await asyncio.sleep(start + due - clock())
        await response.write(chunk)


def transport_stream(path: Path) -> Iterator[tuple[float, bytes]]:
    """Yield MPEG-TS for ever: when each piece is due, in seconds since the beginning, and the piece.

    Raises:
        ValueError: the file holds no video packets.
    """
    sink = _Sink()
    with av.open(sink, "w", format="mpegts", container_options={"flush_packets": "1"}) as output:
        target: VideoStream | None = None
        begin = end = 0.0
        while True:
            with av.open(str(path)) as container:
                source = container.streams.video[0]
                target = target or output.add_stream_from_template(source)
                for packet, end in _shifted(container, source, begin):
                    packet.stream = target
                    output.mux(packet)
                    yield end, sink.take()
                if end == begin:
                    raise ValueError(f"{path.name} holds no video packets")
                begin = end + 1.0 / float(source.average_rate or 25)


def _shifted(
    container: InputContainer, stream: VideoStream, begin: float
) -> Iterator[tuple[Packet[VideoStream], float]]:
    """Yield the packets of one pass of the file, the first at `begin` seconds, and the seconds of each."""
    first: int | None = None
    for packet in container.demux(stream):
        if packet.dts is None or packet.pts is None or packet.time_base is None:
            continue  # The empty packet that ends the file.
        first = packet.dts if first is None else first
        shift = round(begin / float(packet.time_base)) - first
        packet.dts += shift
        packet.pts += shift
        yield packet, float(packet.dts * packet.time_base)


class _Sink(io.RawIOBase):
    """Collects what the muxer writes."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: bytes, /) -> int:  # type: ignore[override] # libav hands over bytes
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


async def _serve(server: StreamServer, name: str) -> None:
    async with server:
        print(server.url(name), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve one file until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a video file with H.264")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--user", default="", help="ask clients to log in")
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()
    server = StreamServer(
        {arguments.file.stem: arguments.file}, port=arguments.port, user=arguments.user, password=arguments.password
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(server, arguments.file.stem))


if __name__ == "__main__":
    main()
