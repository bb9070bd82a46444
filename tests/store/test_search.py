"""What is searched for is found, and nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
import random
from typing import Any
import unicodedata

from hypothesis import HealthCheck, given, settings, strategies as st
import pytest
from sqlalchemy import text as text_sql

from custom_components.nemotron_security.models import Feedback, Incident, IncidentFilter, Review
from custom_components.nemotron_security.store import Store
from custom_components.nemotron_security.store.search import LONGEST_SEARCH

from .samples import CAMERA, NOON, RULES, VERDICT, after, begin, track

EVERYTHING = 10_000

# --- text -------------------------------------------------------------------------------------------------------------


async def say(store: Store, title: str = "", summary: str = "", reasoning: str | None = None) -> Incident:
    incident = await begin(store)
    return await store.async_assess(incident.id, replace(VERDICT, title=title, summary=summary, reasoning=reasoning))


async def find(store: Store, text: str) -> list[int]:
    return [one.id for one in await store.async_incidents(IncidentFilter(text=text), limit=EVERYTHING)]


@pytest.mark.parametrize(
    ("said", "sought"),
    [
        ("Straße", "STRASSE"),
        ("STRASSE", "straße"),
        ("İstanbul", "İSTANBUL"),
        ("İstanbul", "i̇stanbul"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("cafe\u0301", "CAFÉ"),
        ("CAFÉ", "cafe\u0301"),
        ("\uff24\uff2f\uff2f\uff32\uff11\uff12", "door12"),
        ("ﬁre", "FIRE"),
        ("\U0001d6a8\U0001d6a9", "αβ"),  # bold capitals of mathematics
        ("门口有一个陌生人", "陌生"),
        ("玄関にﾈｺがいる", "ネコ"),
        ("현관에 낯선 사람", "낯선"),
        ("한국어", "\u1112\u1161\u11ab국어"),
        ("קוּרִיר", "קוּרִיר"),
        ("ساعي البريد", "البريد"),
        ("दरवाज़े पर कोई", "दरवाज़े"),
        ("A cat 🐈\u200d⬛ on the roof", "🐈\u200d⬛"),
        ("👩🏽\u200d🚒", "👩🏽"),
        ("The postman rings twice", "twice postm"),
        ("one\u3000two", "two\u00a0one"),
        ("half \ud83d pair", "half \ud83d"),
    ],
)
async def test_case_width_composition_and_order_make_no_difference(store: Store, said: str, sought: str) -> None:
    other = await say(store, "Nobody", "Nothing of the kind", "None")
    wanted = await say(store, summary=said)
    assert await find(store, sought) == [wanted.id]
    assert other.id not in await find(store, sought)


@pytest.mark.parametrize(
    "said",
    ["100 %", "a_b", "back\\slash", "slash/ed", "%%", "__", "/%", "\\_", "\\", "'", '"', "';--", "[a-z]*", "nul\0nul"],
)
async def test_signs_stand_for_themselves(store: Store, said: str) -> None:
    plain = await say(store, "plain words 100 ab axb", "backslash slashed", "z")
    wanted = await say(store, summary=said)
    assert await find(store, said) == [wanted.id]
    assert await find(store, f"plain {said}") == []
    assert await find(store, "plain") == [plain.id]


@pytest.mark.parametrize(
    "attempt",
    [
        "x' OR '1'='1",
        "x%' ESCAPE '/' OR 1=1 --",
        "'; DROP TABLE incidents; --",
        "?) OR (1=1",
        ":search_text_1",
        "%(search_text_1)s",
        "x/",
        "\\' OR 1=1 #",
    ],
)
async def test_nobody_says_sql(store: Store, attempt: str) -> None:
    incident = await say(store, "Person", "A person came.")
    assert await find(store, attempt) == []
    for which in (
        {"camera_ids": frozenset([attempt])},
        {"labels": frozenset([attempt])},
        {"zones": frozenset([attempt])},
    ):
        assert await store.async_incidents(IncidentFilter(**which)) == []  # type: ignore[arg-type]
    assert [one.id for one in await store.async_incidents()] == [incident.id]


async def test_each_of_the_texts_is_searched_and_nothing_across_them(store: Store) -> None:
    incident = await say(store, "Alpha", "Bravo", "Charlie")
    await store.async_review(incident.id, Review(reviewed=True, feedback=None, note="Delta", at=NOON))
    for sought in ("alpha", "bravo", "charlie", "delta", "person", "delta person charlie bravo alpha", "", "  "):
        assert await find(store, sought) == [incident.id], sought
    for sought in ("alphabravo", "deltaperson", "alpha echo"):
        assert await find(store, sought) == [], sought


async def test_what_is_said_anew_is_found_and_what_was_said_before_is_not(store: Store) -> None:
    incident = await begin(store)
    assert await find(store, "came") == [incident.id]
    await store.async_assess(incident.id, VERDICT)
    assert (await find(store, "came"), await find(store, "handle")) == ([], [incident.id])
    await store.async_save_incident(replace(incident, labels=("person", "truck")), [track(2, label="truck")])
    assert await find(store, "truck") == [incident.id]
    review = Review(reviewed=True, feedback=None, note="Uncle Bob", at=NOON)
    await store.async_review(incident.id, review)
    assert await find(store, "bob") == [incident.id]
    await store.async_review(incident.id, replace(review, note=None))
    assert await find(store, "bob") == []
    await store.async_close_open_incidents()
    assert await find(store, "truck handle") == [incident.id]


async def test_the_longest_search_is_taken_and_a_longer_one_refused(store: Store) -> None:
    incident = await say(store, summary="x" * 5000)
    assert await find(store, "x" * LONGEST_SEARCH) == [incident.id]
    every_word_another = " ".join(chr(0x4E00 + number) for number in range(LONGEST_SEARCH // 2))
    assert await find(store, every_word_another) == []
    with pytest.raises(ValueError, match="characters"):
        await find(store, "x" * (LONGEST_SEARCH + 1))


# --- against a reference that filters in Python -----------------------------------------------------------------------

CAMERAS = ["door", "garden", "street"]
LABELS = ["person", "car", "dog"]
ZONES = ["Porch", "porch", "Straße", 'a "gate" \\', "é", "e\u0301", "100%", "门"]
WORDS = ["Straße", "STRASSE", "é", "e\u0301", "100%", "a_b", "/", "\\", "门", "🐈", "İ", "Σας", "cat"]
TEXT = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=4).map(" ".join)
SECONDS = st.integers(0, 300)


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """Return what happens in one incident."""
    start, lasted = draw(SECONDS), draw(st.integers(0, 100))
    labels = draw(st.lists(st.sampled_from(LABELS), max_size=3))
    return {
        "camera_id": draw(st.sampled_from(CAMERAS)),
        "tracks": [
            track(
                n,
                first=start,
                label=label,
                zones=tuple(draw(st.lists(st.sampled_from(ZONES), max_size=2, unique=True))),
            )
            for n, label in enumerate(labels)
        ],
        "started_at": after(start),
        "last_seen_at": after(start + lasted),
        "ended_at": draw(st.sampled_from([None, after(start + lasted)])),
        "verdict": draw(
            st.none()
            | st.builds(
                partial(replace, VERDICT),
                risk_score=st.integers(0, 100),
                title=TEXT,
                summary=TEXT,
                reasoning=st.none() | TEXT,
            )
        ),
        "review": draw(
            st.none()
            | st.builds(
                Review,
                reviewed=st.booleans(),
                feedback=st.none() | st.sampled_from(Feedback),
                note=st.none() | TEXT,
                at=SECONDS.map(after),
            )
        ),
    }


MOMENT = st.none() | st.integers(-10, 410).map(after)
RISK = st.none() | st.integers(-1, 101)
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "camera_ids": st.none() | st.frozensets(st.sampled_from([*CAMERAS, "of nobody"])),
    "labels": st.none() | st.frozensets(st.sampled_from([*LABELS, "of nobody"])),
    "zones": st.none() | st.frozensets(st.sampled_from([*ZONES, "of nobody", "gate", "Porch, porch"])),
    "minimum_risk": RISK,
    "maximum_risk": RISK,
    "minimum_peak": RISK,
    "since": MOMENT,
    "until": MOMENT,
    "text": st.none() | TEXT,
    "reviewed": st.none() | st.booleans(),
    "feedback": st.none() | st.sampled_from(Feedback),
}
FILTER = st.builds(IncidentFilter, **CONDITIONS)


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def is_wanted(incident: Incident, wanted: IncidentFilter) -> bool:
    """Say it again, in Python."""
    risk, peak, end = incident.risk_score, incident.peak_score, incident.ended_at
    said = (incident.title, incident.summary, incident.reasoning or "", incident.note or "")
    texts = (*said, *incident.labels, *incident.zones)
    return all(
        [
            wanted.camera_ids is None or incident.camera_id in wanted.camera_ids,
            wanted.labels is None or not wanted.labels.isdisjoint(incident.labels),
            wanted.zones is None or not wanted.zones.isdisjoint(incident.zones),
            wanted.minimum_risk is None or (risk is not None and risk >= wanted.minimum_risk),
            wanted.maximum_risk is None or (risk is not None and risk <= wanted.maximum_risk),
            wanted.minimum_peak is None or (peak is not None and peak >= wanted.minimum_peak),
            wanted.since is None or end is None or end >= wanted.since,
            wanted.until is None or incident.started_at < wanted.until,
            wanted.reviewed is None or wanted.reviewed == (incident.reviewed_at is not None),
            wanted.feedback is None or incident.feedback is wanted.feedback,
            *(
                any(word in folded(text.replace("\0", "?")) for text in texts)
                for word in folded(wanted.text or "").replace("\0", "?").split()
            ),
        ]
    )


async def add(store: Store, history: dict[str, Any]) -> None:
    incident = await store.async_start_incident(
        history["camera_id"], history["tracks"], started_at=history["started_at"], assessment=RULES
    )
    course = {name: history[name] for name in ("last_seen_at", "ended_at")}
    await store.async_save_incident(replace(incident, **course))
    if history["verdict"]:
        await store.async_assess(incident.id, history["verdict"])
    if history["review"]:
        await store.async_review(incident.id, history["review"])


often = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


async def compare(store: Store, wanted: IncidentFilter) -> None:
    everything = await store.async_incidents(limit=EVERYTHING)
    found = await store.async_incidents(wanted, limit=EVERYTHING)
    assert found == [incident for incident in everything if is_wanted(incident, wanted)]


@pytest.mark.parametrize("condition", CONDITIONS)
@often
@given(history=histories(), data=st.data())
async def test_each_condition_alone_finds_what_the_reference_finds(
    store: Store, condition: str, history: dict[str, Any], data: st.DataObject
) -> None:
    await add(store, history)
    await compare(store, IncidentFilter(**{condition: data.draw(CONDITIONS[condition])}))


@often
@given(more=st.lists(histories(), max_size=5), wanted=st.lists(FILTER, min_size=1, max_size=5))
async def test_conditions_together_find_what_the_reference_finds(
    store: Store, more: Sequence[dict[str, Any]], wanted: Iterable[IncidentFilter]
) -> None:
    for history in more:
        await add(store, history)
    for one in wanted:
        await compare(store, one)


def test_the_reference_knows_every_condition() -> None:
    assert {field.name for field in fields(IncidentFilter)} == set(CONDITIONS)


async def test_what_nobody_has_judged_has_no_risk(store: Store) -> None:
    incident = await begin(store)
    await store._async_write(lambda session: session.execute(text_sql("UPDATE incidents SET risk_score = NULL")))
    assert [one.risk_score for one in await store.async_incidents()] == [None]
    assert await store.async_incidents(IncidentFilter(minimum_risk=0)) == []
    assert await store.async_incidents(IncidentFilter(maximum_risk=100)) == []
    assert [one.id for one in await store.async_incidents(IncidentFilter(camera_ids=frozenset([CAMERA])))] == [
        incident.id
    ]


# --- paging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 3, 7])
async def test_paging_loses_and_repeats_nothing_while_incidents_arrive(store: Store, page: int) -> None:
    chance = random.Random(page)
    number = count()

    async def arrive(how_many: int) -> None:
        for _ in range(how_many):
            await begin(store, chance.choice(CAMERAS), at=next(number))

    await arrive(40)
    wanted = IncidentFilter(camera_ids=frozenset(CAMERAS[:2]), since=after(5), until=after(33), text="person")
    expected = [one.id for one in await store.async_incidents(wanted, limit=EVERYTHING)]
    assert len(expected) > 2 * page
    seen: list[int] = []
    while found := await store.async_incidents(wanted, before_id=seen[-1] if seen else None, limit=page):
        seen += [one.id for one in found]
        await arrive(2)
    assert seen == expected


async def test_times_of_a_filter_may_be_of_any_zone_but_need_one(store: Store) -> None:
    incident = await begin(store)
    local = (NOON + timedelta(seconds=1)).astimezone(tz=None)
    assert [one.id for one in await store.async_incidents(IncidentFilter(until=local))] == [incident.id]
    with pytest.raises(ValueError, match="zone"):
        await store.async_incidents(IncidentFilter(since=datetime(2026, 1, 1)))  # noqa: DTZ001
