"""The configured model as an AI Task entity, so that automations can ask it too."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, override

from homeassistant.components import ai_task, conversation
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import llm
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
import probatio as vol

from .analysis import AnalysisError, AnalysisProblem, evaluation
from .analysis.chat import Message, picture_part
from .analysis.schema import first_object
from .const import DOMAIN
from .model_watch import ModelWatch

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0

# Home Assistant evaluates since 2026.11.
_EVALUATE: Final = getattr(ai_task.AITaskEntityFeature, "EVALUATE", None)
_TYPES: Final[Any] = ai_task
FAILURES: Final = {
    AnalysisProblem.UNREACHABLE: "task_unreachable",
    AnalysisProblem.NO_ANSWER: "task_no_answer",
    AnalysisProblem.UNAUTHORIZED: "task_unauthorized",
    AnalysisProblem.NO_CREDIT: "task_no_credit",
    AnalysisProblem.INCOMPATIBLE: "task_bad_request",
    AnalysisProblem.MODEL_NOT_FOUND: "task_model_not_found",
    AnalysisProblem.RATE_LIMITED: "task_rate_limited",
    AnalysisProblem.BAD_ANSWER: "task_bad_answer",
    AnalysisProblem.BAD_REQUEST: "task_bad_request",
    AnalysisProblem.TOO_LONG: "task_too_long",
    AnalysisProblem.SERVER_ERROR: "task_server_error",
    AnalysisProblem.BUSY: "task_busy",
}
"""What a task says that the model gave no answer to."""


async def async_setup_entry(
    hass: HomeAssistant, entry: NemotronSecurityConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Offer the model that we ask ourselves."""
    if (watch := entry.runtime_data.model_watch) is not None:
        async_add_entities([NemotronTask(entry, watch)])


class NemotronTask(ai_task.AITaskEntity):
    """Generates data, with pictures as far as the model was seen to read them."""

    _attr_has_entity_name = True
    _attr_translation_key = "model"

    def __init__(self, entry: NemotronSecurityConfigEntry, watch: ModelWatch) -> None:
        """Belong to the whole system's device."""
        self._entry = entry
        self._watch = watch
        self._attr_unique_id = f"{entry.entry_id}_ai_task"
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, entry.entry_id)})

    @override
    async def async_added_to_hass(self) -> None:
        """Follow what the model is seen to do."""
        self.async_on_remove(self._watch.async_listen(self.async_write_ha_state))

    @property
    @override
    def supported_features(self) -> ai_task.AITaskEntityFeature:  # not cached: the model may be tried again
        """Return what the model can do now."""
        features = ai_task.AITaskEntityFeature.GENERATE_DATA
        if self._watch.model.capabilities.images:
            features |= ai_task.AITaskEntityFeature.SUPPORT_ATTACHMENTS
        return features if _EVALUATE is None else features | _EVALUATE

    @override
    async def _async_generate_data(
        self, task: ai_task.GenDataTask, chat_log: conversation.ChatLog
    ) -> ai_task.GenDataTaskResult:
        """Ask the model.

        Raises:
            HomeAssistantError: it did not answer, or not with what was asked for.
        """
        if chat_log.llm_api is not None:
            raise HomeAssistantError(translation_domain=DOMAIN, translation_key="no_tools")
        earlier, files = _texts(chat_log.content[:-1]), _files(task.attachments)
        schema = None if task.structure is None else _json_schema(task.structure)
        text = await self._async_ask(lambda: [*earlier, _question(task.instructions, files)], schema)
        chat_log.async_add_assistant_content_without_tools(
            conversation.AssistantContent(agent_id=self.entity_id, content=text)
        )
        data = text if task.structure is None else _structured(text, task.structure)
        return ai_task.GenDataTaskResult(conversation_id=chat_log.conversation_id, data=data)

    async def _async_evaluate(self, task: Any) -> Any:  # its types are newer than the oldest Home Assistant
        """Let the model weigh the options of each question.

        Raises:
            HomeAssistantError: it did not answer, or not every question.
        """
        files, asked = _files(task.attachments), evaluation.as_text(task.questions, task.state)
        system: Message = {"role": "system", "content": evaluation.INSTRUCTIONS}
        text = await self._async_ask(lambda: [system, _question(asked, files)], evaluation.as_schema(task.questions))
        try:
            found = evaluation.read(text, task.questions)
        except AnalysisError as err:
            raise _failure(err) from err
        return _TYPES.EvaluationTaskResult(
            answers={name: _evaluated(question, found[name]) for name, question in task.questions.items()}
        )

    async def _async_ask(self, messages: Callable[[], list[Message]], schema: Mapping[str, Any] | None) -> str:
        """Return what the model answers; a key that is refused is asked for anew."""
        self._watch.budget.note(for_user=True)
        try:
            return (await self._watch.model.async_ask(messages, schema)).text
        except AnalysisError as err:
            if err.kind is AnalysisProblem.UNAUTHORIZED:
                self._entry.async_start_reauth(self.hass)
            raise _failure(err) from err
        except OSError as err:
            raise HomeAssistantError(translation_domain=DOMAIN, translation_key="attachment_unreadable") from err


def _failure(err: AnalysisError) -> HomeAssistantError:
    return HomeAssistantError(
        translation_domain=DOMAIN,
        translation_key=FAILURES[err.kind],
        translation_placeholders={"detail": err.detail or "-"},
    )


def _files(attachments: Sequence[conversation.Attachment] | None) -> list[tuple[Path, str]]:
    """Return the pictures to read, with their types."""
    files = [(attachment.path, attachment.mime_type) for attachment in attachments or ()]
    if any(not mime_type.startswith("image/") for _, mime_type in files):
        raise HomeAssistantError(translation_domain=DOMAIN, translation_key="only_pictures")
    return files


def _texts(content: Sequence[conversation.Content]) -> list[Message]:
    return [
        {"role": item.role, "content": item.content}
        for item in content
        if isinstance(item, conversation.SystemContent | conversation.UserContent | conversation.AssistantContent)
    ]


def _question(text: str, files: Sequence[tuple[Path, str]]) -> Message:
    """Return what the user asks, with the pictures read from their files: not for the event loop."""
    pictures = [picture_part(path.read_bytes(), mime_type) for path, mime_type in files]
    return {"role": "user", "content": [{"type": "text", "text": text}, *pictures] if pictures else text}


def _json_schema(structure: vol.Schema) -> dict[str, Any]:
    schema: dict[str, Any] = vol.to_openapi(
        structure, custom_serializer=llm.selector_serializer, openapi_version="3.1.0"
    )
    return schema


def _structured(text: str, structure: vol.Schema) -> Any:
    """Return the answer as its structure wants it; what was not asked for is left out."""
    try:
        return vol.Schema(structure.schema, extra=vol.REMOVE_EXTRA)(first_object(text))
    except vol.Invalid as err:
        raise _failure(AnalysisError(AnalysisProblem.BAD_ANSWER, str(err))) from err


def _evaluated(question: Mapping[str, Any], probabilities: list[float]) -> Any:
    match question["type"]:
        case "noul":
            return _TYPES.NoulAnswer(noul=probabilities[0])
        case "choice":
            by_name = dict(zip(question["criteria"], probabilities, strict=True))
            return _TYPES.ChoiceAnswer(choice=max(by_name, key=by_name.__getitem__), probabilities=by_name)
        case _:
            score = sum(level * probability for level, probability in enumerate(probabilities))
            return _TYPES.ScoreAnswer(score=score, probabilities=probabilities)
