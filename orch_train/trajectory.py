"""What a rollout worker hands to the learner: an episode, its tokens, and its score."""

from __future__ import annotations

from dataclasses import dataclass, field

from orch_env.types import Episode
from orch_train.token_trace import TokenTrace


@dataclass(slots=True)
class Trajectory:
    """One scored episode with the token stream that produced it.

    Attributes:
        group: id of its GRPO group (same task, same environment seed).
        member: index within the group, from 0.
        task_id: the task.
        episode: the environment's record; ``episode.reward`` is set.
        trace: the tokens.
        reward: total reward that the learner uses.
        success: the task's verdict (binary reward equals 1).
        timings: seconds by phase (``generate``, ``env``), for the time split.
        spans: the same one by one, in order: phase, start in seconds since the epoch by the
            worker's clock, and seconds; for the time line, not kept by stores.
        worker: the process that played it, as ``host:pid``.
    """

    group: str
    member: int
    task_id: str
    episode: Episode
    trace: TokenTrace
    reward: float
    success: bool
    timings: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list, compare=False)
    worker: str = field(default="", compare=False)


@dataclass(slots=True)
class Group:
    """The trajectories of one task that are compared with each other; never split."""

    id: str
    task_id: str
    seed: int
    trajectories: list[Trajectory]

    @property
    def rewards(self) -> list[float]:
        """Rewards in member order."""
        return [t.reward for t in self.trajectories]
