"""Downloads from a real server that breaks off, changes its mind, and serves the wrong thing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
import random
import resource
import shutil
import sys

from aiohttp import ClientSession
import pytest

from custom_components.nemotron_security.detection import download, environment
from custom_components.nemotron_security.detection.download import DownloadError, DownloadProblem, async_download

from .file_server import FileServer, serving

CONTENT = random.Random(7).randbytes(1_500_000)

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(download, "_LONGEST_PAUSE", 0)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[FileServer, ClientSession]]:
    async with serving(CONTENT, tmp_path) as served:
        yield served


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "new" / "model.pt"


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


async def test_whole(served: tuple[FileServer, ClientSession], target: Path) -> None:
    server, session = served
    told: list[float] = []
    await async_download(session, server.file, target, told.append)
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == ["model.pt"]
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 3


async def test_a_connection_that_breaks_goes_on_where_it_was(
    served: tuple[FileServer, ClientSession], target: Path
) -> None:
    server, session = served
    server.break_after = [700_000, 500_000]
    told: list[float] = []
    await async_download(session, server.file, target, told.append)
    assert target.read_bytes() == CONTENT
    # The last bytes before the break may be lost on their way: what is asked for is what was not written.
    (first, second, third) = server.asked
    assert first == ("", "")
    starts = [int(wanted.removeprefix("bytes=").removesuffix("-")) for wanted, _ in (second, third)]
    assert 0 < starts[0] <= 700_000
    assert starts[0] < starts[1] <= 1_200_000
    assert second[1] == third[1] == '"one"'
    assert told == sorted(told)


async def test_what_was_left_by_an_earlier_try_is_used(served: tuple[FileServer, ClientSession], target: Path) -> None:
    server, session = served
    server.break_after = [600_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.NETWORK
    assert not target.exists()
    assert "model.pt.part" in leftovers(target)
    server.asked.clear()
    await async_download(session, server.file, target, lambda _: None)
    ((wanted, known),) = server.asked
    assert wanted != "bytes=0-"
    assert known == '"one"'
    assert target.read_bytes() == CONTENT


async def test_what_is_whole_already_is_not_asked_for(served: tuple[FileServer, ClientSession], target: Path) -> None:
    """The machine stopped after the last byte."""
    server, session = served
    target.parent.mkdir(parents=True)
    target.with_name("model.pt.part").write_bytes(CONTENT)
    target.with_name("model.pt.part.etag").write_text('"one"')
    await async_download(session, server.file, target, lambda _: None)
    assert server.asked == []
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
async def test_without_a_strong_tag_it_begins_anew(
    served: tuple[FileServer, ClientSession], target: Path, tag: str
) -> None:
    server, session = served
    server.tag = tag
    server.break_after = [600_000]
    await async_download(session, server.file, target, lambda _: None)
    assert [wanted for wanted, _ in server.asked] == ["", ""]
    assert target.read_bytes() == CONTENT


async def test_server_without_ranges(served: tuple[FileServer, ClientSession], target: Path) -> None:
    server, session = served
    server.ranges = False
    server.break_after = [600_000]
    await async_download(session, server.file, target, lambda _: None)
    assert len(server.asked) == 2
    assert target.read_bytes() == CONTENT


async def test_file_that_changed_in_between_is_not_mixed(
    served: tuple[FileServer, ClientSession], target: Path
) -> None:
    server, session = served
    file = server.file
    server.break_after = [600_000]
    task = asyncio.create_task(async_download(session, file, target, lambda _: None))
    while not server.asked:
        await asyncio.sleep(0)
    server.tag, server.content = '"two"', bytes(reversed(CONTENT))
    with pytest.raises(DownloadError) as raised:
        await task
    assert raised.value.problem is DownloadProblem.CHANGED
    assert leftovers(target) == []


@pytest.mark.parametrize(
    ("content", "says_length"),
    [
        (bytes(reversed(CONTENT)), True),
        (CONTENT + b"more", True),
        (CONTENT + b"more", False),
        (CONTENT[:-1], True),
        (b"<html>Please log in</html>", True),
    ],
    ids=["another", "too large", "too large without saying so", "too small", "a page"],
)
async def test_wrong_content_is_deleted(
    served: tuple[FileServer, ClientSession], target: Path, content: bytes, *, says_length: bool
) -> None:
    server, session = served
    file = server.file
    server.content, server.says_length = content, says_length
    with pytest.raises(DownloadError) as raised:
        await async_download(session, file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.CHANGED
    assert leftovers(target) == []


async def test_leftover_that_is_damaged_is_found_out(served: tuple[FileServer, ClientSession], target: Path) -> None:
    server, session = served
    target.parent.mkdir(parents=True)
    target.with_name("model.pt.part").write_bytes(b"x" * 1000)
    target.with_name("model.pt.part.etag").write_text('"one"')
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.CHANGED
    await async_download(session, server.file, target, lambda _: None)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "problem", "requests"),
    [
        (404, DownloadProblem.REFUSED, 1),
        (403, DownloadProblem.REFUSED, 1),
        (503, DownloadProblem.NETWORK, 4),
        (429, DownloadProblem.NETWORK, 4),
    ],
)
async def test_server_that_refuses(
    served: tuple[FileServer, ClientSession], target: Path, status: int, problem: DownloadProblem, requests: int
) -> None:
    server, session = served
    server.status = status
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is problem
    assert len(server.asked) == requests


async def test_server_that_is_not_there(
    served: tuple[FileServer, ClientSession], target: Path, unused_tcp_port: int
) -> None:
    server, session = served
    file = replace(server.file, url=f"https://127.0.0.1:{unused_tcp_port}/x?signature=secret")
    with pytest.raises(DownloadError) as raised:
        await async_download(session, file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.NETWORK
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("http://127.0.0.1:1/model.pt?signature=secret", DownloadProblem.INSECURE),
        ("file:///etc/passwd", DownloadProblem.INSECURE),
        ("/away", DownloadProblem.REFUSED),
        ("/model.pt", None),
    ],
)
async def test_redirects(
    served: tuple[FileServer, ClientSession], target: Path, location: str, problem: DownloadProblem | None
) -> None:
    server, session = served
    server.location = location
    file = replace(server.file, url=f"{server.base}/away")
    if problem is None:
        await async_download(session, file, target, lambda _: None)
        assert target.read_bytes() == CONTENT
        return
    with pytest.raises(DownloadError) as raised:
        await async_download(session, file, target, lambda _: None)
    assert raised.value.problem is problem
    assert "secret" not in str(raised.value)


async def test_http_is_refused_at_once(served: tuple[FileServer, ClientSession], target: Path) -> None:
    server, session = served
    with pytest.raises(DownloadError) as raised:
        await async_download(
            session, replace(server.file, url=server.file.url.replace("https", "http")), target, lambda _: None
        )
    assert raised.value.problem is DownloadProblem.INSECURE
    assert server.asked == []


async def test_space_is_looked_for_first(
    served: tuple[FileServer, ClientSession], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, session = served
    usage = shutil.disk_usage(target.parent.parent.parent)
    monkeypatch.setattr(f"{environment.__name__}.shutil.disk_usage", lambda _: usage._replace(free=1_600_000))
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.SPACE
    assert server.asked == []


@pytest.fixture
def disk_ends_at() -> Iterator[Callable[[int], None]]:
    """Let this process write no longer files than that, as a quota does; the system's error comes when one would be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [500_000, len(CONTENT) - 10], ids=["in the middle", "at the last flush"])
