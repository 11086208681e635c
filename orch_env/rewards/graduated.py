"""``graduated``: the default reward. Partial credit per call, with gold as the unique maximum.

For a model call c and a gold call g of the same name, over the union U of their argument leaves::

    T = share of U with compatible type      V = share of U with equal value
    F = share of g's dependencies satisfied  ok = 1 if c returned no error
    atomic        = 0.1 + 0.2 T + 0.5 V + 0.2 ok
    orchestration = F V ok
    s = w_atomic * atomic + w_orchestration * orchestration

``S`` is the largest sum of ``s`` over one-to-one pairs with the required gold calls, divided by
their number; calls that are neither paired nor optional cost a little within a budget and much
beyond it. ``total = max(0, S (1 - cost))``, rounded to a multiple of 2^-40 so that differences of
totals (dense rewards) add up exactly. Range 0..1.

The hard decision: dependencies multiply with the *right value* (``F V ok``), so an order that
merely looks right earns nothing, and the data flow is judged by what the model had seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orch_env.rewards.account import explain
from orch_env.rewards.arguments import Comparison, argument_leaves, compare_arguments
from orch_env.rewards.edges import GoldEdges, edges_of, satisfied_edges
from orch_env.rewards.made_calls import MadeCall, call_identity, made_calls
from orch_env.rewards.matching import assign
from orch_env.rewards.outcome import AnswerRule, read_outcome
from orch_env.rewards.protocol import Component
from orch_env.rewards.visibility import Visibility
from orch_env.rewards.weights import Weights
from orch_env.types import CallAccount, Episode, GoldCall, RewardBreakdown, Task
from orch_env.types.json import Json

NAME, TYPES, VALUES, SUCCESS = 0.1, 0.2, 0.5, 0.2
"""Parts of ``atomic``; they sum to 1."""
BUDGET = 0.5
"""Extra calls within ``ceil(BUDGET * n)`` are nearly free: exploring is no fault."""
WITHIN, STEP, BEYOND = 0.02, 0.03, 0.5
"""Cost of a full budget; of crossing it; and of ``n + budget`` further calls."""
ABSTENTION = 0.5
"""Factor per call on a task that needs none."""
COLLATERAL = 0.8
"""Factor for a change of state that gold does not make."""
GRAIN = 2.0**40
"""Totals are multiples of 1 / GRAIN."""
COMPONENTS = (
    Component("atomic", 0.0, 1.0, "mean over required gold calls of 0.1 + 0.2 T + 0.5 V + 0.2 ok"),
    Component("orchestration", 0.0, 1.0, "mean over required gold calls of F V ok"),
    Component("matched", 0.0, 1.0, "share of required gold calls that have a call"),
    Component("extra_calls", 0.0, math.inf, "x: calls neither assigned nor optional"),
    Component(
        "cost",
        0.0,
        math.inf,
        "0.02 min(x, b)/b + [x > b] (0.03 + 0.5 (x - b)/(n + b)), b = ceil(n/2)",
    ),
    Component("failed_calls", 0.0, math.inf, "calls that returned an error"),
    Component("state", 0.0, 1.0, "final state equal to gold's; only where gold changes state"),
    Component("answer", 0.0, 1.0, "closing answer equal to gold's; only where gold has one"),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One model call beside one gold call of its name."""

    comparison: Comparison
    edges: tuple[str, ...]
    atomic: float
    orchestration: float
    score: float


@dataclass(frozen=True, slots=True)
class GoldView:
    """A task's gold calls as this reward reads them."""

    calls: tuple[GoldCall, ...]
    required: tuple[int, ...]
    leaves: tuple[dict[str, Json], ...]
    keys: tuple[str, ...]
    edges: tuple[GoldEdges, ...]

    @classmethod
    def of(cls, task: Task) -> GoldView:
        """Read a task."""
        calls = task.gold_calls
        return cls(
            calls=calls,
            required=tuple(i for i, call in enumerate(calls) if not call.optional),
            leaves=tuple(argument_leaves(call.arguments) for call in calls),
            keys=tuple(call_identity(call.name, call.arguments) for call in calls),
            edges=tuple(edges_of(call) for call in calls),
        )


