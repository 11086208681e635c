"""Mixes and rewards of the user's own: what they add up to, and how they are refused."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch_env.cli.main import main
from orch_env.env import ToolOrchestrationEnv
from orch_env.rewards import PRESETS, make_reward
from orch_env.rewards.compose.configuration import verdict_spec
from orch_env.rewards.compose.mix import MixReward
from orch_env.types import Episode, GoldCall, OrchError, RewardBreakdown, Task, ToolCall
from tests.orch_env.reward_world import World, make_world
from tests.orch_env.reward_worlds import worlds

OWN = "tests.orch_env.own_rewards"


def three_finds() -> World:
    """Three calls in three turns, independent of each other; all values stand in the query."""
    gold = [[GoldCall("find", {"key": word})] for word in "abc"]
    return make_world(gold, ['{"id": 1}', '{"id": 2}', '{"id": 3}'], "a b c")


def mix(components: dict[str, Any], **options: Any) -> Any:
    return make_reward({"name": "mix", "components": components, **options})


def calls(*keys: str) -> list[list[ToolCall]]:
    return [[ToolCall("find", {"key": key})] for key in keys]


# -- the sum -------------------------------------------------------------------------------------


def test_the_total_is_the_weighted_sum_of_totals_and_components() -> None:
    world = three_finds()
    # Two of three gold calls, and one that is wrong. graduated: atomic (1 + 1 + 0.3) / 3, as the
    # wrong call has its name (0.1), and half of its types (0.2) and of having run (0.2); binary 0;
    # matched 3 of 3.
    episode = world.play(calls("a", "b", "x"), final="two words")
    reward = mix(
        {"graduated.atomic": 0.6, "graduated.matched": -0.25, "binary": 2, f"{OWN}:detailed": 4}
    )
    breakdown = reward(world.task, episode)
    assert breakdown.components == {
        "graduated.atomic": pytest.approx(2.3 / 3),
        "graduated.matched": 1.0,
        "binary": 0.0,
        f"{OWN}:detailed": 0.25,
    }
    # 0.6 * 2.3 / 3 = 0.46; -0.25 * 1; 2 * 0; 4 * 0.25 = 1.
    assert breakdown.total == pytest.approx(0.46 - 0.25 + 0.0 + 1.0)


def test_a_preset_s_options_reach_it() -> None:
    world = three_finds()
    # Eight calls on three gold calls. Budget 3 + ceil(0.5 * 3) = 5, eff = -0.5 * 3 / 5 = -0.3;
    # with beta 0 and alpha 1 the budget is 3 and eff = -1 * 5 / 3.
    episode = world.play(calls(*"abcdefgh"))
    assert mix({"prove.eff": 1})(world.task, episode).total == pytest.approx(-0.3)
    sharp = mix({"prove.eff": 1}, options={"prove": {"alpha": 1, "beta": 0}})
    assert sharp(world.task, episode).total == pytest.approx(-5 / 3)
    # brevity: 1 - 9 messages / 18.
    brief = mix({f"{OWN}:brevity": 3}, options={f"{OWN}:brevity": {"most": 18}})
    assert brief(world.task, episode).total == pytest.approx(3 * 0.5)


def test_a_component_that_does_not_apply_counts_nothing_and_is_left_out() -> None:
    world = three_finds()
    reward = mix({"graduated.answer": 0.5, "binary": 1})
    unasked = reward(world.task, world.gold_episode())
    assert (unasked.total, dict(unasked.components)) == (1.0, {"binary": 1.0})
    asked = reward(replace(world.task, answer="42"), world.play(world.gold_turns(), "42"))
    assert (asked.total, asked.components["graduated.answer"]) == (1.5, 1.0)


def test_a_reward_that_several_keys_name_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    binary = PRESETS["binary"].build({})

    def counted(options: Any) -> Any:
        def score(task: Task, episode: Episode) -> RewardBreakdown:
            asked.append(task.id)
            return binary(task, episode)

        return score

    monkeypatch.setitem(PRESETS, "binary", replace(PRESETS["binary"], build=counted))
    world = three_finds()
    reward = mix({"binary": 1, "binary.matched": 1, "graduated": 1})
    assert reward(world.task, world.gold_episode()).total == pytest.approx(3.0)
    assert asked == ["t"]


def test_call_accounts_are_those_of_the_first_reward_without_their_credit() -> None:
    world = three_finds()
    breakdown = mix({"graduated": 1, "paper": 1})(world.task, world.gold_episode())
    own = make_reward("graduated")(world.task, world.gold_episode()).calls
    assert [a.why for a in breakdown.calls] == [a.why for a in own]
    assert [a.credit for a in breakdown.calls] == [0.0] * 3 and breakdown.turns is None


def test_the_range_follows_from_the_components() -> None:
    assert mix({"graduated": 0.5, "binary": -0.25, "graduated.atomic": 2}).range == (-0.25, 2.5)
    assert mix({"prove.eff": 0.5, "binary": 1}).range == (-math.inf, 1.0)
    assert mix({"prove.eff": -0.5, "binary": 1}).range == (0.0, math.inf)
    assert mix({"prove.eff": 0, "binary": 1}).range == (0.0, 1.0)
    assert mix({f"{OWN}:brevity": 1}).range == (-math.inf, math.inf)
    # Options may change what a preset pays at most.
    weights = {"paper": {"weights": {"atomic": 9}}}
    assert mix({"paper": 1}, options=weights).range == (-math.inf, math.inf)


_KEYS = [
    *PRESETS,
    *(f"{name}.{part.name}" for name, preset in PRESETS.items() for part in preset.components),
]


@st.composite
def played(draw: st.DrawFn) -> tuple[World, Episode]:
    """An episode of a generated task: gold's calls in some order, some left out, some strange."""
    world = draw(worlds())
    pool = [call for step in world.gold_turns() for call in step]
    strange = [ToolCall("weather", {}), ToolCall("find", {"key": "fresh"})]
    turns: list[Sequence[ToolCall]] = draw(
        st.lists(st.lists(st.sampled_from(pool + strange), max_size=3), max_size=5)
    )
    return world, world.play(turns, draw(st.sampled_from([None, "done"])))


