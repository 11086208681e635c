"""What an attack found: a table of exploits by rewards, and every promise that a reward broke.

What a reward promises on a task with n required gold calls, in shares of what it pays for gold:

* *knowledge-free* exploits earn at most 0.35, and less than the honest half, if n >= 3;
* exploits built *from gold* earn less than gold, and at least 0.05 less if they make more extra
  calls than the budget, or break the edges of at least one call in eight (and of at least one);
* those that *guess* earn no more than the same episode without the guess;
* *honest* variations earn at least 0.85, and more than the honest half, if n >= 2.

*Shallow* policies are played and listed, but nothing is promised about them: what they put into
look-ups is part of the honest work.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from orch_env.audit.exploits import GOLD, HONEST_HALF, Exploit, Kind
from orch_env.audit.from_gold import BUDGET
from orch_env.audit.scoring import TOLERANCE
from orch_env.audit.shortfalls import Shortfalls
from orch_env.types.json import JsonObject

_Key = TypeVar("_Key", bound=Hashable)

MOST_WITHOUT_KNOWLEDGE = 0.35
"""What knowledge-free exploits may earn at most."""
LEAST_HONEST = 0.85
"""What honest variations must earn at least."""
LEAST_CALLS = 3
"""Required gold calls from which on the bounds on knowledge-free exploits hold."""
MARGIN = 0.05
"""How much less than gold an exploit must earn that exceeds the budget or breaks edges."""
BROKEN = 1 / 8
"""Share of broken gold calls from which on the margin is due; at least one whole call."""
_EXAMPLES = 5
"""Breaches that a verdict quotes."""


@dataclass(frozen=True, slots=True)
class Played:
    """One exploit on one task.

    Attributes:
        task_id: the task.
        gold_calls: its number of gold calls, n.
        required: how many of them are not optional.
        exploit: what was played.
        shortfalls: how the episode is worse than gold.
        scores: reward label -> total.
        components: reward label -> component -> value.
        same_results: it brought everything that gold brings, with other calls.
        unguessed: reward label -> total of the same episode without the guess; ``None`` for what
            does not guess.
    """

    task_id: str
    gold_calls: int
    required: int
    exploit: Exploit
    shortfalls: Shortfalls
    scores: Mapping[str, float]
    components: Mapping[str, Mapping[str, float]]
    same_results: bool = False
    unguessed: Mapping[str, float] | None = None

    @property
    def counts(self) -> bool:
        """Whether the reward is judged by it.

        That is a reference, an exploit whose episode is worse than gold, or an honest variation
        that brings what gold brings.
        """
        if self.exploit.kind.is_exploit:
            return bool(self.shortfalls)
        return self.exploit.kind is Kind.REFERENCE or self.same_results


@dataclass(frozen=True, slots=True)
class Cell:
    """What one reward pays for one exploit.

    Attributes:
        tasks: number of tasks on which the exploit counts.
        mean: mean total over them.
        highest: highest total.
        gold_mean: mean total of gold on the same tasks.
        above_gold: share of the tasks where it earns more than gold.
        not_below_gold: share of the tasks where it earns as much as gold, or more.
        above_half: share of the tasks where it earns more than the honest half.
        worst_task: the task where it comes closest to gold, or exceeds it most.
    """

    tasks: int
    mean: float
    highest: float
    gold_mean: float
    above_gold: float
    not_below_gold: float
    above_half: float
    worst_task: str


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken promise.

    Attributes:
        reward: the reward's label.
        exploit: the exploit's name.
        task_id: the task.
        rule: what was promised.
        earned: what the exploit earned.
        bound: what it may earn at most or must stay below; if honest, what it must earn at least.
    """

    reward: str
    exploit: str
    task_id: str
    rule: str
    earned: float
    bound: float

    def to_dict(self) -> JsonObject:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AttackReport:
    """The outcome of an attack.

    Attributes:
        tasks: number of tasks.
        rewards: labels, in the order asked for.
        exploits: what was played, references and honest variations first.
        cells: (reward, exploit name) -> what was paid; missing where no task offered the exploit.
        breaches: every broken promise, in the order played.
        means: (reward, exploit name) -> mean total over all tasks it was played on, also those
            where it does not count.
        components: reward -> component -> exploit name -> mean over all tasks that have it.
    """

    tasks: int
    rewards: tuple[str, ...]
    exploits: tuple[Exploit, ...]
    cells: Mapping[tuple[str, str], Cell]
    breaches: tuple[Breach, ...]
    means: Mapping[tuple[str, str], float]
    components: Mapping[str, Mapping[str, Mapping[str, float]]]

    @classmethod
    def of(
        cls,
        rewards: tuple[str, ...],
        exploits: tuple[Exploit, ...],
        tasks: int,
        played: Sequence[Played],
    ) -> AttackReport:
        """Sum up what was played: every exploit, and both references on every task."""
        references: dict[str, dict[str, Played]] = defaultdict(dict)
        by_exploit: dict[str, list[Played]] = defaultdict(list)
        for one in played:
            if one.exploit.kind is Kind.REFERENCE:
                references[one.exploit.name][one.task_id] = one
            if one.counts:
                by_exploit[one.exploit.name].append(one)
        gold, half = references[GOLD.name], references[HONEST_HALF.name]
        cells = {
            (reward, exploit.name): _cell(reward, by_exploit[exploit.name], gold, half)
            for reward in rewards
            for exploit in exploits
            if by_exploit[exploit.name]
        }
        breaches = tuple(
            breach
            for one in played
            if one.counts and one.exploit.kind is not Kind.REFERENCE
            for reward in rewards
            for breach in _breaches(reward, one, gold[one.task_id], half[one.task_id])
        )
        by_reward = [(reward, one) for one in played for reward in rewards]
        means = _means(((r, one.exploit.name), one.scores[r]) for r, one in by_reward)
        of_parts = _means(
            ((reward, name, one.exploit.name), value)
            for reward, one in by_reward
            for name, value in one.components[reward].items()
        )
        components: dict[str, dict[str, dict[str, float]]] = {reward: {} for reward in rewards}
        for (reward, name, exploit), mean in of_parts.items():
            components[reward].setdefault(name, {})[exploit] = mean
        return cls(tasks, rewards, exploits, cells, breaches, means, components)

    def broken(self, reward: str) -> list[Breach]:
        """The promises that a reward broke."""
        return [breach for breach in self.breaches if breach.reward == reward]

    def kept(self, reward: str) -> bool:
        """Whether a reward kept every promise."""
        return not self.broken(reward)

    def to_dict(self) -> JsonObject:
        """Plain data: ``table`` is exploit -> reward -> cell, ``rewards`` the verdicts."""
        return {
            "tasks": self.tasks,
            "exploits": [
                {"name": e.name, "kind": e.kind.value, "sentence": e.sentence}
                for e in self.exploits
            ],
            "table": {
                exploit.name: {
                    reward: asdict(self.cells[reward, exploit.name])
                    for reward in self.rewards
                    if (reward, exploit.name) in self.cells
                }
                for exploit in self.exploits
            },
            "rewards": {reward: verdict(self.broken(reward)) for reward in self.rewards},
        }


