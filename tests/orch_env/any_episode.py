"""Any episode on any generated task: gold's calls spoilt, repeated, left out, moved, and others.

For tests that compare two ways of scoring, where it matters that every rule is met, not that the
trajectory makes sense.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from orch_env.types import Episode, ErrorType, ToolCall
from tests.orch_env.reward_world import OTHER_TOOL, World
from tests.orch_env.reward_worlds import abstentions, worlds

_VALUES: tuple[Any, ...] = ("fresh", 7, None, True, [], ["a"], {"x": 1}, 2.0, "2", "")


def any_world(most_calls: int = 7) -> st.SearchStrategy[World]:
    """Tasks with every feature, and some that ask for no call."""
    some = worlds(most_calls=most_calls)
    return st.one_of(some, some, some, abstentions())


@st.composite
def episodes_of(draw: st.DrawFn, world: World, *, max_calls: int = 8) -> Episode:
    """An episode of up to ``max_calls`` calls, in turns of one to three."""
    gold = [ToolCall(call.name, call.arguments) for call in world.task.gold_calls]
    kept = draw(st.sampled_from(["all", "some", "none"]))
    calls = [call for call in gold if kept == "all" or (kept == "some" and draw(st.booleans()))]
    for _ in range(draw(st.integers(0, 3))):
        calls.insert(draw(st.integers(0, len(calls))), _call(draw, gold))
    if calls and draw(st.booleans()):
        calls = draw(st.permutations(calls))
    calls = calls[:max_calls]
    turns: list[list[ToolCall]] = []
    while calls:
        size = draw(st.integers(1, 3))
        turns.append(calls[:size])
        calls = calls[size:]
    final = draw(st.sampled_from([None, "done", world.gold_final()]))
    return world.play(turns, final, collateral=draw(st.booleans()))


def _call(draw: st.DrawFn, gold: list[ToolCall]) -> ToolCall:
    kind = draw(st.integers(0, 7))
    if kind == 0 or not gold:
        return ToolCall(draw(st.sampled_from([OTHER_TOOL, "find"])), {"n": draw(st.integers(0, 1))})
    if kind == 1:
        return ToolCall("", {}, ErrorType.MALFORMED_CALL)
    call = draw(st.sampled_from(gold))
    if kind == 2:
        return replace(call, error=draw(st.sampled_from(list(ErrorType))))
    if kind == 3:
        return call
    arguments = dict(call.arguments)
    if kind == 4:
        return replace(call, arguments={k: _respelt(v) for k, v in reversed(arguments.items())})
    keys = [*arguments, "unheard_of"]
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from(keys))
        if key in arguments and draw(st.booleans()):
            del arguments[key]
        else:
            other = draw(st.sampled_from(gold)).arguments
            arguments[key] = draw(st.sampled_from([*_VALUES, *other.values()]))
    return replace(call, arguments=arguments)


def _respelt(value: Any) -> Any:
    """The same value, written in another way."""
    if isinstance(value, str) and value.isdecimal() and not value.startswith("0"):
        return float(value)
    if isinstance(value, str) and "," in value and " " not in value:
        return ",".join(reversed(value.split(",")))
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
