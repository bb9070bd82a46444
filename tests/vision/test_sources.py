"""Sources against real files and real servers on loopback."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
import http.server
import io
from itertools import pairwise
from pathlib import Path
import socket
import subprocess
import sys
import threading
import time
from typing import cast

import av
from av.video.stream import VideoStream
import numpy as np
from PIL import Image
import pytest

from custom_components.nemotron_security.vision import sources
from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.messages import Problem, Source, SourceKind
from custom_components.nemotron_security.vision.sources import (
    BAD_STILLS,
    Cadence,
    SourceError,
    StillsSource,
    StreamSource,
    _Backlog,
    open_source,
)

REPOSITORY = Path(__file__).parents[2]
RTSP_SERVER = Path(__file__).parent / "rtsp_server.py"


@pytest.fixture(autouse=True)
def _real_sockets(socket_enabled: None) -> None:
    """Everything here listens on loopback."""


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not [thread for thread in threading.enumerate() if thread not in before and "reader" in thread.name]


# --- what is watched ----------------------------------------------------------------------------------------------


def _pixels(number: int, width: int, height: int) -> np.ndarray:
    """A square that moves over noise; its column tells the picture's number."""
    pixels = np.random.default_rng(number).integers(30, 60, (height, width, 3), dtype=np.uint8)
    pixels[height // 4 : height // 2, number * 4 : number * 4 + 40] = 220
    return pixels


def encode(
    path: Path, *, frames: int = 50, width: int = 320, height: int = 240, codec: str = "libx264", gop: int = 10
) -> Path:
    with av.open(str(path), "w") as output:
        stream = cast("VideoStream", output.add_stream(codec, rate=25))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"preset": "ultrafast", "g": str(gop)} if codec == "libx264" else {}
        for number in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(_pixels(number, width, height), format="rgb24")))
        output.mux(stream.encode())
    return path


