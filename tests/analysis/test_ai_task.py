"""Tests of the analyzer that asks any AI Task entity: with a real AI Task component and a real media source."""

import asyncio
from collections.abc import Callable
from pathlib import Path
import time
from typing import Any

from homeassistant.components import ai_task, conversation
from homeassistant.components.ai_task import AITaskEntityFeature as Feature
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.helpers.entity_component import EntityComponent
from homeassistant.setup import async_setup_component
import pytest

from custom_components.nemotron_security.analysis import AnalysisError, AnalysisProblem, KeyFrame
from custom_components.nemotron_security.analysis.ai_task import AiTaskAnalyzer
from custom_components.nemotron_security.const import DOMAIN

from ..house import (
    ABSENT_FILE,
    CAMERA,
    async_report,
    async_set_up,
    async_until,
    frame,
    make_entry,
    online,
    person,
)
from ..test_media_source import NOON, add, entry  # noqa: F401
from .cases import DAY, case
from .test_schema import ANSWER, TEXT

ENTITY = "ai_task.judge"


class Judge(ai_task.AITaskEntity):
    """An AI Task entity that answers as a test says."""

    entity_id = ENTITY

    def __init__(self) -> None:
        self._attr_supported_features = Feature.GENERATE_DATA | Feature.SUPPORT_ATTACHMENTS
        self.tasks: list[ai_task.GenDataTask] = []
        self.pictures: list[bytes] = []
        self.answer: Callable[[], Any] = lambda: ANSWER

    async def _async_generate_data(
        self, task: ai_task.GenDataTask, chat_log: conversation.ChatLog
    ) -> ai_task.GenDataTaskResult:
        self.tasks.append(task)
        paths: list[Path] = [attachment.path for attachment in task.attachments or ()]
        self.pictures = [await self.hass.async_add_executor_job(path.read_bytes) for path in paths]
        answer = self.answer()
        if asyncio.iscoroutine(answer):
            answer = await answer
        return ai_task.GenDataTaskResult(conversation_id=chat_log.conversation_id, data=answer)


@pytest.fixture
async def judge(hass: HomeAssistant) -> Judge:
    assert await async_setup_component(hass, "homeassistant", {})
    assert await async_setup_component(hass, "ai_task", {})
    component: EntityComponent[Any] = hass.data[ai_task.const.DATA_COMPONENT]
    judge = Judge()
    await component.async_add_entities([judge])
    return judge


def key_frame(picture_id: int | None) -> KeyFrame:
    return KeyFrame(track_id=1, captured_at=DAY, jpeg=b"scaled", picture_id=picture_id)


async def failure(hass: HomeAssistant, *, seconds: float = 30) -> AnalysisError:
    with pytest.raises(AnalysisError) as error:
        await AiTaskAnalyzer(hass, ENTITY, answer_time=lambda: seconds).async_assess(case(), ())
    return error.value


async def test_stored_pictures_go_along(hass: HomeAssistant, judge: Judge, entry: Any) -> None:  # noqa: F811
    assert entry.state is ConfigEntryState.LOADED
    incident = await add(entry, NOON)
    verdict = await AiTaskAnalyzer(hass, ENTITY).async_assess(
        case(note="The postman comes at noon."), [key_frame(incident.picture_id), key_frame(None)]
    )
    assert (verdict.analyzer, verdict.model, verdict.risk_score) == ("ai_task", ENTITY, 92)
    # It was shown one picture: evidence in a second one is none.
    assert verdict.evidence == ("a man with a crowbar", "nobody is home")
    assert verdict.shown == (incident.picture_id,)
    (task,) = judge.tasks
    assert "The postman comes at noon." in task.instructions
    assert "Picture 1 of 1" in task.instructions
    assert "risk score" in task.instructions
    assert len(judge.pictures) == 1
    assert judge.pictures[0].startswith(b"\xff\xd8")
    assert incident.camera_id == CAMERA


async def test_structure_is_what_the_schema_says(hass: HomeAssistant, judge: Judge) -> None:
    await AiTaskAnalyzer(hass, ENTITY).async_assess(case(), ())
    structure = judge.tasks[0].structure
    assert structure is not None
    assert {marker.schema for marker in structure.schema} == set(ANSWER)
    assert structure(ANSWER)["risk_score"] == 92


async def test_entity_without_attachments_is_shown_nothing(hass: HomeAssistant, judge: Judge) -> None:
    judge._attr_supported_features = Feature.GENERATE_DATA
    judge.async_write_ha_state()
    verdict = await AiTaskAnalyzer(hass, ENTITY).async_assess(case(), [key_frame(1)])
    assert verdict.risk_score == 92
    assert judge.tasks[0].attachments is None
    assert "Picture 1" not in judge.tasks[0].instructions


async def test_answer_as_text_is_read_too(hass: HomeAssistant, judge: Judge) -> None:
    judge.answer = lambda: f"```json\n{TEXT}\n```"
    assert (await AiTaskAnalyzer(hass, ENTITY).async_assess(case(), ())).risk_score == 92


@pytest.mark.parametrize("answer", [None, 92, [], "Nothing happens.", {}, ANSWER | {"risk_score": 101}])
async def test_bad_answers(hass: HomeAssistant, judge: Judge, answer: object) -> None:
    judge.answer = lambda: answer
    assert (await failure(hass)).kind is AnalysisProblem.BAD_ANSWER


