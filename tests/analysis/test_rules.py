"""Tests of the documented score."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
import re
from typing import Any

from hypothesis import given, strategies as st
import pytest

from benchmarks import verdicts
from benchmarks.situations import SITUATIONS, STATES
from custom_components.nemotron_security.analysis import Case, rules
from custom_components.nemotron_security.models import (
    ANIMALS,
    VEHICLES,
    CameraView,
    Floor,
    Opening,
    RiskLevel,
    Track,
    risk_level,
)

from .cases import DAY, NIGHT, case, house, opening, track, visit

DOCUMENT = Path(__file__).parents[2] / "docs" / "risk.md"

EXAMPLES: dict[str, Case] = {
    "A person by day, the family at home, the alarm off": case(sun_up=True, anyone_home=True, alarm="disarmed"),
    "A person by day, nothing known of the house": case(),
    "A person by day, nobody home": case(sun_up=True, anyone_home=False),
    "A person by day, the alarm armed away": case(sun_up=True, anyone_home=False, alarm="armed_away"),
    "A person at night, all asleep, the alarm armed night": case(
        at=NIGHT, sun_up=False, anyone_home=True, alarm="armed_night"
    ),
    "Two persons for three minutes at night, nobody home, the alarm armed away, a window open": case(
        track(dwell=180),
        track(track_id=2, dwell=180),
        at=NIGHT,
        sun_up=False,
        anyone_home=False,
        alarm="armed_away",
        openings=(opening(),),
    ),
    "A car passes by day, the family away, the alarm armed away": case(
        track("car", dwell=5), sun_up=True, anyone_home=False, alarm="armed_away"
    ),
    "A car stands for three minutes at night, the family at home": case(
        track("car", dwell=180), at=NIGHT, sun_up=False, anyone_home=True
    ),
    "A courier at the front door by day, the family away, the alarm armed away": case(
        view=CameraView.ENTRANCE, sun_up=True, anyone_home=False, alarm="armed_away"
    ),
    "A person by day, the alarm armed away, at an hour at which a calendar expects a visit": case(
        sun_up=True, anyone_home=False, alarm="armed_away", visits=(visit(),)
    ),
    "A person in the garden at night, all asleep, the alarm disarmed": case(
        view=CameraView.PRIVATE, at=NIGHT, sun_up=False, anyone_home=True, alarm="disarmed"
    ),
    "A person on the pavement at night, the family away, the alarm armed away": case(
        view=CameraView.PUBLIC, at=NIGHT, sun_up=False, anyone_home=False, alarm="armed_away"
    ),
    "A cat at night, nobody home": case(track("cat"), at=NIGHT, sun_up=False, anyone_home=False),
}


def test_document_holds_the_table() -> None:
    documented = {
        match[1]: tuple(int(points) for points in re.split(r"\s*\|\s*", match[2]))
        for match in re.finditer(
            r"^\| `(\w+)` \| [^|]+ \| ([-+\d]+ \| [-+\d]+ \| [-+\d]+ \| [-+\d]+) \|$", _text(), re.MULTILINE
        )
    }
    assert documented == {row.key: tuple(row.points) for row in rules.TABLE}


def test_document_holds_the_bounds() -> None:
    documented = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+) \| (\d+) \|$", _text(), re.MULTILINE)
    expected = [(limit.key, str(limit.lowest), str(limit.highest)) for limit in rules.LIMITS]
    assert documented == expected


def test_document_holds_the_levels_and_thresholds() -> None:
    text = _text()
    for name, lowest, highest in re.findall(r"^\| (\w+) \| (\d+)-(\d+) \|", text, re.MULTILINE):
        assert risk_level(int(lowest)) is risk_level(int(highest)) is RiskLevel(name)
    assert f"{rules.NIGHT_BEGINS}:00 to {rules.NIGHT_ENDS}:00" in text
    assert f"{rules.DWELL:.0f} seconds or more" in text
    assert f"{rules.LONG_DWELL:.0f} seconds or more" in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_document_holds_the_examples(name: str) -> None:
    assert example_row(name) in _text().splitlines()


def example_row(name: str) -> str:
    facts = rules._facts(EXAMPLES[name])
    rows = ", ".join(f"`{row.key}` {rules._points(row, facts):+d}" for row in rules.TABLE if row.applies(facts))
    score = rules.assess(EXAMPLES[name]).risk_score
    return f"| {name} | {rows} | {score} | {risk_level(score)} |"


def _text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


LABELS = st.sampled_from(["person", "car", "bicycle", "cat", "dog", "bird", "backpack"])
TRACKS = st.lists(
    st.builds(
        track,
        LABELS,
        track_id=st.integers(1, 10**6),
        begin=st.floats(0, 600),
        dwell=st.floats(0, 900),
        stationary=st.booleans(),
    ),
    min_size=1,
    max_size=8,
).map(tuple)
ALARMS = ["disarmed", "armed_home", "armed_custom_bypass", "armed_night", "armed_away", "triggered"]
"""From the most peaceful to the gravest."""
KNOWN_OR_NOT = st.sampled_from([True, False, None])
HOUSES = st.builds(
    house,
    at=st.integers(0, 23).map(lambda hour: datetime(2026, 6, 1, hour, tzinfo=UTC)),
    sun_up=KNOWN_OR_NOT,
    anyone_home=KNOWN_OR_NOT,
    alarm=st.sampled_from([*ALARMS, "armed_vacation", "pending", "arming", "disarming", None, "whatever"]),
    alarm_changed_at=st.sampled_from([None, DAY - timedelta(minutes=5)]),
    forced_entry=st.booleans(),
    openings=st.lists(
        st.builds(
            Opening,
            name=st.just("Door"),
            open=st.booleans(),
            lock=st.booleans(),
            changed_at=st.sampled_from([None, DAY - timedelta(minutes=6), DAY - timedelta(minutes=1)]),
        ),
        max_size=2,
    ).map(tuple),
    people_arrived=st.sampled_from([(), ("Ann",)]),
    visits=st.sampled_from([(), (visit(begin=-24, end=24),)]),
)
VIEWS = st.sampled_from([None, *CameraView])
CASES = st.builds(
    lambda tracks, facts, view: replace(case(), tracks=tracks, house=facts, view=view), TRACKS, HOUSES, VIEWS
)


def score(subject: Case) -> int:
    return rules.assess(subject).risk_score


def with_house(subject: Case, **facts: Any) -> Case:
    return replace(subject, house=replace(subject.house, **facts))


@given(CASES)
def test_score_is_bounded_and_explained(subject: Case) -> None:
    verdict = rules.assess(subject)
    assert 0 <= verdict.risk_score <= 100
    assert verdict == rules.assess(subject)
    assert verdict.reasoning is not None
    assert verdict.reasoning.endswith(f"Score {verdict.risk_score}.")
    assert verdict.summary.endswith(".")


@given(CASES, TRACKS)
def test_more_objects_never_lower_the_score_of_persons(subject: Case, more: tuple[Track, ...]) -> None:
    subject = replace(subject, tracks=(*subject.tracks, track()))
    assert score(replace(subject, tracks=(*subject.tracks, *more))) >= score(subject)


@given(CASES, st.floats(0, 600))
def test_another_person_never_lowers_the_score(subject: Case, begin: float) -> None:
    assert score(replace(subject, tracks=(*subject.tracks, track(begin=begin)))) >= score(subject)


@given(CASES, st.floats(0, 600))
def test_longer_dwell_never_lowers_the_score(subject: Case, longer: float) -> None:
    first, *others = subject.tracks
    stays = track(first.label, begin=(first.first_seen_at - DAY).total_seconds(), dwell=first.dwell + longer)
    assert score(replace(subject, tracks=(stays, *others))) >= score(subject)


@given(CASES)
def test_graver_alarm_never_lowers_the_score(subject: Case) -> None:
    scores = [score(with_house(subject, alarm=alarm)) for alarm in ALARMS]
    assert scores == sorted(scores)


@given(CASES)
def test_nobody_home_never_lowers_the_score(subject: Case) -> None:
    home, unknown, away = (score(with_house(subject, anyone_home=fact)) for fact in (True, None, False))
    assert home <= unknown <= away


@given(CASES)
def test_darkness_never_lowers_the_score(subject: Case) -> None:
    day, unknown, dark = (score(with_house(subject, sun_up=fact)) for fact in (True, None, False))
    assert day <= unknown <= dark


@given(CASES)
def test_animals_alone_stay_low(subject: Case) -> None:
    animals = tuple(replace(seen, label="dog") for seen in subject.tracks)
    assert score(replace(subject, tracks=animals, floors=frozenset())) <= 15


@given(dwell=st.floats(0, 25), anyone_home=KNOWN_OR_NOT, alarm=st.sampled_from([*ALARMS[:-1], None]))
def test_car_that_passes_by_day_stays_low(dwell: float, *, anyone_home: bool | None, alarm: str | None) -> None:
    passing = case(track("car", dwell=dwell), sun_up=True, anyone_home=anyone_home, alarm=alarm)
    assert rules.assess(passing).risk_score < 30


@given(CASES)
def test_person_while_armed_away_is_at_least_high(subject: Case) -> None:
    subject = replace(subject, tracks=(*subject.tracks, track()), view=CameraView.PRIVATE)
    subject = with_house(subject, visits=(), people_arrived=())
    for alarm in ("armed_away", "armed_vacation", "pending"):
        assert score(with_house(subject, alarm=alarm)) >= 60


@given(CASES)
def test_person_while_the_alarm_is_triggered_is_critical(subject: Case) -> None:
    subject = replace(subject, tracks=(*subject.tracks, track()))
    assert score(with_house(subject, alarm="triggered")) >= 85


@given(CASES)
def test_private_ground_is_never_less_than_an_entrance_nor_that_than_public_ground(subject: Case) -> None:
    private, entrance, public = (
        score(replace(subject, view=view)) for view in (CameraView.PRIVATE, CameraView.ENTRANCE, CameraView.PUBLIC)
    )
    assert public <= entrance <= private


@given(CASES)
def test_expected_visits_and_arrivals_never_raise_the_score(subject: Case) -> None:
    alone = with_house(subject, visits=(), people_arrived=())
    assert score(with_house(alone, visits=(visit(begin=-24, end=24),))) <= score(alone)
    assert score(with_house(alone, people_arrived=("Ann",))) <= score(alone)


AWAY: dict[str, Any] = {"sun_up": True, "anyone_home": False, "alarm": "armed_away"}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"view": CameraView.PRIVATE}, True),
        ({"view": CameraView.ENTRANCE}, False),
        ({"view": CameraView.ENTRANCE, "sun_up": False}, True),
        ({"view": CameraView.ENTRANCE, "at": NIGHT}, True),
        ({"view": CameraView.PUBLIC, "sun_up": False}, False),
        ({"visits": (visit(),)}, False),
        ({"visits": (visit(begin=1, end=2),)}, True),
        ({"visits": (visit(begin=-9, end=15, all_day=True),)}, True),
        ({"visits": (visit(begin=-6, end=6),)}, False),
        ({"visits": (visit(begin=-50, end=50),)}, True),  # guests for some days, who say nothing of this hour
        ({"visits": (visit(at=NIGHT),), "at": NIGHT, "sun_up": False}, True),
        ({"people_arrived": ("Ann",)}, False),
        ({"alarm": "armed_home"}, False),
    ],
)
def test_when_nobody_should_be_there(changes: dict[str, Any], *, holds: bool) -> None:
    harmless = replace(rules.assess(case()), analyzer="nemotron", risk_score=5)
    view = changes.pop("view", None)
    subject = case(view=view, **AWAY | changes)
    assert rules.raise_to_floor(harmless, subject).risk_score == (60 if holds else 5)


@pytest.mark.parametrize(
    ("alarm", "holds"),
    [
        ("armed_away", True),
        ("armed_vacation", True),
        ("armed_night", True),
        ("triggered", True),
        ("pending", False),  # who comes home opens a door too
        ("armed_home", True),  # on the way from away, not by disarming
        (None, True),  # the hub was cut
    ],
)
def test_when_a_forced_entry_counts(alarm: str | None, *, holds: bool) -> None:
    subject = replace(case(track("car"), alarm=alarm, forced_entry=True), floors=frozenset({Floor.FORCED_ENTRY}))
    assert (rules.assess(subject).risk_score >= 85) is holds


@pytest.mark.parametrize("facts", [{"alarm": "armed_night", "forced_entry": True}, {"alarm": "triggered"}])
def test_a_cat_does_not_explain_an_open_door(facts: dict[str, Any]) -> None:
    subject = case(track("cat"), **facts)
    harmless = replace(rules.assess(subject), risk_score=3, reasoning=None)
    assert rules.assess(subject).risk_score == 85
    assert rules.raise_to_floor(harmless, subject).risk_score == 85


def test_nothing_but_a_floor_raises_a_verdict() -> None:
    subject = case(track("cat"), alarm="armed_night")
    harmless = replace(rules.assess(subject), risk_score=3)
    assert rules.raise_to_floor(harmless, subject) == harmless
    subject = case(track("cat"), alarm="triggered")
    only_intruder = replace(subject, floors=frozenset({Floor.INTRUDER}))
    assert rules.raise_to_floor(harmless, only_intruder) == harmless


@pytest.mark.parametrize("floor", Floor)
def test_each_floor_can_be_switched_off(floor: Floor) -> None:
    facts: dict[Floor, dict[str, Any]] = {
        Floor.INTRUDER: {"alarm": "armed_away"},
        Floor.FORCED_ENTRY: {"alarm": "armed_night", "forced_entry": True},
        Floor.ALARM_TRIGGERED: {"alarm": "triggered"},
    }
    subject = case(view=CameraView.PRIVATE, **facts[floor])
    harmless = replace(rules.assess(case()), analyzer="nemotron", risk_score=5)
    others = replace(subject, floors=frozenset(Floor) - {floor})
    assert rules.raise_to_floor(harmless, subject).risk_score >= 60
    assert rules.raise_to_floor(harmless, others).risk_score == 5
    assert rules.assess(others).risk_score < 85


@given(TRACKS)
def test_family_at_home_by_day_with_alarm_off_is_low(tracks: tuple[Track, ...]) -> None:
    peaceful = case(*tracks, sun_up=True, anyone_home=True, alarm="disarmed", openings=(opening("Terrace"),))
    assert rules.assess(peaceful).risk_score < 30


@pytest.mark.parametrize("alarm", [None, "arming", "unheard_of"])
def test_unknown_facts_add_nothing(alarm: str | None) -> None:
    verdict = rules.assess(case(alarm=alarm))
    assert verdict.risk_score == 30
    assert verdict.evidence == ("a person",)
    assert verdict.summary == "1 person for 12 s."


def test_words() -> None:
    verdict = rules.assess(case(sun_up=True, anyone_home=False, alarm="armed_away"))
    assert verdict.title == "Person at Front door"
    assert verdict.summary == "1 person for 12 s; nobody is home, the alarm is armed away."
    assert verdict.reasoning == "By the rules: a person +30; nobody is home +15; the alarm is armed away +20. Score 65."
    assert verdict.analyzer == "rules"
    assert verdict.category == "person"


def test_words_of_several() -> None:
    verdict = rules.assess(case(track("car"), track(track_id=2), track(track_id=3), track("bus", track_id=4)))
    assert verdict.title == "2 people, car and bus at Front door"
    assert verdict.summary == "2 people, 1 car and 1 bus for 12 s."


def test_reasoning_names_the_bound() -> None:
    verdict = rules.assess(case(sun_up=True, alarm="armed_away"))
    assert verdict.risk_score == 60
    assert verdict.reasoning is not None
    assert "A person while nobody should be there: at least 60." in verdict.reasoning


def test_no_model_argues_a_fact_of_the_house_away() -> None:
    burglary = case(alarm="triggered")
    harmless = replace(rules.assess(case()), analyzer="nemotron", risk_score=5, reasoning="A friendly face.")
    raised = rules.raise_to_floor(harmless, burglary)
    assert raised.risk_score == 85
    assert raised.reasoning == "A friendly face. Raised from 5 to 85: the alarm is triggered."
    assert rules.raise_to_floor(harmless, case()) == harmless
    grave = replace(harmless, risk_score=95)
    assert rules.raise_to_floor(grave, burglary) == grave


def test_one_who_returns_is_not_two() -> None:
    returns = case(track(), track(track_id=2, begin=20))
    assert rules.assess(returns).summary == "1 person for 32 s."


def test_case_without_tracks_is_refused() -> None:
    with pytest.raises(ValueError, match="without tracks"):
        rules.assess(replace(case(), tracks=()))


def test_every_label_has_a_kind() -> None:
    assert {rules.kind_of(label) for label in VEHICLES} == {rules.Kind.VEHICLE}
    assert {rules.kind_of(label) for label in ANIMALS} == {rules.Kind.ANIMAL}
    assert rules.kind_of("person") is rules.Kind.PERSON
    assert rules.kind_of("backpack") is rules.Kind.OTHER


MISSED = {
    ("lamp_and_visitor", "asleep, alarm off"),
    ("car_leaves", "away, armed, day"),
    ("car_leaves", "vacation, day"),
}
"""Threats that the rules miss; docs/risk.md says why."""
FALSE_ALARMS = {("cat_garden", "alarm triggered, day")}
"""Look-alikes that a floor holds up; docs/risk.md says why."""


def test_table_of_situations_is_large_mixed_and_free_of_doubles() -> None:
    threats = [situation for situation in SITUATIONS if situation.threat]
    assert len(SITUATIONS) >= 60
    assert 0.4 <= len(threats) / len(SITUATIONS) <= 0.5
    assert len({(situation.scene, situation.state) for situation in SITUATIONS}) == len(SITUATIONS)
    assert {situation.state for situation in SITUATIONS} == set(STATES)
    assert verdicts.outdated() == [], "run: python -m benchmarks.verdicts"


def test_situations() -> None:
    scores = verdicts.judge_by_rules(verdicts.recorded())
    wrong = {
        (situation.scene, situation.state)
        for situation, score in zip(SITUATIONS, scores, strict=True)
        if (score >= 60) is not situation.threat
    }
    assert wrong == MISSED | FALSE_ALARMS
    recall, false_alarms, auroc = verdicts.quality(scores)
    assert recall >= 0.9
    assert false_alarms <= 0.05
    row = f"| the rules alone | {recall:.2f} | {false_alarms:.2f} | {auroc:.2f} |"
    assert row in _text().splitlines()


def test_what_was_opened_from_outside_counts_by_the_house_alone() -> None:
    quiet = replace(case(sun_up=True), tracks=(), trigger="Doorbell")
    said = rules.assess(quiet)
    assert (said.risk_score, said.title) == (0, f"Doorbell at {quiet.camera_name}")
    assert said.summary == "Nothing seen, opened by Doorbell."
    assert said.reasoning == "By the rules: nothing adds to it. Score 0."
    alarmed = rules.assess(replace(quiet, house=house(alarm="triggered")))
    assert alarmed.risk_score == 85, "a floor holds whatever was seen"
