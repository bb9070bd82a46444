"""The one thread that makes JPEGs, shared by all cameras."""

from functools import partial
import threading

from custom_components.nemotron_security.vision import album as album_module
from custom_components.nemotron_security.vision.album import Album

PATIENCE = 60.0


def _wait(gate: threading.Event) -> None:
    gate.wait(PATIENCE)


def test_a_camera_with_much_to_do_costs_the_others_one_job_at_most() -> None:
    album, gate, done = Album(), threading.Event(), list[str]()
    assert album.do("slow", partial(_wait, gate))
    taken = [album.do("slow", partial(done.append, f"slow {number}")) for number in range(50)]
    assert sum(taken) in (album_module._LIMIT, album_module._LIMIT - 1)
    assert album.do("quick", partial(done.append, "quick 0"))
    assert album.do("quick", partial(done.append, "quick 1"))
    gate.set()
    album.stop(PATIENCE)
    assert not album._thread.is_alive()
    assert max(done.index("quick 0"), done.index("quick 1")) <= 3
    assert [job for job in done if "slow" in job] == [f"slow {number}" for number in range(sum(taken))]
    assert not album.do("quick", partial(done.append, "too late"))


def test_a_job_that_fails_is_not_the_last() -> None:
    album, done = Album(), list[str]()
    album.do("one", partial(_wait, None))  # type: ignore[arg-type]  # that is the point
    album.do("one", partial(done.append, "next"))
    album.stop(PATIENCE)
    assert done == ["next"]
