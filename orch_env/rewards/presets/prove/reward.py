"""``prove``: validity, coverage in order, and a call budget (arXiv 2606.03892).

With N model calls and the gold calls G::

    total = 0.5 val + 0.5 cov + 0.15 eff + 0.2 name + 0.1 arg

- ``val``: mean over the N calls of three equal levels: the name is a candidate tool's; all required
  parameters are there with compatible JSON types; the call returned no error. For
  tasks without schemas see :mod:`orch_env.rewards.presets.schema_check`.
- ``cov``: ``1/|G| sum_g m(g) prod_{(j, g) in E} [mu(j) < mu(g)]``, see
  :mod:`orch_env.rewards.presets.prove.matching`.
- ``eff``: ``-alpha max(0, N - B) / B`` with ``B = n + ceil(beta n)``, n the number of gold calls.
- ``name``: share of the N calls whose name gold uses. ``arg``: mean over the matched pairs of the
  share of gold's arguments that have gold's value (1 for a gold call without arguments).

A call that could not be read counts in N and earns nothing. N = 0 on a task with required gold
calls earns 0. With the published weights the total lies in -inf..1.3: ``eff`` has no lower bound,
gold earns 1.3.

The paper knows no *optional* gold calls. Here ``cov`` and ``arg`` run over the required ones alone;
calls equal to an optional one are set aside before matching, so that they take no other call's
place, and optional calls count for ``name`` and in n.

A task may require no call: it has no gold calls, or all of them are optional. Then the total is not
the sum, whatever the weights. It is 1 if every call made equals a free optional call, or if none
was made, else 0. Each optional gold call frees one equal model call, so a repeat of it costs all.

It is reproduced, not repaired: a call in the same message as its producer counts as ordered, and a
matched call needs gold's argument names, not its values, so wrong values cost ``arg`` alone (0.1 of
1.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orch_env.rewards.credit.attribution import attributed
from orch_env.rewards.credit.explanation import sentence
from orch_env.rewards.matching.arguments import UNKNOWN, Comparison
from orch_env.rewards.matching.calls import MadeCall, made_calls
from orch_env.rewards.options import PartWeights, at_least_0
from orch_env.rewards.presets.prove.matching import Matching, match
from orch_env.rewards.presets.schema_check import CallFaults, Candidates
from orch_env.rewards.protocol import Component
from orch_env.types import CallAccount, Episode, RewardBreakdown, Task

_SHOWN = 3
_SOURCE = "arXiv 2606.03892"
COMPONENTS = (
    Component("val", "mean over calls of (candidate name + parameters + success) / 3", _SOURCE),
    Component("cov", "1/|G| sum_g m(g) prod_{(j,g) in E} [mu(j) < mu(g)]", _SOURCE),
    Component(
        "eff", "-alpha max(0, N - B) / B, B = n + ceil(beta n)", _SOURCE, low=-math.inf, high=0.0
    ),
    Component("name", "share of the calls whose name occurs in gold", _SOURCE),
    Component("arg", "mean over matched pairs of the share of gold's arguments equal", _SOURCE),
    Component(
        "abstained",
        "no call required: [every call equals a free optional one], instead of the sum",
        _SOURCE,
    ),
)


@dataclass(frozen=True, slots=True)
class ProveWeights(PartWeights):
    """The weight of each term, at least 0; the defaults are the published ones."""

    val: float = 0.5
    cov: float = 0.5
    eff: float = 0.15
    name: float = 0.2
    arg: float = 0.1


@dataclass(frozen=True, slots=True)
class ProveReward:
    """The PROVE reward.

    Its ``components`` are the five terms before weighting; ``abstained`` alone where the task has
    no required gold call.

    Attributes:
        weights: of the five terms.
        alpha: slope of the penalty beyond the budget, at least 0.
        beta: extra calls granted per gold call, at least 0.
    """

    weights: ProveWeights = field(default_factory=ProveWeights)
    alpha: float = 0.5
    beta: float = 0.5

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> ProveReward:
        """Build it from ``weights``, ``alpha`` and ``beta``, all of them optional.

        Raises:
            OrchError: a bad value.
        """
        return cls(
            weights=ProveWeights.from_options(options),
            alpha=at_least_0(options.get("alpha", 0.5), "option 'alpha'"),
            beta=at_least_0(options.get("beta", 0.5), "option 'beta'"),
        )

    @property
    def name(self) -> str:
        """The preset's name."""
        return "prove"

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score a finished or running episode.

        The total is at most the sum of the weights; 0 or 1 where the task requires no call.
        """
        candidates, made = Candidates(task), made_calls(episode)
        faults = [candidates.faults(call) for call in made]
        matching = match(task, candidates, made)
        levels = [_levels(call, fault) for call, fault in zip(made, faults, strict=True)]
        accounts = [
            _account(call, fault, matching, level)
            for call, fault, level in zip(made, faults, levels, strict=True)
        ]
        turns = len(episode.turns)
        if not matching.required:
            return _abstention(made, matching, accounts, turns)
        used = [matching.uses(call) for call in made]
        n = len(task.gold_calls)
        budget = n + math.ceil(self.beta * n - 1e-9)
        beyond = max(0, len(made) - budget)
        parts = {
            "val": sum(levels) / len(made) if made else 0.0,
            "cov": sum(matching.ordered.values()) / len(matching.required),
            "eff": 0.0 - self.alpha * beyond / budget,
            "name": sum(used) / len(made) if made else 0.0,
            "arg": _mean(list(matching.shares.values())),
        }
        weights = asdict(self.weights)
        total = sum(weights[term] * value for term, value in parts.items())
        credits = [
            self._credit(call, level, name, matching, len(made))
            + (weights["eff"] * parts["eff"] / beyond if call.position >= budget else 0.0)
            for call, level, name in zip(made, levels, used, strict=True)
        ]
        return attributed(total, parts, accounts, credits, turns=turns)

    def _credit(
        self, call: MadeCall, level: float, used: bool, matching: Matching, calls: int
    ) -> float:
        """What a call adds to the sum, its share of the penalty apart."""
        credit = (self.weights.val * level + self.weights.name * used) / calls
        gold = matching.gold_of.get(call.position)
        if gold is not None:
            credit += self.weights.cov * matching.ordered[gold] / len(matching.required)
            credit += self.weights.arg * matching.shares[gold] / len(matching.shares)
        return credit


def _levels(call: MadeCall, faults: CallFaults) -> float:
    """The three equal levels of ``val`` for one call, 0..1."""
    if faults.unreadable:
        return 0.0
    return (faults.named + faults.callable + call.ok) / 3


def _abstention(
    made: Sequence[MadeCall], matching: Matching, accounts: Sequence[CallAccount], turns: int
) -> RewardBreakdown:
    """The score where no call is required: 1 if every call made equals a free optional one."""
    needless = [call.position not in matching.optional for call in made]
    total = 0.0 if any(needless) else 1.0
    credits = [-1.0 / sum(needless) if bad else 0.0 for bad in needless]
    return attributed(total, {"abstained": total}, accounts, credits, turns=turns, base=1.0)


def _account(call: MadeCall, faults: CallFaults, matching: Matching, level: float) -> CallAccount:
    gold = matching.gold_of.get(call.position)
    optional = matching.optional.get(call.position)
    if gold is not None:
        broken = "" if matching.ordered[gold] else ", but does not stand after what it depends on"
        said = f"takes the place of gold call {gold}{broken}"
    elif optional is not None:
        said = f"an optional call of gold (number {optional})"
    elif call.malformed:
        said = ""
    elif matching.uses(call):
        said = "no gold call of this name and with these argument names is left"
    else:
        said = f"gold does not use {call.name[:60]}"
    comparison = matching.comparisons.get(call.position)
    return CallAccount(
        turn=call.turn,
        index=call.index,
        gold=gold if gold is not None else optional,
        atomic=level,
        orchestration=float(gold is not None and matching.ordered[gold]),
        arguments={} if comparison is None else dict(comparison.leaves),
        why=sentence([said, *_differences(comparison), str(faults), call.failure]),
    )


def _differences(comparison: Comparison | None) -> list[str]:
    """Why the first few arguments of gold differ; ``arg`` does not count other ones."""
    if comparison is None or comparison.values == 1.0:
        return []
    reasons = [
        f"{pointer} {reason}"
        for pointer, reason in comparison.reasons.items()
        if comparison.leaves[pointer] != UNKNOWN
    ]
    return reasons[:_SHOWN] + ([f"{len(reasons) - _SHOWN} more differ"] * (len(reasons) > _SHOWN))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
