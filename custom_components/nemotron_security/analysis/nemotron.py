"""Judges incidents with a NVIDIA Nemotron, or any other model, behind an OpenAI-compatible server."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
import logging
from typing import Final

from ..models import Assessment
from . import AnalysisError, AnalysisProblem, Case, KeyFrame, TooLongError
from .chat import GREETING, ChatModel, Message
from .question import Question, question
from .schema import SCHEMA, read_answer

_LOGGER = logging.getLogger(__name__)

NAME: Final = "nemotron"
MOST_TRIES: Final = 5
"""Questions about one incident at one time, each shorter than the one before."""


class _Asking:
    """A question that is built when it is asked, in the thread that encodes it: a thread of its own would cost more."""

    question: Question
    """Once it was built."""

    def __init__(self, build: Callable[[], Question]) -> None:
        self._build = build
        self._built = False

    def messages(self) -> list[Message]:
        """Return the messages. Not for the event loop."""
        if not self._built:
            self.question, self._built = self._build(), True
        return self.question.messages


class NemotronAnalyzer:
    """Judges incidents with a model that speaks OpenAI's chat completions."""

    def __init__(
        self,
        model: ChatModel,
        *,
        on_refused_pictures: Callable[[], None] = lambda: None,
        on_repeat: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            model: who is asked; its capabilities decide how.
            on_refused_pictures: is told when the model took the question only without the pictures.
            on_repeat: is told of each question beyond the first about an incident, before it is asked.
        """
        self._model = model
        self._on_refused_pictures = on_refused_pictures
        self._on_repeat = on_repeat

    @property
    def name(self) -> str:
        """What `Assessment.analyzer` says."""
        return NAME

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        """Judge an incident.

        What is too long for the model is asked again with less; a model that sees but refuses the pictures is asked
        again without them. Where all was refused, a greeting shows whether that is for this question's sake.

        Raises:
            AnalysisError: no assessment could be had.
        """
        try:
            return await self._async_assess(case, pictures)
        except AnalysisError as err:
            if err.kind is not AnalysisProblem.BAD_REQUEST:
                raise
            await self._async_greet(err)
            raise

    async def _async_greet(self, refused: AnalysisError) -> None:
        """See whether the server refuses this question only.

        Raises:
            AnalysisError: it does not answer the simplest one either.
        """
        self._on_repeat()
        try:
            await self._model.async_ask(lambda: GREETING)
        except AnalysisError as err:
            if err.kind is AnalysisProblem.BAD_REQUEST:
                raise AnalysisError(AnalysisProblem.INCOMPATIBLE, refused.detail) from None
            if err.kind is not AnalysisProblem.BAD_ANSWER:
                raise

    async def _async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        asked = self._asking(case, pictures)
        for _ in range(MOST_TRIES - 1):
            try:
                return await self._async_ask(asked)
            except TooLongError as err:
                self._model.window.refused(asked.question.size, err)
                shorter = self._asking(case, pictures)
                await asyncio.to_thread(shorter.messages)
                if shorter.question.size == asked.question.size:
                    raise
                _LOGGER.debug("Asking again with less: %s", err)
                asked = shorter
            except AnalysisError as err:
                if err.kind is not AnalysisProblem.BAD_REQUEST or not asked.question.pictures:
                    raise
                _LOGGER.debug("Asking again without pictures: %s", err)
                return await self._async_assess_blindly(case)
            self._on_repeat()
        return await self._async_ask(asked)

    async def _async_assess_blindly(self, case: Case) -> Assessment:
        self._on_repeat()
        assessment = await self._async_ask(self._asking(case, ()))
        self._on_refused_pictures()
        return assessment

    def _asking(self, case: Case, pictures: Sequence[KeyFrame]) -> _Asking:
        return _Asking(partial(question, case, pictures, self._model.capabilities, self._model.window))

    async def _async_ask(self, asked: _Asking) -> Assessment:
        answer = await self._model.async_ask(asked.messages, SCHEMA)
        self._model.window.answered(asked.question.size, answer.prompt_tokens)
        try:
            return read_answer(
                answer.text, analyzer=NAME, model=self._model.name, pictures=len(asked.question.pictures)
            )
        except AnalysisError as err:
            if answer.finished:
                raise
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the answer was cut off") from err