@settings(deadline=None)
@given(played(), st.dictionaries(st.sampled_from(_KEYS), st.floats(-3, 3), min_size=1, max_size=6))
def test_every_total_is_the_sum_of_its_components_and_within_its_range(
    case: tuple[World, Episode], weights: dict[str, float]
) -> None:
    world, episode = case
    reward = mix(weights)
    breakdown = reward(world.task, episode)
    summed = sum(weights[key] * value for key, value in breakdown.components.items())
    assert breakdown.total == pytest.approx(summed, abs=1e-9)
    low, high = reward.range
    assert low - 1e-9 <= breakdown.total <= high + 1e-9


@settings(deadline=None)
@given(played())
def test_what_the_presets_report_is_what_the_catalogue_names_within_its_ranges(
    case: tuple[World, Episode],
) -> None:
    world, episode = case
    for name, preset in PRESETS.items():
        breakdown = make_reward(name)(world.task, episode)
        ranges = {part.name: (part.low, part.high) for part in preset.components}
        for key, value in {**breakdown.components}.items():
            low, high = ranges[key]
            assert low - 1e-9 <= value <= high + 1e-9, (name, key)
        assert preset.range[0] - 1e-9 <= breakdown.total <= preset.range[1] + 1e-9, name


# -- shares of the turns -------------------------------------------------------------------------


