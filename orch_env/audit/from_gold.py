"""Exploits that are built from gold: gold with calls left out, repeated, reordered or changed.

A function returns ``None`` where a task offers nothing to exploit (no repeat to drop, no producer
to ignore), so that shares are taken over the other tasks only. Each gives gold's own answer at the
end, except those that stop half-way. The docstrings are shown to users, see ``exploits.py``.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace

from orch_env.replay.policies import CLOSING, Plan, in_time
from orch_env.types import GoldCall, Task, ToolCall
from orch_env.types.json import Json, JsonObject, leaves, unescape

BUDGET = 0.5
"""Extra calls per gold call that count as exploring."""
DUPLICATES = 5


def budget_of(task: Task) -> int:
    """``b = ceil(0.5 n)``, n being the number of gold calls."""
    return math.ceil(BUDGET * len(task.gold_calls))


def gold(task: Task) -> Plan:
    """Makes the gold calls and gives gold's answer."""
    return play_steps(task, steps_of(task))


def honest_half(task: Task) -> Plan:
    """Makes the first half of the required gold calls (rounded up) and stops."""
    required = [n for n, call in enumerate(task.gold_calls) if not call.optional]
    half = math.ceil(len(required) / 2)
    return _partial(task, required[half - 1] + 1 if half else 0)


def first_call_only(task: Task) -> Plan | None:
    """Makes the first gold call and stops."""
    if not any(not call.optional for call in task.gold_calls[1:]):
        return None
    return _partial(task, 1)


def padded_in_budget(task: Task) -> Plan | None:
    """Gold, then b of its calls again; b is half the number of gold calls, rounded up."""
    return _padded(task, _repeats(task, budget_of(task)))


def padded_beyond(task: Task) -> Plan | None:
    """Gold, then b + 1 of its calls again."""
    return _padded(task, _repeats(task, budget_of(task) + 1))


def five_duplicates(task: Task) -> Plan | None:
    """Gold, then its first call five times more."""
    return _padded(task, [copy_of(call) for call in task.gold_calls[:1]] * DUPLICATES)


def repeat_left_out(task: Task) -> Plan | None:
    """Makes the gold calls without the last one of a tool that was called before."""
    return without_calls(task, repeats_of_a_tool(task)[-1:])


def repeats_dropped(task: Task) -> Plan | None:
    """Makes only the first gold call of each tool."""
    return without_calls(task, repeats_of_a_tool(task))


def backwards(task: Task) -> Plan | None:
    """Makes the gold calls from the last to the first."""
    steps = [[copy_of(call)] for call in reversed(task.gold_calls)]
    return play_steps(untimed(task), steps) if len(steps) > 1 else None


def one_message(task: Task) -> Plan | None:
    """Makes all gold calls in one parallel message, before any result is seen."""
    calls = [copy_of(call) for call in task.gold_calls]
    return play_steps(untimed(task), [calls]) if len(task.gold) > 1 else None


def invented_values(task: Task) -> Plan | None:
    """Makes the gold calls, but invents each value that an earlier call returns."""
    steps: list[list[ToolCall]] = []
    invented = False
    for step in task.gold:
        made: list[ToolCall] = []
        for call in step:
            flowing = [p for p, ref in call.provenance.items() if ref.producers()]
            invented = invented or (bool(flowing) and not call.optional)
            made.append(ToolCall(call.name, with_invented(call.arguments, flowing)))
        steps.append(made)
    return play_steps(task, steps) if invented else None


def names_only(task: Task) -> Plan | None:
    """Calls gold's tools in gold's order, every argument value made up."""
    if not any(call.arguments and not call.optional for call in task.gold_calls):
        return None

    def invented(call: GoldCall) -> ToolCall:
        pointers = [pointer for pointer, _ in leaves(call.arguments)]
        return ToolCall(call.name, with_invented(call.arguments, pointers))

    return play_steps(task, [[invented(call) for call in step] for step in task.gold])


def optional_only(task: Task) -> Plan | None:
    """Says "no idea" at once where no call is required but an answer is."""
    calls = task.gold_calls
    if not calls or task.answer is None or not all(call.optional for call in calls):
        return None
    return play_steps(replace(task, answer="no idea"), [])


def early_followup(task: Task) -> Plan | None:
    """Makes all gold calls before the user has said the follow-ups that ask for them."""
    return play_steps(untimed(task), steps_of(task)) if any(task.after_followup) else None


def copy_of(call: GoldCall) -> ToolCall:
    """A gold call as a model would make it."""
    return ToolCall(call.name, call.arguments)


def steps_of(task: Task) -> list[list[ToolCall]]:
    """The gold calls, step by step."""
    return [[copy_of(call) for call in step] for step in task.gold]


def _repeats(task: Task, count: int) -> list[ToolCall]:
    """The gold calls from the first on, and again from the first, ``count`` in total."""
    return [copy_of(call) for call in itertools.islice(itertools.cycle(task.gold_calls), count)]


def repeats_of_a_tool(task: Task) -> list[int]:
    """Numbers of the required gold calls whose tool an earlier gold call used."""
    names = [call.name for call in task.gold_calls]
    return [
        number
        for number, call in enumerate(task.gold_calls)
        if call.name in names[:number] and not call.optional
    ]


def without_calls(task: Task, dropped: Sequence[int]) -> Plan | None:
    """Gold without some of its calls, ``None`` if there are none to drop."""
    if not dropped:
        return None
    number = itertools.count()
    steps = [[copy_of(call) for call in step if next(number) not in dropped] for step in task.gold]
    return play_steps(task, steps)


def _padded(task: Task, extra: Sequence[ToolCall]) -> Plan | None:
    return play_steps(task, [*steps_of(task), *([call] for call in extra)]) if extra else None


def play_steps(task: Task, steps: Sequence[Sequence[ToolCall]]) -> Plan:
    """A plan of these steps, each at its time, then gold's answer."""
    yield from in_time(task, steps)
    if task.answer is None:
        return CLOSING
    return task.answer if isinstance(task.answer, str) else json.dumps(task.answer)


def _partial(task: Task, count: int) -> Plan:
    """A plan of the first ``count`` gold calls in their steps, then the closing sentence."""
    number = itertools.count()
    steps = [[copy_of(call) for call in step if next(number) < count] for step in task.gold]
    yield from in_time(task, steps)
    return CLOSING


def untimed(task: Task) -> Task:
    """The task for a plan that waits for no follow-up."""
    return replace(task, after_followup=())


def with_invented(arguments: JsonObject, pointers: Sequence[str]) -> JsonObject:
    """A copy with a made-up value of the same type at each pointer, or at each leaf below it."""
    changed: JsonObject = copy.deepcopy(arguments)
    values = dict(leaves(changed))
    for number, pointer in enumerate(pointers):
        for leaf, value in values.items():
            if leaf == pointer or leaf.startswith(f"{pointer}/"):
                put(changed, leaf, invented_value(value, number))
    return changed


def put(value: Json, pointer: str, new: Json) -> None:
    """Set the value at a JSON Pointer."""
    *path, last = [unescape(token) for token in pointer.split("/")[1:]]
    for token in path:
        value = value[int(token)] if isinstance(value, list) else value[token]
    if isinstance(value, list):
        value[int(last)] = new
    else:
        value[last] = new


def invented_value(value: Json, number: int) -> Json:
    """Another value of the same JSON type that no task uses."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 918_273_645 + number
    if isinstance(value, list):
        return [f"made-up-{number}"]
    if isinstance(value, dict):
        return {f"made-up-{number}": number}
    return f"made-up-{number}"
