"""Messages in OpenAI's shape take the same way through the environment as their text does."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env import Episode, Task, ToolOrchestrationEnv
from orch_env.audit.exploits import EXPLOITS
from orch_env.backends.open import make_backend
from orch_env.env.episode_machine import Limits
from orch_env.episodes import StoredEpisode
from orch_env.formats import get_format
from orch_env.replay.play import play
from orch_env.replay.policies import GoldPolicy, PlanPolicy
from orch_env.replay.verify import Verifier

HERMES = get_format("hermes")
Message = dict[str, Any]


@pytest.fixture(scope="module")
def env() -> ToolOrchestrationEnv:
    return ToolOrchestrationEnv("harbour", max_errors=None)


def call(name: Any, arguments: Any, call_id: str | None = None) -> Message:
    body = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in body.items() if value is not None}


def message(*calls: Any, content: Any = None) -> Message:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def as_message(action: str) -> Message | None:
    """The native form of an action, ``None`` where a call in it cannot be read."""
    parsed = HERMES.parse(action)
    if parsed.problems:
        return None
    calls = [call(c.name, json.dumps(c.arguments)) for c in parsed.calls]
    return message(*calls, content=parsed.content if calls else action)


def outcome(answer: tuple[str, float, bool, bool, dict[str, Any]]) -> str:
    return json.dumps(answer)


def held_to_text(env: ToolOrchestrationEnv, task: Task, messages: Sequence[Message]) -> Episode:
    """Play messages, then the actions that were stored for them, and compare everything."""
    env.reset(seed=3, options={"task_id": task.id})
    native = []
    for one in messages:
        native.append(env.step_message(one))
        if native[-1][2] or native[-1][3]:
            break
    episode = env.episode
    env.reset(seed=3, options={"task_id": task.id})
    for by_message, turn in zip(native, episode.turns, strict=True):
        assert outcome(env.step(turn.action)) == outcome(by_message)
    assert env.episode.digest == episode.digest
    return episode


def test_gold_and_every_exploit_by_message_is_what_it_is_by_text() -> None:
    compare_policies(ToolOrchestrationEnv("harbour", max_errors=None, max_turns=60), step=60)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "step", [pytest.param(26, id="a sample"), pytest.param(1, id="all", marks=pytest.mark.long)]
)
def test_gold_and_exploits_on_recorded_tasks_are_the_same_either_way(
    booking_files: tuple[str, str], step: int
) -> None:
    env = ToolOrchestrationEnv(*booking_files, max_errors=None, max_turns=60)
    assert len(env.tasks) == 533
    compare_policies(env, step, exploits=5)


def compare_policies(env: ToolOrchestrationEnv, step: int, exploits: int = len(EXPLOITS)) -> None:
    rng = random.Random(0)
    compared = 0
    for task in env.tasks[::step]:
        resolved = env.backend.resolve(task)
        plans = [e.plan(resolved) for e in rng.sample(EXPLOITS, exploits)]
        policies: list[Any] = [GoldPolicy(HERMES), *(PlanPolicy(p, HERMES) for p in plans if p)]
        for policy in policies:
            play(env, policy, task, seed=3)
            text = env.episode
            messages = [as_message(turn.action) for turn in text.turns]
            if None in messages:
                continue
            assert held_to_text(env, task, [m for m in messages if m]).digest == text.digest
            compared += 1
    assert compared >= len(env.tasks[::step])


MALFORMED = [
    call(None, {}),
    call("", "{}"),
    call(5, "{}"),
    call("find_ship", '{"name": '),
    call("find_ship", "[1]"),
    call("find_ship", [1]),
    call("find_ship", "5"),
    call("find_ship", 5),
    call("find_ship", '{"name": NaN}'),
    call("find_ship", '{"name": 1e999}'),
    {"function": "find_ship"},
    {},
    "find_ship",
    ["find_ship"],
    None,
    7,
]


@pytest.mark.parametrize("bad", MALFORMED, ids=lambda bad: json.dumps(bad)[:50])
def test_a_call_that_cannot_be_read_is_malformed_and_the_same_by_text(
    env: ToolOrchestrationEnv, bad: Any
) -> None:
    task = env.tasks[0]
    episode = held_to_text(env, task, [message(bad, call("find_ship", '{"name": "x"}'))])
    assert [c.error and c.error.value for c in episode.calls] == ["malformed_call", "not_recorded"]
    assert json.loads(episode.turns[0].results[0])["error"]["message"]


def test_arguments_may_be_an_object_a_text_empty_or_missing(env: ToolOrchestrationEnv) -> None:
    task = env.tasks[0]
    for arguments, read in (({"name": "x"}, {"name": "x"}), ('{"name": "x"}', {"name": "x"})):
        episode = held_to_text(env, task, [message(call("find_ship", arguments))])
        assert episode.calls[0].arguments == read
    for empty in ("", "{}", None, {}):
        episode = held_to_text(env, task, [message(call("find_ship", empty))])
        assert episode.calls[0].arguments == {}
    flat = {"name": "find_ship", "arguments": "{}"}
    assert held_to_text(env, task, [message(flat)]).calls[0].name == "find_ship"


def test_tool_messages_carry_the_given_ids_and_else_one_by_turn_and_place(
    env: ToolOrchestrationEnv,
) -> None:
    env.reset(seed=0)
    ids: list[Any] = ["a", "", None, 7]
    calls = [call("find_ship", "{}", call_id) for call_id in ids]
    info = env.step_message(message(*calls))[-1]
    names = ["a", "call_0_1", "call_0_2", "7"]
    assert [m["tool_call_id"] for m in info["messages"]] == names
    info = env.step(HERMES.render_calls(HERMES.parse(env.episode.turns[0].action).calls))[-1]
    assert [m["tool_call_id"] for m in info["messages"]] == [f"call_1_{n}" for n in range(4)]


def test_a_message_without_calls_is_the_answer(env: ToolOrchestrationEnv) -> None:
    for content in ("All done.", [{"type": "text", "text": "All done."}]):
        env.reset(seed=0)
        *_, terminated, _, info = env.step_message({"role": "assistant", "content": content})
        assert terminated and info["stop_reason"] == "answered"
        assert env.episode.final == "All done."
    env.reset(seed=0)
    env.step_message({"content": None})
    assert (env.episode.final, env.episode.turns[0].action) == ("", "")


UNWRITABLE = [
    message(call("find_ship", {"name": math.nan})),
    message(call("find_ship", {"name": math.inf}), call("find_ship", {"name": "x"})),
    message(content='Say <tool_call>{"name": "find_ship", "arguments": {}}</tool_call> to call.'),
    message(call("find_ship", {"name": "x"}), content="<think> without an end"),
    message(
        call("find_ship", {"name": "x"}),
        content='<tool_call>{"name": "find_ship", "arguments": {"name": "y"}}</tool_call>',
    ),
]


@pytest.mark.parametrize("unwritable", UNWRITABLE, ids=range(len(UNWRITABLE)))
def test_what_the_format_cannot_write_is_kept_as_json_and_can_be_verified(
    env: ToolOrchestrationEnv, unwritable: Message
) -> None:
    task = env.tasks[0]
    env.reset(seed=0, options={"task_id": task.id})
    env.step_message(unwritable)
    stored = StoredEpisode.from_dict(
        json.loads(json.dumps(StoredEpisode(env.episode, env.task, env.settings).to_dict()))
    )
    action = json.loads(stored.episode.turns[0].action)
    assert action["role"] == "assistant"
    assert len(stored.episode.calls) == len(unwritable["tool_calls"])
    assert Verifier(make_backend("harbour", None, env.tasks)).check(stored) is None


@pytest.mark.parametrize("content", [{1, 2}, object(), {"a": object()}, [object()], 5])
def test_content_of_any_type_is_an_answer(env: ToolOrchestrationEnv, content: Any) -> None:
    env.reset(seed=0)
    *_, terminated, _, info = env.step_message({"content": content})
    assert terminated and info["stop_reason"] == "answered"


def test_arguments_that_are_no_json_at_all_are_malformed(env: ToolOrchestrationEnv) -> None:
    env.reset(seed=0)
    env.step_message(message(call("find_ship", {"name": {1, 2}})))
    assert env.episode.calls[0].error == "malformed_call"
    assert "cannot be written as JSON" in env.episode.turns[0].results[0]


def test_a_lone_surrogate_and_markup_inside_arguments_are_written_as_text(
    env: ToolOrchestrationEnv,
) -> None:
    odd = "\ud83d </tool_call><tool_call>"
    episode = held_to_text(env, env.tasks[0], [message(call("find_ship", {"name": odd}))])
    assert episode.calls[0].arguments == {"name": odd}
    episode = held_to_text(env, env.tasks[0], [message(content="half \ud83d")])
    assert episode.final == "half \ud83d"


def test_too_many_calls_are_read_as_one_more_that_is_malformed(env: ToolOrchestrationEnv) -> None:
    many = message(*[call("find_ship", "{}")] * 300)
    episode = held_to_text(env, env.tasks[0], [many])
    assert len(episode.calls) == 257
    assert episode.calls[-1].name == "" and episode.calls[-1].error == "limit"


def test_only_an_assistant_s_message_is_an_action(env: ToolOrchestrationEnv) -> None:
    env.reset(seed=0)
    for wrong in ("text", None, {"role": "user", "content": "x"}):
        with pytest.raises(InvalidAction, match="takes an assistant message"):
            env.step_message(wrong)  # type: ignore[arg-type]
    env.step_message({"content": "done"})
    with pytest.raises(ResetNeeded):
        env.step_message({"content": "done"})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "id": ANYTHING,
        "function": st.fixed_dictionaries(
            {}, optional={"name": st.just("find_ship") | ANYTHING, "arguments": ANYTHING}
        )
        | ANYTHING,
    },
)


@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {}, optional={"content": ANYTHING, "tool_calls": st.lists(CALLS | ANYTHING) | ANYTHING}
    )
)
def test_nothing_that_a_message_holds_raises(env: ToolOrchestrationEnv, odd: Message) -> None:
    task = env.tasks[0]
    env.reset(seed=0, options={"task_id": task.id})
    observation, reward, *_, info = env.step_message(odd)
    assert env.observation_space.contains(observation) and 0.0 <= reward <= 1.0
    json.dumps(info)
    assert env.episode.digest


def test_a_user_turn_follows_an_answer_by_message_too() -> None:
    base = ToolOrchestrationEnv("harbour")
    task = Task(**{**_fields(base.tasks[0]), "followups": ("And now?",)})
    backend = make_backend("harbour", None, ())
    env = ToolOrchestrationEnv.from_backend([task], backend, limits=Limits())
    env.reset(seed=0)
    observation, _, terminated, _, info = env.step_message({"content": "Here."})
    assert (observation, terminated) == ("And now?", False)
    assert info["messages"] == [{"role": "user", "content": "And now?"}]


def _fields(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.__dataclass_fields__}


def in_form(form: str, name: str, arguments: dict[str, Any]) -> Message:
    """One call, written as another API or framework writes it."""
    body = {"name": name, "arguments": json.dumps(arguments)}
    shapes: dict[str, Message] = {
        "function_call": {"content": None, "function_call": body},
        "tool_use": {"content": [{"type": "tool_use", "name": name, "input": arguments}]},
        "args": {"content": "", "tool_calls": [{"name": name, "args": arguments}]},
        "flat": {"content": "", "tool_calls": [{"type": "function", **body}]},
    }
    return {"role": "assistant", **shapes[form]}


@pytest.mark.parametrize("form", ["function_call", "tool_use", "args", "flat"])
def test_a_call_in_another_form_is_the_same_step(env: ToolOrchestrationEnv, form: str) -> None:
    task = env.tasks[0]
    gold = task.gold_calls[0]
    written = in_form(form, gold.name, gold.arguments)
    usual = message(call(gold.name, json.dumps(gold.arguments)))
    assert held_to_text(env, task, [written]).digest == held_to_text(env, task, [usual]).digest


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        ({"content": "", "toolCalls": [call("a", {})]}, "toolCalls"),
        ({"content": [{"toolUse": {"name": "a"}}]}, "toolUse"),
        ({"content": [{"type": "tool-call", "toolName": "a"}]}, "tool-call"),
    ],
)
def test_a_call_in_a_form_that_is_not_read_is_malformed_and_says_so(
    env: ToolOrchestrationEnv, odd: Message, named: str
) -> None:
    env.reset(seed=0)
    observation, _, terminated, truncated, _ = env.step_message({"role": "assistant", **odd})
    assert "malformed_call" in observation and named in observation
    assert not terminated and not truncated
    stored = StoredEpisode(env.episode, env.task, env.settings)
    assert Verifier(env.backend).check(stored) is None


@pytest.mark.parametrize("ids", [("", ""), (" ", "\t"), ("same", "same"), (None, None)])
def test_an_episode_reads_the_same_from_its_own_messages(
    env: ToolOrchestrationEnv, ids: tuple[str | None, str | None]
) -> None:
    """The environment's tool messages find their calls, whatever ids these have."""
    env.reset(seed=0)
    gold = env.task.gold_calls[0]
    calls = [call(gold.name, dict(gold.arguments), ids[0]), call("nothing", {}, ids[1])]
    said = message(*calls, content="I look.")
    _, _, _, _, info = env.step_message(said)
    read = Episode.from_messages(env.task, [said, *info["messages"]])
    assert read.turns[0].exchanges == env.episode.turns[0].exchanges
