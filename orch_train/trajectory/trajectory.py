"""What a rollout worker hands to the learner: an episode, its tokens, and its score."""

from __future__ import annotations

from dataclasses import dataclass, field

from orch_env.types import Episode
from orch_train.trajectory.token_trace import TokenTrace

NO_TOOL = "environment"
"""What a timeout is counted under when no tool is known to have run: a reset, say."""


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
        tool_seconds: each call that reached a tool, in order: the tool's name and the seconds it
            took, where the environment tells them; not kept by stores.
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
    tool_seconds: list[tuple[str, float]] = field(default_factory=list, compare=False)


@dataclass(slots=True)
class Group:
    """The trajectories of one task that are compared with each other; never split.

    Attributes:
        id: the group's name.
        task_id: the task.
        seed: that every member's environment was reset with.
        trajectories: in member order.
        engine: what the runner's engine counted since the runner's last group, see
            `engine_metrics`; not kept by stores.
        tool_timeouts: calls that did not return in time since the runner's last group, by the
            tool's name; not kept by stores.
    """

    id: str
    task_id: str
    seed: int
    trajectories: list[Trajectory]
    engine: dict[str, float] = field(default_factory=dict, compare=False)
    tool_timeouts: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def rewards(self) -> list[float]:
        """Rewards in member order."""
        return [t.reward for t in self.trajectories]
