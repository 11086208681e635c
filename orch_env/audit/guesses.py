"""Exploits that guess: gold with wrong guesses beside its calls, near copies, or an echoed value.

Each has a counterpart, the same episode without the guess. A reward must not pay for the
difference. The docstrings are shown to users, see ``exploits.py``.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace

from orch_env.audit.argument_guesses import arguments_by_schema, properties_of
from orch_env.audit.from_gold import (
    budget_of,
    copy_of,
    play_steps,
    put,
    repeats_of_a_tool,
    with_invented,
    without_calls,
)
from orch_env.replay.policies import Plan
from orch_env.rewards.matching.calls import CallIdentities
from orch_env.tasks.resolved import derived
from orch_env.types import GoldCall, Provenance, Task, ToolCall
from orch_env.types.json import Json, find


def hedging(task: Task) -> Plan | None:
    """Gold, with a wrong guess of the same call before or after b of its calls, in turn."""
    left, before = budget_of(task), True
    steps: list[list[ToolCall]] = []
    number = 0
    for step in task.gold:
        around: tuple[list[ToolCall], list[ToolCall]] = [], []
        for call in step:
            told = telling(task, number)
            number += 1
            if told and left and not call.optional:
                guess = ToolCall(call.name, with_invented(call.arguments, told[:1]))
                around[0 if before else 1].append(guess)
                left, before = left - 1, not before
        steps += [around[0], [copy_of(call) for call in step], around[1]]
    after = tuple(count for count in task.after_followup for _ in range(3))
    timed = replace(task, after_followup=after)
    return play_steps(timed, steps) if left < budget_of(task) else None


def near_copies(task: Task) -> Plan | None:
    """The first gold call of each tool; for the others of that tool, near copies of it."""
    repeats = set(repeats_of_a_tool(task))
    if not repeats or len(set(derived(task, CallIdentities).gold)) < len(task.gold_calls):
        return None  # a near copy of a call that gold makes twice may stand for the second one
    first: dict[str, GoldCall] = {}
    copies: dict[str, Iterator[ToolCall]] = {}
    steps: list[list[ToolCall]] = []
    number = 0
    for step in task.gold:
        made: list[ToolCall] = []
        for call in step:
            if call.name not in first:
                first[call.name] = call
                copies[call.name] = _near_copies(task, number)
            made.append(next(copies[call.name]) if number in repeats else copy_of(call))
            number += 1
        steps.append(made)
    return play_steps(task, steps)


def echoed_guess(task: Task) -> Plan | None:
    """Leaves out a call, guesses its value right, and first has another tool's answer repeat it."""
    found = _guessable(task)
    return None if found is None else _echo_first(task, *found)


def bare_guess(task: Task) -> Plan | None:
    """Leaves out the same call and guesses its value right, without an echo."""
    found = _guessable(task)
    return None if found is None else without_calls(task, [found[0]])


def telling(task: Task, number: int) -> list[str]:
    """Pointers of the texts and numbers in a gold call that it took from the task's content.

    Not a constant, and not equal in all of several gold calls of the tool.
    """
    call = task.gold_calls[number]
    siblings = [other.arguments for other in task.gold_calls if other.name == call.name]
    found: list[str] = []
    for pointer, ref in call.provenance.items():
        value = find(call.arguments, pointer)
        scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
        if ref.kind is Provenance.CONSTANT or not scalar:
            continue
        if len(siblings) == 1 or any(find(other, pointer) != value for other in siblings):
            found.append(pointer)
    return found


def _near_copies(task: Task, number: int) -> Iterator[ToolCall]:
    """Copies of a gold call that differ by blanks, case, or an argument that is null."""
    call = task.gold_calls[number]
    known = properties_of(task.tool_spec(call.name))
    unused: dict[str, Json] = {name: None for name in known if name not in call.arguments}
    texts = [p for p in telling(task, number) if isinstance(find(call.arguments, p), str)]
    for count in itertools.count(1):
        for pointer in texts[:1]:
            text = find(call.arguments, pointer)
            for changed in (text + " " * count, text.swapcase() + " " * (count - 1)):
                copied = copy.deepcopy(call.arguments)
                put(copied, pointer, changed)
                yield ToolCall(call.name, copied)
        yield ToolCall(call.name, {**call.arguments, **dict(list(unused.items())[:count])})


def _guessable(task: Task) -> tuple[int, str] | None:
    """A required call and a text or number that only one later required call takes from it."""
    for call in task.gold_calls:
        for pointer, ref in call.provenance.items():
            value = find(call.arguments, pointer)
            scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
            if ref.call is None or call.optional or not scalar or str(value) in task.query:
                continue
            if not task.gold_calls[ref.call].optional:
                return ref.call, str(value)
    return None


def _echo_first(task: Task, producer: int, value: str) -> Plan:
    """Try tools, up to b, until one repeats ``value``; then gold without ``producer``."""
    specs = [task.tool_spec(name) for name in task.tool_names]
    tried = 0
    for spec in specs:
        if spec is None or tried == budget_of(task):
            continue
        texts = [n for n, v in arguments_by_schema(spec).items() if isinstance(v, str)]
        if not texts or spec.name == task.gold_calls[producer].name:
            continue
        tried += 1
        results = yield [ToolCall(spec.name, arguments_by_schema(spec) | {texts[0]: value})]
        if any(value in result for result in results):
            break
    rest = without_calls(task, [producer])
    return "" if rest is None else (yield from rest)