async def test_entity_that_fails(hass: HomeAssistant, judge: Judge) -> None:
    def fail() -> Any:
        raise RuntimeError("key sk-secret is wrong")

    judge.answer = fail
    error = await failure(hass)
    assert error.kind is AnalysisProblem.SERVER_ERROR
    assert "sk-secret" not in str(error)


async def test_entity_that_hangs(hass: HomeAssistant, judge: Judge) -> None:
    judge.answer = asyncio.Event().wait
    assert (await failure(hass, seconds=0.1)).kind is AnalysisProblem.NO_ANSWER


async def test_entity_that_is_not_there(hass: HomeAssistant, judge: Judge) -> None:
    judge._attr_available = False
    judge.async_write_ha_state()
    assert (await failure(hass)).kind is AnalysisProblem.UNREACHABLE
    await judge.async_remove()
    assert (await failure(hass)).kind is AnalysisProblem.MODEL_NOT_FOUND


async def test_entry_is_judged_by_the_entity_whatever_it_is_called(
    hass: HomeAssistant, judge: Judge, silent_worker: None, entity_registry: er.EntityRegistry
) -> None:
    registered = entity_registry.async_get_or_create("ai_task", "elsewhere", "x")
    subject = make_entry(ABSENT_FILE, data={"analyzer": "ai_task", "ai_task_entity": registered.entity_id})
    await async_set_up(hass, subject)
    entity_registry.async_update_entity(registered.entity_id, new_entity_id="ai_task.renamed")
    await hass.async_block_till_done()
    assert subject.data["ai_task_entity"] == "ai_task.renamed"
    (analyst,) = subject.runtime_data._analysts
    assert isinstance(analyst._analyzer, AiTaskAnalyzer)
    assert analyst._analyzer._entity_id == "ai_task.renamed"
    assert subject.runtime_data.model_watch is None


async def test_entity_that_is_gone_is_a_repair_issue(
    hass: HomeAssistant, judge: Judge, silent_worker: None, issue_registry: ir.IssueRegistry
) -> None:
    subject = make_entry(ABSENT_FILE, data={"analyzer": "ai_task", "ai_task_entity": "ai_task.gone"})
    await async_set_up(hass, subject)
    now = time.time()
    await async_report(hass, subject, online(), frame(person(at=now), at=now))
    await async_until(lambda: issue_registry.async_get_issue(DOMAIN, "analyzer"))
    issue = issue_registry.async_get_issue(DOMAIN, "analyzer")
    assert issue is not None
    assert issue.translation_key == "model_task_gone"
    assert issue.translation_placeholders == {"model": "ai_task.gone"}


async def test_a_floor_that_begins_to_hold_is_told_at_once(
    hass: HomeAssistant, judge: Judge, silent_worker: None
) -> None:
    judge.answer = lambda: ANSWER | {"risk_score": 61}
    hass.states.async_set("alarm_control_panel.house", "armed_away")
    hass.states.async_set("binary_sensor.door", "off", {"device_class": "door"})
    subject = make_entry(
        ABSENT_FILE,
        data={"analyzer": "ai_task", "ai_task_entity": ENTITY},
        options={"opening_delay": 0, "cooldown": 0},
    )
    await async_set_up(hass, subject)
    coordinator = subject.runtime_data.cameras[CAMERA]
    now = time.time()
    await async_report(hass, subject, online(), frame(person(at=now), at=now))
    await async_until(lambda: coordinator.data.incident.analyzer == "ai_task")
    assert coordinator.data.incident.risk_score == 61
    hass.states.async_set("binary_sensor.door", "on", {"device_class": "door"})
    await async_report(hass, subject, frame(person(at=now + 2, since=now), at=now + 2))
    assert coordinator.data.incident.risk_score == 85
    await async_until(lambda: len(judge.tasks) == 2)


@pytest.mark.parametrize("before", [True, False])
async def test_entity_that_no_longer_takes_pictures_is_a_repair_issue(
    hass: HomeAssistant, judge: Judge, silent_worker: None, issue_registry: ir.IssueRegistry, *, before: bool
) -> None:
    remembered = {"schema": True, "images": before, "context_length": None}
    data = {"analyzer": "ai_task", "ai_task_entity": ENTITY, "capabilities": remembered}

    async def says(features: Feature, *, available: bool = True) -> str | None:
        judge._attr_supported_features, judge._attr_available = features, available
        judge.async_write_ha_state()
        await hass.async_block_till_done()
        issue = issue_registry.async_get_issue(DOMAIN, "analyzer_images")
        return issue.translation_key if issue else None

    await says(Feature.GENERATE_DATA)
    subject = await async_set_up(hass, make_entry(ABSENT_FILE, data=data))
    issue = issue_registry.async_get_issue(DOMAIN, "analyzer_images")
    assert (issue is not None) is before  # at the start
    assert await says(Feature.GENERATE_DATA | Feature.SUPPORT_ATTACHMENTS) is None
    assert await says(Feature.GENERATE_DATA, available=False) is None  # it says nothing of itself now
    assert await says(Feature.GENERATE_DATA) == ("model_images_lost" if before else None)
    await hass.config_entries.async_unload(subject.entry_id)
    assert issue_registry.async_get_issue(DOMAIN, "analyzer_images") is None
