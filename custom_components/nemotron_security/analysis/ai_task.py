"""Judges incidents with any AI Task entity of Home Assistant."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from homeassistant.components import ai_task
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    ObjectSelector,
    ObjectSelectorConfig,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
)
import probatio as vol

from ..const import DOMAIN
from ..models import Assessment
from . import AnalysisError, AnalysisProblem, Capabilities, Case, KeyFrame
from .chat import ANSWER_TIME
from .prompt import messages, preview
from .schema import CATEGORIES, FRAME_MEANS, MOST_PICTURES, read_answer, read_values

NAME: Final = "ai_task"

_TEXT: Final = TextSelector()
STRUCTURE: Final = vol.Schema(
    {
        vol.Required("evidence"): ObjectSelector(
            ObjectSelectorConfig(
                multiple=True,
                fields={
                    "claim": {"label": "Claim", "required": True, "selector": {"text": {}}},
                    "frame": {
                        "label": FRAME_MEANS,
                        "required": True,
                        "selector": {"number": {"min": 0, "max": MOST_PICTURES}},
                    },
                },
            )
        ),
        vol.Required("reasoning"): _TEXT,
        vol.Required("category"): SelectSelector(SelectSelectorConfig(options=list(CATEGORIES))),
        vol.Required("risk_score", description="0 to 100"): NumberSelector(NumberSelectorConfig(min=0, max=100)),
        vol.Required("confidence", description="0 to 1"): NumberSelector(
            NumberSelectorConfig(min=0, max=1, step="any")
        ),
        vol.Required("title", description="A few words"): _TEXT,
        vol.Required("summary", description="One sentence for a phone's notification"): _TEXT,
        vol.Required("recommended_action"): _TEXT,
    }
)


def capabilities_of(state: State | None) -> Capabilities | None:
    """Return what an AI Task entity says that it can do; null for one that generates no data."""
    features = ai_task.AITaskEntityFeature(state.attributes.get("supported_features", 0) if state else 0)
    if ai_task.AITaskEntityFeature.GENERATE_DATA not in features:
        return None
    return Capabilities(schema=True, images=ai_task.AITaskEntityFeature.SUPPORT_ATTACHMENTS in features)


class AiTaskAnalyzer:
    """Judges incidents with a task for an AI Task entity; the pictures go along as media of ours."""

    def __init__(
        self, hass: HomeAssistant, entity_id: str, *, answer_time: Callable[[], float] = lambda: ANSWER_TIME
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            hass: Home Assistant.
            entity_id: the entity that is asked.
            answer_time: gives the seconds that it may take now.
        """
        self._hass = hass
        self._entity_id = entity_id
        self._answer_time = answer_time

    @property
    def name(self) -> str:
        """What `Assessment.analyzer` says."""
        return NAME

    @property
    def sees(self) -> bool:
        """Whether the entity takes pictures now."""
        able = capabilities_of(self._hass.states.get(self._entity_id))
        return able is not None and able.images

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        """Judge an incident; pictures that are not stored, or that the entity does not take, are left out.

        Raises:
            AnalysisError: no assessment could be had.
        """
        state = self._hass.states.get(self._entity_id)
        if (able := capabilities_of(state)) is None:
            raise AnalysisError(AnalysisProblem.MODEL_NOT_FOUND, f"no such entity: {self._entity_id}")
        if state is not None and state.state == STATE_UNAVAILABLE:
            raise AnalysisError(AnalysisProblem.UNREACHABLE, f"{self._entity_id} is unavailable")
        shown = _shown(pictures, able)
        instructions = await asyncio.to_thread(_instructions, case, shown)
        answer = await self._async_generate(instructions, [_attachment(picture) for picture in shown])
        numbers = [picture.picture_id for picture in shown]
        if isinstance(answer, dict):
            return read_values(answer, analyzer=NAME, model=self._entity_id, pictures=numbers)
        return read_answer(str(answer), analyzer=NAME, model=self._entity_id, pictures=numbers)

    async def _async_generate(self, instructions: str, attachments: list[dict[str, Any]]) -> object:
        try:
            async with asyncio.timeout(self._answer_time()):
                result = await ai_task.async_generate_data(
                    self._hass,
                    task_name="Security incident",
                    entity_id=self._entity_id,
                    instructions=instructions,
                    structure=STRUCTURE,
                    attachments=attachments or None,
                )
        except TimeoutError:
            raise AnalysisError(AnalysisProblem.NO_ANSWER, "TimeoutError") from None
        except Exception as err:
            # Another integration's: it may raise whatever its library does, with a text that may hold what is secret.
            raise AnalysisError(AnalysisProblem.SERVER_ERROR, type(err).__name__) from err
        return result.data


def preview_task(case: Case, pictures: Sequence[KeyFrame], able: Capabilities) -> list[Any]:
    """Return what an entity would be given, for people to read: one text, and the size of each picture that goes along.

    Not for the event loop, as for `prompt.messages`.
    """
    shown = _shown(pictures, able)
    text = _instructions(case, shown)
    if not shown:
        return [{"role": "user", "content": text}]
    _, user = preview(case, shown)
    sizes = [part for part in user["content"] if part["type"] == "image_url"]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *sizes]}]


def _shown(pictures: Sequence[KeyFrame], able: Capabilities) -> list[KeyFrame]:
    return [picture for picture in pictures if picture.picture_id is not None] if able.images else []


def _instructions(case: Case, shown: Sequence[KeyFrame]) -> str:
    """Return the prompt as one text, with the captions of the pictures that go along in this order."""
    system, user = messages(case, shown)
    parts = user["content"] if isinstance(user["content"], list) else [{"type": "text", "text": user["content"]}]
    return "\n".join([system["content"], "", *(part["text"] for part in parts if part["type"] == "text")])


def _attachment(picture: KeyFrame) -> dict[str, Any]:
    return {
        "media_content_id": f"media-source://{DOMAIN}/picture/{picture.picture_id}",
        "media_content_type": "image/jpeg",
    }
