"""Bad input: said in clear words, at the cost of no other camera, over by itself when its cause goes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, closing, contextmanager
from datetime import timedelta
from functools import partial
import json
import logging
from pathlib import Path
import random
import shutil
import sqlite3
import time
from typing import Any

from aiohttp import web
from freezegun.api import FrozenDateTimeFactory
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import MATCH_ALL
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events, async_fire_time_changed
from sqlalchemy import event as sqlalchemy_event

import custom_components.nemotron_security as integration
from custom_components.nemotron_security.const import DOMAIN, EVENT_CAMERA_STATUS, EVENT_DETECTION, EVENT_INCIDENT
from custom_components.nemotron_security.issues import PATIENCE, TRANSIENT
from custom_components.nemotron_security.models import CameraStatus, Problem
from custom_components.nemotron_security.store import Store, StoreProblem
from custom_components.nemotron_security.vision.messages import CameraState, Heartbeat, Report
from demo.stream_server import transport_stream

from .house import (
    ABSENT_FILE,
    CAMERA,
    async_report,
    async_set_up,
    async_settle,
    async_until,
    frame,
    make_entry,
    online,
    person,
)
from .vision.blobs import HEIGHT, WIDTH, write_video

REPOSITORY = Path(__file__).resolve().parent.parent
TRANSLATIONS = json.loads((Path(integration.__file__).parent / "translations" / "en.json").read_text())
MODEL = REPOSITORY / "demo" / "detector" / "model"
PARAM, BIN, METADATA = "model.ncnn.param", "model.ncnn.bin", "metadata.yaml"
SECRET = "secret-word"


@pytest.fixture(autouse=True)
def _real_sockets(socket_enabled: None) -> None:
    """Everything here listens on loopback."""


@pytest.fixture(autouse=True)
def _no_secret_is_told(hass: HomeAssistant, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look through all that is logged, shown, told and asked of a person during each test."""
    caplog.set_level(logging.DEBUG, "custom_components.nemotron_security")
    told: list[str] = []

    @callback
    def note(event: Event[Any]) -> None:
        told.append(json.dumps(event.as_dict(), default=str))

    hass.bus.async_listen(MATCH_ALL, note)
    yield
    told += [record.getMessage() for phase in ("setup", "call") for record in caplog.get_records(phase)]
    told += [json.dumps(state.as_dict(), default=str) for state in hass.states.async_all()]
    told += [str(issue) for issue in ir.async_get(hass).issues.values()]
    assert len(told) > 10
    assert [line for line in told if SECRET in line] == []


def issue_of(hass: HomeAssistant, thing: str) -> str | None:
    """Return what a person is asked to repair, after checking that it is translated in full."""
    issue = ir.async_get(hass).async_get_issue(DOMAIN, thing)
    if issue is None:
        return None
    assert issue.translation_key
    texts = TRANSLATIONS["issues"][issue.translation_key]
    for text in texts.values():
        assert text.format(**(issue.translation_placeholders or {}))
    return issue.translation_key


# --- cameras ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4")


@pytest.fixture(scope="module")
def large_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "large.mp4", size=(2 * WIDTH, 2 * HEIGHT))


class Cameras:
    """A server of bad streams; each becomes a good one when its cause goes."""

    def __init__(self, video: Path, large_video: Path) -> None:
        self._video, self._large_video = video, large_video
        self._well: dict[str, asyncio.Event] = {}
        self.port = 0

    async def async_repair(self, name: str) -> None:
        """Let the cause go."""
        self._repaired(name).set()

    def _repaired(self, name: str) -> asyncio.Event:
        return self._well.setdefault(name, asyncio.Event())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if not self._repaired(name).is_set():
            match name:
                case "refused":
                    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="camera"'})
                case "unknown":
                    return web.Response(status=404)
                case "garbage":
                    return web.Response(body=random.Random(1).randbytes(300_000), content_type="video/mp2t")
                case "silent":
                    await self._repaired(name).wait()
        response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await response.prepare(request)
        if name == "changing" and not self._repaired(name).is_set():
            await self._stream(response, self._video, until=self._repaired(name))
        await self._stream(response, self._large_video if name == "changing" else self._video)
        return response

    @staticmethod
    async def _stream(response: web.StreamResponse, video: Path, *, until: asyncio.Event | None = None) -> None:
        clock = asyncio.get_running_loop().time
        start = clock()
        for due, chunk in transport_stream(video):
            if until is not None and until.is_set():
                return
            await asyncio.sleep(start + due - clock())
            await response.write(chunk)


