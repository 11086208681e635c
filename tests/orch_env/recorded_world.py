"""A few hand-written recordings and tasks on a real cache file, for tests of the environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orch_env.cache import open_cache
from orch_env.env import ToolOrchestrationEnv
from orch_env.tasks.files import save_tasks
from orch_env.types import GoldCall, Provenance, Task, ToolCall, ToolSpec, ValueRef

SEARCH = ToolSpec(
    "search_city",
    "Find a city by name.",
    {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
        "additionalProperties": False,
    },
)
WEATHER = ToolSpec(
    "weather",
    "Weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "integer"},
            "unit": {"type": "string", "enum": ["C", "F"]},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
LONG_TEXT = json.dumps({"data": ["é" * 50] * 40}, ensure_ascii=False)
RECORDINGS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("search_city", {"query": "Zürich"}, '{"data": {"id": 7,  "name": "Zürich"}}'),
    ("search_city", {"query": "Oslo"}, '{"data": {"id": 9}}'),
    ("search_city", {"query": "everything"}, LONG_TEXT),
    ("weather", {"city": 7}, '{"data": "sun\\u2028 and \\ud83c\\udf27"}'),
    ("weather", {"city": 9}, '{"data": "snow"}'),
)


TWICE = ("weather", {"city": 11}, ('{"data": "rain"}', '{"data": "rain, later sun"}'))


def make_tasks(answers: Sequence[str]) -> list[Task]:
    """Two dependent calls; with follow-ups; no gold calls; one call with two recorded answers.

    Args:
        answers: digests of the two recorded answers.
    """
    from_search = {"/city": ValueRef(Provenance.OUTPUT, call=0, path="/data/id")}
    from_query = {"/query": ValueRef(Provenance.QUERY)}
    names = ("search_city", "weather")
    zurich = Task(
        id="zurich",
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Zürich?"},
        ),
        tools=names,
        gold=(
            (GoldCall("search_city", {"query": "Zürich"}, provenance=from_query),),
            (GoldCall("weather", {"city": 7}, depends_on=(0,), provenance=from_search),),
        ),
        metadata={"split": "train"},
    )
    talk = Task(
        id="talk",
        messages=({"role": "user", "content": "Weather in Oslo?"},),
        followups=("And thanks?", "Bye?"),
        tools=names,
        gold=(
            (GoldCall("search_city", {"query": "Oslo"}, provenance=from_query),),
            (GoldCall("weather", {"city": 9}, depends_on=(0,), provenance=from_search),),
        ),
        metadata={"split": "heldout"},
    )
    chat = Task(
        id="chat",
        messages=({"role": "user", "content": "Say hello."},),
        tools=names,
        metadata={"split": "heldout"},
    )
    name, arguments, _ = TWICE
    twice = Task(
        id="twice",
        messages=({"role": "user", "content": "Weather in city 11, now and again?"},),
        tools=names,
        gold=tuple((GoldCall(name, arguments, response=digest),) for digest in answers),
        metadata={"split": "train"},
    )
    return [zurich, talk, chat, twice]


def build(folder: Path) -> dict[str, str]:
    """Write ``tasks.jsonl`` and ``cache.db``; return them as environment arguments."""
    paths = {"tasks": str(folder / "tasks.jsonl"), "cache": str(folder / "cache.db")}
    with open_cache(paths["cache"], write=True) as cache:
        cache.put_tool(SEARCH)
        cache.put_tool(WEATHER)
        for tool, arguments, text in RECORDINGS:
            cache.put(tool, arguments, text)
        name, arguments, texts = TWICE
        answers = [cache.put(name, arguments, text) for text in texts]
        tasks = make_tasks(answers)
        for task in tasks:
            cache.pin(task)
    save_tasks(tasks, paths["tasks"])
    return paths


def written(*calls: tuple[str, dict[str, Any]]) -> str:
    """A message with these calls."""
    from orch_env.formats import get_format

    return get_format("hermes").render_calls([ToolCall(name, args) for name, args in calls])


ZURICH = written(("search_city", {"query": "Zürich"}))
WEATHER_7 = written(("weather", {"city": 7}))
WEATHER_11 = written(("weather", {"city": 11}))
BROKEN = '<tool_call>\n{"name": "weather", \n</tool_call>'


def started(env: ToolOrchestrationEnv, task_id: str = "zurich", seed: int = 1) -> dict[str, Any]:
    """Reset to a task; return info."""
    return env.reset(seed=seed, options={"task_id": task_id})[1]