def test_a_turn_s_share_is_what_it_added_to_the_total() -> None:
    world = three_finds()
    reward = mix({"graduated.matched": 1, "binary": 1, f"{OWN}:brevity": 4}, attribute=True)
    breakdown = reward(world.task, world.play(calls("a", "x", "b", "c"), final=None))
    # matched after 0..4 turns: 0, 1/3, 2/3 (a wrong call of the right name stands for one), 1, 1;
    # binary: 0, 0, 0, 0, 1; 4 * brevity: 4 - turns, so each turn takes 1.
    # A call more may change which calls are assigned, not how many.
    assert breakdown.base == 4.0
    assert breakdown.turns == pytest.approx([1 / 3 - 1, 1 / 3 - 1, 1 / 3 - 1, 1 - 1], abs=1e-9)
    assert breakdown.total == breakdown.base + sum(breakdown.turns) == pytest.approx(2.0)


def test_answer_and_state_belong_to_the_last_turn() -> None:
    world = replace(three_finds(), writes={0: {"shop": {"order": {"1": {"n": 1}}}}})
    task = replace(world.task, answer="42", final_state={"shop": {"order": {"1": {"n": 1}}}})
    episode = world.play(world.gold_turns(), "42")
    assert episode.state == task.final_state
    reward = mix({"binary.state": 2, "binary.answer": 1, "binary": 4}, attribute=True)
    breakdown = reward(task, episode)
    # Until the last turn nothing counts as changed and nothing was answered.
    assert (breakdown.base, breakdown.turns) == (0.0, (0.0, 0.0, 0.0, 7.0))


def test_an_episode_without_turns_is_all_base() -> None:
    world = three_finds()
    breakdown = mix({f"{OWN}:brevity": 1}, attribute=True)(world.task, Episode("t"))
    assert (breakdown.total, breakdown.base, breakdown.turns) == (1.0, 1.0, ())


