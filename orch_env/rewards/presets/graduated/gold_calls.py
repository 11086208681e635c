"""A task's gold calls as ``graduated`` reads them, and model calls compared with them.

What depends only on the task and a call's text (its identity, how its arguments compare with each
gold call's) is computed once and kept with the task: the members of a group, and one task over the
epochs, make the same calls again and again. What depends on the episode (did the call run, what had
been seen) is not kept.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from orch_env.rewards.matching.alignment import holds_sets
from orch_env.rewards.matching.arguments import Comparison, argument_leaves, compare_arguments
from orch_env.rewards.matching.calls import CallIdentities, remembered
from orch_env.rewards.matching.text_index import TextIndex
from orch_env.rewards.presets.graduated.data_flow import edges_of
from orch_env.tasks.resolved import derived
from orch_env.types import Task, ToolCall
from orch_env.values import stated


class ComparedCall(NamedTuple):
    """A call beside the gold calls of its tool, in whichever episode it was made.

    Attributes:
        key: its canonical identity.
        comparisons: number of each gold call of its tool -> the arguments of both compared.
    """

    key: str
    comparisons: dict[int, Comparison]


class GoldCalls:
    """A task's gold calls.

    Args:
        task: must not be changed in place while this object is kept.

    Attributes:
        task: the task.
        query: everything the user says.
        calls: the gold calls, by number.
        required: numbers of those that may not be left out.
        keys: canonical identity of each.
        copies: identity -> how many gold calls have it.
        optional: identity -> numbers of the optional gold calls that have it.
        optional_only: identities that only optional gold calls have.
        edges: the dependencies of each.
        by_name: tool -> numbers of its gold calls.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.query = TextIndex(task.query)
        self.calls = task.gold_calls
        self._identities = derived(task, CallIdentities)
        given = [stated(c.arguments, self._identities.rules(c.name)) for c in self.calls]
        self.required = tuple(i for i, call in enumerate(self.calls) if not call.optional)
        self.edges = tuple(map(edges_of, self.calls, given))
        self.by_name: dict[str, list[int]] = {}
        for number, call in enumerate(self.calls):
            self.by_name.setdefault(call.name, []).append(number)
        self.keys = self._identities.gold
        self.copies = Counter(self.keys)
        self.optional: dict[str, tuple[int, ...]] = {}
        for number, call in enumerate(self.calls):
            if call.optional:
                key = self.keys[number]
                self.optional[key] = (*self.optional.get(key, ()), number)
        self.optional_only = frozenset(self.optional).difference(
            self.keys[n] for n in self.required
        )
        self._given = given
        self._leaves = tuple(map(argument_leaves, given))
        self._sets = frozenset(
            number
            for number, call in enumerate(self.calls)
            if holds_sets(given[number], self._identities.rules(call.name))
        )
        self._compared: dict[str, ComparedCall] = {}

    def compare(self, call: ToolCall) -> ComparedCall:
        """A readable call beside the gold calls of its tool."""
        return remembered(self._compared, call.name, call.arguments, lambda: self._compare(call))

    def _compare(self, call: ToolCall) -> ComparedCall:
        rules = self._identities.rules(call.name)
        numbers = self.by_name.get(call.name, ())
        given = stated(call.arguments, rules) if numbers else {}
        plain = argument_leaves(given)
        comparisons: dict[int, Comparison] = {}
        for number in numbers:
            made = plain
            if number in self._sets:
                made = argument_leaves(given, rules, self._given[number])
            comparisons[number] = compare_arguments(made, self._leaves[number], rules)
        return ComparedCall(self._identities.of(call.name, call.arguments), comparisons)
