"""Honest variations of gold: other trajectories that bring everything that gold brings.

They count only on the tasks where every gold call's own result comes back, so a look-up that the
tools do not find under another spelling is not held against a reward. The docstrings are shown to
users, see ``exploits.py``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace

from orch_env.audit.argument_guesses import arguments_by_schema, is_free_text, properties_of
from orch_env.audit.from_gold import copy_of, play_steps, steps_of
from orch_env.audit.writes import writing_tools
from orch_env.replay.policies import Plan, in_time
from orch_env.types import GoldCall, Provenance, Task, ToolCall
from orch_env.types.json import Json, escape, leaves, parse_json, unescape

_TOLD = (Provenance.QUERY, Provenance.REASONED)


def respelt_case(task: Task) -> Plan | None:
    """Gold, with the free text that its look-ups take from the query in another case."""
    return _respelt(task, str.swapcase)


def respelt_blank(task: Task) -> Plan | None:
    """Gold, with a blank after the free text that its look-ups take from the query."""
    return _respelt(task, lambda text: f"{text} ")


def respelt_accents(task: Task) -> Plan | None:
    """Gold, with the free text that its look-ups take from the query without its accents."""
    return _respelt(task, _without_accents)


def optional_constants_left_out(task: Task) -> Plan | None:
    """Gold without the constants in arguments that its tools do not require."""
    steps = [[_without_constants(task, call) for call in step] for step in task.gold]
    return play_steps(task, steps) if steps != steps_of(task) else None


def another_order(task: Task) -> Plan | None:
    """The gold calls one by one, in another order that every dependency allows."""
    calls = task.gold_calls
    after = [task.followups_before(number) for number in range(len(calls))]
    order: list[int] = []
    left = set(range(len(calls)))
    while left:
        heard = min(after[number] for number in left)
        ready = (n for n in left if after[n] == heard and not _needs(calls[n]) & left)
        order.append(max(ready))
        left.remove(order[-1])
    if order == sorted(order):
        return None
    timed = replace(task, after_followup=tuple(after[n] for n in order))
    return play_steps(timed, [[copy_of(calls[n])] for n in order])


def extra_look_up(task: Task) -> Plan | None:
    """Gold, and at the end a look-up that gold does not need, with values seen on the way."""
    used = {call.name for call in task.gold_calls} | writing_tools(task)
    if not task.gold_calls or all(name in used for name in task.tool_names):
        return None
    return _with_look_up(task, [name for name in task.tool_names if name not in used])


def _with_look_up(task: Task, tools: list[str]) -> Plan:
    seen: dict[str, Json] = {}
    for message in in_time(task, steps_of(task)):
        texts = yield message
        made = () if isinstance(message, str) else message
        for value in (*(call.arguments for call in made), *map(parse_json, texts)):
            for pointer, leaf in leaves(value):
                seen.setdefault(unescape(pointer.rpartition("/")[2]), leaf)
    for name in tools:
        spec = task.tool_spec(name)
        asked = arguments_by_schema(spec) if spec else {}
        if any(argument in seen for argument in asked):
            known = {argument: seen[argument] for argument in asked if argument in seen}
            yield [ToolCall(name, asked | known)]
            break
    return (yield from play_steps(task, []))


def _respelt(task: Task, change: Callable[[str], str]) -> Plan | None:
    writes = writing_tools(task)
    steps = [
        [copy_of(c) if c.name in writes else _respelt_call(task, c, change) for c in step]
        for step in task.gold
    ]
    return play_steps(task, steps) if steps != steps_of(task) else None


def _respelt_call(task: Task, call: GoldCall, change: Callable[[str], str]) -> ToolCall:
    known = properties_of(task.tool_spec(call.name))
    arguments = dict(call.arguments)
    for name, value in arguments.items():
        ref = call.provenance.get(f"/{escape(name)}")
        free = isinstance(value, str) and is_free_text(known.get(name, {}))
        if free and ref is not None and ref.kind in _TOLD:
            arguments[name] = change(value)
    return ToolCall(call.name, arguments)


def _without_constants(task: Task, call: GoldCall) -> ToolCall:
    spec = task.tool_spec(call.name)
    required = spec.parameters.get("required", []) if spec else None
    if not isinstance(required, list):
        return copy_of(call)
    constant = {p for p, ref in call.provenance.items() if ref.kind is Provenance.CONSTANT}
    return ToolCall(
        call.name,
        {
            name: value
            for name, value in call.arguments.items()
            if name in required or f"/{escape(name)}" not in constant
        },
    )


def _needs(call: GoldCall) -> set[int]:
    return set(call.depends_on).union(*(ref.producers() for ref in call.provenance.values()))


def _without_accents(text: str) -> str:
    plain = unicodedata.normalize("NFD", text)
    return "".join(letter for letter in plain if not unicodedata.combining(letter))
