"""Whatever a model writes, `step` answers with text of the documented shape and never raises.

Actions are made by hypothesis: free text, broken JSON, lone surrogates, markup in odd places, deep
nesting, wrong types, unknown tools, huge numbers, texts of a megabyte. A second set knows the
tools' schemas (`schema_fuzz`) and calls the tools of every bundled world.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orch_env.env import ToolOrchestrationEnv
from orch_env.episodes.view import episode_html, episode_text
from orch_env.rewards import PRESETS, make_reward
from orch_env.types import Episode, ErrorType, Turn
from tests.orch_env import schema_fuzz
from tests.orch_env.property_tiers import hold
from tests.orch_env.recorded_world import build

ANY = st.characters()  # lone surrogates included
NAMES = st.sampled_from(["search_city", "weather", "Weather", "search", ""]) | st.text(
    ANY, max_size=12
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**15, 10**400)
    | st.floats()
    | st.text(ANY, max_size=12)
    | st.sampled_from(["Zürich", "7", 7, 7.0, "C"])
)
KEYS = st.sampled_from(["query", "city", "unit"]) | st.text(ANY, max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
NESTED = st.builds(
    lambda depth, pair: pair[0] * depth + "1" + pair[1] * depth,
    st.integers(1, 3000),
    st.sampled_from([("[", "]"), ('{"a":', "}"), ("[", ""), ('{"city":', "")]),
)
ARGUMENTS = (
    st.dictionaries(KEYS, VALUES, max_size=4).map(json.dumps)
    | VALUES.map(json.dumps)
    | VALUES.map(lambda value: json.dumps(json.dumps(value)))
    | NESTED
)
BODIES = (
    st.builds(lambda n, a: f'{{"name": {json.dumps(n)}, "arguments": {a}}}', NAMES, ARGUMENTS)
    | st.builds(lambda n, a: f'{{"name": {n}, "parameters": {a}', VALUES.map(json.dumps), ARGUMENTS)
    | VALUES.map(json.dumps)
    | st.text(ANY, max_size=30)
)


def damage(body: str, at: int, inserted: str) -> str:
    """Break a body at one place."""
    position = at % (len(body) + 1)
    return body[:position] + inserted + body[position + 1 :]


DAMAGED = st.builds(
    damage, BODIES, st.integers(0, 500), st.sampled_from(["", ",", "}", '"', "\ud800", "NaN", "\0"])
)
TAGGED = st.builds(
    lambda opening, body, closing: opening + body + closing,
    st.sampled_from(["<tool_call>\n", "<tool_call>", "<tool_call>```json\n", "<think><tool_call>"]),
    BODIES | DAMAGED,
    st.sampled_from(["\n</tool_call>", "</tool_call>", "", "```</tool_call>", "</think>"]),
)
MEGABYTE = st.builds(
    lambda piece, before, after: before + piece * (1_000_000 // len(piece)) + after,
    st.sampled_from(["x", "[", '{"a":', "<tool_call>", "</think>", '\\"', "é\ud800", " "]),
    st.sampled_from(["", "<tool_call>", '<tool_call>{"name": "weather", "arguments": {"unit": "']),
    st.sampled_from(["", '"}}</tool_call>', "</tool_call>"]),
)
# Well-formed calls, so that what stands behind the parser is met as often as the parser is.
READABLE = st.builds(
    lambda name, arguments: (
        f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"
    ),
    NAMES,
    st.dictionaries(KEYS, VALUES, max_size=3)
    | st.fixed_dictionaries({"query": st.sampled_from(["Zürich", "Oslo"]) | st.text(ANY)})
    | st.fixed_dictionaries({"city": st.integers(6, 9) | st.integers()}),
)
CALLS = READABLE | READABLE | TAGGED
ACTIONS = CALLS | st.lists(CALLS, min_size=1, max_size=4).map("\n".join) | st.text(ANY)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> ToolOrchestrationEnv:
    made = ToolOrchestrationEnv(**build(tmp_path_factory.mktemp("world")), reward_mode="dense")
    made.reset(seed=0, options={"task_id": "talk"})
    return made


NAMED = ("search_city", "weather")


def check_one(env: ToolOrchestrationEnv, action: str) -> None:
    """Step, and hold the answer against the documented shapes."""
    if env.episode.stop_reason is not None:
        env.reset(seed=0, options={"task_id": "talk"})
    observation, reward, terminated, truncated, info = env.step(action)
    assert observation in env.observation_space
    assert isinstance(reward, float) and -1.0 <= reward <= 1.0
    assert ("stop_reason" in info) == (terminated or truncated)
    json.dumps(info, allow_nan=False)
    turn = env.episode.turns[-1]
    assert turn.action == action
    check_turn(turn, info)


def check_turn(turn: Turn, info: dict[str, Any], names: Collection[str] = NAMED) -> None:
    shown = [m["content"] for m in info["messages"] if m["role"] == "tool"]
    assert len(turn.calls) == len(turn.results) == len(shown)
    blocks = [f"<tool_response>\n{text}\n</tool_response>" for text in shown]
    if turn.calls:
        assert turn.observation == "\n".join(blocks)
    for call, text in zip(turn.calls, turn.results, strict=True):
        json.dumps(call.arguments, allow_nan=False)
        if call.ok:
            assert call.name in names
            continue
        body = json.loads(text)
        assert list(body) == ["error"]
        assert list(body["error"]) == ["type", "message", "details"]
        if call.error is not ErrorType.TOOL_ERROR:  # a recorded error is whatever was recorded
            assert body["error"]["type"] == call.error in set(ErrorType)
        assert isinstance(body["error"]["message"], str) and isinstance(
            body["error"]["details"], dict
        )
        assert len(text) < 4_000, "an error stays short whatever was written"
        text.encode()


KINDS = ("malformed_call", "unknown_tool", "invalid_arguments", "not_recorded")

RELAXED = [
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
]


def fuzz(env: ToolOrchestrationEnv, examples: int) -> None:
    """Answer that many actions, and see that they met every kind of answer."""
    seen: Counter[str] = Counter()

    @given(action=ACTIONS)
    @settings(max_examples=examples, suppress_health_check=RELAXED)
    def answer(action: str) -> None:
        check_one(env, action)
        seen.update(str(call.error) for call in env.episode.turns[-1].calls)

    answer()
    assert {"None", *KINDS} <= set(seen), f"too tame: {seen}"


def test_whatever_a_model_writes_is_answered(env: ToolOrchestrationEnv) -> None:
    fuzz(env, 1_200)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_twenty_thousand_actions_are_answered(env: ToolOrchestrationEnv) -> None:
    fuzz(env, 20_000)


@given(action=MEGABYTE)
@settings(max_examples=40, suppress_health_check=RELAXED)
def test_a_megabyte_is_answered(env: ToolOrchestrationEnv, action: str) -> None:
    check_one(env, action)


# -- calls that know the schemas -----------------------------------------------------------------

REWARDS = {name: make_reward(name) for name in PRESETS}


def check_end(world: schema_fuzz.World) -> None:
    """Whatever else runs on a model's values when an episode is over."""
    task, episode = world.env.task, world.env.episode
    resolved = world.env.backend.resolve(task)
    for name, reward in REWARDS.items():
        for judged in (task, resolved):
            assert isinstance(reward(judged, episode).total, float), name
    assert Episode.from_dict(json.loads(json.dumps(episode.to_dict()))).digest == episode.digest
    episode_html(task, episode).encode("utf-8", "surrogatepass")
    episode_text(task, episode)
    world.env.fork().close()


