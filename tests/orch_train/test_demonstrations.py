"""Demonstrations are carried out for real, and their mistakes are the ones that were asked for.

The tests run on the bundled harbour world: its environment, its cache, its tasks.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orch_env import load_tasks
from orch_env.cache import open_cache
from orch_env.env import ToolOrchestrationEnv
from orch_env.formats import get_format
from orch_env.replay.play import turns_of_gold
from orch_env.replay.policies import GoldPolicy
from orch_env.tasks.files import save_tasks
from orch_env.types import GoldCall, OrchError, Provenance, Task, ToolSpec, ValueRef
from orch_train import GRPOConfig
from orch_train.chat.renderer import ChatRenderer
from orch_train.sft.demonstrations import (
    DemonstrationSet,
    make_demonstrations,
    shorten,
)
from orch_train.sft.mistakes import (
    MISTAKES,
    DemonstrationKind,
    Mistakes,
    _values_in_sight,
    other_tool,
    repeated,
    replaced,
    stopped_early,
)
from orch_train.trajectory.sample import TrainingSample
from orch_train.trajectory.store import pack_tokens
from tests.orch_train.small_models import byte_tokenizer

HERMES = get_format("hermes")
QUERY, OUTPUT = Provenance.QUERY, Provenance.OUTPUT


@pytest.fixture(scope="module")
def env() -> Iterator[ToolOrchestrationEnv]:
    made = ToolOrchestrationEnv("harbour", reward="binary")
    yield made
    made.close()


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return load_tasks("harbour")[::30]


@pytest.fixture(scope="module")
def chat() -> ChatRenderer:
    return ChatRenderer(byte_tokenizer(), HERMES)


def calls_of(chat: ChatRenderer, sample: TrainingSample) -> list[list[tuple[str, str]]]:
    """The calls of each message, read back out of the tokens."""
    return [
        [
            (c.name, json.dumps(c.arguments, sort_keys=True))
            for c in HERMES.parse(chat.decode(sample.ids_T[a:b].tolist())).calls
        ]
        for a, b in sample.turns
    ]


def gold_of(task: Task) -> list[list[tuple[str, str]]]:
    return [
        *[[(c.name, json.dumps(c.arguments, sort_keys=True)) for c in s] for s in task.gold],
        [],
    ]


def corrupted(
    env: Any, chat: ChatRenderer, tasks: list[Task], *kinds: DemonstrationKind, **more: Any
) -> DemonstrationSet:
    return make_demonstrations(env, chat, tasks, corruption=1.0, kinds=kinds or MISTAKES, **more)


def test_gold_demonstrations_succeed_and_show_exactly_the_gold_calls(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    made = make_demonstrations(env, chat, tasks)
    assert made.failed_gold == () and len(made.demonstrations) == len(tasks)
    for demonstration, task in zip(made.demonstrations, tasks, strict=True):
        assert demonstration.success and demonstration.kind is DemonstrationKind.GOLD
        assert calls_of(chat, demonstration.sample) == gold_of(task)
        demonstration.sample.check()


def test_the_tokens_are_those_that_a_rollout_of_the_same_messages_would_read(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    """Replayed by hand: context and actions alternate, and observations are the environment's."""
    [demonstration] = make_demonstrations(env, chat, tasks[:1]).demonstrations
    turns, ids = demonstration.sample.turns, demonstration.sample.ids_T.tolist()
    _, info = env.reset(options={"task_id": demonstration.task_id})
    expected = chat.start(info["messages"], info["tools"])
    for number, (start, end) in enumerate(turns):
        assert ids[:start] == expected
        expected = expected + ids[start:end]
        _, _, over, _, info = env.step(chat.decode(ids[start:end]))
        assert over == (number == len(turns) - 1)
        if not over:
            expected = expected + chat.observe(info["messages"])
    assert ids == expected
    assert all(ids[end - 1] in chat.stop_token_ids for _, end in turns)


