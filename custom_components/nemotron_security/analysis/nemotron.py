"""Judges incidents with a NVIDIA Nemotron, or any other model, behind an OpenAI-compatible server."""

from collections.abc import Callable, Sequence
import logging
from typing import Final

from ..models import Assessment
from . import AnalysisError, AnalysisProblem, Case, KeyFrame
from .chat import ChatModel
from .prompt import messages
from .schema import SCHEMA, read_answer

_LOGGER = logging.getLogger(__name__)

NAME: Final = "nemotron"


class NemotronAnalyzer:
    """Judges incidents with a model that speaks OpenAI's chat completions."""

    def __init__(self, model: ChatModel, *, on_refused_pictures: Callable[[], None] = lambda: None) -> None:
        """Prepare; nothing is asked yet.

        Args:
            model: who is asked; its capabilities decide how.
            on_refused_pictures: is told when the model took the question only without the pictures.
        """
        self._model = model
        self._on_refused_pictures = on_refused_pictures

    @property
    def name(self) -> str:
        """What `Assessment.analyzer` says."""
        return NAME

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        """Judge an incident; a model that sees is asked once more without pictures where it refuses them.

        Raises:
            AnalysisError: no assessment could be had.
        """
        if not self._model.capabilities.images:
            pictures = ()
        try:
            return await self._async_assess(case, pictures)
        except AnalysisError as err:
            if not pictures or err.kind is not AnalysisProblem.BAD_REQUEST:
                raise
            _LOGGER.debug("Asking again without pictures: %s", err)
        assessment = await self._async_assess(case, ())
        self._on_refused_pictures()
        return assessment

    async def _async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        answer = await self._model.async_ask(lambda: messages(case, pictures), SCHEMA)
        try:
            return read_answer(answer.text, analyzer=NAME, model=self._model.name, pictures=len(pictures))
        except AnalysisError as err:
            if answer.finished:
                raise
            raise AnalysisError(AnalysisProblem.BAD_ANSWER, "the answer was cut off") from err
