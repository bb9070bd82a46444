"""The soak benchmark, short: clients that come and go lose nothing and leave nothing behind."""

from pathlib import Path

from benchmarks.soak import Plan, soak

MEMORY_MB = 10.0
"""What a process may grow by in seconds without anything being kept: Python's and SQLite's own pools."""


async def test_clients_come_and_go(tmp_path: Path) -> None:
    figures = await soak(
        tmp_path / "house", Plan(clients=40, warm_up=6.0, seconds=8.0, stay=(0.5, 2.0), away=(0.1, 0.8))
    )
    wrong = ("lost", "doubled", "out_of_order", "unwanted", "incomplete", "leaked_clients", "log_errors")
    assert {name: figures[name] for name in wrong} == dict.fromkeys(wrong, 0), figures
    assert figures["leaked_listeners"] <= 0
    assert figures["leaked_tasks"] <= 0
    assert figures["memory_growth_mb"] < MEMORY_MB
    assert figures["visits"] > 3 * figures["clients"]
    assert figures["messages"] > 40 * figures["seconds"]
