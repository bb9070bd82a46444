"""The rows of the queue: what they keep, and who comes first."""

from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import pytest

from custom_components.nemotron_security.models import House, Opening, Visit
from custom_components.nemotron_security.store import Store
from custom_components.nemotron_security.store.plain import from_plain, to_plain

from .samples import NOON, RULES, VERDICT, after, begin

LOCAL = datetime(2026, 11, 23, 23, 30, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))
HOUSE = House(
    at=LOCAL,
    sun_up=False,
    anyone_home=True,
    people_home=("Ann", "Jürgen"),
    people_arrived=("Ann",),
    alarm="armed_night",
    alarm_changed_at=LOCAL - timedelta(minutes=3),
    forced_entry=True,
    openings=(Opening(name="Door", open=True, changed_at=LOCAL), Opening(name="Lock", open=False, lock=True)),
    visits=(Visit(title="Parcel", begin=LOCAL, end=LOCAL + timedelta(hours=1), all_day=True),),
)

UNKNOWN = House(at=NOON)


async def test_what_the_house_knew_comes_back_as_it_was(store: Store) -> None:
    incident = await begin(store)
    await store.async_await_judgement(incident.id, NOON, HOUSE)
    claimed = await store.async_claim_judgement(NOON)
    assert claimed is not None
    assert (claimed.incident, claimed.house, claimed.tries, claimed.problem) == (incident, HOUSE, 0, None)
    assert claimed.house is not None
    assert claimed.house.at.hour == 23
    assert {
        field.name for field in fields(House) if getattr(HOUSE, field.name) == getattr(House(at=NOON), field.name)
    } == set()


def test_a_field_that_is_no_more_is_left_out_and_a_new_one_unknown() -> None:
    plain = to_plain(HOUSE)
    plain["weather"] = "rain"
    del plain["alarm"]
    assert from_plain(House, plain) == replace(HOUSE, alarm=None)


@pytest.mark.parametrize(
    "change",
    [{"at": None}, {"at": 5}, {"at": "noon"}, {"people_home": 3}, {"openings": [{"name": "Door"}]}, {"alarm": 5}],
)
def test_what_is_of_another_kind_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_plain(House, to_plain(HOUSE) | change)


async def test_the_most_urgent_that_is_due_and_may_be_asked_about_comes_first(store: Store) -> None:
    low, high, other, later = [await begin(store, camera) for camera in ("door", "door", "garden", "door")]
    for incident, score in ((low, 20), (high, 90), (other, 50), (later, 99)):
        await store.async_assess(incident.id, replace(RULES, risk_score=score))
        await store.async_await_judgement(incident.id, after(60 if incident is later else 0), None)

    async def first(**without: object) -> int | None:
        claimed = await store.async_claim_judgement(after(1), **without)  # type: ignore[arg-type]
        return claimed.incident.id if claimed else None

    assert await first() == high.id
    assert await first(without_incidents=[high.id]) == other.id
    assert await first(without_cameras=["door"]) == other.id
    assert await first(without_cameras=["door", "garden"]) is None
    await store.async_postpone_judgement(high.id, after(0), tries=2, problem="bad_answer")
    await store.async_postpone_judgement(other.id, after(0), tries=1, problem=None)
    assert await first(for_trial=True) == low.id
    await store.async_postpone_judgement(low.id, after(0.6), tries=1, problem="no_answer")
    await store.async_postpone_judgement(other.id, after(0.4), tries=1, problem="no_answer")
    assert await first(for_trial=True) == other.id
    await store.async_postpone_judgement(other.id, after(0.8), tries=1, problem="no_answer")
    assert await first(for_trial=True) == low.id
    await store.async_postpone_judgement(high.id, after(0.9), tries=1, problem=None)
    assert await first(for_trial=True) == high.id
    for incident in (low, high, other):
        await store.async_postpone_judgement(incident.id, after(0), tries=0, problem=None)
    assert await store.async_next_judgement_at() == after(0)
    assert await store.async_next_judgement_at(without_incidents=[low.id, high.id, other.id]) == after(60)
    assert [old.incident.id for old in await store.async_old_judgements(after(1), after(1))] == [
        low.id,
        high.id,
        other.id,
    ]
    backlog = await store.async_backlog()
    assert (backlog.waiting, backlog.oldest_due_at) == (4, after(0))


async def test_only_a_models_verdict_ends_the_waiting(store: Store) -> None:
    incident = await begin(store)
    await store.async_await_judgement(incident.id, NOON, None)
    await store.async_assess(incident.id, RULES)
    assert (await store.async_backlog()).waiting == 1
    await store.async_claim_judgement(NOON)
    await store.async_assess(incident.id, VERDICT)
    assert (await store.async_backlog()).waiting == 0
    assert await store.async_assessed_since(NOON) == [NOON]
    assert await store.async_assessed_since(after(1)) == []
    # It is judged once more only if it ends otherwise than it was.
    await store.async_await_judgement(incident.id, NOON, None)
    assert (await store.async_backlog()).waiting == 0
    await store.async_save_incident(replace(incident, ended_at=after(9), object_count=2))
    await store.async_await_judgement(incident.id, NOON, None)
    assert (await store.async_backlog()).waiting == 1


async def test_what_was_judged_before_there_was_a_queue_waits_for_nothing(store: Store) -> None:
    incident = await begin(store)
    await store.async_assess(incident.id, VERDICT)
    await store.async_await_judgement(incident.id, NOON, None)
    assert (await store.async_backlog()).waiting == 0
    with pytest.raises(LookupError):
        await store.async_await_judgement(999, NOON, None)
