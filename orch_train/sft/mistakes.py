"""Imperfect versions of gold plans, for a warm start that leaves something to a reward.

A model that imitates a mixture of right and wrong trajectories knows how to do the task and does
it in a part of its samples: what group-relative rewards can sharpen. Whatever
depends on a wrong call is left out. The demonstrator would otherwise use values that the
conversation does not hold, and teach the model to make values up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import count, takewhile
from random import Random
from typing import Any

from orch_env.types import GoldCall, Task
from orch_env.types.json import Json
from orch_env.values import SchemaRules, values_equal


class DemonstrationKind(StrEnum):
    """What a demonstration shows."""

    GOLD = "gold"
    """The gold calls, then the answer."""
    STOPPED_EARLY = "stopped_early"
    """The answer comes before all calls were made."""
    WRONG_TOOL = "wrong_tool"
    """One call goes to another tool, one with the same parameters if there is one."""
    WRONG_ARGUMENT = "wrong_argument"
    """One argument holds another value: one of this conversation, else one of another task."""
    REPEATED_CALL = "repeated_call"
    """One call is made twice, the second time in a message of its own."""


MISTAKES = tuple(k for k in DemonstrationKind if k is not DemonstrationKind.GOLD)


class Mistakes:
    """Makes mistakes in the plans of a set of tasks.

    Args:
        tasks: all tasks; their argument values are the pool for wrong ones.
        rate: share of plans that get exactly one mistake, 0..1.
        kinds: mistakes to choose from, each as likely as the other.
    """

    def __init__(
        self, tasks: Iterable[Task], rate: float, kinds: Sequence[DemonstrationKind] = MISTAKES
    ) -> None:
        self._rate, self._kinds = rate, kinds
        self._pool: dict[tuple[str, str], list[Json]] = {}
        for task in tasks:
            for call in task.gold_calls:
                for name, value in call.arguments.items():
                    self._pool.setdefault((call.name, name), []).append(value)

    def corrupt(
        self, task: Task, tools: Sequence[Mapping[str, Any]], rng: Random
    ) -> tuple[DemonstrationKind, Task]:
        """Draw whether and how a task's plan goes wrong.

        Args:
            task: the task.
            tools: the tools on offer, in a plain form or OpenAI's. What their schemas call equal
                to gold's value is no wrong one.
            rng: all chance comes from here.

        Returns:
            The kind, and the task with the wrong plan in place of its gold. A mistake that the
            plan leaves no room for gives way to another one; a task without gold stays gold.
        """
        if rng.random() >= self._rate or not task.gold_calls:
            return DemonstrationKind.GOLD, task
        for kind in rng.sample(self._kinds, len(self._kinds)):
            planned = self._made(kind, task, tools, rng)
            if planned is not None:
                return kind, planned
        return DemonstrationKind.GOLD, task

    def _made(
        self,
        kind: DemonstrationKind,
        task: Task,
        tools: Sequence[Mapping[str, Any]],
        rng: Random,
    ) -> Task | None:
        number = rng.randrange(len(task.gold_calls))
        call = task.gold_calls[number]
        if kind is DemonstrationKind.STOPPED_EARLY:
            return stopped_early(task, rng)
        if kind is DemonstrationKind.REPEATED_CALL:
            return repeated(task, number)
        if kind is DemonstrationKind.WRONG_TOOL:
            name = other_tool(call, tools, rng)
            return None if name is None else replaced(task, number, replace(call, name=name))
        arguments = self._wrong_arguments(task, number, tools, rng)
        if arguments is None:
            return None
        return replaced(task, number, replace(call, arguments=arguments))

    def _wrong_arguments(
        self, task: Task, number: int, tools: Sequence[Mapping[str, Any]], rng: Random
    ) -> dict[str, Any] | None:
        call = task.gold_calls[number]
        rules = _rules(call.name, tools)
        for name in rng.sample(sorted(call.arguments), len(call.arguments)):
            right, at = call.arguments[name], rules.member(name) if rules is not None else None
            seen = _others(right, _values_in_sight(task, number), at)
            values = seen or _others(right, self._pool[call.name, name], at)
            if values:
                return {**call.arguments, name: rng.choice(values)}
        return None


def stopped_early(task: Task, rng: Random) -> Task:
    """The first steps only: at least one where there are two, none where there is one."""
    filled = [n for n, step in enumerate(task.gold) if step]
    end = filled[rng.randrange(1, len(filled))] if len(filled) > 1 else 0
    return replace(task, gold=task.gold[:end], after_followup=task.after_followup[:end])


def repeated(task: Task, number: int) -> Task:
    """The plan with one call made again right after the step it stands in."""
    step = next(n for n, calls in enumerate(_numbered(task)) if number in calls)
    gold, after = task.gold, task.after_followup
    return replace(
        task,
        gold=(*gold[: step + 1], (task.gold_calls[number],), *gold[step + 1 :]),
        after_followup=(*after[: step + 1], *after[step:]),
    )


def replaced(task: Task, number: int, wrong: GoldCall) -> Task:
    """The plan with one call replaced, without the calls that depend on it."""
    lost = {number}
    for later, call in enumerate(task.gold_calls):
        needed = set(call.depends_on).union(*(r.producers() for r in call.provenance.values()))
        if needed & lost:
            lost.add(later)
    steps = tuple(
        tuple(wrong if n == number else c for n, c in calls.items() if n == number or n not in lost)
        for calls in _numbered(task)
    )
    return replace(task, gold=steps)


def other_tool(call: GoldCall, tools: Sequence[Mapping[str, Any]], rng: Random) -> str | None:
    """Another tool on offer, one that takes the same parameters if there is one."""
    others: list[str] = []
    fitting: list[str] = []
    for tool in tools:
        body = tool.get("function", tool)
        if body["name"] == call.name:
            continue
        others.append(body["name"])
        if set((body.get("parameters") or {}).get("properties") or {}) == set(call.arguments):
            fitting.append(body["name"])
    return rng.choice(fitting or others) if others else None


def _rules(name: str, tools: Sequence[Mapping[str, Any]]) -> SchemaRules | None:
    """The rules of a tool's arguments, ``None`` if it is not on offer."""
    bodies = (tool.get("function", tool) for tool in tools)
    known = (b for b in bodies if name == b["name"] or name in b.get("aliases", ()))
    return next((SchemaRules.of(body.get("parameters")) for body in known), None)


def _numbered(task: Task) -> list[dict[int, GoldCall]]:
    """The calls of each step by their numbers in the plan."""
    numbers = count()
    return [{next(numbers): call for call in step} for step in task.gold]


def _values_in_sight(task: Task, number: int) -> list[Json]:
    """Argument values whose sources lie before this call: what its writer could mix up."""
    earlier = takewhile(lambda calls: number not in calls, _numbered(task))
    before = {n for calls in earlier for n in calls}
    heard = task.followups_before(number)
    values: list[Json] = []
    for other, call in enumerate(task.gold_calls):
        if task.followups_before(other) > heard:
            continue
        for name, value in call.arguments.items():
            sources = call.provenance.get(f"/{name}")
            if sources is not None and sources.producers() <= before:
                values.append(value)
    return values


def _others(right: Json, values: Iterable[Json], rules: SchemaRules | None) -> list[Json]:
    """Values of the same type as the right one that differ from it, without repetitions."""
    found = {
        json.dumps(v, sort_keys=True): v
        for v in values
        if type(v) is type(right) and not values_equal(v, right, rules)
    }
    return [found[key] for key in sorted(found)]