def call_tools(world: schema_fuzz.World, calls: int) -> Counter[str]:
    """Play episodes until that many calls were made; return how often each answer came."""
    seen: Counter[str] = Counter()

    def play(seed: int, played: int) -> None:
        random = Random(f"{seed} {played}")
        world.env.reset(seed=random.getrandbits(31))
        names = {name for spec in world.specs for name in (spec.name, *spec.aliases)}
        over = False
        while not over:
            message = world.message(random)
            take = world.env.step if isinstance(message, str) else world.env.step_message
            observation, _, terminated, truncated, info = take(message)  # type: ignore[operator]
            assert observation in world.env.observation_space
            json.dumps(info, allow_nan=False)
            turn = world.env.episode.turns[-1]
            check_turn(turn, info, names)
            seen.update(str(call.error) for call in turn.calls)
            over = terminated or truncated
        check_end(world)

    while seen.total() < calls:
        hold(max(1, calls // 40), play, st.integers(0, 2**62), st.just(seen.total()))
    return seen


@pytest.mark.filterwarnings("error")  # of an exception in a server's own code
@pytest.mark.parametrize("name", schema_fuzz.worlds())
def test_calls_that_know_the_schemas_are_answered(name: str, tmp_path: Path) -> None:
    seen = call_tools(schema_fuzz.open_world(name, tmp_path), 600)
    assert seen["None"] and seen["invalid_arguments"] and seen["malformed_call"], seen


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", schema_fuzz.worlds())
def test_twenty_thousand_calls_that_know_the_schemas_are_answered(
    name: str, tmp_path: Path
) -> None:
    seen = call_tools(schema_fuzz.open_world(name, tmp_path), 20_000)
    assert min(seen["None"], seen["invalid_arguments"]) > 300, seen
    print(f"{name}: {dict(seen)}")