@dataclass(frozen=True, slots=True)
class GraduatedReward:
    """The graduated reward.

    Its ``components``, beside the total: ``atomic`` and ``orchestration`` (means over the required
    gold calls of what their calls earned, 0..1), ``matched`` (share of required gold calls that
    have a call at all), ``extra_calls``, ``cost`` (the share that those take away),
    ``failed_calls``; ``answer`` and ``state`` (0 or 1) where they count.

    Attributes:
        weights: of the two halves of a call's score; they sum to at most 1 (to 1 for a maximum
            of 1).
        answer: weight of the closing answer beside one gold call, where the task has an answer.
        state: weight of the final state likewise.
        answers: how a closing answer is held against gold's.
    """

    weights: Weights = field(default_factory=Weights)
    answer: float = 1.0
    state: float = 1.0
    answers: AnswerRule = field(default_factory=AnswerRule)

    @property
    def name(self) -> str:
        """The preset's name."""
        return "graduated"

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score a finished or running episode of ``task``; the total lies in 0..1."""
        gold, made = GoldView.of(task), made_calls(episode)
        pairs = self._pairs(task, episode, gold, made)
        columns = [[pairs[c.position].get(g) for g in gold.required] for c in made]
        scores = [[0.0 if pair is None else pair.score for pair in row] for row in columns]
        assigned = {
            position: gold.required[column]
            for position, column in assign(made, scores, Counter(gold.keys)).items()
        }
        optional = free_optional_calls(gold, made, assigned)
        extra = len(made) - len(assigned) - len(optional)
        chosen = {p: pairs[p][g] for p, g in {**assigned, **optional}.items() if g in pairs[p]}
        parts = self._components(task, episode, gold, made, assigned, chosen, extra)
        total = parts.pop("total")
        return RewardBreakdown(
            total=total,
            components=parts,
            calls=_accounts(gold, made, {**assigned, **optional}, chosen),
        )

    def _pairs(
        self, task: Task, episode: Episode, gold: GoldView, made: Sequence[MadeCall]
    ) -> list[dict[int, Pair]]:
        """For each model call, its pairs with the gold calls of the same name."""
        visibility = Visibility.of(task.query, episode)
        by_name: dict[str, list[int]] = {}
        for number, gold_call in enumerate(gold.calls):
            by_name.setdefault(gold_call.name, []).append(number)
        pairs: list[dict[int, Pair]] = []
        for call in made:
            row: dict[int, Pair] = {}
            if not call.malformed and call.name in by_name:
                leaves = argument_leaves(call.arguments)
                for number in by_name[call.name]:
                    row[number] = self._pair(call, leaves, number, gold, made, visibility)
            pairs.append(row)
        return pairs

    def _pair(
        self,
        call: MadeCall,
        leaves: Mapping[str, Json],
        number: int,
        gold: GoldView,
        made: Sequence[MadeCall],
        visibility: Visibility,
    ) -> Pair:
        comparison = compare_arguments(leaves, gold.leaves[number])
        broken, share = satisfied_edges(
            call, gold.calls[number], gold.edges[number], gold.keys, made, visibility
        )
        atomic = NAME + TYPES * comparison.types + VALUES * comparison.values + SUCCESS * call.ok
        orchestration = share * comparison.values * call.ok
        score = self.weights.atomic * atomic + self.weights.orchestration * orchestration
        return Pair(comparison, broken, atomic, orchestration, score)

    def _components(
        self,
        task: Task,
        episode: Episode,
        gold: GoldView,
        made: Sequence[MadeCall],
        assigned: Mapping[int, int],
        chosen: Mapping[int, Pair],
        extra: int,
    ) -> dict[str, float]:
        required, n = len(gold.required), len(gold.calls)
        matched = [chosen[position] for position in assigned]
        parts: dict[str, float] = {
            "atomic": sum(p.atomic for p in matched) / required if required else 1.0,
            "orchestration": sum(p.orchestration for p in matched) / required if required else 1.0,
            "matched": len(matched) / required if required else 1.0,
        }
        score = sum(p.score for p in matched) / required if required else 1.0
        weight = float(n)
        outcome = read_outcome(task, episode, self.answers)
        if outcome.state is not None:
            parts["state"] = outcome.state
            score = _mix(score, weight, outcome.state, self.state)
            weight += self.state
        if outcome.answer is not None:
            parts["answer"] = outcome.answer
            score = _mix(score, weight, outcome.answer, self.answer)
        collateral = COLLATERAL if outcome.collateral else 1.0
        cost = verbosity_cost(extra, n) if n else 1.0 - ABSTENTION**extra
        parts["extra_calls"] = float(extra)
        parts["cost"] = cost
        parts["failed_calls"] = float(sum(not call.ok for call in made))
        parts["total"] = round(max(0.0, score * collateral * (1.0 - cost)) * GRAIN) / GRAIN
        return parts


def verbosity_cost(extra: int, gold_calls: int) -> float:
    """The share of the score that ``extra`` needless calls cost, for ``gold_calls`` >= 1.

    ``0.02 min(x, b)/b + [x > b] (0.03 + 0.5 (x - b)/(n + b))`` with ``b = ceil(n / 2)``.
    """
    budget = math.ceil(BUDGET * gold_calls)
    cost = WITHIN * min(extra, budget) / budget
    if extra > budget:
        cost += STEP + BEYOND * (extra - budget) / (gold_calls + budget)
    return cost


def free_optional_calls(
    gold: GoldView, made: Sequence[MadeCall], assigned: Mapping[int, int]
) -> dict[int, int]:
    """Unassigned model calls that equal an optional gold call: position -> gold number."""
    free: dict[str, list[int]] = {}
    for number, call in enumerate(gold.calls):
        if call.optional:
            free.setdefault(gold.keys[number], []).append(number)
    taken: dict[int, int] = {}
    for call_made in made:
        if call_made.position in assigned or call_made.key is None:
            continue
        waiting = free.get(call_made.key)
        if waiting:
            taken[call_made.position] = waiting.pop(0)
    return taken


def _mix(score: float, weight: float, part: float, part_weight: float) -> float:
    """``(weight * score + part_weight * part) / (weight + part_weight)``."""
    whole = weight + part_weight
    return (weight * score + part_weight * part) / whole if whole else score


def _accounts(
    gold: GoldView,
    made: Sequence[MadeCall],
    taken: Mapping[int, int],
    chosen: Mapping[int, Pair],
) -> tuple[CallAccount, ...]:
    seen: dict[str, int] = {}
    accounts: list[CallAccount] = []
    names = frozenset(call.name for call in gold.calls)
    for call in made:
        number, pair = taken.get(call.position), chosen.get(call.position)
        repeat = seen.get(call.key) if call.key is not None else None
        accounts.append(
            CallAccount(
                turn=call.turn,
                index=call.index,
                gold=number,
                atomic=pair.atomic if pair else 0.0,
                orchestration=pair.orchestration if pair else 0.0,
                arguments=dict(pair.comparison.leaves) if pair else {},
                why=explain(
                    call,
                    gold=number,
                    optional=number is not None and gold.calls[number].optional,
                    arguments=pair.comparison.leaves if pair else {},
                    broken=pair.edges if pair else (),
                    repeat_of=repeat,
                    name_in_gold=call.name in names,
                ),
            )
        )
        if call.key is not None:
            seen.setdefault(call.key, call.turn)
    return tuple(accounts)