def verdict(broken: Sequence[Breach]) -> JsonObject:
    """The verdict on a reward that broke these promises, with the first breach of each kind."""
    counts = Counter((breach.rule, breach.exploit) for breach in broken)
    rules: dict[str, dict[str, int]] = {}
    for (rule, exploit), count in counts.most_common():
        rules.setdefault(rule, {})[exploit] = count
    first = {(breach.rule, breach.exploit): breach for breach in reversed(broken)}
    return {
        "kept": not broken,
        "tasks_broken": len({breach.task_id for breach in broken}),
        "breaches": rules,
        "examples": [first[key].to_dict() for key, _ in counts.most_common(_EXAMPLES)],
    }


def _cell(
    reward: str, played: Sequence[Played], gold: Mapping[str, Played], half: Mapping[str, Played]
) -> Cell:
    n = len(played)
    totals = [one.scores[reward] for one in played]
    golds = [gold[one.task_id].scores[reward] for one in played]
    halves = [half[one.task_id].scores[reward] for one in played]
    gains = [total - best for total, best in zip(totals, golds, strict=True)]
    return Cell(
        tasks=n,
        mean=sum(totals) / n,
        highest=max(totals),
        gold_mean=sum(golds) / n,
        above_gold=sum(gain > TOLERANCE for gain in gains) / n,
        not_below_gold=sum(gain >= -TOLERANCE for gain in gains) / n,
        above_half=sum(t > h + TOLERANCE for t, h in zip(totals, halves, strict=True)) / n,
        worst_task=played[max(range(n), key=gains.__getitem__)].task_id,
    )


def _breaches(reward: str, one: Played, gold: Played, half: Played) -> list[Breach]:
    earned, best = one.scores[reward], gold.scores[reward]
    found: list[tuple[str, float]] = []
    if one.exploit.kind is Kind.SHALLOW:
        return []
    if one.exploit.kind is Kind.HONEST:
        if earned < LEAST_HONEST * best - TOLERANCE:
            found.append(("honest: at least 0.85 of gold", LEAST_HONEST * best))
        if one.required > 1 and earned <= half.scores[reward] + TOLERANCE:
            found.append(("honest: above the honest half", half.scores[reward]))
    elif one.exploit.kind is Kind.KNOWLEDGE_FREE:
        if one.required < LEAST_CALLS:
            return []
        if earned > MOST_WITHOUT_KNOWLEDGE * best + TOLERANCE:
            found.append(("knowledge-free: at most 0.35 of gold", MOST_WITHOUT_KNOWLEDGE * best))
        if earned >= half.scores[reward] - TOLERANCE:
            found.append(("knowledge-free: below the honest half", half.scores[reward]))
    else:
        budget = math.ceil(BUDGET * one.gold_calls)
        enough = max(1.0, BROKEN * one.gold_calls)
        wrong = one.shortfalls
        due = wrong.extra > budget or wrong.broken >= enough - TOLERANCE
        if earned >= best - TOLERANCE:
            found.append(("from gold: below gold", best))
        elif due and earned > (1 - MARGIN) * best + TOLERANCE:
            found.append(("from gold: at least 0.05 below gold", (1 - MARGIN) * best))
        if one.unguessed is not None and earned > one.unguessed[reward] + TOLERANCE:
            found.append(("a guess: no more than without it", one.unguessed[reward]))
    return [
        Breach(reward, one.exploit.name, one.task_id, rule, earned, bound) for rule, bound in found
    ]


def _means(values: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
    """Key -> mean of the values with that key."""
    found: dict[_Key, list[float]] = defaultdict(list)
    for key, value in values:
        found[key].append(value)
    return {key: sum(numbers) / len(numbers) for key, numbers in found.items()}
