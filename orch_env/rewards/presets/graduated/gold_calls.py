"""A task's gold calls as ``graduated`` reads them, and model calls compared with them.

:class:`GoldCalls` is the first edition's reading, :class:`SecondEdition` adds what the second looks
at.

What depends only on the task and a call's text (its identity, how its arguments compare with each
gold call's) is computed once and kept with the task: the members of a group, and one task over the
epochs, make the same calls again and again. What depends on the episode (did the call run, what had
been seen) is not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

from orch_env.rewards.matching.alignment import holds_sets
from orch_env.rewards.matching.arguments import Comparison, argument_leaves, compare_arguments
from orch_env.rewards.matching.calls import CallIdentities, RespeltIdentities, remembered
from orch_env.rewards.matching.text_index import TextIndex
from orch_env.rewards.outcome import is_read
from orch_env.rewards.presets.graduated.consequences import taken_values
from orch_env.rewards.presets.graduated.data_flow import GoldEdges, edges_of, with_echoes
from orch_env.rewards.presets.graduated.telling import (
    Likeness,
    Projection,
    compare_telling,
    distinguishing,
    projection,
    telling_leaves,
)
from orch_env.tasks.resolved import derived
from orch_env.types import Task, ToolCall
from orch_env.types.json import Json
from orch_env.values import stated


class ComparedCall(NamedTuple):
    """A call beside the gold calls of its tool, in whichever episode it was made.

    Attributes:
        key: its canonical identity.
        gold: number of each gold call of its tool -> the arguments of both compared.
        group: of the calls of one group at most as many are paid as gold has, at least one.
        likeness: second edition: number of each gold call whose values it does not all have -> how
            near it comes.
    """

    key: str
    gold: dict[int, Comparison]
    group: str
    likeness: dict[int, Likeness]

    @property
    def exact(self) -> bool:
        """Second edition: whether it is one of the gold calls, value by value."""
        return len(self.likeness) < len(self.gold)


class GoldCalls:
    """A task's gold calls.

    Args:
        task: must not be changed in place while this object is kept.

    Attributes:
        task: the task.
        query: everything the user says.
        calls: the gold calls, by number.
        required: numbers of those that may not be left out.
        required_of: tool -> how many of its gold calls are required.
        counted: n, how many gold calls weigh in the total and in the budget: all of them, in the
            second edition the required ones.
        keys: canonical identity of each.
        copies: identity, or group (see :class:`ComparedCall`) -> how many gold calls are in it.
        optional: identity -> numbers of the optional gold calls that have it.
        optional_only: groups in which only optional gold calls are.
        edges: the dependencies of each.
        by_name: tool -> numbers of its gold calls.
    """

    edition: ClassVar[int] = 1
    identities: ClassVar[type[CallIdentities]] = CallIdentities

    def __init__(self, task: Task) -> None:
        self.task = task
        self.query = TextIndex(task.query)
        self.calls = task.gold_calls
        self._identities = derived(task, self.identities)
        given = [stated(c.arguments, self._identities.rules(c.name)) for c in self.calls]
        self.required = tuple(i for i, call in enumerate(self.calls) if not call.optional)
        self.edges: tuple[GoldEdges, ...] = tuple(map(edges_of, self.calls, given))
        self.by_name: dict[str, list[int]] = {}
        for number, call in enumerate(self.calls):
            self.by_name.setdefault(call.name, []).append(number)
        self.keys = self._identities.gold
        self.required_of = Counter(self.calls[n].name for n in self.required)
        self.counted = len(self.calls)
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
        key = self._identities.of(call.name, call.arguments)
        group = self._group(key, call.name, plain)
        return ComparedCall(key, comparisons, group, self._likeness(comparisons))

    def _group(self, key: str, name: str, leaves: Mapping[str, Json]) -> str:
        return key

    def _likeness(self, comparisons: Mapping[int, Comparison]) -> dict[int, Likeness]:
        return {}


class SecondEdition(GoldCalls):
    """A task's gold calls as the second edition reads them.

    Attributes:
        query: what the user says at first.
        followups: what the user says later.
        telling: for each gold call, the pointers of its telling leaves.
        taken: for each gold call, the values that later gold calls take from its result.
        reads: for each gold call, whether it changes nothing: a recorded call, or one of a tool
            that only reads.
    """

    edition = 2
    identities = RespeltIdentities

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.counted = len(self.required)
        self.query = TextIndex(task.opening_query)
        self.followups = tuple(map(TextIndex, task.followups))
        self.edges = tuple(
            replace(with_echoes(edges, self.calls), heard=task.followups_before(number))
            for number, edges in enumerate(self.edges)
        )
        self._differing = {
            name: distinguishing(
                [self._leaves[n] for n in self._distinct(numbers)], self._identities.rules(name)
            )
            for name, numbers in self.by_name.items()
        }
        self.telling = tuple(
            telling_leaves(
                leaves,
                call.provenance,
                self._identities.rules(call.name),
                self._differing[call.name],
            )
            for call, leaves in zip(self.calls, self._leaves, strict=True)
        )
        self.taken = taken_values(self.edges)
        self.reads = tuple(is_read(task, call.name) for call in self.calls)
        own = (
            self._project(c.name, leaves)
            for c, leaves in zip(self.calls, self._leaves, strict=True)
        )
        self._projected = frozenset(found.text for found in own if found is not None)
        groups = [self.compare(ToolCall(c.name, c.arguments)).group for c in self.calls]
        self.copies.update(Counter(g for g, key in zip(groups, self.keys, strict=True) if g != key))
        self.optional_only = frozenset(groups).difference(groups[n] for n in self.required)

    def _distinct(self, numbers: Sequence[int]) -> list[int]:
        """One number of each identity."""
        return list({self.keys[n]: n for n in reversed(numbers)}.values())

    def _project(self, name: str, leaves: Mapping[str, Json]) -> Projection | None:
        pointers = self._differing.get(name, frozenset())
        return projection(name, leaves, pointers, self._identities.rules(name))

    def _group(self, key: str, name: str, leaves: Mapping[str, Json]) -> str:
        found = self._project(name, leaves)
        # Calls that lack one of these arguments are alike only where a gold call lacks it too.
        alike = found is not None and (found.whole or found.text in self._projected)
        return found.text if found is not None and alike else key

    def _likeness(self, comparisons: Mapping[int, Comparison]) -> dict[int, Likeness]:
        return {
            number: compare_telling(comparison, self.telling[number])
            for number, comparison in comparisons.items()
            if comparison.values < 1.0
        }
