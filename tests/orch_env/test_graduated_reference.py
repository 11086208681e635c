"""The graduated reward against a slow one written straight from its formula.

The reference below has no caches, no indexes, no shortcuts and no assignment solver: it looks
every value up anew, and tries every one-to-one choice of pairs. Totals agree to the bit.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from orch_env import Episode, GoldCall, Task, ToolCall, make_reward
from orch_env.rewards.matching.arguments import EQUAL, compare_calls
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.matching.text_index import TextIndex
from orch_env.rewards.outcome import AnswerRule, read_outcome
from orch_env.rewards.presets.graduated.assignment import assign
from orch_env.types import ErrorType
from orch_env.types.json import Json, leaves, resolve
from orch_env.values import canonical_text_by_schema, values_equal
from tests.orch_env.any_episode import any_episode, any_world
from tests.orch_env.reward_world import World

ECHOES = ("malformed_call", "unknown_tool", "invalid_arguments", "not_recorded", "limit")


@dataclass(frozen=True)
class Made:
    turn: int
    call: ToolCall

    @property
    def readable(self) -> bool:
        return bool(self.call.name) and self.call.error is not ErrorType.MALFORMED_CALL


def schema_of(task: Task, name: str) -> Mapping[str, Json] | None:
    spec = task.tool_spec(name)
    return None if spec is None else spec.parameters


def same_call(task: Task, one: ToolCall, name: str, arguments: dict[str, Json]) -> bool:
    return one.name == name and values_equal(one.arguments, arguments, schema_of(task, name))


def key_of(task: Task, call: ToolCall) -> str:
    return call.name + canonical_text_by_schema(call.arguments, schema_of(task, call.name))


def visible(task: Task, episode: Episode, value: Json, made: Made) -> bool:
    """Whether the query or the result of an earlier turn shows a value, or its parts."""
    if isinstance(value, dict | list) and value:
        return all(visible(task, episode, leaf, made) for _, leaf in leaves(value))
    texts = [task.query]
    for earlier in episode.turns[: made.turn]:
        for call, result in zip(earlier.calls, earlier.results, strict=False):
            if call.error not in ECHOES:
                texts.append(result)
    if any(TextIndex(text).shows(value) for text in texts):
        return True
    pieces = [p.strip() for p in value.split(",")] if isinstance(value, str) else []
    return len(pieces) > 1 and all(visible(task, episode, p, made) for p in pieces if p)


def order_kept(task: Task, episode: Episode, made: list[Made], at: int, number: int) -> float:
    """``F``: the share of a gold call's dependencies that a call of its tool respects."""
    mine, gold = made[at].call, task.gold_calls[number]
    found = compare_calls(mine.arguments, gold.arguments, schema_of(task, gold.name))
    edges = broken = 0
    for pointer, ref in gold.provenance.items():
        if ref.producers():
            edges += 1
            spellings = [resolve(gold.arguments, pointer)]
            with contextlib.suppress(KeyError):
                spellings.append(resolve(mine.arguments, pointer))
            seen = any(visible(task, episode, v, made[at]) for v in spellings)
            broken += not (found.leaves.get(pointer) == EQUAL and seen)
    for producer in gold.state_dependencies():
        edges += 1
        first = task.gold_calls[producer]
        broken += not any(
            m.readable and m.call.ok and same_call(task, m.call, *parts(first)) for m in made[:at]
        )
    return 1.0 - broken / edges if edges else 1.0


def parts(gold: GoldCall) -> tuple[str, dict[str, Json]]:
    return gold.name, gold.arguments


def score_of(task: Task, episode: Episode, made: list[Made], at: int, number: int) -> float:
    """``s`` of one call as one gold call."""
    mine, gold = made[at].call, task.gold_calls[number]
    if not made[at].readable or mine.name != gold.name:
        return 0.0
    found = compare_calls(mine.arguments, gold.arguments, schema_of(task, gold.name))
    share = order_kept(task, episode, made, at, number)
    atomic = 0.1 + 0.2 * found.types + 0.5 * found.values + 0.2 * mine.ok
    return 0.5 * atomic + 0.5 * (share * found.values * mine.ok)


def choices(
    rows: list[tuple[int, list[float]]], used: frozenset[int]
) -> Iterator[list[tuple[int, int]]]:
    """Every one-to-one choice of (call, column) pairs with a score."""
    if not rows:
        yield []
        return
    at, row = rows[0]
    yield from choices(rows[1:], used)
    for column, score in enumerate(row):
        if score > 0 and column not in used:
            for rest in choices(rows[1:], used | {column}):
                yield [(at, column), *rest]


def best_choice(
    table: list[list[float]],
    positions: list[int],
    taken: dict[int, int],
    keys: list[str],
    held: dict[str, int],
) -> dict[int, int]:
    """The best choice for some calls, beside what is taken; of equal calls as many as gold has.

    Of choices that are as good, the one of the earliest calls, with the pairs in order.
    """
    best: tuple[float, int, list[int], int] = (-1.0, 0, [], 0)
    chosen = dict(taken)
    rows = [(p, table[p]) for p in positions]
    for choice in choices(rows, frozenset(taken.values())):
        used = [keys[at] for at, _ in choice]
        if any(used.count(key) > held[key] for key in set(used)):
            continue
        worth = round(sum(table[at][column] for at, column in choice), 7)
        in_order = sum(at * column for at, column in choice)
        rank = (worth, len(choice), [-at for at, _ in choice], in_order)
        if rank > best:
            best, chosen = rank, {**taken, **dict(choice)}
    return chosen


