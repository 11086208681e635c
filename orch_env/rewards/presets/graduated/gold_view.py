"""A task's gold calls as ``graduated`` reads them, and model calls held against them.

The hard decision: what depends on the task and a call's text alone (its identity, how its
arguments compare with each gold call's) is worked out once and kept with the task, because the
members of a group, and one task over the epochs, make the same calls again and again. What depends
on the episode (did it run, what had been seen) is not part of it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from threading import Lock
from typing import NamedTuple

from orch_env.rewards.matching.alignment import holds_sets
from orch_env.rewards.matching.arguments import Comparison, argument_leaves, compare_arguments
from orch_env.rewards.matching.calls import ToolRules
from orch_env.rewards.presets.graduated.edges import edges_of
from orch_env.types import Task, ToolCall

MAX_VIEWS = 512
"""Tasks whose views are kept."""
MAX_READINGS, MAX_CHARS = 256, 4_000
"""Calls kept with a task, and the length of one beyond which it is not kept."""


class Reading(NamedTuple):
    """One call, whatever episode it stands in.

    Attributes:
        key: its canonical identity.
        comparisons: number of each gold call of its tool -> the arguments of both compared.
    """

    key: str
    comparisons: dict[int, Comparison]


class GoldView:
    """A task's gold calls.

    Args:
        task: must not be changed in place while its view is kept.

    Attributes:
        task: the task.
        query: everything the user says.
        calls: the gold calls, by number.
        required: numbers of those that may not be left out.
        keys: canonical identity of each.
        held: identity -> how many gold calls have it.
        optional: identity -> numbers of the optional gold calls that have it.
        spare: identities that only optional gold calls have.
        edges: the dependencies of each.
        by_name: tool -> numbers of its gold calls.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.query = task.query
        self.calls = task.gold_calls
        self.required = tuple(i for i, call in enumerate(self.calls) if not call.optional)
        self.edges = tuple(edges_of(call) for call in self.calls)
        self.by_name: dict[str, list[int]] = {}
        self._rules = ToolRules(task)
        for number, call in enumerate(self.calls):
            self.by_name.setdefault(call.name, []).append(number)
        self.keys = tuple(self._rules.identity(call.name, call.arguments) for call in self.calls)
        self.held = Counter(self.keys)
        self.optional: dict[str, tuple[int, ...]] = {}
        for number, call in enumerate(self.calls):
            if call.optional:
                key = self.keys[number]
                self.optional[key] = (*self.optional.get(key, ()), number)
        self.spare = frozenset(self.optional).difference(self.keys[n] for n in self.required)
        self._leaves = tuple(argument_leaves(call.arguments) for call in self.calls)
        self._sets = frozenset(
            number
            for number, call in enumerate(self.calls)
            if holds_sets(call.arguments, self._rules.of(call.name))
        )
        self._readings: dict[str, Reading] = {}

    def read(self, call: ToolCall) -> Reading:
        """A readable call beside the gold calls of its tool."""
        try:
            text = repr((call.name, call.arguments))
        except (RecursionError, ValueError):
            # Nested too deeply, or an integer with more digits than Python prints.
            return self._read(call)
        if len(text) > MAX_CHARS:
            return self._read(call)
        found = self._readings.get(text)
        if found is None:
            found = self._read(call)
            if len(self._readings) >= MAX_READINGS:
                self._readings.clear()
            self._readings[text] = found
        return found

    def _read(self, call: ToolCall) -> Reading:
        rules = self._rules.of(call.name)
        numbers = self.by_name.get(call.name, ())
        plain = argument_leaves(call.arguments) if numbers else {}
        comparisons: dict[int, Comparison] = {}
        for number in numbers:
            made = plain
            if number in self._sets:
                made = argument_leaves(call.arguments, rules, self.calls[number].arguments)
            comparisons[number] = compare_arguments(made, self._leaves[number], rules)
        return Reading(self._rules.identity(call.name, call.arguments), comparisons)


_views: OrderedDict[int, GoldView] = OrderedDict()
_lock = Lock()


def gold_view(task: Task) -> GoldView:
    """The view of a task, made once while it is among the most recently used; thread-safe.

    It is kept by identity, and keeps the task alive, so that no other task can take its place.
    """
    with _lock:
        found = _views.get(id(task))
        if found is not None:
            _views.move_to_end(id(task))
            return found
    made = GoldView(task)
    with _lock:
        _views[id(task)] = made
        if len(_views) > MAX_VIEWS:
            _views.popitem(last=False)
    return made


def forget_views() -> None:
    """Forget every view."""
    with _lock:
        _views.clear()
