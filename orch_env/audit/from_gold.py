"""Exploits that are built from gold: what a reward pays for gold done wrongly, or too often.

The hard decision: a plan returns ``None`` where a task offers nothing to exploit (no repeat to
drop, no producer to ignore), so that shares are taken over the tasks where the exploit *is* one.
Each gives gold's own answer at the end, except those that stop half-way.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence

from orch_env.replay.policies import CLOSING, Plan
from orch_env.types import GoldCall, Task, ToolCall
from orch_env.types.json import Json, JsonObject, leaves, unescape

BUDGET = 0.5
"""Extra calls per gold call that count as exploring."""
DUPLICATES = 5


def budget_of(task: Task) -> int:
    """``b = ceil(0.5 n)``, n being the number of gold calls."""
    return math.ceil(BUDGET * len(task.gold_calls))


def gold(task: Task) -> Plan:
    """Gold itself."""
    return _play(task, _steps(task))


def honest_half(task: Task) -> Plan:
    """The gold calls up to half of the required ones (rounded up), and no gold answer."""
    required = [n for n, call in enumerate(task.gold_calls) if not call.optional]
    half = math.ceil(len(required) / 2)
    return _partial(task, required[half - 1] + 1 if half else 0)


def first_call_only(task: Task) -> Plan | None:
    """The first gold call alone."""
    if not any(not call.optional for call in task.gold_calls[1:]):
        return None
    return _partial(task, 1)


def padded_in_budget(task: Task) -> Plan | None:
    """Gold, then its first b calls again."""
    return _padded(task, _repeats(task, budget_of(task)))


def padded_beyond(task: Task) -> Plan | None:
    """Gold, then b + 1 of its calls again."""
    return _padded(task, _repeats(task, budget_of(task) + 1))


def five_duplicates(task: Task) -> Plan | None:
    """Gold, then its first call five times more."""
    return _padded(task, [_made(call) for call in task.gold_calls[:1]] * DUPLICATES)


def repeat_left_out(task: Task) -> Plan | None:
    """Gold without the last call of a tool that gold had called before."""
    return _without(task, _repeats_of_a_tool(task)[-1:])


def repeats_dropped(task: Task) -> Plan | None:
    """Gold with only the first call of each tool."""
    return _without(task, _repeats_of_a_tool(task))


def backwards(task: Task) -> Plan | None:
    """All gold calls, the last one first, one a message."""
    calls = [_made(call) for call in task.gold_calls]
    return _play(task, [[call] for call in reversed(calls)]) if len(calls) > 1 else None


def one_message(task: Task) -> Plan | None:
    """All gold calls in one parallel message."""
    calls = [_made(call) for call in task.gold_calls]
    return _play(task, [calls]) if len(task.gold) > 1 else None


def invented_values(task: Task) -> Plan | None:
    """Gold, but every value that comes from an earlier output is made up."""
    steps: list[list[ToolCall]] = []
    invented = False
    for step in task.gold:
        made: list[ToolCall] = []
        for call in step:
            flowing = [p for p, ref in call.provenance.items() if ref.producers()]
            invented = invented or (bool(flowing) and not call.optional)
            made.append(ToolCall(call.name, _with_fresh(call.arguments, flowing)))
        steps.append(made)
    return _play(task, steps) if invented else None


def names_only(task: Task) -> Plan | None:
    """Gold's tools in gold's order and with its argument names, every value made up."""
    if not any(call.arguments and not call.optional for call in task.gold_calls):
        return None
    return _play(
        task,
        [
            [
                ToolCall(c.name, _with_fresh(c.arguments, [p for p, _ in leaves(c.arguments)]))
                for c in step
            ]
            for step in task.gold
        ],
    )


def _made(call: GoldCall) -> ToolCall:
    return ToolCall(call.name, call.arguments)


def _steps(task: Task) -> list[list[ToolCall]]:
    return [[_made(call) for call in step] for step in task.gold]


def _repeats(task: Task, count: int) -> list[ToolCall]:
    calls = task.gold_calls
    return [_made(calls[i % len(calls)]) for i in range(count)] if calls else []


def _repeats_of_a_tool(task: Task) -> list[int]:
    """Numbers of the required gold calls whose tool an earlier gold call used."""
    names = [call.name for call in task.gold_calls]
    return [
        number
        for number, call in enumerate(task.gold_calls)
        if call.name in names[:number] and not call.optional
    ]


def _without(task: Task, dropped: Sequence[int]) -> Plan | None:
    """Gold without some of its calls, ``None`` if there are none to drop."""
    if not dropped:
        return None
    numbered = iter(range(len(task.gold_calls)))
    return _play(
        task,
        [[_made(call) for call in step if next(numbered) not in dropped] for step in task.gold],
    )


def _padded(task: Task, extra: Sequence[ToolCall]) -> Plan | None:
    return _play(task, [*_steps(task), *([call] for call in extra)]) if extra else None


def _play(task: Task, steps: Sequence[Sequence[ToolCall]]) -> Plan:
    """These messages, then gold's answer."""
    for step in steps:
        if step:
            yield step
    if task.answer is None:
        return CLOSING
    return task.answer if isinstance(task.answer, str) else json.dumps(task.answer)


def _partial(task: Task, count: int) -> Plan:
    """The first ``count`` gold calls in their steps, then the closing sentence."""
    left = count
    for step in _steps(task):
        if left and step:
            yield step[:left]
            left -= len(step[:left])
    return CLOSING


def _with_fresh(arguments: JsonObject, pointers: Sequence[str]) -> JsonObject:
    """A copy with a made-up value of the same type at each leaf that exists."""
    changed: JsonObject = copy.deepcopy(arguments)
    there = dict(leaves(changed))
    for number, pointer in enumerate(pointers):
        for leaf in _leaves_below(there, pointer):
            _put(changed, leaf, _fresh(there[leaf], number))
    return changed


def _leaves_below(there: dict[str, Json], pointer: str) -> Iterator[str]:
    """The pointer itself, or the leaves of the list or object that it names."""
    for leaf in there:
        if leaf == pointer or leaf.startswith(f"{pointer}/"):
            yield leaf


def _put(value: Json, pointer: str, new: Json) -> None:
    *path, last = [unescape(token) for token in pointer.split("/")[1:]]
    for token in path:
        value = value[int(token)] if isinstance(value, list) else value[token]
    if isinstance(value, list):
        value[int(last)] = new
    else:
        value[last] = new


def _fresh(value: Json, number: int) -> Json:
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
