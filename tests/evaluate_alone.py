"""Evaluates questions with our AI Task entity: a program of its own, for a Home Assistant that has evaluation.

Its argument is the address of a server with a model `nemotron`; it prints the answers as JSON.
"""

import asyncio
import json
from pathlib import Path
import sys
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from aiohttp import ClientSession
from homeassistant.components import ai_task

from custom_components.nemotron_security.ai_task import NemotronTask
from custom_components.nemotron_security.analysis import Capabilities
from custom_components.nemotron_security.analysis.budget import Budget
from custom_components.nemotron_security.analysis.chat import ChatModel, ChatServer

QUESTIONS = {
    "rain": {"type": "noul", "instructions": "Does it rain?"},
    "who": {"type": "choice", "instructions": "Who is it?", "criteria": {"post": "a postman", "other": "anyone else"}},
    "risk": {"type": "score", "instructions": "How serious?", "criteria": ["nothing", "a look", "alarm"]},
}


async def evaluate(url: str) -> dict[str, Any]:
    """Ask the server."""
    types: Any = ai_task
    async with ClientSession() as session:
        model = ChatModel(ChatServer(session, url), "nemotron", Capabilities(schema=True))
        watch = SimpleNamespace(model=model, budget=Budget())
        entity: Any = NemotronTask(SimpleNamespace(entry_id="x"), watch)  # type: ignore[arg-type]
        assert types.AITaskEntityFeature.EVALUATE in entity.supported_features
        task = types.EvaluationTask(name="test", questions=QUESTIONS, state={"wet": True})
        return dict((await entity._async_evaluate(task)).as_dict()["answers"])


if __name__ == "__main__":
    print(json.dumps(asyncio.run(evaluate(sys.argv[1]))))  # noqa: T201
