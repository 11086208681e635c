"""Any episode on any generated task: gold's calls spoilt, repeated, left out, moved, and others.

For tests that compare two ways of scoring, where it matters that every rule is met, not that the
trajectory makes sense.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from orch_env.types import Episode, ErrorType, ToolCall
from tests.orch_env.reward_world import OTHER_TOOL, World
from tests.orch_env.reward_worlds import abstentions, worlds

_VALUES: tuple[Any, ...] = ("fresh", 7, None, True, [], ["a"], {"x": 1}, 2.0, "2", "")


def any_world(most_calls: int = 7) -> st.SearchStrategy[World]:
    """Tasks with every feature, and some that ask for no call."""
    some, many = worlds(most_calls=most_calls), worlds(min_calls=3, most_calls=most_calls)
    return st.one_of(some, many, many, many, abstentions())


def episodes_of(world: World, *, max_calls: int = 8) -> st.SearchStrategy[Episode]:
    """Episodes of a task, see :func:`any_episode`."""
    seeds = st.integers(0, 2**32 - 1)
    return seeds.map(lambda seed: any_episode(world, random.Random(seed), max_calls))


def any_episode(world: World, rng: random.Random, max_calls: int = 8) -> Episode:
    """An episode of up to ``max_calls`` calls, in turns of one to three.

    The choices are a seed's, not hypothesis': it prefers simple ones, and so would rarely put two
    calls that compete for one gold call into an episode.
    """
    gold = [ToolCall(call.name, call.arguments) for call in world.task.gold_calls]
    kept = rng.choice(["all", "all", "some", "none"])
    calls = [call for call in gold if kept == "all" or (kept == "some" and rng.random() < 0.6)]
    for _ in range(rng.randint(0, 3)):
        calls.insert(rng.randint(0, len(calls)), _call(rng, gold, calls))
    if rng.random() < 0.3:
        rng.shuffle(calls)
    calls = calls[:max_calls]
    turns: list[list[ToolCall]] = []
    while calls:
        size = rng.choice([1, 1, 1, 2, 3])
        turns.append(calls[:size])
        calls = calls[size:]
    final = rng.choice([None, "done", world.gold_final()])
    return world.play(turns, final, collateral=rng.random() < 0.2)


def _call(rng: random.Random, gold: list[ToolCall], made: list[ToolCall]) -> ToolCall:
    kind = rng.randint(0, 12)
    if kind == 0 or not gold:
        return ToolCall(rng.choice([OTHER_TOOL, "find"]), {"n": rng.randint(0, 1)})
    if kind == 1:
        return ToolCall("", {}, ErrorType.MALFORMED_CALL)
    call = rng.choice(gold)
    if kind == 2:
        return replace(call, error=rng.choice(list(ErrorType)))
    if kind <= 4:
        return rng.choice(made or gold)  # a repeat, of a call that may be spoilt
    arguments = dict(call.arguments)
    if kind == 5:
        return replace(call, arguments={k: _respelt(v) for k, v in reversed(arguments.items())})
    if kind > 9:
        changed = rng.choice(_NEAR_COPIES)
        return replace(call, arguments={k: _near(v, changed) for k, v in arguments.items()})
    keys = [*arguments, "unheard_of"]
    for _ in range(rng.randint(1, 2)):
        key = rng.choice(keys)
        if key in arguments and rng.random() < 0.3:
            del arguments[key]
        else:
            other = rng.choice(gold).arguments
            arguments[key] = rng.choice([*_VALUES, *other.values()])
    return replace(call, arguments=arguments)


_NEAR_COPIES: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.title,
    lambda text: f" {text} ",
    lambda text: text.replace("o", "\u00f3"),
    lambda text: f"{text} centre",
    lambda text: text.replace("2024-10-13", "13 October 2024"),
)


def _near(value: Any, changed: Callable[[str], str]) -> Any:
    return changed(value) if isinstance(value, str) else value


def _respelt(value: Any) -> Any:
    """The same value, written in another way."""
    if isinstance(value, str) and value.isdecimal() and not value.startswith("0"):
        return float(value)
    if isinstance(value, str) and "," in value and " " not in value:
        return ",".join(reversed(value.split(",")))
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
