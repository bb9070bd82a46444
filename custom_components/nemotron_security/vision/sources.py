"""Where frames come from: a video file, a stream, or stills that somebody pushes.

Each source is an iterator of frames that ends when its stop event is set and raises `SourceError` when it cannot go
on. Opening again, and how soon, is the caller's matter: make a new source.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import errno
from pathlib import Path
import socket
import threading
import time
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

import av
from av.container import InputContainer
import av.container.core
from av.stream import Disposition
from av.video.stream import VideoStream

from .frames import MAX_PIXELS, Frame, PictureError, decode_still
from .messages import Problem, Source, SourceKind
from .redact import redact

OPEN_TIMEOUT = 10.0
"""Seconds until a stream must have answered and shown what is in it."""
READ_TIMEOUT = 15.0
"""Seconds without a packet (or without a picture in the packets) after which a stream counts as stalled."""
STILL_TIMEOUT = 60.0
"""Seconds without a pushed still after which the source counts as stalled."""
BAD_PACKETS = 60
"""So many undecodable packets in a row are a corrupt source; fewer are skipped, as every radio link has them."""
BAD_SECONDS = 10.0
"""So long a stream may bring nothing else: one that is joined between two key frames can be decoded from the next."""
BAD_STILLS = 5

# What a camera's URL, and what a playlist behind it, may open. libav also knows protocols that read local files.
_STREAM_PROTOCOLS = "rtsp,rtsps,rtp,srtp,rtmp,rtmps,rtmpt,srt,http,https,httpproxy,tcp,udp,tls,hls,crypto,data"
_LATE = 1.0
_POLL = 0.25
_GAP = 0.04
_PAUSE = 0.01
_WAIT = 0.02
"""Seconds; a read that takes longer waited for the network, or now and then for a turn of a busy processor."""


class SourceError(Exception):
    """A source cannot be opened, or cannot go on."""

    def __init__(self, problem: Problem, detail: str) -> None:
        """Keep what to tell the user and, free of secrets, the words for people who look for the cause."""
        self.problem = problem
        self.detail = redact(detail)
        super().__init__(f"{problem}: {self.detail}")


class FrameSource(Protocol):
    """Frames of one camera, oldest first. Used as a context manager by one thread."""

    def __enter__(self) -> Self:
        """Return the source; it opens with the first frame that is asked for."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close the source."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the stop event is set.

        Raises:
            SourceError: the source cannot be opened, broke, or came to its end.
        """


def open_source(source: Source, *, fps: float, stop: threading.Event, first_frame_id: int = 1) -> FrameSource:
    """Return the frames of a source, at most `fps` a second (0: every frame).

    Args:
        source: where the frames are.
        fps: frames a second that are wanted; others are dropped before they are converted.
        stop: ends the iteration, also in the middle of a blocked read, within a second.
        first_frame_id: the id of the first frame; later ones count up.
    """
    match source.kind:
        case SourceKind.FILE:
            return VideoFileSource(source, fps=fps, stop=stop, first_frame_id=first_frame_id)
        case SourceKind.STREAM:
            return StreamSource(source.location, fps=fps, stop=stop, first_frame_id=first_frame_id)
        case SourceKind.STILLS:
            return StillsSource(stop=stop, first_frame_id=first_frame_id)


class _Source:
    """What every source has: a stop event and frames that are counted."""

    def __init__(self, *, stop: threading.Event, first_frame_id: int) -> None:
        self._stop = stop
        self._closed = threading.Event()
        self._next_frame_id = first_frame_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()

    def _ended(self) -> bool:
        return self._stop.is_set() or self._closed.is_set()

    def _frame(self, picture: av.VideoFrame, captured_at: float) -> Frame:
        frame = Frame(picture, captured_at, self._next_frame_id)
        self._next_frame_id += 1
        return frame


class VideoFileSource(_Source):
    """A video file, decoded in the caller's thread.

    Played at its own pace, a frame's time is the wall clock's; a caller that is too slow misses frames. Played as fast
    as it is read, a frame's time is the seconds since the file's beginning, and none is missed. A file that loops goes
    on counting.
    """

    def __init__(self, source: Source, *, fps: float, stop: threading.Event, first_frame_id: int = 1) -> None:
        """Take the file's path from `source.location`; nothing is opened yet."""
        super().__init__(stop=stop, first_frame_id=first_frame_id)
        self._source = source
        self._cadence = Cadence(fps)
        self._pace = Pace()

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames; see `FrameSource`."""
        begin = 0.0
        while not self._ended():
            end = begin
            for picture, offset in self._play_once():
                end = begin + offset
                if self._cadence.is_due(end) and (captured_at := self._time_of(end)) is not None:
                    yield self._frame(picture, captured_at)
                if self._ended():
                    return
            # A single picture has no gap; without one, time would stand still and the file be read over and over.
            begin = end + (self._cadence.gap or self._cadence.interval or _GAP)
            if not self._source.loop:
                raise SourceError(Problem.SOURCE_ENDED, "end of the file")

    def _play_once(self) -> Iterator[tuple[av.VideoFrame, float]]:
        """Yield every picture with its seconds since the first one."""
        first: float | None = None
        with _open_file(self._source.location) as container:
            stream = _video_stream(container)
            period = 1.0 / float(stream.average_rate or 25)
            for count, picture in enumerate(_pictures(container, stream)):
                at = picture.time if picture.pts is not None else count * period
                first = at if first is None else first
                yield picture, max(0.0, at - first)
        if first is None:
            raise SourceError(Problem.SOURCE_CORRUPT, "no picture in the file could be decoded")

    def _time_of(self, media_time: float) -> float | None:
        """Return the frame's time, waiting for it if it plays at its own pace; None if it is too late."""
        if not self._source.realtime:
            return media_time
        return self._pace.wait(media_time, self._stop, tolerance=self._cadence.interval)


