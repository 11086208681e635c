"""``graduated``: the default reward. Partial credit per call, with gold as the unique maximum.

For a model call c and a gold call g of the same name, over the union U of their argument leaves::

    T = share of U with compatible type      V = share of U with equal value
    K = share of g's telling leaves with equal value
    F = share of g's dependencies satisfied  ok = 1 if c returned no error
    atomic        = 0.1 + (1 + K)/2 (0.2 T + 0.5 V + 0.2 ok)
    orchestration = F V K ok
    s = w_atomic * atomic + w_orchestration * orchestration

``S`` is the largest sum of ``s`` over one-to-one pairs with the required gold calls, divided by
their number; calls that are neither paired nor optional cost a little within a budget and much
beyond it, and second guesses more. ``total = max(0, S * (1 - cost))``, rounded to a multiple of
2^-40 so that differences of totals (dense rewards) add up exactly. Range 0..1.

A call that changes nothing and whose result shows what gold's later calls take from g's is nearly
right however it is spelt (:mod:`.consequences`); which leaves are telling says :mod:`.telling`. The
first edition has neither (K = 1), weighs optional gold calls too, and charges no second guess.

Attribution: a call assigned to a required gold call earns its ``s`` in the total's units. The k-th
needless call, by position, loses ``cost(k) - cost(k - 1)`` of the total, at most all of it. The
answer belongs to the last turn, the state in equal parts to the assigned calls that ran. A
collateral change makes all of these smaller by the same factor, because its call is not known.

Dependencies multiply with the *right value* (``F V ok``), so an order that merely looks right earns
nothing, and the data flow is judged by what the model had seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orch_env.rewards.credit.attribution import attributed, on_grid
from orch_env.rewards.credit.explanation import explain
from orch_env.rewards.matching.calls import MadeCall, made_calls, readable
from orch_env.rewards.options import Weights
from orch_env.rewards.outcome import AnswerRule, Outcome, read_outcome
from orch_env.rewards.presets.graduated.assignment import assign
from orch_env.rewards.presets.graduated.gold_calls import GoldCalls, SecondEdition
from orch_env.rewards.presets.graduated.pairs import Pair, pair_calls
from orch_env.rewards.presets.graduated.scoring import (
    Achievement,
    achieved,
    marginal_costs,
    verbosity_cost,
)
from orch_env.rewards.protocol import Component
from orch_env.tasks.resolved import derived
from orch_env.types import CallAccount, Episode, OrchError, RewardBreakdown, Task

COMPONENTS = (
    Component(
        "atomic", "mean over required gold calls of 0.1 + (1 + K)/2 (0.2 T + 0.5 V + 0.2 ok)"
    ),
    Component("orchestration", "mean over required gold calls of F V K ok"),
    Component("matched", "share of required gold calls that have a call"),
    Component("extra_calls", "x: calls neither assigned nor optional", high=math.inf),
    Component(
        "cost",
        "0.02 min(x, b)/b + [x > b] (0.03 + 0.5 (x - b)/(n + b)) + 0.25 g/n, b = ceil(n/2); "
        "1 - 0.5^x without gold calls",
        high=math.inf,
    ),
    Component(
        "second_guesses",
        "g: extra calls, with new arguments, of a tool whose gold calls are all stood for",
        high=math.inf,
    ),
    Component("failed_calls", "calls that returned an error", high=math.inf),
    Component("state", "final state equal to gold's; only where gold changes state"),
    Component("answer", "closing answer equal to gold's; only where gold has one"),
)


@dataclass(frozen=True, slots=True)
class GraduatedReward:
    """The graduated reward.

    Its ``components``, beside the total: ``atomic`` and ``orchestration`` (means over the required
    gold calls of what their calls earned, 0..1), ``matched`` (share of required gold calls that
    have a call at all), ``extra_calls``, ``second_guesses`` among them (second edition), ``cost``
    (the share that those take away), ``failed_calls``; ``answer`` and ``state`` (0..1) where they
    count.

    Attributes:
        weights: of the two halves of a call's score; they sum to at most 1 (to 1 for a maximum
            of 1).
        answer: weight of the closing answer beside one gold call, where the task has an answer.
        state: weight of the final state likewise.
        answers: how a closing answer is compared with gold's.
        edition: 1 or 2.

    Raises:
        OrchError: the weights sum to more than 1, or there is no such edition.
    """

    weights: Weights = field(default_factory=Weights)
    answer: float = 1.0
    state: float = 1.0
    answers: AnswerRule = field(default_factory=AnswerRule)
    edition: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.edition, bool) or self.edition not in (1, 2):
            raise OrchError(f"option 'edition' must be 1 or 2, got {self.edition!r}")
        weight = self.weights.atomic + self.weights.orchestration
        if weight > 1 + 1e-9:
            raise OrchError(
                f"weights sum to {weight:g}; this reward lies in 0..1, so they may sum to at most 1"
            )

    @property
    def name(self) -> str:
        """The preset's name."""
        return "graduated"

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score a finished or running episode of ``task``; the total lies in 0..1."""
        gold: GoldCalls = derived(task, GoldCalls if self.edition == 1 else SecondEdition)
        compared = [gold.compare(call) if readable(call) else None for call in episode.calls]
        made = made_calls(episode, [None if c is None else c.key for c in compared])
        pairs = pair_calls(gold, episode, made, compared, self.weights)
        scores = [
            {g: pair.score for g, pair in row.items() if not gold.calls[g].optional}
            for row in pairs
        ]
        groups = [None if c is None else c.group for c in compared]
        assigned = assign(made, scores, gold.copies, gold.optional_only, groups)
        optional = free_optional_calls(gold, made, pairs, assigned)
        matched = [pairs[position][number] for position, number in assigned.items()]
        outcome = read_outcome(task, episode, self.answers, infer=self.edition > 1)
        achievement = achieved(
            [pair.score for pair in matched],
            required=len(gold.required),
            gold_calls=gold.counted,
            outcome=outcome,
            state_weight=self.state,
            answer_weight=self.answer,
            edition=self.edition,
        )
        needless = find_needless(gold, made, assigned, optional)
        cost = verbosity_cost(len(needless), gold.counted, sum(needless.values()))
        total = on_grid(max(0.0, achievement.value * (1.0 - cost)))
        credits, closing = _credits(gold, made, pairs, assigned, needless, achievement)
        return attributed(
            total,
            _components(gold, made, matched, outcome, needless, cost),
            _accounts(gold, made, pairs, {**assigned, **optional}, needless),
            credits,
            turns=len(episode.turns),
            base=achievement.idle,
            own={len(episode.turns) - 1: closing},
        )


def free_optional_calls(
    gold: GoldCalls,
    made: Sequence[MadeCall],
    pairs: Sequence[Mapping[int, Pair]],
    assigned: Mapping[int, int],
) -> dict[int, int]:
    """Unassigned model calls that do what an optional gold call does: position -> gold number.

    Equal arguments are not enough: a call that failed, or that carries a value that could not have
    been seen, is as needless as any other, else gold would not be the only maximum.
    """
    free = {key: list(numbers) for key, numbers in gold.optional.items()}
    taken: dict[int, int] = {}
    if not free:
        return taken
    for call in made:
        if call.position in assigned or call.key is None or not call.ok:
            continue
        row = pairs[call.position]
        for number in free.get(call.key, ()):
            if not row[number].broken:
                taken[call.position] = number
                free[call.key].remove(number)
                break
    return taken


def find_needless(
    gold: GoldCalls,
    made: Sequence[MadeCall],
    assigned: Mapping[int, int],
    optional: Mapping[int, int],
) -> dict[int, bool]:
    """The model calls that stand for nothing: position -> whether it is a second guess.

    A second guess (second edition) is a call of a tool whose required gold calls are all stood for.
    Its arguments are others than those of every call before it and of every call that stands for a
    gold call.
    """
    if len(assigned) + len(optional) == len(made):
        return {}
    stood: dict[str, int] = {}
    for number in assigned.values():
        name = gold.calls[number].name
        stood[name] = stood.get(name, 0) + 1
    seen = {made[position].key for taken in (assigned, optional) for position in taken}
    needless: dict[int, bool] = {}
    for call in made:
        if call.position in assigned or call.position in optional:
            continue
        required = gold.required_of.get(call.name, 0)
        needless[call.position] = (
            gold.edition > 1
            and call.key is not None
            and call.key not in seen
            and required > 0
            and stood.get(call.name, 0) == required
        )
        seen.add(call.key)
    return needless


def _components(
    gold: GoldCalls,
    made: Sequence[MadeCall],
    matched: Sequence[Pair],
    outcome: Outcome,
    needless: Mapping[int, bool],
    cost: float,
) -> dict[str, float]:
    required = len(gold.required)
    parts: dict[str, float] = {
        "atomic": sum(p.atomic for p in matched) / required if required else 1.0,
        "orchestration": sum(p.orchestration for p in matched) / required if required else 1.0,
        "matched": len(matched) / required if required else 1.0,
    }
    if outcome.state is not None:
        parts["state"] = outcome.state
    if outcome.answer is not None:
        parts["answer"] = outcome.answer
    parts["extra_calls"] = float(len(needless))
    parts["cost"] = cost
    if gold.edition > 1:
        parts["second_guesses"] = float(sum(needless.values()))
    parts["failed_calls"] = float(sum(call.error is not None for call in made))
    return parts


def _credits(
    gold: GoldCalls,
    made: Sequence[MadeCall],
    pairs: Sequence[Mapping[int, Pair]],
    assigned: Mapping[int, int],
    needless: Mapping[int, bool],
    achievement: Achievement,
) -> tuple[list[float], float]:
    """What each call adds to the total, and what the last turn adds beside its calls."""
    costs = iter(marginal_costs(list(needless.values()), gold.counted))
    ran = sum(made[position].ok for position in assigned)
    state = achievement.factor * achievement.state
    credits: list[float] = []
    for call in made:
        number = assigned.get(call.position)
        if number is not None:
            credit = achievement.factor * achievement.per_score * pairs[call.position][number].score
            credits.append(credit + state / ran if call.ok else credit)
        elif call.position in needless:
            credits.append(-achievement.value * next(costs))
        else:
            credits.append(0.0)
    # A collateral change takes from what doing nothing earns, too.
    closing = (
        achievement.factor * achievement.answer + (achievement.factor - 1.0) * achievement.idle
    )
    return credits, closing if ran else closing + state


def _accounts(
    gold: GoldCalls,
    made: Sequence[MadeCall],
    pairs: Sequence[Mapping[int, Pair]],
    taken: Mapping[int, int],
    needless: Mapping[int, bool],
) -> tuple[CallAccount, ...]:
    seen: dict[str, int] = {}
    accounts: list[CallAccount] = []
    for call in made:
        number = taken.get(call.position)
        pair = None if number is None else pairs[call.position].get(number)
        status = pair.comparison.leaves if pair else _NOTHING
        spare = gold.optional.get(call.key or "", ()) if number is None else ()
        optional = bool(spare) if number is None else gold.calls[number].optional
        held = pairs[call.position][spare[0]] if spare else pair
        faulty = pair is not None and pair.comparison.values < 1.0
        why = explain(
            call,
            gold=number,
            optional=optional,
            arguments=status if faulty else _NOTHING,
            broken=held.broken if held else (),
            repeat_of=None if call.key is None else seen.get(call.key),
            name_in_gold=call.name in gold.by_name,
            reasons=pair.comparison.reasons if pair and faulty else None,
            brings=pair is not None and pair.brings,
            second_guess=needless.get(call.position, False),
        )
        accounts.append(
            CallAccount(
                call.turn,
                call.index,
                number,
                pair.atomic if pair else 0.0,
                pair.orchestration if pair else 0.0,
                dict(status),
                why,
            )
        )
        if call.key is not None:
            seen.setdefault(call.key, call.turn)
    return tuple(accounts)


_NOTHING: Mapping[str, str] = {}
