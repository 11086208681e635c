"""A cut JSON result stays JSON, fits, keeps what fits, and says what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import EpisodeSource, OrchError, Task
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.env.json_cut import cut_json
from orch_env.tasks.resolved import ResolvedTask, offered_tool
from orch_env.types import ToolCall, ToolResult, ToolSpec

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=120),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=40,
)


@settings(derandomize=True, deadline=None)
@given(VALUES, st.integers(10, 400))
def test_what_comes_back_is_json_that_fits(value: object, limit: int) -> None:
    text = json.dumps(value)
    cut = cut_json(text, limit)
    if cut is not None:
        json.loads(cut)
        assert len(cut) <= limit
    assert (cut == text) == (len(text) <= limit)


def test_a_list_loses_its_last_items_and_says_how_many() -> None:
    rows = [{"id": f"TX-{n:04d}", "amount": n} for n in range(40)]
    cut = cut_json(json.dumps({"count": 40, "rows": rows}), 400)
    assert cut is not None
    shown = json.loads(cut)["rows"]
    kept = len(shown) - 1
    assert shown[:-1] == rows[:kept] and kept > 5
    assert shown[-1] == f"[cut: {40 - kept} of 40 items]"


def test_a_long_string_keeps_its_beginning() -> None:
    cut = cut_json(json.dumps({"id": "N-1", "text": "word " * 200}), 300)
    assert cut is not None
    text = json.loads(cut)["text"]
    found = re.search(r"\[cut: (\d+) of 1000 characters\]$", text)
    assert found is not None
    assert text[: found.start()] == ("word " * 200)[: 1000 - int(found[1])]
    assert json.loads(cut)["id"] == "N-1"


def test_at_least_nine_tenths_of_the_room_are_used_where_items_are_small() -> None:
    cut = cut_json(json.dumps(list(range(1000, 3000))), 1000)
    assert cut is not None and len(cut) > 900


def test_text_that_is_no_json_and_objects_too_wide_are_left_to_others() -> None:
    assert cut_json("x" * 100, 50) is None
    assert cut_json(json.dumps({f"key{n}": n for n in range(50)}), 100) is None


THINGS = json.dumps({"things": [f"thing {n}" for n in range(40)]})


class _Lists:
    """A backend whose one tool lists things."""

    def resolve(self, task: Task) -> ResolvedTask:
        return ResolvedTask.of(task, [offered_tool(ToolSpec("list_things"))])

    def open(self, task: Task, *, seed: int) -> Any:
        return self

    def answer(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        return [ToolResult(THINGS) for _ in calls]

    def close(self) -> None:
        pass


def test_an_environment_cuts_results_as_it_is_told() -> None:
    listed = '<tool_call>\n{"name": "list_things", "arguments": {}}\n</tool_call>'
    task = Task("x", messages=({"role": "user", "content": "?"},), tools=(ToolSpec("list_things"),))

    def observed(limits: Limits) -> str:
        env = ToolOrchestrationEnv.from_backend([task], _Lists(), limits=limits)
        env.reset(seed=0)
        *_, info = env.step(listed)
        assert env.episode.turns[0].results == (THINGS,)  # rewards see the whole
        return str(info["messages"][0]["content"])

    as_json = observed(Limits(max_observation_chars=80, cut_observations="json"))
    assert json.loads(as_json)["things"][0] == "thing 0"
    assert "items]" in as_json and len(as_json) <= 80
    as_text = observed(Limits(max_observation_chars=80))
    assert as_text.startswith(THINGS[:20]) and as_text.endswith(f"of {len(THINGS)} characters]")
    assert observed(Limits(cut_observations="json")) == THINGS


def test_another_way_to_cut_is_one_clear_line() -> None:
    with pytest.raises(OrchError, match="cut_observations is 'text' or 'json'; got 'xml'"):
        EpisodeSource(tasks="harbour", cut_observations="xml")  # type: ignore[arg-type]
