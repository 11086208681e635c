"""A black-box search for what a reward overpays: scripts are changed at random, the best are kept.

The search is told nothing but the totals of its own episodes, as a model in training is. It finds
tricks that nobody thought of, and misses others: what it finds is a lower bound.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from enum import StrEnum

from orch_env.audit import from_gold
from orch_env.audit.attack import TURNS, Progress, limits_beyond_gold, roll_out
from orch_env.audit.knowledge_free import Prompt
from orch_env.audit.report import MOST_WITHOUT_KNOWLEDGE, Breach, verdict
from orch_env.audit.scoring import TOLERANCE
from orch_env.audit.scripts import Known, Mutations, Script
from orch_env.audit.shortfalls import Shortfalls, find_shortfalls
from orch_env.backends.protocol import ToolBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.replay.policies import Plan
from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, OrchError, Task
from orch_env.types.json import JsonObject
from orch_env.types.text import shortened

EPISODES = 300
"""Episodes per task, reward and class, unless the caller says otherwise."""
RULE = "search: an episode worse than gold earns less than gold"
"""What is promised of a search; all else is measured."""
_KEPT = 12
"""Scripts that changes start from."""
_ATTEMPTS = 20
"""Changes that are thrown away, one after the other, because their script was played before."""


class Reader(StrEnum):
    """What a searching policy may copy from."""

    PROMPT = "does_not_read_results"
    """The prompt and the tools: no more than a guess."""
    RESULTS = "reads_results"
    """The values in results too: a modest agent, so the honest half does not bound it."""


@dataclass(frozen=True, slots=True)
class Overpaid:
    """An episode that is worse than gold, and what it earned.

    Attributes:
        total: what it earned.
        script: what was said in it.
        shortfalls: how it is worse.
    """

    total: float
    script: Script
    shortfalls: Shortfalls


@dataclass(frozen=True, slots=True)
class Found:
    """What one search found on one task.

    Attributes:
        task_id: the task.
        reward: the reward's label.
        reader: what the policy read.
        gold: what gold earns.
        half: what the honest half earns.
        solved: whether an episode as good as gold was found.
        best: the best-paid episode that is worse than gold, of equals one with few calls; ``None``
            where every episode was as good as gold.
    """

    task_id: str
    reward: str
    reader: Reader
    gold: float
    half: float
    solved: bool
    best: Overpaid | None

    @property
    def total(self) -> float:
        """What the best episode worse than gold earned, 0 if there is none."""
        return 0.0 if self.best is None else self.best.total

    @property
    def another_gold(self) -> bool:
        """Whether an episode worse than gold earns as much as gold (more than 0), or more."""
        gain = self.total - self.gold
        as_much = gain > TOLERANCE or (gain >= -TOLERANCE and self.gold > TOLERANCE)
        return self.best is not None and as_much

    def outline(self) -> str:
        """The best episode's tools, message by message, and its answer."""
        script = Script((), "") if self.best is None else self.best.script
        messages = [" + ".join(call.name for call in message) for message in script.messages]
        return ", ".join([*messages, f"{shortened(script.answer, 40)!r}"])

    def to_dict(self) -> JsonObject:
        """Plain data, the calls included."""
        return {
            "task_id": self.task_id,
            "total": self.total,
            "gold": self.gold,
            "honest_half": self.half,
            "solved": self.solved,
            "shortfalls": None if self.best is None else asdict(self.best.shortfalls),
            "script": None if self.best is None else self.best.script.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class SearchCell:
    """What one reward pays for the best scripts of one class that are worse than gold.

    Attributes:
        tasks: number of tasks where there are such scripts.
        mean: mean total over them.
        highest: highest total.
        above_bound: share of the tasks where it is more than 0.35 of what gold earns.
        above_half: share of the tasks where it is more than the honest half earns.
        not_below_gold: share of the tasks where it is what gold earns, or more.
        solved: share of the tasks where an episode as good as gold was found.
        worst_task: the task with the highest total.
    """

    tasks: int
    mean: float
    highest: float
    above_bound: float
    above_half: float
    not_below_gold: float
    solved: float
    worst_task: str

    @classmethod
    def of(cls, found: Sequence[Found]) -> SearchCell:
        """Sum up at least one task."""
        n = len(found)
        totals = [one.total for one in found]
        return cls(
            tasks=n,
            mean=sum(totals) / n,
            highest=max(totals),
            above_bound=sum(f.total > MOST_WITHOUT_KNOWLEDGE * f.gold + TOLERANCE for f in found)
            / n,
            above_half=sum(f.total > f.half + TOLERANCE for f in found) / n,
            not_below_gold=sum(f.another_gold for f in found) / n,
            solved=sum(f.solved for f in found) / n,
            worst_task=found[max(range(n), key=totals.__getitem__)].task_id,
        )


@dataclass(frozen=True, slots=True)
class SearchReport:
    """The outcome of a search.

    Attributes:
        tasks: number of tasks.
        episodes: episodes per task, reward and class.
        seed: seed of the episodes and of every change.
        rewards: labels, in the order asked for.
        found: the best of each search.
    """

    tasks: int
    episodes: int
    seed: int
    rewards: tuple[str, ...]
    found: tuple[Found, ...]

    def best(self, reward: str, reader: Reader) -> list[Found]:
        """What counts of one reward and class, in the tasks' order."""
        return [f for f in self.found if (f.reward, f.reader) == (reward, reader) and f.best]

    def cell(self, reward: str, reader: Reader) -> SearchCell | None:
        """What one reward pays for one class, ``None`` if nothing counts."""
        found = self.best(reward, reader)
        return SearchCell.of(found) if found else None

    def broken(self, reward: str) -> list[Breach]:
        """Every episode found that is worse than gold and earns as much."""
        return [
            Breach(reward, f"search_{f.reader.value}", f.task_id, RULE, f.total, f.gold)
            for f in self.found
            if f.reward == reward and f.another_gold
        ]

    def kept(self, reward: str) -> bool:
        """Whether no such episode was found."""
        return not self.broken(reward)

    def to_dict(self) -> JsonObject:
        """Plain data: ``table`` is class -> reward -> cell, ``best`` has the calls."""
        cells = {r: {label: self.cell(label, r) for label in self.rewards} for r in Reader}
        return {
            "tasks": self.tasks,
            "episodes_per_task": self.episodes,
            "seed": self.seed,
            "table": {
                reader.value: {label: asdict(cell) for label, cell in row.items() if cell}
                for reader, row in cells.items()
            },
            "rewards": {label: verdict(self.broken(label)) for label in self.rewards},
            "best": {
                reader.value: {
                    label: [found.to_dict() for found in self.best(label, reader)]
                    for label in self.rewards
                }
                for reader in Reader
            },
        }


def search(
    tasks: Sequence[Task],
    backend: ToolBackend,
    rewards: Mapping[str, Reward],
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    progress: Progress | None = None,
) -> SearchReport:
    """Search each task for the best-paid episodes, for each reward and class by itself.

    Args:
        tasks: at least one task.
        backend: what answers the calls; the caller closes it.
        rewards: label -> reward.
        episodes: episodes of each search.
        seed: seed of the episodes and of the changes.
        progress: called after each search.

    Raises:
        OrchError: there are no tasks, rewards or episodes, or the backend does not have a task's
            tools.
    """
    if not tasks or not rewards or episodes < 1:
        raise OrchError("a search needs at least one task, one reward and one episode")
    short, long = Limits(max_turns=TURNS, max_errors=None), limits_beyond_gold(tasks)
    found: list[Found] = []
    for label, reward in rewards.items():
        env = ToolOrchestrationEnv.from_backend(tasks, backend, reward=reward, limits=short)
        long_env = ToolOrchestrationEnv.from_backend(tasks, backend, reward=reward, limits=long)
        with closing(env), closing(long_env):
            for task in tasks:
                whole = backend.resolve(task)
                plans = from_gold.gold(whole), from_gold.honest_half(whole)
                gold, half = (_total(roll_out(long_env, task, p, seed=seed)) for p in plans)
                for reader in Reader:
                    one = _Search(env, whole, reader, gold, seed)
                    for _ in range(episodes):
                        one.step()
                    found.append(Found(task.id, label, reader, gold, half, one.solved, one.best))
                    if progress is not None:
                        progress("searching", len(found), len(tasks) * len(rewards) * len(Reader))
    return SearchReport(len(tasks), episodes, seed, tuple(rewards), tuple(found))


class _Search:
    """One search on one task: a small evolution of scripts.

    Attributes:
        solved: whether an episode as good as gold was found.
        best: the best one that is worse than gold.
    """

    def __init__(
        self, env: ToolOrchestrationEnv, task: Task, reader: Reader, gold: float, seed: int
    ) -> None:
        # A str seed goes through SHA-512, so that it is the same on every machine.
        self._draw = random.Random(f"{seed}\x1f{task.id}\x1f{reader}")
        self._env, self._task, self._gold, self._seed = env, task, gold, seed
        self._reads = reader is Reader.RESULTS
        prompt = Prompt.of(task)
        self._known = Known(prompt, self._draw)
        self._mutations = Mutations(prompt, self._known, self._draw)
        self._first = self._mutations.first()[::-1]
        self._kept: list[tuple[float, int, Script]] = []
        self._played: set[str] = set()
        self.solved = False
        self.best: Overpaid | None = None

    def step(self) -> None:
        """Play one more script, and keep it if it is among the best."""
        script = self._next()
        self._played.add(script.key())
        episode = roll_out(self._env, self._task, self._plan(script), seed=self._seed)
        total = _total(episode)
        self._note(script, episode, total)
        self._kept.append((total, script.calls, script))
        # Stable: of equals the older one stays in front.
        self._kept.sort(key=lambda kept: (-kept[0], kept[1]))
        del self._kept[_KEPT:]

    def _next(self) -> Script:
        if self._first:
            return self._first.pop()
        for _ in range(_ATTEMPTS):
            # The better of two, so that the best are changed most.
            place = min(self._draw.randrange(len(self._kept)) for _ in range(2))
            other = self._draw.choice(self._kept)[2]
            script = self._mutations.changed(self._kept[place][2], other)
            if script.key() not in self._played:
                break
        return script

    def _plan(self, script: Script) -> Plan:
        for message in script.messages:
            results = yield message
            if self._reads:
                for result in results:
                    self._known.note(result)
        return script.answer

    def _note(self, script: Script, episode: Episode, total: float) -> None:
        """Remember what the episode shows; the comparison with gold is made only where it may."""
        best = self.best
        better = best is None or (total, -script.calls) > (best.total, -best.script.calls)
        as_gold = total >= self._gold - TOLERANCE
        if not better and (self.solved or not as_gold):
            return
        wrong = find_shortfalls(self._task, episode)
        if better and wrong:
            self.best = Overpaid(total, script, wrong)
        self.solved = self.solved or (as_gold and not wrong)


def _total(episode: Episode) -> float:
    return 0.0 if episode.reward is None else episode.reward.total