def test_the_same_seed_gives_the_same_tokens_in_any_order_and_another_seed_others(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    def by_task(made: DemonstrationSet) -> dict[str, tuple[Any, ...]]:
        return {d.task_id: (pack_tokens(d.sample), d.kind, d.success) for d in made.demonstrations}

    one = by_task(corrupted(env, chat, tasks, seed=3))
    assert by_task(corrupted(env, chat, tasks[::-1], seed=3)) == one
    other = by_task(corrupted(env, chat, tasks, seed=4))
    assert sum(other[t][0] != one[t][0] for t in one) > len(one) / 3


def test_the_rate_is_the_share_of_demonstrations_with_a_mistake(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    made = make_demonstrations(env, chat, tasks, corruption=0.6, copies=10, seed=1)
    kinds = Counter(d.kind for d in made.demonstrations)
    total = sum(kinds.values())
    assert total == 10 * len(tasks)
    assert 0.5 < 1 - kinds[DemonstrationKind.GOLD] / total < 0.7
    assert set(kinds) == set(DemonstrationKind)
    wrong = [d for d in made.demonstrations if d.kind is not DemonstrationKind.GOLD]
    assert sum(d.success for d in wrong) < len(wrong) / 2


def test_stopping_early_shows_a_proper_beginning_of_the_gold_calls(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    made = corrupted(env, chat, tasks, DemonstrationKind.STOPPED_EARLY)
    for demonstration, task in zip(made.demonstrations, tasks, strict=True):
        shown, gold = calls_of(chat, demonstration.sample), gold_of(task)
        assert shown[:-1] == gold[: len(shown) - 1] and 1 < len(shown) < len(gold)
        assert not demonstration.success


def test_a_repeated_call_is_one_gold_call_made_once_more(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    made = corrupted(env, chat, tasks, DemonstrationKind.REPEATED_CALL)
    for demonstration, task in zip(made.demonstrations, tasks, strict=True):
        shown = Counter(c for m in calls_of(chat, demonstration.sample) for c in m)
        extra = shown - Counter(c for m in gold_of(task) for c in m)
        assert sum(extra.values()) == 1


@pytest.mark.parametrize("kind", [DemonstrationKind.WRONG_TOOL, DemonstrationKind.WRONG_ARGUMENT])
def test_one_call_is_wrong_and_nothing_that_depends_on_it_is_shown(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task], kind: DemonstrationKind
) -> None:
    made = corrupted(env, chat, tasks, kind)
    visibly_wrong = 0
    for demonstration, task in zip(made.demonstrations, tasks, strict=True):
        gold = [(c.name, json.dumps(c.arguments, sort_keys=True)) for c in task.gold_calls]
        shown = [c for m in calls_of(chat, demonstration.sample) for c in m]
        wrong = [c for c in shown if c not in gold]
        assert len(wrong) <= 1  # 0 where the wrong call happens to be another gold call
        visibly_wrong += len(wrong)
        if wrong:
            tools = {c[0] for c in gold}
            assert (wrong[0][0] in tools) or kind is DemonstrationKind.WRONG_TOOL
        assert len(shown) <= len(gold)
    assert visibly_wrong > len(tasks) / 2


def test_no_demonstration_uses_a_value_that_the_conversation_does_not_hold(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    """Ids in arguments were read before, except the one value of a wrong argument."""
    for demonstration in corrupted(env, chat, tasks, copies=4, seed=9).demonstrations:
        unseen = 0
        for number, (start, _) in enumerate(demonstration.sample.turns):
            before = chat.decode(demonstration.sample.ids_T[:start].tolist())
            for _, arguments in calls_of(chat, demonstration.sample)[number]:
                values = json.loads(arguments).values()
                unseen += sum(v not in before for v in values if isinstance(v, str))
        assert unseen <= (demonstration.kind is DemonstrationKind.WRONG_ARGUMENT)


def test_errors_that_a_mistake_provokes_are_part_of_the_trace(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    made = corrupted(env, chat, tasks, DemonstrationKind.WRONG_TOOL, copies=3)
    texts = [chat.decode(d.sample.ids_T.tolist()) for d in made.demonstrations]
    assert any('{"error":' in text.replace('"error": {', '"error":') for text in texts)


def test_long_demonstrations_are_cut_after_a_whole_message_and_counted(
    env: ToolOrchestrationEnv, chat: ChatRenderer, tasks: list[Task]
) -> None:
    whole = make_demonstrations(env, chat, tasks)
    lengths = sorted(len(d.sample) for d in whole.demonstrations)
    shortest_start = min(int(d.sample.turns[0, 1]) for d in whole.demonstrations)
    bound = max(lengths[len(lengths) // 2] - 1, shortest_start)
    cut = make_demonstrations(env, chat, tasks, max_tokens=bound)
    assert cut.num_shortened + cut.num_dropped == sum(n > bound for n in lengths) > 0
    assert cut.num_messages_lost == sum(len(d.sample.turns) for d in whole.demonstrations) - sum(
        len(d.sample.turns) for d in cut.demonstrations
    )
    for demonstration in cut.demonstrations:
        demonstration.sample.check()
        assert len(demonstration.sample) <= bound
        assert demonstration.sample.mask_T[-1]
    assert cut.summary()["longest"] <= bound
    with pytest.raises(OrchError, match="no demonstration fits"):
        make_demonstrations(env, chat, tasks, max_tokens=5)


def test_shortening_never_splits_a_message() -> None:
    sample = TrainingSample()
    sample.append_context([1, 2])
    sample.append_action([3, 4], [0.0, 0.0], [-1, -1])
    sample.append_context([5])
    sample.append_action([6, 7, 8], [0.0] * 3, [-1] * 3)
    assert shorten(sample, 8) is sample
    for most in (7, 4):
        cut = shorten(sample, most)
        cut.check()
        assert cut.ids_T.tolist() == [1, 2, 3, 4] and cut.turns.tolist() == [[2, 4]]
    assert len(shorten(sample, 3)) == shorten(sample, 3).num_actions == 0


def test_a_wrong_call_takes_its_dependents_with_it_and_spares_the_rest() -> None:
    def call(name: str, *needs: int) -> GoldCall:
        return GoldCall(name, {"x": name}, depends_on=needs)

    task = Task(
        "t",
        ({"role": "user", "content": "q"},),
        gold=((call("a"), call("b")), (call("c", 0), call("d", 1)), (call("e", 2),)),
    )
    wrong = call("z")
    names = [[c.name for c in step] for step in replaced(task, 0, wrong).gold]
    assert names == [["z", "b"], ["d"], []]
    assert [[c.name for c in s] for s in replaced(task, 4, wrong).gold] == [
        ["a", "b"],
        ["c", "d"],
        ["z"],
    ]


def test_a_plan_with_a_mistake_waits_for_the_same_follow_ups() -> None:
    a, c, d = (GoldCall(name, {"x": name}) for name in "acd")
    from_a = GoldCall("b", {"x": "b"}, depends_on=(0,))
    task = Task(
        "t",
        ({"role": "user", "content": "q"},),
        gold=((a,), (from_a,), (c, d)),
        followups=("Go on.", "And now?"),
        after_followup=(0, 1, 2),
    )

    def played(planned: Task) -> str:
        policy = GoldPolicy(HERMES)
        policy.start(planned)
        calls = [HERMES.parse(policy.act("", {})).calls for _ in range(turns_of_gold(planned))]
        return " ".join("".join(call.name for call in made) or "-" for made in calls)

    assert played(task) == "a - b - cd -"
    assert played(repeated(task, 1)) == "a - b b - cd -"
    assert played(replaced(task, 0, GoldCall("z"))) == "z - - cd -"
    early = {played(stopped_early(task, random.Random(seed))) for seed in range(20)}
    assert early == {"a - - -", "a - b - -"}


def test_a_wrong_tool_takes_the_same_parameters_where_one_does() -> None:
    def tool(name: str, *parameters: str) -> dict[str, Any]:
        schema = {"type": "object", "properties": {p: {"type": "string"} for p in parameters}}
        return {"type": "function", "function": {"name": name, "parameters": schema}}

    call = GoldCall("ship_cargo", {"ship": "S-1"})
    rng = random.Random(0)
    offered = [tool("ship_cargo", "ship"), tool("ship_berth", "ship"), tool("find", "name")]
    assert {other_tool(call, offered, rng) for _ in range(20)} == {"ship_berth"}
    assert other_tool(call, offered[::2], rng) == "find"
    assert other_tool(call, offered[:1], rng) is None


def test_a_mistake_without_room_gives_way_to_another() -> None:
    lonely = Task("t", ({"role": "user", "content": "q"},), gold=((GoldCall("now", {}),),))
    kinds = (DemonstrationKind.WRONG_ARGUMENT, DemonstrationKind.REPEATED_CALL)
    mistakes = Mistakes([lonely], 1.0, kinds)
    drawn = {mistakes.corrupt(lonely, [], random.Random(i))[0] for i in range(10)}
    assert drawn == {DemonstrationKind.REPEATED_CALL}


def test_wrong_requests_are_one_clear_line(env: ToolOrchestrationEnv, chat: ChatRenderer) -> None:
    with pytest.raises(OrchError, match="no tasks"):
        make_demonstrations(env, chat, [])
    with pytest.raises(OrchError, match="1 of 1 tasks have no gold"):
        make_demonstrations(env, chat, [Task("t", ({"role": "user", "content": "q"},))])
    for wrong in ({"corruption": 1.5}, {"mistakes": ["gold"]}, {"mistakes": []}):
        with pytest.raises(OrchError, match=rf"sft\.{next(iter(wrong))}"):
            _ = GRPOConfig().from_dict({"sft": wrong}).settings


def test_a_wrong_argument_is_a_value_that_its_writer_could_have_mixed_up() -> None:
    def from_query(name: str) -> GoldCall:
        return GoldCall(name, {"name": f"{name} name"}, provenance={"/name": ValueRef(QUERY)})

    later = GoldCall("cargo", {"ship": "S-1"}, provenance={"/ship": ValueRef(OUTPUT, 0, "/ship")})
    task = Task(
        "t",
        ({"role": "user", "content": "q"},),
        gold=((from_query("ship"),), (from_query("pilot"),), (later,)),
    )
    kinds = (DemonstrationKind.WRONG_ARGUMENT,)
    mistakes = Mistakes([task], 1.0, kinds)
    drawn: dict[str, set[str]] = {}
    for seed in range(60):
        _, wrong = mistakes.corrupt(task, [], random.Random(seed))
        for call, right in zip(wrong.gold_calls, task.gold_calls, strict=False):
            if call.name == right.name and call.arguments != right.arguments:
                drawn.setdefault(call.name, set()).update(call.arguments.values())
    # The first call is written before any id was read.
    assert drawn["ship"] == {"pilot name"}
    assert drawn["pilot"] == {"ship name", "S-1"}
    assert drawn["cargo"] == {"ship name", "pilot name"}
    told_later = replace(task, followups=("The pilot.",), after_followup=(0, 1, 1))
    others = _values_in_sight(task, 0), _values_in_sight(told_later, 0)
    assert others == (["ship name", "pilot name"], ["ship name"])


def test_what_the_tool_calls_equal_to_gold_is_no_mistake() -> None:
    """The environment knows the schema; of the tools that a model sees, sets are removed."""
    texts = {"ids": {"type": "string", "x-orch-set": ","}, "city": {"enum": ["Bergen", "Oslo"]}}

    def task(name: str, ids: str, city: str) -> Task:
        gold = GoldCall("seek", {"ids": ids, "city": city})  # by its alias
        spec = ToolSpec("find", "", {"type": "object", "properties": texts}, ("seek",))
        return Task(name, ({"role": "user", "content": "q"},), (spec,), ((gold,),))

    tasks = [task("a", "1,2", "Oslo"), task("b", "2, 1", "oslo"), task("c", "2,1", "OSLO")]
    mistakes = Mistakes(tasks, 1.0, (DemonstrationKind.WRONG_ARGUMENT,))
    offered = [spec.to_dict() for spec in tasks[0].tools if isinstance(spec, ToolSpec)]
    kinds = {mistakes.corrupt(tasks[0], offered, random.Random(i))[0] for i in range(10)}
    assert kinds == {DemonstrationKind.GOLD}
    mistakes = Mistakes([*tasks, task("d", "1,3", "Bergen")], 1.0, mistakes._kinds)
    for seed in range(10):
        kind, wrong = mistakes.corrupt(tasks[0], offered, random.Random(seed))
        assert kind is DemonstrationKind.WRONG_ARGUMENT
        assert {"1,3", "Bergen"} & set(wrong.gold_calls[0].arguments.values())


def test_demonstrated_mistakes_ask_the_schema_that_the_cache_holds(
    tmp_path: Path, chat: ChatRenderer
) -> None:
    ids = {"type": "string", "x-orch-set": ","}
    spec, made = ToolSpec("find", "", {"type": "object", "properties": {"ids": ids}}), []
    with open_cache(tmp_path / "c.db", write=True) as cache:
        cache.put_tool(spec)
        for name, text in (("a", "1,2"), ("b", "2,1")):
            call = GoldCall("find", {"ids": text}, response=cache.put("find", {"ids": text}, "{}"))
            made.append(Task(name, ({"role": "user", "content": "q"},), ("find",), ((call,),)))
    save_tasks(made, tmp_path / "t.jsonl")
    with ToolOrchestrationEnv(tmp_path / "t.jsonl", tmp_path / "c.db", reward="binary") as env:
        drawn = corrupted(env, chat, list(env.tasks), DemonstrationKind.WRONG_ARGUMENT)
    assert [d.kind for d in drawn.demonstrations] == [DemonstrationKind.GOLD] * 2