def encode_sound(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000)
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, number * 1024, Fraction(1, 8000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def transport(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return encode(tmp_path_factory.mktemp("clip") / "clip.ts").read_bytes()


def column(frame: Frame) -> int:
    """Where the square begins."""
    row = frame.rgb()[frame.height * 3 // 8, :, 1].astype(int)
    return int(np.flatnonzero(row > 140)[0])


def take(source: Source, *, fps: float = 0, seconds: float = 10, count: int = 10_000) -> list[Frame]:
    """Take frames for some seconds, or so many."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    frames: list[Frame] = []
    try:
        with open_source(source, fps=fps, stop=stop) as opened:
            for frame in opened:
                frames.append(frame)
                if len(frames) >= count:
                    break
    finally:
        timer.cancel()
        timer.join()
    return frames


def problem(source: Source, *, seconds: float = 20) -> SourceError:
    """Take frames until the source gives up."""
    with pytest.raises(SourceError) as caught:
        take(source, seconds=seconds)
    return caught.value


def file(path: Path, *, loop: bool = False, realtime: bool = False) -> Source:
    return Source(kind=SourceKind.FILE, location=str(path), loop=loop, realtime=realtime)


def stream(url: str) -> Source:
    return Source(kind=SourceKind.STREAM, location=url)


# --- files --------------------------------------------------------------------------------------------------------


def _collect(source: Source, fps: float) -> tuple[list[Frame], Problem]:
    frames: list[Frame] = []
    try:
        with open_source(source, fps=fps, stop=threading.Event()) as opened:
            for frame in opened:
                frames.append(frame)  # noqa: PERF402 - what came before the error counts
    except SourceError as err:
        return frames, err.problem
    raise AssertionError("a source ended without its stop event")


def test_file_once_gives_every_frame_with_the_times_of_the_file(clip: Path) -> None:
    frames, end = _collect(file(clip), 0)
    assert end is Problem.SOURCE_ENDED
    assert [frame.frame_id for frame in frames] == list(range(1, 51))
    assert [frame.captured_at for frame in frames] == pytest.approx([number / 25 for number in range(50)])
    assert [column(frame) for frame in frames] == pytest.approx([number * 4 for number in range(50)], abs=2)


@pytest.mark.parametrize(("fps", "count"), [(5, 10), (10, 20), (25, 50), (100, 50)])
def test_file_at_a_lower_rate(clip: Path, fps: float, count: int) -> None:
    frames, _ = _collect(file(clip), fps)
    assert len(frames) == pytest.approx(count, abs=1)


def test_file_that_loops_goes_on_counting(clip: Path) -> None:
    frames = take(file(clip, loop=True), count=120)
    assert [frame.captured_at for frame in frames] == pytest.approx([number / 25 for number in range(120)], abs=1e-3)
    assert [frame.frame_id for frame in frames] == list(range(1, 121))


@pytest.mark.parametrize("name", ["one.mp4", "one.jpg"])
@pytest.mark.parametrize(("fps", "interval"), [(5, 0.2), (0, 0.04)])
def test_file_of_one_picture_plays_at_the_wanted_rate(tmp_path: Path, name: str, fps: float, interval: float) -> None:
    path = tmp_path / name
    if name == "one.jpg":
        path.write_bytes(_jpeg(0))
    else:
        encode(path, frames=1)
    frames = take(file(path, loop=True, realtime=True), fps=fps, count=6)
    steps = np.diff([frame.captured_at for frame in frames])
    assert np.median(steps) == pytest.approx(interval, abs=0.002)


def test_file_at_its_own_pace(clip: Path) -> None:
    begin = time.time()
    frames = take(file(clip, loop=True, realtime=True), count=40)
    took = time.time() - begin
    assert 1.5 < took < 3.0
    assert frames[-1].captured_at == pytest.approx(time.time(), abs=0.5)
    steps = np.diff([frame.captured_at for frame in frames])
    assert np.median(steps) == pytest.approx(0.04, abs=0.002)


def test_file_at_its_own_pace_with_a_slow_caller_skips(clip: Path) -> None:
    begin, ages = time.time(), []
    with open_source(file(clip, loop=True, realtime=True), fps=0, stop=threading.Event()) as source:
        for frame in source:
            ages.append(time.time() - frame.captured_at)
            time.sleep(0.15)
            if time.time() - begin > 2.0:
                break
    assert 8 <= len(ages) <= 16
    assert max(ages) < 0.5


def test_pacing_ends_at_once_when_stopped(tmp_path: Path) -> None:
    path = tmp_path / "slow.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=1)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            picture.pts, picture.time_base = number * 20, Fraction(1)
            output.mux(video.encode(picture))
        output.mux(video.encode())
    begin = time.monotonic()
    take(file(path, realtime=True), seconds=0.5)
    assert time.monotonic() - begin < 1.5


def test_motion_jpeg_in_avi(tmp_path: Path) -> None:
    frames, _ = _collect(file(encode(tmp_path / "clip.avi", codec="mjpeg", frames=10)), 0)
    assert len(frames) == 10


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("missing.mp4", None, Problem.FILE_MISSING),
        ("folder", Path.mkdir, Problem.FILE_MISSING),
        ("text.mp4", lambda path: path.write_text("this is not a video\n" * 100), Problem.SOURCE_NO_VIDEO),
        ("empty.mp4", lambda path: path.write_bytes(b""), Problem.SOURCE_NO_VIDEO),
        ("sound.mp4", encode_sound, Problem.SOURCE_NO_VIDEO),
    ],
)
def test_files_that_cannot_be_played(
    tmp_path: Path, name: str, make: Callable[[Path], object] | None, expected: Problem
) -> None:
    if make is not None:
        make(tmp_path / name)
    error = problem(file(tmp_path / name, loop=True))
    assert error.problem is expected
    assert str(tmp_path) not in error.detail


def test_file_cut_off_before_its_index_is_corrupt(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[:20_000])
    assert problem(file(path)).problem is Problem.SOURCE_CORRUPT


def test_file_cut_off_in_the_middle_plays_what_is_there(tmp_path: Path, transport: bytes) -> None:
    path = tmp_path / "cut.ts"
    path.write_bytes(transport[: len(transport) // 2])
    frames, end = _collect(file(path), 0)
    assert end is Problem.SOURCE_ENDED
    assert 20 <= len(frames) <= 30


def test_looping_a_file_without_a_picture_does_not_spin(tmp_path: Path, clip: Path) -> None:
    """Index intact, every picture overwritten."""
    data = bytearray(clip.read_bytes())
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[begin:end] = bytes(end - begin)
    path = tmp_path / "blank.mp4"
    path.write_bytes(data)
    assert problem(file(path, loop=True)).problem is Problem.SOURCE_CORRUPT


def test_a_path_is_never_another_protocol(transport: bytes) -> None:
    with serving({"/clip.ts": lambda handler: respond(handler, transport)}) as address:
        assert problem(file(Path(f"{address}/clip.ts"))).problem is Problem.FILE_MISSING


# --- streams: a server that answers as it is told -----------------------------------------------------------------

type Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def respond(handler: http.server.BaseHTTPRequestHandler, data: bytes, kind: str = "video/mp2t") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def serving(answers: dict[str, Answer]) -> Iterator[str]:
    """A real HTTP server; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answers[self.path.partition("?")[0]](self)
            except KeyError:
                self.send_error(404)
            except ConnectionError:
                pass

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_stream_with_a_missing_page() -> None:
    with serving({}) as address:
        error = problem(stream(f"{address}/nothing.ts?token=hidden"))
    assert error.problem is Problem.SOURCE_NOT_FOUND
    assert "hidden" not in str(error)


@pytest.mark.parametrize("status", [401, 403])
def test_stream_that_refuses_the_login(status: int) -> None:
    with serving({"/x.ts": lambda handler: handler.send_error(status)}) as address:
        error = problem(stream(f"{address.replace('//', '//user:secret@')}/x.ts"))
    assert error.problem is Problem.SOURCE_UNAUTHORIZED
    assert "secret" not in str(error)
    assert "secret" not in repr(error)


def test_stream_of_a_server_in_trouble() -> None:
    with serving({"/x.ts": lambda handler: handler.send_error(503)}) as address:
        assert problem(stream(f"{address}/x.ts")).problem is Problem.SOURCE_UNREACHABLE


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp"])
def test_dead_port(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"{scheme}://user:secret@127.0.0.1:{taken.getsockname()[1]}/live"
        error = problem(stream(url))
    assert error.problem is Problem.SOURCE_UNREACHABLE
    assert "secret" not in str(error)


@pytest.mark.parametrize("url", ["nonsense://host/x", "file:///etc/hostname", "/etc/hostname", "concat:/etc/hostname"])
def test_a_stream_is_never_a_local_file(url: str) -> None:
    assert problem(stream(url)).problem in {Problem.SOURCE_NOT_FOUND, Problem.SOURCE_NO_VIDEO}


@pytest.mark.parametrize(
    "body", [b"<html>Please log in</html>" * 100, np.random.default_rng(3).bytes(200_000)], ids=["page", "noise"]
)
def test_stream_that_is_no_video(body: bytes) -> None:
    with serving({"/x": lambda handler: respond(handler, body, "text/html")}) as address:
        assert problem(stream(f"{address}/x")).problem in {Problem.SOURCE_NO_VIDEO, Problem.SOURCE_CORRUPT}


UNKNOWN_HOST = """
import threading
from vision.messages import Source, SourceKind
from vision.sources import SourceError, open_source
try:
    source = Source(kind=SourceKind.STREAM, location="rtsp://guard:secret@camera.invalid/live")
    next(iter(open_source(source, fps=1, stop=threading.Event())))
except SourceError as err:
    print(err)
"""


def test_host_that_nobody_knows() -> None:
    """In a process of its own, as the worker is: the harness forbids names to be resolved."""
    found = subprocess.run(
        [sys.executable, "-c", UNKNOWN_HOST],
        cwd=REPOSITORY / "custom_components" / "nemotron_security",
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "source_unreachable: the host's name is not known"


def test_stream_of_sound_alone(tmp_path: Path) -> None:
    sound = encode_sound(tmp_path / "sound.ts").read_bytes()
    with serving({"/x.ts": lambda handler: respond(handler, sound)}) as address:
        assert problem(stream(f"{address}/x.ts")).problem is Problem.SOURCE_NO_VIDEO


def test_stream_that_ends(transport: bytes) -> None:
    with serving({"/x.ts": lambda handler: respond(handler, transport)}) as address:
        assert problem(stream(f"{address}/x.ts")).problem is Problem.SOURCE_ENDED


def _slowly(parts: list[bytes], pause: float, release: threading.Event, kind: str = "video/mp2t") -> Answer:
    """Send the parts with pauses, then keep the connection open and silent."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        respond(handler, b"", kind)
        for part in parts:
            handler.wfile.write(part)
            release.wait(pause)
        release.wait(60)

    return answer


def _pieces(data: bytes, count: int) -> list[bytes]:
    step = len(data) // count
    return [data[index : index + step] for index in range(0, len(data), step)]


def _timed_problem(url: str, *, open_timeout: float, read_timeout: float) -> tuple[Problem, float, int]:
    begin, frames = time.monotonic(), 0
    try:
        with StreamSource(
            url, fps=0, stop=threading.Event(), open_timeout=open_timeout, read_timeout=read_timeout
        ) as source:
            for _frame in source:
                frames += 1
    except SourceError as err:
        return err.problem, time.monotonic() - begin, frames
    raise AssertionError("a source ended without its stop event")


def test_host_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("http", "rtsp"):
            found, took, _ = _timed_problem(
                f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/live", open_timeout=1.0, read_timeout=1.0
            )
            assert found is Problem.SOURCE_UNREACHABLE
            assert took < 2.5


def test_stream_that_falls_silent(transport: bytes) -> None:
    release = threading.Event()
    with serving({"/x.ts": _slowly([transport], 0, release)}) as address:
        found, took, frames = _timed_problem(f"{address}/x.ts", open_timeout=5.0, read_timeout=1.0)
        release.set()
    assert found is Problem.SOURCE_STALLED
    assert 1.0 <= took < 4.0
    assert frames >= 1


@pytest.mark.parametrize("silent_from", ["the beginning", "the middle"])
def test_a_blocked_read_ends_when_stopped(transport: bytes, silent_from: str) -> None:
    release = threading.Event()
    parts = [transport] if silent_from == "the middle" else []
    with serving({"/x.ts": _slowly(parts, 0, release)}) as address:
        begin = time.monotonic()
        take(stream(f"{address}/x.ts"), seconds=1.0)
        took = time.monotonic() - begin
        readers = [thread for thread in threading.enumerate() if "reader" in thread.name]
        release.set()
    assert took < 2.0
    assert not readers


def test_stream_that_breaks_off(transport: bytes) -> None:
    """The connection is reset in the middle."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp2t")
        handler.send_header("Content-Length", str(len(transport) * 10))
        handler.end_headers()
        handler.wfile.write(transport)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with serving({"/x.ts": answer}) as address:
        assert problem(stream(f"{address}/x.ts")).problem in {Problem.SOURCE_UNREACHABLE, Problem.SOURCE_ENDED}


def _damaged(data: bytes, share: float) -> bytes:
    """Overwrite the payload of a share of the transport packets; their headers stay."""
    packets = np.frombuffer(data[: len(data) // 188 * 188], np.uint8).reshape(-1, 188).copy()
    random = np.random.default_rng(5)
    hit = random.random(len(packets)) < share
    hit[:20] = False
    packets[hit, 20:] = random.integers(0, 255, (hit.sum(), 168), dtype=np.uint8)
    return packets.tobytes()


def test_single_broken_packets_are_skipped(transport: bytes) -> None:
    release = threading.Event()
    parts = _pieces(_damaged(transport, 0.02), 40)
    with serving({"/x.ts": _slowly(parts, 0.02, release)}) as address:
        frames = take(stream(f"{address}/x.ts"), seconds=2.5)
        release.set()
    assert len(frames) >= 15


@pytest.fixture(scope="module")
def joined_late(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A stream without its first key frame: seventy pictures cannot be decoded, fifty can."""
    path = encode(tmp_path_factory.mktemp("clip") / "long.ts", frames=120, gop=80)
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    data = path.read_bytes()
    return [data[begin:end] for begin, end in pairwise([*positions[10:], len(data)])]


def test_stream_that_is_joined_between_key_frames(joined_late: list[bytes]) -> None:
    release = threading.Event()
    with serving({"/x.ts": _slowly(joined_late, 0.02, release)}) as address:
        frames = take(stream(f"{address}/x.ts"), count=20)
        release.set()
    assert len(frames) == 20


def test_stream_without_key_frames_is_corrupt(joined_late: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BAD_SECONDS", 0.2)
    release = threading.Event()
    with serving({"/x.ts": _slowly(joined_late[:70], 0.02, release)}) as address:
        found, took, _ = _timed_problem(f"{address}/x.ts", open_timeout=5.0, read_timeout=10.0)
        release.set()
    assert found is Problem.SOURCE_CORRUPT
    assert took < 8


def test_stream_of_broken_packets_is_corrupt(transport: bytes) -> None:
    """Every picture is overwritten, for as long as anybody listens."""
    release = threading.Event()
    broken = _damaged(transport, 1.0)
    with serving({"/x.ts": _slowly([transport[: 188 * 40], *[broken] * 20], 0.1, release)}) as address:
        found, took, _ = _timed_problem(f"{address}/x.ts", open_timeout=5.0, read_timeout=3.0)
        release.set()
    assert found in {Problem.SOURCE_CORRUPT, Problem.SOURCE_STALLED, Problem.SOURCE_NO_VIDEO}
    assert took < 10


def test_stream_that_changes_its_resolution(tmp_path: Path) -> None:
    parts = [
        *_pieces(encode(tmp_path / "a.ts").read_bytes(), 20),
        *_pieces(encode(tmp_path / "b.ts", width=640, height=360).read_bytes(), 20),
        *_pieces(encode(tmp_path / "c.ts").read_bytes(), 20),
    ]
    release = threading.Event()
    with serving({"/x.ts": _slowly(parts, 0.02, release)}) as address:
        frames = take(stream(f"{address}/x.ts"), seconds=3.0)
        release.set()
    sizes = [(frame.width, frame.height) for frame in frames]
    assert list(dict.fromkeys(sizes)) == [(320, 240), (640, 360)]
    assert sizes[-1] == (320, 240)
    assert all(frame.rgb().shape == (frame.height, frame.width, 3) for frame in frames)


def _jpeg(number: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(_pixels(number, 320, 240)).save(target, "JPEG")
    return target.getvalue()


def test_motion_jpeg_stream() -> None:
    release = threading.Event()
    parts = [
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data)
        for data in map(_jpeg, range(40))
    ]
    answer = _slowly(parts, 0.05, release, "multipart/x-mixed-replace; boundary=frame")
    with serving({"/video": answer}) as address:
        frames = take(stream(f"{address}/video"), fps=5, seconds=2.2)
        release.set()
    assert 6 <= len(frames) <= 13
    columns = [column(frame) for frame in frames]
    assert columns == sorted(columns)


def test_playlist(tmp_path: Path) -> None:
    """HLS: a finished playlist of short segments, played at its own pace."""
    with av.open(
        str(tmp_path / "live.m3u8"), "w", format="hls", options={"hls_time": "1", "hls_list_size": "0"}
    ) as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.options = {"preset": "ultrafast", "g": "25"}
        for number in range(75):
            output.mux(video.encode(av.VideoFrame.from_ndarray(_pixels(number % 60, 320, 240), format="rgb24")))
        output.mux(video.encode())

    def answer_with(path: Path) -> Answer:
        return lambda handler: respond(handler, path.read_bytes())

    answers = {f"/{path.name}": answer_with(path) for path in tmp_path.iterdir()}
    with serving(answers) as address:
        begin = time.monotonic()
        frames = take(stream(f"{address}/live.m3u8"), fps=5, seconds=2.0)
    assert time.monotonic() - begin >= 1.9
    assert 7 <= len(frames) <= 12


def test_slow_caller_sees_only_new_frames(clip: Path) -> None:
    """The square's column tells how old a frame is: the stream loops every two seconds."""
    with camera(clip) as url:
        seen: list[float] = []
        ids: list[int] = []
        with open_source(stream(url), fps=0, stop=threading.Event()) as source:
            for frame in source:
                seen.append(time.time() - frame.captured_at)
                ids.append(frame.frame_id)
                time.sleep(0.3)
                if len(seen) == 8:
                    break
    assert max(seen[1:]) < 0.2
    assert ids[-1] - ids[0] >= 40


@contextmanager
def camera(clip: Path, *options: str) -> Iterator[str]:
    """The demo's camera, as a process of its own."""
    command = [sys.executable, "-m", "demo.stream_server", str(clip), *options]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def test_camera_with_login_streams_beyond_the_end_of_its_file(clip: Path) -> None:
    with camera(clip, "--user", "guard", "--password", "p@ss/word") as url:
        assert problem(stream(url)).problem is Problem.SOURCE_UNAUTHORIZED
        begin = time.monotonic()
        frames = take(stream(url.replace("//", "//guard:p%40ss%2Fword@")), fps=5, seconds=5.0)
        took = time.monotonic() - begin
    assert 4.5 < took < 6.0
    assert len(frames) == pytest.approx(25, abs=3)
    assert frames[0].captured_at - time.time() < 5.5
    steps = np.diff([frame.captured_at for frame in frames])
    assert steps.max() < 0.45


def test_first_frame_comes_soon(clip: Path) -> None:
    with camera(clip) as url:
        begin = time.monotonic()
        take(stream(url), count=1)
        assert time.monotonic() - begin < 1.5


def test_a_decoder_that_falls_behind_takes_key_frames_until_it_caught_up(clip: Path) -> None:
    """Key frames are every tenth. The clock runs twice as fast as the stream for a while, then stands still."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        backlog, now, seen = _Backlog(video), 1000.0, []
        for picture in container.decode(video):
            seen.append(round(picture.time * 25))
            now += 0.2 if picture.time < 0.6 else 0.0
            backlog.note(picture.time, now)
    assert seen[:8] == list(range(8))
    skipped = [number for number in seen if number > 13]
    assert skipped[0] % 10 == 0
    assert all(number % 10 == 0 for number in skipped[:2])


def test_a_camera_whose_clock_is_a_little_wrong_is_not_behind(clip: Path) -> None:
    with av.open(str(clip)) as container:
        backlog = _Backlog(video := container.streams.video[0])
        for second in range(100_000):
            backlog.note(second * 0.9995, float(second))
        assert video.codec_context.skip_frame == "DEFAULT"


@pytest.mark.parametrize("times", ["run slow", "jump"])
def test_who_waits_for_packets_is_not_behind(transport: bytes, times: str) -> None:
    """A camera that gives every frame a twenty-fifth of a second delivers ten a second, or pauses for three seconds."""
    release = threading.Event()
    parts = _pieces(transport, 50)
    if times == "run slow":
        answer = _slowly(parts, 0.1, release)
    else:
        answer = _slowly([*parts[:20], *[b""] * 75, *parts[20:]], 0.04, release)
    with serving({"/x.ts": answer}) as address:
        frames = take(stream(f"{address}/x.ts"), seconds=10.0, count=42)
        release.set()
    assert len(frames) == 42


def test_a_busy_processor_is_not_taken_for_a_wait(clip: Path) -> None:
    """Falling behind by a fifth, with a read in sixty that takes long because other threads have their turn."""
    with av.open(str(clip)) as container:
        backlog = _Backlog(video := container.streams.video[0])
        for number in range(600):
            backlog.waited += 0.04 if number % 60 == 0 else 0.0
            backlog.note(number * 0.04, number * 0.05)
        assert video.codec_context.skip_frame == "NONKEY"


# --- RTSP ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rtsp(clip: Path) -> Iterator[str]:
    """A real RTSP camera by GStreamer, run by the system's Python."""
    python = Path("/usr/bin/python3")
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not python.exists() or subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip("needs Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi")
    raw = clip.with_suffix(".h264")
    with av.open(str(clip)) as source, av.open(str(raw), "w", format="h264") as output:
        video = source.streams.video[0]
        copy = output.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    with subprocess.Popen([python, RTSP_SERVER, raw], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def test_rtsp_stream(rtsp: str) -> None:
    frames = take(stream(rtsp.replace("//", "//guard:secret@")), fps=5, seconds=5.0)
    assert len(frames) >= 15
    assert (frames[0].width, frames[0].height) == (320, 240)


def test_rtsp_with_a_wrong_login(rtsp: str) -> None:
    error = problem(stream(rtsp.replace("//", "//guard:wrongword@")))
    assert error.problem is Problem.SOURCE_UNAUTHORIZED
    assert "wrongword" not in str(error)


def test_rtsp_with_a_wrong_path(rtsp: str) -> None:
    assert problem(stream(rtsp.replace("//", "//guard:secret@") + "x")).problem is Problem.SOURCE_NOT_FOUND


# --- stills -------------------------------------------------------------------------------------------------------


def test_stills_latest_wins() -> None:
    stop = threading.Event()
    source = StillsSource(stop=stop, first_frame_id=7)
    for number in range(5):
        source.push(_jpeg(number), 100.0 + number)
    frames = iter(source)
    frame = next(frames)
    assert (frame.captured_at, frame.frame_id) == (104.0, 7)
    assert column(frame) == pytest.approx(16, abs=2)
    threading.Timer(0.2, source.push, (_jpeg(9), 200.0)).start()
    assert next(frames).captured_at == 200.0
    stop.set()
    assert list(frames) == []


def test_broken_stills() -> None:
    source = StillsSource(stop=threading.Event())
    frames = iter(source)
    for _ in range(BAD_STILLS - 1):
        threading.Timer(0.05, source.push, (b"<html>", 1.0)).start()
        time.sleep(0.1)
    source.push(_jpeg(1), 2.0)
    assert next(frames).captured_at == 2.0


def test_stills_that_are_no_pictures() -> None:
    source = StillsSource(stop=threading.Event())
    done = threading.Event()

    def push() -> None:
        while not done.wait(0.02):
            source.push(b"<html>", 1.0)

    pusher = threading.Thread(target=push)
    pusher.start()
    with pytest.raises(SourceError) as caught:
        next(iter(source))
    done.set()
    pusher.join()
    assert caught.value.problem is Problem.SOURCE_CORRUPT


def test_stills_that_stop_coming() -> None:
    source = StillsSource(stop=threading.Event(), stall_timeout=0.5)
    with pytest.raises(SourceError) as caught:
        next(iter(source))
    assert caught.value.problem is Problem.SOURCE_STALLED


# --- cadence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "wanted", "expected"), [(25, 5, 5), (30, 5, 5), (5, 5, 5), (15, 10, 10), (4, 5, 4)])
def test_cadence_with_jitter(source: float, wanted: float, expected: float) -> None:
    random = np.random.default_rng(2)
    times = np.arange(0, 60, 1 / source) + random.uniform(-0.02, 0.02, round(60 * source))
    cadence = Cadence(wanted)
    taken = [at for at in np.sort(times) if cadence.is_due(at)]
    assert len(taken) / 60 == pytest.approx(expected, rel=0.05)


def test_cadence_begins_anew_after_a_pause_and_when_time_goes_back() -> None:
    cadence = Cadence(5)
    assert cadence.is_due(0.0)
    assert cadence.is_due(100.0)
    assert not cadence.is_due(100.05)
    assert cadence.is_due(3.0)
    assert not cadence.is_due(3.05)
    assert cadence.is_due(3.2)
