"""Judges incidents with a NVIDIA Nemotron, or any other model, behind an OpenAI-compatible server."""

import asyncio
from collections.abc import Callable, Sequence
import logging
from typing import Final

from ..models import Assessment
from . import AnalysisError, AnalysisProblem, Case, KeyFrame, TooLongError
from .chat import ChatModel
from .question import Question, question
from .schema import SCHEMA, read_answer

_LOGGER = logging.getLogger(__name__)

NAME: Final = "nemotron"
MOST_TRIES: Final = 5
"""Questions about one incident at one time, each shorter than the one before."""


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
        again without them.

        Raises:
            AnalysisError: no assessment could be had.
        """
        asked = await self._async_question(case, pictures)
        for _ in range(MOST_TRIES - 1):
            try:
                return await self._async_ask(asked)
            except TooLongError as err:
                self._model.window.refused(asked.size, err)
                shorter = await self._async_question(case, pictures)
                if shorter.size == asked.size:
                    raise
                _LOGGER.debug("Asking again with less: %s", err)
                asked = shorter
            except AnalysisError as err:
                if not asked.pictures or err.kind is not AnalysisProblem.BAD_REQUEST:
                    raise
                _LOGGER.debug("Asking again without pictures: %s", err)
                return await self._async_assess_blindly(case)
            self._on_repeat()
        return await self._async_ask(asked)

    async def _async_assess_blindly(self, case: Case) -> Assessment:
        asked = await self._async_question(case, ())
        self._on_repeat()
        assessment = await self._async_ask(asked)
        self._on_refused_pictures()
        return assessment

    async def _async_question(self, case: Case, pictures: Sequence[KeyFrame]) -> Question:
        return await asyncio.to_thread(question, case, pictures, self._model.capabilities, self._model.window)

    async def _async_ask(self, asked: Question) -> Assessment:
        answer = await self._model.async_ask(lambda: asked.messages, SCHEMA)
        self._model.window.answered(asked.size, answer.prompt_tokens)
        try:
            return read_answer(answer.text, analyzer=NAME, model=self._model.name, pictures=len(asked.pictures))
        except AnalysisError as err:
            if answer.finished:
                raise
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the answer was cut off") from err
