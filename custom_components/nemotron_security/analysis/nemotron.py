"""Judges incidents with a NVIDIA Nemotron, or any other model, behind an OpenAI-compatible server."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
import logging
from typing import Final

from ..models import Assessment
from . import (
    AnalysisError,
    AnalysisProblem,
    Capabilities,
    Case,
    KeyFrame,
    SchemaRefusedError,
    TooLongError,
    TooManyPicturesError,
)
from .chat import GREETING, ChatModel, Message
from .question import SMALL_SIDES, Question, question
from .schema import SCHEMA, read_answer
from .window import Show

_LOGGER = logging.getLogger(__name__)

NAME: Final = "nemotron"
MOST_TRIES: Final = 6
"""Questions about one incident at one time, each asking for less of the server than the one before."""


class _Asking:
    """A question that is built when it is asked, in the thread that encodes it: a thread of its own would cost more."""

    question: Question
    """Once it was built."""

    def __init__(self, build: Callable[[], Question], able: Capabilities, show: Show) -> None:
        self._build = build
        self.able = able
        self.show = show
        self._built = False

    def messages(self) -> list[Message]:
        """Return the messages. Not for the event loop."""
        if not self._built:
            self.question, self._built = self._build(), True
        return self.question.messages


SMALL: Final = Show(1, SMALL_SIDES[-1])
"""Shown where a server refuses pictures without saying why: the closest view alone."""
NONE: Final = Show(0)


class NemotronAnalyzer:
    """Judges incidents with a model that speaks OpenAI's chat completions."""

    def __init__(
        self,
        model: ChatModel,
        *,
        on_pictures: Callable[[str | None], None] = lambda _: None,
        on_refused_schema: Callable[[], None] = lambda: None,
        on_repeat: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            model: who is asked; its capabilities decide how.
            on_pictures: is told what the server said when it took a question only with fewer pictures or none; null
                when it takes as many again.
            on_refused_schema: is told when it took a question only with the answer's schema in words.
            on_repeat: is told of each question beyond the first about an incident, before it is asked.
        """
        self._model = model
        self._on_pictures = on_pictures
        self._on_refused_schema = on_refused_schema
        self._refused = 0
        """Pictures that the server refused at once."""
        self._on_repeat = on_repeat

    @property
    def name(self) -> str:
        """What `Assessment.analyzer` says."""
        return NAME

    @property
    def sees(self) -> bool:
        """Whether the model sees pictures now."""
        return self._model.capabilities.images

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        """Judge an incident.

        What is too long for the model is asked again with less; of a schema that its server refuses it is told in
        words; where pictures are refused it is shown as many as the server takes, else one that is small, else none.
        Where all was refused, a greeting shows whether that is for this question's sake.

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
        asked, refusal = self._asking(case, pictures, self._model.window.show), ""
        for _ in range(MOST_TRIES - 1):
            try:
                assessment = await self._async_ask(asked)
            except AnalysisError as err:
                _LOGGER.debug("Asking again in another way: %s", err)
                if (again := await self._async_otherwise(case, pictures, asked, err)) is None:
                    raise
                if again.show != asked.show:
                    refusal = err.detail
                asked = again
            else:
                self._note_pictures(asked, refusal)
                return assessment
            self._on_repeat()
        return await self._async_ask(asked)

    async def _async_otherwise(
        self, case: Case, pictures: Sequence[KeyFrame], asked: _Asking, err: AnalysisError
    ) -> _Asking | None:
        """Return another question about the incident, after this one was refused; null if there is none to ask."""
        if err.kind not in (AnalysisProblem.BAD_REQUEST, AnalysisProblem.TOO_LONG):
            return None
        if isinstance(err, TooLongError):
            self._model.window.refused(asked.question.size, err)
            shorter = self._asking(case, pictures, asked.show)
            await asyncio.to_thread(shorter.messages)
            return shorter if shorter.question.size != asked.question.size else None
        if isinstance(err, SchemaRefusedError) and asked.able.schema:
            self._model.capabilities = replace(self._model.capabilities, schema=False)
            self._on_refused_schema()
            return self._asking(case, pictures, asked.show)
        if not (shown := len(asked.question.pictures)):
            return None
        self._refused = max(self._refused, shown)
        if isinstance(err, TooManyPicturesError) and err.most < shown:
            return self._asking(case, pictures, Show(err.most, asked.show.side))
        return self._asking(case, pictures, NONE if asked.show == SMALL else SMALL)

    def _note_pictures(self, asked: _Asking, refusal: str) -> None:
        """Remember what the server took, as long as the pictures and not a damaged one were to blame."""
        shown = len(asked.question.pictures)
        if refusal:
            if shown or asked.show == NONE:
                self._model.window.limit(asked.show)
            self._on_pictures(refusal)
        elif self._refused and shown >= self._refused:
            self._refused = 0
            self._on_pictures(None)

    def _asking(self, case: Case, pictures: Sequence[KeyFrame], show: Show) -> _Asking:
        able = self._model.capabilities
        return _Asking(partial(question, case, pictures, able, self._model.window, show), able, show)

    async def _async_ask(self, asked: _Asking) -> Assessment:
        answer = await self._model.async_ask(asked.messages, SCHEMA)
        self._model.window.answered(asked.question.size, answer.prompt_tokens)
        try:
            shown = [picture.picture_id for picture in asked.question.pictures]
            return read_answer(answer.text, analyzer=NAME, model=answer.model or self._model.name, pictures=shown)
        except AnalysisError as err:
            if answer.finished:
                raise
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the answer was cut off") from err
