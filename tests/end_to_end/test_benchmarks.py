"""The benchmarks that need a real Home Assistant beside other processes, in small."""

from concurrent.futures import ThreadPoolExecutor
import math
import socket

import pytest

from benchmarks import _audience, analysis, cameras
from benchmarks._model_server import ANSWER_TIME
from benchmarks.fanout import Plan, measure_fanout


async def test_fanout_measures_every_way() -> None:
    plan = Plan(
        paces={1: (3, 0.01), 3: (3, 0.01)},
        rounds=2,
        burst=3,
        stalled_clients=3,
        stalled_pairs=1,
        settle=0.0,
        idle=0.1,
    )
    figures = await measure_fanout(plan)
    costs = {f"{way}cpu_us_{clients}" for way in ("", "core_", "naive_") for clients in (1, 3)}
    bursts = {f"{kind}burst_{way}cpu_us" for kind in ("", "coalesced_") for way in ("", "core_", "naive_")}
    assert costs | bursts <= figures.keys()
    assert {
        "handover_us",
        "ratio_vs_core",
        "ratio_vs_naive",
        "p50_ms_3",
        "p99_ms_3",
        "stalled_delay_ms",
    } <= figures.keys()
    assert all(isinstance(value, float) and math.isfinite(value) for value in figures.values())
    assert 0 < figures["p50_ms_3"] <= figures["p99_ms_3"]


def test_cameras_are_held_only_when_no_frame_with_motion_is_skipped() -> None:
    def watched(count: int, skipped: int, looked: float = 5.0) -> cameras.Round:
        return cameras.Round(
            cameras=count, cpu=0.05 * count, looked=looked, inferred=2.0 * count, skipped=skipped, rss=1
        )

    rounds = [*(watched(count, 0) for count in (1, 2, 4)), watched(8, 1), watched(16, 0, looked=4.8)]
    figures = cameras._figures(rounds)
    assert figures["held"] == 4
    assert figures["growth_exponent"] == pytest.approx(1.0)
    assert figures["dropped"] == pytest.approx(1 / (1 + 2.0 * 31 * cameras.SECONDS))
    assert cameras._between(rounds) == 6


async def test_analysis_measures_verdicts_one_by_one_and_together() -> None:
    figures = await analysis.measure_analysis(analysis.Plan(verdicts=2, together=4, gathering=2, cameras=2, settle=0.0))
    assert {
        "overhead_ms_p50",
        "overhead_ms_p95",
        "loop_block_ms_max",
        "loop_busy_ms_p50",
        "loop_idle_ms_p50",
        "loop_busy_ms_max",
        "loop_idle_ms_max",
        "throughput_per_min",
        "verdicts",
        "picture_kb",
    } == figures.keys()
    # The server keeps its time, so the clocks of three processes agree when nothing is negative.
    assert 0 < figures["overhead_ms_p50"] <= figures["overhead_ms_p95"]
    assert 0 < figures["throughput_per_min"] <= 60 * analysis.CONCURRENCY / ANSWER_TIME


def incident_frame(*numbers: int) -> bytes:
    """Return a server's frame with these incidents; several are coalesced into one."""
    messages = b",".join(b'{"data":{"id":%d,"camera_id":"door"}}' % number for number in numbers)
    content = b"[" + messages + b"]" if len(numbers) > 1 else messages
    return b"\x81\x7e" + len(content).to_bytes(2) + content


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ((incident_frame(1), incident_frame(2, 3)), None),
        ((incident_frame(1), incident_frame(1, 2)), "1 came out of order"),
        ((incident_frame(1), incident_frame(3)), "3 came out of order"),
        ((incident_frame(1), incident_frame(2)), "1 of 3 messages did not come"),
    ],
)
def test_audience_checks_what_it_hears(
    frames: tuple[bytes, ...], problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_audience, "WAIT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        port = server.getsockname()[1]
        opened = pool.submit(_audience.Listener, port, "/")
        peer, _ = server.accept()
        with peer:
            assert b"Upgrade: websocket" in peer.recv(4096)
            peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + frames[0])
            audience = _audience.Audience(port, token="")
            audience.add("naive", opened.result())
            audience.expect("naive", 1, 3)
            peer.sendall(b"".join(frames[1:]))
            if problem is None:
                assert list(audience.hear("naive", 3).numbers) == [1, 2, 3]
            else:
                with pytest.raises(_audience.AudienceError, match=problem):
                    audience.hear("naive", 3)