@settings(deadline=None)
@given(played(), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_shares_sum_to_the_total_to_the_last_bit(
    case: tuple[World, Episode], first: float, second: float, third: float
) -> None:
    world, episode = case
    weights = {"graduated": first, "prove": second, f"{OWN}:brevity": third}
    breakdown = mix(weights, attribute=True)(world.task, episode)
    assert breakdown.turns is not None and len(breakdown.turns) == len(episode.turns)
    assert breakdown.base + sum(breakdown.turns) == breakdown.total
    assert breakdown.total == mix(weights)(world.task, episode).total


# -- functions of the user's own -----------------------------------------------------------------


def test_a_function_is_a_reward() -> None:
    world = three_finds()
    episode = world.gold_episode()  # four messages
    assert make_reward(f"{OWN}:brevity")(world.task, episode).total == 0.0
    half = make_reward({"name": f"{OWN}:brevity", "most": 8})
    assert half.name == f"{OWN}:brevity" and half(world.task, episode).total == 0.5
    full = make_reward(f"{OWN}:detailed")(world.task, episode)
    assert (full.total, full.components) == (0.25, {"words": 1.0})


def test_a_function_is_attributed_on_request_unless_it_does_that_itself() -> None:
    world = three_finds()
    episode = world.gold_episode()
    spec = {"name": f"{OWN}:brevity", "most": 8}
    assert make_reward(spec)(world.task, episode).turns is None
    attributed = make_reward({**spec, "attribute": True})(world.task, episode)
    assert (attributed.base, attributed.turns) == (1.0, (-0.125,) * 4)
    for asked in (False, True):
        own = make_reward({"name": f"{OWN}:shared", "attribute": asked})(world.task, episode)
        assert (own.total, own.base, own.turns) == (4.5, 0.5, (1.0,) * 4)


@pytest.mark.parametrize(
    ("options", "piece"),
    [
        ({}, "returned None"),
        ({"value": "0.5"}, "returned '0.5'"),
        ({"value": [1.0]}, "returned [1.0]"),
        ({"value": 1e13}, "returned 10000000000000.0"),
        ({"kind": "nan"}, "returned nan"),
        ({"kind": "inf"}, "returned inf as its total"),
        ({"kind": "huge"}, "returned 1000"),
        ({"kind": "part"}, "returned nan as its component 'x'"),
    ],
)
def test_a_result_that_is_no_number_is_no_score(options: dict[str, Any], piece: str) -> None:
    world = three_finds()
    for spec in (
        {"name": f"{OWN}:whatever", **options},
        {
            "name": "mix",
            "components": {f"{OWN}:whatever": 0.5},
            "options": {f"{OWN}:whatever": options},
        },
    ):
        with pytest.raises(OrchError) as caught:
            make_reward(spec)(world.task, world.gold_episode())
        message = str(caught.value)
        assert piece in message and f"'{OWN}:whatever'" in message and "task 't'" in message
        assert len(message) < 300


def test_numbers_of_other_kinds_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    world = three_finds()
    for value in (True, 1, numpy.float32(1.0), numpy.int64(1)):
        reward = make_reward({"name": f"{OWN}:whatever", "value": value})
        assert reward(world.task, world.gold_episode()).total == 1.0


def test_shares_of_a_function_s_own_must_add_up() -> None:
    world = three_finds()
    with pytest.raises(OrchError, match=r"sum to 4\.25; they must sum to the total 4\.5"):
        make_reward({"name": f"{OWN}:shared", "base": 0.25})(world.task, world.gold_episode())


def test_a_function_that_raises_stops_the_environment_and_pays_nothing() -> None:
    reward = {"name": "mix", "components": {"binary": 0.5, f"{OWN}:broken": 0.5}}
    env = ToolOrchestrationEnv("harbour", reward=reward)
    _, info = env.reset(seed=0)
    with pytest.raises(OrchError) as caught:
        env.step("I give up.")
    message = str(caught.value)
    assert f"reward '{OWN}:broken' failed" in message and info["task_id"] in message
    assert "KeyError" in message and "\n" not in message
    assert re.search(r"at tests/orch_env/own_rewards\.py:\d+", message)
    assert isinstance(caught.value.__cause__, KeyError)
    env.close()


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "piece"),
    [
        ("gradated", "no reward 'gradated' (did you mean 'graduated'?)"),
        ("mox", "(did you mean 'mix'?)"),
        ("mix", "a mix needs 'components'"),
        ({"name": "mix", "components": {}}, "a mix needs 'components'"),
        ({"name": "mix", "components": ["binary"]}, "a mix needs 'components'"),
        ({"name": "mix", "component": {"binary": 1}}, "did you mean 'components'?"),
        ({"components": {"binary": 1}}, "an object with a 'name'"),
        ({"name": "mix", "components": {"binry": 1}}, "did you mean 'binary'?"),
        ({"name": "mix", "components": {"mix": 1}}, "'mix' names no reward"),
        ({"name": "mix", "components": {"prove.ef": 1}}, "did you mean 'eff'?"),
        ({"name": "mix", "components": {"binary.": 1}}, "no component ''"),
        ({"name": "mix", "components": {"binary": "1"}}, "'binary' must be a number"),
        ({"name": "mix", "components": {"binary": True}}, "'binary' must be a number"),
        ({"name": "mix", "components": {"binary": None}}, "'binary' must be a number"),
        ({"name": "mix", "components": {"binary": float("nan")}}, "must lie within 1e+06"),
        ({"name": "mix", "components": {"binary": float("inf")}}, "must lie within 1e+06"),
        ({"name": "mix", "components": {"binary": 10**400}}, "must lie within 1e+06"),
        ({"name": "mix", "components": {"binary": 1}, "attribute": 1}, "true or false"),
        ({"name": "mix", "components": {"binary": 1}, "options": []}, "must be an object"),
        (
            {"name": "mix", "components": {"binary": 1}, "options": {"prove": {}}},
            "options for 'prove', which is none of its rewards (binary)",
        ),
        (
            {"name": "mix", "components": {"prove": 1}, "options": {"prove": {"alfa": 1}}},
            "'prove' has no option 'alfa' (did you mean 'alpha'?)",
        ),
        (
            {"name": "mix", "components": {"prove": 1}, "options": {"prove": 3}},
            "the options of 'prove' must be an object",
        ),
        ("no_such_package.rewards:f", "there is no module 'no_such_package' on Python's path"),
        ("tests.orch_env.nothing:f", "there is no module 'tests.orch_env.nothing'"),
        (f"{OWN}:polite", "has no 'polite'"),
        (f"{OWN}:NOT_A_FUNCTION", "is a int and no function"),
        (f"{OWN}:", "is named module:function"),
        (":f", "is named module:function"),
        (f"{OWN}:brevity:x", "is named module:function"),
        ("../rewards:f", "is named module:function"),
        ({"name": f"{OWN}:brevity", "last": 4}, "unexpected keyword argument 'last'"),
        ({"name": f"{OWN}:brevity", "attribute": "yes"}, "true or false"),
        (
            {
                "name": "mix",
                "components": {f"{OWN}:brevity": 1},
                "options": {f"{OWN}:brevity": {"last": 4}},
            },
            "unexpected keyword argument 'last'",
        ),
    ],
)
def test_a_wrong_configuration_is_one_line_when_the_reward_is_made(spec: Any, piece: str) -> None:
    with pytest.raises(OrchError) as caught:
        make_reward(spec)
    assert piece in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("def f(:", "SyntaxError"),
        ("import no_such_dependency", "no_such_dependency"),
        ("raise RuntimeError('not\\ntoday')", "RuntimeError: not today"),
    ],
)
def test_a_module_that_fails_on_import_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, piece: str
) -> None:
    (tmp_path / "failing_rewards.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OrchError) as caught:
        make_reward("failing_rewards:f")
    assert "importing its module failed" in str(caught.value) and piece in str(caught.value)
    assert "\n" not in str(caught.value) and "failing_rewards" not in sys.modules


def test_a_mix_of_one_reward_is_that_reward() -> None:
    world = three_finds()
    episode = world.play(calls("a", "b"))
    assert isinstance(mix({"graduated": 1}), MixReward)
    for name in PRESETS:
        once = make_reward(name)(world.task, episode).total
        assert mix({name: 1})(world.task, episode).total == pytest.approx(once, abs=1e-11)


@pytest.mark.parametrize(
    ("spec", "verdict"),
    [
        ("graduated", {}),
        ({"name": "graduated", "answer": "exact"}, {"answer": "exact"}),
        # The option is the function's own affair.
        ({"name": f"{OWN}:whatever", "answer": "yes"}, {}),
        ({"name": "mix", "components": {"graduated": 1}}, {}),
        (
            {
                "name": "mix",
                "components": {"graduated": 1, "binary": 1},
                "options": {"graduated": {"answer": "set"}, "binary": {"answer": "exact"}},
            },
            {"answer": "exact"},
        ),
        (
            {
                "name": "mix",
                "components": {"graduated": 1, f"{OWN}:whatever": 1},
                "options": {f"{OWN}:whatever": {"answer": 1}, "graduated": {"answer": "set"}},
            },
            {"answer": "set"},
        ),
    ],
)
def test_the_verdict_asks_for_the_answer_as_the_reward_does(
    spec: Any, verdict: dict[str, Any]
) -> None:
    assert verdict_spec(spec) == {"name": "binary", **verdict}


def test_replay_takes_a_mix_and_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"name": "mix", "components": {"binary": 2, f"{OWN}:detailed": 1}}
    for reward, mean in ((json.dumps(spec), 2.25), (f"{OWN}:detailed", 0.25)):
        words = ["replay", "--tasks", "harbour", "--limit", "3", "--reward", reward, "--json"]
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["reward_mean"] == mean
    assert main(["replay", "--tasks", "harbour", "--reward", '{"name": "mix"}']) == 2
    assert "a mix needs 'components'" in capsys.readouterr().err
