"""Matches model calls with gold calls for ``prove``, and checks their order.

Gold calls in order; each takes the earliest unused call of the same name that has all of its
argument *names*. ``mu`` is a call's index in the flat list of calls; E, the edges, are a gold
call's ``depends_on`` together with the calls whose outputs its arguments come from. A producer
without a match makes its consumers' product 0.

Model calls that equal an optional gold call, beyond those that equal required ones, are set aside
first, the later ones before the earlier. Without optional calls that is the published rule; with
them, leaving one out or making it changes nothing for the others. An optional producer makes no
edge.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orch_env.rewards.matching.arguments import EQUAL, Comparison, compare_calls
from orch_env.rewards.matching.calls import MadeCall
from orch_env.rewards.presets.schema_check import Candidates
from orch_env.types import GoldCall, Task
from orch_env.types.json import unescape


@dataclass(frozen=True, slots=True)
class Matching:
    """Model calls matched with gold calls.

    Attributes:
        required: numbers of the required gold calls, G.
        gold_of: position of a model call -> number of the required gold call it is matched with.
        optional: position of a model call -> number of the optional gold call it equals.
        ordered: matched gold call -> whether it comes after everything it depends on.
        shares: matched gold call -> share of its arguments that have its value, 0..1.
        comparisons: position of a matched call -> its arguments beside gold's.
        names: names that gold uses.
        candidates: the task's tools, by every name that reaches them.
    """

    required: tuple[int, ...]
    gold_of: Mapping[int, int]
    optional: Mapping[int, int]
    ordered: Mapping[int, bool]
    shares: Mapping[int, float]
    comparisons: Mapping[int, Comparison]
    names: frozenset[str]
    candidates: Candidates

    def uses(self, call: MadeCall) -> bool:
        """Whether gold uses the call's tool, by whichever of its names."""
        return not call.malformed and self.candidates.resolve(call.name) in self.names


def match(task: Task, candidates: Candidates, made: Sequence[MadeCall]) -> Matching:
    """Match an episode's calls with a task's gold calls."""
    gold = task.gold_calls
    names = [candidates.resolve(call.name) for call in gold]
    required = tuple(number for number, call in enumerate(gold) if not call.optional)
    optional = _set_aside(gold, candidates, made)
    waiting: dict[str, list[MadeCall]] = defaultdict(list)
    for call in made:
        if not call.malformed and call.position not in optional:
            waiting[candidates.resolve(call.name)].append(call)
    taken: dict[int, MadeCall] = {}
    for number in required:
        rest = waiting[names[number]]
        wanted = gold[number].arguments.keys()
        fits = (i for i, call in enumerate(rest) if wanted <= call.arguments.keys())
        first = next(fits, None)
        if first is not None:
            taken[number] = rest.pop(first)
    comparisons = {
        call.position: compare_calls(
            call.arguments, gold[number].arguments, candidates.rules(call.name)
        )
        for number, call in taken.items()
    }
    return Matching(
        required=required,
        gold_of={call.position: number for number, call in taken.items()},
        optional=optional,
        ordered={number: _in_order(number, gold, frozenset(required), taken) for number in taken},
        shares={
            number: equal_share(gold[number], comparisons[call.position])
            for number, call in taken.items()
        },
        comparisons=comparisons,
        names=frozenset(names),
        candidates=candidates,
    )


def producers(call: GoldCall) -> frozenset[int]:
    """Numbers of the gold calls that must come before this one: the edges that end in it."""
    carried = frozenset[int]().union(*(ref.producers() for ref in call.provenance.values()))
    return carried.union(call.depends_on)


def equal_share(gold: GoldCall, comparison: Comparison) -> float:
    """Share of gold's arguments with gold's value; an argument is one top-level entry.

    Nested ones are equal when all their leaves are; 1 for a gold call without arguments.
    """
    if not gold.arguments:
        return 1.0
    differing = {
        unescape(pointer[1:].split("/", 1)[0])
        for pointer, status in comparison.leaves.items()
        if status != EQUAL
    }
    return sum(name not in differing for name in gold.arguments) / len(gold.arguments)


def _in_order(
    number: int, gold: Sequence[GoldCall], required: frozenset[int], taken: Mapping[int, MadeCall]
) -> bool:
    """Whether every required producer is matched and comes before."""
    return all(
        producer in taken and taken[producer].position < taken[number].position
        for producer in producers(gold[number]) & required
    )


def _set_aside(
    gold: Sequence[GoldCall], candidates: Candidates, made: Sequence[MadeCall]
) -> dict[int, int]:
    """Position of a model call -> number of the optional gold call that it equals."""
    if not any(call.optional for call in gold):
        return {}
    needed: Counter[str] = Counter()
    free: dict[str, list[int]] = defaultdict(list)
    for number, call in enumerate(gold):
        key = candidates.identity(call.name, call.arguments)
        if call.optional:
            free[key].append(number)
        else:
            needed[key] += 1
    equal: dict[str, list[int]] = defaultdict(list)
    for made_call in made:
        if not made_call.malformed:
            key = candidates.identity(made_call.name, made_call.arguments)
            if key in free:
                equal[key].append(made_call.position)
    aside: dict[int, int] = {}
    for key, positions in equal.items():
        spare = positions[needed[key] :][-len(free[key]) :]
        aside.update(zip(spare, free[key], strict=False))
    return aside
