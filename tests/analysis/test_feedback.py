"""Tests of which feedback reaches a prompt."""

from datetime import timedelta
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.nemotron_security.analysis import PastFeedback
from custom_components.nemotron_security.analysis.feedback import MOST_TOLD, past_feedback, similarity
from custom_components.nemotron_security.models import Feedback, Incident

from .cases import DAY

HARMLESS = Feedback.FALSE_ALARM


def incident(number: int = 1, *, hours: float = 0, **values: Any) -> Incident:
    at = DAY + timedelta(hours=hours)
    defaults: dict[str, Any] = {"camera_id": "door", "labels": ("cat",), "title": "Cat at Door", "summary": "1 cat."}
    return Incident(id=number, started_at=at, last_seen_at=at, **defaults | values)


def test_same_words_are_counted() -> None:
    cats = [incident(number, hours=-24 * number, feedback=HARMLESS, note="neighbour's cat") for number in (2, 3, 4)]
    said = past_feedback(incident(), cats, DAY.tzinfo)
    assert said == (PastFeedback(feedback=HARMLESS, note="neighbour's cat", times=3),)


def test_another_camera_is_named_and_counted_for_itself() -> None:
    marked = [
        incident(n, feedback=HARMLESS, note="the gardener", camera_id=c)
        for n, c in enumerate(["back", "door", "back"], 2)
    ]
    assert past_feedback(incident(), marked, DAY.tzinfo, str.title) == (
        PastFeedback(feedback=HARMLESS, note="the gardener", times=1),
        PastFeedback(feedback=HARMLESS, note="the gardener", times=2, camera_name="Back"),
    )


def test_likest_first_and_bounded() -> None:
    others = [
        incident(number, hours=number / 4, feedback=HARMLESS, note=f"cat number {number}") for number in range(2, 30)
    ]
    said = past_feedback(incident(), others, DAY.tzinfo)
    assert [item.note for item in said] == [f"cat number {number}" for number in range(2, 2 + MOST_TOLD)]


@pytest.mark.parametrize(
    ("other", "similar"),
    [
        ({}, True),
        ({"hours": 12}, True),  # the same camera and label, at another time of day
        ({"camera_id": "garden"}, True),  # elsewhere, but the same words at the same hour
        ({"camera_id": "garden", "hours": 12}, False),
        ({"camera_id": "garden", "title": "The gardener", "summary": "He mows the lawn."}, False),  # no word in common
        ({"labels": ("person",)}, False),
        ({"labels": ()}, False),
        ({"feedback": None}, False),
    ],
)
def test_what_is_similar(other: dict[str, Any], *, similar: bool) -> None:
    reviewed = incident(2, **{"feedback": Feedback.SERIOUS} | other)
    assert bool(past_feedback(incident(), [reviewed], DAY.tzinfo)) is similar


def test_an_incident_does_not_speak_of_itself() -> None:
    assert past_feedback(incident(), [incident(feedback=HARMLESS)], DAY.tzinfo) == ()


INCIDENTS = st.builds(
    incident,
    hours=st.floats(-100, 100),
    camera_id=st.sampled_from(["door", "garden"]),
    labels=st.lists(st.sampled_from(["cat", "dog", "person"]), unique=True).map(tuple),
    title=st.text(max_size=20),
    note=st.none() | st.text(max_size=20),
)


@given(INCIDENTS, INCIDENTS)
def test_similarity_is_a_share_and_symmetric(one: Incident, other: Incident) -> None:
    alike = similarity(one, other, DAY.tzinfo)
    assert 0 <= alike <= 1 + 1e-9
    assert alike == pytest.approx(similarity(other, one, DAY.tzinfo))
    assert similarity(one, one, DAY.tzinfo) >= alike or not one.labels