@asynccontextmanager
async def serving(cameras: Cameras, port: int = 0) -> AsyncIterator[int]:
    """Serve on loopback; yields the port."""
    application = web.Application()
    application.router.add_get("/{name}.ts", cameras.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.5, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def stream(port: int, name: str) -> dict[str, str]:
    url = f"http://guard:{SECRET}@127.0.0.1:{port}/{name}.ts?token={SECRET}"
    return {"source": "stream", "stream_url": url}


class Watched:
    """A loaded entry, and what its worker says."""

    def __init__(self, hass: HomeAssistant, entry: MockConfigEntry) -> None:
        self._hass = hass
        self._runtime = entry.runtime_data
        self._listener = self._runtime.executor._listener
        self._runtime.executor._listener = self._listen
        self.ids = [subentry.subentry_id for subentry in entry.subentries.values()]
        self.heartbeats: list[Heartbeat] = []

    def _listen(self, report: Report) -> None:
        if isinstance(report, Heartbeat):
            self.heartbeats.append(report)
        self._listener(report)

    async def becomes(self, number: int, status: CameraStatus, *problems: Problem | None) -> None:
        def is_so() -> bool:
            health = self._runtime.cameras[self.ids[number]].data.health
            return health.status is status and health.problem in (problems or (None,))

        await async_until(is_so, seconds=60)

    async def is_bad_then_good(
        self, number: int, problem: Problem, repair: Callable[[], Awaitable[Any]], *, also: Problem | None = None
    ) -> None:
        status = CameraStatus.OFFLINE if problem in TRANSIENT else CameraStatus.ERROR
        await self.becomes(number, status, problem, also or problem)
        issue = issue_of(self._hass, self.ids[number])
        assert issue in ((None,) if problem in TRANSIENT else (problem, also)), number
        await repair()
        await self.becomes(number, CameraStatus.ONLINE)
        assert issue_of(self._hass, self.ids[number]) is None

    async def follows_the_resolution(self, number: int, repair: Callable[[], Awaitable[Any]]) -> None:
        await self.becomes(number, CameraStatus.ONLINE)
        await repair()
        await async_until(lambda: self.width(number) == 2 * WIDTH)
        await self.becomes(number, CameraStatus.ONLINE)

    def width(self, number: int) -> int | None:
        beats = self.heartbeats[-1].cameras if self.heartbeats else ()
        return next((report.width for report in beats if report.camera_id == self.ids[number]), None)

    def rates(self, number: int) -> list[float]:
        """Return how many frames were looked at, second by second."""
        return [
            report.fps for beat in self.heartbeats for report in beat.cameras if report.camera_id == self.ids[number]
        ]


async def test_bad_cameras(
    hass: HomeAssistant, video: Path, large_video: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    """One good camera and seven bad ones, all at once."""
    cameras, late_file = Cameras(video, large_video), tmp_path / "late.mp4"
    async with AsyncExitStack() as servers:
        port = await servers.enter_async_context(serving(cameras))
        statuses = async_capture_events(hass, EVENT_CAMERA_STATUS)
        entry = await async_set_up(
            hass,
            make_entry(
                {"source": "file", "file_path": str(video)},
                *(stream(port, name) for name in ("refused", "unknown", "garbage", "silent", "changing")),
                stream(unused_tcp_port, "dead"),
                {"source": "file", "file_path": str(late_file)},
            ),
        )
        watched = Watched(hass, entry)

        def repair(name: str) -> Callable[[], Awaitable[Any]]:
            return partial(cameras.async_repair, name)

        def open_port() -> Awaitable[Any]:
            return servers.enter_async_context(serving(cameras, unused_tcp_port))

        copy_file = partial(asyncio.to_thread, shutil.copyfile, video, late_file)
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            for work in (
                watched.is_bad_then_good(1, Problem.SOURCE_UNAUTHORIZED, repair("refused")),
                watched.is_bad_then_good(2, Problem.SOURCE_NOT_FOUND, repair("unknown")),
                watched.is_bad_then_good(3, Problem.SOURCE_NO_VIDEO, repair("garbage"), also=Problem.SOURCE_CORRUPT),
                watched.is_bad_then_good(4, Problem.SOURCE_UNREACHABLE, repair("silent")),
                watched.follows_the_resolution(5, repair("changing")),
                watched.is_bad_then_good(6, Problem.SOURCE_UNREACHABLE, open_port),
                watched.is_bad_then_good(7, Problem.FILE_MISSING, copy_file),
            ):
                group.create_task(work)
        # The good camera was watched all the time.
        told = [event.data["status"] for event in statuses if event.data["camera_id"] == CAMERA]
        assert told == ["unknown", "online"]
        assert len(watched.rates(0)) > 5
        assert min(watched.rates(0)[2:]) > 1
        assert await hass.config_entries.async_unload(entry.entry_id)


CAMERA_PROBLEMS = [p for p in Problem if not p.startswith("model_")]


@pytest.mark.parametrize("problem", CAMERA_PROBLEMS)
async def test_issue_of_a_camera(
    hass: HomeAssistant, silent_worker: None, freezer: FrozenDateTimeFactory, problem: Problem
) -> None:
    """Each problem has an issue; what may pass by itself has it after five minutes in a row only."""
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    bad = CameraState(
        camera_id=CAMERA, status=CameraStatus.ERROR, at=time.time(), problem=problem, detail="libav's words"
    )
    anew = CameraState(camera_id=CAMERA, status=CameraStatus.UNKNOWN, at=time.time())

    async def wait(share: float) -> None:
        freezer.tick(PATIENCE * share)
        async_fire_time_changed(hass)
        await hass.async_block_till_done()

    async def report(*states: CameraState) -> None:
        for state in states:
            entry.runtime_data._handle_report(state)
        await hass.async_block_till_done()

    await report(bad)
    if problem in TRANSIENT:
        await wait(0.7)
        await report(online(), bad)
        assert issue_of(hass, CAMERA) is None
        await wait(0.7)
        # The worker beginning anew is no sign that the camera is well.
        await report(anew, bad)
        assert issue_of(hass, CAMERA) is None
        await wait(0.7)
    assert issue_of(hass, CAMERA) == problem
    await report(anew)
    assert issue_of(hass, CAMERA) == problem
    await report(online())
    assert issue_of(hass, CAMERA) is None
    # Nothing is left of it, neither later nor after the entry is unloaded.
    await report(bad)
    assert await hass.config_entries.async_unload(entry.entry_id)
    await wait(1.5)
    assert issue_of(hass, CAMERA) is None


# --- detector -----------------------------------------------------------------------------------------------------

PASS_THROUGH = """7767517
2 2
Input    in0  0 1 in0
Pooling  out  1 1 in0 out0 0=1 1=2 2=2
"""


def truncated(folder: Path) -> None:
    (folder / BIN).write_bytes((folder / BIN).read_bytes()[:100_000])


def of_another_shape(folder: Path) -> None:
    """Halve the picture: that runs, but what it gives are no boxes."""
    (folder / PARAM).write_text(PASS_THROUGH)
    (folder / BIN).write_bytes(b"")


def detector(folder: Path) -> dict[str, object]:
    return {"detector": {"plugin": "ncnn", "model": str(folder)}}


async def test_bad_models(hass: HomeAssistant, video: Path, tmp_path: Path) -> None:
    """One after the other in one worker, and a good one in the end, changed live."""
    entry = await async_set_up(
        hass,
        make_entry(
            {"source": "file", "file_path": str(video)},
            options=detector(tmp_path / "absent"),
        ),
    )
    runtime, watched = entry.runtime_data, Watched(hass, entry)
    await async_until(lambda: issue_of(hass, "detector") == Problem.MODEL_MISSING)
    pid = runtime.executor.pid
    for damage, problem in ((truncated, Problem.MODEL_CORRUPT), (of_another_shape, Problem.MODEL_SHAPE)):
        folder = shutil.copytree(MODEL, tmp_path / problem, copy_function=shutil.copyfile)
        damage(folder)
        hass.config_entries.async_update_entry(entry, options=detector(folder))
        await async_until(lambda problem=problem: issue_of(hass, "detector") == problem)  # type: ignore[misc]
        issue = ir.async_get(hass).async_get_issue(DOMAIN, "detector")
        assert issue is not None
        assert (issue.translation_placeholders or {})["path"] == str(folder)
        assert runtime.announcer.pipeline.detector == "failed"
    # Motion is seen all the time, objects are not; and nobody says that there are none.
    await watched.becomes(0, CameraStatus.ONLINE)
    await async_until(lambda: runtime.cameras[CAMERA].data.motion is not None)
    assert runtime.cameras[CAMERA].data.counts is None
    hass.config_entries.async_update_entry(entry, options=detector(MODEL))
    await async_until(lambda: runtime.cameras[CAMERA].data.counts is not None)
    assert issue_of(hass, "detector") is None
    assert runtime.announcer.pipeline.detector == "running"
    assert runtime.executor.pid == pid
    assert entry.runtime_data is runtime


# --- database -----------------------------------------------------------------------------------------------------


@pytest.fixture
def _impatient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a locked database after a moment."""
    monkeypatch.setattr(integration, "Store", partial(Store, busy_timeout=0.2))


def database(hass: HomeAssistant) -> Path:
    return Path(hass.config.path(DOMAIN, "events.db"))


@contextmanager
def locked(hass: HomeAssistant, _entry: MockConfigEntry) -> Iterator[None]:
    with closing(sqlite3.connect(database(hass), isolation_level=None)) as other_program:
        other_program.execute("BEGIN IMMEDIATE")
        yield
        other_program.execute("ROLLBACK")


@contextmanager
def read_only(_hass: HomeAssistant, entry: MockConfigEntry) -> Iterator[None]:
    """Let SQLite itself refuse to write; file permissions do not bind the tests' user everywhere."""

    def limit(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    engine = entry.runtime_data.store._engine
    sqlalchemy_event.listen(engine, "connect", limit)
    engine.dispose()
    yield
    sqlalchemy_event.remove(engine, "connect", limit)
    engine.dispose()


@pytest.mark.usefixtures("_impatient_store", "silent_worker")
@pytest.mark.parametrize(
    ("trouble", "problem"),
    [(locked, StoreProblem.LOCKED), (read_only, StoreProblem.READ_ONLY)],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_database_in_trouble_during_an_incident(
    hass: HomeAssistant,
    trouble: Callable[[HomeAssistant, MockConfigEntry], AbstractContextManager[None]],
    problem: StoreProblem,
) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    runtime = entry.runtime_data
    incidents, detections = (async_capture_events(hass, name) for name in (EVENT_INCIDENT, EVENT_DETECTION))
    now = time.time()
    with trouble(hass, entry):
        for report in (online(), frame(person(at=now), at=now), frame(person(at=now + 1, since=now), at=now + 1)):
            runtime._handle_report(report)
        await async_until(lambda: issue_of(hass, "store") == problem)
        assert runtime.announcer.pipeline.store == "failed"
        # What is not stored is not announced; what the camera shows is true all the same.
        assert incidents == detections == []
        assert hass.states.get("binary_sensor.front_door_person").state == "on"  # type: ignore[union-attr]
    await async_until(lambda: issue_of(hass, "store") is None)
    await async_settle(hass, entry)
    assert [event.data["change"] for event in incidents].count("started") == 1
    assert detections
    assert runtime.announcer.pipeline.store == "running"
    stored = await runtime.store.async_incidents()
    assert [incident.id for incident in stored] == [incidents[0].data["id"]]
    assert len(await runtime.store.async_detections(stored[0].id)) == 2


@contextmanager
def garbage(hass: HomeAssistant) -> Iterator[None]:
    content = database(hass).read_bytes()
    database(hass).write_bytes(b"this is no database, but it is long enough to be taken for one " * 20)
    yield
    database(hass).write_bytes(content)


@contextmanager
def of_a_newer_version(hass: HomeAssistant) -> Iterator[None]:
    def set_version(version: str) -> str:
        with closing(sqlite3.connect(database(hass))) as connection, connection:
            (before,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        return str(before)

    before = set_version("9999")
    yield
    set_version(before)


@contextmanager
def locked_from_the_start(hass: HomeAssistant) -> Iterator[None]:
    with closing(sqlite3.connect(database(hass), isolation_level=None)) as other_program:
        other_program.execute("BEGIN EXCLUSIVE")
        yield
        other_program.execute("ROLLBACK")


@contextmanager
def read_only_from_the_start(hass: HomeAssistant) -> Iterator[None]:
    """Let SQLite open the file for reading only."""

    def open_for_reading(_url: str, pictures: Path) -> Store:
        return Store(f"sqlite:///file:{database(hass)}?mode=ro&uri=true", pictures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integration, "Store", open_for_reading)
        yield


@pytest.mark.usefixtures("_impatient_store", "silent_worker")
@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        (garbage, StoreProblem.CORRUPT),
        (read_only_from_the_start, StoreProblem.READ_ONLY),
        (of_a_newer_version, StoreProblem.TOO_NEW),
        (locked_from_the_start, StoreProblem.LOCKED),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_database_that_cannot_be_opened(
    hass: HomeAssistant,
    trouble: Callable[[HomeAssistant], AbstractContextManager[None]],
    problem: StoreProblem,
) -> None:
    """Setting up says why, is tried again by Home Assistant, and what was stored is there still."""
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    assert await hass.config_entries.async_unload(entry.entry_id)
    with trouble(hass):
        assert not await hass.config_entries.async_setup(entry.entry_id)
        assert entry.state is ConfigEntryState.SETUP_RETRY
        assert entry.error_reason_translation_key == problem
        text = TRANSLATIONS["exceptions"][problem]["message"]
        assert text.format(**(entry.error_reason_translation_placeholders or {}))
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=60))
    await async_until(lambda: entry.state is ConfigEntryState.LOADED)
    await hass.async_block_till_done()
    assert len(await entry.runtime_data.store.async_incidents()) == 1