class StreamSource(_Source):
    """A stream of the network, read and decoded in a thread of its own.

    The thread never waits for the caller: it decodes what comes and keeps the newest frame that is due, so a busy
    caller misses frames and never sees old ones. Frames that are not due are dropped as the decoder left them.
    """

    def __init__(
        self,
        location: str,
        *,
        fps: float,
        stop: threading.Event,
        first_frame_id: int = 1,
        open_timeout: float = OPEN_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        """Take the stream's URL; nothing is opened yet."""
        super().__init__(stop=stop, first_frame_id=first_frame_id)
        self._location = location
        self._timeouts = (open_timeout, read_timeout)
        self._cadence = Cadence(fps)
        self._newest = _Newest[Frame]()

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames; see `FrameSource`."""
        reader = threading.Thread(target=self._read, name="stream reader", daemon=True)
        reader.start()
        try:
            while not self._ended():
                if (frame := self._take()) is not None:
                    yield frame
        finally:
            self.close()
            reader.join(2.0)

    def _take(self) -> Frame | None:
        try:
            return self._newest.take(_POLL)
        except SourceError:
            # A read that was interrupted because we stop looks like a stream that ended.
            if self._ended():
                return None
            raise

    def _read(self) -> None:
        """Decode until the end; whatever ends it is handed to the caller's thread."""
        try:
            with _interruptible(self._ended), _open_stream(self._location, self._timeouts) as container:
                self._decode(container)
            self._newest.fail(SourceError(Problem.SOURCE_ENDED, "the stream ended"))
        except Exception as err:  # noqa: BLE001 - raised again in the caller's thread
            self._newest.fail(err)

    def _decode(self, container: InputContainer) -> None:
        stream = _video_stream(container)
        # A playlist's segments arrive seconds at a time and are played at their own pace.
        pace = Pace() if "hls" in container.format.name else None
        backlog = _Backlog(stream)
        for picture in _pictures(container, stream, stall_timeout=self._timeouts[1], backlog=backlog):
            if self._ended():
                return
            if pace is not None and picture.pts is not None:
                pace.wait(picture.time, self._stop)
            elif picture.pts is not None:
                backlog.note(picture.time, time.monotonic())
            if self._cadence.is_due(time.monotonic()):
                self._newest.put(self._frame(picture, time.time()))


class StillsSource(_Source):
    """Stills that another thread pushes. A newer one replaces one that was not looked at yet."""

    def __init__(self, *, stop: threading.Event, first_frame_id: int = 1, stall_timeout: float = STILL_TIMEOUT) -> None:
        """Make an empty source."""
        super().__init__(stop=stop, first_frame_id=first_frame_id)
        self._stall_timeout = stall_timeout
        self._newest = _Newest[tuple[bytes, float]]()

    def push(self, data: bytes, captured_at: float) -> None:
        """Hand in a JPEG taken at `captured_at` (Unix seconds); from any thread, never blocks."""
        self._newest.put((data, captured_at))

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames; see `FrameSource`."""
        bad, last_at = 0, time.monotonic()
        while not self._ended():
            if (still := self._newest.take(_POLL)) is None:
                if time.monotonic() - last_at > self._stall_timeout:
                    raise SourceError(Problem.SOURCE_STALLED, f"no still for {self._stall_timeout:.0f} s")
                continue
            last_at = time.monotonic()
            try:
                picture = decode_still(still[0])
            except PictureError as err:
                bad += 1
                if bad >= BAD_STILLS:
                    raise SourceError(Problem.SOURCE_CORRUPT, str(err)) from err
                continue
            bad = 0
            yield self._frame(picture, still[1])


class Cadence:
    """Says which frames are due, so that on average `fps` a second are.

    Frames come with jitter: one that is early by less than a quarter of the interval counts as due, or a source of
    exactly the wanted rate would lose half of its frames.
    """

    def __init__(self, fps: float) -> None:
        """Begin; `fps` 0 takes every frame."""
        self.interval = 1.0 / fps if fps > 0 else 0.0
        self.gap = 0.0
        """Seconds between the last two frames seen, due or not."""
        self._next_due: float | None = None
        self._last: float | None = None

    def is_due(self, at: float) -> bool:
        """Tell whether the frame at `at` seconds is due; call it for every frame, in order."""
        self.gap = max(0.0, at - self._last) if self._last is not None else self.gap
        self._last = at
        if self._next_due is not None and 0.25 * self.interval < self._next_due - at <= 2 * self.interval:
            return False
        # After a pause the grid begins anew: what was missed is not made up for.
        late = self._next_due is None or abs(at - self._next_due) > self.interval
        self._next_due = (at if late or self._next_due is None else self._next_due) + self.interval
        return True


class Pace:
    """Plays media time at the wall clock's pace."""

    _furthest = 30.0
    """Seconds; a frame further ahead than this does not belong to the same clock."""

    def __init__(self) -> None:
        """Begin with the first frame."""
        self._start: float | None = None
        self._unix = 0.0

    def wait(self, media_time: float, stop: threading.Event, *, tolerance: float = _LATE) -> float | None:
        """Sleep until the moment of `media_time` (seconds) and return that moment in Unix seconds.

        None means that the moment passed more than `tolerance` seconds ago. More than a second behind, the clock
        begins anew: a machine that cannot keep up plays slower, not nothing.
        """
        now = time.monotonic()
        if self._start is None or not -_LATE < self._start + media_time - now < self._furthest:
            self._start, self._unix = now - media_time, time.time() - now
        moment = self._start + media_time
        if moment > now:
            stop.wait(moment - now)
        return None if now - moment > max(tolerance, _POLL) else moment + self._unix


class _Newest[T]:
    """One place between two threads; a newer item replaces the one that was not taken."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._error: Exception | None = None

    def put(self, item: T) -> None:
        with self._condition:
            self._item = item
            self._condition.notify()

    def fail(self, error: Exception) -> None:
        """Let the taker raise this once what is left was taken."""
        with self._condition:
            self._error = error
            self._condition.notify()

    def take(self, timeout: float) -> T | None:
        with self._condition:
            if self._item is None and self._error is None:
                self._condition.wait(timeout)
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item


class _Backlog:
    """Notices that decoding falls behind the stream and then decodes key frames only, until it has caught up.

    The stream's own times tell: while they run slower than the clock, packets wait somewhere. The least delay seen is
    taken as none, and forgotten by a thousandth so that a camera's wrong clock is not mistaken for a backlog. Nor are
    times that jump or run slow: whoever waits for packets, a tenth of the time at least, has none left, and begins
    anew with the delay it finds.
    """

    _behind = 1.5
    _caught_up = 0.5
    _jump = 10.0
    _forget = 0.001
    _idle = 0.2
    _busy_share = 0.1

    def __init__(self, stream: VideoStream) -> None:
        self._context = stream.codec_context
        self._least: float | None = None
        self._noted_at = 0.0
        self.waited = 0.0
        """Seconds that packets were waited for; the reader adds to it."""

    def note(self, media_time: float, now: float) -> None:
        """Take note of a decoded picture."""
        delay = now - media_time
        self.waited = max(0.0, self.waited - self._busy_share * (now - self._noted_at))
        if self.waited > self._idle or self._least is None or abs(delay - self._least) > self._jump:
            self._least, self.waited = delay, 0.0
        else:
            self._least = min(delay, self._least + self._forget * (now - self._noted_at))
        self._noted_at = now
        if delay - self._least > self._behind:
            self._context.skip_frame = "NONKEY"
        elif delay - self._least < self._caught_up and self._context.skip_frame == "NONKEY":
            self._context.skip_frame = "DEFAULT"


class _InterruptibleClock:
    """The clock that PyAV's interrupt callback asks, several times a second while a read is blocked.

    PyAV interrupts a read when its timeout has passed, and offers no other way. So for a thread that shall end, time
    leaps forward with every look at the clock. Should a later PyAV ask another clock, a blocked read still ends by
    its timeout.
    """

    _leap = 1e6

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def monotonic(self) -> float:
        """Return the monotonic clock, or a time far in the future for a thread that shall end."""
        ended: Callable[[], bool] | None = getattr(self._of_thread, "ended", None)
        if ended is None or not ended():
            return time.monotonic()
        leaps: int = self._of_thread.leaps
        self._of_thread.leaps = leaps + 1
        return time.monotonic() + (leaps + 1) * self._leap

    @contextmanager
    def watch(self, ended: Callable[[], bool]) -> Iterator[None]:
        """Interrupt this thread's blocked reads once `ended` returns True."""
        self._of_thread.ended, self._of_thread.leaps = ended, 0
        try:
            yield
        finally:
            self._of_thread.ended = None


_CLOCK = _InterruptibleClock()
av.container.core.time = _CLOCK  # type: ignore[attr-defined]
_interruptible = _CLOCK.watch


def _open_file(path: str) -> InputContainer:
    if not Path(path).is_file():
        raise SourceError(Problem.FILE_MISSING, f"no file {Path(path).name}")
    try:
        # The prefix keeps a path from being taken for another of libav's protocols.
        return av.open(f"file:{path}", options={"protocol_whitelist": "file,crypto,data"})
    except (av.FFmpegError, OSError) as err:
        raise SourceError(_file_problem(err, path), _words(err)) from err


def _open_stream(location: str, timeouts: tuple[float, float]) -> InputContainer:
    options = {
        "protocol_whitelist": _STREAM_PROTOCOLS,
        # How many frames a second it has does not matter to us, and finding out takes most of a second. `nobuffer`
        # would throw away the packets that were looked at, and the picture begin with the next key frame.
        "analyzeduration": "500000",
        "fpsprobesize": "0",
    }
    if location.lower().startswith(("rtsp://", "rtsps://")):
        options |= {"rtsp_transport": "tcp", "allowed_media_types": "video"}
    begin = time.monotonic()
    try:
        return av.open(location, options=options, timeout=timeouts)
    except (av.FFmpegError, OSError) as err:
        # Some demuxers take an interrupted read for bad data, so the clock tells better than the error.
        if time.monotonic() - begin >= timeouts[0]:
            raise SourceError(Problem.SOURCE_UNREACHABLE, f"no answer within {timeouts[0]:.0f} s") from err
        raise SourceError(*_stream_problem(err, location)) from err


def _file_problem(err: Exception, path: str) -> Problem:
    if isinstance(err, av.error.FileNotFoundError | av.error.PermissionError):
        return Problem.FILE_MISSING
    return Problem.SOURCE_CORRUPT if _is_container(path) else Problem.SOURCE_NO_VIDEO


def _is_container(path: str) -> bool:
    """Tell whether the file begins like a video file: then it is broken or cut off, not something else."""
    with Path(path).open("rb") as file:
        head = file.read(12)
    return head[4:8] in {b"ftyp", b"moov", b"mdat"} or head.startswith((b"RIFF", b"\x1aE\xdf\xa3", b"FLV", b"\x47"))


def _stream_problem(err: Exception, location: str) -> tuple[Problem, str]:
    """Return what to tell of a stream that could not be opened, and the words for it."""
    match err:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return Problem.SOURCE_UNAUTHORIZED, _words(err)
        case av.error.HTTPNotFoundError() | av.error.ProtocolNotFoundError() | av.error.ArgumentError():
            return Problem.SOURCE_NOT_FOUND, _words(err)
        case av.error.InvalidDataError() | av.error.EOFError():
            return Problem.SOURCE_NO_VIDEO, _words(err)
        case OSError(errno=errno.EIO):
            return _input_output_problem(location)
        case _:
            return Problem.SOURCE_UNREACHABLE, _words(err)


def _input_output_problem(location: str) -> tuple[Problem, str]:
    """Tell apart what libav calls an input/output error: an unknown host, and an answer that ends before any video."""
    try:
        parts = urlsplit(location)
        socket.getaddrinfo(parts.hostname, None)
    except OSError, ValueError:
        return Problem.SOURCE_UNREACHABLE, "the host's name is not known"
    if parts.scheme.startswith("http"):
        return Problem.SOURCE_NO_VIDEO, "the answer ended before any video"
    return Problem.SOURCE_UNREACHABLE, "input/output error"


def _words(err: Exception) -> str:
    if isinstance(err, av.error.ExitError):
        return "no answer in time"
    return getattr(err, "strerror", None) or type(err).__name__


def _video_stream(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        # A cover picture in a sound file is a video stream to libav.
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            # One camera must not take all cores, and frame threads would hold back a frame each.
            stream.codec_context.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            return stream
    raise SourceError(Problem.SOURCE_NO_VIDEO, "there is no video in it")


def _pictures(
    container: InputContainer,
    stream: VideoStream,
    *,
    stall_timeout: float | None = None,
    backlog: _Backlog | None = None,
) -> Iterator[av.VideoFrame]:
    """Decode the stream to its end, skipping what is broken.

    Raises:
        SourceError: too much in a row is broken, or packets or pictures stopped to come.
    """
    bad, last_at = 0, time.monotonic()
    for packet in _packets(container, stream, backlog):
        try:
            pictures = packet.decode() if packet is not None else []
        except av.FFmpegError:
            pictures = []
            bad += 1
        else:
            bad += packet is None
        for picture in pictures:
            bad, last_at = 0, time.monotonic()
            yield picture
        silence = time.monotonic() - last_at
        broken = bad >= BAD_PACKETS and (stall_timeout is None or silence > BAD_SECONDS)
        if broken or (stall_timeout is not None and silence > stall_timeout):
            raise SourceError(Problem.SOURCE_CORRUPT, f"{bad} broken packets in a row")


def _packets(
    container: InputContainer, stream: VideoStream, backlog: _Backlog | None
) -> Iterator[av.Packet[VideoStream] | None]:
    """Yield the stream's packets; None stands for data that are no packet."""
    while True:
        try:
            yield from _noting_waits(container.demux(stream), backlog)
        except av.error.InvalidDataError:
            yield None
            time.sleep(_PAUSE)  # a demuxer that fails without reading on must not spin
        except av.error.ExitError as err:
            raise SourceError(Problem.SOURCE_STALLED, "nothing came for too long") from err
        except av.error.TimeoutError as err:
            raise SourceError(Problem.SOURCE_STALLED, _words(err)) from err
        except av.FFmpegError as err:
            # libav's word for a server that hangs up without having said how much was to come.
            if err.errno == errno.EIO:
                return
            raise SourceError(Problem.SOURCE_UNREACHABLE, f"the connection broke: {_words(err)}") from err
        else:
            return


def _noting_waits[T](packets: Iterator[T], backlog: _Backlog | None) -> Iterator[T]:
    asked_at = time.monotonic()
    for packet in packets:
        waited = time.monotonic() - asked_at
        if backlog is not None and waited > _WAIT:
            backlog.waited += waited
        yield packet
        asked_at = time.monotonic()
