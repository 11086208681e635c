"""Let the exploit suite play real episodes, and score them with each reward.

Every exploit plays each task once; all rewards score that same episode, as the environment would
in training. An exploit counts on a task only where its episode is worse than gold there (see
:mod:`orch_env.audit.shortfalls`): gold played backwards on a task whose calls are independent is
a right trajectory, and a reward may pay it in full. An honest variation counts only where it
brings everything that gold brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing

from orch_env.audit.exploits import EXPLOITS, GOLD, HONEST_HALF, Exploit, Kind
from orch_env.audit.from_gold import DUPLICATES, budget_of
from orch_env.audit.report import AttackReport, Played
from orch_env.audit.shortfalls import brings_the_same, find_shortfalls
from orch_env.backends.protocol import ToolBackend
from orch_env.env import ToolOrchestrationEnv
from orch_env.env.episode_machine import Limits
from orch_env.formats import get_format
from orch_env.replay.play import play, turns_of_gold
from orch_env.replay.policies import Plan, PlanPolicy
from orch_env.rewards.protocol import Reward
from orch_env.types import Episode, OrchError, RewardBreakdown, Task

Progress = Callable[[str, int, int], None]
"""``(what is being done, done, total)``."""

TURNS = 20
"""Messages of a knowledge-free episode, the environment's default."""


def attack(
    tasks: Sequence[Task],
    backend: ToolBackend,
    rewards: Mapping[str, Reward],
    exploits: Iterable[Exploit] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> AttackReport:
    """Play the suite on every task and score each episode with every reward.

    Args:
        tasks: at least one task.
        backend: what answers the calls; the caller closes it.
        rewards: label -> reward.
        exploits: by default the whole suite; the references are always played.
        seed: seed of every episode.
        progress: called after each task.

    Raises:
        OrchError: there are no tasks or no rewards, or the backend does not have a task's tools.
    """
    if not tasks or not rewards:
        raise OrchError("an attack needs at least one task and one reward")
    chosen = tuple(EXPLOITS if exploits is None else exploits)
    # Gold is played first: honest variations are compared with its episode.
    chosen = (GOLD, HONEST_HALF, *(e for e in chosen if e.kind is not Kind.REFERENCE))
    scorer = _AllRewards(rewards)
    short_env = ToolOrchestrationEnv.from_backend(
        tasks, backend, reward=scorer, limits=Limits(max_turns=TURNS, max_errors=None)
    )
    long_env = ToolOrchestrationEnv.from_backend(
        tasks, backend, reward=scorer, limits=limits_beyond_gold(tasks)
    )
    played: list[Played] = []
    with closing(short_env), closing(long_env):
        for done, task in enumerate(tasks, start=1):
            whole = backend.resolve(task)
            of_gold: Episode | None = None
            for exploit in chosen:
                env = long_env if exploit.kind.sees_gold else short_env
                plan = exploit.plan(whole)
                if plan is None:
                    continue
                episode = roll_out(env, task, plan, seed=seed)
                of_gold = of_gold or episode
                scores = scorer.scores
                other = exploit.unguessed(whole) if exploit.unguessed else None
                if other is not None:
                    roll_out(env, task, other, seed=seed)
                played.append(
                    Played(
                        task_id=task.id,
                        gold_calls=len(task.gold_calls),
                        required=sum(not call.optional for call in task.gold_calls),
                        exploit=exploit,
                        shortfalls=find_shortfalls(whole, episode),
                        scores=_totals(scores),
                        components={name: scores[name].components for name in rewards},
                        same_results=brings_the_same(of_gold, episode),
                        unguessed=_totals(scorer.scores) if other is not None else None,
                    )
                )
            if progress is not None:
                progress("attacking", done, len(tasks))
    return AttackReport.of(tuple(rewards), chosen, len(tasks), played)


def _totals(scores: Mapping[str, RewardBreakdown]) -> dict[str, float]:
    return {label: breakdown.total for label, breakdown in scores.items()}


class _AllRewards:
    """A reward that scores each episode with several rewards and itself pays nothing.

    Attributes:
        scores: each reward's breakdown of the last episode.
    """

    name = "all_rewards"

    def __init__(self, rewards: Mapping[str, Reward]) -> None:
        self._rewards = dict(rewards)
        self.scores: dict[str, RewardBreakdown] = {}

    def __call__(self, task: Task, episode: Episode) -> RewardBreakdown:
        """Score with every reward, keep the scores, and return 0."""
        self.scores = {label: reward(task, episode) for label, reward in self._rewards.items()}
        return RewardBreakdown(0.0)


def roll_out(env: ToolOrchestrationEnv, task: Task, plan: Plan, *, seed: int = 0) -> Episode:
    """Play one plan to the end of its episode; after its messages it repeats its answer."""
    play(env, PlanPolicy(plan, get_format("hermes")), task, seed=seed)
    plan.close()
    return env.episode


def limits_beyond_gold(tasks: Sequence[Task]) -> Limits:
    """Limits that no exploit built from gold reaches."""
    longest = max(len(task.gold_calls) for task in tasks)
    padding = max(max(map(budget_of, tasks)) + 1, DUPLICATES)
    turns = max(map(turns_of_gold, tasks)) + longest + padding
    return Limits(max_turns=max(TURNS, turns), max_calls_per_turn=max(32, longest), max_errors=None)
