"""Tests of the count of calls: all count, what users ask for half of it at most, and a restart forgets nothing."""

from datetime import timedelta
import json
from typing import Any

import pytest

from custom_components.nemotron_security.analysis.budget import Budget, Clock

from .cases import DAY

MINUTE, HOUR = 60.0, 3600.0


class StoppedClock(Clock):
    """Stands still; its two times are moved apart when somebody sets the clock."""

    def __init__(self) -> None:
        self.time = DAY
        self.seconds = 1000.0

    def now(self) -> Any:
        return self.time

    def monotonic(self) -> float:
        return self.seconds

    def let_pass(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def restarted(budget: Budget, clock: StoppedClock) -> Budget:
    """Return what another process makes of what was kept; its monotonic clock begins anywhere."""
    kept = json.loads(json.dumps(budget.as_data()))
    clock.seconds = 5.0
    again = Budget(clock)
    again.restore(kept)
    return again


def test_a_call_counts_for_an_hour(clock: StoppedClock) -> None:
    budget = Budget(clock)
    for _ in range(3):
        budget.note()
        clock.let_pass(10 * MINUTE)
    assert (budget.spent(), budget.pause(4), budget.pause(3), budget.pause(2)) == (3, 0, 30 * MINUTE, 40 * MINUTE)
    clock.let_pass(30 * MINUTE)
    assert (budget.spent(), budget.pause(3)) == (2, 0)
    clock.let_pass(HOUR)
    assert budget.spent() == 0


def test_users_calls_take_half_at_most(clock: StoppedClock) -> None:
    budget = Budget(clock)
    for _ in range(100):
        budget.note(for_user=True)
    assert budget.spent() == 100
    assert budget.pause(10) == 0
    for _ in range(5):
        assert budget.pause(10) == 0
        budget.note()
    assert budget.pause(10) == HOUR
    # An odd one is ours; and the only one.
    assert Budget(clock).pause(1) == 0


def test_users_calls_count(clock: StoppedClock) -> None:
    budget = Budget(clock)
    for _ in range(2):
        budget.note(for_user=True)
        budget.note()
    assert (budget.pause(5), budget.pause(4)) == (0, HOUR)


def test_a_restart_forgets_nothing(clock: StoppedClock) -> None:
    budget = Budget(clock)
    budget.note()
    clock.let_pass(20 * MINUTE)
    budget.note(for_user=True)
    clock.let_pass(20 * MINUTE)
    again = restarted(budget, clock)
    assert (again.spent(), again.pause(2)) == (2, 20 * MINUTE)
    clock.let_pass(30 * MINUTE)
    assert again.spent() == 1


def test_a_crash_forgets_no_verdict(clock: StoppedClock) -> None:
    """What was kept is a minute old; the verdicts since then are in the database, and so are those before."""
    budget = Budget(clock)
    budget.note()
    before = clock.now()
    clock.let_pass(MINUTE)
    again = restarted(budget, clock)
    clock.let_pass(MINUTE)
    again.add_verdicts([before, clock.now() - timedelta(seconds=30)])
    assert again.spent() == 2
    # Without anything kept, as after an update, the verdicts are all that is known.
    new = Budget(clock)
    new.add_verdicts([before, clock.now()])
    assert new.spent() == 2


def test_a_clock_that_is_set_changes_nothing(clock: StoppedClock) -> None:
    budget = Budget(clock)
    budget.note()
    clock.time -= timedelta(days=400)
    assert budget.spent() == 1
    clock.let_pass(HOUR)
    assert budget.spent() == 0


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"until": "yesterday", "ours": [], "users": []},
        {"until": DAY.isoformat(), "ours": None, "users": []},
        {"until": DAY.isoformat(), "ours": ["x"], "users": []},
        {"until": DAY.isoformat(), "ours": [1e300], "users": []},
        {"until": DAY.isoformat(), "ours": [(DAY + timedelta(days=1)).timestamp()], "users": [0]},
        {"until": 7, "ours": [], "users": []},
    ],
)
def test_what_is_not_understood_is_left_out(clock: StoppedClock, kept: dict[str, Any]) -> None:
    budget = Budget(clock)
    budget.restore(kept)
    assert budget.spent() == 0
    budget.note()
    assert budget.spent() == 1


def test_somebody_keeps_count(clock: StoppedClock) -> None:
    told: list[int] = []
    budget = Budget(clock, on_call=lambda: told.append(1))
    budget.note()
    budget.note(for_user=True)
    assert len(told) == 2
