"""Tests of typed questions: what is asked, and what a model's weights become."""

import json
from typing import Any

from aiohttp import ClientSession
from hypothesis import given, strategies as st
import pytest

from custom_components.nemotron_security.analysis import AnalysisError, AnalysisProblem
from custom_components.nemotron_security.analysis.chat import ChatModel, ChatServer
from custom_components.nemotron_security.analysis.evaluation import INSTRUCTIONS, as_schema, as_text, read
from custom_components.nemotron_security.analysis.schema import first_object

from .faulty_server import ABLE

QUESTIONS: dict[str, Any] = {
    "rain": {"type": "noul", "instructions": "Does it rain?"},
    "who": {"type": "choice", "instructions": "Who is it?", "criteria": {"post": "a postman", "other": "anyone else"}},
    "risk": {"type": "score", "instructions": "How serious?", "criteria": ["nothing", "a look", "alarm"]},
}
ANSWER = {
    "question_0": {"option_0": 80, "option_1": 20},
    "question_1": {"option_0": 30, "option_1": 10},
    "question_2": {"option_0": 0, "option_1": 50, "option_2": 50},
}
FOUND = {"rain": [0.8, 0.2], "who": [0.75, 0.25], "risk": [0, 0.5, 0.5]}


def test_questions_and_what_they_are_about() -> None:
    text = as_text(QUESTIONS, {"wet": True})
    for words in ('{"wet": true}', "question_1: Who is it?", "- option_0: post: a postman", "- option_2: alarm"):
        assert words in text
    assert "Given" not in as_text(QUESTIONS, None)
    schema = as_schema(QUESTIONS)
    assert set(schema["properties"]["question_2"]["properties"]) == {"option_0", "option_1", "option_2"}


def test_weights_become_probabilities() -> None:
    assert read(f"<think>Hm.</think>{json.dumps(ANSWER)}", QUESTIONS) == FOUND


@pytest.mark.parametrize(
    "weights",
    [
        *({}, None, 5, {"option_0": 0, "option_1": 0}, {"option_0": 50}),
        *({"option_0": 50, "option_1": wrong} for wrong in (-1, 101, "much", None, True)),
    ],
)
def test_missing_or_wrong_weights(weights: object) -> None:
    with pytest.raises(AnalysisError) as error:
        read(json.dumps(ANSWER | {"question_0": weights}), QUESTIONS)
    assert error.value.kind is AnalysisProblem.BAD_ANSWER


@given(
    st.text()
    | st.dictionaries(st.sampled_from([*ANSWER, "x"]), st.dictionaries(st.text(), st.floats())).map(json.dumps)
)
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    with pytest.raises(AnalysisError):
        read(text, QUESTIONS)


async def test_real_server(session: ClientSession, llama_url: str) -> None:
    model = ChatModel(ChatServer(session, llama_url), "nvidia/nemotron-tiny", ABLE)
    question = {"role": "user", "content": as_text(QUESTIONS, "A man with a parcel.")}
    system = {"role": "system", "content": INSTRUCTIONS}
    answer = await model.async_ask(lambda: [system, question], as_schema(QUESTIONS))
    # Its weights are random, but all are there.
    weights = first_object(answer.text)
    assert {name: set(options) for name, options in weights.items()} == {
        name: set(options) for name, options in ANSWER.items()
    }
