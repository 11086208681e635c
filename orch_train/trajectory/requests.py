"""What is asked of a rollout worker, and what it answers.

The learner is given `SampleReply.group` alone; episodes and telemetry stay with the driver.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from orch_env.types import Episode, OrchError
from orch_train.trajectory.sample import Group, TrainingSample


def hashed_seed(text: str) -> int:
    """A seed of 63 bits: the text's BLAKE2b, the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One group to roll out: the same task and environment seed, several samples.

    Attributes:
        id: unique name of the group.
        task_id: the task.
        env_seed: seed that every member resets its environment with.
        sample_seed: base of the members' sampling seeds.
        size: number of members, at least 1.
        training_step: number of training steps done, for rewards whose weights follow a schedule;
            all members share it, and a group that is given out again keeps it.
        temperature: sampling temperature; 0 is greedy (evaluation only).
        held_out: play on the held-out tasks instead of the training tasks.
    """

    id: str
    task_id: str
    env_seed: int
    sample_seed: int
    size: int = 1
    training_step: int = 0
    temperature: float = 1.0
    held_out: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OrchError(f"group {self.id!r} needs at least one member, got {self.size}")


@dataclass(slots=True)
class EpisodeRecord:
    """What is kept of one episode beside its tokens; of the times, stores keep ``timings``.

    Attributes:
        episode: the environment's record; ``episode.reward`` is set.
        timings: seconds by phase (``generate``, ``env``).
        spans: the same one by one, in order: phase, start in seconds since the epoch by the
            worker's clock, and seconds.
        tool_seconds: each call that reached a tool, in order: the tool's name and the seconds it
            took, where the environment reports them.
    """

    episode: Episode
    timings: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    tool_seconds: list[tuple[str, float]] = field(default_factory=list)


@dataclass(slots=True)
class SampleReply:
    """A group that was rolled out.

    Attributes:
        group: the scored samples.
        records: their episodes, in the same order.
        worker: the process that played them, as ``host:pid``.
        engine: what the worker's engine counted since its last reply, see `metrics.engines`.
        tool_timeouts: calls that did not return in time since the worker's last reply, by the
            tool's name.
    """

    group: Group
    records: list[EpisodeRecord]
    worker: str = ""
    engine: dict[str, float] = field(default_factory=dict)
    tool_timeouts: dict[str, int] = field(default_factory=dict)

    @property
    def members(self) -> Iterator[tuple[TrainingSample, EpisodeRecord]]:
        """Sample and record of each member."""
        return zip(self.group.samples, self.records, strict=True)


@dataclass(frozen=True, slots=True)
class SampleFailure:
    """Why there is no group.

    Attributes:
        reason: what failed.
        engine_failed: it was the engine, so that the runner is of no further use.
        user_error: the data or the configuration is at fault; trying again is futile.
    """

    reason: str
    engine_failed: bool = False
    user_error: OrchError | None = None