def needless(task: Task, episode: Episode, made: list[Made], chosen: dict[int, int]) -> int:
    """How many calls are neither chosen nor do what a free optional gold call does."""
    free = [n for n, call in enumerate(task.gold_calls) if call.optional]
    extra = 0
    for at, mine in enumerate(made):
        if at in chosen:
            continue
        fits = [
            n
            for n in free
            if mine.readable
            and mine.call.ok
            and same_call(task, mine.call, *parts(task.gold_calls[n]))
            and order_kept(task, episode, made, at, n) == 1.0
        ]
        if fits:
            free.remove(fits[0])
        else:
            extra += 1
    return extra


def reference_total(task: Task, episode: Episode) -> tuple[float, int]:
    """The total and the number of needless calls."""
    gold = task.gold_calls
    required = [n for n, call in enumerate(gold) if not call.optional]
    made = [Made(t, call) for t, turn in enumerate(episode.turns) for call in turn.calls]
    table = [[score_of(task, episode, made, at, n) for n in required] for at in range(len(made))]
    keys = [key_of(task, m.call) if m.readable else f"unreadable {i}" for i, m in enumerate(made)]
    of_gold = [key_of(task, ToolCall(call.name, call.arguments)) for call in gold]
    held = {key: max(1, of_gold.count(key)) for key in keys}
    spare = {of_gold[n] for n in range(len(gold)) if gold[n].optional}
    spare -= {of_gold[n] for n in required}
    chosen: dict[int, int] = {}
    for late in (False, True):  # calls that only an optional gold call is equal to come last
        positions = [at for at in range(len(made)) if (keys[at] in spare) is late]
        chosen = best_choice(table, positions, chosen, keys, held)
    extra, n = needless(task, episode, made, chosen), len(gold)
    total = 1.0
    if required:
        total = sum(table[at][column] for at, column in sorted(chosen.items())) / len(required)
    weight = float(n)
    outcome = read_outcome(task, episode, AnswerRule())
    for part in (outcome.state, outcome.answer):
        if part is not None:
            total = (weight * total + part) / (weight + 1)
            weight += 1
    budget = math.ceil(0.5 * n)
    if n:
        cost = 0.02 * min(extra, budget) / budget
        cost += 0.03 + 0.5 * (extra - budget) / (n + budget) if extra > budget else 0.0
    else:
        cost = 1.0 - 0.5**extra
    total = max(0.0, total * (0.8 if outcome.collateral else 1.0) * (1.0 - cost))
    return round(total * 2.0**40) / 2.0**40, extra


@pytest.mark.parametrize("examples", [100, pytest.param(2000, marks=pytest.mark.long)])
def test_the_total_is_the_slow_reference_s_to_the_bit(examples: int) -> None:
    reward = make_reward({"name": "graduated", "edition": 1})

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(any_world(most_calls=4), st.randoms(use_true_random=True))
    def body(world: World, rng: random.Random) -> None:
        for _ in range(10):
            episode = any_episode(world, rng, max_calls=5)
            total, extra = reference_total(world.task, episode)
            breakdown = reward(world.task, episode)
            assert breakdown.components["extra_calls"] == extra
            assert breakdown.total == total
            # What is kept by now changes nothing, and a task that is equal scores the same.
            assert reward(replace(world.task), replace(episode)) == breakdown

    body()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_assignment_is_the_solver_s_without_the_solver_s_cost(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    score = st.sampled_from([0.05, 0.1, 0.25, 0.25 + 1e-6, 0.5, 0.5 + 1e-5, 0.8, 1.0])
    table = [[data.draw(score) for _ in range(width)] for _ in range(height)]
    made = [MadeCall(i, 0, i, "find", {}, None, f"key {i}") for i in range(height)]
    got = assign(made, [dict(enumerate(row)) for row in table], {})
    rows, columns = linear_sum_assignment(np.array(table), maximize=True)
    best = sum(table[i][c] for i, c in zip(rows, columns, strict=True))
    assert sum(table[i][c] for i, c in got.items()) == pytest.approx(best, abs=1e-12)
    assert len(got) == len(set(got.values())) == min(height, width)


@pytest.mark.parametrize(
    ("table", "pairs"),
    [
        # Calls that are as good as each other: the earlier one stands for the gold call.
        ([[0.5], [0.5], [0.5]], {0: 0}),
        ([[0.5], [0.6], [0.6]], {1: 0}),
        # Gold calls that fit as well: the earlier one.
        ([[0.5, 0.5, 0.5]], {0: 0}),
        ([[0.5, 0.6, 0.6]], {0: 1}),
        # Two of each: in order.
        ([[0.5, 0.5], [0.5, 0.5]], {0: 0, 1: 1}),
        ([[0.2, 0.3], [0.7, 0.8]], {0: 0, 1: 1}),
        # Three calls, two places: the first two, in order.
        ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], {0: 0, 1: 1}),
        # The best place of each is another one: nothing to solve.
        ([[0.1, 0.9], [1.0, 0.2]], {0: 1, 1: 0}),
        # Both want the first; the sum decides.
        ([[0.9, 0.8], [0.9, 0.1]], {0: 1, 1: 0}),
    ],
)
def test_ties_go_by_position(table: list[list[float]], pairs: dict[int, int]) -> None:
    made = [MadeCall(i, 0, i, "find", {}, None, f"key {i}") for i in range(len(table))]
    assert assign(made, [dict(enumerate(row)) for row in table], {}) == pairs


def test_calls_of_different_tools_do_not_meet() -> None:
    made = [MadeCall(0, 0, 0, "find", {}, None, "a"), MadeCall(1, 0, 1, "book", {}, None, "b")]
    assert assign(made, [{1: 0.5}, {0: 0.5}], {}) == {0: 1, 1: 0}
    assert assign(made, [{}, {0: 0.0}], {}) == {}