async def test_disk_that_is_full(
    served: tuple[FileServer, ClientSession], target: Path, disk_ends_at: Callable[[int], None], size: int
) -> None:
    server, session = served
    disk_ends_at(size)
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.SPACE
    assert not target.exists()
    disk_ends_at(len(CONTENT))
    await async_download(session, server.file, target, lambda _: None)
    assert target.read_bytes() == CONTENT
    # What came before was kept.
    assert server.asked[-1][0].startswith("bytes=")


@pytest.mark.parametrize("in_the_way", ["models", "models/new/model.pt.part/x", "models/new/model.pt.part.etag/x"])
async def test_place_that_cannot_be_written(
    served: tuple[FileServer, ClientSession], target: Path, tmp_path: Path, in_the_way: str
) -> None:
    """Its folder cannot be made, the file cannot be opened, or what tells its version cannot be kept."""
    server, session = served
    file = tmp_path / in_the_way
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.UNWRITABLE
    assert raised.value.detail


async def test_two_at_once_do_not_write_into_one_file(served: tuple[FileServer, ClientSession], target: Path) -> None:
    server, session = served
    begun = asyncio.Event()
    one = asyncio.create_task(async_download(session, server.file, target, lambda _: begun.set()))
    await begun.wait()
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.BUSY
    await one
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == ["model.pt"]
    assert len(server.asked) == 1
    # Nothing stays locked.
    await async_download(session, server.file, target, lambda _: None)


async def test_another_process_is_not_gotten_in_the_way_of(
    served: tuple[FileServer, ClientSession], target: Path
) -> None:
    server, session = served
    target.parent.mkdir(parents=True)
    part = target.with_name("model.pt.part")
    part.write_bytes(CONTENT[:1000])
    hold = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", hold, str(part)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdout is not None
    await other.stdout.readline()
    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, lambda _: None)
    assert raised.value.problem is DownloadProblem.BUSY
    assert part.read_bytes() == CONTENT[:1000]
    await other.communicate()
    await async_download(session, server.file, target, lambda _: None)
    assert target.read_bytes() == CONTENT


async def test_what_lies_on_the_disk_counts_not_what_was_sent_there(
    served: tuple[FileServer, ClientSession], target: Path
) -> None:
    """Somebody else wrote into the file, where it cannot be locked or nobody looks at locks."""
    server, session = served

    def tamper(share: float) -> None:
        if share == 1.0:
            with target.with_name("model.pt.part").open("ab") as stream:
                stream.write(b"more")

    with pytest.raises(DownloadError) as raised:
        await async_download(session, server.file, target, tamper)
    assert raised.value.problem is DownloadProblem.CHANGED
    assert leftovers(target) == []


async def test_cancelled_in_the_middle_goes_on_later(served: tuple[FileServer, ClientSession], target: Path) -> None:
    server, session = served
    begun = asyncio.Event()
    task = asyncio.create_task(async_download(session, server.file, target, lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not target.exists()
    await async_download(session, server.file, target, lambda _: None)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1][0].startswith("bytes=")
